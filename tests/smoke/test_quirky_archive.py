"""An archive with a fault of every kind, from frames to a submission: each costs one planet."""

import gzip
import shutil
from pathlib import Path

import polars as pl
import pytest
from tiny_run import TINY, spectramind


def _as_2024(root: Path) -> None:
    """Turn a simulated archive into the layout of 2024."""
    gain = (root / "adc_info.csv").read_text().splitlines()
    for split in ("train", "test"):
        rows = [f"planet_id,{gain[0]}"]
        for planet in sorted((root / split).iterdir()):
            rows.append(f"{planet.name},{gain[1]}")
            for entry in list(planet.glob("*_0*")):  # there is one visit, without a number
                entry.rename(entry.with_name(entry.name.replace("_0", "")))
        (root / f"{split}_adc_info.csv").write_text("\n".join(rows) + "\n")
        (root / f"{split}_star_info.csv").unlink()
    (root / "adc_info.csv").unlink()
    (root / "train.csv").rename(root / "train_labels.csv")


def _spoil_stars(root: Path) -> tuple[str, str]:
    """No number in one row, another row gone, no table of the test planets; zipped."""
    path = root / "train_star_info.csv"
    header, first, second, *others = path.read_text().splitlines()
    cells = first.split(",")
    cells[3] = "NA"
    text = "\n".join([header, ",".join(cells), *others])
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(text.encode()))
    path.unlink()
    (root / "test_star_info.csv").unlink()
    return cells[0], second.split(",")[0]


def _spoil_labels(path: Path) -> str:
    """One empty cell; a byte order mark, carriage returns and a blank line at the end."""
    lines = path.read_text().splitlines()
    cells = lines[-1].split(",")
    cells[9] = ""
    lines[-1] = ",".join(cells)
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, "", ""]).encode())
    return cells[0]


def _spoil_planets(root: Path) -> tuple[str, str]:
    """Entries that are no planets; a planet behind a link, its columns sorted; half a planet."""
    (root / "train" / "7").symlink_to(root / "nowhere")
    (root / "train" / "planet_id=8").mkdir()
    (root / "test" / "0009").mkdir()
    good, bad = sorted(entry for entry in (root / "test").iterdir() if entry.name != "0009")
    for path in (*good.glob("*_calibration*/*.parquet"), *good.glob("*_signal*.parquet")):
        table = pl.read_parquet(path)
        table.select(sorted(table.columns)).write_parquet(path)
    shutil.move(good, root.parent / "elsewhere")
    good.symlink_to(root.parent / "elsewhere")
    next(bad.glob("AIRS-CH0_signal*")).unlink()
    return good.name, bad.name


def _run(folder: Path, root: Path) -> str:
    words = ("run", *TINY, "data=kaggle", f"data.root={root}", "runtime.out=out")
    done = spectramind(folder, *words)
    checked = spectramind(
        folder, "submission", "validate", "out/predict/submission.csv", "--sample",
        str(root / "sample_submission.csv"),
    )  # fmt: skip
    assert "valid submission" in checked.stdout
    return done.stderr


@pytest.fixture
def archive(finished, tmp_path, year) -> Path:
    root = tmp_path / "archive"
    shutil.copytree(finished / "artefacts/simulate", root)
    shutil.rmtree(root / "truth")
    if year == 2024:
        _as_2024(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("year", [2025, 2024])
def test_every_planet_that_can_be_saved_is_and_the_others_are_named(archive, tmp_path, year):
    stars = _spoil_stars(archive) if year == 2025 else ()
    label = _spoil_labels(archive / ("train.csv" if year == 2025 else "train_labels.csv"))
    good, bad = _spoil_planets(archive)
    said = _run(tmp_path, archive)
    calibrate, fit, predict = (_block(said, stage) for stage in ("calibrate", "fit", "predict"))
    for block in (calibrate, fit):
        assert "train: left out 7, a link that leads nowhere" in block
        assert "train: left out planet_id=8, a name that is no planet's" in block
        assert f"make the spectrum of planet {label} unusable" in block
    for block in (calibrate, fit, predict):
        assert "test: left out 0009, a name that is no planet's" in block
        assert f"planet {bad}" in block
        assert good not in block
        if year == 2025:
            assert "test_star_info.csv is missing, so all planets count as ones of unk" in block
    for number, star in enumerate(stars):
        words = ("Ts is not from 1500 to 60000 for planet", "has no row of planet")[number]
        assert f"{words} {star}" in calibrate
        assert f"{words} {star}" in fit
    assert "predicted 1 planet" in predict


def _block(said: str, stage: str) -> str:
    """What a run says of one stage."""
    lines = said.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"{stage}: config"))
    after = (i for i, line in enumerate(lines) if i > first and ": config" in line)
    return "\n".join(lines[first : next(after)])
