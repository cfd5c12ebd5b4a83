"""A small archive from disk to the store."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from calibration_scenes import make_scene, real_maps, with_keys, write_archive

from spectramind.archive.layout import open_archive
from spectramind.calibrate import chain
from spectramind.calibrate.cache import LightCurveStore
from spectramind.calibrate.chain import calibrate_archive, calibrate_visit
from spectramind.errors import DataError, WriteError
from spectramind.instrument import AIRS, FGS1
from spectramind.provenance import describe


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(4)
    fgs1 = make_scene(FGS1, pairs=24, maps=real_maps(FGS1, rng), noise=True, foreground_e=20.0)
    airs = make_scene(AIRS, pairs=8, maps=real_maps(AIRS, rng), noise=True, foreground_e=20.0)
    write_archive(root, {11: (fgs1, airs), 12: (fgs1, airs)})
    return root


@pytest.fixture
def archive(template, tmp_path):
    """A copy that a test may damage: links for what is only read."""
    root = tmp_path / "archive"
    for path in template.rglob("*"):
        if path.is_file():
            target = root / path.relative_to(template)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    return open_archive(root)


@pytest.fixture(scope="module")
def calibrated(template, config, tmp_path_factory):
    """The store of the undamaged archive."""
    store = tmp_path_factory.mktemp("calibrated")
    assert run(open_archive(template), config, store).done == 2
    return store


@pytest.fixture
def store(calibrated, tmp_path):
    """A copy of that store, as a first run leaves it."""
    return Path(shutil.copytree(calibrated, tmp_path / "store"))


def run(archive, config, store, *, code="k", **keys):
    provenance = describe(
        stage="calibrate", config_hash="abc", code_hash=code, data_hash="d", seed=None
    )
    options = {"splits": ("train",), "workers": 1, **keys}
    return calibrate_archive(archive, config, store=store, provenance=provenance, **options)


def test_visit_is_calibrated(archive, config):
    curves, facts = calibrate_visit(archive, "train", 11, 0, config)
    assert curves.airs_e.shape == (8, 282)
    assert curves.fgs1_centroid.shape == (24, 2)
    # the test star is brighter towards the blue end, column 355, which is scored first
    assert np.all(np.diff(curves.airs_e.mean(0)[::30]) < 0.0)
    assert curves.fgs1_e.mean() == pytest.approx(2.48e5, rel=0.02)
    assert facts["FGS1"]["read_ratio"] == pytest.approx(2.0, abs=0.02)
    assert facts["AIRS-CH0"]["masked"] > 0
    json.dumps(facts, allow_nan=False)


def test_archive_is_calibrated_once(archive, config, tmp_path):
    store = tmp_path / "store"
    first = run(archive, config, store)
    assert (first.done, first.cached, first.failures) == (2, 0, ())
    assert 0.0 < first.masked_fraction < 0.05
    assert LightCurveStore(store).planets("train") == [11, 12]
    assert pl.read_parquet(store / "index.parquet").height == 2
    assert json.loads((store / "provenance.json").read_text())["config_hash"] == "abc"
    again = run(archive, config, store)
    assert (again.done, again.cached) == (0, 2)
    assert again.masked_fraction == first.masked_fraction
    fresh = run(archive, with_keys(config, cache=False), store)
    assert (fresh.done, fresh.cached) == (2, 0)


def test_a_changed_source_file_is_calibrated_again(archive, config, store):
    path = archive.root / "train" / "12" / "FGS1_calibration_0" / "dark.parquet"
    dark = pl.read_parquet(path)
    path.unlink()
    (dark + 1.0).write_parquet(path)
    again = run(archive, config, store)
    assert (again.done, again.cached) == (1, 1)


def test_other_code_calibrates_anew(archive, config, store):
    again = run(archive, config, store, code="changed")
    assert (again.done, again.cached) == (2, 0)


@pytest.mark.parametrize("cache", [True, False])
def test_the_store_holds_what_the_archive_holds(archive, config, store, cache):
    config = with_keys(config, cache=cache)
    store = LightCurveStore(store)
    foreign = replace(store.read("train", 11, 0), planet_id=99)
    store.write("train", foreign, store.facts("train", 11, 0))
    shutil.rmtree(archive.root / "train" / "12")
    run(archive, config, store.folder)
    assert store.planets("train") == [11]
    assert pl.read_parquet(store.folder / "index.parquet")["planet_id"].to_list() == [11]


def test_a_bad_planet_does_not_stop_the_next_one(archive, config, tmp_path):
    damage(archive, "FGS1_signal_0.parquet", None)
    report = run(archive, config, tmp_path / "new")
    assert (report.done, len(report.failures)) == (1, 1)
    assert LightCurveStore(tmp_path / "new").planets("train") == [12]


def damage(archive, name, change):
    path = archive.root / "train" / "11" / name
    if change is None:
        path.unlink()
        return
    table = pl.read_parquet(path)
    path.unlink()
    change(table).write_parquet(path)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("FGS1_signal_0.parquet", None, "is missing"),
        ("FGS1_signal_0.parquet", lambda t: t[:-1], "holds 47 reads, expected an even number"),
        ("FGS1_signal_0.parquet", lambda t: t[:-2], "holds 46 reads"),
        ("AIRS-CH0_signal_0.parquet", lambda t: t[:, :100], "holds 100 columns, expected 11392"),
        ("FGS1_calibration_0/flat.parquet", lambda t: t * float("nan"), "NaN"),
        (
            "AIRS-CH0_calibration_0/dead.parquet",
            lambda t: t.select(pl.all().or_(True)),
            "marks all 11392 pixels as dead",
        ),
    ],
)
def test_a_planet_that_fails_is_named_and_leaves_the_store(
    archive, config, store, name, change, sentence
):
    damage(archive, name, change)
    report = run(archive, config, store)
    assert (report.done, report.cached, len(report.failures)) == (0, 1, 1)
    failure = report.failures[0]
    assert (failure.split, failure.planet_id, failure.visit) == ("train", 11, 0)
    assert sentence in failure.sentence
    assert LightCurveStore(store).planets("train") == [12]


def test_a_store_that_cannot_be_written_ends_the_run(archive, config, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    tried = []
    monkeypatch.setattr(chain, "fingerprint", lambda *_: tried.append(1) or "f")
    with pytest.raises(WriteError, match=r"cannot be written \(Not a directory\)"):
        run(archive, config, tmp_path / "file" / "store")
    assert len(tried) == 1


def test_dark_frames_have_no_star(archive, config):
    damage(archive, "FGS1_signal_0.parquet", lambda t: t.select(pl.all() * 0 + 500))
    with pytest.raises(DataError, match=r"^planet 11, visit 0, FGS1: no pixel is brighter than"):
        calibrate_visit(
            archive, "train", 11, 0, with_keys(config, flat=False, linearity=False, dark=False)
        )


def test_curves_that_are_not_finite_are_refused(archive, config, monkeypatch):
    whole = chain.calibrate_channel

    def broken(frames, maps, settings):
        curves = whole(frames, maps, settings)
        curves.centroid[3] = np.nan
        return curves

    monkeypatch.setattr(chain, "calibrate_channel", broken)
    with pytest.raises(
        DataError,
        match=r"^planet 11, visit 0: 1 of 8 values of the AIRS-CH0 centroid are not finite, "
        r"expected none. The frames show no star or the maps are wrong; fetch both again.$",
    ):
        calibrate_visit(archive, "train", 11, 0, config)
