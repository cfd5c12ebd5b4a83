"""Prediction of a whole archive from cached fits."""

from typing import Any

from reports.markdown import grid, measured


def table(result: dict[str, Any]) -> str:
    """Minutes of the command, and what part of it each step takes, the longest first."""
    whole, parts = 60.0 * result["minutes"], result["parts_s"]
    head = f"predict, {result['planets']:,} planets, {result['members']} members"
    rows = [(f"**{head}**", f"{result['minutes']:.2f} min", "100 %", "<= 10 min")]
    for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
        rows.append((name, f"{seconds:.1f} s", f"{100.0 * seconds / whole:.0f} %", ""))
    return f"{grid(('part', 'time', 'share', 'wanted'), rows)}\n\n{measured(result)}"
