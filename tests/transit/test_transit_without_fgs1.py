"""Light curves without FGS1 in time bins, as columns, and where their fit begins."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("batman")

from transit_world import default_config, draw_world, make_curves

from spectramind.errors import DataError
from spectramind.transit.columns import make_columns, make_white_columns
from spectramind.transit.priors import first_priors
from spectramind.transit.start import begin_fit, prepare

CONFIG = default_config(bin_s=900.0, scan__starts=1)
WORLD = draw_world(3)
LIMB = np.full((1, 283, 2), 0.2)


def without_fgs1(curves):
    return replace(
        curves,
        fgs1_time_h=np.zeros(0),
        fgs1_e=np.zeros(0, np.float32),
        fgs1_centroid=np.zeros((0, 2), np.float32),
    )


@pytest.fixture(scope="module")
def curves():
    return make_curves(WORLD, factor=90)


@pytest.fixture(scope="module")
def planet(curves):
    return prepare([without_fgs1(curves)], WORLD.table, CONFIG)


def test_bins_are_those_of_airs_alone(planet, curves):
    (visit,), (whole,) = planet.visits, prepare([curves], WORLD.table, CONFIG).visits
    assert (visit.has_fgs1, whole.has_fgs1) == (False, True)
    np.testing.assert_array_equal(visit.airs_time_h, whole.airs_time_h)
    np.testing.assert_array_equal(visit.airs, whole.airs)
    assert visit.electrons[0] == visit.fine_time_h.size == visit.fine_fgs1.size == 0
    assert (visit.fgs1 == 1.0).all()


def test_fgs1_that_holds_no_flux_is_refused_as_before(curves):
    dark = replace(curves, fgs1_e=np.full_like(curves.fgs1_e, np.nan))
    with pytest.raises(DataError, match=r"FGS1: the light curve holds no positive flux"):
        prepare([dark], WORLD.table, CONFIG)


@pytest.mark.parametrize("make", [make_columns, make_white_columns])
def test_the_column_of_fgs1_has_no_weight(planet, make):
    weight = make([planet.visits], LIMB, CONFIG).weight[0, 0]
    assert not weight[0].any()
    assert (weight[1:] > 0.0).all()


def test_its_depth_begins_at_that_of_airs(planet):
    start = begin_fit([planet], first_priors(CONFIG), CONFIG, torch.device("cpu"))
    fgs1, airs = start.solution.depth[0].tolist()
    assert fgs1 == airs == pytest.approx(WORLD.depth[1:].mean(), rel=0.1)
