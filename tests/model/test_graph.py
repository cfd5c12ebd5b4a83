"""The graph of the wavelengths and both ways to pass messages on it."""

import numpy as np
import pytest
import torch

from spectramind.instrument import wavelength_um
from spectramind.model.gnn import GraphEncoder, RelationalAttention, RelationalConvolution
from spectramind.model.graph import adjacent, detector, molecule, relations
from spectramind.spectroscopy import GASES, bands_of


def test_relations_are_symmetric_and_only_the_first_has_loops():
    matrices = relations(["adjacent", "molecule", "detector"], neighbours=4, detector_block=47)
    assert matrices.shape == (4, 283, 283)
    np.testing.assert_array_equal(matrices, matrices.transpose(0, 2, 1))
    np.testing.assert_array_equal(matrices[0], np.eye(283, dtype=bool))
    assert not matrices[1:].diagonal(axis1=1, axis2=2).any()


def test_relations_come_in_the_order_asked_for():
    matrices = relations(["detector", "adjacent"], neighbours=2, detector_block=47)
    np.testing.assert_array_equal(matrices[1], detector(47))
    np.testing.assert_array_equal(matrices[2], adjacent(2))


def test_adjacent_counts_neighbours():
    matrix = adjacent(2)
    assert matrix[100].sum() == 4
    assert matrix[0].nonzero()[0].tolist() == [1, 2]


def test_detector_blocks_and_lonely_fgs1():
    matrix = detector(47)
    assert not matrix[0].any()
    assert (matrix[1:].sum(1) == 46).all()
    assert not matrix[47, 48]


def test_molecule_joins_two_bins_exactly_when_they_share_a_band():
    grid = wavelength_um()
    bands = np.concatenate([bands_of(gas, grid) for gas in GASES]).astype(int)
    shared = bands.T @ bands > 0
    np.fill_diagonal(shared, False)
    np.testing.assert_array_equal(molecule(), shared)
    assert 0.01 < shared[1:, 1:].mean() < 0.9


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
def test_permutation_equivariance(config, gnn_type):
    chosen = config.encoders.airs.model_copy(update={"gnn_type": gnn_type})
    torch.manual_seed(1)
    edges = torch.rand(3, 20, 20) < 0.2
    edges[0] = torch.eye(20, dtype=torch.bool)
    order = torch.randperm(20)
    plain = GraphEncoder(chosen, 5, edges).eval()
    turned = GraphEncoder(chosen, 5, edges[:, order][:, :, order]).eval()
    turned.load_state_dict(plain.state_dict())
    nodes = torch.randn(2, 20, 5)
    torch.testing.assert_close(turned(nodes[:, order]), plain(nodes)[:, order])
    assert (plain(nodes[:, order]) - plain(nodes)[:, order]).abs().max() > 1e-3


def lonely(size: int) -> torch.Tensor:
    """Self loops, and one relation from node 0 to node 1 in both directions."""
    edges = torch.zeros(2, size, size, dtype=torch.bool)
    edges[0] = torch.eye(size, dtype=torch.bool)
    edges[1, 0, 1] = edges[1, 1, 0] = True
    return edges


@pytest.mark.parametrize("kind", [RelationalAttention, RelationalConvolution])
def test_messages_travel_along_edges_only(kind):
    torch.manual_seed(0)
    layer = kind(4, 2, lonely(4))
    nodes = torch.randn(1, 4, 4)
    changed = nodes.clone()
    changed[:, 1] += 1.0
    moved = (layer(changed) - layer(nodes)).abs().amax(-1)[0] > 1e-6
    assert moved.tolist() == [True, True, False, False]


def test_attention_by_hand():
    """Equal logits but for the edge type's bias b: node 0 hears itself : node 1 as 1 : e^b."""
    layer = RelationalAttention(2, 1, lonely(3))
    with torch.no_grad():
        layer.qkv.weight.zero_()
        layer.qkv.weight[4:] = torch.eye(2)
        layer.out.weight.copy_(torch.eye(2))
        layer.out.bias.zero_()
        layer.bias.copy_(torch.tensor([[0.0], [np.log(3.0)]]))
    nodes = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
    wanted = torch.tensor([[[0.25, 0.75], [0.75, 0.25], [5.0, 5.0]]])
    torch.testing.assert_close(layer(nodes), wanted)


def test_convolution_by_hand():
    """Self weight 1, relation weight 2: node 0 gets x_0 + 2 x_1."""
    layer = RelationalConvolution(2, 2, lonely(3))
    with torch.no_grad():
        layer.weight[0], layer.weight[1] = 1.0, 2.0
        layer.out.weight.copy_(torch.eye(2))
        layer.out.bias.zero_()
    nodes = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
    wanted = torch.tensor([[[1.0, 2.0], [2.0, 1.0], [5.0, 5.0]]])
    torch.testing.assert_close(layer(nodes), wanted)
