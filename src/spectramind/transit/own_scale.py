"""The scale of sigma that an archive's own labels ask for, one factor per channel.

Each labelled planet was fitted with priors that never saw its label, so its errors tell whether
sigma is what it claims. A planet's own factor comes from planets of other folds alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from spectramind.archive.layout import Split
from spectramind.transit.priors import deal_folds
from spectramind.transit.settings import SpectrumConfig
from spectramind.transit.store import fit_path, read_fit, read_header, read_index, write_fit
from spectramind.transit.work import Labels

Scale = tuple[float, float]  # factors on sigma of FGS1 and of AIRS-CH0
UNIT: Scale = (1.0, 1.0)
_AGREES = 1e-9  # factors that rounding alone sets apart


def scale_by_labels(
    folder: Path, splits: Sequence[Split], labels: Labels, config: SpectrumConfig
) -> Scale:
    """Give every fit below a folder the scale that labels ask for.

    Args:
        folder: Of the stage `fit`.
        splits: That were fitted.
        labels: Spectra of training planets; too few leave sigma as it is.
        config: Section `transit.spectrum`.

    Returns:
        The factors of test planets.

    Raises:
        ArtefactError: If a fit is missing or damaged.
        WriteError: If one cannot be written.
    """
    errors = _errors(folder, labels) if "train" in splits else {}
    folds = deal_folds(sorted(errors), config.folds, config.seed)

    def without(fold: int | None) -> Scale:
        own = [errors[planet] for planet in errors if fold is None or folds[planet] != fold]
        return learn_scale(np.array(own).reshape(-1, 2), config)

    everyone = without(None)
    parts = {fold: without(fold) for fold in set(folds.values())}
    for split in splits:
        _rescale(
            folder, split, lambda planet: parts[folds[planet]] if planet in folds else everyone
        )
    return everyone


def learn_scale(errors: Float64[np.ndarray, "N 2"], config: SpectrumConfig) -> Scale:
    """Factors with which sigma is most likely, shrunk towards 1.

    Args:
        errors: Mean square of (depth - label) / sigma of planets, FGS1 and AIRS-CH0.
        config: Section `transit.spectrum`; fewer planets than `fewest_labels` leave sigma alone.
    """
    if len(errors) < config.fewest_labels:
        return UNIT
    typical = config.unit_scale
    square = (errors.sum(0) + typical) / (len(errors) + typical)
    fgs1, airs = np.sqrt(square).tolist()
    return fgs1, airs


def _errors(folder: Path, labels: Labels) -> dict[int, Float64[np.ndarray, " 2"]]:
    """Mean square error of trusted planets in units of their sigma before any scale."""
    errors = {}
    for planet, row in read_index(folder, "train").items():
        if planet in labels and not row.reasons:
            fit = read_fit(fit_path(folder, "train", planet)).scaled(np.ones(2))
            square = ((fit.depth - labels[planet]) / fit.sigma) ** 2
            errors[planet] = np.array([square[0], square[1:].mean()])
    return errors


def _rescale(folder: Path, split: Split, scale_of: Callable[[int], Scale]) -> None:
    for planet in read_index(folder, split):
        path = fit_path(folder, split, planet)
        fit, wanted = read_fit(path), np.array(scale_of(planet))
        if not np.allclose(fit.scale, wanted, rtol=_AGREES, atol=0.0):
            write_fit(path, fit.scaled(wanted), read_header(path).facts)


def words(scale: Scale) -> str:
    """What is said of them; nothing where labels changed nothing."""
    if scale == UNIT:
        return ""
    return f"; sigma of FGS1 times {scale[0]:.3f}, of AIRS-CH0 times {scale[1]:.3f}, as labels ask"
