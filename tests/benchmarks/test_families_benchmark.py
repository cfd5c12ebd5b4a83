"""Worlds of other code: what is written is what their labels say, wavelength by wavelength."""

import numpy as np
import pytest

pytest.importorskip("batman")

import families
from families import write_world
from spectramind.archive.foreign import open_foreign
from spectramind.instrument import wavelength_um

BAND = 140  # column with a depth of its own


@pytest.fixture
def world(tmp_path, monkeypatch):
    depth = np.full(283, 0.01)
    depth[BAND] = 0.04
    monkeypatch.setattr(families, "draw_spectra", lambda count, _: np.tile(depth, (count, 1)))
    (planet,), truth = write_world("own law", tmp_path / "world", labelled=0, test=1, seed=1)
    return open_foreign(tmp_path / "world").light_curves(planet, 0), truth


def test_every_scored_wavelength_has_light(world):
    curves, truth = world
    assert truth.shape == (1, 283)
    assert np.isfinite(curves.airs_e).all()
    assert np.isfinite(curves.fgs1_e).all()


def test_a_band_lies_at_the_wavelength_of_its_label(world):
    """A transit four times as deep as elsewhere shows in the column of the label alone."""
    curves, _ = world
    white = curves.airs_e.mean(1)
    inside = white < np.quantile(white, 0.1)
    outside = white > np.quantile(white, 0.6)
    dip = 1.0 - curves.airs_e[inside].mean(0) / curves.airs_e[outside].mean(0)
    assert int(np.argmax(dip)) + 1 == BAND
    assert dip[BAND - 1] > 3.0 * np.median(dip)


def test_labels_of_2024_are_given_at_the_scored_wavelengths():
    table = families.LABELS_2024.with_name("wavelengths.csv")
    if not table.is_file():
        pytest.skip("the tables of 2024 are not here")
    given = np.loadtxt(table, delimiter=",", skiprows=1)
    np.testing.assert_allclose(given[1:], wavelength_um()[1:], rtol=1e-6)
