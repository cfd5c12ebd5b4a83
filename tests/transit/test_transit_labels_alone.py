"""Labels of planets without light curves teach the prior over spectra, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("batman")

from foreign_files import write_file, write_labels, write_stars
from test_transit_foreign import fit_stage
from test_transit_stage import Planets, ten_labels, work_of
from transit_world import draw_world, make_curves

from spectramind.transit import teaching
from spectramind.transit.priors import (
    deal_folds,
    first_priors,
    label_hash,
    prior_path,
    read_prior_facts,
    read_priors,
    write_priors,
)
from spectramind.transit.spectrum_learning import learn_spectrum_prior
from spectramind.transit.spectrum_prior import log_signal
from spectramind.transit.store import read_fits
from spectramind.transit.teaching import learn_archive, learn_folds

MEASURED = tuple(range(1001, 1013))
ALONE = {1000 + seed: draw_world(seed) for seed in range(41, 54)}
STARS = {planet: world.table for planet, world in ALONE.items()} | {1041: None}
LABELS = {planet: world.depth for planet, world in ALONE.items()}
SCALES = [log_signal(STARS[planet], float(own[1:].mean())) for planet, own in LABELS.items()]
HASHES = {planet: label_hash(label) for planet, label in LABELS.items()}


@pytest.fixture(scope="module")
def planets():
    worlds = {planet: draw_world(planet - 1000) for planet in MEASURED}
    visits = {planet: [make_curves(world, factor=90)] for planet, world in worlds.items()}
    return Planets(worlds, visits)


@pytest.fixture(scope="module")
def config():
    return ten_labels(folds=2)


def test_they_teach_the_priors_of_every_fold(planets, config, tmp_path):
    work = work_of(planets, config, tmp_path, stars=planets.stars | STARS)
    labels, visits = planets.labels | LABELS, planets.numbers(*MEASURED)
    folds = deal_folds(MEASURED, 2, config.spectrum.seed)
    found = learn_folds(work, labels, visits, workers=1)
    assert found.own == {planet: prior_path(tmp_path, fold) for planet, fold in folds.items()}
    for fold in (None, 0, 1):
        priors = read_priors(prior_path(tmp_path, fold))
        others = [planet for planet in MEASURED if fold is None or folds[planet] != fold]
        assert priors.taught_by == HASHES | {p: label_hash(labels[p]) for p in others}
        assert priors.spectrum.planets == len(others) + 13
        depths = [labels[planet][1:].mean() for planet in (*others, *ALONE)]
        assert priors.spectrum.level[0] == pytest.approx(np.mean(depths), rel=1e-9)
        enough = 12 if fold is None else 0  # six of a fold's planets are fewer than ten
        assert priors.known.planets == priors.noise.visits == enough


def test_a_change_of_one_makes_the_priors_of_folds_stale(planets, config, tmp_path, monkeypatch):
    """Also where they are too few to teach anything, which takes no time."""
    monkeypatch.setattr(teaching, "learn_from", lambda *_: [])
    spectrum = config.spectrum.model_copy(update={"fewest_labels": 40})
    config = config.model_copy(update={"spectrum": spectrum})
    few = {planet: planets.labels[planet] for planet in MEASURED[:2]}

    def learned(labels=LABELS, stars=STARS):
        work = work_of(planets, config, tmp_path, stars=planets.stars | stars)
        return bool(learn_folds(work, few | labels, planets.numbers(*few), workers=1).binned)

    assert learned()
    assert not learned()
    assert not learned(dict(reversed(LABELS.items())))
    assert learned(LABELS | {1045: 1.01 * LABELS[1045]})
    assert learned({planet: label for planet, label in LABELS.items() if planet != 1045})
    assert learned()
    assert learned(stars=STARS | {1045: replace(STARS[1045], planet_mass_mjup=7.0)})
    assert learned()
    assert not learned()


def test_beside_planets_without_labels_their_prior_over_spectra_stands(planets, config, tmp_path):
    """The planets teach the rest themselves; a label of one with light curves teaches nothing."""
    counted = Planets(planets.worlds, planets.visits)
    labels = LABELS | {1001: planets.labels[1001]}
    visits = {"train": planets.numbers(1001), "test": planets.numbers(*MEASURED[1:6])}

    def learned(labels=labels, lent=None):
        counted.read.clear()
        work = work_of(counted, config, tmp_path / "fit", stars=planets.stars | STARS)
        both = {"train": work, "test": work}
        return learn_archive(both, visits, lent, labels, workers=1)

    found = learned()
    assert sorted(counted.read) == list(MEASURED[:6])
    priors = read_priors(found.everyone)
    assert found.own == {}
    assert priors.taught_by == HASHES
    assert priors.known.planets == priors.noise.visits == 6
    expected = learn_spectrum_prior(np.stack([*LABELS.values()]), SCALES, config.spectrum)
    for name in ("shape", "components", "process", "shares", "amplitude", "typical"):
        np.testing.assert_array_equal(getattr(priors.spectrum, name), getattr(expected, name))
    assert read_prior_facts(found.everyone)["lent"] == ""
    learned()
    assert counted.read == []
    learned(labels | {1001: 1.01 * labels[1001]})
    assert counted.read == []
    learned(labels | {1045: 1.01 * LABELS[1045]})
    assert counted.read != []
    lent = tmp_path / "lent.safetensors"
    write_priors(lent, first_priors(config), {})
    borrowed = read_priors(learned(lent=lent).everyone)
    assert borrowed.spectrum is None
    assert borrowed.taught_by == {}
    counted.read.clear()
    learned({}, lent)
    assert counted.read == []


@pytest.fixture
def folder(planets, tmp_path):
    """Light curves of two planets, one of them with a label, and labels of 13 others."""
    root = tmp_path / "archive"
    root.mkdir()
    for planet in (1001, 1002):
        write_file(root, planet, planets.visits[planet][0])
    worlds = planets.worlds | ALONE
    write_stars(root, {planet: worlds[planet] for planet in worlds if planet != 1041})
    write_labels(root / "labels.csv", worlds, (1001, *ALONE))
    return root


def test_an_archive_of_labels_beside_few_light_curves(planets, config, folder, tmp_path):
    """From files to spectra, and fits are kept until a label changes."""

    def fitted(root, out):
        keys = ("transit.spectrum.fewest_labels=10", "transit.spectrum.components=[2]")
        result = fit_stage(root, tmp_path / out, *keys, "transit.spectrum.lengths_um=[0.03]")
        fits = read_fits(tmp_path / out / "fit", "train")
        return result, fits | read_fits(tmp_path / out / "fit", "test")

    result, fits = fitted(folder, "all")
    words = "prior over spectra from 13 labels, 13 of them of planets without light curves"
    assert result.summary.endswith(words)
    assert result.facts["labels"] == 13
    (sentence,) = result.failures
    assert "no file of light curves. Such rows teach the prior over spectra at most." in sentence
    priors = read_priors(prior_path(tmp_path / "all" / "fit", None))
    assert priors.taught_by == HASHES
    expected = learn_spectrum_prior(np.stack([*LABELS.values()]), SCALES, config.spectrum)
    assert priors.spectrum.amplitude == pytest.approx(expected.amplitude)
    path = tmp_path / "all" / "fit" / "test" / "1002.safetensors"
    stamp = path.stat().st_mtime_ns
    fitted(folder, "all")
    assert path.stat().st_mtime_ns == stamp
    write_labels(folder / "labels.csv", planets.worlds | ALONE, (1001, *[*ALONE][1:]))
    fitted(folder, "all")
    assert path.stat().st_mtime_ns != stamp
    write_labels(folder / "labels.csv", planets.worlds, (1001,))
    bare, wide = fitted(folder, "bare")
    assert "too few labels for a prior over spectra" in bare.summary
    for planet in (1001, 1002):
        assert np.median(fits[planet].sigma) < 0.8 * np.median(wide[planet].sigma)


def test_labels_of_both_kinds_make_enough_together(planets, folder, tmp_path):
    """Then a labelled planet that is fitted has priors of others."""
    for planet in MEASURED[2:6]:
        write_file(folder, planet, planets.visits[planet][0])
    worlds = planets.worlds | ALONE
    write_labels(folder / "labels.csv", worlds, (*MEASURED[:6], *[*ALONE][:8]))
    keys = ("transit.spectrum.fewest_labels=10", "transit.spectrum.folds=2")
    quick = ("transit.spectrum.components=[2]", "transit.spectrum.lengths_um=[0.03]")
    result = fit_stage(folder, tmp_path, *keys, *quick)
    assert "from 14 labels, 8 of them of planets without light curves" in result.summary
    eight = set([*ALONE][:8])
    parts = [read_priors(prior_path(tmp_path / "fit", fold)).taught_by.keys() for fold in (0, 1)]
    assert parts[0] & parts[1] == eight
    assert parts[0] | parts[1] == eight | set(MEASURED[:6])
