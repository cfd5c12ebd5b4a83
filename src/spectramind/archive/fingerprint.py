"""What data a result was made from, without reading 250 GB.

Files below 5 MiB (maps, tables, time axes), texts and netCDF files are read whole: every change
is seen. Of a larger parquet file, a signal, only the footer is. It lists offset and size of every
column, and the least and largest value where the writer stored statistics: the files of the
challenge have them, signals of our simulator have not. Other values in a column of the same
encoded size and, if stored, the same extremes are not seen; nor is a change in any other large
file before its last 64 KiB. Light-curve arrays are such files, but their JSON marks hold the hash
of the whole.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from spectramind.errors import DataError

_MAGIC = b"PAR1"
_TRAILER = 8  # bytes: length of the footer (4, little endian), then the magic
_WHOLE = (".csv", ".json", ".nc", ".yaml", ".txt")  # hashed from the first byte to the last
_SMALL = 5 * 2**20  # bytes: smaller files are hashed whole; the axis table has 4.3 MB
_TAIL = 65536  # bytes of any other file, and of a parquet file without a valid trailer
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
            raise DataError(
                f"{path}: cannot be read ({error.strerror}). Give yourself the right to read it."
            ) from error
    return total.hexdigest()[:16]


def _content(path: Path, size: int) -> bytes:
    if size < _SMALL or path.suffix in _WHOLE:
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
    """Data hash of an archive: DVC's md5 where DVC tracks it, a manifest hash elsewhere.

    "md5-<hash>": a `dvc.lock` in the current folder or above it, or `<root>.dvc`, lists the
    archive as an output; its number of files and their total size are those recorded; no file
    is newer than the record. "manifest-<hash>": `fingerprint` of the tables and netCDF
    files in `root` and of all files in its train, test and lightcurves folders (hidden ones,
    which are unfinished, and the truth folder and notes of the simulator are left out).
    """
    md5 = _tracked_md5(root.resolve())
    if md5 is not None:
        return f"md5-{md5}"
    tables = [path for path in root.iterdir() if path.suffix in (".csv", ".nc", ".parquet")]
    nested = [path for name in _SUBFOLDERS for path in _files(root / name)]
    return f"manifest-{fingerprint([*tables, *nested], root)}"


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden; faster than a recursive glob."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if not name.startswith("."):
                yield Path(parent) / name


def _tracked_md5(root: Path) -> str | None:
    """DVC's md5 of a folder, if a record of it is there and still agrees with the folder."""
    current = Path.cwd().resolve()
    records = [folder / "dvc.lock" for folder in (current, *current.parents)]
    for record in (root.with_name(f"{root.name}.dvc"), *records):
        for out in _outs(record):
            if _place(record, out) == root and _agrees(root, record, out):
                return str(out["md5"])
    return None


def _place(record: Path, out: dict[str, Any]) -> Path:
    return (record.parent / out["path"]).resolve()


def _outs(record: Path) -> Iterable[dict[str, Any]]:
    """Outputs that a dvc.lock or a .dvc file lists with path and md5.

    Raises:
        DataError: If the record is not what DVC writes.
    """
    if not record.is_file():
        return []
    try:
        content = yaml.safe_load(record.read_text())
        stages = [content] if "outs" in content else list(content.get("stages", {}).values())
        return [out for stage in stages for out in stage.get("outs", []) if "md5" in out]
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise DataError(
            f"{record}: is not a record that DVC writes ({type(error).__name__}). "
            "Restore it from git or delete it."
        ) from error


def _agrees(root: Path, record: Path, out: dict[str, Any]) -> bool:
    """Whether number, total size and age of the files are those of the record."""
    written_ns = record.stat().st_mtime_ns
    count = size = 0
    for parent, _, names in os.walk(root):
        for name in names:
            try:
                status = (Path(parent) / name).stat()
            except FileNotFoundError:  # another process is writing into the archive
                return False
            if status.st_mtime_ns > written_ns:
                return False
            count, size = count + 1, size + status.st_size
    return (count, size) == (out.get("nfiles"), out.get("size"))
