"""The stage `fit`: priors learned from labelled planets, then every planet's spectrum.

A labelled planet is judged by priors learned from the other folds, so that its fit never saw
its label; test planets and planets without a label by priors from every labelled planet.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from spectramind.errors import ArtefactError, SpectraMindError
from spectramind.observation import LightCurves, Star, TransitFit
from spectramind.parallel import each
from spectramind.provenance import Provenance, digest
from spectramind.transit.fit import Planet, fit_planets, learn_from, prepare
from spectramind.transit.priors import (
    Lesson,
    Priors,
    deal_folds,
    first_priors,
    learn_priors,
    prior_path,
    priors_hash,
    read_priors,
    write_priors,
)
from spectramind.transit.settings import TransitConfig
from spectramind.transit.store import fit_path, read_facts, read_fit, remove_others, write_fit

_UNSOLVABLE = (np.linalg.LinAlgError, torch.linalg.LinAlgError)  # pyright: ignore[reportPrivateImportUsage]
Reader = Callable[[str, int], list[LightCurves]]  # split and planet to the curves of its visits


@dataclass(frozen=True)
class FitReport:
    """What a run of the stage did in one split."""

    done: int
    cached: int
    flagged: int
    failures: tuple[str, ...]  # planets left out, each as a sentence


@dataclass(frozen=True, eq=False)
class Work:
    """What every task of the stage needs to know; goes to the workers."""

    read: Reader
    stars: Mapping[int, Star | None]
    config: TransitConfig
    out: Path
    provenance: Provenance
    device: str


@dataclass(frozen=True)
class _Task:
    """Planets fitted side by side: equally many visits, the same priors."""

    split: str
    planets: tuple[int, ...]
    priors: Path


@dataclass(frozen=True)
class _Fate:
    """What became of one planet."""

    planet_id: int
    cached: bool
    flagged: bool
    failure: str | None


def learn_folds(
    work: Work,
    labels: Mapping[int, Float64[np.ndarray, " 283"]],
    visits: Mapping[int, int],
    *,
    workers: int,
) -> dict[int, Path]:
    """Learn the priors of each fold and of all, and write them to `OUT/priors`.

    Args:
        work: Readers, settings and place.
        labels: Spectra of the training planets that have light curves.
        visits: Number of visits of each.
        workers: Processes.

    Returns:
        For each labelled planet the file of the priors that never saw its label.
    """
    task = partial(_teach, work, dict(labels))
    tasks = _batches(sorted(labels), visits, work.config.planets_a_batch)
    lessons: list[Lesson] = []
    for outcome in each(task, tasks, workers=workers, label="learn from labels"):
        lessons += outcome.value or []  # a planet that cannot be read fails again, by name, in fit
    lessons.sort(key=lambda lesson: lesson.planet_id)
    spectrum = work.config.spectrum
    folds = deal_folds([lesson.planet_id for lesson in lessons], spectrum.folds, spectrum.seed)
    everyone: list[int | None] = [None, *range(work.config.spectrum.folds)]
    learn = partial(_learn_fold, work, lessons, folds)
    for outcome in each(learn, everyone, workers=workers, label="learn priors"):
        if outcome.error is not None:
            raise outcome.error
    return {planet: prior_path(work.out, fold) for planet, fold in folds.items()}


def _teach(
    work: Work, labels: Mapping[int, Float64[np.ndarray, " 283"]], planets: tuple[int, ...]
) -> list[Lesson]:
    prepared, _ = _prepared(work, "train", planets)
    if not prepared:
        return []
    torch.set_num_threads(1)
    return _lessons(work, labels, prepared)


def _lessons(
    work: Work, labels: Mapping[int, Float64[np.ndarray, " 283"]], planets: Sequence[Planet]
) -> list[Lesson]:
    device = torch.device(work.device)
    try:
        return learn_from(planets, labels, first_priors(work.config), work.config, device)
    except _UNSOLVABLE:  # one of them; it fails again, by name, in fit
        alone = [[planet] for planet in planets if len(planets) > 1]
    return [lesson for planet in alone for lesson in _lessons(work, labels, planet)]


def _learn_fold(
    work: Work, lessons: Sequence[Lesson], folds: Mapping[int, int], fold: int | None
) -> None:
    seen = [lesson for lesson in lessons if fold is None or folds[lesson.planet_id] != fold]
    priors = learn_priors(seen, work.config)
    write_priors(prior_path(work.out, fold), priors, _facts(work.provenance))


def fit_split(
    work: Work,
    split: str,
    visits: Mapping[int, int],
    priors: Mapping[int, Path],
    fallback: Path,
    *,
    workers: int,
) -> FitReport:
    """Fit every planet of a split; one that fails does not stop the others.

    At the end `OUT/SPLIT` holds the fits that this run made or found, and no others.

    Args:
        work: Readers, settings and place.
        split: "train" or "test".
        visits: Planets and their number of visits.
        priors: File of the priors of each labelled planet.
        fallback: File of the priors of all others.
        workers: Processes.

    Raises:
        WriteError: If the folder cannot be written.
    """
    groups: dict[Path, list[int]] = {}
    for planet in sorted(visits):
        groups.setdefault(priors.get(planet, fallback), []).append(planet)
    tasks = [
        _Task(split, batch, path)
        for path, planets in groups.items()
        for batch in _batches(planets, visits, work.config.planets_a_batch)
    ]
    fates: list[_Fate] = []
    for outcome in each(partial(_fit_batch, work), tasks, workers=workers, label=f"fit {split}"):
        if outcome.error is not None:
            raise outcome.error
        fates += outcome.value or []
    failed = [fate for fate in fates if fate.failure is not None]
    kept = {fate.planet_id for fate in fates} - {fate.planet_id for fate in failed}
    remove_others(work.out, split, kept)
    return FitReport(
        done=sum(not fate.cached for fate in fates) - len(failed),
        cached=sum(fate.cached for fate in fates),
        flagged=sum(fate.flagged for fate in fates),
        failures=tuple(str(f.failure) for f in sorted(failed, key=lambda fate: fate.planet_id)),
    )


def _batches(
    planets: Sequence[int], visits: Mapping[int, int], size: int
) -> list[tuple[int, ...]]:
    """Planets with equally many visits, at most `size` together."""
    batches = []
    for number in sorted({visits[planet] for planet in planets}):
        own = [planet for planet in planets if visits[planet] == number]
        batches += [tuple(own[i : i + size]) for i in range(0, len(own), size)]
    return batches


def _prepared(work: Work, split: str, planets: Sequence[int]) -> tuple[list[Planet], list[_Fate]]:
    """Planets in time bins, and the fates of those that cannot be."""
    ready, fates = [], []
    for planet_id in planets:
        try:
            curves = work.read(split, planet_id)
            ready.append(prepare(curves, work.stars[planet_id], work.config))
        except SpectraMindError as error:
            fates.append(_Fate(planet_id, cached=False, flagged=False, failure=str(error)))
    return ready, fates


def _fit_batch(work: Work, task: _Task) -> list[_Fate]:
    """Fit the planets of a batch whose files are not up to date."""
    fates, missing, origins = [], [], {}
    learned = priors_hash(task.priors)
    for planet_id in task.planets:
        path = fit_path(work.out, task.split, planet_id)
        origins[planet_id] = _origin(work, task, planet_id, learned)
        if path.exists() and _holds(path, origins[planet_id]):
            flagged = bool(read_fit(path).reasons)
            fates.append(_Fate(planet_id, cached=True, flagged=flagged, failure=None))
        else:
            missing.append(planet_id)
    ready, failed = _prepared(work, task.split, missing)
    torch.set_num_threads(1)
    priors = _priors(task.priors, learned)
    fits, unsolved = _fitted(work, ready, priors) if ready else ([], [])
    for fit in fits:
        facts = _facts(work.provenance) | {"origin": origins[fit.planet_id]}
        facts |= {"priors": str(task.priors)}
        write_fit(fit_path(work.out, task.split, fit.planet_id), fit, facts)
        fates.append(_Fate(fit.planet_id, False, bool(fit.reasons), None))
    return fates + failed + unsolved


def _fitted(
    work: Work, planets: Sequence[Planet], priors: Priors
) -> tuple[list[TransitFit], list[_Fate]]:
    """Fits of a batch; where its equations have no solution, of one planet after the other."""
    try:
        return fit_planets(planets, priors, work.config, torch.device(work.device)), []
    except _UNSOLVABLE as error:
        if len(planets) == 1:
            failure = (
                f"planet {planets[0].planet_id}: the equations of its fit have no solution "
                f"({error}). Look at its light curves, or leave it out."
            )
            return [], [_Fate(planets[0].planet_id, False, False, failure)]
    parts = [_fitted(work, [planet], priors) for planet in planets]
    return [fit for fits, _ in parts for fit in fits], [f for _, fates in parts for f in fates]


@cache
def _priors(path: Path, learned: str) -> Priors:  # noqa: ARG001 - part of the key
    """Priors, read once in each process as long as they say the same."""
    return read_priors(path)


def _facts(provenance: Provenance) -> dict[str, str]:
    return {key: str(value) for key, value in asdict(provenance).items()}


def _origin(work: Work, task: _Task, planet_id: int, learned: str) -> str:
    """Hash of all that a fit depends on: settings, code, priors, star and light curves."""
    try:
        visits = work.read(task.split, planet_id)
    except SpectraMindError:
        return ""  # it fails again, by name, when it is prepared
    curves = hashlib.sha256()
    for visit in visits:
        for array in (visit.airs_time_h, visit.airs_e, visit.fgs1_time_h, visit.fgs1_e,
                      visit.fgs1_centroid):  # fmt: skip
            curves.update(np.ascontiguousarray(array).tobytes())
    star = work.stars[planet_id]
    return digest(
        {
            "config": work.provenance.config_hash,
            "code": work.provenance.code_hash,
            "priors": learned,
            "star": None if star is None else asdict(star),
            "visits": [visit.visit for visit in visits],
            "light_curves": curves.hexdigest(),
        }
    )


def _holds(path: Path, origin: str) -> bool:
    try:
        return read_facts(path).get("origin") == origin
    except ArtefactError:  # a damaged file is made anew
        return False
