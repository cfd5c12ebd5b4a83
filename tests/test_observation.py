"""The nouns that travel: labels of chosen planets."""

import numpy as np
import pytest

from spectramind.errors import DataError
from spectramind.observation import Labels, named

LABELS = Labels(np.array([9, 4, 7]), np.arange(3 * 283, dtype=np.float64).reshape(3, 283))


def test_labels_of_planets_come_in_the_order_asked_for():
    own = LABELS.of(np.array([7, 9]))
    assert own.planet_ids.tolist() == [7, 9]
    assert np.array_equal(own.depth, LABELS.depth[[2, 0]])
    assert LABELS.of([]).depth.shape == (0, 283)


def test_missing_labels_name_the_planets_and_how_many():
    message = (
        r"labels: no true spectrum of planets 5, 6 \(2 of 3 planets\)\. Add them to the table"
    )
    with pytest.raises(DataError, match=message):
        LABELS.of([5, 9, 6])


def test_labels_by_planet():
    assert list(LABELS.by_planet()) == [9, 4, 7]
    assert np.array_equal(LABELS.by_planet()[4], LABELS.depth[1])


@pytest.mark.parametrize(
    ("planets", "words"),
    [
        ([5], "planet 5"),
        ([5, 6], "planets 5, 6"),
        (list(range(7)), "planets 0, 1, 2, 3, 4 and 2 more"),
    ],
)
def test_planets_are_named_in_a_sentence(planets, words):
    assert named(planets) == words
