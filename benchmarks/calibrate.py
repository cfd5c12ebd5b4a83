"""Read and calibrate one visit: the fused chain beside its rivals and beside the bare decode.

    python benchmarks/calibrate.py            full-size visit, a few minutes; stores its result
    python benchmarks/calibrate.py --quick    visit of 1/5 of the exposures
    python benchmarks/calibrate.py --stored   the last full run again

Rivals: the hosts' notebook chain in full and in the form that the hosts ran (linearity off), both
in benchmarks/hosts_chain.py, and plain numpy at its best (benchmarks/vectorised_chain.py), which
gives the same light curves within 1e-5. Each chain runs in three fresh processes (--quick: one),
all in turn. A process calibrates a visit six times and does not time the first, which loads the
compiled kernels and touches the memory; the hosts' chain gains nothing from that and runs once.
The time is the least of a chain's visits, for what else goes on in a machine only adds to it, and
the peak memory the largest of its processes (interpreter and libraries included). The files are
in the page cache.

`over_decode`: in one process more, whole visits and polars' bare decode of the same columns of the
same files take turns; the least time of a visit over the least of a decode. Polars decodes all
columns of a file in one call, by position, without a look at the schema. Everything runs on one
thread of one core. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quiet import Machine
from reports.calibrate import table
from spectramind import config as configuration
from spectramind.archive.layout import open_archive
from spectramind.calibrate import fused, reference
from spectramind.calibrate.chain import read_pixels
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.instrument import CHANNELS
from spectramind.provenance import describe
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
seconds = []
for _ in range(6):
    start = time.perf_counter()
    calibrate_visit(archive, split, int(planet_id), int(visit), settings)
    seconds.append(time.perf_counter() - start)
seconds = min(seconds[1:])
peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
print(json.dumps({"seconds": seconds, "peak_gb": peak_gb}))
"""
DECODE = """
import json, sys, time
from pathlib import Path
import polars as pl
from spectramind.archive.layout import open_archive
from spectramind.calibrate.chain import calibrate_visit, read_pixels
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.instrument import CHANNELS
root, split, planet_id, visit, section, turns = sys.argv[1:]
archive, settings = open_archive(Path(root)), CalibrationConfig(**json.loads(section))
where = split, int(planet_id), int(visit)
signal = {archive.signal_file(*where, one): read_pixels(one).tolist() for one in CHANNELS}
def decode():
    for path, columns in signal.items():
        pl.read_parquet(path, columns=columns, glob=False, hive_partitioning=False)
def calibrate():
    calibrate_visit(archive, *where, settings)
seconds = {decode: [], calibrate: []}
for turn in range(int(turns) + 1):
    for work, spent in seconds.items():
        start = time.perf_counter()
        work()
        if turn:  # the first one loads the compiled kernels
            spent.append(time.perf_counter() - start)
spent = {work.__name__: min(each) for work, each in seconds.items()}
print(json.dumps(spent))
"""
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS"), "1"
)


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="The fused chain beside its rivals.")
    parser.add_argument("--quick", action="store_true", help="a fifth of the exposures")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    else:
        state, full = Machine.now(), {"cadence_factor": 1, "repeats": 3, "turns": 15}
        quick = {"cadence_factor": 5, "repeats": 1, "turns": 5}
        result = measure(**(quick if arguments.quick else full)) | state.stored()
        if not arguments.quick:
            state.store_times(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(*, cadence_factor: int, repeats: int, turns: int) -> dict[str, Any]:
    """Simulate one visit, calibrate it in every way, compare with the float64 reference."""
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
        hosts, vectorised = (
            str(Path(__file__).with_name(f"{name}_chain.py")) for name in ("hosts", "vectorised")
        )
        chains = {
            "fused": ["-c", FUSED, *visit, section],
            "hosts": [hosts, *visit, "full"],
            "hosts_default": [hosts, *visit, "default"],
            "vectorised": [vectorised, *visit, section],
        }
        spent = compare(chains, repeats)
        turn = run(["-c", DECODE, *visit, section, str(turns)])
        error = max_rel_error(root, planet_id, settings.calibration)
    seconds = spent["fused"]["seconds"]
    return {
        **speedups(spent),
        "over_decode": round(turn["calibrate"] / turn["decode"], 3),
        "max_rel_error": float(f"{error:.2g}"),
        "peak_gb": round(spent["fused"]["peak_gb"], 3),
        "s_per_visit": round(seconds, 3),
        "decode_s": round(turn["decode"], 3),
        "hours_1100": round(seconds * PLANETS / 3600.0, 3),
        "host_s": round(spent["hosts"]["seconds"], 2),
        "host_default_s": round(spent["hosts_default"]["seconds"], 2),
        "vectorised_s": round(spent["vectorised"]["seconds"], 2),
        "host_peak_gb": round(spent["hosts"]["peak_gb"], 2),
        "cadence_factor": cadence_factor,
        "repeats": repeats,
        "turns": turns,
        "threads": 1,
        "seed": settings.simulate.seed,
    }


def speedups(spent: dict[str, dict[str, float]]) -> dict[str, float]:
    """Time of each rival over that of the fused chain."""
    names = {"host": "hosts", "host_default": "hosts_default", "vectorised": "vectorised"}
    return {
        f"speedup_vs_{name}": round(spent[chain]["seconds"] / spent["fused"]["seconds"], 1)
        for name, chain in names.items()
    }


def compare(chains: dict[str, list[str]], repeats: int) -> dict[str, dict[str, float]]:
    """Least seconds and largest memory of commands that run in turn, equally often."""
    runs = [{name: run(chain) for name, chain in chains.items()} for _ in range(repeats)]
    return {
        name: {
            "seconds": min(results[name]["seconds"] for results in runs),
            "peak_gb": max(results[name]["peak_gb"] for results in runs),
        }
        for name in chains
    }


def run(arguments: list[str]) -> dict[str, float]:
    """Run python in a fresh process, on one thread of one core, and read its last line."""
    environment, core = {**os.environ, **ONE_THREAD}, {min(os.sched_getaffinity(0))}
    done = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
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


if __name__ == "__main__":
    main()
