from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("batman")

from transit_world import (
    default_config,
    draw_world,
    fit_alone,
    level_error,
    make_curves,
    named,
)

from spectramind.errors import DataError
from spectramind.transit import fit as transit_fit
from spectramind.transit import verdict
from spectramind.transit.fit import fit_planets
from spectramind.transit.limb_darkening import quadratic_coefficients
from spectramind.transit.priors import first_priors
from spectramind.transit.start import prepare


@pytest.fixture(scope="module")
def config():
    """One start, which is enough where nothing misleads the search for the transit."""
    return default_config(scan__starts=1)


@pytest.fixture(scope="module")
def as_set():
    return default_config()


@pytest.fixture(scope="module")
def world():
    return draw_world(1)


@pytest.fixture(scope="module")
def curves(world):
    return make_curves(world)


@pytest.fixture(scope="module")
def fit(world, curves, config):
    return fit_alone([curves], world.table, config)


def _own_law(wavelength, temperature):
    return quadratic_coefficients(temperature, np.array([wavelength]))[0]


def _error(fit, world):
    return (fit.depth - world.depth) / fit.sigma


def test_the_depths_of_its_own_limb_law_with_little_noise_are_found(world, config):
    clean = make_curves(world, noise=0.03, drift_amplitude=0.002, law="quadratic", u=_own_law)
    fit = fit_alone([clean], world.star, config)
    error_ppm = 1e6 * (fit.depth - world.depth)
    assert fit.reasons == ()
    assert np.abs(error_ppm[1:].mean()) < 10.0
    assert np.sqrt(np.mean(error_ppm[1:] ** 2)) < 25.0
    assert abs(error_ppm[0]) < 25.0
    assert named(fit)["period_d"] == pytest.approx(world.star.period_d, rel=0.02)
    assert named(fit)["t0_h_0"] == pytest.approx(world.t0_h, abs=1e-3)
    assert named(fit)["clock_h_0"] == pytest.approx(world.clock_h, abs=1e-3)
    law = _own_law(0.7, world.star.temperature_k)
    np.testing.assert_allclose(fit.limb_darkening[0], law, atol=0.03)


def test_levels_of_planets_fitted_side_by_side_are_unbiased(config):
    worlds = [draw_world(seed) for seed in (2, 3, 4, 5)]
    planets = [prepare([make_curves(w)], w.table, config) for w in worlds]
    fits = fit_planets(planets, first_priors(config), config)
    errors = np.stack([_error(fit, w) for fit, w in zip(fits, worlds, strict=True)])
    level = [level_error(fit, w.depth) for fit, w in zip(fits, worlds, strict=True)]
    assert [fit.planet_id for fit in fits] == [1002, 1003, 1004, 1005]
    assert all(fit.reasons == () for fit in fits)
    assert 0.5 < np.mean(errors[:, 1:] ** 2) < 1.5
    assert np.abs(errors[:, 0]).max() < 4.0
    assert abs(np.mean(level)) < 1.2  # 0.5 is the error of such a mean
    assert np.abs(level).max() < 3.5


def test_a_planet_is_fitted_as_if_it_were_alone(world, curves, fit, config):
    other = draw_world(6)
    planets = [prepare([make_curves(other)], other.table, config)]
    planets += [prepare([curves], world.table, config)]
    beside = fit_planets(planets, first_priors(config), config)[1]
    np.testing.assert_allclose(beside.depth, fit.depth, rtol=0.0, atol=1e-9)


def test_products_are_whole(world, fit, config):
    (visit,) = fit.visits
    assert visit.flux.shape == visit.model.shape == (visit.time_h.size, 283)
    assert visit.fgs1_time_h.size == min(config.fgs1_bins, 1498)
    outside = visit.model[:, 100] == 1.0
    assert np.mean(visit.flux[outside, 1:]) == pytest.approx(1.0, abs=2e-4)
    assert visit.model.min() == pytest.approx(1.0 - 1.1 * world.depth.max(), abs=3e-3)
    assert np.abs((visit.flux - visit.model).mean(axis=0)).max() < 3e-3
    assert np.std(visit.fgs1_flux - visit.fgs1_model) == pytest.approx(3.1e-4, rel=0.15)
    np.testing.assert_allclose(np.median(visit.fgs1_centroid, axis=0), 0.0, atol=1e-6)
    assert visit.electrons[1] == pytest.approx(130e3, rel=0.02)  # one exposure a bin
    assert (np.linalg.eigvalsh(fit.parameter_covariance) > 0.0).all()
    assert (np.linalg.eigvalsh(fit.covariance) > 0.0).all()
    np.testing.assert_array_equal(np.diag(fit.covariance) ** 0.5, fit.sigma)
    assert (fit.measured_sigma <= 1.02 * fit.sigma).all()  # what wavelengths share comes on top


def test_the_depth_is_free_of_the_flux_unit(world, curves, fit, config):
    scaled = replace(curves, airs_e=2 * curves.airs_e, fgs1_e=np.float32(0.5) * curves.fgs1_e)
    again = fit_alone([scaled], world.table, config)
    np.testing.assert_allclose(again.depth, fit.depth, rtol=1e-6)
    np.testing.assert_allclose(again.sigma, fit.sigma, rtol=1e-4)


def test_two_visits_with_own_times_narrow_sigma(world, curves, fit, config):
    second = make_curves(world, visit=1, t0_h=world.t0_h + 0.4)
    both = fit_alone([curves, second], world.table, config)
    values = named(both)
    assert both.reasons == ()
    assert values["t0_h_1"] - values["t0_h_0"] == pytest.approx(0.4, abs=0.02)
    assert np.median(both.sigma[200:] / fit.sigma[200:]) == pytest.approx(0.5**0.5, abs=0.06)
    assert both.sigma[0] < fit.sigma[0]
    assert [visit.visit for visit in both.visits] == [0, 1]
    assert np.mean(_error(both, world)[1:] ** 2) < 1.4


def test_visits_that_disagree_are_named(world, curves, config):
    deeper = replace(world, depth=1.15 * world.depth)
    both = fit_alone([curves, make_curves(deeper, visit=1)], world.table, config)
    assert any("sigma from that of all visits" in reason for reason in both.reasons)
    assert np.abs(_error(both, world)[1:]).mean() < 3.0


@pytest.mark.parametrize("t0_h", [0.6, 6.9])
def test_a_partial_transit_is_found(as_set, t0_h):
    world = replace(draw_world(4), t0_h=t0_h)
    fit = fit_alone([make_curves(world)], world.table, as_set)
    assert np.mean(_error(fit, world)[1:] ** 2) < 2.5
    assert named(fit)["t0_h_0"] == pytest.approx(t0_h, abs=0.2)


def test_a_transit_across_the_centre_settles(as_set):
    """Its b^2 would fall below 0; what depends on it must be told that it stays there."""
    world = replace(draw_world(7), t0_h=6.9)
    fit = fit_alone([make_curves(world)], world.table, as_set)
    assert fit.reasons == ()
    assert named(fit)["impact_parameter"] == 0.0
    assert 0.4 < np.mean(_error(fit, world)[1:] ** 2) < 1.5


def test_a_star_in_no_table_gets_wide_priors(world, curves, as_set):
    unknown = fit_alone([curves], None, as_set)
    assert unknown.reasons == ()
    assert 0.4 < np.mean(_error(unknown, world)[1:] ** 2) < 1.5


@pytest.mark.parametrize(("smaller", "guess"), [(2.0, False), (30.0, True)])
def test_what_a_smaller_orbit_would_hide_is_no_sure_baseline(
    world, curves, config, monkeypatch, smaller, guess
):
    """Of a dip that no strength saves. By 30 scatters of ln a the transit fills the visit."""
    monkeypatch.setattr(verdict, "_STRONG", 1e9)
    monkeypatch.setattr(transit_fit, "_SMALLER", smaller)
    found = fit_alone([curves], world.table, config)
    assert any("outlasts every visit" in reason for reason in found.reasons) is guess
    assert (found.level_sigma > 0.01) is guess


def test_spikes_and_bad_edges_change_the_depth_by_less_than_sigma(world, curves, fit, config):
    airs, fgs1 = curves.airs_e.copy(), curves.fgs1_e.copy()
    airs[0] *= 0.93
    airs[-2] *= 0.9
    airs[60] *= 1.05
    airs[30, 5] *= 3.0
    fgs1[[10, 700, 1400]] *= 1.4
    bad = fit_alone([replace(curves, airs_e=airs, fgs1_e=fgs1)], world.table, config)
    assert bad.reasons == ()
    assert np.max(np.abs(bad.depth - fit.depth) / fit.sigma) < 1.5


def test_one_wild_exposure_costs_itself_alone(world, config):
    """Of any size, anywhere, in one wavelength, one channel or all light; also two in a row."""
    calm = make_curves(world, factor=75)
    wild = ((1, 100.0), (25, 10.0), (25, 3.0), (37, 0.5), (-2, 30.0), (67, 0.01))
    spiked = [
        _spiked(calm, light, place, size)
        for number, light in enumerate(("one", "airs", "fgs1", "all"))
        for place, size in wild[number // 2 :: 2]  # each in one and in many wavelengths
    ]
    spiked.append(_spiked(_spiked(calm, "airs", 37, 10.0), "airs", 38, 10.0))
    planets = [prepare([curves], world.table, config) for curves in (calm, *spiked)]
    undisturbed, *fits = fit_planets(planets, first_priors(config), config)
    assert undisturbed.reasons == ()
    for fit in fits:
        assert fit.reasons == ()
        assert np.max(np.abs(fit.depth - undisturbed.depth) / undisturbed.sigma) < 1.0
        assert np.max(fit.visits[0].flux) < 1.1
        assert np.max(fit.visits[0].fgs1_flux) < 1.1


@pytest.mark.parametrize("seed", [3, 5])
def test_a_coarse_cadence_costs_no_exposure(seed, config):
    """Two exposures before a transit, or in its middle, are no spikes."""
    coarse = draw_world(seed)
    curves = make_curves(coarse, factor=225)
    (visit,) = prepare([curves], coarse.table, config).visits
    assert visit.airs_time_h.size == curves.airs_time_h.size - 2


def _spiked(curves, light, place, size):
    airs, fgs1 = curves.airs_e.copy(), curves.fgs1_e.copy()
    if light in ("airs", "all"):
        airs[place] *= size
    if light in ("fgs1", "all"):
        fgs1[place if place in (1, -2) else 12 * place] *= size
    if light == "one":
        airs[place, 100] *= size
    return replace(curves, airs_e=airs, fgs1_e=fgs1)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_burst_of_dead_exposures_costs_sigma_and_no_more(world, curves, fit, config, value):
    airs, fgs1 = curves.airs_e.copy(), curves.fgs1_e.copy()
    airs[50:62] = value
    fgs1[900:1000] = value
    bad = fit_alone([replace(curves, airs_e=airs, fgs1_e=fgs1)], world.table, config)
    assert bad.reasons == ()
    assert np.median(bad.sigma / fit.sigma) > 1.02
    assert 0.7 < np.mean(_error(bad, world)[1:] ** 2) < 1.5
    assert np.isfinite(bad.visits[0].flux).all()


def test_dark_wavelengths_have_a_wide_sigma_and_trust_the_others(world, curves, fit, config):
    airs = curves.airs_e.copy()
    airs[40, :50] = np.nan
    airs[:, 7] = np.nan
    airs[:, 8] = 0.0
    dark = fit_alone([replace(curves, airs_e=airs)], world.table, config)
    assert dark.reasons == ()
    assert (dark.sigma[8:10] > 9e-3).all()
    assert np.isnan(dark.measured_sigma[8:10]).all()
    assert (dark.visits[0].electrons[8:10] == 0.0).all()
    assert np.isfinite(dark.depth).all()
    lit = np.delete(np.arange(283), [8, 9])
    assert np.max(np.abs(dark.depth - fit.depth)[lit] / fit.sigma[lit]) < 1.0


def test_dark_wavelengths_are_a_fault_where_most_are_dark_but_not_where_they_are_absent(
    world, curves, config
):
    absent = np.where(np.arange(282) % 3 == 0, curves.airs_e, np.float32(np.nan))
    coarse = fit_alone([replace(curves, airs_e=absent)], world.table, config)
    assert coarse.reasons == ()
    measured = np.append(True, np.arange(282) % 3 == 0)
    assert np.mean(_error(coarse, world)[measured] ** 2) < 1.5
    assert (coarse.sigma[~measured] > 9e-3).all()
    broken = np.where(np.arange(282) % 3 == 0, curves.airs_e, np.float32(0.0))
    fit = fit_alone([replace(curves, airs_e=broken)], world.table, config)
    assert fit.reasons == ("Visit 0: 94 of 282 wavelengths of AIRS-CH0 hold flux.",)
    np.testing.assert_allclose(fit.sigma, coarse.sigma, rtol=1e-6)


@pytest.mark.parametrize("t0_h", [-3.0, 14.0])
def test_no_transit_in_the_window_is_flagged_and_sigma_covers_plausible_depths(
    world, as_set, t0_h
):
    fit = fit_alone([make_curves(world, t0_h=t0_h)], world.table, as_set)
    assert any("no transit found" in reason for reason in fit.reasons)
    assert (fit.sigma >= as_set.failure.depth_scatter).all()
    assert np.median(fit.sigma) < 3.0 * as_set.failure.depth_scatter
    assert np.isfinite(fit.depth).all()


def test_a_jump_of_the_flux_is_flagged(world, curves, as_set):
    airs = curves.airs_e.copy()
    airs[60:] *= np.float32(1.05)
    fit = fit_alone([replace(curves, airs_e=airs)], world.table, as_set)
    assert any("AIRS-CH0: reduced chi^2 of the white light beyond" in r for r in fit.reasons)
    assert np.abs(_error(fit, world)).max() < 4.0


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_star_table_wrong_by_a_fifth_leaves_depths_within_their_errors(
    world, curves, as_set, factor
):
    star = replace(
        world.star,
        period_d=factor * world.star.period_d,
        semi_major_axis_rs=factor * world.star.semi_major_axis_rs,
    )
    fit = fit_alone([curves], star, as_set)
    assert 0.4 < np.mean(_error(fit, world)[1:] ** 2) < 1.5
    assert abs(level_error(fit, world.depth)) < 3.5


@pytest.mark.parametrize("factor", [0.4, 2.0])
def test_a_star_table_that_cannot_be_is_named_and_left_out(world, curves, fit, config, factor):
    wrong = factor * world.star.semi_major_axis_rs
    star = replace(world.star, semi_major_axis_rs=wrong, inclination_deg=88.5)
    lost = fit_alone([curves], star, config)
    assert lost.reasons[0].startswith("The light curves contradict the star table's orbit (P ")
    assert f"a/Rs {wrong:.3g} there" in lost.reasons[0]
    assert len(lost.reasons) == 1
    assert lost.parameters[1] == pytest.approx(fit.parameters[1], rel=0.1)
    assert 0.4 < np.mean(_error(lost, world)[1:] ** 2) < 1.5
    assert np.median(lost.sigma / fit.sigma) < 2.0  # and no wider than it has to be


def test_no_search_begins_with_a_planet_larger_than_its_star(config):
    """A wide template has hardly any power, and its amplitude no bound."""
    world = draw_world(2)
    star = replace(world.table, semi_major_axis_rs=0.4 * world.table.semi_major_axis_rs)
    fit = fit_alone([make_curves(world, factor=90)], star, config)
    assert fit.reasons[0].startswith("The light curves contradict the star table's orbit (P ")
    assert abs(level_error(fit, world.depth)) < 3.0


def test_too_few_bins_outside_transit_are_named(world, curves, fit):
    distrusted = fit_alone([curves], world.table, default_config(scan__starts=1, failure__bins=90))
    assert all("bins in transit and" in reason for reason in distrusted.reasons)
    assert len(distrusted.reasons) == 2
    np.testing.assert_allclose(distrusted.sigma, fit.sigma, rtol=1e-6)  # words alone
    np.testing.assert_array_equal(distrusted.depth, fit.depth)


def test_a_fit_that_has_not_settled_is_named(world, curves):
    fit = fit_alone([curves], world.table, default_config(scan__starts=1, settled_ppm=1e-12))
    assert len(fit.reasons) == 1
    assert fit.reasons[0].startswith("The last pass still changed the spectrum by")


@pytest.mark.parametrize("channel", ["airs_e", "fgs1_e"])
@pytest.mark.parametrize("value", [0.0, -1e5, np.nan])
def test_a_channel_without_flux_is_refused(world, curves, config, channel, value):
    dark = replace(curves, **{channel: np.full_like(getattr(curves, channel), value)})
    name = {"airs_e": "AIRS-CH0", "fgs1_e": "FGS1"}[channel]
    with pytest.raises(DataError, match=rf"planet 1001, visit 0, {name}: .* no positive flux"):
        prepare([dark], world.table, config)


@pytest.mark.parametrize(("channel", "name"), [("airs_e", "AIRS-CH0"), ("fgs1_e", "FGS1")])
def test_a_constant_channel_is_refused(world, curves, config, channel, name):
    flat = replace(curves, **{channel: np.full_like(getattr(curves, channel), 1e5)})
    with pytest.raises(DataError, match=rf"visit 0, {name}: .* holds no noise, so most of its"):
        prepare([flat], world.table, config)


@pytest.mark.parametrize(
    ("channel", "name"), [("airs_time_h", "AIRS-CH0"), ("fgs1_time_h", "FGS1")]
)
def test_a_time_that_occurs_twice_is_refused(world, curves, config, channel, name):
    time = getattr(curves, channel).copy()
    time[50:53] = time[50]
    twice = replace(curves, **{channel: time})
    sentence = (
        rf"visit 0, {name}: 2 exposures have the time of another, the first at [\d.]+ h, exp"
    )
    with pytest.raises(DataError, match=sentence):
        prepare([twice], world.table, config)


def test_the_order_of_exposures_and_an_uneven_cadence_change_little(world, curves, fit, config):
    rng = np.random.default_rng(0)
    order = rng.permutation(curves.airs_time_h.size)
    mixed = replace(curves, airs_time_h=curves.airs_time_h[order], airs_e=curves.airs_e[order])
    again = fit_alone([mixed], world.table, config)
    np.testing.assert_array_equal(again.depth, fit.depth)
    kept = np.sort(rng.permutation(curves.airs_time_h.size)[:100])
    fields = ("airs_time_h", "airs_e", "airs_centroid")
    sparse = replace(curves, **{name: getattr(curves, name)[kept] for name in fields})
    thin = fit_alone([sparse], world.table, config)
    assert thin.reasons == ()
    assert 0.7 < np.mean(_error(thin, world)[1:] ** 2) < 1.5


def test_stray_times_are_refused(world, curves, config):
    """They once asked for one bin after the other up to there, which no memory holds."""
    time = curves.airs_time_h.copy()
    time[50:52] = 1.0e6, 1.1e6
    words = r"AIRS-CH0: 123 exposures of 7\.38 h together .* nearly all of the visit is a gap"
    with pytest.raises(DataError, match=words):
        prepare([replace(curves, airs_time_h=time)], world.table, config)


def _first(curves, exposures):
    names = ("airs_time_h", "airs_e", "airs_centroid")
    return replace(curves, **{name: getattr(curves, name)[:exposures] for name in names})


def test_a_visit_of_few_frames_is_refused(world, curves, config):
    short = _first(curves, 20)
    with pytest.raises(
        DataError, match=r"AIRS-CH0: exposures with flux: 20, at least 22 are need"
    ):
        prepare([short], world.table, config)
    apart = replace(curves, fgs1_time_h=curves.fgs1_time_h + 7.0)
    with pytest.raises(DataError, match=r"[4-9] time bins of 120 s hold both .* at least 20 are"):
        prepare([apart], world.table, config)
    with pytest.raises(DataError, match=r"AIRS-CH0: exposures with flux: 3, at least 22 are need"):
        prepare([_first(curves, 3)], world.table, config)
    with pytest.raises(DataError, match=r"no visit with light curves\. Calibrate it first"):
        prepare([], world.table, config)


def test_settings_refuse_unknown_keys_and_bad_values():
    with pytest.raises(ValidationError, match="baseline_order"):
        default_config(baseline_order=3)
    with pytest.raises(ValidationError, match="bin_s"):
        default_config(bin_s=-1.0)
