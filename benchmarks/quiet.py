"""The machine before a benchmark starts: whether it is quiet, what it is, and which code runs.

state = Machine.now()     first of all; prints the load, and says when it is too high
result = measure() | state.stored()
state.store_times(RESULT, result)     only if the machine was quiet
"""

import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from spectramind.files import write_json
from spectramind.hardware import cpu_name
from spectramind.provenance import git_state, utc_now

QUIET = 0.5  # load average below which times are those of the program alone


@dataclass(frozen=True)
class Machine:
    """What times and memory depend on besides the program, as it was before the start."""

    load_before: float  # average of the last minute [processes]
    cores: int  # that this process may use
    cpu: str
    python: str
    torch: str
    numba: str
    date: str  # UTC, ISO 8601
    git_sha: str
    git_dirty: bool

    @classmethod
    def now(cls) -> Self:
        """Read the machine and say on stderr how busy it is."""
        sha, dirty = git_state()
        state = cls(
            load_before=round(os.getloadavg()[0], 2),
            cores=len(os.sched_getaffinity(0)),
            cpu=cpu_name(),
            python=platform.python_version(),
            torch=version("torch"),
            numba=version("numba"),
            date=utc_now(),
            git_sha=sha,
            git_dirty=dirty,
        )
        print(state.sentence(), file=sys.stderr, flush=True)
        return state

    @property
    def quiet(self) -> bool:
        """Whether nothing else ran to speak of."""
        return self.load_before <= QUIET

    def sentence(self) -> str:
        """How busy the machine is, and what follows from that."""
        busy = f"load {self.load_before:.2f} before the start, {self.cores} cores ({self.cpu})"
        if self.quiet:
            return f"{busy}: quiet."
        return (
            f"{busy}: above {QUIET}, so other programs run and all times come out too long. "
            "Wait until they have ended, then measure again."
        )

    def stored(self) -> dict[str, Any]:
        """What a result keeps of it."""
        return asdict(self)

    def store_times(self, path: Path, result: dict[str, Any]) -> None:
        """Write a result that holds times, unless other programs made them too long."""
        if self.quiet:
            write_json(path, result)
            return
        print(
            f"{path.name}: the result is printed and not stored, for the load was "
            f"{self.load_before:.2f}, expected at most {QUIET}. Measure again on a quiet machine.",
            file=sys.stderr,
            flush=True,
        )
