"""The score of a submission file."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from spectramind.archive.layout import Year
from spectramind.archive.opening import PlanetArchive, open_data
from spectramind.archive.submission import read_submission
from spectramind.archive.tables import read_labels
from spectramind.config import Config
from spectramind.diagnose.scorecard import Yardstick, naive_of, published
from spectramind.errors import ConfigError, DataError
from spectramind.observation import Labels
from spectramind.sentences import counted
from spectramind.stages.folders import HIDDEN_LABELS

_YEARS: dict[str, Year] = {"2024": 2024, "2025": 2025}


def score_submission(
    config: Config,
    submission: Path,
    *,
    solution: Path | None,
    year: int | None,
    naive: str | None,
) -> dict[str, Any]:
    """Score a submission file against true spectra.

    Args:
        config: Where the archive with the training labels lies.
        submission: File of 567 columns.
        solution: True spectra in the layout of train.csv; None takes the simulated truth.
        year: Metric of 2024 or 2025; None takes that of `naive`, else that of the archive.
        naive: "2024" or "2025", whose published guess scores 0, or a file of training labels;
            None takes what the configuration says. With a solution and a year no archive is read.

    Raises:
        DataError: If there is no solution, its planets are not those of the submission, or an
            archive is asked for and not there.
        ConfigError: If there is no metric of this year.
    """
    if year is not None and str(year) not in _YEARS:
        raise ConfigError(f"--year {year}: there is no such metric. Use 2024 or 2025.")
    planets, posterior = read_submission(submission)
    path = solution or config.data.root / HIDDEN_LABELS
    if not path.is_file():
        raise DataError(
            f"{path}: no true spectra there. Name a file in the layout of train.csv with "
            "--solution; the challenge keeps those of its test planets to itself."
        )
    truth = read_labels(path)
    _require_same_planets(submission, planets, path, truth.planet_ids)
    yardstick = _yardstick(config, None if year is None else _YEARS[str(year)], naive)
    found = yardstick.score(truth.of(planets).depth, posterior)
    summary = (
        f"score {found.total:.4f} ({found.year} metric, {counted(len(planets), 'planet')}); "
        f"FGS1 {found.fgs1:.4f}, AIRS-CH0 {found.airs:.4f}; naive guess "
        f"{yardstick.naive.mean:.6f} +- {yardstick.naive.sigma:.6f}"
    )
    parts = {"score": found.total, "fgs1": found.fgs1, "airs": found.airs}
    guess = {"naive_mean": yardstick.naive.mean, "naive_sigma": yardstick.naive.sigma}
    return {**parts, **guess, "planets": len(planets), "summary": summary}


def _yardstick(config: Config, year: Year | None, naive: str | None) -> Yardstick:
    """The metric of a year and its naive guess; the archive is opened for what is not given."""
    metric = config.diagnostics.metric
    year = year or _YEARS.get(naive or "") or _archive(config).year
    if naive in _YEARS:
        return Yardstick(metric, year, published(metric, _YEARS[naive]))
    if naive is not None:
        return Yardstick(metric, year, naive_of(_named_labels(Path(naive))))
    if metric.naive != "labels":
        return Yardstick(metric, year, published(metric, metric.naive))
    return Yardstick(metric, year, naive_of(_archive(config).labels()))


def _named_labels(path: Path) -> Labels:
    if not path.is_file():
        raise ConfigError(
            f"--naive {path}: is no file. Name one in the layout of train.csv, or 2024 or 2025 "
            "for the mean and sigma that the hosts of the challenge published."
        )
    return read_labels(path)


def _archive(config: Config) -> PlanetArchive:
    try:
        return open_data(config.data)
    except DataError as error:
        raise DataError(
            f"{error} To score without an archive give --solution FILE and --naive 2024, 2025 or "
            "the FILE of the training labels, that with --year."
        ) from error


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
            f"{submission}: lacks {counted(len(missing), 'planet')} of {solution} "
            f"{sorted(missing)[:3]} and holds {len(extra)} that are not in it "
            f"{sorted(extra)[:3]}. A score counts every planet of the solution once: predict them "
            "all."
        )
