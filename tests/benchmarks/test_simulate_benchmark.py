"""The benchmark measures a visit in a fresh process."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "simulate.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location("simulate_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_visit_is_measured(benchmark):
    found = benchmark.measure(cadence_factor=225, repeats=1)
    assert 0.0 < found["s_per_visit"] < 60.0
    assert 0.1 < found["peak_gb"] < 2.0


def test_time_is_the_median_and_memory_the_largest(benchmark, monkeypatch):
    runs = iter([(3.0, 0.9), (1.0, 1.2), (2.0, 1.0)])
    monkeypatch.setattr(
        benchmark, "run", lambda _: dict(zip(("seconds", "peak_gb"), next(runs), strict=True))
    )
    found = benchmark.measure(cadence_factor=1, repeats=3)
    assert (found["s_per_visit"], found["peak_gb"]) == (2.0, 1.2)
