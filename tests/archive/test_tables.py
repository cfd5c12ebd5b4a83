import numpy as np
import polars as pl
import pytest

from spectramind.archive import tables
from spectramind.errors import DataError
from spectramind.instrument import AIRS, FGS1


def _csv(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def _axes(tmp_path, **columns):
    path = tmp_path / "axis_info.parquet"
    names = {"airs": "AIRS-CH0-axis0-h", "fgs1": "FGS1-axis0-h", "s": "AIRS-CH0-integration_time"}
    pl.DataFrame({names[key]: values for key, values in columns.items()}).write_parquet(path)
    return path


def test_a_changed_table_is_read_again(tmp_path):
    assert tables.read_table(_csv(tmp_path, "a\n1\n")).height == 1
    assert tables.read_table(_csv(tmp_path, "a\n1\n2\n")).height == 2


def test_missing_and_damaged_table(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: is missing. Fetch the file again."):
        tables.read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"table.csv: cannot be read, it may be truncated"):
        tables.read_table(_csv(tmp_path, ""))
    path = tmp_path / "axis.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"axis.parquet: cannot be read, it may be truncated"):
        tables.read_table(path)


def test_planet_ids_written_as_floats_are_exact(tmp_path):
    path = _csv(tmp_path, "planet_id\n1103775.0\n4290000001.0\n")
    assert tables.planet_ids(tables.read_table(path), path).tolist() == [1103775, 4290000001]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("planet\n1\n", "has no column 'planet_id'"),
        ("planet_id\n1.5\n", r"what is no whole number of 64 bits: '1\.5'\. Mend these rows"),
        ("planet_id\nWASP\n", "what is no whole number of 64 bits: 'WASP'"),
        ("planet_id,x\n,1\n", "what is no whole number of 64 bits: an empty cell"),
        ("planet_id\n9223372036854775808\n", "of 64 bits: '9223372036854775808'"),
        ("planet_id\n1_000\n1e99999999\n", "of 64 bits: '1_000', '1e99999999'"),
        ("planet_id\n1\n1\n", "planet_id lists planet 1 more than once"),
    ],
)
def test_bad_planet_ids(tmp_path, text, sentence):
    path = _csv(tmp_path, text)
    with pytest.raises(DataError, match=sentence):
        tables.planet_ids(tables.read_table(path), path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x\n1\n", r"has no column 'y' \(1 of 2 expected .* its own are 'x'\)"),
        ("x,y\n1,text\n", "column 'y' holds 'text' in row 1, expected finite numbers"),
        ("x,y\n1,2\n3,\n", "column 'y' holds an empty cell in row 2, expected finite numbers"),
        ("x,y\n1,inf\n", "column 'y' holds inf in row 1, expected finite numbers"),
        (",y\n1,2\n", "has no column 'x' .* its own are '', 'y'"),
    ],
)
def test_bad_numbers(tmp_path, text, sentence):
    path = _csv(tmp_path, text)
    with pytest.raises(DataError, match=sentence):
        tables.numbers(tables.read_table(path), ["x", "y"], path)


def test_bad_adc(tmp_path):
    header = "planet_id,FGS1_adc_offset,FGS1_adc_gain\n"
    path = _csv(tmp_path, header + "1,-1000,0.0\n")
    with pytest.raises(
        DataError, match=r"adc_gain of planet 1 is 0 and .*, expected a positive number \[co"
    ):
        tables.read_adc(path, 1, FGS1)
    with pytest.raises(DataError, match=r"planet 2: .*table.csv has no row of it."):
        tables.read_adc(path, 2, FGS1)
    path = _csv(tmp_path, header + "1,-1000,0.4\n2,-1000,0.4\n")
    with pytest.raises(DataError, match=r"holds 2 rows, expected 1. Fetch it again."):
        tables.read_adc(path, None, FGS1)


@pytest.mark.parametrize("pad", [None, float("nan")])
def test_padding_of_time_stamps_is_dropped(tmp_path, pad):
    path = _axes(tmp_path, airs=[0.0, 1.0, 4.0, 5.0, pad, pad])
    np.testing.assert_array_equal(tables.read_pair_times(path, AIRS), [0.5, 4.5])


@pytest.mark.parametrize(
    ("stamps", "sentence"),
    [
        ([0.0, 1.0, 2.0], r"lists 3 time stamps, expected an even number"),
        ([np.nan, np.nan], r"lists 0 time stamps, expected an even number"),
        ([0.0, 1.0, 1.0, 2.0], "does not increase with time"),
        ([0.0, np.nan, 1.0, 2.0], "has gaps between its values"),
    ],
)
def test_bad_time_stamps(tmp_path, stamps, sentence):
    path = _axes(tmp_path, fgs1=stamps)
    with pytest.raises(DataError, match=sentence):
        tables.read_pair_times(path, FGS1)


def test_second_accumulation_time_counts_from_the_reset(tmp_path):
    assert tables.read_accumulation_s(_axes(tmp_path, s=[0.2, 3.0, 0.2, 3.0])) == (0.2, 3.2)


@pytest.mark.parametrize("seconds", [[np.nan], [0.1, 4.5, 0.1], [0.1, 4.5, 0.1, 4.4], [0.0, 4.5]])
def test_bad_accumulation_times(tmp_path, seconds):
    with pytest.raises(DataError, match=r"does not repeat one pair of positive times \[s\]"):
        tables.read_accumulation_s(_axes(tmp_path, s=seconds))


def test_bad_wavelengths(tmp_path):
    header = ",".join(tables.DEPTH_COLUMNS)
    falling = ",".join(str(300 - n) for n in range(283))
    with pytest.raises(DataError, match=r"expected one row of 283 wavelengths that increase"):
        tables.read_wavelengths(_csv(tmp_path, f"{header}\n{falling}\n"))
