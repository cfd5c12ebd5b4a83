"""What people take away from the fits: `export` and `inspect` on a finished run."""

import json

import numpy as np
import pytest
import xarray
from astropy.table import Table
from tiny_run import TINY, spectramind

from spectramind.transit.store import read_fits


@pytest.fixture(scope="module")
def fits(finished):
    folder = finished / "artefacts/fit"
    return read_fits(folder, "train") | read_fits(folder, "test")


def test_export_netcdf_holds_every_fit_with_its_covariance(finished, fits, tmp_path):
    out = tmp_path / "spectra.nc"
    spectramind(finished, "export", *TINY, "--out", str(out), "--samples", "3")
    with xarray.open_dataset(out) as found:
        assert sorted(found["planet"].values.tolist()) == sorted(fits)
        for planet, fit in fits.items():
            own = found.sel(planet=planet)
            np.testing.assert_array_equal(own["depth"], fit.depth)
            np.testing.assert_array_equal(own["depth_covariance"], fit.covariance)
            np.testing.assert_allclose(own["depth_sample"], fit.samples(3), rtol=1e-9)


def test_export_has_no_samples_without_covariance(finished):
    done = spectramind(
        finished, "export", *TINY, "--stage", "predict", "--samples", "3", check=False
    )
    assert done.exit_code == 1
    assert "draws come with the transit fits as netCDF only" in done.stderr


def test_export_ecsv_of_the_network_has_errors_alone(finished, tmp_path):
    spectramind(finished, "export", *TINY, "--out", str(tmp_path), "--stage", "predict")
    tables = [Table.read(path) for path in sorted(tmp_path.glob("*.ecsv"))]
    assert len(tables) == 2
    for table in tables:
        assert len(table) == 283
        assert (table["depth_error"] > 0).all()
        assert "depth_covariance" not in table.colnames


def test_export_refuses_another_ending(finished):
    done = spectramind(finished, "export", *TINY, "--out", "spectra.csv", check=False)
    assert done.exit_code == 1
    assert "expected a file that ends in .nc" in done.stderr


def test_inspect_prints_the_fit_and_draws_it(finished, fits, tmp_path):
    planet, fit = next(iter(fits.items()))
    figure = tmp_path / "fit.svg"
    done = spectramind(finished, "inspect", str(planet), *TINY, "--out", str(figure), "--json")
    facts = json.loads(done.stdout)
    assert facts["fgs1_depth_ppm"] == pytest.approx(1e6 * fit.depth[0])
    assert [facts["fgs1_widening"], facts["airs_widening"]] == fit.widening.tolist()
    assert facts["verdict"] == (list(fit.reasons) or ["trusted"])
    axis = facts["parameters"]["semi_major_axis_rs"]
    assert axis["value"] == pytest.approx(fit.parameters[1])
    residual = (fit.visits[0].flux[:, 0] - fit.visits[0].model[:, 0]).astype(np.float64)
    rms = 1e6 * np.sqrt(np.nanmean(residual**2))
    assert facts["noise"]["visit 0 fgs1"]["rms_ppm"] == pytest.approx(rms, rel=0.02)
    assert figure.read_text().lstrip().startswith("<?xml")


def test_inspect_names_planets_that_are_there(finished):
    done = spectramind(finished, "inspect", "7", *TINY, check=False)
    assert done.exit_code == 1
    assert "planet 7: no fit in artefacts/fit" in done.stderr
