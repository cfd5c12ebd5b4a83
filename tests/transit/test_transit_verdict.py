"""Doubt in proportion: sigma grows without steps with what speaks against a fit."""

from dataclasses import replace

import numpy as np
import pytest
from transit_world import default_config

from spectramind.transit.verdict import Findings, widening

CONFIG = default_config().failure


@pytest.fixture
def found(rng):
    series = rng.standard_normal((1, 2, 180))
    return Findings(
        depth=(0.01, 0.01), depth_sigma=(1e-5, 1e-5), mean=(0.01, 1e-5), fixed=np.zeros(9),
        offset_sigma=np.zeros((1, 2)), amplitude_sigma=0.0, change_ppm=0.0,
        white=series, settled=series, inside=np.zeros((1, 2, 180), dtype=bool),
    )  # fmt: skip


def test_nothing_widens_a_clean_fit(found):
    assert max(widening(found, known=True, config=CONFIG)) < 1.25


def test_each_channel_is_widened_by_its_own_residuals(found):
    twice = found.settled.copy()
    twice[:, 0] *= 2.0
    fgs1, airs = widening(replace(found, settled=twice), known=True, config=CONFIG)
    assert fgs1 == pytest.approx(2.0, rel=0.25)
    assert airs < 1.25


def test_correlated_residuals_widen_more_than_their_size(found, rng):
    slow = np.repeat(rng.standard_normal((1, 2, 6)), 30, axis=2)
    fgs1, airs = widening(replace(found, settled=slow), known=True, config=CONFIG)
    assert min(fgs1, airs) > 2.0


@pytest.mark.parametrize("part", ["fixed", "offset_sigma", "amplitude_sigma"])
def test_distance_from_a_prior_widens_both_channels_without_a_step(found, part):
    def factor(distance):
        value = distance if part == "amplitude_sigma" else found.__dict__[part] + distance
        return np.array(widening(replace(found, **{part: value}), known=True, config=CONFIG))

    clean = factor(0.0)
    np.testing.assert_allclose(factor(CONFIG.tolerated_sigma), clean)
    np.testing.assert_allclose(factor(2.0 * CONFIG.tolerated_sigma), 2.0 * clean)
    distances = np.linspace(0.0, 12.0, 200)
    grown = np.array([factor(own)[0] for own in distances])
    assert (np.diff(grown) >= 0.0).all()
    assert np.diff(grown).max() < 0.05


def test_a_star_of_no_table_is_no_evidence(found):
    far = replace(found, fixed=np.full(9, 20.0))
    assert max(widening(far, known=False, config=CONFIG)) < 1.25
