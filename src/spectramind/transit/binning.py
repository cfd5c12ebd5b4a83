"""Light curves in time bins that FGS1 and AIRS-CH0 share, without spikes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import median_filter

from spectramind.errors import DataError
from spectramind.observation import LightCurves
from spectramind.robust import MAD_TO_SIGMA
from spectramind.transit.settings import TransitConfig

MINIMUM_BINS = 20
_MISSING = 0.1  # share of missing exposures from which a wavelength counts as dark
_CROWD = 5  # exposures per bin from which spikes can be told from the transit
_EMPTY = 10.0  # span of a visit over that of its exposures above which the times are not right
_NEAR = 7  # exposures, the judged one among them, that tell a spike where bins hold fewer


@dataclass(frozen=True, eq=False)
class BinnedVisit:
    """One visit in T common time bins; flux per exposure, divided by its median."""

    visit: int
    airs_time_h: Float64[np.ndarray, " T"]
    fgs1_time_h: Float64[np.ndarray, " T"]
    width_h: float  # length of a bin [h]
    airs: Float64[np.ndarray, "T 282"]
    airs_white: Float64[np.ndarray, " T"]  # sum over wavelengths
    fgs1: Float64[np.ndarray, " T"]  # 1 throughout where FGS1 was not measured
    white_share: Float64[np.ndarray, " 282"]  # of each wavelength in `airs_white`
    lit: Bool[np.ndarray, " 282"]  # wavelengths with flux
    columns: int  # wavelengths with any value at all, dark or not
    electrons: Float64[np.ndarray, " 283"]  # of one bin; 0: dark [e-]
    airs_noise: float  # of `airs_white`, from differences in time
    fgs1_noise: float  # infinite where FGS1 was not measured
    fine_time_h: Float64[np.ndarray, " L"]  # L is 0 where FGS1 was not measured
    fine_fgs1: Float64[np.ndarray, " L"]
    fine_centroid: Float64[np.ndarray, "L 2"]  # minus its median [pixel]

    @property
    def has_fgs1(self) -> bool:
        """Whether FGS1 was measured."""
        return bool(self.electrons[0] > 0.0)

    @property
    def tau(self) -> Float64[np.ndarray, " T"]:
        """Time scaled to -1..1 over the visit."""
        return self.scaled(self.airs_time_h)

    def scaled(self, time_h: Float64[np.ndarray, "*T"]) -> Float64[np.ndarray, "*T"]:
        """Times on the scale where the visit's bins run from -1 to 1."""
        first, last = self.airs_time_h[0], self.airs_time_h[-1]
        return 2.0 * (time_h - first) / (last - first) - 1.0


def bin_visit(curves: LightCurves, config: TransitConfig) -> BinnedVisit:
    """Reject spikes and average a visit in time bins of at least `config.bin_s`.

    Without FGS1 the bins are those of AIRS-CH0 alone.

    Raises:
        DataError: If a channel has no flux, or fewer than 20 bins hold both channels.
    """
    airs_time, airs, _ = _usable("AIRS-CH0", curves, config.edge_exposures)
    fgs1_time, fgs1, fgs1_rows = airs_time, np.ones(airs_time.size), np.zeros(0, np.int64)
    has_fgs1 = curves.fgs1_time_h.size > 0
    if has_fgs1:
        fgs1_time, fgs1, fgs1_rows = _usable("FGS1", curves, config.edge_exposures)
    airs, level, lit = _mended(airs)
    _refuse_gaps(curves, bool(lit.any()))
    white = airs[:, lit].sum(axis=1)
    _refuse_strays(curves, airs_time)
    edges = _edges(airs_time, fgs1_time, config.bin_s)
    airs_index, fgs1_index = (np.searchsorted(edges, t) - 1 for t in (airs_time, fgs1_time))
    bins = edges.size - 1
    keep_airs = _steady(white, bins, config.outlier_sigma)
    keep_fgs1 = _steady(fgs1, bins, config.outlier_sigma)
    fine = _fine(curves, fgs1_rows[keep_fgs1[: fgs1_rows.size]], config.fgs1_bins)
    keep_airs &= (airs_index >= 0) & (airs_index < bins)
    keep_fgs1 &= (fgs1_index >= 0) & (fgs1_index < bins)
    full = _full(airs_index[keep_airs], bins) & _full(fgs1_index[keep_fgs1], bins)
    if full.sum() < MINIMUM_BINS:
        raise DataError(
            f"planet {curves.planet_id}, visit {curves.visit}: {int(full.sum())} time bins of "
            f"{config.bin_s:g} s hold both channels, at least {MINIMUM_BINS} are needed. Lower "
            "transit.bin_s or leave this visit out."
        )
    mean_airs = _means(airs_index[keep_airs], bins)
    mean_fgs1 = _means(fgs1_index[keep_fgs1], bins)
    airs = _without_spikes(airs[keep_airs], airs_index[keep_airs], mean_airs, config.outlier_sigma)
    airs_binned = mean_airs(airs)[full]
    white_level, fgs1_level = np.median(white), np.median(fgs1)
    airs_noise, fgs1_noise = float(difference_noise(white)), float(difference_noise(fgs1))
    _refuse_constant("AIRS-CH0", curves, airs_noise)
    if has_fgs1:
        _refuse_constant("FGS1", curves, fgs1_noise)
    return BinnedVisit(
        visit=curves.visit,
        airs_time_h=mean_airs(airs_time[keep_airs])[full],
        fgs1_time_h=mean_fgs1(fgs1_time[keep_fgs1])[full],
        width_h=float(edges[1] - edges[0]),
        airs=airs_binned / level,
        airs_white=airs_binned[:, lit].sum(axis=1) / white_level,
        fgs1=mean_fgs1(fgs1[keep_fgs1])[full] / fgs1_level,
        white_share=np.where(lit, level, 0.0) / level[lit].sum(),
        lit=lit,
        columns=int(np.isfinite(curves.airs_e).any(axis=0).sum()),
        electrons=np.append(
            has_fgs1 * fgs1_level * fgs1_time.size / bins,
            np.where(lit, level, 0.0) * airs_time.size / bins,
        ),
        airs_noise=airs_noise / white_level * np.sqrt(bins / airs_time.size),
        fgs1_noise=fgs1_noise / fgs1_level * np.sqrt(bins / fgs1_time.size)
        if has_fgs1
        else np.inf,
        fine_time_h=fine[0],
        fine_fgs1=fine[1] / fgs1_level,
        fine_centroid=fine[2],
    )


def _usable(
    channel: str, curves: LightCurves, edge: int
) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, "N ..."], Int[np.ndarray, " N"]]:
    """Time, flux and rows of the exposures with flux, in order of time, without the edges."""
    if channel == "FGS1":
        time, flux = curves.fgs1_time_h, curves.fgs1_e.astype(np.float64)
        good = np.isfinite(flux) & (flux > 0.0)
    else:
        time, flux = curves.airs_time_h, curves.airs_e.astype(np.float64)
        count = np.isfinite(flux).sum(axis=1)
        good = count > 0.5 * np.isfinite(flux).any(axis=0).sum()
        good &= np.nansum(flux, axis=1) > 0.0
    rows = np.flatnonzero(good & np.isfinite(time))
    rows = rows[np.argsort(time[rows], kind="stable")]
    _refuse_dark(channel, curves, rows.size > 0)
    _refuse_few(channel, curves, rows.size, edge)
    rows = rows[edge : rows.size - edge]
    _refuse_twice(channel, curves, time[rows])
    return time[rows], flux[rows], rows


def _mended(
    airs: Float64[np.ndarray, "N 282"],
) -> tuple[Float64[np.ndarray, "N 282"], Float64[np.ndarray, " 282"], Bool[np.ndarray, " 282"]]:
    """Give single missing values the course of the whole spectrum.

    Returns:
        The flux, its median at each wavelength, and whether the wavelength has any; else it is 1.
    """
    missing = ~np.isfinite(airs)
    zero = np.where(missing, 0.0, airs)
    level = np.median(zero, axis=0)
    lit = (missing.mean(axis=0) < _MISSING) & (level > 0.0)
    if missing.any():
        usual = np.where(lit, level, 0.0)
        course = (zero * lit).sum(axis=1) / np.where(missing, 0.0, usual).sum(axis=1)
        zero = np.where(missing, usual * course[:, None], airs)
        level = np.median(zero, axis=0)
    return np.where(lit, zero, 1.0), np.where(lit, level, 1.0), lit


def _refuse_dark(channel: str, curves: LightCurves, has_flux: bool) -> None:
    if not has_flux:
        raise DataError(
            f"planet {curves.planet_id}, visit {curves.visit}, {channel}: the light curve holds "
            "no positive flux, expected electrons per exposure. Check the calibration of this "
            "visit or leave it out."
        )


def _refuse_few(channel: str, curves: LightCurves, count: int, edge: int) -> None:
    fewest = MINIMUM_BINS + 2 * edge
    if count < fewest:
        raise DataError(
            f"planet {curves.planet_id}, visit {curves.visit}, {channel}: exposures with flux: "
            f"{count}, at least {fewest} are needed. Calibrate the whole visit, or leave it out."
        )


def _refuse_gaps(curves: LightCurves, has_series: bool) -> None:
    if not has_series:
        raise DataError(
            f"planet {curves.planet_id}, visit {curves.visit}, AIRS-CH0: every wavelength lacks "
            f"{100.0 * _MISSING:.0f} % of its exposures or more, or holds no positive flux; "
            "expected electrons per exposure. Leave out the exposures with gaps, or this visit."
        )


def _refuse_twice(channel: str, curves: LightCurves, time_h: Float64[np.ndarray, " N"]) -> None:
    again = np.flatnonzero(np.diff(time_h) == 0.0)
    if again.size:
        raise DataError(
            f"planet {curves.planet_id}, visit {curves.visit}, {channel}: {again.size} exposures "
            f"have the time of another, the first at {time_h[again[0]]:.6g} h, expected one "
            "exposure per time. Mend the times or leave this visit out."
        )


def _refuse_strays(curves: LightCurves, time_h: Float64[np.ndarray, " N"]) -> None:
    span, exposed = time_h[-1] - time_h[0], time_h.size * float(np.median(np.diff(time_h)))
    if span > _EMPTY * exposed:
        raise DataError(
            f"planet {curves.planet_id}, visit {curves.visit}, AIRS-CH0: {time_h.size} exposures "
            f"of {exposed:.3g} h together lie within {span:.3g} h, so nearly all of the visit is "
            "a gap. Mend the times [h], or give each transit a visit of its own."
        )


def _refuse_constant(channel: str, curves: LightCurves, noise: float) -> None:
    if noise == 0.0:
        raise DataError(
            f"planet {curves.planet_id}, visit {curves.visit}, {channel}: the light curve holds "
            "no noise, so most of its values are equal; expected measured electrons per "
            "exposure. Check the calibration of this visit or leave it out."
        )


def _edges(
    airs_time: Float64[np.ndarray, " T"], fgs1_time: Float64[np.ndarray, " S"], bin_s: float
) -> Float64[np.ndarray, " E"]:
    """Bin edges: a whole number of AIRS-CH0 exposures wide, beginning with one."""
    cadence = float(np.median(np.diff(airs_time)))
    fgs1_cadence = float(np.median(np.diff(fgs1_time)))
    width = cadence * max(1, round(max(bin_s / 3600.0, fgs1_cadence) / cadence))
    count = int(np.ceil((airs_time[-1] + 0.5 * cadence - airs_time[0]) / width))
    return airs_time[0] - 0.5 * cadence + width * np.arange(count + 1)


def _full(index: Int[np.ndarray, " N"], bins: int) -> Bool[np.ndarray, " bins"]:
    inside = index[(index >= 0) & (index < bins)]
    counts = np.bincount(inside, minlength=bins)
    usual = np.median(counts[counts > 0]) if inside.size else 1.0
    return counts >= 0.5 * usual


class _means:
    """Means over the exposures of each bin, along the first axis; NaN in an empty bin."""

    def __init__(self, index: Int[np.ndarray, " N"], bins: int) -> None:
        self.first = np.searchsorted(index, np.arange(bins + 1))
        self.counts = np.diff(self.first)

    def __call__(self, values: Float64[np.ndarray, "N ..."]) -> Float64[np.ndarray, "B ..."]:
        filled = self.counts > 0
        means = np.full((filled.size, *values.shape[1:]), np.nan)
        inside = values[: self.first[-1]]
        sums = np.add.reduceat(inside, self.first[:-1][filled], axis=0)
        means[filled] = sums / self.counts[filled].reshape(-1, *[1] * (values.ndim - 1))
        return means


def _steady(flux: Float64[np.ndarray, " N"], bins: int, limit: float) -> Bool[np.ndarray, " N"]:
    """False for exposures that stand out from their neighbours in time."""
    if flux.size < _CROWD * bins:
        return ~_alone(flux, limit)
    residual = flux - median_filter(flux, size=_CROWD, mode="mirror")
    return np.abs(residual) <= limit * difference_noise(flux)


def _alone(flux: Float64[np.ndarray, " N"], limit: float) -> Bool[np.ndarray, " N"]:
    """True where an exposure lies beyond all but one of the six nearest ones.

    By more than `limit` times the noise and than those differ: where a bin is about one
    exposure, a transit of few exposures would look like spikes to a running median. At either
    end it must lie beyond all six, for two exposures may be all that is outside the transit.
    """
    every = np.arange(flux.size)
    first = np.clip(every - _NEAR // 2, 0, flux.size - _NEAR)
    near = sliding_window_view(flux, _NEAR)[first]
    others = near[first[:, None] + np.arange(_NEAR) != every[:, None]]
    others = np.sort(others.reshape(flux.size, _NEAR - 1), axis=1)
    inner = (first == every - _NEAR // 2).astype(np.int64)
    low, high = others[every, inner], others[every, _NEAR - 2 - inner]
    margin = limit * difference_noise(flux) + high - low
    return (flux > high + margin) | (flux < low - margin)


def _without_spikes(
    flux: Float64[np.ndarray, "N W"], index: Int[np.ndarray, " N"], mean: _means, limit: float
) -> Float64[np.ndarray, "N W"]:
    """Replace single values far from the mean of their bin by that mean."""
    if flux.shape[0] < _CROWD * mean.counts.size:
        return flux
    residual = flux - mean(flux)[index]
    scale = np.sqrt(np.mean(residual**2, axis=0))
    return np.where(np.abs(residual) > limit * scale, flux - residual, flux)


def difference_noise(series: Float64[np.ndarray, "*S T"]) -> Float64[np.ndarray, "*S"]:
    """White noise from second differences along the last axis, blind to slopes and outliers."""
    second = np.diff(series, n=2)
    return np.asarray(MAD_TO_SIGMA * np.median(np.abs(second), axis=-1) / np.sqrt(6.0))


def _fine(
    curves: LightCurves, rows: Int[np.ndarray, " N"], most: int
) -> tuple[Float64[np.ndarray, " L"], Float64[np.ndarray, " L"], Float64[np.ndarray, "L 2"]]:
    """FGS1 in at most so many bins of equally many of the exposures in `rows`."""
    count = min(most, rows.size)
    if not count:
        return np.zeros(0), np.zeros(0), np.zeros((0, 2))
    first = np.arange(count) * rows.size // count
    size = np.diff(np.append(first, rows.size))

    def mean(values: Float[np.ndarray, "S ..."]) -> Float64[np.ndarray, "L ..."]:
        sums = np.add.reduceat(values[rows].astype(np.float64), first, axis=0)
        return sums / size.reshape(-1, *[1] * (values.ndim - 1))

    centroid = mean(curves.fgs1_centroid)
    return mean(curves.fgs1_time_h), mean(curves.fgs1_e), centroid - np.median(centroid, axis=0)
