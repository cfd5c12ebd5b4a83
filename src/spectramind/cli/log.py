"""The debug log: a row and an event for each command, in the current folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectramind.files import append, locked

LOG_MARKDOWN = Path("v50_debug_log.md")
LOG_EVENTS = Path("v50_debug_log.jsonl")
_LOCK = Path(".v50_debug_log.lock")
_COLUMNS = (
    "time", "command", "state", "config", "data", "git", "seed", "device", "seconds", "outputs",
)  # fmt: skip


def append_event(event: Mapping[str, Any]) -> None:
    """Append one event to the JSONL and one row to the Markdown log, whole lines only."""
    cells = [_cell(event.get(column, "")) for column in _COLUMNS]
    rule = "|".join(["---"] * len(_COLUMNS))
    header = f"# V50 debug log\n\n| {' | '.join(_COLUMNS)} |\n|{rule}|\n"
    with locked(_LOCK, wait=True):
        append(LOG_EVENTS, json.dumps(event, allow_nan=False) + "\n", header="")
        append(LOG_MARKDOWN, f"| {' | '.join(cells)} |\n", header=header)


def _cell(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
