import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy import units
from astropy.table import QTable, Table

from spectramind.archive.export import bandwidth_um, write_spectra_netcdf, write_spectrum_ecsv
from spectramind.errors import ArtefactError, WriteError
from spectramind.instrument import airs_edges_um, detector_wavelength_um, to_scored, wavelength_um
from spectramind.observation import NOT_MEASURED, Spectra

DOCS = Path(__file__).parents[2] / "docs" / "lightcurves.md"
PLANETS = [7, 4290000001, 12]
REASONS = [(), ("depths: of visits differ", "12 % of the bins rejected"), (NOT_MEASURED,)]
PROVENANCE = {"stage": "predict", "config_hash": "c0ffee", "created": "2026-11-22T21:00:00+00:00"}


@pytest.fixture
def spectra(rng):
    """mu, sigma and a covariance with correlations between wavelengths."""
    mu, sigma = rng.uniform(0.001, 0.02, (3, 283)), rng.uniform(1e-5, 1e-4, (3, 283))
    lag = np.abs(np.subtract.outer(np.arange(283), np.arange(283)))
    correlation = np.exp(-lag / 20.0)
    return mu, sigma, sigma[:, :, None] * correlation * sigma[:, None]


PRIORS = ["prior over spectra from 40 labels", "settings alone, no prior over spectra", "none"]
DARK = np.arange(283) % 3 == 2  # of planet 7; nothing is measured of planet 12


def as_spectra(mu, sigma, covariance, kind="posterior"):
    """Planet 7 with dark wavelengths, planet 12 without light; NaN there in a likelihood."""
    measured = np.array([~DARK, np.ones(283, bool), np.zeros(283, bool)])
    if kind == "likelihood":
        mu, sigma = (np.where(measured, part, np.nan) for part in (mu, sigma))
        covariance = np.where(measured[:, :, None] & measured[:, None], covariance, np.nan)
    return Spectra(kind, PLANETS, mu, sigma, covariance, None, measured, PRIORS, REASONS)


def write_netcdf(path, mu, sigma, covariance):
    write_spectra_netcdf(path, as_spectra(mu, sigma, covariance), PROVENANCE)


def write_ecsv(path, mu, sigma, covariance, *, row=1, kind="posterior"):
    write_spectrum_ecsv(path, as_spectra(mu, sigma, covariance, kind), row, PROVENANCE)


def test_xarray_reads_what_was_written(tmp_path, spectra):
    mu, sigma, covariance = spectra
    write_netcdf(tmp_path / "out" / "spectra.nc", mu, sigma, covariance)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["spectra.nc"]
    with xr.open_dataset(tmp_path / "out" / "spectra.nc", engine="h5netcdf") as found:
        assert found["planet"].values.tolist() == PLANETS
        assert np.array_equal(found["wavelength"], wavelength_um())
        assert np.array_equal(found["wavelength_2"], wavelength_um())
        assert np.array_equal(found["bandwidth"], bandwidth_um())
        assert np.array_equal(found["depth"], mu)
        assert np.array_equal(found["depth_error"], sigma)
        assert found["depth_covariance"].dtype == np.float64
        assert np.array_equal(found["depth_covariance"], covariance)
        assert found["depth_covariance"].dims == ("planet", "wavelength", "wavelength_2")
        assert found["flag"].values.tolist() == [0, 1, 2]
        assert found["flag"].attrs["flag_meanings"] == "trusted suspicious not_measured"
        assert found["reasons"].values.tolist() == ["", "; ".join(REASONS[1]), NOT_MEASURED]
        assert found["prior"].values.tolist() == PRIORS
        assert found["measured"].dtype == bool
        assert np.array_equal(found["measured"], as_spectra(*spectra).measured)
        assert found.attrs["kind"] == "posterior"
        assert found.attrs["comment"].startswith("Posterior: depths are weighed by the prior that")


def test_xarray_reads_a_likelihood_that_is_nan_where_nothing_is_measured(tmp_path, spectra):
    mu, sigma, covariance = spectra
    own = as_spectra(mu, sigma, covariance.astype(np.float64), "likelihood")
    write_spectra_netcdf(tmp_path / "s.nc", own, PROVENANCE)
    with xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as found:
        assert found.attrs["kind"] == "likelihood"
        assert found.attrs["comment"].startswith("Likelihood: the light curves alone, without a")
        assert found["flag"].values.tolist() == [0, 1, 2]
        assert found["depth_covariance"].dtype == np.float64
        for name, wanted in (("depth", mu), ("depth_error", sigma)):
            assert np.array_equal(np.isnan(found[name]), ~found["measured"])
            assert np.array_equal(found[name].values[own.measured], wanted[own.measured])
        seen = found.isel(planet=0, wavelength=~DARK, wavelength_2=~DARK)
        assert np.array_equal(seen["depth_covariance"], covariance[0][np.ix_(~DARK, ~DARK)])
        assert np.isnan(found["depth_covariance"][0][DARK]).all()


def test_astropy_reads_a_likelihood_of_the_measured_wavelengths_alone(tmp_path, spectra):
    write_ecsv(tmp_path / "7.ecsv", *spectra, row=0, kind="likelihood")
    table = QTable.read(tmp_path / "7.ecsv")
    assert np.array_equal(table["wavelength"].to_value(units.um), wavelength_um()[~DARK])
    assert np.array_equal(table["depth"], spectra[0][0, ~DARK])
    assert np.array_equal(table["depth_covariance"], spectra[2][0][np.ix_(~DARK, ~DARK)])
    assert table["measured"].all()
    assert table.meta["kind"] == "likelihood"
    assert table.meta["comment"].startswith("Likelihood: the light curves alone")
    write_ecsv(tmp_path / "12.ecsv", *spectra, row=2, kind="likelihood")
    empty = Table.read(tmp_path / "12.ecsv")
    assert len(empty) == 0
    assert empty.meta["reasons"] == [NOT_MEASURED]


@pytest.mark.parametrize("kind", ["posterior", "likelihood"])
def test_a_measured_depth_that_is_no_number_is_not_written(tmp_path, spectra, kind):
    mu, sigma, covariance = spectra
    mu[0, 3] = np.nan
    with pytest.raises(ArtefactError, match=r"not written, planet 7 has depths that are not fin"):
        write_ecsv(tmp_path / "s.ecsv", mu, sigma, covariance, row=0, kind=kind)
    mu[0, 3], covariance[0, 3, 3] = 0.01, 2.0 * covariance[0, 3, 3]
    with pytest.raises(ArtefactError, match=r"planet 7: the covariance is not finite or contra"):
        write_ecsv(tmp_path / "s.ecsv", mu, sigma, covariance, row=0, kind=kind)


def test_netcdf_says_units_and_provenance(tmp_path, spectra):
    write_netcdf(tmp_path / "s.nc", *spectra)
    with xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as found:
        assert found.attrs["Conventions"].startswith("CF-")
        assert found.attrs["provenance_config_hash"] == "c0ffee"
        assert found["wavelength"].attrs["units"] == "um"
        assert found["depth"].attrs["units"] == "1"
        beside = found["depth"].attrs["ancillary_variables"].split()
        assert set(beside) < set(found.variables)
        assert "depth_covariance" in beside


def test_both_formats_go_without_covariance(tmp_path, spectra):
    mu, sigma, _ = spectra
    write_netcdf(tmp_path / "s.nc", mu, sigma, None)
    write_ecsv(tmp_path / "s.ecsv", mu, sigma, None)
    with xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as found:
        assert set(found.dims) == {"planet", "wavelength"}
        assert set(found["depth"].attrs["ancillary_variables"].split()) < set(found.variables)
    table = Table.read(tmp_path / "s.ecsv")
    assert table.colnames == ["wavelength", "depth", "depth_error", "bandwidth", "measured"]


def test_astropy_reads_what_was_written(tmp_path, spectra):
    write_ecsv(tmp_path / "s.ecsv", *spectra, row=0)
    mu, sigma, covariance = (values[0] for values in spectra)
    table = QTable.read(tmp_path / "s.ecsv")
    assert np.array_equal(table["wavelength"].to_value(units.um), wavelength_um())
    assert np.array_equal(table["bandwidth"].to_value(units.um), bandwidth_um())
    assert np.array_equal(table["depth"], mu)
    assert np.array_equal(table["depth_error"], sigma)
    assert table["depth_covariance"].dtype == np.float64
    assert np.array_equal(table["depth_covariance"], covariance)
    assert table["measured"].dtype == bool
    assert np.array_equal(table["measured"], ~DARK)
    assert table.meta["planet_id"] == 7
    assert table.meta["kind"] == "posterior"
    assert table.meta["prior"] == PRIORS[0]
    assert table.meta["reasons"] == []
    assert table.meta["provenance"] == PROVENANCE


def test_the_documented_text_file_for_taurex(tmp_path, spectra, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_ecsv(tmp_path / "1103775.ecsv", *spectra, row=0)
    mu, sigma, _ = (values[0] for values in spectra)
    example = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    exec(compile(example, "example", "exec"), {})
    wanted = np.column_stack([wavelength_um(), mu, sigma, bandwidth_um()])[~DARK]
    assert np.loadtxt(tmp_path / "1103775.txt") == pytest.approx(wanted, rel=1e-15)


def test_the_documented_likelihood_of_one_planet(tmp_path, spectra, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = as_spectra(*spectra, "likelihood")
    write_spectra_netcdf(tmp_path / "likelihood.nc", own, PROVENANCE)
    example, found = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[2], {}
    exec(compile(example, "example", "exec"), found)
    mu, _, covariance = (values[0] for values in spectra)
    assert np.array_equal(found["depth"], mu[~DARK])
    assert np.array_equal(found["covariance"], covariance[np.ix_(~DARK, ~DARK)])


def test_widths_tile_the_band_and_follow_the_dispersion():
    width = bandwidth_um()
    assert width.shape == (283,)
    assert width[0] == pytest.approx(0.2)
    assert width[1:].sum() == pytest.approx(np.ptp(airs_edges_um()))
    slope = to_scored(np.abs(np.gradient(detector_wavelength_um())))
    assert width[1:] == pytest.approx(slope, rel=1e-12)
    edges = airs_edges_um()
    assert np.all((edges[:-1] < wavelength_um()[1:]) & (wavelength_um()[1:] < edges[1:]))


@pytest.mark.parametrize(("what", "value"), [("mu", np.nan), ("sigma", np.inf), ("sigma", 0.0)])
def test_values_that_are_no_spectrum_are_not_written(tmp_path, spectra, what, value):
    mu, sigma, covariance = spectra
    {"mu": mu, "sigma": sigma}[what][1, 5] = value
    match = r"not written, planet 4290000001 has depths that are not finite or errors that are not"
    with pytest.raises(ArtefactError, match=match):
        write_netcdf(tmp_path / "s.nc", mu, sigma, covariance)
    with pytest.raises(ArtefactError, match=match):
        write_ecsv(tmp_path / "s.ecsv", mu, sigma, covariance)
    assert list(tmp_path.iterdir()) == []


def test_a_covariance_that_contradicts_the_errors_is_not_written(tmp_path, spectra):
    mu, sigma, covariance = spectra
    covariance[2, 9, 9] *= 1.21
    match = (
        r"planet 12: the covariance is .*diagonal is 1\.21 times sigma\^2 in one bin, expected 1"
    )
    with pytest.raises(ArtefactError, match=match):
        write_netcdf(tmp_path / "s.nc", mu, sigma, covariance)
    covariance[2, 9, 9] = covariance[2, 8, 8]
    covariance[0, 3, 4] = np.nan
    with pytest.raises(ArtefactError, match=r"planet 7: the covariance is not finite or contra"):
        write_ecsv(tmp_path / "s.ecsv", mu, sigma, covariance, row=0)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, spectra, monkeypatch):
    path = tmp_path / "s.nc"
    write_netcdf(path, *spectra)
    old = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteError, match=r"s\.nc: cannot be written \(No space left on device\)"):
        write_netcdf(path, *spectra)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
