"""`dvc repro` computes once, and a changed key recomputes exactly the stages below it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_run import TINY

from spectramind.config import load
from spectramind.stages.folders import STAGES

ROOT = Path(__file__).parents[2]
OUT = "artefacts/demo"  # of the pipeline, whose folders dvc.yaml names
OTHER_CODE = re.compile(r"src/spectramind/(?!stages/)")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dvc") is None, reason="DVC is not installed"
)


@pytest.fixture
def workspace(tmp_path) -> Path:
    """What `dvc init --no-scm` leaves, the pipeline and the code."""
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    return tmp_path


@pytest.fixture
def idle(workspace) -> Path:
    """The same pipeline of stages that only leave something else at every run.

    Of the code it names that of `stages` alone: DVC takes seconds to read and write hundreds of
    names.
    """
    pipeline = yaml.safe_load((workspace / "dvc.yaml").read_text())
    for entry in pipeline["stages"].values():
        outs = [own if isinstance(own, str) else next(iter(own)) for own in entry["outs"]]
        metrics = [next(iter(own)) for own in entry.get("metrics", ())]
        entry["deps"] = [own for own in entry["deps"] if not OTHER_CODE.match(own)]
        files = " ".join([*(f"{folder}/made" for folder in outs), *metrics])
        entry["cmd"] = f"mkdir -p {' '.join(outs)} && date +%s.%N | tee {files}"
    (workspace / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return workspace


REPRO = """
import shutil, sys
from dvc.cli import main
for params in sys.argv[1:]:
    shutil.copy(params, "params.yaml")
    print("next", flush=True)
    assert main(["repro"]) == 0
"""


def _repro(folder: Path, *runs: list[str]) -> list[list[str]]:
    """Stages that `dvc repro` runs with each of these configurations in turn, in one process."""
    files = [folder / f"params{number}.yaml" for number in range(len(runs))]
    for file, overrides in zip(files, runs, strict=True):
        words = [*TINY, f"runtime.out={OUT}", "data.level=lightcurves", *overrides]
        file.write_text(load(words).frozen())
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    words = [sys.executable, "-c", REPRO, *files]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [
        re.findall(r"Running stage '([^']+)'", said) for said in done.stdout.split("next\n")[1:]
    ]


def test_repro_runs_what_a_key_changes_and_nothing_else(idle):
    ran = _repro(idle, [], ["runtime.workers=2"], ["transit.bin_s=240"])
    assert ran == [list(STAGES), [], list(STAGES[2:])]


@pytest.mark.slow
def test_repro_runs_every_stage_and_those_below_a_key_again(workspace):
    ran = _repro(workspace, [], ["runtime.workers=2"], ["uq.corel=true"])
    assert ran == [list(STAGES), [], ["diagnose"]]
