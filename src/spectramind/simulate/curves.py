"""Light curves drawn without frames, for archives of thousands of planets."""

import numpy as np
from jaxtyping import Float32, Float64

from spectramind.instrument import AIRS, FGS1, Channel, to_scored
from spectramind.observation import LightCurves
from spectramind.simulate.detector import foreground, image_weights
from spectramind.simulate.population import stream
from spectramind.simulate.scene import ChannelScene, build_scene
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.systems import System
from spectramind.simulate.visit import Visit

# Of the shape calibration.airs_rows and fgs1_aperture have by default; a copy, since the truth of
# an archive must not change with the settings of a calibration that reads it.
APERTURE = {AIRS.name: slice(8, 24), FGS1.name: slice(4, 28)}  # rows (FGS1: and columns) summed
_CENTROID_PIXEL = 1.2  # image radius that turns photons into a centroid error [pixel]


def draw_curves(system: System, visit: Visit, config: SimulateConfig) -> LightCurves:
    """Calibrated light curves of one visit with Gaussian noise.

    The variance of an exposure is its photons, foreground and dark current plus two reads a
    pixel of the aperture, over the number of merged pairs. Pixel defects, non-linearity and
    cosmic rays count as calibrated away; light that jitter moves out of the aperture is lost.
    """
    airs, fgs1 = (
        build_scene(
            channel, system.planet, system.light, system.depth, visit, config.cadence_factor
        )
        for channel in (AIRS, FGS1)
    )
    airs_e = _aperture_flux(airs, config)
    fgs1_e = _aperture_flux(fgs1, config).mean(1, keepdims=True)
    return LightCurves(
        planet_id=system.planet.planet_id,
        visit=visit.visit,
        airs_time_h=airs.time_h,
        airs_e=np.ascontiguousarray(to_scored(_noisy(airs, airs_e, system, visit, config))),
        airs_centroid=_centroid(airs, airs_e, system, visit, config)[:, 0],
        fgs1_time_h=fgs1.time_h,
        fgs1_e=_noisy(fgs1, fgs1_e, system, visit, config)[:, 0],
        fgs1_centroid=_centroid(fgs1, fgs1_e, system, visit, config),
    )


def _aperture_flux(scene: ChannelScene, config: SimulateConfig) -> Float64[np.ndarray, "T C"]:
    """Charge of one exposure inside the aperture, by column; FGS1: as if in one column each."""
    weights = image_weights(scene.channel, config.detector)[:, APERTURE[scene.channel.name]]
    if scene.channel == FGS1:
        captured = weights[:, :, APERTURE[FGS1.name]].sum((1, 2))[:, None]
    else:
        captured = weights.sum(1)
    return scene.star_e_s.T * (scene.modes.T @ captured) * scene.channel.exposure_s


def _noisy(
    scene: ChannelScene, flux: Float64[np.ndarray, "T C"], system: System, visit: Visit,
    config: SimulateConfig,
) -> Float32[np.ndarray, "T C"]:  # fmt: skip
    channel, effects, detector = scene.channel, config.effects, config.detector
    rng = _stream("curve", channel, system, visit, config)
    sky = foreground(config.seed, system.planet, channel, effects, detector)
    side = APERTURE[channel.name].stop - APERTURE[channel.name].start
    pixels = side * side if channel == FGS1 else side
    sky = sky[: flux.shape[1]] + detector.dark_e_s * effects.dark
    photons = flux + pixels * sky * channel.exposure_s
    reads = 2.0 * pixels * (detector.read_noise_e * effects.read_noise) ** 2
    variance = (photons * effects.shot_noise + reads) / config.cadence_factor
    return (flux + np.sqrt(variance) * rng.standard_normal(flux.shape)).astype(np.float32)


def _centroid(
    scene: ChannelScene, flux: Float64[np.ndarray, "T C"], system: System, visit: Visit,
    config: SimulateConfig,
) -> Float32[np.ndarray, "T 2"]:  # fmt: skip
    """Row and column of the star with photon noise [pixel]."""
    rng = _stream("centroid", scene.channel, system, visit, config)
    detector = config.detector
    image = detector.fgs1_image if scene.channel == FGS1 else detector.airs_image
    photons = flux.sum(1, keepdims=True) * config.cadence_factor
    noise = _CENTROID_PIXEL / np.sqrt(photons) * rng.standard_normal((len(flux), 2))
    noise *= config.effects.shot_noise
    return (np.array(image.centre) + scene.modes[1:3].T + noise).astype(np.float32)


def _stream(
    name: str, channel: Channel, system: System, visit: Visit, config: SimulateConfig
) -> np.random.Generator:
    planet = system.planet
    return stream(config.seed, planet.split, planet.index, f"{name} {channel.name}", visit.visit)
