"""The small tables of an archive: labels, stars, converters, axes, wavelengths."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float64

from spectramind.files import write_atomic, write_parquet
from spectramind.instrument import AIRS, FGS1, WAVELENGTHS, detector_wavelength_um, wavelength_um
from spectramind.observation import Star
from spectramind.simulate.population import SPLITS
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.systems import System
from spectramind.simulate.visit import stamps_h

DEPTHS = [f"wl_{i + 1}" for i in range(WAVELENGTHS)]
SIGMAS = [f"sigma_{i + 1}" for i in range(WAVELENGTHS)]
_AIRS_INTEGRATION_S = (0.1, 4.5)  # as the challenge lists it, merged exposures or not


def write_tables(root: Path, systems: dict[str, list[System]], config: SimulateConfig) -> None:
    """Write every csv file and the axis table; the hidden labels go to `truth/test.csv`."""
    write_csv(root / "train.csv", label_table(systems["train"]))
    write_csv(root / "truth" / "test.csv", label_table(systems["test"]))
    for split in SPLITS:
        write_csv(root / f"{split}_star_info.csv", star_table(systems[split]))
    write_csv(root / "adc_info.csv", adc_table(config))
    wavelengths = dict(zip(DEPTHS, wavelength_um().tolist(), strict=True))
    write_csv(root / "wavelengths.csv", pl.DataFrame([wavelengths]))
    write_csv(root / "sample_submission.csv", sample_submission(systems["test"]))
    write_columns(root / "axis_info.parquet", axis_table(config.cadence_factor))


def label_table(systems: Sequence[System]) -> pl.DataFrame:
    """Planet identifier and depth at each wavelength."""
    depth = np.array([s.depth for s in systems]).reshape(len(systems), WAVELENGTHS)
    return _identifiers(systems).hstack(pl.DataFrame(depth, schema=DEPTHS))


def star_table(systems: Sequence[System]) -> pl.DataFrame:
    """The inexact star table, in the challenge's columns."""
    names = ("Rs", "Ms", "Ts", "Mp", "e", "P", "sma", "i")
    fields = tuple(Star.__dataclass_fields__)
    table = {
        name: pl.Series([getattr(s.planet.table, field) for s in systems], dtype=pl.Float64)
        for name, field in zip(names, fields, strict=True)
    }
    return _identifiers(systems).hstack(pl.DataFrame(table))


def adc_table(config: SimulateConfig) -> pl.DataFrame:
    """Offset and gain of both channels, one row."""
    gain = config.detector.gain if config.effects.adc else 1.0
    row = {}
    for channel in (FGS1, AIRS):
        row[f"{channel.name}_adc_offset"] = config.detector.offset_e
        row[f"{channel.name}_adc_gain"] = gain
    return pl.DataFrame([row])


def sample_submission(systems: Sequence[System]) -> pl.DataFrame:
    """A submission of ones for the test planets."""
    ones = np.ones((len(systems), 2 * WAVELENGTHS))
    return _identifiers(systems).hstack(pl.DataFrame(ones, schema=DEPTHS + SIGMAS))


def axis_table(merged: int) -> pl.DataFrame:
    """Time stamps of the reads, detector wavelengths and integration times, NaN-padded."""
    airs, fgs1 = read_stamps_h(stamps_h(AIRS, merged)), read_stamps_h(stamps_h(FGS1, merged))
    columns = {
        "AIRS-CH0-axis0-h": airs,
        "AIRS-CH0-axis2-um": detector_wavelength_um(),
        "AIRS-CH0-integration_time": np.tile(_AIRS_INTEGRATION_S, len(airs) // 2),
        "FGS1-axis0-h": fgs1,
    }
    length = max(map(len, columns.values()))
    return pl.DataFrame(
        {
            name: np.pad(values, (0, length - len(values)), constant_values=np.nan)
            for name, values in columns.items()
        }
    )


def read_stamps_h(pair_h: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " R"]:
    """Stamps of the two reads of each pair, 0.05 s before and after its middle [h]."""
    step = 0.05 / 3600.0
    return (pair_h[:, None] + np.array([-step, step])).ravel()


def _identifiers(systems: Sequence[System]) -> pl.DataFrame:
    ids = [s.planet.planet_id for s in systems]
    return pl.DataFrame({"planet_id": pl.Series(ids, dtype=pl.Int64)})


def write_csv(path: Path, table: pl.DataFrame) -> None:
    """Write a csv file atomically, numbers in full precision."""
    write_atomic(path, table.write_csv().encode())


def write_columns(path: Path, table: pl.DataFrame) -> None:
    """Write a parquet file of one row group as it stands, atomically: noise does not compress."""
    rows = max(table.height, 1)
    write_parquet(path, table, compression="uncompressed", statistics=False, row_group_size=rows)
