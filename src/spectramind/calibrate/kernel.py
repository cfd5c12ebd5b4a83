"""The compiled loops of the fused chain: one pass over the counts of each pixel.

Plain loops over plain arrays, compiled by numba and kept on disk; single-threaded, so run one
process per core. The loops vectorise as they stand: no branch in the calibration, and hits are
counted first and replaced only in the few blocks that have one.

The charge of a read is a polynomial of its count, `charge` (P, 6), ascending: the converter is
folded into the linearity, and the constant cancels in the difference of a pair.
"""

# ruff: noqa: ANN001, ANN202

from typing import no_type_check

import numpy as np
from jaxtyping import Float64, Int
from numba.core import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from spectramind.compiled import kernel
from spectramind.robust import MAD_TO_SIGMA

_SPAN = 8192  # read pairs after which the next pixel comes: its sums stay in the level-2 cache
_BLOCK = 512  # read pairs calibrated at a time; keeps the work in the level-1 cache
_kernel = kernel(__name__, error_model="numpy", fastmath={"contract"})


@_kernel
@no_type_check
def address_of(counts) -> int:
    """Address of the first count; ten times as quick as numpy's `ctypes.data`."""
    return counts.ctypes.data


def _pointer(kind: types.Integer):
    """A function for kernels: pointer to numbers of a kind from the address of the first one."""

    @intrinsic
    @no_type_check
    def at(typingctx, address):  # noqa: ARG001 - numba's protocol
        pointer = types.CPointer(kind)

        def codegen(context, builder, signature, arguments):  # noqa: ARG001 - numba's protocol
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(address), codegen

    return at


_counts_at = _pointer(types.uint16)
_pairs_at = _pointer(types.uint32)  # both reads of a pair in one word, the first in the low half


@_kernel
@no_type_check
def _charge(count, c):
    """Linear charge of one read [e-]."""
    return c[0] + count * (c[1] + count * (c[2] + count * (c[3] + count * (c[4] + count * c[5]))))


@_kernel
@no_type_check
def _median(values):
    """Median by selection, like `np.median` but in place and without branches on the values."""
    middle = values.size // 2
    low, high = 0, values.size - 1
    while low < high:
        centre = (low + high) // 2
        values[centre], values[high] = values[high], values[centre]
        pivot, border = values[high], low
        for k in range(low, high):
            value = values[k]
            values[k], values[border] = values[border], value
            border += np.int64(value < pivot)
        values[high], values[border] = values[border], pivot
        if border <= middle:
            low = border + (border < middle)
        if border >= middle:
            high = border - (border > middle)
    if values.size % 2:
        return values[middle]
    below = values[0]
    for k in range(1, middle):
        below = max(below, values[k])
    return 0.5 * (below + values[middle])


@_kernel
@no_type_check
def survey(
    address: Int[np.ndarray, " P"],
    pairs: int,
    sample: Int[np.ndarray, " N"],
    charge: Float64[np.ndarray, "P 6"],
    dark: Float64[np.ndarray, " P"],
    read_s: tuple[float, float],
    inverse_flat: Float64[np.ndarray, " P"],
    floor: float,
) -> Float64[np.ndarray, "4 P"]:
    """First read, second read, signal and noise of each pixel: see `Survey`."""
    found = np.zeros((4, address.size))
    reads = np.empty((4, sample.size), np.uint16)
    signal, jump = np.empty(sample.size), np.empty(sample.size)
    for p in range(address.size):
        counts = carray(_counts_at(address[p]), 2 * pairs)
        for i in range(sample.size):  # nothing but loads, so that many wait for memory at once
            k, following = 2 * sample[i], 2 * min(sample[i] + 1, pairs - 1)
            reads[0, i], reads[1, i] = counts[k], counts[k + 1]
            reads[2, i], reads[3, i] = counts[following], counts[following + 1]
        c = charge[p]
        dark_e = dark[p] * (read_s[1] - read_s[0])
        for i in range(sample.size):
            first, second = _charge(reads[0, i], c), _charge(reads[1, i], c)
            signal[i] = (second - first - dark_e) * inverse_flat[p]
            found[0, p] += first
            found[1, p] += second
            later = _charge(reads[3, i], c) - _charge(reads[2, i], c)
            jump[i] = abs((later - dark_e) * inverse_flat[p] - signal[i])
        found[0, p] = found[0, p] / sample.size - dark[p] * read_s[0]
        found[1, p] = found[1, p] / sample.size - dark[p] * read_s[1]
        found[2, p] = _median(signal)
        found[3, p] = max(MAD_TO_SIGMA / np.sqrt(2.0) * _median(jump), floor)
    return found


@_kernel
@no_type_check
def _calibrate_block(pairs, series, c, dark_e):
    """Calibrated differences of read pairs, two counts in a word, into `series`."""
    _, c1, c2, c3, c4, c5 = c
    for k in range(pairs.size):
        x = np.float64(np.int32(pairs[k] & np.uint32(0xFFFF)))
        y = np.float64(np.int32(pairs[k] >> np.uint32(16)))
        first = x * (c1 + x * (c2 + x * (c3 + x * (c4 + x * c5))))
        second = y * (c1 + y * (c2 + y * (c3 + y * (c4 + y * c5))))
        series[k] = second - first - dark_e


@_kernel
@no_type_check
def _largest(counts):
    largest = np.uint16(0)
    for k in range(counts.size):
        largest = max(largest, counts[k])
    return np.int64(largest)


@_kernel
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


@_kernel
@no_type_check
def _add(total, weight, series):
    for k in range(total.size):
        total[k] += weight * series[k]


@_kernel
@no_type_check
def extract(
    address: Int[np.ndarray, " P"],
    pairs: int,
    charge: Float64[np.ndarray, "P 6"],
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
    for span in range(0, pairs, _SPAN):
        for p in range(address.size):
            entries = range(first_entry[places[p]], first_entry[places[p] + 1])
            if len(entries) == 0:
                continue
            c, dark = charge[p] * inverse_flat[p], dark_e[p] * inverse_flat[p]
            counts = carray(_counts_at(address[p]), 2 * pairs)
            words = carray(_pairs_at(address[p]), pairs)
            for start in range(span, min(span + _SPAN, pairs), _BLOCK):
                stop = min(start + _BLOCK, pairs)
                low, high = max(start - 2, 0), min(stop + 2, pairs)
                series[:2] = np.inf
                series[high - start + 2 : stop - start + 4] = np.inf
                _calibrate_block(words[low:high], series[low - start + 2 :], c, dark)
                largest[p] = max(largest[p], _largest(counts[2 * start : 2 * stop]))
                hits[p] += _reject_block(series, stop - start, threshold[p])
                for e in entries:
                    _add(sums[sum_index[e], start:stop], weight[e], series[2:])


@_kernel
@no_type_check
def remove_foreground(
    sums: Float64[np.ndarray, "S T"],
    pixels: Float64[np.ndarray, " C"],
    places: Float64[np.ndarray, "K C"],
    half: int,
) -> None:
    """Smooth the foreground of each curve and take it out of flux and first moments, in place.

    Args:
        sums: C fluxes, C foregrounds of one pixel, K moments; see `Aperture.sums`.
        pixels: Weight of a curve's pixels together.
        places: The same, weighted by their row or column.
        half: Samples on each side in the running mean; see `background.running_mean`.
    """
    curves, length = pixels.size, sums.shape[1]
    total = np.zeros(length + 1)
    for c in range(curves):
        level = sums[curves + c]
        for t in range(length):
            total[t + 1] = total[t] + level[t]
        for t in range(length):
            first, last = max(t - half, 0), min(t + half + 1, length)
            level[t] = (total[last] - total[first]) / (last - first)
        _add(sums[c], -pixels[c], level)
        for k in range(places.shape[0]):
            _add(sums[2 * curves + k], -places[k, c], level)
