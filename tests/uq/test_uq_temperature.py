"""The temperature is the minimum of the Gaussian NLL, and it counts planets."""

import pytest
import torch

from spectramind.errors import DataError
from spectramind.posterior import SpectrumPosterior
from spectramind.uq.temperature import fit_temperature, robust_temperature


def draw(planets, sigma_true, sigma_claimed, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mu = 0.01 + 0.001 * torch.rand(planets, 283, generator=generator, dtype=torch.float64)
    noise = torch.randn(planets, 283, generator=generator, dtype=torch.float64)
    sigma = torch.full_like(mu, sigma_claimed)
    return SpectrumPosterior(mu, sigma), mu + sigma_true * noise


def test_temperature_undoes_a_known_scale():
    posterior, depth = draw(60, 1e-4, 0.5e-4)
    assert fit_temperature(posterior, depth) == pytest.approx(2.0, rel=0.02)
    assert robust_temperature(posterior, depth) == pytest.approx(2.0, rel=0.02)


def test_temperature_is_the_minimum_of_the_nll():
    posterior, depth = draw(20, 1e-4, 0.7e-4)
    best = fit_temperature(posterior, depth)
    nll = [-posterior.scaled(best * f).log_prob(depth).mean().item() for f in (0.99, 1.0, 1.01)]
    assert nll[1] < min(nll[0], nll[2])
    temperature = torch.tensor(best, dtype=torch.float64, requires_grad=True)
    posterior.scaled(temperature.expand(283)).log_prob(depth).mean().backward()
    assert temperature.grad is not None
    assert temperature.grad.abs().item() < 1e-10


def test_temperature_of_a_scaled_posterior_is_one():
    posterior, depth = draw(20, 1e-4, 3e-4)
    scaled = posterior.scaled(fit_temperature(posterior, depth))
    assert fit_temperature(scaled, depth) == pytest.approx(1.0, rel=1e-12)


def test_held_out_likelihood_improves():
    posterior, depth = draw(40, 1e-4, 0.4e-4)
    held_out, held_out_depth = draw(40, 1e-4, 0.4e-4, seed=1)
    scaled = held_out.scaled(fit_temperature(posterior, depth))
    assert scaled.log_prob(held_out_depth).mean() > held_out.log_prob(held_out_depth).mean()


def test_robust_temperature_ignores_one_failed_planet():
    posterior, depth = draw(40, 1e-4, 1e-4)
    depth[3] += 0.01
    assert fit_temperature(posterior, depth) > 10
    assert robust_temperature(posterior, depth) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("fit", [fit_temperature, robust_temperature])
def test_refuses_one_planet(fit):
    posterior, depth = draw(1, 1e-4, 1e-4)
    with pytest.raises(
        DataError,
        match=r"temperature: 1 out-of-fold planets with trusted fits, wanted at least 2\. "
        r"Train on more planets "
        r"\(simulate\.train_planets\) and run `spectramind train` again\.",
    ):
        fit(posterior, depth)


def test_refuses_zero_sigma():
    posterior, depth = draw(4, 1e-4, 1e-4)
    posterior.sigma[2, 7] = 0.0
    with pytest.raises(
        DataError,
        match=r"temperature: out-of-fold planet in row 2 \(of 1 such rows\) has \(depth - mu\) / "
        r"sigma that is not finite\. Look for NaN or zero sigma",
    ):
        fit_temperature(posterior, depth)
