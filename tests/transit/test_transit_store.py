from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from spectramind.artefacts import save_table, save_tensors
from spectramind.errors import ArtefactError
from spectramind.observation import TransitFit, VisitFit
from spectramind.transit.store import (
    fit_path,
    read_fit,
    read_fits,
    read_header,
    read_index,
    remove_others,
    write_fit,
)


@pytest.fixture
def fit():
    rng = np.random.default_rng(1)
    bins, fine = 30, 64
    visits = tuple(
        VisitFit(
            visit=number,
            time_h=np.linspace(0.0, 7.0, bins),
            flux=rng.normal(1.0, 1e-3, (bins, 283)).astype(np.float32),
            model=np.ones((bins, 283), dtype=np.float32),
            electrons=rng.uniform(1e6, 1e7, 283).astype(np.float32),
            fgs1_time_h=np.linspace(0.0, 7.0, fine),
            fgs1_flux=rng.normal(1.0, 1e-3, fine).astype(np.float32),
            fgs1_model=np.ones(fine, dtype=np.float32),
            fgs1_centroid=rng.normal(size=(fine, 2)).astype(np.float32),
        )
        for number in (0, 1)
    )
    root, own_sigma = rng.normal(0.0, 1e-5, (283, 300)), rng.uniform(1e-5, 1e-4, 283)
    return TransitFit(
        planet_id=4294967290,
        depth=rng.uniform(0.01, 0.02, 283),
        sigma=2.0 * own_sigma,
        own_sigma=own_sigma,
        widening=np.array([2.0, 3.0]),
        covariance=root @ root.T,
        scale=np.array([1.1, 0.9]),
        level_sigma=1e-3 / 3.0,
        vector=rng.normal(0.0, 1e7, 283),
        information=1e20 * (root @ root.T),
        measured_sigma=np.append(np.nan, rng.uniform(1e-5, 1e-4, 282)),
        parameter_names=("period_d", "t0_h_0"),
        parameters=np.array([4.0, 3.7]),
        parameter_covariance=np.array([[1.0, 0.1], [0.1, 2.0]]),
        limb_darkening=rng.uniform(0.0, 0.4, (283, 2)),
        limb_pull=np.array([0.1, -0.2, 0.3, 1.7]),
        reduced_chi2=1.25,
        reasons=("FGS1: no transit found.",),
        visits=visits,
    )


def _same(a, b):
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        elif field.name == "visits":
            for x, y in zip(left, right, strict=True):
                _same(x, y)
        else:
            assert left == right


def test_reading_returns_what_was_written(fit, tmp_path):
    path = fit_path(tmp_path, "train", fit.planet_id)
    write_fit(path, fit, {"config_hash": "abc"})
    _same(read_fit(path), fit)
    assert read_header(path) == (fit.reasons, tuple(fit.limb_pull), {"config_hash": "abc"})


def test_a_symmetric_matrix_takes_the_room_of_its_lower_triangle(fit, tmp_path):
    write_fit(tmp_path / "1.safetensors", fit, {})
    tensors = load_file(tmp_path / "1.safetensors")
    for name in ("covariance", "information"):
        assert tensors[name].shape == (283 * 284 // 2,)
        assert tensors[name].dtype == np.float64


def test_a_covariance_that_is_not_positive_is_a_damaged_fit(fit, tmp_path):
    path = fit_path(tmp_path, "test", fit.planet_id)
    flat = np.full((283, 283), 1e-8)
    write_fit(path, replace(fit, covariance=flat - 1e-9 * np.eye(283)), {})
    with pytest.raises(
        ArtefactError, match=r"its covariance is not positive definite\. Run `spec"
    ):
        read_fit(path)
    assert fit.usable
    assert not replace(fit, covariance=flat).usable


def test_the_same_fit_gives_the_same_bytes(fit, tmp_path):
    for name in ("a", "b"):
        write_fit(tmp_path / name, fit, {"x": "1", "y": "2"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_fits_come_by_planet_in_increasing_order(fit, tmp_path):
    for planet in (20, 3, 100):
        write_fit(fit_path(tmp_path, "test", planet), replace(fit, planet_id=planet), {})
    (tmp_path / "test" / ".100.safetensors.12.tmp").write_bytes(b"torn")
    assert list(read_fits(tmp_path, "test")) == [3, 20, 100]


def test_only_the_named_planets_of_the_split_remain(fit, tmp_path):
    for split, planet in (("train", 3), ("train", 20), ("test", 20)):
        write_fit(fit_path(tmp_path, split, planet), replace(fit, planet_id=planet), {})
    remove_others(tmp_path, "train", {3})
    assert list(read_fits(tmp_path, "train")) == [3]
    assert list(read_fits(tmp_path, "test")) == [20]


def test_missing_fits_name_the_command_to_run(tmp_path):
    with pytest.raises(ArtefactError, match=r"holds no transit fit of the train planets\. Run `s"):
        read_fits(tmp_path, "train")
    with pytest.raises(ArtefactError, match=r"5\.safetensors: no transit fit there\. Run `spect"):
        read_fit(fit_path(tmp_path, "train", 5))


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "7.safetensors"
    path.write_bytes(b"not a tensor file")
    with pytest.raises(ArtefactError, match=r"is no whole transit fit: .* Run `spectramind fit`"):
        read_fit(path)
    save_tensors(path, {"depth": np.ones(2)}, {"reasons": [], "planet_id": 7})
    with pytest.raises(ArtefactError, match=r"it holds no 'visits'\. Run `spectramind fit` again"):
        read_fit(path)
    with pytest.raises(
        ArtefactError, match=r"it holds no 'limb_pull'\. Run `spectramind fit` again"
    ):
        read_header(path)


@pytest.mark.parametrize("name", ["8", "0003", "30"])
def test_the_fit_of_another_planet_is_refused_by_name(fit, tmp_path, name):
    """A copy under another name would put one planet's spectrum in another's place."""
    path = fit_path(tmp_path, "test", 3)
    write_fit(path, replace(fit, planet_id=3), {})
    path.rename(path.with_stem(name))
    words = rf"test/{name}\.safetensors: .*it is that of planet 3, under another name\. Run `spec"
    for read in (read_fit, read_header):
        with pytest.raises(ArtefactError, match=words):
            read(path.with_stem(name))
    with pytest.raises(ArtefactError, match=words):
        read_fits(tmp_path, "test")


def test_samples_have_the_mean_and_covariance_of_the_posterior(fit):
    root = np.random.default_rng(2).normal(0.0, 1e-5, (283, 3))
    covariance = root @ root.T + 1e-12 * np.eye(283)
    own = replace(fit, covariance=covariance)
    draws = own.samples(20_000)
    error = np.sqrt(np.diag(covariance) / len(draws))
    assert np.abs((draws.mean(axis=0) - own.depth) / error).max() < 5.0
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert np.abs((np.cov(draws.T) - covariance) / scale).max() < 0.06
    np.testing.assert_array_equal(draws, own.samples(20_000))
    assert not np.array_equal(own.samples(1), replace(own, planet_id=8).samples(1))


def test_an_index_of_other_columns_is_damaged(tmp_path):
    save_table(
        tmp_path / "test" / "index.parquet", pl.DataFrame({"planet_id": [7], "origin": [""]})
    )
    with pytest.raises(ArtefactError, match="its columns are planet_id, origin"):
        read_index(tmp_path, "test")
