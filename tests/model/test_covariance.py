"""The covariance head: marginals as they are, factors alive, likelihood equal to the dense one."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from spectramind.model.heads import CovarianceHead
from spectramind.model.likelihood import joint_nll, loss_terms
from spectramind.model.network import V50, FeatureSizes
from spectramind.model.settings import CovarianceHeadConfig, ModelConfig
from spectramind.posterior import SpectrumPosterior

SIZES = FeatureSizes(nodes=5, series=3, planet=4)


@pytest.fixture
def correlated(model_values) -> ModelConfig:
    model_values["decoders"]["covariance"]["rank"] = 3
    return ModelConfig.model_validate(model_values)


def factored(*, planets: int = 2, wavelengths: int = 6, rank: int = 3) -> SpectrumPosterior:
    """Marginal sigma larger than the factors by random diagonals."""
    generator = torch.Generator().manual_seed(1)
    mu, rest = torch.rand(2, planets, wavelengths, generator=generator, dtype=torch.float64)
    factor = torch.randn(planets, wavelengths, rank, generator=generator, dtype=torch.float64)
    return SpectrumPosterior(mu, (0.2 + rest + factor.square().sum(-1)).sqrt(), factor)


def dense(posterior: SpectrumPosterior) -> torch.Tensor:
    """S = D + U U^T as a matrix."""
    low = posterior.factor @ posterior.factor.mT
    rest = posterior.sigma**2 - posterior.factor.square().sum(-1)
    return low + torch.diag_embed(rest)


def test_joint_likelihood_is_the_dense_one():
    posterior = factored()
    depth = posterior.mu + 0.7 * torch.randn_like(posterior.mu)
    judge = MultivariateNormal(posterior.mu, dense(posterior))
    wanted = judge.log_prob(depth)
    torch.testing.assert_close(posterior.joint_log_prob(depth), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(posterior.log_det(), torch.logdet(dense(posterior)))


def test_joint_likelihood_without_factors_is_the_sum_of_the_marginal_ones():
    bare = SpectrumPosterior(factored().mu, factored().sigma)
    torch.testing.assert_close(
        bare.joint_log_prob(bare.mu + 1), bare.log_prob(bare.mu + 1).sum(-1)
    )


def test_marginal_sigma_is_diagonal_and_factors():
    posterior = factored()
    torch.testing.assert_close(dense(posterior).diagonal(dim1=-2, dim2=-1).sqrt(), posterior.sigma)


def test_joint_likelihood_passes_gradcheck():
    posterior = factored()
    depth = posterior.mu + 0.3
    inputs = [part.clone().requires_grad_() for part in vars(posterior).values()]
    assert torch.autograd.gradcheck(
        lambda *parts: SpectrumPosterior(*parts).joint_log_prob(depth), inputs
    )


def test_robust_joint_likelihood_is_the_joint_one_within_the_clip():
    posterior = factored()
    depth, unit = posterior.mu + 0.1, torch.full_like(posterior.mu, 0.3)
    value = joint_nll(posterior, depth, unit=unit, z_clip=5.0)
    wanted = -posterior.joint_log_prob(depth) / 6 - 0.5 * math.log(2 * math.pi) - math.log(0.3)
    torch.testing.assert_close(value, wanted)


def test_robust_joint_likelihood_beyond_the_clip_by_hand():
    zero = torch.zeros(1, 6, dtype=torch.float64)
    bare = SpectrumPosterior(zero, zero + 1.0)
    value = joint_nll(bare, zero + 10.0, unit=bare.sigma, z_clip=5.0)
    assert float(value) == pytest.approx(12.5 * (1.0 + math.log(4.0)))


def test_scaling_keeps_correlations():
    posterior = factored()
    temperature = torch.linspace(0.5, 2.0, 6, dtype=torch.float64)
    wanted = temperature[:, None] * dense(posterior) * temperature
    torch.testing.assert_close(dense(posterior.scaled(temperature)), wanted)
    torch.testing.assert_close(dense(posterior.scaled(2.0)), 4.0 * dense(posterior))


def test_mixture_has_the_covariance_of_the_mixture():
    one = factored()
    two = SpectrumPosterior(one.mu.flip(0), one.sigma * 1.3, one.factor.flip(-1) * 0.5)
    mixed = SpectrumPosterior.mixture([one, two])
    mean = (one.mu + two.mu) / 2
    away = [part.mu - mean for part in (one, two)]
    wanted = (dense(one) + dense(two)) / 2
    wanted = wanted + sum(gap[:, :, None] * gap[:, None] for gap in away) / 2
    torch.testing.assert_close(mixed.mu, mean)
    torch.testing.assert_close(dense(mixed), wanted)
    bare = SpectrumPosterior.mixture(
        [SpectrumPosterior(part.mu, part.sigma) for part in (one, two)]
    )
    assert torch.equal(mixed.sigma, bare.sigma)
    assert bare.factor is None
    assert torch.equal(SpectrumPosterior.mixture([one]).factor, one.factor)


def test_parts_join():
    whole = factored()
    parts = [
        SpectrumPosterior(whole.mu[row], whole.sigma[row], whole.factor[row])
        for row in (slice(0, 1), slice(1, 2))
    ]
    joined = SpectrumPosterior.joined(parts)
    for name, value in vars(whole).items():
        assert torch.equal(getattr(joined, name), value)
    assert SpectrumPosterior.joined([SpectrumPosterior(whole.mu, whole.sigma)]).factor is None


def test_samples_have_the_covariance():
    posterior = factored()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, 6 + 3, generator=generator, dtype=torch.float64)
    samples = posterior.sample(*noise[:, None].split([6, 3], dim=-1))
    for planet in range(2):
        found = torch.cov(samples[:, planet].T)
        torch.testing.assert_close(found, dense(posterior)[planet], rtol=0.03, atol=0.06)
    torch.testing.assert_close(samples.mean(0), posterior.mu, rtol=0, atol=0.02)


def test_head_keeps_the_marginal_sigma():
    torch.manual_seed(0)
    head = CovarianceHead(4, CovarianceHeadConfig(rank=2, hidden=(8,), weight=1.0))
    torch.nn.init.normal_(head.loadings.last.weight, std=3.0)
    sigma = torch.rand(2, 5, dtype=torch.float64) + 0.1
    state = torch.randn(2, 5, 4)
    factor = head(state, sigma)
    loadings = head.loadings(state).double()
    inner = torch.eye(5).double() + loadings @ loadings.mT
    scale = sigma / inner.diagonal(dim1=-2, dim2=-1).sqrt()
    wanted = scale[:, :, None] * inner * scale[:, None]
    torch.testing.assert_close(dense(SpectrumPosterior(sigma, sigma, factor)), wanted)


def test_untrained_network_is_the_fit(correlated, batch):
    posterior = V50(correlated, SIZES)(batch)
    assert torch.equal(posterior.mu, batch.depth)
    assert torch.equal(posterior.sigma, batch.sigma)
    assert 0 < (posterior.factor / batch.sigma[..., None]).abs().max() < 0.1


def test_every_parameter_gets_a_gradient_from_the_start(correlated, batch):
    """No stationary point: the factors move although they start near zero."""
    torch.manual_seed(4)
    network = V50(correlated, SIZES)
    network.loss(batch, batch.depth + 1e-4, correlated.loss).backward()
    for name, parameter in network.covariance.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_rank_zero_is_the_network_without_the_head(config, correlated, batch):
    torch.manual_seed(4)
    bare = V50(config, SIZES).eval()
    torch.manual_seed(4)
    more = V50(correlated, SIZES).eval()
    assert bare.covariance is None
    assert bare(batch).factor is None
    names = bare.state_dict().keys()
    assert all(torch.equal(bare.state_dict()[name], more.state_dict()[name]) for name in names)
    assert {name.split(".")[0] for name in more.state_dict().keys() - names} == {"covariance"}
    depth = batch.depth + 1e-4
    wanted = loss_terms(
        bare(batch), batch.fit, batch.own_sigma, batch.asymmetry, depth, config.loss
    ).total
    assert torch.equal(bare.loss(batch, depth, config.loss), wanted)
    joint = joint_nll(more(batch), depth, unit=batch.sigma, z_clip=5.0).mean()
    weight = correlated.decoders.covariance.weight
    torch.testing.assert_close(more.loss(batch, depth, correlated.loss), wanted + weight * joint)


def test_samples_of_the_network_are_those_of_its_posterior(correlated, batch):
    torch.manual_seed(4)
    network = V50(correlated, SIZES).eval()
    torch.nn.init.normal_(network.covariance.loadings.last.weight, std=5.0)
    samples = network.samples(batch, count=4000, seed=0)
    z = (samples - batch.depth) / batch.sigma
    found = torch.corrcoef(z[:, 0, :5].T)
    posterior = network(batch)
    wanted = dense(posterior)[0, :5, :5] / batch.sigma[0, :5, None] / batch.sigma[0, :5]
    assert (wanted - torch.eye(5).double()).abs().max() > 0.2
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.08)
