"""What each part of the network is worth."""

import math
from statistics import fmean, variance
from typing import Any

from reports.markdown import grid, measured

WHOLE, OWN = "all parts", "own observations alone"
LABELS = {
    WHOLE: "**all parts**",
    OWN: "**own observations alone**",
    "transformer for Mamba": "transformer in place of Mamba, equal size",
    "no graph": "no graph: every wavelength hears itself alone",
    "rgcn for gat": "`rgcn` in place of `gat`",
    "masked stage first": "masked autoencoding first, 1 epoch",
    "contrastive stage first": "contrastive alignment first, 1 epoch",
    "smoothness prior": "smoothness prior, 0.1",
    "FFT prior": "FFT prior, 0.05",
    "negativity prior": "non-negativity, 1",
    "asymmetry guardrail": "asymmetry guardrail, 0.1",
    "band coherence": "band coherence, 0.1",
    "own, no FGS1 encoder": "no FGS1 encoder",
    "own, transformer": "transformer in place of Mamba",
    "own, masked stage first": "masked autoencoding first, 10 epochs",
    "own, contrastive stage first": "contrastive alignment first, 10 epochs",
    "own, without the fit": "without the fit: light curves, mean spectrum of the teachers",
}


def table(result: dict[str, Any]) -> str:
    """All variants, and the time of a step."""
    parts = [whole(result)]
    if OWN in result["rows"]:
        parts.append(own(result))
    if "steps" in result:
        parts.append(steps(result))
    return "\n\n".join(parts)


def whole(result: dict[str, Any]) -> str:
    """Variants beside the network that learned from planets observed again."""
    rows = {name: row for name, row in result["rows"].items() if name != OWN}
    rows = {name: row for name, row in rows.items() if row.get("beside") != OWN}
    facts = (
        f"{result['planets']} planets judged, {result['teachers']} teach, fit {result['fit']:.4f}."
    )
    return f"{_variants(rows, result)}\n\n{facts} {_moves(rows)} {measured(result)}"


def own(result: dict[str, Any]) -> str:
    """Variants beside the network that learned from the planets as they are."""
    rows = {
        name: row
        for name, row in result["rows"].items()
        if name == OWN or row.get("beside") == OWN
    }
    alike = {name: row for name, row in rows.items() if "without the fit" not in name}
    return f"{_variants(rows, result)}\n\n{_moves(alike)} {measured(result)}"


def steps(result: dict[str, Any]) -> str:
    """Time of a training step."""
    made = result["steps"]
    head = f"a step of {made['planets']} planets, one core"
    rows = [(name, f"{spent:.0f} ms") for name, spent in made["ms"].items()]
    facts = f"Median of {made['rounds']} rounds in turn. {measured(made)}"
    return f"{grid((head, 'forward and backward'), rows)}\n\n{facts}"


def scatter(rows: dict[str, dict[str, Any]]) -> float:
    """Standard deviation of the difference of two variants from one seed to another.

    Pooled over variants; each mean is over as many trainings as there are seeds.
    """
    variances = [
        variance(row["gains"]) / len(row["gains"])
        for row in rows.values()
        if len(row["gains"]) > 1
    ]
    return math.sqrt(2.0 * fmean(variances)) if variances else math.nan


def _variants(rows: dict[str, dict[str, Any]], result: dict[str, Any]) -> str:
    seeds = " and ".join(str(seed) for seed in result["seeds"])
    head = ("variant", f"gain, seed {seeds}", "apart")
    return grid(head, [
        (
            LABELS.get(name, name), ", ".join(f"{gain:.4f}" for gain in row["gains"]),
            _apart(name, row),
        )
        for name, row in rows.items()
    ])  # fmt: skip


def _apart(name: str, row: dict[str, Any]) -> str:
    if "apart" not in row:
        return ""
    shown = f"{row['apart']:+.4f} ± {row['apart_error']:.4f}"
    return f"({shown} from {row['beside']})" if name == OWN else shown


def _moves(rows: dict[str, dict[str, Any]]) -> str:
    moved = scatter(rows)
    return (
        f"Training itself moves `apart` by {moved:.5f} (one standard deviation): below "
        f"{2.0 * moved:.4f} no difference can be told from 0."
    )
