"""Small tables of an archive: labels, stars, converters, time axes and wavelengths.

A table is read once per process and again when its file changes.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from spectramind.errors import DataError
from spectramind.instrument import AIRS, WAVELENGTHS, Channel
from spectramind.observation import Labels, Star

DEPTH_COLUMNS = tuple(f"wl_{number}" for number in range(1, WAVELENGTHS + 1))
_STAR_COLUMNS = ("Rs", "Ms", "Ts", "Mp", "e", "P", "sma", "i")  # in the order of `Star`


def read_table(path: Path) -> pl.DataFrame:
    """Read a csv or parquet file of modest size.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing. Fetch the file again.") from error
    except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise damaged(path, error) from error


@lru_cache(maxsize=16)
def _read(path: Path, _mtime_ns: int, _size: int) -> pl.DataFrame:
    if path.suffix == ".csv":
        return pl.read_csv(path, infer_schema_length=None, glob=False)
    return pl.read_parquet(path, glob=False, hive_partitioning=False)


def damaged(path: Path, error: Exception) -> DataError:
    """The sentence for a file that is there but cannot be read."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{path}: cannot be read, it may be truncated ({reason}). Fetch the file again."
    )


def planet_ids(table: pl.DataFrame, path: Path) -> Int64[np.ndarray, " B"]:
    """The column planet_id as integers; a table may hold them as "1103775.0".

    Raises:
        DataError: If the column is missing, holds anything but whole numbers, or repeats one.
    """
    require_columns(table, ["planet_id"], path)
    column = table["planet_id"]
    value = column.cast(pl.Float64, strict=False).to_numpy()
    if not np.all(np.isfinite(value) & (value == np.round(value))):
        raise DataError(
            f"{path}: planet_id holds values that are not whole numbers. Fetch the file again."
        )
    if len(np.unique(value)) < len(value):
        raise DataError(f"{path}: planet_id lists a planet twice. Keep one row per planet.")
    return value.astype(np.int64)


def require_columns(table: pl.DataFrame, names: list[str], path: Path) -> None:
    """Check that a table has the columns.

    Raises:
        DataError: If one is missing.
    """
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(
            f"{path}: has no column {missing[0]!r} ({len(missing)} of {len(names)} expected "
            "columns are missing). Fetch the file again."
        )


def numbers(table: pl.DataFrame, names: list[str], path: Path) -> Float64[np.ndarray, "B K"]:
    """Columns of a table as finite float64 numbers, one row per table row.

    Raises:
        DataError: If a column is missing, not numeric, or has empty or non-finite cells.
    """
    require_columns(table, names, path)
    for name in names:
        column = table[name]
        if not column.dtype.is_numeric():
            raise DataError(
                f"{path}: column {name!r} holds {column.dtype}, expected numbers. "
                "Fetch the file again."
            )
        if not np.all(np.isfinite(column.cast(pl.Float64).to_numpy())):
            raise DataError(
                f"{path}: column {name!r} has empty, NaN or infinite cells, expected finite "
                "numbers. Fetch the file again."
            )
    return table.select(pl.col(names).cast(pl.Float64)).to_numpy()


def read_labels(path: Path) -> Labels:
    """True spectra: planet_id, wl_1..wl_283."""
    table = read_table(path)
    return Labels(planet_ids(table, path), numbers(table, list(DEPTH_COLUMNS), path))


def read_star(path: Path, planet_id: int) -> Star:
    """One row of the star table.

    Raises:
        DataError: If the table has no row of this planet.
    """
    table = read_table(path)
    row = _row_of(planet_ids(table, path), planet_id, path)
    return Star(*map(float, numbers(table, list(_STAR_COLUMNS), path)[row]))


def read_adc(path: Path, planet_id: int | None, channel: Channel) -> tuple[float, float]:
    """Gain [counts/e-] and offset [e-] of the converter.

    Args:
        path: adc_info.csv (2025, one row) or train_adc_info.csv, test_adc_info.csv (2024).
        planet_id: Row to take; None takes the only one.
        channel: Detector.

    Raises:
        DataError: If the row is missing or the gain is not positive.
    """
    table = read_table(path)
    names = [f"{channel.name}_adc_gain", f"{channel.name}_adc_offset"]
    values = numbers(table, names, path)
    if planet_id is None:
        if len(values) != 1:
            raise DataError(f"{path}: holds {len(values)} rows, expected 1. Fetch it again.")
        row = 0
    else:
        row = _row_of(planet_ids(table, path), planet_id, path)
    gain, offset_e = map(float, values[row])
    if gain <= 0.0:
        raise DataError(
            f"{path}: {names[0]} is {gain}, expected a positive number [counts/e-]. "
            "Fetch the file again."
        )
    return gain, offset_e


def _row_of(ids: Int64[np.ndarray, " B"], planet_id: int, path: Path) -> int:
    rows = np.flatnonzero(ids == planet_id)
    if not rows.size:
        raise DataError(
            f"planet {planet_id}: {path} has no row of it. Fetch the table again or remove "
            "the planet's folder."
        )
    return int(rows[0])


def read_pair_times(path: Path, channel: Channel) -> Float64[np.ndarray, " T"]:
    """Middle of the two reads of each pair [h], from the time stamps of the single reads.

    Raises:
        DataError: If the stamps are odd in number or do not increase.
    """
    stamps = _axis(path, f"{channel.name}-axis0-h")
    if not stamps.size or stamps.size % 2:
        raise DataError(
            f"{path}: {channel.name}-axis0-h lists {stamps.size} time stamps, expected an even "
            "number (start/end pairs). Fetch the file again."
        )
    if np.any(np.diff(stamps) <= 0.0):
        raise DataError(
            f"{path}: {channel.name}-axis0-h does not increase with time. Fetch the file again."
        )
    return 0.5 * (stamps[0::2] + stamps[1::2])


def read_accumulation_s(path: Path) -> tuple[float, float]:
    """Charge accumulation time of the two AIRS-CH0 reads of a pair [s].

    The column lists t1, t2, t1, t2, ...: the first read is taken t1 after the reset and the
    second t2 after the first, so the charge of the second has grown for t1 + t2.

    Raises:
        DataError: If the pairs differ or a time is not positive.

    Source: calibration notebook of the hosts (dt of even and odd frames); confirmed by the flux
    ratio 46.06 of the two reads on a 2025 planet.
    """
    column = f"{AIRS.name}-integration_time"
    seconds = _axis(path, column)
    if not seconds.size or seconds.size % 2 or seconds.min() <= 0.0 or _differ(seconds):
        raise DataError(
            f"{path}: {column} does not repeat one pair of positive times [s]. "
            "Fetch the file again."
        )
    return float(seconds[0]), float(seconds[0] + seconds[1])


def _differ(seconds: Float64[np.ndarray, " R"]) -> bool:
    return bool(np.any(seconds[2:] != seconds[:-2]))


def _axis(path: Path, name: str) -> Float64[np.ndarray, " R"]:
    """A column of the axis table without its padding (empty or NaN, at the end)."""
    table = read_table(path)
    require_columns(table, [name], path)
    values = table[name].cast(pl.Float64).to_numpy()
    values = values[: np.count_nonzero(~np.isnan(values))]
    if np.any(np.isnan(values)):
        raise DataError(f"{path}: {name} has gaps between its values. Fetch the file again.")
    return values


def read_wavelengths(path: Path) -> Float64[np.ndarray, " 283"]:
    """Scored wavelengths [um]: FGS1, then AIRS-CH0 increasing.

    Raises:
        DataError: If the file does not hold one row of 283 increasing wavelengths.
    """
    table = read_table(path)
    values = numbers(table, list(DEPTH_COLUMNS), path)
    if len(values) != 1 or np.any(np.diff(values[0]) <= 0.0):
        raise DataError(
            f"{path}: expected one row of {WAVELENGTHS} wavelengths that increase [um]. "
            "Fetch the file again."
        )
    return values[0]
