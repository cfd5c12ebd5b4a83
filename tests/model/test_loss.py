"""Loss terms by hand."""

import math

import pytest
import torch

from spectramind.model.likelihood import loss_terms, robust_nll
from spectramind.model.physics_priors import high_frequency_power, roughness
from spectramind.posterior import SpectrumPosterior

ONES = torch.ones(1, 283, dtype=torch.float64)


def nll(z: float, *, sigma: float = 2.0, z_clip: float = 5.0, fgs1_weight: float = 1.0) -> float:
    posterior = SpectrumPosterior(0.0 * ONES, sigma * ONES)
    value = robust_nll(
        posterior, z * sigma * ONES, unit=ONES, z_clip=z_clip, fgs1_weight=fgs1_weight
    )
    return float(value[0])


def test_nll_inside_the_clip_is_gaussian():
    normal = torch.distributions.Normal(0.0, 2.0)
    wanted = -float(normal.log_prob(torch.tensor(3.0))) - 0.5 * math.log(2.0 * math.pi)
    assert nll(1.5) == pytest.approx(wanted, rel=1e-6)


def test_nll_beyond_the_clip_by_hand():
    assert nll(10.0) == pytest.approx(12.5 * (1.0 + math.log(4.0)) + math.log(2.0))


def test_nll_is_continuous_in_value_and_slope_at_the_clip():
    step = 1e-6
    assert nll(5.0 + step) == pytest.approx(nll(5.0 - step), abs=1e-4)
    slopes = [(nll(5.0 + s + step) - nll(5.0 + s)) / step for s in (-2 * step, step)]
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-3)


def test_pull_of_a_blown_planet_is_bounded():
    log_sigma = torch.zeros(1, 283, dtype=torch.float64, requires_grad=True)
    posterior = SpectrumPosterior(0.0 * ONES, log_sigma.exp())
    robust_nll(posterior, 1e6 * ONES, unit=ONES, z_clip=5.0, fgs1_weight=1.0).sum().backward()
    assert float(log_sigma.grad.sum()) == pytest.approx(1.0 - 25.0)


def test_fgs1_weight():
    posterior = SpectrumPosterior(0.0 * ONES, ONES)
    depth = torch.zeros_like(ONES)
    depth[0, 0] = 2.0
    value = robust_nll(posterior, depth, unit=ONES, z_clip=5.0, fgs1_weight=57.846)
    assert float(value) == pytest.approx(2.0 * 57.846 / (57.846 + 282.0))


def test_roughness_by_hand():
    line = torch.arange(283, dtype=torch.float64)[None]
    assert float(roughness(3.0 * line + 1.0, ONES)) == pytest.approx(0.0, abs=1e-12)
    assert float(roughness(line**2, 2.0 * ONES)) == pytest.approx(1.0 / 6.0)


def test_roughness_ignores_fgs1():
    spectrum = torch.zeros_like(ONES)
    spectrum[0, 0] = 5.0
    assert float(roughness(spectrum, ONES)) == 0.0


def test_both_priors_are_one_for_white_noise():
    noise = torch.randn(400, 283, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = torch.ones_like(noise)
    assert float(roughness(noise, sigma).mean()) == pytest.approx(1.0, abs=0.03)
    power = high_frequency_power(noise, sigma, cutoff=0.15).mean()
    assert float(power) == pytest.approx(1.0, abs=0.03)


def test_high_frequency_power_of_one_cosine_by_hand():
    """cos(pi k (n + 1/2) / N) of frequency k / 2N: |FFT|^2 / 2N = N / 2 at k, 0 elsewhere."""
    bins = torch.arange(282, dtype=torch.float64) + 0.5

    def power(k: int) -> float:
        spectrum = torch.zeros(1, 283, dtype=torch.float64)
        spectrum[0, 1:] = torch.cos(math.pi * k * bins / 282)
        return float(high_frequency_power(spectrum, ONES, cutoff=0.25))

    assert power(140) == pytest.approx(0.0, abs=1e-9)  # 140 / 564 is below 0.25
    assert power(200) == pytest.approx(141.0 / 141.0)  # 141 frequencies from 141 to 281


def test_terms_add_up_with_their_weights(config):
    torch.manual_seed(0)
    mu = torch.randn(2, 283, dtype=torch.float64)
    fit = SpectrumPosterior(torch.zeros_like(mu), torch.ones_like(mu))
    terms = loss_terms(SpectrumPosterior(mu, fit.sigma), fit, fit.mu, config.loss)
    assert float(terms.total) == pytest.approx(
        float(terms.nll + 0.1 * terms.roughness + 0.05 * terms.high_frequency)
    )
    assert min(terms) > 0
