"""Spots and faculae outside the planet's path: they change the depth that light curves show.

    apparent depth = depth x (1 + share x [1 - B(T - cooling) / B(T)])

with B Planck's photon rate and `share` of the disc; below 0 it stands for faculae. Light curves
know the apparent depth alone, and only a prior over spectra can tell the two apart. The share is
Gaussian about half its scatter, for spots are commoner than faculae. The scatter falls with the
temperature of the star, and the share is marginalised.
Source: Rackham, Apai and Giampapa 2018 and 2019, to first order in the share.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.instrument import wavelength_um
from spectramind.spectroscopy import photons
from spectramind.transit.settings import SpotsConfig

SPOTS = (0.0, 0.003, 0.01, 0.03, 0.1)  # scatters of the share that are tried on an archive
_BELIEF = np.log([0.75, 0.1, 0.07, 0.05, 0.03])  # in each of them beforehand
_SPOTTED = 0.5  # expected share over its scatter
_USUAL_K = 5000.0  # temperature of a star for which a scatter is told
_STEEPNESS = 4.0  # by which power of the temperature the scatter falls


@dataclass(frozen=True, eq=False)
class Apparent:
    """What the depths of a batch seem to be."""

    mean: Float64[Tensor, "B W"]
    covariance: Float64[Tensor, "B W W"]
    cross: Float64[Tensor, "B W W"]  # with the depths themselves


@dataclass(frozen=True, eq=False)
class Spots:
    """Spots of a batch: apparent depths are the depths plus share x direction."""

    direction: Float64[Tensor, "B W"]
    scatter: Float64[Tensor, " B"]  # of the share

    @property
    def mean(self) -> Float64[Tensor, " B"]:
        """Expected share: spots are commoner than faculae."""
        return _SPOTTED * self.scatter

    def scaled(self, factor: float) -> "Spots":
        """The same stars with shares that scatter more widely."""
        return Spots(self.direction, self.scatter * factor)

    def known_evidence(
        self,
        information: Float64[Tensor, "B W W"],
        vector: Float64[Tensor, "B W"],
        depth: Float64[Tensor, "B W"],
    ) -> Float64[Tensor, " B"]:
        """Log evidence of the scatter where the depths are known, that of no spots being 0."""
        seen, variance = self._seen(information)
        known = (self.direction * seen).sum(-1)
        pull = (self.direction * vector).sum(-1) - (seen * depth).sum(-1)
        return self._gain(known, variance, pull)

    def marginalised(
        self, information: Float64[Tensor, "B W W"], vector: Float64[Tensor, "B W"]
    ) -> tuple[Float64[Tensor, "B W W"], Float64[Tensor, "B W"], Float64[Tensor, " B"]]:
        """Likelihood exp(-d A d / 2 + b d) of the depths, from that of the apparent depths.

        Returns:
            A, b and the logarithm of what the likelihood gains in all.
        """
        seen, variance = self._seen(information)
        known, pull = (self.direction * seen).sum(-1), (self.direction * vector).sum(-1)
        share = self._share(known, variance, pull)
        return (
            information - torch.einsum("bw,bv->bwv", seen, seen) * variance[:, None, None],
            vector - seen * share[:, None],
            self._gain(known, variance, pull),
        )

    def apparent(
        self,
        information: Float64[Tensor, "B W W"],
        vector: Float64[Tensor, "B W"],
        mean: Float64[Tensor, "B W"],
        covariance: Float64[Tensor, "B W W"],
    ) -> Apparent:
        """Apparent depths.

        Args:
            information: A of the apparent depths.
            vector: b.
            mean: Of the posterior of the depths themselves.
            covariance: Of it.
        """
        seen, variance = self._seen(information)
        known = (self.direction * seen).sum(-1)
        pull = (self.direction * vector).sum(-1) - (seen * mean).sum(-1)
        share = self._share(known, variance, pull)
        lost, own = variance[:, None, None] * seen[:, None], self.direction[:, :, None]
        cross = covariance - own @ (lost @ covariance)
        left = variance[:, None] * self.direction - (cross @ lost.mT)[..., 0]
        return Apparent(
            mean + share[:, None] * self.direction, cross + left[:, :, None] @ own.mT, cross
        )

    def _share(
        self,
        known: Float64[Tensor, " B"],
        variance: Float64[Tensor, " B"],
        pull: Float64[Tensor, " B"],
    ) -> Float64[Tensor, " B"]:
        """Mean share, given the information on it, its variance and the pull of the light."""
        return self.mean + variance * (pull - self.mean * known)

    def _gain(
        self,
        known: Float64[Tensor, " B"],
        variance: Float64[Tensor, " B"],
        pull: Float64[Tensor, " B"],
    ) -> Float64[Tensor, " B"]:
        """Log evidence of spots over that of none."""
        left = pull - self.mean * known
        first = self.mean * (pull - 0.5 * self.mean * known)
        return first + 0.5 * (variance * left**2 - torch.log1p(self.scatter**2 * known))

    def _seen(
        self, information: Float64[Tensor, "B W W"]
    ) -> tuple[Float64[Tensor, "B W"], Float64[Tensor, " B"]]:
        """A times the direction, and variance of the share for known depths."""
        seen = (information @ self.direction[..., None])[..., 0]
        known = (self.direction * seen).sum(-1)
        return seen, self.scatter**2 / (1.0 + self.scatter**2 * known)


def make_spots(
    temperature_k: Float64[np.ndarray, " B"],
    depth: Float64[Tensor, " B"],
    scatter: Float64[np.ndarray, " B"],
    config: SpotsConfig,
) -> Spots:
    """Spots of stars.

    Args:
        temperature_k: Of each star [K].
        depth: Of each planet in white light [(Rp/Rs)^2].
        scatter: Of the share at the usual temperature, as the planet's population has it.
        config: Section `transit.spots`.
    """
    cool = np.maximum(temperature_k - config.cooling_k, 0.5 * temperature_k)
    contrast = np.stack(
        [
            1.0 - photons(wavelength_um(), low) / photons(wavelength_um(), high)
            for low, high in zip(cool.tolist(), temperature_k.tolist(), strict=True)
        ]
    )
    own = scatter * (_USUAL_K / temperature_k) ** _STEEPNESS
    return Spots(depth[:, None] * torch.tensor(contrast).to(depth), torch.tensor(own).to(depth))


def learn_spots(evidence: Float64[np.ndarray, "N S"]) -> float:
    """Scatter of the share: root mean square, by the log evidence for each of `SPOTS`."""
    total = evidence.sum(0) + _BELIEF
    share = np.exp(total - total.max())
    return float(np.sqrt(np.average(np.square(SPOTS), weights=share)))
