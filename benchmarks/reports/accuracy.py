"""The fit on two frozen sets, between simpler estimators and two bounds."""

from typing import Any

from reports.markdown import grid, measured

HEAD = (
    "", "2025", "2024", "without", "z² FGS1", "AIRS", "joint", "rms FGS1 [ppm]", "AIRS", "flagged",
    "> 8 sigma",
)  # fmt: skip
LABELS = {"full fit": "**full fit**", "limit": "limit of a Gaussian prior"}


def sim2025(result: dict[str, Any]) -> str:
    """The set of simulated planets."""
    return table(result["sim2025"])


def inject2024(result: dict[str, Any]) -> str:
    """The set of real labels of 2024 under simulated visits."""
    return table(result["inject2024"])


def table(own: dict[str, Any]) -> str:
    """All rows of one set; `without` is what a row costs against the full fit."""
    if "skipped" in own:
        return f"Left out. {own['skipped']}"
    rows = [_row(name, one, own["worth"].get(name)) for name, one in own["rows"].items()]
    seeds = ", ".join(f"{source} {seed}" for source, seed in own["seeds"].items())
    facts = (
        f"{own['planets']} planets judged, {own['teachers']} teach. "
        f"The fit reaches {100.0 * own['fit_over_limit']:.1f} % of `limit` by the metric of "
        f"{own['metric']} (wanted: 97 %). Seeds: {seeds}. {measured(own)}"
    )
    return f"{grid(HEAD, rows)}\n\n{facts}"


def _row(name: str, one: dict[str, Any], worth: float | None) -> tuple[str, ...]:
    return (
        LABELS.get(name, name),
        f"{one['score_2025']:.4f}", f"{one['score_2024']:.4f}",
        "" if worth is None else f"{-worth:+.4f}",
        f"{one['z2_fgs1']:.2f}", f"{one['z2_airs']:.2f}",
        f"{one['joint']:.2f}" if "joint" in one else "",
        f"{one['rms_fgs1_ppm']:.0f}", f"{one['rms_airs_ppm']:.0f}",
        f"{one['flagged']}", f"{one['far_unflagged']}",
    )  # fmt: skip
