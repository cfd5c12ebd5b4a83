"""The selective scan beside its rivals."""

from typing import Any

from reports.markdown import Figure, figures, grid, measured

RIVALS = {
    "mambapy_parallel": "mambapy, its parallel scan (default)",
    "mambapy_sequential": "mambapy, its sequential mode",
    "torch_loop": "a loop over time in torch",
}
FIGURES = (
    Figure("largest error over largest abs(y), against float64", "max_rel_error", "", "<= 1e-6"),
    Figure("the same of the worst gradient", "max_rel_gradient_error"),
    Figure("135,000 steps: memory above the inputs, forward", "extra_gb_135k", "GB", "<= 0.6"),
    Figure("the same, forward and backward", "extra_gb_135k_forward_backward", "GB"),
    Figure("135,000 steps: time over the short one's scaled up, forward",
           "forward_135k_over_linear", "", "1"),
    Figure("the same, forward and backward", "forward_backward_135k_over_linear", "", "1"),
    Figure("time over that of its exponentials alone, forward", "forward_over_exp_limit"),
    Figure("the same, forward and backward", "forward_backward_over_exp_limit"),
    Figure("time over that of its multiply-adds alone, forward", "forward_over_fma_limit"),
    Figure("the same, forward and backward", "forward_backward_over_fma_limit"),
)  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """Times of all contestants and the ratio to this scan, then its other figures."""
    head = f"{result['length']:,} steps, {result['channels']} channels, {result['states']} states"
    rows = [("this scan", *(f"{_ms(result, way, 'scan')} ms" for way in ("forward", "both")))]
    for name, label in RIVALS.items():
        rows.append((label, *(_beside(result, way, name) for way in ("forward", "both"))))
    best = [f"**{result[f'{way}_vs_best']}**" for way in ("forward", "forward_backward")]
    rows.append(("**the fastest rival over this scan**", *best))
    longest = [f"**{result[f'{way}_135k_vs_best']}**" for way in ("forward", "forward_backward")]
    rows.append(("**the same at 135,000 steps**, where only the loop fits into memory", *longest))
    times = grid((head, "forward", "forward and backward"), rows)
    return "\n\n".join((
        times, figures(result, FIGURES), f"{result['threads']} threads. {measured(result)}",
    ))  # fmt: skip


def _ms(result: dict[str, Any], way: str, name: str) -> float:
    return result["ms"][{"forward": "forward", "both": "forward_backward"}[way]][name]


def _beside(result: dict[str, Any], way: str, name: str) -> str:
    if way == "both" and name == "mambapy_sequential":
        short = result["sequential_over_parallel"]
        return f"{short['ratio']} times its parallel scan at {short['length']} steps already"
    spent = _ms(result, way, name)
    return f"{spent} ms, {spent / _ms(result, way, 'scan'):.1f} times"
