"""Conformal quantiles: exact rank, a foreign judge, and coverage over planets."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from spectramind.errors import ConfigError, DataError
from spectramind.posterior import SpectrumPosterior
from spectramind.uq.conformal import conformal_half_widths, conformal_rank, planets_needed


def planets_like(score):
    zero = torch.zeros_like(score)
    return SpectrumPosterior(zero, torch.ones_like(score)), score


def normal(planets, wavelengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(planets, wavelengths, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("planets", "level", "rank"),
    [(9, 0.9, 9), (19, 0.9, 18), (19, 0.95, 19), (24, 0.68, 17), (99, 0.07, 7), (199, 0.9, 180)],
)
def test_rank_is_exact(planets, level, rank):
    assert conformal_rank(planets, level) == rank
    score = torch.arange(1.0, planets + 1, dtype=torch.float64)[:, None].expand(-1, 3)
    assert conformal_half_widths(*planets_like(score), level).tolist() == [rank] * 3


@given(st.integers(1, 999))
def test_planets_needed_is_where_the_rank_fits(thousandths):
    level = thousandths / 1000
    needed = planets_needed(level)
    assert conformal_rank(needed, level) <= needed
    assert needed == 0 or conformal_rank(needed - 1, level) > needed - 1


def test_order_of_planets_and_sign_do_not_matter():
    z = normal(31, 283)
    shuffled = -z[torch.randperm(31, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(
        conformal_half_widths(*planets_like(z), 0.9),
        conformal_half_widths(*planets_like(shuffled), 0.9),
    )


def test_scale_of_sigma_cancels_in_the_interval():
    posterior, depth = planets_like(normal(40, 5))
    narrow = posterior.scaled(0.25)
    wide = posterior.interval(conformal_half_widths(posterior, depth, 0.9))
    same = narrow.interval(conformal_half_widths(narrow, depth, 0.9))
    torch.testing.assert_close(wide, same)


def test_half_width_grows_with_the_level():
    posterior, depth = planets_like(normal(199, 283))
    widths = [conformal_half_widths(posterior, depth, level) for level in (0.5, 0.68, 0.9, 0.95)]
    for lower, upper in itertools.pairwise(widths):
        assert torch.all(upper >= lower)


@pytest.mark.parametrize("level", [0.68, 0.9])
def test_agrees_with_mapie(level):
    regression = pytest.importorskip("mapie.regression")
    from sklearn.dummy import DummyRegressor

    z = normal(57, 4).numpy()
    ours = conformal_half_widths(*planets_like(torch.from_numpy(z)), level).numpy()
    features = np.zeros((len(z), 1))
    state = np.random.get_state()  # noqa: NPY002 - MAPIE draws from the global generator
    for wavelength in range(z.shape[1]):
        zero = DummyRegressor(strategy="constant", constant=0.0).fit(features, z[:, wavelength])
        judge = regression.SplitConformalRegressor(zero, confidence_level=level, prefit=True)
        judge.conformalize(features, z[:, wavelength])
        _, interval = judge.predict_interval(features[:1])
        assert interval[0, 1, 0] == pytest.approx(ours[wavelength], rel=1e-12)
    np.random.set_state(state)  # noqa: NPY002


def test_coverage_on_exchangeable_draws_of_planets():
    """Heavy tails shared within a planet: coverage holds at each wavelength, n = planets."""
    level, planets, repeats = 0.9, 19, 1500
    generator = np.random.default_rng(7)
    tail = generator.standard_t(3, size=(repeats, planets + 1, 1))
    z = torch.from_numpy(tail * (1 + 0.5 * generator.random((repeats, planets + 1, 3))))
    covered = np.zeros(3)
    for draw in z:
        half_width = conformal_half_widths(*planets_like(draw[:-1]), level)
        covered += (draw[-1].abs() <= half_width).numpy()
    low, high = binom.ppf([0.0005, 0.9995], repeats, level)  # rank 18 of 20: exactly 0.9
    assert np.all((covered >= low) & (covered <= high))


def test_refuses_too_few_planets():
    posterior, depth = planets_like(normal(8, 283))
    with pytest.raises(
        ConfigError,
        match=r"uq\.levels: a conformal interval at level 0\.9 needs at least 9 calibration "
        r"planets, got 8\. Raise training\.calibration_fraction, train on more planets, or take "
        r"the level out of uq\.levels\.",
    ):
        conformal_half_widths(posterior, depth, 0.9)


def test_refuses_scores_that_are_not_finite():
    z = normal(12, 283)
    z[4, 0] = torch.nan
    with pytest.raises(
        DataError,
        match=r"conformal: calibration planet in row 4 \(of 1 such rows\) has a \|depth - mu\| / "
        r"sigma that is not finite\. Look for NaN or zero sigma in the spectra",
    ):
        conformal_half_widths(*planets_like(z), 0.9)
