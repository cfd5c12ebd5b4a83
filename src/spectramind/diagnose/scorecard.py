"""The challenge's score of a prediction by the metric of a year: whole, by channel, by planet."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from spectramind.archive.layout import Year
from spectramind.diagnose.metrics import (
    Gains,
    Naive,
    gains,
    naive_statistics,
    planet_scores,
    score_2024,
    score_2025,
)
from spectramind.diagnose.settings import MetricConfig
from spectramind.errors import DataError
from spectramind.observation import Labels
from spectramind.posterior import SpectrumPosterior

_FEWEST_LABELS = 20  # whose mean and spread say what is known without light curves


def naive_guess(metric: MetricConfig, labels: Labels) -> Naive:
    """The guess that scores 0: mean and spread of the training labels, or published ones.

    Raises:
        DataError: If it is that of the labels, and they are too few.
    """
    return naive_of(labels) if metric.naive == "labels" else published(metric, metric.naive)


def naive_of(labels: Labels) -> Naive:
    """Mean and spread of these labels.

    Raises:
        DataError: If they are too few: a handful has nearly no spread, and against that any
            prediction scores 1.
    """
    count = len(labels.planet_ids)
    if count < _FEWEST_LABELS:
        raise DataError(
            f"labels of {count} planets: too few for the naive guess that scores 0, the mean and "
            f"spread of at least {_FEWEST_LABELS}. Take what the challenge's hosts published: "
            "diagnostics.metric.naive=2025, or 2024."
        )
    return naive_statistics(labels.depth)


def published(metric: MetricConfig, year: Year) -> Naive:
    """Mean and sigma of a year's training labels, as the hosts of the challenge published them."""
    return Naive(*(metric.naive_2024 if year == 2024 else metric.naive_2025))


@dataclass(frozen=True, eq=False)
class Score:
    """Score by one year's metric: 0 is the mean of the training labels, 1 the ideal prediction."""

    year: Year  # of the metric
    total: float  # within 0..1, as the hosts publish it
    fgs1: float  # FGS1 alone, not clipped
    airs: float  # AIRS-CH0 alone, not clipped
    planets: Float64[np.ndarray, " B"]  # share of each planet, not clipped; the mean is the total


@dataclass(frozen=True)
class Yardstick:
    """One year's metric, its constants and the guess that scores 0."""

    metric: MetricConfig  # constants of both years
    year: Year
    naive: Naive

    def score(self, depth: Float[np.ndarray, "B W"], posterior: SpectrumPosterior) -> Score:
        """Score of predicted spectra, given the true ones of the same planets.

        The metric of 2024 weighs all points alike and has one ideal error, that of AIRS-CH0.

        Raises:
            DataError: If the prediction is of another shape or holds negative values.
        """
        mu, sigma = (p.detach().cpu().double().numpy() for p in (posterior.mu, posterior.sigma))
        metric, old = self.metric, self.year == 2024
        sigma_true = metric.airs_sigma_true if old else metric.sigma_true(depth.shape[1])
        found = gains(depth, mu, sigma=sigma, naive=self.naive, sigma_true=sigma_true)
        return _of_2024(found) if old else _of_2025(found, metric.fgs_weight)


def _of_2024(found: Gains) -> Score:
    """Ratios of sums."""
    reached, ideal = found
    return Score(
        year=2024,
        total=score_2024(found),
        fgs1=float(reached[:, 0].sum() / ideal[:, 0].sum()),
        airs=float(reached[:, 1:].sum() / ideal[:, 1:].sum()),
        planets=reached.mean(axis=1) / ideal.mean(),
    )


def _of_2025(found: Gains, fgs_weight: float) -> Score:
    """Means of ratios."""
    points = found.reached / found.ideal
    return Score(
        year=2025,
        total=score_2025(found, fgs_weight=fgs_weight),
        fgs1=float(points[:, 0].mean()),
        airs=float(points[:, 1:].mean()),
        planets=planet_scores(points, fgs_weight=fgs_weight),
    )
