import numpy as np
import pytest

from spectramind.instrument import AIRS, FGS1
from spectramind.simulate.detector import draw_pixels, foreground, image_weights
from spectramind.simulate.population import draw_planet


def test_airs_rows_share_the_light_as_measured(make_settings):
    still = image_weights(AIRS, make_settings().detector)[0]
    rows = still[:, 39:321].mean(1)
    # Source: challenge notes, 6.4.
    np.testing.assert_allclose(rows[14:18], [0.11, 0.27, 0.30, 0.13], atol=0.012)
    assert rows[8:24].sum() == pytest.approx(0.98, abs=0.01)
    np.testing.assert_allclose(still.sum(0), 1.0, atol=2e-3)


def test_fgs1_square_holds_the_measured_share(make_settings):
    still = image_weights(FGS1, make_settings().detector)[0]
    assert still[10:22, 10:22].sum() == pytest.approx(0.949, abs=0.01)


@pytest.mark.parametrize("channel", [FGS1, AIRS])
def test_pointing_and_defocus_move_light_without_losing_it(channel, make_settings):
    weights = image_weights(channel, make_settings().detector)
    assert np.all(abs(weights[1:].reshape(5, -1).sum(1)) < 2e-3 * weights[0].sum())
    rows = np.arange(channel.rows)
    moved = weights[1].sum(1) if channel == FGS1 else weights[1, :, 180]
    assert (rows * moved).sum() == pytest.approx(1.0, abs=0.05)  # centroid follows the star


def test_maps_are_shared_within_a_split_and_exact_when_off(make_settings):
    config = make_settings()
    one, same = (draw_pixels(1, "train", AIRS, config.effects, config.detector) for _ in "ab")
    other = draw_pixels(1, "test", AIRS, config.effects, config.detector)
    np.testing.assert_array_equal(one.flat, same.flat)
    assert not np.array_equal(one.flat, other.flat)
    off = make_settings(effects=dict.fromkeys(type(config.effects).model_fields, False))
    ideal = draw_pixels(1, "train", AIRS, off.effects, off.detector)
    np.testing.assert_array_equal(ideal.flat, 1.0)
    np.testing.assert_array_equal(ideal.dark, 0.0)
    np.testing.assert_array_equal(ideal.read, 0.0)
    np.testing.assert_array_equal(ideal.linear_corr[1], 1.0)
    np.testing.assert_array_equal(ideal.linear_corr[[0, 2, 3, 4, 5]], 0.0)
    assert not ideal.dead.any()


def test_maps_have_the_statistics_of_the_sample_visit(make_settings):
    config = make_settings()
    maps = draw_pixels(1, "train", AIRS, config.effects, config.detector)
    good = ~maps.dead
    assert np.median(maps.read[good]) == pytest.approx(13.0, abs=0.3)
    assert np.median(maps.dark[good]) == pytest.approx(6.3e-3, rel=0.05)
    assert maps.dead.mean() == pytest.approx(1.5e-3, abs=1e-3)
    assert maps.flat[maps.dead].max() < 0.1
    c = np.median(maps.linear_corr[:, good], axis=1)
    at_50k = sum(c[n] * 5e4**n for n in range(6)) / 5e4 - 1
    assert 0.015 < at_50k < 0.025  # 1.7 to 2.3 % at 50 ke-


def test_foreground_follows_its_switch(make_settings):
    config = make_settings()
    planet = draw_planet(1, "train", 0, 0.0, config.population)
    sky = foreground(1, planet, AIRS, config.effects, config.detector)
    assert sky.shape == (356,)
    assert np.ptp(sky) > 0.05 * sky.mean()
    off = make_settings(effects={"foreground": False})
    np.testing.assert_array_equal(foreground(1, planet, AIRS, off.effects, off.detector), 0.0)
