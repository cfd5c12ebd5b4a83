"""What noise in time of one visit may be: stationary kernels, single shapes, waves.

Each mode of the light curves has white noise of unit variance. A hypothesis is a kernel with an
amplitude, or one shape of a kind with a size, all places of the kind averaged. A wave is a cosine
and a sine of one frequency, alike in size; frequencies lie so close that a visit cannot tell
neighbours apart.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

_SCALES_H = (0.12, 0.4, 1.3)  # of the stationary kernels [h]
VARIANCES = np.geomspace(0.1, 40.0, 14) ** 2  # of a process [white noise of a bin]
SQUARES = np.geomspace(0.3, 3000.0, 17) ** 2  # of the size of a single shape
_RAMPS_H = (0.1, 0.2, 0.4, 0.8, 1.6)
_FLARES_H = (0.1, 0.3)
_BUMPS_H = (0.1, 0.2, 0.35)  # half widths
_BANDS_H = np.geomspace(0.19, 2.6, 25)  # edges of the kinds of waves, by period
_APART = 0.25  # frequencies of waves, over that of one cycle in a visit
_PLACES = 60  # of flares and bumps in a visit
KINDS = (  # kinds of kernels: how many of each there are, and the belief in all of them
    (2 * len(_SCALES_H), 0.12), (len(_RAMPS_H), 0.06), (1, 0.03), (len(_FLARES_H), 0.03),
    (len(_BUMPS_H), 0.03), (len(_BANDS_H) - 1, 0.03),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Kernels and shapes, each of unit size, for groups of modes."""

    kernels: Float64[Tensor, "C N T T"]
    shapes: Float64[Tensor, "C T R"]  # the single ones, then the waves: cosine, sine, cosine, ...
    counts: list[int]  # hypotheses of each kind of shape
    waves: int  # of these kinds, the last ones
    modes: list[int]  # in each group

    @classmethod
    def of(cls, time_h: Float64[Tensor, "K T"]) -> "Hypotheses":
        """For the times of each mode; those of AIRS-CH0 have the same."""
        pair = time_h[:2]
        single, waves = _single_shapes(pair), _waves(pair)
        return cls(
            torch.stack(_stationary(pair), dim=1),
            torch.cat([*single, *waves], dim=2),
            [own.shape[2] for own in single] + [own.shape[2] // 2 for own in waves],
            len(waves),
            [1, len(time_h) - 1][: len(pair)],
        )

    @property
    def kernel_places(self) -> slice:
        """Of the kernels among all hypotheses: 0 is that there is nothing, shapes come last."""
        return slice(1, 1 + self.kernels.shape[1] * len(VARIANCES))

    def thinned(self, thin: Float64[Tensor, "K S T"]) -> "Hypotheses":
        """As each mode sees them in fewer bins."""
        parts = list(zip(thin.split(self.modes), self.kernels, self.shapes, strict=True))
        kernels = [
            (own.flatten(0, 1) @ kernels).unflatten(1, own.shape[:2]) @ own.mT
            for own, kernels, _ in parts
        ]
        return Hypotheses(
            torch.cat([own.transpose(0, 1) for own in kernels]),
            torch.cat([own @ shapes for own, _, shapes in parts]),
            self.counts,
            self.waves,
            [1] * len(thin),
        )

    def covariance(self, sizes: "Sizes") -> Float64[Tensor, "K T T"]:
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

    def kernel_evidence(
        self, lower: Float64[Tensor, "K T T"], white: Float64[Tensor, "K T"]
    ) -> Float64[Tensor, "K _"]:
        """Log evidence of each kernel and amplitude, against none.

        Args:
            lower: Cholesky factor of the covariance of all else.
            white: Residual light curves, whitened by it.
        """
        inner = torch.linalg.solve_triangular(lower[:, None], self.kernels, upper=False)
        inner = torch.linalg.solve_triangular(lower[:, None], inner.mT, upper=False)
        values, vectors = torch.linalg.eigh(0.5 * (inner + inner.mT))
        turned = (vectors.mT @ white[:, None, :, None])[..., 0].square()  # (K, N, T)
        variance = torch.tensor(VARIANCES).to(lower)
        grown = variance[:, None] * values.clamp_min(0.0)[:, :, None]  # (K, N, A, T)
        gain = turned[:, :, None] * grown / (1.0 + grown) - torch.log1p(grown)
        return 0.5 * gain.sum(-1).flatten(1)

    def shape_evidence(
        self, lower: Float64[Tensor, "K T T"], white: Float64[Tensor, "K T"]
    ) -> "ShapeEvidence":
        """Of each shape and size, against none; arguments as for `kernel_evidence`."""
        seen = torch.linalg.solve_triangular(lower, self.shapes, upper=False)
        single, waves = seen.split(
            [sum(self.counts[: -self.waves]), 2 * sum(self.counts[-self.waves :])], dim=2
        )
        (one, first), (two, second) = _of_single(single, white), _of_waves(waves, white)
        both = torch.cat([one, two], dim=1).split(self.counts, 1)
        return ShapeEvidence(
            list(both), torch.cat([first, second.repeat_interleave(2, dim=1)], dim=1), self.waves
        )


@dataclass(frozen=True, eq=False)
class ShapeEvidence:
    """What light curves say of shapes.

    Sizes that the light curves exclude would outweigh all others by their square, so it is the
    mean square afterwards that counts.
    """

    log: list[Float64[Tensor, "K _ Q"]]  # log evidence of each shape and size, by kind
    second: Float64[Tensor, "K R Q"]  # mean square of each size afterwards
    waves: int  # kinds of waves, the last ones

    @property
    def by_kind(self) -> Float64[Tensor, "K _"]:
        """Log evidence of each kind and size, places averaged."""
        return torch.cat([own.logsumexp(1) - np.log(own.shape[1]) for own in self.log], dim=1)

    def square(self, belief: Float64[Tensor, "K _"]) -> Float64[Tensor, "K R"]:
        """Mean square of each shape, from the belief in each kind and size."""
        share = belief.unflatten(1, (len(self.log), -1))
        parts = [own.softmax(1) * share[:, None, kind] for kind, own in enumerate(self.log)]
        parts[-self.waves :] = [own.repeat_interleave(2, dim=1) for own in parts[-self.waves :]]
        return (torch.cat(parts, dim=1) * self.second).sum(-1)


@dataclass(frozen=True, eq=False)
class Sizes:
    """Mean variance of each kernel and mean square of each shape, over the hypotheses."""

    variance: Float64[Tensor, "K N"]
    square: Float64[Tensor, "K R"]

    @classmethod
    def nothing(cls, tried: Hypotheses) -> "Sizes":
        """Of noise that is white; `tried` has one mode in each group."""
        return cls(
            torch.zeros_like(tried.kernels[:, :, 0, 0]), torch.zeros_like(tried.shapes[:, 0])
        )

    def and_more(self, share: Float64[Tensor, "K H"], shapes: ShapeEvidence) -> "Sizes":
        """With what the belief in each hypothesis adds: nothing, kernels, shapes."""
        kernels = self.variance.shape[1] * len(VARIANCES)
        own = share[:, 1 : 1 + kernels].unflatten(1, (-1, len(VARIANCES)))
        more = own @ torch.tensor(VARIANCES).to(share)
        return Sizes(self.variance + more, self.square + shapes.square(share[:, 1 + kernels :]))

    def mixed(self, other: "Sizes", share: Float64[Tensor, " K"]) -> "Sizes":
        """With so much of others, by mode."""
        part = share[:, None]
        return Sizes(
            torch.lerp(self.variance, other.variance, part),
            torch.lerp(self.square, other.square, part),
        )


def _stationary(time_h: Float64[Tensor, "K T"]) -> list[Float64[Tensor, "K T T"]]:
    lag = (time_h[:, :, None] - time_h[:, None, :]).abs()
    kernels = []
    for scale in _SCALES_H:
        smooth = np.sqrt(3.0) * lag / scale
        kernels += [torch.exp(-lag / scale), (1.0 + smooth) * torch.exp(-smooth)]
    return kernels


def _single_shapes(time_h: Float64[Tensor, "K T"]) -> list[Float64[Tensor, "K T _"]]:
    """Shapes of unit size at all places, by kind and scale."""
    time = time_h[:, :, None]
    first, last = time_h.min(), time_h.max()
    places = torch.linspace(float(first), float(last), _PLACES + 2)[1:-1].to(time_h)
    since = time - places
    after = (since > 0.0).to(time)
    between = 0.5 * (time_h[:, None, 1:] + time_h[:, None, :-1])  # a step ends with its bin
    return [
        *[torch.exp(-(time - first) / scale) for scale in _RAMPS_H],
        (time > between).to(time),
        *[after * torch.exp(-since.clamp_min(0.0) / scale) for scale in _FLARES_H],
        *[torch.exp(-0.5 * (since / scale) ** 2) for scale in _BUMPS_H],
    ]


def _waves(time_h: Float64[Tensor, "K T"]) -> list[Float64[Tensor, "K T _"]]:
    """Cosine and sine of each frequency, by band of periods; at least one in each band."""
    middle = 0.5 * (time_h.min() + time_h.max())
    step = _APART / float(time_h.max() - time_h.min())
    found = []
    for short, long in pairwise(_BANDS_H):
        count = max(math.ceil((1.0 / short - 1.0 / long) / step), 1)
        edges = np.linspace(1.0 / long, 1.0 / short, count + 1)
        frequency = torch.tensor(0.5 * (edges[1:] + edges[:-1])).to(time_h)
        phase = 2.0 * math.pi * frequency * (time_h - middle)[:, :, None]
        found.append(torch.stack([phase.cos(), phase.sin()], dim=-1).flatten(2))
    return found


def _of_single(
    seen: Float64[Tensor, "K T R"], white: Float64[Tensor, "K T"]
) -> tuple[Float64[Tensor, "K R Q"], Float64[Tensor, "K R Q"]]:
    """Log evidence of each shape and size, and the size's mean square afterwards."""
    size, pull = seen.square().sum(1), (white[:, None] @ seen)[:, 0]
    squares = torch.tensor(SQUARES).to(seen)
    grown = squares * size[..., None]
    variance = squares / (1.0 + grown)
    second = (variance * pull[..., None]).square() + variance
    return 0.5 * (pull.square()[..., None] * variance - torch.log1p(grown)), second


def _of_waves(
    seen: Float64[Tensor, "K T _"], white: Float64[Tensor, "K T"]
) -> tuple[Float64[Tensor, "K F Q"], Float64[Tensor, "K F Q"]]:
    """The same of pairs that are alike in size: the mean of the two squares."""
    pull = (white[:, None] @ seen)[:, 0].unflatten(1, (-1, 2))
    first, other = seen[..., ::2], seen[..., 1::2]
    cross = (first * other).sum(1)[..., None]
    squares = torch.tensor(SQUARES).to(seen)
    one, two = (own.square().sum(1)[..., None] + 1.0 / squares for own in (first, other))
    over = one * two - cross**2
    left, right = pull[..., :1], pull[..., 1:]
    means = (two * left - cross * right) / over, (one * right - cross * left) / over
    explained = left * means[0] + right * means[1]
    second = 0.5 * (means[0] ** 2 + means[1] ** 2 + (one + two) / over)
    return 0.5 * (explained - (squares**2 * over).log()), second
