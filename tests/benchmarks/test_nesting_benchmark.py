"""The nested yardstick: teachers of a network know nothing of the planets that it is judged on."""

from types import SimpleNamespace

import numpy as np
import pytest

import nesting
from accuracy import Plan
from spectramind import config as configuration
from spectramind.observation import Labels
from spectramind.training.folds import Folds

PLANETS = range(10)


@pytest.fixture
def school():
    worlds = {planet: SimpleNamespace(planet_id=planet, visits=(0,)) for planet in PLANETS}
    fold = {planet: planet % 2 for planet in PLANETS}
    plan = Plan(worlds, fold, list(PLANETS), list(PLANETS), 2025)
    evidence = [SimpleNamespace(planet_id=planet) for planet in PLANETS]
    labels = Labels(np.array(PLANETS), np.full((10, 283), 0.01))
    return nesting.School(plan, evidence, labels, configuration.load([]))


@pytest.fixture(autouse=True)
def known_to(monkeypatch):
    """A fit says which planets its priors know of, and a network those of its teachers."""

    def learn(evidence, _):
        return {own.planet_id for own in evidence}

    def fit(item, config):  # noqa: ARG001
        worlds, priors = item
        return [SimpleNamespace(planet_id=own.planet_id, known=priors) for own in worlds]

    monkeypatch.setattr(nesting, "learn_priors", learn)
    monkeypatch.setattr(nesting, "_fit", fit)
    monkeypatch.setattr(nesting, "WORKERS", 1)
    monkeypatch.setattr(nesting, "unseen_spectra", lambda school, config, fits: dict(fits))  # noqa: ARG005


def test_the_fits_of_teachers_know_nothing_of_hidden_planets(school):
    ordinary = school.fitted(lambda _: True, lambda _: False)
    assert {planet: fit.known for planet, fit in ordinary.items()} == {
        planet: {own for own in PLANETS if own % 2 != planet % 2} for planet in PLANETS
    }
    teachers = school.fitted(lambda planet: planet > 3, lambda planet: planet <= 3)
    assert {planet: fit.known for planet, fit in teachers.items()} == {
        planet: {own for own in range(4, 10) if own % 2 != planet % 2} for planet in range(4, 10)
    }


def test_hidden_planets_are_judged_on_their_ordinary_fits(school):
    ordinary = school.fitted(lambda _: True, lambda _: False)
    roles = Folds(np.arange(10), np.array([0, 0, 0, 1, 1, 1, 2, 2, -1, -1]))
    for role in (-1, 0, 1, 2):
        judged = nesting._nested(school, school.config, ordinary, roles, role)
        assert judged == {
            planet: ordinary[planet] for planet in np.flatnonzero(roles.fold == role)
        }
