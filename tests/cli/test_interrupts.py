"""SIGINT to the first process alone, as schedulers and notebooks send it, ends all of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import hashlib, time
from functools import partial
from pathlib import Path
import typer
from spectramind.cli.call import command
from spectramind.parallel import Shown, each

def work(how, item):
    if how == "body" and item == 0:
        return
    try:
        Path(f"begun{item}").touch()
        if how == "deaf":
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # no Python runs for minutes
        time.sleep(100)
    finally:
        Path(f"tidied{item}").touch()

app = typer.Typer()

@app.command()
def main(how: str):
    with command("fit", debug=False):
        shown = Shown("fit", "planets")
        for _ in each(partial(work, how), range(6), workers=2, shown=shown):
            Path("body").touch()
            time.sleep(100)

if __name__ == "__main__":
    app()
"""
TIDIED = {"sleeping": {"tidied0", "tidied1"}, "deaf": set(), "body": {"tidied1", "tidied2"}}
WAITED_S = 10.0


def started(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """A process that takes SIGINT, whatever the shell of these tests does with it."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def ended(run: subprocess.Popen[str]) -> str:
    """What it said; it and its workers, which hold the pipe, are gone in time."""
    start = time.monotonic()
    _, said = run.communicate(timeout=60)
    assert time.monotonic() - start < WAITED_S
    return said


@pytest.mark.parametrize("how", ["sleeping", "deaf", "body"])
def test_an_interrupt_ends_queue_and_workers(tmp_path, how):
    (tmp_path / "script.py").write_text(SCRIPT)
    run = started(tmp_path, "script.py", how)
    wanted = ["body", "begun1", "begun2"] if how == "body" else ["begun0", "begun1"]
    while not all((tmp_path / name).exists() for name in wanted):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGINT)
    said = ended(run)
    assert run.returncode == 130
    assert said.startswith("fit: interrupted after ")
    assert said.endswith(" s; finished work is kept and the next run goes on from it\n")
    assert '"state": "interrupted"' in (tmp_path / "v50_debug_log.jsonl").read_text()
    tidied = {path.name for path in tmp_path.glob("tidied*")}
    assert tidied == TIDIED[how]


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.0])
def test_two_interrupts_while_workers_start_end_it(tmp_path, after_s):
    (tmp_path / "script.py").write_text(SCRIPT)
    run = started(tmp_path, "script.py", "sleeping")
    while not _children(run.pid):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.01)
    time.sleep(after_s)
    for _ in range(2):
        os.kill(run.pid, signal.SIGINT)
        time.sleep(0.05)
    said = ended(run)
    assert run.returncode == 130
    assert "Traceback" not in said


def _children(parent: int) -> list[str]:
    return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
