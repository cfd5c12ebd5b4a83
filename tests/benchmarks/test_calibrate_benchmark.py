"""The benchmark measures both chains alike."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "calibrate.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location("calibrate_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_chains_run_in_turn_and_equally_often(benchmark, monkeypatch):
    results = {"fused": [3.0, 1.0, 2.0], "hosts": [60.0, 80.0, 70.0]}
    order = []

    def run(arguments):
        order.append(arguments[0])
        seconds = results[arguments[0]][(len(order) - 1) // 2]
        return {"seconds": seconds, "peak_gb": seconds / 10.0}

    monkeypatch.setattr(benchmark, "run", run)
    fused, hosts = benchmark.compare(["fused"], ["hosts"], 3)
    assert order == 3 * ["fused", "hosts"]
    assert fused == {"seconds": 2.0, "peak_gb": 0.3}
    assert hosts == {"seconds": 70.0, "peak_gb": 8.0}
