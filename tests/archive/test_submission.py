import re

import numpy as np
import polars as pl
import pytest
import torch

from spectramind.archive.submission import (
    COLUMNS,
    read_spectra,
    read_submission,
    validate_submission,
    write_spectra,
    write_submission,
)
from spectramind.errors import ArtefactError, DataError
from spectramind.posterior import SpectrumPosterior

PLANETS = [7, 4290000001, 12]


@pytest.fixture
def posterior() -> SpectrumPosterior:
    draw = torch.rand(2, 3, 283, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return SpectrumPosterior(draw[0] * 0.02, 1e-6 + draw[1] * 1e-4)


@pytest.fixture
def path(tmp_path, posterior):
    """A valid submission."""
    write_submission(tmp_path / "submission.csv", PLANETS, posterior)
    return tmp_path / "submission.csv"


@pytest.mark.parametrize(
    ("write", "read", "name"),
    [(write_submission, read_submission, "s.csv"), (write_spectra, read_spectra, "s.parquet")],
)
def test_read_is_the_inverse_of_write(tmp_path, posterior, write, read, name):
    write(tmp_path / "out" / name, np.array(PLANETS), posterior)
    planets, spectra = read(tmp_path / "out" / name)
    assert planets.tolist() == PLANETS
    assert torch.equal(spectra.mu, posterior.mu)
    assert torch.equal(spectra.sigma, posterior.sigma)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == [name]


def test_float32_with_gradients_is_written_exactly(tmp_path, posterior):
    narrow = SpectrumPosterior(posterior.mu.float().requires_grad_(), posterior.sigma.float())
    write_submission(tmp_path / "s.csv", PLANETS, narrow)
    spectra = read_submission(tmp_path / "s.csv")[1]
    assert spectra.mu.dtype == torch.float64
    assert torch.equal(spectra.mu, narrow.mu.double())


def test_columns_are_those_of_the_challenge(path):
    header = path.read_text().splitlines()[0].split(",")
    assert len(header) == 567
    assert (header[:2], header[283:285], header[-1]) == (
        ["planet_id", "wl_1"],
        ["wl_283", "sigma_1"],
        "sigma_283",
    )


def test_valid_submission_has_no_problem(path, tmp_path):
    assert validate_submission(path, None) == []
    sample = tmp_path / "sample.csv"
    sample.write_text("planet_id,wl_1\n12.0,0\n7.0,0\n4290000001.0,0\n")
    assert validate_submission(path, sample) == []


def _edited(path, edit):
    edit(pl.read_csv(path)).write_csv(path)
    return path


def _set(column, row, value):
    def edit(table: pl.DataFrame) -> pl.DataFrame:
        values = table[column].to_list()
        values[row] = value
        return table.with_columns(pl.Series(column, values, strict=False))

    return edit


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (
            lambda table: table.drop("wl_3"),
            "the columns wl_3 are missing, expected 567",
        ),
        (
            lambda table: table.with_columns(pl.lit(1).alias("extra")),
            "the columns extra are not expected",
        ),
        (
            lambda table: table.select(reversed(table.columns)),
            "the columns are not in the order planet_id, wl_1..wl_283, sigma_1..sigma_283",
        ),
        (lambda table: table.clear(), "there is no planet in it"),
        (
            _set("planet_id", 0, 4290000001),
            "planet_id lists planet 4290000001 more than once",
        ),
        (
            _set("planet_id", 0, 1.5),
            "planet_id holds what is no whole number of 64 bits: '1.5'",
        ),
        (
            _set("wl_2", 1, -1e-9),
            "the columns wl_2 hold negative values (1 cells in 1 planets)",
        ),
        (
            _set("sigma_9", 1, None),
            "the columns sigma_9 hold empty, NaN or infinite values (1 cells in 1 planets)",
        ),
        (
            _set("wl_9", 2, float("nan")),
            "the columns wl_9 hold empty, NaN or infinite values (1 cells in 1 planets)",
        ),
        (
            _set("sigma_4", 0, 0.0),
            "the columns sigma_4 hold a sigma of zero (1 cells in 1 planets)",
        ),
        (
            lambda table: table.with_columns(pl.lit("x").alias("sigma_5")),
            "the columns sigma_5 are not numeric",
        ),
    ],
)
def test_each_problem_is_a_sentence_and_stops_reading(path, edit, problem):
    assert validate_submission(_edited(path, edit), None) == [problem]
    with pytest.raises(DataError, match=re.escape(f"{problem}: problem 1 of 1. List them with")):
        read_submission(path)


def test_every_problem_is_listed(path):
    def edit(table: pl.DataFrame) -> pl.DataFrame:
        return table.drop("wl_1", "wl_2").with_columns(
            sigma_1=pl.lit(0.0), sigma_2=pl.lit(-1.0), sigma_3=pl.lit("x")
        )

    problems = validate_submission(_edited(path, edit), None)
    assert [problem.partition(" (")[0] for problem in problems] == [
        "the columns wl_1, wl_2 are missing, expected 567",
        "the columns sigma_3 are not numeric",
        "the columns sigma_2 hold negative values",
        "the columns sigma_1 hold a sigma of zero",
    ]


def test_planets_against_the_sample(path, tmp_path):
    sample = tmp_path / "sample.csv"
    sample.write_text("planet_id,wl_1\n7,0\n1,0\n2,0\n3,0\n4,0\n5,0\n6,0\n")
    assert validate_submission(path, sample) == [
        "the planets 1, 2, 3, 4, 5 and 1 more of sample.csv are missing",
        "the planets 12, 4290000001 are not in sample.csv",
    ]


def test_zero_depth_is_valid(path):
    assert validate_submission(_edited(path, _set("wl_4", 0, 0.0)), None) == []


def test_missing_submission(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: is missing. Fetch the file again."):
        validate_submission(tmp_path / "none.csv", None)


def test_invalid_spectra_are_not_written(tmp_path, posterior):
    posterior.mu[1, 4] = float("nan")
    with pytest.raises(
        ArtefactError, match=r"not written, the columns wl_5 hold empty, NaN or infinite values"
    ):
        write_spectra(tmp_path / "s.parquet", PLANETS, posterior)
    with pytest.raises(ArtefactError, match=r"2 planets come with mu of shape .* expected"):
        write_submission(tmp_path / "s.csv", PLANETS[:2], posterior)
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_spectra(tmp_path):
    path = tmp_path / "predict" / "spectra.parquet"
    with pytest.raises(
        ArtefactError, match=r"no table of spectra there\. Run `spectramind predict` first"
    ):
        read_spectra(path)
    path.parent.mkdir()
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ArtefactError, match=r"spectra: .* Run `spectramind predict` again"):
        read_spectra(path)


def test_columns_are_unique():
    assert len(set(COLUMNS)) == 567
