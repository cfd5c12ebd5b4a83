"""Depth at every AIRS-CH0 wavelength of one visit, the orbit held at the white-light fit.

What white light leaves over its own model is common to all wavelengths and divided out first;
the level of the spectrum then is that of the white-light fit, and

    flux(t, w) = S_w [1 + sum_ij c_ij T_i(tau) G_j(xi)] [1 - hidden(z(t), k_w, u_w)]

describes how wavelengths differ, where G_j has no share in white light. The model is linearised
around the current solution and solved for S_w, k_w^2 (282 of each) and the drift coefficients
c_ij, which all wavelengths share (i over time, j over the detector columns). The 2 x 2 block of
each wavelength is eliminated first, so one small system for c_ij is left; no loop runs over
wavelengths. The drift keeps the separable form 1 + f(t) g(w) in which gain drift is known, and
its uncertainty enters every depth.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from spectramind.transit.binning import BinnedVisit
from spectramind.transit.flux import covered_integrals, hidden_share
from spectramind.transit.settings import TransitConfig

_K_NODES = 7  # Chebyshev nodes in k on which the integrals are tabulated
_K_RANGE = 0.35  # k of any wavelength lies within this share of the white-light one
_PASSES = 3  # linearisations


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Depths of one visit; wavelengths without flux have infinite sigma."""

    depth: Float64[np.ndarray, " 282"]  # (Rp/Rs)^2
    sigma: Float64[np.ndarray, " 282"]  # noise and drift, the white-light fit taken as exact
    limb_sigma: Float64[np.ndarray, " 282"]  # limb darkening away from its expected colour
    baseline: Float64[np.ndarray, "T 282"]
    hidden: Float64[np.ndarray, "T 282"]
    replaced: int  # values rejected as outliers


@dataclass(frozen=True, eq=False)
class _Table:
    """Integrals J_m(t, k) as Chebyshev series in k."""

    coefficients: Float64[np.ndarray, "N 3 T"]
    centre: float
    half_width: float

    def hidden(
        self, depth: Float64[np.ndarray, " W"], limb: Float64[np.ndarray, "W 2"]
    ) -> tuple[Float64[np.ndarray, "T W"], Float64[np.ndarray, "T W"]]:
        """Hidden share and its derivative by depth; linear in depth beyond the table's k."""
        low, high = self.centre - self.half_width, self.centre + self.half_width
        k = np.sqrt(np.clip(depth, low**2, high**2))
        x = (k - self.centre) / self.half_width
        order = self.coefficients.shape[0] - 1
        values = np.polynomial.chebyshev.chebvander(x, order)
        slopes = _slopes(x, order) / (self.half_width * 2.0 * k)[:, None]
        share = hidden_share(self._mix(values), limb[:, 0], limb[:, 1])
        slope = hidden_share(self._mix(slopes), limb[:, 0], limb[:, 1])
        return share + slope * (depth - k**2), slope

    def limb_slopes(
        self, depth: Float64[np.ndarray, " W"], limb: Float64[np.ndarray, "W 2"]
    ) -> list[Float64[np.ndarray, "T W"]]:
        """Derivatives of the hidden share by u1 and by u2."""
        step = 1e-3
        share, _ = self.hidden(depth, limb)
        moved = [self.hidden(depth, limb + step * unit)[0] for unit in np.eye(2)]
        return [(values - share) / step for values in moved]

    def _mix(self, weights: Float64[np.ndarray, "W N"]) -> Float64[np.ndarray, "3 T W"]:
        return np.tensordot(self.coefficients, weights, axes=(0, 1))


def _slopes(x: Float64[np.ndarray, " W"], order: int) -> Float64[np.ndarray, "W N"]:
    """Derivatives of the Chebyshev polynomials T_0..T_order."""
    derivative = np.polynomial.chebyshev.chebder(np.eye(order + 1))
    return np.polynomial.chebyshev.chebvander(x, order - 1) @ derivative


def _table(z: Float64[np.ndarray, "T M"], k_white: float) -> _Table:
    x = np.cos(np.pi * (np.arange(_K_NODES) + 0.5) / _K_NODES)
    half_width = _K_RANGE * k_white
    nodes = k_white + half_width * x
    integrals = covered_integrals(z[None], nodes[:, None, None]).mean(axis=-1)
    inverse = np.linalg.inv(np.polynomial.chebyshev.chebvander(x, _K_NODES - 1))
    return _Table(np.einsum("cn,mnt->cmt", inverse, integrals), k_white, half_width)


def fit_depths(
    visit: BinnedVisit,
    *,
    z: Float64[np.ndarray, "T M"],
    used: Bool[np.ndarray, " T"],
    white_model: Float64[np.ndarray, " T"],
    white_transit: Float64[np.ndarray, " T"],
    k_white: float,
    limb: Float64[np.ndarray, "282 2"],
    config: TransitConfig,
) -> Spectrum:
    """Fit all wavelengths of a visit by iterated weighted least squares.

    Args:
        visit: The visit in time bins.
        z: Separation at M samples within each bin [stellar radii].
        used: Bins that the white-light fit kept.
        white_model: White-light model, baseline times transit.
        white_transit: Its transit alone.
        k_white: Radius ratio of the white-light fit.
        limb: Quadratic limb darkening u1, u2 of each wavelength.
        config: Section `transit`.

    Returns:
        Depths with their errors, the drift and the star divided out by `baseline`.
    """
    table = _table(z, k_white)
    solver = _Solver(visit, used, config)
    common = visit.airs_white / white_transit  # baseline and what the model leaves over
    flux = visit.airs / common[:, None]
    depth, star = np.full(flux.shape[1], k_white**2), np.ones(flux.shape[1])
    drift = np.zeros(solver.prior_precision.shape)
    replaced = 0
    for number in range(_PASSES):
        hidden, slope = table.hidden(depth, limb)
        transit, gain = 1.0 - hidden, 1.0 + solver.drift(drift)
        residual = flux / (star * transit) - gain
        if number:
            residual, replaced = solver.reweight(residual, config.outlier_sigma)
        step = solver.solve(residual, -gain * slope / transit, drift)
        star = star * (1.0 + step.star)
        depth, drift = depth + step.depth, drift + step.drift
    hidden, slope = table.hidden(depth, limb)
    limb_variance = np.zeros(depth.size)
    for change in table.limb_slopes(depth, limb):
        moved = solver.solve(change / (1.0 - hidden), -slope / (1.0 - hidden), 0.0 * drift)
        limb_variance += (config.prior.limb_darkening_colour * moved.depth) ** 2
    return Spectrum(
        depth=depth,
        sigma=solver.errors(step),
        limb_sigma=np.sqrt(limb_variance),
        baseline=star * (1.0 + solver.drift(drift)) * (white_model / white_transit)[:, None],
        hidden=hidden,
        replaced=replaced,
    )


@dataclass(frozen=True, eq=False)
class _Step:
    """Solution of one linearised system, and what its errors are made of."""

    star: Float64[np.ndarray, " 282"]
    depth: Float64[np.ndarray, " 282"]
    drift: Float64[np.ndarray, "I J"]
    variance: Float64[np.ndarray, " 282"]  # of each depth for unit noise, drift known
    response: Float64[np.ndarray, "282 IJ"]  # change of each depth with the drift
    drift_covariance: Float64[np.ndarray, "IJ IJ"]


class _Solver:
    """Weights and bases of one visit."""

    def __init__(
        self, visit: BinnedVisit, used: Bool[np.ndarray, " T"], config: TransitConfig
    ) -> None:
        scatter = np.array(config.baseline.scatter)
        columns = np.arange(1, config.baseline.wavelength_order + 1)
        self.used, self.lit = used.astype(np.float64), visit.lit
        self.time = np.polynomial.chebyshev.chebvander(visit.tau, scatter.size)[:, 1:]
        xi = np.linspace(-1.0, 1.0, visit.lit.size)
        shapes = np.polynomial.chebyshev.chebvander(xi, columns.size)[:, 1:]
        self.wavelength = shapes - visit.white_share @ shapes
        prior = scatter[:, None] * config.baseline.wavelength_decay**columns
        self.prior_precision = prior**-2.0
        second = np.diff(visit.airs[used], n=2, axis=0)
        self.noise = 1.4826 * np.median(np.abs(second), axis=0) / np.sqrt(6.0)

    def drift(self, coefficients: Float64[np.ndarray, "I J"]) -> Float64[np.ndarray, "T 282"]:
        """Drift of each bin and wavelength."""
        return self.time @ coefficients @ self.wavelength.T

    @property
    def weight(self) -> Float64[np.ndarray, " 282"]:
        """Inverse variance of one bin at each wavelength; 0 without flux."""
        lit = self.lit & (self.noise > 0.0)
        return np.where(lit, 1.0 / np.where(lit, self.noise, 1.0) ** 2, 0.0)

    def reweight(
        self, residual: Float64[np.ndarray, "T 282"], limit: float
    ) -> tuple[Float64[np.ndarray, "T 282"], int]:
        """Set outliers to zero and measure the noise again; two parameters a wavelength."""
        scale = 1.4826 * np.median(np.abs(residual), axis=0)
        outside = (np.abs(residual) > limit * scale) & (self.used[:, None] > 0.0) & self.lit
        kept = np.where(outside, 0.0, residual)
        count = self.used @ ~outside
        self.noise = np.sqrt(self.used @ kept**2 / np.maximum(count - 2.0, 1.0))
        return kept, int(outside.sum())

    def solve(
        self,
        residual: Float64[np.ndarray, "T 282"],
        slope: Float64[np.ndarray, "T 282"],
        drift: Float64[np.ndarray, "I J"],
    ) -> _Step:
        """One linear system: star and depth of each wavelength, and the shared drift."""
        time, used = self.time, self.used
        lit_slope = np.where(self.lit, slope, -1.0 * (np.arange(used.size) % 2)[:, None])
        sw = lit_slope * used[:, None]
        one = np.full(sw.shape[1], used.sum())
        block = np.stack([[one, sw.sum(0)], [sw.sum(0), (sw * lit_slope).sum(0)]])
        inverse = np.linalg.inv(np.moveaxis(block, -1, 0))  # 282 blocks of 2 x 2
        ones = np.broadcast_to(used @ time, (sw.shape[1], time.shape[1]))
        cross = np.stack([ones, sw.T @ time], axis=1)  # (282, 2, I)
        right = np.stack([used @ residual, (sw * residual).sum(0)], axis=-1)
        answer = np.einsum("wab,wbi->wai", inverse, cross)
        own = np.einsum("wab,wb->wa", inverse, right)
        left = (time.T * used) @ time - np.einsum("wai,waj->wij", cross, answer)
        free = (time.T * used) @ residual - np.einsum("wai,wa->iw", cross, own)
        weight, basis = self.weight, self.wavelength
        size = drift.size
        hessian = np.einsum("w,wij,wp,wq->ipjq", weight, left, basis, basis, optimize=True)
        hessian = hessian.reshape(size, size) + np.diag(self.prior_precision.ravel())
        pull = ((free * weight) @ basis - self.prior_precision * drift).ravel()
        covariance = np.linalg.inv(hessian)
        change = (covariance @ pull).reshape(drift.shape)
        own = own - np.einsum("wai,ip,wp->wa", answer, change, basis, optimize=True)
        response = np.einsum("wi,wp->wip", answer[:, 1], basis).reshape(-1, size)
        return _Step(own[:, 0], own[:, 1], change, inverse[:, 1, 1], response, covariance)

    def errors(self, step: _Step) -> Float64[np.ndarray, " 282"]:
        """Error of each depth."""
        weight = self.weight
        lit = weight > 0.0
        white = np.where(lit, step.variance / np.where(lit, weight, 1.0), np.inf)
        shared = np.einsum("wa,ab,wb->w", step.response, step.drift_covariance, step.response)
        return np.sqrt(white + shared)
