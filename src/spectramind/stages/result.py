"""What a stage did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """What a stage did, for the closing line, the debug log and `--json`."""

    summary: str
    outputs: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[str, ...] = ()  # planets left out, each as a sentence
    kept: bool = False  # an earlier run did it, from the same
