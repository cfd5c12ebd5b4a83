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

from quiet import Machine
from reports.simulate import table
from spectramind import config as configuration
from spectramind.instrument import AIRS

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
        full = {"cadence_factor": 1, "repeats": 3}
        state = Machine.now()
        result = measure(**(quick if arguments.quick else full)) | state.stored()
        if not arguments.quick:
            state.store_times(RESULT, result)
    print(table(result))
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
    return {
        "s_per_visit": round(statistics.median(one["seconds"] for one in runs), 2),
        "peak_gb": round(max(one["peak_gb"] for one in runs), 3),
        "cadence_factor": cadence_factor,
        "repeats": repeats,
        "seed": settings.simulate.seed,
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
