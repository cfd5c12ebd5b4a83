"""Prior over transmission spectra, learned from labels.

    spectrum = level + amplitude x [mean shape + principal components + Gaussian process] + rest

The level is free; shapes have no mean over AIRS-CH0, and FGS1 is one of their columns, so its
offset and what it has to do with the bands are learned like the rest. Each planet has one
amplitude, lognormal about a power of the scale height that the star table suggests, because
spectra of all depths differ by a factor of a thousand. Number of components and length of the
process are those that make left-out labels most likely. The rest is what spectra have beside
shapes of their amplitude: far below the noise, but a covariance without it excludes the truth.

Source: of the parts, Cottaar's winning entries of 2024 and 2025 (challenge write-ups).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.instrument import wavelength_um
from spectramind.observation import Star

AMPLITUDES = torch.linspace(-8.0, 8.0, 33, dtype=torch.float64)  # [scatters of ln amplitude]
_POSSIBLE = (-25.0, -4.0)  # ln amplitude
_RSUN_M, _GM_JUPITER = 6.957e8, 1.26687e17  # IAU 2015 nominal values [m], [m^3 s^-2]
_GAS_CONSTANT, _MEAN_MASS = 8314.46, 2.3  # [J K^-1 kg^-1 at 1 amu], [amu] of H2 and He
_TOLD = 1e-10  # information on a shape, over that on the best known one, below which it is none
_JITTER = 1e-7  # of the covariance's mean diagonal
_FLOOR_UM = 0.1  # correlation length of the floor [um]
FLOORS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)  # of the process, tried on every planet


@dataclass(frozen=True, eq=False)
class SpectrumPrior:
    """Gaussian mixture over spectra: one Gaussian for each amplitude."""

    level: tuple[float, float]  # mean and scatter of the AIRS-CH0 mean depth
    shape: Float64[np.ndarray, " 283"]  # mean shape for unit amplitude
    components: Float64[np.ndarray, "K 283"]  # scaled by their standard deviations
    process: Float64[np.ndarray, " 283"]  # standard deviation of the Gaussian process
    length_um: float  # its correlation length; FGS1 stands alone [um]
    amplitude: tuple[float, float, float]  # ln amplitude: constant, exponent, scatter
    planets: int  # labels it was learned from
    typical: tuple[float, float]  # ln amplitude of a planet of an unknown star: mean, scatter
    rest: float  # standard deviation of what is no shape [(Rp/Rs)^2]
    shares: Float64[np.ndarray, " F"]  # of planets whose process has each of `FLOORS`
    floor: float = 0.0  # that is taken, of unit amplitude

    def covariance(self) -> Float64[np.ndarray, "283 283"]:
        """Of the shape for unit amplitude."""
        total = self.components.T @ self.components
        total += np.outer(self.process, self.process) * _correlation(self.length_um)
        total += self.floor**2 * _correlation(_FLOOR_UM)
        return total + _JITTER * np.trace(total) / len(total) * np.eye(len(total))

    def log_amplitude(
        self, log_scale: Float64[np.ndarray, " B"]
    ) -> tuple[Float64[np.ndarray, " B"], Float64[np.ndarray, " B"]]:
        """Expected ln amplitude of planets and its scatter; NaN stands for an unknown star."""
        constant, exponent, scatter = self.amplitude
        unknown = np.isnan(log_scale)
        mean = np.where(unknown, self.typical[0], constant + exponent * log_scale)
        return mean, np.where(unknown, self.typical[1], scatter)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Gaussian moments of the spectra of a batch."""

    mean: Float64[Tensor, "B W"]
    covariance: Float64[Tensor, "B W W"]
    log_amplitude: Float64[Tensor, " B"]


def log_signal(star: Star | None, depth: float) -> float:
    """Log of the change of depth by one scale height, 2 (Rp/Rs) (H/Rs); NaN: an unknown star.

    H = R T / (mu g) with mu = 2.3, T the equilibrium temperature of a black planet and g from
    the planet's mass and depth.
    """
    if star is None:
        return float("nan")
    temperature = star.temperature_k / np.sqrt(2.0 * star.semi_major_axis_rs)
    radius = star.radius_rsun * _RSUN_M
    gravity = _GM_JUPITER * star.planet_mass_mjup / (max(depth, 1e-6) * radius**2)
    height = _GAS_CONSTANT * temperature / (_MEAN_MASS * gravity)
    return float(np.log(2.0 * np.sqrt(max(depth, 1e-6)) * height / radius))


def _correlation(length_um: float) -> Float64[np.ndarray, "283 283"]:
    """Exponential in wavelength; FGS1 is correlated with nothing but through the components."""
    wavelength = wavelength_um()
    correlation = np.exp(-np.abs(wavelength[:, None] - wavelength) / length_um)
    correlation[0, 1:] = correlation[1:, 0] = 0.0
    return correlation


@dataclass(frozen=True, eq=False)
class Seen:
    """What light curves with given information can see of a prior's shapes, the level left free.

    I is the batch: one for all spectra, or one per planet.
    """

    row: Float64[Tensor, "I W"]  # sums of the information over its rows
    total: Float64[Tensor, "I 1"]  # information on the level, with that of its prior
    gain: Float64[Tensor, "I W"]  # pull of a shape on the level
    values: Float64[Tensor, "I 1 W"]  # information on each whitened coordinate
    basis: Float64[Tensor, "I W W"]  # whitened coordinates to shapes
    mean: Float64[Tensor, "I 1 W"]  # of the mean shape, by coordinate
    mean_square: Float64[Tensor, "I 1"]  # of the mean shape, in all

    def offset(
        self, vector: Float64[Tensor, "B W"], level: tuple[float, float]
    ) -> Float64[Tensor, "B 1"]:
        """Level of spectra without shape."""
        mean, spread = level
        return (vector.sum(-1, keepdim=True) + mean * spread**-2.0) / self.total


@dataclass(frozen=True, eq=False)
class Mixture:
    """Posterior of shapes: one Gaussian per amplitude, G of them."""

    weight: Float64[Tensor, "B G"]
    log_evidence: Float64[Tensor, "B G"]  # of each amplitude, up to what all priors share
    log_amplitude: Float64[Tensor, "B G"]
    shapes: Float64[Tensor, "B G W"]  # mean of each
    variance: Float64[Tensor, "B W"]  # of whitened coordinates within one Gaussian, averaged

    @property
    def mean(self) -> Float64[Tensor, "B W"]:
        """Mean shape."""
        return torch.einsum("bg,bgw->bw", self.weight, self.shapes)

    @property
    def apart(self) -> Float64[Tensor, "B G W"]:
        """Distance of each Gaussian from the mean, times the root of its weight."""
        return (self.shapes - self.mean[:, None]) * self.weight.sqrt()[..., None]


class OwnFloors:
    """The prior of each planet of a batch, with the floor that its own light asks for."""

    def __init__(self, rows: Sequence["PriorOnDevice"]) -> None:
        self.rows = rows

    def gaussian(
        self, row: int, amplitude: Float64[Tensor, ""]
    ) -> tuple[Float64[Tensor, " W"], Float64[Tensor, "W W"]]:
        """Mean and covariance of a planet's spectra of one amplitude."""
        return self.rows[row].gaussian(row, amplitude)

    def posterior(
        self,
        information: Float64[Tensor, "B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, " B"],
    ) -> Posterior:
        """As that of `PriorOnDevice`."""
        parts = [
            prior.posterior(information[row, None], vector[row, None], log_scale[row, None])
            for row, prior in enumerate(self.rows)
        ]
        return Posterior(
            torch.cat([part.mean for part in parts]),
            torch.cat([part.covariance for part in parts]),
            torch.cat([part.log_amplitude for part in parts]),
        )


class PriorOnDevice:
    """A prior's matrices, ready to meet likelihoods of a batch."""

    def __init__(self, prior: SpectrumPrior, device: torch.device) -> None:
        self.prior, self.device = prior, device
        self.lower = torch.linalg.cholesky(torch.tensor(prior.covariance(), device=device))
        self.shape = torch.tensor(prior.shape, device=device)
        self.rest = torch.tensor(prior.rest**2 * _correlation(_FLOOR_UM), device=device)

    def own_floors(
        self,
        information: Float64[Tensor, "B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, " B"],
    ) -> OwnFloors:
        """Priors with a floor of each planet's own: root of the mean square by its evidence."""
        trials = [PriorOnDevice(replace(self.prior, floor=own), self.device) for own in FLOORS]
        evidence = [trial.total_evidence(information, vector, log_scale) for trial in trials]
        shares = torch.tensor(self.prior.shares, device=self.device)
        weight = torch.softmax(torch.stack(evidence, dim=1) + shares.log(), dim=1)
        square = weight @ torch.tensor(FLOORS, dtype=weight.dtype, device=self.device) ** 2
        return OwnFloors(
            [
                PriorOnDevice(replace(self.prior, floor=floor), self.device)
                for floor in square.sqrt().tolist()
            ]
        )

    def gaussian(
        self,
        row: int,  # noqa: ARG002 - all planets have the same prior
        amplitude: Float64[Tensor, ""],
    ) -> tuple[Float64[Tensor, " W"], Float64[Tensor, "W W"]]:
        """Mean and covariance of a planet's spectra of one amplitude."""
        level, scatter = self.prior.level
        shapes = self.lower @ self.lower.T
        return level + amplitude * self.shape, amplitude**2 * shapes + self.rest + scatter**2

    def posterior(
        self,
        information: Float64[Tensor, "#B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, " B"],
    ) -> Posterior:
        """Posterior of spectra with likelihood exp(-d A d / 2 + b d), amplitude marginalised.

        The level is eliminated first; then one eigendecomposition serves all amplitudes.

        Args:
            information: A; one for all, or one per planet.
            vector: b.
            log_scale: `log_signal` of each planet.
        """
        seen = self.see(information)
        mixture = self.mixture(seen, vector, log_scale)
        apart, mean = mixture.apart, mixture.mean
        covariance = (seen.basis * mixture.variance[:, None]) @ seen.basis.transpose(-1, -2)
        covariance = covariance + apart.transpose(-1, -2) @ apart
        follows = (covariance @ seen.gain[..., None])[..., 0]  # how the level falls with a depth
        own = (seen.gain * follows).sum(-1) + 1.0 / seen.total[..., 0]
        covariance = covariance - follows[:, None, :] - follows[:, :, None] + own[:, None, None]
        offset = seen.offset(vector, self.prior.level)
        return Posterior(
            mean=mean - (seen.gain * mean).sum(-1, keepdim=True) + offset,
            covariance=covariance + self.rest,
            log_amplitude=(mixture.weight * mixture.log_amplitude).sum(-1),
        )

    def marginals(
        self, seen: Seen, vector: Float64[Tensor, "B W"], log_scale: Float64[Tensor, " B"]
    ) -> tuple[Float64[Tensor, "B W"], Float64[Tensor, "B W"]]:
        """Mean and variance of each depth by the same posterior, without the covariance.

        Args:
            seen: Of the information A of all these spectra.
            vector: b.
            log_scale: `log_signal` of each planet.
        """
        mixture = self.mixture(seen, vector, log_scale)
        apart, mean, basis = mixture.apart, mixture.mean, seen.basis[0]
        gain, total = seen.gain[0], seen.total[0, 0]
        diagonal = mixture.variance @ (basis**2).T + apart.square().sum(1)
        follows = (mixture.variance * (gain @ basis)) @ basis.T  # as in `posterior`
        follows = follows + torch.einsum("bgw,bg->bw", apart, apart @ gain)
        own = follows @ gain + 1.0 / total
        depth = mean - (mean @ gain)[:, None] + seen.offset(vector, self.prior.level)
        return depth, diagonal - 2.0 * follows + own[:, None] + self.prior.rest**2

    def log_evidence(
        self,
        information: Float64[Tensor, "#B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, " B"],
    ) -> Float64[Tensor, "B G"]:
        """Of each amplitude of the grid, given likelihoods of depths; of one scale for all."""
        seen = self.see(information)
        mean, spread = self.prior.level
        pull = vector.sum(-1, keepdim=True) + mean * spread**-2.0
        level = 0.5 * (pull**2 / seen.total - seen.total.log())
        return self.mixture(seen, vector, log_scale).log_evidence + level

    def total_evidence(
        self,
        information: Float64[Tensor, "#B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, " B"],
    ) -> Float64[Tensor, " B"]:
        """The same, the amplitude marginalised."""
        evidence = self.log_evidence(information, vector, log_scale)
        return torch.logsumexp(evidence - 0.5 * AMPLITUDES.to(evidence) ** 2, dim=-1)

    def surprise(
        self,
        information: Float64[Tensor, "B W W"],
        vector: Float64[Tensor, "B W"],
        log_amplitude: Float64[Tensor, " B"],
    ) -> Float64[Tensor, " B"]:
        """How far light lies from shapes of one amplitude, in standard deviations of its chi^2.

        Args:
            information: A, one per planet.
            vector: b.
            log_amplitude: Of each planet.
        """
        seen = self.see(information)
        pull = vector - seen.row * seen.offset(vector, self.prior.level)
        alpha = log_amplitude.exp()[:, None]
        left = torch.einsum("bwv,bw->bv", seen.basis, pull) - alpha * seen.mean[:, 0]
        values = seen.values[:, 0]
        told = values > _TOLD * values.amax(-1, keepdim=True)
        square = left**2 / (values.clamp_min(1e-300) * (1.0 + alpha**2 * values))
        excess = torch.where(told, square - 1.0, 0.0).sum(-1)
        return excess / (2.0 * told.sum(-1)).clamp_min(1.0).sqrt()

    def see(self, information: Float64[Tensor, "I W W"]) -> Seen:
        """Eliminate the level and decompose what is left in whitened coordinates.

        Args:
            information: A of exp(-d A d / 2 + b d).
        """
        row = information.sum(-1)
        total = row.sum(-1, keepdim=True) + self.prior.level[1] ** -2.0
        gain = row / total
        inner = information - row[:, :, None] * gain[:, None, :]
        white = self.lower.T @ inner @ self.lower
        values, vectors = torch.linalg.eigh(0.5 * (white + white.transpose(-1, -2)))
        basis = self.lower @ vectors
        return Seen(
            row=row,
            total=total,
            gain=gain,
            values=values.clamp_min(0.0)[:, None],
            basis=basis,
            mean=torch.einsum("bwv,bwu,u->bv", basis, inner, self.shape)[:, None],
            mean_square=torch.einsum("w,bwv,v->b", self.shape, inner, self.shape)[:, None],
        )

    def mixture(
        self, seen: Seen, vector: Float64[Tensor, "B W"], log_scale: Float64[Tensor, " B"]
    ) -> Mixture:
        """Posterior of the shapes, one Gaussian per amplitude.

        Args:
            seen: Of the information A; one for all, or one per planet.
            vector: b.
            log_scale: `log_signal` of each planet.
        """
        pull = vector - seen.row * seen.offset(vector, self.prior.level)
        by_coordinate = torch.einsum("bwv,bw->bv", seen.basis, pull)[:, None]
        own = self.prior.log_amplitude(log_scale.cpu().numpy())
        expected, scatter = (torch.tensor(part).to(log_scale) for part in own)
        steps = AMPLITUDES.to(expected)
        log_amplitude = (expected[:, None] + scatter[:, None] * steps).clamp(*_POSSIBLE)
        alpha = log_amplitude.exp()[..., None]  # (B, G, 1)
        precision = 1.0 + alpha**2 * seen.values
        turned = alpha * (by_coordinate - alpha * seen.mean)
        evidence = (0.5 * turned**2 / precision - 0.5 * precision.log()).sum(-1)
        evidence = evidence + alpha[..., 0] * (pull @ self.shape)[:, None]
        evidence = evidence - 0.5 * alpha[..., 0] ** 2 * seen.mean_square
        weight = torch.softmax(evidence - 0.5 * steps**2, dim=-1)
        coordinates = alpha * turned / precision  # mean of the shape in the basis
        return Mixture(
            weight=weight,
            log_evidence=evidence,
            log_amplitude=log_amplitude,
            shapes=coordinates @ seen.basis.transpose(-1, -2) + alpha * self.shape,
            variance=torch.einsum("bg,bgv->bv", weight, alpha**2 / precision),
        )
