"""What labelled planets teach, and the files in which it is kept."""

from dataclasses import fields, replace

import numpy as np
import pytest
from safetensors.numpy import save

pytest.importorskip("batman")

from transit_world import default_config, draw_world, make_curves

from spectramind.artefacts import save_tensors
from spectramind.errors import ArtefactError
from spectramind.transit.fit import fit_planets, learn_from
from spectramind.transit.priors import (
    deal_folds,
    first_priors,
    learn_priors,
    priors_hash,
    read_priors,
    write_priors,
)
from spectramind.transit.spectrum_learning import learn_spectrum_prior
from spectramind.transit.start import prepare


@pytest.fixture(scope="module")
def config():
    return default_config(
        spectrum__components=[2, 4],
        spectrum__lengths_um=[0.03, 0.1],
        bin_s=900.0,
        settled_ppm=30.0,
        scan__starts=1,
        passes=6,
    )


@pytest.fixture(scope="module")
def taught(config):
    """Priors of 32 labelled planets."""
    worlds = [draw_world(seed) for seed in range(100, 132)]
    lessons = []
    for first in range(0, len(worlds), 8):
        own = worlds[first : first + 8]
        planets = [prepare([make_curves(w, factor=90)], w.table, config) for w in own]
        labels = {1000 + world.seed: world.depth for world in own}
        lessons += learn_from(planets, labels, first_priors(config), config)
    return learn_priors(lessons, config)


def _log_likelihood(fit, depth):
    covariance = fit.covariance
    error = depth - fit.depth
    _, size = np.linalg.slogdet(covariance)
    return -0.5 * (error @ np.linalg.solve(covariance, error) + size)


def test_learned_priors_make_left_out_spectra_more_likely(taught, config):
    worlds = [draw_world(seed) for seed in range(1, 9)]
    planets = [prepare([make_curves(w, factor=90)], w.table, config) for w in worlds]
    drift = replace(taught, spectrum=None)
    likelihood, squares = {}, {}
    for name, priors in (("first", first_priors(config)), ("drift", drift), ("all", taught)):
        fits = fit_planets(planets, priors, config)
        pairs = list(zip(fits, worlds, strict=True))
        likelihood[name] = sum(_log_likelihood(fit, world.depth) for fit, world in pairs)
        squares[name] = np.stack([fit.depth - world.depth for fit, world in pairs])
        z = np.stack([(fit.depth - world.depth) / fit.sigma for fit, world in pairs])
        assert 0.5 < np.mean(z[:, 1:] ** 2) < 2.0
    assert likelihood["drift"] > likelihood["first"]
    assert likelihood["all"] > likelihood["drift"] + 100.0 * len(worlds)  # nat
    assert np.std(squares["all"][:, 1:]) < 0.6 * np.std(squares["first"][:, 1:])


def test_the_population_of_the_worlds_is_found(taught, config):
    """Clocks scatter by 10 s; drift and table errors are about as the settings have them."""
    first = first_priors(config)
    assert taught.known.planets == taught.spectrum.planets == 32
    assert taught.unknown.planets == 0
    assert 5.0 < 3600.0 * taught.known.clock_h < 18.0
    assert taught.known.covariance[1, 1] ** 0.5 == pytest.approx(0.06, rel=0.5)
    ratio = np.trace(taught.known.drift_fgs1) / np.trace(first.known.drift_fgs1)
    assert 0.02 < ratio < 2.0


def test_a_lesson_does_not_depend_on_the_label_of_the_planet_beside(config):
    """Damped least squares stops for each planet by itself, not when all have settled."""
    worlds = [draw_world(seed) for seed in (1, 2)]
    planets = [prepare([make_curves(w, factor=90)], w.table, config) for w in worlds]
    lessons = []
    for factor in (1.0, 0.7, 4.0):
        labels = {1001: worlds[0].depth, 1002: factor * worlds[1].depth}
        lessons.append(learn_from(planets, labels, first_priors(config), config)[0])
    for lesson in lessons[1:]:
        np.testing.assert_array_equal(lesson.orbit.information, lessons[0].orbit.information)
        np.testing.assert_array_equal(lesson.orbit.vector, lessons[0].orbit.vector)


def test_folds_are_even_fixed_and_blind_to_order():
    planets = list(range(50, 73))
    folds = deal_folds(planets, 5, 283)
    assert sorted(folds) == planets
    counts = np.bincount(list(folds.values()))
    assert counts.tolist() == [5, 5, 5, 4, 4]
    assert deal_folds(planets[::-1], 5, 283) == folds
    assert deal_folds(planets, 5, 284) != folds


def _same(a, b):
    assert type(a) is type(b)
    for field in fields(a) if a is not None else ():
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right


@pytest.fixture(scope="module")
def priors(config):
    rng = np.random.default_rng(0)
    shape = rng.normal(0.0, 1e-4, (24, 2)) @ rng.normal(0.0, 1.0, (2, 283))
    labels = 0.012 + shape + rng.normal(0.0, 1e-5, (24, 283))
    spectrum = learn_spectrum_prior(labels, [0.0] * 24, config.spectrum)
    return replace(first_priors(config), spectrum=spectrum)


def test_reading_returns_what_was_written(priors, config, tmp_path):
    for name, written in (("with", priors), ("without", first_priors(config))):
        write_priors(tmp_path / name, written, {"created": "today"})
        read = read_priors(tmp_path / name)
        for part in ("known", "unknown", "spectrum"):
            _same(getattr(read, part), getattr(written, part))


def test_the_hash_knows_what_priors_say_and_not_when(priors, tmp_path):
    paths = [tmp_path / name for name in "abcd"]
    write_priors(paths[0], priors, {"created": "today"})
    write_priors(paths[1], priors, {"created": "tomorrow"})
    write_priors(paths[2], replace(priors, spectrum=None), {"created": "today"})
    shifted = replace(priors.spectrum, shape=priors.spectrum.shape + 1e-9)
    write_priors(paths[3], replace(priors, spectrum=shifted), {"created": "today"})
    hashes = [priors_hash(path) for path in paths]
    assert hashes[0] == hashes[1]
    assert len({*hashes}) == 3
    assert paths[0].read_bytes() != paths[1].read_bytes()


@pytest.mark.parametrize("use", [read_priors, priors_hash])
def test_a_file_that_holds_no_priors_is_named(use, tmp_path):
    path = tmp_path / "all.safetensors"
    with pytest.raises(ArtefactError, match=r"no file of priors .* there\. Run `spectramind fit`"):
        use(path)
    for content in (b"torn", save({"depth": np.ones(2)})):
        path.write_bytes(content)
        sentence = r"no whole file of priors of a transit fit: .* Run `spectramind fit` again"
        with pytest.raises(ArtefactError, match=sentence):
            use(path)


def test_a_file_of_other_content_is_named(tmp_path):
    path = tmp_path / "all.safetensors"
    save_tensors(path, {"depth": np.ones(2)}, {"facts": {}})
    with pytest.raises(ArtefactError, match=r"priors of a transit fit: it lacks 'known'"):
        read_priors(path)


def test_a_prior_over_spectra_of_another_kind_is_named(tmp_path):
    path = tmp_path / "all.safetensors"
    save_tensors(path, {"spectrum.process": np.ones(283)}, {"facts": {}})
    with pytest.raises(ArtefactError, match=r"its prior over spectra is of another kind"):
        read_priors(path)
