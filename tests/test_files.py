"""Files are whole or not there, and nothing is written through a link that was planted."""

import json
import os
import re
import resource
import secrets
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from spectramind import files
from spectramind.calibrate.cache import LightCurveStore
from spectramind.cli.log import append_event
from spectramind.config import load
from spectramind.errors import WriteError
from spectramind.files import (
    append,
    locked,
    remove_leftovers,
    replacing,
    write_atomic,
    write_parquet,
    write_together,
)
from spectramind.stages import runner

LINK = r"is a link, and nothing is written through one\. Remove it\.$"


@pytest.fixture
def target(tmp_path) -> Path:
    """A file of somebody else, at which links point."""
    path = tmp_path / "somebody" / "precious"
    path.parent.mkdir()
    path.write_text("keep")
    return path


def test_a_file_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_atomic(path, b"old")
    with suppress(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_leaves_the_old_file_when_the_new_one_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"cannot be written \(No space left on device\)\."):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_below_a_file_is_an_error_with_advice(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"point runtime\.out at a folder you may write to"):
        write_atomic(tmp_path / "file" / "below", b"")


def test_a_file_has_the_rights_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_link_at_the_name_of_the_file_is_replaced(tmp_path, target):
    path = tmp_path / "a.txt"
    path.symlink_to(target)
    write_atomic(path, b"mine")
    assert (path.is_symlink(), path.read_bytes()) == (False, b"mine")
    assert target.read_text() == "keep"


@pytest.mark.parametrize("name", [".a.txt.{pid}.tmp", ".a.txt.tmp"])
def test_names_that_can_be_guessed_are_not_used(tmp_path, target, name):
    planted = tmp_path / name.format(pid=os.getpid())
    planted.symlink_to(target)
    write_atomic(tmp_path / "a.txt", b"mine")
    assert target.read_text() == "keep"
    assert planted.is_symlink()


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path, target, monkeypatch):
    """Even if somebody guesses it."""
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
    path = tmp_path / "a.txt"
    link = tmp_path / f".a.txt.{'0' * 16}.tmp"
    for aim in (target, tmp_path / "nowhere"):
        for write in (write_atomic, lambda path, content: write_together({path: content})):
            link.unlink(missing_ok=True)
            link.symlink_to(aim)
            with pytest.raises(WriteError, match=r"a\.txt: cannot be written \(File exists\)"):
                write(path, b"mine")
    assert target.read_text() == "keep"
    assert not (tmp_path / "nowhere").exists()
    assert not path.exists()


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("aim", ["precious", "nothing"])
def test_a_link_in_place_of_a_lock_is_refused(tmp_path, target, wait, aim):
    path = tmp_path / "lock"
    path.symlink_to(target.with_name(aim))
    with pytest.raises(WriteError, match=LINK), locked(path, wait=wait):
        pytest.fail("went through the link")
    assert target.read_text() == "keep"
    assert list(target.parent.iterdir()) == [target]


def test_a_link_in_place_of_a_stage_s_lock_is_refused(tmp_path, target):
    (tmp_path / ".fit.lock").symlink_to(target)
    config = load([f"runtime.out={tmp_path}"])
    with pytest.raises(WriteError, match=rf"\.fit\.lock: {LINK}"):
        runner.run_stage(config, "fit", tmp_path / "fit")
    assert target.read_text() == "keep"


def test_a_link_in_place_of_a_visit_s_lock_is_refused(tmp_path, target):
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "train-5-0").symlink_to(target)
    with pytest.raises(WriteError, match=rf"train-5-0: {LINK}"):
        LightCurveStore(tmp_path).ensure("train", 5, 0, {}, lambda: pytest.fail("went through"))
    assert target.read_text() == "keep"


@pytest.mark.parametrize(
    "name", ["v50_debug_log.md", "v50_debug_log.jsonl", ".v50_debug_log.lock"]
)
def test_a_link_in_place_of_the_log_is_refused(tmp_path, target, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).symlink_to(target)
    with pytest.raises(WriteError, match=rf"{re.escape(name)}: {LINK}"):
        append_event({"command": "fit"})
    assert target.read_text() == "keep"


def test_a_log_has_one_header_and_whole_lines(tmp_path):
    path = tmp_path / "log.md"
    for line in ("one\n", "two\n"):
        append(path, line, header="head\n")
    assert path.read_text() == "head\none\ntwo\n"


HOLDER = """
import sys, time
from pathlib import Path
from spectramind.files import locked
with locked(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_refused_while_it_is_held_and_vanishes_with_the_process(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match="another process holds this lock"):
            locked(path, wait=False).__enter__()
        process.kill()
        process.wait()
    with locked(path, wait=False):
        pass


def test_files_that_belong_together_keep_the_old_ones_on_a_full_disk(tmp_path):
    first, mark = tmp_path / "data", tmp_path / "mark"
    write_together({first: b"old", mark: b"old"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(WriteError, match=r"mark: cannot be written \(File too large\)"):
            write_together({first: b"new", mark: 9000 * b"x"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (first.read_bytes(), mark.read_bytes()) == (b"old", b"old")
    assert sorted(tmp_path.iterdir()) == [first, mark]


def test_the_voucher_goes_before_the_first_file_comes(tmp_path, monkeypatch):
    first, mark = tmp_path / "data", tmp_path / "mark"
    write_together({first: b"old", mark: b"old"})
    steps = []
    replace, to_disk = Path.replace, files._to_disk

    def flushed(path):
        steps.append(("flushed", mark.exists()))
        to_disk(path)

    monkeypatch.setattr(files, "_to_disk", flushed)

    def seen(self, other):
        steps.append((other.name, mark.exists()))
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", seen)
    write_together({first: b"new", mark: b"new"})
    assert steps == [("flushed", True), ("flushed", True), ("data", False), ("mark", False)]
    assert (first.read_bytes(), mark.read_bytes()) == (b"new", b"new")


def test_a_table_on_a_full_disk_is_a_sentence(tmp_path):
    table = pl.DataFrame({"a": np.random.default_rng(0).random(5000)})
    path = tmp_path / "a.parquet"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(WriteError, match=r"a\.parquet: cannot be written \(.*File too large"):
            write_parquet(path, table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    write_parquet(path, table, compression="uncompressed")
    assert pl.read_parquet(path).equals(table)


def test_leftovers_are_those_of_this_module_and_of_the_files_named(tmp_path, monkeypatch):
    with monkeypatch.context() as killed:  # a process that is killed here cleans nothing up
        killed.setattr(Path, "replace", lambda *_: 1 / 0)
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(ZeroDivisionError):
            write_atomic(tmp_path / "deep" / "visit_0.json", b"half")
    (left,) = (tmp_path / "deep").iterdir()
    assert left.name.startswith(".visit_0.json.")
    others = [tmp_path / "deep" / name for name in (".mine.tmp", "visit_0.json", ".x.0123.tmp")]
    for other in others:
        other.write_text("")
    remove_leftovers(tmp_path, "visit_1")
    assert left.exists()
    remove_leftovers(tmp_path, "visit_0.")
    assert sorted((tmp_path / "deep").iterdir()) == sorted(others)
    remove_leftovers(tmp_path / "nowhere", "")


def test_json_ends_with_a_line_and_holds_no_nan(tmp_path):
    from spectramind.files import write_json

    write_json(tmp_path / "a.json", {"a": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()
