import os
import signal
import subprocess
import sys

import pytest

from spectramind import parallel
from spectramind.errors import ArtefactError, DataError, WriteError
from spectramind.parallel import Shown, each, results

HALVE = Shown("halve", "numbers")


def _halve(number: int) -> int:
    if number == 3:
        raise DataError("planet 3: is odd. Take another.")
    return number // 2


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_item_does_not_stop_the_others(workers):
    outcomes = {o.item: o for o in each(_halve, [2, 3, 4], workers=workers, shown=HALVE)}
    assert outcomes[2].value == 1
    assert outcomes[4].value == 2
    assert str(outcomes[3].error) == "planet 3: is odd. Take another."
    assert outcomes[3].value is None


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_with_their_items(workers):
    assert dict(results(_halve, [2, 4], workers=workers, shown=HALVE)) == {
        2: 1,
        4: 2,
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_results_end_with_the_first_error(workers):
    with pytest.raises(DataError, match=r"planet 3: is odd\. Take another\."):
        list(results(_halve, [2, 3, 4], workers=workers, shown=HALVE))


def test_other_errors_end_the_run():
    with pytest.raises(ZeroDivisionError):
        list(each(lambda x: 1 // x, [0], workers=1, shown=Shown("divide", "numbers")))


def test_no_items_give_no_outcomes():
    assert list(each(_halve, [], workers=2, shown=HALVE)) == []


def _full_disk(_number: int) -> int:
    raise WriteError("file: cannot be written (No space left on device).")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_run(workers):
    with pytest.raises(WriteError, match="No space left on device"):
        list(each(_full_disk, [1, 2, 3], workers=workers, shown=Shown("write", "numbers")))


def _killed(_number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_a_killed_worker_is_a_sentence():
    with pytest.raises(ArtefactError, match=r"worker process was killed.*Lower runtime\.workers"):
        list(each(_killed, [1, 2], workers=2, shown=Shown("fit", "numbers")))


SCRIPT = """
import numpy as np
from threadpoolctl import threadpool_info
from spectramind.parallel import Shown, each

def threads(item):
    np.ones((2, 2)) @ np.ones((2, 2))
    return [pool["num_threads"] for pool in threadpool_info()]

if __name__ == "__main__":
    for outcome in each(threads, [1, 2], workers=2, shown=Shown("threads", "numbers")):
        print(*outcome.value)
"""


def test_a_worker_of_a_script_that_loads_numpy_first_has_one_thread(tmp_path):
    pytest.importorskip("threadpoolctl")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    free = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    done = subprocess.run(
        [sys.executable, str(script)], check=True, capture_output=True, text=True, env=free
    )
    counts = done.stdout.split()
    assert counts
    assert set(counts) == {"1"}


def test_the_threads_of_this_process_stay(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    outcomes = list(
        each(os.getenv, ["OMP_NUM_THREADS"] * 2, workers=2, shown=Shown("threads", "numbers"))
    )
    assert [outcome.value for outcome in outcomes] == ["1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_said_on_stderr_unless_it_is_not_wanted(monkeypatch, capsys, shown):
    monkeypatch.setattr(parallel, "SILENCE_S", -1.0)
    list(each(_halve, [2, 4, 6], workers=1, shown=Shown("halve", "numbers", silent=not shown)))
    said = capsys.readouterr().err
    assert ("halve: 2 of 3 numbers, about" in said) is shown
    assert bool(said) is shown


def test_what_is_left_is_that_of_the_slow_items():
    """Items that were there already take next to nothing, and tell nothing of the others."""
    progress = parallel._Progress(Shown("fit", "planets", later=10), 110, 2)
    for _ in range(90):
        progress.advance(1, 0.001)
    progress.advance(5, 50.0)  # a batch: 10 s per planet
    assert progress._left() == "about 125 s left"  # (15 + 10) planets in 2 processes
    before = 125
    for _ in range(3):
        progress.advance(5, 50.0)
        now = int(progress._left().split()[1])
        assert now == before - 25
        before = now


def test_items_are_counted_in_their_unit(monkeypatch, capsys):
    monkeypatch.setattr(parallel, "SILENCE_S", -1.0)
    shown = Shown("fit", "planets", size=len)
    list(each(len, ["abc", "de", "f"], workers=1, shown=shown))
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "fit: 3 of 6 planets", "fit: 5 of 6 planets",
    ]  # fmt: skip
