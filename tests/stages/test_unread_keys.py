"""Keys that say how to run, not what: they make nothing stale."""

import pytest

from spectramind.config import load
from spectramind.stages import freshness, runner
from spectramind.stages.folders import STAGES, stage_folder
from spectramind.stages.freshness import stage_hash, stages_before, up_to_date
from spectramind.stages.result import Result


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Every stage of a run done, with nothing in it."""
    monkeypatch.setattr(freshness, "data_hash", lambda _: "d")
    monkeypatch.setattr(runner, "_function", lambda _: lambda *_: Result("made", ()))
    config = load([f"runtime.out={tmp_path}"])
    for stage in STAGES:
        runner.run_stage(config, stage, stage_folder(config, stage))
    return tmp_path


@pytest.mark.parametrize(
    "key",
    [
        "runtime.workers=1",
        "runtime.device=cpu",
        "runtime.devices=2",
        "runtime.logger=none",
        "calibration.cache=false",
    ],
)
def test_a_key_that_no_result_depends_on_makes_nothing_stale(run, key):
    one, other = load([f"runtime.out={run}"]), load([f"runtime.out={run}", key])
    assert one != other
    assert [stage_hash(one, stage) for stage in STAGES] == [stage_hash(other, s) for s in STAGES]
    assert all(up_to_date(other, stage) for stage in STAGES)
    assert stages_before(other, "diagnose") == ()


def test_a_key_that_a_result_depends_on_does(run):
    other = load([f"runtime.out={run}", "training.lr=1e-3"])
    assert [stage for stage in STAGES if not up_to_date(other, stage)] == list(STAGES[3:])
