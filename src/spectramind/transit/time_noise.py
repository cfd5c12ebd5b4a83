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

COLOURS = 6  # modes of AIRS-CH0
MODES = COLOURS + 1  # and FGS1
_SCALES_H = (0.12, 0.4, 1.3)  # of the stationary kernels [h]
_VARIANCES = np.geomspace(0.1, 40.0, 14) ** 2  # of a process [white noise of a bin]
_SQUARES = np.geomspace(0.3, 3000.0, 17) ** 2  # of the size of a single shape
_RAMPS_H = (0.1, 0.2, 0.4, 0.8, 1.6)
_FLARES_H = (0.1, 0.3)
_BUMPS_H = (0.1, 0.2, 0.35)  # half widths
_PERIODS_H = tuple(np.geomspace(0.2, 2.5, 24))
_THINNED = 60  # bins of a visit on which kernels are compared
_ROUNDS = 2  # kernels on top of one another
_LIGHT = 2  # modes in which all light is added up: FGS1 and grey
_COMMON = (-0.8, -0.4, 0.0, 0.4, 0.8, 0.95)  # correlations of the processes of these two, tried
_KINDS = (  # kinds of kernels: how many of each there are, and the belief in all of them
    (2 * len(_SCALES_H), 0.12), (len(_RAMPS_H), 0.06), (1, 0.03), (len(_FLARES_H), 0.03),
    (len(_BUMPS_H), 0.03), (len(_PERIODS_H), 0.03),
)  # fmt: skip
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
        sizes = [len(_VARIANCES), *[len(_SQUARES)] * (len(_KINDS) - 1)]
        parts = [
            np.full(count * size, all_of / (count * size))
            for size, (count, all_of) in zip(sizes, _KINDS, strict=True)
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
    seen: Projected, parameters: Float64[Tensor, "P P"], belief: NoiseBelief
) -> tuple[Float64[Tensor, "K T T"], Float64[Tensor, ""], Float64[Tensor, "R K H"]]:
    """Mean covariance of the process in each mode, and the log evidence of each hypothesis.

    Args:
        seen: Light curves of one visit.
        parameters: Prior covariance of depths and shared parameters.
        belief: In the hypotheses, beforehand.

    Returns:
        The covariance in units of the white noise, the correlation of the first two modes, and the
        evidence in each round.
    """
    thinning = _thinning(seen.used)
    thin = thinning @ _centring(seen.used)  # (K, S, T)
    slopes, residual = thinning @ seen.design, (thinning @ seen.residual[..., None])[..., 0]
    noise = slopes @ parameters @ slopes.mT + torch.eye(thin.shape[1]).to(slopes)
    tried = _Tried.of(seen.time_h)
    thinned = tried.thinned(thin)
    sizes, found = _Sizes.nothing(thinned), []
    for number in range(len(belief.belief)):
        lower = torch.linalg.cholesky(noise + thinned.covariance(sizes))
        process = _process_evidence(lower, residual, thinned.kernels)
        one, second = _shape_evidence(lower, residual, thinned.shapes)
        single = one.split(tried.counts, 1)
        own = belief.belief[number, : len(thin)]
        evidence = _joined(process, single)
        share = (evidence + torch.tensor(own).to(noise).log()).softmax(-1)
        sizes = sizes.and_more(_Sizes.of(share, single, second))
        found.append(evidence)
    common = _common(slopes, parameters, residual, thinned.covariance(sizes))
    return _centred(tried.covariance(sizes), seen.used), common, torch.stack(found)


def _joined(
    process: Float64[Tensor, "K N A"], single: Sequence[Float64[Tensor, "K _ Q"]]
) -> Float64[Tensor, "K H"]:
    """Log evidence of all hypotheses in the order of `NoiseBelief`, places averaged."""
    nothing = torch.zeros_like(process[:, 0, :1])
    groups = [own.logsumexp(1) - np.log(own.shape[1]) for own in single]
    return torch.cat([nothing, process.flatten(1), *groups], dim=1)


@dataclass(frozen=True, eq=False)
class _Tried:
    """Kernels and shapes of all hypotheses, each of unit size, for groups of modes."""

    kernels: Float64[Tensor, "C N T T"]
    shapes: Float64[Tensor, "C T R"]
    counts: list[int]  # shapes of one kind and scale
    modes: list[int]  # in each group

    @classmethod
    def of(cls, time_h: Float64[Tensor, "K T"]) -> "_Tried":
        """For the times of each mode; those of AIRS-CH0 have the same."""
        pair = time_h[:2]
        shapes = _shapes(pair)
        return cls(
            torch.stack(_stationary(pair), dim=1),
            torch.cat(shapes, dim=2),
            [own.shape[2] for own in shapes],
            [1, len(time_h) - 1][: len(pair)],
        )

    def thinned(self, thin: Float64[Tensor, "K S T"]) -> "_Tried":
        """As each mode sees them in fewer bins."""
        parts = list(zip(thin.split(self.modes), self.kernels, self.shapes, strict=True))
        kernels = [
            (own.flatten(0, 1) @ kernels).unflatten(1, own.shape[:2]) @ own.mT
            for own, kernels, _ in parts
        ]
        return _Tried(
            torch.cat([own.transpose(0, 1) for own in kernels]),
            torch.cat([own @ shapes for own, _, shapes in parts]),
            self.counts,
            [1] * len(thin),
        )

    def covariance(self, sizes: "_Sizes") -> Float64[Tensor, "K T T"]:
        """Of each mode."""
        parts = zip(
            sizes.variance.split(self.modes), sizes.square.split(self.modes), self.kernels,
            self.shapes, strict=True,
        )  # fmt: skip
        return torch.cat(
            [
                (variance @ kernels.flatten(1)).unflatten(1, kernels.shape[1:])
                + (shapes * square[:, None]) @ shapes.T
                for variance, square, kernels, shapes in parts
            ]
        )


@dataclass(frozen=True, eq=False)
class _Sizes:
    """Mean variance of each kernel and mean square of each shape, over the hypotheses."""

    variance: Float64[Tensor, "K N"]
    square: Float64[Tensor, "K R"]

    @classmethod
    def nothing(cls, tried: _Tried) -> "_Sizes":
        """Of noise that is white; `tried` has one mode in each group."""
        return cls(
            torch.zeros_like(tried.kernels[:, :, 0, 0]), torch.zeros_like(tried.shapes[:, 0])
        )

    @classmethod
    def of(
        cls,
        share: Float64[Tensor, "K H"],
        single: Sequence[Float64[Tensor, "K _ Q"]],
        second: Float64[Tensor, "K R Q"],
    ) -> "_Sizes":
        """From the belief in each hypothesis.

        Args:
            share: Of each hypothesis.
            single: Log evidence of each shape and size, by kind.
            second: Mean square of each shape's size once the light curves are seen.
        """
        process, rest = share[:, 1:].split(
            [share.shape[1] - 1 - len(single) * len(_SQUARES), len(single) * len(_SQUARES)], dim=1
        )
        belief = rest.unflatten(1, (len(single), -1))
        parts = zip(single, second.split([own.shape[1] for own in single], 1), strict=True)
        within = [
            (own.softmax(1) * belief[:, None, kind] * size).sum(-1)
            for kind, (own, size) in enumerate(parts)
        ]
        variance = torch.tensor(_VARIANCES).to(share)
        return cls(process.unflatten(1, (-1, len(variance))) @ variance, torch.cat(within, dim=1))

    def and_more(self, other: "_Sizes") -> "_Sizes":
        """Of processes on top of one another."""
        return _Sizes(self.variance + other.variance, self.square + other.square)


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


def _stationary(time_h: Float64[Tensor, "K T"]) -> list[Float64[Tensor, "K T T"]]:
    lag = (time_h[:, :, None] - time_h[:, None, :]).abs()
    kernels = []
    for scale in _SCALES_H:
        smooth = np.sqrt(3.0) * lag / scale
        kernels += [torch.exp(-lag / scale), (1.0 + smooth) * torch.exp(-smooth)]
    return kernels


def _shapes(time_h: Float64[Tensor, "K T"]) -> list[Float64[Tensor, "K T _"]]:
    """Single shapes of unit size at all places, in groups of one kind and scale."""
    time = time_h[:, :, None]
    first, last = time_h.min(), time_h.max()
    places = torch.linspace(float(first), float(last), _THINNED + 2)[1:-1].to(time_h)
    since = time - places
    after = (since > 0.0).to(time)
    between = 0.5 * (time_h[:, None, 1:] + time_h[:, None, :-1])  # a step ends with its bin
    halves = torch.tensor([0.0, 0.25, 0.5, 0.75]).to(time_h) * np.pi
    return [
        *[torch.exp(-(time - first) / scale) for scale in _RAMPS_H],
        (time > between).to(time),
        *[after * torch.exp(-since.clamp_min(0.0) / scale) for scale in _FLARES_H],
        *[torch.exp(-0.5 * (since / scale) ** 2) for scale in _BUMPS_H],
        *[torch.cos(2.0 * np.pi * time / period + halves) for period in _PERIODS_H],
    ]


def _process_evidence(
    lower: Float64[Tensor, "K S S"],
    residual: Float64[Tensor, "K S"],
    kernels: Float64[Tensor, "K N S S"],
) -> Float64[Tensor, "K N A"]:
    """Log evidence of each kernel and amplitude, against none."""
    white = torch.linalg.solve_triangular(lower, residual[..., None], upper=False)
    inner = torch.linalg.solve_triangular(lower[:, None], kernels, upper=False)
    inner = torch.linalg.solve_triangular(lower[:, None], inner.mT, upper=False)
    values, vectors = torch.linalg.eigh(0.5 * (inner + inner.mT))
    turned = (vectors.mT @ white[:, None])[..., 0].square()  # (K, N, S)
    variance = torch.tensor(_VARIANCES).to(lower)
    grown = variance[:, None] * values.clamp_min(0.0)[:, :, None]  # (K, N, A, S)
    return 0.5 * (turned[:, :, None] * grown / (1.0 + grown) - torch.log1p(grown)).sum(-1)


def _shape_evidence(
    lower: Float64[Tensor, "K S S"],
    residual: Float64[Tensor, "K S"],
    shapes: Float64[Tensor, "K S R"],
) -> tuple[Float64[Tensor, "K R Q"], Float64[Tensor, "K R Q"]]:
    """Log evidence of each shape and size, against none, and the size's mean square afterwards.

    Sizes that the light curves exclude would else outweigh all others by their square.
    """
    white = torch.linalg.solve_triangular(lower, residual[..., None], upper=False)
    seen = torch.linalg.solve_triangular(lower, shapes, upper=False)
    size, pull = seen.square().sum(1), (seen * white).sum(1)  # (K, R)
    squares = torch.tensor(_SQUARES).to(lower)
    grown = squares * size[..., None]
    variance = squares / (1.0 + grown)
    second = (variance * pull[..., None]).square() + variance
    return 0.5 * (pull.square()[..., None] * variance - torch.log1p(grown)), second
