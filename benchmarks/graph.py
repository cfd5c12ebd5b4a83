"""The dense graph layers against PyTorch Geometric, and the twin against the dense network.

    python benchmarks/graph.py            a batch of 16 planets, a few minutes; stores its result
    python benchmarks/graph.py --quick    a batch of 4 planets, two rounds
    python benchmarks/graph.py --stored   the last full run again

One layer at the committed width, forward and backward to weights and nodes, on the committed graph
of the 283 wavelengths. All forms run in turn within one process, each round once each, after a
round that is not counted; ratios are of medians. PyG gets its own form of batch (graphs side by
side, edges coalesced, edge features one value a relation); its messages, about 3 GB at 16 planets,
bound the batch. GATConv has one product of the nodes with a D x D matrix, the dense layer four:
the comparison favours PyG. RGCNConv is the same function as the dense rgcn without its mixing
layer. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.nn import GATConv, RGCNConv

from spectramind import config as configuration
from spectramind.files import write_json
from spectramind.model.gnn import GraphEncoder, RelationalAttention, RelationalConvolution
from spectramind.model.graph import Relations, relations
from spectramind.model.settings import AirsEncoderConfig
from spectramind.model.twin import GraphTwin, gat_edges, rgcn_edges
from spectramind.provenance import git_state, utc_now

RESULT = Path(__file__).parents[1] / "docs" / "results" / "graph.json"
SEED = 1337
FEATURES = 20  # of a node, for the comparison of the twin


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Dense graph layers against PyTorch Geometric.")
    parser.add_argument("--quick", action="store_true", help="a small batch, two rounds")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    elif arguments.quick:
        result = measure(batch=4, rounds=2)
    else:
        result = measure(batch=16, rounds=5)
        write_json(RESULT, result)
    print_table(result)
    print(json.dumps(result))


def measure(*, batch: int, rounds: int) -> dict[str, object]:
    """Time all layers; compare the twin with the dense network."""
    torch.manual_seed(SEED)
    airs = configuration.load([]).model.encoders.airs
    graph = graph_of(airs)
    spent = time_layers(airs, graph, batch, rounds)
    sparse = airs.model_copy(update={"edge_types": ("adjacent", "detector")})
    thin = time_layers(airs, graph_of(sparse), batch, rounds)
    edges = torch.from_numpy(graph.matrices)
    sha, dirty = git_state()
    return {
        "dense_vs_pyg_gatconv": ratio(spent, "pyg_gatconv", "gat"),
        "dense_vs_pyg_gatconv_without_molecules": ratio(thin, "pyg_gatconv", "gat"),
        "dense_vs_pyg_rgcnconv": ratio(spent, "pyg_rgcnconv", "rgcn"),
        "max_difference_twin": max(difference(airs, edges, kind) for kind in ("gat", "rgcn")),
        "bias_share_of_gat": round(spent["gat_bias"] / spent["gat"], 3),
        "gated_vs_open_gat": ratio(spent, "gat_gated", "gat"),
        "gated_vs_open_rgcn": ratio(spent, "rgcn_gated", "rgcn"),
        "forward_backward_ms": spent,
        "forward_backward_ms_without_molecules": thin,
        "relations": len(graph.names),
        "linked_pairs": gat_edges(edges)[0].shape[1],
        "typed_edges": rgcn_edges(edges)[0].shape[1],
        "batch": batch,
        "hidden": airs.hidden,
        "heads": airs.heads,
        "rounds": rounds,
        "seed": SEED,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "date": utc_now(),
        "git_sha": sha,
        "git_dirty": dirty,
    }


def graph_of(airs: AirsEncoderConfig) -> Relations:
    """The relations that an encoder asks for."""
    return relations(
        airs.edge_types, neighbours=airs.neighbours, detector_block=airs.detector_block
    )


def time_layers(
    airs: AirsEncoderConfig, graph: Relations, batch: int, rounds: int
) -> dict[str, float]:
    """Median milliseconds of each form, forward and backward, the forms in turn."""
    forms = dense_forms(airs, graph, batch) | pyg_forms(airs, graph, batch)
    spent: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds + 1):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            spent[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(times[1:]), 1) for name, times in spent.items()}


def dense_forms(
    airs: AirsEncoderConfig, graph: Relations, batch: int
) -> dict[str, Callable[[], None]]:
    """The dense layers, with and without a gate, and the bias of gat by itself."""
    edges = torch.from_numpy(graph.matrices)
    gat = RelationalAttention(airs.hidden, airs.heads, edges)
    rgcn = RelationalConvolution(airs.hidden, airs.heads, edges)
    nodes = torch.randn(batch, edges.shape[-1], airs.hidden, requires_grad=True)
    gate = torch.rand(edges.shape, requires_grad=True)
    return {
        "gat": lambda: backward(gat(nodes)),
        "gat_gated": lambda: backward(gat(nodes, gate)),
        "gat_bias": lambda: backward(gat.edge_bias()),
        "rgcn": lambda: backward(rgcn(nodes)),
        "rgcn_gated": lambda: backward(rgcn(nodes, gate)),
    }


def pyg_forms(
    airs: AirsEncoderConfig, graph: Relations, batch: int
) -> dict[str, Callable[[], None]]:
    """GATConv with edge features and RGCNConv, self loops included."""
    edges, hidden, heads = torch.from_numpy(graph.matrices), airs.hidden, airs.heads
    count, size = edges.shape[:2]
    loop = torch.arange(size).expand(2, -1)
    index, kinds = gat_edges(edges)
    kinds = torch.cat([kinds, torch.eye(count)[:1].expand(size, -1)])
    linked = side_by_side(torch.cat([index, loop], dim=1), kinds, size, batch)
    arrows, relation = rgcn_edges(edges)
    typed = side_by_side(arrows, relation - 1, size, batch)
    gatconv = GATConv(hidden, hidden // heads, heads=heads, edge_dim=count, add_self_loops=False)
    rgcnconv = RGCNConv(hidden, hidden, count - 1, num_blocks=heads)
    nodes = torch.randn(batch * size, hidden, requires_grad=True)
    return {
        "pyg_gatconv": lambda: backward(gatconv(nodes, *linked)),
        "pyg_rgcnconv": lambda: backward(rgcnconv(nodes, *typed)),
    }


def side_by_side(index: Tensor, kind: Tensor, size: int, planets: int) -> tuple[Tensor, Tensor]:
    """The edges of the same graph for each of some planets, as one graph."""
    offset = size * torch.arange(planets).repeat_interleave(index.shape[1])
    return index.repeat(1, planets) + offset, kind.repeat(planets, *[1] * (kind.ndim - 1))


def backward(states: Tensor) -> None:
    """Gradients of all inputs for a unit gradient of the output."""
    states.backward(torch.ones_like(states))


def ratio(spent: dict[str, float], slow: str, fast: str) -> float:
    """How many times longer one form takes."""
    return round(spent[slow] / spent[fast], 2)


def difference(airs: AirsEncoderConfig, edges: Tensor, gnn_type: str) -> float:
    """Largest |twin - dense| of the committed encoder's states (their rms is 1), 4 planets."""
    chosen = airs.model_copy(update={"gnn_type": gnn_type})
    dense = GraphEncoder(chosen, FEATURES, edges).eval()
    for name, parameter in dense.named_parameters():
        if name.endswith("messages.bias"):
            torch.nn.init.normal_(parameter)
    twin = GraphTwin(chosen, FEATURES, len(edges)).eval()
    twin.load_state_dict(dense.state_dict())
    features = torch.randn(4, edges.shape[-1], FEATURES)
    typed = gat_edges(edges) if gnn_type == "gat" else rgcn_edges(edges)
    with torch.no_grad():
        gap = (dense(features) - twin(features, *typed)).abs().max().item()
    return float(f"{gap:.2g}")


def print_table(result: dict) -> None:
    """Figures, targets, and when and from which code they were measured."""
    rows = [
        ("GATConv with edge features over dense gat", "dense_vs_pyg_gatconv", ">= 2"),
        (
            "the same, without the molecules' edges",
            "dense_vs_pyg_gatconv_without_molecules",
            ">= 2",
        ),
        ("RGCNConv over dense rgcn", "dense_vs_pyg_rgcnconv", ""),
        ("largest difference of the twin", "max_difference_twin", "<= 1e-5"),
        ("edge-type bias, share of gat", "bias_share_of_gat", "<= 0.1"),
        ("gat with a gate over gat", "gated_vs_open_gat", ""),
        ("rgcn with a gate over rgcn", "gated_vs_open_rgcn", ""),
    ]
    for label, key, target in rows:
        print(f"{label:46s}{result[key]:>10} {target}")
    print(f"{result['batch']} planets, forward and backward [ms]: {result['forward_backward_ms']}")
    print(f"measured {result['date']} at {result['git_sha']}, dirty {result['git_dirty']}")


if __name__ == "__main__":
    main()
