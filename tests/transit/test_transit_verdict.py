"""Doubt in proportion: sigma grows without steps with what speaks against a fit."""

from dataclasses import replace

import numpy as np
import pytest
from transit_world import default_config

from spectramind.transit.binning import BinnedVisit
from spectramind.transit.verdict import Findings, judge, level_error, lost, widening

CONFIG = default_config().failure


@pytest.fixture
def found(rng):
    series = rng.standard_normal((1, 2, 180))
    return Findings(
        depth=(0.01, 0.01), depth_sigma=(1e-5, 1e-5), mean=(0.01, 1e-5),
        hidden_share=0.0, fixed=np.zeros(9), offset_sigma=np.zeros((1, 2)), prior_sigma=0.0,
        amplitude_sigma=0.0, change_ppm=0.0, white=series,
        inside=np.zeros((1, 2, 180), dtype=bool), sure_bins=50,
    )  # fmt: skip


def visit(*, has_fgs1=True):
    """A visit of which the verdict asks times and which wavelengths hold flux."""
    time, lit = np.linspace(0.0, 7.5, 180), np.ones(282, dtype=bool)
    return BinnedVisit(
        visit=0, airs_time_h=time, fgs1_time_h=time, width_h=0.04, airs=np.ones((180, 282)),
        airs_white=np.ones(180), fgs1=np.ones(180), white_share=lit / 282.0, lit=lit, columns=282,
        electrons=np.append(1e6 * has_fgs1, np.full(282, 1e6)), airs_noise=1e-4,
        fgs1_noise=1e-4 if has_fgs1 else np.inf, fine_time_h=np.zeros(0), fine_fgs1=np.zeros(0),
        fine_centroid=np.zeros((0, 2)),
    )  # fmt: skip


def said(found, *, known=True, **changes):
    visits = [visit(**changes)]
    return judge(found, visits, known=known, config=CONFIG, settled_ppm=5.0)


@pytest.fixture
def sound(found):
    return replace(found, inside=np.broadcast_to(np.arange(180) % 180 < 60, (1, 2, 180)))


def test_an_fgs1_that_was_not_measured_is_no_lost_transit(sound):
    white = sound.white.copy()
    white[:, 0] = np.nan
    dark = replace(sound, depth=(0.01, 0.01), depth_sigma=(1e15, 1e-5), white=white)
    assert said(sound) == ()
    assert said(dark, has_fgs1=False) == ()
    assert any("FGS1: no transit found" in reason for reason in said(dark))
    assert widening(dark, known=True, config=CONFIG)[0] == 1.0


def test_a_weak_dip_beside_a_baseline_that_may_be_none_is_a_guess(sound):
    """A strong one shows by itself where it ends; without baseline nothing was taken for one."""
    short = replace(sound, inside=np.broadcast_to(np.arange(180) < 170, (1, 2, 180)))
    weak = replace(short, mean=(1.6e-4, 3e-5), sure_bins=0)
    (reason,) = said(weak)
    assert "the depth is a guess" in reason
    assert lost(said(weak))
    assert level_error(weak, said(weak), CONFIG) == pytest.approx(CONFIG.depth_scatter, rel=0.01)
    assert said(replace(weak, sure_bins=5)) == ()
    assert said(replace(weak, mean=(1.6e-4, 5e-6))) == ()
    whole = replace(weak, inside=np.ones((1, 2, 180), dtype=bool))
    assert not lost(said(whole))


def test_a_dip_that_noise_explains_is_no_transit(sound):
    reasons = said(replace(sound, mean=(1e-4, 1e-4)))
    assert reasons == ("AIRS-CH0: no transit found, depth 100 +- 100 ppm.",)
    assert lost(reasons)
    assert not lost(said(replace(sound, mean=(3e-4, 1e-4))))


@pytest.mark.parametrize("inside", [3, 177])
def test_without_a_baseline_and_a_star_the_depth_is_a_guess(sound, inside):
    filled = replace(sound, inside=np.broadcast_to(np.arange(180) < inside, (1, 2, 180)))
    assert lost(said(filled, known=False))
    assert not lost(said(filled, known=True))
    assert not lost(said(sound, known=False))


def test_nothing_widens_a_clean_fit(found):
    assert max(widening(found, known=True, config=CONFIG)) < 1.25


def test_each_channel_is_widened_by_its_own_residuals(found):
    twice = found.white.copy()
    twice[:, 0] *= 2.0
    fgs1, airs = widening(replace(found, white=twice), known=True, config=CONFIG)
    assert fgs1 == pytest.approx(2.0, rel=0.25)
    assert airs < 1.25


def test_correlated_residuals_widen_more_than_their_size(found, rng):
    slow = np.repeat(rng.standard_normal((1, 2, 6)), 30, axis=2)
    fgs1, airs = widening(replace(found, white=slow), known=True, config=CONFIG)
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


def test_a_level_that_noise_in_time_hides_is_less_sure(found):
    """In proportion to the share, without a step; all of it beside a lost transit."""
    errors = [
        level_error(replace(found, hidden_share=share), (), CONFIG) for share in (0.0, 0.5, 1.0)
    ]
    most = np.sqrt(CONFIG.hidden_noise) * 1e-5
    assert errors == pytest.approx([0.0, np.sqrt(0.5) * most, most])
    lost = level_error(found, ("FGS1: no transit found, depth 0 +- 1 ppm.",), CONFIG)
    assert lost == pytest.approx(CONFIG.depth_scatter)
