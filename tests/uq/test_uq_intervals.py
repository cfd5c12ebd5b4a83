"""Intervals on disk and the stand-in for planets without a measurement."""

import numpy as np
import pytest
import torch

from spectramind.archive.submission import with_unmeasured
from spectramind.errors import ArtefactError
from spectramind.observation import Labels
from spectramind.posterior import SpectrumPosterior
from spectramind.uq.intervals import read_intervals, write_intervals


def posterior(planets):
    generator = torch.Generator().manual_seed(planets)
    mu = torch.rand(planets, 283, generator=generator, dtype=torch.float64)
    return SpectrumPosterior(mu, 0.1 + 0.1 * mu)


def test_round_trip(tmp_path):
    planets, path = np.array([7, 3, 5]), tmp_path / "intervals.parquet"
    intervals = {
        "Gaussian": {0.68: posterior(3).interval(1.0), 0.9: posterior(3).interval(2.0)},
        "conformal": {0.68: posterior(3).interval(1.1)},
    }
    write_intervals(path, planets, intervals)
    for kind, levels in intervals.items():
        read = read_intervals(path, kind)
        assert list(read) == list(levels)
        for level, (lower, upper) in levels.items():
            assert torch.equal(read[level][0], lower)
            assert torch.equal(read[level][1], upper)


@pytest.mark.parametrize("content", [None, b"not a table"])
def test_missing_or_damaged_table_names_the_command(tmp_path, content):
    path = tmp_path / "intervals.parquet"
    if content is not None:
        path.write_bytes(content)
    said = r"intervals\.parquet: (no|is no whole) table of intervals.* Run `spectramind predict`"
    with pytest.raises(ArtefactError, match=said):
        read_intervals(path, "Gaussian")


def test_unmeasured_planets_get_the_spread_of_the_labels():
    depth = np.random.default_rng(1).uniform(0.01, 0.02, (30, 283))
    labels = Labels(np.arange(30), depth)
    measured = posterior(2)
    planets, complete = with_unmeasured(np.array([9, 4]), measured, [6], labels)
    assert planets.tolist() == [4, 6, 9]
    assert torch.equal(complete.mu[[2, 0]], measured.mu)
    np.testing.assert_allclose(complete.mu[1].numpy(), depth.mean(0))
    np.testing.assert_allclose(complete.sigma[1].numpy(), depth.std(0))


def test_nothing_unmeasured_changes_only_the_order():
    labels = Labels(np.arange(4), np.full((4, 283), 0.01))
    measured = posterior(2)
    planets, complete = with_unmeasured(np.array([4, 9]), measured, [], labels)
    assert planets.tolist() == [4, 9]
    assert torch.equal(complete.sigma, measured.sigma)
