import numpy as np
import pytest

from spectramind.instrument import AIRS, detector_wavelength_um, wavelength_um
from spectramind.observation import Star
from spectramind.simulate.population import draw_planet
from spectramind.simulate.star import (
    draw_star,
    limb_darkening,
    moments,
    photons,
    radius_nodes,
    separation,
    transit_flux,
)

STAR = Star(1.2, 1.1, 5500.0, 1.0, 0.0, 5.2, 10.5, 88.5)
TIME = np.linspace(0.0, 7.5, 1500)


def law(temperature=5500.0, nonquadratic=0.5):
    return limb_darkening(
        wavelength_um(), temperature, scale=np.ones(2), nonquadratic=nonquadratic
    )


@pytest.mark.parametrize("k", [0.05, 0.12, 0.3])
def test_flux_equals_batman_to_a_millionth(k):
    batman = pytest.importorskip("batman")
    chosen = law()[[0, 1, 282]]
    depth = k**2 * np.array([1.0, 1.01, 1.03])
    flux = transit_flux(separation(TIME, 3.75, STAR), depth, chosen)
    for i in range(3):
        truth = batman.TransitParams()
        truth.t0, truth.per, truth.rp = 3.75 / 24.0, STAR.period_d, float(np.sqrt(depth[i]))
        truth.a, truth.inc, truth.ecc, truth.w = 10.5, 88.5, 0.0, 90.0
        truth.limb_dark, truth.u = "nonlinear", list(chosen[i])
        model = batman.TransitModel(truth, TIME / 24.0, max_err=0.1)
        np.testing.assert_allclose(flux[:, i], model.light_curve(truth), atol=1e-6)


def test_a_uniform_disc_loses_the_area_of_the_planet():
    flux = transit_flux(np.array([0.0, 0.5, 2.0]), np.array([0.01]), np.zeros((1, 4)))
    np.testing.assert_allclose(flux[:, 0], [0.99, 0.99, 1.0], atol=1e-12)


def test_contact_points_and_a_planet_behind_the_star():
    k = 0.1
    z = np.array([0.0, k, 1.0 - k, 1.0, 1.0 + k, np.inf])
    flux = transit_flux(z, np.array([k * k]), law()[:1])[:, 0]
    assert np.all(np.diff(flux) >= -1e-12)
    assert flux[-2] == pytest.approx(1.0, abs=1e-12)
    assert flux[-1] == 1.0
    assert separation(np.array([3.75 + 5.2 * 12.0]), 3.75, STAR)[0] == np.inf


def test_total_of_the_disc_when_the_planet_covers_the_star():
    covered = moments(np.array([0.0]), np.array([1.0]))[:, 0, 0]
    np.testing.assert_allclose(covered, [2 * np.pi / (n / 2 + 2) for n in range(5)], rtol=1e-9)


def test_the_law_is_not_quadratic_and_stays_positive():
    mu = np.linspace(0.0, 1.0, 200)
    for temperature in (4300.0, 5500.0, 6900.0):
        for row in law(temperature)[[0, 100, 282]]:
            intensity = 1.0 - sum(a * (1.0 - mu ** (n / 2)) for n, a in enumerate(row, 1))
            assert intensity.min() > 0.0
            quadratic = np.polynomial.polynomial.Polynomial.fit(mu, intensity, 2)
            assert abs(quadratic(mu) - intensity).max() > 1e-3


def test_cooler_and_bluer_is_darker_at_the_limb():
    limb = 1.0 - law(4500.0).sum(1)
    assert limb[0] < limb[1] < limb[282]
    assert limb[0] < 1.0 - law(6500.0)[0].sum()


def test_planck_ratio_has_the_wien_limit():
    ratio = photons(np.array([0.5]), 3000.0) / photons(np.array([0.5]), 2900.0)
    wien = np.exp(-14387.77 / 0.5 * (1 / 3000.0 - 1 / 2900.0))
    assert ratio[0] == pytest.approx(wien, rel=1e-3)


def test_electrons_are_those_of_the_challenge(make_settings):
    config = make_settings(star={"electrons_scatter": 0.0})
    planet = draw_planet(1, "train", 0, 0.0, config.population)
    light = draw_star(1, planet, spots=False, config=config.star)
    column = np.argmin(abs(detector_wavelength_um() - 2.1))
    assert light.fgs1_e_s * 0.1 == pytest.approx(245_000.0)
    assert light.airs_e_s[column] * AIRS.exposure_s == pytest.approx(132_000.0, rel=0.01)
    np.testing.assert_array_equal(light.contamination, 1.0)


def test_spots_deepen_the_blue_most(make_settings):
    config = make_settings(star={"spot_fraction": (0.05, 0.05)})
    planet = draw_planet(1, "train", 0, 0.0, config.population)
    spotted = draw_star(1, planet, spots=True, config=config.star)
    assert spotted.contamination[0] > spotted.contamination[282] > 1.0


def test_one_radius_needs_one_node():
    assert radius_nodes(np.array([0.1, 0.1])).tolist() == [0.1]
    assert len(radius_nodes(np.array([0.1, 0.11]))) == 7
