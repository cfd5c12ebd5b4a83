"""What archives of users look like: each quirk is read, or costs one planet that is named."""

import gzip
import re
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from tiny_archive import PLANETS, WL, maps_of, own_copy, reads_of, write_spectra_csv

from spectramind.archive.fingerprint import archive_hash
from spectramind.archive.foreign import open_foreign
from spectramind.archive.layout import Archive, open_archive
from spectramind.archive.opening import stars_of
from spectramind.archive.submission import read_submission, validate_submission, write_submission
from spectramind.archive.tables import planet_ids, read_labels, read_table
from spectramind.errors import DataError
from spectramind.instrument import AIRS, FGS1
from spectramind.posterior import SpectrumPosterior

FIRST, SECOND = PLANETS["train"]
(TEST,) = PLANETS["test"]
LARGE = 2**53 + 1  # not a float64
TABLES = ("train.csv", "train_star_info.csv", "test_star_info.csv", "adc_info.csv")
STAR = "1.2,1.1,5800.0,0.9,0.0,5.2,10.5,88.5"
HEADER = "planet_id,Rs,Ms,Ts,Mp,e,P,sma,i\n"


@pytest.fixture
def own(archive_2025, tmp_path) -> Archive:
    """A copy of the 2025 archive of which a test may change folders, tables and one planet."""
    target = tmp_path / "own"
    return open_archive(own_copy(archive_2025, target, f"train/{FIRST}", *TABLES))


def _posterior(count: int = 2) -> SpectrumPosterior:
    return SpectrumPosterior(
        torch.full((count, 283), 0.01).double(), torch.full((count, 283), 1e-4).double()
    )


# Identifiers


def test_identifiers_beyond_float64_stay_what_they_are_everywhere(own, tmp_path):
    (own.root / "train" / str(FIRST)).rename(own.root / "train" / str(LARGE))
    (own.root / "train_star_info.csv").write_text(f"{HEADER}{LARGE}.0,{STAR}\n{SECOND},{STAR}\n")
    write_spectra_csv(own.root / "train.csv", [LARGE, SECOND])
    (own.root / "sample_submission.csv").write_text(f"planet_id\n{LARGE}\n")
    assert own.planets("train") == own.listed("train") == [SECOND, LARGE]
    assert own.labels().planet_ids.tolist() == [LARGE, SECOND]
    assert own.sample_planets() == [LARGE]
    assert set(own.stars("train")) == {LARGE, SECOND}
    assert own.problems("train") == []
    write_submission(tmp_path / "s.csv", [LARGE, LARGE + 1], _posterior())
    assert read_submission(tmp_path / "s.csv")[0].tolist() == [LARGE, LARGE + 1]
    (tmp_path / f"{LARGE}_0.nc").write_bytes(b"")
    assert open_foreign(tmp_path).planets("test") == [LARGE]


def test_a_float_that_may_be_several_planets_is_refused(tmp_path):
    path = tmp_path / "s.parquet"
    pl.DataFrame({"planet_id": [7.0, 2.0**53 + 2]}).write_parquet(path)
    with pytest.raises(DataError, match=r"no whole number of 64 bits: 9007199254740994\.0\. Mend"):
        planet_ids(read_table(path), path)


# One bad cell, row, file or link loses one planet


@pytest.mark.parametrize("cell", ["", "NA", "nan", "hot", "0", "-1.2", "1e9", "inf"])
@pytest.mark.parametrize("column", range(8))
def test_one_bad_cell_of_a_star_loses_that_star_alone(own, cell, column):
    if cell == "0" and column == 4:  # an eccentricity may be zero
        pytest.skip()
    cells = STAR.split(",")
    cells[column] = cell
    name = HEADER.strip().split(",")[1 + column]
    (own.root / "train_star_info.csv").write_text(
        f"{HEADER}{FIRST},{','.join(cells)}\n{SECOND},{STAR}\n"
    )
    stars = stars_of(own, "train", PLANETS["train"])
    assert stars[FIRST] is None
    assert stars[SECOND] is not None
    (sentence,) = own.problems("train")
    assert f"{name} is not from " in sentence
    assert f"for planet {FIRST}: " in sentence
    assert "A planet without one counts as one of an unknown star." in sentence


@pytest.mark.parametrize("row", ["WASP-39", "", "1.5", "9223372036854775808"])
def test_one_bad_row_of_a_table_loses_one_planet(own, row):
    path = own.root / "train_star_info.csv"
    path.write_text(f"{HEADER}{row},{STAR}\n{SECOND},{STAR}\n")
    assert set(own.stars("train")) == {SECOND}
    lost, without = own.problems("train")
    assert f"no whole number of 64 bits: {repr(row) if row else 'an empty cell'}. Such" in lost
    assert f"train_star_info.csv has no row of planet {FIRST}." in without


@pytest.mark.parametrize("cell", ["", "NaN", "0.0", "-0.01", "12000", "deep"])
def test_one_bad_label_teaches_nothing_and_is_named(own, cell):
    lines = (own.root / "train.csv").read_text().splitlines()
    lines[1] = f"{FIRST},{cell}," + ",".join(["0.01"] * 282)
    (own.root / "train.csv").write_text("\n".join(lines) + "\n")
    assert own.labels().planet_ids.tolist() == [SECOND]
    (sentence,) = own.problems("train")
    assert f"make the spectrum of planet {FIRST} unusable. Such rows are left out. A " in sentence
    with pytest.raises(DataError, match=f"the spectrum of planet {FIRST} unusable. Mend these ro"):
        read_labels(own.root / "train.csv")


def test_one_bad_converter_of_2024_loses_one_planet(archive_2024, tmp_path):
    archive = open_archive(own_copy(archive_2024, tmp_path / "own", "train_adc_info.csv"))
    path = archive.root / "train_adc_info.csv"
    path.write_text(path.read_text().replace("-300.0,0.8", "-300.0,zero"))
    with pytest.raises(DataError, match=f"FGS1_adc_gain of planet {FIRST} is nan and FGS1_adc_of"):
        archive.adc(FIRST, FGS1)
    assert archive.adc(SECOND, FGS1) == (0.8, -301.0)


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("7", "link", "train: left out 7, a link that leads nowhere"),
        ("7", "file", "train: left out 7, a file, no planet's folder"),
        ("0007", "folder", "train: left out 0007, a name that is no planet's"),
        ("planet_id=7", "folder", "left out planet_id=7, .*the planet_id alone, .* without lead"),
        (
            "9223372036854775808",
            "folder",
            "left out 9223372036854775808, .* a whole number of 64 bits",
        ),
        ("\u0667", "folder", "train: left out \u0667, a name that is no planet's"),
    ],
)
def test_what_is_no_planet_is_named_and_the_others_go_on(own, name, kind, sentence):
    path = own.root / "train" / name
    if kind == "link":
        path.symlink_to(own.root / "nowhere")
    elif kind == "file":
        path.write_text("")
    else:
        path.mkdir()
    (found,) = own.problems("train")
    assert re.search(sentence, found)
    assert own.planets("train") == PLANETS["train"]
    assert len(archive_hash(own.root)) == 16


def test_a_link_to_a_planet_is_that_planet_and_the_data_hash_sees_behind_it(own, tmp_path):
    before = archive_hash(own.root)
    here, there = own.root / "train" / str(FIRST), tmp_path / "elsewhere"
    shutil.move(here, there)
    here.symlink_to(there)
    assert own.planets("train") == PLANETS["train"]
    assert archive_hash(own.root) == before
    (there / "FGS1_signal_0.parquet").write_bytes(b"other")
    assert archive_hash(own.root) != before


def test_a_visit_without_a_channel_and_maps_on_one_side_name_the_path(own):
    (own.root / "train" / str(FIRST) / "AIRS-CH0_signal_0.parquet").unlink()
    with pytest.raises(DataError, match=rf"AIRS-CH0_signal_0.parquet is missing in .*{FIRST}\."):
        own.frames("train", FIRST, 0, AIRS, np.arange(4))
    shutil.rmtree(own.root / "train" / str(FIRST) / "FGS1_calibration_0")
    with pytest.raises(DataError, match=rf"is missing in .*{FIRST}/FGS1_calibration_0\."):
        own.detector_maps("train", FIRST, 0, FGS1)


# Columns


def test_columns_are_taken_by_name_in_any_order(own):
    pixels = np.array([11391, 0, 2, 10, 100])
    folder = own.root / "train" / str(FIRST)
    paths = [folder / "AIRS-CH0_signal_0.parquet", *folder.glob("AIRS-CH0_calibration_0/*")]
    for path in paths:
        table = pl.read_parquet(path)
        table.select(sorted(table.columns)).write_parquet(path)
    frames = own.frames("train", FIRST, 0, AIRS, pixels)
    np.testing.assert_array_equal(
        np.stack(frames.reads, axis=1), reads_of(AIRS, FIRST, 0)[:, pixels]
    )
    maps = own.detector_maps("train", FIRST, 0, AIRS)
    for name in ("dark", "dead", "flat", "read"):
        np.testing.assert_array_equal(getattr(maps, name), maps_of(AIRS)[name])
    np.testing.assert_array_equal(
        maps.linear_corr.reshape(-1, AIRS.columns), maps_of(AIRS)["linear_corr"]
    )


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("FGS1_signal_0", lambda own: own.frames("train", FIRST, 0, FGS1, np.arange(4))),
        ("FGS1_calibration_0/flat", lambda own: own.detector_maps("train", FIRST, 0, FGS1)),
    ],
)
@pytest.mark.parametrize("rename", [{"column_3": "column_4000"}, {"column_3": "x"}])
def test_columns_that_are_not_counted_by_their_names_are_refused(own, name, read, rename):
    path = own.root / "train" / str(FIRST) / f"{name}.parquet"
    pl.read_parquet(path).rename(rename).write_parquet(path)
    with pytest.raises(
        DataError, match=r"whose names do not count them: column_0, .* Name them column_0,"
    ):
        read(own)


# Dialects


def _mark(text: str) -> bytes:
    return b"\xef\xbb\xbf" + text.encode()


DIALECTS = {
    "byte order mark": _mark,
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "trailing blank lines": lambda text: f"{text}\n\n".encode(),
    "trailing empty cells": lambda text: (
        f"{text}{',' * text.split(chr(10))[0].count(',')}".encode()
    ),
    "spaces after commas": lambda text: text.replace(",", ", ").encode(),
    "quotes": lambda text: text.replace("planet_id", '"planet_id"').encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_of_csv_changes_nothing(own, tmp_path, dialect):
    write = DIALECTS[dialect]
    before = (own.stars("train"), own.labels().depth, own.adc(FIRST, AIRS))
    for path in own.root.glob("*.csv"):
        text = path.read_text()
        path.unlink()  # a link to the common archive, perhaps
        path.write_bytes(write(text))
    assert own.stars("train") == before[0]
    np.testing.assert_array_equal(own.labels().depth, before[1])
    assert own.adc(FIRST, AIRS) == before[2]
    assert own.problems("train") == []
    path = tmp_path / "s.csv"
    write_submission(path, [FIRST, SECOND], _posterior())
    path.write_bytes(write(path.read_text()))
    assert validate_submission(path, None) == []
    assert torch.equal(read_submission(path)[1].mu, _posterior().mu)


@pytest.mark.parametrize("name", ["train.csv.gz", "train.CSV", "TRAIN.CSV.GZ"])
def test_a_table_may_be_zipped_or_in_capitals_and_is_hashed(own, name):
    before, hashed = own.labels().depth, archive_hash(own.root)
    content = (own.root / "train.csv").read_bytes()
    (own.root / "train.csv").unlink()
    assert archive_hash(own.root) != hashed
    without = archive_hash(own.root)
    zipped = name.lower().endswith(".gz")
    (own.root / name).write_bytes(gzip.compress(content) if zipped else content)
    np.testing.assert_array_equal(own.labels().depth, before)
    assert archive_hash(own.root) != without


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("planet_id;wl_1\n1;2\n", r"separated by semicolons, expected commas\. Write it with"),
        ("planet_id\twl_1\n1\t2\n", r"separated by tabs, expected commas\. Write it with"),
        ("# mine\nplanet_id\n1\n", r"line 1 begins with '#'\. Comments have no place"),
        ("planet_id\n1\n # end\n", r"line 3 begins with '#'\. Comments have no place"),
        ("planet_id,a\n1,2,3\n", r"cannot be read, it may be truncated \(found more fields"),
        ("", r"cannot be read, it may be truncated \(empty CSV\)"),
    ],
)
def test_other_dialects_are_refused_by_what_they_are(tmp_path, text, sentence):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_table(path)


def test_empty_names_of_columns_are_shown(tmp_path):
    path = tmp_path / "s.csv"
    write_submission(path, [1, 2], _posterior())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f",{lines[0]}", f"0,{lines[1]}"]) + "\n")
    assert validate_submission(path, None) == ["the columns '' are not expected"]


# Units


@pytest.mark.parametrize(("factor", "unit"), [(1e6, "ppm"), (100.0, "per cent")])
@pytest.mark.parametrize("depth", [0.002, 0.012, 0.1])  # medians of 2024 and 2025; the deepest
def test_depths_in_another_unit_are_refused(own, tmp_path, depth, factor, unit):
    sentence = rf"so they are in {unit}\. Divide depths and errors by "
    table = pl.DataFrame(np.full((2, 283), depth * factor), schema=WL)
    table = table.insert_column(0, pl.Series("planet_id", PLANETS["train"]))
    table.write_csv(own.root / "train.csv")
    for ask in (own.labels, lambda: own.problems("train")):
        with pytest.raises(DataError, match=sentence):
            ask()
    write_submission(
        tmp_path / "s.csv",
        [1, 2],
        SpectrumPosterior(_posterior().mu * 100 * depth * factor, 1 + _posterior().sigma),
    )
    with pytest.raises(DataError, match=sentence):
        read_submission(tmp_path / "s.csv")


@pytest.mark.parametrize("depth", [4e-4, 0.01, 0.11])
def test_depths_of_planets_are_no_other_unit(own, depth):
    table = pl.DataFrame(np.full((2, 283), depth), schema=WL)
    table.insert_column(0, pl.Series("planet_id", PLANETS["train"])).write_csv(
        own.root / "train.csv"
    )
    assert own.problems("train") == []


# Nothing drops out in silence


def test_a_missing_table_of_stars_is_said_once(own):
    (own.root / "test_star_info.csv").unlink()
    assert stars_of(own, "test", [TEST]) == {TEST: None}
    assert own.problems("test") == [
        "test: test_star_info.csv is missing, so all planets count as ones of unknown stars. "
        f"Put it into {own.root}."
    ]


def test_an_empty_split_is_said(own):
    for entry in (own.root / "test").iterdir():
        shutil.rmtree(entry)
    (sentence,) = own.problems("test")
    assert sentence.startswith(f"test: there is no planet in {own.root / 'test'}. Put the pla")


def test_what_is_not_read_of_foreign_light_curves_is_named(tmp_path):
    for name in ("7_0.nc", "8_0.fits", "9_0.NC4", ".hidden", "stars.csv", "labels.csv.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "10_0.nc").write_bytes(b"")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "stars.csv").write_text(f"{HEADER}7,{STAR}\n8,{STAR.replace('5800', '-1')}\n")
    write_spectra_csv(tmp_path / "labels.csv", [7, 12])
    (tmp_path / "labels.csv.gz").unlink()
    others, star, label = open_foreign(tmp_path).problems("test")
    assert f"{tmp_path} holds what is not read: 8_0.fits, 9_0.NC4, more. Light curv" in others
    assert "Ts is not from 1500 to 60000 for planet 8: -1.0. Such rows are left out; the" in star
    assert label == (
        "labels.csv lists planet 12, but there is no file of light curves. Such rows teach the "
        "prior over spectra at most."
    )
