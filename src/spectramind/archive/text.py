"""CSV tables as people write them: UTF-8 with or without a mark, any line ends, also gzipped."""

import gzip
import re
import zlib
from pathlib import Path

import polars as pl

from spectramind.errors import DataError

UNREADABLE = (  # what the readers of text and parquet raise where a file is damaged
    OSError, EOFError, MemoryError, UnicodeDecodeError, zlib.error,
    pl.exceptions.PolarsError, pl.exceptions.PanicException,
)  # fmt: skip
PLANET_ID = "planet_id"
_GZIP = b"\x1f\x8b"
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_MISSING = ("", "na", "n/a", "nan", "null", "none")  # cells without a value, in lower case
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


def read_csv(path: Path) -> pl.DataFrame:
    """A CSV table: numbers as Float64, other columns and planet_id as text; null is no value.

    Identifiers stay text because a Float64 holds whole numbers up to 2^53 only.

    Raises:
        DataError: If the table is written with another separator or with comments.
        UNREADABLE: If the file cannot be read.
    """
    content = path.read_bytes()
    if content.startswith(_GZIP):
        content = gzip.decompress(content)
    lines = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    _refuse_dialect(path, lines)
    table = pl.read_csv(lines.encode(), infer_schema=False)
    table = table.rename({name: name.strip() for name in table.columns})
    table = table.select(_typed(column) for column in table)
    return table.filter(~pl.all_horizontal(pl.all().is_null()))  # a blank line


def _refuse_dialect(path: Path, lines: str) -> None:
    comment = _COMMENT.search(lines)
    if comment:
        raise DataError(
            f"{path}: line {lines.count(chr(10), 0, comment.start()) + 1} begins with '#'. "
            "Comments have no place in a CSV table. Remove such lines."
        )
    header = lines.partition("\n")[0]
    for separator, name in _OTHER_SEPARATORS.items():
        if separator in header and "," not in header:
            raise DataError(
                f"{path}: the columns are separated by {name}, expected commas. Write it with "
                "commas and decimal points."
            )


def _typed(column: pl.Series) -> pl.Series:
    """A column of text as numbers, if each cell is one or empty."""
    text = column.str.strip_chars()
    values = text.cast(pl.Float64, strict=False)
    if column.name != PLANET_ID and not values.null_count():
        return values
    text = text.set(text.str.to_lowercase().is_in(_MISSING), None)
    if column.name == PLANET_ID or (values.is_null() & text.is_not_null()).any():
        return text
    return values
