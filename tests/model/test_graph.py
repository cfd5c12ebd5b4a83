"""The graph of the wavelengths, both ways to pass messages on it, and the gate on its edges."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from spectramind.instrument import wavelength_um
from spectramind.model.gnn import GraphEncoder, RelationalAttention, RelationalConvolution
from spectramind.model.graph import adjacent, detector, molecule, relations
from spectramind.model.settings import ModelConfig
from spectramind.spectroscopy import GASES, bands_of

EDGE_TYPES = ("adjacent", "molecule", "detector")
KINDS = [RelationalAttention, RelationalConvolution]


@pytest.fixture(autouse=True)
def seeded_weights():
    torch.manual_seed(0)


def test_relations_are_symmetric_and_only_the_first_has_loops():
    matrices = relations(EDGE_TYPES, neighbours=4, detector_block=47).matrices
    assert matrices.shape == (3 + len(GASES), 283, 283)
    np.testing.assert_array_equal(matrices, matrices.transpose(0, 2, 1))
    np.testing.assert_array_equal(matrices[0], np.eye(283, dtype=bool))
    assert not matrices[1:].diagonal(axis1=1, axis2=2).any()


def test_relations_come_in_the_order_asked_for_with_their_names():
    chosen = relations(["detector", "molecule", "adjacent"], neighbours=2, detector_block=47)
    gases = tuple(f"molecule:{gas}" for gas in GASES)
    assert chosen.names == ("self", "detector", *gases, "adjacent")
    np.testing.assert_array_equal(chosen.matrices[1], detector(47))
    np.testing.assert_array_equal(chosen.matrices[3], molecule("CO2"))
    np.testing.assert_array_equal(chosen.matrices[-1], adjacent(2))


def test_adjacent_counts_neighbours():
    matrix = adjacent(2)
    assert matrix[100].sum() == 4
    assert matrix[0].nonzero()[0].tolist() == [1, 2]


def test_detector_counts_columns_from_the_reddest_bin_and_leaves_fgs1_alone():
    matrix = detector(40)  # 282 columns: seven regions of 40, and two columns
    assert not matrix[0].any()
    assert matrix[282].nonzero()[0].tolist() == list(range(243, 282))
    assert matrix[1].nonzero()[0].tolist() == [2]
    assert not matrix[242, 243]


@pytest.mark.parametrize("gas", GASES)
def test_molecule_joins_two_bins_exactly_when_they_share_a_band(gas):
    bands = bands_of(gas, wavelength_um()).astype(int)
    shared = bands.T @ bands > 0
    np.fill_diagonal(shared, False)
    np.testing.assert_array_equal(molecule(gas), shared)
    assert shared.any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden": 9, "heads": 2}, r"hidden \(9\) must be a multiple of heads \(2\)"),
        ({"edge_types": ["adjacent"] * 2}, "edge_types names a relation twice: adjacent"),
        ({"edge_types": []}, "at least 1 item"),
        ({"edge_types": ["molecules"]}, "'adjacent', 'molecule' or 'detector'"),
        ({"gnn_type": "gcn"}, "'gat' or 'rgcn'"),
        ({"neighbours": 0}, "greater than or equal to 1"),
        ({"detector_block": 0}, "greater than or equal to 1"),
    ],
)
def test_refuses_a_graph_that_cannot_be_built(model_values, values, message):
    model_values["encoders"]["airs"] |= values
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(model_values)


def random_relations(size: int = 20, others: int = 3, share: float = 0.2) -> torch.Tensor:
    """Self loops and directed relations, with pairs that have several of them."""
    edges = torch.rand(1 + others, size, size) < share
    edges[:, range(size), range(size)] = False
    edges[0] = torch.eye(size, dtype=torch.bool)
    return edges


def encoder(config, gnn_type: str, edges: torch.Tensor) -> GraphEncoder:
    """A small encoder of 5 features whose edge types differ from the start."""
    chosen = config.encoders.airs.model_copy(update={"gnn_type": gnn_type})
    made = GraphEncoder(chosen, 5, edges).eval()
    for name, parameter in made.named_parameters():
        if name.endswith("messages.bias"):
            torch.nn.init.normal_(parameter)
    return made


def without(edges: torch.Tensor, whole: GraphEncoder, config, index: int) -> GraphEncoder:
    """The same encoder on the graph that never had relation `index`."""
    gnn_type = "gat" if isinstance(whole.layers[0].messages, RelationalAttention) else "rgcn"
    keep = [row for row in range(len(edges)) if row != index]
    less = encoder(config, gnn_type, edges[keep])
    weights = whole.state_dict()
    for name in weights:
        if name.endswith(("messages.bias", "messages.weight")):
            weights[name] = weights[name][keep]
    less.load_state_dict(weights)
    return less


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
def test_permutation_equivariance(config, gnn_type):
    edges, gate = random_relations(), torch.rand(4, 20, 20)
    order = torch.randperm(20)
    plain = encoder(config, gnn_type, edges)
    turned = encoder(config, gnn_type, edges[:, order][:, :, order])
    turned.load_state_dict(plain.state_dict())
    nodes = torch.randn(2, 20, 5)
    torch.testing.assert_close(turned(nodes[:, order]), plain(nodes)[:, order])
    gated = turned(nodes[:, order], gate[:, order][:, :, order])
    torch.testing.assert_close(gated, plain(nodes, gate)[:, order])
    assert (plain(nodes[:, order]) - plain(nodes)[:, order]).abs().max() > 1e-3


def lonely(size: int) -> torch.Tensor:
    """Self loops, and one relation from node 0 to node 1 in both directions."""
    edges = torch.zeros(2, size, size, dtype=torch.bool)
    edges[0] = torch.eye(size, dtype=torch.bool)
    edges[1, 0, 1] = edges[1, 1, 0] = True
    return edges


@pytest.mark.parametrize("kind", KINDS)
def test_messages_travel_along_edges_only(kind):
    layer = kind(4, 2, lonely(4))
    nodes = torch.randn(1, 4, 4)
    changed = nodes.clone()
    changed[:, 1] += 1.0
    moved = (layer(changed) - layer(nodes)).abs().amax(-1)[0] > 1e-6
    assert moved.tolist() == [True, True, False, False]


NODES = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])


def equal_logits(edges: torch.Tensor, bias: list[float]) -> RelationalAttention:
    """Attention whose logits are the biases alone and whose values are the nodes."""
    layer = RelationalAttention(2, 1, edges)
    with torch.no_grad():
        layer.qkv.weight.zero_()
        layer.qkv.weight[4:] = torch.eye(2)
        layer.out.weight.copy_(torch.eye(2))
        layer.out.bias.zero_()
        layer.bias.copy_(torch.tensor(bias)[:, None])
    return layer


def test_attention_by_hand():
    """Equal logits but for the edge type's bias b: node 0 hears itself : node 1 as 1 : e^b."""
    layer = equal_logits(lonely(3), [0.0, np.log(3.0)])
    wanted = torch.tensor([[[0.25, 0.75], [0.75, 0.25], [5.0, 5.0]]])
    torch.testing.assert_close(layer(NODES), wanted)


def test_gated_attention_by_hand():
    """Half open, the edge weighs half as much: 1 : 3 / 2."""
    layer = equal_logits(lonely(3), [0.0, np.log(3.0)])
    wanted = torch.tensor([[[0.4, 0.6], [0.6, 0.4], [5.0, 5.0]]])
    torch.testing.assert_close(layer(NODES, torch.full((3, 3), 0.5)), wanted)


def test_gated_attention_of_two_relations_by_hand():
    """Gates 0.8 and 0.4 on biases ln 3 and ln 4: weight 0.8 * 3 * 4 ** 0.5 = 4.8."""
    edges = lonely(3)
    layer = equal_logits(torch.cat([edges, edges[1:]]), [0.0, np.log(3.0), np.log(4.0)])
    gate = torch.tensor([0.0, 0.8, 0.4])[:, None, None].expand(3, 3, 3)
    heard = torch.tensor([1.0, 4.8]) / 5.8
    torch.testing.assert_close(layer(NODES, gate)[0, 0], heard)


def test_convolution_by_hand():
    """Self weight 1, relation weight 2: node 0 gets x_0 + 2 x_1, gated by half x_0 + x_1."""
    layer = RelationalConvolution(2, 2, lonely(3))
    with torch.no_grad():
        layer.weight[0], layer.weight[1] = 1.0, 2.0
        layer.out.weight.copy_(torch.eye(2))
        layer.out.bias.zero_()
    wanted = torch.tensor([[[1.0, 2.0], [2.0, 1.0], [5.0, 5.0]]])
    torch.testing.assert_close(layer(NODES), wanted)
    wanted = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [5.0, 5.0]]])
    torch.testing.assert_close(layer(NODES, torch.full((3, 3), 0.5)), wanted)


def test_convolution_is_a_mean_over_all_neighbours_even_if_some_are_silent():
    edges = torch.stack([torch.eye(4, dtype=torch.bool), ~torch.eye(4, dtype=torch.bool)])
    layer = RelationalConvolution(2, 1, edges)
    nodes, gate = torch.randn(1, 4, 2), torch.ones(4, 4)
    gate[0, 3] = 0.0
    own, others = (nodes[0, rows] @ layer.weight[r, 0] for r, rows in enumerate([0, [1, 2]]))
    torch.testing.assert_close(layer(nodes, gate)[0, 0], layer.out(own + others.sum(0) / 3.0))


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
@pytest.mark.parametrize("shape", [(20, 20), (4, 20, 20)])
def test_an_open_gate_changes_nothing(config, gnn_type, shape):
    made, nodes = encoder(config, gnn_type, random_relations()), torch.randn(2, 20, 5)
    torch.testing.assert_close(made(nodes, torch.ones(shape)), made(nodes), rtol=0, atol=2e-6)


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
@pytest.mark.parametrize("index", [1, 2, 3])
def test_a_closed_relation_is_the_graph_without_it(config, gnn_type, index):
    edges, nodes = random_relations(), torch.randn(2, 20, 5)
    whole = encoder(config, gnn_type, edges)
    gate = torch.ones(4, 20, 20)
    gate[index] = 0.0
    less = without(edges, whole, config, index)
    torch.testing.assert_close(whole(nodes, gate), less(nodes), rtol=0, atol=2e-6)
    assert (whole(nodes) - less(nodes)).abs().max() > 1e-3


def test_a_closed_edge_is_the_attention_without_it(config):
    edges, nodes = random_relations(), torch.randn(2, 20, 5)
    gate = (torch.rand(20, 20) < 0.5).float()
    whole = encoder(config, "gat", edges)
    less = encoder(config, "gat", edges & ((gate > 0) | torch.eye(20, dtype=torch.bool)))
    less.load_state_dict(whole.state_dict())
    torch.testing.assert_close(whole(nodes, gate), less(nodes), rtol=0, atol=2e-6)


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
@pytest.mark.parametrize("shape", [(20, 20), (4, 20, 20)])
def test_a_closed_gate_isolates_every_node(config, gnn_type, shape):
    edges, nodes = random_relations(), torch.randn(2, 20, 5)
    whole = encoder(config, gnn_type, edges)
    alone = encoder(config, gnn_type, edges[:, :1, :1])
    alone.load_state_dict(whole.state_dict())
    wanted = alone(nodes.flatten(0, 1)[:, None]).view(2, 20, -1)
    torch.testing.assert_close(whole(nodes, torch.zeros(shape)), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
def test_every_relation_of_the_wavelengths_matters(config, gnn_type):
    chosen = relations(EDGE_TYPES, neighbours=4, detector_block=47)
    made = encoder(config, gnn_type, torch.from_numpy(chosen.matrices))
    nodes = torch.randn(1, 283, 5)
    before = made(nodes)
    for index, name in enumerate(chosen.names):
        gate = torch.ones(chosen.matrices.shape)
        gate[index] = 0.0
        change = (made(nodes, gate) - before).abs().max()
        assert change < 1e-5 if name == "self" else change > 1e-3, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 5), (3, 5, 5)])
def test_gradient_of_the_gate(kind, shape):
    layer = kind(4, 2, random_relations(5, 2, 0.6)).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    nodes = torch.randn(2, 5, 4, dtype=torch.float64)
    gate = (0.1 + 0.8 * torch.rand(shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda gate: layer(nodes, gate), (gate,))


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gate_has_a_gradient_at_both_ends_on_every_edge(config, gnn_type, value):
    edges = random_relations()
    gate = torch.full(edges.shape, value).requires_grad_()
    (encoder(config, gnn_type, edges)(torch.randn(2, 20, 5), gate) ** 3).sum().backward()
    assert torch.isfinite(gate.grad).all()
    np.testing.assert_array_equal(gate.grad[1:] != 0, edges[1:])
    assert not gate.grad[0].any()  # self loops cannot be closed


def test_a_closed_edge_with_the_largest_logit_stays_finite():
    layer = equal_logits(lonely(3), [0.0, 0.0])
    with torch.no_grad():
        layer.qkv.weight[:4] = 40.0 * torch.eye(2).repeat(2, 1)
    nodes = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [5.0, 5.0]]])  # 0 scores 1 above itself
    gate = torch.zeros(3, 3, requires_grad=True)
    heard = layer(nodes, gate)
    torch.testing.assert_close(heard, nodes)
    heard.square().sum().backward()
    assert torch.isfinite(gate.grad).all()
    assert gate.grad[0, 1] != 0
