"""What light alone says of a planet's depths: the likelihood, as a Gaussian to be handed on.

The maximum of exp(-d A d / 2 + b d) and the inverse of A, at the wavelengths that are measured. No
prior over spectra is in it, so a retrieval may bring its own. Orbit, limb darkening, clocks,
drift and noise in time are marginalised under their priors, as they are in the posterior.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.observation import TransitFit

LOOSEST = 1.0  # scatter of the bound: the depth of a planet as large as its star [(Rp/Rs)^2]
_FELT = 0.01  # share of the bound in what is known of a direction, from which it is told


@dataclass(frozen=True, eq=False)
class MeasuredDepths:
    """Gaussian likelihood of depths, NaN at wavelengths that are not measured."""

    depth: Float64[np.ndarray, " 283"]
    covariance: Float64[np.ndarray, "283 283"]
    reasons: tuple[str, ...]  # not to trust them, those of the fit among them

    @property
    def sigma(self) -> Float64[np.ndarray, " 283"]:
        """Errors of single depths."""
        return np.sqrt(self.covariance.diagonal())


def measured_depths(fit: TransitFit) -> MeasuredDepths:
    """Depths of a planet by its light curves alone.

    Whatever sum of depths the light leaves free keeps a Gaussian of scatter `LOOSEST` about 0, so
    that the covariance is finite. The covariance is widened as that of the posterior is.

    Args:
        fit: Of the planet.
    """
    seen = fit.measured
    values, vectors = np.linalg.eigh(fit.information[np.ix_(seen, seen)])
    known = np.maximum(values, 0.0) + LOOSEST**-2.0  # rounding may leave some below 0
    inverse = (vectors / known) @ vectors.T
    wider = fit.widening * fit.scale
    factor = np.append(wider[0], np.full(len(seen) - 1, wider[1]))[seen]
    depth, covariance = np.full(len(seen), np.nan), np.full((len(seen), len(seen)), np.nan)
    depth[seen] = inverse @ fit.vector[seen]
    covariance[np.ix_(seen, seen)] = factor[:, None] * inverse * factor + fit.level_sigma**2
    free = int((known * _FELT < LOOSEST**-2.0).sum())
    return MeasuredDepths(depth, covariance, (*fit.reasons, *_free_words(free)))


def _free_words(free: int) -> tuple[str, ...]:
    if not free:
        return ()
    return (
        f"The light leaves {free} combination{'s' * (free > 1)} of depths free: a scatter of "
        f"{LOOSEST:g} about 0 stands for them in the likelihood.",
    )
