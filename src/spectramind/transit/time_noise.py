"""Noise that is correlated in time: for each visit a process in each mode of colour, marginalised.

A mode is a unit vector over the wavelengths, in units of their white noise: FGS1 alone, and smooth
colours of AIRS-CH0, grey first, orthogonal to one another. In each of them the light curves,
projected, are white noise of unit variance plus a process of unknown kernel. Many kernels are
tried: Ornstein-Uhlenbeck and Matern-3/2 of several time scales, and single shapes of unknown
amplitude (exponential ramp, step, flare, bump, wave). The parameters of the planet, depths and
orbit and drift included, are marginalised under their priors, so that no part of the process is
taken for a transit or hidden by it. The covariance that the fit uses is the mean over all kernels
and amplitudes by their evidence: no threshold, no best one. The processes of FGS1 and of grey
light are correlated as far as their light curves ask for it: a telescope that breathes moves both.

Sources: Rasmussen and Williams 2006, chapters 2 and 5; Gibson et al. 2012 for transits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.transit.drift import chebyshev
from spectramind.transit.hypotheses import (
    KINDS,
    SQUARES,
    VARIANCES,
    Hypotheses,
    Sizes,
)

COLOURS = 6  # modes of AIRS-CH0
MODES = COLOURS + 1  # and FGS1
_THINNED = 60  # bins of a visit on which hypotheses are compared
_ROUNDS = 2  # kernels on top of one another
_SHAPES = 3  # shapes on top of one another, before a kernel, in the other search
_LIGHT = 2  # modes in which all light is added up: FGS1 and grey
_COMMON = (-0.8, -0.4, 0.0, 0.4, 0.8, 0.95)  # correlations of the processes of these two, tried
_NEGLIGIBLE = 1e-3  # share of the information that a component of the process takes
_NULL = 0.7  # belief that there is nothing (more)
_TYPICAL = 5.0  # visits' worth of this belief in what an archive teaches
_STEPS = 30  # of expectation-maximisation


@dataclass(frozen=True, eq=False)
class NoiseBelief:
    """What is believed of noise in time beforehand: in each round and mode, of each hypothesis.

    Hypothesis 0 is that there is nothing (more); the others are kernels, each with each amplitude.
    """

    belief: Float64[np.ndarray, "R K H"]  # sums to 1 over hypotheses
    visits: int  # from which it was learned; 0: nothing

    @classmethod
    def first(cls) -> "NoiseBelief":
        """Before an archive has been seen."""
        sizes = [len(VARIANCES), *[len(SQUARES)] * (len(KINDS) - 1)]
        parts = [
            np.full(count * size, all_of / (count * size))
            for size, (count, all_of) in zip(sizes, KINDS, strict=True)
        ]
        belief = np.concatenate([[_NULL], *parts])
        return cls(np.broadcast_to(belief, (_ROUNDS, MODES, belief.size)).copy(), visits=0)

    @classmethod
    def white(cls) -> "NoiseBelief":
        """Sure that all noise is white."""
        belief = np.zeros_like(cls.first().belief)
        belief[..., 0] = 1.0
        return cls(belief, visits=0)


def learn_belief(evidence: Float64[np.ndarray, "N R K H"]) -> NoiseBelief:
    """The belief that makes the visits of an archive most likely, by expectation-maximisation.

    Args:
        evidence: Log evidence of each hypothesis in each visit.
    """
    first = NoiseBelief.first().belief
    belief = first
    for _ in range(_STEPS):
        log = evidence + np.log(belief)
        share = np.exp(log - log.max(-1, keepdims=True))
        share = share / share.sum(-1, keepdims=True)
        belief = (share.sum(0) + _TYPICAL * first) / (len(evidence) + _TYPICAL)
    return NoiseBelief(belief, len(evidence))


@dataclass(frozen=True, eq=False)
class TimeNoise:
    """Noise in time of a batch, as R with R R^T = C (1 + C)^-1 for a covariance C."""

    modes: Float64[Tensor, "B V W K"]
    light: Float64[Tensor, "B V L T N"]  # R of FGS1 and grey light, over the bins of both
    colours: Float64[Tensor, "B V C T M"]  # R of each other colour
    evidence: Float64[Tensor, "B V R K H"]  # log evidence of each hypothesis of `NoiseBelief`

    @classmethod
    def of(
        cls,
        modes: Float64[Tensor, "B V W K"],
        covariance: Float64[Tensor, "B V K T T"],
        common: Float64[Tensor, "B V"],
        evidence: Float64[Tensor, "B V R K H"],
    ) -> "TimeNoise":
        """From the covariance in each mode and the correlation of FGS1 with grey light."""
        light, colours = covariance[:, :, :_LIGHT], covariance[:, :, _LIGHT:]
        return cls(modes, joint_root(light, common), root_of(colours), evidence)

    def told(self, series: Float64[Tensor, "B V K T P"]) -> Float64[Tensor, "B V M P"]:
        """R^T of series in the modes, those of all modes in one column."""
        light = self.light.flatten(2, 3).mT @ series[:, :, :_LIGHT].flatten(2, 3)
        colours = (self.colours.mT @ series[:, :, _LIGHT:]).flatten(2, 3)
        return torch.cat([light, colours], dim=2)

    def smooth(self, series: Float64[Tensor, "B V K T"]) -> Float64[Tensor, "B V K T"]:
        """R R^T of series in the modes: the most likely course of the process."""
        first = self.light.shape[-1]
        told = self.told(series[..., None])
        light = self.light.flatten(2, 3) @ told[:, :, :first]
        both = light.unflatten(2, self.light.shape[2:4])
        own = told[:, :, first:].unflatten(2, (self.colours.shape[2], -1))
        return torch.cat([both, self.colours @ own], dim=2)[..., 0]


def colour_modes(
    weight: Float64[Tensor, "B V W T"], place: Float64[Tensor, " W"]
) -> Float64[Tensor, "B V W K"]:
    """FGS1 alone, then smooth colours of AIRS-CH0, orthonormal in units of the white noise."""
    amplitude = weight.amax(-1).sqrt()  # (B, V, W)
    terms = chebyshev(place[1:], min(COLOURS, len(place) - 1) - 1)
    basis, _ = torch.linalg.qr(amplitude[..., 1:, None] * terms)
    dark = basis[..., :1].sum(-2, keepdim=True) < 0.0
    basis = torch.where(dark, -basis, basis)  # more of grey is more light
    modes = torch.zeros(*amplitude.shape, basis.shape[-1] + 1).to(amplitude)
    modes[..., 0, 0] = (amplitude[..., 0] > 0.0).to(amplitude)
    modes[..., 1:, 1:] = basis
    return modes


@dataclass(frozen=True, eq=False)
class Projected:
    """One visit's light curves and their slopes in one mode each, star eliminated."""

    design: Float64[Tensor, "K T P"]  # by depths, then shared parameters
    residual: Float64[Tensor, "K T"]  # about the prior mean of all parameters
    used: Float64[Tensor, "K T"]  # root of the share of the mode that was measured
    time_h: Float64[Tensor, "K T"]


def process_covariance(
    seen: Projected,
    parameters: Float64[Tensor, "P P"],
    belief: NoiseBelief,
    *,
    shapes_first: bool,
) -> tuple[Float64[Tensor, "K T T"], Float64[Tensor, ""], Float64[Tensor, "R K H"]]:
    """Mean covariance of the process in each mode, and the log evidence of each hypothesis.

    Args:
        seen: Light curves of one visit.
        parameters: Prior covariance of depths and shared parameters.
        belief: In the hypotheses, beforehand.
        shapes_first: Whether shapes on top of one another are tried as well, and a kernel only
            after them. A kernel follows whatever it is shown; a few jumps or waves are better
            explained, and hide less of a transit, each by itself. The evidence of either search
            weighs it. Near a transit that was not found yet, they would pass for it.

    Returns:
        The covariance in units of the white noise, the correlation of the first two modes, and the
        evidence in each round.
    """
    thinning = _thinning(seen.used)
    thin = thinning @ _centring(seen.used)  # (K, S, T)
    slopes, residual = thinning @ seen.design, (thinning @ seen.residual[..., None])[..., 0]
    noise = slopes @ parameters @ slopes.mT + torch.eye(thin.shape[1]).to(slopes)
    tried = Hypotheses.of(seen.time_h)
    thinned = tried.thinned(thin)
    believed = torch.tensor(belief.belief[:, : len(thin)]).to(noise)
    sizes, found, likely = _search(thinned, noise, residual, believed)
    if shapes_first:
        alone = [_of_shapes_alone(believed[0], thinned)] * _SHAPES
        other, _, other_likely = _search(thinned, noise, residual, [*alone, believed[-1]])
        sizes = sizes.mixed(other, torch.sigmoid(other_likely - likely))
    common = _common(slopes, parameters, residual, thinned.covariance(sizes))
    return _centred(tried.covariance(sizes), seen.used), common, torch.stack(found)


def _search(
    tried: Hypotheses,
    noise: Float64[Tensor, "K S S"],
    residual: Float64[Tensor, "K S"],
    beliefs: Sequence[Float64[Tensor, "K H"]] | Float64[Tensor, "R K H"],
) -> tuple[Sizes, list[Float64[Tensor, "K H"]], Float64[Tensor, " K"]]:
    """Round by round, what is left of a visit is explained by one hypothesis more.

    Returns:
        The sizes, the log evidence of each hypothesis in each round, and that of the search.
    """
    sizes, found, likely = Sizes.nothing(tried), [], torch.zeros_like(residual[:, 0])
    for belief in beliefs:
        lower = torch.linalg.cholesky(noise + tried.covariance(sizes))
        white = torch.linalg.solve_triangular(lower, residual[..., None], upper=False)[..., 0]
        shapes = tried.shape_evidence(lower, white)
        nothing = torch.zeros_like(white[:, :1])
        kernels = belief[:, tried.kernel_places]  # unbelieved ones need no evidence
        if kernels.any():
            kernels = tried.kernel_evidence(lower, white)
        evidence = torch.cat([nothing, kernels, shapes.by_kind], dim=1)
        joint = evidence + belief.log()
        sizes = sizes.and_more(joint.softmax(-1), shapes)
        likely = likely + joint.logsumexp(-1)
        found.append(evidence)
    return sizes, found, likely


def _of_shapes_alone(belief: Float64[Tensor, "K H"], tried: Hypotheses) -> Float64[Tensor, "K H"]:
    """The same belief without kernels."""
    left = belief.clone()
    left[:, tried.kernel_places] = 0.0
    return left / left.sum(-1, keepdim=True)


def root_of(covariance: Float64[Tensor, "*K T T"]) -> Float64[Tensor, "*K T M"]:
    """R with R R^T = C (1 + C)^-1, without what takes less than a thousandth of the information.

    Quiet light curves have few columns, so they cost little.
    """
    return _scaled(*torch.linalg.eigh(covariance))


def _scaled(
    values: Float64[Tensor, "*K T"], vectors: Float64[Tensor, "*K T T"]
) -> Float64[Tensor, "*K T M"]:
    """`root_of` a covariance with these eigenvalues, in increasing order, and eigenvectors."""
    share = (values / (1.0 + values)).clamp_min(0.0)
    told = share > _NEGLIGIBLE
    columns = max(int(told.reshape(-1, told.shape[-1]).any(0).sum()), 1)
    root = vectors * torch.where(told, share, 0.0).sqrt()[..., None, :]
    return root[..., -columns:]


def joint_root(
    covariance: Float64[Tensor, "*K L T T"], common: Float64[Tensor, "*K"]
) -> Float64[Tensor, "*K L T N"]:
    """`root_of` two processes C, D together that are correlated by sqrt(C) sqrt(D) x `common`."""
    values, vectors = torch.linalg.eigh(covariance)
    told = values / (1.0 + values) > _NEGLIGIBLE
    kept = max(int(told.sum(-1).max()), 1)  # the largest come last
    values, vectors = torch.where(told, values, 0.0)[..., -kept:], vectors[..., -kept:]
    size, count = values.sqrt(), covariance.shape[-3]
    inner = torch.einsum("...ltn,...mtp->...lnmp", vectors, vectors)
    share = common[..., None, None].expand(*common.shape, count, count).clone()
    share.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    inner = inner * share[..., :, None, :, None]
    inner = inner * size[..., None, None] * size[..., None, None, :, :]
    return vectors @ root_of(inner.flatten(-4, -3).flatten(-2)).unflatten(-2, (count, kept))


def _common(
    slopes: Float64[Tensor, "K S P"],
    parameters: Float64[Tensor, "P P"],
    residual: Float64[Tensor, "K S"],
    process: Float64[Tensor, "K S S"],
) -> Float64[Tensor, ""]:
    """Mean correlation of the processes of FGS1 and grey light, by the evidence for `_COMMON`."""
    if len(process) < _LIGHT:
        return torch.zeros(()).to(process)
    values, vectors = torch.linalg.eigh(process[:_LIGHT])
    half = (vectors * values.clamp_min(0.0).sqrt()[:, None]) @ vectors.mT
    cross = half[0] @ half[1]
    none = torch.zeros_like(cross)
    apart = torch.block_diag(*process[:_LIGHT])
    together = torch.cat([torch.cat([none, cross], 1), torch.cat([cross.mT, none], 1)])
    both = slopes[:_LIGHT].flatten(0, 1)
    noise = both @ parameters @ both.mT + torch.eye(len(both)).to(both) + apart
    tried = torch.tensor(_COMMON).to(both)
    lower = torch.linalg.cholesky(noise + tried[:, None, None] * together)
    left = residual[:_LIGHT].flatten()[None, :, None].expand(len(tried), -1, -1)
    white = torch.linalg.solve_triangular(lower, left, upper=False)[..., 0]
    size = lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (-0.5 * white.square().sum(-1) - size).softmax(0) @ tried


def _thinning(used: Float64[Tensor, "K T"]) -> Float64[Tensor, "K S T"]:
    """Means of neighbouring bins, scaled so that white noise keeps unit variance."""
    bins = used.shape[1]
    groups = min(_THINNED, bins)
    group = torch.arange(bins) * groups // bins
    rows = (group == torch.arange(groups)[:, None]).to(used) * (used > 0.0).to(used)[:, None]
    return rows / rows.sum(-1, keepdim=True).clamp_min(1.0).sqrt()


def _centred(
    covariance: Float64[Tensor, "K T T"], used: Float64[Tensor, "K T"]
) -> Float64[Tensor, "K T T"]:
    """`_centring` on either side."""
    scale = used.square().sum(-1)[:, None].clamp_min(1e-300)
    seen = used[:, :, None] * covariance * used[:, None]
    row = (seen @ used[..., None])[..., 0] / scale
    mean = (row * used).sum(-1, keepdim=True) / scale
    row = row - 0.5 * mean * used
    return seen - used[:, :, None] * row[:, None] - row[:, :, None] * used[:, None]


def _centring(used: Float64[Tensor, "K T"]) -> Float64[Tensor, "K T T"]:
    """From a series to what is left of it in units of the noise, the star's level eliminated."""
    scale = used.square().sum(-1)[:, None, None].clamp_min(1e-300)
    unit = torch.eye(used.shape[1]).to(used)
    return (unit - used[:, :, None] * used[:, None, :] / scale) * used[:, None, :]
