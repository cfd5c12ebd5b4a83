"""The FGS1 encoder: causal blocks, and a state that padding and absent visits cannot change."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from spectramind.model.mamba import MambaBlock


def test_block_is_causal(config):
    torch.manual_seed(0)
    block = MambaBlock(config.encoders.fgs1).eval()
    x = torch.randn(1, 12, 8)
    later = x.clone()
    later[:, 7:] += 1.0
    before, after = block(x), block(later)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-4


def test_initial_step_sizes_lie_in_the_papers_range(config):
    bias = MambaBlock(config.encoders.fgs1).dt_proj.bias.detach().double()
    dt = F.softplus(bias)
    assert 0.999e-3 < float(dt.min()) < float(dt.max()) < 1.001e-1


def test_state_ignores_padding_masked_values_and_absent_visits(network, batch):
    state = network.fgs1(batch.series, batch.mask)
    longer = F.pad(batch.series, (0, 37), value=9.0)
    torch.testing.assert_close(network.fgs1(longer, F.pad(batch.mask, (0, 37))), state)
    noise = torch.where(batch.mask[:, :, None], batch.series, 1e3)
    torch.testing.assert_close(network.fgs1(noise, batch.mask), state)
    first = replace(batch, series=batch.series[:, :1], mask=batch.mask[:, :1])
    torch.testing.assert_close(network.fgs1(first.series, first.mask)[0], state[0])


def test_state_is_the_mean_over_visits(network, batch):
    state = network.fgs1(batch.series, batch.mask)[2]
    single = [network.fgs1(batch.series[2:, v : v + 1], batch.mask[2:, v : v + 1]) for v in (0, 1)]
    torch.testing.assert_close(state, torch.cat(single).mean(0))


def test_order_in_time_matters(network, batch):
    state = network.fgs1(batch.series[2:], batch.mask[2:])
    turned = network.fgs1(batch.series[2:].flip(-1), batch.mask[2:])
    assert (state - turned).abs().max() > 1e-3
