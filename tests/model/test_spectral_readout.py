"""The readout sees all of a spectrum."""

import torch

from spectramind.model.network import V50, Batch, FeatureSizes
from spectramind.model.settings import ModelConfig


def sizes_of(batch: Batch) -> FeatureSizes:
    return FeatureSizes(batch.nodes.shape[-1], batch.series.shape[2], batch.planet.shape[-1])


def test_a_wavelength_hears_the_farthest_one(model_values, batch):
    """Also with an empty graph: cut the readout out and nothing reaches across."""
    torch.manual_seed(2)
    model_values["encoders"]["airs"]["edge_types"] = ["adjacent"]
    network = V50(ModelConfig.model_validate(model_values), sizes_of(batch)).eval()
    for head in (network.mu, network.log_scale):
        torch.nn.init.normal_(head.last.weight)
    plain = network(batch).mu
    batch.nodes[:, 280:] += 1.0
    assert (network(batch).mu - plain)[:, 1:100].abs().max() > 1e-9
    with torch.no_grad():
        network.readout.weights.weight.zero_()
        network.readout.weights.bias.zero_()
    without = network(batch).mu
    batch.nodes[:, 280:] -= 1.0
    torch.testing.assert_close(network(batch).mu[:, :100], without[:, :100], rtol=0, atol=1e-12)


def test_patterns_know_their_wavelength(config, batch):
    """The same features everywhere, and yet an answer that differs along the spectrum."""
    torch.manual_seed(2)
    network = V50(config, sizes_of(batch)).eval()
    torch.nn.init.normal_(network.mu.last.weight)
    batch.nodes[:] = 0.3
    delta = (network(batch).mu - batch.depth) / batch.sigma
    assert delta.std(1).min() > 1e-3
