"""What the second way round of labels is worth."""

from typing import Any

from reports.markdown import grid, measured

SETS = ("sim2025", "inject2024")


def table(result: dict[str, Any]) -> str:
    """Scores of the fit and of the network either way, and the difference with its 95 %."""
    sets = [name for name in SETS if "skipped" not in result[name]]
    rows = [
        (
            f"`{name}`", f"{own['planets']}", f"{own['fit']:.4f}", f"{own['as_it_is']:.4f}",
            f"{own['nested']:.4f}",
            f"{own['leak']:+.4f} ({own['leak_low95']:+.4f} to {own['leak_high95']:+.4f})",
        )
        for name, own in ((name, result[name]) for name in sets)
    ]  # fmt: skip
    head = ("set", "planets", "fit", "network as it is", "nested", "leak")
    return f"{grid(head, rows)}\n\n{measured(result)}"
