"""Features of a fit by hand, and scaling that knows the training planets only."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from biased_fits import STAR, make_fit, widen
from dark_fits import without

from spectramind.errors import DataError
from spectramind.instrument import wavelength_um
from spectramind.model.network import V50
from spectramind.observation import Labels
from spectramind.training.data import (
    Batches,
    Centre,
    Samples,
    Scaling,
    feature_table,
    require_depths,
)
from spectramind.training.features import (
    FIT_SIGMAS,
    FIT_VALUES,
    NODE_FEATURES,
    PLANET_FEATURES,
    SERIES_FEATURES,
    planet_features,
)
from spectramind.training.store import SIZES
from spectramind.transit.product import _LIMB_NAMES, _ORBIT_NAMES, _TIME_NAMES

FIT, _ = make_fit(5, bias=0.0)


def node(fit, name):
    return planet_features(fit, STAR).nodes[:, NODE_FEATURES.index(name)]


def test_widths_match_the_names():
    made = planet_features(FIT, STAR)
    assert made.nodes.shape == (283, len(NODE_FEATURES))
    assert made.series[0].shape == (len(SERIES_FEATURES), 150)
    assert made.planet.shape == (len(PLANET_FEATURES),)
    assert np.isfinite(made.nodes).all()
    assert np.isfinite(made.planet).all()


def test_fit_parameters_are_named_as_the_fit_names_them():
    named = {*_ORBIT_NAMES, *_LIMB_NAMES, *(f"{name}_0" for name in _TIME_NAMES)}
    assert {*FIT_VALUES, *FIT_SIGMAS} <= named
    told = dict(zip(PLANET_FEATURES, planet_features(FIT, STAR).planet, strict=True))
    assert told["impact_parameter"] == pytest.approx(FIT.parameters[1])
    sigma = FIT.parameter_covariance[2, 2] ** 0.5
    assert told["log_sigma_u1_fgs1"] == pytest.approx(np.log10(sigma))


def test_parameters_that_the_fit_lacks_are_unknown():
    bare = replace(
        FIT, parameter_names=(), parameters=np.zeros(0), parameter_covariance=np.zeros((0, 0))
    )
    told = dict(zip(PLANET_FEATURES, planet_features(bare, STAR).planet, strict=True))
    assert all(np.isnan(told[name]) for name in FIT_VALUES)


def test_pull_is_the_way_to_the_smoothed_depth_in_sigma():
    depth = FIT.white_depth + np.zeros(283)
    depth[100] += 3e-4
    flat = replace(FIT, depth=depth, own_sigma=np.full(283, 1e-4))
    pull = node(flat, "pull_2")
    weight = np.exp(-0.5 * (np.arange(-60, 61) / 2.0) ** 2)
    assert pull[100] == pytest.approx(-3.0 * (1.0 - 1.0 / weight.sum()), rel=1e-5)
    assert pull[200] == pytest.approx(0.0, abs=1e-6)
    white = node(flat, "pull_white")
    assert white[100] == pytest.approx(-3.0 * (1.0 - 1.0 / 282), rel=1e-4)


def test_ingress_residual_is_seen_as_ingress_alone():
    visit = FIT.visits[0]
    early = (visit.time_h > 2.1) & (visit.time_h < 2.4)
    bent = visit.flux.copy()
    bent[early, 40] += 1e-3
    changed = replace(FIT, visits=(replace(visit, flux=bent),))
    moved = node(changed, "ingress") - node(FIT, "ingress")
    assert moved[40] > 1.0
    np.testing.assert_array_equal(np.delete(moved, 40), 0.0)
    assert abs(node(changed, "egress")[40]) < 1.5


def test_flux_is_that_against_the_median_wavelength():
    visit, other = FIT.visits[0], FIT.visits[0]
    electrons = np.full(283, 1e8, np.float32)
    electrons[7], electrons[9] = 1e6, 0.0
    brighter = replace(other, electrons=3.0 * electrons)
    flux = node(replace(FIT, visits=(replace(visit, electrons=electrons), brighter)), "log_flux")
    assert flux[7] == pytest.approx(-2.0, abs=1e-6)
    assert np.isnan(flux[9])  # dark
    np.testing.assert_allclose(np.delete(flux, [7, 9]), 0.0, atol=1e-6)


def test_missing_bins_are_left_out():
    visit = FIT.visits[0]
    holes, gaps = visit.flux.copy(), visit.fgs1_flux.copy()
    holes[5, :] = np.nan
    gaps[:3] = np.nan
    made = planet_features(
        replace(FIT, visits=(replace(visit, flux=holes, fgs1_flux=gaps),)), STAR
    )
    assert np.isfinite(made.nodes).all()
    assert made.masks[0].tolist() == [False] * 3 + [True] * 147


def test_clock_is_one_at_the_edges_of_the_transit():
    made = planet_features(FIT, STAR)
    clock = made.series[0][SERIES_FEATURES.index("clock")]
    time_h = FIT.visits[0].fgs1_time_h
    assert np.interp(3.7, time_h, clock) == pytest.approx(0.0, abs=0.03)
    assert np.interp(3.7 + 1.45, time_h, clock) == pytest.approx(1.0, abs=0.03)


def series(visit, name):
    made = planet_features(replace(FIT, visits=(visit,)), STAR)
    return made.series[0][SERIES_FEATURES.index(name)]


def test_series_by_hand():
    """Flux and residual in the scatter, the model in its depth, time in hours, the centroids."""
    visit = FIT.visits[0]
    residual = (visit.fgs1_flux - visit.fgs1_model).astype(np.float64)
    scatter = np.sqrt(np.mean(residual**2))
    dip = visit.fgs1_model.astype(np.float64) - 1.0
    wanted = {
        "flux": (visit.fgs1_flux.astype(np.float64) - 1.0) / scatter,
        "model": dip / -dip.min(),
        "residual": residual / scatter,
        "time": visit.fgs1_time_h - visit.fgs1_time_h.mean(),
        "row": visit.fgs1_centroid[:, 0],
        "column": visit.fgs1_centroid[:, 1],
    }
    assert {*wanted, "clock"} == set(SERIES_FEATURES)
    for name, values in wanted.items():
        np.testing.assert_allclose(series(visit, name), values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_nodes_by_hand():
    """Those that a network could do without unnoticed."""
    np.testing.assert_allclose(node(FIT, "u1"), FIT.limb_darkening[:, 0], rtol=1e-6)
    np.testing.assert_allclose(node(FIT, "u2"), FIT.limb_darkening[:, 1], rtol=1e-6)
    np.testing.assert_allclose(node(FIT, "wavelength_um"), wavelength_um(), rtol=1e-6)
    np.testing.assert_allclose(node(FIT, "log_sigma"), np.log10(FIT.sigma), rtol=1e-6)
    spread = np.std(FIT.depth[1:]) + np.sum(FIT.sigma[1:] ** -2.0) ** -0.5
    np.testing.assert_allclose(
        node(FIT, "shape"), (FIT.depth - FIT.white_depth) / spread, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(node(FIT, "is_fgs1"), np.arange(283) == 0)


def test_what_widens_a_fit_is_no_feature():
    """A flagged planet stays in the range of the planets that taught the network."""
    lost = replace(widen(FIT, 5.0), sigma=np.hypot(5.0 * FIT.sigma, 0.01))
    made, widened = planet_features(FIT, STAR), planet_features(lost, STAR)
    np.testing.assert_array_equal(widened.nodes, made.nodes)
    np.testing.assert_array_equal(widened.planet, made.planet)


def test_asymmetry_is_ingress_less_egress():
    table = feature_table({5: FIT}, {5: STAR})
    ingress, egress = node(FIT, "ingress"), node(FIT, "egress")
    np.testing.assert_array_equal(table.asymmetry[0], ingress - egress)
    batch = Scaling.of(table).batch(table)
    np.testing.assert_array_equal(batch.asymmetry[0].numpy(), ingress - egress)


def test_lost_transit_has_finite_features():
    visit = FIT.visits[0]
    flat = replace(
        visit, model=np.ones_like(visit.model), fgs1_model=np.ones_like(visit.fgs1_model)
    )
    lost = replace(FIT, depth=FIT.depth - 0.1, visits=(flat,), reasons=("no transit",))
    made = planet_features(lost, STAR)
    assert np.isfinite(made.nodes).all()
    assert np.isfinite(made.series[0]).all()
    assert made.planet[PLANET_FEATURES.index("flagged")] == 1.0


def test_star_that_is_not_known_scales_to_the_typical_one():
    fits = {planet: make_fit(planet, bias=0.0)[0] for planet in (1, 2, 3)}
    table = feature_table(fits, {1: STAR, 2: None, 3: replace(STAR, radius_rsun=2.0)})
    column = PLANET_FEATURES.index("log_star_radius")
    scaled = Scaling.of(table).batch(table).planet[:, column]
    assert scaled[1] == 0.0
    assert torch.isfinite(scaled).all()
    assert scaled[0] != scaled[2]


def test_scaling_by_hand():
    values = np.array([[0.0], [1.0], [2.0], [3.0], [100.0]], dtype=np.float32)
    centre = Centre.of(values)
    assert centre.median[0] == 2.0
    assert centre.spread[0] == pytest.approx(1.4826, rel=1e-5)
    scaled = centre.scale(values)
    assert scaled[3, 0] == pytest.approx(3.0 * np.arcsinh(1.0 / 1.4826 / 3.0), rel=1e-5)
    assert scaled[4, 0] < 15.0


def test_scaling_knows_its_own_planets_only_and_survives_json(archive):
    fits, stars, _ = archive(6)
    table = feature_table(fits, stars)
    some = table.of(table.planet_ids[:4])
    scaling = Scaling.of(some)
    far = replace(table, nodes=table.nodes.copy())
    far.nodes[4:] += 1e6
    again = Scaling.of(far.of(far.planet_ids[:4]))
    np.testing.assert_array_equal(again.nodes.median, scaling.nodes.median)
    back = Scaling.from_json(scaling.to_json())
    for one, other in zip(vars(back).values(), vars(scaling).values(), strict=True):
        np.testing.assert_array_equal(one.median, other.median)
        np.testing.assert_array_equal(one.spread, other.spread)


def test_table_pads_visits_and_keeps_the_fit_exact(archive):
    fits, stars, _ = archive(3)
    table = feature_table(fits, stars)
    assert table.mask.shape == (3, 2, 150)
    assert table.mask.any(-1).sum(1).tolist() == [1, 2, 1]
    batch = Scaling.of(table).batch(table)
    np.testing.assert_array_equal(batch.depth.numpy(), [fits[p].depth for p in sorted(fits)])


def test_batches_hold_every_planet_once_and_shuffle_by_seed(archive):
    fits, stars, labels = archive(5)
    table = feature_table(fits, stars)
    truth = torch.from_numpy(labels.of(table.planet_ids).depth)
    features = Scaling.of(table).batch(table)
    samples = Samples(features, truth, table.planet_ids)

    def order(seed):
        batches = Batches(samples, size=2, seed=seed)
        assert len(batches) == 3
        return [planet for _, _, planets in batches for planet in planets]

    assert order(None) == table.planet_ids.tolist()
    assert sorted(order(1)) == order(None)
    assert order(1) == order(1)
    assert order(1) != order(2)
    for part, depth, planets in Batches(samples, size=2, seed=3):
        row = np.searchsorted(table.planet_ids, planets)
        assert torch.equal(part.depth, features.depth[row])
        assert torch.equal(depth, truth[row])


@pytest.mark.parametrize("name", ["sigma", "own_sigma"])
def test_refuses_an_unusable_fit(name):
    sigma = FIT.sigma.copy()
    sigma[7] = 0.0
    message = r"planet 5: depth or sigma of the fit is not usable at 1 of 283 .*index 7\)"
    with pytest.raises(DataError, match=message):
        planet_features(replace(FIT, **{name: sigma}), STAR)


def test_refuses_a_fit_without_fgs1():
    visit = replace(FIT.visits[0], fgs1_flux=np.full(150, np.nan, dtype=np.float32))
    with pytest.raises(DataError, match=r"planet 5: its fit holds no finite bin of the FGS1"):
        planet_features(replace(FIT, visits=(visit,)), STAR)


def without_fgs1(planet):
    """A fit of light curves of AIRS-CH0 alone, every other wavelength of it dark."""
    return without(make_fit(planet, bias=0.0)[0], np.arange(283) % 2 == 0)


def test_a_series_that_was_not_measured_is_masked_out_and_its_residuals_are_unknown():
    lost = without_fgs1(6)
    table = feature_table({5: FIT, 6: lost}, {5: STAR, 6: STAR})
    assert table.mask.any((1, 2)).tolist() == [True, False]
    assert not table.series[1].any()
    told = node(lost, "log_residual")
    assert np.isnan(told[::2]).all()
    assert np.isfinite(told[1::2]).all()
    assert np.array_equal(np.isnan(node(lost, "log_flux")), np.isnan(told))
    batch = Scaling.of(table).batch(table)
    assert all(torch.isfinite(part).all() for part in vars(batch).values())


def test_planets_without_any_series_can_be_scaled_and_read_by_the_network(model_config):
    table = feature_table({p: without_fgs1(p) for p in (6, 7)}, {6: STAR, 7: STAR})
    batch = Scaling.of(table).batch(table)
    network = V50(model_config, SIZES).train()
    loss = network(batch).mu.sum() + network.fgs1(batch.series, batch.mask).sum()
    loss.backward()
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert len(gradients) > 10
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_refuses_no_planets_and_planets_without_a_star_entry():
    with pytest.raises(DataError, match=r"there is no fitted planet. Run `spectramind fit`"):
        feature_table({}, {})
    with pytest.raises(DataError, match=r"star table: no row of planet 5, which the fit has\."):
        feature_table({5: FIT}, {})


def test_refuses_labels_that_are_unphysical():
    labels = Labels(np.array([4, 5]), np.full((2, 283), 0.01))
    require_depths(labels)
    labels.depth[1, 2] = 1.5
    with pytest.raises(DataError, match=r"planet 5 has 1\.5 in wl_3, expected a transit depth"):
        require_depths(labels)
