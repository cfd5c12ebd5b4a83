"""What is handed on as a likelihood holds no prior over spectra, and all that the light says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from biased_fits import make_fit
from scipy.signal import lfilter
from spectral_process import SURE, exponential
from transit_world import default_config, draw_world, fit_alone, level_error, make_curves

from spectramind.transit.likelihood import LOOSEST, measured_depths
from spectramind.transit.priors import first_priors
from spectramind.transit.spectrum_prior import PriorOnDevice, SpectrumPrior
from spectramind.transit.time_noise import NoiseBelief

W = 283
CONFIG = default_config()
X = np.linspace(-1.0, 1.0, W)
BROAD = SpectrumPrior(
    level=(0.012, 0.006), shape=X, components=np.vstack([X**2, np.sin(5.0 * X)]),
    process=exponential(np.full(W, 0.3), 0.03), amplitude=(-9.0, 0.0, 0.5), planets=50,
    typical=(-9.0, 0.5), least=1e-6, shares=SURE,
)  # fmt: skip
OTHER = replace(BROAD, level=(0.02, 0.01), shape=-2.0 * X, process=4.0 * BROAD.process)


def priors(spectrum, noise):
    return replace(first_priors(CONFIG), spectrum=spectrum, noise=noise)


def world_of(seed, *, central=False):
    """A planet; `central`: across the middle of the star, where b^2 would fall below 0."""
    world = draw_world(seed)
    if not central:
        return world
    star, table = (replace(own, inclination_deg=89.9) for own in (world.star, world.table))
    return replace(world, star=star, table=table)


@pytest.mark.parametrize(
    ("noise", "tolerance"), [(NoiseBelief.white(), 0.01), (NoiseBelief.first(), 0.1)]
)
def test_the_prior_over_spectra_moves_the_posterior_and_not_the_likelihood(noise, tolerance):
    """The noise in time is found with the prior's help, and so moves the depths a little."""
    world = world_of(1)
    curves = make_curves(world, factor=90)
    one, other = (
        fit_alone([curves], world.table, CONFIG, priors(spectrum, noise))
        for spectrum in (BROAD, OTHER)
    )
    here, there = measured_depths(one), measured_depths(other)
    assert np.abs((here.depth - there.depth) / here.sigma).max() < tolerance
    assert np.sqrt(np.diag(one.information) / np.diag(other.information)) == pytest.approx(
        1.0, rel=tolerance
    )
    assert np.abs((one.depth - other.depth) / one.sigma).max() > 0.5


@pytest.mark.parametrize(("seed", "central"), [(3, False), (32, True), (37, True)])
def test_likelihood_times_a_gaussian_prior_is_the_posterior(seed, central):
    """To 0.001 sigma, also where b^2 is held at 0."""
    world, sure = world_of(seed, central=central), replace(BROAD, typical=(-9.0, 1e-6))
    sure = replace(sure, amplitude=(-9.0, 0.0, 1e-6))
    fit = fit_alone(
        [make_curves(world, factor=90)], world.table, CONFIG, priors(sure, NoiseBelief.first())
    )
    assert (fit.parameters[2] < 1e-6) == central
    factor = np.append(fit.widening[0], np.full(W - 1, fit.widening[1]))
    wanted = (fit.covariance - fit.level_sigma**2) / factor / factor[:, None]
    own = measured_depths(replace(fit, widening=np.ones(2), level_sigma=0.0))
    mean, spread = (
        part.numpy()
        for part in PriorOnDevice(sure, torch.device("cpu")).gaussian(
            torch.tensor(np.exp(-9.0)), torch.tensor(1.0).double()
        )
    )
    gain = spread @ np.linalg.inv(spread + own.covariance)
    error = np.sqrt(np.diag(wanted))
    np.testing.assert_allclose(
        (mean + gain @ (own.depth - mean)) / error, fit.depth / error, rtol=0.0, atol=1e-3
    )
    both = (spread - gain @ spread) / error / error[:, None]
    np.testing.assert_allclose(both, wanted / error / error[:, None], rtol=0.0, atol=1e-3)


def test_a_wavelength_without_light_is_not_measured_and_changes_no_other():
    world = world_of(2)
    curves = make_curves(world, factor=90)
    airs = curves.airs_e.copy()
    airs[:, 7], airs[:, 100] = np.nan, 0.0
    airs[40, 60] = np.nan  # one exposure
    fit = fit_alone([replace(curves, airs_e=airs)], world.table, CONFIG)
    dark = np.isin(np.arange(W), [8, 101])
    assert np.array_equal(fit.measured, ~dark)
    own = measured_depths(fit)
    assert np.array_equal(np.isnan(own.depth), dark)
    assert np.array_equal(np.isnan(own.covariance), dark | dark[:, None])
    whole = measured_depths(fit_alone([curves], world.table, CONFIG))
    assert np.abs((own.depth - whole.depth)[~dark] / own.sigma[~dark]).max() < 0.5
    z = (own.depth - world.depth)[~dark]
    assert 0.7 < z @ np.linalg.solve(own.covariance[np.ix_(~dark, ~dark)], z) / z.size < 1.4


def test_a_widened_fit_has_a_widened_likelihood():
    """Without a prior over spectra both are the same but for a scatter of 0.01."""
    world = world_of(1)
    curves = make_curves(world, factor=90, noise=0.03, drift_amplitude=0.002)
    fit = fit_alone([curves], world.table, CONFIG, priors(None, NoiseBelief.white()))
    own, bare = measured_depths(fit), measured_depths(replace(fit, widening=np.ones(2)))
    assert (fit.widening > 1.1).all()
    assert fit.widening[1] > 2.0 * fit.widening[0]
    assert own.sigma == pytest.approx(fit.sigma, rel=0.01)
    assert own.sigma[0] / bare.sigma[0] == pytest.approx(fit.widening[0], rel=1e-6)
    assert own.sigma[1:] / bare.sigma[1:] == pytest.approx(fit.widening[1], rel=1e-6)
    assert np.array_equal(own.depth, bare.depth)


def test_noise_in_time_takes_some_trust_in_the_level():
    world = world_of(1)
    clean = make_curves(world, factor=90)
    steps = np.random.default_rng(4).standard_normal(clean.airs_time_h.size)
    walk = 3e-4 * lfilter([0.6], [1.0, -0.8], steps)
    noisy = replace(
        clean,
        airs_e=np.float32(clean.airs_e * (1.0 + walk)[:, None]),
        fgs1_e=np.float32(
            clean.fgs1_e * (1.0 + np.interp(clean.fgs1_time_h, clean.airs_time_h, walk))
        ),
    )
    quiet, loud = (fit_alone([own], world.table, CONFIG) for own in (clean, noisy))
    assert quiet.level_sigma < 1.2e-5
    assert loud.level_sigma > 5e-5
    assert abs(level_error(loud, world.depth)) < 3.0
    believed = fit_alone([noisy], world.table, CONFIG, priors(None, NoiseBelief.white()))
    assert loud.reasons == ()  # sigma says what the noise hides
    assert any("AIRS-CH0: reduced chi^2 of the white" in own for own in believed.reasons)
    assert loud.reduced_chi2 < 1.5 < 10.0 < believed.reduced_chi2


def test_a_planet_without_a_transit_keeps_its_reasons_and_its_wide_sigma():
    world = world_of(1)
    fit = fit_alone([make_curves(world, factor=90, t0_h=-3.0)], world.table, CONFIG)
    own = measured_depths(fit)
    assert any("no transit found" in reason for reason in fit.reasons)
    assert own.reasons[: len(fit.reasons)] == fit.reasons
    assert (own.sigma[fit.measured] > 0.99 * CONFIG.failure.depth_scatter).all()


def test_a_level_that_light_leaves_free_is_bounded_and_told():
    fit, truth = make_fit(3, bias=0.0)
    assert measured_depths(fit).reasons == ()
    level = fit.information.sum(1)
    free = fit.information - np.outer(level, level) / level.sum()
    shape = truth - truth.mean()
    own = measured_depths(replace(fit, information=free, vector=free @ truth))
    (reason,) = own.reasons
    assert reason.startswith("The light leaves 1 combination of depths free: a scatter of 1 about")
    unit = np.full(W, W**-0.5)
    assert unit @ own.covariance @ unit == pytest.approx(LOOSEST**2, rel=1e-6)
    np.testing.assert_allclose(own.depth - own.depth.mean(), shape, rtol=0.0, atol=1e-9)
    assert abs(own.depth.mean()) < 1e-4 * own.sigma.min()


def test_a_bright_star_needs_more_than_single_precision():
    """Errors of 5 ppm beside a common one of 1000 ppm: float32 loses the level."""
    fit, truth = make_fit(4, bias=0.0)
    own, common = 5e-6**-2.0, 1e-3**2
    information = np.diag(np.full(W, own)) - own**2 * common / (1.0 + W * own * common)
    vector = information @ truth
    found = measured_depths(replace(fit, information=information, vector=vector))
    assert np.abs((found.depth - truth) / found.sigma).max() < 0.01
    rounded = information.astype(np.float32).astype(np.float64)
    lost = measured_depths(replace(fit, information=rounded, vector=vector))
    assert np.abs((lost.depth - truth) / found.sigma).max() > 0.1
