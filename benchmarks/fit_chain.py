"""Fit of stored full-cadence planets in this process: seconds, and its peak memory.

Run by benchmarks/fit.py as `python fit_chain.py FOLDER`; a first batch that is not timed warms
the libraries up. The last line is JSON.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from spectramind import config as configuration
from spectramind.observation import LightCurves, Star
from spectramind.transit.fit import fit_planets
from spectramind.transit.priors import read_priors
from spectramind.transit.start import prepare

PRIORS = "priors.safetensors"
Observed = tuple[Star | None, list[LightCurves]]


def store(folder: Path, star: Star, curves: Sequence[LightCurves]) -> None:
    """Write the visits of a planet and its row of the star table."""
    place = folder / "planets" / str(curves[0].planet_id)
    place.mkdir(parents=True)
    (place / "star.json").write_text(json.dumps(asdict(star)))
    for visit in curves:
        np.savez(place / f"visit{visit.visit}.npz", **vars(visit))


def stored(folder: Path) -> list[list[Path]]:
    """Folders of planets, those with equally many visits together, in batches of the settings."""
    size = configuration.load([]).transit.planets_per_batch
    groups: dict[int, list[Path]] = {}
    for place in sorted((folder / "planets").iterdir()):
        groups.setdefault(len(list(place.glob("visit*.npz"))), []).append(place)
    return [own[i : i + size] for own in groups.values() for i in range(0, len(own), size)]


def load(batch: Sequence[Path]) -> Iterator[Observed]:
    """Star and visits of each planet."""
    for place in batch:
        star = Star(**json.loads((place / "star.json").read_text()))
        visits = []
        for path in sorted(place.glob("visit*.npz")):
            with np.load(path, allow_pickle=False) as arrays:
                whole = {name: arrays[name] for name in arrays.files}
            planet_id, visit = (int(whole.pop(name)) for name in ("planet_id", "visit"))
            visits.append(LightCurves(planet_id=planet_id, visit=visit, **whole))
        yield star, visits


def main() -> None:
    """Bin and fit every planet of the folder."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    config, priors = configuration.load([]).transit, read_priors(folder / PRIORS)
    batches, seconds, depths = stored(folder), 0.0, {}
    for batch in (batches[0], *batches):
        observed = list(load(batch))
        start = time.perf_counter()
        planets = [prepare(curves, star, config) for star, curves in observed]
        fits = fit_planets(planets, priors, config)
        own = time.perf_counter() - start
        seconds = seconds + own if depths else 0.0
        depths |= {fit.planet_id: fit.white_depth for fit in fits}
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "planets": len(depths), "peak_gb": peak_gb}))


if __name__ == "__main__":
    main()
