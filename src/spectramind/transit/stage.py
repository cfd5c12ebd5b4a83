"""All planets of an archive: priors learned from the labelled ones, then everyone's spectrum.

A labelled planet is judged by priors learned from the other folds, so that its fit never saw
its label; test planets and planets without a label by priors from every labelled planet.
Nothing is computed twice: priors and fits carry the hash of all that they depend on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from spectramind.errors import ArtefactError, SpectraMindError
from spectramind.observation import TransitFit
from spectramind.parallel import Shown, one_thread, results
from spectramind.provenance import digest
from spectramind.transit.fit import fit_planets
from spectramind.transit.priors import (
    Priors,
    priors_hash,
    read_priors,
)
from spectramind.transit.start import BinnedPlanet
from spectramind.transit.store import (
    IndexRow,
    fit_path,
    read_header,
    remove_others,
    write_fit,
    write_index,
)
from spectramind.transit.work import (
    UNSOLVABLE,
    LearnedPriors,
    PlanetOutcome,
    Work,
    batches,
    facts_of,
    planet_origin,
    prepared,
)


@dataclass(frozen=True)
class FitReport:
    """What a run of the stage did in one split."""

    done: int
    cached: int
    flagged: int
    failures: tuple[str, ...]  # planets left out, each as a sentence


@dataclass(frozen=True, eq=False)
class _Task:
    """Planets fitted side by side: equally many visits, the same priors."""

    split: str
    planets: tuple[int, ...]
    priors: Path
    binned: Mapping[int, BinnedPlanet]  # those that have been read already


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
        for batch in batches(planets, visits, work.config.planets_per_batch)
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


def _fit_batch(work: Work, task: _Task) -> list[PlanetOutcome]:
    """Fit the planets of a batch whose files are not up to date."""
    learned = priors_hash(task.priors)
    origins = {planet: _fit_origin(work, task.split, planet, learned) for planet in task.planets}
    kept = {planet: _kept(work, task, planet, origins[planet]) for planet in task.planets}
    outcomes = [PlanetOutcome(row.planet_id, cached=True, row=row) for row in kept.values() if row]
    missing = [planet for planet in task.planets if kept[planet] is None]
    read, failed = prepared(work, task.split, [p for p in missing if p not in task.binned])
    ready = sorted(
        [*read, *(task.binned[planet] for planet in missing if planet in task.binned)],
        key=lambda planet: planet.planet_id,
    )
    if not ready:
        return outcomes + failed
    with one_thread():
        fits, unsolved = _fitted(work, ready, _priors(task.priors, learned))
    for fit in fits:
        pull = tuple(fit.limb_pull.tolist())
        row = IndexRow(fit.planet_id, fit.reasons, pull, task.priors, origins[fit.planet_id])
        facts = facts_of(work.provenance) | {"origin": row.origin}
        write_fit(fit_path(work.out, task.split, fit.planet_id), fit, facts)
        outcomes.append(PlanetOutcome(fit.planet_id, row=row))
    return outcomes + failed + unsolved


def _fitted(
    work: Work, planets: Sequence[BinnedPlanet], priors: Priors
) -> tuple[list[TransitFit], list[PlanetOutcome]]:
    """Fits of a batch; where its equations have no solution, of one planet after the other."""
    try:
        fits = fit_planets(planets, priors, work.config, torch.device(work.device))
    except UNSOLVABLE as error:
        if len(planets) == 1:
            return [], [_unsolved(planets[0].planet_id, str(error))]
    else:
        lost = [fit.planet_id for fit in fits if not fit.usable]
        good = [fit for fit in fits if fit.usable]
        return good, [_unsolved(planet, "its depths or errors are no numbers") for planet in lost]
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


def _fit_origin(work: Work, split: str, planet_id: int, learned: str) -> str:
    """Hash of all that a fit depends on: settings, code, priors, star and light curves."""
    try:
        planet = planet_origin(work, split, planet_id)
    except SpectraMindError:
        return ""  # it fails again, by name, when it is prepared
    made_by = work.provenance
    return digest([made_by.config_hash, made_by.code_hash, learned, planet])


def _kept(work: Work, task: _Task, planet_id: int, origin: str) -> IndexRow | None:
    """The fit that is there already, if it is of this origin."""
    try:
        header = read_header(fit_path(work.out, task.split, planet_id))
    except ArtefactError:  # a missing or damaged file is made anew
        return None
    if header.facts.get("origin") != origin:
        return None
    return IndexRow(planet_id, header.reasons, header.limb_pull, task.priors, origin)
