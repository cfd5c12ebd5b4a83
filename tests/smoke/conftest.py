"""One tiny run of every stage, shared by the smoke tests of a worker."""

import shutil
from pathlib import Path

import pytest
from tiny_run import run_tiny


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished tiny run; tests that change it take a copy."""
    return run_tiny(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"
