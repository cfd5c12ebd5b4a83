"""The challenge's score of a posterior, as a whole, by channel and by planet."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.diagnose.metrics import channel_scores, planet_scores, point_scores_2025
from spectramind.diagnose.settings import MetricConfig


@dataclass(frozen=True, eq=False)
class Score:
    """Score of 2025: 0 is the mean of the training labels, 1 the ideal prediction."""

    total: float  # within 0..1, as the hosts publish it
    fgs1: float  # FGS1 alone, not clipped
    airs: float  # AIRS-CH0 alone, not clipped
    planets: Float64[np.ndarray, " B"]  # share of each planet, not clipped


def score(
    depth: Float64[np.ndarray, "B W"],
    mu: Float64[np.ndarray, "B W"],
    *,
    sigma: Float64[np.ndarray, "B W"],
    naive: tuple[float, float],
    metric: MetricConfig,
) -> Score:
    """Score of a prediction.

    Args:
        depth: True spectra.
        mu: Predicted spectra.
        sigma: Predicted errors.
        naive: Mean and standard deviation of all training labels.
        metric: Constants of the metric.
    """
    points = point_scores_2025(
        depth,
        mu,
        sigma=sigma,
        naive_mean=naive[0],
        naive_sigma=naive[1],
        sigma_true=metric.sigma_true(depth.shape[1]),
    )
    planets = planet_scores(points, fgs_weight=metric.fgs_weight)
    channels = channel_scores(points)
    return Score(float(np.clip(planets.mean(), 0.0, 1.0)), channels.fgs1, channels.airs, planets)
