"""Loss terms by hand."""

import math

import numpy as np
import pytest
import torch

from spectramind.instrument import wavelength_um
from spectramind.model.likelihood import loss_terms, robust_nll
from spectramind.model.physics_priors import (
    asymmetric_share,
    high_frequency_power,
    incoherence,
    negativity,
    roughness,
)
from spectramind.posterior import SpectrumPosterior
from spectramind.spectroscopy import GASES, bands_of

WEIGHTS = {
    "smooth_l2_weight": "roughness",
    "fft_suppress_weight": "high_frequency",
    "asymmetry_weight": "asymmetry",
    "negativity_weight": "negativity",
    "coherence_weight": "incoherence",
}
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
    value = robust_nll(posterior, depth, unit=ONES, z_clip=5.0, fgs1_weight=50.0)
    assert float(value) == pytest.approx(2.0 * 50.0 / (50.0 + 282.0))


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


def test_negativity_by_hand():
    mu = torch.full_like(ONES, 3.0)
    mu[0, 5] = -4.0
    assert float(negativity(mu, 2.0 * ONES)) == pytest.approx(4.0 / 283.0)


def test_incoherence_sees_what_varies_inside_a_band_only():
    grid = wavelength_um()
    bands = [band for gas in GASES for band in bands_of(gas, grid) if band.sum() > 1]
    assert float(incoherence(5.0 * ONES)) == pytest.approx(0.0, abs=1e-9)
    alone = torch.zeros_like(ONES)
    alone[0, np.flatnonzero(bands[0])[0]] = 1.0
    holding = [band.sum() for band in bands if band[np.flatnonzero(bands[0])[0]]]
    wanted = sum(1.0 / size for size in holding) / len(bands)  # variance of one 1 among zeros
    assert float(incoherence(alone)) == pytest.approx(wanted, rel=1e-5)
    apart = torch.from_numpy(~np.any(bands, axis=0))[None].double()
    assert apart.any()
    assert float(incoherence(apart)) == pytest.approx(0.0, abs=1e-9)


def test_incoherence_of_white_noise_is_one():
    noise = torch.randn(2000, 283, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(incoherence(noise).mean()) == pytest.approx(1.0, abs=0.03)


def test_asymmetric_share_is_the_projection_on_the_asymmetry():
    generator = torch.Generator().manual_seed(0)
    along, other = torch.randn(2, 1, 283, dtype=torch.float64, generator=generator)
    across = other - along * (other * along).sum() / along.square().sum()
    assert float(asymmetric_share(across, along)) == pytest.approx(0.0, abs=1e-12)
    both = asymmetric_share(2.0 * along + across, along)
    assert float(both) == pytest.approx(4.0 * float(along.square().mean()))
    assert float(asymmetric_share(along, torch.zeros_like(along))) == 0.0


def white_terms(config, widening=1.0):
    torch.manual_seed(0)
    mu, asymmetry = torch.randn(2, 2, 283, dtype=torch.float64)
    own = torch.ones_like(mu)
    fit = SpectrumPosterior(torch.zeros_like(mu), widening * own)
    return loss_terms(SpectrumPosterior(mu, fit.sigma), fit, own, asymmetry, fit.mu, config)


def test_terms_add_up_with_their_weights(config):
    weights = dict.fromkeys(WEIGHTS, 0.0)
    bare = white_terms(config.loss.model_copy(update=weights))
    assert float(bare.total) == pytest.approx(float(bare.nll))
    for name, term in WEIGHTS.items():
        own = white_terms(config.loss.model_copy(update=weights | {name: 0.3}))
        assert float(own.total) == pytest.approx(float(own.nll + 0.3 * getattr(own, term)))
    assert min(bare) > 0


def test_priors_do_not_know_what_widens_the_fit(config):
    """A correction counts in the fit's own errors, its likelihood in the widened ones."""
    clean, doubted = white_terms(config.loss), white_terms(config.loss, widening=5.0)
    assert doubted._replace(total=clean.total, nll=clean.nll) == clean
    assert float(doubted.nll) == pytest.approx(float(clean.nll) / 25.0)


def test_total_without_priors_has_finite_gradients_where_mu_is_the_fit(config):
    mu = torch.zeros(1, 283, dtype=torch.float64, requires_grad=True)
    fit = SpectrumPosterior(torch.zeros_like(ONES), ONES)
    own = config.loss.model_copy(update=dict.fromkeys(WEIGHTS, 1.0))
    terms = loss_terms(SpectrumPosterior(mu, ONES), fit, ONES, 0.0 * ONES, ONES, own)
    terms.total.backward()
    assert torch.isfinite(mu.grad).all()
