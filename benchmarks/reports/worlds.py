"""How the error bars hold in worlds made by other code."""

from typing import Any

from reports.markdown import grid

HEAD = (
    "family", "prior", "fit", "wide", "V50", "z² FGS1", "AIRS", "68 %", "90 %", "flagged", "joint",
)  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """A row per family and kind of prior."""
    rows = [
        (
            f"`{name}`", prior, f"{own['fit']:.3f}", f"{found['wide']:.3f}", f"{own['v50']:.3f}",
            f"{own['z2_fgs1']:.1f}", f"{own['z2_airs']:.1f}", f"{100.0 * own['cover68']:.0f}",
            f"{100.0 * own['cover90']:.0f}", f"{own['flagged']} of {found['planets']}",
            f"{own['joint']:.1f}",
        )
        for name, found in result["families"].items()
        for prior, own in found.items()
        if isinstance(own, dict)
    ]  # fmt: skip
    return f"{grid(HEAD, rows)}\n\n{_facts(result)}".rstrip()


def judged(result: dict[str, Any]) -> str:
    """The families on which no setting was chosen."""
    return table(result | {"families": _some(result, result["judged"])})


def developed(result: dict[str, Any]) -> str:
    """The families that the fit was developed on."""
    return table({"families": _some(result, result["developed"])})


def _some(result: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: own for name, own in result["families"].items() if name in names}


def _facts(result: dict[str, Any]) -> str:
    """What is said of all families together."""
    if "joint_home" not in result:
        return ""
    return (
        f"At home (sim2025) the mean joint distance is {result['joint_home']:.2f}. Doubt about "
        f"noise in time costs {result['control_loss']:+.4f} where all noise is white. The network "
        f"adds {result['mixed_gain']:+.4f} on average."
    )
