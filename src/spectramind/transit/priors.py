"""Priors that training planets teach, each planet judged by priors that never saw its label."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from spectramind.artefacts import Kind, load_tensors, save_tensors
from spectramind.errors import ArtefactError
from spectramind.files import unwritable
from spectramind.instrument import WAVELENGTHS
from spectramind.observation import Labels
from spectramind.provenance import digest
from spectramind.transit.settings import TransitConfig
from spectramind.transit.shared_prior import (
    OrbitEvidence,
    Population,
    first_population,
    learn_population,
)
from spectramind.transit.spectrum_learning import (
    learn_amplitudes,
    learn_spectrum_prior,
    with_doubt,
)
from spectramind.transit.spectrum_prior import SpectrumPrior
from spectramind.transit.spots import learn_spots
from spectramind.transit.time_noise import NoiseBelief, learn_belief

_PRIORS = Kind("file of priors of a transit fit", "spectramind fit")
_DRIFT = ("drift_fgs1", "drift_time", "drift_wavelength")
_INSTRUMENT = (*_DRIFT, "clock_h", "visit_offset")  # of a population; the same for every star
_EVERYONE = "all"
_SYMMETRIC = "spectrum.process"  # half of it is stored


@dataclass(frozen=True, eq=False)
class Priors:
    """All that is known of a planet before its light curves are seen."""

    known: Population  # of stars of the table
    unknown: Population  # of stars of no table
    spectrum: SpectrumPrior | None  # None: no labels to learn from
    noise: NoiseBelief = field(default_factory=NoiseBelief.first)
    taught_by: Mapping[int, str] = field(default_factory=dict)  # planets, and hash of each label

    def know(self, planet_id: int, label: Float64[np.ndarray, " 283"] | None) -> bool:
        """Whether they were learned from this planet's label; None: a label not at hand."""
        learned = self.taught_by.get(planet_id)
        return learned is not None and (label is None or learned == label_hash(label))


_PARTS = {
    "known": Population, "unknown": Population, "spectrum": SpectrumPrior, "noise": NoiseBelief,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one planet teaches of what planets share."""

    planet_id: int
    known: bool  # its star is in the table
    orbit: OrbitEvidence
    noise: Float64[np.ndarray, "V R K H"]  # log evidence of each hypothesis of `NoiseBelief`
    spots: Float64[np.ndarray, " S"]  # log evidence of each of `SPOTS`


@dataclass(frozen=True, eq=False)
class LabelledEvidence(Evidence):
    """What a planet teaches whose depths are held at its label."""

    label: Float64[np.ndarray, " 283"]
    log_scale: float


@dataclass(frozen=True, eq=False)
class LabelAlone:
    """The label of a planet without light curves: it teaches the prior over spectra alone."""

    planet_id: int
    label: Float64[np.ndarray, " 283"]
    log_scale: float


@dataclass(frozen=True, eq=False)
class UnlabelledEvidence(Evidence):
    """What a planet teaches whose depths are marginalised."""

    spectra: Float64[np.ndarray, "C G"]  # log evidence of each of `SCALES` and each amplitude


def first_priors(config: TransitConfig) -> Priors:
    """Priors of the settings, for archives without labels."""
    known, unknown = (first_population(config, known=known) for known in (True, False))
    return Priors(known, unknown, spectrum=None)


def learn_priors(
    planets: Sequence[LabelledEvidence], config: TransitConfig, alone: Sequence[LabelAlone] = ()
) -> Priors:
    """Priors from labelled planets; too few of a kind leave that part as the settings have it.

    Args:
        planets: Those with light curves.
        config: Section `transit`.
        alone: Labels of planets without, which teach the prior over spectra and nothing else.
    """
    start = first_priors(config)
    fewest = config.spectrum.fewest_labels
    learned = {}
    for known in (True, False):
        own = [planet for planet in planets if planet.known == known]
        first = start.known if known else start.unknown
        learned[known] = _learned(first, own, config) if len(own) >= fewest else first
    if learned[True].planets and not learned[False].planets:
        learned[False] = _with(_INSTRUMENT, start.unknown, learned[True])
    spectrum, noise, teachers = None, start.noise, [*planets, *alone]
    if len(teachers) < fewest:
        teachers = []
    if teachers:
        labels = np.stack([planet.label for planet in teachers])
        scale = [planet.log_scale for planet in teachers]
        spectrum = learn_spectrum_prior(labels, scale, config.spectrum)
    taught_by = {planet.planet_id: label_hash(planet.label) for planet in teachers}
    if len(planets) >= fewest:
        noise = learn_belief(np.concatenate([planet.noise for planet in planets]))
    return Priors(learned[True], learned[False], spectrum, noise, taught_by)


def _learned(first: Population, planets: Sequence[Evidence], config: TransitConfig) -> Population:
    """What planets of one kind of star have in common."""
    population = learn_population(first, [planet.orbit for planet in planets], config.prior)
    return replace(population, spots=learn_spots(np.stack([one.spots for one in planets])))


def wide_priors(lent: Priors, config: TransitConfig) -> Priors:
    """What an archive's own planets begin with when priors are lent to it.

    They lend the spectra and the instrument's drift; orbits and limb darkening are the settings',
    and how far spectra may lie from the lent shapes is open.
    """
    first = first_priors(config)
    known, unknown = (_with(_DRIFT, own, lent.known) for own in (first.known, first.unknown))
    spectrum = None if lent.spectrum is None else with_doubt(lent.spectrum)
    return replace(lent, known=known, unknown=unknown, spectrum=spectrum)


def _with(names: Sequence[str], population: Population, other: Population) -> Population:
    """A population with some fields of another."""
    return replace(population, **{name: getattr(other, name) for name in names})


def learn_unlabelled(
    planets: Sequence[UnlabelledEvidence], start: Priors, config: TransitConfig, *, lent: bool
) -> Priors:
    """Priors from an archive's own planets without a label, beside those that they began with.

    From `prior.fewest` planets of a kind on; with fewer the first ones stand.

    Args:
        planets: What they teach.
        start: Priors that they were fitted with.
        config: Section `transit`.
        lent: Whether the prior over spectra is another archive's, so that amplitudes are learned.
    """
    learned, first, fewest = start, first_priors(config), config.prior.fewest
    for name, known in (("known", True), ("unknown", False)):
        own = [planet for planet in planets if planet.known == known]
        if len(own) >= fewest:
            population = _learned(getattr(first, name), own, config)
            learned = replace(learned, **{name: population})
        elif not known and learned.known.planets:
            population = _with(_INSTRUMENT, first.unknown, learned.known)
            learned = replace(learned, unknown=population)
    if len(planets) < fewest:
        return learned
    noise = learn_belief(np.concatenate([planet.noise for planet in planets]))
    if learned.spectrum is None or not lent:
        return replace(learned, noise=noise)
    known = np.array([planet.known for planet in planets])
    heard = np.stack([planet.spectra for planet in planets])
    return replace(learned, noise=noise, spectrum=learn_amplitudes(learned.spectrum, heard, known))


def label_hash(label: Float64[np.ndarray, " 283"]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a label."""
    return hashlib.sha256(label.tobytes()).hexdigest()[:16]


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
    taught_by = {str(planet): label for planet, label in priors.taught_by.items()}
    described: dict[str, Any] = {"facts": dict(facts), "taught_by": taught_by}
    for name in _PARTS:
        part = getattr(priors, name)
        described[name] = None
        if part is None:
            continue
        values = _fields(part)
        arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
        described[name] = {key: value for key, value in values.items() if key not in arrays}
        tensors |= {f"{name}.{key}": array for key, array in arrays.items()}
    if _SYMMETRIC in tensors:
        tensors[_SYMMETRIC] = _half(tensors[_SYMMETRIC])
    save_tensors(path, tensors, described)


def _fields(part: Population | SpectrumPrior | NoiseBelief) -> dict[str, Any]:
    """Fields of a dataclass as they stand."""
    return {field.name: getattr(part, field.name) for field in fields(part)}


def read_priors(path: Path) -> Priors:
    """Read priors.

    Raises:
        ArtefactError: If the file is missing, damaged or holds no priors.
    """
    described, tensors = load_tensors(path, _PRIORS)
    try:
        if _SYMMETRIC in tensors:
            tensors = {**tensors, _SYMMETRIC: _both_halves(tensors[_SYMMETRIC])}
        parts = {}
        for name, kind in _PARTS.items():
            arrays: dict[str, Any] = {
                key.removeprefix(f"{name}."): value
                for key, value in tensors.items()
                if key.startswith(f"{name}.")
            }
            plain = described[name]
            parts[name] = None if plain is None else kind(**_tuples(plain), **arrays)
        taught_by = {int(planet): label for planet, label in described["taught_by"].items()}
        priors = Priors(**parts, taught_by=taught_by)
    except (KeyError, TypeError) as error:
        raise _PRIORS.damaged(path, f"it lacks {error}") from error
    except ValueError as error:
        raise _PRIORS.damaged(path, "its prior over spectra is of another kind") from error
    if priors.noise.belief.shape != NoiseBelief.first().belief.shape:
        raise _PRIORS.damaged(path, "its noise in time is that of other kernels")
    return priors


def _half(matrix: Float64[np.ndarray, "W W"]) -> Float64[np.ndarray, " M"]:
    """Lower triangle of a symmetric matrix, row by row."""
    return matrix[np.tril_indices(len(matrix))]


def _both_halves(half: Float64[np.ndarray, " M"]) -> Float64[np.ndarray, "W W"]:
    matrix = np.zeros((WAVELENGTHS, WAVELENGTHS))
    matrix[np.tril_indices(WAVELENGTHS)] = half
    return matrix + np.tril(matrix, -1).T


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


def refuse_own_labels(made_with: Mapping[int, Path], labels: Labels) -> None:
    """Refuse fits that know the label which is to judge them.

    Args:
        made_with: File of priors that the fit of each planet was made with.
        labels: Of these planets.

    Raises:
        ArtefactError: Names a planet whose own label taught the priors of its fit.
    """
    known, own = {path: read_priors(path) for path in set(made_with.values())}, labels.by_planet()
    for planet, path in made_with.items():
        if known[path].know(planet, own[planet]):
            raise ArtefactError(
                f"{path}: these priors were learned from the label of planet {planet}, which was "
                "fitted with them, so its fit cannot be judged by that label. Run `spectramind "
                "fit` again without `prior`, so that each planet has the priors of others."
            )


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
