"""The first or last part of a visit is bad: it is left out, and nothing else is."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("batman")

from transit_world import default_config, draw_world, fit_alone, level_error, make_curves

from spectramind.transit.ends import without_bad_ends, without_ends
from spectramind.transit.priors import first_priors
from spectramind.transit.start import begin_fit, prepare

QUICK = {"scan__starts": 1, "bin_s": 300.0, "samples_per_bin": 1, "passes": 6}
CONFIG = default_config(**QUICK)
WHOLE = default_config(**QUICK, ends__parts_h=[])
WORLD = draw_world(1)
LONG_H = 7.5
BAD_H = 40.0 / 60.0


@pytest.fixture(scope="module")
def curves():
    return make_curves(WORLD, factor=90)


@pytest.fixture(scope="module")
def clean(curves):
    return fit_alone([curves], WORLD.table, CONFIG)


def spoiled(curves, gain):
    """Light curves times `gain`, a function of the time [h]."""
    airs, fgs1 = gain(curves.airs_time_h), gain(curves.fgs1_time_h)
    return replace(
        curves,
        airs_e=np.float32(curves.airs_e * airs[:, None]),
        fgs1_e=np.float32(curves.fgs1_e * fgs1),
    )


def dropping(begin_h):
    """5 to 30 % of the light lost, irregularly, for 40 minutes."""
    nodes = np.linspace(0.0, BAD_H, 9)
    share = np.random.default_rng(1).uniform(0.05, 0.3, nodes.size)

    def gain(time_h):
        since = time_h - begin_h
        return np.where(
            (since >= 0.0) & (since < BAD_H), 1.0 - np.interp(since, nodes, share), 1.0
        )

    return gain


def ramp(time_h):
    """2 % lost at first and nothing after 40 minutes."""
    return 1.0 - 0.02 * np.clip(1.0 - time_h / BAD_H, 0.0, 1.0)


FIRST, LAST = dropping(0.0), dropping(LONG_H - BAD_H)


def test_an_end_in_which_light_is_lost_is_left_out(curves, clean):
    """With it the level was off by 15000 ppm, 16 sigma."""
    fit = fit_alone([spoiled(curves, LAST)], WORLD.table, CONFIG)
    assert len(fit.reasons) == 1
    assert re.match(
        r"Visit 0: the last \d+ min were left out, for without bad ends the white light, its "
        r"noise taken for white, has a reduced chi\^2 of 0\.\d in place of \d+\.\d\.",
        fit.reasons[0],
    )
    assert abs(level_error(fit, WORLD.depth)) < 2.0
    assert np.median(fit.sigma / clean.sigma) < 1.3
    assert fit.reduced_chi2 < 1.5


def test_a_ramp_is_left_out_where_noise_in_time_leaves_the_level_wrong(curves, clean):
    bad = spoiled(curves, ramp)
    whole, fit = (fit_alone([bad], WORLD.table, config) for config in (WHOLE, CONFIG))
    error = [np.abs((own.depth - WORLD.depth)[1:].mean()) for own in (whole, fit)]
    assert error[0] > 5.0 * error[1] < 1e-3
    assert np.median(whole.sigma / clean.sigma) > 2.0
    assert np.median(fit.sigma / clean.sigma) < 1.3
    assert abs(level_error(fit, WORLD.depth)) < 2.0


def test_a_clean_planet_is_the_same_to_the_bit(curves, clean):
    same = fit_alone([curves], WORLD.table, WHOLE)
    assert clean.reasons == same.reasons == ()
    np.testing.assert_array_equal(clean.depth, same.depth)
    np.testing.assert_array_equal(clean.covariance, same.covariance)


def test_light_lost_in_the_middle_costs_no_end(curves):
    planet = prepare([spoiled(curves, dropping(1.5))], WORLD.table, CONFIG)
    priors = first_priors(CONFIG)
    (chi2,) = begin_fit([planet], priors, CONFIG, torch.device("cpu")).misfit
    assert chi2 > CONFIG.failure.chi2
    assert without_bad_ends(planet, chi2, priors, CONFIG) is None


def test_each_visit_loses_its_own_bad_end_alone(curves):
    second = make_curves(WORLD, factor=90, visit=1, t0_h=3.9)
    fit = fit_alone([spoiled(curves, ramp), spoiled(second, LAST)], WORLD.table, CONFIG)
    assert [reason[:18] for reason in fit.reasons] == ["Visit 0: the first", "Visit 1: the last "]
    first, second = (visit.time_h for visit in fit.visits)
    assert 0.5 < first[0] < 1.2 < 7.2 < first[-1]
    assert second[0] < 0.3 < 6.2 < second[-1] < 7.1
    assert abs(level_error(fit, WORLD.depth)) < 3.0


@pytest.mark.parametrize("changes", [{"failure__bins": 25}, {"bin_s": 1200.0}])
def test_a_visit_too_short_to_lose_an_end_keeps_it(curves, changes):
    """Too few bins before the transit, or too few at all."""
    config = default_config(**(QUICK | changes))
    planet = prepare([spoiled(curves, FIRST)], WORLD.table, config)
    assert without_bad_ends(planet, 500.0, first_priors(config), config) is None


def test_a_shorter_visit_keeps_what_lies_between_its_ends(curves):
    (visit,) = prepare([curves], WORLD.table, CONFIG).visits
    planet = prepare([curves], WORLD.table, CONFIG)
    (shorter,) = without_ends(planet, np.array([[0.5, 1.0]])).visits
    kept = np.isin(visit.airs_time_h, shorter.airs_time_h)
    edges = visit.airs_time_h[[0, -1]] + 0.5 * visit.width_h * np.array([-1.0, 1.0])
    wanted = (visit.airs_time_h > edges[0] + 0.5) & (visit.airs_time_h < edges[1] - 1.0)
    np.testing.assert_array_equal(kept, wanted)
    for name in ("airs", "airs_white", "fgs1", "fgs1_time_h"):
        np.testing.assert_array_equal(getattr(shorter, name), getattr(visit, name)[kept])
    assert edges[0] + 0.5 < shorter.fine_time_h[0] < edges[0] + 0.51
    assert edges[1] - 1.01 < shorter.fine_time_h[-1] < edges[1] - 1.0
    fine = np.isin(visit.fine_time_h, shorter.fine_time_h)
    np.testing.assert_array_equal(shorter.fine_fgs1, visit.fine_fgs1[fine])
    np.testing.assert_array_equal(shorter.fine_centroid, visit.fine_centroid[fine])
    (untouched,) = without_ends(planet, np.zeros((1, 2))).visits
    np.testing.assert_array_equal(untouched.fine_time_h, visit.fine_time_h)
    np.testing.assert_array_equal(untouched.airs_time_h, visit.airs_time_h)
