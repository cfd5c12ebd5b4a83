import os
import signal

import pytest

from spectramind.errors import ArtefactError, DataError, WriteError
from spectramind.parallel import each


def _halve(number: int) -> int:
    if number == 3:
        raise DataError("planet 3: is odd. Take another.")
    return number // 2


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_item_does_not_stop_the_others(workers):
    outcomes = {o.item: o for o in each(_halve, [2, 3, 4], workers=workers, label="halve")}
    assert outcomes[2].value == 1
    assert outcomes[4].value == 2
    assert str(outcomes[3].error) == "planet 3: is odd. Take another."
    assert outcomes[3].value is None


def test_other_errors_end_the_run():
    with pytest.raises(ZeroDivisionError):
        list(each(lambda x: 1 // x, [0], workers=1, label="divide"))


def test_no_items_give_no_outcomes():
    assert list(each(_halve, [], workers=2, label="halve")) == []


def _full_disk(_number: int) -> int:
    raise WriteError("file: cannot be written (No space left on device).")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_run(workers):
    with pytest.raises(WriteError, match="No space left on device"):
        list(each(_full_disk, [1, 2, 3], workers=workers, label="write"))


def _killed(_number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_a_killed_worker_is_a_sentence():
    with pytest.raises(ArtefactError, match=r"worker process was killed.*Lower runtime\.workers"):
        list(each(_killed, [1, 2], workers=2, label="fit"))
