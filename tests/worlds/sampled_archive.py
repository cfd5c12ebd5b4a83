"""A few numbers of every kind of product of a simulated archive."""

import numpy as np

from spectramind.instrument import AIRS, FGS1
from spectramind.simulate.curves import draw_curves
from spectramind.simulate.detector import converter, draw_pixels, foreground, raw_counts
from spectramind.simulate.population import stream
from spectramind.simulate.scene import build_scene
from spectramind.simulate.systems import draw_systems
from spectramind.simulate.visit import draw_visit


def sampled_archive(config):
    """Samples by name: label, star, then scene, light curves and counts of each channel."""
    samples = {}
    for system in draw_systems(config, "train"):
        planet, name = system.planet, str(system.planet.index)
        samples[f"{name} label"] = system.depth[::31]
        samples[f"{name} star"] = system.light.airs_e_s[::61]
        visit = draw_visit(
            config.seed, planet, 1, config.cadence_factor, config.effects, config.visit
        )
        curves = draw_curves(system, visit, config)
        samples[f"{name} airs curve"] = curves.airs_e[:, ::71].astype(np.float64)
        samples[f"{name} fgs1 curve"] = curves.fgs1_e[::17].astype(np.float64)
        samples[f"{name} centroid"] = curves.fgs1_centroid[::29].astype(np.float64)
        for channel in (FGS1, AIRS):
            scene, counts = _observed(system, visit, channel, config)
            samples[f"{name} {channel.name} scene"] = scene.star_e_s[::9, ::7].astype(np.float64)
            samples[f"{name} {channel.name} counts"] = counts[::211, ::11].astype(np.float64)
    return samples


def _observed(system, visit, channel, config):
    planet = system.planet
    scene = build_scene(channel, planet, system.light, system.depth, visit, config.cadence_factor)
    counts, _ = raw_counts(
        scene,
        draw_pixels(config.seed, planet.split, channel, config.effects, config.detector),
        foreground(config.seed, planet, channel, config.effects, config.detector),
        converter(channel, config.cadence_factor, config.effects, config.detector),
        stream(config.seed, planet.split, planet.index, f"reads {channel.name}", visit.visit),
        config.detector,
    )
    return scene, counts
