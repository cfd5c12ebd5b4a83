"""V50: silent at first, and no part of it idle afterwards."""

from dataclasses import replace

import pytest
import torch

from spectramind.model.graph import relations
from spectramind.model.network import V50, FeatureSizes
from spectramind.model.settings import ModelConfig

SIZES = FeatureSizes(nodes=5, series=3, planet=4)


def test_untrained_network_is_the_fit(config, batch):
    posterior = V50(config, SIZES)(batch)
    assert torch.equal(posterior.mu, batch.depth)
    assert torch.equal(posterior.sigma, batch.sigma)


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
def test_every_parameter_gets_a_gradient(model_values, batch, gnn_type):
    model_values["encoders"]["airs"]["gnn_type"] = gnn_type
    config = ModelConfig.model_validate(model_values)
    torch.manual_seed(4)
    network = V50(config, SIZES).eval()
    for head in (network.mu, network.log_scale):
        torch.nn.init.normal_(head.last.weight)
    network.loss(batch, batch.depth + 1e-4, config.loss).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("part", ["nodes", "series", "planet"])
def test_every_input_reaches_the_output(network, batch, part):
    changed = replace(batch, **{part: getattr(batch, part) + 0.5})
    before, after = network(batch), network(changed)
    assert (before.mu - after.mu).abs().max() > 1e-8
    assert (before.sigma - after.sigma).abs().max() > 1e-8


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
@pytest.mark.parametrize("cut", ["adjacent", "molecule", "detector"])
def test_every_edge_type_matters(model_values, batch, cut, gnn_type):
    airs = model_values["encoders"]["airs"]
    airs["gnn_type"] = gnn_type
    torch.manual_seed(0)
    whole = V50(ModelConfig.model_validate(model_values), SIZES).eval()
    names = relations(airs["edge_types"], neighbours=4, detector_block=47).names
    keep = [row for row, name in enumerate(names) if name.split(":")[0] != cut]
    airs["edge_types"] = [edge for edge in airs["edge_types"] if edge != cut]
    less = V50(ModelConfig.model_validate(model_values), SIZES).eval()
    weights = whole.state_dict()
    for name in weights:
        if name.endswith(("messages.bias", "messages.weight")):
            weights[name] = weights[name][keep]
    less.load_state_dict(weights)
    states = [own.spectrum(batch.nodes, batch.planet) for own in (whole, less)]
    assert (states[0] - states[1]).abs().max() > 1e-4


@pytest.mark.parametrize("gnn_type", ["gat", "rgcn"])
def test_the_gate_reaches_the_graph(model_values, batch, gnn_type):
    """Open, it changes nothing; closed, every wavelength hears itself alone; it has gradients."""
    model_values["encoders"]["airs"]["gnn_type"] = gnn_type
    torch.manual_seed(4)
    network = V50(ModelConfig.model_validate(model_values), SIZES).eval()
    for head in (network.mu, network.log_scale):
        torch.nn.init.normal_(head.last.weight)
    plain = network(batch)
    opened = torch.ones(283, 283, requires_grad=True)
    whole, closed = network(batch, opened), network(batch, torch.zeros(283, 283))
    torch.testing.assert_close(whole.mu, plain.mu, rtol=0, atol=1e-9)
    torch.testing.assert_close(whole.sigma, plain.sigma, rtol=1e-5, atol=0)
    assert (closed.mu - plain.mu).abs().max() > 1e-6
    assert (closed.sigma - plain.sigma).abs().max() > 1e-7
    ((whole.mu - batch.depth) / batch.sigma).square().sum().backward()
    assert opened.grad is not None
    assert opened.grad.abs().max() > 0


def test_what_widens_the_fit_widens_sigma_and_moves_nothing(network, batch):
    assert batch.widening[:, 0].tolist() == pytest.approx([1.0, 1.25, 5.0])
    doubted, clean = network(batch), network(batch.unwidened())
    assert ((clean.mu - batch.depth).abs() > 1e-6).any(-1).all()
    assert torch.equal(doubted.mu, clean.mu)
    torch.testing.assert_close(doubted.sigma, batch.widening * clean.sigma, rtol=1e-14, atol=0)


def test_sigma_stays_within_its_bound(network, batch, config):
    with torch.no_grad():
        network.log_scale.last.bias.fill_(-1e4)
    bound = config.decoders.sigma.max_log_scale
    ratio = network(batch).sigma / batch.sigma
    torch.testing.assert_close(ratio, torch.full_like(ratio, -bound).exp())


def test_batch_rows_are_independent(network, batch):
    whole, one = network(batch), network(batch[torch.tensor([1])])
    torch.testing.assert_close(whole.mu[1:2], one.mu, rtol=0, atol=1e-9)


def test_priors_are_the_mission_s(model_values):
    """`docs/network.md` says what was measured: these two cost nothing, no other helps."""
    loss = ModelConfig.model_validate(model_values).loss
    assert loss.gll_weight == 1.0
    assert (loss.smooth_l2_weight, loss.fft_suppress_weight) == (0.1, 0.05)
    assert (loss.asymmetry_weight, loss.negativity_weight, loss.coherence_weight) == (0, 0, 0)
