"""The challenge's score of a prediction by the metric of a year: whole, by channel, by planet."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from spectramind.archive.layout import Year
from spectramind.diagnose.metrics import (
    channel_scores,
    gains_2024,
    planet_scores,
    point_scores_2025,
    score_2024,
    score_2025,
)
from spectramind.diagnose.settings import MetricConfig
from spectramind.posterior import SpectrumPosterior


@dataclass(frozen=True, eq=False)
class Score:
    """Score by one year's metric: 0 is the mean of the training labels, 1 the ideal prediction."""

    year: Year  # of the metric
    total: float  # within 0..1, as the hosts publish it
    fgs1: float  # FGS1 alone, not clipped
    airs: float  # AIRS-CH0 alone, not clipped
    planets: Float64[np.ndarray, " B"]  # share of each planet, not clipped; the mean is the total


def score(
    metric: MetricConfig,
    year: Year,
    *,
    depth: Float[np.ndarray, "B W"],
    posterior: SpectrumPosterior,
    naive: tuple[float, float],
) -> Score:
    """Score of a prediction.

    The metric of 2024 weighs all points alike and has one ideal error, that of AIRS-CH0.

    Args:
        metric: Constants of both metrics.
        year: Whose metric it is.
        depth: True spectra.
        posterior: Predicted spectra of the same planets.
        naive: Mean and standard deviation of all training labels, the guess that scores 0.

    Raises:
        DataError: If the prediction is of another shape or holds negative values.
    """
    mu, sigma = (part.detach().cpu().double().numpy() for part in (posterior.mu, posterior.sigma))
    judge = _score_2024 if year == 2024 else _score_2025
    return judge(metric, depth, mu, sigma, naive)


def _score_2024(
    metric: MetricConfig,
    depth: Float[np.ndarray, "B W"],
    mu: Float[np.ndarray, "B W"],
    sigma: Float[np.ndarray, "B W"],
    naive: tuple[float, float],
) -> Score:
    words = {
        "sigma": sigma, "naive_mean": naive[0], "naive_sigma": naive[1],
        "sigma_true": metric.airs_sigma_true,
    }  # fmt: skip
    gain, ideal = gains_2024(depth, mu, **words)
    return Score(
        year=2024,
        total=score_2024(depth, mu, **words),
        fgs1=float(gain[:, 0].sum() / ideal[:, 0].sum()),
        airs=float(gain[:, 1:].sum() / ideal[:, 1:].sum()),
        planets=gain.mean(axis=1) / ideal.mean(),
    )


def _score_2025(
    metric: MetricConfig,
    depth: Float[np.ndarray, "B W"],
    mu: Float[np.ndarray, "B W"],
    sigma: Float[np.ndarray, "B W"],
    naive: tuple[float, float],
) -> Score:
    words = {
        "sigma": sigma, "naive_mean": naive[0], "naive_sigma": naive[1],
        "sigma_true": metric.sigma_true(depth.shape[1]),
    }  # fmt: skip
    points = point_scores_2025(depth, mu, **words)
    channels = channel_scores(points)
    return Score(
        year=2025,
        total=score_2025(depth, mu, fgs_weight=metric.fgs_weight, **words),
        fgs1=channels.fgs1,
        airs=channels.airs,
        planets=planet_scores(points, fgs_weight=metric.fgs_weight),
    )
