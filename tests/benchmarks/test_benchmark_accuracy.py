"""Benchmarks of the transit fit: grades out of fold, bounds that bound, parts taken out."""

import importlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from spectramind import config as configuration
from spectramind.diagnose.metrics import gains, naive_statistics, score_2025
from spectramind.simulate import star
from spectramind.simulate.systems import draw_systems
from spectramind.stages.folders import SHIPPED
from spectramind.transit.priors import prior_path, read_priors
from spectramind.transit.shared_prior import first_population
from spectramind.transit.spectrum_learning import learn_spectrum_prior, with_doubt
from spectramind.transit.spectrum_prior import log_signal

SPECTRUM = configuration.load(
    ["transit.spectrum.unit_scale=0", "transit.spectrum.fewest_labels=10"]
).transit.spectrum
NAMES = ("sets", "bounds", "estimators", "grading", "fit_chain", "fit", "accuracy")


@pytest.fixture(scope="module")
def modules():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(star, "_RADIAL_NODES", 40)  # of 160: truth and light curves share them
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def config():
    return configuration.load([])


@pytest.fixture(scope="module")
def world(modules):
    return modules.sets.sim2025(0, 1, truth=True, workers=1)[0]


@pytest.fixture(scope="module")
def spectra(config):
    own = configuration.load(["simulate.train_planets=60", "simulate.seed=5"])
    systems = draw_systems(own.simulate, "train")
    depths = np.stack([system.depth for system in systems])
    scale = [
        log_signal(system.planet.table, float(depth[1:].mean()))
        for system, depth in zip(systems, depths, strict=True)
    ]
    return learn_spectrum_prior(depths, scale, config.transit.spectrum)


@pytest.fixture
def panel(modules):
    """60 planets in 3 folds on two components; fold 2 is the test."""
    rng = np.random.default_rng(2)
    fold = np.arange(60) % 3
    weights = rng.standard_normal((60, 2)) * [3e-3, 1e-3]
    label = 0.02 + weights @ np.array([np.ones(283), np.linspace(-1.0, 1.0, 283)])
    return modules.grading.Panel(
        fold=fold, label=label, calibrates=fold != 2, graded=fold == 2,
        taught=label[fold != 2], taught_fold=fold[fold != 2],
    )  # fmt: skip


def _noisy(modules, panel, factor, seed=3):
    """Errors that are `factor` times what sigma says, every planet trusted."""
    sigma = np.full_like(panel.label, 1e-4)
    error = factor * sigma * np.random.default_rng(seed).standard_normal(sigma.shape)
    trusted = np.ones(len(sigma), dtype=bool)
    return modules.grading.Row(panel.label + error, sigma, trusted)


def test_scale_is_the_factor_between_errors_and_sigmas(modules, panel):
    scale = modules.grading.scales(panel, _noisy(modules, panel, 2.5), SPECTRUM)
    np.testing.assert_allclose(scale[:, 1:], 2.5, rtol=0.05)
    assert len(np.unique(scale[panel.fold == 0][:, 1:])) == 1  # one per channel and fold
    assert not np.allclose(scale[:, 0], scale[:, 1])


def test_scale_never_sees_own_fold_nor_test_planets_nor_distrusted_ones(modules, panel):
    row = _noisy(modules, panel, 1.0)
    before = modules.grading.scales(panel, row, SPECTRUM)
    for fold in (0, 2):
        depth = row.depth.copy()
        depth[panel.fold == fold] += 0.1
        after = modules.grading.scales(panel, replace(row, depth=depth), SPECTRUM)
        np.testing.assert_array_equal(after[panel.fold == fold], before[panel.fold == fold])
    assert after[0, 0] == before[0, 0]  # test planets calibrate nothing
    depth, trusted = row.depth.copy(), row.trusted.copy()
    depth[1] += 0.1  # of fold 1
    spoilt = modules.grading.scales(panel, replace(row, depth=depth), SPECTRUM)
    trusted[1] = False
    spared = modules.grading.scales(panel, replace(row, depth=depth, trusted=trusted), SPECTRUM)
    assert spoilt[0, 1] > 10.0 * spared[0, 1]


def test_a_row_that_no_label_may_scale_keeps_its_sigma(modules, panel):
    row = replace(_noisy(modules, panel, 2.5), scaled=False)
    assert (modules.grading.scales(panel, row, SPECTRUM) == 1.0).all()


def test_without_labels_the_priors_that_ship_hear_the_light_curves(modules, world):
    few = configuration.load(["transit.prior.fewest=2"]).transit
    blind = {own: replace(world, planet_id=own, label=np.full(283, np.nan)) for own in (1, 2)}
    plan = modules.accuracy.Plan(blind, dict.fromkeys(blind, 0), [], list(blind), 2025)
    found = modules.accuracy.borrowed(plan, few, 1)
    shipped = read_priors(prior_path(SHIPPED / "fit", None))
    np.testing.assert_array_equal(found.spectrum.components, shipped.spectrum.components)
    assert np.isfinite(found.spectrum.shares).all()
    assert (found.spectrum.shares != with_doubt(shipped.spectrum).shares).any()


def test_grade_is_the_hosts_score_of_the_scaled_sigma(modules, panel, config):
    row, metric = _noisy(modules, panel, 1.5), config.diagnostics.metric
    own = modules.grading.grade(panel, row, metric, SPECTRUM, 2025)
    graded = panel.graded
    sigma = (row.sigma * modules.grading.scales(panel, row, SPECTRUM))[graded]
    found = gains(
        panel.label[graded], row.depth[graded], sigma=sigma, naive=naive_statistics(panel.taught),
        sigma_true=metric.sigma_true(283),
    )  # fmt: skip
    expected = score_2025(found, fgs_weight=metric.fgs_weight)
    assert own["score"] == own["score_2025"] == expected
    assert own["score"] > own["score_unscaled"]
    assert own["z2_airs"] == pytest.approx(1.0, abs=0.1)
    assert own["rms_airs_ppm"] == pytest.approx(150.0, rel=0.05)
    assert own["flagged"] == own["far_unflagged"] == own["negative_points"] == 0


def test_grade_counts_far_planets_only_while_they_are_trusted(modules, panel, config):
    row = _noisy(modules, panel, 1.0)
    depth, trusted = row.depth.copy(), row.trusted.copy()
    depth[2, 40] += 2e-3
    metric = config.diagnostics.metric
    own = modules.grading.grade(panel, replace(row, depth=depth), metric, SPECTRUM, 2025)
    assert (own["flagged"], own["far_unflagged"]) == (0, 1)
    trusted[2] = False
    own = modules.grading.grade(
        panel, replace(row, depth=depth, trusted=trusted), metric, SPECTRUM, 2025
    )
    assert (own["flagged"], own["far_unflagged"]) == (1, 0)


def test_joint_distance_is_that_of_the_scaled_covariance(modules, panel, config):
    rng, row = np.random.default_rng(7), _noisy(modules, panel, 2.0)
    lower = 1e-4 * (np.eye(283) + 0.05 * np.tril(rng.standard_normal((283, 283))))
    covariance = lower @ lower.T
    fits = [SimpleNamespace(depth=depth, covariance=covariance) for depth in row.depth]
    distance = modules.estimators.joint_distance
    joint = np.stack([distance(*pair) for pair in zip(fits, panel.label, strict=True)])
    metric = config.diagnostics.metric
    own = modules.grading.grade(panel, replace(row, joint=joint), metric, SPECTRUM, 2025)
    found = []
    for planet in np.flatnonzero(panel.graded):
        factor = modules.grading.scales(panel, row, SPECTRUM)[planet]
        error = (row.depth - panel.label)[planet] / factor
        found.append(error @ np.linalg.solve(covariance, error) / 283.0)
    assert own["joint"] == pytest.approx(np.mean(found))
    assert own["joint_median"] == pytest.approx(np.median(found))


def test_train_mean_is_that_of_the_other_folds(modules, panel):
    row = modules.grading.train_mean(panel)
    np.testing.assert_allclose(row.depth[2], panel.taught.mean(0))
    np.testing.assert_allclose(row.depth[0], panel.label[panel.fold == 1].mean(0))
    np.testing.assert_allclose(row.sigma[0], panel.label[panel.fold == 1].std(0))


def test_projection_on_components_averages_the_noise_away(modules, panel):
    row = _noisy(modules, panel, 1.0)
    found = modules.grading.projected(panel, row, row.sigma, (2, 8))
    rms = np.sqrt(np.mean((found.depth - panel.label) ** 2))
    assert rms < 0.15e-4  # sqrt(2 components of 283) of 1e-4
    np.testing.assert_allclose(np.mean(found.sigma), rms, rtol=0.3)


def test_knowing_the_drift_narrows_every_depth(modules, world, spectra):
    drift = modules.sets.drift_prior(20, 1)
    regular = replace(
        drift, fgs1=drift.fgs1 + 1e-14 * np.eye(5), airs=drift.airs + 1e-14 * np.eye(30)
    )
    limit, sigma = modules.bounds.limit(world, regular, spectra)
    perfect, narrow = modules.bounds.perfect(world, spectra)
    assert (narrow < sigma).all()
    assert np.abs(perfect - world.label).max() < 6.0 * narrow.max()
    assert np.abs(limit - world.label).max() < 6.0 * sigma.max()


def test_moments_of_several_draws_are_their_mean(modules, monkeypatch, rng):
    parts = {
        seed: modules.sets.DriftPrior(rng.random((30, 30)), rng.random((5, 5)), rest)
        for seed, rest in ((1, 4.0), (2, 3.0))
    }
    monkeypatch.setattr(modules.bounds, "drift_prior", lambda _, seed: parts[seed])
    both = modules.bounds.drift_moments(3, (1, 2), 1)
    np.testing.assert_allclose(both.airs, 0.5 * (parts[1].airs + parts[2].airs))
    np.testing.assert_allclose(both.fgs1, 0.5 * (parts[1].fgs1 + parts[2].fgs1))
    assert both.remainder == pytest.approx(np.sqrt(12.5))


def test_limit_of_no_drift_is_perfect(modules, world, spectra):
    visits, truth = [], []
    for visit, own in zip(world.visits, world.truth, strict=True):
        fgs1, airs = visit.fgs1 / own.drift[:, 0], visit.airs / own.drift[:, 1:]
        visits.append(replace(visit, fgs1=fgs1, airs=airs))
        truth.append(replace(own, drift=np.ones_like(own.drift)))
    steady = replace(world, visits=tuple(visits), truth=tuple(truth))
    none = modules.sets.DriftPrior(1e-22 * np.eye(30), 1e-22 * np.eye(5), 0.0)
    limit, perfect = modules.bounds.limit(steady, none, spectra), modules.bounds.perfect(
        world, spectra
    )  # fmt: skip
    np.testing.assert_allclose(limit, perfect, rtol=1e-5)


def test_limit_under_a_free_drift_does_not_see_one(modules, world, spectra):
    free = modules.sets.DriftPrior(1e4 * np.eye(30), 1e4 * np.eye(5), 0.0)
    before = modules.bounds.limit(world, free, spectra)
    visits = []
    for visit in world.visits:
        tau = visit.scaled(visit.airs_time_h)[:, None]
        colour = np.linspace(-1.0, 1.0, 282)
        gain = np.exp(0.01 * tau + 0.003 * (2.0 * tau**2 - 1.0) * colour)
        visits.append(replace(visit, airs=visit.airs * gain))
    truth = []
    for own, new, old in zip(world.truth, visits, world.visits, strict=True):
        gain = np.column_stack([np.ones(len(new.airs)), new.airs / old.airs])
        truth.append(replace(own, drift=own.drift * gain))
    drifting = replace(world, visits=tuple(visits), truth=tuple(truth))
    after = modules.bounds.limit(drifting, free, spectra)
    np.testing.assert_allclose(after[0], before[0], rtol=0.0, atol=1e-9)


def test_a_simple_answer_doubts_where_no_transit_was_found(modules, config):
    sigma = np.linspace(1e-5, 2e-4, 283)
    depth, failure = np.full(283, 0.01), config.transit.failure
    for reasons in ((), ("odd residuals",)):
        answer = modules.estimators.distrusted(depth, sigma, reasons, failure)
        np.testing.assert_array_equal(answer.sigma, sigma)
        assert answer.reasons == reasons
    lost = ("FGS1: no transit found, depth 3 +- 9 ppm.",)
    answer = modules.estimators.distrusted(depth, sigma, lost, failure)
    assert (answer.sigma > failure.depth_scatter).all()


def test_ablated_priors_hold_their_part_and_nothing_else(modules, config):
    population = first_population(config.transit, known=True)
    population = replace(population, mean=np.arange(1.0, 10.0))
    limb, grey = modules.estimators.fixed_limb(population), modules.estimators.grey(population)
    assert (limb.mean[3:] == 0.0).all()
    np.testing.assert_array_equal(limb.mean[:3], population.mean[:3])
    ratio = np.diag(limb.covariance) / np.diag(population.covariance)
    np.testing.assert_allclose(ratio, [1.0] * 3 + [1e-8] * 6)
    ratio = np.diag(grey.drift_wavelength) / np.diag(population.drift_wavelength)
    np.testing.assert_allclose(ratio, [1.0] + [1e-8] * 5)
    np.testing.assert_array_equal(grey.covariance, population.covariance)


def test_test_planets_are_judged_by_all_and_training_planets_by_other_folds(modules, config):
    worlds = [SimpleNamespace(planet_id=i, fold=-1 if i < 20 else 0) for i in range(30)]
    plan = modules.accuracy.plan_2025(worlds, config.transit)
    assert plan.teachers == list(range(20))
    assert {plan.fold[i] for i in range(20, 30)} == {modules.accuracy.TEST}
    assert {plan.fold[i] for i in range(20)} == set(range(config.transit.spectrum.folds))


def test_flux_of_the_speed_table_is_batmans_to_a_ppm(modules, capfd):
    pytest.importorskip("batman")
    assert 0.0 < modules.fit.flux_error() < 1e-6
    assert "Convergence" not in capfd.readouterr().out
