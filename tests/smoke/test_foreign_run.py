"""Light curves of other pipelines from netCDF files to the dashboard."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import xarray as xr
from tiny_run import TINY, spectramind

pytest.importorskip("batman")

from foreign_files import write_file, write_labels, write_stars
from transit_world import draw_world, make_curves

from spectramind.observation import NOT_MEASURED

WORLDS = {planet: draw_world(planet) for planet in range(1, 10)}
LABELLED = range(1, 8)
WITHOUT_FGS1 = (3, 8)
WORDS = (
    *TINY, "data=lightcurves", "data.root=curves", "transit.bin_s=900", "transit.scan.starts=1",
)  # fmt: skip
BORROWED = (*WORDS, "weights=pretrained", "prior=pretrained")


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Nine planets, the last one of an unknown star; two of them without FGS1."""
    folder = tmp_path_factory.mktemp("foreign") / "curves"
    folder.mkdir()
    for planet, world in WORLDS.items():
        curves = make_curves(world, factor=90)
        write_file(folder, planet, curves, fgs1=planet not in WITHOUT_FGS1)
    write_stars(folder, {planet: WORLDS[planet] for planet in range(1, 9)})
    return folder


def test_with_labels_all_stages_run(curves, tmp_path):
    shutil.copytree(curves, tmp_path / "curves")
    write_labels(tmp_path / "curves/labels.csv", WORLDS, LABELLED)
    done = spectramind(tmp_path, "run", *WORDS)
    assert "5 training planets, out of fold" in done.stdout
    made = tmp_path / "artefacts"
    table = pl.read_csv(made / "predict/submission.csv")
    assert table["planet_id"].to_list() == [8, 9]
    with xr.open_dataset(made / "predict/spectra.nc", engine="h5netcdf") as found:
        assert found["planet"].values.tolist() == [8, 9]
        depth = table.select(pl.selectors.starts_with("wl_")).to_numpy()
        np.testing.assert_allclose(found["depth"], depth, rtol=1e-12)
    with xr.open_dataset(made / "fit/spectra.nc", engine="h5netcdf") as found:
        assert sorted(found["planet"].values.tolist()) == list(WORLDS)
    assert json.loads((made / "diagnose-metrics.json").read_text())["planets"] == 5


@pytest.fixture(scope="module")
def borrowed(curves, tmp_path_factory):
    """Planets 7 to 9 without labels by the network and the priors that ship; 9 is damaged."""
    run = tmp_path_factory.mktemp("borrowed")
    (run / "curves").mkdir()
    for planet in (7, 8):
        shutil.copy(curves / f"{planet}_0.nc", run / "curves")
    (run / "curves/9_0.nc").write_bytes(b"torn")
    done = spectramind(run, "run", *BORROWED)
    return run, done


def test_without_labels_nothing_is_trained_and_nothing_scored(borrowed):
    run, done = borrowed
    made = run / "artefacts"
    stages = {path.parent.name for path in made.glob("*/stage.json")}
    assert stages == {"calibrate", "fit", "predict", "diagnose"}
    assert "2 predicted planets, none of which can be scored" in done.stdout
    shown = json.loads((made / "diagnose/dashboard.json").read_text())
    assert shown["judged"] is None
    assert "1 of 283 wavelengths were not measured, FGS1" in str(shown["figures"])


def test_a_planet_without_a_fit_or_labels_has_no_spectrum_and_is_named(borrowed):
    run, done = borrowed
    assert "9_0.nc: cannot be read as netCDF-4" in done.stderr
    assert "test: planet 9 not measured: there is no fit, so no spectrum is written" in done.stderr
    table = pl.read_csv(run / "artefacts/predict/submission.csv")
    assert table["planet_id"].to_list() == [7, 8]
    facts = json.loads((run / "artefacts/predict/stage.json").read_text())["facts"]
    assert facts["reasons"]["9"] == [NOT_MEASURED]


def test_inspect_says_what_was_not_measured(borrowed):
    run, _ = borrowed
    without, whole = (spectramind(run, "inspect", p, *BORROWED).stdout for p in ("8", "7"))
    assert ", not measured: it follows from the prior" in without
    assert "visit 0 fgs1" not in without
    assert "not measured" not in whole
    assert "from 282 wavelengths" in whole


def test_single_stages_take_up_what_the_run_left(borrowed):
    run, _ = borrowed
    done = spectramind(run, "diagnose", "dashboard", *BORROWED)
    assert "missing or stale" not in done.stderr


def test_truth_beside_the_light_curves_is_scored(borrowed, tmp_path):
    run = shutil.copytree(borrowed[0], tmp_path / "run")
    write_labels(run / "curves/truth/test.csv", WORLDS, (7, 8))
    done = spectramind(run, "diagnose", "dashboard", *BORROWED)
    assert "(2025 metric) on 2 held-out planets" in done.stdout


def test_an_archive_whose_planets_all_have_labels_has_none_to_predict(curves, tmp_path):
    shutil.copytree(curves, tmp_path / "curves")
    write_labels(tmp_path / "curves/labels.csv", WORLDS, WORLDS)
    done = spectramind(tmp_path, "predict", *WORDS, check=False)
    assert done.exit_code == 1
    assert "curves: holds no planet to predict." in done.stderr
    assert not (tmp_path / "artefacts").exists()
