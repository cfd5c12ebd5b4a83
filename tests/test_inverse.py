"""Each detector effect alone, then all: simulated frames calibrate back to the noiseless curve.

The expected noise is that of the photons, the reads and the counts (rounding) in the aperture;
what is left above it is bounded by a small systematic in each test.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from spectramind.archive.layout import open_archive
from spectramind.calibrate.chain import calibrate_visit, read_pixels
from spectramind.calibrate.fused import calibrate_channel
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.instrument import AIRS, FGS1, to_scored
from spectramind.observation import DetectorMaps, Frames
from spectramind.provenance import describe
from spectramind.simulate.detector import converter, draw_pixels, foreground, raw_counts
from spectramind.simulate.population import stream
from spectramind.simulate.scene import build_scene
from spectramind.simulate.settings import Effects, SimulateConfig
from spectramind.simulate.systems import draw_systems
from spectramind.simulate.visit import GainDrift, draw_visit
from spectramind.simulate.writer import simulate_archive

CONFIGS = Path(__file__).parents[1] / "configs"
MERGED = 75
# Pixels whose read noise enters one sample: the aperture (24 x 24; 16 rows) and, scaled to it, the
# foreground, measured on 100 pixels over 8 exposures of 30 s (240 s) and on 16 rows.
NOISY_PIXELS = {FGS1.name: 576 * (1 + 5.76 / 8), AIRS.name: 16 + 16}

DETECTOR_EFFECTS = (
    "jitter", "defocus", "foreground", "gain_drift", "dark", "hot_pixels", "dead_pixels",
    "linearity", "flat", "shot_noise", "read_noise", "reset_noise", "saturation", "cosmic_rays",
    "adc", "bad_edge_frames",
)  # fmt: skip


def settings(on, **changes):
    """One planet with some effects on."""
    values = yaml.safe_load((CONFIGS / "simulate" / "default.yaml").read_text())
    values["effects"] = {name: name in on for name in Effects.model_fields}
    values |= {
        "train_planets": 1,
        "test_planets": 0,
        "cadence_factor": MERGED,
        "two_visit_fraction": 0.0,
    }
    values["detector"] |= changes
    return SimulateConfig(**values)


def written(root, on):
    """Archive of that planet."""
    config = settings(on)
    provenance = describe(
        stage="simulate", config_hash="-", code_hash="k", data_hash="", seed=config.seed
    )
    simulate_archive(
        config,
        root=root,
        level="frames",
        workers=1,
        device=torch.device("cpu"),
        provenance=provenance,
    )
    return config


def steps(**changes):
    """The committed calibration with steps on or off."""
    values = yaml.safe_load((CONFIGS / "calibration" / "default.yaml").read_text())
    return CalibrationConfig(**(values | changes))


@pytest.fixture(scope="module")
def system():
    return draw_systems(settings(()), "train")[0]


def exposed(system, channel, config):
    """Frames and maps of one channel as an archive would hold them, and the noiseless curves."""
    planet, effects, detector = system.planet, config.effects, config.detector
    visit = draw_visit(config.seed, planet, 0, MERGED, effects, config.visit)
    scene = build_scene(channel, planet, system.light, system.depth, visit, MERGED)
    pixels = draw_pixels(config.seed, planet.split, channel, effects, detector)
    sky = foreground(config.seed, planet, channel, effects, detector)
    readout = converter(channel, MERGED, effects, detector)
    rng = stream(config.seed, planet.split, planet.index, f"reads {channel.name}", 0)
    counts, _ = raw_counts(scene, pixels, sky, readout, rng, detector)
    chosen = read_pixels(channel)
    frames = Frames(
        planet.planet_id, 0, channel, chosen, list(counts[chosen]), scene.time_h, channel.read_s,
        readout.gain, readout.offset_e,
    )  # fmt: skip
    drift = scene.drift.T.astype(np.float64)
    seen = drift[:, 16:17] if channel == FGS1 else to_scored(drift)
    return frames, DetectorMaps(**asdict(pixels)), scene.transit * seen


def calibrated(frames, maps, calibration):
    """Light curves, those of AIRS-CH0 in the order of the scored wavelengths."""
    return calibrate_channel(frames, maps, calibration).flux_e[::-1].T


def recovered(root):
    """Calibrated light curves (FGS1 as one column) and the noiseless ones, by channel."""
    archive = open_archive(root)
    planet = archive.planets("train")[0]
    curves, _ = calibrate_visit(archive, "train", planet, 0, steps())
    truth = json.loads((root / "truth" / "train" / f"{planet}.json").read_bytes())
    visit = truth["visits"][0]
    found = {FGS1.name: curves.fgs1_e[:, None], AIRS.name: curves.airs_e}
    expected = {}
    with np.load(root / "truth" / "train" / f"{planet}_0.npz", allow_pickle=False) as series:
        for channel in (FGS1, AIRS):
            transit = series[f"{channel.name}_transit"].astype(np.float64)
            drift = GainDrift(**{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in visit["gain_drift"][channel.name].items()
            })  # fmt: skip
            gain = drift.gain(np.linspace(0.0, 1.0, len(transit)), channel.columns)
            gain[:, 0] *= visit["edge_share"][channel.name][0]
            gain[:, -1] *= visit["edge_share"][channel.name][1]
            seen = gain[16:17].T if channel == FGS1 else to_scored(gain.T)
            expected[channel.name] = transit * seen
    return {name: (found[name].astype(np.float64), expected[name]) for name in found}


def residual_in_noise(flux, model, channel, config):
    """Standard deviation of each wavelength's residual over the noise that is expected."""
    effects, detector = config.effects, config.detector
    level = np.median(flux / model, axis=0)
    gain = detector.gain if effects.adc else 1.0
    rounding = 1.0 / gain / np.sqrt(12.0)
    read = detector.read_noise_e * effects.read_noise / np.sqrt(MERGED)
    photons = level * effects.shot_noise / MERGED
    sigma = np.sqrt(photons + 2 * NOISY_PIXELS[channel.name] * (read**2 + rounding**2)) / level
    return (flux / model / level - 1.0).std(0) / sigma


@pytest.mark.parametrize("effect", DETECTOR_EFFECTS)
def test_an_effect_alone_is_removed(effect, system):
    config = settings({effect})
    for channel in (FGS1, AIRS):
        frames, maps, model = exposed(system, channel, config)
        flux = calibrated(frames, maps, steps())
        ratio = residual_in_noise(flux, model, channel, config)
        assert np.median(ratio) < 1.15
        # Without other noise rounding repeats itself, and a hit of a few electrons stays.
        assert ratio.max() < (6.0 if effect == "cosmic_rays" else 2.5)


def test_all_effects_together_are_removed(tmp_path):
    config = written(tmp_path, set(DETECTOR_EFFECTS) | {"clock_offset", "partial_transits"})
    for channel, (flux, model) in zip((FGS1, AIRS), recovered(tmp_path).values(), strict=True):
        ratio = residual_in_noise(flux, model, channel, config)
        assert 0.8 < np.median(ratio) < 1.15
        assert ratio.max() < 1.5  # the error of a scatter of 75 samples is 8 %; 282 of them


@pytest.mark.parametrize(
    ("step", "strong"),
    [
        ("foreground", {"airs_foreground_e_s": 100.0}),
        ("linearity", {"linearity_cubic": 6.0e-11}),
        ("cosmic_rays", {"cosmic_rate_s": 1.0e-5, "cosmic_energy_e": (40_000.0, 60_000.0)}),
    ],
)
def test_an_effect_stays_where_its_step_is_off(step, strong, system):
    config = settings({step}, **strong)
    frames, maps, model = exposed(system, AIRS, config)
    worst = {}
    for on in (True, False):
        flux = calibrated(frames, maps, steps(**{step: on}))
        worst[on] = residual_in_noise(flux, model, AIRS, config).max()
    assert worst[False] > 2.0 * worst[True]
