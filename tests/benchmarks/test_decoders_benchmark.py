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
    small = {"WAVELENGTHS": 12, "HEIGHT": 2.5, "TEST_PLANETS": 100, "SAMPLES": 30}
    for name, value in small.items():
        monkeypatch.setattr(benchmark, name, value)
    result = benchmark.measure(seeds=1, steps=80)
    assert result["gain_over_gaussian_low95"] > 0.0
    scores = {kind: own[0] for kind, own in result["energy_score"].items()}
    assert scores["exact"] < scores["diffusion"] < scores["gaussian"]
