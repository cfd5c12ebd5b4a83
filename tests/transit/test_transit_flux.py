import numpy as np
import pytest

from spectramind.transit.flux import (
    covered_gradients,
    covered_integrals,
    separation,
    transit_flux,
)


@pytest.mark.parametrize("k", [0.01, 0.05, 0.1, 0.2, 0.35])
@pytest.mark.parametrize("u", [(0.0, 0.0), (0.1, 0.25), (0.6, 0.1)])
def test_flux_equals_batman_on_a_grazing_and_a_central_orbit(k, u):
    batman = pytest.importorskip("batman")
    for impact in (0.0, 0.5, 1.0 - k, 1.0 + 0.5 * k):
        p = batman.TransitParams()
        p.t0, p.per, p.a, p.ecc, p.w, p.rp = 0.0, 4.0, 9.0, 0.0, 90.0, k
        p.inc = float(np.degrees(np.arccos(impact / 9.0)))
        p.limb_dark, p.u = "quadratic", list(u)
        time_d = np.linspace(-0.12, 0.12, 2001)
        expected = batman.TransitModel(p, time_d).light_curve(p)
        z = separation(
            time_d * 24.0, t0_h=0.0, period_d=4.0, semi_major_axis_rs=9.0, impact_parameter=impact
        )
        assert np.abs(transit_flux(z, k, *u) - expected).max() < 1e-6


@pytest.mark.parametrize("k", [0.05, 0.2, 0.35])
def test_flux_is_continuous_through_the_contact_points(k):
    for contact in (k, 1.0 - k, 1.0 + k):
        z = contact + np.array([-1e-7, 0.0, 1e-7])
        flux = transit_flux(z, k, 0.4, 0.2)
        assert np.isfinite(flux).all()
        assert np.ptp(flux) < 1e-6


def test_planet_before_the_centre_of_a_uniform_star_hides_k_squared():
    np.testing.assert_allclose(transit_flux(np.zeros(3), np.array([0.0, 0.1, 0.3]), 0.0, 0.0),
                               1.0 - np.array([0.0, 0.01, 0.09]), atol=1e-9)  # fmt: skip


def test_no_light_is_hidden_outside_and_behind_the_star():
    z = separation(
        np.array([0.0, 24.0, 48.0]),
        t0_h=0.0, period_d=4.0, semi_major_axis_rs=9.0, impact_parameter=0.2,
    )  # fmt: skip
    assert z[0] == pytest.approx(0.2)
    assert z[1] == pytest.approx(9.0)
    assert np.isinf(z[2])
    assert transit_flux(z, 0.1, 0.4, 0.2)[1:].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("k", [0.05, 0.3])
def test_gradients_equal_finite_differences(k):
    rng = np.random.default_rng(0)
    z = rng.uniform(0.01, 1.0 + k, 200)
    away = np.min(np.abs(z[:, None] - np.array([k, 1.0 - k, 1.0 + k])), axis=1) > 1e-3
    z, step = z[away], 1e-5
    by_z, by_k = covered_gradients(z, k)
    finite_z = (covered_integrals(z + step, k) - covered_integrals(z - step, k)) / (2 * step)
    finite_k = (covered_integrals(z, k + step) - covered_integrals(z, k - step)) / (2 * step)
    np.testing.assert_allclose(by_z, finite_z, atol=2e-5 * k)
    np.testing.assert_allclose(by_k, finite_k, atol=2e-5 * k)


def test_gradients_are_finite_at_contact_points():
    for z in (0.0, 0.1, 0.9, 1.1, 1.2):
        assert np.isfinite(covered_gradients(np.array([z]), 0.1)).all()
