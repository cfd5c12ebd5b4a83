"""The chain in plain numpy, as a good engineer writes it in an afternoon: a rival.

All steps of calibrate/reference.py with the same decisions (masks, apertures, noise), float32, no
compiler. Polars reads only the columns used. A group of pixels small enough for the cache is
calibrated in place; cosmic rays are looked for where a value leaves those before it, and only
there is the whole rule asked; apertures, foreground and centroids are matrix products over the
pixels needed. Its light curves equal those of the fused chain within `TOLERANCE`.

Run as a script it calibrates one visit six times in a fresh process and prints a line of JSON: the
least seconds of the last five, peak memory.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt16

from spectramind.archive.layout import Archive, Split, open_archive
from spectramind.calibrate.background import (
    Aperture,
    choose_aperture,
    running_mean,
    smoothing_width,
)
from spectramind.calibrate.chain import read_pixels
from spectramind.calibrate.cosmic import MAD_TO_SIGMA, sampled_pairs
from spectramind.calibrate.curves import label, usable_pixels
from spectramind.calibrate.masks import required_donors
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.instrument import CHANNELS, Channel
from spectramind.observation import DetectorMaps, Frames

TOLERANCE = 1e-5  # largest difference to the fused chain, relative to a light curve's value
_GROUP = 1 << 18  # reads calibrated together: a megabyte in float32
Cube = Float32[np.ndarray, "P T"]  # calibrated differences of the pixels needed


def calibrate_channel(
    archive: Archive,
    split: Split,
    planet_id: int,
    visit: int,
    channel: Channel,
    config: CalibrationConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Light curves (C, T) [e-/exposure] and centroids (K, T) [pixel], columns in detector order.

    As configured by default: all steps, dead pixels filled from their neighbours.
    """
    maps = archive.detector_maps(split, planet_id, visit, channel)
    frames = archive.frames(split, planet_id, visit, channel, read_pixels(channel))
    usable, _ = usable_pixels(frames, maps, config)
    image, noise_e = _survey(frames, maps)
    aperture = choose_aperture(channel, config, image * usable, usable, label(frames))
    fillers = _fillers(usable, aperture, label(frames))
    needed = aperture.used & usable
    for donors in fillers.values():
        needed.flat[list(donors)] = True
    pixels = np.flatnonzero(needed.flat[frames.pixels])
    cube = np.empty((pixels.size + len(fillers), frames.time_h.size), np.float32)
    step = max(1, _GROUP // (2 * frames.time_h.size))
    for first in range(0, pixels.size, step):
        group = pixels[first : first + step]
        counts = np.stack([frames.reads[pixel] for pixel in group])
        _differences(counts, frames, maps, group, cube[first : first + group.size])
    for series, pixel_noise_e in zip(cube, noise_e[pixels], strict=False):
        _reject(series, np.float32(config.cosmic_sigma * pixel_noise_e))
    places = frames.pixels[pixels].tolist()
    row_of = dict(zip(places, cube, strict=False))
    for series, donors in zip(cube[pixels.size :], fillers.values(), strict=True):
        series[:] = sum(np.float32(weight) * row_of[place] for place, weight in donors.items())
    return _sums(cube, np.array([*places, *fillers]), frames, aperture, config)


def _survey(frames: Frames, maps: DetectorMaps) -> tuple[np.ndarray, np.ndarray]:
    """Median signal (Y, X) [e-] and noise (P,) [e-] from the pairs that the fused chain takes."""
    reads = (2 * sampled_pairs(frames.time_h.size)[:, None] + np.arange(4)).ravel()
    counts = np.stack([series[reads] for series in frames.reads])
    pairs = np.empty((len(counts), reads.size // 2), np.float32)
    _differences(counts, frames, maps, np.arange(len(counts)), pairs)
    signal_e, following_e = pairs[:, 0::2], pairs[:, 1::2]
    jump_e = np.median(np.abs(following_e - signal_e), axis=1)
    image = np.zeros(frames.channel.shape)
    image.flat[frames.pixels] = np.median(signal_e, axis=1)
    return image, np.maximum(MAD_TO_SIGMA / np.sqrt(2.0) * jump_e, 1.0 / frames.gain)


def _fillers(
    usable: Bool[np.ndarray, "Y X"], aperture: Aperture, where: str
) -> dict[int, dict[int, float]]:
    """Flat indices of the dead pixels of the apertures, and of what stands in for each."""
    columns, found = usable.shape[1], {}
    for row, column in np.argwhere((aperture.flux >= 0) & ~usable).tolist():
        donors = required_donors(usable, row, column, across=aperture.across, where=where)
        found[row * columns + column] = {y * columns + x: weight for y, x, weight in donors}
    return found


def _differences(
    counts: UInt16[np.ndarray, "N R"],
    frames: Frames,
    maps: DetectorMaps,
    group: Int64[np.ndarray, " N"],
    out: Cube,
) -> None:
    """Calibrated differences of a group of pixels, in place where that can be."""
    places = frames.pixels[group]
    linear = maps.linear_corr.reshape(6, -1)[:, places].astype(np.float32)[:, :, None]
    scale, offset_e = np.float32(1.0 / frames.gain), np.float32(frames.offset_e)
    reads = []
    for k in range(2):
        x = counts[:, k::2].astype(np.float32)
        x *= scale
        x += offset_e
        y = linear[5] * x
        for coefficient in linear[4:0:-1]:
            y += coefficient
            y *= x
        reads.append(y)
    np.subtract(reads[1], reads[0], out=out)
    dark_e = maps.dark.ravel()[places] * (frames.read_s[1] - frames.read_s[0])
    out -= dark_e.astype(np.float32)[:, None]
    out *= (1.0 / maps.flat.ravel()[places]).astype(np.float32)[:, None]


def _reject(series: Float32[np.ndarray, " T"], threshold: np.float32) -> None:
    """`cosmic.reject` in place; the two-sided rule only where a value exceeds those before it."""
    before = np.minimum(series[:-4], series[1:-3])
    at = np.flatnonzero(series[2:-2] - before > threshold)
    if not at.size:
        return
    before = before[at]
    after = np.minimum(series[at + 3], series[at + 4])
    hit = series[at + 2] - np.maximum(before, after) > threshold
    series[at[hit] + 2] = 0.5 * (before + after)[hit]


def _sums(
    cube: Cube,
    places: Int64[np.ndarray, " P"],
    frames: Frames,
    aperture: Aperture,
    config: CalibrationConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Light curves and centroids without the foreground, by one product a curve."""
    flux_of, outer_of = aperture.flux.flat[places], aperture.foreground.flat[places]
    place = np.stack(np.unravel_index(places, frames.channel.shape))[[*aperture.moments]]
    length = frames.time_h.size
    light, level = np.empty((2, aperture.curves, length))
    moments = np.zeros((len(aperture.moments), length))
    width = smoothing_width(frames.time_h, config.foreground_smooth_s)
    for curve in range(aperture.curves):
        inside, outer = np.flatnonzero(flux_of == curve), np.flatnonzero(outer_of == curve)
        weights = np.zeros((2 + len(place), inside.size + outer.size), np.float32)
        weights[0, : inside.size] = 1.0
        weights[1, inside.size :] = 1.0 / outer.size
        weights[2:, : inside.size] = place[:, inside]
        sums = weights @ cube[np.concatenate([inside, outer])]
        level[curve] = running_mean(sums[1:2].astype(np.float64), width)[0]
        light[curve] = sums[0] - inside.size * level[curve]
        moments += sums[2:] - place[:, inside].sum(1)[:, None] * level[curve]
    return light.astype(np.float32), moments / light.sum(0)


def main() -> None:
    """Calibrate the visit named on the command line and print time and memory."""
    import resource

    root, split, planet_id, visit, section = sys.argv[1:]
    archive, config = open_archive(Path(root)), CalibrationConfig(**json.loads(section))
    assert config.dead_pixels == "inpaint"
    seconds = []
    for _ in range(6):  # the first one touches the memory
        start = time.perf_counter()
        for channel in CHANNELS:
            calibrate_channel(archive, split, int(planet_id), int(visit), channel, config)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - start)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": min(seconds[1:]), "peak_gb": peak_gb}))


if __name__ == "__main__":
    main()
