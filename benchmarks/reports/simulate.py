"""Seconds and memory of a simulated visit."""

from typing import Any

from reports.markdown import Figure, figures, measured

FIGURES = (
    Figure("simulate one visit", "s_per_visit", "s", "<= 40"),
    Figure("peak memory of the process", "peak_gb", "GB", "<= 2"),
)


def table(result: dict[str, Any]) -> str:
    """One visit in one process."""
    return f"{figures(result, FIGURES)}\n\nSeed {result['seed']}. {measured(result)}"
