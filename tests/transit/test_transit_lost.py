"""Planets of the simulator that the white fit once lost: drifts that look like half a transit."""

import pytest

from spectramind import config
from spectramind.simulate.atmosphere import depths
from spectramind.simulate.composition import draw_atmosphere
from spectramind.simulate.curves import draw_curves
from spectramind.simulate.population import draw_planet
from spectramind.simulate.star import draw_star
from spectramind.simulate.systems import System
from spectramind.simulate.visit import draw_visit
from spectramind.transit.fit import fit_planets
from spectramind.transit.priors import first_priors
from spectramind.transit.start import prepare


@pytest.mark.parametrize("index", [155, 1128])
def test_a_drift_like_half_a_transit_does_not_lose_the_planet(index):
    """From the search alone depths were 0.4 of the truth and chi^2 a hundred times too large."""
    whole = config.load(["simulate.seed=4242"])
    settings = whole.simulate
    planet = draw_planet(
        settings.seed, "train", index, settings.two_visit_fraction, settings.population
    )
    atmosphere = draw_atmosphere(settings.seed, planet, settings.atmosphere)
    star = draw_star(settings.seed, planet, settings.effects, settings.star)
    spectrum = depths([planet], [atmosphere], settings.atmosphere)[0]
    visit = draw_visit(
        settings.seed, planet, 0, settings.cadence_factor, settings.effects, settings.visit
    )
    curves = draw_curves(System(planet, atmosphere, spectrum, star), visit, settings)
    ready = prepare([curves], planet.table, whole.transit)
    (fit,) = fit_planets([ready], first_priors(whole.transit), whole.transit)
    assert fit.white_depth == pytest.approx(planet.depth, rel=0.03)
    assert fit.reduced_chi2 < 1.5
