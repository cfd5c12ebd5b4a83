"""What a run left behind, gathered for the dashboard and for scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from spectramind.archive.layout import Archive, open_archive
from spectramind.archive.submission import read_spectra, read_submission
from spectramind.archive.tables import read_labels
from spectramind.artefacts import (
    CALIBRATION,
    HIDDEN_LABELS,
    INTERVALS,
    OUT_OF_FOLD,
    SPECTRA,
    read_sidecar,
    stage_folder,
)
from spectramind.config import STAGES, Config
from spectramind.diagnose.evidence import Evidence
from spectramind.diagnose.metrics import naive_statistics
from spectramind.diagnose.scoring import challenge_score, depths_of
from spectramind.errors import ConfigError, DataError
from spectramind.observation import Labels, TransitFit
from spectramind.posterior import SpectrumPosterior
from spectramind.transit.store import read_fits
from spectramind.uq.calibration import read_calibration
from spectramind.uq.intervals import read_intervals, with_unmeasured

_BULKY = ("config", "facts", "failures")  # parts of a sidecar that a table of provenance omits


def gather_evidence(config: Config, *, command: str) -> Evidence:
    """Read back what the stages left, for the dashboard and for scores."""
    archive = open_archive(config.data.root)
    labels = archive.labels("train")
    fits = read_fits(stage_folder(config, "fit"), "test")
    predicted = stage_folder(config, "predict")
    planets, posterior = read_spectra(predicted / SPECTRA)
    oof_ids, oof = read_spectra(stage_folder(config, "train") / OUT_OF_FOLD)
    calibration = read_calibration(stage_folder(config, "calibrate-temp") / CALIBRATION)
    naive_mean, naive_sigma = naive_statistics(labels.depth)
    sidecars = [made for stage in STAGES[:-1] if (made := read_sidecar(config, stage))]
    return Evidence(
        planet_ids=planets,
        wavelength_um=archive.wavelength_um(),
        predicted=posterior,
        fit=completed_fit(fits, planets, labels),
        intervals=read_intervals(predicted / INTERVALS),
        calibration_planets=calibration.conformal_planets if config.uq.corel else None,
        truth=hidden_truth(archive, planets),
        naive_mean=naive_mean,
        naive_sigma=naive_sigma,
        oof=calibration.apply(oof),
        oof_labels=Labels(oof_ids, depths_of(labels, oof_ids)),
        provenance=[_without_bulk(made) for made in sidecars],
        stage_seconds={made["stage"]: made["seconds"] for made in sidecars},
        fits=[fits[int(planet)] for planet in planets if int(planet) in fits],
        command=command,
    )


def hidden_truth(archive: Archive, planets: Int[np.ndarray, " B"]) -> Labels | None:
    """True spectra of test planets, which only a simulated archive has."""
    path = archive.root / HIDDEN_LABELS
    return Labels(planets, depths_of(read_labels(path), planets)) if path.is_file() else None


def score_facts(config: Config, evidence: Evidence) -> dict[str, Any]:
    """Score of V50 and of the fit alone on held-out planets, else of V50 out of fold."""
    archive = open_archive(config.data.root)
    if evidence.truth is None:
        fits = read_fits(stage_folder(config, "fit"), "train")
        known, network = evidence.oof_labels, evidence.oof
        alone = fit_posterior(fits, known.planet_ids)
    else:
        known, network, alone = evidence.truth, evidence.predicted, evidence.fit
    training = archive.labels("train")
    metric = config.diagnostics.metric
    scored = challenge_score(metric, archive.year, known.depth, network, training)
    base = challenge_score(metric, archive.year, known.depth, alone, training)
    return {
        **scored,
        "fit_score": base["score"],
        "gain": scored["score"] - base["score"],
        "metric": archive.year,
        "planets": len(known.planet_ids),
        "held_out": evidence.truth is not None,
    }


def score_submission(
    config: Config, submission: Path, *, solution: Path | None, year: int | None
) -> dict[str, Any]:
    """Score a submission file against true spectra.

    Args:
        config: Where the archive with the training labels lies.
        submission: File of 567 columns.
        solution: True spectra in the layout of train.csv; None takes the simulated truth.
        year: 2024 or 2025; None takes that of the archive.

    Raises:
        DataError: If there is no solution, or its planets are not those of the submission.
        ConfigError: If there is no metric of this year.
    """
    archive = open_archive(config.data.root)
    if year not in (None, 2024, 2025):
        raise ConfigError(f"--year {year}: there is no such metric. Use 2024 or 2025.")
    path = solution or archive.root / HIDDEN_LABELS
    if not path.is_file():
        raise DataError(
            f"{path}: no true spectra there. Name a file in the layout of train.csv with "
            "--solution; the challenge keeps those of its test planets to itself."
        )
    truth = read_labels(path)
    planets, posterior = read_submission(submission)
    _require_same_planets(submission, planets, path, truth.planet_ids)
    facts = challenge_score(
        config.diagnostics.metric,
        year or archive.year,
        depths_of(truth, planets),
        posterior,
        archive.labels("train"),
    )
    summary = (
        f"score {facts['score']:.4f} ({year or archive.year} metric, {len(planets)} planets); "
        f"FGS1 {facts['fgs1']:.4f}, AIRS-CH0 {facts['airs']:.4f}"
    )
    return {**facts, "planets": len(planets), "summary": summary}


def _require_same_planets(
    submission: Path,
    given: Int[np.ndarray, " B"],
    solution: Path,
    wanted: Int[np.ndarray, " C"],
) -> None:
    missing, extra = (
        set(wanted.tolist()) - set(given.tolist()),
        set(given.tolist()) - set(wanted.tolist()),
    )
    if missing or extra:
        raise DataError(
            f"{submission}: lacks {len(missing)} planets of {solution} {sorted(missing)[:3]} and "
            f"holds {len(extra)} that are not in it {sorted(extra)[:3]}. A score counts every "
            "planet of the solution once: predict them all."
        )


def completed_fit(
    fits: Mapping[int, TransitFit], planets: Int[np.ndarray, " B"], labels: Labels
) -> SpectrumPosterior:
    """What the fit alone would submit: planets without a fit get the spread of the labels."""
    fitted = np.array([planet for planet in planets if int(planet) in fits], dtype=planets.dtype)
    missing = [int(planet) for planet in planets if int(planet) not in fits]
    _, complete = with_unmeasured(fitted, fit_posterior(fits, fitted), missing, labels)
    return complete


def fit_posterior(
    fits: Mapping[int, TransitFit], planets: Int[np.ndarray, " B"]
) -> SpectrumPosterior:
    """What the fit alone would submit for these planets, in their order: depths of at least 0."""
    chosen = [fits[int(planet)] for planet in planets]
    return SpectrumPosterior(
        torch.from_numpy(np.stack([fit.depth for fit in chosen]).clip(min=0.0)),
        torch.from_numpy(np.stack([fit.sigma for fit in chosen])),
    )


def _without_bulk(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sidecar.items() if key not in _BULKY}
