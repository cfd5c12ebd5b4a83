"""The twin in PyTorch Geometric: the dense network's states, and masks that mean its gate."""

import importlib
import sys

import pytest
import torch

from spectramind.errors import ConfigError
from spectramind.model.gnn import GraphEncoder
from spectramind.model.graph import relations

pytest.importorskip("torch_geometric")
from torch_geometric.data import Batch, Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import GATConv, RGCNConv

from spectramind.model.twin import AttentionMessages, GraphTwin, gat_edges, rgcn_edges

EDGES = {"gat": gat_edges, "rgcn": rgcn_edges}
GNN_TYPES = pytest.mark.parametrize("gnn_type", list(EDGES))


@pytest.fixture(autouse=True)
def seeded_weights():
    torch.manual_seed(0)


def wavelengths() -> torch.Tensor:
    """The twelve relations of the 283 nodes."""
    chosen = relations(["adjacent", "molecule", "detector"], neighbours=4, detector_block=47)
    return torch.from_numpy(chosen.matrices)


def directed(size: int = 12) -> torch.Tensor:
    """Self loops and three directed relations that overlap."""
    edges = torch.rand(4, size, size) < 0.3
    edges[:, range(size), range(size)] = False
    edges[0] = torch.eye(size, dtype=torch.bool)
    return edges


def pair(config, gnn_type: str, edges: torch.Tensor) -> tuple[GraphEncoder, GraphTwin]:
    """A dense encoder of 5 features with a bias for each edge type, and its twin."""
    chosen = config.encoders.airs.model_copy(update={"gnn_type": gnn_type})
    dense = GraphEncoder(chosen, 5, edges).eval()
    for name, parameter in dense.named_parameters():
        if name.endswith("messages.bias"):
            torch.nn.init.normal_(parameter)
    twin = GraphTwin(chosen, 5, len(edges)).eval()
    twin.load_state_dict(dense.state_dict())
    return dense, twin


@GNN_TYPES
def test_twin_is_the_dense_network_in_value_and_gradient(config, gnn_type):
    edges = wavelengths()
    dense, twin = pair(config, gnn_type, edges)
    features = torch.randn(3, 283, 5)
    states = [dense(features), twin(features, *EDGES[gnn_type](edges))]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-5)
    for state in states:
        (state**3).mean().backward()
    for (name, one), other in zip(dense.named_parameters(), twin.parameters(), strict=True):
        assert one.grad.abs().max() > 0, name
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6)


@GNN_TYPES
def test_twin_keeps_the_direction_of_edges(config, gnn_type):
    edges = directed()
    dense, twin = pair(config, gnn_type, edges)
    features = torch.randn(2, 12, 5)
    heard = twin(features, *EDGES[gnn_type](edges))
    torch.testing.assert_close(heard, dense(features), rtol=0, atol=1e-5)
    turned = twin(features, *EDGES[gnn_type](edges.transpose(1, 2)))
    assert (turned - heard).abs().max() > 1e-3


@GNN_TYPES
def test_twin_reads_a_batch_of_graphs_and_a_single_one(config, gnn_type):
    edges = directed()
    dense, twin = pair(config, gnn_type, edges)
    index, kind = EDGES[gnn_type](edges)
    features = torch.randn(3, 12, 5)
    wanted = dense(features)
    joined = Batch.from_data_list([Data(x=x, edge_index=index, edge_attr=kind) for x in features])
    states = twin(joined.x, joined.edge_index, joined.edge_attr)
    torch.testing.assert_close(states, wanted.flatten(0, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(twin(features[1], index, kind), wanted[1], rtol=0, atol=1e-5)


def masked(twin: GraphTwin, mask: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
    """The twin with the same edge mask in all layers, as explainers set it."""
    set_masks(twin, mask, inputs[1], apply_sigmoid=False)
    states = twin(*inputs)
    clear_masks(twin)
    return states


@GNN_TYPES
def test_edge_mask_of_the_twin_is_the_gate_of_the_dense_network(config, gnn_type):
    edges = directed()
    dense, twin = pair(config, gnn_type, edges)
    (source, target), kind = EDGES[gnn_type](edges)
    mask = torch.rand(len(source)).round(decimals=1)  # some edges are closed
    gate = torch.ones(edges.shape if gnn_type == "rgcn" else edges.shape[1:])
    gate[(kind, target, source) if gnn_type == "rgcn" else (target, source)] = mask
    features = torch.randn(2, 12, 5)
    states = masked(twin, mask, features, torch.stack([source, target]), kind)
    torch.testing.assert_close(states, dense(features, gate), rtol=0, atol=1e-5)
    assert (states - dense(features)).abs().max() > 1e-3


@GNN_TYPES
def test_masking_all_edges_leaves_the_self_loops(config, gnn_type):
    edges = wavelengths()
    dense, twin = pair(config, gnn_type, edges)
    inputs = torch.randn(1, 283, 5), *EDGES[gnn_type](edges)
    states = masked(twin, torch.zeros(inputs[1].shape[1]), *inputs)
    wanted = dense(inputs[0], torch.zeros(283, 283))
    torch.testing.assert_close(states, wanted, rtol=0, atol=1e-5)
    assert (states - twin(*inputs)).abs().max() > 1e-2


def test_a_masked_edge_with_the_largest_logit_stays_finite(config):
    edges = directed()
    _, twin = pair(config, "gat", edges)
    for layer in twin.layers:
        torch.nn.init.constant_(layer.messages.bias[1:], 500.0)
    inputs = torch.randn(12, 5), *gat_edges(edges)
    states = masked(twin, torch.zeros(inputs[1].shape[1]), *inputs)
    none = torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, 4)
    torch.testing.assert_close(states, twin(inputs[0], *none), rtol=0, atol=1e-5)


@GNN_TYPES
def test_gnn_explainer_masks_the_edges_that_a_node_hears(config, gnn_type):
    """With one layer, only edges into the explained node can matter; all of them do."""
    edges = wavelengths()
    one_layer = config.encoders.airs.model_copy(update={"layers": 1})
    encoders = config.encoders.model_copy(update={"airs": one_layer})
    _, twin = pair(config.model_copy(update={"encoders": encoders}), gnn_type, edges)
    index, kind = EDGES[gnn_type](edges)
    explainer = Explainer(
        model=twin,
        algorithm=GNNExplainer(epochs=5),
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
    )
    explanation = explainer(torch.randn(283, 5), index, index=40, edge_type=kind)
    assert explanation.edge_mask.shape == (index.shape[1],)
    assert torch.equal(explanation.edge_mask > 0, index[1] == 40)
    assert explanation.edge_mask.max() < 1


def test_edges_are_coalesced_for_attention_and_typed_for_convolution():
    edges = directed()
    index, kind = gat_edges(edges)
    linked = edges[1:].any(0)
    assert index.shape[1] == linked.sum() < edges[1:].sum()
    assert torch.equal(kind.sum(0), edges.sum((1, 2)) * (torch.arange(4) > 0))
    index, kind = rgcn_edges(edges)
    assert torch.equal(torch.bincount(kind, minlength=4)[1:], edges[1:].sum((1, 2)))
    assert edges[kind, index[1], index[0]].all()


def test_convolution_is_that_of_pyg(config):
    """Judge: RGCNConv with blocks, self loops as its root weight, without their mixing layer."""
    edges = directed()
    dense, twin = pair(config, "rgcn", edges)
    messages = twin.layers[0].messages
    _, heads, width, _ = messages.weight.shape
    judge = RGCNConv(8, 8, 3, num_blocks=heads, bias=False)
    with torch.no_grad():
        judge.weight.copy_(messages.weight[1:])
        judge.root.copy_(torch.block_diag(*messages.weight[0]))
    index, kind = rgcn_edges(edges)
    nodes = torch.randn(12, heads * width)
    wanted = messages.out(judge(nodes, index, kind - 1))
    torch.testing.assert_close(messages(nodes, index, kind), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(dense.layers[0].messages(nodes[None])[0], wanted, rtol=0, atol=1e-5)


def test_equal_weights_are_those_of_pyg_attention():
    """Judge: without scores, GATConv and the attention are the mean over a node's neighbours."""
    edges = directed()
    messages, judge = AttentionMessages(4, 1, 4), GATConv(4, 4, heads=1, bias=False)
    with torch.no_grad():
        messages.qkv.weight[:8] = 0.0
        judge.lin.weight.copy_(messages.qkv.weight[8:])
        judge.att_src.zero_()
        judge.att_dst.zero_()
    index, kind = gat_edges(edges)
    nodes = torch.randn(12, 4)
    wanted = messages.out(judge(nodes, index))
    torch.testing.assert_close(messages(nodes, index, kind), wanted, rtol=0, atol=1e-5)


def test_says_how_to_install_what_the_twin_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    monkeypatch.delitem(sys.modules, "spectramind.model.twin")
    with pytest.raises(
        ConfigError,
        match=r"^explainers of the graph: the package torch_geometric is not installed\. "
        r"Run pip install 'spectramind\[explain\]'\.$",
    ):
        importlib.import_module("spectramind.model.twin")
