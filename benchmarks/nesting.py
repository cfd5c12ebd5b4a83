"""Whether labels reach a network's held-out planets by the priors of its training planets.

    python benchmarks/nesting.py              both sets; stores docs/results/nesting.json
    python benchmarks/nesting.py --quick      40 planets, not stored
    python benchmarks/nesting.py --stored     the last full run again

No label reaches the fit of its own planet. One way round remains: the priors of a planet that
teaches a network were learned from others, among them planets that the network is judged on.
`nested` closes it: for each role (a fold, or the calibration planets) all teachers are fitted
anew by priors that never saw a planet of that role, and the network learns from those fits. Both
networks are judged on the same fits of the planets of that role. `leak` is the score by the
stages as they are less the nested one, with its 95 % bootstrap interval over planets. The last
line is JSON.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from accuracy import Plan, batches, plan_2024, taught
from grading import scores_by_planet
from quiet import Machine
from reports.nesting import SETS, table
from sets import LABELS_2024, World, inject2024, sim2025
from spectramind import config as configuration
from spectramind.archive.submission import fit_posterior, read_spectra
from spectramind.config import Config
from spectramind.diagnose.metrics import naive_statistics
from spectramind.files import write_json
from spectramind.observation import Labels, TransitFit
from spectramind.parallel import Shown, results
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import describe
from spectramind.training.folds import Folds, assign_folds
from spectramind.training.members import Recipe, Runtime, TrainingPlanets, train_members
from spectramind.training.predict import Epistemic
from spectramind.transit.fit import fit_planets
from spectramind.transit.priors import LabelledEvidence, Priors, deal_folds, learn_priors
from spectramind.transit.settings import TransitConfig
from spectramind.transit.start import BinnedPlanet

RESULT = Path(__file__).parents[1] / "docs" / "results" / "nesting.json"
FULL, SMALL = 200, 40  # planets of a set
SEEDS = (1337,)  # of roles and of training
BATCH = 4  # planets fitted side by side
DRAWS, SEED = 10_000, 2026  # of the bootstrap
WORKERS = os.cpu_count() or 1
Fits = Mapping[int, TransitFit]


@dataclass(frozen=True, eq=False)
class School:
    """Planets with labels, and what each of them teaches."""

    plan: Plan  # whose folds are those of the priors
    evidence: Sequence[LabelledEvidence]
    labels: Labels
    config: Config

    def fitted(self, judged: Callable[[int], bool], unseen: Callable[[int], bool]) -> Fits:
        """Fits of some planets by priors of other folds that know nothing of `unseen` ones."""
        folds = self.plan.fold
        priors = {
            fold: learn_priors(
                [
                    own
                    for own in self.evidence
                    if folds[own.planet_id] != fold and not unseen(own.planet_id)
                ],
                self.config.transit,
            )
            for fold in sorted(set(folds.values()))
        }
        tasks = [
            (own, priors[folds[own[0].planet_id]])
            for own in batches(self.plan, [p for p in self.plan.judged if judged(p)], BATCH)
        ]
        task = partial(_fit, config=self.config.transit)
        shown = Shown("nesting: fit", "batches")
        made = [
            fit for _, own in results(task, tasks, workers=WORKERS, shown=shown) for fit in own
        ]
        return {fit.planet_id: fit for fit in made}


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="The way round by the priors of teachers.")
    parser.add_argument("--quick", action="store_true", help="a few planets")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    else:
        state = Machine.now().stored()
        size = SMALL if arguments.quick else FULL
        result = {name: measure(name, size, SEEDS) for name in SETS} | state
        if not arguments.quick:
            write_json(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(name: str, size: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Train on fits as the stages make them and on nested ones; judge both on the same planets."""
    try:
        school = open_school(name, size)
    except FileNotFoundError as error:
        return {"skipped": str(error)}
    ordinary = school.fitted(lambda _: True, lambda _: False)
    found = [compare(school, ordinary, seed) for seed in seeds]
    fit, as_it_is, nested = np.mean(found, axis=0)  # (P,) each
    rng = np.random.default_rng(SEED)
    leak = as_it_is - nested
    means = [leak[rng.integers(len(leak), size=len(leak))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, (0.025, 0.975))
    return {
        "planets": len(leak),
        "fit": float(fit.mean()),
        "as_it_is": float(as_it_is.mean()),
        "nested": float(nested.mean()),
        "leak": float(leak.mean()),
        "leak_low95": float(low),
        "leak_high95": float(high),
        "seeds": list(seeds),
    }


def open_school(name: str, size: int) -> School:
    """The planets of a set with what they teach."""
    config = configuration.load(["experiment=cpu"])
    if name == "sim2025":
        worlds = sim2025(size, 0, truth=False, workers=WORKERS)
    else:
        worlds = inject2024(LABELS_2024, size, truth=False, workers=WORKERS)
    plan = plan_2024(worlds)
    dealt = deal_folds(plan.judged, config.transit.spectrum.folds, config.transit.spectrum.seed)
    plan = replace(plan, fold=dealt, year=2025)
    ids = np.array(sorted(plan.judged))
    labels = Labels(ids, np.stack([plan.worlds[planet].label for planet in ids.tolist()]))
    return School(plan, taught(plan, config.transit, WORKERS), labels, config)


def compare(school: School, ordinary: Fits, seed: int) -> Float64[np.ndarray, "3 P"]:
    """Scores by planet of the fit, of the network as it is, and of the nested one."""
    training = school.config.training.model_copy(update={"seed": seed})
    config = school.config.model_copy(update={"training": training})
    roles = assign_folds(
        sorted(ordinary), folds=training.folds, seed=seed,
        calibration_fraction=training.calibration_fraction,
    )  # fmt: skip
    as_it_is = unseen_spectra(school, config, ordinary)
    nested = dict(as_it_is)
    for role in np.unique(roles.fold).tolist():
        nested |= _nested(school, config, ordinary, roles, role)
    fit = _by_planet(roles.planet_ids, fit_posterior(ordinary, roles.planet_ids))
    return np.stack([_scores(school, spectra) for spectra in (fit, as_it_is, nested)])


def _nested(
    school: School, config: Config, ordinary: Fits, roles: Folds, role: int
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Spectra of the planets of a role by networks whose teachers' fits know nothing of them."""
    hidden = set(roles.planet_ids[roles.fold == role].tolist())
    teachers = school.fitted(lambda planet: planet not in hidden, hidden.__contains__)
    fits = {planet: teachers.get(planet, fit) for planet, fit in ordinary.items()}
    spectra = unseen_spectra(school, config, fits)
    return {planet: spectra[planet] for planet in hidden}


def unseen_spectra(
    school: School, config: Config, fits: Fits
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Mu and sigma of each planet by members that never saw it."""
    stars = {planet: school.plan.worlds[planet].star for planet in fits}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        train_members(
            TrainingPlanets(fits, stars, school.labels, donors=None),
            Recipe(
                config.model, config.training, Epistemic("ensemble", config.uq.mc_samples), None
            ),
            Runtime(config.runtime.device, 1, WORKERS, "none"),
            out=out,
            provenance=describe(
                stage="train", config_hash="", code_hash="", data_hash="",
                seed=config.training.seed,
            ),
        )  # fmt: skip
        parts = [read_spectra(out / f"{name}.parquet") for name in ("oof", "calibration")]
    return {planet: pair for own in parts for planet, pair in _by_planet(*own).items()}


def _by_planet(
    planets: np.ndarray, spectra: SpectrumPosterior
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    rows = zip(planets.tolist(), spectra.mu.numpy(), spectra.sigma.numpy(), strict=True)
    return {planet: (mu, sigma) for planet, mu, sigma in rows}


def _scores(
    school: School, spectra: Mapping[int, tuple[np.ndarray, np.ndarray]]
) -> Float64[np.ndarray, " P"]:
    """2025 score of each planet, by increasing id."""
    mu, sigma = (np.stack([spectra[p][i] for p in sorted(spectra)]) for i in (0, 1))
    truth = school.labels.depth
    metric = school.config.diagnostics.metric
    return scores_by_planet(mu, sigma, truth, naive_statistics(truth), metric)


def _fit(item: tuple[list[World], Priors], config: TransitConfig) -> list[TransitFit]:
    worlds, priors = item
    planets = [BinnedPlanet(world.planet_id, world.star, world.visits) for world in worlds]
    return fit_planets(planets, priors, config)


if __name__ == "__main__":
    main()
