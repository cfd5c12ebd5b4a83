import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from spectramind.transit.flux import (
    covered_gradients,
    covered_integrals,
    hidden_share,
    separation,
    transit_flux,
)

RADIUS_RATIOS = (0.01, 0.05, 0.1, 0.2, 0.35)
LAWS = ((0.0, 0.0), (0.1, 0.25), (0.6, 0.1), (0.0, 1.0), (1.0, 0.0), (0.9, -0.4))


def _tensor(values):
    return torch.as_tensor(values, dtype=torch.float64)


def _contacts(k):
    return np.array([0.0, k, 1.0 - k, 1.0, 1.0 + k])


@pytest.mark.parametrize("k", RADIUS_RATIOS)
@pytest.mark.parametrize("law", LAWS)
def test_flux_equals_batman_within_one_ppm(k, law):
    quadratic = pytest.importorskip("batman")._quadratic_ld._quadratic_ld
    near = _contacts(k)[:, None] + np.array([-1e-3, -1e-5, -1e-7, 1e-7, 1e-5, 1e-3])
    z = np.concatenate([np.linspace(0.0, 1.1 + k, 1001), near.ravel().clip(1e-9)])
    expected = np.asarray(quadratic(z, k, *law, 1))
    flux = transit_flux(_tensor(z), _tensor(k), *law).numpy()
    assert np.abs(flux - expected).max() < 1e-6


@pytest.mark.parametrize("impact", [0.0, 0.5, 0.95, 1.05])
def test_light_curve_equals_batman_on_central_and_grazing_orbits(impact):
    batman = pytest.importorskip("batman")
    p = batman.TransitParams()
    p.t0, p.per, p.a, p.ecc, p.w, p.rp = 0.0, 4.0, 9.0, 0.0, 90.0, 0.1
    p.inc = float(np.degrees(np.arccos(impact / 9.0)))
    p.limb_dark, p.u = "quadratic", [0.4, 0.2]
    time_d = np.linspace(-2.0, 2.0, 4001)
    expected = batman.TransitModel(p, time_d).light_curve(p)
    z = separation(
        _tensor(24.0 * time_d),
        t0_h=0.0, period_d=4.0, semi_major_axis_rs=9.0, impact_parameter=impact,
    )  # fmt: skip
    flux = transit_flux(z, _tensor(0.1), 0.4, 0.2).numpy()
    assert np.abs(flux - expected).max() < 1e-6
    assert flux.min() < 0.999


def _covered_by_quadrature(z, k, power):
    """J of the module's formula by adaptive quadrature, rings covered all round included."""

    def strip(r):
        if r == 0.0 or z == 0.0:
            angle = math.pi if r < k - z else 0.0
        else:
            angle = math.acos(min(max((r**2 + z**2 - k**2) / (2.0 * r * z), -1.0), 1.0))
        return 2.0 * r * angle * (1.0 - math.sqrt(max(1.0 - r**2, 0.0))) ** power

    ends = [max(0.0, z - k), min(abs(z - k), 1.0), min(z + k, 1.0)]
    return sum(quad(strip, a, b, epsabs=1e-13, limit=400)[0] for a, b in pairwise(ends))


@pytest.mark.parametrize("k", [0.02, 0.35])
def test_integrals_equal_adaptive_quadrature_at_the_contact_points_too(k):
    z = np.array([0.0, 0.3 * k, k, 0.6, 1.0 - k, 1.0, 1.0 + 0.9 * k, 1.0 + k])
    expected = [[_covered_by_quadrature(one, k, power) for one in z] for power in range(3)]
    found = covered_integrals(_tensor(z), _tensor(k)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=2e-7 * k)


def test_planet_before_the_centre_of_a_uniform_star_hides_k_squared():
    k = _tensor([0.01, 0.1, 0.3])
    flux = transit_flux(torch.zeros_like(k), k, 0.0, 0.0)
    np.testing.assert_allclose(flux, [0.9999, 0.99, 0.91], rtol=0.0, atol=1e-9)


def test_a_body_as_large_as_the_star_or_larger_hides_all_of_its_light():
    integrals = covered_integrals(_tensor([0.0, 0.0, 0.2]), _tensor([1.0, 1.5, 1.5]))
    np.testing.assert_allclose(hidden_share(integrals, 0.5, 0.3), 1.0, rtol=0.0, atol=1e-9)


def test_no_light_is_hidden_outside_and_behind_the_star():
    flux = transit_flux(_tensor([1.1, 1.2, 50.0, math.inf]), _tensor(0.1), 0.4, 0.2)
    assert flux.tolist() == [1.0] * 4
    assert transit_flux(_tensor([1.0999]), _tensor(0.1), 0.4, 0.2) < 1.0


def test_separation_is_the_distance_on_a_tilted_circle():
    period, axis, impact, t0 = 4.0, 9.0, 0.4, 2.5
    time = np.linspace(0.0, 96.0, 97) + 0.1
    phase = 2.0 * np.pi * (time - t0) / 96.0
    tilt = np.arccos(impact / axis)
    sky = [axis * np.sin(phase), axis * np.cos(phase) * np.cos(tilt)]
    before = np.cos(phase) * np.sin(tilt) > 0.0
    z = separation(
        _tensor(time),
        t0_h=t0, period_d=period, semi_major_axis_rs=axis, impact_parameter=impact,
    ).numpy()  # fmt: skip
    np.testing.assert_allclose(z[before], np.hypot(*sky)[before], rtol=1e-12)
    assert np.isinf(z[~before]).all()
    assert 0 < before.sum() < time.size


def test_gradients_of_the_flux_pass_gradcheck_in_all_arguments():
    k = _tensor([0.02, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3]).requires_grad_()
    z = _tensor([0.5, 0.04, 0.7, 1.02, 0.15, 0.9, 1.25]).requires_grad_()
    u1, u2 = (torch.full_like(k, value).requires_grad_() for value in (0.4, 0.2))
    assert torch.autograd.gradcheck(transit_flux, (z, k, u1, u2), eps=1e-6, atol=1e-6, rtol=1e-5)


def test_gradients_pass_through_broadcast_and_separation():
    time = _tensor(np.linspace(-2.0, 2.0, 9))
    k = _tensor([[0.05], [0.2]]).requires_grad_()
    orbit = [_tensor(v).requires_grad_() for v in (0.1, 4.0, 9.0, 0.3)]

    def light(k, t0, period, axis, impact):
        z = separation(
            time,
            t0_h=t0.expand(9), period_d=period.expand(9), semi_major_axis_rs=axis.expand(9),
            impact_parameter=impact.expand(9),
        )  # fmt: skip
        return transit_flux(z, k, 0.3, 0.2)

    assert torch.autograd.gradcheck(light, (k, *orbit), eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("k", [0.01, 0.1, 0.35])
def test_gradients_are_finite_at_contact_points_centre_and_infinity(k):
    z = _tensor([*_contacts(k), 1.5, math.inf]).requires_grad_()
    radius = _tensor(k).requires_grad_()
    by_z, by_k = torch.autograd.grad(transit_flux(z, radius, 0.5, 0.2).sum(), (z, radius))
    assert torch.isfinite(by_z).all()
    assert torch.isfinite(by_k)
    assert by_k < 0.0
    assert by_z[0].abs() < 1e-9  # symmetric about the centre
    assert by_z[-2:].tolist() == [0.0, 0.0]
    assert by_z[3] > 0.0


@pytest.mark.parametrize("k", [0.05, 0.3])
def test_gradients_equal_central_differences(k, rng):
    z = rng.uniform(0.01, 1.0 + k, 300)
    z = z[np.abs(z[:, None] - _contacts(k)[[1, 2, 4]]).min(1) > 5e-3]
    z, k, step = _tensor(z), _tensor(k), 1e-5
    by_z, by_k = covered_gradients(z, k)
    finite_z = (covered_integrals(z + step, k) - covered_integrals(z - step, k)) / (2 * step)
    finite_k = (covered_integrals(z, k + step) - covered_integrals(z, k - step)) / (2 * step)
    tolerance = 2e-5 * float(k)
    np.testing.assert_allclose(by_z, finite_z, rtol=0.0, atol=tolerance)
    np.testing.assert_allclose(by_k, finite_k, rtol=0.0, atol=tolerance)
    assert by_z.abs().amax(1).min() > 1e3 * tolerance
    assert by_k.abs().amax(1).min() > 1e3 * tolerance
