"""Read and calibrate one visit: fused chain against the hosts' notebook chain.

    python benchmarks/calibrate.py            full-size visit, a few minutes; stores its result
    python benchmarks/calibrate.py --quick    visit of 1/5 of the exposures
    python benchmarks/calibrate.py --stored   the last full run again

Each chain runs in three fresh processes (--quick: one), the two in turn, and each process times
one visit. The time is the median, the peak memory the largest of the processes (interpreter and
libraries included). The files are in the page cache. A visit that is not timed loads the compiled
kernels of the fused chain; the hosts' chain has none. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from spectramind import config as configuration
from spectramind.archive.layout import open_archive
from spectramind.calibrate import fused, reference
from spectramind.calibrate.chain import read_pixels
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.files import write_json
from spectramind.instrument import CHANNELS
from spectramind.provenance import describe, git_state, utc_now
from spectramind.simulate.writer import simulate_archive

RESULT = Path(__file__).parents[1] / "docs" / "results" / "calibrate.json"
PLANETS = 1100
FUSED = """
import json, resource, sys, time
from pathlib import Path
from spectramind.archive.layout import open_archive
from spectramind.calibrate.chain import calibrate_visit
from spectramind.calibrate.settings import CalibrationConfig
root, split, planet_id, visit, section = sys.argv[1:]
archive, settings = open_archive(Path(root)), CalibrationConfig(**json.loads(section))
for _ in range(2):  # the first one loads the compiled kernels
    start = time.perf_counter()
    calibrate_visit(archive, split, int(planet_id), int(visit), settings)
    seconds = time.perf_counter() - start
peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
print(json.dumps({"seconds": seconds, "peak_gb": peak_gb}))
"""


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Fused chain against the hosts' chain.")
    parser.add_argument("--quick", action="store_true", help="a fifth of the exposures")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    else:
        quick = {"cadence_factor": 5, "repeats": 1}
        result = measure(**quick) if arguments.quick else measure(cadence_factor=1, repeats=3)
        if not arguments.quick:
            write_json(RESULT, result)
    print_table(result)
    print(json.dumps(result))


def measure(*, cadence_factor: int, repeats: int) -> dict[str, object]:
    """Simulate one visit, calibrate it both ways, compare with the float64 reference."""
    settings = configuration.load([
        "simulate.train_planets=1", "simulate.test_planets=0", "simulate.two_visit_fraction=0",
        f"simulate.cadence_factor={cadence_factor}",
    ])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        provenance = describe(
            stage="simulate",
            config_hash="-",
            code_hash="-",
            data_hash="",
            seed=settings.simulate.seed,
        )
        simulate_archive(
            settings.simulate,
            root=root,
            level="frames",
            workers=1,
            device=torch.device("cpu"),
            provenance=provenance,
        )
        planet_id = open_archive(root).planets("train")[0]
        visit = [str(root), "train", str(planet_id), "0"]
        section = settings.calibration.model_dump_json()
        hosts_chain = str(Path(__file__).with_name("hosts_chain.py"))
        fast, hosts = compare(["-c", FUSED, *visit, section], [hosts_chain, *visit], repeats)
        error = max_rel_error(root, planet_id, settings.calibration)
    seconds = fast["seconds"]
    sha, dirty = git_state()
    return {
        "speedup_vs_host": round(hosts["seconds"] / seconds, 1),
        "max_rel_error": float(f"{error:.2g}"),
        "peak_gb": round(fast["peak_gb"], 3),
        "s_per_visit": round(seconds, 3),
        "hours_1100": round(seconds * PLANETS / 3600.0, 3),
        "host_s": round(hosts["seconds"], 2),
        "host_peak_gb": round(hosts["peak_gb"], 2),
        "cadence_factor": cadence_factor,
        "repeats": repeats,
        "seed": settings.simulate.seed,
        "cores": os.cpu_count(),
        "date": utc_now(),
        "git_sha": sha,
        "git_dirty": dirty,
    }


def compare(
    one: list[str], other: list[str], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds and largest memory of two commands that run in turn, equally often."""
    runs = [(run(one), run(other)) for _ in range(repeats)]
    first, second = (
        {
            "seconds": statistics.median(result["seconds"] for result in results),
            "peak_gb": max(result["peak_gb"] for result in results),
        }
        for results in zip(*runs, strict=True)
    )
    return first, second


def run(arguments: list[str]) -> dict[str, float]:
    """Run python in a fresh process, single-threaded kernels, and read its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def max_rel_error(root: Path, planet_id: int, config: CalibrationConfig) -> float:
    """Largest |fused - reference| / |reference| over the light curves of both channels."""
    archive = open_archive(root)
    worst = 0.0
    for channel in CHANNELS:
        frames = archive.frames("train", planet_id, 0, channel, read_pixels(channel))
        maps = archive.detector_maps("train", planet_id, 0, channel)
        fast = fused.calibrate_channel(frames, maps, config).flux_e.astype(np.float32)
        exact = reference.calibrate_channel(frames, maps, config).flux_e
        worst = max(worst, float(np.max(np.abs(fast - exact) / np.abs(exact))))
    return worst


def print_table(result: dict[str, object]) -> None:
    """Figures, targets, and when and from which code they were measured."""
    rows = [
        ("speed-up over the hosts' chain", "speedup_vs_host", "", ">= 40"),
        ("largest relative error", "max_rel_error", "", "<= 1e-6"),
        ("peak memory of the process", "peak_gb", "GB", "<= 1.2"),
        ("read and calibrate one visit", "s_per_visit", "s", ""),
        (f"{PLANETS} single-visit planets, one process", "hours_1100", "h", ""),
        ("hosts' chain, one visit", "host_s", "s", ""),
        ("hosts' chain, peak memory", "host_peak_gb", "GB", ""),
    ]
    for label, key, unit, target in rows:
        print(f"{label:42s}{result[key]:>10} {unit:3s}{target}")
    print(f"measured {result['date']} at {result['git_sha']}, dirty {result['git_dirty']}")


if __name__ == "__main__":
    main()
