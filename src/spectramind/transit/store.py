"""Transit fits on disk: one safetensors file a planet, `FOLDER/SPLIT/PLANET.safetensors`.

The arrays are tensors; names, reasons and provenance are one JSON text in the metadata.
"""

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from spectramind.archive.layout import SPLITS
from spectramind.errors import ArtefactError
from spectramind.files import unwritable, write_atomic
from spectramind.observation import Spectra, TransitFit, VisitFit

_SUFFIX = ".safetensors"
_KEY = "spectramind"  # the one metadata key: several have no fixed order in the file
_FIT_ARRAYS = (
    "depth", "sigma", "covariance", "information", "measured_sigma", "parameters",
    "parameter_covariance", "limb_darkening",
)  # fmt: skip
_VISIT_ARRAYS = (
    "time_h", "flux", "model", "electrons", "fgs1_time_h", "fgs1_flux", "fgs1_model",
    "fgs1_centroid",
)  # fmt: skip


def fit_path(folder: Path, split: str, planet_id: int) -> Path:
    """Where the fit of a planet lies."""
    return folder / split / f"{planet_id}{_SUFFIX}"


def write_fit(path: Path, fit: TransitFit, facts: Mapping[str, str]) -> None:
    """Write a fit and facts about its origin, atomically.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    tensors = {name: getattr(fit, name) for name in _FIT_ARRAYS}
    for visit in fit.visits:
        for name in _VISIT_ARRAYS:
            tensors[f"visit{visit.visit}.{name}"] = getattr(visit, name)
    described = {
        "planet_id": fit.planet_id,
        "parameter_names": fit.parameter_names,
        "reduced_chi2": fit.reduced_chi2,
        "reasons": fit.reasons,
        "visits": [visit.visit for visit in fit.visits],
        "facts": dict(facts),
    }
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    write_atomic(path, save(contiguous, {_KEY: json.dumps(described, sort_keys=True)}))


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
        ArtefactError: If the file is missing, damaged or not a transit fit.
    """
    described, tensors = _read(path)
    try:
        visits = tuple(
            VisitFit(
                visit=number, **{name: tensors[f"visit{number}.{name}"] for name in _VISIT_ARRAYS}
            )
            for number in described["visits"]
        )
        return TransitFit(
            planet_id=described["planet_id"],
            parameter_names=tuple(described["parameter_names"]),
            reduced_chi2=described["reduced_chi2"],
            reasons=tuple(described["reasons"]),
            visits=visits,
            **{name: tensors[name] for name in _FIT_ARRAYS},
        )
    except KeyError as error:
        raise _damaged(path, f"holds no {error}") from error


def read_facts(path: Path) -> dict[str, str]:
    """Facts that were stored with a fit.

    Raises:
        ArtefactError: If the file is missing, damaged or not a transit fit.
    """
    described, _ = _read(path)
    try:
        return described["facts"]
    except KeyError as error:
        raise _damaged(path, f"holds no {error}") from error


def read_fits(folder: Path, split: str) -> dict[int, TransitFit]:
    """Read the fits of all planets of a split, by planet number in increasing order.

    Raises:
        ArtefactError: If the folder holds no fit of this split, or a file is damaged.
    """
    paths = _fits(folder, split)
    if not paths:
        raise ArtefactError(
            f"{folder / split}: holds no transit fit of the {split} planets. "
            "Run `spectramind fit` first."
        )
    fits = [read_fit(path) for path in paths]
    return {fit.planet_id: fit for fit in fits}


def _fits(folder: Path, split: str) -> list[Path]:
    """Files of a split, by planet number in increasing order."""
    paths = [path for path in (folder / split).glob(f"*{_SUFFIX}") if path.stem.isdigit()]
    return sorted(paths, key=lambda path: int(path.stem))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise ArtefactError(f"{path}: no transit fit there. Run `spectramind fit` first.")
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            return json.loads(metadata[_KEY]), tensors
    except SafetensorError as error:
        raise _damaged(path, f"is no safetensors file ({error})") from error
    except KeyError as error:
        raise _damaged(path, "carries no SpectraMind metadata") from error
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error})") from error


def _damaged(path: Path, what: str) -> ArtefactError:
    return ArtefactError(f"{path}: {what}. Delete it and run `spectramind fit` again.")


def spectra_of_fits(folder: Path, samples: int) -> Spectra:
    """Spectra of all fits below the folder of the stage `fit`, with so many draws from each.

    Raises:
        ArtefactError: If there is none.
    """
    here = [split for split in SPLITS if any((folder / split).glob("*.safetensors"))]
    fits = [fit for split in here or SPLITS[:1] for fit in read_fits(folder, split).values()]
    return Spectra(
        [fit.planet_id for fit in fits],
        np.stack([fit.depth for fit in fits]),
        np.stack([fit.sigma for fit in fits]),
        np.stack([fit.covariance for fit in fits]),
        np.stack([fit.samples(samples) for fit in fits]) if samples else None,
        [fit.reasons for fit in fits],
    )
