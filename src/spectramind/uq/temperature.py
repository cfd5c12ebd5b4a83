"""One temperature for all error bars, fitted on planets the network has not seen."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.errors import DataError
from spectramind.posterior import SpectrumPosterior
from spectramind.robust import MAD_TO_SIGMA


def fit_temperature(posterior: SpectrumPosterior, depth: Float64[Tensor, "B W"]) -> float:
    """Temperature that minimises the Gaussian NLL of `posterior.scaled(T)`: sqrt(mean z^2).

    The minimum is exact: d/dT [ln T + mean z^2 / (2 T^2)] = 0. Every wavelength of every planet
    counts once. Fit it out of fold only: on training planets z is too small.

    Args:
        posterior: Out-of-fold posterior, not yet scaled.
        depth: True depths of the same planets.

    Returns:
        Factor on sigma; above 1 where the network was over-confident.

    Raises:
        DataError: If there are fewer than two planets, or a z that is not finite.

    Source: Guo et al. 2017 (arXiv 1706.04599), with the Gaussian likelihood, which makes the
    one-parameter search a closed form.
    """
    return math.sqrt(float(_normalised(posterior, depth).square().mean()))


def robust_temperature(posterior: SpectrumPosterior, depth: Float64[Tensor, "B W"]) -> float:
    """Temperature that a few failed planets cannot move: the robust sigma of z.

    Reported beside `fit_temperature`; far below it, a few planets carry the correction.

    Source: the normal-consistent median absolute deviation, about zero instead of the median.
    """
    return MAD_TO_SIGMA * float(_normalised(posterior, depth).abs().median())


def _normalised(
    posterior: SpectrumPosterior, depth: Float64[Tensor, "B W"]
) -> Float64[Tensor, "B W"]:
    if len(depth) < 2:
        raise DataError(
            f"temperature: {len(depth)} out-of-fold planets with trusted fits, wanted at least 2. "
            "Train on more planets (simulate.train_planets) and run `spectramind train` again."
        )
    z = posterior.z(depth).double()
    bad = torch.nonzero(~torch.isfinite(z).all(1)).flatten()
    if len(bad):
        raise DataError(
            f"temperature: out-of-fold planet in row {int(bad[0])} (of {len(bad)} such rows) has "
            "(depth - mu) / sigma that is not finite. Look for NaN or zero sigma in the "
            "out-of-fold spectra and run `spectramind train` again."
        )
    return z
