"""The score of a submission file."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from spectramind.archive.layout import open_archive
from spectramind.archive.submission import read_submission
from spectramind.archive.tables import read_labels
from spectramind.config import Config
from spectramind.diagnose.metrics import naive_statistics
from spectramind.diagnose.scorecard import Yardstick
from spectramind.errors import ConfigError, DataError
from spectramind.stages.folders import HIDDEN_LABELS


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
    planets, posterior = read_submission(submission)
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
    _require_same_planets(submission, planets, path, truth.planet_ids)
    naive = naive_statistics(archive.labels().depth)
    yardstick = Yardstick(config.diagnostics.metric, year or archive.year, naive)
    found = yardstick.score(truth.of(planets).depth, posterior)
    summary = (
        f"score {found.total:.4f} ({found.year} metric, {len(planets)} planets); "
        f"FGS1 {found.fgs1:.4f}, AIRS-CH0 {found.airs:.4f}"
    )
    parts = {"score": found.total, "fgs1": found.fgs1, "airs": found.airs}
    return {**parts, "planets": len(planets), "summary": summary}


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
