"""The compiled loops of the fused chain: one pass over the counts of each pixel.

Plain loops over plain arrays, compiled by numba and kept on disk; single-threaded, so run one
process a core. The loops vectorise as they stand: no branch in the calibration, and hits are
counted first and replaced only in the few blocks that have one.
"""

# ruff: noqa: ANN001, ANN202

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float64, Int
from numba.core import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from spectramind.calibrate.cosmic import MAD_TO_SIGMA

_BLOCK = 2048  # read pairs calibrated at a time; keeps the work in the level-2 cache


@intrinsic
@no_type_check
def _counts_at(typingctx, address):  # noqa: ARG001 - numba's protocol
    """Pointer to the counts of a pixel from the address of the first one."""
    pointer = types.CPointer(types.uint16)

    def codegen(context, builder, signature, arguments):  # noqa: ARG001 - numba's protocol
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(address), codegen


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def _charge(count, scale, offset, c):
    """Linear charge of one read [e-]."""
    x = count * scale + offset
    return c[0] + x * (c[1] + x * (c[2] + x * (c[3] + x * (c[4] + x * c[5]))))


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def survey(
    address: Int[np.ndarray, " P"],
    pairs: int,
    sample: Int[np.ndarray, " N"],
    scale: float,
    offset: float,
    linear: Float64[np.ndarray, "P 6"],
    dark: Float64[np.ndarray, " P"],
    read_s: tuple[float, float],
    inverse_flat: Float64[np.ndarray, " P"],
    floor: float,
) -> Float64[np.ndarray, "4 P"]:
    """First read, second read, signal and noise of each pixel: see `Survey`."""
    found = np.zeros((4, address.size))
    signal = np.empty(sample.size)
    jump = np.empty(sample.size)
    for p in range(address.size):
        counts = carray(_counts_at(address[p]), 2 * pairs)
        c = linear[p]
        dark_e = dark[p] * (read_s[1] - read_s[0])
        for i in range(sample.size):
            k = sample[i]
            first = _charge(counts[2 * k], scale, offset, c)
            second = _charge(counts[2 * k + 1], scale, offset, c)
            signal[i] = (second - first - dark_e) * inverse_flat[p]
            found[0, p] += first
            found[1, p] += second
            k = min(k + 1, pairs - 1)
            first = _charge(counts[2 * k], scale, offset, c)
            second = _charge(counts[2 * k + 1], scale, offset, c)
            jump[i] = abs((second - first - dark_e) * inverse_flat[p] - signal[i])
        found[0, p] = found[0, p] / sample.size - dark[p] * read_s[0]
        found[1, p] = found[1, p] / sample.size - dark[p] * read_s[1]
        found[2, p] = np.median(signal)
        found[3, p] = max(MAD_TO_SIGMA / np.sqrt(2.0) * np.median(jump), floor)
    return found


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def _calibrate_block(
    counts,
    series,
    scale,
    offset,
    c,
    dark_e,
    inverse_flat,
):
    """Calibrated differences of read pairs into `series`; returns the largest count."""
    c0, c1, c2, c3, c4, c5 = c
    largest = np.uint16(0)
    for k in range(counts.size // 2):
        low, high = counts[2 * k], counts[2 * k + 1]
        x, y = low * scale + offset, high * scale + offset
        first = c0 + x * (c1 + x * (c2 + x * (c3 + x * (c4 + x * c5))))
        second = c0 + y * (c1 + y * (c2 + y * (c3 + y * (c4 + y * c5))))
        series[k] = (second - first - dark_e) * inverse_flat
        largest = max(largest, max(low, high))
    return largest


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def _reject_block(series, count, threshold):
    """`cosmic.reject` on series[2 : 2 + count], in place; two neighbours stand on each side."""
    found = 0
    for k in range(count):  # no index below zero: else numba's wrap-around keeps it scalar
        level = max(min(series[k], series[k + 1]), min(series[k + 3], series[k + 4]))
        found += series[k + 2] - level > threshold
    if found == 0:
        return 0
    second, first = series[0], series[1]  # the values before, as they were
    for k in range(2, count + 2):
        value = series[k]
        before, after = min(second, first), min(series[k + 1], series[k + 2])
        if value - max(before, after) > threshold:
            series[k] = 0.5 * (before + after)
        second, first = first, value
    return found


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def _add(total, weight, series):
    for k in range(total.size):
        total[k] += weight * series[k]


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def extract(
    address: Int[np.ndarray, " P"],
    pairs: int,
    scale: float,
    offset: float,
    linear: Float64[np.ndarray, "P 6"],
    dark_e: Float64[np.ndarray, " P"],
    inverse_flat: Float64[np.ndarray, " P"],
    threshold: Float64[np.ndarray, " P"],
    places: Int[np.ndarray, " P"],
    first_entry: Int[np.ndarray, " Q"],
    sum_index: Int[np.ndarray, " E"],
    weight: Float64[np.ndarray, " E"],
    sums: Float64[np.ndarray, "S T"],
    hits: Int[np.ndarray, " P"],
    largest: Int[np.ndarray, " P"],
) -> None:
    """Calibrate each pixel block by block and add it to its sums."""
    series = np.empty(_BLOCK + 4)
    for start in range(0, pairs, _BLOCK):
        stop = min(start + _BLOCK, pairs)
        low, high = max(start - 2, 0), min(stop + 2, pairs)
        for p in range(address.size):
            entries = range(first_entry[places[p]], first_entry[places[p] + 1])
            if len(entries) == 0:
                continue
            series[:2] = np.inf
            series[high - start + 2 : stop - start + 4] = np.inf
            counts = carray(_counts_at(address[p]), 2 * pairs)[2 * low : 2 * high]
            top = _calibrate_block(
                counts, series[low - start + 2 :],
                scale, offset, linear[p], dark_e[p], inverse_flat[p],
            )  # fmt: skip
            largest[p] = max(largest[p], np.int64(top))
            hits[p] += _reject_block(series, stop - start, threshold[p])
            for e in entries:
                _add(sums[sum_index[e], start:stop], weight[e], series[2:])
