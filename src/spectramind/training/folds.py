"""Roles of the labelled planets: folds to train in, and the calibration set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int, Int64

from spectramind.artefacts import Kind, load_table, save_table
from spectramind.errors import DataError

FOLDS = "folds.parquet"  # of a training run: the role of each planet
_FOLDS = Kind("table of folds", "spectramind train")
CALIBRATION = -1  # fold number of a planet of the calibration set
_FEWEST_TRAINING = 2  # planets that a fold must leave: one to train on, one to validate


@dataclass(frozen=True, eq=False)
class Folds:
    """The role of each planet, planets in increasing order."""

    planet_ids: Int64[np.ndarray, " B"]
    fold: Int64[np.ndarray, " B"]  # CALIBRATION or the fold that leaves the planet out

    @property
    def calibration(self) -> Int64[np.ndarray, " N"]:
        """Planets that no member learns from and that choose no epoch."""
        return self.planet_ids[self.fold == CALIBRATION]

    def out_of_fold(self, fold: int) -> Int64[np.ndarray, " N"]:
        """Planets that the members of a fold never see."""
        return self.planet_ids[self.fold == fold]

    def split(
        self, fold: int, *, validation_fraction: float, seed: int
    ) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " K"]]:
        """Planets on which the members of a fold train, and those that choose their epoch."""
        inside = (self.fold != fold) & (self.fold != CALIBRATION)
        shuffled = np.random.default_rng([seed, fold]).permutation(self.planet_ids[inside])
        held = min(max(round(validation_fraction * len(shuffled)), 1), len(shuffled) - 1)
        return np.sort(shuffled[held:]), np.sort(shuffled[:held])


def assign_folds(
    planet_ids: Sequence[int] | Int[np.ndarray, " B"],
    *,
    folds: int,
    calibration_fraction: float,
    seed: int,
) -> Folds:
    """Draw the calibration set, then deal the others into folds of equal size (+-1).

    Args:
        planet_ids: Planets, in any order.
        folds: Number of folds.
        calibration_fraction: Share of the planets set aside.
        seed: The same planets and seed give the same roles.

    Raises:
        DataError: If a planet comes twice or there are too few for these settings.
    """
    planets = np.sort(np.asarray(planet_ids, dtype=np.int64))
    aside = round(calibration_fraction * len(planets))
    _refuse(planets, aside, folds=folds, calibration_fraction=calibration_fraction)
    order = np.random.default_rng(seed).permutation(len(planets))
    fold = np.empty(len(planets), dtype=np.int64)
    fold[order[:aside]] = CALIBRATION
    fold[order[aside:]] = np.arange(len(planets) - aside) % folds
    return Folds(planets, fold)


def write_folds(path: Path, folds: Folds) -> None:
    """Write the role of each planet: its fold, or none in the calibration set."""
    aside = folds.fold == CALIBRATION
    table = pl.DataFrame(
        {
            "planet_id": folds.planet_ids,
            "role": np.where(aside, "calibration", "fold"),
            "fold": [
                None if apart else fold for fold, apart in zip(folds.fold, aside, strict=True)
            ],
        }
    )
    save_table(path, table)


def read_folds(path: Path) -> Folds:
    """Read what `write_folds` wrote.

    Raises:
        ArtefactError: If the file is missing or damaged.
    """
    table = load_table(path, _FOLDS)
    fold = table["fold"].fill_null(CALIBRATION).to_numpy()
    return Folds(table["planet_id"].to_numpy(), fold.astype(np.int64))


def _refuse(
    planets: Int64[np.ndarray, " B"], aside: int, *, folds: int, calibration_fraction: float
) -> None:
    twice = planets[:-1][np.diff(planets) == 0]
    if len(twice):
        raise DataError(
            f"training planets: {twice[0]} comes more than once. Remove the duplicates from the "
            "archive."
        )
    if not aside:
        raise DataError(
            f"training planets: {len(planets)} planets with training.calibration_fraction="
            f"{calibration_fraction:g} leave none for calibration. Add planets or raise the "
            "fraction."
        )
    left = len(planets) - aside
    fewest = left - -(-left // folds)  # the largest fold leaves this many
    if left < folds or fewest < _FEWEST_TRAINING:
        raise DataError(
            f"training planets: {left} of {len(planets)} are left after calibration, too few for "
            f"training.folds={folds}, where every fold must hold a planet and leave "
            f"{_FEWEST_TRAINING}. Add planets or lower training.folds."
        )
