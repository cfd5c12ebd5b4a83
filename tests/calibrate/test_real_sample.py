"""Fifty real frames of a 2025 planet, reshaped into the challenge's layout at run time."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from spectramind.archive.layout import open_archive
from spectramind.calibrate.chain import calibrate_visit
from spectramind.instrument import CHANNELS, wavelength_um

SHARED = Path(__file__).parents[3] / "shared" / "data" / "2025"
PLANET = 342072318
READS = 50


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    if not (SHARED / "train" / str(PLANET)).is_dir():
        pytest.skip(f"the real sample is not at hand: {SHARED}")
    root = tmp_path_factory.mktemp("real")
    for name in ("adc_info.csv", "wavelengths.csv", "train_star_info.csv"):
        shutil.copy(SHARED / name, root / name)
    axes = pl.read_parquet(SHARED / "axis_info.parquet").head(356)
    kept = pl.int_range(pl.len()) < READS
    stamps = [name for name in axes.columns if name != "AIRS-CH0-axis2-um"]
    axes.with_columns(
        pl.when(kept).then(pl.col(name)).otherwise(float("nan")).alias(name) for name in stamps
    ).write_parquet(root / "axis_info.parquet")
    folder = root / "train" / str(PLANET)
    shutil.copytree(SHARED / "train" / str(PLANET), folder, copy_function=shutil.copyfile)
    for channel in CHANNELS:
        path = folder / f"{channel.name}_signal_0.parquet"
        flat = pl.read_parquet(path).to_series().to_numpy()
        path.chmod(0o644)
        frames = flat.reshape(READS, channel.pixels)
        names = [f"column_{k}" for k in range(channel.pixels)]
        pl.DataFrame(frames, schema=names).write_parquet(path)
    return root


def test_real_frames_become_light_curves(root, config):
    curves, facts = calibrate_visit(open_archive(root), "train", PLANET, 0, config)
    fgs1, airs = facts["FGS1"], facts["AIRS-CH0"]
    # challenge.md 3.2: brightest 3 % of the pixels, linearity-corrected, before the difference
    assert airs["read_ratio"] == pytest.approx(46.06, abs=0.1)
    assert fgs1["read_ratio"] == pytest.approx(2.001, abs=0.01)
    for values in (curves.airs_e, curves.fgs1_e, curves.airs_centroid, curves.fgs1_centroid):
        assert np.all(np.isfinite(values))
    assert curves.airs_e.shape == (READS // 2, 282)
    # challenge.md 6.4: 220,500 e- on FGS1; AIRS-CH0 147 k at 2.1 um ... 5.5 k at 3.9 um
    assert fgs1["electrons"] == pytest.approx(220_500, rel=0.02)
    level = curves.airs_e.mean(0)
    wavelength = wavelength_um()[1:]
    assert np.median(level[np.abs(wavelength - 2.1) < 0.03]) == pytest.approx(147e3, rel=0.1)
    assert np.median(level[wavelength > 3.88]) == pytest.approx(5.5e3, rel=0.1)
    # challenge.md 6.4: 1.06 to 1.45 times Poisson
    noise = np.std(np.diff(curves.airs_e, axis=0), axis=0) / np.sqrt(2.0)
    assert 1.0 < np.median(noise / np.sqrt(level)) < 1.5
    # challenge.md 3.2: 0.13 % and 0.29 % of the pixels are dead
    assert airs["masked"] / airs["pixels"] == pytest.approx(0.0013, abs=0.001)
    assert fgs1["masked"] / fgs1["pixels"] == pytest.approx(0.0029, abs=0.002)
