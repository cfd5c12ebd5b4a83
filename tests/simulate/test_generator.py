import numpy as np
import pytest
from scipy import stats

from spectramind.simulate.generator import fill

N = 200_000


def draws(kind, mean=0.0, seed=7, count=N):
    values = np.empty(count)
    fill(kind, np.uint64(seed), values, mean)
    return values


def test_uniform_and_normal_follow_their_laws():
    assert stats.kstest(draws(0), "uniform").pvalue > 1e-3
    assert stats.kstest(draws(1), "norm").pvalue > 1e-3


def test_the_tail_of_the_normal_is_as_heavy_as_it_should_be():
    beyond = np.sum(abs(draws(1, count=2_000_000)) > 3.6)
    expected = 2 * stats.norm.sf(3.6) * 2_000_000
    assert abs(beyond - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("mean", [0.0, 0.3, 7.0, 49.0, 51.0, 4000.0])
def test_poisson_has_equal_mean_and_variance(mean):
    values = draws(2, mean)
    assert values.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / N))
    assert values.var() == pytest.approx(mean, rel=0.02, abs=1e-12)


def test_small_poisson_counts_have_the_exact_probabilities():
    found = np.bincount(draws(2, 2.0).astype(int), minlength=30)[:8]
    expected = N * stats.poisson.pmf(np.arange(8), 2.0)
    assert np.all(abs(found - expected) < 5 * np.sqrt(expected))


def test_streams_of_neighbouring_seeds_are_uncorrelated():
    correlation = np.corrcoef(draws(1, seed=1), draws(1, seed=2))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(N)
    np.testing.assert_array_equal(draws(1, seed=3), draws(1, seed=3))
