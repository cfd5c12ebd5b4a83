"""Spectra in files: the challenge's submission, and the tables that stages hand on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float64, Int, Int64

from spectramind.archive.tables import (
    DEPTH_COLUMNS,
    other_unit,
    planet_ids,
    planet_rows,
    read_table,
)
from spectramind.archive.text import PLANET_ID
from spectramind.artefacts import Kind, load_table, save_table
from spectramind.errors import ArtefactError, DataError
from spectramind.files import write_atomic
from spectramind.instrument import WAVELENGTHS
from spectramind.observation import Labels, TransitFit, some
from spectramind.posterior import SpectrumPosterior

SIGMA_COLUMNS = tuple(f"sigma_{number}" for number in range(1, WAVELENGTHS + 1))
COLUMNS = ("planet_id", *DEPTH_COLUMNS, *SIGMA_COLUMNS)


def write_submission(
    path: Path, planets: Sequence[int] | Int64[np.ndarray, " B"], posterior: SpectrumPosterior
) -> None:
    """Write a submission: planet_id, wl_1..wl_283, sigma_1..sigma_283, as csv, atomically.

    Raises:
        ArtefactError: If the spectra would not be valid, or the file cannot be written.
    """
    table = _checked_table(path, planets, posterior)
    write_atomic(path, table.write_csv().encode())


def read_submission(path: Path) -> tuple[Int64[np.ndarray, " B"], SpectrumPosterior]:
    """Planets and float64 spectra of a submission.

    Raises:
        DataError: If the file is missing or not valid; says the first problem.
    """
    table = read_table(path)
    problems = _problems(path, table, foreign=True)
    if problems:
        raise DataError(
            f"{path}: {problems[0]}: problem 1 of {len(problems)}. "
            "List them with spectramind submission validate and mend the file."
        )
    return planet_ids(table, path), _posterior(table)


def validate_submission(path: Path, sample: Path | None) -> list[str]:
    """Every problem of a submission as a sentence; empty when it is valid.

    Args:
        path: Submission.
        sample: A sample submission whose planets must be the same, in any order.

    Raises:
        DataError: If one of the files is missing or is no csv table.
    """
    table = read_table(path)
    problems = _problems(path, table, foreign=True)
    if sample is not None and PLANET_ID in table.columns:
        problems += _against_sample(path, table, sample)
    return problems


def write_spectra(
    path: Path, planets: Sequence[int] | Int64[np.ndarray, " B"], posterior: SpectrumPosterior
) -> None:
    """Write spectra as float64 parquet with the columns of a submission, atomically.

    Raises:
        ArtefactError: If the spectra would not be valid, or the file cannot be written.
    """
    save_table(path, _checked_table(path, planets, posterior))


def read_spectra(path: Path) -> tuple[Int64[np.ndarray, " B"], SpectrumPosterior]:
    """Planets and float64 spectra that `write_spectra` wrote.

    Raises:
        ArtefactError: If the file is missing, damaged or not valid.
    """
    kind = Kind("table of spectra", f"spectramind {path.parent.name}")
    table = load_table(path, kind)
    problems = _problems(path, table, foreign=False)
    if problems:
        raise kind.damaged(path, problems[0])
    return planet_ids(table, path), _posterior(table)


def _checked_table(
    path: Path, planets: Sequence[int] | Int64[np.ndarray, " B"], posterior: SpectrumPosterior
) -> pl.DataFrame:
    mu, sigma = (_float64(values) for values in (posterior.mu, posterior.sigma))
    if not mu.shape == sigma.shape == (len(planets), WAVELENGTHS):
        raise ArtefactError(
            f"{path}: {len(planets)} planets come with mu of shape {mu.shape} and sigma of shape "
            f"{sigma.shape}, expected ({len(planets)}, {WAVELENGTHS}). Predict them anew."
        )
    table = pl.DataFrame(np.hstack([mu, sigma]), schema=list(COLUMNS[1:]))
    table.insert_column(0, pl.Series(PLANET_ID, np.asarray(planets, dtype=np.int64)))
    problems = _problems(path, table, foreign=False)
    if problems:
        raise ArtefactError(
            f"{path}: not written, {problems[0]}: problem 1 of {len(problems)}. "
            "Mend or leave out these planets before writing."
        )
    return table


def _float64(values: torch.Tensor) -> Float64[np.ndarray, "B W"]:
    return values.detach().cpu().double().numpy()


def _posterior(table: pl.DataFrame) -> SpectrumPosterior:
    mu, sigma = (
        torch.from_numpy(_cells(table, names).copy()) for names in (DEPTH_COLUMNS, SIGMA_COLUMNS)
    )
    return SpectrumPosterior(mu, sigma)


def _cells(table: pl.DataFrame, names: Sequence[str]) -> Float64[np.ndarray, "B K"]:
    return table.select(pl.col(names).cast(pl.Float64)).to_numpy()


def _problems(path: Path, table: pl.DataFrame, *, foreign: bool) -> list[str]:
    """What is wrong with a submission, without a full stop; empty when it is valid.

    The size of depths is judged in files of others only: a strange fit is no other unit.
    """
    problems = [*_column_problems(table), *_id_problems(path, table), *_value_problems(table)]
    if problems or not foreign:
        return problems
    unit = other_unit(_cells(table, DEPTH_COLUMNS))
    return [unit] if unit else []


def _column_problems(table: pl.DataFrame) -> list[str]:
    columns = table.columns  # polars makes the list anew each time
    known, found = set(COLUMNS), set(columns)
    missing = [name for name in COLUMNS if name not in found]
    strange = [name for name in columns if name not in known]
    problems = []
    if missing:
        problems.append(f"the columns {some(missing)} are missing, expected {len(COLUMNS)}")
    if strange:
        problems.append(f"the columns {some(strange)} are not expected")
    if not missing and not strange and tuple(columns) != COLUMNS:
        problems.append(
            "the columns are not in the order planet_id, wl_1..wl_283, sigma_1..sigma_283"
        )
    if not table.height:
        problems.append("there is no planet in it")
    return problems


def _id_problems(path: Path, table: pl.DataFrame) -> list[str]:
    if PLANET_ID not in table.columns:
        return []
    return list(planet_rows(table, path).lost)


def _value_problems(table: pl.DataFrame) -> list[str]:
    if not table.height:
        return []
    kinds = table.schema
    present = [name for name in COLUMNS[1:] if name in kinds]
    text = [name for name in present if not kinds[name].is_numeric()]
    names = np.array([name for name in present if kinds[name].is_numeric()])
    problems = [f"the columns {some(text)} are not numeric"] if text else []
    if not names.size:
        return problems
    values = _cells(table, names.tolist())
    is_sigma = np.char.startswith(names, "sigma_")
    findings = {
        "hold empty, NaN or infinite values": ~np.isfinite(values),
        "hold negative values": values < 0.0,
        "hold a sigma of zero": (values == 0.0) & is_sigma,
    }
    for found, cells in findings.items():
        if cells.any():
            where = f"{np.count_nonzero(cells)} cells in {cells.any(1).sum()} planets"
            problems.append(f"the columns {some(names[cells.any(0)].tolist())} {found} ({where})")
    return problems


def _against_sample(path: Path, table: pl.DataFrame, sample: Path) -> list[str]:
    found = planet_rows(table, path)
    ids = np.array([*found.ids, *found.twice], np.int64)
    wanted = planet_ids(read_table(sample), sample)
    missing, strange = np.setdiff1d(wanted, ids), np.setdiff1d(ids, wanted)
    problems = []
    if missing.size:
        problems.append(f"the planets {some(missing.tolist())} of {sample.name} are missing")
    if strange.size:
        problems.append(f"the planets {some(strange.tolist())} are not in {sample.name}")
    return problems


def completed_fit(
    fits: Mapping[int, TransitFit], planets: Int[np.ndarray, " B"], labels: Labels
) -> SpectrumPosterior:
    """Submission of the fit alone: planets without a fit get the spread of the labels."""
    fitted = np.array([planet for planet in planets if int(planet) in fits], dtype=planets.dtype)
    missing = [int(planet) for planet in planets if int(planet) not in fits]
    _, complete = with_unmeasured(fitted, fit_posterior(fits, fitted), missing, labels)
    return complete


def fit_posterior(
    fits: Mapping[int, TransitFit], planets: Int[np.ndarray, " B"]
) -> SpectrumPosterior:
    """Spectra of the fit alone for these planets, in their order; depths below 0 become 0."""
    chosen = [fits[int(planet)] for planet in planets]
    return SpectrumPosterior(
        torch.from_numpy(np.stack([fit.depth for fit in chosen]).clip(min=0.0)),
        torch.from_numpy(np.stack([fit.sigma for fit in chosen])),
    )


def standing_in(labels: Labels) -> bool:
    """Whether labels have a mean and spread that can stand for a planet without a measurement."""
    return len(labels.planet_ids) > 1


def with_unmeasured(
    planet_ids: Int[np.ndarray, " B"],
    posterior: SpectrumPosterior,
    unmeasured: Sequence[int],
    labels: Labels,
) -> tuple[Int[np.ndarray, " C"], SpectrumPosterior]:
    """Add planets without any measurement: mean and spread of the training labels, by wavelength.

    That is all that is known of them, and it scores about 0 where any other guess could cost
    far more. With fewer than two labels nothing is known, and they are left out. Planets come
    out in increasing order.
    """
    mu, sigma = posterior.mu.double(), posterior.sigma.double()
    everyone = planet_ids
    if unmeasured and standing_in(labels):
        count = len(unmeasured)
        everyone = np.concatenate([planet_ids, np.asarray(unmeasured, dtype=planet_ids.dtype)])
        mu = torch.cat([mu, torch.from_numpy(labels.depth.mean(0)).expand(count, -1)])
        sigma = torch.cat([sigma, torch.from_numpy(labels.depth.std(0)).expand(count, -1)])
    order = np.argsort(everyone, kind="stable")
    index = torch.from_numpy(order)
    return everyone[order], SpectrumPosterior(mu[index], sigma[index])
