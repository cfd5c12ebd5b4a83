"""One command from start to end: configuration, the one place that catches, log and exit code."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from spectramind.cli.log import append_event
from spectramind.errors import ConfigError, SpectraMindError
from spectramind.hardware import memory_limit_gib
from spectramind.provenance import git_state, utc_now

if TYPE_CHECKING:
    from spectramind.config import Config


_INTERRUPTED, _TERMINATED = 130, 143  # exit codes, as shells have them for SIGINT and SIGTERM
_OUT_OF_MEMORY = re.compile("out of memory|DefaultCPUAllocator|annot allocate memory|map segment")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a stage command."""

    params: Path | None
    as_json: bool
    strict: bool
    debug: bool
    multirun: bool = False
    dry_run: bool = False
    out_csv: Path | None = None
    overwrite: bool = False


@dataclass
class Call:
    """A running command and what the debug log will say of it."""

    command: str
    config_hash: str = ""
    data_hash: str = ""
    seed: int | None = None
    device: str = "cpu"
    outputs: Sequence[Path] = ()
    state: str = "failed: error in the program"  # until it is known better
    start: float = field(default_factory=time.monotonic)

    def load_config(self, overrides: Sequence[str], params: Path | None = None) -> "Config":
        """Compose from overrides, or read the frozen file; never both."""
        from spectramind.config import load, load_params

        if params is not None and overrides:
            raise ConfigError(
                f"--params {params}: cannot be combined with KEY=VALUE ({overrides[0]}). "
                "Give one of the two."
            )
        return load(overrides) if params is None else load_params(params)

    def say(self, line: str) -> None:
        """One line of progress on stderr."""
        typer.echo(line, err=True)

    def finish(
        self, summary: str, facts: Mapping[str, Any], *, as_json: bool, state: str = "done"
    ) -> None:
        """Print the result on stdout and mark the command as done."""
        typer.echo(json.dumps(dict(facts), indent=1, default=str) if as_json else summary)
        self.state = state

    def seconds(self) -> float:
        """Time since the command began."""
        return time.monotonic() - self.start

    def event(self) -> dict[str, Any]:
        """The row of the debug log."""
        sha, dirty = git_state()
        return {
            "time": utc_now(),
            "command": self.command,
            "arguments": sys.argv[1:],
            "state": self.state,
            "config": self.config_hash,
            "data": self.data_hash,
            "git": sha[:12] + ("+dirty" if dirty else ""),
            "seed": self.seed,
            "device": self.device,
            "seconds": round(self.seconds(), 2),
            "outputs": [str(path) for path in self.outputs],
        }


@contextmanager
def command(name: str, *, debug: bool) -> Iterator[Call]:
    """Run a command inside; catch what a user can mend, log everything, set the exit code."""
    call = Call(name)
    try:
        with _orderly_end(call):
            yield call
    except (SpectraMindError, MemoryError, RuntimeError, OSError, ImportError) as error:
        sentence, code = _in_words(error)
        if sentence is None:
            raise
        call.state = f"failed: {sentence}"
        if debug:
            raise
        for line in sentence.splitlines():
            call.say(f"error: {line}")
        raise typer.Exit(code) from error
    except KeyboardInterrupt as error:
        _stop(call)
        raise typer.Exit(_INTERRUPTED) from error
    except SystemExit as end:
        if end.code == _TERMINATED:
            _stop(call)
        raise
    finally:
        _log(call)


def _in_words(error: Exception) -> tuple[str | None, int]:
    """The sentence and exit code of an error that a user can mend; None for any other."""
    if isinstance(error, SpectraMindError):
        return str(error), error.exit_code
    behind = f"{error} {error.__cause__} {error.__context__}"  # libraries say it in other words
    if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(behind):
        return None, 1
    said, limit = (str(error).splitlines() or [""])[0], memory_limit_gib()
    most = "there is" if limit is None else f"the limit of {limit:.1f} GiB allows"
    return (
        f"out of memory{said and f' ({said})'}: the command needs more than {most}. Lower "
        "runtime.workers or give it more; finished work is kept and the next run goes on from it."
    ), 1


def _stop(call: Call) -> None:
    """End the worker processes, and say that the command was interrupted."""
    from spectramind.parallel import stop_workers  # rich takes long to load

    call.state = "interrupted"
    call.say(
        f"{call.command}: interrupted after {call.seconds():.0f} s; finished work is kept and the "
        "next run goes on from it"
    )
    stop_workers()


@contextmanager
def _orderly_end(call: Call) -> Iterator[None]:
    """Let SIGTERM end a command as SIGINT does: nothing half-written stays, and it is logged.

    The first SIGINT may be lost in a library that catches everything, so the second one ends the
    process where it stands; once the command has ended, more of them change nothing. Who starts a
    command with SIGINT ignored wants it ignored.
    """
    seen = False

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            _stop(call)
            _log(call)
            os._exit(_INTERRUPTED)
        seen = True
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, end)
    if before[signal.SIGINT] is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])
        signal.signal(signal.SIGINT, signal.SIG_IGN if seen else before[signal.SIGINT])


def _log(call: Call) -> None:
    """Write the debug log; where that cannot be done, it is said and changes nothing else."""
    try:
        append_event(call.event())
    except (SpectraMindError, MemoryError) as error:
        call.say(f"the debug log is left out: {str(error) or 'out of memory'}")
