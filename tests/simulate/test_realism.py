"""A small sample stays within the ranges that benchmarks/realism.py states."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def realism():
    spec = importlib.util.spec_from_file_location("realism", ROOT / "benchmarks" / "realism.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["realism"] = module  # its dataclass looks its module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["realism"]


def outside(realism, found, slack):
    """Rows whose value leaves the accepted range, widened by a share of the real value."""
    return [
        (row.key, row.low, found[row.key], row.high)
        for row in realism.ROWS
        if row.low is not None
        and not row.low - slack * row.real <= found[row.key] <= row.high + slack * row.real
    ]


def test_a_small_sample_resembles_the_challenge(realism):
    # 200 planets: medians scatter by 1.25 / sqrt(200) = 9 % of a standard deviation.
    assert outside(realism, realism.measure(200), slack=0.06) == []


def test_the_committed_table_is_within_its_ranges(realism):
    stored = json.loads((ROOT / "docs" / "results" / "realism.json").read_bytes())
    assert stored["planets"] == realism.FULL
    assert outside(realism, stored, slack=0.0) == []
    assert "NO" not in realism.table(stored)


def test_the_mean_and_spread_of_2024_are_listed_without_a_range(realism):
    """Numbers of all 673 labelled planets of 2024."""
    listed = {(row.key, row.real, row.low) for row in realism.ROWS}
    assert {("label_mean_ppm", 2552, None), ("label_std_ppm", 1724, None)} <= listed


def test_a_wrong_population_is_noticed(realism):
    stored = json.loads((ROOT / "docs" / "results" / "realism.json").read_bytes())
    stored["label_mean_ppm"] /= 2
    assert [key for key, *_ in outside(realism, stored, slack=0.06)] == ["label_mean_ppm"]
