"""The dense graph layers beside torch's attention and PyTorch Geometric; the twin beside them.

    python benchmarks/graph.py            a batch of 16 planets, a few minutes; stores its result
    python benchmarks/graph.py --quick    a batch of 4 planets, two rounds
    python benchmarks/graph.py --stored   the last full run again

One layer at the committed width, forward alone and forward with backward to weights and nodes, on
the committed graph of the 283 wavelengths. All forms run in turn within one process, each round
once each, after a round that is not counted; ratios are of medians, a rival's time over that of
the dense layer.

`sdpa` is torch's own scaled-dot-product attention with the same projections and the same bias and
mask as one learned matrix, which it need not build; without a gate the dense layer calls it too,
so a ratio of about 1 is expected. `sdpa_fixed_bias` learns no bias, for which torch has a faster
way back. PyG's `DenseGATConv` and `GATConv` have one product of the nodes with
a D x D matrix, the dense layer has four: the comparison favours PyG. Edges are sorted by target;
each sparse form is run with the planets' graphs side by side and planet by planet, and the faster
of the two stands in the result. With edge features GATConv learns one value per relation, as the
dense layer does. RGCNConv is the same function as the dense rgcn without its mixing layer. The
last line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.nn import DenseGATConv, GATConv, RGCNConv

from quiet import Machine
from reports.graph import table
from spectramind import config as configuration
from spectramind.model.gnn import GraphEncoder, RelationalAttention, RelationalConvolution
from spectramind.model.graph import Relations, relations
from spectramind.model.settings import AirsEncoderConfig
from spectramind.model.twin import GraphTwin, gat_edges, rgcn_edges

RESULT = Path(__file__).parents[1] / "docs" / "results" / "graph.json"
SEED = 1337
FEATURES = 20  # of a node, for the comparison of the twin
GAT_RIVALS = ("sdpa", "sdpa_fixed_bias", "dense_gatconv", "gatconv_no_edges", "gatconv")
Form = Callable[[Tensor], Iterable[Tensor]]  # states of all planets, in one part or several


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Dense graph layers against PyTorch Geometric.")
    parser.add_argument("--quick", action="store_true", help="a small batch, two rounds")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    else:
        state, quick = Machine.now(), {"batch": 4, "rounds": 2}
        found = measure(**quick) if arguments.quick else measure(batch=16, rounds=5)
        result = found | state.stored()
        if not arguments.quick:
            state.store_times(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(*, batch: int, rounds: int) -> dict[str, object]:
    """Time all layers; compare the twin with the dense network."""
    torch.manual_seed(SEED)
    airs = configuration.load([]).model.encoders.airs
    graph = graph_of(airs)
    spent = time_layers(airs, graph, batch, rounds)
    sparse = airs.model_copy(update={"edge_types": ("adjacent", "detector")})
    thin = time_layers(airs, graph_of(sparse), batch, rounds)
    edges, both = torch.from_numpy(graph.matrices), spent["forward_backward"]
    return {
        **{f"dense_vs_{name}": ratio(both, name, "gat") for name in GAT_RIVALS},
        "dense_vs_rgcnconv": ratio(both, "rgcnconv", "rgcn"),
        "dense_vs_gatconv_without_molecules": ratio(thin["forward_backward"], "gatconv", "gat"),
        "max_difference_twin": max(difference(airs, edges, kind) for kind in ("gat", "rgcn")),
        "bias_share_of_gat": round(both["gat_bias"] / both["gat"], 3),
        "gated_vs_open_gat": ratio(both, "gat_gated", "gat"),
        "gated_vs_open_rgcn": ratio(both, "rgcn_gated", "rgcn"),
        "ms": spent,
        "ms_without_molecules": thin,
        "relations": len(graph.names),
        "linked_pairs": gat_edges(edges)[0].shape[1],
        "typed_edges": rgcn_edges(edges)[0].shape[1],
        "batch": batch,
        "hidden": airs.hidden,
        "heads": airs.heads,
        "rounds": rounds,
        "seed": SEED,
        "threads": torch.get_num_threads(),
    }


def graph_of(airs: AirsEncoderConfig) -> Relations:
    """The relations that an encoder asks for."""
    return relations(
        airs.edge_types, neighbours=airs.neighbours, detector_block=airs.detector_block
    )


def time_layers(
    airs: AirsEncoderConfig, graph: Relations, batch: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Median milliseconds of each form, forward and with backward, the forms in turn."""
    nodes = torch.randn(batch, graph.matrices.shape[-1], airs.hidden)
    forms = dense_forms(airs, graph) | pyg_forms(airs, graph, batch)
    spent: dict[str, dict[str, list[float]]] = {
        way: {name: [] for name in forms} for way in ("forward", "forward_backward")
    }
    for _ in range(rounds + 1):
        for name, form in forms.items():
            spent["forward"][name].append(forward_ms(form, nodes))
            spent["forward_backward"][name].append(forward_backward_ms(form, nodes))
    return {
        way: faster({name: statistics.median(times[1:]) for name, times in own.items()})
        for way, own in spent.items()
    }


def faster(spent: dict[str, float]) -> dict[str, float]:
    """Of a form run in two ways (`name, way`) the faster one, under its name alone."""
    best: dict[str, float] = {}
    for form, one in spent.items():
        name = form.partition(", ")[0]
        best[name] = min(best.get(name, one), one)
    return {name: round(one, 1) for name, one in best.items()}


def forward_ms(form: Form, nodes: Tensor) -> float:
    """Milliseconds without any gradient."""
    start = time.perf_counter()
    with torch.no_grad():
        for _ in form(nodes):
            pass
    return 1e3 * (time.perf_counter() - start)


def forward_backward_ms(form: Form, nodes: Tensor) -> float:
    """Milliseconds with the gradients of nodes and weights for a unit gradient of the output."""
    start = time.perf_counter()
    for states in form(nodes.detach().requires_grad_()):
        states.backward(torch.ones_like(states))
    return 1e3 * (time.perf_counter() - start)


class GivenBias(torch.nn.Module):
    """Attention as in `RelationalAttention`, its bias (1, H, W, W) ready-made."""

    def __init__(self, like: RelationalAttention, *, learned: bool) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = like.heads, like.qkv, like.out
        self.bias = torch.nn.Parameter(like.edge_bias().detach()[None], requires_grad=learned)

    def forward(self, nodes: Tensor) -> Tensor:
        """Weighted mean of the neighbours' values, mixed over heads."""
        qkv = self.qkv(nodes).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        # A bias that asks for a gradient shuts torch's fast way even where none is taken.
        bias = self.bias if torch.is_grad_enabled() else self.bias.detach()
        heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(heard.transpose(1, 2).flatten(2))


def dense_forms(airs: AirsEncoderConfig, graph: Relations) -> dict[str, Form]:
    """The dense layers, with and without a gate, the bias of gat by itself, and torch's own."""
    edges = torch.from_numpy(graph.matrices)
    gat = RelationalAttention(airs.hidden, airs.heads, edges)
    torch.nn.init.normal_(gat.bias)
    rgcn = RelationalConvolution(airs.hidden, airs.heads, edges)
    learned, fixed = (GivenBias(gat, learned=learned) for learned in (True, False))
    gate = torch.rand(edges.shape, requires_grad=True)
    probe = torch.randn(1, edges.shape[-1], airs.hidden)
    with torch.no_grad():
        torch.testing.assert_close(learned(probe), gat(probe))
    return {
        "gat": lambda nodes: [gat(nodes)],
        "sdpa": lambda nodes: [learned(nodes)],
        "sdpa_fixed_bias": lambda nodes: [fixed(nodes)],
        "gat_gated": lambda nodes: [gat(nodes, gate)],
        "gat_bias": lambda _: [gat.edge_bias()],
        "rgcn": lambda nodes: [rgcn(nodes)],
        "rgcn_gated": lambda nodes: [rgcn(nodes, gate)],
    }


def pyg_forms(airs: AirsEncoderConfig, graph: Relations, batch: int) -> dict[str, Form]:
    """GATConv with and without edge features, dense and sparse, and RGCNConv; with self loops."""
    edges, hidden, heads = torch.from_numpy(graph.matrices), airs.hidden, airs.heads
    count, size = edges.shape[:2]
    loop = torch.arange(size).expand(2, -1)
    index, kinds = gat_edges(edges)
    kinds = torch.cat([kinds, torch.eye(count)[:1].expand(size, -1)])
    linked = by_target(torch.cat([index, loop], dim=1), kinds)
    arrows, relation = rgcn_edges(edges)
    typed = by_target(arrows, relation - 1)
    width = hidden // heads
    dense = DenseGATConv(hidden, width, heads=heads)
    plain = GATConv(hidden, width, heads=heads, add_self_loops=False)
    featured = GATConv(hidden, width, heads=heads, edge_dim=count, add_self_loops=False)
    rgcnconv = RGCNConv(hidden, hidden, count - 1, num_blocks=heads)
    near = edges.any(0).float()
    return {
        "dense_gatconv": lambda nodes: [dense(nodes, near.expand(len(nodes), -1, -1))],
        **two_ways("gatconv_no_edges", lambda nodes, index, _: plain(nodes, index), linked, batch),
        **two_ways("gatconv", featured, linked, batch),
        **two_ways("rgcnconv", rgcnconv, typed, batch),
    }


def two_ways(
    name: str, conv: Callable[..., Tensor], graph: tuple[Tensor, Tensor], batch: int
) -> dict[str, Form]:
    """A sparse layer on all planets' graphs as one, and on one planet after the other."""
    joined = side_by_side(*graph, graph[0].max().item() + 1, batch)
    return {
        f"{name}, side by side": lambda nodes: [conv(nodes.flatten(0, 1), *joined)],
        f"{name}, planet by planet": lambda nodes: (conv(own, *graph) for own in nodes),
    }


def by_target(index: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Edges in the order of the nodes that hear, so that sums run through memory once."""
    order = index[1].argsort(stable=True)
    return index[:, order], kind[order]


def side_by_side(index: Tensor, kind: Tensor, size: int, planets: int) -> tuple[Tensor, Tensor]:
    """The edges of the same graph for each of some planets, as one graph."""
    offset = size * torch.arange(planets).repeat_interleave(index.shape[1])
    return index.repeat(1, planets) + offset, kind.repeat(planets, *[1] * (kind.ndim - 1))


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


if __name__ == "__main__":
    main()
