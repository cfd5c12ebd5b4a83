"""How the error bars hold in worlds made by other code."""

from typing import Any

from reports.markdown import grid

HEAD = (
    "family", "prior", "fit", "V50", "z² FGS1", "AIRS", "68 %", "90 %", "flagged", "joint",
)  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """A row per family and kind of prior."""
    rows = [
        (
            f"`{name}`", prior, f"{own['fit']:.3f}", f"{own['v50']:.3f}", f"{own['z2_fgs1']:.1f}",
            f"{own['z2_airs']:.1f}", f"{100.0 * own['cover68']:.0f}",
            f"{100.0 * own['cover90']:.0f}", f"{own['flagged']} of {found['planets']}",
            f"{own['joint']:.1f}",
        )
        for name, found in result["families"].items()
        for prior, own in found.items()
        if isinstance(own, dict)
    ]  # fmt: skip
    return grid(HEAD, rows)
