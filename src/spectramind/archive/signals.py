"""Raw reads and calibration maps of one channel and visit, straight from their parquet files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int, UInt16

from spectramind.archive.text import UNREADABLE
from spectramind.errors import DataError
from spectramind.instrument import LINEARITY_ORDER, Channel
from spectramind.observation import DetectorMaps, some

_NUMBER = re.compile(r"[0-9]{1,18}$")  # at the end of a column's name


@dataclass(frozen=True)
class Exposure:
    """Planet, visit and channel whose files are read; every message starts with them."""

    planet_id: int
    visit: int
    channel: Channel

    def fault(self, path: Path, found: str, mend: str = "Fetch the file again.") -> DataError:
        """A sentence: where, what was found and expected, how to mend it."""
        return DataError(
            f"planet {self.planet_id}, visit {self.visit}, {self.channel.name}: {path.name} "
            f"{found}. {mend}"
        )


def _scan(exposure: Exposure, path: Path) -> tuple[pl.LazyFrame, Sequence[int] | None]:
    """A checked signal file, not decoded yet, and the place of each pixel's column; None: flat.

    The names come from a table without rows and not from the schema: then polars keeps the
    file's long footer and does not parse it again for the counts.
    """
    try:
        table = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        empty = table.head(0).collect()
    except FileNotFoundError as error:
        raise exposure.fault(path, f"is missing in {path.parent}") from error
    except UNREADABLE as error:
        raise _damaged(exposure, path, error) from error
    channel = exposure.channel
    if empty.width not in (1, channel.pixels):
        raise exposure.fault(
            path,
            f"holds {empty.width} columns, expected {channel.pixels} "
            f"({channel.rows} x {channel.columns} pixels) or 1 (flattened)",
        )
    strange = empty.select(pl.exclude(pl.UInt16))
    if strange.width:
        found = sorted({str(kind) for kind in strange.dtypes})
        raise exposure.fault(path, f"holds {', '.join(found)}, expected uint16 counts")
    if empty.width == 1:
        return table, None
    return table, _places(exposure, path, empty.columns)


@cache
def _numbered(width: int) -> list[str]:
    """Names of columns in the archives of the challenge."""
    return [f"column_{number}" for number in range(width)]


def _places(exposure: Exposure, path: Path, names: list[str]) -> Sequence[int]:
    """The place in the file of each column by the number that its name ends with.

    Raises:
        DataError: If the names do not count the columns, from 0 or 1.
    """
    if names == _numbered(len(names)):
        return range(len(names))
    ends = [_NUMBER.search(name) for name in names]
    order = np.array([int(end[0]) if end else -1 for end in ends], np.int64)
    places = np.argsort(order, kind="stable")
    if order.min() not in (0, 1) or np.any(np.diff(order[places]) != 1):
        raise exposure.fault(
            path,
            f"in {path.parent.name} has columns whose names do not count them: {some(names)}",
            f"Name them {', '.join(_numbered(2))} and so on to column_{len(names) - 1}.",
        )
    return places.tolist()


def read_pixels(
    exposure: Exposure, path: Path, pixels: Int[np.ndarray, " P"], *, expected_reads: int
) -> list[UInt16[np.ndarray, " R"]]:
    """Time series of the wanted pixels, each contiguous; columns not wanted are never decoded.

    Args:
        exposure: Whose file it is.
        path: Signal file, one frame per row, its columns numbered by their names and in any
            order, or one pixel per row.
        pixels: Flat detector indices, row * columns + column, each at most once.
        expected_reads: Number of time stamps of the channel.

    Raises:
        DataError: If the file is missing, truncated, of another shape or type, or holds an odd
            number of reads or another number than there are time stamps.
    """
    table, places = _scan(exposure, path)
    if places is None:  # one pixel per row, in place of one frame
        return _read_flattened(exposure, path, table, pixels, expected_reads)
    columns = _collect(
        exposure, path, table.select(pl.nth([places[pixel] for pixel in pixels.tolist()]))
    )
    _check_reads(exposure, path, len(columns[0]), expected_reads)
    return [column.to_numpy(allow_copy=False) for column in columns]


def _read_flattened(
    exposure: Exposure,
    path: Path,
    table: pl.LazyFrame,
    pixels: Int[np.ndarray, " P"],
    expected_reads: int,
) -> list[UInt16[np.ndarray, " R"]]:
    (column,) = _collect(exposure, path, table)
    reads, rest = divmod(len(column), exposure.channel.pixels)
    if rest:
        raise exposure.fault(
            path,
            f"holds {len(column)} rows in one column, expected a multiple of "
            f"{exposure.channel.pixels} pixels",
        )
    _check_reads(exposure, path, reads, expected_reads)
    frames = column.to_numpy(allow_copy=False).reshape(reads, exposure.channel.pixels)
    return list(np.ascontiguousarray(frames[:, pixels].T))


def _collect(exposure: Exposure, path: Path, wanted: pl.LazyFrame) -> list[pl.Series]:
    try:
        table = wanted.collect()
    except UNREADABLE as error:
        raise _damaged(exposure, path, error) from error
    if any(table.null_count().row(0)):
        raise exposure.fault(path, "has empty cells, expected a count in each")
    return table.rechunk().get_columns()


def _check_reads(exposure: Exposure, path: Path, reads: int, expected: int) -> None:
    if reads % 2:
        raise exposure.fault(
            path,
            f"holds {reads} reads, expected an even number (start/end pairs)",
            "Drop the last read or fetch the file again.",
        )
    if reads != expected:
        raise exposure.fault(
            path,
            f"holds {reads} reads, but axis_info.parquet lists {expected} time stamps",
            "Fetch both files again.",
        )


def read_maps(exposure: Exposure, folder: Path) -> DetectorMaps:
    """The five calibration maps of a channel.

    Raises:
        DataError: If a map is missing, damaged, of another shape, all dead, or not finite (flat:
            not positive) at a pixel that is alive.
    """
    rows, columns = exposure.channel.shape
    dead = _read_map(exposure, folder / "dead.parquet", rows)
    if not np.all(np.isin(dead, (0.0, 1.0))):
        raise exposure.fault(folder / "dead.parquet", "holds values other than true and false")
    alive = dead == 0.0
    if not alive.any():
        raise exposure.fault(
            folder / "dead.parquet", f"marks all {alive.size} pixels as dead, expected some alive"
        )
    maps = {
        name: _read_live_map(exposure, folder / f"{name}.parquet", rows, alive)
        for name in ("dark", "flat", "read")
    }
    unlit = np.count_nonzero(maps["flat"][alive] <= 0.0)
    if unlit:
        raise exposure.fault(
            folder / "flat.parquet",
            f"is not positive at {unlit} of {alive.sum()} live pixels, expected about 1",
        )
    orders = np.tile(alive, (LINEARITY_ORDER, 1))
    linear = _read_live_map(
        exposure, folder / "linear_corr.parquet", LINEARITY_ORDER * rows, orders
    )
    return DetectorMaps(
        dark=maps["dark"],
        dead=~alive,
        flat=maps["flat"],
        read=maps["read"],
        linear_corr=linear.reshape(LINEARITY_ORDER, rows, columns),
    )


def _read_live_map(
    exposure: Exposure, path: Path, rows: int, alive: Bool[np.ndarray, "Y X"]
) -> Float64[np.ndarray, "Y X"]:
    values = _read_map(exposure, path, rows)
    faulty = np.count_nonzero(~np.isfinite(values[alive]))
    if faulty:
        raise exposure.fault(
            path,
            f"in {path.parent.name} is NaN or infinite at {faulty} of {alive.sum()} live pixels, "
            "expected finite numbers",
        )
    return values


def _read_map(exposure: Exposure, path: Path, rows: int) -> Float64[np.ndarray, "Y X"]:
    try:
        table = pl.read_parquet(path, glob=False, hive_partitioning=False)
    except FileNotFoundError as error:
        raise exposure.fault(path, f"is missing in {path.parent}") from error
    except UNREADABLE as error:
        raise _damaged(exposure, path, error) from error
    if table.shape != (rows, exposure.channel.columns):
        raise exposure.fault(
            path,
            f"in {path.parent.name} holds {table.height} rows x {table.width} columns, expected "
            f"{rows} x {exposure.channel.columns}",
        )
    strange = {str(t) for t in table.dtypes if not (t.is_numeric() or t == pl.Boolean)}
    if strange:
        raise exposure.fault(
            path, f"in {path.parent.name} holds {', '.join(sorted(strange))}, expected numbers"
        )
    if table.columns != _numbered(table.width):
        places = _places(exposure, path, table.columns)
        table = table.select(table.columns[place] for place in places)
    if set(table.dtypes) != {pl.Float64}:  # a cast of hundreds of columns is not free
        table = table.cast(pl.Float64)
    return table.to_numpy()


def _damaged(exposure: Exposure, path: Path, error: BaseException) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return exposure.fault(path, f"cannot be read, it may be truncated ({reason})")
