"""The FGS1 encoder: causal or seeing both ways, whatever padding and absent visits hold."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from spectramind.model.mamba import Fgs1Encoder, MambaBlock
from spectramind.model.network import V50, FeatureSizes
from spectramind.model.settings import Fgs1EncoderConfig, ModelConfig

SIZES = FeatureSizes(nodes=5, series=3, planet=4)
INSIDE = torch.ones(1, 12, dtype=torch.bool)
ENDED = INSIDE & (torch.arange(12) < 9)


@pytest.fixture
def both_ways(model_values) -> Fgs1EncoderConfig:
    values = model_values["encoders"]["fgs1"] | {"bidirectional": True}
    return Fgs1EncoderConfig.model_validate(values)


@pytest.fixture(params=[False, True], ids=["causal", "bidirectional"])
def encoder(request, config, both_ways) -> Fgs1Encoder:
    torch.manual_seed(4)
    return Fgs1Encoder(both_ways if request.param else config.encoders.fgs1, channels=3).eval()


def later_changed(x):
    later = x.clone()
    later[:, 7:] += 1.0
    return later


def test_a_planet_without_a_series_has_no_state_and_changes_no_other(encoder):
    series, mask = torch.randn(3, 2, 3, 12), torch.ones(3, 2, 12, dtype=torch.bool)
    whole = encoder(series, mask)
    mask[1] = False
    states = encoder(series, mask)
    torch.testing.assert_close(states[[0, 2]], whole[[0, 2]])
    assert not states[1].any()
    assert not encoder(series, torch.zeros_like(mask)).any()


def test_block_is_causal(config):
    torch.manual_seed(0)
    block = MambaBlock(config.encoders.fgs1).eval()
    x = torch.randn(1, 12, 8)
    before, after = block(x, INSIDE), block(later_changed(x), INSIDE)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-4


def test_bidirectional_block_hears_of_later_steps(both_ways):
    torch.manual_seed(0)
    block = MambaBlock(both_ways).eval()
    x = torch.randn(1, 12, 8)
    before, after = block(x, INSIDE), block(later_changed(x), INSIDE)
    assert (before[:, :7] - after[:, :7]).abs().amax(-1).min() > 1e-6
    earlier = x.clone()
    earlier[:, :5] += 1.0
    assert (before - block(earlier, INSIDE))[:, 5:].abs().amax(-1).min() > 1e-6


def test_equal_paths_commute_with_the_reversal_of_time(both_ways):
    torch.manual_seed(0)
    block = MambaBlock(both_ways).eval()
    x = torch.randn(1, 12, 8)
    other = (block(x.flip(1), INSIDE) - block(x, INSIDE).flip(1)).abs().max()
    assert other > 1e-4  # each path has weights of its own
    block.back.load_state_dict(block.onward.state_dict())
    torch.testing.assert_close(block(x.flip(1), INSIDE), block(x, INSIDE).flip(1))


def test_each_path_is_the_causal_block_of_its_direction(config, both_ways):
    """Both together add what each alone adds to the residual stream."""
    torch.manual_seed(0)
    block, alone = MambaBlock(both_ways).eval(), MambaBlock(config.encoders.fgs1).eval()
    x = torch.randn(1, 12, 8)
    shared = {k: v for k, v in block.state_dict().items() if not k.startswith("back.")}
    alone.load_state_dict(shared)
    onward = alone(x, INSIDE) - x
    alone.onward.load_state_dict(block.back.state_dict())
    back = (alone(x.flip(1), INSIDE) - x.flip(1)).flip(1)
    torch.testing.assert_close(block(x, INSIDE) - x, onward + back)


def test_nothing_comes_back_from_behind_the_last_token(both_ways):
    torch.manual_seed(0)
    block = MambaBlock(both_ways).eval()
    torch.nn.init.normal_(block.back.conv.bias)
    x = torch.randn(1, 12, 8)
    noise = torch.where(ENDED[..., None], x, 9.0)
    seen = block(x, ENDED)[:, :9]
    assert torch.equal(block(noise, ENDED)[:, :9], seen)
    torch.testing.assert_close(block(x[:, :9], ENDED[:, :9]), seen)


def test_initial_step_sizes_lie_in_the_papers_range(both_ways):
    block = MambaBlock(both_ways)
    for path in (block.onward, block.back):
        dt = F.softplus(path.dt_proj.bias.detach().double())
        assert 0.999e-3 < float(dt.min()) < float(dt.max()) < 1.001e-1


def test_state_ignores_padding_masked_values_and_absent_visits(encoder, batch):
    state = encoder(batch.series, batch.mask)
    longer = F.pad(batch.series, (0, 37), value=9.0)
    torch.testing.assert_close(encoder(longer, F.pad(batch.mask, (0, 37))), state)
    noise = torch.where(batch.mask[:, :, None], batch.series, 1e3)
    torch.testing.assert_close(encoder(noise, batch.mask), state)
    first = replace(batch, series=batch.series[:, :1], mask=batch.mask[:, :1])
    torch.testing.assert_close(encoder(first.series, first.mask)[0], state[0])


def test_state_is_the_mean_over_visits(encoder, batch):
    state = encoder(batch.series, batch.mask)[2]
    single = [encoder(batch.series[2:, v : v + 1], batch.mask[2:, v : v + 1]) for v in (0, 1)]
    torch.testing.assert_close(state, torch.cat(single).mean(0))


def test_gaps_inside_a_visit_do_not_end_it(encoder, batch):
    """Tokens before a gap of several tokens still count, and those after it too."""
    mask = batch.mask[2:].clone()
    mask[..., 16:48] = False
    state = encoder(batch.series[2:], mask)
    for part in (slice(0, 16), slice(48, 70)):
        changed = batch.series[2:].clone()
        changed[..., part] += 1.0
        assert (encoder(changed, mask) - state).abs().max() > 1e-4


def test_order_in_time_matters(encoder, batch):
    state = encoder(batch.series[2:], batch.mask[2:])
    turned = encoder(batch.series[2:].flip(-1), batch.mask[2:])
    assert (state - turned).abs().max() > 1e-3


def test_every_parameter_of_both_paths_gets_a_gradient(model_values, batch):
    model_values["encoders"]["fgs1"]["bidirectional"] = True
    torch.manual_seed(4)
    network = V50(ModelConfig.model_validate(model_values), SIZES).eval()
    network.fgs1(batch.series, batch.mask).square().sum().backward()
    for name, parameter in network.fgs1.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.slow
@pytest.mark.parametrize("length", [67_500, 135_000])
def test_full_cadence_goes_through(encoder, length):
    """All CDS steps and all raw reads of FGS1, forward and backward."""
    series = torch.randn(1, 1, 3, length)
    state = encoder(series, torch.ones(1, 1, length, dtype=torch.bool))
    assert torch.isfinite(state).all()
    state.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())
