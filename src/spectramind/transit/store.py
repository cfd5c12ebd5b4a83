"""Transit fits on disk: one safetensors file per planet, `FOLDER/SPLIT/PLANET.safetensors`.

The arrays are tensors; names, reasons and provenance are one JSON text in the metadata. Of the
information the lower triangle is stored: it must be exact, for float32 loses the depths of a
bright star.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float64

from spectramind.artefacts import Kind, load_table, load_tensors, save_table, save_tensors
from spectramind.errors import ArtefactError
from spectramind.files import unwritable
from spectramind.observation import TransitFit, VisitFit

_FIT = Kind("transit fit", "spectramind fit")
_FITS = Kind("index of transit fits", "spectramind fit")
_SUFFIX = ".safetensors"
_INDEX_FILE = "index.parquet"  # of each split, written last
_INDEX = {
    "planet_id": pl.Int64, "reasons": pl.List(pl.String), "limb_pull": pl.List(pl.Float64),
    "priors": pl.String, "origin": pl.String,
}  # fmt: skip
_FIT_ARRAYS = (
    "depth", "sigma", "own_sigma", "vector", "widening", "scale", "measured_sigma", "parameters",
    "parameter_covariance", "limb_darkening",
)  # fmt: skip
_SYMMETRIC = ("covariance", "information")  # stored as their lower triangles, row by row
_VISIT_ARRAYS = (
    "time_h", "flux", "model", "electrons", "fgs1_time_h", "fgs1_flux", "fgs1_model",
    "fgs1_centroid",
)  # fmt: skip


class Header(NamedTuple):
    """What is told of a fit beside its arrays."""

    reasons: tuple[str, ...]
    limb_pull: tuple[float, ...]
    facts: dict[str, str]


@dataclass(frozen=True)
class IndexRow:
    """What is known of a fit without opening it."""

    planet_id: int
    reasons: tuple[str, ...]  # not to trust it; empty for a trusted fit
    limb_pull: tuple[float, ...]  # of the fit
    priors: Path  # file that it was made with
    origin: str  # hash of all that it depends on


def fit_path(folder: Path, split: str, planet_id: int) -> Path:
    """Where the fit of a planet lies."""
    return folder / split / f"{planet_id}{_SUFFIX}"


def write_fit(path: Path, fit: TransitFit, facts: Mapping[str, str]) -> None:
    """Write a fit and facts about its origin, atomically.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    tensors = {name: getattr(fit, name) for name in _FIT_ARRAYS}
    lower = np.tril_indices(len(fit.depth))
    tensors |= {name: getattr(fit, name)[lower] for name in _SYMMETRIC}
    for visit in fit.visits:
        for name in _VISIT_ARRAYS:
            tensors[f"visit{visit.visit}.{name}"] = getattr(visit, name)
    described = {
        "planet_id": fit.planet_id,
        "parameter_names": fit.parameter_names,
        "reduced_chi2": fit.reduced_chi2,
        "level_sigma": fit.level_sigma,
        "reasons": fit.reasons,
        "limb_pull": fit.limb_pull.tolist(),
        "visits": [visit.visit for visit in fit.visits],
        "facts": dict(facts),
    }
    save_tensors(path, tensors, described)


def remove_others(folder: Path, split: str, planets: Container[int]) -> None:
    """Remove the fits of all planets of the split but these.

    Raises:
        WriteError: If a file cannot be removed.
    """
    for path in _fits(folder, split):
        if int(path.stem) not in planets:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(path, error) from error


def read_fit(path: Path) -> TransitFit:
    """Read one fit.

    Raises:
        ArtefactError: If the file is missing, damaged, no transit fit or that of another planet.
    """
    described, tensors = load_tensors(path, _FIT)
    try:
        _refuse_another(path, described["planet_id"])
        visits = tuple(
            VisitFit(
                visit=number, **{name: tensors[f"visit{number}.{name}"] for name in _VISIT_ARRAYS}
            )
            for number in described["visits"]
        )
        whole = {name: _whole(tensors[name], len(tensors["depth"])) for name in _SYMMETRIC}
        fit = TransitFit(
            planet_id=described["planet_id"],
            parameter_names=tuple(described["parameter_names"]),
            reduced_chi2=described["reduced_chi2"],
            reasons=tuple(described["reasons"]),
            limb_pull=np.array(described["limb_pull"]),
            level_sigma=described["level_sigma"],
            visits=visits,
            **{name: tensors[name] for name in _FIT_ARRAYS},
            **whole,
        )
    except KeyError as error:
        raise _FIT.damaged(path, f"it holds no {error}") from error
    if not fit.definite:
        raise _FIT.damaged(path, "its covariance is not positive definite")
    return fit


def _whole(lower: Float64[np.ndarray, " N"], size: int) -> Float64[np.ndarray, "W W"]:
    """The symmetric matrix of this lower triangle."""
    matrix = np.zeros((size, size))
    matrix[np.tril_indices(size)] = lower
    return matrix + np.tril(matrix, -1).T


def read_header(path: Path) -> Header:
    """What is told of a fit without its arrays.

    Raises:
        ArtefactError: If the file is missing, damaged, no transit fit or that of another planet.
    """
    described, _ = load_tensors(path, _FIT)
    try:
        _refuse_another(path, described["planet_id"])
        return Header(
            tuple(described["reasons"]), tuple(described["limb_pull"]), described["facts"]
        )
    except KeyError as error:
        raise _FIT.damaged(path, f"it holds no {error}") from error


def _refuse_another(path: Path, planet_id: int) -> None:
    if path.stem != str(planet_id):
        raise _FIT.damaged(path, f"it is that of planet {planet_id}, under another name")


def write_index(folder: Path, split: str, rows: Sequence[IndexRow]) -> None:
    """Write the index of a split, atomically.

    Priors below `folder` are named from there, so that the folder may move.

    Raises:
        WriteError: If the file cannot be written.
    """
    stored = [
        (
            row.planet_id,
            list(row.reasons),
            list(row.limb_pull),
            _name_from(folder, row.priors),
            row.origin,
        )
        for row in rows
    ]
    table = pl.DataFrame(stored, schema=_INDEX, orient="row")
    save_table(folder / split / _INDEX_FILE, table)


def _name_from(folder: Path, path: Path) -> str:
    """The way to a file from a folder above it, else from the root."""
    whole, above = path.absolute(), folder.absolute()
    return str(whole.relative_to(above) if whole.is_relative_to(above) else whole)


def read_index(folder: Path, split: str) -> dict[int, IndexRow]:
    """The index of a split by planet number, in increasing order.

    Raises:
        ArtefactError: If it is missing or damaged.
    """
    path = folder / split / _INDEX_FILE
    table = load_table(path, _FITS)
    if table.columns != list(_INDEX):
        raise _FITS.damaged(path, f"its columns are {', '.join(table.columns)}")
    return {
        planet: IndexRow(planet, tuple(reasons), tuple(pull), folder / priors, origin)
        for planet, reasons, pull, priors, origin in table.rows()
    }


def read_fits(folder: Path, split: str) -> dict[int, TransitFit]:
    """Read the fits of all planets of a split, by planet number in increasing order.

    Raises:
        ArtefactError: If the folder holds no fit of this split, or a file is damaged.
    """
    paths = _fits(folder, split)
    if not paths:
        raise ArtefactError(
            f"{folder / split}: holds no transit fit of the {split} planets. "
            "Run `spectramind fit`: it says why planets have none."
        )
    fits = [read_fit(path) for path in paths]
    return {fit.planet_id: fit for fit in fits}


def _fits(folder: Path, split: str) -> list[Path]:
    """Files of a split, by planet number in increasing order."""
    paths = [path for path in (folder / split).glob(f"*{_SUFFIX}") if path.stem.isdigit()]
    return sorted(paths, key=lambda path: int(path.stem))
