"""Tables in Markdown, and the line below them that says when and where they were measured."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """One number of a result and how it is shown."""

    label: str
    key: str
    unit: str = ""
    wanted: str = ""


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; every row has as many cells as the head."""
    lines = [head, ["---"] * len(head), *rows]
    for line in lines:
        assert len(line) == len(head), line
    return "\n".join("|".join(["", *map(_cell, cells), ""]) for cells in lines)


def figures(result: dict[str, Any], shown: Sequence[Figure]) -> str:
    """A table of single numbers, with what was wanted of them where something was."""
    rows = [
        (one.label, f"{number(result[one.key])} {one.unit}".strip(), one.wanted) for one in shown
    ]
    if not any(one.wanted for one in shown):
        return grid(("figure", "value"), [row[:2] for row in rows])
    return grid(("figure", "value", "wanted"), rows)


def number(value: float, form: str = "") -> str:
    """In Python's format, with a blank before a % and no zero before a single-digit exponent."""
    return f"{value:{form}}".replace("%", " %").replace("e-0", "e-")


def _cell(text: str) -> str:
    return f" {text} " if text else " "


def measured(result: dict[str, Any]) -> str:
    """Date and machine; results of former days know less of it."""
    machine = [result["cpu"]] if "cpu" in result else []
    if "cores" in result:
        machine.append(f"{result['cores']} cores")
    load = result.get("load_before")
    machine.append("load not recorded" if load is None else f"load {load} before the start")
    return f"Measured on {result['date'][:10]}: {', '.join(machine)}."
