"""The star: photons of each column, non-linear limb darkening, transit light curve, spots."""

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
from spectramind.simulate.population import Planet, stream
from spectramind.simulate.settings import StarConfig

_HC_OVER_K_UM = 14387.77  # [um K]
_REFERENCE_UM = 2.1  # where the AIRS brightness is quoted
# Photons to electrons over wavelength, 1 at 2.13 um. Source: spectrum of one public 2025 visit
# (a 4,800 K star) over a Planck curve, rounded; a smooth stand-in for optics and detector.
_THROUGHPUT_UM = (1.63, 1.77, 1.95, 2.13, 2.46, 2.77, 3.06, 3.45, 3.68, 3.79, 3.89, 3.99, 4.08)
_THROUGHPUT = (0.05, 0.16, 0.56, 1.0, 0.91, 0.96, 0.80, 0.85, 0.83, 0.70, 0.31, 0.03, 0.006)
_RADIAL_NODES = 160
_BLOCK = 128  # times whose rings are summed together: what fits into the cache
_K_NODES = 7
_POWERS = (0.0, 0.5, 1.0, 1.5, 2.0)  # of mu in the limb-darkening law


@dataclass(frozen=True, eq=False)
class StarLight:
    """What the star of one planet sends to each detector; wavelength 0 is FGS1."""

    limb_darkening: Float64[np.ndarray, "283 4"]  # a1..a4 of the Claret law
    fgs1_e_s: float  # [e-/s]
    airs_e_s: Float64[np.ndarray, " 356"]  # by detector column [e-/s]
    contamination: Float64[np.ndarray, " 283"]  # factor of unocculted spots on the depth
    spot_contrast: Float64[np.ndarray, " 283"]  # 1 - F_spot/F_photosphere
    crossing_share: float  # part of the planet's disc over a spot in a crossing; 0 for none
    crossing_phase: float  # where on the chord, -1 first to 1 last half


def draw_star(seed: int, planet: Planet, *, spots: bool, config: StarConfig) -> StarLight:
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
    law = limb_darkening(
        wavelength_um(),
        planet.star.temperature_k,
        scale=1.0 + config.limb_darkening_scatter * rng.standard_normal(2),
        nonquadratic=rng.uniform(*config.nonquadratic),
    )
    return StarLight(
        limb_darkening=law,
        fgs1_e_s=float(config.fgs1_electrons * bright[0] / 0.1),
        airs_e_s=config.airs_electrons * bright[1] / AIRS.exposure_s * colour / peak,
        contamination=1.0 / (1.0 - spots * fraction * (1.0 - ratio)),
        spot_contrast=1.0 - ratio,
        crossing_share=share if spots and crosses else 0.0,
        crossing_phase=phase,
    )


def photons(
    wavelength: Float64[np.ndarray, " W"], temperature_k: float
) -> Float64[np.ndarray, " W"]:
    """Planck photon rate by wavelength, 1 / (l^4 (exp(hc/(l k T)) - 1)), arbitrary unit."""
    return wavelength**-4.0 / np.expm1(_HC_OVER_K_UM / (wavelength * temperature_k))


def throughput(wavelength: Float64[np.ndarray, " W"]) -> Float64[np.ndarray, " W"]:
    """Relative photon-to-electron efficiency of AIRS-CH0."""
    return np.interp(wavelength, _THROUGHPUT_UM, _THROUGHPUT)


def quadratic_guess(
    wavelength: Float64[np.ndarray, " W"], temperature_k: float
) -> tuple[Float64[np.ndarray, " W"], Float64[np.ndarray, " W"]]:
    """Quadratic coefficients u1, u2 about which the law is built.

    u1 = 0.05 + 0.41 (5485 K / T)^1.6 exp(-(l - 0.7 um)/0.55 um); u2 by nodes in wavelength.

    Source: fitted by eye to PHOENIX coefficients at 0.70, 1.0 and 1.65 um of eight stars; an
    extrapolation beyond 1.65 um (assumption).
    """
    decay = np.exp(-(wavelength - 0.7) / 0.55)
    u1 = 0.05 + 0.41 * (5485.0 / temperature_k) ** 1.6 * decay
    blue = 0.18 + 5.2e-5 * (temperature_k - 5485.0)
    u2 = np.interp(wavelength, (0.7, 1.0, 1.65, 2.0, 3.9), (blue, 0.18, 0.26, 0.22, 0.15))
    return u1, u2


def limb_darkening(
    wavelength: Float64[np.ndarray, " W"],
    temperature_k: float,
    *,
    scale: Float64[np.ndarray, " 2"],
    nonquadratic: float,
) -> Float64[np.ndarray, "W 4"]:
    """Coefficients of I(mu) = 1 - sum_n a_n (1 - mu^(n/2)), n = 1..4.

    A quadratic law plus c u1 p(mu), p = (1 - mu^(1/2)) - 1.5 (1 - mu) + 0.6 (1 - mu^(3/2)): a
    steeper fall at the limb, as model atmospheres show, that no quadratic law can follow.

    Source: Claret 2000, equation 6 (the law); the coefficients are ours, see quadratic_guess.
    """
    u1, u2 = quadratic_guess(wavelength, temperature_k)
    u1, u2 = scale[0] * u1, scale[1] * u2
    steep = nonquadratic * u1
    return np.stack([steep, u1 + 2 * u2 - 1.5 * steep, 0.6 * steep, -u2], axis=1)


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
    z: Float64[np.ndarray, " T"], k: Float64[np.ndarray, " K"]
) -> Float64[np.ndarray, "5 K T"]:
    """Integrals of mu^(n/2), n = 0..4, over the part of the disc that the planet covers.

    J_n = 2 int r kappa(r) mu^(n/2) dr, kappa the half-angle of the ring that is covered,
    from max(z - k, 0) to min(z + k, 1), split at |k - z| where the ring is covered whole.
    r = lo + h (1 - cos(theta))/2 with theta a polynomial of the node, so that the ends with
    their roots are smooth. Source: Mandel and Agol 2002 (geometry).
    """
    place, stretch = _radial_rule(_RADIAL_NODES)
    result = np.zeros((len(_POWERS), len(k), len(z)))
    for i, radius in enumerate(k):
        touched = np.flatnonzero(z < 1.0 + radius)
        for inside in np.split(touched, range(_BLOCK, touched.size, _BLOCK)):
            result[:, i, inside] = _moments_at(z[inside], radius, place, stretch)
    return result


def _moments_at(
    z: Float64[np.ndarray, " T"], radius: float,
    place: Float64[np.ndarray, " N"], stretch: Float64[np.ndarray, " N"],
) -> Float64[np.ndarray, "5 T"]:  # fmt: skip
    """`moments` of one radius at times at which the planet touches the disc."""
    z = np.maximum(z, 1e-9)[:, None]
    full = np.maximum(radius - z, 0.0)
    low, high = np.abs(z - radius), np.minimum(z + radius, 1.0)
    r = low + (high - low) * place
    cosine = (r**2 + z**2 - radius**2) / (2.0 * r * z)
    ring = 2.0 * r * np.arccos(np.clip(cosine, -1.0, 1.0)) * stretch * (high - low)
    root_mu = np.clip(1.0 - r**2, 0.0, None) ** 0.25
    power, found = np.ones_like(r), []
    for exponent in _POWERS:
        cap = 2.0 * np.pi / (exponent + 2.0)
        whole = cap * (1.0 - (1.0 - full[:, 0] ** 2) ** (exponent / 2.0 + 1.0))
        found.append((ring * power).sum(1) + whole)
        power = power * root_mu
    return np.array(found)


def transit_flux(
    z: Float64[np.ndarray, " T"],
    depth: Float64[np.ndarray, " W"],
    law: Float64[np.ndarray, "W 4"],
) -> Float64[np.ndarray, "T W"]:
    """Relative flux under a transit, numerically integrated for the four-parameter law.

    The moments are evaluated at Chebyshev nodes over the planet's radii and interpolated.
    """
    k = np.sqrt(depth)
    nodes = radius_nodes(k)
    J = moments(z, nodes)
    lagrange = np.ones((len(k), len(nodes)))
    for i, here in enumerate(nodes):
        for other in np.delete(nodes, i):
            lagrange[:, i] *= (k - other) / (here - other)
    intensity = np.concatenate([1.0 - law.sum(1, keepdims=True), law], axis=1)  # (W, 5)
    disc = intensity @ np.array([2.0 * np.pi / (p + 2.0) for p in _POWERS])
    mixing = (intensity[:, :, None] * lagrange[:, None, :]).reshape(len(k), -1)
    return 1.0 - (mixing @ J.reshape(-1, len(z)) / disc[:, None]).T


def radius_nodes(k: Float64[np.ndarray, " W"]) -> Float64[np.ndarray, " K"]:
    """Chebyshev nodes over the range of radius ratios; one node where all are equal."""
    low, high = float(k.min()), float(k.max())
    if high - low < 1e-9:
        return np.array([0.5 * (low + high)])
    angle = np.pi * (np.arange(_K_NODES) + 0.5) / _K_NODES
    return 0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle)


def crossing_bump(
    time_h: Float64[np.ndarray, " T"], mid_time_h: float, duration_h: float, light: StarLight,
    depth: Float64[np.ndarray, " 283"],
) -> Float64[np.ndarray, "T 283"]:  # fmt: skip
    """Flux that comes back while the planet crosses a spot: a Gaussian of depth x contrast."""
    middle = mid_time_h + 0.5 * light.crossing_phase * duration_h
    shape = np.exp(-0.5 * ((time_h - middle) / (0.04 * duration_h)) ** 2)
    return shape[:, None] * (light.crossing_share * depth * light.spot_contrast)[None, :]
