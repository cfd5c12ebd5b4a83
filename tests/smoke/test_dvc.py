"""`dvc repro` computes once, and a changed key recomputes exactly the stages below it."""

import importlib.util
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


def _repro(folder: Path, *overrides: str, stage: str = "diagnose") -> list[str]:
    """Stages that `dvc repro` runs up to one, after freezing this configuration."""
    config = load([*TINY, "data.level=lightcurves", *overrides])
    (folder / "params.yaml").write_text(config.frozen())
    binaries = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    words = [binaries / "dvc", "repro", stage]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"Running stage '([^']+)'", done.stdout)


def test_repro_runs_what_a_key_changes_and_nothing_else(workspace):
    """Up to the fit: every stage is a process, and the others take longer to load."""
    assert _repro(workspace, stage="fit") == ["simulate", "calibrate", "fit"]
    assert _repro(workspace, "runtime.workers=2", stage="fit") == []
    assert _repro(workspace, "transit.bin_s=240", stage="fit") == ["fit"]


@pytest.mark.slow
def test_repro_runs_every_stage_and_those_below_a_key_again(workspace):
    assert _repro(workspace) == list(STAGES)
    assert _repro(workspace, "runtime.workers=2") == []
    assert _repro(workspace, "uq.corel=true") == ["predict", "diagnose"]
