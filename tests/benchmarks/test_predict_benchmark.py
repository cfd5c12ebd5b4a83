"""The benchmark of the prediction runs the command itself and accounts for its time."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "predict.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("predict_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_few_planets_are_predicted_and_timed(benchmark, tmp_path):
    found = benchmark.measure(tmp_path, 6)
    assert (found["planets"], found["members"]) == (6, 5)
    assert sum(found["parts_s"].values()) == pytest.approx(60 * found["minutes"], abs=0.1)
    assert min(found["parts_s"].values()) >= 0.0
    for part in ("reading fits", "features", "network FGS1", "network AIRS", "writing"):
        assert found["parts_s"][part] > 0.0, part
    assert "predict, 6 planets, 5 members" in benchmark.table(found | {"date": "2026-01-02"})


def test_rows_are_repeated_under_the_new_numbers(benchmark, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("planet_id,value\n3,0.5\n9,0.25\n")
    benchmark.multiply(path, [3, 9, 10, 11, 12], [3, 9])
    assert path.read_text() == "planet_id,value\n3,0.5\n9,0.25\n10,0.5\n11,0.25\n12,0.5\n"
