"""The dense graph layers beside torch's own attention and PyTorch Geometric."""

from typing import Any

from reports.markdown import Figure, figures, grid, measured

GAT = {
    "sdpa": "torch's scaled-dot-product attention, the same learned bias",
    "sdpa_fixed_bias": "the same, its bias not learned",
    "dense_gatconv": "PyG's `DenseGATConv`: no edge features",
    "gatconv_no_edges": "PyG's `GATConv` without edge features",
    "gatconv": "PyG's `GATConv` with edge features",
}
FIGURES = (
    Figure("largest difference of twin and dense network", "max_difference_twin", "", "<= 1e-5"),
    Figure("the bias of the edge types, share of `gat`", "bias_share_of_gat", "", "<= 0.1"),
    Figure("`gat` with a gate over `gat`", "gated_vs_open_gat"),
    Figure("`rgcn` with a gate over `rgcn`", "gated_vs_open_rgcn"),
)


def table(result: dict[str, Any]) -> str:
    """Times of all forms with their ratio to the dense layer, then its other figures."""
    full, thin = result["ms"], result["ms_without_molecules"]
    head = (
        f"one layer, {result['batch']} planets, width {result['hidden']}",
        "forward", "forward and backward", "the same without molecule edges",
    )  # fmt: skip
    spent = (full["forward"], full["forward_backward"], thin["forward_backward"])
    rows = [("**dense `gat`**", *(f"{own['gat']} ms" for own in spent))]
    rows += [(label, *_beside(spent, name, "gat")) for name, label in GAT.items()]
    rows.append(("**dense `rgcn`**", *(f"{own['rgcn']} ms" for own in spent)))
    rows.append(("PyG's `RGCNConv`", *_beside(spent, "rgcnconv", "rgcn")))
    return "\n\n".join((
        grid(head, rows), figures(result, FIGURES),
        f"{result['threads']} threads. {measured(result)}",
    ))  # fmt: skip


def _beside(spent: tuple[dict[str, float], ...], name: str, dense: str) -> list[str]:
    return [f"{own[name]} ms, {own[name] / own[dense]:.2f} times" for own in spent]
