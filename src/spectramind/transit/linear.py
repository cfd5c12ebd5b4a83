"""Light curves of all wavelengths, linearised around a guess, and the normal equations.

    log flux(t, w) = star(w) + log[1 + drift(t, w)] + log[1 - hidden(t; d_w, orbit, u_w)] + noise

Every derivative of a wavelength is a mix of a few local ones (its depth, the orbit, its limb
darkening, the drift in time), so the Gram matrix of those holds all that the data of the
wavelength say. Shared parameters enter by `Layout.design`; no array over time, wavelength and
all parameters is ever formed. The star's level is eliminated exactly.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.transit.columns import Columns
from spectramind.transit.drift import chebyshev, chebyshev_slopes, log_gain
from spectramind.transit.flux import covered_gradients, covered_integrals
from spectramind.transit.parameters import Layout
from spectramind.transit.time_noise import TimeNoise

_FGS1_NODES, _AIRS_NODES = 3, 5  # radius ratios at which the integrals are tabulated
_NARROWEST = 0.02  # half the range of the table, at least this share of the radius ratio
_BEHIND = 10.0  # separation while the planet is behind the star [stellar radii]
_SMALLEST_DEPTH = 1e-8


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal equations at a guess: information on depths d and shared parameters s."""

    depth: Float64[Tensor, "B W"]  # diagonal: a depth is measured by its own wavelength
    cross: Float64[Tensor, "B W N"]
    shared: Float64[Tensor, "B N N"]
    depth_pull: Float64[Tensor, "B W"]  # gradients
    shared_pull: Float64[Tensor, "B N"]
    chi2: Float64[Tensor, " B"]
    blurred: Float64[Tensor, "B W W"] | None = None  # information on depths lost to noise in time


@dataclass(frozen=True, eq=False)
class Curves:
    """The model at a guess."""

    log_transit: Float64[Tensor, "B V W T"]
    slopes: Float64[Tensor, "B V W T 7"]  # of log_transit by the local parameters
    log_gain: Float64[Tensor, "B V W T"]


class Linear:
    """Light curves of a batch as a function of depths (B, W) and shared parameters (B, N)."""

    def __init__(self, batch: Columns, layout: Layout, noise: TimeNoise | None = None) -> None:
        self.batch, self.layout, self.noise = batch, layout, noise
        self.design = layout.design(batch.place)
        self.time = chebyshev(batch.tau, layout.time_order)[..., 1:]
        self.wavelength = chebyshev(batch.place[1:], layout.wavelength_terms - 1)

    def curves(self, depth: Float64[Tensor, "B W"], shared: Float64[Tensor, "B N"]) -> Curves:
        """Model light curves and their slopes."""
        batch = self.batch
        own = self.layout.split(shared, batch.place)
        limb = batch.limb + own.limb
        parts = []
        for channel, columns in enumerate((slice(0, 1), slice(1, None))):
            count = depth[:, columns].shape[1]
            nodes = _AIRS_NODES if count > 1 else _FGS1_NODES
            log_transit, slopes = transit_columns(
                batch.time_h[:, :, channel], own.orbit, own.mid_time_h[..., channel],
                depth[:, columns], limb[:, columns], nodes,
            )  # fmt: skip
            offset = own.offset[:, :, columns, None]
            parts.append((log_transit + slopes[..., 0] * offset, slopes))
        log_transit, slopes = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))
        gain = log_gain(own.drift_fgs1, own.drift_airs, self.time, self.wavelength)
        return Curves(log_transit, slopes, gain)

    def residual(self, curves: Curves) -> Float64[Tensor, "B V W T"]:
        """Logarithm of flux over model, the star's level included."""
        left = self.batch.log_flux - curves.log_transit - curves.log_gain
        weight = self.batch.weight
        level = (weight * left).sum(-1) / weight.sum(-1).clamp_min(1e-300)
        return left - level[..., None]

    def normal(self, depth: Float64[Tensor, "B W"], shared: Float64[Tensor, "B N"]) -> Normal:
        """Information matrix and gradient of the log likelihood at a guess."""
        return self.normal_of(self.curves(depth, shared))

    def normal_of(self, curves: Curves) -> Normal:
        """The same, of a model that is at hand."""
        normal = self.white_normal(curves)
        if self.noise is None:
            return normal
        design, residual = self.projected(curves, self.noise.modes)
        series = torch.cat([design, residual[..., None]], dim=-1)
        seen = self.noise.told(series).flatten(1, 2)
        lost = seen.mT @ seen
        depths = self.batch.depths
        return Normal(
            depth=normal.depth,
            cross=normal.cross - lost[:, :depths, depths:-1],
            shared=normal.shared - lost[:, depths:-1, depths:-1],
            depth_pull=normal.depth_pull - lost[:, :depths, -1],
            shared_pull=normal.shared_pull - lost[:, depths:-1, -1],
            chi2=normal.chi2 - lost[:, -1, -1],
            blurred=lost[:, :depths, :depths],
        )

    def projected(
        self, curves: Curves, modes: Float64[Tensor, "B V W K"]
    ) -> tuple[Float64[Tensor, "B V K T P"], Float64[Tensor, "B V K T"]]:
        """Slopes by depths and shared parameters, and the residual, in modes of colour.

        In units of the white noise, the star's level eliminated.
        """
        table = self._whitened(curves)
        depth = torch.einsum("bvwk,bvwt->bvktw", modes, table[..., 0])
        residual = torch.einsum("bvwk,bvwt->bvkt", modes, table[..., -1])
        order = max(self.layout.wavelength_terms - 1, 1)
        colour = torch.zeros(self.batch.depths, 2 + order).to(residual)
        colour[0, 0], colour[1:, 1:] = 1.0, chebyshev(self.batch.place[1:], order)
        mixed = torch.einsum(  # (V, M, L, N): the design is a few colours times small matrices
            "mw,vwln->vmln", torch.linalg.pinv(colour), self.design
        )
        local = table[..., :-1].flatten(3)  # (B, V, W, T L)
        both = (modes[..., None] * colour[:, None]).flatten(3)  # (B, V, W, K M)
        seen = (both.mT @ local).unflatten(2, modes.shape[-1:] + colour.shape[1:])
        seen = seen.unflatten(-1, table.shape[3:4] + mixed.shape[2:3])  # (B, V, K, M, T, L)
        shared = torch.einsum("bvkmtl,vmln->bvktn", seen, mixed)
        return torch.cat([depth, shared], dim=-1), residual

    def _whitened(self, curves: Curves) -> Float64[Tensor, "B V W T M"]:
        """Local slopes, drift and residual in units of the white noise, star eliminated."""
        table = self._table(curves)
        weight = self.batch.weight[..., None]
        mean = (weight * table).sum(-2, keepdim=True)
        mean = mean / weight.sum(-2, keepdim=True).clamp_min(1e-300)
        return weight.sqrt() * (table - mean)

    def process(self, curves: Curves) -> Float64[Tensor, "B V W T"]:
        """What noise in time explains of the residual: its most likely course."""
        residual = self.residual(curves)
        if self.noise is None:
            return torch.zeros_like(residual)
        weight = self.batch.weight
        projected = torch.einsum("bvwk,bvwt->bvkt", self.noise.modes, weight.sqrt() * residual)
        smooth = self.noise.smooth(projected)
        own = torch.einsum("bvwk,bvkt->bvwt", self.noise.modes, smooth)
        return torch.where(weight > 0.0, own / weight.clamp_min(1e-300).sqrt(), 0.0)

    def white_normal(self, curves: Curves) -> Normal:
        """The same if all noise were white."""
        gram = self._gram(curves)
        local, pull = gram[..., :-1, :-1], gram[..., :-1, -1]
        mixed = local @ self.design
        count = len(gram)
        flat = self.design.flatten(0, 2)
        return Normal(
            depth=local[..., 0, 0].sum(1),
            cross=mixed[..., 0, :].sum(1),
            shared=flat.T @ mixed.reshape(count, *flat.shape),
            depth_pull=pull[..., 0].sum(1),
            shared_pull=pull.reshape(count, -1) @ flat,
            chi2=gram[..., -1, -1].sum((1, 2)),
        )

    def _table(self, curves: Curves) -> Float64[Tensor, "B V W T M"]:
        """Local slopes, drift in time and residual."""
        residual = self.residual(curves)
        columns = residual.shape[2] - 1
        time = (
            torch.cat(
                [self.time[:, :, :1], self.time[:, :, 1:].expand(-1, -1, columns, -1, -1)], dim=2
            )
            / curves.log_gain.exp()[..., None]
        )
        return torch.cat([curves.slopes, time, residual[..., None]], dim=-1)

    def _gram(self, curves: Curves) -> Float64[Tensor, "B V W M M"]:
        """Weighted products over time of local slopes, drift and residual, star eliminated."""
        table = self._table(curves)
        table = torch.cat([table, torch.ones_like(table[..., :1])], dim=-1)
        gram = (table * self.batch.weight[..., None]).transpose(-1, -2) @ table
        level = gram[..., -1:, -1:].clamp_min(1e-300)
        gram = gram - gram[..., :, -1:] @ gram[..., -1:, :] / level
        return gram[..., :-1, :-1]


def transit_columns(
    time_h: Float64[Tensor, "B V T M"],
    orbit: Float64[Tensor, "B 3"],
    mid_time_h: Float64[Tensor, "B V"],
    depth: Float64[Tensor, "B C"],
    limb: Float64[Tensor, "B C 2"],
    nodes: int,
) -> tuple[Float64[Tensor, "B V C T"], Float64[Tensor, "B V C T 7"]]:
    """Log transit of one channel's columns, averaged over the samples of each bin.

    The integrals are tabulated at `nodes` Chebyshev points over the columns' radius ratios.

    Returns:
        log(1 - hidden) and its derivatives by depth, ln P, ln a, b^2, mid-time [1/h], u1, u2.
    """
    z, slopes = _separation(time_h, orbit, mid_time_h)
    k = depth.clamp_min(_SMALLEST_DEPTH).sqrt()
    low, high = k.amin(1, keepdim=True), k.amax(1, keepdim=True)
    centre = 0.5 * (low + high)
    half = torch.maximum(0.55 * (high - low), _NARROWEST * centre)
    x = torch.cos(math.pi * (torch.arange(nodes).to(k) + 0.5) / nodes)
    node = (centre + half * x)[:, None, :, None, None]
    by_z = covered_gradients(z[:, :, None], node)[0]
    moved = torch.einsum("mbvktn,bvotn->bvomkt", by_z, slopes) / time_h.shape[-1]
    table = covered_integrals(z[:, :, None], node).mean(-1).permute(1, 2, 0, 3, 4)
    inverse = torch.linalg.inv(chebyshev(x, nodes - 1))
    at = (k - centre) / half
    share = (chebyshev(at, nodes - 1) @ inverse)[:, None]  # (B, 1, C, K)
    slope = (chebyshev_slopes(at, nodes - 1) @ inverse / (2.0 * k * half)[..., None])[:, None]
    total = math.pi * (1.0 - limb[..., 0] / 3.0 - limb[..., 1] / 6.0)
    law = torch.stack([torch.ones_like(total), -limb[..., 0], -limb[..., 1]], -1)
    law = (law / total[..., None])[:, None, ..., None]
    flat = table.flatten(2, 3)
    mix = (law * share[..., None, :]).flatten(-2)
    hidden = mix @ flat
    by_depth = (law * slope[..., None, :]).flatten(-2) @ flat
    by_orbit = mix[:, :, None] @ moved.flatten(3, 4)  # (B, V, 4, C, T)
    disc = total[:, None, :, None]
    by_u1 = (hidden * math.pi / 3.0 - share @ table[:, :, 1]) / disc
    by_u2 = (hidden * math.pi / 6.0 - share @ table[:, :, 2]) / disc
    columns = torch.stack([by_depth, *by_orbit.unbind(2), by_u1, by_u2], dim=-1)
    return torch.log1p(-hidden), -columns / (1.0 - hidden)[..., None]


def _separation(
    time_h: Float64[Tensor, "B V T M"],
    orbit: Float64[Tensor, "B 3"],
    mid_time_h: Float64[Tensor, "B V"],
) -> tuple[Float64[Tensor, "B V T M"], Float64[Tensor, "B V 4 T M"]]:
    """Separation and its derivatives by ln P, ln a, b^2 and mid-time, smooth in b^2 = 0."""
    period, axis = orbit[:, 0].exp(), orbit[:, 1].exp()
    period, axis, impact2 = (x[:, None, None, None] for x in (period, axis, orbit[:, 2]))
    phase = 2.0 * math.pi * (time_h - mid_time_h[..., None, None]) / (24.0 * period)
    sine2, cosine2 = phase.sin() ** 2, phase.cos() ** 2
    z = (axis**2 * sine2 + impact2 * cosine2).clamp_min(1e-12).sqrt()
    by_phase = phase.sin() * phase.cos() * (axis**2 - impact2) / z
    slopes = torch.stack(
        [
            -by_phase * phase,
            axis**2 * sine2 / z,
            0.5 * cosine2 / z,
            -by_phase * 2.0 * math.pi / (24.0 * period),
        ],
        dim=2,
    )
    before = phase.cos() > 0.0
    return torch.where(before, z, _BEHIND), torch.where(before[:, :, None], slopes, 0.0)
