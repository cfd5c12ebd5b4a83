"""Every result says on what machine it was measured, and whether that was quiet."""

import json
import re
from pathlib import Path

import pytest

import quiet
from quiet import Machine

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STORING = sorted(
    path.stem
    for path in BENCHMARKS.glob("*.py")
    if "\nRESULT = " in path.read_text() and path.stem != "calibrate"
)


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


def test_the_processor_is_named_as_the_kernel_names_it(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(quiet, "_CPUINFO", info)
    assert quiet.cpu_name() == quiet.platform.machine()
    info.write_text("processor\t: 0\nmodel name\t: Abacus 9\n\nprocessor\t: 1\nmodel name\t: B\n")
    assert quiet.cpu_name() == "Abacus 9"


@pytest.mark.parametrize("name", STORING)
def test_every_benchmark_that_stores_looks_at_the_machine_first(name):
    text = (BENCHMARKS / f"{name}.py").read_text()
    main = text[text.index("def main()") :]
    assert 0 < main.index("Machine.now()") < main.index("measure(")
