"""Accuracy of the transit fit on two frozen sets, between simpler estimators and two bounds.

    python benchmarks/accuracy.py                  800 + 200 and 300 planets, an hour; stores it
    python benchmarks/accuracy.py --set sim2025    one set only; the other keeps its stored result
    python benchmarks/accuracy.py --quick          80 + 40 and 100 planets
    python benchmarks/accuracy.py --stored         the last full run again

`sim2025` is judged by the metric of 2025, `inject2024` by that of 2024; each table shows both.
Priors never see the labels of the planets they judge: test planets of sim2025 are judged by priors
of all training planets, every other planet by priors of the four other folds. Each row's sigma is
multiplied by the scales that `fit` learns, one per channel, from trusted planets of other folds
(of sim2025: 100 training planets; the bounds, which need the truth: folds of the test planets),
but for the row that no label has taught: it takes the priors that ship. `joint_home` is the mean
squared Mahalanobis distance from truth over 283 on sim2025, 1 where the covariance is right. The
last line is JSON.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bounds import drift_moments
from estimators import (
    NO_LABEL,
    Answer,
    Schooling,
    answers,
    distrusted,
    hear,
    measured_sigma,
    school,
    teach,
)
from grading import Panel, Row, grade, projected, train_mean
from quiet import Machine
from reports.accuracy import table
from sets import (
    LABELS_2024,
    SEED_2024,
    SEED_2025,
    DriftPrior,
    World,
    inject2024,
    sim2025,
)
from spectramind import config as configuration
from spectramind.config import Config
from spectramind.files import write_json
from spectramind.parallel import Shown, results
from spectramind.stages.folders import SHIPPED
from spectramind.transit.priors import (
    LabelledEvidence,
    Priors,
    UnlabelledEvidence,
    deal_folds,
    learn_unlabelled,
    prior_path,
    read_priors,
    wide_priors,
)
from spectramind.transit.settings import TransitConfig

RESULT = Path(__file__).parents[1] / "docs" / "results" / "accuracy.json"
WINNER_2024 = 0.742  # private score of 2024's winner on the real archive, challenge.md section 4
TEST = -1  # fold of planets whose label nothing learns from
CALIBRATING = 100  # training planets of sim2025 that are fitted too, for the scales
DRIFTS, DRIFT_SEED = 1000, 283  # visits of one draw behind the bounds' drift prior, first seed
BOUNDS = ("limit", "perfect")
SIMPLER = ("train mean", "white light", "least squares", "least squares + PCA", "GP only")
WITHOUT = (
    NO_LABEL, "no GP", "GP only", "drift prior not learned", "drift grey", "limb darkening fixed",
    "white noise alone",
)  # fmt: skip
ORDER = (*SIMPLER, "full fit", *BOUNDS, *(name for name in WITHOUT if name not in SIMPLER))


@dataclass(frozen=True)
class Size:
    """Planets of a run; `injected`: at most so many of 2024."""

    train: int
    test: int
    injected: int | None
    drift_draws: int


SETS = ("sim2025", "inject2024")
SEEDS = {"sim2025": SEED_2025, "inject2024": SEED_2024}
FULL, SMALL = Size(800, 200, 300, 20), Size(80, 40, 100, 2)


@dataclass(frozen=True, eq=False)
class Plan:
    """Who teaches and who is judged in one set."""

    worlds: dict[int, World]
    fold: dict[int, int]  # judged by priors of the other folds
    teachers: list[int]
    judged: list[int]
    year: int


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Accuracy of the transit fit on frozen sets.")
    parser.add_argument("--quick", action="store_true", help="a few planets")
    parser.add_argument("--set", choices=SETS, help="this set only")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    stored = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if arguments.stored:
        result = stored
    else:
        state, names = Machine.now().stored(), SETS if arguments.set is None else (arguments.set,)
        size = SMALL if arguments.quick else FULL
        seeds = range(DRIFT_SEED, DRIFT_SEED + size.drift_draws)
        drift = drift_moments(DRIFTS, seeds, os.cpu_count() or 1)
        result = {name: measure(name, size, drift) | state for name in names}
        if "sim2025" in result:
            result["joint_home"] = result["sim2025"]["rows"]["full fit"]["joint"]
        if not arguments.quick:
            result = stored | result
            write_json(RESULT, result)
    for name in SETS:
        if name in result:
            print(f"{name}\n\n{table(result[name])}\n")
    print(json.dumps(result))


def measure(name: str, size: Size, drift: DriftPrior) -> dict[str, Any]:
    """Draw, fit and grade one set."""
    config, workers = configuration.load([]), os.cpu_count() or 1
    start = time.monotonic()
    if name == "sim2025":
        worlds = sim2025(size.train, size.test, truth=True, workers=workers)
        plan = plan_2025(worlds, config.transit)
    else:
        try:
            plan = plan_2024(inject2024(LABELS_2024, size.injected, truth=True, workers=workers))
        except FileNotFoundError as error:
            return {"skipped": str(error)}
    judged = judge_set(plan, drift, config, workers)
    return judged | {
        "winner_2024_real_archive": WINNER_2024 if name == "inject2024" else None,
        "seeds": {name: SEEDS[name], "drift": DRIFT_SEED},
        "minutes": round((time.monotonic() - start) / 60.0, 1),
    }


def plan_2025(worlds: Sequence[World], config: TransitConfig) -> Plan:
    """Test planets by all training planets; some training planets, for the scales, by folds."""
    train = [world.planet_id for world in worlds if world.fold == -1]
    test = [world.planet_id for world in worlds if world.fold == 0]
    fold = deal_folds(train, config.spectrum.folds, config.spectrum.seed)
    fold |= dict.fromkeys(test, TEST)
    by_id = {world.planet_id: world for world in worlds}
    return Plan(by_id, fold, train, train[:CALIBRATING] + test, 2025)


def plan_2024(worlds: Sequence[World]) -> Plan:
    """Every planet by the folds it is not in."""
    by_id = {world.planet_id: world for world in worlds}
    fold = {world.planet_id: world.fold for world in worlds}
    return Plan(by_id, fold, list(by_id), list(by_id), 2024)


def judge_set(plan: Plan, drift: DriftPrior, config: Config, workers: int) -> dict[str, Any]:
    """Learn, fit and grade one set."""
    evidence = taught(plan, config.transit, workers)
    lent = borrowed(plan, config.transit, workers)
    schools = schooled(plan, evidence, lent, config.transit, workers)
    found = answered(plan, schools, drift, config.transit, workers)
    panel = make_panel(plan)
    rows = assemble(panel, plan, found, config.transit)
    bounds = make_panel_of_bounds(panel, plan, config.transit)
    metric = config.diagnostics.metric
    grades = {
        name: grade(
            bounds if name in BOUNDS else panel,
            rows[name],
            metric,
            config.transit.spectrum,
            plan.year,
        )
        for name in ORDER
    }
    fit, limit = grades["full fit"]["score"], grades["limit"]["score"]
    best = max(SIMPLER, key=lambda name: grades[name]["score"])
    return {
        "fit": fit,
        "limit": limit,
        "fit_over_limit": fit / limit,
        "perfect": grades["perfect"]["score"],
        "best_simpler": [best, grades[best]["score"]],
        "teachers": len(plan.teachers),
        "planets": int(panel.graded.sum()),
        "metric": plan.year,
        "worth": {name: fit - grades[name]["score"] for name in WITHOUT},
        "rows": grades,
    }


def taught(plan: Plan, config: TransitConfig, workers: int) -> list[LabelledEvidence]:
    """Lessons of the teachers, by planet."""
    tasks = batches(plan, plan.teachers, config.planets_per_batch)
    evidence: list[LabelledEvidence] = []
    task = partial(teach, config=config)
    label = f"{plan.year}: learn from labels"
    for _, learned in results(task, tasks, workers=workers, shown=Shown(label, "batches")):
        evidence += learned
    return sorted(evidence, key=lambda one: one.planet_id)


def borrowed(plan: Plan, config: TransitConfig, workers: int) -> Priors:
    """The priors that ship, with what the light curves of the graded planets add to them."""
    start = wide_priors(read_priors(prior_path(SHIPPED / "fit", None)), config)
    graded = [planet for planet in plan.judged if plan.fold[planet] == TEST] or plan.judged
    tasks = batches(plan, graded[: config.prior.most], config.planets_per_batch)
    evidence: list[UnlabelledEvidence] = []
    task = partial(hear, start=start, config=config)
    shown = Shown(f"{plan.year}: learn without labels", "batches")
    for _, heard in results(task, tasks, workers=workers, shown=shown):
        evidence += heard
    evidence.sort(key=lambda one: one.planet_id)
    return learn_unlabelled(evidence, start, config, lent=True)


def schooled(
    plan: Plan,
    evidence: Sequence[LabelledEvidence],
    lent: Priors,
    config: TransitConfig,
    workers: int,
) -> dict[int, Schooling]:
    """For each fold of judged planets the priors that never saw it."""
    folds = sorted({plan.fold[planet] for planet in plan.judged})
    task = partial(_school_without, evidence=evidence, lent=lent, fold=plan.fold, config=config)
    shown = Shown(f"{plan.year}: learn priors", "priors")
    return dict(results(task, folds, workers=workers, shown=shown))


def _school_without(
    left_out: int,
    evidence: Sequence[LabelledEvidence],
    lent: Priors,
    fold: dict[int, int],
    config: TransitConfig,
) -> Schooling:
    return school([own for own in evidence if fold[own.planet_id] != left_out], lent, config)


def answered(
    plan: Plan,
    schools: dict[int, Schooling],
    drift: DriftPrior,
    config: TransitConfig,
    workers: int,
) -> dict[int, dict[str, Answer]]:
    """What every estimator says of each judged planet."""
    tasks = batches(plan, plan.judged, config.planets_per_batch)
    items = [(batch, schools[plan.fold[batch[0].planet_id]]) for batch in tasks]
    found = {}
    task = partial(_answer_batch, drift=drift, config=config)
    shown = Shown(f"{plan.year}: fit", "batches")
    for (batch, _), said in results(task, items, workers=workers, shown=shown):
        found |= dict(zip([world.planet_id for world in batch], said, strict=True))
    return found


def _answer_batch(
    item: tuple[list[World], Schooling], drift: DriftPrior, config: TransitConfig
) -> list[dict[str, Answer]]:
    return answers(*item, drift, config)


def batches(plan: Plan, planets: Sequence[int], size: int) -> list[list[World]]:
    """Planets of one fold with equally many visits, at most `size` together."""
    groups: dict[tuple[int, int], list[World]] = {}
    for planet in planets:
        world = plan.worlds[planet]
        groups.setdefault((plan.fold[planet], len(world.visits)), []).append(world)
    return [own[i : i + size] for own in groups.values() for i in range(0, len(own), size)]


def make_panel(plan: Plan) -> Panel:
    """The judged planets; test planets calibrate nothing and, where there are any, are graded."""
    fold = np.array([plan.fold[planet] for planet in plan.judged])
    hidden = fold == TEST
    return Panel(
        fold=fold,
        label=np.stack([plan.worlds[planet].label for planet in plan.judged]),
        calibrates=~hidden,
        graded=hidden if hidden.any() else ~hidden,
        taught=np.stack([plan.worlds[planet].label for planet in plan.teachers]),
        taught_fold=np.array([plan.fold[planet] for planet in plan.teachers]),
    )


def make_panel_of_bounds(panel: Panel, plan: Plan, config: TransitConfig) -> Panel:
    """Bounds exist where the truth does: the graded planets scale one another, by folds."""
    if bool(panel.calibrates[panel.graded].all()):
        return panel
    graded = [planet for planet, own in zip(plan.judged, panel.graded, strict=True) if own]
    fold = deal_folds(graded, config.spectrum.folds, config.spectrum.seed)
    everyone = np.ones(len(graded), dtype=bool)
    return replace(
        panel, fold=np.array([fold[planet] for planet in graded]),
        label=panel.label[panel.graded], calibrates=everyone, graded=everyone,
    )  # fmt: skip


def assemble(
    panel: Panel, plan: Plan, found: dict[int, dict[str, Answer]], config: TransitConfig
) -> dict[str, Row]:
    """All rows as arrays, those from labels alone included."""
    judged = [found[planet] for planet in plan.judged]
    names = judged[-1]  # of a graded planet: it has the bounds too
    rows = {name: _row([own[name] for own in judged if name in own]) for name in names}
    rows[NO_LABEL] = replace(rows[NO_LABEL], scaled=False)
    sigma = [measured_sigma(answer["least squares"]) for answer in judged]
    bare = projected(panel, rows["least squares"], np.stack(sigma), config.spectrum.components)
    rows["least squares + PCA"] = _row([
        distrusted(depth, error, answer["least squares"].reasons, config.failure)
        for depth, error, answer in zip(bare.depth, bare.sigma, judged, strict=True)
    ])  # fmt: skip
    return rows | {"train mean": train_mean(panel)}


def _row(own: Sequence[Answer]) -> Row:
    joint = [answer.joint for answer in own]
    return Row(
        np.stack([answer.depth for answer in own]),
        np.stack([answer.sigma for answer in own]),
        np.array([not answer.reasons for answer in own]),
        None if any(one is None for one in joint) else np.array(joint),
    )


if __name__ == "__main__":
    main()
