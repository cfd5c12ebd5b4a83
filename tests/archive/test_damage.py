"""Whatever is done to a file of an archive: reading it works, or ends in one sentence."""

import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_foreign import write as write_foreign
from tiny_archive import PLANETS, own_copy, write_spectra_csv
from typer.testing import CliRunner

from spectramind.archive.fingerprint import archive_hash
from spectramind.archive.foreign import open_foreign
from spectramind.archive.layout import SPLITS, Archive, open_archive
from spectramind.archive.opening import stars_of
from spectramind.cli.app import app
from spectramind.errors import SpectraMindError
from spectramind.instrument import CHANNELS, Channel

FIRST, SECOND = PLANETS["train"]
OTHER_CONTENTS = (
    b"", b"PAR1", b"\xff\xfea\x00", b"[" * 100000, b"<html>404</html>", b"\x1f\x8b\x08\x00no",
    b"planet_id\n", b"planet_id,wl_1\n1,2\n", bytes(5000),
)  # fmt: skip


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _flip(content: bytes, rng: random.Random) -> bytes:
    """Flip bits, half of them in the last 5 %, where parquet files have their footer."""
    damaged = bytearray(content)
    for start in (0, len(content) * 19 // 20):
        damaged[rng.randrange(start, len(content))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _flip_head(content: bytes, rng: random.Random) -> bytes:
    """Flip bits where HDF5 files say what they hold."""
    damaged = bytearray(content)
    for _ in range(3):
        damaged[rng.randrange(4000)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _replace(_content: bytes, rng: random.Random) -> bytes:
    return rng.choice(OTHER_CONTENTS)


def _each_damage(
    path: Path,
    rng: random.Random,
    read: Callable[[], object],
    *more: Callable[[bytes, random.Random], bytes],
) -> None:
    """Damage a file in each way and read it; put it right again."""
    content = path.read_bytes()
    for damage in (_cut, _flip, _replace, *more):
        path.write_bytes(damage(content, rng))
        try:
            read()
        except SpectraMindError as error:
            assert str(error).endswith(".")  # noqa: PT017 - most damages are refused, not all
    path.write_bytes(content)


@pytest.fixture
def small(archive_2024, archive_2025, tmp_path, year) -> Path:
    """An archive with one planet in each split, all of whose files are its own."""
    archive = {2024: archive_2024, 2025: archive_2025}[year]
    root = own_copy(archive, tmp_path / "own", "")
    shutil.rmtree(root / "train" / str(SECOND))
    write_spectra_csv(root / "sample_submission.csv", PLANETS["test"])
    return root


def _read_tables(archive: Archive) -> None:
    assert len(archive_hash(archive.root)) == 16
    for split in SPLITS:
        assert all(sentence.endswith(".") for sentence in archive.problems(split))
        stars_of(archive, split, [FIRST])
    archive.labels()
    archive.wavelength_um()
    for channel in CHANNELS:
        archive.adc(FIRST, channel)
        archive.time_h(channel)
        archive.read_s(channel)


def _read_channel(archive: Archive, channel: Channel) -> None:
    archive.detector_maps("train", FIRST, 0, channel)
    archive.frames("train", FIRST, 0, channel, np.arange(40))


@pytest.mark.parametrize("year", [2024, 2025])
def test_any_damage_to_an_archive_ends_in_a_sentence(small):
    rng = random.Random(13)
    for path in sorted(path for path in small.iterdir() if path.is_file()):
        _each_damage(path, rng, lambda: _read_tables(open_archive(small)))
    archive = open_archive(small)
    for channel in CHANNELS:
        for path in sorted((small / "train" / str(FIRST)).rglob("*.parquet")):
            if channel.name in str(path):
                _each_damage(path, rng, partial(_read_channel, archive, channel))
        _read_channel(archive, channel)
    _read_tables(archive)


def test_any_damage_to_foreign_light_curves_ends_in_a_sentence(tmp_path, capfd):
    path = write_foreign(tmp_path / "7_0.nc")
    rng = random.Random(13)
    for _ in range(20):
        _each_damage(path, rng, lambda: open_foreign(tmp_path).light_curves(7, 0), _flip_head)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("year", [2024, 2025])
def test_doctor_reads_every_file_when_asked(small, monkeypatch):
    monkeypatch.chdir(small.parent)
    words = ["doctor", "--deep", "data=kaggle", f"data.root={small}", "runtime.workers=1"]
    whole = CliRunner().invoke(app, words)
    assert whole.exit_code == 0
    assert whole.stdout.splitlines()[-1].split() == ["faults", "0"]
    maps = next(small.glob("test/*/FGS1_calibration*"))
    signal = next(small.glob(f"train/{FIRST}/AIRS-CH0_signal*"))
    extra = maps / "more.parquet"  # no stage reads it
    for path in (maps / "flat.parquet", signal, small / "sample_submission.csv"):
        path.write_bytes(path.read_bytes()[:-9])
    extra.write_bytes(b"PAR1")
    (small / "sample_submission.csv").write_bytes(b"\xff\xfe")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for name in ("flat.parquet", signal.name, "more.parquet", "sample_submission.csv"):
        assert sum(name in line and "cannot be read" in line for line in errors) == 1
    assert len(errors) == 4


def test_doctor_reads_foreign_light_curves_and_names_a_damaged_one(tmp_path, monkeypatch):
    folder = tmp_path / "curves"
    folder.mkdir()
    write_foreign(folder / "7_0.nc")
    write_foreign(folder / "8_0.nc").write_bytes(b"no")
    monkeypatch.chdir(tmp_path)
    words = ["doctor", "--deep", "data=lightcurves", f"data.root={folder}", "runtime.workers=1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert f"light curves at {folder}: 2 planets" in done.stdout
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "8_0.nc: cannot be read as netCDF-4" in error
