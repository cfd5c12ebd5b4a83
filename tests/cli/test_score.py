"""`score` on two files: what it is measured against, and without an archive."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny_run import spectramind

WL = [f"wl_{number}" for number in range(1, 284)]
SIGMA = [f"sigma_{number}" for number in range(1, 284)]
ERROR = 50e-6


@pytest.fixture
def files(tmp_path):
    """A folder with a submission, its truth, and tables of many and of few training labels."""
    rng = np.random.default_rng(3)
    depth = rng.normal(0.0147, 0.002, (30, 283))
    write(tmp_path / "truth.csv", depth[:4])
    sigma = dict.fromkeys(SIGMA, ERROR)
    guess = depth[:4] + rng.normal(0.0, ERROR, (4, 283))
    write(tmp_path / "submission.csv", guess, **sigma)
    write(tmp_path / "many.csv", depth)
    write(tmp_path / "few.csv", depth[:19])
    return tmp_path


def write(path: Path, depth: np.ndarray, **more: float) -> None:
    table = pl.DataFrame(depth, schema=WL).with_columns(
        pl.lit(v).alias(k) for k, v in more.items()
    )
    table.insert_column(0, pl.Series("planet_id", np.arange(len(depth)))).write_csv(path)


def score(folder, *words):
    files = ("submission.csv", "--solution", "truth.csv")
    done = spectramind(folder, "score", *files, *words, "--json", check=False)
    return json.loads(done.stdout) if done.exit_code == 0 else done.stderr


def test_two_files_are_scored_against_the_published_guess_of_a_year(files):
    depth, guess = (pl.read_csv(files / f"{name}.csv") for name in ("truth", "submission"))
    depth, mu = depth.select(WL).to_numpy(), guess.select(WL).to_numpy()
    mean, sigma = 0.014689019532534075, 0.01066133533197834
    least = -0.5 * ((depth - mean) / sigma) ** 2 - np.log(sigma)
    ideal = -np.log([1e-6, *[1e-5] * 282]) - least
    reached = -0.5 * ((depth - mu) / ERROR) ** 2 - np.log(ERROR) - least
    expected = np.average(reached / ideal, axis=1, weights=[57.846, *[1.0] * 282]).mean()
    found = score(files, "--naive", "2025")
    assert found["score"] == pytest.approx(expected, abs=1e-9)
    assert (found["naive_mean"], found["naive_sigma"]) == (mean, sigma)
    assert score(files, "--year", "2025", "diagnostics.metric.naive=2025") == found
    old = score(files, "--naive", "2024")
    assert old["naive_mean"] == 0.0025517145902829823
    assert "2024 metric" in old["summary"]


def test_the_guess_is_that_of_the_labels_in_a_file(files):
    depth = pl.read_csv(files / "many.csv").select(WL).to_numpy()
    found = score(files, "--naive", "many.csv", "--year", "2025")
    assert found["naive_mean"] == pytest.approx(depth.mean())
    assert found["naive_sigma"] == pytest.approx(depth.std())


def test_a_guess_from_few_labels_is_refused(files):
    """An archive with one training planet once scored 0.9996 where 0.731 was right."""
    words = "labels of 19 planets: too few for the naive guess that scores 0, the mean and spread"
    assert words in score(files, "--naive", "few.csv", "--year", "2025")
    archive = files / "archive"
    archive.mkdir()
    for name in ("axis_info.parquet", "wavelengths.csv", "adc_info.csv"):
        (archive / name).touch()
    (files / "few.csv").rename(archive / "train.csv")
    refused = score(files, "data.root=archive")
    assert words in refused
    assert "diagnostics.metric.naive=2025, or 2024." in refused
    assert score(files, "data.root=archive", "diagnostics.metric.naive=2025")["planets"] == 4


def test_what_is_missing_is_named(files):
    assert "--naive 2026: is no file." in score(files, "--naive", "2026", "--year", "2025")
    refused = score(files)
    assert "data.root=artefacts/simulate: is not a folder" in refused
    assert "To score without an archive give --solution FILE and --naive 2024, 2025" in refused
    (files / "truth.csv").unlink()
    assert "truth.csv: no true spectra there" in score(files, "--naive", "2025")
