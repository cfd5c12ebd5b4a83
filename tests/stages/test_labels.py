"""Labels that cannot teach a network are refused before anything is calibrated or fitted."""

import polars as pl
import pytest
from tiny_archive import PLANETS, write_2025
from tiny_run import spectramind


@pytest.fixture
def root(tmp_path):
    return write_2025(tmp_path / "archive").root


@pytest.mark.parametrize("command", ["run", "train", "predict"])
def test_too_few_labels_for_the_folds_are_refused_at_once(root, tmp_path, command):
    done = spectramind(tmp_path, command, "data=kaggle", f"data.root={root}", check=False)
    assert done.exit_code == 1
    assert "error: training planets: 2 planets with training.calibration_fraction" in done.stderr
    assert not (tmp_path / "artefacts" / "calibrate").exists()


def test_a_stage_that_trains_nothing_only_says_so(root, tmp_path):
    words = ("data=kaggle", f"data.root={root}", "runtime.workers=1")
    done = spectramind(tmp_path, "calibrate", *words, check=False)
    assert "note: training planets: 2 planets with" in done.stderr
    assert "Until then nothing can be trained." in done.stderr
    assert (tmp_path / "artefacts" / "calibrate").exists()


@pytest.mark.parametrize("command", ["calibrate", "fit", "run"])
@pytest.mark.parametrize(("factor", "unit"), [(1e6, "ppm"), (100.0, "per cent")])
def test_labels_in_another_unit_are_refused_at_once(root, tmp_path, command, factor, unit):
    table = pl.read_csv(root / "train.csv")
    assert table["planet_id"].to_list() == PLANETS["train"]
    table.with_columns(pl.exclude("planet_id") * factor).write_csv(root / "train.csv")
    done = spectramind(tmp_path, command, "data=kaggle", f"data.root={root}", check=False)
    assert done.exit_code == 1
    assert f"so they are in {unit}. Divide depths and errors by" in done.stderr
    assert not list(tmp_path.glob("artefacts/calibrate/*/*/*/*.npy"))
