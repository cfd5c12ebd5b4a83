"""`data=lightcurves` from a folder of netCDF files to the exported spectra."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("batman")

from foreign_files import write_file, write_labels, write_stars
from transit_world import default_config, draw_world, make_curves

from spectramind.config import load
from spectramind.diagnose.limb import LimbShift
from spectramind.errors import ArtefactError, DataError
from spectramind.stages import fit as stage
from spectramind.stages.runner import run_stage
from spectramind.transit.priors import (
    first_priors,
    prior_path,
    priors_hash,
    read_priors,
    write_priors,
)
from spectramind.transit.spectra import spectra_of_fits
from spectramind.transit.spectrum_learning import learn_spectrum_prior
from spectramind.transit.store import read_fit, read_fits

WORLDS = {planet: draw_world(planet) for planet in (1, 2, 3, 4)}


def fit_stage(root: Path, out: Path, *overrides: str):
    config = load(
        [
            "data=lightcurves", f"data.root={root}", f"runtime.out={out}", "runtime.workers=1",
            "runtime.device=cpu", "transit.bin_s=900", "transit.passes=6",
            "transit.settled_ppm=1000", "transit.scan.starts=1", *overrides,
        ]
    )  # fmt: skip
    return run_stage(config, "fit", out / "fit")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Planet 1: two visits; 2: every third wavelength, shuffled, no star; 3: as it should be;
    4: two visits, without FGS1 in the first one.
    """
    folder = tmp_path_factory.mktemp("lightcurves")
    rng = np.random.default_rng(0)
    write_file(folder, 1, make_curves(WORLDS[1], factor=90))
    write_file(folder, 1, make_curves(WORLDS[1], factor=90, visit=1, t0_h=4.1))
    write_file(folder, 2, make_curves(WORLDS[2], factor=90), order=3 * rng.permutation(94))
    write_file(folder, 3, make_curves(WORLDS[3], factor=90))
    write_file(folder, 4, make_curves(WORLDS[4], factor=90), fgs1=False)
    write_file(folder, 4, make_curves(WORLDS[4], factor=90, visit=1, t0_h=4.1))
    write_stars(folder, {planet: WORLDS[planet] for planet in (1, 3, 4)})
    write_labels(folder / "labels.csv", WORLDS, (3,))
    return folder


@pytest.fixture(scope="module")
def fitted(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return fit_stage(root, out), out / "fit"


def test_limb_darkening_far_from_its_priors_is_said_in_the_last_line(
    root, fitted, tmp_path, monkeypatch
):
    """Of fits that were kept, as of new ones; test planets alone are asked."""
    shutil.copytree(fitted[1].parent, tmp_path / "run")
    asked = []

    def far(pulls):
        asked.extend(pulls)
        return LimbShift("u1 of FGS1", 2.5, len(pulls))

    monkeypatch.setattr(stage, "limb_shift", far)
    result = fit_stage(root, tmp_path / "run")
    assert "; u1 of FGS1 lies +2.5 prior scatters from the expected value in" in result.summary
    assert "prior scatters" not in fitted[0].summary
    fits = read_fits(fitted[1], "test")
    assert asked == [tuple(fit.limb_pull) for fit in fits.values()]
    assert np.ptp(asked) > 0.0


def test_every_planet_is_fitted_with_or_without_label_star_and_all_wavelengths(fitted):
    result, folder = fitted
    assert result.failures == ()
    assert result.facts == {"planets": 4, "flagged": 0, "labels": 0, "scale": [1.0, 1.0]}
    assert "too few labels for a prior over spectra" in result.summary
    assert list(read_fits(folder, "train")) == [3]  # the labelled one
    fits = read_fits(folder, "test") | read_fits(folder, "train")
    measured = np.append(True, np.arange(282) % 3 == 0)
    for planet, fit in fits.items():
        seen = measured if planet == 2 else np.ones(283, bool)
        error = (fit.depth - WORLDS[planet].depth) / fit.sigma
        assert np.mean(error[seen] ** 2) < 1.6
        assert np.array_equal(np.isfinite(fit.measured_sigma), seen)
    assert (fits[2].sigma[~measured] > 9e-3).all()
    assert [visit.visit for visit in fits[1].visits] == [0, 1]


def test_wavelengths_without_light_curves_have_no_residual(fitted):
    fits = read_fits(fitted[1], "test")
    dark = np.append(False, np.arange(282) % 3 > 0)
    (visit,) = fits[2].visits
    assert np.array_equal(np.isnan(visit.flux).all(0), dark)
    assert np.isfinite(visit.flux[:, ~dark]).all()
    first, second = fits[4].visits
    assert np.isnan(first.flux[:, 0]).all()
    assert first.fgs1_flux.size == first.fgs1_time_h.size == first.electrons[0] == 0
    assert np.isfinite(second.flux).all()
    assert second.fgs1_flux.size > 0


@pytest.mark.parametrize("columns", [282, 5])
def test_without_fgs1_its_depth_is_not_measured_and_the_others_are_sound(tmp_path, columns):
    """No star and no label either: nothing is known but what the light curves say."""
    order = np.linspace(0, 281, columns).round().astype(int)
    write_file(tmp_path, 1, make_curves(WORLDS[1], factor=90), order=order, fgs1=False)
    result = fit_stage(tmp_path, tmp_path / "out")
    assert result.failures == ()
    (fit,) = read_fits(tmp_path / "out/fit", "test").values()
    assert fit.reasons == ()
    assert np.isnan(fit.measured_sigma[0])
    assert fit.sigma[0] > 9e-3
    error = (fit.depth - WORLDS[1].depth) / fit.sigma
    assert np.mean(error[1:][order] ** 2) < 1.6
    assert abs(fit.white_depth - WORLDS[1].depth[1:].mean()) < 3.0 * fit.white_sigma < 2e-3


def test_a_visit_that_is_all_ramp_is_no_transit_and_its_depth_is_wide(tmp_path, trained):
    curves, rng = make_curves(WORLDS[1], factor=90), np.random.default_rng(5)

    def ramp(flux, time):
        level = np.median(flux, axis=0) * (1.0 + 0.01 * np.exp(-time / 0.3))
        return rng.normal(level, 3e-4 * level).astype(np.float32)

    ramped = replace(
        curves,
        airs_e=ramp(curves.airs_e, curves.airs_time_h[:, None]),
        fgs1_e=ramp(curves.fgs1_e, curves.fgs1_time_h),
    )
    write_file(tmp_path, 1, ramped)
    for name, prior in (("own", []), ("lent", [f"prior={trained}"])):
        fit_stage(tmp_path, tmp_path / name, *prior)
        (fit,) = read_fits(tmp_path / name / "fit", "test").values()
        assert fit.reasons
        assert (fit.sigma > 0.01).all()


def test_the_exported_spectra_are_those_of_the_fits(fitted):
    result, folder = fitted
    (path,) = [path for path in result.outputs if path.suffix == ".nc"]
    fits = read_fits(folder, "test") | read_fits(folder, "train")
    with xr.open_dataset(path, engine="h5netcdf") as data:
        ids = [int(planet) for planet in data["planet"]]
        assert sorted(ids) == [1, 2, 3, 4]
        for row, planet in enumerate(ids):
            np.testing.assert_array_equal(data["depth"][row], fits[planet].depth)
            np.testing.assert_array_equal(data["depth_error"][row], fits[planet].sigma)
            np.testing.assert_array_equal(data["depth_covariance"][row], fits[planet].covariance)
            assert np.array_equal(data["measured"][row], fits[planet].measured)
        assert not data["flag"].any()
        assert data["measured"].sum("wavelength").values.tolist() == [
            95 if planet == 2 else 283 for planet in ids
        ]
        words = "settings alone, no prior over spectra: a scatter of 0.01 about the white light at"
        assert all(prior.startswith(words) for prior in data["prior"].values)


def test_a_likelihood_of_the_fits_scatters_about_the_truth_as_it_says(fitted):
    _, folder = fitted
    spectra = spectra_of_fits(folder, kind="likelihood", samples=0)
    assert sorted(spectra.planet_ids) == [1, 2, 3, 4]
    for row, planet in enumerate(spectra.planet_ids):
        seen = spectra.measured[row]
        assert np.array_equal(np.isnan(spectra.depth[row]), ~seen)
        error = (spectra.depth[row] - WORLDS[planet].depth)[seen]
        own = spectra.covariance[row][np.ix_(seen, seen)]
        assert 0.6 < error @ np.linalg.solve(own, error) / seen.sum() < 1.5


def test_wavelengths_out_of_order_change_nothing(fitted, tmp_path):
    write_file(tmp_path, 3, make_curves(WORLDS[3], factor=90), order=np.arange(282)[::-1])
    write_stars(tmp_path, {3: WORLDS[3]})
    fit_stage(tmp_path, tmp_path / "out")
    again = read_fits(tmp_path / "out/fit", "test")[3]
    before = read_fits(fitted[1], "train")[3]
    np.testing.assert_array_equal(again.depth, before.depth)
    np.testing.assert_array_equal(again.sigma, before.sigma)


def test_a_second_run_finds_every_fit_up_to_date(root, fitted):
    _, folder = fitted
    path = folder / "test/1.safetensors"
    stamp = path.stat().st_mtime_ns
    again = fit_stage(root, folder.parent)
    assert again.facts["planets"] == 4
    assert path.stat().st_mtime_ns == stamp


def test_one_bad_file_is_named_and_stops_no_other(tmp_path):
    write_file(tmp_path, 1, make_curves(WORLDS[1], factor=90))
    write_file(tmp_path, 2, make_curves(WORLDS[2], factor=90), twice=True)
    result = fit_stage(tmp_path, tmp_path / "out")
    (failure,) = result.failures
    assert failure.startswith("planet 2, visit 0, AIRS-CH0:")
    assert "time_h holds" in failure
    assert list(read_fits(tmp_path / "out/fit", "test")) == [1]


def test_where_no_planet_can_be_fitted_each_is_named_and_nothing_is_exported(tmp_path):
    write_file(tmp_path, 2, make_curves(WORLDS[2], factor=90), twice=True)
    with pytest.raises(
        DataError, match=r"^0 of 1 planet was fitted.*\nplanet 2, .* holds 0\.78 h t"
    ):
        fit_stage(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out/fit/spectra.nc").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Priors of another run, with a prior over spectra like those of the worlds."""
    labels = np.stack([draw_world(seed).depth for seed in range(200, 240)])
    config = default_config(spectrum__components=[4], spectrum__lengths_um=[0.1])
    spectrum = learn_spectrum_prior(labels, [0.0] * len(labels), config.spectrum)
    first = first_priors(config)
    path = prior_path(tmp_path_factory.mktemp("other"), None)
    write_priors(path, type(first)(first.known, first.unknown, spectrum), {})
    return path


def test_a_trained_prior_of_another_run_is_used_in_place_of_own_ones(
    root, fitted, trained, tmp_path
):
    (tmp_path / "fit/priors").mkdir(parents=True)
    (tmp_path / "fit/priors/without-fold3.safetensors").write_bytes(b"of an earlier run")
    result, lender = fit_stage(root, tmp_path, f"prior={trained}"), priors_hash(trained)
    assert result.facts["labels"] == read_priors(trained).spectrum.planets == 40
    assert "prior over spectra from 40 labels" in result.summary
    lent = f"prior over spectra from 40 labels, lent by all.safetensors of hash {lender} ("
    exported = spectra_of_fits(tmp_path / "fit", kind="posterior", samples=0)
    assert all(prior.startswith(lent) for prior in exported.priors)
    assert list((tmp_path / "fit/priors").iterdir()) == [tmp_path / "fit/priors/all.safetensors"]
    for planet, split in ((1, "test"), (3, "train")):
        fit = read_fit(tmp_path / f"fit/{split}/{planet}.safetensors")
        bare = read_fit(fitted[1] / f"{split}/{planet}.safetensors")
        assert np.median(fit.sigma) < 0.6 * np.median(bare.sigma)
        scatter = [np.std((own.depth - WORLDS[planet].depth)[1:]) for own in (fit, bare)]
        assert scatter[0] < 0.6 * scatter[1]


def test_a_prior_that_is_not_there_is_named(root, tmp_path):
    with pytest.raises(ArtefactError, match=r"none\.safetensors: no file of priors of a tr"):
        fit_stage(root, tmp_path, f"prior={tmp_path / 'none.safetensors'}")
