"""Noise metrics against their definitions, scipy, and noise of known colour."""

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from spectramind.errors import DataError
from spectramind.observation import VisitFit
from spectramind.transit.metrics import (
    allan_deviation,
    ingress_duration_s,
    lag1_autocorrelation,
    median_absolute_deviation,
    noise_metrics,
    on_regular_grid,
    red_noise_ratio,
    skewness,
    visit_noise,
    white_light,
)

ELECTRONS = 1e8  # photon noise 100 ppm


def autoregressive(rng, phi, bins, series):
    return lfilter([1.0], [1.0, -phi], rng.standard_normal((bins + 500, series)), axis=0)[500:]


def visit_of(residual, time_h=None):
    bins = residual.shape[0]
    time = np.arange(bins) / 30.0 if time_h is None else time_h
    model = np.full((bins, 283), 0.99)
    return VisitFit(
        visit=0,
        time_h=time,
        flux=(model + residual).astype(np.float32),
        model=model.astype(np.float32),
        electrons=np.full(283, ELECTRONS, np.float32),
        fgs1_time_h=time,
        fgs1_flux=np.ones(bins, np.float32),
        fgs1_model=np.ones(bins, np.float32),
        fgs1_centroid=np.zeros((bins, 2), np.float32),
    )


def test_white_noise_has_every_metric_of_white_noise(rng):
    residual = 1e-4 * rng.standard_normal((225, 400))
    found = noise_metrics(residual, np.full(400, ELECTRONS), bin_s=120.0, red_noise_s=1200.0)
    assert found.series == 400
    assert found.bins == 225
    assert found.photon_ppm == pytest.approx(100.0)
    assert found.photon_ratio == pytest.approx(1.0, abs=0.01)
    assert found.rms_ppm == pytest.approx(100.0, rel=0.01)
    assert found.mad_ppm == pytest.approx(100.0 * stats.norm.ppf(0.75), rel=0.02)
    assert found.red_noise_s == 1200.0
    assert found.beta == pytest.approx(1.0, abs=0.04)  # the median lies below the mean
    assert found.lag1 == pytest.approx(-1 / 225, abs=0.015)
    assert found.skewness == pytest.approx(0.0, abs=0.03)
    short = slice(0, 12)  # the median of few degrees of freedom falls below the mean
    tau, deviation = found.allan.tau_s[short], found.allan.deviation_ppm[short]
    assert np.polyfit(np.log(tau), np.log(deviation), 1)[0] == pytest.approx(-0.5, abs=0.02)


def test_electrons_scale_the_photon_ratio(rng):
    residual = 1e-4 * rng.standard_normal((400, 1))
    one, four = (
        noise_metrics(residual, np.array([e]), bin_s=60.0, red_noise_s=600.0).photon_ratio
        for e in (ELECTRONS, 4.0 * ELECTRONS)
    )
    assert four == pytest.approx(2.0 * one)


def test_allan_deviation_is_its_definition(rng):
    residual = rng.standard_normal((60, 2))
    allan = allan_deviation(residual, 10.0)
    for tau, found in zip(allan.tau_s, allan.deviation_ppm, strict=True):
        m = round(tau / 10.0)
        means = np.stack([residual[i : i + m].mean(0) for i in range(61 - m)])
        expected = np.sqrt(0.5 * np.mean((means[m:] - means[:-m]) ** 2, axis=0))
        np.testing.assert_allclose(found, 1e6 * expected, rtol=1e-10)
    assert allan.tau_s[-1] == 200.0


def test_allan_slope_of_a_random_walk_is_plus_one_half(rng):
    walk = np.cumsum(rng.standard_normal((2000, 100)), axis=0)
    allan = allan_deviation(walk, 60.0)
    part = slice(6, -6)  # the slope is reached at long times, and known well at short ones
    found = np.sqrt(np.mean(allan.deviation_ppm[part] ** 2, axis=1))
    assert np.polyfit(np.log(allan.tau_s[part]), np.log(found), 1)[0] == pytest.approx(
        0.5, abs=0.03
    )


def test_white_expectation_and_its_error_are_those_of_white_noise(rng):
    allan = allan_deviation(rng.standard_normal((225, 3000)), 120.0)
    root = np.sqrt(np.mean(allan.deviation_ppm**2, axis=1))
    expected = np.sqrt(np.mean(allan.white_ppm**2, axis=1))
    np.testing.assert_allclose(root, expected, rtol=0.03)
    np.testing.assert_allclose(expected, 1e6 / np.sqrt(allan.tau_s / 120.0), rtol=0.01)
    scatter = np.std(allan.deviation_ppm**2, axis=1) / root**2
    claimed = 2.0 * np.mean(allan.white_error_ppm, axis=1) / expected  # of the variance
    np.testing.assert_allclose(claimed, scatter, rtol=0.1)


def test_gaps_leave_white_noise_white(rng):
    residual = rng.standard_normal((300, 2000))
    residual[rng.random(300) < 0.25] = np.nan
    residual[100:130] = np.nan
    allan = allan_deviation(residual, 1.0)
    root = np.sqrt(np.mean(allan.deviation_ppm**2, axis=1))
    np.testing.assert_allclose(root, np.sqrt(np.mean(allan.white_ppm**2, axis=1)), rtol=0.04)
    assert np.sqrt(np.mean(red_noise_ratio(residual, 10) ** 2)) == pytest.approx(1.0, abs=0.03)


def test_windows_that_are_never_full_have_no_deviation():
    residual = np.full((40, 1), np.nan)
    residual[:5, 0] = [0.0, 1.0, 0.0, 1.0, 0.0]
    allan = allan_deviation(residual, 1.0)
    assert np.isfinite(allan.deviation_ppm[0, 0])
    assert np.isnan(allan.deviation_ppm[-1, 0])


@pytest.mark.parametrize("phi", [-0.3, 0.5, 0.9])
def test_beta_of_autoregressive_noise_is_the_known_one(rng, phi):
    bins, lags = 10, np.arange(1, 10)
    expected = np.sqrt(1.0 + 2.0 * np.sum((1.0 - lags / bins) * phi**lags))
    series = autoregressive(rng, phi, 8000, 30)
    found = np.sqrt(np.mean(red_noise_ratio(series, bins) ** 2))
    assert found == pytest.approx(expected, rel=0.02)
    assert np.median(lag1_autocorrelation(series)) == pytest.approx(phi, abs=0.01)


def test_beta_of_separate_windows_is_that_of_winn():
    series = np.repeat([1.0, -1.0, 1.0, -1.0], 10)[:, None]  # red: each window of 10 is constant
    blocks = series.reshape(4, 10).mean(axis=1)
    winn = np.std(blocks) / (np.std(series, ddof=1) / np.sqrt(10) * np.sqrt(4 / 3))
    assert winn == pytest.approx(np.sqrt(10 * 39 / 40 * 3 / 4))
    alone = np.where(np.arange(40)[:, None] % 10 == 0, series, np.nan)  # four values, no window
    assert np.isnan(red_noise_ratio(alone, 10)[0])
    assert red_noise_ratio(series, 1)[0] == pytest.approx(1.0)


def test_beta_of_a_series_shorter_than_two_windows_is_not_a_number(rng):
    residual = rng.standard_normal((20, 1))
    assert np.isnan(red_noise_ratio(residual, 11)[0])
    assert np.isfinite(red_noise_ratio(residual, 10)[0])
    assert np.isnan(red_noise_ratio(np.full((20, 1), np.nan), 2)[0])


def test_scipy_agrees_with_missing_values(rng):
    residual = rng.gamma(2.0, size=(100, 3))
    residual[rng.random((100, 3)) < 0.2] = np.nan
    np.testing.assert_allclose(skewness(residual), stats.skew(residual, nan_policy="omit"))
    np.testing.assert_allclose(
        median_absolute_deviation(residual),
        stats.median_abs_deviation(residual, nan_policy="omit"),
    )


def test_numpy_agrees_with_the_autocorrelation(rng):
    series = autoregressive(rng, 0.6, 20000, 1)
    judge = np.corrcoef(series[1:, 0], series[:-1, 0])[0, 1]
    assert lag1_autocorrelation(series)[0] == pytest.approx(judge, abs=1e-3)


def test_constant_residuals_have_no_shape():
    residual = np.zeros((30, 1))
    assert np.isnan(skewness(residual)[0])
    assert np.isnan(lag1_autocorrelation(residual)[0])
    assert median_absolute_deviation(residual)[0] == 0.0


def test_metrics_do_not_change_with_units_or_sign(rng):
    residual = autoregressive(rng, 0.4, 200, 1)
    electrons = np.array([ELECTRONS])
    one = noise_metrics(residual, electrons, bin_s=60.0, red_noise_s=600.0)
    other = noise_metrics(-3.0 * residual, electrons, bin_s=60.0, red_noise_s=600.0)
    assert other.rms_ppm == pytest.approx(3.0 * one.rms_ppm)
    assert other.beta == pytest.approx(one.beta)
    assert other.lag1 == pytest.approx(one.lag1)
    assert other.skewness == pytest.approx(-one.skewness)


def test_a_visit_has_three_kinds_of_metrics(rng):
    electrons = np.full(283, ELECTRONS)
    electrons[0] *= 4.0
    residual = rng.standard_normal((225, 283)) / np.sqrt(electrons)
    residual[:, 40] = 5.0  # a wavelength without flux is left out
    electrons[40] = 0.0
    found = visit_noise(visit_of(residual), electrons, red_noise_s=1200.0)
    assert found.fgs1.photon_ppm == pytest.approx(50.0)
    assert found.airs.series == 281
    assert found.airs_white.photon_ppm == pytest.approx(100.0 / np.sqrt(281))
    for part in (found.fgs1, found.airs_white):
        assert part.photon_ratio == pytest.approx(1.0, abs=4.0 / np.sqrt(2 * 225))
    assert found.airs.photon_ratio == pytest.approx(1.0, abs=0.01)
    assert found.airs.bin_s == pytest.approx(120.0)


def test_common_noise_shows_in_white_light_only(rng):
    electrons = np.full(283, ELECTRONS)
    residual = rng.standard_normal((225, 283)) / np.sqrt(electrons)
    residual += 3e-5 * rng.standard_normal((225, 1))
    found = visit_noise(visit_of(residual), electrons, red_noise_s=1200.0)
    assert found.airs.photon_ratio < 1.1
    assert found.airs_white.photon_ratio == pytest.approx(
        np.sqrt(1 + 0.09 * 282), abs=0.25 * np.sqrt(1 + 0.09 * 282)
    )


def test_short_series_with_gaps_are_measured(rng):
    residual = 1e-4 * rng.standard_normal((23, 283))
    residual[5:8] = np.nan
    found = visit_noise(visit_of(residual), np.full(283, ELECTRONS), red_noise_s=1200.0)
    assert found.fgs1.bins == 20
    assert np.isfinite(found.airs_white.beta)
    assert np.isfinite(found.airs.allan.deviation_ppm).all()


def test_a_missing_channel_has_no_metrics(rng):
    residual = 1e-4 * rng.standard_normal((50, 283))
    residual[:, 1:] = np.nan
    found = visit_noise(visit_of(residual), np.full(283, ELECTRONS), red_noise_s=1200.0)
    assert found.fgs1 is not None
    assert found.airs is None
    assert found.airs_white is None
    electrons = np.full(283, np.nan)
    electrons[1:] = ELECTRONS
    found = visit_noise(visit_of(residual), electrons, red_noise_s=1200.0)
    assert found.fgs1 is None


def test_times_move_to_the_nearest_grid_points(rng):
    index = np.sort(rng.permutation(60)[:50])
    time = 1.0 + (index + 0.3 * rng.uniform(-1, 1, 50)) / 30.0
    values = np.arange(50.0)[:, None]
    grid, step = on_regular_grid(index / 30.0, values, where="")
    assert step == pytest.approx(120.0)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(grid[:, 0])), index - index[0])
    np.testing.assert_array_equal(grid[index - index[0], 0], values[:, 0])
    order = rng.permutation(50)
    shuffled, _ = on_regular_grid(time[order], values[order], where="")
    sorted_, _ = on_regular_grid(time, values, where="")
    np.testing.assert_array_equal(shuffled, sorted_)


def test_times_that_jitter_keep_their_places(rng):
    late = rng.uniform(-0.24, 0.24, 300)
    values = rng.standard_normal((300, 1))
    grid, step = on_regular_grid((np.arange(300) + late) / 30.0, values, where="")
    np.testing.assert_array_equal(grid, values)
    assert step == pytest.approx(120.0, rel=1e-3)


def test_values_at_one_time_are_averaged():
    time = np.append(np.arange(20.0), 3.0)
    grid, _ = on_regular_grid(time, np.append(np.zeros(20), 1.0)[:, None], where="")
    assert grid[3, 0] == 0.5
    assert grid.shape == (20, 1)


def test_white_light_is_the_flux_of_all_wavelengths(rng):
    flux = rng.uniform(1.0, 2.0, (30, 4))
    electrons = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(white_light(flux, electrons), flux @ electrons / 10.0)
    flux[0, 2:] = np.nan  # 7 of 10 electrons missing
    flux[1, 0] = np.nan
    mean = white_light(flux, electrons)
    assert np.isnan(mean[0])
    assert mean[1] == pytest.approx(flux[1, 1:] @ electrons[1:] / 9.0)


def ingress(b, k=0.1, a=10.0):
    return ingress_duration_s(
        period_d=4.0, semi_major_axis_rs=a, impact_parameter=b, radius_ratio=k
    )


@pytest.mark.parametrize("b", [0.0, -0.5, 0.85])
def test_ingress_is_the_time_between_contacts(b):
    time = np.linspace(-12.0, 0.0, 200_001) * 3600.0
    phase = 2.0 * np.pi * time / (4.0 * 86400.0)
    z = np.sqrt((10.0 * np.sin(phase)) ** 2 + (b * np.cos(phase)) ** 2)
    first, second = (time[np.argmax(z < edge)] for edge in (1.1, 0.9))
    assert ingress(b) == pytest.approx(second - first, abs=1.0)


def test_ingress_of_a_grazing_planet_is_half_the_transit():
    time = np.linspace(-12.0, 0.0, 200_001) * 3600.0
    phase = 2.0 * np.pi * time / (4.0 * 86400.0)
    z = np.sqrt((10.0 * np.sin(phase)) ** 2 + np.cos(phase) ** 2)
    assert ingress(1.0) == pytest.approx(-time[np.argmax(z < 1.1)], abs=1.0)


@pytest.mark.parametrize(("b", "a"), [(1.2, 10.0), (0.0, 1.05), (float("nan"), 10.0)])
def test_no_ingress_is_refused(b, a):
    with pytest.raises(DataError, match=r"No ingress .* expected b < 1 \+ k <= a\. Check the"):
        ingress(b, a=a)


def test_series_that_are_too_short_are_refused(rng):
    residual = rng.standard_normal((30, 2))
    residual[:11, 1] = np.nan
    with pytest.raises(DataError, match=r"holds 19 finite bins, at least 20 are needed\. Lower"):
        noise_metrics(residual, np.full(2, ELECTRONS), bin_s=60.0, red_noise_s=600.0)
    with pytest.raises(DataError, match="holds 0 finite bins"):
        noise_metrics(residual[:, :0], np.zeros(0), bin_s=60.0, red_noise_s=600.0)
    with pytest.raises(DataError, match=r"Visit 0: 12 different times, at least 20 are needed"):
        visit_noise(visit_of(np.zeros((12, 283))), np.ones(283), red_noise_s=600.0)


def test_series_without_electrons_are_refused(rng):
    with pytest.raises(DataError, match=r"0 electrons per bin, expected a positive number\. Le"):
        noise_metrics(rng.standard_normal((30, 1)), np.zeros(1), bin_s=60.0, red_noise_s=600.0)


def test_times_of_two_epochs_are_refused():
    time = np.append(np.arange(25.0), 1e5)
    with pytest.raises(DataError, match=r"Visit 7: 26 times 3600 s apart reach over 100000 h, .*"):
        on_regular_grid(time, np.zeros((26, 1)), where="Visit 7")
