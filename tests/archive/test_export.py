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


def write_netcdf(path, mu, sigma, covariance):
    write_spectra_netcdf(path, Spectra(PLANETS, mu, sigma, covariance, None, REASONS), PROVENANCE)


def write_ecsv(path, mu, sigma, covariance):
    write_spectrum_ecsv(path, 7, mu, sigma, covariance, reasons=REASONS[1], provenance=PROVENANCE)


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
    write_ecsv(tmp_path / "s.ecsv", mu[0], sigma[0], None)
    with xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as found:
        assert set(found.dims) == {"planet", "wavelength"}
        assert set(found["depth"].attrs["ancillary_variables"].split()) < set(found.variables)
    table = Table.read(tmp_path / "s.ecsv")
    assert table.colnames == ["wavelength", "depth", "depth_error", "bandwidth"]


def test_astropy_reads_what_was_written(tmp_path, spectra):
    mu, sigma, covariance = (values[1] for values in spectra)
    write_ecsv(tmp_path / "s.ecsv", mu, sigma, covariance)
    table = QTable.read(tmp_path / "s.ecsv")
    assert np.array_equal(table["wavelength"].to_value(units.um), wavelength_um())
    assert np.array_equal(table["bandwidth"].to_value(units.um), bandwidth_um())
    assert np.array_equal(table["depth"], mu)
    assert np.array_equal(table["depth_error"], sigma)
    assert table["depth_covariance"].dtype == np.float64
    assert np.array_equal(table["depth_covariance"], covariance)
    assert table.meta["planet_id"] == 7
    assert table.meta["reasons"] == list(REASONS[1])
    assert table.meta["provenance"] == PROVENANCE


def test_the_documented_text_file_for_taurex(tmp_path, spectra, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mu, sigma, covariance = (values[0] for values in spectra)
    write_ecsv(tmp_path / "1103775.ecsv", mu, sigma, covariance)
    example = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    exec(compile(example, "example", "exec"), {})
    wanted = np.column_stack([wavelength_um(), mu, sigma, bandwidth_um()])
    assert np.loadtxt(tmp_path / "1103775.txt") == pytest.approx(wanted, rel=1e-15)


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
    with pytest.raises(ArtefactError, match=r"not written, planet 7 has depths .* leave it out"):
        write_ecsv(tmp_path / "s.ecsv", mu[1], sigma[1], covariance[1])
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
        write_ecsv(tmp_path / "s.ecsv", mu[0], sigma[0], covariance[0])


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
