"""Residual structure: white passes, a planted period and a planted correlation are found."""

import numpy as np
import pytest
from scipy import signal, stats

from spectramind.diagnose.residuals import (
    binned_correlation,
    neighbour_correlation,
    residual_power,
    rms_error,
)


def test_white_residuals_follow_the_gamma_law(rng):
    power = residual_power(rng.standard_normal((50, 282)))
    assert power.power.mean() == pytest.approx(1.0, abs=0.05)
    assert np.mean(power.power > power.white_95) < 0.12
    assert power.white_95 == pytest.approx(stats.gamma(50, scale=1 / 50).ppf(0.95))


def test_false_alarms_are_rare(rng):
    p_values = [residual_power(rng.standard_normal((12, 282))).p_value for _ in range(300)]
    assert np.mean(np.array(p_values) < 0.05) <= stats.binom.ppf(0.999, 300, 0.05) / 300
    assert np.mean(np.array(p_values) < 0.5) > 0.2


def test_a_planted_period_is_found(rng):
    wave = 0.7 * np.sin(2 * np.pi * np.arange(282) / 20.0 + rng.uniform(0, 6, (24, 1)))
    power = residual_power(rng.standard_normal((24, 282)) + wave)
    assert power.strongest_period == pytest.approx(20.0, rel=0.05)
    assert power.p_value < 1e-6


def test_a_common_offset_and_the_size_of_sigma_do_not_count(rng):
    z = rng.standard_normal((24, 282))
    shifted = residual_power(5.0 * z + rng.standard_normal((24, 1)))
    np.testing.assert_allclose(shifted.power, residual_power(z).power, rtol=1e-9)


def test_power_of_one_planet_is_the_periodogram(rng):
    z = rng.standard_normal((1, 282))
    unit = (z - z.mean()) / z.std()
    frequency, judge = signal.periodogram(unit[0], window="hann", detrend=False)
    ours = residual_power(z)
    np.testing.assert_allclose(ours.frequency, frequency[2:-1])
    np.testing.assert_allclose(ours.power, judge[2:-1] / 2.0, rtol=1e-9)  # one-sided there


def test_perfect_residuals_have_no_power():
    assert residual_power(np.zeros((4, 282))).power.max() == 0.0


def test_correlation_of_shared_and_of_independent_residuals(rng):
    shared = np.repeat(rng.standard_normal((400, 1)), 283, axis=1)
    edges = np.array([0, 1, 142, 283])
    np.testing.assert_allclose(binned_correlation(shared, edges), 1.0)
    own = binned_correlation(rng.standard_normal((4000, 283)), edges)
    np.testing.assert_allclose(own, np.eye(3), atol=0.08)
    assert neighbour_correlation(shared, 1) == pytest.approx(1.0, abs=0.01)


def test_neighbour_correlation_of_a_moving_average(rng):
    noise = rng.standard_normal((400, 283))
    smooth = (noise[:, 1:] + noise[:, :-1]) / np.sqrt(2.0)
    assert neighbour_correlation(smooth, 1) == pytest.approx(0.5, abs=0.01)
    assert neighbour_correlation(smooth, 2) == pytest.approx(0.0, abs=0.01)


def test_rms_error_by_hand():
    depth = np.array([[1.0, 2.0], [1.0, 2.0]])
    mu = np.array([[4.0, 2.0], [5.0, 2.0]])
    np.testing.assert_allclose(rms_error(depth, mu), [np.sqrt(12.5), 0.0])
