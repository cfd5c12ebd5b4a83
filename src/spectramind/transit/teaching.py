"""What an archive teaches before its planets are fitted: priors, with labels and without."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from spectramind.archive.layout import SPLITS, Split
from spectramind.errors import ArtefactError, SpectraMindError
from spectramind.parallel import Shown, each, one_thread, results
from spectramind.provenance import digest
from spectramind.transit.fit import learn_from, learn_without_labels
from spectramind.transit.priors import (
    LabelAlone,
    LabelledEvidence,
    Priors,
    UnlabelledEvidence,
    deal_folds,
    first_priors,
    label_hash,
    learn_priors,
    learn_unlabelled,
    prior_path,
    priors_hash,
    read_prior_facts,
    read_priors,
    wide_priors,
    write_priors,
)
from spectramind.transit.spectrum_prior import log_signal
from spectramind.transit.start import BinnedPlanet
from spectramind.transit.work import (
    UNSOLVABLE,
    Labels,
    LearnedPriors,
    Work,
    batches,
    facts_of,
    planet_origin,
    prepared,
)


def learn_folds(
    work: Work, labels: Labels, visits: Mapping[int, int], *, workers: int, later: int = 0
) -> LearnedPriors:
    """Learn the priors of each fold and of all, and write them to `OUT/priors`.

    Priors that are there already, learned from the same, are kept; then nothing is read.

    Args:
        work: Source, settings and place.
        labels: Spectra of the training planets; one without light curves teaches every prior over
            spectra and nothing else.
        visits: Number of visits of each that has light curves.
        workers: Processes.
        later: Planets that are fitted afterwards.
    """
    spectrum, alone = work.config.spectrum, _alone(work, labels, visits)
    labels = {planet: label for planet, label in labels.items() if planet in visits}
    folds = deal_folds(sorted(labels), spectrum.folds, spectrum.seed)
    own = {planet: prior_path(work.out, fold) for planet, fold in folds.items()}
    everyone = prior_path(work.out, None)
    planets = {planet: _taught_by(work, labels, planet) for planet in folds}
    origins = {
        fold: _prior_origin(
            work, [planets[p] for p in folds if fold is None or folds[p] != fold], alone
        )
        for fold in (None, *sorted(set(folds.values())))
    }
    if _are_learned(work, origins):
        return LearnedPriors(everyone, own)
    task = partial(_fit_labelled, work, labels)
    tasks = batches(sorted(labels), visits, work.config.planets_per_batch)
    evidence: list[LabelledEvidence] = []
    binned: dict[int, BinnedPlanet] = {}
    shown = Shown("learn from labels", "planets", size=len, later=later)
    for outcome in each(task, tasks, workers=workers, shown=shown):
        learned, ready = outcome.value or ([], [])
        evidence += learned  # a planet that cannot be read fails again, by name, in fit
        binned |= {planet.planet_id: planet for planet in ready}
    evidence.sort(key=lambda planet: planet.planet_id)
    unread = " ".join(map(str, sorted(labels.keys() - binned.keys())))
    common = facts_of(work.provenance) | {"unread": unread}
    facts = {fold: common | {"origin": origin} for fold, origin in origins.items()}
    learn = partial(_learn_fold, work, evidence, alone, folds, facts)
    shown = Shown("learn priors", "priors")
    for _ in results(learn, list(origins), workers=workers, shown=shown):
        pass
    return LearnedPriors(everyone, own, binned)


def learn_archive(
    work: Mapping[Split, Work],
    visits: Mapping[Split, Mapping[int, int]],
    lent: Path | None,
    labels: Labels,
    *,
    workers: int,
    later: int = 0,
) -> LearnedPriors:
    """Learn what planets of an archive share from their light curves alone, to `OUT/priors`.

    Labels of planets without light curves teach the prior over spectra, unless one is lent.
    Labels of the others teach nothing, so that they can judge each fit.

    Priors that are there already, learned from the same, are kept; then nothing is read.

    Args:
        work: Source, settings and place, of each split.
        visits: Planets of each split and their number of visits.
        lent: File of priors whose spectra are taken; None: those that labels teach.
        labels: Spectra of the training planets.
        workers: Processes.
        later: Planets that are fitted afterwards.
    """
    config, path = work["test"].config, prior_path(work["test"].out, None)
    alone = [] if lent is not None else _alone(work["train"], labels, visits["train"])
    everyone = sum(map(len, visits.values()))
    chosen: dict[Split, list[int]] = {
        split: _spread(sorted(visits[split]), config.prior.most * len(visits[split]) // everyone)
        for split in SPLITS
        if visits[split]
    }
    made_by = work["test"].provenance
    heard = [_origins(work[split], split, planets) for split, planets in chosen.items()]
    learned_from = None if lent is None else priors_hash(lent)
    told = _told(alone)
    origin = digest([made_by.config_hash, made_by.code_hash, learned_from, heard, told])
    if _origin_of(path) == origin:
        return LearnedPriors(path)
    start = learn_priors([], config, alone)
    if lent is not None:
        start = wide_priors(read_priors(lent), config)
    task = partial(_fit_unlabelled, work, start)
    tasks: list[tuple[Split, tuple[int, ...]]] = [
        (split, batch)
        for split, planets in chosen.items()
        for batch in batches(planets, visits[split], config.planets_per_batch)
    ]
    evidence: list[UnlabelledEvidence] = []
    shown = Shown("learn from the archive", "planets", size=_planets_of_pair, later=later)
    for outcome in each(task, tasks, workers=workers, shown=shown):
        evidence += outcome.value or []  # a planet that cannot be read fails again in fit
    evidence.sort(key=lambda planet: planet.planet_id)
    priors = learn_unlabelled(evidence, start, config, lent=lent is not None)
    lender = "" if lent is None else f"{lent.name} of hash {learned_from}"
    facts = {"unread": "", "origin": origin, "lent": lender}
    write_priors(path, priors, facts_of(made_by) | facts)
    return LearnedPriors(path)


def _spread(planets: Sequence[int], most: int) -> list[int]:
    """At most so many planets, evenly from the first to the last."""
    count = min(max(most, 1), len(planets))
    return [planets[place * len(planets) // count] for place in range(count)]


def _planets_of_pair(task: tuple[Split, tuple[int, ...]]) -> int:
    return len(task[1])


def _origins(work: Work, split: Split, planets: Sequence[int]) -> list[dict[str, object] | None]:
    """What is known of planets before they are read; None of one that cannot be."""
    found: list[dict[str, object] | None] = []
    for planet in planets:
        try:
            found.append(planet_origin(work, split, planet))
        except SpectraMindError:
            found.append(None)
    return found


def _origin_of(path: Path) -> str | None:
    try:
        return read_prior_facts(path).get("origin")
    except ArtefactError:  # a missing or damaged file is made anew
        return None


def _fit_unlabelled(
    work: Mapping[Split, Work], priors: Priors, task: tuple[Split, tuple[int, ...]]
) -> list[UnlabelledEvidence]:
    """What planets teach by their light curves alone."""
    split, planets = task
    ready, _ = prepared(work[split], split, planets)
    with one_thread():
        return _unlabelled(work[split], priors, ready) if ready else []


def _unlabelled(
    work: Work, priors: Priors, planets: Sequence[BinnedPlanet]
) -> list[UnlabelledEvidence]:
    device = torch.device(work.device)
    try:
        return learn_without_labels(planets, priors, work.config, device)
    except UNSOLVABLE:  # one of them; it fails again, by name, in fit
        alone = [[planet] for planet in planets if len(planets) > 1]
    return [own for planet in alone for own in _unlabelled(work, priors, planet)]


def _fit_labelled(
    work: Work, labels: Labels, planets: tuple[int, ...]
) -> tuple[list[LabelledEvidence], list[BinnedPlanet]]:
    """What labelled planets teach, and the planets themselves in time bins."""
    ready, _ = prepared(work, "train", planets)
    with one_thread():
        return (_evidence(work, labels, ready) if ready else []), ready


def _evidence(
    work: Work, labels: Labels, planets: Sequence[BinnedPlanet]
) -> list[LabelledEvidence]:
    device = torch.device(work.device)
    try:
        return learn_from(planets, labels, first_priors(work.config), work.config, device)
    except UNSOLVABLE:  # one of them; it fails again, by name, in fit
        alone = [[planet] for planet in planets if len(planets) > 1]
    return [own for planet in alone for own in _evidence(work, labels, planet)]


def _learn_fold(
    work: Work,
    evidence: Sequence[LabelledEvidence],
    alone: Sequence[LabelAlone],
    folds: Mapping[int, int],
    facts: Mapping[int | None, Mapping[str, str]],
    fold: int | None,
) -> None:
    seen = [own for own in evidence if fold is None or folds[own.planet_id] != fold]
    write_priors(prior_path(work.out, fold), learn_priors(seen, work.config, alone), facts[fold])


def _taught_by(work: Work, labels: Labels, planet_id: int) -> dict[str, object] | None:
    """What one labelled planet adds to priors; None if it cannot be read."""
    try:
        planet = planet_origin(work, "train", planet_id)
    except SpectraMindError:
        return None  # it fails again, by name, when it is prepared
    return planet | {"label": hashlib.sha256(labels[planet_id].tobytes()).hexdigest()}


def _alone(work: Work, labels: Labels, visits: Mapping[int, int]) -> list[LabelAlone]:
    """Labels of the planets without light curves."""
    return [
        LabelAlone(planet, own, log_signal(work.stars[planet], float(own[1:].mean())))
        for planet, own in sorted(labels.items())
        if planet not in visits
    ]


def _told(alone: Sequence[LabelAlone]) -> list[tuple[int, str, str]]:
    """What labels of planets without light curves add to priors."""
    return [(own.planet_id, repr(own.log_scale), label_hash(own.label)) for own in alone]


def _prior_origin(
    work: Work, planets: Sequence[dict[str, object] | None], alone: Sequence[LabelAlone]
) -> str:
    """Hash of all that priors depend on: settings, code, and what each labelled planet adds."""
    made_by = work.provenance
    return digest([made_by.config_hash, made_by.code_hash, planets, _told(alone)])


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
    ready, _ = prepared(work, "train", sorted(unread))
    return not ready
