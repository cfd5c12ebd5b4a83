import json
import os
import stat

import pytest

from spectramind.cli.log import LOG_EVENTS, LOG_MARKDOWN, append_event
from spectramind.errors import ArtefactError
from spectramind.files import write_atomic
from spectramind.provenance import describe, digest, git_state, write_sidecar

EVENT = {"time": "t", "command": "fit", "state": "done", "outputs": ["a", "b"], "seed": 1}


def test_digest_ignores_order_and_sees_values():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest([])) == 16


def test_atomic_write_leaves_the_old_file_when_the_new_one_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtefactError, match=r"cannot be written \(No space left on device\)\."):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_below_a_file_is_an_error_with_advice(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match=r"point runtime\.out at a folder you may write to"):
        write_atomic(tmp_path / "file" / "below", b"")


def test_sidecar_carries_provenance_and_facts(tmp_path):
    provenance = describe(stage="fit", config_hash="c", code_hash="k", data_hash="d", seed=3)
    write_sidecar(tmp_path / "s.json", provenance, planets=2)
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["config_hash"] == "c"
    assert found["data_hash"] == "d"
    assert found["planets"] == 2
    assert found["git_sha"] == git_state()[0]
    assert isinstance(found["git_dirty"], bool)


def test_log_gets_one_row_and_one_event_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    append_event(EVENT)
    append_event({**EVENT, "state": "failed: a | b\nc"})
    events = [json.loads(line) for line in LOG_EVENTS.read_text().splitlines()]
    assert [event["state"] for event in events] == ["done", "failed: a | b\nc"]
    rows = [line for line in LOG_MARKDOWN.read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 4  # head, rule, two rows
    assert "failed: a \\| b c" in rows[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_log_in_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(stat.S_IREAD | stat.S_IEXEC)
    with pytest.raises(ArtefactError, match="cannot be written"):
        append_event(EVENT)
