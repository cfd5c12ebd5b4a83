"""The diffusion decoder: silent at first, solved exactly where the answer is known."""

import math
from dataclasses import replace

import pytest
import torch

from spectramind.model.diffusion import Denoiser, matched_noise, white_noise
from spectramind.model.network import V50, FeatureSizes
from spectramind.model.settings import DiffusionConfig, ModelConfig
from spectramind.posterior import SpectrumPosterior

SIZES = FeatureSizes(nodes=5, series=3, planet=4)
WAVELENGTHS, STATE = 7, 3


@pytest.fixture
def diffusing(model_values, diffusion_values) -> ModelConfig:
    model_values["decoders"]["diffusion"] = diffusion_values
    return ModelConfig.model_validate(model_values)


@pytest.fixture
def denoiser(diffusion_values) -> Denoiser:
    torch.manual_seed(5)
    return Denoiser(STATE, WAVELENGTHS, DiffusionConfig(**diffusion_values | {"steps": 40}))


@pytest.fixture
def drawn(diffusing) -> V50:
    """Evaluation mode, last layers perturbed away from zero."""
    torch.manual_seed(4)
    made = V50(diffusing, SIZES).eval()
    with torch.no_grad():
        for layer in (made.mu.last, made.log_scale.last, made.denoiser.last):
            layer.weight.normal_(std=0.2)
            layer.bias.normal_(std=0.1)
    return made


@pytest.fixture
def unit() -> SpectrumPosterior:
    zero = torch.zeros(2, WAVELENGTHS, dtype=torch.float64)
    return SpectrumPosterior(zero, zero + 1.0)


def test_untrained_decoder_is_the_fit(diffusing, batch):
    posterior = V50(diffusing, SIZES)(batch)
    torch.testing.assert_close(posterior.mu, batch.depth, rtol=1e-13, atol=0)
    torch.testing.assert_close(posterior.sigma, batch.sigma, rtol=1e-13, atol=0)


def test_untrained_samples_are_those_of_the_fit(diffusing, batch):
    samples = V50(diffusing, SIZES).samples(batch, count=3, seed=1)
    wanted = batch.depth + batch.sigma * white_noise(3, 283, 1)[:, None]
    torch.testing.assert_close(samples, wanted, rtol=1e-13, atol=0)


def test_every_parameter_gets_a_gradient(drawn, batch, diffusing):
    drawn.loss(batch, batch.depth + 1e-4, diffusing.loss).backward()
    for name, parameter in drawn.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_denoising_does_not_lead_the_heads(drawn, batch):
    state = drawn.fuse(batch)
    posterior = drawn.decode(batch, state)
    drawn.denoiser.loss(posterior, state, batch.depth, z_clip=5.0, fgs1_weight=1.0).backward()
    assert drawn.mu.last.weight.grad is None
    assert drawn.log_scale.last.weight.grad is None
    assert drawn.airs.embed.weight.grad.abs().max() > 0
    assert drawn.fgs1.stem.weight.grad.abs().max() > 0


def test_prediction_repeats_and_knows_no_neighbours(drawn, batch):
    first, again = drawn(batch), drawn(batch)
    assert torch.equal(first.mu, again.mu)
    assert torch.equal(first.sigma, again.sigma)
    alone = drawn(batch[torch.tensor([1])])
    torch.testing.assert_close(first.mu[1:2], alone.mu, rtol=0, atol=1e-6)
    torch.testing.assert_close(first.sigma[1:2], alone.sigma, rtol=1e-4, atol=0)


def test_samples_follow_their_seed(drawn, batch):
    one = drawn.samples(batch, count=4, seed=1)
    assert torch.equal(one, drawn.samples(batch, count=4, seed=1))
    assert not torch.equal(one, drawn.samples(batch, count=4, seed=2))


@pytest.mark.parametrize("part", ["nodes", "series", "planet"])
def test_every_input_reaches_the_samples(drawn, batch, part):
    """The heads stand still: what changes comes through the denoiser."""
    with torch.no_grad():
        for head in (drawn.mu, drawn.log_scale):
            head.last.weight.zero_()
    changed = replace(batch, **{part: getattr(batch, part) + 0.5})
    before, after = (drawn.samples(one, count=2, seed=0) for one in (batch, changed))
    assert (before - after).abs().max() > 1e-8


def test_prediction_is_the_moments_of_its_draws(drawn, batch):
    posterior = drawn(batch)
    state = drawn.fuse(batch)
    noise = matched_noise(8, 283, 0)[:, None]
    samples = drawn.denoiser.sample(drawn.decode(batch, state), state, batch.widening, noise)
    torch.testing.assert_close(posterior.mu, samples.mean(0))
    torch.testing.assert_close(posterior.sigma, samples.std(0, correction=0))


def test_what_widens_the_fit_widens_the_draws_about_their_mean(drawn, batch):
    with torch.no_grad():
        drawn.denoiser.last.weight.mul_(0.1)  # so that rounding does not grow along the path
    clean, doubted = drawn(batch.unwidened()), drawn(batch)
    assert (clean.mu - drawn.decode(batch, drawn.fuse(batch)).mu).abs().max() > 1e-6
    torch.testing.assert_close(doubted.mu, clean.mu, rtol=1e-12, atol=0)
    torch.testing.assert_close(doubted.sigma, batch.widening * clean.sigma, rtol=1e-14, atol=0)
    narrow, wide = (drawn.samples(own, count=4, seed=1) for own in (batch.unwidened(), batch))
    wanted = clean.mu + batch.widening * (narrow - clean.mu)
    torch.testing.assert_close(wide, wanted, rtol=0, atol=1e-9)


def test_wavelengths_meet(denoiser):
    torch.nn.init.normal_(denoiser.last.weight)
    x = torch.zeros(1, 1, WAVELENGTHS, requires_grad=True)
    condition = denoiser.condition(torch.zeros(1, WAVELENGTHS, STATE))
    denoiser.velocity(x, torch.ones(1, 1), condition)[0, 0, 0].backward()
    assert (x.grad[0, 0] != 0).all()


def gaussian_velocity(mean: float, deviation: float):
    """E[cos(a) x - sin(a) e | x_a] for x ~ N(mean, deviation^2), by hand."""

    def velocity(x, angle, _):
        cos, sin = torch.cos(angle)[..., None].double(), torch.sin(angle)[..., None].double()
        gain = sin * cos * (deviation**2 - 1.0) / (cos**2 + (sin * deviation) ** 2)
        return cos * mean + gain * (x.double() - sin * mean)

    return velocity


def test_known_velocity_carries_noise_to_its_gaussian(denoiser, monkeypatch):
    """The exact flow maps e to mean + deviation e."""
    monkeypatch.setattr(denoiser, "velocity", gaussian_velocity(1.5, 0.5))
    noise = white_noise(10, WAVELENGTHS, 0).unflatten(0, (5, 2))
    x = denoiser.solve(noise, torch.zeros(2, WAVELENGTHS, STATE))
    torch.testing.assert_close(x, 1.5 + 0.5 * noise, rtol=0, atol=5e-3)
    same = denoiser.solve(noise[:, :1], torch.zeros(2, WAVELENGTHS, STATE))
    assert torch.equal(same, x[:, :1].expand(-1, 2, -1))


def test_solver_is_of_second_order(denoiser, monkeypatch):
    monkeypatch.setattr(denoiser, "velocity", gaussian_velocity(1.0, 2.0))
    noise = white_noise(5, WAVELENGTHS, 0)[:, None]
    state = torch.zeros(1, WAVELENGTHS, STATE)
    errors = []
    for steps in (20, 40):
        changed = denoiser.config.model_copy(update={"steps": steps})
        monkeypatch.setattr(denoiser, "config", changed)
        errors.append((denoiser.solve(noise, state) - 1.0 - 2.0 * noise).abs().max())
    assert float(errors[0] / errors[1]) == pytest.approx(4.0, rel=0.15)


def test_loss_is_least_at_the_known_velocity(denoiser, unit, monkeypatch):
    """Its value there: s^2 / (cos^2 a + s^2 sin^2 a), whose mean over a is the deviation s."""
    torch.manual_seed(0)
    many = SpectrumPosterior(unit.mu.repeat(4000, 1), unit.sigma.repeat(4000, 1))
    depth = 1.5 + 0.5 * torch.randn_like(many.mu)
    state = torch.zeros(8000, 1, STATE).expand(-1, WAVELENGTHS, -1)

    def loss(mean: float, deviation: float) -> float:
        torch.manual_seed(1)
        monkeypatch.setattr(denoiser, "velocity", gaussian_velocity(mean, deviation))
        return float(denoiser.loss(many, state, depth, z_clip=50.0, fgs1_weight=1.0))

    best = loss(1.5, 0.5)
    assert best == pytest.approx(0.5, rel=0.02)
    for other in ((1.3, 0.5), (1.7, 0.5), (1.5, 0.4), (1.5, 0.65)):
        assert loss(*other) > best * 1.005


def test_pull_of_a_blown_planet_is_bounded(denoiser, unit):
    state = torch.zeros(2, WAVELENGTHS, STATE)
    pulls = []
    for depth in (1e3, 1e6):
        torch.manual_seed(0)
        denoiser.zero_grad()
        far = torch.full_like(unit.mu, depth)
        denoiser.loss(unit, state, far, z_clip=5.0, fgs1_weight=1.0).backward()
        pulls.append(float(denoiser.last.bias.grad.abs()[0]))
    assert pulls[0] < 2.0
    assert pulls[1] < pulls[0]


def test_fgs1_weight_counts(denoiser, unit):
    state, depth = torch.zeros(2, WAVELENGTHS, STATE), unit.mu.clone()
    depth[:, 0] = 4.0

    def loss(weight: float) -> float:
        torch.manual_seed(0)
        return denoiser.loss(unit, state, depth, z_clip=50.0, fgs1_weight=weight).item()

    assert loss(50.0) > loss(1.0) * 1.5


def test_matched_noise_has_moments_zero_and_one():
    noise = matched_noise(10, 283, 3)
    assert noise.mean(0).abs().max() < 1e-15
    torch.testing.assert_close(noise.std(0, correction=0), torch.ones(283).double())
    assert not torch.equal(noise, matched_noise(10, 283, 4))
    assert noise.abs().max() < math.sqrt(10)


def test_a_covariance_beside_it_is_refused(model_values, diffusion_values):
    model_values["decoders"]["diffusion"] = diffusion_values
    model_values["decoders"]["covariance"]["rank"] = 2
    message = r"would be ignored; set model\.decoders\.covariance\.rank=0 or use decoders=gauss"
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate(model_values)
