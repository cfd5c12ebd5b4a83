import pytest
import torch
from torch.distributions import Normal

from spectramind.posterior import SpectrumPosterior


@pytest.fixture
def posterior() -> SpectrumPosterior:
    generator = torch.Generator().manual_seed(0)
    mu = torch.rand(4, 283, generator=generator, dtype=torch.float64)
    sigma = 0.1 + torch.rand(4, 283, generator=generator, dtype=torch.float64)
    return SpectrumPosterior(mu, sigma)


def test_log_prob_is_that_of_the_normal(posterior):
    depth = posterior.mu + 0.3
    expected = Normal(posterior.mu, posterior.sigma).log_prob(depth)
    torch.testing.assert_close(posterior.log_prob(depth), expected)


def test_temperature_one_changes_nothing(posterior):
    assert torch.equal(posterior.scaled(1.0).sigma, posterior.sigma)
    assert torch.equal(posterior.scaled(2.0).sigma, 2 * posterior.sigma)


def test_equal_members_are_as_one(posterior):
    mixed = SpectrumPosterior.mixture([posterior, posterior, posterior])
    torch.testing.assert_close(mixed.mu, posterior.mu)
    torch.testing.assert_close(mixed.sigma, posterior.sigma)


def test_mixture_has_the_moments_of_its_samples():
    members = [
        SpectrumPosterior(torch.tensor([[mu]]), torch.tensor([[sigma]]))
        for mu, sigma in ((0.0, 1.0), (4.0, 2.0))
    ]
    mixed = SpectrumPosterior.mixture(members)
    assert mixed.mu.item() == pytest.approx(2.0)
    assert mixed.sigma.item() ** 2 == pytest.approx((1 + 4) / 2 + 4)


def test_interval_grows_with_its_half_width(posterior):
    lower, upper = posterior.interval(1.0)
    wide_lower, wide_upper = posterior.interval(2.0)
    assert torch.all(wide_lower < lower)
    assert torch.all(upper < wide_upper)
    torch.testing.assert_close((lower + upper) / 2, posterior.mu)


def test_sigma_is_raised_where_it_is_smaller_and_correlations_stay():
    mu, sigma = torch.zeros(2, 5).double(), torch.linspace(1.0, 2.0, 10).double().view(2, 5)
    loadings = torch.full((2, 5, 2), 0.5).double()
    posterior = SpectrumPosterior(mu, sigma, loadings * sigma[..., None])
    raised = posterior.at_least(torch.full_like(sigma, 1.5))
    assert torch.equal(raised.sigma, sigma.clamp(min=1.5))
    torch.testing.assert_close(raised.factor, loadings * raised.sigma[..., None])
    assert torch.equal(raised.mu, mu)
    assert SpectrumPosterior(mu, sigma).at_least(sigma).factor is None
