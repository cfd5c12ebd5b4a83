"""Frames built by hand: a known light curve run backwards through the detector."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from spectramind.calibrate.configuration import CalibrationConfig
from spectramind.instrument import AIRS, Channel
from spectramind.observation import DetectorMaps, Frames

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def config() -> CalibrationConfig:
    path = REPOSITORY / "configs" / "calibration" / "default.yaml"
    return CalibrationConfig(**yaml.safe_load(path.read_text()))


def with_keys(config: CalibrationConfig, **keys) -> CalibrationConfig:
    """The configuration with other values, validated."""
    return CalibrationConfig(**{**config.model_dump(), **keys})


@dataclass(frozen=True)
class Scene:
    """A detector, what falls on it, and its raw frames."""

    frames: Frames
    maps: DetectorMaps
    light_e: np.ndarray  # (Y, X, T) light of each pixel, flat removed [e-/exposure]


def flat_maps(channel: Channel) -> DetectorMaps:
    """Maps of a perfect detector."""
    linear = np.zeros((6, *channel.shape))
    linear[1] = 1.0
    return DetectorMaps(
        dark=np.zeros(channel.shape),
        dead=np.zeros(channel.shape, dtype=bool),
        flat=np.ones(channel.shape),
        read=np.full(channel.shape, 13.0),
        linear_corr=linear,
    )


def real_maps(channel: Channel, rng: np.random.Generator) -> DetectorMaps:
    """Maps with every imperfection, a few dead and hot pixels included."""
    maps = flat_maps(channel)
    maps.dark[:] = rng.normal(5.0, 0.5, channel.shape)
    maps.dark.flat[rng.choice(channel.pixels, 12, replace=False)] = 90.0
    maps.dead.flat[rng.choice(channel.pixels, channel.pixels // 150, replace=False)] = True
    maps.flat[:] = rng.normal(1.0, 0.02, channel.shape)
    maps.linear_corr[0] = rng.normal(0.0, 2.0, channel.shape)
    maps.linear_corr[1] = rng.normal(1.0, 3e-3, channel.shape)
    maps.linear_corr[2] = rng.normal(2e-7, 1e-8, channel.shape)
    return maps


def trace(channel: Channel, flux: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Light of the star (Y, X, T): flux (C, T) spread over rows (and columns) around a centre."""
    row = np.arange(channel.rows)[:, None]
    across = np.exp(-0.5 * ((row - 15.4 - shift) / 1.5) ** 2)
    across /= across.sum(0)
    if channel == AIRS:
        return across[:, None, :] * flux[None, :, :]
    column = np.exp(-0.5 * ((row - 16.2) / 1.5) ** 2)
    column /= column.sum(0)
    return across[:, None, :] * column[None, :, :] * flux[None]


def star_flux(channel: Channel, pairs: int) -> np.ndarray:
    """Flux (C, T) with a 2 % transit and a drift [e-/exposure]."""
    phase = np.linspace(-1.0, 1.0, pairs)
    curve = (1.0 - 0.02 / (1.0 + np.exp(60.0 * (np.abs(phase) - 0.4)))) * (1.0 + 0.01 * phase)
    bright = np.linspace(4e3, 1.2e5, AIRS.columns) if channel == AIRS else np.array([2.5e5])
    return bright[:, None] * curve


def expose(
    channel: Channel,
    maps: DetectorMaps,
    light_e: np.ndarray,
    *,
    rng: np.random.Generator | None,
    gain: float = 0.4369,
    offset_e: float = -1000.0,
) -> Frames:
    """Raw frames of light (Y, X, T): the detector's steps in the order light meets them.

    Without a generator there is neither shot nor read noise, only the rounding of the converter.
    """
    pairs = light_e.shape[-1]
    rate = (light_e * maps.flat[..., None] / channel.exposure_s) + maps.dark[..., None]
    first, second = rate * channel.read_s[0], rate * channel.read_s[1]
    if rng is not None:
        first = rng.poisson(np.maximum(first, 0.0)).astype(float)
        second = first + rng.poisson(np.maximum(rate * channel.exposure_s, 0.0))
        first = first + rng.normal(0.0, maps.read[..., None], first.shape)
        second = second + rng.normal(0.0, maps.read[..., None], second.shape)
    reads = np.stack([first, second], axis=-1).reshape(*channel.shape, 2 * pairs)
    counts = np.round((_measured(reads, maps) - offset_e) * gain)
    counts = np.clip(counts, 0, 65535).astype(np.uint16)
    counts[maps.dead] = 0
    pixels = np.arange(channel.pixels)
    return Frames(
        planet_id=7,
        visit=0,
        channel=channel,
        pixels=pixels,
        reads=list(counts.reshape(channel.pixels, 2 * pairs)),
        time_h=(np.arange(pairs) * channel.cadence_s + 0.15) / 3600.0,
        read_s=channel.read_s,
        gain=gain,
        offset_e=offset_e,
    )


def _measured(linear_e: np.ndarray, maps: DetectorMaps) -> np.ndarray:
    """Inverse of the linearity polynomial by Newton steps."""
    measured = linear_e.copy()
    c = maps.linear_corr[..., None]
    slope = c[1:] * np.arange(1, 6)[:, None, None, None]
    for _ in range(6):
        value = sum(c[k] * measured**k for k in range(6))
        measured -= (value - linear_e) / sum(slope[k] * measured**k for k in range(5))
    return measured


def make_scene(
    channel: Channel,
    *,
    pairs: int = 40,
    maps: DetectorMaps | None = None,
    noise: bool = False,
    foreground_e: float = 0.0,
    jitter: float = 0.0,
    seed: int = 0,
) -> Scene:
    """A transit on a detector."""
    rng = np.random.default_rng(seed)
    shift = jitter * np.sin(np.arange(pairs))
    light = trace(channel, star_flux(channel, pairs), shift) + foreground_e
    maps = maps or flat_maps(channel)
    return Scene(expose(channel, maps, light, rng=rng if noise else None), maps, light)


def hit(frames: Frames, pixel: int, pair: int, charge_e: float) -> Frames:
    """The same frames with a cosmic ray in the second read of one pair."""
    reads = list(frames.reads)
    reads[pixel] = reads[pixel].copy()
    reads[pixel][2 * pair + 1] += round(charge_e * frames.gain)
    return replace(frames, reads=reads)
