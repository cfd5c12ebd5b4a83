"""The one place that writes: files that are whole or not there, locks, and lines of a log.

A file is written under another name beside its own and then renamed, so that a reader sees the
old one or the whole new one, even after a kill. Nothing is written through a link that somebody
has planted: the other name cannot be guessed and is made anew, the rename takes the place of a
link, and locks and logs refuse one. What a killed process leaves is a hidden file `.NAME.<16 hex
digits>.tmp`, which no reader looks at.
"""

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectramind.errors import ArtefactError, WriteError

if TYPE_CHECKING:
    import polars as pl

_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one, even after a kill.

    Raises:
        WriteError: If the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out an empty file beside `path`; what was written there takes its place at the end.

    Raises:
        WriteError: If the disk is full or the folder cannot be written.
    """
    with _in_words(path), _temporary(path) as temporary:
        yield temporary
        _to_disk(temporary)
        temporary.replace(path)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of which the last vouches for the others: who finds it finds all of them.

    All are on disk under other names before the old voucher goes and the new files come. A full
    disk leaves the old files; a kill leaves those, or no voucher, or the new ones.

    Raises:
        WriteError: If the disk is full or a folder cannot be written.
    """
    *_, voucher = contents
    made: dict[Path, Path] = {}
    with ExitStack() as stack:
        for path, content in contents.items():
            with _in_words(path):
                made[path] = stack.enter_context(_temporary(path))
                made[path].write_bytes(content)
                _to_disk(made[path])
        with _in_words(voucher):
            voucher.unlink(missing_ok=True)
        for path, temporary in made.items():
            with _in_words(path):
                temporary.replace(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, atomically."""
    write_atomic(path, json_bytes(value))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A mapping as the text of a JSON file."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def write_parquet(path: Path, table: "pl.DataFrame", **layout: Any) -> None:  # noqa: ANN401
    """Write a table as parquet, atomically.

    Args:
        path: File to write.
        table: What to write.
        layout: Of the file, as `DataFrame.write_parquet` takes it.

    Raises:
        WriteError: If the disk is full or the folder cannot be written.
    """
    from polars.exceptions import PolarsError

    with replacing(path) as temporary:
        try:
            table.write_parquet(temporary, **layout)
        except PolarsError as error:  # polars wraps what the system says
            raise unwritable(path, error) from error


def append(path: Path, line: str, *, header: str) -> None:
    """Add a line to a log, a new one below its header; the caller holds a lock.

    Raises:
        WriteError: If the file is a link or cannot be written.
    """
    with _in_words(path):
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with os.fdopen(
            os.open(path, how, 0o666), "a", encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(line if file.tell() else header + line)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock for this process; it vanishes with the process, its file stays.

    Args:
        path: Of the lock's file.
        wait: For a process that holds it now.

    Raises:
        BlockingIOError: If another process holds it and `wait` is false.
        WriteError: If the file is a link or cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive its process
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise BlockingIOError(f"{path}: another process holds this lock") from error
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock that no other process holds now.

    Args:
        path: Of the lock's file.
        refusal: The sentence for a user whose other process holds it.

    Raises:
        ArtefactError: If another process holds it.
        WriteError: If the file is a link or cannot be written.
    """
    with ExitStack() as held:
        try:
            held.enter_context(locked(path, wait=False))
        except BlockingIOError as error:
            raise ArtefactError(refusal) from error
        yield


def remove_leftovers(folder: Path, name: str) -> None:
    """Remove what killed processes left of writing, in a folder and those below it.

    Nobody else may be writing these files now.

    Args:
        folder: Where to look; it need not exist.
        name: How the names of the files that were to be written begin; "" for all.

    Raises:
        WriteError: If a file cannot be removed.
    """
    for parent, _, names in os.walk(folder):
        for left in names:
            found = _LEFTOVER.fullmatch(left)
            if found and found[1].startswith(name):
                with _in_words(Path(parent, left)):
                    Path(parent, left).unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Refuse a file or folder that could not be written, without writing anything.

    Raises:
        WriteError: If its folder cannot be made or may not be written.
    """
    folder = path if path.is_dir() else path.absolute().parent
    if not writable(folder):
        raise unwritable(path, PermissionError(errno.EACCES, f"{folder} may not be written to"))


def writable(folder: Path) -> bool:
    """Whether files can be written into a folder, which is made if need be."""
    absolute = folder.absolute()
    here = next(place for place in (absolute, *absolute.parents) if os.path.lexists(place))
    return here.is_dir() and os.access(here, os.W_OK | os.X_OK)


def unwritable(path: Path, error: Exception) -> WriteError:
    """The sentence for a file that cannot be written."""
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return WriteError(f"{path}: is a link, and nothing is written through one. Remove it.")
    reason = getattr(error, "strerror", None) or error
    return WriteError(
        f"{path}: cannot be written ({reason}). Free disk space or point runtime.out at a folder "
        "you may write to; finished work is kept and the next run goes on from it."
    )


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A new, empty file beside `path` that nobody else can have made; it is gone at the end."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.touch(exist_ok=False)  # O_CREAT | O_EXCL: never through a link
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error
