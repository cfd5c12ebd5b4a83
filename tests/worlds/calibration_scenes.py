"""Frames built by hand: a known light curve run backwards through the detector."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from spectramind.calibrate.settings import CalibrationConfig
from spectramind.instrument import AIRS, CHANNELS, Channel, detector_wavelength_um, wavelength_um
from spectramind.observation import DetectorMaps, Frames


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

    Without a generator there is neither shot nor read noise, only the converter, which rounds up
    or down at random so that its error does not add up over pixels.
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
    dither = np.random.default_rng(1).random(reads.shape)
    counts = np.floor((_measured(reads, maps) - offset_e) * gain + dither)
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
    c = maps.linear_corr[..., None]
    if not c[[0, 2, 3, 4, 5]].any() and np.all(c[1] == 1.0):
        return linear_e
    assert not c[3:].any()
    measured = linear_e.copy()
    for _ in range(5):
        value = c[0] + measured * (c[1] + measured * c[2])
        measured -= (value - linear_e) / (c[1] + 2.0 * measured * c[2])
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


def core_pixel(channel: Channel) -> int:
    """Flat index of a pixel in the middle of the light."""
    return 15 * channel.columns + (100 if channel == AIRS else 16)


def hit(frames: Frames, pixel: int, pair: int, charge_e: float) -> Frames:
    """The same frames with a cosmic ray in the second read of one pair."""
    reads = list(frames.reads)
    reads[pixel] = reads[pixel].copy()
    reads[pixel][2 * pair + 1] += round(charge_e * frames.gain)
    return replace(frames, reads=reads)


def write_archive(root: Path, planets: dict[int, tuple[Scene, Scene]]) -> None:
    """An archive in the layout of 2025; each planet has an FGS1 and an AIRS-CH0 scene."""
    root.mkdir(parents=True, exist_ok=True)
    scenes = next(iter(planets.values()))
    write_axes(root, [scene.frames.time_h for scene in scenes])
    header = ",".join(f"{c.name}_adc_offset,{c.name}_adc_gain" for c in CHANNELS)
    (root / "adc_info.csv").write_text(f"{header}\n-1000.0,0.4369,-1000.0,0.4369\n")
    wavelengths = wavelength_um().tolist()
    names = ",".join(f"wl_{k}" for k in range(1, len(wavelengths) + 1))
    (root / "wavelengths.csv").write_text(f"{names}\n{','.join(map(repr, wavelengths))}\n")
    stars = ["planet_id,Rs,Ms,Ts,Mp,e,P,sma,i"]
    stars += [f"{planet_id},1.2,1.1,5800,0.9,0,5.2,10.5,88.5" for planet_id in planets]
    (root / "train_star_info.csv").write_text("\n".join(stars) + "\n")
    for planet_id, pair in planets.items():
        for scene in pair:
            write_visit(root / "train" / str(planet_id), scene)


def write_axes(root: Path, middles_h: list[np.ndarray]) -> None:
    """The table of time stamps, FGS1 then AIRS-CH0, 0.1 s between the reads of a pair."""
    times = [np.repeat(t, 2) + np.tile([-0.05, 0.05], t.size) / 3600.0 for t in middles_h]
    columns = {
        "AIRS-CH0-axis0-h": times[1],
        "AIRS-CH0-axis2-um": detector_wavelength_um(),
        "AIRS-CH0-integration_time": np.tile([0.1, 4.5], times[1].size // 2),
        "FGS1-axis0-h": times[0],
    }
    length = max(map(len, columns.values()))
    nan = {"constant_values": np.nan}
    padded = {key: np.pad(v, (0, length - len(v)), **nan) for key, v in columns.items()}
    pl.DataFrame(padded).write_parquet(root / "axis_info.parquet")


def write_visit(folder: Path, scene: Scene) -> None:
    """Signal and calibration files of one channel of visit 0."""
    name = scene.frames.channel.name
    maps = folder / f"{name}_calibration_0"
    maps.mkdir(parents=True)
    reads = np.array(scene.frames.reads)
    columns = [f"column_{k}" for k in range(len(reads))]
    pl.DataFrame(reads.T, columns, orient="row").write_parquet(folder / f"{name}_signal_0.parquet")
    for key in ("dark", "dead", "flat", "read", "linear_corr"):
        table = getattr(scene.maps, key)
        table = table.reshape(-1, table.shape[-1])
        pl.DataFrame(table, schema=[f"column_{k}" for k in range(table.shape[1])]).write_parquet(
            maps / f"{key}.parquet"
        )
