"""Labels of an archive scale sigma, each planet by those of others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from biased_fits import make_fit
from transit_world import default_config

from spectramind.transit.own_scale import UNIT, learn_scale, scale_by_labels, words
from spectramind.transit.priors import deal_folds
from spectramind.transit.store import IndexRow, fit_path, read_fit, write_fit, write_index

CONFIG = default_config(spectrum__fewest_labels=20, spectrum__unit_scale=10.0).spectrum
PLANETS = range(1, 31)
LEVEL = 3e-5  # common to all depths, and never scaled


def write_fits(folder, errors, *, flagged=()):
    """Fits whose depths lie `errors` sigma (FGS1, AIRS-CH0) from the labels; one test planet."""
    labels = {}
    for split, planets in (("train", PLANETS), ("test", (99,))):
        rows = []
        for planet in planets:
            fit, truth = make_fit(planet, bias=0.0)
            z = np.append(errors[0], np.full(282, errors[1]))
            reasons = ("A doubt.",) if planet in flagged else ()
            spread = fit.covariance + LEVEL**2
            sigma = np.sqrt(np.diag(spread))
            fit = replace(
                fit, depth=truth + z * sigma, sigma=sigma, covariance=spread, level_sigma=LEVEL,
                reasons=reasons,
            )  # fmt: skip
            write_fit(fit_path(folder, split, planet), fit, {"origin": "here"})
            rows.append(IndexRow(planet, reasons, (), Path("priors"), "here"))
            labels[planet] = truth
        write_index(folder, split, rows)
    return {planet: labels[planet] for planet in PLANETS}


def scale(folder, labels):
    return scale_by_labels(folder, ("train", "test"), labels, CONFIG)


def test_sigma_becomes_as_large_as_the_errors_of_each_channel(tmp_path):
    labels = write_fits(tmp_path, (2.0, 0.5))
    found = scale(tmp_path, labels)
    expected = np.sqrt((30 * np.array([4.0, 0.25]) + 10.0) / 40.0)
    assert found == pytest.approx(expected)
    before, _ = make_fit(99, bias=0.0)
    fit = read_fit(fit_path(tmp_path, "test", 99))
    np.testing.assert_allclose(fit.own_sigma[0] / before.own_sigma[0], expected[0])
    np.testing.assert_allclose(fit.own_sigma[1:] / before.own_sigma[1:], expected[1])
    np.testing.assert_allclose(fit.sigma**2, fit.own_sigma**2 + LEVEL**2)
    np.testing.assert_allclose(fit.sigma**2, np.diag(fit.covariance))
    assert "FGS1 times 1.803, of AIRS-CH0 times 0.661" in words(found)


def test_no_planet_is_scaled_by_its_own_label(tmp_path):
    labels = write_fits(tmp_path, (1.0, 1.0))
    folds = deal_folds(sorted(labels), CONFIG.folds, CONFIG.seed)
    wild = 7
    labels[wild] = labels[wild] + 0.01  # a hundred sigma
    scale(tmp_path, labels)
    for planet in PLANETS:
        own = read_fit(fit_path(tmp_path, "train", planet)).scale
        if folds[planet] == folds[wild]:
            assert own == pytest.approx(1.0)
        else:
            assert (own > 5.0).all()


def test_flagged_planets_and_those_without_a_label_say_nothing(tmp_path):
    labels = write_fits(tmp_path, (1.0, 1.0), flagged=(3,))
    labels[3] = labels[3] + 0.01
    del labels[4]
    assert scale(tmp_path, labels) == pytest.approx(UNIT)


def test_too_few_labels_leave_sigma_and_take_a_former_scale_back(tmp_path):
    labels = write_fits(tmp_path, (2.0, 2.0))
    fresh = read_fit(fit_path(tmp_path, "test", 99))
    assert scale(tmp_path, labels) != UNIT
    few = {planet: labels[planet] for planet in list(labels)[:19]}
    assert scale(tmp_path, few) == UNIT
    fit = read_fit(fit_path(tmp_path, "test", 99))
    np.testing.assert_allclose(fit.sigma, fresh.sigma)
    np.testing.assert_allclose(fit.covariance, fresh.covariance, atol=1e-18)
    assert words(UNIT) == ""


def test_the_same_labels_change_nothing_again(tmp_path):
    labels = write_fits(tmp_path, (2.0, 0.5))
    first = scale(tmp_path, labels)
    written = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert scale(tmp_path, labels) == first
    assert written == {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}


def test_a_scale_is_learned_from_enough_planets_alone():
    errors = np.tile([4.0, 9.0], (19, 1))
    assert learn_scale(errors, CONFIG) == UNIT
    assert learn_scale(np.tile([4.0, 9.0], (2000, 1)), CONFIG) == pytest.approx(
        (2.0, 3.0), rel=0.01
    )
