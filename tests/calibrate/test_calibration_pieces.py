"""Masks, background, cosmic rays and settings: the pure pieces."""

import numpy as np
import pytest
from calibration_scenes import flat_maps, with_keys
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spectramind.calibrate.background import (
    fgs1_aperture,
    running_mean,
    smoothing_width,
    star_position,
)
from spectramind.calibrate.cosmic import noise, reject, sampled_pairs
from spectramind.calibrate.kernel import _median
from spectramind.calibrate.masks import donors, hot_pixels, inpaint
from spectramind.errors import DataError
from spectramind.instrument import FGS1


def test_hot_pixels_are_found_and_dead_ones_are_not_called_hot():
    rng = np.random.default_rng(0)
    dark = rng.normal(5.0, 0.5, (32, 32))
    dead = np.zeros((32, 32), dtype=bool)
    dark[3, 4], dark[5, 6], dead[5, 6] = 80.0, np.nan, True
    found = np.argwhere(hot_pixels(dark, dead, 5.0))
    assert found.tolist() == [[3, 4]]


def test_a_dead_pixel_on_a_linear_gradient_is_inpainted_exactly():
    image = np.add.outer(np.zeros(4), 3.0 * np.arange(9.0))
    usable = np.ones(image.shape, dtype=bool)
    usable[1, 4:6] = False
    broken = np.where(usable, image, -99.0)
    filled = inpaint(broken, usable, np.ones_like(usable), across=False, where="here")
    np.testing.assert_allclose(filled, image, rtol=1e-14)


def test_donors_prefer_both_axes_on_fgs1_and_one_side_at_the_edge():
    usable = np.ones((5, 5), dtype=bool)
    usable[2, 2] = usable[0, 0] = False
    assert sorted(donors(usable, 2, 2, across=True)) == [
        (1, 2, 0.25), (2, 1, 0.25), (2, 3, 0.25), (3, 2, 0.25),
    ]  # fmt: skip
    assert donors(usable, 0, 0, across=False) == [(0, 1, 1.0)]


def test_a_row_without_usable_pixels_is_an_error():
    usable = np.ones((3, 5), dtype=bool)
    usable[1] = False
    with pytest.raises(
        DataError,
        match=r"^here: row 1 has no usable pixel from which column 0 could be filled. Fetch the "
        r"calibration files again, or set calibration.hot_mask=false if it is on.$",
    ):
        inpaint(np.ones((3, 5)), usable, np.ones_like(usable), across=False, where="here")


@given(st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=40), st.floats(0.0, 1e4))
def test_a_monotone_series_has_no_cosmic_rays(values, threshold):
    for series in (np.sort(values), np.sort(values)[::-1].copy()):
        clean, hits = reject(series, np.array(threshold))
        assert not hits.any()
        np.testing.assert_array_equal(clean, series)


@pytest.mark.parametrize("at", [[1], [20], [20, 21], [38], [10, 30]])
def test_spikes_are_replaced_also_two_in_a_row(at):
    series = np.linspace(100.0, 139.0, 40)
    spiked = series.copy()
    spiked[at] += 500.0
    clean, hits = reject(spiked, np.array(50.0))
    assert np.flatnonzero(hits).tolist() == at
    np.testing.assert_allclose(clean, series, atol=1.5)


def test_first_and_last_values_are_not_tested():
    series = np.zeros(10)
    series[[0, -1]] = 1e6
    clean, hits = reject(series, np.array(1.0))
    assert not hits.any()
    np.testing.assert_array_equal(clean, series)


def test_noise_is_that_of_a_gaussian_and_blind_to_transit_and_spikes():
    rng = np.random.default_rng(1)
    series = rng.normal(0.0, 20.0, 20000) + 1e3 * np.linspace(-1.0, 1.0, 20000) ** 2
    series[::1000] += 1e5
    # 256 differences: the median of |d| scatters by about 7 %
    assert noise(series[None], 1.0)[0] == pytest.approx(20.0, rel=0.3)
    assert noise(np.full((1, 50), 3.0), 2.3)[0] == 2.3
    assert noise(np.array([[5.0]]), 2.3)[0] == 2.3


@given(st.integers(1, 5000))
def test_sampled_pairs_have_a_successor(pairs):
    sample = sampled_pairs(pairs)
    assert 1 <= sample.size <= 256
    assert np.all(np.diff(sample) > 0)
    assert sample[0] == 0
    assert sample[-1] < max(pairs - 1, 1)


def test_running_mean_keeps_a_constant_and_shortens_at_the_ends():
    series = np.stack([np.full(20, 7.0), np.arange(20.0)])
    smooth = running_mean(series, 5)
    np.testing.assert_allclose(smooth[0], 7.0, rtol=1e-14)
    np.testing.assert_allclose(smooth[1, 2:-2], np.arange(2.0, 18.0), rtol=1e-13)
    assert smooth[1, 0] == pytest.approx(1.0)
    np.testing.assert_array_equal(running_mean(series, 1), series)


def test_smoothing_width_follows_the_cadence():
    assert smoothing_width(np.arange(100) * 4.8 / 3600.0, 240.0) == 50
    assert smoothing_width(np.arange(100) * 216.0 / 3600.0, 240.0) == 1
    assert smoothing_width(np.array([0.1]), 240.0) == 1


def star_image(row: float, column: float) -> np.ndarray:
    rows, columns = np.indices(FGS1.shape)
    return 1e4 * np.exp(-0.5 * ((rows - row) ** 2 + (columns - column) ** 2) / 1.5**2) + 3.0


def test_the_star_is_found_beside_a_dead_pixel():
    usable = np.ones(FGS1.shape, dtype=bool)
    image = star_image(14.3, 17.8)
    usable[2, 2], image[2, 2] = False, 1e9
    assert star_position(image, usable, "here") == pytest.approx((14.3, 17.8), abs=0.2)


def test_the_aperture_stays_on_the_detector():
    usable = np.ones(FGS1.shape, dtype=bool)
    aperture = fgs1_aperture(star_image(4.0, 29.0), usable, 24, 100, foreground=True, where="here")
    rows, columns = np.nonzero(aperture.flux == 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 23, 8, 31)
    assert (aperture.foreground == 0).sum() == 100
    assert not np.any((aperture.foreground == 0) & (aperture.flux == 0))


def test_no_star_and_no_foreground_pixels_are_errors():
    usable = np.ones(FGS1.shape, dtype=bool)
    with pytest.raises(DataError, match=r"^here: no pixel is brighter than the median one, so"):
        star_position(np.full(FGS1.shape, 5.0), usable, "here")
    with pytest.raises(
        DataError,
        match=r"^here: 63 usable pixels lie outside the aperture, "
        r"calibration.fgs1_foreground_pixels asks for 100. Lower it, or "
        r"calibration.fgs1_aperture.$",
    ):
        fgs1_aperture(star_image(16, 16), usable, 31, 100, foreground=True, where="here")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"airs_rows": (24, 8)}, r"airs_rows is \[24, 8\], expected first < last"),
        ({"adc": False}, "work on electrons and need calibration.adc=true; switch them off too"),
        ({"airs_rows": (4, 24)}, r"airs_rows \[4, 24\] overlaps the 8 foreground rows on each"),
        ({"cosmic_sigma": 1.0}, "greater than or equal to 3"),
        ({"dead_pixels": "drop"}, "'inpaint' or 'zero_weight'"),
        ({"cosmic_rayz": True}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, keys, sentence):
    with pytest.raises(ValidationError, match=sentence):
        with_keys(config, **keys)


def test_perfect_maps_have_no_hot_pixels():
    maps = flat_maps(FGS1)
    assert not hot_pixels(maps.dark, maps.dead, 5.0).any()


def test_the_kernels_median_is_numpys(rng):
    for size in range(1, 140):
        for values in (rng.normal(size=size), rng.integers(-3, 4, size) * 1.0, np.ones(size)):
            assert _median(values.copy()) == np.median(values)
