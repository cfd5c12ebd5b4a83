"""The rivals of the graph layers run at their best and on the same graph."""

import pytest
import torch

import graph
from reports.graph import table
from spectramind import config as configuration


@pytest.fixture(scope="module")
def airs():
    encoder = configuration.load([]).model.encoders.airs
    return encoder.model_copy(
        update={"hidden": 16, "heads": 2, "edge_types": ("adjacent", "detector")}
    )


def test_of_two_ways_the_faster_one_counts():
    spent = {"gat": 3.0, "gatconv, side by side": 9.0, "gatconv, planet by planet": 7.04}
    assert graph.faster(spent) == {"gat": 3.0, "gatconv": 7.0}


@pytest.mark.parametrize("name", ["gatconv", "gatconv_no_edges", "rgcnconv"])
def test_both_ways_of_a_sparse_layer_say_the_same(airs, name):
    torch.manual_seed(0)
    forms = graph.pyg_forms(airs, graph.graph_of(airs), batch=2)
    nodes = torch.randn(2, 283, airs.hidden)
    with torch.no_grad():
        (joined,) = forms[f"{name}, side by side"](nodes)
        apart = torch.cat(list(forms[f"{name}, planet by planet"](nodes)))
    torch.testing.assert_close(joined, apart)


def test_edges_reach_the_sparse_layers_in_the_order_of_their_targets():
    index, kind = graph.by_target(torch.tensor([[0, 1, 2], [2, 0, 1]]), torch.tensor([7, 8, 9]))
    assert index.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert kind.tolist() == [8, 9, 7]


def test_every_form_is_run_to_its_end_and_back():
    seen = []

    def form(nodes):
        for own in nodes:
            seen.append(own.requires_grad)
            yield 2.0 * own

    nodes = torch.ones(3, 4, 5)
    assert graph.forward_ms(form, nodes) > 0.0
    assert graph.forward_backward_ms(form, nodes) > 0.0
    assert seen == 3 * [False] + 3 * [True]


def test_a_small_batch_makes_a_whole_table(airs, monkeypatch):
    config = configuration.load([])
    encoders = config.model.encoders.model_copy(update={"airs": airs})
    small = config.model_copy(
        update={"model": config.model.model_copy(update={"encoders": encoders})}
    )
    monkeypatch.setattr(graph.configuration, "load", lambda _: small)
    found = graph.measure(batch=1, rounds=1)
    both = found["ms"]["forward_backward"]
    assert found["dense_vs_sdpa"] == pytest.approx(both["sdpa"] / both["gat"], abs=0.01)
    assert found["max_difference_twin"] < 1e-5
    shown = table(found | {"date": "2026-01-02", "cores": 2, "load_before": 0.25})
    assert "| one layer, 1 planets, width 16 | forward | forward and backward |" in shown


def test_torchs_own_attention_has_the_same_function_and_gradients(airs):
    torch.manual_seed(1)
    edges = torch.from_numpy(graph.graph_of(airs).matrices)
    gat = graph.RelationalAttention(airs.hidden, airs.heads, edges)
    torch.nn.init.normal_(gat.bias)
    given = graph.GivenBias(gat, learned=True)
    nodes = torch.randn(2, 283, airs.hidden)
    heard, weight = torch.randn(2, 283, airs.hidden), gat.qkv.weight
    found = [
        (own(nodes), *torch.autograd.grad((own(nodes) * heard).sum(), (weight, own.bias)))
        for own in (gat, given)
    ]
    torch.testing.assert_close(found[0][:2], found[1][:2])
    # The bias of an edge type is that of all its edges together.
    together = torch.einsum("hij,rij->rh", found[1][2][0], edges.float())
    torch.testing.assert_close(found[0][2], together, rtol=1e-3, atol=1e-3)
