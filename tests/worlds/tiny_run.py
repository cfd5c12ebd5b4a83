"""A run of every stage small enough for a test."""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from typer.testing import CliRunner, Result

from spectramind.cli.app import app

# Differences from the demo that make every stage run in seconds; not a measure of anything.
TINY = (
    "experiment=demo",
    "runtime.out=artefacts",
    "simulate.train_planets=7",
    "simulate.test_planets=2",
    "simulate.cadence_factor=225",
    "training.folds=2",
    "training.epochs=2",
    "training.reobserved=0",
    "transit.passes=6",
    "transit.scan.starts=1",
    "training.calibration_fraction=0.34",
    "diagnostics.metric.naive=2025",
    "uq.levels=[0.5]",
    "runtime.workers=1",
)

# Without frames; planets enough for priors over spectra in each fold, some of them flagged.
LIGHT_CURVES = (
    "data.level=lightcurves",
    "simulate.train_planets=20",
    "simulate.two_visit_fraction=0.4",
    "transit.spectrum.fewest_labels=10",
    "transit.spectrum.folds=3",
)


def spectramind(folder: Path, *words: str, check: bool = True) -> Result:
    """Run a command line in a folder, within this process.

    `spectramind_process` does the same from outside; it costs some seconds of imports.
    """
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert not check or done.exit_code == 0, done.stderr
    return done


def spectramind_process(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a folder, as a user does."""
    command = [sys.executable, "-m", "spectramind", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def run_tiny(folder: Path, overrides: Sequence[str] = ()) -> Path:
    """All stages in `folder`."""
    spectramind(folder, "run", *TINY, *overrides)
    return folder
