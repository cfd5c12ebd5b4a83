"""Random numbers inside compiled code: splitmix64 bits, uniform, normal and Poisson draws.

A stream is one uint64 in an array of length 1; splitmix64 counts it up and mixes the count
(Steele, Lea and Flood 2014), so that streams are cheap, independent and reproducible.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Float64

from spectramind.compiled import kernel

_BLOCKS = 128
_TAIL = 3.442619855899
_AREA = 9.91256303526217e-3
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-52
_INVERSE = 1.0 / np.arange(1.0, 201.0)  # 1 / (count + 1); no draw of mean 50 goes beyond
EXACT_POISSON_BELOW = 50.0  # mean; above it a normal of the same mean and variance is drawn
_kernel = kernel(__name__, error_model="numpy")
_inlined = kernel(__name__, error_model="numpy", inline="always")


def _ziggurat() -> tuple[Float64[np.ndarray, " E"], Float64[np.ndarray, " R"]]:
    """Edges of the 128 blocks of equal area under exp(-x^2/2) and the ratios of neighbours."""
    edge = np.zeros(_BLOCKS + 1)
    density = np.exp(-0.5 * _TAIL**2)
    edge[0], edge[1] = _AREA / density, _TAIL
    for i in range(2, _BLOCKS):
        edge[i] = np.sqrt(-2.0 * np.log(_AREA / edge[i - 1] + density))
        density = np.exp(-0.5 * edge[i] ** 2)
    return edge, edge[1:] / edge[:-1]


_EDGE, _RATIO = _ziggurat()


@_inlined
@no_type_check
def _bits(stream: np.ndarray) -> np.uint64:
    stream[0] += _GOLDEN
    z = stream[0]
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


@_inlined
@no_type_check
def uniform(stream: np.ndarray) -> float:
    """Uniform in (0, 1)."""
    return (np.float64(_bits(stream) >> np.uint64(12)) + 0.5) * _UNIT


@_kernel
@no_type_check
def normal(stream: np.ndarray) -> float:
    """Standard normal by the ziggurat with 128 blocks.

    Source: Marsaglia and Tsang 2000; block constants and layout of Doornik 2005.
    """
    while True:
        bits = _bits(stream)
        block = np.int64(bits & np.uint64(127))
        u = 2.0 * (np.float64(bits >> np.uint64(12)) + 0.5) * _UNIT - 1.0
        if abs(u) < _RATIO[block]:
            return u * _EDGE[block]
        if block == 0:
            return _tail(stream, u)
        x = u * _EDGE[block]
        low = np.exp(-0.5 * (_EDGE[block] ** 2 - x * x))
        high = np.exp(-0.5 * (_EDGE[block + 1] ** 2 - x * x))
        if high + uniform(stream) * (low - high) < 1.0:
            return x


@_kernel
@no_type_check
def _tail(stream: np.ndarray, sign: float) -> float:
    while True:
        x = np.log(uniform(stream)) / _TAIL
        if -2.0 * np.log(uniform(stream)) >= x * x:
            return x - _TAIL if sign < 0.0 else _TAIL - x


@_kernel
@no_type_check
def poisson(stream: np.ndarray, mean: float) -> float:
    """Poisson draw: by inversion up to a mean of 50, a normal (not rounded) above it."""
    if mean > EXACT_POISSON_BELOW:
        return mean + np.sqrt(mean) * normal(stream)
    left = uniform(stream)
    term = np.exp(-mean)
    count = 0
    while left > term and count < _INVERSE.shape[0]:
        left -= term
        term *= mean * _INVERSE[count]
        count += 1
    return float(count)


@_kernel
@no_type_check
def fill(kind: int, seed: np.uint64, values: np.ndarray, mean: float) -> None:
    """Fill an array with draws: kind 0 uniform, 1 normal, 2 Poisson of the given mean."""
    stream = np.empty(1, np.uint64)
    stream[0] = seed
    for i in range(values.shape[0]):
        if kind == 0:
            values[i] = uniform(stream)
        elif kind == 1:
            values[i] = normal(stream)
        else:
            values[i] = poisson(stream, mean)
