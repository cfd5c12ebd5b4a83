"""The debug log in the folder where a command runs."""

import json
import os
import stat

import pytest

from spectramind.cli.log import LOG_EVENTS, LOG_MARKDOWN, append_event
from spectramind.errors import ArtefactError

EVENT = {"time": "t", "command": "fit", "state": "done", "outputs": ["a", "b"], "seed": 1}


def test_log_gets_one_row_and_one_event_per_command(tmp_path, monkeypatch):
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
