"""The weights that ship: whole, small, traceable, and of use on an archive they never saw."""

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_run import TINY, spectramind

from spectramind.archive.submission import read_spectra
from spectramind.stages.fit import prior_file
from spectramind.stages.folders import PRETRAINED, run_folder
from spectramind.training.folds import read_folds
from spectramind.transit.priors import read_priors
from spectramind.transit.store import read_fits
from spectramind.uq.calibration import IntervalKind, gaussian_half_width
from spectramind.uq.intervals import read_intervals

MEGABYTES = 5.0


@pytest.fixture(scope="module")
def shipped() -> Path:
    return run_folder(PRETRAINED)


def test_they_are_small_and_whole(shipped):
    files = [path for path in shipped.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MEGABYTES * 1e6
    report = json.loads((shipped / "train/train.json").read_text())
    assert report["members"]
    for member in report["members"]:
        assert (shipped / f"train/members/{member}.safetensors").is_file()
    spectrum = read_priors(prior_file(PRETRAINED)).spectrum
    assert spectrum is not None
    assert spectrum.planets >= 1000
    assert len(read_folds(shipped / "train/folds.parquet").planet_ids) == report["planets"]


def test_every_part_says_where_it_comes_from(shipped):
    parts = [*shipped.glob("train/members/*.json"), shipped / "calibrate-temp/calibration.json"]
    assert len(parts) > 1
    for path in parts:
        provenance = json.loads(path.read_text())
        assert provenance["git_sha"], path
        assert provenance["git_dirty"] is False, path


@pytest.fixture(scope="module")
def borrowed(finished, tmp_path_factory) -> Path:
    """Nine planets, seven labels: too few to learn anything from, so all of it is borrowed."""
    run = tmp_path_factory.mktemp("borrowed") / "run"
    shutil.copytree(finished, run)
    for stage in ("calibrate", "fit", "train"):
        shutil.rmtree(run / "artefacts" / stage)
    done = spectramind(
        run, "predict", *TINY, "weights=pretrained", "prior=pretrained", "--overwrite"
    )
    assert "fit: missing or stale, running it first" in done.stderr
    assert "train: missing" not in done.stderr
    return run


def test_spectra_from_a_new_archive_at_once(borrowed):
    planets, spectra = read_spectra(borrowed / "artefacts/predict/spectra.parquet")
    fits = read_fits(borrowed / "artefacts/fit", "test")
    assert planets.tolist() == sorted(fits)
    fitted = np.stack([fits[planet].depth for planet in planets])
    sigma = np.stack([fits[planet].sigma for planet in planets])
    moved = np.abs(spectra.mu.numpy() - fitted) / sigma
    assert 0.01 < moved.mean() < 3.0  # the network has its say, and no more than that


def test_error_bars_are_never_smaller_than_the_fits(borrowed):
    """No label of this archive calibrated them."""
    folder = borrowed / "artefacts/predict"
    planets, spectra = read_spectra(folder / "spectra.parquet")
    fits = read_fits(borrowed / "artefacts/fit", "test")
    sigma = torch.from_numpy(np.stack([fits[planet].sigma for planet in planets.tolist()]))
    assert (spectra.sigma >= sigma).all()
    assert (spectra.sigma == sigma).any()  # the network would have them smaller somewhere
    for kind in get_args(IntervalKind):
        for level, (lower, upper) in read_intervals(folder / "intervals.parquet", kind).items():
            least = 2.0 * gaussian_half_width(level) * sigma
            assert (upper - lower >= (1.0 - 1e-9) * least).all(), (kind, level)


def test_of_an_archive_that_teaches_nothing_only_test_planets_are_worked_on(borrowed):
    """Nothing of training planets enters the spectra when network and priors are borrowed."""
    assert list(borrowed.glob("artefacts/fit/test/*.safetensors"))
    assert not list(borrowed.glob("artefacts/fit/train/*.safetensors"))
    assert not list(borrowed.glob("artefacts/calibrate/*/train/*"))
    assert list(borrowed.glob("artefacts/calibrate/*/test/*"))


def test_their_temperature_holds_for_an_ensemble_alone(borrowed, tmp_path):
    run = shutil.copytree(borrowed, tmp_path / "run")
    words = ("weights=pretrained", "prior=pretrained", "uq.epistemic=mc_dropout", "--overwrite")
    done = spectramind(run, "predict", *TINY, *words, check=False)
    assert done.exit_code == 2
    assert "uq.epistemic=mc_dropout: the temperature of weights=pretrained was" in done.stderr


def test_training_goes_on_from_them(shipped, borrowed, tmp_path):
    """At a rate of next to nothing the weights stay; training planets are fitted first."""
    run = shutil.copytree(borrowed, tmp_path / "run")
    words = ("prior=pretrained", "training.start=pretrained", "training.lr=1e-9")
    spectramind(run, "train", *TINY, *words)
    for member in ("fold0_seed0", "fold1_seed0"):
        begun = load_file(shipped / f"train/members/{member}.safetensors")
        ended = load_file(run / f"artefacts/train/members/{member}.safetensors")
        for name, weights in begun.items():
            np.testing.assert_allclose(ended[name], weights, rtol=0.0, atol=1e-6, err_msg=name)
