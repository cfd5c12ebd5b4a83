"""Every result says on what machine it was measured, and whether that was quiet."""

import json
import re
from pathlib import Path

import pytest

import quiet
from quiet import Machine

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STORING = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "\nRESULT = " in path.read_text()
)
TIMED = ("calibrate", "fit", "graph", "predict", "scan", "simulate")  # scores do not need quiet


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (0.5, r"load 0\.50 before the start, \d+ cores \(.+\): quiet\.$"),
        (0.51, r"load 0\.51 .+: above 0\.5, so other programs run and all times come out too lo"),
    ],
)
def test_the_load_is_said_before_the_start(load, said, monkeypatch, capsys):
    monkeypatch.setattr(quiet.os, "getloadavg", lambda: (load, 9.0, 9.0))
    state = Machine.now()
    assert re.match(said, capsys.readouterr().err)
    assert state.quiet is (load <= 0.5)
    assert state.stored()["load_before"] == load


def test_what_is_stored_is_json_and_names_the_machine():
    stored = json.loads(json.dumps(Machine.now().stored()))
    assert {"cores", "cpu", "torch", "numba", "date", "git_sha", "git_dirty"} < set(stored)


@pytest.mark.parametrize("load", [0.5, 0.51])
def test_times_are_stored_only_if_the_machine_was_quiet(load, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quiet.os, "getloadavg", lambda: (load, 9.0, 9.0))
    path = tmp_path / "scan.json"
    Machine.now().store_times(path, {"ms": 1.0})
    said = capsys.readouterr().err.splitlines()[1:]
    if load <= 0.5:
        assert json.loads(path.read_text()) == {"ms": 1.0}
        assert said == []
    else:
        assert not path.exists()
        assert said == [
            "scan.json: the result is printed and not stored, for the load was 0.51, expected at "
            "most 0.5. Measure again on a quiet machine."
        ]


@pytest.mark.parametrize("name", TIMED)
def test_times_are_stored_by_the_machine_alone(name):
    text = (BENCHMARKS / f"{name}.py").read_text()
    assert "state.store_times(RESULT, result)" in text
    assert "write_json(RESULT" not in text


@pytest.mark.parametrize("name", [*TIMED, "ablation"])
def test_stored_times_are_those_of_a_quiet_machine(name):
    """Of the ablation the steps alone."""
    stored = json.loads((BENCHMARKS.parent / "docs" / "results" / f"{name}.json").read_text())
    times = stored["steps"] if name == "ablation" else stored
    assert times.get("load_before", quiet.QUIET + 1.0) <= quiet.QUIET


@pytest.mark.parametrize("name", STORING)
def test_every_benchmark_that_stores_looks_at_the_machine_first(name):
    text = (BENCHMARKS / f"{name}.py").read_text()
    main = text[text.index("def main()") :]
    assert 0 < main.index("Machine.now()") < main.index("measure(")
