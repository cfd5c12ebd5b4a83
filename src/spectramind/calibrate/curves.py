"""What one channel of one visit becomes, and what both chains decide before they start."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from spectramind.calibrate.background import Aperture
from spectramind.calibrate.masks import hot_pixels, inpaint
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.errors import DataError
from spectramind.observation import DetectorMaps, Frames

FULL_SCALE = np.iinfo(np.uint16).max  # of the converter [counts]
_BRIGHTEST = 0.03  # share of the pixels on which the two reads of a pair are compared


@dataclass(frozen=True, eq=False)
class Survey:
    """A quick look at each usable pixel on a few hundred read pairs; 0 elsewhere."""

    first_e: Float64[np.ndarray, "Y X"]  # mean linearised first read, dark removed [e-]
    second_e: Float64[np.ndarray, "Y X"]  # the same for the second read [e-]
    signal_e: Float64[np.ndarray, "Y X"]  # median calibrated signal [e-/exposure]
    noise_e: Float64[np.ndarray, "Y X"]  # of one calibrated value [e-/exposure]


@dataclass(frozen=True, eq=False)
class ChannelCurves:
    """Light curves of one channel, AIRS-CH0 columns still in detector order."""

    flux_e: Float64[np.ndarray, "C T"]  # [e-/exposure]
    centroid: Float64[np.ndarray, "T K"]  # row (AIRS-CH0), row and column (FGS1) [pixel]
    foreground_e: Float64[np.ndarray, " C"]  # mean level removed from each pixel [e-/exposure]
    read_ratio: float  # second over first read, before their difference is taken
    pixels: int  # summed or measuring the foreground
    masked: int  # of them dead, or hot where hot pixels are masked
    hot: int  # hot pixels of the detector, masked or not
    cosmic_rays: int  # values replaced
    full_scale: int  # pixels with a read at the end of the converter's range


def label(frames: Frames) -> str:
    """Planet, visit and channel for messages."""
    return f"planet {frames.planet_id}, visit {frames.visit}, {frames.channel.name}"


def usable_pixels(
    frames: Frames, maps: DetectorMaps, config: CalibrationConfig
) -> tuple[Bool[np.ndarray, "Y X"], int]:
    """Pixels read that are not dead nor, where these are masked, hot; and how many are hot."""
    hot = hot_pixels(maps.dark, maps.dead, config.hot_sigma)
    usable = np.zeros(frames.channel.shape, dtype=bool)
    usable.flat[frames.pixels] = True
    usable &= ~maps.dead
    if config.hot_mask:
        usable &= ~hot
    return usable, int(hot.sum())


def read_ratio(survey: Survey, usable: Bool[np.ndarray, "Y X"]) -> float:
    """Flux of the second reads over that of the first, brightest 3 % of the pixels.

    A pixel collects light at a constant rate after the reset, so the ratio is that of the two
    accumulation times: 46 for AIRS-CH0 and 2 for FGS1. A wrong gain, offset or dark shows here.
    """
    bright = usable & (survey.second_e >= np.quantile(survey.second_e[usable], 1.0 - _BRIGHTEST))
    return float(survey.second_e[bright].sum() / survey.first_e[bright].sum())


def trace_gains(
    survey: Survey, usable: Bool[np.ndarray, "Y X"], aperture: Aperture, where: str
) -> Float64[np.ndarray, " C"]:
    """Factor on each curve that makes up for pixels of weight zero: whole trace / usable part.

    The trace is the median image with the missing pixels filled from their neighbours.

    Raises:
        DataError: If a curve has no usable light left.
    """
    wanted = aperture.flux >= 0
    image = inpaint(survey.signal_e, usable, wanted, across=aperture.across, where=where)
    curve = aperture.flux[wanted]
    whole = np.bincount(curve, image[wanted], aperture.curves)
    kept = np.bincount(curve, (image * usable)[wanted], aperture.curves)
    if np.any(kept <= 0.0):
        raise DataError(
            f"{where}: curve {int(np.argmin(kept))} has no usable light left. Set "
            "calibration.dead_pixels=inpaint, or fetch the files again."
        )
    return whole / kept
