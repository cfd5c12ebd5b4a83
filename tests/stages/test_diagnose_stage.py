"""What the dashboard says of the intervals comes from the run that made them."""

import pytest

from spectramind.config import load
from spectramind.provenance import describe
from spectramind.stages.diagnose import conformal_planets
from spectramind.stages.folders import CALIBRATION
from spectramind.uq.calibration import Calibration


@pytest.mark.parametrize("weights", [None, "other"])
def test_calibration_planets_are_those_behind_the_intervals(tmp_path, weights):
    made_by = describe(
        stage="calibrate-temp", config_hash="", code_hash="", data_hash="", seed=None
    )
    for run, planets in (("own", 7), ("other", 120)):
        calibration = Calibration(1.0, 1.0, 1.0, 40, planets, {})
        calibration.write(tmp_path / run / "calibrate-temp" / CALIBRATION, made_by)
    borrowed = [] if weights is None else [f"weights={tmp_path / weights}"]
    config = load([f"runtime.out={tmp_path / 'own'}", *borrowed])
    assert conformal_planets(config) == (7 if weights is None else 120)
