"""Where a result comes from: hashes, git state and the sidecar that every artefact carries."""

import hashlib
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from spectramind import __version__
from spectramind.artefacts import save_json

_PACKAGE = Path(__file__).resolve().parent


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
    """Commit of the code and whether tracked files differ from it; ("none", False) without git.

    Only this project's own repository counts, not one that an installation happens to lie in.
    """
    try:
        top = Path(os.fsdecode(_git("rev-parse", "--show-toplevel")))
        if not (top / "src").is_dir() or not (top / "src").samefile(_PACKAGE.parent):
            return "none", False
        sha = _git("rev-parse", "HEAD").decode("ascii")
        return sha, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "none", False


def _git(*arguments: str) -> bytes:
    """What git says of the repository around this package, whatever repository calls us."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(_PACKAGE), *arguments], check=True, capture_output=True, env=own
    )
    return done.stdout.strip()


def write_sidecar(path: Path, provenance: Provenance, **facts: Any) -> None:  # noqa: ANN401
    """Write the provenance and further facts of an artefact as JSON."""
    save_json(path, {**asdict(provenance), **facts})
