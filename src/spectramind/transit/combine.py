"""Visits combined to one depth and one error a wavelength."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.transit.binning import BinnedVisit
from spectramind.transit.depths import Spectrum
from spectramind.transit.white import WhiteFit


@dataclass(frozen=True, eq=False)
class Combined:
    """Depths of all visits together; index 0 is FGS1."""

    depth: Float64[np.ndarray, " 283"]
    sigma: Float64[np.ndarray, " 283"]
    level_sigma: tuple[float, float]  # of FGS1 and of the AIRS-CH0 white light
    disagreement: tuple[float, float]  # of the visits, FGS1 and AIRS-CH0 [sigma]


def combine_visits(
    white: WhiteFit, visits: Sequence[BinnedVisit], spectra: Sequence[Spectrum]
) -> Combined:
    """FGS1 depth and AIRS-CH0 level by the white light, AIRS-CH0 shape by the wavelengths.

    The level of all wavelengths is the best linear mean of the visits' white-light depths, which
    share orbit and limb darkening; each wavelength's departure from it is the inverse-variance
    mean over visits. The variance of an AIRS-CH0 depth is the sum of that of the level, of the
    departure and of limb darkening that differs from its expected colour. A mean is widened by
    chi^2 / (V - 1) of the visits where that exceeds 1.

    Source: Birge 1932 (ratio of external to internal error).
    """
    numbers = [visit.visit for visit in visits]
    fgs1 = _best_mean(*_depths(white, [f"k_fgs1_{number}" for number in numbers]))
    levels, covariance = _depths(white, [f"k_airs_{number}" for number in numbers])
    airs = _best_mean(levels, covariance)
    weight = np.stack([spectrum.sigma**-2.0 for spectrum in spectra])
    lit = weight.sum(axis=0) > 0.0
    total = np.where(lit, weight.sum(axis=0), 1.0)
    departure = np.stack([s.depth - level for s, level in zip(spectra, levels, strict=True)])
    depth = airs.value + np.sum(weight * departure, axis=0) / total
    limb = np.mean([spectrum.limb_sigma for spectrum in spectra], axis=0) ** 2
    scale = (depth / airs.value) ** 2  # an error of the orbit scales a depth
    variance = np.where(lit, 1.0 / total, np.inf) + airs.variance * scale + limb
    return Combined(
        depth=np.concatenate([[fgs1.value], depth]),
        sigma=np.sqrt(np.concatenate([[fgs1.variance], variance])),
        level_sigma=(float(np.sqrt(fgs1.variance)), float(np.sqrt(airs.variance))),
        disagreement=(fgs1.disagreement, airs.disagreement),
    )


def _depths(
    white: WhiteFit, names: Sequence[str]
) -> tuple[Float64[np.ndarray, " V"], Float64[np.ndarray, "V V"]]:
    """Squared radius ratios and their covariance."""
    columns = white.columns(names)
    k = white.theta[columns]
    return k**2, 4.0 * np.outer(k, k) * white.covariance[np.ix_(columns, columns)]


@dataclass(frozen=True)
class _Mean:
    value: float
    variance: float
    disagreement: float  # root of chi^2 / (V - 1); 0 for one visit


def _best_mean(values: Float64[np.ndarray, " V"], covariance: Float64[np.ndarray, "V V"]) -> _Mean:
    """Best linear mean of correlated values, its variance widened by their disagreement."""
    inverse = np.linalg.inv(covariance)
    variance = float(1.0 / inverse.sum())
    mean = float(variance * inverse.sum(axis=0) @ values)
    residual = values - mean
    chi2 = float(residual @ inverse @ residual) / max(values.size - 1, 1)
    return _Mean(mean, variance * max(chi2, 1.0), float(np.sqrt(chi2)))
