"""All planets of an archive: priors learned from the labelled ones, then everyone's spectrum.

A labelled planet is judged by priors learned from the other folds, so that its fit never saw
its label; test planets and planets without a label by priors from every labelled planet.
Nothing is computed twice: priors and fits carry the hash of all that they depend on.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64

from spectramind.errors import ArtefactError, SpectraMindError
from spectramind.observation import LightCurves, Star, TransitFit
from spectramind.parallel import Shown, each, one_thread, results
from spectramind.provenance import Provenance, digest
from spectramind.transit.fit import BinnedPlanet, fit_planets, learn_from, prepare
from spectramind.transit.priors import (
    LabelledEvidence,
    Priors,
    deal_folds,
    first_priors,
    learn_priors,
    prior_path,
    priors_hash,
    read_prior_facts,
    read_priors,
    write_priors,
)
from spectramind.transit.settings import TransitConfig
from spectramind.transit.store import (
    IndexRow,
    fit_path,
    read_header,
    remove_others,
    write_fit,
    write_index,
)

_UNSOLVABLE = (np.linalg.LinAlgError, torch.linalg.LinAlgError)  # pyright: ignore[reportPrivateImportUsage]
Labels = Mapping[int, Float64[np.ndarray, " 283"]]


@runtime_checkable
class LightCurveSource(Protocol):
    """Where light curves come from; goes to the workers."""

    def curves(self, split: str, planet_id: int) -> list[LightCurves]:
        """Light curves of the visits of a planet."""
        ...

    def origin(self, split: str, planet_id: int) -> str:
        """Hash of what the light curves of a planet are, without reading them."""
        ...


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

    source: LightCurveSource
    stars: Mapping[int, Star | None]
    config: TransitConfig
    out: Path
    provenance: Provenance
    device: str


@dataclass(frozen=True, eq=False)
class LearnedPriors:
    """Priors on disk, and the planets that were read and binned to learn them."""

    everyone: Path  # file of the priors that all labelled planets taught
    own: Mapping[int, Path] = field(default_factory=dict)  # of each labelled planet
    binned: Mapping[int, BinnedPlanet] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Task:
    """Planets fitted side by side: equally many visits, the same priors."""

    split: str
    planets: tuple[int, ...]
    priors: Path
    binned: Mapping[int, BinnedPlanet]  # those that have been read already


@dataclass(frozen=True)
class PlanetOutcome:
    """What became of one planet."""

    planet_id: int
    cached: bool = False
    row: IndexRow | None = None  # of a planet with a fit
    failure: str | None = None  # of a planet without one, as a sentence


def learn_folds(
    work: Work, labels: Labels, visits: Mapping[int, int], *, workers: int, later: int = 0
) -> LearnedPriors:
    """Learn the priors of each fold and of all, and write them to `OUT/priors`.

    Priors that are there already, learned from the same, are kept; then nothing is read.

    Args:
        work: Source, settings and place.
        labels: Spectra of the training planets that have light curves.
        visits: Number of visits of each.
        workers: Processes.
        later: Planets that are fitted afterwards.
    """
    spectrum = work.config.spectrum
    folds = deal_folds(sorted(labels), spectrum.folds, spectrum.seed)
    own = {planet: prior_path(work.out, fold) for planet, fold in folds.items()}
    everyone = prior_path(work.out, None)
    planets = {planet: _taught_by(work, labels, planet) for planet in folds}
    origins = {
        fold: _prior_origin(work, [planets[p] for p in folds if fold is None or folds[p] != fold])
        for fold in (None, *sorted(set(folds.values())))
    }
    if _are_learned(work, origins):
        return LearnedPriors(everyone, own)
    task = partial(_fit_labelled, work, dict(labels))
    tasks = _batches(sorted(labels), visits, work.config.planets_per_batch)
    evidence: list[LabelledEvidence] = []
    binned: dict[int, BinnedPlanet] = {}
    shown = Shown("learn from labels", "planets", size=len, later=later)
    for outcome in each(task, tasks, workers=workers, shown=shown):
        learned, prepared = outcome.value or ([], [])
        evidence += learned  # a planet that cannot be read fails again, by name, in fit
        binned |= {planet.planet_id: planet for planet in prepared}
    evidence.sort(key=lambda planet: planet.planet_id)
    unread = " ".join(map(str, sorted(labels.keys() - binned.keys())))
    common = _facts(work.provenance) | {"unread": unread}
    facts = {fold: common | {"origin": origin} for fold, origin in origins.items()}
    learn = partial(_learn_fold, work, evidence, folds, facts)
    unseen = Shown("learn priors", "priors", silent=True)  # seconds
    for _ in results(learn, list(origins), workers=workers, shown=unseen):
        pass
    return LearnedPriors(everyone, own, binned)


def _fit_labelled(
    work: Work, labels: Labels, planets: tuple[int, ...]
) -> tuple[list[LabelledEvidence], list[BinnedPlanet]]:
    """What labelled planets teach, and the planets themselves in time bins."""
    prepared, _ = _prepared(work, "train", planets)
    with one_thread():
        return (_evidence(work, labels, prepared) if prepared else []), prepared


def _evidence(
    work: Work, labels: Labels, planets: Sequence[BinnedPlanet]
) -> list[LabelledEvidence]:
    device = torch.device(work.device)
    try:
        return learn_from(planets, labels, first_priors(work.config), work.config, device)
    except _UNSOLVABLE:  # one of them; it fails again, by name, in fit
        alone = [[planet] for planet in planets if len(planets) > 1]
    return [own for planet in alone for own in _evidence(work, labels, planet)]


def _learn_fold(
    work: Work,
    evidence: Sequence[LabelledEvidence],
    folds: Mapping[int, int],
    facts: Mapping[int | None, Mapping[str, str]],
    fold: int | None,
) -> None:
    seen = [own for own in evidence if fold is None or folds[own.planet_id] != fold]
    write_priors(prior_path(work.out, fold), learn_priors(seen, work.config), facts[fold])


def fit_split(
    work: Work,
    split: str,
    visits: Mapping[int, int],
    learned: LearnedPriors,
    *,
    workers: int,
    later: int = 0,
) -> FitReport:
    """Fit every planet of a split; one that fails does not stop the others.

    At the end `OUT/SPLIT` holds the fits that this run made or found, an index of them, and no
    others.

    Args:
        work: Source, settings and place.
        split: "train" or "test".
        visits: Planets and their number of visits.
        learned: The priors of each planet.
        workers: Processes.
        later: Planets that are fitted afterwards.

    Raises:
        WriteError: If the folder cannot be written.
    """
    groups: dict[Path, list[int]] = {}
    for planet in sorted(visits):
        groups.setdefault(learned.own.get(planet, learned.everyone), []).append(planet)
    tasks = [
        _Task(split, batch, path, {p: learned.binned[p] for p in batch if p in learned.binned})
        for path, planets in groups.items()
        for batch in _batches(planets, visits, work.config.planets_per_batch)
    ]
    outcomes: list[PlanetOutcome] = []
    fit = partial(_fit_batch, work)
    shown = Shown(f"fit {split}", "planets", size=_planets_of, later=later)
    for _, own in results(fit, tasks, workers=workers, shown=shown):
        outcomes += own
    outcomes.sort(key=lambda outcome: outcome.planet_id)
    rows = [outcome.row for outcome in outcomes if outcome.row is not None]
    remove_others(work.out, split, {row.planet_id for row in rows})
    write_index(work.out, split, rows)
    cached = sum(outcome.cached for outcome in outcomes)
    return FitReport(
        done=len(rows) - cached,
        cached=cached,
        flagged=sum(bool(row.reasons) for row in rows),
        failures=tuple(outcome.failure for outcome in outcomes if outcome.failure is not None),
    )


def _planets_of(task: _Task) -> int:
    return len(task.planets)


def _batches(
    planets: Sequence[int], visits: Mapping[int, int], size: int
) -> list[tuple[int, ...]]:
    """Planets with equally many visits, at most `size` together."""
    batches = []
    for number in sorted({visits[planet] for planet in planets}):
        own = [planet for planet in planets if visits[planet] == number]
        batches += [tuple(own[i : i + size]) for i in range(0, len(own), size)]
    return batches


def _prepared(
    work: Work, split: str, planets: Iterable[int]
) -> tuple[list[BinnedPlanet], list[PlanetOutcome]]:
    """Planets in time bins, and what became of those that cannot be."""
    ready, failed = [], []
    for planet_id in planets:
        try:
            curves = work.source.curves(split, planet_id)
            ready.append(prepare(curves, work.stars[planet_id], work.config))
        except SpectraMindError as error:
            failed.append(PlanetOutcome(planet_id, failure=str(error)))
    return ready, failed


def _fit_batch(work: Work, task: _Task) -> list[PlanetOutcome]:
    """Fit the planets of a batch whose files are not up to date."""
    learned = priors_hash(task.priors)
    origins = {planet: _fit_origin(work, task.split, planet, learned) for planet in task.planets}
    kept = {planet: _kept(work, task, planet, origins[planet]) for planet in task.planets}
    outcomes = [PlanetOutcome(row.planet_id, cached=True, row=row) for row in kept.values() if row]
    missing = [planet for planet in task.planets if kept[planet] is None]
    read, failed = _prepared(work, task.split, [p for p in missing if p not in task.binned])
    ready = sorted(
        [*read, *(task.binned[planet] for planet in missing if planet in task.binned)],
        key=lambda planet: planet.planet_id,
    )
    if not ready:
        return outcomes + failed
    with one_thread():
        fits, unsolved = _fitted(work, ready, _priors(task.priors, learned))
    for fit in fits:
        row = IndexRow(fit.planet_id, fit.reasons, task.priors, origins[fit.planet_id])
        facts = _facts(work.provenance) | {"origin": row.origin}
        write_fit(fit_path(work.out, task.split, fit.planet_id), fit, facts)
        outcomes.append(PlanetOutcome(fit.planet_id, row=row))
    return outcomes + failed + unsolved


def _fitted(
    work: Work, planets: Sequence[BinnedPlanet], priors: Priors
) -> tuple[list[TransitFit], list[PlanetOutcome]]:
    """Fits of a batch; where its equations have no solution, of one planet after the other."""
    try:
        fits = fit_planets(planets, priors, work.config, torch.device(work.device))
    except _UNSOLVABLE as error:
        if len(planets) == 1:
            return [], [_unsolved(planets[0].planet_id, str(error))]
    else:
        lost = [fit.planet_id for fit in fits if not fit.usable]
        good = [fit for fit in fits if fit.usable]
        return good, [_unsolved(planet, "its depths are no numbers") for planet in lost]
    parts = [_fitted(work, [planet], priors) for planet in planets]
    return [fit for fits, _ in parts for fit in fits], [own for _, lost in parts for own in lost]


def _unsolved(planet_id: int, why: str) -> PlanetOutcome:
    failure = (
        f"planet {planet_id}: the equations of its fit have no solution ({why}). Look at its "
        "light curves, or leave it out."
    )
    return PlanetOutcome(planet_id, failure=failure)


@cache
def _priors(path: Path, learned: str) -> Priors:  # noqa: ARG001 - part of the key
    """Priors, read once in each process as long as they say the same."""
    return read_priors(path)


def _facts(provenance: Provenance) -> dict[str, str]:
    return {key: str(value) for key, value in asdict(provenance).items()}


def _planet_origin(work: Work, split: str, planet_id: int) -> dict[str, object]:
    """What is known of a planet before its light curves are read: star and hash of the curves.

    Raises:
        SpectraMindError: If the planet has no usable light curves.
    """
    star = work.stars[planet_id]
    return {
        "planet": planet_id,
        "star": None if star is None else asdict(star),
        "light_curves": work.source.origin(split, planet_id),
    }


def _taught_by(work: Work, labels: Labels, planet_id: int) -> dict[str, object] | None:
    """What one labelled planet adds to priors; None if it cannot be read."""
    try:
        planet = _planet_origin(work, "train", planet_id)
    except SpectraMindError:
        return None  # it fails again, by name, when it is prepared
    return planet | {"label": hashlib.sha256(labels[planet_id].tobytes()).hexdigest()}


def _prior_origin(work: Work, planets: Sequence[dict[str, object] | None]) -> str:
    """Hash of all that priors depend on: settings, code, and what each labelled planet adds."""
    made_by = work.provenance
    return digest([made_by.config_hash, made_by.code_hash, planets])


def _are_learned(work: Work, origins: Mapping[int | None, str]) -> bool:
    """Whether priors of these origins are there, and who was unreadable for them still is."""
    unread: set[int] = set()
    for fold, origin in origins.items():
        try:
            facts = read_prior_facts(prior_path(work.out, fold))
        except ArtefactError:  # a missing or damaged file is made anew
            return False
        if facts.get("origin") != origin:
            return False
        unread |= set(map(int, facts["unread"].split()))
    ready, _ = _prepared(work, "train", sorted(unread))
    return not ready


def _fit_origin(work: Work, split: str, planet_id: int, learned: str) -> str:
    """Hash of all that a fit depends on: settings, code, priors, star and light curves."""
    try:
        planet = _planet_origin(work, split, planet_id)
    except SpectraMindError:
        return ""  # it fails again, by name, when it is prepared
    made_by = work.provenance
    return digest([made_by.config_hash, made_by.code_hash, learned, planet])


def _kept(work: Work, task: _Task, planet_id: int, origin: str) -> IndexRow | None:
    """The fit that is there already, if it is of this origin."""
    try:
        reasons, facts = read_header(fit_path(work.out, task.split, planet_id))
    except ArtefactError:  # a missing or damaged file is made anew
        return None
    known = facts.get("origin") == origin
    return IndexRow(planet_id, reasons, task.priors, origin) if known else None
