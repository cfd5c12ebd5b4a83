import numpy as np
import pytest

from spectramind.instrument import AIRS, detector_wavelength_um, wavelength_um
from spectramind.observation import Star
from spectramind.simulate.interpolation import chebyshev_nodes, lagrange
from spectramind.simulate.limb_darkening import (
    LimbLaw,
    foreign_law,
    four_parameter_law,
    own_law,
    power2_law,
)
from spectramind.simulate.population import draw_planet
from spectramind.simulate.star import draw_star, moments, separation, transit_flux
from spectramind.spectroscopy import photons

STAR = Star(1.2, 1.1, 5500.0, 1.0, 0.0, 5.2, 10.5, 88.5)
TIME = np.linspace(0.0, 7.5, 1500)


def law(temperature=5500.0, nonquadratic=0.5):
    return own_law(wavelength_um(), temperature, scale=np.ones(2), nonquadratic=nonquadratic)


def intensity(law, mu):
    """Intensity of a law at each wavelength and mu."""
    return law.weights @ np.array([mu**power for power in law.powers])


def by_batman(name, coefficients, depth):
    """Light curve of `STAR` by batman."""
    batman = pytest.importorskip("batman")
    truth = batman.TransitParams()
    truth.t0, truth.per, truth.rp = 3.75 / 24.0, STAR.period_d, float(np.sqrt(depth))
    truth.a, truth.inc, truth.ecc, truth.w = 10.5, 88.5, 0.0, 90.0
    truth.limb_dark, truth.u = name, list(coefficients)
    return batman.TransitModel(truth, TIME / 24.0, max_err=0.1).light_curve(truth)


@pytest.mark.parametrize("k", [0.05, 0.12, 0.3])
def test_flux_equals_batman_to_a_millionth(k):
    chosen = law().weights[[0, 1, 282], 1:]
    depth = k**2 * np.array([1.0, 1.01, 1.03])
    flux = transit_flux(separation(TIME, 3.75, STAR), depth, four_parameter_law(chosen))
    for i in range(3):
        truth = by_batman("nonlinear", chosen[i], depth[i])
        np.testing.assert_allclose(flux[:, i], truth, atol=1e-6)


@pytest.mark.parametrize("k", [0.05, 0.12, 0.3])
def test_the_foreign_law_equals_batman_to_a_millionth(k):
    limb, exponent = np.array([0.7, 0.4, 0.25]), np.array([0.75, 0.6, 0.4])
    depth = k**2 * np.array([1.0, 1.01, 1.03])
    flux = transit_flux(separation(TIME, 3.75, STAR), depth, power2_law(limb, exponent))
    for i in range(3):
        truth = by_batman("power2", (limb[i], exponent[i]), depth[i])
        np.testing.assert_allclose(flux[:, i], truth, atol=1e-6)


def test_the_foreign_law_takes_as_much_light_and_is_steeper_at_the_limb():
    mu = np.linspace(0.0, 1.0, 2001)
    for temperature in (4300.0, 5500.0, 6900.0):
        foreign = foreign_law(wavelength_um(), temperature, scale=np.ones(2), steepness=1.2)
        seen, own = intensity(foreign, mu), intensity(law(temperature, 0.0), mu)
        assert seen.min() >= 0.0
        assert np.all(np.diff(seen) > 0.0)
        total = np.trapezoid(seen * mu, mu)
        np.testing.assert_allclose(total, np.trapezoid(own * mu, mu), rtol=1e-4)
        lost = 1.0 - seen[:, 0]
        np.testing.assert_allclose(lost, np.minimum(1.2 * (1.0 - own[:, 0]), 1.0))
        assert abs(seen - own).max() > 0.05


def test_the_switch_changes_the_law_alone(make_settings):
    config = make_settings()
    planet = draw_planet(1, "train", 0, 0.0, config.population)
    own = draw_star(1, planet, config.effects, config.star)
    foreign = make_settings(effects={"foreign_limb_darkening": True})
    other = draw_star(1, planet, foreign.effects, foreign.star)
    assert own.limb_darkening.powers == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert len(other.limb_darkening.powers) == 9
    flux, changed = (
        transit_flux(separation(TIME, 3.75, STAR), np.full(283, 0.01), light.limb_darkening)
        for light in (own, other)
    )
    assert 2e-5 < abs(flux - changed).max() < 2e-3
    assert own.fgs1_e_s == other.fgs1_e_s
    np.testing.assert_array_equal(own.airs_e_s, other.airs_e_s)
    again = draw_star(1, planet, foreign.effects, foreign.star)
    np.testing.assert_array_equal(again.limb_darkening.weights, other.limb_darkening.weights)


def test_a_uniform_disc_loses_the_area_of_the_planet():
    bare = LimbLaw((0.0,), np.ones((1, 1)))
    flux = transit_flux(np.array([0.0, 0.5, 2.0]), np.array([0.01]), bare)
    np.testing.assert_allclose(flux[:, 0], [0.99, 0.99, 1.0], atol=1e-12)


def test_contact_points_and_a_planet_behind_the_star():
    k = 0.1
    z = np.array([0.0, k, 1.0 - k, 1.0, 1.0 + k, np.inf])
    flux = transit_flux(z, np.array([k * k]), law().at(slice(0, 1)))[:, 0]
    assert np.all(np.diff(flux) >= -1e-12)
    assert flux[-2] == pytest.approx(1.0, abs=1e-12)
    assert flux[-1] == 1.0
    assert separation(np.array([3.75 + 5.2 * 12.0]), 3.75, STAR)[0] == np.inf


def test_total_of_the_disc_when_the_planet_covers_the_star():
    powers = (0.0, 0.37, 0.5, 1.0, 2.0)
    covered = moments(np.array([0.0]), np.array([1.0]), powers)[:, 0, 0]
    np.testing.assert_allclose(covered, [2 * np.pi / (p + 2) for p in powers], rtol=1e-9)


def test_the_law_is_not_quadratic_and_stays_positive():
    mu = np.linspace(0.0, 1.0, 200)
    for temperature in (4300.0, 5500.0, 6900.0):
        for seen in intensity(law(temperature), mu)[[0, 100, 282]]:
            assert seen.min() > 0.0
            quadratic = np.polynomial.polynomial.Polynomial.fit(mu, seen, 2)
            assert abs(quadratic(mu) - seen).max() > 1e-3


def test_cooler_and_bluer_is_darker_at_the_limb():
    limb = law(4500.0).weights[:, 0]
    assert limb[0] < limb[1] < limb[282]
    assert limb[0] < law(6500.0).weights[0, 0]


def test_planck_ratio_has_the_wien_limit():
    ratio = photons(np.array([0.5]), 3000.0) / photons(np.array([0.5]), 2900.0)
    wien = np.exp(-14387.77 / 0.5 * (1 / 3000.0 - 1 / 2900.0))
    assert ratio[0] == pytest.approx(wien, rel=1e-3)


def test_electrons_are_those_of_the_challenge(make_settings):
    config = make_settings(star={"electrons_scatter": 0.0})
    planet = draw_planet(1, "train", 0, 0.0, config.population)
    light = draw_star(1, planet, config.effects, config.star)
    column = np.argmin(abs(detector_wavelength_um() - 2.1))
    assert light.fgs1_e_s * 0.1 == pytest.approx(245_000.0)
    assert light.airs_e_s[column] * AIRS.exposure_s == pytest.approx(132_000.0, rel=0.01)
    np.testing.assert_array_equal(light.contamination, 1.0)


def test_spots_deepen_the_blue_most(make_settings):
    config = make_settings(effects={"spots": True}, star={"spot_fraction": (0.05, 0.05)})
    planet = draw_planet(1, "train", 0, 0.0, config.population)
    spotted = draw_star(1, planet, config.effects, config.star)
    assert spotted.contamination[0] > spotted.contamination[282] > 1.0


def test_one_radius_needs_one_node():
    assert chebyshev_nodes(np.array([0.1, 0.1]), 7).tolist() == [0.1]
    assert len(chebyshev_nodes(np.array([0.1, 0.11]), 7)) == 7


def test_a_polynomial_through_its_nodes_is_exact():
    places = np.linspace(0.2, 0.7, 11)
    nodes = chebyshev_nodes(places, 4)
    np.testing.assert_allclose(lagrange(places, nodes) @ nodes**3, places**3, rtol=1e-12)
