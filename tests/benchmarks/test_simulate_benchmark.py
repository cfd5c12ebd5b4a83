"""The benchmark measures a visit in a fresh process."""

import importlib.util
import json
import os
import resource
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "simulate.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location("simulate_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_visit_is_measured(benchmark, monkeypatch, capsys):
    """Within this process: a fresh one spends seconds on imports."""

    def run(arguments):
        word, code, *sections = arguments
        assert word == "-c"
        monkeypatch.setattr("sys.argv", [word, *sections])
        exec(compile(code, "simulate", "exec"), {})
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(benchmark, "run", run)
    found = benchmark.measure(cadence_factor=1125, repeats=1)
    assert 0.0 < found["s_per_visit"] < 60.0
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    assert found["peak_gb"] == pytest.approx(peak_gb, abs=0.002)


def test_a_visit_is_measured_in_a_fresh_process_of_one_thread(benchmark, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = "import json, os; print('hello'); print(json.dumps("
    code += "{'threads': int(os.environ['OMP_NUM_THREADS']), 'parent': os.getppid()}))"
    assert benchmark.run(["-c", code]) == {"threads": 1, "parent": os.getpid()}


def test_time_is_the_median_and_memory_the_largest(benchmark, monkeypatch):
    runs = iter([(3.0, 0.9), (1.0, 1.2), (2.0, 1.0)])
    monkeypatch.setattr(
        benchmark, "run", lambda _: dict(zip(("seconds", "peak_gb"), next(runs), strict=True))
    )
    found = benchmark.measure(cadence_factor=1, repeats=3)
    assert (found["s_per_visit"], found["peak_gb"]) == (2.0, 1.2)
