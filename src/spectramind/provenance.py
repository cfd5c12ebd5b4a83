"""Where a result comes from: hashes, git state, sidecars, and the debug log.

Every artefact carries a `Provenance` in a sidecar, every command leaves a row in
`v50_debug_log.md` and an event in `v50_debug_log.jsonl` in the current folder.
"""

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from spectramind import __version__
from spectramind.errors import WriteError

LOG_MARKDOWN = Path("v50_debug_log.md")
LOG_EVENTS = Path("v50_debug_log.jsonl")
_COLUMNS = (
    "time", "command", "state", "config", "data", "git", "seed", "device", "seconds", "outputs",
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """What an artefact was made from."""

    stage: str
    config_hash: str
    data_hash: str
    git_sha: str
    git_dirty: bool
    version: str
    seed: int | None
    created: str  # UTC, ISO 8601


def describe(*, stage: str, config_hash: str, data_hash: str, seed: int | None) -> Provenance:
    """Provenance of something made now by this code."""
    sha, dirty = git_state()
    return Provenance(stage, config_hash, data_hash, sha, dirty, __version__, seed, utc_now())


def utc_now() -> str:
    """Time in UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def digest(value: Any) -> str:  # noqa: ANN401 - anything JSON can hold
    """First 16 hexadecimal digits of the SHA-256 of the value as sorted, compact JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_hash(*parts: str) -> str:
    """Hash of the sources of packages and modules of this project, such as "calibrate".

    Part of the origin of cached results: other code, other result.
    """
    package = Path(__file__).resolve().parent
    seen = hashlib.sha256()
    for part in parts:
        place = package / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            seen.update(f"{path.relative_to(package)}\0".encode())
            seen.update(path.read_bytes())
    return seen.hexdigest()[:16]


@cache
def git_state() -> tuple[str, bool]:
    """Commit of the code and whether tracked files differ from it; ("none", False) without git."""
    folder = Path(__file__).resolve().parent
    try:
        sha = _git(folder, "rev-parse", "HEAD")
        return sha, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "none", False


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one, even after a kill.

    Raises:
        WriteError: If the disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary name beside `path`; what was written there takes its place at the end.

    Raises:
        WriteError: If the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> WriteError:
    """The sentence for a file that cannot be written."""
    return WriteError(
        f"{path}: cannot be written ({error.strerror or error}). Free disk space or point "
        "runtime.out at a folder you may write to; finished work is kept and the next run goes on "
        "from it."
    )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_sidecar(path: Path, provenance: Provenance, **facts: Any) -> None:  # noqa: ANN401
    """Write the provenance and further facts of an artefact as JSON."""
    write_json(path, {**asdict(provenance), **facts})


def append_event(event: Mapping[str, Any]) -> None:
    """Append one event to the JSONL and one row to the Markdown log, whole lines only."""
    _append(LOG_EVENTS, json.dumps(event, allow_nan=False) + "\n", header="")
    cells = [_cell(event.get(column, "")) for column in _COLUMNS]
    rule = "|".join(["---"] * len(_COLUMNS))
    header = f"# V50 debug log\n\n| {' | '.join(_COLUMNS)} |\n|{rule}|\n"
    _append(LOG_MARKDOWN, f"| {' | '.join(cells)} |\n", header=header)


def _cell(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _append(path: Path, line: str, *, header: str) -> None:
    try:
        with path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.write(line if handle.tell() else header + line)
    except OSError as error:
        raise unwritable(path, error) from error
