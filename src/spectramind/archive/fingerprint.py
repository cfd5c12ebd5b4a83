"""What data a result was made from, without reading 250 GB.

One archive has one hash, however it is reached: paths count from its root, links are followed,
and neither the age of a file nor who else keeps track of the archive plays a part.

Files below 5 MiB (maps, tables, time axes), texts and netCDF files are read whole: every change
is seen. Of a larger parquet file, a signal, only the footer is. It lists offset and size of every
column, and the least and largest value where the writer stored statistics: the files of the
challenge have them, signals of our simulator have not. Other values in a column of the same
encoded size and, if stored, the same extremes are not seen; nor is a change in any other large
file before its last 64 KiB. Light-curve arrays are such files, but their JSON marks hold the hash
of the whole.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from spectramind.errors import DataError

_MAGIC = b"PAR1"
_TRAILER = 8  # bytes: length of the footer (4, little endian), then the magic
_WHOLE = (".csv", ".gz", ".json", ".nc", ".yaml", ".txt")  # hashed from the first byte to the last
_SMALL = 5 * 2**20  # bytes: smaller files are hashed whole; the axis table has 4.3 MB
_TAIL = 65536  # bytes of any other file, and of a parquet file without a valid trailer
_TABLES = (".csv", ".csv.gz", ".nc", ".parquet")
_SUBFOLDERS = ("train", "test", "lightcurves")


def fingerprint(paths: Sequence[Path], root: Path) -> str:
    """Hash of files by their path below `root`, size and content, first 16 hex digits.

    The content is the whole of a file below 5 MiB and of a csv, json, nc, yaml or txt file, else
    the footer of a parquet file or the last 64 KiB. A truncated parquet file has one, too.

    Raises:
        DataError: If a file is missing or cannot be read.
    """
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        try:
            size = path.stat().st_size
            total.update(f"{size}\0".encode())
            total.update(hashlib.sha256(_content(path, size)).digest())
        except FileNotFoundError as error:
            raise DataError(f"{path}: is missing. Fetch the file again.") from error
        except OSError as error:
            raise _unreadable(path, error) from error
    return total.hexdigest()[:16]


def _content(path: Path, size: int) -> bytes:
    if size < _SMALL or path.suffix.lower() in _WHOLE:
        return path.read_bytes()
    with path.open("rb") as handle:
        handle.seek(max(size - _TRAILER, 0))
        trailer = handle.read()
        tail = _TAIL
        if path.suffix == ".parquet" and trailer[4:] == _MAGIC:
            tail = int.from_bytes(trailer[:4], "little") + _TRAILER
        handle.seek(max(size - tail, 0))
        return handle.read()


def archive_hash(root: Path) -> str:
    """Data hash of an archive: `fingerprint` of all files that its planets are made from.

    These are the tables and netCDF files in `root` and all files in its train, test and
    lightcurves folders. Left out are hidden files, which are unfinished, the truth folder and
    notes of the simulator, and links that lead nowhere, behind which there are no data.
    """
    return fingerprint(archive_files(root), root)


def archive_files(root: Path) -> list[Path]:
    """The files of an archive that `archive_hash` counts.

    Raises:
        DataError: If a folder cannot be read.
    """
    here = _entries(root)
    tables = [path for path in here if path.name.lower().endswith(_TABLES) and path.is_file()]
    nested = [path for own in here if own.name in _SUBFOLDERS for path in _files(own, ())]
    return [*tables, *nested]


def _files(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """A file, or all files below a folder that are not hidden, behind links too."""
    if not path.exists():
        return  # a link that leads nowhere, or to itself
    if not path.is_dir():
        yield path
    elif (place := path.resolve()) not in above:  # else a link to a folder above it
        for entry in _entries(path):
            yield from _files(entry, (*above, place))


def _entries(folder: Path) -> list[Path]:
    """What is not hidden in a folder."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path}: cannot be read ({error.strerror}). Give yourself the right to read it."
    )
