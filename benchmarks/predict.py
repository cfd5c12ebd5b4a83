"""`spectramind predict` of 1,100 planets from cached fits with five members, and where time goes.

    python benchmarks/predict.py            1,100 planets; stores its result
    python benchmarks/predict.py --quick    44 planets
    python benchmarks/predict.py --stored   the last full run again

A small archive is simulated, fitted and trained on by the stages themselves, with
`experiment=cpu`. Its exposures are merged so that a fit has as many time bins as one at full
cadence: about 224 of 120 s, and 1,024 of FGS1. Then the fits of the test planets are written again
under other planet numbers until there are enough, and the members' weights are replaced by random
ones, which take as long as trained ones. What is timed is the command in a fresh process, from
its start to its end, with clocks around its parts; the files are in the page cache. The last
line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import torch

from quiet import Machine
from reports.predict import table
from spectramind import config as configuration
from spectramind.config import Config
from spectramind.stages.folders import SUBMISSION, Stage, stage_folder
from spectramind.stages.freshness import forget_data_hash, provenance_of
from spectramind.stages.runner import run_stage
from spectramind.training.store import member_names, read_member, write_member
from spectramind.transit.store import fit_path, read_fit, read_header, write_fit

RESULT = Path(__file__).parents[1] / "docs" / "results" / "predict.json"
PLANETS, QUICK_PLANETS = 1100, 44
SIMULATED = 2  # test planets that are simulated and fitted
SEED = 50
LEAST_AIRS_BINS, FGS1_BINS = 220, 1024  # of a fit at full cadence
OVERRIDES = (
    "experiment=cpu", "data.level=lightcurves", "simulate.train_planets=8",
    f"simulate.test_planets={SIMULATED}", "simulate.two_visit_fraction=0",
    "simulate.cadence_factor=25", f"simulate.seed={SEED}", "training.epochs=1",
    "diagnostics.metric.naive=2025",  # eight labels are too few for one of their own
    "training.calibration_fraction=0.3", "uq.levels=[0.5]", "runtime.device=cpu",
    "runtime.logger=none",
)  # fmt: skip
CLOCKED = """
import json, sys, time
from pathlib import Path
import spectramind.stages.predict as stage
import spectramind.training.predict as prediction
from spectramind.cli.app import main
from spectramind.model.gnn import GraphEncoder
from spectramind.model.mamba import Fgs1Encoder
from spectramind.model.network import V50
from spectramind.training.data import Scaling

out, *overrides = sys.argv[1:]
seconds = {}

def clock(owner, name, part):
    function = getattr(owner, name)
    def timed(*arguments, **options):
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start
    setattr(owner, name, timed)

clock(stage, "read_fits", "reading fits")
clock(stage, "stars_of", "reading stars")
clock(prediction, "feature_table", "features")
clock(Scaling, "batch", "scaling")
clock(prediction, "read_member", "reading members")
clock(Fgs1Encoder, "forward", "network FGS1")
clock(GraphEncoder, "forward", "network AIRS")
clock(V50, "forward", "network")
for name in ("write_spectra", "write_intervals", "write_submission"):
    clock(stage, name, "writing")
sys.argv = ["spectramind", "predict", *overrides]
try:
    main()
finally:
    Path(out).write_text(json.dumps(seconds))
"""


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Prediction of 1,100 planets on two cores.")
    parser.add_argument("--quick", action="store_true", help="fewer planets")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    else:
        state = Machine.now()
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), QUICK_PLANETS if arguments.quick else PLANETS)
        result = found | state.stored()
        if not arguments.quick:
            state.store_times(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(folder: Path, planets: int) -> dict[str, object]:
    """Prepare what `predict` reads, run it once, and say where its time went."""
    overrides = [*OVERRIDES, f"runtime.out={folder}/artefacts", f"data.root={folder}/archive"]
    config = configuration.load(overrides)
    numbers = prepare(config, planets)
    members = randomise(config)
    seconds, parts = clocked(folder / "seconds.json", overrides, folder)
    written = pl.read_csv(stage_folder(config, "predict") / SUBMISSION)
    if written["planet_id"].sort().to_list() != numbers:
        raise SystemExit("predict: the submission does not hold the planets of the archive.")
    return {
        "planets": planets,
        "members": members,
        "minutes": round(seconds / 60.0, 3),
        "s_per_planet": round(seconds / planets, 4),
        "parts_s": parts,
        "seed": SEED,
    }


def prepare(config: Config, planets: int) -> list[int]:
    """An archive that lists `planets` test planets, a fit of each, a training run; their numbers.

    The stages before `predict` run as they are; the archive grows before `fit`, which then
    finds light curves of the simulated planets only.
    """
    run(config, "simulate")
    root = config.data.root
    simulated = pl.read_csv(root / "test_star_info.csv")["planet_id"].to_list()
    first = max(simulated) + 1
    numbers = sorted([*simulated, *range(first, first + planets - len(simulated))])
    for name in ("test_star_info.csv", "sample_submission.csv"):
        multiply(root / name, numbers, simulated)
    forget_data_hash()
    run(config, "calibrate")
    run(config, "fit")
    fits = stage_folder(config, "fit")
    for index, planet in enumerate(numbers):
        if planet in simulated:
            continue
        source = fit_path(fits, "test", simulated[index % len(simulated)])
        fit = read_fit(source)
        for visit in fit.visits:
            bins = (len(visit.time_h), len(visit.fgs1_time_h))
            if bins[0] < LEAST_AIRS_BINS or bins[1] != FGS1_BINS:
                raise SystemExit(f"{source}: {bins} bins, fewer than at full cadence.")
        copy = replace(fit, planet_id=planet)
        write_fit(fit_path(fits, "test", planet), copy, read_header(source).facts)
    run(config, "train")
    run(config, "calibrate-temp")
    return numbers


def run(config: Config, stage: Stage) -> None:
    """Run one stage and say so."""
    result = run_stage(config, stage, stage_folder(config, stage))
    print(f"{stage}: {result.summary}", file=sys.stderr)


def multiply(path: Path, numbers: list[int], simulated: list[int]) -> None:
    """Repeat the rows of the simulated planets under the new numbers."""
    table = pl.read_csv(path)
    row_of = {planet: row for row, planet in enumerate(table["planet_id"].to_list())}
    rows = [
        row_of[planet if planet in row_of else simulated[index % len(simulated)]]
        for index, planet in enumerate(numbers)
    ]
    table[rows].with_columns(pl.Series("planet_id", numbers)).write_csv(path)


def randomise(config: Config) -> int:
    """Replace the weights of all members by random ones, through the real writer."""
    folder = stage_folder(config, "train") / "members"
    names = member_names(folder)
    generator = torch.Generator().manual_seed(SEED)
    for name in names:
        member = read_member(folder, name, config.model)
        weights = {
            key: value + 0.02 * torch.randn(value.shape, generator=generator)
            for key, value in member.network.state_dict().items()
        }
        member.network.load_state_dict(weights)
        write_member(folder, member, provenance_of(config, "train"))
    return len(names)


def clocked(out: Path, overrides: list[str], folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds of the command in a fresh process, and of its parts."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CLOCKED, str(out), *overrides],
        check=False, capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if done.returncode or "running it first" in done.stderr:
        raise SystemExit(f"predict: did not run as it should.\n{done.stderr}")
    parts = json.loads(out.read_text())
    network = parts.pop("network")
    parts["network heads"] = network - parts["network FGS1"] - parts["network AIRS"]
    parts["start, hashes, intervals"] = seconds - sum(parts.values())
    return seconds, {name: round(value, 2) for name, value in parts.items()}


if __name__ == "__main__":
    main()
