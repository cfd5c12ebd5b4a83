"""Visits combined to one depth and one error a wavelength."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.transit.binning import BinnedVisit
from spectramind.transit.depths import Spectrum
from spectramind.transit.white import LIMB, ORBIT, WhiteFit


@dataclass(frozen=True, eq=False)
class Combined:
    """Depths of all visits together; index 0 is FGS1."""

    depth: Float64[np.ndarray, " 283"]
    sigma: Float64[np.ndarray, " 283"]
    disagreement: tuple[float, float]  # of the visits, FGS1 and AIRS-CH0 [sigma]


def combine_visits(
    white: WhiteFit, visits: Sequence[BinnedVisit], spectra: Sequence[Spectrum]
) -> Combined:
    """Inverse-variance means over visits, widened where they disagree by more than their errors.

    The error of an AIRS-CH0 depth is the sum of three variances: its own noise and drift, what
    the white light shows beyond that (noise that wavelengths share or that is correlated in
    time), and the uncertainty of orbit and limb darkening, which wavelengths share.
    The widening multiplies a variance by chi^2 / (V - 1) of the visits where that exceeds 1.

    Source: Birge 1932 (ratio of external to internal error).
    """
    numbers = [visit.visit for visit in visits]
    fgs1 = _blue(*_depths(white, [f"k_fgs1_{number}" for number in numbers]))
    covariance = _depths(white, [f"k_airs_{number}" for number in numbers])[1]
    shape = _shape_covariance(white, numbers)
    known = np.diag(covariance - shape)
    variance = np.stack([spectrum.sigma**2 for spectrum in spectra])
    means = np.array([spectrum.mean for spectrum in spectra])
    errors = np.array([spectrum.mean_sigma**2 for spectrum in spectra])
    extra = np.maximum(known - errors, 0.0)
    weight = 1.0 / (variance + extra[:, None])
    depth = np.sum(weight * [spectrum.depth for spectrum in spectra], axis=0) / weight.sum(axis=0)
    airs = _blue(means, np.diag(errors + extra) + shape)
    share = 1.0 / (errors + extra)
    share = share / share.sum()
    widening = (max(airs[2], 1.0) - 1.0) * float(share**2 @ (errors + extra))
    scale = (depth / (share @ means)) ** 2  # an error of the orbit scales a depth
    limb = np.mean([spectrum.limb_sigma for spectrum in spectra], axis=0) ** 2
    common = float(share @ shape @ share) * scale + limb + widening
    return Combined(
        depth=np.concatenate([[fgs1[0]], depth]),
        sigma=np.sqrt(
            np.concatenate([[fgs1[1] * max(fgs1[2], 1.0)], 1.0 / weight.sum(axis=0) + common])
        ),
        disagreement=(float(np.sqrt(fgs1[2])), float(np.sqrt(airs[2]))),
    )


def _depths(
    white: WhiteFit, names: Sequence[str]
) -> tuple[Float64[np.ndarray, " V"], Float64[np.ndarray, "V V"]]:
    """Squared radius ratios and their covariance."""
    columns = white.columns(names)
    k = white.theta[columns]
    return k**2, 4.0 * np.outer(k, k) * white.covariance[np.ix_(columns, columns)]


def _shape_covariance(white: WhiteFit, numbers: Sequence[int]) -> Float64[np.ndarray, "V V"]:
    """Part of the covariance of the AIRS-CH0 depths that orbit and limb darkening cause."""
    names = [*ORBIT, *LIMB[2:], *[f"t0_h_{number}" for number in numbers]]
    columns, shape = (
        white.columns([f"k_airs_{number}" for number in numbers]),
        white.columns(names),
    )
    k = white.theta[columns]
    cross = white.covariance[np.ix_(columns, shape)]
    part = cross @ np.linalg.solve(white.covariance[np.ix_(shape, shape)], cross.T)
    return 4.0 * np.outer(k, k) * part


def _blue(
    values: Float64[np.ndarray, " V"], covariance: Float64[np.ndarray, "V V"]
) -> tuple[float, float, float]:
    """Best linear mean of correlated values, its variance, and chi^2 / (V - 1) (0 for V = 1)."""
    inverse = np.linalg.inv(covariance)
    variance = 1.0 / inverse.sum()
    mean = variance * inverse.sum(axis=0) @ values
    residual = values - mean
    chi2 = residual @ inverse @ residual / max(values.size - 1, 1)
    return float(mean), float(variance), float(chi2) if values.size > 1 else 0.0
