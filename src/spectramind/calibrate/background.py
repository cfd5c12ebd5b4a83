"""Where on the detector light is summed and where the foreground is measured."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int

from spectramind.calibrate.settings import CalibrationConfig
from spectramind.errors import DataError
from spectramind.instrument import AIRS, SCORED_COLUMNS, Channel


@dataclass(frozen=True, eq=False)
class Aperture:
    """Light curve to which each pixel belongs, -1 for none.

    AIRS-CH0 has one curve a scored column, in detector order; FGS1 has one.
    """

    curves: int
    flux: Int[np.ndarray, "Y X"]  # curve that sums this pixel
    foreground: Int[np.ndarray, "Y X"]  # curve whose foreground this pixel measures
    across: bool  # fill dead pixels also along the column
    moments: tuple[int, ...]  # axes of the centroid: 0 row, 1 column

    @property
    def sums(self) -> int:
        """Weighted sums of pixels needed: flux and foreground a curve, one moment an axis."""
        return 2 * self.curves + len(self.moments)

    @property
    def used(self) -> Bool[np.ndarray, "Y X"]:
        """Pixels that are summed or measure the foreground."""
        return (self.flux >= 0) | (self.foreground >= 0)


def airs_aperture(rows: tuple[int, int], foreground_rows: int, *, foreground: bool) -> Aperture:
    """Rows of the trace, and the outermost rows on each side for the foreground.

    Source: rows 8:24 and the outer 8 + 8 rows of the 2024 and 2025 winners.
    """
    columns = np.arange(SCORED_COLUMNS.stop - SCORED_COLUMNS.start)
    flux = np.full(AIRS.shape, -1)
    flux[rows[0] : rows[1], SCORED_COLUMNS] = columns
    outer = np.full(AIRS.shape, -1)
    if foreground:
        outer[:foreground_rows, SCORED_COLUMNS] = columns
        outer[-foreground_rows:, SCORED_COLUMNS] = columns
    return Aperture(columns.size, flux, outer, across=False, moments=(0,))


def fgs1_aperture(
    image: Float64[np.ndarray, "Y X"],
    usable: Bool[np.ndarray, "Y X"],
    side: int,
    foreground_pixels: int,
    *,
    foreground: bool,
    where: str,
) -> Aperture:
    """Square around the star, and the pixels farthest from the star for the foreground.

    Which pixels count depends on places, not on brightness, so noise cannot select them.

    Args:
        image: Median signal of each pixel [e-/exposure].
        usable: Pixels that may be trusted.
        side: Side of the square [pixel].
        foreground_pixels: How many pixels measure the foreground.
        foreground: Whether it is measured at all.
        where: Planet, visit and channel for messages.

    Raises:
        DataError: If no star is seen, or too few pixels are left for the foreground.
    """
    centre = star_position(image, usable, where)
    row, column = (_start(c, side, n) for c, n in zip(centre, image.shape, strict=True))
    flux = np.full(image.shape, -1)
    flux[row : row + side, column : column + side] = 0
    outer = np.full(image.shape, -1)
    if foreground:
        free = np.flatnonzero((flux < 0) & usable)
        if free.size < foreground_pixels:
            raise DataError(
                f"{where}: {free.size} usable pixels lie outside the aperture, "
                f"calibration.fgs1_foreground_pixels asks for {foreground_pixels}. Lower it, or "
                "calibration.fgs1_aperture."
            )
        rows, columns = np.unravel_index(free, image.shape)
        distance = np.hypot(rows - centre[0], columns - centre[1])
        farthest = np.argsort(-distance, kind="stable")[:foreground_pixels]
        outer.flat[free[farthest]] = 0
    return Aperture(1, flux, outer, across=True, moments=(0, 1))


def star_position(
    image: Float64[np.ndarray, "Y X"], usable: Bool[np.ndarray, "Y X"], where: str
) -> tuple[float, float]:
    """Flux-weighted mean row and column of the pixels brighter than half the brightest one."""
    level = np.where(usable, image - np.median(image[usable]), 0.0)
    weight = np.where(level > 0.5 * level.max(), level, 0.0)
    if not weight.sum() > 0.0:
        raise DataError(
            f"{where}: no pixel is brighter than the median one, so there is no star to "
            "measure. Fetch the signal file again."
        )
    rows, columns = np.indices(image.shape)
    return (
        float(np.average(rows, weights=weight)),
        float(np.average(columns, weights=weight)),
    )


def _start(centre: float, side: int, size: int) -> int:
    """First pixel of an interval of length `side` around `centre`, kept inside [0, size)."""
    return int(np.clip(round(centre - 0.5 * (side - 1)), 0, size - side))


def running_mean(series: Float64[np.ndarray, "C T"], width: int) -> Float64[np.ndarray, "C T"]:
    """Mean over a window of about `width` samples (made odd), shorter at both ends."""
    half = width // 2
    length = series.shape[1]
    total = np.zeros((series.shape[0], length + 1))
    np.cumsum(series, axis=1, out=total[:, 1:])
    at = np.arange(length)
    first, last = np.maximum(at - half, 0), np.minimum(at + half + 1, length)
    return (total[:, last] - total[:, first]) / (last - first)


def choose_aperture(
    channel: Channel,
    config: CalibrationConfig,
    image: Float64[np.ndarray, "Y X"],
    usable: Bool[np.ndarray, "Y X"],
    where: str,
) -> Aperture:
    """The aperture of a channel: fixed on AIRS-CH0, around the star on FGS1.

    Raises:
        DataError: If FGS1 shows no star, or a curve has no usable foreground pixel.
    """
    if channel == AIRS:
        aperture = airs_aperture(
            config.airs_rows, config.airs_foreground_rows, foreground=config.foreground
        )
    else:
        aperture = fgs1_aperture(
            image,
            usable,
            config.fgs1_aperture,
            config.fgs1_foreground_pixels,
            foreground=config.foreground,
            where=where,
        )
    members = np.bincount(
        aperture.foreground[usable & (aperture.foreground >= 0)], minlength=aperture.curves
    )
    if config.foreground and not members.all():
        raise DataError(
            f"{where}: no usable pixel measures the foreground of light curve "
            f"{int(members.argmin())}. Raise calibration.airs_foreground_rows, or switch "
            "calibration.foreground off."
        )
    return aperture


def smoothing_width(time_h: Float64[np.ndarray, " T"], window_s: float) -> int:
    """Samples in the window of the running mean, at least 1."""
    if time_h.size < 2:
        return 1
    cadence_s = 3600.0 * float(time_h[-1] - time_h[0]) / (time_h.size - 1)
    return max(1, round(window_s / cadence_s))
