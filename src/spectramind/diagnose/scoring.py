"""A posterior against true spectra, by the metric of the archive's year."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from spectramind.diagnose.metrics import (
    channel_scores,
    naive_statistics,
    point_scores_2025,
    score_2024,
    score_2025,
)
from spectramind.diagnose.settings import MetricConfig
from spectramind.errors import DataError
from spectramind.observation import Labels
from spectramind.posterior import SpectrumPosterior


def depths_of(labels: Labels, planet_ids: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B 283"]:
    """True spectra of these planets, in their order.

    Raises:
        DataError: If a planet has no label.
    """
    row = {int(planet): index for index, planet in enumerate(labels.planet_ids)}
    unknown = [int(planet) for planet in planet_ids if int(planet) not in row]
    if unknown:
        raise DataError(
            f"planet {unknown[0]}: has no true spectrum ({len(unknown)} such planets). Use the "
            "labels that belong to this archive."
        )
    return labels.depth[[row[int(planet)] for planet in planet_ids]]


def challenge_score(
    metric: MetricConfig,
    year: Literal[2024, 2025],
    depth: Float[np.ndarray, "B 283"],
    posterior: SpectrumPosterior,
    training_labels: Labels,
) -> dict[str, float]:
    """Score of the year, and the parts of FGS1 and AIRS-CH0 by the point scores of 2025.

    Args:
        metric: Constants of the metric; 2024 uses the AIRS-CH0 ideal error at every wavelength.
        year: Which metric is called `score`.
        depth: True spectra.
        posterior: Predicted spectra of the same planets.
        training_labels: Labels whose mean and spread are the guess that scores 0.

    Returns:
        score (0..1), fgs1 and airs (not clipped).
    """
    mu, sigma = posterior.mu.double().numpy(), posterior.sigma.double().numpy()
    mean, spread = naive_statistics(training_labels.depth)
    ideal = metric.sigma_true(depth.shape[1])
    points = point_scores_2025(
        depth, mu, sigma=sigma, naive_mean=mean, naive_sigma=spread, sigma_true=ideal
    )
    parts = channel_scores(points)
    if year == 2024:
        score = score_2024(
            depth,
            mu,
            sigma=sigma,
            naive_mean=mean,
            naive_sigma=spread,
            sigma_true=metric.airs_sigma_true,
        )
    else:
        score = score_2025(
            depth,
            mu,
            sigma=sigma,
            naive_mean=mean,
            naive_sigma=spread,
            sigma_true=ideal,
            fgs_weight=metric.fgs_weight,
        )
    return {"score": score, "fgs1": parts.fgs1, "airs": parts.airs}
