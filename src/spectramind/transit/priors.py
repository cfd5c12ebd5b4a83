"""Priors that training planets teach, each planet judged by priors that never saw its label."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from spectramind.artefacts import Kind, load_tensors, save_tensors
from spectramind.files import unwritable
from spectramind.provenance import digest
from spectramind.transit.settings import TransitConfig
from spectramind.transit.shared_prior import (
    OrbitEvidence,
    Population,
    first_population,
    learn_population,
)
from spectramind.transit.spectrum_prior import SpectrumPrior, learn_spectrum_prior

_PRIORS = Kind("file of priors of a transit fit", "spectramind fit")
_EVERYONE = "all"


@dataclass(frozen=True, eq=False)
class Priors:
    """All that is known of a planet before its light curves are seen."""

    known: Population  # of stars of the table
    unknown: Population  # of stars of no table
    spectrum: SpectrumPrior | None  # None: no labels to learn from


@dataclass(frozen=True, eq=False)
class LabelledEvidence:
    """What one labelled planet teaches."""

    planet_id: int
    label: Float64[np.ndarray, " 283"]
    log_scale: float
    known: bool  # its star is in the table
    evidence: OrbitEvidence


def first_priors(config: TransitConfig) -> Priors:
    """Priors of the settings, for archives without labels."""
    known, unknown = (first_population(config, known=known) for known in (True, False))
    return Priors(known, unknown, spectrum=None)


def learn_priors(planets: Sequence[LabelledEvidence], config: TransitConfig) -> Priors:
    """Priors from labelled planets; too few of a kind leave that part as the settings have it."""
    start = first_priors(config)
    fewest = config.spectrum.fewest_labels
    learned = {}
    for known in (True, False):
        own = [planet.evidence for planet in planets if planet.known == known]
        first = start.known if known else start.unknown
        learned[known] = learn_population(first, own) if len(own) >= fewest else first
    spectrum = None
    if len(planets) >= fewest:
        labels = np.stack([planet.label for planet in planets])
        scale = [planet.log_scale for planet in planets]
        spectrum = learn_spectrum_prior(labels, scale, config.spectrum)
    return Priors(learned[True], learned[False], spectrum)


def deal_folds(planets: Sequence[int], folds: int, seed: int) -> dict[int, int]:
    """The fold whose priors judge each labelled planet: they are learned from all others."""
    ordered = np.sort(np.asarray(planets, dtype=np.int64))
    places = np.random.default_rng([seed, 283]).permutation(len(ordered))
    return {int(planet): int(place) % folds for planet, place in zip(ordered, places, strict=True)}


def prior_path(folder: Path, fold: int | None) -> Path:
    """Where the priors without one fold lie; None: learned from every labelled planet."""
    name = _EVERYONE if fold is None else f"without-fold{fold}"
    return folder / "priors" / f"{name}.safetensors"


def write_priors(path: Path, priors: Priors, facts: Mapping[str, str]) -> None:
    """Write priors and facts about their origin, atomically.

    Raises:
        WriteError: If the file cannot be written.
    """
    tensors: dict[str, np.ndarray] = {}
    described: dict[str, Any] = {"facts": dict(facts)}
    for name, part in _fields(priors).items():
        described[name] = None
        if part is None:
            continue
        values = _fields(part)
        arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
        described[name] = {key: value for key, value in values.items() if key not in arrays}
        tensors |= {f"{name}.{key}": array for key, array in arrays.items()}
    save_tensors(path, tensors, described)


def _fields(part: Priors | Population | SpectrumPrior) -> dict[str, Any]:
    """Fields of a dataclass as they stand."""
    return {field.name: getattr(part, field.name) for field in fields(part)}


def read_priors(path: Path) -> Priors:
    """Read priors.

    Raises:
        ArtefactError: If the file is missing, damaged or holds no priors.
    """
    described, tensors = load_tensors(path, _PRIORS)
    try:
        parts = {}
        for name, kind in (("known", Population), ("unknown", Population),
                           ("spectrum", SpectrumPrior)):  # fmt: skip
            arrays: dict[str, Any] = {
                key.removeprefix(f"{name}."): value
                for key, value in tensors.items()
                if key.startswith(f"{name}.")
            }
            plain = described[name]
            parts[name] = None if plain is None else kind(**_tuples(plain), **arrays)
        return Priors(**parts)
    except (KeyError, TypeError) as error:
        raise _PRIORS.damaged(path, f"it lacks {error}") from error


def read_prior_facts(path: Path) -> dict[str, str]:
    """Facts that were stored with priors.

    Raises:
        ArtefactError: If the file is missing, damaged or holds no priors.
    """
    described, _ = load_tensors(path, _PRIORS)
    try:
        return described["facts"]
    except KeyError as error:
        raise _PRIORS.damaged(path, f"it lacks {error}") from error


def remove_other_priors(folder: Path, named: Collection[Path]) -> None:
    """Remove the priors of a folder but these.

    Raises:
        WriteError: If a file cannot be removed.
    """
    kept = {path.resolve() for path in named}
    for path in prior_path(folder, None).parent.glob("*.safetensors"):
        if path.resolve() not in kept:
            try:
                path.unlink()
            except OSError as error:
                raise unwritable(path, error) from error


def priors_hash(path: Path) -> str:
    """Hash of what priors say, whenever and by whomever they were written.

    Raises:
        ArtefactError: If the file is missing, damaged or holds no priors.
    """
    described, tensors = load_tensors(path, _PRIORS)
    arrays = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in tensors.items()}
    return digest({"arrays": arrays} | {k: v for k, v in described.items() if k != "facts"})


def _tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
