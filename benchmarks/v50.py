"""Whether the network beats the fit: the frozen sets, paired over planets.

    python benchmarks/v50.py                  all sets; stores docs/results/v50.json
    python benchmarks/v50.py --set sim2025    one set only; the others keep their stored result
    python benchmarks/v50.py --quick          80 + 40 and 100 planets, not stored
    python benchmarks/v50.py --stored         the last full run again

Rows: `own`, trained on the set's training planets alone (experiment=cpu); `pretrained`, the
weights of `make pretrained`, which never saw a planet of any set; `tuned`, those weights trained
further on the set's training planets (experiment=tuned). `v50` and `gain` are those of `tuned`.
`sim2025` and `shifted` are judged on test planets; `inject2024` has none, so that what learns
there is judged out of fold.
Each row's sigma has the scales that `fit` learns, one per channel, from trusted training planets
that the row did not learn from. Intervals: 95 % bootstrap over planets of the paired gain in the
set's own metric of 2025. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from grading import scores_by_planet
from observed import Observed, observe
from quiet import Machine
from reports.v50 import SETS, table
from spectramind import config as configuration
from spectramind.archive.submission import read_spectra
from spectramind.closure import code_hash
from spectramind.config import Config
from spectramind.diagnose.metrics import naive_statistics
from spectramind.files import write_json
from spectramind.observation import TransitFit
from spectramind.provenance import describe
from spectramind.stages.folders import PRETRAINED, run_folder
from spectramind.training.members import Recipe, Runtime, TrainingPlanets, train_members
from spectramind.training.predict import Epistemic, predict_members
from spectramind.transit.own_scale import learn_scale

TRAINING_CODE = code_hash("spectramind.training.members", "spectramind.training.augmentation")
RESULT = Path(__file__).parents[1] / "docs" / "results" / "v50.json"
FULL, SMALL = (800, 200, 300), (80, 40, 100)
HEADLINE = "tuned"  # the row that `v50` and `gain` are taken from
DRAWS, SEED = 10_000, 2026  # of the bootstrap
_FOLDS = 5  # in which planets that are judged scale one another
_CHANNELS = (slice(0, 1), slice(1, None))


@dataclass(frozen=True, eq=False)
class Answers:
    """Spectra of some planets by increasing id."""

    planets: Int64[np.ndarray, " P"]
    mu: Float64[np.ndarray, "P 283"]
    sigma: Float64[np.ndarray, "P 283"]


class Row(NamedTuple):
    """What one row of the table says."""

    judged: Answers
    scaling: Answers  # of training planets that the row did not learn from
    train_s: float | None = None  # of its training on this machine


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="The network against the fit.")
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
        result = {name: measure(name, size) | state for name in names}
        if not arguments.quick:
            result = stored | result
            write_json(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(name: str, size: tuple[int, int, int | None]) -> dict[str, Any]:
    """Fit a set, train on it, and grade what the networks say."""
    workers, start = os.cpu_count() or 1, time.monotonic()
    try:
        data = observe(name, size, workers)
    except FileNotFoundError as error:
        return {"skipped": str(error)}
    school = data if data.train else observe("sim2025", size, workers)
    rows = grade(data, school)
    return {
        "fit": rows["fit"]["score"],
        "v50": rows[HEADLINE]["score"],
        "gain_over_fit": rows[HEADLINE]["gain"],
        "gain_low95": rows[HEADLINE]["gain_low95"],
        "rows": rows,
        "planets": len(data.test or data.train),
        "teachers": len(school.train),
        "seeds": {"bootstrap": SEED, "training": configuration.load([]).training.seed},
        "minutes": round((time.monotonic() - start) / 60.0, 1),
    }


def grade(data: Observed, school: Observed) -> dict[str, dict[str, float]]:
    """Scores of all rows on the judged planets; `school` teaches and scales."""
    fits = data.test or data.train
    truth = _truth(data, sorted(fits))
    naive = naive_statistics(_truth(school, sorted(school.train)))
    trusted = np.array([not fits[planet].reasons for planet in sorted(fits)])
    metric = configuration.load([]).diagnostics.metric
    scores, rows = {}, {}
    for name, row in answers(data, school).items():
        judged = row.judged
        sigma = judged.sigma * _scale(judged, row.scaling, school)
        scores[name] = scores_by_planet(judged.mu, sigma, truth, naive, metric)
        z2 = ((judged.mu - truth) / sigma)[trusted] ** 2
        rows[name] = {
            "score": float(scores[name].mean()),
            "z2_fgs1": float(z2[:, 0].mean()),
            "z2_airs": float(z2[:, 1:].mean()),
            "rms_airs_ppm": 1e6 * float(np.sqrt(np.mean((judged.mu - truth)[trusted, 1:] ** 2))),
            **_gain(scores[name] - scores["fit"]),
            **({} if row.train_s is None else {"train_s": round(row.train_s, 1)}),
        }
    return rows


def answers(data: Observed, school: Observed) -> dict[str, Row]:
    """For each row what it says of the judged planets, and of training planets it never saw."""
    fits, config = data.test or data.train, configuration.load(["experiment=cpu"])
    shipped = run_folder(PRETRAINED) / "train"
    return {
        "fit": Row(_fits(fits), _fits(school.train)),
        "own": _taught(data, school, config, "own"),
        "pretrained": Row(
            _predict(shipped, data, config), _predict(shipped, school, config, train=True)
        ),
        "tuned": _taught(data, school, configuration.load(["experiment=tuned"]), "tuned"),
    }  # fmt: skip


def _taught(data: Observed, school: Observed, config: Config, name: str) -> Row:
    """What networks say that learn from the training planets; they stay beside the fits."""
    folder, start = school.priors.parent / name, time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)  # trained anew, so that its time is known
    unseen = _train(school, config, folder)
    train_s = time.monotonic() - start
    return Row(_predict(folder, data, config) if data.test else unseen, unseen, train_s)


def _train(school: Observed, config: Config, out: Path) -> Answers:
    """Train on the training planets; spectra of each by members that never saw it."""
    planets, start = school.train, config.training.start
    stars = {planet: school.stars[planet] for planet in planets}
    train_members(
        TrainingPlanets(planets, stars, school.labels, donors=None),
        Recipe(
            config.model, config.training, Epistemic("ensemble", config.uq.mc_samples),
            None if start is None else run_folder(start),
        ),
        Runtime(config.runtime.device, 1, os.cpu_count() or 1, "none"),
        out=out,
        provenance=describe(
            stage="train", config_hash="", code_hash=TRAINING_CODE, data_hash="", seed=SEED
        ),
    )  # fmt: skip
    parts = [read_spectra(out / f"{name}.parquet") for name in ("oof", "calibration")]
    ids = np.concatenate([own for own, _ in parts])
    mu, sigma = (
        np.concatenate([getattr(own, name).numpy() for _, own in parts])
        for name in ("mu", "sigma")
    )
    order = np.argsort(ids)
    return Answers(ids[order], mu[order], sigma[order])


def _predict(out: Path, data: Observed, config: Config, *, train: bool = False) -> Answers:
    fits = data.train if train or not data.test else data.test
    ids, spectra = predict_members(
        out, fits, {planet: data.stars[planet] for planet in fits}, model=None,
        epistemic=Epistemic("ensemble", config.uq.mc_samples), device=config.runtime.device,
        seed=config.training.seed,
    )  # fmt: skip
    return Answers(ids, spectra.mu.numpy(), spectra.sigma.numpy())


def _fits(fits: dict[int, TransitFit]) -> Answers:
    ids = np.array(sorted(fits))
    return Answers(
        ids,
        np.stack([fits[planet].depth for planet in ids]),
        np.stack([fits[planet].sigma for planet in ids]),
    )


def _truth(data: Observed, planets: list[int]) -> Float64[np.ndarray, "P 283"]:
    return data.labels.depth[np.searchsorted(data.labels.planet_ids, planets)]


def _scale(judged: Answers, scaling: Answers, school: Observed) -> Float64[np.ndarray, "P 283"]:
    """Factor on sigma of each judged planet that `fit` would learn from other trusted ones."""
    truth = _truth(school, scaling.planets.tolist())
    square = ((scaling.mu - truth) / scaling.sigma) ** 2
    trusted = np.array([not school.train[planet].reasons for planet in scaling.planets.tolist()])
    place = np.random.default_rng(SEED).permutation(len(scaling.planets)) % _FOLDS
    own = np.full(len(judged.planets), -1)  # fold of a judged planet; -1: it is not among them
    among = np.isin(judged.planets, scaling.planets)
    own[among] = place[np.searchsorted(scaling.planets, judged.planets[among])]
    errors = np.stack([square[:, columns].mean(1) for columns in _CHANNELS], axis=1)
    spectrum = configuration.load([]).transit.spectrum
    factor = np.ones_like(judged.sigma)
    for fold in np.unique(own):
        found = learn_scale(errors[trusted & (place != fold)], spectrum)
        for columns, value in zip(_CHANNELS, found, strict=True):
            factor[own == fold, columns] = value
    return factor


def _gain(gain: Float64[np.ndarray, " P"]) -> dict[str, float]:
    """Mean gain over the fit and its 95 % interval, planets drawn with replacement."""
    rng = np.random.default_rng(SEED)
    means = [gain[rng.integers(len(gain), size=len(gain))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, (0.025, 0.975))
    return {"gain": float(gain.mean()), "gain_low95": float(low), "gain_high95": float(high)}


if __name__ == "__main__":
    main()
