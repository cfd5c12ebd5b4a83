"""Energy score of the decoders."""

from statistics import fmean
from typing import Any

from reports.markdown import grid, measured

ROWS = {
    "the fit, its full covariance": ("", "fit"),
    "Gaussian heads": ("gaussian", "gaussian"),
    "with a low-rank covariance": ("", "covariance"),
    "diffusion": ("diffusion", "diffusion"),
    "the best Gaussian there is": ("gaussian_limit", ""),
    "the truth's own distribution": ("exact", ""),
}


def table(result: dict[str, Any]) -> str:
    """Scores on the toy and on sim2025, and what diffusion gains on each."""
    toy, sim = (result.get(name, {}) for name in ("toy", "sim2025"))
    rows = [
        (
            label, _energy(toy, on_toy), _energy(sim, on_sim),
            f"{sim['score'][on_sim]:.4f}" if sim and on_sim else "",
        )
        for label, (on_toy, on_sim) in ROWS.items()
    ]  # fmt: skip
    notes = [_note("toy", toy)] if toy else []
    notes += [_note("`sim2025`", sim)] if sim else []
    head = ("energy score", "toy", "`sim2025`", "score of mu and sigma there")
    return f"{grid(head, rows)}\n\n" + "\n".join(f"- {note}" for note in notes)


def _energy(own: dict[str, Any], kind: str) -> str:
    return f"{fmean(_each(own['energy_score'][kind])):.3f}" if own and kind else ""


def _each(scores: float | list[float]) -> list[float]:
    return scores if isinstance(scores, list) else [scores]


def _note(name: str, own: dict[str, Any]) -> str:
    gains = [
        f"{own[f'gain_over_{kind}']:.3f} (low end of 95 %: {own[f'gain_over_{kind}_low95']:.3f}) "
        f"over {label}"
        for kind, label in (
            ("gaussian", "the heads"),
            ("gaussian_limit", "the best Gaussian"),
        )
        if f"gain_over_{kind}" in own
    ]
    return (
        f"{name}: diffusion gains {' and '.join(gains)}; {own['test_planets']} planets judged per "
        f"seed, seeds {', '.join(map(str, own['seeds']))}. {measured(own)}"
    )
