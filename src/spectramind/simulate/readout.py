"""From the charge rate of each pixel to raw counts: one compiled pass over the visit.

Per read pair: shot noise of the first read, shot noise between the reads, reset noise common to
both, cosmic rays, inverse linearity, saturation, read noise, ADC. Each pixel has its own random
stream, so that the result does not depend on the order of the work.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt16, UInt64

from spectramind.compiled import kernel
from spectramind.simulate.generator import normal, poisson, uniform

_CHORD_STEP_E = 1e-4  # [e-]; far below one count
_CHORD_STEPS = 60
_kernel = kernel(__name__, error_model="numpy")
_inlined = kernel(__name__, error_model="numpy", inline="always")

Coefficients = tuple[float, float, float, float, float, float]  # c0..c5, ascending


class PixelPhysics(NamedTuple):
    """What each pixel of one channel does to light; P pixels, M pointing modes."""

    column: Int64[np.ndarray, " P"]  # row of the star and drift arrays that lights the pixel
    weights: Float64[np.ndarray, "P M"]  # response to each pointing mode
    foreground: Float64[np.ndarray, " P"]  # [e-/s]
    dark: Float64[np.ndarray, " P"]  # [e-/s]
    read_noise: Float64[np.ndarray, " P"]  # of one read, merging not counted [e-]
    linear_corr: Float64[np.ndarray, "P 6"]  # measured to linear signal, ascending
    seed: UInt64[np.ndarray, " P"]  # start of the pixel's random stream


class Converter(NamedTuple):
    """Constants of the readout that all pixels share."""

    first_s: float  # charge accumulation time of the first read of a pair [s]
    second_s: float  # of the second read [s]
    merged: float  # read pairs averaged on board
    shot_noise: bool
    reset_noise_e: float  # [e-]
    full_well_e: float  # measured signal at which a pixel saturates; inf for never [e-]
    cosmic_rate_s: float  # hits of one pixel [1/s]
    cosmic_low_e: float  # charge of a hit, log-uniform from here [e-]
    cosmic_high_e: float  # to here [e-]
    gain: float  # [counts/e-]
    offset_e: float  # [e-]


@_inlined
@no_type_check
def linear_signal(measured: float, c: Coefficients) -> float:
    """c0 + c1 m + ... + c5 m^5."""
    m = measured
    return c[0] + m * (c[1] + m * (c[2] + m * (c[3] + m * (c[4] + m * c[5]))))


@_inlined
@no_type_check
def measured_signal(linear: float, c: Coefficients) -> float:
    """Signal that the correction polynomial maps to `linear`, by the chord method.

    The slope c1 stands for the derivative, which is near it, so that no step divides.
    """
    inverse = 1.0 / c[1]
    m = (linear - c[0]) * inverse
    for _ in range(_CHORD_STEPS):
        step = (linear_signal(m, c) - linear) * inverse
        m -= step
        if abs(step) < _CHORD_STEP_E:
            break
    return m


@_inlined
@no_type_check
def _counts(
    charge: float, limit: float, c: Coefficients, noise: float, how: Converter, stream: np.ndarray
) -> np.uint16:
    signal = how.full_well_e if charge >= limit else measured_signal(charge, c)
    if noise > 0.0:
        signal += noise * normal(stream)
    count = (signal - how.offset_e) * how.gain + 0.5  # the cast to an integer rounds down
    return np.uint16(min(max(count, 0.0), 65535.0))


@_inlined
@no_type_check
def _charge(rate: float, how: Converter, stream: np.ndarray) -> tuple[float, float]:
    """Charge at the first read and that gathered from there to the second [e-]."""
    first, between = rate * how.first_s, rate * (how.second_s - how.first_s)
    if how.shot_noise:
        first = poisson(stream, first * how.merged) / how.merged
        between = poisson(stream, between * how.merged) / how.merged
    if how.reset_noise_e > 0.0:
        first += how.reset_noise_e / np.sqrt(how.merged) * normal(stream)
    return first, between


@_kernel
@no_type_check
def _cosmic_charge(how: Converter, stream: np.ndarray) -> tuple[float, float]:
    """Charge of one hit as the first read and the time after it see it [e-]."""
    span = how.cosmic_high_e / how.cosmic_low_e
    charge = how.cosmic_low_e * span ** uniform(stream) / how.merged
    early = uniform(stream) * how.second_s < how.first_s
    return (charge, 0.0) if early else (0.0, charge)


@_kernel
@no_type_check
def _waiting(chance: float, stream: np.ndarray) -> float:
    """Read pairs until the next cosmic-ray hit."""
    return -np.log(uniform(stream)) / chance if chance > 0.0 else np.inf


@_kernel
@no_type_check
def _pixel(
    counts: np.ndarray, star: np.ndarray, drift: np.ndarray, modes: np.ndarray,
    pixels: PixelPhysics, p: int, how: Converter,
) -> int:  # fmt: skip
    stream = np.empty(1, np.uint64)
    stream[0] = pixels.seed[p]
    weights, corr = pixels.weights[p], pixels.linear_corr[p]
    c = (corr[0], corr[1], corr[2], corr[3], corr[4], corr[5])  # no reference counting in calls
    noise = pixels.read_noise[p] / np.sqrt(how.merged)
    limit = linear_signal(how.full_well_e, c) if how.full_well_e < np.inf else np.inf
    chance = how.cosmic_rate_s * how.second_s * how.merged
    wait = _waiting(chance, stream)
    hits = 0
    for t in range(star.shape[0]):
        share = 0.0
        for m in range(weights.shape[0]):
            share += weights[m] * modes[m, t]
        rate = max(share, 0.0) * star[t] + pixels.foreground[p] * drift[t] + pixels.dark[p]
        first, between = _charge(rate, how, stream)
        wait -= 1.0
        while wait < 0.0:
            hits += 1
            early, late = _cosmic_charge(how, stream)
            first += early
            between += late
            wait += _waiting(chance, stream)
        counts[2 * t] = _counts(first, limit, c, noise, how, stream)
        counts[2 * t + 1] = _counts(first + between, limit, c, noise, how, stream)
    return hits


@_kernel
@no_type_check
def _all_pixels(
    counts: np.ndarray, star: np.ndarray, drift: np.ndarray, modes: np.ndarray,
    pixels: PixelPhysics, how: Converter,
) -> int:  # fmt: skip
    hits = 0
    for p in range(counts.shape[0]):
        column = pixels.column[p]
        hits += _pixel(counts[p], star[column], drift[column], modes, pixels, p, how)
    return hits


def expose(
    star_e_s: Float32[np.ndarray, "C T"],
    drift: Float32[np.ndarray, "C T"],
    modes: Float32[np.ndarray, "M T"],
    pixels: PixelPhysics,
    converter: Converter,
) -> tuple[UInt16[np.ndarray, "P R"], int]:
    """Raw counts of a visit, one row per pixel, and the number of cosmic-ray hits.

    Args:
        star_e_s: Star in each column at each read pair, drift included [e-/s].
        drift: Gain of each column at each read pair; it multiplies the foreground as well.
        modes: Pointing modes; pixel light is weights @ modes times the star.
        pixels: Response of each pixel.
        converter: Constants of the readout. With n merged pairs, noise falls by sqrt(n) and a
            hit leaves 1/n of its charge.

    Returns:
        Counts, R = 2 T reads a pixel (first, second, first, ...), and the hits.
    """
    counts = np.empty((len(pixels.column), 2 * star_e_s.shape[1]), np.uint16)
    return counts, int(_all_pixels(counts, star_e_s, drift, modes, pixels, converter))
