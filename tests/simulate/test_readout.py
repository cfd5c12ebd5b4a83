import numpy as np
import pytest

from spectramind.simulate.readout import (
    Converter,
    PixelPhysics,
    expose,
    linear_signal,
    measured_signal,
)

QUIET = Converter(
    first_s=0.1,
    second_s=4.6,
    merged=1.0,
    shot_noise=False,
    reset_noise_e=0.0,
    full_well_e=np.inf,
    cosmic_rate_s=0.0,
    cosmic_low_e=500.0,
    cosmic_high_e=500.5,
    gain=0.4369,
    offset_e=-1000.0,
)
CURVED = np.array([0.2, 1.004, 5e-8, 1.2e-11, -6e-17, 1.3e-22])


def one_pixel(rate, pairs=4000, read_noise=0.0, corr=(0.0, 1.0, 0.0, 0.0, 0.0, 0.0), **how):
    """Electrons of the two reads of each pair of one pixel."""
    pixel = PixelPhysics(
        column=np.zeros(1, np.int64),
        weights=np.ones((1, 1)),
        foreground=np.zeros(1),
        dark=np.zeros(1),
        read_noise=np.array([read_noise]),
        linear_corr=np.array([corr]),
        seed=np.array([3], np.uint64),
    )
    converter = QUIET._replace(**how)
    star = np.full((1, pairs), rate, np.float32)
    ones = np.ones((1, pairs), np.float32)
    counts, hits = expose(star, ones, ones, pixel, converter)
    electrons = counts[0] / converter.gain + converter.offset_e
    return electrons[0::2], electrons[1::2], hits


def test_charge_grows_with_the_time_since_reset():
    first, second, hits = one_pixel(5000.0)
    assert hits == 0
    np.testing.assert_allclose(first, 500.0, atol=1.2)  # half a count is 1.14 e-
    np.testing.assert_allclose(second, 23000.0, atol=1.2)


def test_shot_noise_is_poisson_and_carried_from_read_to_read():
    first, second, _ = one_pixel(2000.0, pairs=20000, shot_noise=True, gain=1.0)
    assert first.var() == pytest.approx(200.0, rel=0.05)
    assert (second - first).var() == pytest.approx(9000.0, rel=0.05)
    assert abs(np.corrcoef(first, second - first)[0, 1]) < 0.04


def test_reset_noise_cancels_in_the_difference():
    first, second, _ = one_pixel(100.0, reset_noise_e=40.0, gain=1.0)
    assert first.std() == pytest.approx(40.0, rel=0.05)
    assert (second - first).std() < 1.0


def test_merging_lowers_the_noise_by_the_root_of_the_number():
    alone = one_pixel(2000.0, pairs=20000, shot_noise=True, read_noise=30.0, gain=4.0)[1]
    merged = one_pixel(
        2000.0, pairs=20000, shot_noise=True, read_noise=30.0, gain=4.0, merged=25.0
    )[1]
    assert merged.std() == pytest.approx(alone.std() / 5.0, rel=0.04)


def test_linearity_is_the_inverse_of_its_polynomial():
    for charge in (0.0, 100.0, 2e4, 9e4):
        assert linear_signal(measured_signal(charge, CURVED), CURVED) == pytest.approx(
            charge, abs=1e-3
        )
    second = one_pixel(10000.0, corr=CURVED, gain=1.0)[1]
    assert linear_signal(second[0], CURVED) == pytest.approx(46000.0, abs=1.0)


def test_a_pixel_stops_at_its_full_well():
    second = one_pixel(10000.0, full_well_e=30000.0)[1]
    np.testing.assert_allclose(second, 30000.0, atol=1.2)


def test_counts_are_clipped_to_sixteen_bits():
    second = one_pixel(1e6)[1]
    np.testing.assert_allclose(second, 65535 / 0.4369 - 1000.0)


def test_cosmic_rays_come_at_their_rate_with_their_charge():
    first, second, hits = one_pixel(0.0, pairs=20000, cosmic_rate_s=2e-3, gain=1.0)
    assert hits == pytest.approx(20000 * 4.6 * 2e-3, abs=5 * np.sqrt(184.0))
    assert second.sum() == pytest.approx(500.0 * hits, rel=0.01)
    assert np.count_nonzero(first) < np.count_nonzero(second)


def test_a_merged_hit_leaves_its_share_of_the_charge():
    second = one_pixel(0.0, cosmic_rate_s=1e-4, gain=1.0, merged=5.0)[1]
    assert second[second > 0].min() == pytest.approx(100.0, abs=1.0)
