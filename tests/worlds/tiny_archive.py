"""Tiny archives of both years: full detectors, few frames, made up from a seed."""

import functools
import io
import os
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, copytree

import numpy as np
import polars as pl

from spectramind import instrument
from spectramind.instrument import AIRS, CHANNELS, FGS1, Channel

PAIRS = {FGS1.name: 6, AIRS.name: 2}
PLANETS = {"train": [785834, 4290000001], "test": [1103775]}
WL = [f"wl_{n}" for n in range(1, 284)]


def reads_of(channel: Channel, planet_id: int, visit: int) -> np.ndarray:
    """The counts that the archive stores, (reads, pixels)."""
    random = np.random.default_rng([planet_id, visit, channel.pixels])
    shape = (2 * PAIRS[channel.name], channel.pixels)
    return random.integers(0, 65536, shape, dtype=np.uint16)


def maps_of(channel: Channel) -> dict[str, np.ndarray]:
    random = np.random.default_rng(channel.pixels)
    rows, columns = channel.shape
    linear = np.zeros((6, rows, columns))
    linear[1] = 1.0 + 1e-3 * random.normal(size=channel.shape)
    linear[2:] = 1e-8 * random.normal(size=(4, rows, columns))
    return {
        "dark": random.uniform(0.0, 1.0, channel.shape),
        "dead": random.uniform(size=channel.shape) < 0.01,
        "flat": random.uniform(0.9, 1.1, channel.shape),
        "read": random.uniform(12.0, 14.0, channel.shape),
        "linear_corr": linear.reshape(6 * rows, columns),
    }


def write_columns(path: Path, values: np.ndarray) -> None:
    path.write_bytes(parquet_bytes(values))


def parquet_bytes(values: np.ndarray) -> bytes:
    names, file = [f"column_{n}" for n in range(values.shape[1])], io.BytesIO()
    pl.DataFrame(values, schema=names).write_parquet(file)
    return file.getvalue()


@functools.cache
def signal_bytes(channel: Channel, planet_id: int, visit: int) -> bytes:
    """The file of a signal, the same in both years' archives: made once."""
    return parquet_bytes(reads_of(channel, planet_id, visit))


@functools.cache
def map_bytes(channel: Channel) -> dict[str, bytes]:
    """The files of a detector's maps, the same for all planets: made once."""
    return {name: parquet_bytes(values) for name, values in maps_of(channel).items()}


def write_visit(folder: Path, planet_id: int, visit: int, suffix: str) -> None:
    for channel in CHANNELS:
        maps = folder / f"{channel.name}_calibration{suffix}"
        maps.mkdir(parents=True)
        signal = folder / f"{channel.name}_signal{suffix}.parquet"
        signal.write_bytes(signal_bytes(channel, planet_id, visit))
        for name, content in map_bytes(channel).items():
            (maps / f"{name}.parquet").write_bytes(content)


def write_axes(root: Path) -> None:
    """Time stamps as in the real file: 0.1 s and 0.2 s after the start of each pair."""
    height = 356
    airs, fgs1 = (
        (channel.cadence_s * np.arange(PAIRS[channel.name])[:, None] + (0.1, 0.2)).ravel() / 3600.0
        for channel in (AIRS, FGS1)
    )
    columns = {
        "AIRS-CH0-axis0-h": airs,
        "AIRS-CH0-axis2-um": instrument.detector_wavelength_um(),
        "AIRS-CH0-integration_time": np.tile([0.1, 4.5], PAIRS[AIRS.name]),
        "FGS1-axis0-h": fgs1,
    }
    padded = {
        name: np.concatenate([values, np.full(height - len(values), np.nan)])
        for name, values in columns.items()
    }
    pl.DataFrame(padded).write_parquet(root / "axis_info.parquet")


def write_spectra_csv(path: Path, planets: list[int]) -> np.ndarray:
    depth = np.random.default_rng(5).uniform(0.001, 0.02, (len(planets), 283))
    table = pl.DataFrame(depth, schema=WL).insert_column(0, pl.Series("planet_id", planets))
    table.write_csv(path)
    return depth


def write_common(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    write_axes(root)
    pl.DataFrame(instrument.wavelength_um()[None], schema=WL).write_csv(root / "wavelengths.csv")


@dataclass(frozen=True)
class TinyArchive:
    root: Path
    depth: np.ndarray  # labels of the train planets, in the order of PLANETS["train"]


def write_2025(root: Path) -> TinyArchive:
    write_common(root)
    for split, planets in PLANETS.items():
        for planet in planets:
            write_visit(root / split / str(planet), planet, 0, "_0")
        header = "planet_id,Rs,Ms,Ts,Mp,e,P,sma,i\n"
        rows = [f"{planet}.0,1.2,1.1,5800.0,0.9,0.0,5.2,10.5,88.5\n" for planet in planets]
        (root / f"{split}_star_info.csv").write_text(header + "".join(rows))
    two_visits = PLANETS["train"][1]
    write_visit(root / "train" / str(two_visits), two_visits, 1, "_1")
    (root / "adc_info.csv").write_text(
        "FGS1_adc_offset,FGS1_adc_gain,AIRS-CH0_adc_offset,AIRS-CH0_adc_gain\n"
        "-1000.0,0.4369,-900.0,0.5\n"
    )
    return TinyArchive(root, write_spectra_csv(root / "train.csv", PLANETS["train"]))


def write_2024(root: Path) -> TinyArchive:
    write_common(root)
    for split, planets in PLANETS.items():
        rows = [
            "planet_id,FGS1_adc_offset,FGS1_adc_gain,AIRS-CH0_adc_offset,AIRS-CH0_adc_gain,star"
        ]
        for number, planet in enumerate(planets):
            write_visit(root / split / str(planet), planet, 0, "")
            rows.append(f"{planet},{-300.0 - number},0.8,{-700.0 - number},1.5,0")
        (root / f"{split}_adc_info.csv").write_text("\n".join(rows) + "\n")
    return TinyArchive(root, write_spectra_csv(root / "train_labels.csv", PLANETS["train"]))


def own_copy(archive: TinyArchive, target: Path, *own: str) -> Path:
    """A copy for a test that may change what lies below `own`; the rest are links."""
    root = archive.root

    def copy(source: str, there: str) -> None:
        mine = any(Path(source).is_relative_to(root / name) for name in own)
        (copyfile if mine else os.link)(source, there)

    return Path(copytree(root, target, copy_function=copy))
