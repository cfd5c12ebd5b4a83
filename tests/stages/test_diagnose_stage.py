"""What the dashboard says of intervals and scores, and when a score would say nothing."""

import pytest
from tiny_archive import write_spectra_csv

from spectramind.config import load
from spectramind.errors import ArtefactError, DataError
from spectramind.provenance import describe
from spectramind.stages.diagnose import conformal_planets, diagnose
from spectramind.stages.folders import CALIBRATION
from spectramind.stages.train import train
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


@pytest.mark.parametrize("stage", [train, diagnose])
def test_a_score_against_a_handful_of_labels_is_refused_before_anything_is_read(
    tmp_path, write_archive, stage
):
    config = load([f"runtime.out={tmp_path}", f"data.root={tmp_path}"])
    write_archive(tmp_path)
    made_by = describe(stage="train", config_hash="", code_hash="", data_hash="", seed=None)
    write_spectra_csv(tmp_path / "train.csv", list(range(19)))
    with pytest.raises(DataError, match="labels of 19 planets: too few for the naive guess"):
        stage(config, tmp_path / "new", made_by)
    write_spectra_csv(tmp_path / "train.csv", list(range(20)))
    with pytest.raises(ArtefactError, match="holds no transit fit"):
        stage(config, tmp_path / "new", made_by)
