"""One command from start to end: configuration, the one place that catches, log and exit code."""

import json
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
from spectramind.provenance import git_state, utc_now

if TYPE_CHECKING:
    from spectramind.config import Config


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
    state: str = "interrupted"
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

    def finish(self, summary: str, facts: Mapping[str, Any], *, as_json: bool) -> None:
        """Print the result on stdout and mark the command as done."""
        typer.echo(json.dumps(dict(facts), indent=1, default=str) if as_json else summary)
        self.state = "done"

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
        with _orderly_end():
            yield call
    except SpectraMindError as error:
        call.state = f"failed: {error}"
        if debug:
            raise
        for line in str(error).splitlines():
            call.say(f"error: {line}")
        raise typer.Exit(error.exit_code) from error
    finally:
        _log(call)


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: nothing half-written stays, and it is logged."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _log(call: Call) -> None:
    """Write the debug log; a folder that cannot be written is said aloud and is an error."""
    try:
        append_event(call.event())
    except SpectraMindError as error:
        call.say(f"error: {error}")
        raise typer.Exit(error.exit_code) from error
