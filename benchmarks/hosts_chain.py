"""The hosts' notebook chain, rewritten from its description: a rival of the benchmark.

Numpy float64 as there: the whole signal as a matrix of frames, a masked array, one `poly1d` a
pixel, the dark tiled to all frames, then pairs, flat and the sum over the detector. No foreground
and no cosmic rays. The `default` form is the one that the hosts ran: without the linearity, and
the flat only after 30 pairs of AIRS-CH0 and 360 of FGS1 have been summed. Run as a script it
calibrates one visit in a fresh process and prints a line of JSON: seconds, peak memory.

Source: the calibration notebook of the Ariel Data Challenge 2024, in its order; the gain divides.
"""

import json
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from spectramind.archive.layout import Archive, Split, open_archive
from spectramind.calibrate.masks import hot_pixels
from spectramind.instrument import AIRS, FGS1, SCORED_COLUMNS, Channel

Form = Literal["full", "default"]
_BINNED = {AIRS: 30, FGS1: 360}  # pairs


def calibrate_channel(
    archive: Archive, split: Split, planet_id: int, visit: int, channel: Channel, *, form: Form
) -> np.ndarray:
    """Light curves (T, curves) of one channel, as the notebook makes them.

    [e-/exposure] in the full form, [e-/bin] in the default one.
    """
    path = archive.signal_file(split, planet_id, visit, channel)
    maps = archive.detector_maps(split, planet_id, visit, channel)
    gain, offset_e = archive.adc(planet_id, channel)
    signal = pl.read_parquet(path).to_numpy().astype(np.float64)
    signal = signal.reshape(-1, *channel.shape) / gain + offset_e
    linear_corr = maps.linear_corr
    if channel == AIRS:
        signal = signal[:, :, SCORED_COLUMNS]
        linear_corr = linear_corr[:, :, SCORED_COLUMNS]
    crop = (slice(None), SCORED_COLUMNS) if channel == AIRS else (slice(None), slice(None))
    dead, dark, flat = maps.dead[crop], maps.dark[crop], maps.flat[crop]
    mask = dead | hot_pixels(maps.dark, maps.dead, 5.0)[crop]
    signal = np.ma.array(signal, mask=np.tile(mask, (signal.shape[0], 1, 1)))
    if form == "full":
        for row in range(signal.shape[1]):
            for column in range(signal.shape[2]):
                polynomial = np.poly1d(linear_corr[::-1, row, column])
                signal[:, row, column] = polynomial(signal[:, row, column])
    read_s = np.tile(archive.read_s(channel), signal.shape[0] // 2)
    signal -= np.tile(dark, (signal.shape[0], 1, 1)) * read_s[:, None, None]
    pairs = signal[1::2] - signal[::2]
    if form == "default":
        bins = len(pairs) // _BINNED[channel]
        pairs = pairs[: bins * _BINNED[channel]].reshape(bins, -1, *pairs.shape[1:]).sum(1)
    pairs = np.ma.array(pairs, mask=np.tile(mask, (pairs.shape[0], 1, 1)))
    pairs /= np.tile(np.ma.array(flat, mask=mask), (pairs.shape[0], 1, 1))
    return np.ma.getdata(pairs.sum(1) if channel == AIRS else pairs.sum((1, 2))[:, None])


def main() -> None:
    """Calibrate the visit named on the command line and print time and memory."""
    import resource

    root, split, planet_id, visit, form = sys.argv[1:]
    archive = open_archive(Path(root))
    start = time.perf_counter()
    for channel in (AIRS, FGS1):
        calibrate_channel(archive, split, int(planet_id), int(visit), channel, form=form)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "peak_gb": peak_gb}))


if __name__ == "__main__":
    main()
