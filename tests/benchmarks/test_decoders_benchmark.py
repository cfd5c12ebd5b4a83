"""Where the truth has two modes the diffusion decoder beats the Gaussian heads."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "decoders.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location("decoders_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_diffusion_beats_the_gaussian_head_on_two_modes(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "TEST_PLANETS", 100)
    monkeypatch.setattr(benchmark, "SAMPLES", 50)
    result = benchmark.measure(seeds=1, steps=200)
    assert result["gain_over_gaussian_low95"] > 0.0
    scores = {kind: own[0] for kind, own in result["energy_score"].items()}
    assert scores["exact"] < scores["diffusion"] < scores["gaussian"]
