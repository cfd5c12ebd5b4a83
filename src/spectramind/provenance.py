"""Where a result comes from: hashes, git state and the sidecar that every artefact carries."""

import hashlib
import json
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from spectramind import __version__
from spectramind.artefacts import save_json


@dataclass(frozen=True)
class Provenance:
    """What an artefact was made from."""

    stage: str
    config_hash: str
    code_hash: str  # of all modules that the stage imports
    data_hash: str
    git_sha: str
    git_dirty: bool
    version: str
    seed: int | None
    created: str  # UTC, ISO 8601


def describe(
    *, stage: str, config_hash: str, code_hash: str, data_hash: str, seed: int | None
) -> Provenance:
    """Provenance of something made now by this code."""
    sha, dirty = git_state()
    return Provenance(
        stage, config_hash, code_hash, data_hash, sha, dirty, __version__, seed, utc_now()
    )


def utc_now() -> str:
    """Time in UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def digest(value: Any) -> str:  # noqa: ANN401 - anything JSON can hold
    """First 16 hexadecimal digits of the SHA-256 of the value as sorted, compact JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def write_sidecar(path: Path, provenance: Provenance, **facts: Any) -> None:  # noqa: ANN401
    """Write the provenance and further facts of an artefact as JSON."""
    save_json(path, {**asdict(provenance), **facts})
