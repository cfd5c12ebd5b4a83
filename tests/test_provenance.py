"""Where a result comes from."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from spectramind.closure import PACKAGE
from spectramind.provenance import describe, digest, git_state, write_sidecar


def test_digest_ignores_order_and_sees_values():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest([])) == 16


def test_sidecar_carries_provenance_and_facts(tmp_path):
    provenance = describe(stage="fit", config_hash="c", code_hash="k", data_hash="d", seed=3)
    write_sidecar(tmp_path / "s.json", provenance, planets=2)
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["config_hash"] == "c"
    assert found["data_hash"] == "d"
    assert found["planets"] == 2
    assert found["git_sha"] == git_state()[0]
    assert isinstance(found["git_dirty"], bool)


ASK = "from spectramind.provenance import git_state; print(git_state()[0])"


@pytest.fixture
def repository(tmp_path):
    """A repository of somebody, with one commit."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["git", "-C", str(tmp_path), *who, "commit", "-q", "--allow-empty", "-m", "m"]
    subprocess.run(commit, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "ours"),
    [("src", True), ("lib/site-packages", False), ("", False), ("vendor/src", False)],
)
@pytest.mark.parametrize("called_by_git", [False, True])
def test_only_this_project_s_repository_counts(repository, place, ours, called_by_git):
    folder = repository / place / "spectramind"
    folder.mkdir(parents=True)
    for name in ("__init__", "provenance", "artefacts", "files", "errors"):
        shutil.copy(PACKAGE / f"{name}.py", folder)
    hook = {"GIT_DIR": str(repository / ".git"), "GIT_WORK_TREE": str(folder.parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=os.environ | {"PYTHONPATH": str(folder.parent)} | (hook if called_by_git else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (len(done.stdout.strip()) == 40) is ours, done.stdout
    assert ours or done.stdout == "none\n"
