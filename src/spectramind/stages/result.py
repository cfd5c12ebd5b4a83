"""What a stage did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spectramind.errors import DataError
from spectramind.sentences import counted

_SHOWN = 10  # sentences of an error


@dataclass(frozen=True)
class Result:
    """What a stage did, for the closing line, the debug log and `--json`."""

    summary: str
    outputs: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[str, ...] = ()  # planets left out, each as a sentence
    kept: bool = False  # an earlier run did it, from the same


def require_some(done: int, expected: int, verb: str, failures: Sequence[str]) -> None:
    """Refuse to call a stage done that did nothing.

    Args:
        done: Planets that it has a result of.
        expected: Planets that there are.
        verb: What it does to a planet, as "fitted".
        failures: Why they were left out.

    Raises:
        DataError: If there is no result at all; says the first reasons, one a line.
    """
    if done:
        return
    was = "was" if expected == 1 else "were"
    more = [f"and {len(failures) - _SHOWN} more like these"] if len(failures) > _SHOWN else []
    raise DataError("\n".join([
        f"0 of {counted(expected, 'planet')} {was} {verb}, so the next stages have nothing to "
        "work on. Mend what follows, then run this again.",
        *failures[:_SHOWN], *more,
    ]))  # fmt: skip
