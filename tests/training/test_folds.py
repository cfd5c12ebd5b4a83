"""Roles of planets: deterministic, disjoint, and refused where too few."""

import numpy as np
import pytest

from spectramind.errors import ArtefactError, DataError
from spectramind.training.folds import FOLDS, assign_folds, read_folds, write_folds

PLANETS = list(range(100, 140))


def make(planets=PLANETS, *, folds=3, calibration_fraction=0.2, seed=1):
    return assign_folds(planets, folds=folds, calibration_fraction=calibration_fraction, seed=seed)


def test_roles_cover_all_planets_once():
    roles = make()
    parts = [roles.calibration, *(roles.out_of_fold(fold) for fold in range(3))]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), PLANETS)
    assert len(roles.calibration) == 8
    assert sorted(len(part) for part in parts[1:]) == [10, 11, 11]


def test_roles_do_not_depend_on_order_but_on_the_seed():
    roles = make()
    np.testing.assert_array_equal(make(PLANETS[::-1]).fold, roles.fold)
    assert (make(seed=2).fold != roles.fold).any()


def test_split_keeps_calibration_and_left_out_planets_away():
    roles = make()
    for fold in range(3):
        training, validation = roles.split(fold, validation_fraction=0.2, seed=5)
        assert not np.intersect1d(training, validation).size
        seen = np.sort(np.concatenate([training, validation]))
        away = np.concatenate([roles.calibration, roles.out_of_fold(fold)])
        np.testing.assert_array_equal(seen, np.setdiff1d(PLANETS, away))
        assert len(validation) == round(0.2 * len(seen))


def test_smallest_set_that_works():
    roles = make(PLANETS[:5], folds=2)
    for fold in range(2):
        training, validation = roles.split(fold, validation_fraction=0.2, seed=0)
        assert (len(training), len(validation)) == (1, 1)


def test_refuses_planets_that_come_twice():
    with pytest.raises(DataError, match=r"training planets: 101 comes more than once\. Remove"):
        make([100, 101, 101])


def test_refuses_an_empty_calibration_set():
    message = (
        r"40 planets with training\.calibration_fraction=0\.01 leave none for calibration\. "
        "Add planets or raise the fraction"
    )
    with pytest.raises(DataError, match=message):
        make(calibration_fraction=0.01)


@pytest.mark.parametrize(("count", "folds"), [(3, 2), (5, 5), (10, 9)])
def test_refuses_too_few_planets(count, folds):
    message = rf"of {count} are left after calibration, too few for training\.folds={folds}"
    with pytest.raises(DataError, match=message):
        make(PLANETS[:count], folds=folds)


def test_roles_survive_the_disk_and_a_damaged_table_is_refused(tmp_path):
    folds = make()
    write_folds(tmp_path / FOLDS, folds)
    back = read_folds(tmp_path / FOLDS)
    np.testing.assert_array_equal(back.planet_ids, folds.planet_ids)
    np.testing.assert_array_equal(back.fold, folds.fold)
    (tmp_path / FOLDS).write_bytes(b"PAR1 and no more")
    with pytest.raises(ArtefactError, match=r"folds\.parquet: is no whole table of folds"):
        read_folds(tmp_path / FOLDS)
