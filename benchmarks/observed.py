"""Fits of the frozen sets for benchmarks/v50.py, kept on disk: they take most of its time.

Each planet is fitted with priors that never saw its label, as in the stage `fit`. A folder is
keyed by the code of simulator and fit and is whole when `done.json` lies in it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from accuracy import Plan, batches, plan_2024, plan_2025, taught
from sets import LABELS_2024, World, inject2024, shifted, sim2025
from spectramind import config as configuration
from spectramind.closure import code_hash
from spectramind.files import write_atomic, write_json
from spectramind.observation import Labels, Star, TransitFit
from spectramind.parallel import Shown, results
from spectramind.provenance import digest
from spectramind.transit.fit import fit_planets
from spectramind.transit.priors import Priors, learn_priors, read_priors, write_priors
from spectramind.transit.settings import TransitConfig
from spectramind.transit.start import BinnedPlanet
from spectramind.transit.store import fit_path, read_fits, write_fit

CACHE = Path(__file__).parents[1] / "artefacts" / "benchmarks"
_SPLIT = {True: "train", False: "test"}


@dataclass(frozen=True, eq=False)
class Observed:
    """Fits, stars and true spectra; training planets may teach, test planets are judged."""

    train: dict[int, TransitFit]
    test: dict[int, TransitFit]  # inject2024 has none: its planets are judged out of fold
    stars: dict[int, Star | None]
    labels: Labels
    priors: Path  # learned from all training planets


def observe(name: str, size: tuple[int, int, int | None], workers: int) -> Observed:
    """Draw and fit a set, or read what an earlier run has left.

    Args:
        name: sim2025 | inject2024 | shifted, whose priors are those of sim2025.
        size: Training and test planets of sim2025 (shifted: the same number of test planets),
            and at most so many of inject2024.
        workers: Processes.

    Raises:
        FileNotFoundError: If inject2024 is asked for and the spectra of 2024 are not here.
    """
    config = configuration.load([]).transit
    code = code_hash("spectramind.simulate.writer", "spectramind.transit.stage")
    key = digest([code, config.model_dump(mode="json"), size])
    folder = CACHE / f"{name}-{key}"
    if not (folder / "done.json").is_file():
        _make(name, size, folder, config, workers)
    return _read(folder)


def _make(
    name: str, size: tuple[int, int, int | None], folder: Path, config: TransitConfig, workers: int
) -> None:
    train, test, injected = size
    if name == "shifted":
        worlds = shifted(test, workers=workers)
        priors = {0: read_priors(observe("sim2025", size, workers).priors)}
        fold = {world.planet_id: 0 for world in worlds}
        plan = Plan({w.planet_id: w for w in worlds}, fold, [], list(fold), 2025)
    else:
        if name == "sim2025":
            plan = plan_2025(sim2025(train, test, truth=False, workers=workers), config)
            plan = replace(plan, judged=list(plan.worlds))
        else:
            plan = plan_2024(inject2024(LABELS_2024, injected, truth=False, workers=workers))
        priors = _learned(plan, config, workers)
    for _ in results(
        partial(_fit, folder=folder, teachers=frozenset(plan.teachers), config=config),
        [(own, priors[plan.fold[own[0].planet_id]]) for own in batches(plan, plan.judged, 4)],
        workers=workers, shown=Shown(f"{name}: fit", "batches"),
    ):  # fmt: skip
        pass
    write_priors(folder / "priors.safetensors", priors[min(priors)], {})
    _write_truth(folder, list(plan.worlds.values()))


def _learned(plan: Plan, config: TransitConfig, workers: int) -> dict[int, Priors]:
    """For each fold the priors of the others; fold -1, if there is one, is that of everyone."""
    evidence = taught(plan, config, workers)
    return {
        fold: learn_priors([own for own in evidence if plan.fold[own.planet_id] != fold], config)
        for fold in sorted({plan.fold[planet] for planet in plan.judged})
    }


def _fit(
    item: tuple[list[World], Priors], folder: Path, teachers: frozenset[int], config: TransitConfig
) -> None:
    worlds, priors = item
    planets = [BinnedPlanet(world.planet_id, world.star, world.visits) for world in worlds]
    for fit in fit_planets(planets, priors, config):
        write_fit(fit_path(folder, _SPLIT[fit.planet_id in teachers], fit.planet_id), fit, {})


def _write_truth(folder: Path, worlds: Sequence[World]) -> None:
    facts: Mapping[int, dict[str, float] | None] = {
        world.planet_id: None if world.star is None else vars(world.star) for world in worlds
    }
    label = np.stack([world.label for world in worlds])
    write_atomic(folder / "labels.f64", np.ascontiguousarray(label).tobytes())
    write_json(folder / "done.json", {"stars": {str(k): v for k, v in facts.items()}})


def _read(folder: Path) -> Observed:
    stars = json.loads((folder / "done.json").read_text())["stars"]
    ids = np.array([int(planet) for planet in stars])
    depth = np.frombuffer((folder / "labels.f64").read_bytes()).reshape(len(ids), -1)
    order = np.argsort(ids)
    there = [split for split in _SPLIT.values() if (folder / split).is_dir()]
    fits = {split: read_fits(folder, split) for split in there}
    return Observed(
        train=fits.get("train", {}),
        test=fits.get("test", {}),
        stars={int(k): None if v is None else Star(**v) for k, v in stars.items()},
        labels=Labels(ids[order], depth[order]),
        priors=folder / "priors.safetensors",
    )
