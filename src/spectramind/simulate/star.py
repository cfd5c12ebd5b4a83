"""The star: photons of each column, limb darkening, transit light curve, spots."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.instrument import (
    AIRS,
    detector_wavelength_um,
    wavelength_um,
)
from spectramind.observation import Star
from spectramind.simulate.interpolation import chebyshev_nodes, lagrange
from spectramind.simulate.limb_darkening import LimbLaw, foreign_law, own_law
from spectramind.simulate.population import Planet, stream
from spectramind.simulate.settings import Effects, StarConfig
from spectramind.spectroscopy import photons

_REFERENCE_UM = 2.1  # where the AIRS brightness is quoted
# Photons to electrons over wavelength, 1 at 2.13 um. Source: spectrum of one public 2025 visit
# (a 4,800 K star) over a Planck curve, rounded; a smooth stand-in for optics and detector.
_THROUGHPUT_UM = (1.63, 1.77, 1.95, 2.13, 2.46, 2.77, 3.06, 3.45, 3.68, 3.79, 3.89, 3.99, 4.08)
_THROUGHPUT = (0.05, 0.16, 0.56, 1.0, 0.91, 0.96, 0.80, 0.85, 0.83, 0.70, 0.31, 0.03, 0.006)
_RADIAL_NODES = 160
_BLOCK = 128  # times whose rings are summed together: what fits into the cache
_K_NODES = 7


@dataclass(frozen=True, eq=False)
class StarLight:
    """What the star of one planet sends to each detector; wavelength 0 is FGS1."""

    limb_darkening: LimbLaw
    fgs1_e_s: float  # [e-/s]
    airs_e_s: Float64[np.ndarray, " 356"]  # by detector column [e-/s]
    contamination: Float64[np.ndarray, " 283"]  # factor of unocculted spots on the depth
    spot_contrast: Float64[np.ndarray, " 283"]  # 1 - F_spot/F_photosphere
    crossing_share: float  # part of the planet's disc over a spot in a crossing; 0 for none
    crossing_phase: float  # where on the chord, -1 first to 1 last half


def draw_star(seed: int, planet: Planet, effects: Effects, config: StarConfig) -> StarLight:
    """Star light of one planet."""
    rng = stream(seed, planet.split, planet.index, "star")
    bright = np.exp(config.electrons_scatter * rng.standard_normal(2))
    column_um = detector_wavelength_um()
    colour = photons(column_um, planet.star.temperature_k) * throughput(column_um)
    colour *= -np.gradient(column_um)
    peak = np.interp(-_REFERENCE_UM, -column_um, colour)
    fraction, cooling = rng.uniform(*config.spot_fraction), rng.uniform(*config.spot_cooling_k)
    cool = planet.star.temperature_k - cooling
    ratio = photons(wavelength_um(), cool) / photons(wavelength_um(), planet.star.temperature_k)
    crosses = rng.random() < config.spot_crossing_probability
    share, phase = rng.uniform(0.2, 0.8), rng.uniform(-0.7, 0.7)
    return StarLight(
        limb_darkening=_law(seed, planet, rng, effects, config),
        fgs1_e_s=float(config.fgs1_electrons * bright[0] / 0.1),
        airs_e_s=config.airs_electrons * bright[1] / AIRS.exposure_s * colour / peak,
        contamination=1.0 / (1.0 - effects.spots * fraction * (1.0 - ratio)),
        spot_contrast=1.0 - ratio,
        crossing_share=share if effects.spots and crosses else 0.0,
        crossing_phase=phase,
    )


def _law(
    seed: int, planet: Planet, rng: np.random.Generator, effects: Effects, config: StarConfig
) -> LimbLaw:
    """The star's law: the last draws of its stream, and one of its own for the foreign law."""
    scale = 1.0 + config.limb_darkening_scatter * rng.standard_normal(2)
    heat = planet.star.temperature_k
    if effects.foreign_limb_darkening:
        other = stream(seed, planet.split, planet.index, "foreign limb darkening")
        steepness = other.uniform(*config.foreign_steepness)
        return foreign_law(wavelength_um(), heat, scale=scale, steepness=steepness)
    nonquadratic = rng.uniform(*config.nonquadratic)
    return own_law(wavelength_um(), heat, scale=scale, nonquadratic=nonquadratic)


def throughput(wavelength: Float64[np.ndarray, " W"]) -> Float64[np.ndarray, " W"]:
    """Relative photon-to-electron efficiency of AIRS-CH0."""
    return np.interp(wavelength, _THROUGHPUT_UM, _THROUGHPUT)


def separation(
    time_h: Float64[np.ndarray, " T"], mid_time_h: float, star: Star
) -> Float64[np.ndarray, " T"]:
    """Projected distance of the centres in stellar radii; inf while the planet is behind.

    z = a sqrt(sin^2 phi + cos^2 i cos^2 phi), phi = 2 pi (t - t0) / P.

    Source: Mandel and Agol 2002.
    """
    phase = 2.0 * np.pi * (time_h - mid_time_h) / (24.0 * star.period_d)
    cos_i = math.cos(math.radians(star.inclination_deg))
    z = star.semi_major_axis_rs * np.sqrt(np.sin(phase) ** 2 + (cos_i * np.cos(phase)) ** 2)
    return np.where(np.cos(phase) > 0.0, z, np.inf)


@functools.cache
def _radial_rule(nodes: int) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """Places between the ends 0 and 1 of a ring integral and their weights, see `moments`."""
    node, weight = np.polynomial.legendre.leggauss(nodes)
    s = 0.5 * (node + 1.0)
    theta = np.pi * s**2 * (3.0 - 2.0 * s)
    place = 0.5 * (1.0 - np.cos(theta))
    return place, 0.5 * weight * 0.5 * np.sin(theta) * np.pi * 6.0 * s * (1.0 - s)


def moments(
    z: Float64[np.ndarray, " T"], k: Float64[np.ndarray, " K"], powers: tuple[float, ...]
) -> Float64[np.ndarray, "P K T"]:
    """Integrals of mu^p, by increasing powers p, over the part of the disc that is covered.

    J_p = 2 int r kappa(r) mu^p dr, kappa the half-angle of the ring that is covered,
    from max(z - k, 0) to min(z + k, 1), split at |k - z| where the ring is covered whole.
    r = lo + h (1 - cos(theta))/2 with theta a polynomial of the node, so that the ends with
    their roots are smooth. Source: Mandel and Agol 2002 (geometry).
    """
    place, stretch = _radial_rule(_RADIAL_NODES)
    result = np.zeros((len(powers), len(k), len(z)))
    for i, radius in enumerate(k):
        touched = np.flatnonzero(z < 1.0 + radius)
        for inside in np.split(touched, range(_BLOCK, touched.size, _BLOCK)):
            result[:, i, inside] = _moments_at(z[inside], radius, powers, place, stretch)
    return result


def _moments_at(
    z: Float64[np.ndarray, " T"], radius: float, powers: tuple[float, ...],
    place: Float64[np.ndarray, " N"], stretch: Float64[np.ndarray, " N"],
) -> Float64[np.ndarray, "P T"]:  # fmt: skip
    """`moments` of one radius at times at which the planet touches the disc."""
    z = np.maximum(z, 1e-9)[:, None]
    full = np.maximum(radius - z, 0.0)
    low, high = np.abs(z - radius), np.minimum(z + radius, 1.0)
    r = low + (high - low) * place
    cosine = (r**2 + z**2 - radius**2) / (2.0 * r * z)
    ring = 2.0 * r * np.arccos(np.clip(cosine, -1.0, 1.0)) * stretch * (high - low)
    square_mu = np.clip(1.0 - r**2, 0.0, None)
    steps = np.diff(powers, prepend=0.0).tolist()
    rise = {step: square_mu ** (0.5 * step) for step in set(steps)}  # evenly spaced: one root
    power, found = np.ones_like(r), []
    for exponent, step in zip(powers, steps, strict=True):
        power = power * rise[step]
        cap = 2.0 * np.pi / (exponent + 2.0)
        whole = cap * (1.0 - (1.0 - full[:, 0] ** 2) ** (exponent / 2.0 + 1.0))
        found.append((ring * power).sum(1) + whole)
    return np.array(found)


def transit_flux(
    z: Float64[np.ndarray, " T"],
    depth: Float64[np.ndarray, " W"],
    law: LimbLaw,
) -> Float64[np.ndarray, "T W"]:
    """Relative flux under a transit, numerically integrated over the disc.

    The moments are evaluated at Chebyshev nodes over the planet's radii and interpolated.
    """
    k = np.sqrt(depth)
    nodes = chebyshev_nodes(k, _K_NODES)
    J = moments(z, nodes, law.powers)
    disc = law.weights @ np.array([2.0 * np.pi / (p + 2.0) for p in law.powers])
    mixing = (law.weights[:, :, None] * lagrange(k, nodes)[:, None, :]).reshape(len(k), -1)
    return 1.0 - (mixing @ J.reshape(-1, len(z)) / disc[:, None]).T


def crossing_bump(
    time_h: Float64[np.ndarray, " T"], mid_time_h: float, duration_h: float, light: StarLight,
    depth: Float64[np.ndarray, " 283"],
) -> Float64[np.ndarray, "T 283"]:  # fmt: skip
    """Flux that comes back while the planet crosses a spot: a Gaussian of depth x contrast."""
    middle = mid_time_h + 0.5 * light.crossing_phase * duration_h
    shape = np.exp(-0.5 * ((time_h - middle) / (0.04 * duration_h)) ** 2)
    return shape[:, None] * (light.crossing_share * depth * light.spot_contrast)[None, :]
