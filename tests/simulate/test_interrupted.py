"""A run that is interrupted leaves nothing half-written in the archive."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spectramind import files
from spectramind.archive.fingerprint import archive_hash
from spectramind.cli.app import app
from spectramind.errors import ArtefactError
from spectramind.simulate import writer

SMALL = {"train_planets": 2, "test_planets": 1, "cadence_factor": 1125}
ONE = SMALL | {"train_planets": 1, "test_planets": 0, "two_visit_fraction": 0.0}
WORDS = ["simulate", *(f"simulate.{key}={value}" for key, value in SMALL.items())]
DIGITS = "0123456789abcdef"


def temporary(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.endswith(".tmp")]


@pytest.fixture
def interruptible():
    """Ctrl-C as on a terminal: a shell starts what runs in the background with it ignored."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_file(tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "artefacts" / "simulate"
    before = signal.getsignal(signal.SIGTERM)

    def interrupted(path: Path) -> None:
        if path.is_relative_to(Path("artefacts/simulate/train")):
            assert len(temporary(root)) == 1
            os.kill(os.getpid(), number)

    monkeypatch.setattr(files, "_to_disk", interrupted)
    done = CliRunner().invoke(app, [*WORDS, "runtime.workers=1"])
    assert done.exit_code == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert temporary(root) == []
    assert (root / "simulation.json").exists()
    assert '"state": "interrupted"' in (tmp_path / "v50_debug_log.jsonl").read_text()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_next_run_removes_what_a_killed_one_left(tmp_path, write_archive):
    write_archive(tmp_path, **ONE)
    before = archive_hash(tmp_path)
    left = [
        tmp_path / folder / f".half.parquet.{DIGITS}.tmp"
        for folder in (".", "train", next((tmp_path / "train").iterdir()), "truth/train")
    ]
    for path in left:
        path.write_text("half")
    assert archive_hash(tmp_path) == before
    assert write_archive(tmp_path, **ONE).reused == 1
    assert temporary(tmp_path) == []


def test_two_runs_do_not_write_into_one_archive(tmp_path, monkeypatch, write_archive):
    """Nor through a link to it; when the first has ended, the next may."""
    (tmp_path / "link").symlink_to(tmp_path / "root")

    def second(*_, **__):
        with pytest.raises(ArtefactError, match=r"link: another process is simulating there\. W"):
            write_archive(tmp_path / "link", **SMALL)
        raise ArtefactError("planet 1: stop here. Go on.")

    monkeypatch.setattr(writer, "results", second)
    for _ in range(2):
        with pytest.raises(ArtefactError, match="stop here"):
            write_archive(tmp_path / "root", **SMALL)


def test_a_killed_worker_leaves_nothing(tmp_path, monkeypatch, write_archive):
    def broken(*_, **__):
        (tmp_path / "train").mkdir()
        (tmp_path / "train" / f".half.parquet.{DIGITS}.tmp").write_text("half")
        raise ArtefactError("simulate: a worker process was killed.")

    monkeypatch.setattr(writer, "results", broken)
    with pytest.raises(ArtefactError, match="was killed"):
        write_archive(tmp_path, **SMALL)
    assert temporary(tmp_path) == []


SLOW_DISK = """
import time
from spectramind import files
files._to_disk = lambda path: time.sleep(0.3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_kill_in_mid_write(tmp_path, victim):
    """Every process, workers too, waits in the middle of each file."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    root = tmp_path / "artefacts" / "simulate"
    command = [sys.executable, "-m", "spectramind", *WORDS, "runtime.workers=2"]
    run = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE
    )
    while not (root / "train").is_dir() or not temporary(root / "train"):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.01)
    os.kill(run.pid if victim == "parent" else _worker(run.pid), signal.SIGKILL)
    _, said = run.communicate()  # the workers hold the pipe: it ends with the last of them
    if victim == "worker":
        assert b"simulate: a worker process was killed" in said
    else:
        assert temporary(root) != []
        subprocess.run([*command[:-1], "runtime.workers=1"], cwd=tmp_path, check=True)
    assert temporary(root) == []


def _worker(parent: int) -> int:
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # no process, or one that has ended
            parent_of = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent_of == parent and b"spawn_main" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    raise AssertionError("no worker")
