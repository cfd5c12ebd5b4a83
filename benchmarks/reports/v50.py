"""The network against the fit on the frozen sets."""

from typing import Any

from reports.markdown import grid, measured

SETS = ("sim2025", "inject2024", "shifted")
COLUMNS = {
    "own": "own planets alone",
    "pretrained": "shipped weights",
    "tuned": "shipped, then own planets",
}


def table(result: dict[str, Any]) -> str:
    """The fit's score of each set and what each way of training gains over it, with its 95 %."""
    sets = [name for name in SETS if name in result and "skipped" not in result[name]]
    rows = [
        (
            f"`{name}`", f"{result[name]['planets']}", f"{result[name]['fit']:.4f}",
            *(_gain(result[name]["rows"][column], column) for column in COLUMNS),
        )
        for name in sets
    ]  # fmt: skip
    notes = [f"`{name}`: {_errors(result[name])}. {measured(result[name])}" for name in sets]
    notes += [
        f"`{name}` left out. {own['skipped']}" for name, own in result.items() if "skipped" in own
    ]
    head = ("set", "planets", "fit", *COLUMNS.values())
    return f"{grid(head, rows)}\n\n" + "\n".join(f"- {note}" for note in notes)


def _gain(row: dict[str, float], column: str) -> str:
    gain = f"{row['gain']:+.4f}"
    shown = f"**{gain}**" if column == "tuned" else gain
    return f"{shown} ({row['gain_low95']:+.4f} to {row['gain_high95']:+.4f})"


def _errors(own: dict[str, Any]) -> str:
    fit, tuned = own["rows"]["fit"], own["rows"]["tuned"]
    trained = ", ".join(
        f"{own['rows'][column]['train_s']:.0f} s for {COLUMNS[column]}"
        for column in ("own", "tuned")
    )
    return (
        f"rms error over AIRS {fit['rms_airs_ppm']:.1f} ppm of the fit, "
        f"{tuned['rms_airs_ppm']:.1f} of the last column; "
        f"{own['teachers']} planets teach, training took {trained}"
    )
