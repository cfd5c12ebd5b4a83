"""A run of every stage small enough for a test."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Differences from the demo that make every stage run in seconds; not a measure of anything.
TINY = (
    "experiment=demo",
    "simulate.train_planets=10",
    "simulate.test_planets=2",
    "simulate.cadence_factor=225",
    "training.folds=2",
    "training.epochs=2",
    "training.reobserved=0",
    "training.calibration_fraction=0.3",
    "uq.levels=[0.5]",
    "runtime.workers=1",
)


def spectramind(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command line in a folder, as a user does."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "spectramind", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def run_tiny(folder: Path, overrides: Sequence[str] = ()) -> Path:
    """All stages in `folder`."""
    spectramind(folder, "run", *TINY, *overrides)
    return folder
