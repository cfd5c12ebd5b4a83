"""Flux of a limb-darkened star that a planet crosses: batched, differentiable, float64.

The stellar intensity is quadratic, I(mu) = 1 - u1 (1 - mu) - u2 (1 - mu)^2. The light that the
planet hides is a sum of three integrals J_m(z, k) that know nothing of u1 and u2:

    J_m = 2 * integral of r kappa(r) (1 - mu)^m dr over the covered radii,
    kappa(r) = arccos((r^2 + z^2 - k^2) / (2 r z)),    mu = sqrt(1 - r^2),
    flux = 1 - (J_0 - u1 J_1 - u2 J_2) / (pi (1 - u1/3 - u2/6)),

with z the separation and k the radius ratio in stellar radii. Source: Mandel and Agol 2002
(geometry); the radial quadrature with r = lo + h sin^2(theta), which removes the square-root
ends, is our own.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_NODES = 16  # Gauss-Legendre nodes in theta; 12 leave 1e-8, more cost little
_X, _GAUSS = np.polynomial.legendre.leggauss(_NODES)
_THETA = 0.25 * np.pi * (_X + 1.0)
_SIN2 = torch.tensor(np.sin(_THETA) ** 2)
_WEIGHT = torch.tensor(0.25 * np.pi * _GAUSS * np.sin(2.0 * _THETA))  # d(sin^2) x Gauss weight
_TINY = 1e-12


def separation(
    time_h: Float[Tensor, "*T"],
    *,
    t0_h: Float[Tensor, "*T"] | float,
    period_d: Float[Tensor, "*T"] | float,
    semi_major_axis_rs: Float[Tensor, "*T"] | float,
    impact_parameter: Float[Tensor, "*T"] | float,
) -> Float[Tensor, "*T"]:
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
    phase = 2.0 * math.pi * (time_h - t0_h) / (24.0 * period_d)
    square = (semi_major_axis_rs * phase.sin()) ** 2 + (impact_parameter * phase.cos()) ** 2
    return torch.where(phase.cos() > 0.0, square.clamp_min(_TINY**2).sqrt(), torch.inf)


def covered_integrals(z: Float[Tensor, "..."], k: Float[Tensor, "..."]) -> Float[Tensor, "3 ..."]:
    """J_0, J_1 and J_2 of the module's formula, differentiable once in both arguments.

    Args:
        z: Separation, at least 0; may be infinite [stellar radii].
        k: Radius ratio Rp/Rs, above 0; broadcasts with `z`.

    Returns:
        The three integrals, zero outside the transit. Gradients are finite everywhere, also at
        the contact points and at z = 0.
    """
    z, k = torch.broadcast_tensors(z, k)
    return _Covered.apply(z, k)  # pyright: ignore[reportReturnType]


def covered_gradients(
    z: Float[Tensor, "..."], k: Float[Tensor, "..."]
) -> Float[Tensor, "2 3 ..."]:
    """Derivatives of J_0, J_1, J_2 by z (first) and by k (second).

    Only the planet's limb moves: with phi the angle on the limb from the direction away from
    the star's centre, dJ_m/dk = 2 k * integral of (1 - mu)^m dphi and dJ_m/dz = 2 k * integral
    of cos(phi) (1 - mu)^m dphi, over the half of the limb that lies before the star.

    Source: Reynolds' transport theorem, own derivation.
    """
    z, k = torch.broadcast_tensors(z, k)
    inside = z < 1.0 + k
    gradients = torch.zeros(2, 3, *z.shape, dtype=z.dtype, device=z.device)
    gradients[:, :, inside] = _gradients(z[inside], k[inside])
    return gradients


def _gradients(z: Float[Tensor, " P"], k: Float[Tensor, " P"]) -> Float[Tensor, "2 3 P"]:
    z = z.clamp_min(_TINY)
    edge = (1.0 - z**2 - k**2) / (2.0 * z * k).clamp_min(_TINY)
    first = torch.arccos(edge.clamp(-1.0, 1.0))
    width = (math.pi - first)[..., None]
    cosine = torch.cos(first[..., None] + width * _SIN2.to(z))
    z, k = z[..., None], k[..., None]
    mu = (1.0 - z**2 - k**2 - 2.0 * z * k * cosine).clamp(0.0, 1.0).sqrt()
    weight = 2.0 * k * width * _WEIGHT.to(z)
    powers = torch.stack([weight, weight * (1.0 - mu), weight * (1.0 - mu) ** 2])
    return torch.stack([(powers * cosine).sum(-1), powers.sum(-1)])


def hidden_share(
    integrals: Float[Tensor, "3 ..."],
    u1: Float[Tensor, "..."] | float,
    u2: Float[Tensor, "..."] | float,
) -> Float[Tensor, "..."]:
    """Share of the star's light that the planet hides, from the integrals and limb darkening."""
    total = math.pi * (1.0 - u1 / 3.0 - u2 / 6.0)
    return (integrals[0] - u1 * integrals[1] - u2 * integrals[2]) / total


def transit_flux(
    z: Float[Tensor, "..."],
    k: Float[Tensor, "..."],
    u1: Float[Tensor, "..."] | float,
    u2: Float[Tensor, "..."] | float,
) -> Float[Tensor, "..."]:
    """Relative flux at separation `z` for radius ratio `k`; 1 outside the transit."""
    return 1.0 - hidden_share(covered_integrals(z, k), u1, u2)


class _Covered(torch.autograd.Function):
    """`covered_integrals` with the analytic derivative: autograd's is infinite at contacts."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, z: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(z, k)
        inside = z < 1.0 + k  # most of a visit lies outside the transit
        integrals = torch.zeros(3, *z.shape, dtype=z.dtype, device=z.device)
        integrals[:, inside] = _integrals(z[inside], k[inside])
        return integrals

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *outer: Tensor
    ) -> tuple[Tensor, Tensor]:
        by_z, by_k = covered_gradients(*ctx.saved_tensors)  # pyright: ignore[reportAttributeAccessIssue]
        return (outer[0] * by_z).sum(0), (outer[0] * by_k).sum(0)


def _integrals(z: Float[Tensor, " P"], k: Float[Tensor, " P"]) -> Float[Tensor, "3 P"]:
    z = z.clamp_min(_TINY)
    lower = (z - k).abs().clamp_max(1.0)
    height = ((z + k).clamp_max(1.0) - lower).clamp_min(0.0)
    r = (lower[..., None] + height[..., None] * _SIN2.to(z)).clamp_min(_TINY)
    cosine = (r**2 + (z**2 - k**2)[..., None]) / (2.0 * r * z[..., None])
    strip = 2.0 * height[..., None] * _WEIGHT.to(z) * r * torch.arccos(cosine.clamp(-1.0, 1.0))
    drop = 1.0 - (1.0 - r**2).clamp_min(0.0).sqrt()
    strips = torch.stack([strip, strip * drop, strip * drop**2]).sum(-1)
    full = torch.where(z < k, lower, 0.0)  # rings covered all round
    s = 1.0 - (1.0 - full**2).clamp_min(0.0).sqrt()
    rings = [s ** (m + 1) / (m + 1) - s ** (m + 2) / (m + 2) for m in range(3)]
    return strips + 2.0 * math.pi * torch.stack(rings)
