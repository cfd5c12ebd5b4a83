from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("batman")

from transit_world import default_config, draw_world, make_curves

from spectramind.errors import DataError
from spectramind.transit.fit import fit_planet
from spectramind.transit.limb_darkening import quadratic_coefficients


@pytest.fixture(scope="module")
def config():
    return default_config()


@pytest.fixture(scope="module")
def world():
    return draw_world(1)


@pytest.fixture(scope="module")
def curves(world):
    return make_curves(world)


@pytest.fixture(scope="module")
def fit(world, curves, config):
    return fit_planet([curves], world.table, config)


def _own_law(wavelength, temperature):
    return quadratic_coefficients(temperature, np.array([wavelength]))[0]


def test_the_depths_of_its_own_limb_law_with_little_noise_are_found(world):
    clean = make_curves(world, noise=0.03, drift_amplitude=0.002, law="quadratic", u=_own_law)
    fit = fit_planet([clean], world.star, default_config())
    error_ppm = 1e6 * (fit.depth - world.depth)
    assert fit.reasons == ()
    assert np.abs(error_ppm[1:].mean()) < 10.0
    assert np.sqrt(np.mean(error_ppm[1:] ** 2)) < 25.0
    assert abs(error_ppm[0]) < 25.0
    assert fit.parameters[0] == pytest.approx(world.star.period_d, rel=0.02)
    assert dict(zip(fit.parameter_names, fit.parameters, strict=True))["t0_h_0"] == pytest.approx(
        world.t0_h, abs=1e-3
    )


def test_depths_lie_within_their_errors_and_products_are_whole(world, fit, config):
    z = (fit.depth - world.depth) / fit.sigma
    assert fit.reasons == ()
    assert np.mean(z[1:] ** 2) < 3.0
    assert abs(z[0]) < 4.0
    assert np.median(fit.sigma[1:]) < 400e-6
    (visit,) = fit.visits
    assert visit.flux.shape == visit.model.shape == (visit.time_h.size, 283)
    assert visit.fgs1_time_h.size == min(config.fgs1_bins, 1498)
    outside = visit.model[:, 100] == 1.0
    assert np.mean(visit.flux[outside, 1:]) == pytest.approx(1.0, abs=2e-4)
    assert visit.model.min() == pytest.approx(1.0 - 1.1 * world.depth.max(), abs=3e-3)
    residual = visit.flux - visit.model
    assert np.abs(residual.mean(axis=0)).max() < 3e-3
    np.testing.assert_allclose(np.median(visit.fgs1_centroid, axis=0), 0.0, atol=1e-6)
    assert (np.linalg.eigvalsh(fit.parameter_covariance) > 0.0).all()


def test_the_depth_is_free_of_the_flux_unit(world, curves, fit, config):
    scaled = replace(curves, airs_e=2 * curves.airs_e, fgs1_e=np.float32(0.5) * curves.fgs1_e)
    again = fit_planet([scaled], world.table, config)
    np.testing.assert_allclose(again.depth, fit.depth, rtol=1e-6)
    np.testing.assert_allclose(again.sigma, fit.sigma, rtol=1e-4)


def test_two_visits_with_own_times_narrow_sigma(world, fit, config):
    second = make_curves(world, visit=1, t0_h=world.t0_h + 0.4)
    both = fit_planet([make_curves(world), second], world.table, config)
    values = dict(zip(both.parameter_names, both.parameters, strict=True))
    assert values["t0_h_1"] - values["t0_h_0"] == pytest.approx(0.4, abs=0.02)
    assert np.median(both.sigma[200:] / fit.sigma[200:]) < 0.9
    assert [visit.visit for visit in both.visits] == [0, 1]
    assert np.mean(((both.depth - world.depth) / both.sigma) ** 2) < 3.0


def test_a_partial_transit_is_found(config):
    world = draw_world(3, partial=True)
    fit = fit_planet([make_curves(world)], world.table, config)
    error = (fit.depth - world.depth) / fit.sigma
    assert np.mean(error**2) < 4.0
    values = dict(zip(fit.parameter_names, fit.parameters, strict=True))
    assert values["t0_h_0"] == pytest.approx(world.t0_h, abs=0.1)


def test_a_star_in_no_table_gets_wide_priors(world, curves, config):
    fit = fit_planet([curves], None, config)
    assert np.mean(((fit.depth - world.depth) / fit.sigma)[1:] ** 2) < 4.0


def test_spikes_and_bad_edges_change_the_depth_by_less_than_sigma(world, curves, fit, config):
    airs, fgs1 = curves.airs_e.copy(), curves.fgs1_e.copy()
    airs[0] *= 0.93
    airs[-2] *= 0.9
    airs[60] *= 1.05
    airs[30, 5] *= 3.0
    fgs1[[10, 700, 1400]] *= 1.4
    bad = fit_planet([replace(curves, airs_e=airs, fgs1_e=fgs1)], world.table, config)
    assert bad.reasons == ()
    assert np.max(np.abs(bad.depth - fit.depth) / fit.sigma) < 1.5


def test_missing_values_are_passed_over_and_dark_wavelengths_flagged(world, curves, fit, config):
    airs = curves.airs_e.copy()
    airs[40, :50] = np.nan
    bad = fit_planet([replace(curves, airs_e=airs)], world.table, config)
    assert bad.reasons == ()
    assert np.max(np.abs(bad.depth - fit.depth) / fit.sigma) < 1.0
    airs[:, 7] = np.nan
    airs[:, 8] = 0.0
    dark = fit_planet([replace(curves, airs_e=airs)], world.table, config)
    assert dark.reasons == ("Visit 0: 2 wavelengths of AIRS-CH0 hold no flux.",)
    assert (dark.sigma[8:10] > 10 * np.median(dark.sigma)).all()
    assert np.isfinite(dark.depth).all()


def test_flat_flux_is_flagged_and_sigma_covers_plausible_depths(world, config):
    flat = replace(world, depth=np.full(283, 1e-12))
    curves = make_curves(flat)
    fit = fit_planet([curves], world.table, config)
    assert any("no transit found" in reason for reason in fit.reasons)
    assert (fit.sigma >= config.failure.depth_scatter).all()


def test_a_wrong_star_table_is_named_in_a_reason(world, curves):
    config = default_config(prior__semi_major_axis=0.002)
    star = replace(world.table, semi_major_axis_rs=1.25 * world.star.semi_major_axis_rs)
    fit = fit_planet([curves], star, config)
    assert any(r.startswith("semi_major_axis_rs is") and "expected" in r for r in fit.reasons)


def test_too_few_bins_outside_transit_are_named(world, curves):
    fit = fit_planet([curves], world.table, default_config(failure__bins=90))
    text = " ".join(fit.reasons)
    assert "bins in transit and" in text
    trusted = fit_planet([curves], world.table, default_config(failure__bins=5))
    np.testing.assert_allclose(fit.sigma, 5.0 * trusted.sigma, rtol=1e-6)


@pytest.mark.parametrize("channel", ["airs_e", "fgs1_e"])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_channel_without_flux_is_refused(world, curves, config, channel, value):
    dark = replace(curves, **{channel: np.full_like(getattr(curves, channel), value)})
    name = {"airs_e": "AIRS-CH0", "fgs1_e": "FGS1"}[channel]
    with pytest.raises(DataError, match=rf"planet 1001, visit 0, {name}: .* no positive flux"):
        fit_planet([dark], world.table, config)


@pytest.mark.parametrize(("channel", "name"), [("airs_e", "AIRS-CH0"), ("fgs1_e", "FGS1")])
def test_a_constant_channel_is_refused(world, curves, config, channel, name):
    flat = replace(curves, **{channel: np.full_like(getattr(curves, channel), 1e5)})
    with pytest.raises(DataError, match=rf"visit 0, {name}: .* holds no noise, so most of its"):
        fit_planet([flat], world.table, config)


def test_a_visit_of_few_frames_is_refused(world, curves, config):
    short = replace(
        curves,
        airs_time_h=curves.airs_time_h[:18],
        airs_e=curves.airs_e[:18],
        airs_centroid=curves.airs_centroid[:18],
    )
    with pytest.raises(DataError, match=r"1[5-9] time bins of 120 s hold both .* at least 20 are"):
        fit_planet([short], world.table, config)
    with pytest.raises(DataError, match=r"no visit with light curves\. Calibrate it first"):
        fit_planet([], world.table, config)


def test_settings_refuse_unknown_keys_and_bad_values():
    with pytest.raises(ValidationError, match="baseline_order"):
        default_config(baseline_order=3)
    with pytest.raises(ValidationError, match="greater than 0"):
        default_config(bin_s=0.0)


def test_full_cadence_gives_the_same_planet(world, config):
    full = make_curves(world, factor=5)
    fit = fit_planet([full], world.table, config)
    z = (fit.depth - world.depth) / fit.sigma
    assert fit.visits[0].time_h.size >= 220
    assert fit.visits[0].fgs1_time_h.size == config.fgs1_bins
    assert np.mean(z[1:] ** 2) < 3.0


@pytest.mark.slow
def test_sigma_is_calibrated_over_many_planets(config):
    worlds = [draw_world(seed) for seed in range(100, 130)]
    fits = [fit_planet([make_curves(world)], world.table, config) for world in worlds]
    z = np.array([(f.depth - w.depth) / f.sigma for f, w in zip(fits, worlds, strict=True)])
    assert 0.4 < np.mean(z[:, 1:] ** 2) < 1.8
    assert 0.3 < np.mean(z[:, 0] ** 2) < 2.0
