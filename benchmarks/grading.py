"""Grades of benchmarks/accuracy.py: sigma scaled as `fit` scales it, out of fold; both metrics."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from spectramind.diagnose.metrics import (
    Naive,
    gains,
    naive_statistics,
    planet_scores,
    score_2024,
    score_2025,
)
from spectramind.diagnose.settings import MetricConfig
from spectramind.transit.own_scale import learn_scale
from spectramind.transit.settings import SpectrumConfig

_FAR = 8.0  # [sigma]
_CHANNELS = {"fgs1": slice(0, 1), "airs": slice(1, None)}  # of the 283 wavelengths


@dataclass(frozen=True, eq=False)
class Panel:
    """The planets of a set that are judged, and those that teach.

    A planet's scale and its label-only rows come from planets of other folds.
    """

    fold: Int64[np.ndarray, " P"]
    label: Float64[np.ndarray, "P 283"]
    calibrates: Bool[np.ndarray, " P"]  # its label may scale sigmas of other folds
    graded: Bool[np.ndarray, " P"]
    taught: Float64[np.ndarray, "N 283"]  # labels of all training planets
    taught_fold: Int64[np.ndarray, " N"]


@dataclass(frozen=True, eq=False)
class Row:
    """What one estimator says of every planet of a panel."""

    depth: Float64[np.ndarray, "P 283"]
    sigma: Float64[np.ndarray, "P 283"]
    trusted: Bool[np.ndarray, " P"]
    joint: Float64[np.ndarray, "P 3"] | None = None  # parts of the Mahalanobis distance
    scaled: bool = True  # by labels of the set, which not every estimator may see


def grade(
    panel: Panel, row: Row, metric: MetricConfig, spectrum: SpectrumConfig, year: int
) -> dict[str, float]:
    """Scores and errors of the graded planets, depths in ppm.

    Args:
        panel: The planets.
        row: An estimator.
        metric: Constants of both years; 2024 takes the AIRS-CH0 ideal at every wavelength.
        spectrum: How scales of sigma are learned.
        year: Whose metric is called `score`.
    """
    scale = scales(panel, row, spectrum)
    sigma = row.sigma * scale
    graded, trusted = panel.graded, row.trusted[panel.graded]
    label, depth = panel.label[graded], row.depth[graded]
    error = depth - label
    z = error / sigma[graded]
    scores = both_scores(panel, depth, sigma[graded], metric)
    unscaled = both_scores(panel, depth, row.sigma[graded], metric)
    result = {
        "score": scores[year], "score_2025": scores[2025], "score_2024": scores[2024],
        "score_unscaled": unscaled[year],
    }  # fmt: skip
    for name, columns in _CHANNELS.items():
        square = np.mean(z[:, columns] ** 2, axis=1)
        result |= {
            f"z2_{name}": float(square[trusted].mean()),
            f"z2_{name}_error": float(square[trusted].std() / np.sqrt(trusted.sum())),
            f"z2_{name}_all": float(square.mean()),
            f"scale_{name}": float(np.mean(scale[graded][:, columns])),
            f"rms_{name}_ppm": 1e6 * float(np.sqrt(np.mean(error[:, columns] ** 2))),
        }
    if row.joint is not None:
        fgs1, airs = scale[graded, 0], scale[graded, 1]
        parts = np.stack([fgs1**-2.0, 2.0 / (fgs1 * airs), airs**-2.0], axis=1)
        distance = (row.joint[graded] * parts).sum(1)
        result |= {"joint": float(distance.mean()), "joint_median": float(np.median(distance))}
    far = np.abs(z).max(axis=1) > _FAR
    return result | {
        "flagged": int((~trusted).sum()),
        "far_unflagged": int((far & trusted).sum()),
        "negative_points": int((depth < 0.0).sum()),
    }


def scales(panel: Panel, row: Row, config: SpectrumConfig) -> Float64[np.ndarray, "P 283"]:
    """Factor on sigma, one per channel, that `fit` learns from trusted planets of other folds."""
    if not row.scaled:
        return np.ones_like(row.sigma)
    square = ((row.depth - panel.label) / row.sigma) ** 2
    errors = np.stack([square[:, own].mean(1) for own in _CHANNELS.values()], axis=1)
    factor = np.empty_like(square)
    for fold in np.unique(panel.fold):
        own = panel.fold == fold
        found = learn_scale(errors[panel.calibrates & ~own & row.trusted], config)
        for columns, value in zip(_CHANNELS.values(), found, strict=True):
            factor[own, columns] = value
    return factor


def both_scores(
    panel: Panel,
    depth: Float64[np.ndarray, "G 283"],
    sigma: Float64[np.ndarray, "G 283"],
    metric: MetricConfig,
) -> dict[int, float]:
    """Scores of the graded planets by year; the naive guess is that of the training labels.

    The hosts refuse negative depths, which single points of weak estimators have: they count as
    0 here, and `grade` says how many.
    """
    label, mu = panel.label[panel.graded], np.maximum(depth, 0.0)
    known = {"sigma": sigma, "naive": naive_statistics(panel.taught)}
    old = gains(label, mu, sigma_true=metric.airs_sigma_true, **known)
    new = gains(label, mu, sigma_true=metric.sigma_true(label.shape[1]), **known)
    return {2024: score_2024(old), 2025: score_2025(new, fgs_weight=metric.fgs_weight)}


def train_mean(panel: Panel) -> Row:
    """Mean and standard deviation of the training labels at each wavelength."""
    depth, sigma = np.empty_like(panel.label), np.empty_like(panel.label)
    for fold in np.unique(panel.fold):
        seen = panel.taught[panel.taught_fold != fold]
        depth[panel.fold == fold], sigma[panel.fold == fold] = seen.mean(0), seen.std(0)
    return Row(depth, sigma, np.ones(len(depth), dtype=bool))


def projected(
    panel: Panel,
    measured: Row,
    measured_sigma: Float64[np.ndarray, "P 283"],
    components: tuple[int, ...],
) -> Row:
    """Spectra on the mean and the principal components of the training labels.

    Number of components and sigma are those of the smallest residual of trusted planets of
    other folds. Source: the projection of classical entries of 2024.

    Args:
        panel: The planets.
        measured: Spectra, each wavelength by itself.
        measured_sigma: Their errors, which weigh the wavelengths.
        components: Numbers that are tried.
    """
    tried = [_on_components(panel, measured.depth, measured_sigma, n) for n in components]
    depth, sigma = np.empty_like(panel.label), np.empty_like(panel.label)
    for fold in np.unique(panel.fold):
        own = panel.fold == fold
        judges = panel.calibrates & ~own & measured.trusted
        rms = [np.sqrt(np.mean((d - panel.label)[judges] ** 2, axis=0)) for d in tried]
        best = int(np.argmin([np.log(one).mean() for one in rms]))
        depth[own], sigma[own] = tried[best][own], rms[best]
    return Row(depth, sigma, measured.trusted)


def _on_components(
    panel: Panel,
    depth: Float64[np.ndarray, "P 283"],
    sigma: Float64[np.ndarray, "P 283"],
    count: int,
) -> Float64[np.ndarray, "P 283"]:
    result = np.empty_like(depth)
    for fold in np.unique(panel.fold):
        seen = panel.taught[panel.taught_fold != fold]
        mean = seen.mean(0)
        basis = np.linalg.svd(seen - mean, full_matrices=False)[2][:count]
        for planet in np.flatnonzero(panel.fold == fold):
            weight = np.nan_to_num(1.0 / sigma[planet])  # a dark wavelength says nothing
            design, wanted = (basis * weight).T, (depth[planet] - mean) * weight
            result[planet] = mean + np.linalg.lstsq(design, wanted, rcond=None)[0] @ basis
    return result


def scores_by_planet(
    mu: Float64[np.ndarray, "P 283"],
    sigma: Float64[np.ndarray, "P 283"],
    truth: Float64[np.ndarray, "P 283"],
    naive: Naive,
    metric: MetricConfig,
) -> Float64[np.ndarray, " P"]:
    """2025 score of each planet, not clipped; negative depths count as 0.

    Args:
        mu: Spectra.
        sigma: Their errors.
        truth: True spectra.
        naive: Mean and standard deviation of all training labels.
        metric: Constants of the score.
    """
    found = gains(
        truth, np.maximum(mu, 0.0), sigma=sigma, naive=naive,
        sigma_true=metric.sigma_true(truth.shape[1]),
    )  # fmt: skip
    return planet_scores(found.reached / found.ideal, fgs_weight=metric.fgs_weight)
