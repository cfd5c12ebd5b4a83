"""`dvc repro` computes once, and a changed key recomputes exactly the stages below it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import TINY

from spectramind.config import load
from spectramind.stages.folders import STAGES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path) -> Path:
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    _dvc(tmp_path, "init", "--no-scm", "--quiet")
    return tmp_path


def _dvc(folder: Path, *words: str) -> str:
    binaries = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(
        [binaries / "dvc", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _repro(folder: Path, *overrides: str) -> list[str]:
    """Stages that `dvc repro` runs after freezing this configuration."""
    (folder / "params.yaml").write_text(load([*TINY, *overrides]).frozen())
    return re.findall(r"Running stage '([^']+)'", _dvc(folder, "repro"))


def test_repro_runs_what_a_key_changes_and_nothing_else(workspace):
    assert _repro(workspace) == list(STAGES)
    assert _repro(workspace) == []
    assert _repro(workspace, "uq.temp_scale=false") == list(
        STAGES[STAGES.index("calibrate-temp") :]
    )
    assert _repro(workspace, "uq.temp_scale=false", "diagnostics.planets=1") == ["diagnose"]
    assert (
        _repro(workspace, "uq.temp_scale=false", "diagnostics.planets=1", "runtime.workers=2")
        == []
    )
