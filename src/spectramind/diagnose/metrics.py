"""The score of the Ariel Data Challenge, as both years' hosts compute it.

Shapes: B planets, W wavelengths (index 0 = FGS1); depths and sigmas are (Rp/Rs)^2.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.spatial.distance import pdist

from spectramind.errors import DataError

_SIGMA_FLOOR = 1e-15  # the hosts' only protection against a sigma of zero


class ChannelScores(NamedTuple):
    """Mean point score of each channel, not clipped: below 0 is worse than the naive guess."""

    fgs1: float
    airs: float


def naive_statistics(depth: Float[np.ndarray, "B W"]) -> tuple[float, float]:
    """Mean and (population) standard deviation of all labels: the guess that scores 0."""
    return float(depth.mean()), float(depth.std())


def log_likelihood(
    depth: Float[np.ndarray, "B W"],
    mu: Float[np.ndarray, "B W"] | float,
    sigma: Float[np.ndarray, "*#shape"] | float,
) -> Float[np.ndarray, "B W"]:
    """Gaussian log density at each point [nat]: -((y - mu)/sigma)^2/2 - ln sigma - ln(2 pi)/2."""
    return -0.5 * ((depth - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2.0 * np.pi)


def score_2024(
    depth: Float[np.ndarray, "B W"],
    mu: Shaped[np.ndarray, "R V"],
    *,
    sigma: Shaped[np.ndarray, "R V"],
    naive_mean: float,
    naive_sigma: float,
    sigma_true: float,
) -> float:
    """Score of 2024: (L - L_naive) / (L_ideal - L_naive) of summed log-likelihoods, within 0..1.

    Args:
        depth: True spectra.
        mu: Predicted spectra.
        sigma: Predicted errors, clipped from below at 1e-15.
        naive_mean: Mean of all training labels.
        naive_sigma: Standard deviation of all training labels.
        sigma_true: Error of the ideal prediction (10 ppm in 2024).

    Raises:
        DataError: If the prediction has another shape, is not numeric or holds negative values.

    Source: evaluation code of the hosts, 2024. NaN is not tested there and gives a NaN score.
    """
    mu, sigma = _as_submitted(depth, mu, sigma)
    naive = log_likelihood(depth, naive_mean, naive_sigma).sum()
    ideal = log_likelihood(depth, depth, sigma_true).sum()
    reached = log_likelihood(depth, mu, sigma).sum()
    return float(np.clip((reached - naive) / (ideal - naive), 0.0, 1.0))


def gains_2024(
    depth: Float[np.ndarray, "B W"],
    mu: Shaped[np.ndarray, "R V"],
    *,
    sigma: Shaped[np.ndarray, "R V"],
    naive_mean: float,
    naive_sigma: float,
    sigma_true: float,
) -> tuple[Float[np.ndarray, "B W"], Float[np.ndarray, "B W"]]:
    """Log-likelihood above the naive guess, of the prediction and of the ideal one [nat].

    The ratio of their sums over any points is the 2024 score of these points before it is clipped.
    Arguments and errors as in `score_2024`.
    """
    mu, sigma = _as_submitted(depth, mu, sigma)
    naive = log_likelihood(depth, naive_mean, naive_sigma)
    reached, ideal = log_likelihood(depth, mu, sigma), log_likelihood(depth, depth, sigma_true)
    return reached - naive, ideal - naive


def score_2025(
    depth: Float[np.ndarray, "B W"],
    mu: Shaped[np.ndarray, "R V"],
    *,
    sigma: Shaped[np.ndarray, "R V"],
    naive_mean: float,
    naive_sigma: float,
    sigma_true: Float[np.ndarray, " W"],
    fgs_weight: float,
) -> float:
    """Score of 2025: the weighted mean over all points of the point scores, within 0..1.

    Args:
        depth: True spectra.
        mu: Predicted spectra.
        sigma: Predicted errors, clipped from below at 1e-15.
        naive_mean: Mean of all training labels.
        naive_sigma: Standard deviation of all training labels.
        sigma_true: Error of the ideal prediction at each wavelength.
        fgs_weight: Weight of wavelength 0; the others weigh 1.

    Raises:
        DataError: If the prediction has another shape, is not numeric or holds negative values.

    Source: evaluation code of the hosts, 2025. NaN is not tested there and gives a NaN score.
    """
    points = point_scores_2025(
        depth,
        mu,
        sigma=sigma,
        naive_mean=naive_mean,
        naive_sigma=naive_sigma,
        sigma_true=sigma_true,
    )
    weights = np.broadcast_to(point_weights(points.shape[1], fgs_weight), points.shape)
    return float(np.clip(np.average(points, weights=weights), 0.0, 1.0))


def point_scores_2025(
    depth: Float[np.ndarray, "B W"],
    mu: Shaped[np.ndarray, "R V"],
    *,
    sigma: Shaped[np.ndarray, "R V"],
    naive_mean: float,
    naive_sigma: float,
    sigma_true: Float[np.ndarray, " W"],
) -> Float[np.ndarray, "B W"]:
    """Score of each point, (L - L_naive) / (L_ideal - L_naive), not clipped on either side.

    Arguments and errors as in `score_2025`.
    """
    mu, sigma = _as_submitted(depth, mu, sigma)
    naive = log_likelihood(depth, naive_mean, naive_sigma)
    ideal = log_likelihood(depth, depth, sigma_true)
    return (log_likelihood(depth, mu, sigma) - naive) / (ideal - naive)


def point_weights(wavelengths: int, fgs_weight: float) -> Float[np.ndarray, " W"]:
    """Weight of each wavelength in the 2025 score: FGS1 has its own, each AIRS-CH0 point has 1."""
    weights = np.ones(wavelengths)
    weights[0] = fgs_weight
    return weights


def planet_scores(
    points: Float[np.ndarray, "B W"], *, fgs_weight: float
) -> Float[np.ndarray, " B"]:
    """Share of each planet in the 2025 score; their mean is the score before it is clipped."""
    return np.average(points, axis=1, weights=point_weights(points.shape[1], fgs_weight))


def channel_scores(points: Float[np.ndarray, "B W"]) -> ChannelScores:
    """What FGS1 alone and AIRS-CH0 alone reach in the 2025 score."""
    return ChannelScores(float(points[:, 0].mean()), float(points[:, 1:].mean()))


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
