"""The whole fit of full-cadence planets beside a batman + scipy loop for the white light alone.

    python benchmarks/fit.py            8 planets, a few minutes; stores its result
    python benchmarks/fit.py --quick    2 planets
    python benchmarks/fit.py --stored   the last full run again

The whole fit is binning, white light, and the spectrum of 283 wavelengths, with priors that other
planets have taught beforehand. Either chain runs in a fresh process of one thread; the peak memory
is that of the fit's process, interpreter and libraries included. The last line is JSON.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from estimators import teach
from fit_chain import PRIORS, store
from quiet import Machine
from reports.fit import table
from sets import World, sim2025
from spectramind import config as configuration
from spectramind.config import Config
from spectramind.simulate.curves import draw_curves
from spectramind.simulate.systems import draw_systems
from spectramind.simulate.visit import draw_visit
from spectramind.transit.flux import transit_flux
from spectramind.transit.priors import learn_priors, write_priors

RESULT = Path(__file__).parents[1] / "docs" / "results" / "fit.json"
PLANETS, TEACHERS, SEED = 8, 40, 2026
RADIUS_RATIOS = (0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35)
LAWS = ((0.0, 0.0), (0.05, 0.15), (0.1, 0.3), (0.4, 0.25), (0.6, 0.1), (0.36, 0.34), (0.9, -0.4))


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Seconds and memory of the transit fit.")
    parser.add_argument("--quick", action="store_true", help="2 planets")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    else:
        state = Machine.now()
        result = measure(planets=2 if arguments.quick else PLANETS) | state.stored()
        if not arguments.quick:
            state.store_times(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(*, planets: int) -> dict[str, object]:
    """Draw the planets, learn priors from others, fit both ways."""
    workers = os.cpu_count() or 1
    config = configuration.load([
        f"simulate.seed={SEED}", "simulate.train_planets=0", f"simulate.test_planets={planets}",
        "simulate.cadence_factor=1",
    ])  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learn(folder, sim2025(TEACHERS, 0, truth=False, workers=workers), config)
        visits = draw(folder, config)
        fit, loop = (run(script, folder) for script in ("fit_chain.py", "batman_loop.py"))
    seconds = fit["seconds"] / planets
    return {
        "s_per_planet": round(seconds, 3),
        "speedup_vs_batman_scipy": round(loop["seconds"] / fit["seconds"], 2),
        "max_flux_error_vs_batman": float(f"{flux_error():.2g}"),
        "peak_gb": round(fit["peak_gb"], 3),
        "batman_white_s_per_planet": round(loop["seconds"] / planets, 3),
        "white_s_per_planet": round(loop["white_seconds"] / planets, 3),
        "speedup_white": round(loop["seconds"] / loop["white_seconds"], 2),
        "white_distance_sigma": round(loop["white_distance_sigma"], 2),
        "planets": planets,
        "visits": visits,
        "seed": SEED,
    }


def learn(folder: Path, worlds: list[World], config: Config) -> None:
    """Write the priors that these planets teach."""
    evidence = []
    for count in sorted({len(world.visits) for world in worlds}):
        own = [world for world in worlds if len(world.visits) == count]
        size = config.transit.planets_per_batch
        for first in range(0, len(own), size):
            evidence += teach(own[first : first + size], config.transit)
    write_priors(folder / PRIORS, learn_priors(evidence, config.transit), {})


def draw(folder: Path, config: Config) -> int:
    """Write light curves of the test planets at full cadence; returns the number of visits."""
    simulate, count = config.simulate, 0
    for system in draw_systems(simulate, "test"):
        planet = system.planet
        visits = [
            draw_visit(
                simulate.seed, planet, number, simulate.cadence_factor, simulate.effects,
                simulate.visit,
            )
            for number in range(planet.visits)
        ]  # fmt: skip
        curves = [draw_curves(system, visit, simulate) for visit in visits]
        store(folder, planet.table, curves)
        count += len(curves)
    return count


def run(script: str, folder: Path) -> dict[str, float]:
    """Run a script of this folder in a fresh process of one thread and read its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), str(folder)],
        check=True, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def flux_error() -> float:
    """Largest distance of `transit_flux` from batman, contact points and grazing included."""
    quadratic = importlib.import_module("batman._quadratic_ld")._quadratic_ld
    worst = 0.0
    for k in RADIUS_RATIOS:
        contacts = np.array([0.0, k, 1.0 - k, 1.0, 1.0 + k])
        near = contacts[:, None] + np.array([-1e-3, -1e-5, -1e-7, 1e-7, 1e-5, 1e-3])
        # the grid begins beside 0: batman does not converge where z is 1 - k to the last bit
        z = np.concatenate([np.linspace(1.3e-7, 1.1 + k, 2001), near.ravel().clip(1e-9)])
        for law in LAWS:
            expected = np.asarray(quadratic(z, k, *law, 1))
            flux = transit_flux(torch.tensor(z), torch.tensor(k, dtype=torch.float64), *law)
            worst = max(worst, float(np.abs(flux.numpy() - expected).max()))
    return worst


if __name__ == "__main__":
    main()
