import numpy as np
import pytest

from spectramind.instrument import AIRS, FGS1, detector_wavelength_um, to_scored, wavelength_um


def test_detector_axis_falls_and_scored_axis_rises():
    detector = detector_wavelength_um()
    assert detector[0] == pytest.approx(4.07846, abs=1e-5)
    assert detector[-1] == pytest.approx(1.63325, abs=1e-5)
    scored = wavelength_um()
    assert scored.shape == (283,)
    assert np.all(np.diff(scored) > 0)
    assert scored[1] == pytest.approx(1.95176, abs=1e-5)
    assert scored[-1] == pytest.approx(3.89504, abs=1e-5)


def test_crop_flips():
    columns = np.arange(356)
    assert to_scored(columns)[0] == 320
    assert to_scored(columns)[-1] == 39


def test_pairs_and_exposures():
    assert (AIRS.pairs, FGS1.pairs) == (5625, 67500)
    assert pytest.approx(4.5) == AIRS.exposure_s
    assert pytest.approx(0.1) == FGS1.exposure_s
