"""Other atmospheres of a known planet."""

from dataclasses import replace

import numpy as np

from spectramind.observation import Star
from spectramind.simulate.alternatives import alternative_spectra

STAR = Star(1.2, 1.1, 5800.0, 0.9, 0.0, 4.0, 9.0, 88.0)


def draw(settings, star=STAR, depth=0.012, count=12, seed=3, planet_id=7):
    return alternative_spectra(
        planet_id, star, depth, count, settings.population, settings.atmosphere, seed
    )


def test_the_level_stays_and_the_shape_changes(make_settings):
    spectra = draw(make_settings())
    np.testing.assert_allclose(spectra[:, 1:].mean(1), 0.012, rtol=2e-3)
    shapes = spectra[:, 1:] - spectra[:, 1:].mean(1, keepdims=True)
    different = np.abs(shapes[1:] - shapes[:-1]).max(1)
    assert (different > 1e-6).all()


def test_the_seed_and_the_planet_decide(make_settings):
    settings = make_settings()
    assert np.array_equal(draw(settings), draw(settings))
    assert not np.array_equal(draw(settings), draw(settings, seed=4))
    assert not np.array_equal(draw(settings), draw(settings, planet_id=8))
    assert np.allclose(draw(settings, count=3), draw(settings)[:3], rtol=1e-12)


def test_a_light_planet_stays_cool_enough_to_keep_its_atmosphere(make_settings):
    """At a hundredth of the mass the table's temperature would blow it up without the bound."""
    settings = make_settings()
    light = draw(settings, star=replace(STAR, planet_mass_mjup=0.009))
    heavy = draw(settings)
    assert np.isfinite(light).all()
    assert (light > 0).all()
    assert light[:, 1:].std(1).max() > heavy[:, 1:].std(1).max()
