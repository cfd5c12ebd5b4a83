"""Input of the diagnosis: the results of a run, and the planets with a known truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int

from spectramind.archive.layout import Year
from spectramind.diagnose.metrics import Naive
from spectramind.errors import DataError
from spectramind.observation import Labels, TransitFit
from spectramind.posterior import SpectrumPosterior
from spectramind.uq.calibration import Interval, gaussian_half_width


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Training planets, predicted by networks that never saw them."""

    posterior: SpectrumPosterior  # calibrated
    labels: Labels  # of the same planets in the same order


@dataclass(frozen=True, eq=False)
class Evidence:
    """Results of a run that its diagnosis needs.

    Attributes:
        year: Year of the archive, whose metric scores the run.
        planet_ids: Planets of the prediction, in the order of all posteriors below.
        wavelength_um: Scored wavelengths; index 0 is FGS1 [um].
        predicted: Calibrated posterior of V50.
        fit: Posterior of the transit fit alone, same planets.
        intervals: Lower and upper end of the published intervals at each level.
        calibration_planets: Planets behind conformal intervals; None for Gaussian ones.
        truth: Labels of the same planets in the same order; None where nobody has them.
        naive: Mean and standard deviation of all training labels, the guess that scores 0; None
            where nothing can be scored.
        oof: Training planets out of fold; None where the network is that of another run.
        provenance: Sidecar of each stage, in order of running.
        stage_seconds: Wall time of each stage [s].
        fits: Transit fits of the predicted planets; one without a fit was not measured.
        command: The exact command that made the dashboard.
    """

    year: Year
    planet_ids: Int[np.ndarray, " B"]
    wavelength_um: Float64[np.ndarray, " W"]
    predicted: SpectrumPosterior
    fit: SpectrumPosterior
    intervals: Mapping[float, Interval]
    calibration_planets: int | None
    truth: Labels | None
    naive: Naive | None
    oof: OutOfFold | None
    provenance: Sequence[Mapping[str, Any]]
    stage_seconds: Mapping[str, float]
    fits: Sequence[TransitFit]
    command: str

    def __post_init__(self) -> None:
        shape = (len(self.planet_ids), len(self.wavelength_um))
        _expect_shape("predicted spectra", self.predicted, shape)
        _expect_shape("transit fits", self.fit, shape)
        if self.oof is not None:
            shape = self.oof.labels.depth.shape
            _expect_shape("out-of-fold spectra", self.oof.posterior, shape)
        if self.truth is not None and not np.array_equal(self.truth.planet_ids, self.planet_ids):
            raise DataError(
                f"diagnose: labels of {len(self.truth.planet_ids)} planets that are not the "
                f"{len(self.planet_ids)} predicted ones in the same order. Run `spectramind "
                "predict` again on this archive."
            )


@dataclass(frozen=True, eq=False)
class Judged:
    """Planets whose truth is known, as plain arrays."""

    name: str  # for captions
    held_out: bool  # False: training planets, out of fold
    planet_ids: Int[np.ndarray, " B"]
    mu: Float64[np.ndarray, "B W"]
    sigma: Float64[np.ndarray, "B W"]
    depth: Float64[np.ndarray, "B W"]
    intervals: Mapping[float, tuple[Float64[np.ndarray, "B W"], Float64[np.ndarray, "B W"]]]
    calibration_planets: int | None

    @property
    def z(self) -> Float64[np.ndarray, "B W"]:
        """Normalised residual (depth - mu) / sigma."""
        return (self.depth - self.mu) / self.sigma

    @property
    def planets(self) -> int:
        """Number of planets, the n of every statement about coverage."""
        return len(self.planet_ids)

    @property
    def interval_method(self) -> str:
        """Words for the captions."""
        if self.calibration_planets is None:
            return "Gaussian"
        return f"split-conformal ({self.calibration_planets} calibration planets)"


def judged(evidence: Evidence) -> Judged | None:
    """Held-out planets when their truth is known, else out-of-fold training planets, if any.

    Conformal intervals exist for predicted planets only, so out-of-fold planets are judged by
    Gaussian intervals of their calibrated posterior.
    """
    if evidence.truth is not None:
        mu, sigma = arrays(evidence.predicted)
        intervals = {
            level: (_array(lower), _array(upper))
            for level, (lower, upper) in evidence.intervals.items()
        }
        return Judged(
            "held-out planets", True, evidence.planet_ids, mu, sigma, evidence.truth.depth,
            intervals, evidence.calibration_planets,
        )  # fmt: skip
    if evidence.oof is None:
        return None
    (mu, sigma), known = arrays(evidence.oof.posterior), evidence.oof.labels
    widths = {level: gaussian_half_width(level) * sigma for level in evidence.intervals}
    return Judged(
        "training planets, out of fold", False, known.planet_ids, mu, sigma,
        known.depth, {level: (mu - w, mu + w) for level, w in widths.items()}, None,
    )  # fmt: skip


def arrays(
    posterior: SpectrumPosterior,
) -> tuple[Float64[np.ndarray, "B W"], Float64[np.ndarray, "B W"]]:
    """Mean and sigma as float64 arrays."""
    return _array(posterior.mu), _array(posterior.sigma)


def _array(values: Float[torch.Tensor, "B W"]) -> Float64[np.ndarray, "B W"]:
    return values.detach().cpu().double().numpy()


def _expect_shape(name: str, posterior: SpectrumPosterior, shape: tuple[int, ...]) -> None:
    if tuple(posterior.mu.shape) != shape or tuple(posterior.sigma.shape) != shape:
        raise DataError(
            f"diagnose: {name} of shape {tuple(posterior.mu.shape)}, wanted {shape} (planets, "
            "wavelengths). Run `spectramind predict` again: the artefacts are of two archives."
        )
