"""Noise metrics of residual light curves: how far a fit is from photon noise, and why.

Series are columns: `residual` is (T, W) on a regular grid of time bins, NaN where a bin is
missing, in units of the star's flux (flux minus model, both divided by star and drift).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int

from spectramind.errors import DataError
from spectramind.observation import VisitFit

PPM = 1e6
_FEWEST = 20  # finite bins from which a metric is worth its name
_POINTS = 24  # averaging times of an Allan deviation, at most
_SPARSEST = 100  # cells of the regular grid for one measured bin, at most
_FULL = 0.5  # a window or a white-light bin needs this share of its parts

Series = Float64[np.ndarray, "T W"]


@dataclass(frozen=True, eq=False)
class AllanDeviation:
    """Allan deviation against averaging time; of several series, or the median over them."""

    tau_s: Float64[np.ndarray, " M"]  # averaging time [s]
    deviation_ppm: Float64[np.ndarray, "M ..."]  # NaN where too few windows are filled [ppm]
    white_ppm: Float64[np.ndarray, "M ..."]  # same, of white noise as strong at one bin [ppm]
    white_error_ppm: Float64[np.ndarray, "M ..."]  # its 1 sigma sampling error [ppm]


@dataclass(frozen=True, eq=False)
class NoiseMetrics:
    """Noise of one residual light curve, or the median of each metric over several."""

    series: int  # light curves behind the medians
    bins: float  # finite time bins of a light curve
    bin_s: float  # length of a bin [s]
    rms_ppm: float  # root mean square of a bin [ppm]
    photon_ppm: float  # 1 / sqrt(electrons per bin) [ppm]
    photon_ratio: float  # rms over photon noise; 1 is the limit
    mad_ppm: float  # median absolute deviation from the median; x 1.4826 is a sigma [ppm]
    red_noise_s: float  # time over which beta averages [s]
    beta: float  # binned scatter over that of white noise: 1 is white, NaN a series too short
    lag1: float  # autocorrelation of neighbouring bins; error about 1 / sqrt(bins)
    skewness: float  # third standardised moment; error about sqrt(6 / bins)
    allan: AllanDeviation


@dataclass(frozen=True, eq=False)
class VisitNoise:
    """Noise metrics of one visit; None for a channel without flux."""

    visit: int
    fgs1: NoiseMetrics | None
    airs_white: NoiseMetrics | None  # sum over wavelengths
    airs: NoiseMetrics | None  # median over wavelengths


def visit_noise(
    visit: VisitFit, electrons: Float64[np.ndarray, " 283"], *, red_noise_s: float
) -> VisitNoise:
    """Noise metrics of FGS1, of AIRS-CH0 white light and of the AIRS-CH0 wavelengths of a visit.

    White light is the mean residual weighted by electrons, which is that of the summed flux.

    Args:
        visit: Residual products of the fit.
        electrons: Mean electrons in one time bin at each wavelength, out of transit [e-]; 0 or
            NaN where a wavelength holds no flux.
        red_noise_s: Time over which beta averages [s], say `ingress_duration_s` or 1200.

    Raises:
        DataError: If the visit has fewer than 20 different times, or times too far apart.
    """
    where = f"Visit {visit.visit}"
    residual = visit.flux.astype(np.float64) - visit.model
    grid, bin_s = on_regular_grid(visit.time_h, residual, where=where)
    lit = np.isfinite(electrons) & (electrons > 0.0) & (_count(grid) >= _FEWEST)
    airs = lit & (np.arange(lit.size) > 0)
    white = white_light(grid[:, airs], electrons[airs])
    total = electrons[airs].sum(keepdims=True)

    def metrics(series: Series, of: Float64[np.ndarray, " W"]) -> NoiseMetrics | None:
        enough = _count(series) >= _FEWEST
        if not enough.any():
            return None
        return noise_metrics(series[:, enough], of[enough], bin_s=bin_s, red_noise_s=red_noise_s)

    return VisitNoise(
        visit=visit.visit,
        fgs1=metrics(grid[:, :1], electrons[:1]) if lit[0] else None,
        airs_white=metrics(white[:, None], total),
        airs=metrics(grid[:, airs], electrons[airs]),
    )


def noise_metrics(
    residual: Series, electrons: Float64[np.ndarray, " W"], *, bin_s: float, red_noise_s: float
) -> NoiseMetrics:
    """All metrics of one or several series; of several, the median of each metric.

    Args:
        residual: At least one series with 20 finite bins or more.
        electrons: Mean electrons in one bin of each series [e-].
        bin_s: Time between bins [s].
        red_noise_s: Time over which beta averages [s].

    Raises:
        DataError: If a series is too short or holds no electrons.
    """
    count = _count(residual)
    shortest = int(count.min()) if count.size else 0
    if shortest < _FEWEST:
        raise DataError(
            f"Noise metrics: a residual light curve holds {shortest} finite bins, at least "
            f"{_FEWEST} are needed. Lower transit.bin_s or leave the light curve out."
        )
    if not np.all(electrons > 0.0):
        raise DataError(
            f"Noise metrics: {np.min(electrons):g} electrons per bin, expected a positive number. "
            "Leave out light curves without flux."
        )
    rms = np.sqrt(_mean(residual**2))
    photon = 1.0 / np.sqrt(electrons)
    bins = max(1, round(red_noise_s / bin_s))
    return NoiseMetrics(
        series=count.size,
        bins=_median(count.astype(np.float64)),
        bin_s=bin_s,
        rms_ppm=_median(rms) * PPM,
        photon_ppm=_median(photon) * PPM,
        photon_ratio=_median(rms / photon),
        mad_ppm=_median(median_absolute_deviation(residual)) * PPM,
        red_noise_s=bins * bin_s,
        beta=_median(red_noise_ratio(residual, bins)),
        lag1=_median(lag1_autocorrelation(residual)),
        skewness=_median(skewness(residual)),
        allan=_median_allan(allan_deviation(residual, bin_s)),
    )


def allan_deviation(residual: Series, bin_s: float) -> AllanDeviation:
    """Overlapping Allan deviation of each series: half the mean square of successive means.

        sigma^2(m) = < (mean of m bins - mean of the m bins before)^2 > / 2

    White noise falls as tau^(-1/2), a random walk rises as tau^(+1/2). The white expectation is
    carried on from one bin and counts the missing bins of each window. Its sampling error is
    that of a series without gaps, from the equivalent degrees of freedom of white noise.

    Args:
        residual: Series on a regular grid; windows less than half full are left out.
        bin_s: Time between bins [s].

    Source: Allan 1966; Riley and Howe 2008, NIST SP 1065 (overlapping Allan variance).
    """
    factors = _factors(residual.shape[0] // 3)
    shape = (factors.size, residual.shape[1])
    deviation, gain = np.full(shape, np.nan), np.full(shape, np.nan)
    for row, m in enumerate(factors):
        mean, count, full = _windows(residual, int(m))
        pairs = full[m:] & full[:-m]
        enough = pairs.any(axis=0)
        number = np.where(enough, pairs.sum(axis=0), 1)
        square = np.where(pairs, mean[m:] - mean[:-m], 0.0) ** 2
        unit = np.where(pairs, 1.0 / count[m:] + 1.0 / count[:-m], 0.0)
        deviation[row] = np.where(enough, np.sqrt(0.5 * square.sum(axis=0) / number), np.nan)
        gain[row] = np.where(enough, np.sqrt(0.5 * unit.sum(axis=0) / number), np.nan)
    white = PPM * deviation[0] * gain
    relative = 1.0 / np.sqrt(2.0 * _freedom(residual.shape[0], factors))
    return AllanDeviation(bin_s * factors, PPM * deviation, white, white * relative[:, None])


def red_noise_ratio(residual: Series, bins: int) -> Float64[np.ndarray, " W"]:
    """Scatter of means over `bins` bins, over what white noise of the same rms would leave: beta.

        beta^2 = < (window mean - mean)^2 > / [s^2 (1/bins - 1/T)]

    over all windows, also overlapping ones; the denominator is the expectation for white noise
    of variance s^2 in T bins. It may fall below 1 by chance, or where a fit swallowed slow noise.

    Args:
        residual: Series on a regular grid; windows less than half full are left out.
        bins: Length of a window; in units of the grid.

    Returns:
        beta; NaN for a series shorter than two windows.

    Source: Pont et al. 2006; Winn et al. 2008, whose sqrt(M / (M - 1)) for M separate windows is
    the term 1/T; here windows overlap and may hold gaps.
    """
    centred = residual - _mean(residual)
    total = _count(residual)
    squares = np.sum(np.where(np.isfinite(centred), centred, 0.0) ** 2, axis=0)
    variance = _ratio(squares, total - 1.0)
    if 2 * bins > residual.shape[0]:
        return np.full(total.size, np.nan)
    mean, count, full = _windows(centred, bins)
    share = 1.0 / count - 1.0 / np.maximum(total, 1)
    expected = np.where(full, share, 0.0).sum(axis=0) * variance
    measured = np.where(full, mean, 0.0) ** 2
    usable = (expected > 0.0) & (total >= 2 * bins)
    return np.where(
        usable, np.sqrt(measured.sum(axis=0) / np.where(usable, expected, 1.0)), np.nan
    )


def median_absolute_deviation(residual: Series) -> Float64[np.ndarray, " W"]:
    """Median of |r - median(r)|, not scaled to a Gaussian sigma; NaN values are left out."""
    return _column_median(np.abs(residual - _column_median(residual)))


def lag1_autocorrelation(residual: Series) -> Float64[np.ndarray, " W"]:
    """Mean product of neighbours over the variance, the mean removed; NaN if all values agree."""
    centred = residual - _mean(residual)
    variance = _mean(centred**2)
    return _ratio(_mean(centred[1:] * centred[:-1]), variance)


def skewness(residual: Series) -> Float64[np.ndarray, " W"]:
    """Third central moment over the variance to 3/2 (biased); NaN if all values agree."""
    centred = residual - _mean(residual)
    return _ratio(_mean(centred**3), _mean(centred**2) ** 1.5)


def ingress_duration_s(
    *, period_d: float, semi_major_axis_rs: float, impact_parameter: float, radius_ratio: float
) -> float:
    """Time from first to second contact on a circular orbit; half the transit if it grazes [s].

        T = P / pi * asin(sqrt(((1 +- k)^2 - b^2) / (a^2 - b^2)));  ingress = (T_14 - T_23) / 2

    Args:
        period_d: Orbital period [d].
        semi_major_axis_rs: Semi-major axis [stellar radii].
        impact_parameter: Impact parameter, of either sign [stellar radii].
        radius_ratio: Rp/Rs.

    Raises:
        DataError: If the planet never leaves the star's disc, or never crosses it.

    Source: Winn 2010, Exoplanet Transits and Occultations, eqs. 14 and 15 for e = 0.
    """
    a, b, k = semi_major_axis_rs, abs(impact_parameter), radius_ratio
    if not b < 1.0 + k <= a:
        raise DataError(
            f"No ingress at impact parameter {b:g}, radius ratio {k:g} and semi-major axis {a:g} "
            "stellar radii, expected b < 1 + k <= a. Check the parameters of this fit."
        )
    outer, inner = (max((1.0 + sign * k) ** 2 - b**2, 0.0) for sign in (1.0, -1.0))
    contacts = np.arcsin(np.sqrt(np.array([outer, inner]) / (a**2 - b**2)))
    return float(86400.0 * period_d / np.pi * (contacts[0] - contacts[1]) / 2.0)


def white_light(residual: Series, weight: Float64[np.ndarray, " W"]) -> Float64[np.ndarray, " T"]:
    """Weighted mean of series; NaN where less than half of the weight is measured."""
    measured = np.isfinite(residual)
    share = measured @ weight
    whole = share > _FULL * weight.sum()
    mean = (np.where(measured, residual, 0.0) @ weight) / np.where(whole, share, 1.0)
    return np.where(whole, mean, np.nan)


def on_regular_grid(
    time_h: Float64[np.ndarray, " T"], residual: Series, *, where: str
) -> tuple[Float64[np.ndarray, "N W"], float]:
    """Series moved to the nearest points of a regular grid, NaN where nothing was measured.

    Args:
        time_h: Times in any order, mostly within a quarter of a step of a regular grid [h].
        residual: Series at these times; several at one grid point are averaged.
        where: Beginning of an error message.

    Returns:
        The series, and the time between grid points: near the median step between times [s].

    Raises:
        DataError: If there are fewer than 20 different times, or they lie too far apart.
    """
    times = np.unique(time_h)
    if times.size < _FEWEST:
        raise DataError(
            f"{where}: {times.size} different times, at least {_FEWEST} are needed for noise "
            "metrics. Lower transit.bin_s or leave this visit out."
        )
    step = float(np.median(np.diff(times)))
    if times[-1] - times[0] > _SPARSEST * times.size * step:
        raise DataError(
            f"{where}: {times.size} times {3600.0 * step:g} s apart reach over "
            f"{times[-1] - times[0]:g} h, which is no one visit. Split it at its gaps."
        )
    cells = np.append(0.0, np.cumsum(np.round(np.diff(times) / step)))
    for _ in range(2):  # the grid that fits all times best, not only the first two
        step, start = np.polyfit(cells, times, 1)
        cells = np.round((times - start) / step)
    index = np.round((time_h - start) / step).astype(np.int64)
    index -= index.min()
    measured = np.isfinite(residual)
    total = np.zeros((int(index.max()) + 1, residual.shape[1]))
    count = np.zeros_like(total)
    np.add.at(total, index, np.where(measured, residual, 0.0))
    np.add.at(count, index, measured)
    return np.where(count > 0.0, total / np.maximum(count, 1.0), np.nan), 3600.0 * float(step)


def _windows(
    residual: Series, m: int
) -> tuple[Float64[np.ndarray, "N W"], Float64[np.ndarray, "N W"], Bool[np.ndarray, "N W"]]:
    """Mean and count of the finite values of all windows of m bins; which are half full."""
    measured = np.isfinite(residual)
    start = np.zeros((1, residual.shape[1]))
    total = np.concatenate([start, np.cumsum(np.where(measured, residual, 0.0), axis=0)])
    number = np.concatenate([start, np.cumsum(measured, axis=0)])
    count = number[m:] - number[:-m]
    safe = np.maximum(count, 1.0)
    return (total[m:] - total[:-m]) / safe, safe, count >= max(1.0, _FULL * m)


def _factors(longest: int) -> Int[np.ndarray, " M"]:
    """Window lengths from 1 to `longest`, evenly spread in their logarithm."""
    return np.unique(np.geomspace(1, max(longest, 1), _POINTS).round().astype(np.int64))


def _freedom(bins: int, m: Int[np.ndarray, " M"]) -> Float64[np.ndarray, " M"]:
    """Equivalent degrees of freedom of an overlapping Allan variance of white noise.

    Source: Riley and Howe 2008, NIST SP 1065 (simple form for white FM, N phase values).
    """
    phases = bins + 1
    first = 3.0 * (phases - 1) / (2.0 * m) - 2.0 * (phases - 2) / phases
    return np.maximum(first * 4.0 * m**2 / (4.0 * m**2 + 5.0), 1.0)


def _count(residual: Series) -> Int[np.ndarray, " W"]:
    return np.isfinite(residual).sum(axis=0)


def _mean(values: Series) -> Float64[np.ndarray, " W"]:
    """Mean of the finite values of each column; NaN without any."""
    measured = np.isfinite(values)
    total = np.where(measured, values, 0.0).sum(axis=0)
    return _ratio(total, measured.sum(axis=0).astype(np.float64))


def _ratio(
    top: Float64[np.ndarray, " W"], bottom: Float64[np.ndarray, " W"]
) -> Float64[np.ndarray, " W"]:
    return np.where(bottom > 0.0, top / np.where(bottom > 0.0, bottom, 1.0), np.nan)


def _column_median(values: Series) -> Float64[np.ndarray, " W"]:
    """Median of the finite values of each column; NaN without any."""
    return np.array([_median(column) for column in values.T])


def _median(values: Float64[np.ndarray, " W"]) -> float:
    """Median of the finite values; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def _median_allan(allan: AllanDeviation) -> AllanDeviation:
    """Median over series at each averaging time."""
    parts = (allan.deviation_ppm, allan.white_ppm, allan.white_error_ppm)
    return AllanDeviation(allan.tau_s, *(_column_median(part.T) for part in parts))
