"""Worlds of benchmarks/sets.py: the truth explains the light curves, draws repeat."""

import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest

from spectramind.archive.tables import read_labels
from spectramind.errors import DataError
from spectramind.instrument import AIRS, FGS1, to_scored, wavelength_um
from spectramind.observation import LightCurves
from spectramind.simulate import star
from spectramind.simulate.scene import build_scene, mean_transit
from spectramind.simulate.systems import draw_systems
from spectramind.simulate.visit import draw_visit, stamps_h

FULL_BINS = 224  # of 5 AIRS and 60 FGS1 exposures each; the last bin of a visit holds fewer
MERGED = 5
STAR_2024 = {4: 0, 7: 1, 9: 0, 2: 1, 30: 0, 11: 1, 5: 0}


@pytest.fixture(scope="module")
def sets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(star, "_RADIAL_NODES", 40)  # of 160: both sides of a test share them
        yield importlib.import_module("sets")
    del sys.modules["sets"]


@pytest.fixture(scope="module")
def planets(sets):
    return sets.sim2025(1, 2, truth=True, workers=1)


@pytest.fixture(scope="module")
def systems(sets):
    config = sets._settings(sets.SEED_2025, "train_planets=1", "test_planets=2").simulate
    return config, {s.planet.planet_id: s for s in draw_systems(config, "test")}


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("2024")
    rng = np.random.default_rng(3)
    depth = 1e-3 + 5e-3 * rng.random((len(STAR_2024), 1)) + 1e-4 * rng.random(283)
    rows = [
        f"{p}," + ",".join(map(repr, d.tolist())) for p, d in zip(STAR_2024, depth, strict=True)
    ]
    head = "planet_id," + ",".join(f"wl_{i}" for i in range(1, 284))
    (folder / "train_labels.csv").write_text("\n".join([head, *rows]))
    table = [f"{p},{star}" for p, star in reversed(STAR_2024.items())]
    (folder / "train_adc_info.csv").write_text("\n".join(["planet_id,star", *table]))
    return folder / "train_labels.csv"


@pytest.fixture(scope="module")
def injected(sets, labels):
    return sets.inject2024(labels, 3, truth=True, workers=1)


def explained(world):
    """Binned flux over its truth, FGS1 first, scaled to mean 1."""
    visit, truth = world.visits[0], world.truth[0]
    flux = np.concatenate([visit.fgs1[:, None], visit.airs], axis=1)
    ratio = flux / (truth.transit * truth.drift)
    return ratio / ratio.mean(0)


def in_bins(series, channel):
    """Means over the visit's full bins, by counting exposures: 24 s in, 5 AIRS or 60 FGS1 each."""
    first, size = (1, 5) if channel == AIRS else (11, 60)
    return series[first : first + FULL_BINS * size].reshape(FULL_BINS, size, -1).mean(1)


def test_what_training_and_test_planets_hold(planets):
    assert [world.fold for world in planets] == [-1, 0, 0]
    assert [world.truth is None for world in planets] == [True, False, False]
    assert all(world.group == 0 and world.star is not None for world in planets)
    assert len({world.planet_id for world in planets}) == 3
    assert planets[1].planet_id < planets[2].planet_id
    for world in planets[1:]:
        assert len(world.truth) == len(world.visits)
        assert world.truth[0].transit.shape == (world.visits[0].airs.shape[0], 283)


def test_truth_leaves_nothing_but_white_noise(planets, injected):
    for world in (*planets[1:], *injected):
        ratio, truth = explained(world), world.truth[0]
        share = world.visits[0].white_share
        for column, slope in (
            (ratio[:, 0], truth.slope[:, 0]),
            (ratio[:, 1:] @ share, truth.slope[:, 1:] @ share),
        ):
            noise = np.diff(column).std() / np.sqrt(2.0)
            assert column.std() < 1.2 * noise
            centred = slope - slope.mean()
            depth_error = centred @ column / (centred @ centred)
            assert abs(depth_error) < 4.0 * noise / np.sqrt(centred @ centred)


def test_transit_slope_and_drift_are_the_simulators(planets, systems):
    config, by_id = systems
    world, step = planets[1], 2e-5
    system, truth = by_id[world.planet_id], world.truth[0]
    assert np.array_equal(world.label, system.depth)
    assert world.star == system.planet.table != system.planet.star
    visit = draw_visit(config.seed, system.planet, 0, MERGED, config.effects, config.visit)
    for channel, chosen in ((FGS1, slice(0, 1)), (AIRS, slice(1, None))):

        def flux(change, channel=channel):
            depth = system.depth + change
            return mean_transit(channel, system.planet, system.light, depth, visit, MERGED)

        mean = in_bins(flux(0.0), channel)
        np.testing.assert_allclose(truth.transit[:FULL_BINS, chosen], mean, rtol=0, atol=1e-12)
        slope = in_bins((flux(step) - flux(-step)) / (2.0 * step), channel)
        np.testing.assert_allclose(truth.slope[:FULL_BINS, chosen], slope, rtol=0, atol=0.01)
        scene = build_scene(channel, system.planet, system.light, system.depth, visit, MERGED)
        gain = scene.drift.T.astype(np.float64)
        gain = gain.mean(1) if channel == FGS1 else to_scored(gain)
        gain = in_bins(gain, channel)
        np.testing.assert_allclose(truth.drift[:FULL_BINS, chosen], gain, rtol=1e-6)
    assert (truth.mid_time_h, truth.clock_offset_s) == (visit.mid_time_h, visit.clock_offset_s)
    assert truth.slope.min() < -0.9
    assert truth.slope.max() < 1e-9


def test_a_world_does_not_depend_on_other_planets(sets, labels, injected):
    (alone,) = sets.inject2024(labels, 1, truth=False, workers=1)
    world = next(world for world in injected if world.planet_id == alone.planet_id)
    assert alone.truth is None
    assert alone.fold == world.fold
    assert np.array_equal(alone.visits[0].airs, world.visits[0].airs)
    assert np.array_equal(alone.visits[0].fgs1, world.visits[0].fgs1)


@pytest.mark.slow
def test_a_world_does_not_depend_on_workers(sets, planets):
    again = sets.sim2025(0, 2, truth=False, workers=2)
    for world, other in zip(planets[1:], again, strict=True):
        assert world.planet_id == other.planet_id
        assert other.truth is None
        assert np.array_equal(world.label, other.label)
        assert np.array_equal(world.visits[0].airs, other.visits[0].airs)
        assert np.array_equal(world.visits[0].fgs1, other.visits[0].fgs1)


def test_injected_spectra_keep_their_depths_and_share_two_stars(sets, labels, injected):
    table = read_labels(labels)
    rows = {int(p): depth for p, depth in zip(table.planet_ids, table.depth, strict=True)}
    assert [world.planet_id for world in injected] == sorted(w.planet_id for w in injected)
    assert {world.group for world in injected} == {0, 1}
    laws = {}
    for world in injected:
        assert world.star is None
        assert world.group == STAR_2024[world.planet_id]
        assert np.array_equal(world.label, rows[world.planet_id])
        truth = world.truth[0]
        laws.setdefault(world.group, truth.law)
        assert np.array_equal(laws[world.group].weights, truth.law.weights)
        _, radius, mass = sets._STARS[world.group]
        kepler = 4.2083 * (mass * truth.period_d**2) ** (1 / 3) / radius
        assert truth.semi_major_axis_rs == pytest.approx(kepler, rel=1e-6)
    assert not np.allclose(laws[0].weights, laws[1].weights, atol=1e-3)
    assert len({world.truth[0].period_d for world in injected}) == 3


def test_folds_are_even_and_do_not_depend_on_the_limit(sets, labels, injected, monkeypatch):
    monkeypatch.setattr(sets, "_drawn", lambda _settings, drafts, *_: drafts)
    folds = {
        draft.system.planet.planet_id: draft.fold
        for draft in sets.inject2024(labels, None, truth=False, workers=1)
    }
    assert sorted(folds.values()) == [0, 0, 1, 1, 2, 3, 4]
    assert sorted(world.fold for world in injected) == [0, 1, 2]
    assert all(world.fold == folds[world.planet_id] for world in injected)


def test_noise_is_that_of_2024(injected):
    world = next(world for world in injected if world.group == 1)
    ratio = explained(world)[:FULL_BINS]
    noise = np.diff(ratio, axis=0).std(0) / np.sqrt(2.0)
    assert noise[0] == pytest.approx(0.0039 / np.sqrt(300), rel=0.15)
    blue = np.argsort(np.abs(wavelength_um() - 2.1))[:10]
    assert np.sqrt(np.mean(noise[blue] ** 2)) == pytest.approx(0.0027 / np.sqrt(25), rel=0.08)
    # the simulator's spectrum holds 9 % more electrons at 3.895 um than the sample, hence 4 %
    assert np.sqrt(np.mean(noise[-2:] ** 2)) == pytest.approx(0.0192 / np.sqrt(25), rel=0.12)


def test_the_noise_ratio_holds_at_every_wavelength(sets, systems):
    planet = next(iter(systems[1].values())).planet
    level = np.full((4000, 282), 5e4, dtype=np.float32)
    curves = LightCurves(
        1, 0, np.arange(4000.0), level, level[:, 0], np.arange(4000.0), level[:, 0], level[:, :2]
    )
    noisy = sets._noise_2024(curves, planet, 5)
    poisson = 5e4 / MERGED
    assert noisy.fgs1_e.var() == pytest.approx(3.0 * poisson, rel=0.1)
    above = noisy.airs_e.var(0)[[15, -1]] / poisson
    assert np.all(np.diff(noisy.airs_e.var(0)[::40]) > 0.0)
    assert above[1] == pytest.approx(0.02**2 * 5200 - 1.0, rel=0.1)


def test_drift_terms_rebuild_the_gain(sets, systems):
    config, _ = systems
    prior = sets.drift_prior(1, 9)
    system = draw_systems(config.model_copy(update={"seed": 9}), "train")[0]
    visit = draw_visit(9, system.planet, 0, MERGED, config.effects, config.visit)
    time = stamps_h(AIRS, MERGED)
    tau = (time - time[0]) / (time[-1] - time[0])
    gain = np.log(to_scored(visit.drift[AIRS.name].gain(tau, AIRS.columns).T))
    gain = in_bins(gain, AIRS)
    gain -= gain.mean(0)
    power, vectors = np.linalg.eigh(prior.airs)
    assert power[-2] < 1e-12 * power[-1]
    weights = np.sqrt(power[-1]) * vectors[:, -1].reshape(5, 6)
    last = 26937.75 / 26841.75  # the 225th bin, of 3 exposures, ends the scale
    scale = 2.0 * (np.arange(FULL_BINS) * 120.0) / (26841.75 * last - 81.75) - 1.0
    terms = [np.polynomial.chebyshev.chebvander(x, 5) for x in (scale, np.linspace(-1, 1, 282))]
    rebuilt = terms[0][:, 1:] @ weights @ terms[1].T
    rebuilt -= rebuilt.mean(0)
    rebuilt *= np.sign(np.sum(rebuilt * gain))
    np.testing.assert_allclose(rebuilt, gain, atol=3e-3 * np.abs(gain).max())
    assert prior.remainder < 1e-3 * gain.std()


def test_drift_moments_are_covariances(sets):
    prior = sets.drift_prior(40, 1)
    for matrix, size in ((prior.airs, 30), (prior.fgs1, 5)):
        assert matrix.shape == (size, size)
        np.testing.assert_allclose(matrix, matrix.T)
        assert float(np.linalg.eigvalsh(matrix).min()) > -1e-12 * np.trace(matrix)
    assert 1e-4 < np.sqrt(prior.airs[0, 0]) < 5e-3
    assert sorted(np.diag(prior.fgs1), reverse=True) == np.diag(prior.fgs1).tolist()


def test_bins_that_are_not_the_visits_are_refused(sets, planets, systems):
    world, (config, by_id) = planets[1], systems
    planet = by_id[world.planet_id].planet
    visit = draw_visit(config.seed, planet, 0, MERGED, config.effects, config.visit)
    binned = world.visits[0]
    moved = replace(binned, airs_time_h=binned.airs_time_h + 0.1 * binned.width_h)
    with pytest.raises(DataError, match=r"AIRS-CH0: bins of the truth lie 0\.100 of a bin beside"):
        sets._averages(AIRS, planet, visit, moved, 1)


def test_absent_labels_are_named(sets, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: the label spectra of 2024 are not"):
        sets.inject2024(tmp_path / "none.csv", None, truth=False, workers=1)


@pytest.mark.parametrize("table", ["planet_id,star\n4,0\n", "planet_id,star\n4,0\n7,2\n"])
def test_a_star_table_of_other_planets_is_refused(sets, tmp_path, table):
    path = tmp_path / "train_adc_info.csv"
    path.write_text(table)
    with pytest.raises(DataError, match=r"expected the 2 planets of train_labels\.csv and the"):
        sets._star_of(path, np.array([4, 7]))


def test_the_real_tables_name_two_stars(sets):
    if not sets.LABELS_2024.is_file():
        pytest.skip("the labels of 2024 are not beside this checkout")
    ids = read_labels(sets.LABELS_2024).planet_ids
    groups = sets._star_of(sets.LABELS_2024.with_name("train_adc_info.csv"), ids)
    assert np.bincount(groups).tolist() == [346, 327]
