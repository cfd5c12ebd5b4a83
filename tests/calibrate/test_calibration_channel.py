"""The two chains are one, and they undo the detector."""

from dataclasses import replace

import numpy as np
import pytest
from calibration_scenes import (
    Scene,
    core_pixel,
    expose,
    flat_maps,
    hit,
    make_scene,
    real_maps,
    star_flux,
    with_keys,
)

from spectramind.calibrate import fused, reference
from spectramind.errors import DataError
from spectramind.instrument import AIRS, FGS1, SCORED_COLUMNS, Channel

BOTH = pytest.mark.parametrize("channel", [FGS1, AIRS], ids=lambda channel: channel.name)
COUNT_E = 1.0 / 0.4369  # [e-]


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    """Everything at once: dirty maps, noise, foreground, jitter and a cosmic ray."""
    found = {}
    for channel in (FGS1, AIRS):
        maps = real_maps(channel, np.random.default_rng(3))
        scene = make_scene(channel, maps=maps, noise=True, foreground_e=40.0, jitter=0.2)
        frames = hit(scene.frames, core_pixel(channel), 17, 2e4)
        found[channel.name] = replace(scene, frames=frames)
    return found


@BOTH
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"dead_pixels": "zero_weight", "hot_mask": True},
        {"foreground": False, "foreground_smooth_s": 0.0},
        {"cosmic_rays": False, "linearity": False, "dark": False},
        {"flat": False, "adc": False, "linearity": False, "dark": False},
    ],
    ids=lambda keys: "-".join(keys) or "all",
)
def test_kernel_equals_reference(config, scenes, channel, keys):
    scene, settings = scenes[channel.name], with_keys(config, **keys)
    fast = fused.calibrate_channel(scene.frames, scene.maps, settings)
    exact = reference.calibrate_channel(scene.frames, scene.maps, settings)
    np.testing.assert_allclose(fast.flux_e, exact.flux_e, rtol=1e-12)
    np.testing.assert_allclose(fast.centroid, exact.centroid, rtol=1e-11)
    np.testing.assert_allclose(fast.foreground_e, exact.foreground_e, rtol=1e-11, atol=1e-11)
    assert fast.read_ratio == pytest.approx(exact.read_ratio, rel=1e-12)
    for fact in ("pixels", "masked", "hot", "cosmic_rays", "full_scale"):
        assert getattr(fast, fact) == getattr(exact, fact), fact


def test_kernel_equals_reference_across_blocks(config):
    """A series longer than a block and a span of the kernel, hits on both sides of the seams."""
    scene = make_scene(FGS1, pairs=8200)
    rng = np.random.default_rng(0)
    counts = np.array(scene.frames.reads)
    counts[:, 1::2] += rng.integers(0, 40, counts[:, 1::2].shape, dtype=np.uint16)
    frames = replace(scene.frames, reads=list(counts))
    for pair in (4094, 4095, 4096, 8191):
        frames = hit(frames, 16 * 32 + 16, pair, 3e4)
        frames = hit(frames, 15 * 32 + 14, pair - 1, 3e4)
    for pair in (511, 1024, 1537, 4096, 8192):  # last, first and second of a block, and of a span
        frames = hit(frames, 17 * 32 + 15, pair, 3e4)
    fast = fused.calibrate_channel(frames, scene.maps, config)
    exact = reference.calibrate_channel(frames, scene.maps, config)
    np.testing.assert_allclose(fast.flux_e, exact.flux_e, rtol=1e-12)
    # three in a row are not told from a signal where both lower neighbours are hit, too
    assert fast.cosmic_rays == exact.cosmic_rays > 0


def aperture_light(channel: Channel, light_e: np.ndarray) -> np.ndarray:
    """Light (C, T) that falls into the aperture."""
    if channel == AIRS:
        return light_e[8:24, SCORED_COLUMNS].sum(0)
    return light_e[4:28, 4:28].sum((0, 1))[None]


def perfect(channel: Channel) -> Scene:
    return make_scene(channel)


def with_maps(channel: Channel, **changes: np.ndarray) -> Scene:
    return make_scene(channel, maps=replace(flat_maps(channel), **changes))


def effect(channel: Channel, name: str) -> Scene:
    """A scene with one detector effect and no noise but the rounding of the converter."""
    maps = real_maps(channel, np.random.default_rng(5))
    if name == "foreground":
        return make_scene(channel, foreground_e=300.0)
    keys = {
        "none": {},
        "dark": {"dark": maps.dark},
        "flat": {"flat": maps.flat},
        "linearity": {"linear_corr": maps.linear_corr},
        "dead": {"dead": maps.dead},
    }[name]
    return with_maps(channel, **keys)


@BOTH
@pytest.mark.parametrize("name", ["none", "dark", "flat", "linearity", "foreground"])
def test_each_effect_is_undone(config, channel, name):
    scene = effect(channel, name)
    settings = with_keys(config, foreground=name == "foreground")
    found = fused.calibrate_channel(scene.frames, scene.maps, settings)
    star = make_scene(channel).light_e
    wanted = aperture_light(channel, star)
    # two dithered reads a pixel, each with a variance of at most 1/4 count^2
    pixels = 16 if channel == AIRS else 576
    tolerance = 6.0 * COUNT_E * np.sqrt(2.0 / 4.0 * pixels) + (
        5e-5 * wanted.max() if name == "foreground" else 0.0
    )
    np.testing.assert_allclose(found.flux_e, wanted, atol=tolerance, rtol=0.0)
    assert found.cosmic_rays == 0


@BOTH
@pytest.mark.parametrize("how", ["inpaint", "zero_weight"])
def test_dead_pixels_scale_a_curve_but_leave_the_depth(config, channel, how):
    scene = effect(channel, "dead")
    assert scene.maps.dead[8:24, SCORED_COLUMNS if channel == AIRS else slice(None)].any()
    settings = with_keys(config, dead_pixels=how, foreground=False)
    found = fused.calibrate_channel(scene.frames, scene.maps, settings)
    wanted = aperture_light(channel, make_scene(channel).light_e)
    assert found.masked > 0
    np.testing.assert_allclose(found.flux_e, wanted, rtol=0.02)
    shape = found.flux_e / found.flux_e.mean(1, keepdims=True)
    np.testing.assert_allclose(shape, wanted / wanted.mean(1, keepdims=True), rtol=8e-3)
    bright = wanted.mean(1) > 2e4
    np.testing.assert_allclose(
        shape[bright], (wanted / wanted.mean(1, keepdims=True))[bright], rtol=1.5e-3
    )


@BOTH
def test_all_effects_together_are_removed_to_within_the_noise(config, channel):
    maps = real_maps(channel, np.random.default_rng(8))
    maps.dead[:] = False
    scene = make_scene(channel, maps=maps, noise=True, foreground_e=40.0, pairs=64)
    frames = hit(scene.frames, core_pixel(channel), 30, 3e4)
    found = fused.calibrate_channel(frames, maps, config)
    wanted = aperture_light(channel, make_scene(channel, pairs=64).light_e)
    pixels = 16 if channel == AIRS else 576
    shot = wanted + pixels * (40.0 + 2 * 13.0**2 + 5.0 * channel.exposure_s)
    level = shot * (1.0 + 16.0 / 16.0) if channel == AIRS else shot * 2.0
    z = (found.flux_e - wanted) / np.sqrt(level)
    # hot pixels add shot noise to a few columns; the rest are standard normal or narrower
    assert np.abs(np.median(z)) < 0.5
    assert np.quantile(np.abs(z), 0.99) < 4.0
    assert found.cosmic_rays >= 1
    without = fused.calibrate_channel(frames, maps, with_keys(config, cosmic_rays=False))
    assert np.max(without.flux_e - found.flux_e) > 2.5e4


@BOTH
def test_cosmic_ray_is_replaced_by_the_local_value(config, channel):
    scene = make_scene(channel)
    clean = fused.calibrate_channel(scene.frames, scene.maps, config)
    frames = hit(scene.frames, core_pixel(channel), 20, 2e4)
    struck = fused.calibrate_channel(frames, scene.maps, config)
    assert struck.cosmic_rays == 1
    np.testing.assert_allclose(struck.flux_e, clean.flux_e, rtol=2e-3)


@BOTH
def test_a_deep_transit_is_not_a_cosmic_ray(config, channel):
    """9 % within four exposures: hundreds of sigma a pixel, and no noise to hide it."""
    pairs = 60
    step = np.interp(np.arange(pairs), [25, 29, 45, 49], [1.0, 0.91, 0.91, 1.0])
    light = make_scene(channel, pairs=pairs).light_e.mean(-1, keepdims=True) * step
    maps = flat_maps(channel)
    frames = expose(channel, maps, light, rng=np.random.default_rng(0))
    found = fused.calibrate_channel(frames, maps, config)
    wanted = fused.calibrate_channel(frames, maps, with_keys(config, cosmic_rays=False))
    touched = np.flatnonzero(np.any(found.flux_e != wanted.flux_e, axis=0))
    # 60 exposures pin the noise to 15 %, so a chance hit may occur, but never at the contacts
    assert not set(touched) & {24, 25, 26, 27, 28, 29, 30, 44, 45, 46, 47, 48, 49, 50}


@BOTH
def test_pair_difference_ignores_an_offset(config, channel):
    """Property of CDS: reset level and a wrong ADC offset cancel where the pixel is linear."""
    scene = make_scene(channel)
    moved = replace(scene.frames, offset_e=scene.frames.offset_e + 777.0)
    settings = with_keys(config, linearity=False)
    here = fused.calibrate_channel(scene.frames, scene.maps, settings)
    there = fused.calibrate_channel(moved, scene.maps, settings)
    np.testing.assert_allclose(there.flux_e, here.flux_e, rtol=1e-12)
    assert abs(there.read_ratio - here.read_ratio) > 0.05


@BOTH
def test_jitter_moves_the_centroid_and_not_the_sum(config, channel):
    still = make_scene(channel)
    moving = make_scene(channel, jitter=0.3)
    here = fused.calibrate_channel(still.frames, still.maps, config)
    there = fused.calibrate_channel(moving.frames, moving.maps, config)
    drift = there.centroid[:, 0] - here.centroid[:, 0]
    np.testing.assert_allclose(drift, 0.3 * np.sin(np.arange(drift.size)), atol=0.01)
    white = there.flux_e.sum(0) / here.flux_e.sum(0)
    assert np.abs(white - 1.0).max() < (8e-4 if channel == FGS1 else 2e-5)


def test_read_ratio_is_that_of_the_accumulation_times(config):
    for channel, ratio in ((FGS1, 2.0), (AIRS, 46.0)):
        scene = make_scene(channel, maps=real_maps(channel, np.random.default_rng(2)))
        found = fused.calibrate_channel(scene.frames, scene.maps, config)
        assert found.read_ratio == pytest.approx(ratio, rel=2e-3)


@BOTH
@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_very_short_series(config, channel, pairs):
    scene = make_scene(channel, pairs=pairs)
    fast = fused.calibrate_channel(scene.frames, scene.maps, config)
    exact = reference.calibrate_channel(scene.frames, scene.maps, config)
    np.testing.assert_allclose(fast.flux_e, exact.flux_e, rtol=1e-12)
    wanted = star_flux(channel, pairs)
    wanted = wanted[SCORED_COLUMNS] if channel == AIRS else wanted
    np.testing.assert_allclose(fast.flux_e, wanted, rtol=5e-3)


def test_full_scale_reads_are_counted(config):
    scene = make_scene(FGS1)
    reads = list(scene.frames.reads)
    reads[16 * 32 + 16] = np.full_like(reads[0], 65535)
    found = fused.calibrate_channel(replace(scene.frames, reads=reads), scene.maps, config)
    assert found.full_scale == 1


def test_columns_without_living_pixels_are_errors(config):
    maps = flat_maps(AIRS)
    maps.dead[:8, 100] = maps.dead[24:, 100] = True
    scene = make_scene(AIRS, pairs=3, maps=maps)
    with pytest.raises(
        DataError,
        match=r"^planet 7, visit 0, AIRS-CH0: no usable pixel measures the foreground of light "
        r"curve 61. Raise calibration.airs_foreground_rows, or switch calibration.foreground "
        r"off.$",
    ):
        fused.calibrate_channel(scene.frames, maps, config)
    maps = flat_maps(AIRS)
    maps.dead[8:24, 100] = True
    scene = make_scene(AIRS, pairs=3, maps=maps)
    settings = with_keys(config, dead_pixels="zero_weight")
    with pytest.raises(
        DataError,
        match=r"^planet 7, visit 0, AIRS-CH0: curve 61 has no usable light left. Set "
        r"calibration.dead_pixels=inpaint, or fetch the files again.$",
    ):
        fused.calibrate_channel(scene.frames, maps, settings)
