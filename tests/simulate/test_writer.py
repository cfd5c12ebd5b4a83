import hashlib
import json
from pathlib import Path
from shutil import copytree

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from spectramind.archive.layout import open_archive
from spectramind.calibrate.cache import LightCurveStore
from spectramind.errors import ArtefactError
from spectramind.instrument import AIRS, FGS1

SMALL = {"train_planets": 2, "test_planets": 1, "cadence_factor": 1125, "two_visit_fraction": 0.5}


def hashes(root, pattern):
    return {
        path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob(pattern))
    }


@pytest.fixture(scope="module")
def archive_root(tmp_path_factory, write_archive):
    root = tmp_path_factory.mktemp("archive") / "sim"
    report = write_archive(root, **SMALL)
    assert (report.planets, report.reused) == (3, 0)
    return root


def test_the_layout_is_that_of_2025(archive_root):
    archive = open_archive(archive_root)
    assert archive.year == 2025
    for split, count in (("train", 2), ("test", 1)):
        assert len(archive.planets(split)) == count
        assert archive.problems(split) == []
    planet = archive.planets("train")[0]
    assert archive.stars("train")[planet].eccentricity == 0.0
    assert archive.read_s(AIRS) == pytest.approx((0.1, 4.6))
    assert len(archive.time_h(AIRS)) == AIRS.pairs // 1125
    for channel in (FGS1, AIRS):
        signal = archive_root / "train" / str(planet) / f"{channel.name}_signal_0.parquet"
        schema = pl.read_parquet_schema(signal)
        assert list(schema)[:2] == ["column_0", "column_1"]
        assert len(schema) == channel.pixels
        assert set(schema.values()) == {pl.UInt16()}
    labels = pl.read_csv(archive_root / "train.csv")
    assert labels.shape == (2, 284)
    assert pl.read_csv(archive_root / "sample_submission.csv").shape == (1, 567)
    assert pl.read_csv(archive_root / "truth" / "test.csv").columns == labels.columns


def test_truth_is_beside_every_planet(archive_root):
    labels = open_archive(archive_root).labels()
    for planet, depth in zip(labels.planet_ids, labels.depth, strict=True):
        truth = json.loads((archive_root / "truth" / "train" / f"{planet}.json").read_bytes())
        np.testing.assert_array_equal(truth["depth"], depth)
        assert len(truth["visits"]) == truth["planet"]["visits"]
        assert set(truth["visits"][0]["cosmic_ray_hits"]) == {"FGS1", "AIRS-CH0"}
        with np.load(
            archive_root / "truth" / "train" / f"{planet}_0.npz", allow_pickle=False
        ) as series:
            assert series["FGS1_modes"].shape == (6, FGS1.pairs // 1125)
            assert series["AIRS-CH0_transit"].shape == (AIRS.pairs // 1125, 282)


def test_a_second_run_keeps_everything_and_a_lost_file_comes_back(archive_root, write_archive):
    before = hashes(archive_root, "t*/**/*.*")
    assert write_archive(archive_root, **SMALL).reused == 3
    lost = next(archive_root.glob("test/*/FGS1_signal_0.parquet"))
    lost.unlink()
    assert write_archive(archive_root, **SMALL).reused == 2
    assert hashes(archive_root, "t*/**/*.*") == before


def test_a_planet_does_not_depend_on_how_many_there_are(archive_root, write_archive, tmp_path):
    fewer = SMALL | {"train_planets": 1, "test_planets": 0}
    write_archive(tmp_path / "one", **fewer)
    alone = hashes(tmp_path / "one", "train/**/*.parquet")
    assert alone.items() <= hashes(archive_root, "train/**/*.parquet").items()


def test_other_settings_in_the_folder_are_refused(archive_root, write_archive):
    sentence = "holds an archive of other settings .* Remove the folder or point data.root at"
    with pytest.raises(ArtefactError, match=sentence):
        write_archive(archive_root, **(SMALL | {"seed": 51}))
    with pytest.raises(ArtefactError, match=r"holds an archive of more planets .*2 \+ 1 planets"):
        write_archive(archive_root, **(SMALL | {"train_planets": 1}))


def test_an_archive_made_by_other_code_is_refused(archive_root, write_archive):
    with pytest.raises(
        ArtefactError, match=r"made by other code of the simulator \(hash .*Remove"
    ):
        write_archive(archive_root, code="changed", **SMALL)


def test_a_foreign_archive_is_refused(tmp_path, write_archive):
    (tmp_path / "train.csv").write_text("planet_id\n")
    with pytest.raises(ArtefactError, match=r"did not write \(no simulation.json\). Point data"):
        write_archive(tmp_path, **SMALL)


def test_a_planet_with_a_damaged_mark_is_simulated_again(archive_root, tmp_path, write_archive):
    root = Path(copytree(archive_root, tmp_path / "sim"))
    mark = next(root.glob("truth/train/*.json"))
    whole = mark.read_bytes()
    mark.write_text("{")
    report = write_archive(root, **SMALL)
    assert report.planets - report.reused == 1
    assert mark.read_bytes() == whole


def test_an_archive_with_a_damaged_mark_is_named(archive_root, tmp_path, write_archive):
    root = Path(copytree(archive_root, tmp_path / "sim"))
    (root / "simulation.json").write_text("[]")
    with pytest.raises(ArtefactError, match=r"simulation.json: is no .* Remove the folder .*sim"):
        write_archive(root, **SMALL)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, write_archive):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ArtefactError, match="cannot be written"):
        write_archive(blocked / "sim", **SMALL)


def test_light_curves_without_frames(tmp_path, write_archive):
    changes = SMALL | {"cadence_factor": 225, "effects": {"bad_edge_frames": False}}
    assert write_archive(tmp_path, level="lightcurves", **changes).planets == 3
    assert write_archive(tmp_path, level="lightcurves", **changes).reused == 3
    store = LightCurveStore(tmp_path / "lightcurves")
    archive = open_archive(tmp_path)
    planet = archive.planets("train")[0]
    curves = store.read("train", planet, 0)
    assert curves.airs_e.shape == (25, 282)
    assert curves.fgs1_e.shape == (300,)
    with np.load(tmp_path / "truth" / "train" / f"{planet}_0.npz") as series:
        ratio = curves.fgs1_e / series["FGS1_transit"][:, 0]
        drift = np.polynomial.Polynomial.fit(curves.fgs1_time_h, ratio, 5)
    scatter = (ratio / drift(curves.fgs1_time_h) - 1).std()
    # Photons and two reads of 24 x 24 pixels, 225 pairs merged.
    expected = np.sqrt(ratio.mean() + 2 * 576 * 13.1**2) / ratio.mean() / 15
    assert scatter == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("factor", [2, 7, 5625])
def test_exposures_merge_in_whole_numbers(factor, make_settings):
    sentence = rf"simulate.cadence_factor is {factor}, expected a divisor of 5625 below it"
    with pytest.raises(ValidationError, match=sentence):
        make_settings(cadence_factor=factor)


def test_a_range_goes_from_small_to_large(make_settings):
    with pytest.raises(
        ValidationError, match=r"depth_range is \[0.09, 0.01\], expected the small"
    ):
        make_settings(population={"depth_range": (0.09, 0.01)})
