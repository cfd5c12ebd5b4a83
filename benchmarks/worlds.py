"""Whether error bars hold on light curves made without the simulator and the fit.

    python benchmarks/worlds.py                    the judged families; stores its result
    python benchmarks/worlds.py --developed        those that the fit was developed on; stores them
    python benchmarks/worlds.py --family NAME      one family, 8 planets, one seed; not stored
    python benchmarks/worlds.py --stored           the last full runs again

benchmarks/families.py writes the worlds and says which of them were looked at once. Each is
predicted by the command `spectramind predict data=lightcurves weights=pretrained`, twice: with
`prior=pretrained` and no label (`pretrained`), and with 60 labelled planets of its own, from which
the fit learns its priors and scale (`own`). Rows: `fit`, and `v50`, the network that ships on top
of the same fits, as `predict` writes it. Scores are those of the metric of 2025 against the mean
of other labels of the family. `joint` is the median over planets of the squared Mahalanobis
distance from truth over 283, 1 where the covariance is right. Nothing is scaled afterwards. The
last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from families import DEVELOPED, FAMILIES, JUDGED, draw_spectra, write_world
from grading import scores_by_planet
from quiet import Machine
from reports.worlds import table
from spectramind import config as configuration
from spectramind.archive.submission import read_spectra
from spectramind.diagnose.metrics import naive_statistics
from spectramind.files import write_json
from spectramind.observation import TransitFit
from spectramind.stages.folders import SPECTRA
from spectramind.transit.store import read_fits
from v50 import Answers, _fits, _gain

RESULT = Path(__file__).parents[1] / "docs" / "results" / "worlds.json"
PRIORS = {"pretrained": 0, "own": 60}  # labelled planets of the world
_TEST, _SEEDS = 40, (1, 2)
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
    parser.add_argument("--family", choices=FAMILIES, help="this one alone, small")
    parser.add_argument("--stored", action="store_true", help="print the last full runs")
    arguments = parser.parse_args()
    stored = json.loads(RESULT.read_text()) if RESULT.exists() else {"families": {}}
    state = Machine.now().stored()
    if arguments.stored:
        result = stored
    elif arguments.family is not None:
        result = {"families": {arguments.family: measure(arguments.family, 8, _SEEDS[:1])}}
    else:
        names = DEVELOPED if arguments.developed else JUDGED
        found = {name: measure(name, _TEST, _SEEDS) | state for name in names}
        families = stored["families"] | found
        result = summary(families) | {"families": families}
        write_json(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(family: str, test: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Grades of a family with either kind of prior, all seeds together."""
    naive = naive_statistics(draw_spectra(_OTHERS, 99))
    found = {}
    for prior, labelled in PRIORS.items():
        worlds = [judged(family, prior, labelled, test, seed) for seed in seeds]
        found[prior] = grade(worlds, naive)
    return found | {"planets": test * len(seeds), "seeds": list(seeds)}


def judged(family: str, prior: str, labelled: int, test: int, seed: int) -> Judged:
    """Write a world, fit it by the command, and let the network that ships add its part."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planets, truth = write_world(
            family, folder / "world", labelled=labelled, test=test, seed=seed
        )
        words = ["predict", "data=lightcurves", "data.root=world", "runtime.out=out"]
        words += ["weights=pretrained"]
        words += ["prior=pretrained"] if prior == "pretrained" else []
        command = [sys.executable, "-m", "spectramind", *words]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        fits = read_fits(folder / "out/fit", "test")
        ids, spectra = read_spectra(folder / "out/predict" / SPECTRA)
        network = Answers(ids, spectra.mu.numpy(), spectra.sigma.numpy())
        rows = np.isin(planets, list(fits))
        return Judged(fits, network, truth[rows])


def grade(worlds: list[Judged], naive: Any) -> dict[str, float]:  # noqa: ANN401 - pair of arrays
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
    }


if __name__ == "__main__":
    main()
