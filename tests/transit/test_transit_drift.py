import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev as numpy_chebyshev

from spectramind.transit.drift import chebyshev, chebyshev_slopes, log_gain

X = torch.linspace(-1.2, 1.2, 31, dtype=torch.float64)


@pytest.mark.parametrize("order", [0, 1, 2, 5, 8])
def test_polynomials_equal_those_of_numpy(order):
    found = chebyshev(X.reshape(1, 31), order)
    assert found.shape == (1, 31, order + 1)
    np.testing.assert_allclose(found[0], numpy_chebyshev.chebvander(X.numpy(), order), atol=1e-12)


@pytest.mark.parametrize("order", [0, 1, 2, 5, 8])
def test_slopes_equal_those_of_numpy(order):
    expected = [
        numpy_chebyshev.chebval(X.numpy(), numpy_chebyshev.chebder(row))
        for row in np.eye(order + 1)
    ]
    found = chebyshev_slopes(X, order)
    assert found.shape == (31, order + 1)
    np.testing.assert_allclose(found, np.stack(expected, -1), atol=1e-11)


def _drift(rng, planets=2, visits=3, orders=3, terms=4, bins=7, columns=5):
    fgs1 = 0.01 * rng.normal(size=(planets, visits, orders))
    airs = 0.01 * rng.normal(size=(planets, visits, orders, terms))
    tau = rng.uniform(-1, 1, (planets, visits, 2, bins))
    place = np.linspace(-1.0, 1.0, columns)
    time = chebyshev(torch.tensor(tau), orders)[..., 1:]
    wavelength = chebyshev(torch.tensor(place), terms - 1)
    return fgs1, airs, tau, place, time, wavelength


def test_log_gain_is_the_double_sum_of_its_formula(rng):
    fgs1, airs, tau, place, time, wavelength = _drift(rng)
    found = log_gain(torch.tensor(fgs1), torch.tensor(airs), time, wavelength).numpy()
    assert found.shape == (2, 3, 6, 7)
    for b in range(2):
        for v in range(3):
            first = numpy_chebyshev.chebval(tau[b, v, 0], [0.0, *fgs1[b, v]])
            np.testing.assert_allclose(np.exp(found[b, v, 0]), 1.0 + first, rtol=1e-12)
            table = np.vstack([np.zeros(4), airs[b, v]])
            others = numpy_chebyshev.chebgrid2d(tau[b, v, 1], place, table).T
            np.testing.assert_allclose(np.exp(found[b, v, 1:]), 1.0 + others, rtol=1e-12)


def test_a_product_of_time_and_wavelength_lies_in_the_drift(rng):
    """1 + f(t) g(w) with polynomials f and g is met exactly by the coefficients a_i b_j."""
    fgs1, airs, tau, place, time, wavelength = _drift(rng)
    f, g = rng.normal(size=3), 0.01 * rng.normal(size=4)
    product = np.broadcast_to(np.outer(f, g), airs.shape).copy()
    gain = log_gain(torch.tensor(fgs1), torch.tensor(product), time, wavelength).exp().numpy()
    along = numpy_chebyshev.chebval(place, g)
    for b in range(2):
        for v in range(3):
            course = numpy_chebyshev.chebval(tau[b, v, 1], [0.0, *f])
            np.testing.assert_allclose(gain[b, v, 1:] - 1.0, np.outer(along, course), atol=1e-12)
    singular = np.linalg.svd(gain[0, 0, 1:] - 1.0, compute_uv=False)
    assert singular[1] < 1e-10 * singular[0]


def test_projection_of_a_product_gives_its_coefficients_without_the_constant_in_time(rng):
    """Least squares in T_0..T_I x T_0..T_J of f(t) g(w): c_ij = f_i g_j; f_0 is the star's."""
    f, g = rng.normal(size=4), rng.normal(size=3)
    tau, place = np.linspace(-1, 1, 40), np.linspace(-1, 1, 25)
    surface = np.outer(numpy_chebyshev.chebval(tau, f), numpy_chebyshev.chebval(place, g))
    time, wavelength = (chebyshev(torch.tensor(x), n) for x, n in ((tau, 3), (place, 2)))
    grid = torch.einsum("ti,wj->twij", time, wavelength).reshape(1000, 12)
    solved = torch.linalg.lstsq(grid, torch.tensor(surface).reshape(-1, 1)).solution
    np.testing.assert_allclose(solved.reshape(4, 3), np.outer(f, g), atol=1e-10)
