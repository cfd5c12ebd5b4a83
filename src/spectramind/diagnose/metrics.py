"""The score of the Ariel Data Challenge, as both years' hosts compute it.

Shapes: B planets, W wavelengths (index 0 = FGS1); depths and sigmas are (Rp/Rs)^2.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.spatial.distance import pdist

from spectramind.errors import DataError

_SIGMA_FLOOR = 1e-15  # the hosts' only protection against a sigma of zero


class Naive(NamedTuple):
    """The guess that scores 0: one Gaussian for every point of every planet."""

    mean: float
    sigma: float


class Gains(NamedTuple):
    """Log-likelihood of each point above that of the naive guess [nat]."""

    reached: Float[np.ndarray, "B W"]
    ideal: Float[np.ndarray, "B W"]  # by the truth with the ideal error


def naive_statistics(depth: Float[np.ndarray, "B W"]) -> Naive:
    """Mean and (population) standard deviation of all labels."""
    return Naive(float(depth.mean()), float(depth.std()))


def log_likelihood(
    depth: Float[np.ndarray, "B W"],
    mu: Float[np.ndarray, "B W"] | float,
    sigma: Float[np.ndarray, "*#shape"] | float,
) -> Float[np.ndarray, "B W"]:
    """Gaussian log density at each point [nat]: -((y - mu)/sigma)^2/2 - ln sigma - ln(2 pi)/2."""
    return -0.5 * ((depth - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2.0 * np.pi)


def gains(
    depth: Float[np.ndarray, "B W"],
    mu: Shaped[np.ndarray, "R V"],
    *,
    sigma: Shaped[np.ndarray, "R V"],
    naive: Naive,
    sigma_true: Float[np.ndarray, " W"] | float,
) -> Gains:
    """What a prediction and the ideal one gain on the naive guess, point by point.

    Args:
        depth: True spectra.
        mu: Predicted spectra.
        sigma: Predicted errors, clipped from below at 1e-15.
        naive: Mean and standard deviation of all training labels.
        sigma_true: Error of the ideal prediction, for all points or at each wavelength.

    Raises:
        DataError: If the prediction has another shape, is not numeric or holds negative values.

    Source: evaluation code of the hosts, 2024 and 2025. NaN is not tested there and gives a NaN
    score.
    """
    mu, sigma = _as_submitted(depth, mu, sigma)
    least = log_likelihood(depth, naive.mean, naive.sigma)
    reached, ideal = log_likelihood(depth, mu, sigma), log_likelihood(depth, depth, sigma_true)
    return Gains(reached - least, ideal - least)


def score_2024(gains: Gains) -> float:
    """Score of 2024: the gain summed over all points, over that of the ideal, within 0..1."""
    return float(np.clip(gains.reached.sum() / gains.ideal.sum(), 0.0, 1.0))


def score_2025(gains: Gains, *, fgs_weight: float) -> float:
    """Score of 2025: weighted mean over all points of gain over ideal gain, within 0..1.

    Wavelength 0 weighs `fgs_weight`, the others 1.
    """
    points = gains.reached / gains.ideal
    weights = np.broadcast_to(point_weights(points.shape[1], fgs_weight), points.shape)
    return float(np.clip(np.average(points, weights=weights), 0.0, 1.0))


def point_weights(wavelengths: int, fgs_weight: float) -> Float[np.ndarray, " W"]:
    """Weight of each wavelength in the 2025 score: FGS1 has its own, each AIRS-CH0 point has 1."""
    weights = np.ones(wavelengths)
    weights[0] = fgs_weight
    return weights


def planet_scores(
    points: Float[np.ndarray, "B W"], *, fgs_weight: float
) -> Float[np.ndarray, " B"]:
    """Share of each planet in the 2025 score; their mean is the score before it is clipped.

    `points` holds gain over ideal gain.
    """
    return np.average(points, axis=1, weights=point_weights(points.shape[1], fgs_weight))


def energy_score(
    depth: Float[np.ndarray, "B W"],
    samples: Float[np.ndarray, "S B W"],
    unit: Float[np.ndarray, "B W"],
) -> Float[np.ndarray, " B"]:
    """Energy score of each planet, E|X - y| - E|X - X'|/2 in Euclidean norm; smaller is better.

    It judges whole spectra of any distribution: proper, 0 only for a point mass on the truth,
    |X - y| for any other point mass.

    Args:
        depth: True spectra y.
        samples: Independent draws X of the predicted spectra.
        unit: Depth in whose units distances are taken, for example the fit's sigma.

    Raises:
        DataError: If there are fewer than two samples.

    Source: Gneiting and Raftery 2007, doi:10.1198/016214506000001437, equation 22 with beta = 1
    and the sign turned; both means over draws, the second over all pairs of different ones,
    which is unbiased.
    """
    if len(samples) < 2:
        raise DataError(
            f"samples: {len(samples)} per planet, expected at least 2 for an energy score. Draw "
            "more samples."
        )
    scaled, truth = samples / unit, depth / unit
    near = np.linalg.norm(scaled - truth, axis=-1).mean(0)
    apart = [float(pdist(planet).mean()) for planet in np.moveaxis(scaled, 1, 0)]
    return near - 0.5 * np.array(apart)


def _as_submitted(
    depth: Float[np.ndarray, "B W"],
    mu: Shaped[np.ndarray, "R V"],
    sigma: Shaped[np.ndarray, "R V"],
) -> tuple[Float[np.ndarray, "B W"], Float[np.ndarray, "B W"]]:
    """Refuse what the hosts refuse, and clip sigma as they do."""
    if not (_is_numeric(mu) and _is_numeric(sigma)):
        raise DataError(
            f"prediction: holds {mu.dtype} and {sigma.dtype}, expected numbers. "
            "Write every wl_ and sigma_ column as numbers."
        )
    if np.any(mu < 0.0) or np.any(sigma < 0.0):
        raise DataError(
            "prediction: negative values in the submission, expected wl_ and sigma_ of at least "
            "0. Mend the planets that spectramind submission validate names."
        )
    if mu.shape != depth.shape or sigma.shape != depth.shape:
        raise DataError(
            f"prediction: mu has the shape {mu.shape} and sigma {sigma.shape}, expected "
            f"{depth.shape} as the labels. Write one column per wavelength for each, one row per "
            "planet."
        )
    return mu.astype(np.float64), np.clip(sigma.astype(np.float64), _SIGMA_FLOOR, None)


def _is_numeric(values: np.ndarray) -> bool:
    return np.issubdtype(values.dtype, np.number) or values.dtype == np.bool_
