"""The readable chain in float64: one step after the other, the specification of the kernel.

It holds a whole cube of calibrated differences and takes its time; use it to check the kernel.

Source: host calibration notebook of the challenge (ADC, linearity, dark, CDS, flat), with the
hosts' later correction of the gain (divide), linearity switched on, and foreground, cosmic rays
and dead pixels after it. The flat is applied to each pixel before any sum.
"""

import numpy as np
from jaxtyping import Bool, Float64, UInt16

from spectramind.calibrate.background import (
    Aperture,
    choose_aperture,
    running_mean,
    smoothing_width,
)
from spectramind.calibrate.cosmic import noise, reject, sampled_pairs
from spectramind.calibrate.curves import (
    FULL_SCALE,
    ChannelCurves,
    Survey,
    label,
    read_ratio,
    trace_gains,
    usable_pixels,
)
from spectramind.calibrate.masks import inpaint
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.observation import DetectorMaps, Frames

Cube = Float64[np.ndarray, "Y X T"]


def to_electrons(
    counts: UInt16[np.ndarray, "X R"], gain: float, offset_e: float
) -> Float64[np.ndarray, "X R"]:
    """Charge of each read: counts / gain + offset [e-]."""
    return counts / gain + offset_e


def linearise(
    measured: Float64[np.ndarray, "X R"], coefficients: Float64[np.ndarray, "6 X"]
) -> Float64[np.ndarray, "X R"]:
    """Polynomial c0 + c1 x + ... + c5 x^5 of each pixel, from measured to linear charge [e-]."""
    return np.polynomial.polynomial.polyval(measured, coefficients[:, :, None], tensor=False)


def pair_reads(
    counts: UInt16[np.ndarray, "X R"],
    frames: Frames,
    maps: DetectorMaps,
    config: CalibrationConfig,
    row: int,
) -> tuple[Float64[np.ndarray, "X T"], Float64[np.ndarray, "X T"]]:
    """Linear, dark-subtracted charge of the first and the second reads of a row [e-]."""
    charge = to_electrons(counts, frames.gain, frames.offset_e) if config.adc else counts * 1.0
    if config.linearity:
        charge = linearise(charge, maps.linear_corr[:, row])
    dark = maps.dark[row, :, None] * config.dark
    return charge[:, 0::2] - dark * frames.read_s[0], charge[:, 1::2] - dark * frames.read_s[1]


def calibrate_channel(
    frames: Frames, maps: DetectorMaps, config: CalibrationConfig
) -> ChannelCurves:
    """Light curves of one channel, step by step.

    Raises:
        DataError: If too few usable pixels are left to fill a dead one, to find the star or to
            measure the foreground.
    """
    usable, hot = usable_pixels(frames, maps, config)
    cube, survey = _differences(frames, maps, config, usable)
    aperture = choose_aperture(frames.channel, config, survey.signal_e, usable, label(frames))
    hits = 0
    if config.cosmic_rays:
        for row in range(len(cube)):
            cube[row], found = reject(cube[row], config.cosmic_sigma * survey.noise_e[row])
            hits += int(found[(aperture.used & usable)[row]].sum())
    gains = np.ones(aperture.curves)
    if config.dead_pixels == "inpaint":
        cube = inpaint(
            cube, usable, aperture.flux >= 0, across=aperture.across, where=label(frames)
        )
    else:
        gains = trace_gains(survey, usable, aperture, label(frames))
        cube = np.where(usable[..., None], cube, 0.0)
    level = _foreground(cube, usable, aperture, frames, config)
    flux, centroid = _sums(cube, usable, aperture, gains, level, config)
    return ChannelCurves(
        flux_e=flux,
        centroid=centroid,
        foreground_e=level.mean(1),
        read_ratio=read_ratio(survey, usable),
        pixels=int(aperture.used.sum()),
        masked=int((aperture.used & ~usable).sum()),
        hot=hot,
        cosmic_rays=hits,
        full_scale=_full_scale(frames, usable & aperture.used),
    )


def _differences(
    frames: Frames,
    maps: DetectorMaps,
    config: CalibrationConfig,
    usable: Bool[np.ndarray, "Y X"],
) -> tuple[Cube, Survey]:
    """Flat-fielded difference of each pair [e-/exposure], and the quick look at it."""
    rows, columns = frames.channel.shape
    cube = np.zeros((rows, columns, frames.time_h.size))
    survey = Survey(*(np.zeros((rows, columns)) for _ in range(4)))
    sample = sampled_pairs(frames.time_h.size)
    step = 1.0 / frames.gain if config.adc else 1.0
    series = dict(zip(frames.pixels.tolist(), frames.reads, strict=True))
    unread = np.zeros(2 * frames.time_h.size, dtype=np.uint16)
    for row in range(rows):
        here = usable[row]
        counts = np.stack([series.get(row * columns + x, unread) for x in range(columns)])
        first, second = pair_reads(counts, frames, maps, config, row)
        flat = np.where(here, maps.flat[row], 1.0) if config.flat else np.ones(columns)
        cube[row, here] = ((second - first) / flat[:, None])[here]
        survey.first_e[row, here] = first[here][:, sample].mean(1)
        survey.second_e[row, here] = second[here][:, sample].mean(1)
        survey.signal_e[row, here] = np.median(cube[row, here][:, sample], axis=1)
        survey.noise_e[row, here] = noise(cube[row, here], step)
    return cube, survey


def _foreground(
    cube: Cube,
    usable: Bool[np.ndarray, "Y X"],
    aperture: Aperture,
    frames: Frames,
    config: CalibrationConfig,
) -> Float64[np.ndarray, "C T"]:
    """Foreground of one pixel for each curve, smoothed in time [e-/exposure]."""
    level = np.zeros((aperture.curves, frames.time_h.size))
    if not config.foreground:
        return level
    for curve in range(aperture.curves):
        inside = usable & (aperture.foreground == curve)
        level[curve] = cube[inside].mean(0)
    return running_mean(level, smoothing_width(frames.time_h, config.foreground_smooth_s))


def _sums(
    cube: Cube,
    usable: Bool[np.ndarray, "Y X"],
    aperture: Aperture,
    gains: Float64[np.ndarray, " C"],
    level: Float64[np.ndarray, "C T"],
    config: CalibrationConfig,
) -> tuple[Float64[np.ndarray, "C T"], Float64[np.ndarray, "T K"]]:
    """Sum over the aperture and flux-weighted mean position, foreground removed."""
    flux = np.zeros_like(level)
    moments = np.zeros((len(aperture.moments), level.shape[1]))
    for curve in range(aperture.curves):
        inside = aperture.flux == curve
        if config.dead_pixels == "zero_weight":
            inside &= usable
        light = gains[curve] * (cube[inside] - level[curve])
        flux[curve] = light.sum(0)
        places = np.nonzero(inside)
        for moment, axis in zip(moments, aperture.moments, strict=True):
            moment += places[axis] @ light
    return flux, (moments / flux.sum(0)).T


def _full_scale(frames: Frames, usable: Bool[np.ndarray, "Y X"]) -> int:
    inside = usable.flat[frames.pixels]
    return sum(
        bool(series.max() == FULL_SCALE)
        for series, kept in zip(frames.reads, inside, strict=True)
        if kept
    )
