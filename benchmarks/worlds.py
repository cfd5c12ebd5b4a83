"""Whether error bars hold on light curves made without the simulator and the fit.

    python benchmarks/worlds.py                    the judged families; stores its result
    python benchmarks/worlds.py --developed        those that the fit was developed on; stores them
    python benchmarks/worlds.py --missing          those of them alone that have no stored result
    python benchmarks/worlds.py --family NAME      one family, 8 planets, one seed; not stored
    python benchmarks/worlds.py --stored           the last full runs again

benchmarks/families.py writes the worlds and says which of them were kept back. Each is
predicted by the command `spectramind predict data=lightcurves weights=pretrained`, twice: with
`prior=pretrained` and no label (`pretrained`), and with 60 labelled planets of its own, from which
the fit learns its priors and scale (`own`). Rows: `fit`, and `v50`, the network that ships on top
of the same fits, as `predict` writes it. `wide` is the score of `spectramind fit` without label
and without prior. Scores are those of the metric of 2025 against the mean of other labels of the
family. `joint` is the median over planets of the squared Mahalanobis distance from truth over
283, 1 where the covariance is right. `joint_home` is its mean over test planets of a small
sim2025. `control_loss` is what the fit of `own law`, with 60 labels, loses against the same fit
that is sure of white noise, as it is there. `mixed_gain` is the mean gain of the network over all
judged families. Nothing is scaled afterwards. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from families import DEVELOPED, FAMILIES, JUDGED, draw_spectra, write_world
from grading import scores_by_planet
from observed import observe
from quiet import Machine
from reports.worlds import table
from spectramind import config as configuration
from spectramind.archive.foreign import open_foreign
from spectramind.archive.submission import read_spectra
from spectramind.diagnose.metrics import Naive, naive_statistics
from spectramind.files import write_json
from spectramind.observation import TransitFit
from spectramind.stages.folders import SPECTRA
from spectramind.transit.fit import fit_planets
from spectramind.transit.own_scale import learn_scale
from spectramind.transit.priors import prior_path, read_priors
from spectramind.transit.start import prepare
from spectramind.transit.store import read_fits
from spectramind.transit.time_noise import NoiseBelief
from v50 import Answers, _fits, _gain

RESULT = Path(__file__).parents[1] / "docs" / "results" / "worlds.json"
PRIORS = {"pretrained": 0, "own": 60}  # labelled planets of the world
_TEST, _SEEDS = 40, (1, 2)
_CONTROL = "own law"
_HOME = (200, 100, None)  # planets of sim2025 that teach, and that are judged
_OTHERS = 200  # planets of the family whose labels make the naive guess
_INSIDE = {"cover68": 1.0, "cover90": 1.6449}  # [sigma]


class Judged(NamedTuple):
    """Test planets of one world: what the fit and the network say, and the truth."""

    fits: dict[int, TransitFit]
    network: Answers
    truth: Float64[np.ndarray, "P 283"]


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Error bars on worlds made by other code.")
    parser.add_argument("--developed", action="store_true", help="the families of development")
    parser.add_argument("--missing", action="store_true", help="those without a stored result")
    parser.add_argument("--family", choices=FAMILIES, help="this one alone, small")
    parser.add_argument("--stored", action="store_true", help="print the last full runs")
    arguments = parser.parse_args()
    state = Machine.now().stored()
    if arguments.family is not None:
        result = {"families": {arguments.family: measure(arguments.family, 8, _SEEDS[:1])}}
    elif arguments.stored:
        result = _stored()
    else:
        names = DEVELOPED if arguments.developed else JUDGED
        done = _stored()["families"] if arguments.missing else {}
        result = run([name for name in names if name not in done], state)
        if not arguments.developed:
            result |= {"joint_home": joint_home(), "control_loss": control_loss()}
            write_json(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def _stored() -> dict[str, Any]:
    empty = {"families": {}, "developed": list(DEVELOPED), "judged": list(JUDGED)}
    return empty | (json.loads(RESULT.read_text()) if RESULT.exists() else {})


def run(names: Sequence[str], state: dict[str, Any]) -> dict[str, Any]:
    """Measure families in full, on a machine in this state. Each is stored when it is done."""
    result = _stored()
    for name in names:
        families = result["families"] | {name: measure(name, _TEST, _SEEDS) | state}
        result |= summary(families) | {"families": families}
        write_json(RESULT, result)
    return result


def measure(family: str, test: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Grades of a family with either kind of prior, all seeds together."""
    naive = naive_statistics(draw_spectra(_OTHERS, 99))
    found = {}
    for prior, labelled in PRIORS.items():
        worlds = [judged(family, prior, labelled, test, seed) for seed in seeds]
        found[prior] = grade(worlds, naive)
    wide = [score_alone(family, test, seed, naive) for seed in seeds]
    return found | {
        "wide": float(np.mean(wide)), "planets": test * len(seeds), "seeds": list(seeds),
    }  # fmt: skip


def judged(family: str, prior: str, labelled: int, test: int, seed: int) -> Judged:
    """Write a world, fit it by the command, and let the network that ships add its part."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planets, truth = write_world(
            family, folder / "world", labelled=labelled, test=test, seed=seed
        )
        borrowed = ["prior=pretrained"] if prior == "pretrained" else []
        _spectramind(folder, "predict", "weights=pretrained", *borrowed)
        fits = _read_test(folder)
        ids, spectra = read_spectra(folder / "out/predict" / SPECTRA)
        network = Answers(ids, spectra.mu.numpy(), spectra.sigma.numpy())
        rows = np.isin(planets, list(fits))
        return Judged(fits, network, truth[rows])


def _spectramind(folder: Path, *words: str) -> None:
    """Run a command on the world of a folder; its artefacts go to `out` beside it."""
    places = ["data=lightcurves", "data.root=world", "runtime.out=out"]
    command = [sys.executable, "-m", "spectramind", *words, *places]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def score_alone(family: str, test: int, seed: int, naive: Naive) -> float:
    """Score of the fit without a label and without a prior of other planets."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planets, truth = write_world(family, folder / "world", labelled=0, test=test, seed=seed)
        _spectramind(folder, "fit")
        fits = _read_test(folder)
        return _score(fits, truth[np.isin(planets, list(fits))], naive)


def _score(
    fits: dict[int, TransitFit], truth: Float64[np.ndarray, "P 283"], naive: Naive
) -> float:
    metric, own = configuration.load([]).diagnostics.metric, _fits(fits)
    return float(scores_by_planet(own.mu, own.sigma, truth, naive, metric).mean())


def control_loss() -> float:
    """What doubt about noise in time costs where all noise is white and labels teach."""
    config, naive = configuration.load([]).transit, naive_statistics(draw_spectra(_OTHERS, 99))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planets, truth = write_world(
            _CONTROL, folder / "world", labelled=PRIORS["own"], test=_TEST, seed=_SEEDS[0]
        )
        _spectramind(folder, "fit")
        fits = {planet: fit.scaled(np.ones(2)) for planet, fit in _read_test(folder).items()}
        sure = replace(
            read_priors(prior_path(folder / "out/fit", None)), noise=NoiseBelief.white()
        )
        archive = open_foreign(folder / "world")
        stars, white = archive.stars("test"), {}
        for planet in fits:
            visits = [archive.light_curves(planet, own) for own in archive.visits("test", planet)]
            (white[planet],) = fit_planets([prepare(visits, stars[planet], config)], sure, config)
    rows = np.isin(planets, list(fits))
    return _score(white, truth[rows], naive) - _score(fits, truth[rows], naive)


def _read_test(folder: Path) -> dict[int, TransitFit]:
    return read_fits(folder / "out/fit", "test")


def joint_home() -> float:
    """Mean distance of test planets of a small sim2025, with the scales that labels ask for."""
    data = observe("sim2025", _HOME, os.cpu_count() or 1)
    labels = data.labels.by_planet()
    trusted = [fit for fit in data.train.values() if not fit.reasons]
    square = [((fit.depth - labels[fit.planet_id]) / fit.sigma) ** 2 for fit in trusted]
    errors = np.array([[own[0], own[1:].mean()] for own in square])
    scale = np.array(learn_scale(errors, configuration.load([]).transit.spectrum))
    distance = [_distance(fit.scaled(scale), labels[fit.planet_id]) for fit in data.test.values()]
    return float(np.mean(distance))


def grade(worlds: list[Judged], naive: Naive) -> dict[str, float]:
    """Scores of fit and network, and whether the fit's errors are what they claim."""
    metric = configuration.load([]).diagnostics.metric
    truth = np.concatenate([world.truth for world in worlds])
    fits = [world.fits[planet] for world in worlds for planet in sorted(world.fits)]
    scores = {}
    for name, own in (
        ("fit", [_fits(world.fits) for world in worlds]),
        ("v50", [world.network for world in worlds]),
    ):
        mu, sigma = (
            np.concatenate([getattr(one, part) for one in own]) for part in ("mu", "sigma")
        )
        scores[name] = scores_by_planet(mu, sigma, truth, naive, metric)
    z = np.stack([(fit.depth - own) / fit.sigma for fit, own in zip(fits, truth, strict=True)])
    distance = [_distance(fit, own) for fit, own in zip(fits, truth, strict=True)]
    return {
        "fit": float(scores["fit"].mean()),
        "v50": float(scores["v50"].mean()),
        **_gain(scores["v50"] - scores["fit"]),
        "z2_fgs1": float(np.mean(z[:, 0] ** 2)),
        "z2_airs": float(np.mean(z[:, 1:] ** 2)),
        **{name: float(np.mean(np.abs(z) < width)) for name, width in _INSIDE.items()},
        "flagged": sum(bool(fit.reasons) for fit in fits),
        "joint": float(np.median(distance)),
        "indefinite": int(np.sum(~np.isfinite(distance))),
    }


def _distance(fit: TransitFit, truth: Float64[np.ndarray, " 283"]) -> float:
    """Squared Mahalanobis distance over 283; infinite where the covariance is not positive."""
    try:
        lower = np.linalg.cholesky(fit.covariance)
    except np.linalg.LinAlgError:
        return float("inf")
    return float(np.mean(np.linalg.solve(lower, fit.depth - truth) ** 2))


def summary(families: dict[str, Any]) -> dict[str, float]:
    """The worst and the best of the judged families that were run."""
    rows = [families[name][prior] for name in JUDGED if name in families for prior in PRIORS]
    if not rows:
        return {}
    z2 = [row[name] for row in rows for name in ("z2_fgs1", "z2_airs")]
    return {
        "worst_z2": max(z2),
        "lowest_z2": min(z2),
        "lowest_cover68": min(row["cover68"] for row in rows),
        "highest_cover68": max(row["cover68"] for row in rows),
        "joint_lowest": min(row["joint"] for row in rows),
        "joint_highest": max(row["joint"] for row in rows),
        "worst_gain": min(row["gain"] for row in rows),
        "worst_gain_high95": min(row["gain_high95"] for row in rows),
        "mixed_gain": float(np.mean([row["gain"] for row in rows])),
    }


if __name__ == "__main__":
    main()
