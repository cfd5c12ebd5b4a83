"""Flux of a limb-darkened star that a planet crosses, float64, for any number of wavelengths.

The stellar intensity is quadratic, I(mu) = 1 - u1 (1 - mu) - u2 (1 - mu)^2. The light that the
planet hides is a sum of three integrals J_m(z, k) that know nothing of u1 and u2:

    J_m = 2 * integral of r kappa(r) (1 - mu)^m dr over the covered radii,
    kappa(r) = arccos((r^2 + z^2 - k^2) / (2 r z)),    mu = sqrt(1 - r^2),
    flux = 1 - (J_0 - u1 J_1 - u2 J_2) / (pi (1 - u1/3 - u2/6)),

with z the separation and k the radius ratio in stellar radii. Source: Mandel and Agol 2002
(geometry); the radial quadrature with r = lo + h sin^2(theta), which removes the square-root
ends, is our own.
"""

import numpy as np
from jaxtyping import Float64

_NODES = 16  # Gauss-Legendre nodes in theta; 12 leave 1e-8, more cost little
_X, _W = np.polynomial.legendre.leggauss(_NODES)
_THETA = 0.25 * np.pi * (_X + 1.0)
_SIN2 = np.sin(_THETA) ** 2
_WEIGHT = 0.25 * np.pi * _W * np.sin(2.0 * _THETA)  # d(sin^2 theta), with the Gauss weight
_TINY = 1e-12


def separation(
    time_h: Float64[np.ndarray, "*T"],
    *,
    t0_h: float,
    period_d: float,
    semi_major_axis_rs: float,
    impact_parameter: float,
) -> Float64[np.ndarray, "*T"]:
    """Distance of the centres of planet and star on a circular orbit.

    z^2 = a^2 sin^2(phi) + b^2 cos^2(phi), phi = 2 pi (t - t0) / P; infinite behind the star.

    Args:
        time_h: Times [h].
        t0_h: Middle of the transit [h].
        period_d: Orbital period P [d].
        semi_major_axis_rs: Orbital radius a [stellar radii].
        impact_parameter: b = a cos(i) [stellar radii].

    Returns:
        Separation z [stellar radii].

    Source: Seager and Mallen-Ornelas 2003, ApJ 585, 1038, for a circular orbit.
    """
    phase = 2.0 * np.pi * (time_h - t0_h) / (24.0 * period_d)
    sine, cosine = np.sin(phase), np.cos(phase)
    z = np.hypot(semi_major_axis_rs * sine, impact_parameter * cosine)
    return np.where(cosine > 0.0, z, np.inf)


def covered_integrals(
    z: Float64[np.ndarray, "*T"], k: Float64[np.ndarray, "*K"] | float
) -> Float64[np.ndarray, "3 ..."]:
    """J_0, J_1 and J_2 of the module's formula; `z` and `k` broadcast.

    Args:
        z: Separation [stellar radii].
        k: Radius ratio Rp/Rs, at least 0.

    Returns:
        The three integrals, zero outside the transit.
    """
    z, k = np.broadcast_arrays(z, np.asarray(k, dtype=np.float64))
    integrals = np.zeros((3, *z.shape))
    inside = z < 1.0 + k
    z, k = z[inside], k[inside]
    lower = np.minimum(np.abs(z - k), 1.0)
    height = np.minimum(z + k, 1.0) - lower
    r = np.maximum(lower[:, None] + height[:, None] * _SIN2, _TINY)
    zz, kk = np.maximum(z, _TINY)[:, None], k[:, None]
    arc = np.arccos(np.clip((r**2 + zz**2 - kk**2) / (2.0 * r * zz), -1.0, 1.0))
    drop = 1.0 - np.sqrt(np.maximum(1.0 - r**2, 0.0))
    strip = 2.0 * height[:, None] * _WEIGHT * r * arc
    full = _full_rings(np.where(z < k, lower, 0.0))
    for power in range(3):
        integrals[power, inside] = full[power] + strip.sum(axis=1)
        strip = strip * drop
    return integrals


def covered_gradients(
    z: Float64[np.ndarray, "*T"], k: Float64[np.ndarray, "*K"] | float
) -> Float64[np.ndarray, "2 3 ..."]:
    """Derivatives of J_0, J_1, J_2 by z (first) and by k (second).

    Only the planet's limb moves: with phi the angle on the limb from the direction away from
    the star's centre, dJ_m/dk = 2 k * integral of (1 - mu)^m dphi and dJ_m/dz = 2 k * integral
    of cos(phi) (1 - mu)^m dphi, over the half of the limb that lies before the star.

    Source: Reynolds' transport theorem, own derivation.
    """
    z, k = np.broadcast_arrays(z, np.asarray(k, dtype=np.float64))
    gradients = np.zeros((2, 3, *z.shape))
    inside = z < 1.0 + k
    z, k = np.maximum(z[inside], _TINY), k[inside]
    first = np.arccos(np.clip((1.0 - z**2 - k**2) / np.maximum(2.0 * z * k, _TINY), -1.0, 1.0))
    phi = first[:, None] + (np.pi - first)[:, None] * _SIN2
    cosine = np.cos(phi)
    z, k = z[:, None], k[:, None]
    drop = 1.0 - np.sqrt(np.clip(1.0 - z**2 - k**2 - 2.0 * z * k * cosine, 0.0, 1.0))
    weight = 2.0 * k * (np.pi - first)[:, None] * _WEIGHT
    for power in range(3):
        gradients[0, power, inside] = (weight * cosine).sum(axis=1)
        gradients[1, power, inside] = weight.sum(axis=1)
        weight = weight * drop
    return gradients


def _full_rings(radius: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "3 N"]:
    """2 pi times the integral of r (1 - mu)^m from 0 to `radius`, rings covered all round."""
    s = 1.0 - np.sqrt(np.maximum(1.0 - radius**2, 0.0))
    return (
        2.0 * np.pi * np.stack([s ** (m + 1) / (m + 1) - s ** (m + 2) / (m + 2) for m in range(3)])
    )


def hidden_share(
    integrals: Float64[np.ndarray, "3 ..."],
    u1: Float64[np.ndarray, "..."] | float,
    u2: Float64[np.ndarray, "..."] | float,
) -> Float64[np.ndarray, "..."]:
    """Share of the star's light that the planet hides, from the integrals and limb darkening."""
    total = np.pi * (1.0 - u1 / 3.0 - u2 / 6.0)
    return (integrals[0] - u1 * integrals[1] - u2 * integrals[2]) / total


def transit_flux(
    z: Float64[np.ndarray, "*T"], k: Float64[np.ndarray, "*K"] | float, u1: float, u2: float
) -> Float64[np.ndarray, "..."]:
    """Relative flux at separation `z` for radius ratio `k`; 1 outside the transit."""
    return 1.0 - hidden_share(covered_integrals(z, k), u1, u2)
