"""Simulate one visit at full size: seconds and peak memory.

    python benchmarks/simulate.py            full-size visit, minutes; stores its result
    python benchmarks/simulate.py --quick    visit of 1/5 of the exposures
    python benchmarks/simulate.py --stored   the last full run again

Three fresh processes (--quick: one) write an archive of one single-visit planet, tables and truth
included, with one worker. Each writes a planet of few exposures first, which loads the compiled
kernels and is not timed. The time is the median of the processes, the peak memory the largest
(interpreter and libraries included). The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from spectramind import config as configuration
from spectramind.files import write_json
from spectramind.instrument import AIRS
from spectramind.provenance import git_state, utc_now

RESULT = Path(__file__).parents[1] / "docs" / "results" / "simulate.json"
SIMULATE = """
import json, resource, sys, tempfile, time
from pathlib import Path
import torch
from spectramind.provenance import describe
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.writer import simulate_archive
for section in sys.argv[1:]:  # the first one loads the compiled kernels
    config = SimulateConfig(**json.loads(section))
    made_by = describe(
        stage="simulate", config_hash="-", code_hash="-", data_hash="", seed=config.seed
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        simulate_archive(
            config, root=Path(folder), level="frames", workers=1, device=torch.device("cpu"),
            provenance=made_by,
        )
        seconds = time.perf_counter() - start
peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
print(json.dumps({"seconds": seconds, "peak_gb": peak_gb}))
"""


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Seconds and memory of a simulated visit.")
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
    print(f"simulate one visit {result['s_per_visit']:>10} s   <= 40")
    print(f"peak memory        {result['peak_gb']:>10} GB  <= 2")
    print(f"measured {result['date']} at {result['git_sha']}, dirty {result['git_dirty']}")
    print(json.dumps(result))


def measure(*, cadence_factor: int, repeats: int) -> dict[str, object]:
    """Median seconds and largest memory of processes that simulate one visit."""
    settings = configuration.load([
        "simulate.train_planets=1", "simulate.test_planets=0", "simulate.two_visit_fraction=0",
        f"simulate.cadence_factor={cadence_factor}",
    ])  # fmt: skip
    small = settings.simulate.model_copy(update={"cadence_factor": AIRS.pairs // 5})
    sections = [part.model_dump_json() for part in (small, settings.simulate)]
    runs = [run(["-c", SIMULATE, *sections]) for _ in range(repeats)]
    sha, dirty = git_state()
    return {
        "s_per_visit": round(statistics.median(one["seconds"] for one in runs), 2),
        "peak_gb": round(max(one["peak_gb"] for one in runs), 3),
        "cadence_factor": cadence_factor,
        "repeats": repeats,
        "seed": settings.simulate.seed,
        "cores": os.cpu_count(),
        "date": utc_now(),
        "git_sha": sha,
        "git_dirty": dirty,
    }


def run(arguments: list[str]) -> dict[str, float]:
    """Run python in a fresh process, single-threaded kernels, and read its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
