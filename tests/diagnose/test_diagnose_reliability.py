"""Coverage, Winkler, PIT and z^2: hand-computed cases, limits, and the law over planets."""

import numpy as np
import pytest
from scipy import stats

from spectramind.diagnose.reliability import (
    bias_p_value,
    coverage_envelope,
    coverage_p_value,
    gaussian_coverage,
    interval_quality,
    pit_histogram,
    winkler,
    z2_envelope,
    z2_p_value,
)


def test_interval_quality_by_hand():
    depth = np.array([[1.0, 5.0], [2.0, 3.0]])
    lower, upper = np.zeros((2, 2)), np.full((2, 2), 4.0)
    quality = interval_quality("all", 0.9, depth, lower, upper)
    assert quality.coverage == 0.75
    assert quality.width == 4.0
    assert quality.winkler == pytest.approx(4.0 + 20.0 * 1.0 / 4)  # one point misses by 1
    assert winkler(depth, lower, upper, 0.9)[0, 1] == pytest.approx(24.0)


def test_winkler_is_least_at_the_true_quantiles(rng):
    depth = rng.standard_normal((4000, 3))
    right = stats.norm.ppf(0.95)
    scores = [
        winkler(depth, np.full_like(depth, -w), np.full_like(depth, w), 0.9).mean()
        for w in (0.6 * right, right, 1.4 * right)
    ]
    assert scores[1] < min(scores[0], scores[2])


def test_gaussian_coverage_of_normal_residuals(rng):
    levels = np.array([0.1, 0.5, 0.68, 0.9])
    np.testing.assert_allclose(
        gaussian_coverage(rng.standard_normal((500, 200)), levels), levels, atol=0.01
    )


def test_envelope_is_binomial_over_planets():
    low, high = coverage_envelope(24, 0.9, calibration_planets=None, probability=0.95)
    assert (low, high) == (stats.binom.ppf(0.025, 24, 0.9) / 24, 1.0)


def test_conformal_envelope_matches_simulated_calibration(rng):
    """Calibrate on 19 planets, count on 24, many times: the beta-binomial law."""
    calibration = np.sort(np.abs(rng.standard_normal((20000, 19))), axis=1)
    covered = (np.abs(rng.standard_normal((20000, 24))) <= calibration[:, [17]]).mean(1)
    low, high = coverage_envelope(24, 0.9, calibration_planets=19, probability=0.9)
    assert covered.mean() == pytest.approx(0.9, abs=0.005)
    assert 0.9 <= np.mean((covered >= low) & (covered <= high)) <= 0.98
    gaussian = coverage_envelope(24, 0.9, calibration_planets=None, probability=0.9)
    assert low < gaussian[0]


def test_many_calibration_planets_give_the_binomial_law():
    conformal = coverage_p_value(0.75, 24, 0.9, calibration_planets=99999)
    assert conformal == pytest.approx(
        coverage_p_value(0.75, 24, 0.9, calibration_planets=None), rel=1e-2
    )


def test_p_values_of_one_wavelength_are_not_too_small(rng):
    """At one wavelength the laws are exact (coverage: conservative, counts are discrete)."""
    draws = rng.standard_normal((500, 24, 1))
    inside = (np.abs(draws) <= stats.norm.ppf(0.95)).mean((1, 2))
    for p_values in (
        [z2_p_value(z) for z in draws],
        [bias_p_value(z) for z in draws],
        [coverage_p_value(float(c), 24, 0.9, calibration_planets=None) for c in inside],
    ):
        assert np.mean(np.array(p_values) < 0.05) <= stats.binom.ppf(0.9999, 500, 0.05) / 500


def test_z2_and_bias_p_values_are_uniform_when_calibrated(rng):
    draws = rng.standard_normal((1000, 24, 1))
    assert stats.kstest([z2_p_value(z) for z in draws], "uniform").pvalue > 1e-3
    assert stats.kstest([bias_p_value(z) for z in draws], "uniform").pvalue > 1e-3


def test_z2_envelope_closes_in_with_planets():
    few, many = z2_envelope(10, 0.95), z2_envelope(10000, 0.95)
    assert few[0] < many[0] < 1.0 < many[1] < few[1]
    assert many == pytest.approx((1.0, 1.0), abs=0.03)


def test_pit_is_flat_when_right_and_u_shaped_when_over_confident(rng):
    z = rng.standard_normal((400, 283))
    np.testing.assert_allclose(pit_histogram(z, 10), 0.1, atol=0.003)
    over = pit_histogram(2.0 * z, 10)
    assert over[0] > 0.2
    assert over[-1] > 0.2
    assert pit_histogram(z, 10).sum() == pytest.approx(1.0)
