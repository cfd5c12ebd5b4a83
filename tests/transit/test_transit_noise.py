import numpy as np
import pytest

from spectramind.transit.limb_darkening import quadratic_coefficients
from spectramind.transit.noise import Noise, estimate_noise


def _estimate(residual, time_h, sigma):
    basis = np.polynomial.chebyshev.chebvander(2 * time_h / time_h[-1] - 1, 3)
    left = residual - basis @ np.linalg.lstsq(basis, residual, rcond=None)[0]
    pull = basis.T @ left / sigma**2
    return estimate_noise(left, basis, 1e-6 * np.eye(4), pull, time_h=time_h, sigma=sigma)


def test_whitened_noise_is_independent():
    noise = Noise(2.0, 3.0, 0.4)
    time = np.linspace(0.0, 7.5, 60)
    whitener = noise.whitener(time)
    np.testing.assert_allclose(
        whitener @ noise.covariance(time) @ whitener.T, np.eye(60), atol=1e-10
    )


def test_white_noise_is_called_white():
    rng = np.random.default_rng(0)
    time = np.linspace(0.0, 7.5, 200)
    found = [_estimate(rng.normal(0.0, 2.0, 200), time, 2.0) for _ in range(20)]
    assert np.mean([noise.ratio for noise in found]) < 0.3
    assert np.mean([noise.sigma for noise in found]) == pytest.approx(2.0, rel=0.05)


def test_correlated_noise_is_seen_and_sized():
    rng = np.random.default_rng(1)
    time = np.linspace(0.0, 7.5, 200)
    root = np.linalg.cholesky(Noise(2.0, 3.0, 0.3).covariance(time))
    found = [_estimate(root @ rng.normal(size=200), time, 2.0) for _ in range(20)]
    variance = [noise.sigma**2 * noise.ratio for noise in found]
    assert np.median(variance) == pytest.approx(12.0, rel=0.5)


def test_limb_darkening_meets_its_table_and_falls_with_wavelength():
    pair = quadratic_coefficients(5485.0, np.array([0.70, 1.0, 1.65, 2.0, 3.9]))
    np.testing.assert_allclose(pair[:3], [[0.46, 0.18], [0.31, 0.19], [0.12, 0.29]])
    assert (np.diff(pair[:, 0]) < 0.0).all()
    hot = quadratic_coefficients(9000.0, np.array([0.5, 9.0]))
    np.testing.assert_allclose(hot, [[0.375, 0.21], [0.05, 0.15]])
