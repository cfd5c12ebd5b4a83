"""Split-conformal intervals, one quantile per wavelength; planets are the exchangeable units."""

import math
from fractions import Fraction

import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.errors import ConfigError, DataError
from spectramind.posterior import SpectrumPosterior


def planets_needed(level: float) -> int:
    """Smallest number of calibration planets that supports a level: n >= 1/alpha - 1.

    Source: Vovk, Gammerman and Shafer 2005; below it the rank ceil((n+1) level) exceeds n and
    the interval is infinite.
    """
    return math.ceil(1 / (1 - _exact(level))) - 1


def conformal_rank(planets: int, level: float) -> int:
    """Rank ceil((n + 1) level) of the nonconformity score, in exact decimal arithmetic."""
    return math.ceil((planets + 1) * _exact(level))


def conformal_half_widths(
    posterior: SpectrumPosterior, depth: Float64[Tensor, "B W"], level: float
) -> Float64[Tensor, " W"]:
    """Half-width of the interval at each wavelength in units of sigma: a quantile of |z|.

    The nonconformity of a calibration planet is |z| = |depth - mu| / sigma; quantile_hat is its
    ceil((n+1) level)-th smallest value over the n planets. For exchangeable planets the interval
    mu -+ quantile_hat sigma holds the truth with probability at least `level`, and at most
    `level` + 1/(n+1), wavelength by wavelength. The wavelengths of one planet are correlated, so
    n is the number of planets, never planets times wavelengths.

    Args:
        posterior: Posterior of planets that served for nothing else (no training, no early
            stopping, no temperature).
        depth: True depths of the same planets.
        level: Wanted coverage, between 0 and 1.

    Returns:
        quantile_hat, in units of `posterior.sigma`.

    Raises:
        ConfigError: If there are too few planets for the level.
        DataError: If a score is not finite.

    Source: Lei et al. 2018 (JASA 113), normalised split conformal prediction.
    """
    planets = len(depth)
    if planets < planets_needed(level):
        raise ConfigError(too_few(planets, level))
    score = posterior.z(depth).double().abs()
    bad = torch.nonzero(~torch.isfinite(score).all(1)).flatten()
    if len(bad):
        raise DataError(
            f"conformal: calibration planet in row {int(bad[0])} (of {len(bad)} such rows) has a "
            "|depth - mu| / sigma that is not finite. Look for NaN or zero sigma in the spectra "
            "of the calibration planets and run `spectramind train` again."
        )
    return torch.kthvalue(score, conformal_rank(planets, level), dim=0).values


def too_few(planets: int, level: float) -> str:
    """The sentence for a level that the calibration planets cannot support."""
    return (
        f"uq.levels: a conformal interval at level {level:g} needs at least "
        f"{planets_needed(level)} calibration planets, got {planets}. Raise "
        "training.calibration_fraction, train on more planets, or take the level out of uq.levels."
    )


def _exact(level: float) -> Fraction:
    return Fraction(repr(level))  # 0.9 is nine tenths here, not the nearest binary number
