"""The two detectors: image of the star, maps of every pixel, and one visit's raw counts."""

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt16
from scipy.special import ndtr

from spectramind.instrument import FGS1, Channel, detector_wavelength_um
from spectramind.simulate.population import SPLITS, Planet, Split, stream
from spectramind.simulate.readout import Converter, PixelPhysics, expose
from spectramind.simulate.scene import ChannelScene
from spectramind.simulate.settings import DetectorConfig, Effects, ImageConfig

_SHIFT = 0.05  # step of the numerical derivatives of the image [pixel, or relative width]


@dataclass(frozen=True, eq=False)
class Pixels:
    """True maps of one channel, as its calibration files give them."""

    dark: Float64[np.ndarray, "Y X"]  # [e-/s]
    dead: Bool[np.ndarray, "Y X"]
    flat: Float64[np.ndarray, "Y X"]
    read: Float64[np.ndarray, "Y X"]  # [e-]
    linear_corr: Float64[np.ndarray, "6 Y X"]


def draw_pixels(
    seed: int, split: Split, channel: Channel, effects: Effects, config: DetectorConfig
) -> Pixels:
    """Detector maps that all planets of a split share; an effect that is off is exact."""
    shape = channel.shape

    def rng(name: str) -> np.random.Generator:
        word = zlib.crc32(f"{channel.name} {name}".encode())
        return np.random.default_rng([seed, SPLITS.index(split), word])

    dark = config.dark_e_s * np.exp(0.3 * rng("dark").standard_normal(shape)) * effects.dark
    heat = rng("hot")
    hot = heat.random(shape) < config.hot_share
    low, high = config.hot_dark_e_s
    hot_dark = low * (high / low) ** heat.random(shape)
    dark = np.where(hot & effects.hot_pixels, hot_dark, dark)
    dead = (rng("dead").random(shape) < config.dead_share) & effects.dead_pixels
    flat = config.flat_mean + config.flat_scatter * rng("flat").standard_normal(shape)
    flat = np.where(dead, 0.02 * rng("dead flat").random(shape), flat if effects.flat else 1.0)
    reading = rng("read")
    read = config.read_noise_e * np.exp(0.04 * reading.standard_normal(shape))
    noisy = reading.random(shape) < config.noisy_share
    read *= np.where(noisy, 1.0 + 2.0 * reading.random(shape), 1.0) * effects.read_noise
    return Pixels(dark, dead, flat, read, _linear_corr(rng("linearity"), shape, effects, config))


def _linear_corr(
    rng: np.random.Generator, shape: tuple[int, int], effects: Effects, config: DetectorConfig
) -> Float64[np.ndarray, "6 Y X"]:
    """Coefficients that turn a measured signal into the linear one, ascending.

    Source: medians and pixel-to-pixel spread of the public sample visit, rounded.
    """
    corr = np.zeros((6, *shape))
    corr[1] = 1.0
    if not effects.linearity:
        return corr
    cubic = config.linearity_cubic * (1.0 + 0.1 * rng.standard_normal(shape))
    corr[0] = 0.2 + 0.1 * rng.standard_normal(shape)
    corr[1] += config.linearity_scatter * rng.standard_normal(shape)
    corr[2] = 5e-8 * rng.standard_normal(shape)
    corr[3], corr[4], corr[5] = cubic, -5.0e-6 * cubic, 1.1e-11 * cubic
    return corr


def image_weights(channel: Channel, config: DetectorConfig) -> Float64[np.ndarray, "6 Y X"]:
    """Share of the light in each pixel and its derivatives by the pointing modes.

    Modes 1, y, x, y^2/2, x^2/2, relative width. AIRS is an image in rows only (each column of
    it sums to 1); moves along the dispersion are left out.
    """
    h = _SHIFT
    at = {
        (dy, dx, dw): _image(channel, dy * h, dx * h, 1.0 + dw * h, config)
        for dy, dx, dw in (
            (0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1),
        )
    }  # fmt: skip
    still = at[0, 0, 0]
    up, down, right, left = at[1, 0, 0], at[-1, 0, 0], at[0, 1, 0], at[0, -1, 0]
    return np.stack(
        [
            still,
            (up - down) / (2 * h),
            (right - left) / (2 * h),
            (up - 2 * still + down) / h**2,
            (right - 2 * still + left) / h**2,
            (at[0, 0, 1] - at[0, 0, -1]) / (2 * h),
        ]
    )


def _image(
    channel: Channel, dy: float, dx: float, width: float, config: DetectorConfig
) -> Float64[np.ndarray, "Y X"]:
    if channel == FGS1:
        image = config.fgs1_image
        stretch = np.array([width])
        rows = _profile(channel.rows, image.centre[0] + dy, stretch, image)
        columns = _profile(channel.columns, image.centre[1] + dx, stretch, image)
        return rows * columns.T
    # The diffraction core widens with wavelength, about as the square root once blurred.
    relative = np.sqrt(detector_wavelength_um() / 2.7)
    image = config.airs_image
    return _profile(channel.rows, image.centre[0] + dy, width * relative, image)


def _profile(
    pixels: int, centre: float, stretch: Float64[np.ndarray, " C"], image: ImageConfig
) -> Float64[np.ndarray, "N C"]:
    """Share of each pixel: a Gaussian core and wings (1 + (x/w)^2)^(-3/2), integrated over it.

    The stretch widens the core alone, so that defocus moves light between rows and hardly out
    of them. The sum over the detector is 1 for a centred image.
    """
    core = _shares(pixels, centre, image.core_sigma * stretch, wings=False)
    middle = (pixels - 1) / 2.0
    wing_width = np.array([image.wing_width])
    wing = _shares(pixels, centre, wing_width, wings=True)
    caught = _shares(pixels, middle, wing_width, wings=True).sum()
    share = image.wing_share * caught
    return (1.0 - share) * core + share * wing / caught


def _shares(
    pixels: int, centre: float, scale: Float64[np.ndarray, " C"], *, wings: bool
) -> Float64[np.ndarray, "N C"]:
    edge = (np.arange(pixels + 1)[:, None] - 0.5 - centre) / scale[None, :]
    below = 0.5 * edge / np.sqrt(1.0 + edge**2) if wings else ndtr(edge)
    return np.diff(below, axis=0)


def foreground(
    seed: int, planet: Planet, channel: Channel, effects: Effects, config: DetectorConfig
) -> Float64[np.ndarray, " X"]:
    """Foreground of one pixel in each column [e-/s]; zodiacal light and a warm telescope.

    Source: shape is ours (a falling zodiacal and a rising thermal part), level of a pixel at
    the edge of the public sample visit.
    """
    level = np.exp(
        config.foreground_scatter
        * stream(seed, planet.split, planet.index, f"foreground {channel.name}").normal()
    )
    if channel == FGS1:
        return np.full(FGS1.columns, effects.foreground * level * config.fgs1_foreground_e_s)
    wavelength = detector_wavelength_um()
    shape = 0.7 * (wavelength / 2.7) ** -1.5 + 0.3 * (wavelength / 2.7) ** 3
    return effects.foreground * level * config.airs_foreground_e_s * shape


def converter(
    channel: Channel, merged: int, effects: Effects, config: DetectorConfig
) -> Converter:
    """Constants of one channel's readout."""
    return Converter(
        first_s=channel.read_s[0],
        second_s=channel.read_s[1],
        merged=float(merged),
        shot_noise=effects.shot_noise,
        reset_noise_e=config.reset_noise_e * effects.reset_noise,
        full_well_e=config.full_well_e if effects.saturation else np.inf,
        cosmic_rate_s=config.cosmic_rate_s * effects.cosmic_rays,
        cosmic_low_e=config.cosmic_energy_e[0],
        cosmic_high_e=config.cosmic_energy_e[1],
        gain=config.gain if effects.adc else 1.0,
        offset_e=config.offset_e,
    )


def raw_counts(
    scene: ChannelScene, pixels: Pixels, sky: Float64[np.ndarray, " X"],
    readout: Converter, rng: np.random.Generator, config: DetectorConfig,
) -> tuple[UInt16[np.ndarray, "P R"], int]:  # fmt: skip
    """Raw counts of one channel and visit, one row per pixel, and the cosmic-ray hits."""
    channel = scene.channel
    weights = image_weights(channel, config) * pixels.flat
    column = np.broadcast_to(np.arange(channel.columns), channel.shape)
    physics = PixelPhysics(
        column=np.ascontiguousarray(column.ravel(), dtype=np.int64),
        weights=np.ascontiguousarray(weights.reshape(6, -1).T),
        foreground=(sky[None, :] * pixels.flat).ravel(),
        dark=pixels.dark.ravel(),
        read_noise=pixels.read.ravel(),
        linear_corr=np.ascontiguousarray(pixels.linear_corr.reshape(6, -1).T),
        seed=rng.integers(2**64, size=channel.pixels, dtype=np.uint64),
    )
    return expose(scene.star_e_s, scene.drift, scene.modes, physics, readout)
