"""Tiny runs of every stage, made once and shared by the smoke tests of all workers."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_run import LIGHT_CURVES, run_tiny

from spectramind.files import locked

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Folder of a tiny run of a name, which the first worker that asks for it makes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, *overrides: str) -> Path:
        folder = shared / name
        with locked(shared / f"{name}.lock", wait=True):
            if not (folder / "artefacts/diagnose/stage.json").is_file():
                folder.mkdir(exist_ok=True)
                run_tiny(folder, overrides)
        return folder

    return make


@pytest.fixture(scope="session")
def finished(made_once: Make) -> Path:
    """Folder of a finished tiny run; tests that change it take a copy."""
    return made_once("finished")


@pytest.fixture(scope="session")
def light_curves(made_once: Make) -> Path:
    """Folder of a finished tiny run from light curves, with priors over spectra."""
    return made_once("light_curves", *LIGHT_CURVES)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"
