"""Tests of the error bars: coverage, width, PIT and z^2, with envelopes over planets.

The wavelengths of one planet are correlated, so every envelope counts planets, as if all
wavelengths of a planet were one draw. That is exact for one wavelength and conservative for means.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy import stats

from spectramind.uq.conformal import conformal_rank

Matrix = Float64[np.ndarray, "B W"]


@dataclass(frozen=True)
class IntervalQuality:
    """Quality of the intervals of a group of wavelengths at one level."""

    channel: str
    level: float
    coverage: float
    width: float  # mean upper - lower, (Rp/Rs)^2
    winkler: float  # mean Winkler score, (Rp/Rs)^2; smaller is better


def covered(depth: Matrix, lower: Matrix, upper: Matrix) -> Bool[np.ndarray, "B W"]:
    """Whether the truth lies in the interval."""
    return (depth >= lower) & (depth <= upper)


def winkler(depth: Matrix, lower: Matrix, upper: Matrix, level: float) -> Matrix:
    """Winkler score (u - l) + (2/alpha) [(l - y)+ + (y - u)+], alpha = 1 - level.

    Source: Gneiting and Raftery 2007, equation 43 (the interval score).
    """
    outside = np.maximum(lower - depth, 0.0) + np.maximum(depth - upper, 0.0)
    return upper - lower + 2.0 / (1.0 - level) * outside


def interval_quality(
    channel: str, level: float, depth: Matrix, lower: Matrix, upper: Matrix
) -> IntervalQuality:
    """Coverage, mean width and mean Winkler score of one group of wavelengths."""
    return IntervalQuality(
        channel,
        level,
        float(covered(depth, lower, upper).mean()),
        float((upper - lower).mean()),
        float(winkler(depth, lower, upper, level).mean()),
    )


def gaussian_coverage(z: Matrix, levels: Float64[np.ndarray, " L"]) -> Float64[np.ndarray, " L"]:
    """Share of |z| below the Gaussian quantile of each level."""
    quantile = stats.norm.ppf((1.0 + levels) / 2.0)
    return (np.abs(z)[..., None] <= quantile).mean((0, 1))


def coverage_envelope(
    planets: int, level: float, *, calibration_planets: int | None, probability: float
) -> tuple[float, float]:
    """Central range of the coverage that n planets show when the intervals are right.

    Gaussian intervals: binomial. Split-conformal intervals of m calibration planets: their true
    coverage is Beta(k, m + 1 - k) with k = ceil((m+1) level), so the count is beta-binomial.

    Source: Angelopoulos and Bates 2023 (arXiv 2107.07511), section 3.2.
    """
    tail = (1.0 - probability) / 2.0
    count = _covered_count(planets, level, calibration_planets)
    return float(count.ppf(tail)) / planets, float(count.ppf(1.0 - tail)) / planets


def coverage_p_value(
    coverage: float, planets: int, level: float, *, calibration_planets: int | None
) -> float:
    """Two-sided p-value of an observed coverage, under the law of `coverage_envelope`."""
    count = _covered_count(planets, level, calibration_planets)
    below = count.cdf(np.ceil(coverage * planets - 1e-9))
    above = count.sf(np.floor(coverage * planets + 1e-9) - 1.0)
    return min(1.0, 2.0 * float(min(below, above)))


def _covered_count(planets: int, level: float, calibration_planets: int | None):  # noqa: ANN202
    if calibration_planets is None:
        return stats.binom(planets, level)
    rank = conformal_rank(calibration_planets, level)
    return stats.betabinom(planets, rank, calibration_planets + 1 - rank)


def z2_p_value(z: Matrix) -> float:
    """Two-sided p-value of mean z^2 = 1, from chi^2 with one degree of freedom per planet."""
    planets = len(z)
    total = planets * float(np.mean(z**2))
    tail = min(stats.chi2.cdf(total, planets), stats.chi2.sf(total, planets))
    return min(1.0, 2.0 * float(tail))


def z2_envelope(planets: int, probability: float) -> tuple[float, float]:
    """Central range of the mean z^2 over n planets when sigma is right."""
    tail = (1.0 - probability) / 2.0
    low, high = stats.chi2.ppf([tail, 1.0 - tail], planets) / planets
    return float(low), float(high)


def bias_p_value(z: Matrix) -> float:
    """Two-sided p-value of mean z = 0, from a normal with variance one over the planets."""
    return 2.0 * float(stats.norm.sf(abs(z.mean()) * np.sqrt(len(z))))


def pit_histogram(z: Matrix, bins: int) -> Float64[np.ndarray, " N"]:
    """Share of the probability integral transform Phi(z) in equal bins; flat when calibrated."""
    counts, _ = np.histogram(stats.norm.cdf(z), bins=bins, range=(0.0, 1.0))
    return counts / z.size


def pit_envelope(planets: int, bins: int, probability: float) -> tuple[float, float]:
    """Central range of the share of one bin over n planets."""
    return coverage_envelope(
        planets, 1.0 / bins, calibration_planets=None, probability=probability
    )
