from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from tiny_archive import PAIRS, PLANETS, maps_of, own_copy, reads_of, write_columns

from spectramind import instrument
from spectramind.archive.layout import Archive, open_archive
from spectramind.archive.opening import stars_of
from spectramind.archive.settings import DataConfig
from spectramind.errors import DataError
from spectramind.instrument import AIRS, CHANNELS, FGS1

FIRST, SECOND = PLANETS["train"]
BOTH = pytest.mark.parametrize("year", [2024, 2025])


@pytest.fixture
def archive(year, request) -> Archive:
    return open_archive(request.getfixturevalue(f"archive_{year}").root)


@pytest.fixture
def damaged(archive_2025, tmp_path) -> Archive:
    """A copy of the 2025 archive whose first planet a test may damage."""
    return open_archive(own_copy(archive_2025, tmp_path / "damaged", f"train/{FIRST}"))


@BOTH
def test_year_is_recognised(archive, year):
    assert archive.year == year


@BOTH
def test_planets_are_int64_sized_and_sorted(archive):
    assert archive.planets("train") == archive.listed("train") == [785834, 4290000001]
    assert archive.planets("test") == [1103775]


def test_planets_of_light_curve_archive_are_those_of_the_star_table(damaged):
    for split in ("train", "test"):
        (damaged.root / split).rename(damaged.root / f"away_{split}")
    assert damaged.planets("train") == PLANETS["train"]
    assert damaged.problems("train") == []


def test_visits(archive_2024, archive_2025):
    old, new = open_archive(archive_2024.root), open_archive(archive_2025.root)
    assert [old.visits("train", planet) for planet in PLANETS["train"]] == [[0], [0]]
    assert [new.visits("train", planet) for planet in PLANETS["train"]] == [[0], [0, 1]]


@BOTH
def test_labels_are_what_was_written(archive, year, request):
    labels = archive.labels()
    assert labels.planet_ids.tolist() == PLANETS["train"]
    np.testing.assert_array_equal(labels.depth, request.getfixturevalue(f"archive_{year}").depth)


@BOTH
def test_an_archive_without_labels(archive, tmp_path):
    empty = Archive(tmp_path, archive.year)
    assert empty.labels().depth.shape == (0, 283)
    assert empty.label_table.name == archive.label_table.name


def test_star(archive_2024, archive_2025):
    star = open_archive(archive_2025.root).stars("test")[1103775]
    assert (star.radius_rsun, star.period_d, star.inclination_deg) == (1.2, 5.2, 88.5)
    assert (star.semi_major_axis_rs, star.temperature_k) == (10.5, 5800.0)
    assert open_archive(archive_2024.root).stars("test") == {}


def test_adc_has_one_row_in_2025_and_one_per_planet_in_2024(archive_2024, archive_2025):
    new, old = open_archive(archive_2025.root), open_archive(archive_2024.root)
    assert new.adc(FIRST, FGS1) == new.adc(1103775, FGS1) == (0.4369, -1000.0)
    assert new.adc(FIRST, AIRS) == (0.5, -900.0)
    assert old.adc(SECOND, AIRS) == (1.5, -701.0)
    assert old.adc(1103775, FGS1) == (0.8, -300.0)


@BOTH
@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_times_are_the_middle_of_each_pair(archive, channel):
    expected_s = channel.cadence_s * np.arange(PAIRS[channel.name]) + 0.15
    np.testing.assert_allclose(archive.time_h(channel) * 3600.0, expected_s, rtol=1e-12)


@BOTH
def test_accumulation_times(archive):
    assert archive.read_s(AIRS) == pytest.approx((0.1, 4.6), rel=1e-15)
    assert archive.read_s(FGS1) == (0.1, 0.2)


@BOTH
def test_wavelengths(archive):
    np.testing.assert_allclose(archive.wavelength_um(), instrument.wavelength_um(), rtol=1e-15)


@BOTH
@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_frames_are_what_was_written(archive, year, channel):
    pixels = np.array([channel.pixels - 1, 0, 77])
    visit = archive.visits("train", SECOND)[-1]
    frames = archive.frames("train", SECOND, visit, channel, pixels)
    expected = reads_of(channel, SECOND, visit)[:, pixels]
    np.testing.assert_array_equal(np.stack(frames.reads, axis=1), expected)
    assert all(series.flags["C_CONTIGUOUS"] for series in frames.reads)
    assert len(frames.time_h) * 2 == len(frames.reads[0])
    assert (frames.planet_id, frames.visit, frames.channel) == (SECOND, year - 2024, channel)
    assert (frames.gain, frames.offset_e) == archive.adc(SECOND, channel)


def test_flattened_file_reads_as_the_same_frames(damaged):
    path = damaged.signal_file("train", FIRST, 0, AIRS)
    pixels = np.array([5, 11391, 356])
    before = damaged.frames("train", FIRST, 0, AIRS, pixels)
    pl.DataFrame({"0": reads_of(AIRS, FIRST, 0).ravel()}).write_parquet(path)
    after = damaged.frames("train", FIRST, 0, AIRS, pixels)
    np.testing.assert_array_equal(np.stack(after.reads), np.stack(before.reads))


def test_frames_of_several_row_groups_and_any_column_names(damaged):
    path = damaged.signal_file("train", FIRST, 0, FGS1)
    values = reads_of(FGS1, FIRST, 0)
    table = pl.DataFrame(values, schema=[f"pixel {n}" for n in range(FGS1.pixels)])
    table.write_parquet(path, row_group_size=4)
    frames = damaged.frames("train", FIRST, 0, FGS1, np.arange(3))
    np.testing.assert_array_equal(np.stack(frames.reads, axis=1), values[:, :3])


@BOTH
@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_maps_are_what_was_written(archive, channel):
    maps, expected = archive.detector_maps("test", 1103775, 0, channel), maps_of(channel)
    for name in ("dark", "dead", "flat", "read"):
        np.testing.assert_array_equal(getattr(maps, name), expected[name])
    np.testing.assert_array_equal(
        maps.linear_corr[4], expected["linear_corr"][4 * 32 : 5 * 32], strict=True
    )


@BOTH
def test_visit_files_are_all_files_of_the_planet(archive):
    found = set((archive.root / "train" / str(FIRST)).rglob("*.parquet"))
    assert set(archive.visit_files("train", FIRST, 0)) == found
    assert all(path.is_file() for path in archive.shared_files("train"))


# Bad input: a sentence that says what, where and how to mend it.


def test_no_archive(tmp_path):
    with pytest.raises(DataError, match=r"gone: is not a folder. Expected the unpacked archive"):
        open_archive(tmp_path / "gone")
    with pytest.raises(DataError, match=r"is empty\..*data=sim needs none of it: run spectramind"):
        open_archive(tmp_path)
    (tmp_path / "wavelengths.csv").write_text("")
    with pytest.raises(DataError, match=r"lacks axis_info.parquet\. Expected"):
        open_archive(tmp_path)
    (tmp_path / "axis_info.parquet").write_text("")
    with pytest.raises(DataError, match=r"lacks adc_info.csv \(2025\) or train_adc_info.csv"):
        open_archive(tmp_path)


def test_kaggle_has_no_light_curves():
    both = ("train", "test")
    data = DataConfig(name="sim", root=Path("a"), level="lightcurves", splits=both)
    assert data.level == "lightcurves"
    with pytest.raises(ValidationError, match=r"data.level must be frames for data=kaggle"):
        DataConfig(name="kaggle", root=Path("a"), level="lightcurves", splits=both)


@pytest.mark.parametrize("splits", [(), ("test", "test")])
def test_splits_are_named_once(splits):
    with pytest.raises(ValidationError, match=r"data.splits names train, test or both, each once"):
        DataConfig(name="sim", root=Path("a"), level="frames", splits=splits)


def _frames(archive: Archive, channel=AIRS):
    return archive.frames("train", FIRST, 0, channel, np.arange(4))


def _signal(archive: Archive, channel=AIRS) -> Path:
    return archive.signal_file("train", FIRST, 0, channel)


def test_missing_signal(damaged):
    _signal(damaged).unlink()
    with pytest.raises(
        DataError,
        match=r"planet 785834, visit 0, AIRS-CH0: AIRS-CH0_signal_0.parquet is missing in .*"
        "Fetch the file again.",
    ):
        _frames(damaged)


def test_planet_without_signals_reads_as_missing(damaged):
    for channel in CHANNELS:
        _signal(damaged, channel).unlink()
    assert damaged.visits("train", FIRST) == [0]
    with pytest.raises(DataError, match=r"FGS1_signal_0.parquet is missing"):
        _frames(damaged, FGS1)


@pytest.mark.parametrize("kept", [0, 5, 4000, -1])
def test_truncated_signal(damaged, kept):
    path = _signal(damaged)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"signal_0.parquet cannot be read, it may be truncated"):
        _frames(damaged)


def test_damaged_middle_of_signal(damaged):
    path = _signal(damaged)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"signal_0.parquet cannot be read, it may be truncated"):
        _frames(damaged)


def test_wrong_column_count(damaged):
    path = _signal(damaged, FGS1)
    pl.read_parquet(path).drop("column_7").write_parquet(path)
    with pytest.raises(
        DataError, match=r"holds 1023 columns, expected 1024 \(32 x 32 pixels\) or 1"
    ):
        _frames(damaged, FGS1)


def test_wrong_type(damaged):
    path = _signal(damaged, FGS1)
    pl.read_parquet(path).cast(pl.Int32).write_parquet(path)
    with pytest.raises(DataError, match=r"holds Int32, expected uint16 counts. Fetch"):
        _frames(damaged, FGS1)


def test_empty_cell(damaged):
    path = _signal(damaged, FGS1)
    table = pl.read_parquet(path)
    table[1, "column_2"] = None
    table.write_parquet(path)
    with pytest.raises(DataError, match=r"has empty cells, expected a count in each. Fetch"):
        _frames(damaged, FGS1)


def test_odd_number_of_reads(damaged):
    path = _signal(damaged, FGS1)
    pl.read_parquet(path).head(11).write_parquet(path)
    with pytest.raises(
        DataError,
        match=r"holds 11 reads, expected an even number \(start/end pairs\). Drop the last read",
    ):
        _frames(damaged, FGS1)


def test_number_of_reads_against_time_stamps(damaged):
    path = _signal(damaged, FGS1)
    pl.read_parquet(path).head(10).write_parquet(path)
    with pytest.raises(DataError, match=r"holds 10 reads, but axis_info.parquet lists 12 time"):
        _frames(damaged, FGS1)


def test_flattened_file_of_broken_length(damaged):
    pl.DataFrame({"0": np.zeros(11392 * 4 - 1, np.uint16)}).write_parquet(_signal(damaged))
    with pytest.raises(
        DataError, match=r"holds 45567 rows in one column, expected a multiple of 11392 pixels"
    ):
        _frames(damaged)


def _maps(archive: Archive):
    return archive.detector_maps("train", FIRST, 0, AIRS)


def _map_file(archive: Archive, name: str) -> Path:
    return archive.root / "train" / str(FIRST) / "AIRS-CH0_calibration_0" / f"{name}.parquet"


@pytest.mark.parametrize("name", ["dark", "flat", "read", "linear_corr"])
def test_nan_in_a_map(damaged, name):
    values = maps_of(AIRS)[name]
    alive = ~maps_of(AIRS)["dead"]
    values[:32][alive] = np.where(np.arange(alive.sum()) < 3, np.nan, values[:32][alive])
    write_columns(_map_file(damaged, name), values)
    with pytest.raises(
        DataError,
        match=f"AIRS-CH0: {name}.parquet in AIRS-CH0_calibration_0 is NaN or infinite at 3 of",
    ):
        _maps(damaged)


def test_nan_at_a_dead_pixel_does_no_harm(damaged):
    values, dead = maps_of(AIRS)["dark"], maps_of(AIRS)["dead"]
    values[dead] = np.nan
    write_columns(_map_file(damaged, "dark"), values)
    assert np.isnan(_maps(damaged).dark[dead]).all()


def test_all_dead(damaged):
    write_columns(_map_file(damaged, "dead"), np.ones(AIRS.shape, dtype=bool))
    with pytest.raises(DataError, match=r"marks all 11392 pixels as dead, expected some alive"):
        _maps(damaged)


def test_dead_map_of_other_values(damaged):
    write_columns(_map_file(damaged, "dead"), np.full(AIRS.shape, 0.5))
    with pytest.raises(DataError, match=r"dead.parquet holds values other than true and false"):
        _maps(damaged)


def test_flat_of_zero(damaged):
    flat = np.where(maps_of(AIRS)["dead"], 1.0, 0.0)
    write_columns(_map_file(damaged, "flat"), flat)
    with pytest.raises(DataError, match=r"flat.parquet is not positive at (\d+) of \1 live"):
        _maps(damaged)


def test_map_of_wrong_shape(damaged):
    write_columns(_map_file(damaged, "linear_corr"), maps_of(AIRS)["linear_corr"][:-1])
    with pytest.raises(DataError, match=r"holds 191 rows x 356 columns, expected 192 x 356"):
        _maps(damaged)


def test_map_of_text(damaged):
    write_columns(_map_file(damaged, "dark"), np.full(AIRS.shape, "x"))
    with pytest.raises(DataError, match=r"dark.parquet in .* holds String, expected numbers"):
        _maps(damaged)


def test_missing_and_truncated_map(damaged):
    path = _map_file(damaged, "read")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"read.parquet cannot be read, it may be truncated"):
        _maps(damaged)
    path.unlink()
    with pytest.raises(DataError, match=r"read.parquet is missing in .*AIRS-CH0_calibration_0"):
        _maps(damaged)


def test_problems_name_planets_on_one_side_only(damaged):
    assert damaged.problems("train") == damaged.problems("test") == []
    (damaged.root / "train" / str(FIRST)).rename(damaged.root / "train" / "12")
    assert [sentence.partition(". ")[0] for sentence in damaged.problems("train")] == [
        "train: train_star_info.csv has no row of planet 12",
        "train: train_star_info.csv has a row, but there is no folder of planet 785834",
        "train: train.csv has no row of planet 12",
        "train: train.csv has a row, but there is no folder of planet 785834",
    ]
    assert stars_of(damaged, "train", [12, SECOND])[12] is None


def test_problems_name_few_planets_and_count_the_others(damaged):
    for planet in range(1, 9):
        (damaged.root / "test" / str(planet)).mkdir()
    assert (
        "has no row of planets 1, 2, 3, 4, 5 and 3 more. A planet without one counts as one"
        in damaged.problems("test")[0]
    )
