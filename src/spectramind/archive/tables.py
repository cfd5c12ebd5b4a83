"""Small tables of an archive: labels, stars, converters, time axes and wavelengths.

A table is read once per process and again when its file changes. A row or cell that cannot be
used costs its planet alone, except in tables that must be whole: submissions and solutions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from spectramind.archive.text import PLANET_ID, UNREADABLE, read_csv
from spectramind.errors import DataError
from spectramind.instrument import AIRS, WAVELENGTHS, Channel
from spectramind.observation import Labels, Star, named, some

DEPTH_COLUMNS = tuple(f"wl_{number}" for number in range(1, WAVELENGTHS + 1))
_STAR_RANGES = {  # in the order of `Star`; what lies outside is a mistake
    "Rs": (0.05, 100.0),  # [R_sun]
    "Ms": (0.05, 100.0),  # [M_sun]
    "Ts": (1500.0, 60000.0),  # [K]
    "Mp": (1e-4, 100.0),  # [M_jup]
    "e": (0.0, 0.99),
    "P": (0.05, 1e4),  # [d]
    "sma": (1.0, 1e4),  # [R_star]
    "i": (45.0, 135.0),  # [deg]; no planet of a transit is farther from edge-on
}
_WHOLE = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_INT64 = np.iinfo(np.int64)
_EXACT = 2**53  # a float64 may stand for several whole numbers above
_DEEPEST = 0.12  # median of a table of depths: planets have 1e-4 to 0.1
_PPM = 50.0  # median above which depths are in ppm; below, they are in per cent


def read_table(path: Path) -> pl.DataFrame:
    """Read a table of modest size: parquet by its ending, CSV in all other files.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing. Fetch the file again.") from error
    except UNREADABLE as error:
        raise damaged(path, error) from error


@lru_cache(maxsize=16)
def _read(path: Path, _mtime_ns: int, _size: int) -> pl.DataFrame:
    if path.suffix.lower() == ".parquet":
        return pl.read_parquet(path, glob=False, hive_partitioning=False)
    return read_csv(path)


def damaged(path: Path, error: BaseException) -> DataError:
    """The sentence for a file that is there but cannot be read."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{path}: cannot be read, it may be truncated ({reason}). Fetch the file again."
    )


def find_table(folder: Path, name: str) -> Path:
    """The file of a table, also where it is called NAME.gz or written in capitals."""
    path = folder / name
    if path.exists() or not folder.is_dir():
        return path
    spellings = (name, f"{name}.gz")
    found = sorted(entry for entry in folder.iterdir() if entry.name.lower() in spellings)
    return found[0] if found else path


@dataclass(frozen=True, eq=False)
class PlanetRows:
    """Rows of a table that name a planet, each another one."""

    ids: Int64[np.ndarray, " B"]
    rows: Int64[np.ndarray, " B"]
    twice: tuple[int, ...]  # planets of several rows, which are left out
    lost: tuple[str, ...]  # a sentence, without a full stop, for each kind of row left out


def planet_rows(table: pl.DataFrame, path: Path) -> PlanetRows:
    """Rows whose planet_id is an int64 that no other row has; it may be written "1103775.0".

    Raises:
        DataError: If there is no column planet_id.
    """
    require_columns(table, [PLANET_ID], path)
    ids = [_whole(cell) for cell in table[PLANET_ID]]
    strange = [row for row, own in enumerate(ids) if own is None]
    lost = []
    if strange:
        named_cells = some([_shown(table[PLANET_ID][row]) for row in strange])
        lost.append(f"planet_id holds what is no whole number of 64 bits: {named_cells}")
    good = np.array([row for row, own in enumerate(ids) if own is not None], np.int64)
    values = np.array([own for own in ids if own is not None], np.int64)
    once, first, counts = np.unique(values, return_index=True, return_counts=True)
    twice = tuple(once[counts > 1].tolist())
    if twice:
        lost.append(f"planet_id lists {named(twice)} more than once")
    kept = np.sort(first[counts == 1])
    return PlanetRows(values[kept], good[kept], twice, tuple(lost))


def _whole(cell: object) -> int | None:
    """A cell as int64; None where it is none, or a float64 that could be several."""
    if isinstance(cell, float):
        return int(cell) if abs(cell) <= _EXACT and cell == int(cell) else None
    text = str(cell)
    if isinstance(cell, bool) or not _WHOLE.fullmatch(text):
        return None
    number = Decimal(text)
    if number.adjusted() > 18 or number != number.to_integral_value():
        return None
    return int(number) if _INT64.min <= number <= _INT64.max else None


def _shown(cell: object) -> str:
    return "an empty cell" if cell is None else repr(cell)


def planet_ids(table: pl.DataFrame, path: Path) -> Int64[np.ndarray, " B"]:
    """The planets of a table of which every row must name one.

    Raises:
        DataError: If the column is missing, a cell is no int64, or a planet comes twice.
    """
    found = planet_rows(table, path)
    if found.lost:
        raise DataError(f"{path}: {found.lost[0]}. Mend these rows or remove them.")
    return found.ids


def require_columns(table: pl.DataFrame, names: list[str], path: Path) -> None:
    """Check that a table has the columns.

    Raises:
        DataError: If one is missing.
    """
    missing = [name for name in names if name not in table.columns]
    if missing:
        first = some([repr(name) for name in table.columns])
        raise DataError(
            f"{path}: has no column {missing[0]!r} ({len(missing)} of {len(names)} expected "
            f"columns are missing, its own are {first}). Fetch the file again."
        )


def numbers(table: pl.DataFrame, names: list[str], path: Path) -> Float64[np.ndarray, "B K"]:
    """Columns of a table as finite float64 numbers, one row per table row.

    Raises:
        DataError: If a column is missing, not numeric, or has empty or non-finite cells.
    """
    values = cells(table, names, path)
    bad = np.flatnonzero(~np.isfinite(values).all(0))
    if bad.size:
        name = names[bad[0]]
        row = int(np.flatnonzero(~np.isfinite(values[:, bad[0]]))[0])
        raise DataError(
            f"{path}: column {name!r} holds {_shown(table[name][row])} in row {row + 1}, expected "
            "finite numbers. Fetch the file again."
        )
    return values


def cells(table: pl.DataFrame, names: list[str], path: Path) -> Float64[np.ndarray, "B K"]:
    """Columns of a table as float64; NaN where a cell holds no number.

    Raises:
        DataError: If a column is missing or holds lists.
    """
    require_columns(table, names, path)
    try:
        values = table.select(pl.col(names).cast(pl.Float64, strict=False))
    except pl.exceptions.PolarsError as error:
        raise damaged(path, error) from error
    return values.fill_null(np.nan).to_numpy()


@dataclass(frozen=True, eq=False)
class Stars:
    """Rows of a star table by planet, and what is wrong with the others."""

    by_planet: Mapping[int, Star]
    listed: tuple[int, ...]  # planets of all rows, the unusable ones too; ascending
    lost: tuple[str, ...]  # a sentence, without a full stop, for each kind of row left out


def read_stars(path: Path) -> Stars:
    """The star of each planet whose row holds eight numbers that can be.

    Raises:
        DataError: If the table cannot be read or lacks a column.
    """
    table = read_table(path)
    found = planet_rows(table, path)
    values = cells(table, list(_STAR_RANGES), path)[found.rows]
    stars, lost = {}, list(found.lost)
    low, high = np.array(list(_STAR_RANGES.values())).T
    good = (values >= low) & (values <= high)  # NaN is not
    for name, (least, most), fine in zip(_STAR_RANGES, _STAR_RANGES.values(), good.T, strict=True):
        if not fine.all():
            cell = _shown(table[name][int(found.rows[~fine][0])])
            lost.append(
                f"{name} is not from {least:g} to {most:g} for "
                f"{named(found.ids[~fine].tolist())}: {cell}"
            )
    for planet, row, fine in zip(found.ids.tolist(), values, good.all(1), strict=True):
        if fine:
            stars[planet] = Star(*map(float, row))
    return Stars(stars, tuple(sorted([*found.ids.tolist(), *found.twice])), tuple(lost))


def read_labels(path: Path) -> Labels:
    """True spectra, planet_id, wl_1..wl_283, of which every row must be whole.

    Raises:
        DataError: If a row has no planet or a depth that cannot be.
    """
    labels, lost = read_usable_labels(path)
    if lost:
        raise DataError(f"{path}: {lost[0]}. Mend these rows or remove them.")
    return labels


def read_usable_labels(path: Path) -> tuple[Labels, tuple[str, ...]]:
    """True spectra of the planets whose row is whole, and what is wrong with the others.

    Raises:
        DataError: If the table cannot be read, lacks a column, or holds no fractions of flux.
    """
    table = read_table(path)
    found = planet_rows(table, path)
    depth = cells(table, list(DEPTH_COLUMNS), path)[found.rows]
    unit = other_unit(depth)
    if unit:
        raise DataError(f"{path}: {unit}.")
    good = ((depth > 0.0) & (depth < 1.0)).all(1)  # NaN is not
    lost = list(found.lost)
    if not good.all():
        lost.append(
            "depths that are empty, NaN or not between 0 and 1 make the spectrum of "
            f"{named(found.ids[~good].tolist())} unusable"
        )
    return Labels(found.ids[good], depth[good]), tuple(lost)


def other_unit(depth: Float64[np.ndarray, "B W"]) -> str:
    """A sentence, without a full stop, if depths are no fractions by their size; else empty."""
    known = depth[np.isfinite(depth)]
    middle = float(np.median(known)) if known.size else 0.0
    if middle <= _DEEPEST:
        return ""
    unit, factor = ("ppm", "1e6") if middle > _PPM else ("per cent", "100")
    return (
        f"half of the depths are above {middle:.4g}, so they are in {unit}. Divide depths and "
        f"errors by {factor}: (Rp/Rs)^2 is a fraction"
    )


def read_adc(path: Path, planet_id: int | None, channel: Channel) -> tuple[float, float]:
    """Gain [counts/e-] and offset [e-] of the converter.

    Args:
        path: adc_info.csv (2025, one row) or train_adc_info.csv, test_adc_info.csv (2024).
        planet_id: Row to take; None takes the only one.
        channel: Detector.

    Raises:
        DataError: If the row is missing, a value is no number or the gain is not positive.
    """
    table = read_table(path)
    names = [f"{channel.name}_adc_gain", f"{channel.name}_adc_offset"]
    if planet_id is None:
        if table.height != 1:
            raise DataError(f"{path}: holds {table.height} rows, expected 1. Fetch it again.")
        row = 0
    else:
        row = _row_of(planet_rows(table, path), planet_id, path)
    gain, offset_e = map(float, cells(table, names, path)[row])
    if not (0.0 < gain < np.inf and np.isfinite(offset_e)):
        whose = "" if planet_id is None else f" of planet {planet_id}"
        raise DataError(
            f"{path}: {names[0]}{whose} is {gain:g} and {names[1]} is {offset_e:g}, expected a "
            "positive number [counts/e-] and a finite one [e-]. Fetch the file again."
        )
    return gain, offset_e


def _row_of(found: PlanetRows, planet_id: int, path: Path) -> int:
    row = np.flatnonzero(found.ids == planet_id)
    if not row.size:
        raise DataError(
            f"planet {planet_id}: {path} has no row of it. Fetch the table again or remove "
            "the planet's folder."
        )
    return int(found.rows[row[0]])


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
    values = cells(table, [name], path)[:, 0]
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
