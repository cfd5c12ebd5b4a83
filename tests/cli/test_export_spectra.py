"""Exported spectra say what they were made from, and which not to trust."""

import numpy as np
import pytest
import torch
import xarray as xr
from astropy.table import Table
from biased_fits import make_fit
from tiny_run import spectramind

from spectramind.archive.submission import write_spectra
from spectramind.cli.export import export_spectra
from spectramind.config import load
from spectramind.errors import ArtefactError, DataError
from spectramind.observation import NOT_MEASURED
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import Provenance, write_sidecar
from spectramind.stages.folders import SIDECAR, SPECTRA, stage_folder
from spectramind.transit.priors import first_priors, prior_path, priors_hash, write_priors
from spectramind.transit.store import IndexRow, fit_path, write_fit, write_index
from spectramind.transit.work import facts_of

MADE = Provenance("fit", "c" * 16, "e" * 16, "d" * 16, "none", False, "0", 1337, "2026-01-01")


def write_run(config, planets, dark=()):
    """Fits of test planets without light at some wavelengths, and their priors."""
    folder = stage_folder(config, "fit")
    priors, rows = prior_path(folder, None), []
    write_priors(priors, first_priors(config.transit), facts_of(MADE))
    for planet in planets:
        fit, _ = make_fit(planet, bias=0.0)
        fit.measured_sigma[list(dark)] = np.nan
        write_fit(fit_path(folder, "test", planet), fit, {})
        rows.append(IndexRow(planet, fit.reasons, (), priors, ""))
    write_index(folder, "test", rows)
    return folder


def test_an_export_carries_the_provenance_of_the_fits_and_not_that_of_now(tmp_path):
    config, out = load([f"runtime.out={tmp_path}"]), tmp_path / "spectra.nc"
    folder = write_run(config, [7])
    unsealed = r"stage\.json: cannot be read, .* did not end\. Run `spectramind fit` again\.$"
    with pytest.raises(ArtefactError, match=unsealed):
        export_spectra(config, out, stage="fit", kind="posterior", samples=0)
    write_sidecar(folder / SIDECAR, MADE, state="done")
    export_spectra(config, out, stage="fit", kind="posterior", samples=0)
    with xr.open_dataset(out, engine="h5netcdf") as found:
        for name, value in vars(MADE).items():
            assert found.attrs[f"provenance_{name}"] == str(value)


def test_predicted_spectra_carry_the_reasons_not_to_trust_them(tmp_path):
    config, out = load([f"runtime.out={tmp_path}"]), tmp_path / "spectra.nc"
    write_run(config, [7, 8], dark=[4, 5])
    folder = stage_folder(config, "predict")
    depth = torch.full((3, 283), 0.01)
    write_spectra(folder / SPECTRA, np.array([7, 8, 9]), SpectrumPosterior(depth, 0.1 * depth))
    made = Provenance("predict", "c" * 16, "e" * 16, "d" * 16, "none", False, "0", 1, "2026-01-01")
    reasons = {"8": ["Visit 0, FGS1: odd.", "Visit 1: odd."], "9": [NOT_MEASURED]}
    write_sidecar(folder / SIDECAR, made, state="done", facts={"reasons": reasons})
    export_spectra(config, out, stage="predict", kind="posterior", samples=0)
    with xr.open_dataset(out, engine="h5netcdf") as found:
        assert found["flag"].values.tolist() == [0, 1, 2]
        said = found["reasons"].values.tolist()
        assert said == ["", "Visit 0, FGS1: odd.; Visit 1: odd.", NOT_MEASURED]
        lit = ~np.isin(np.arange(283), [4, 5])
        assert np.array_equal(found["measured"], [lit, lit, np.zeros(283, bool)])
        network = "labels that taught the network; in the transit fit: "
        prior = found["prior"].values.tolist()
        assert prior[0] == prior[1]
        assert prior[0].startswith(f"{network}settings alone, no prior over spectra: a scatter of")
        assert prior[2] == f"{network}none, for there is no fit"
    export_spectra(config, tmp_path / "tables", stage="predict", kind="posterior", samples=0)
    for planet in ("7", "8", "9"):
        table = Table.read(tmp_path / "tables" / f"{planet}.ecsv")
        assert table.meta["reasons"] == reasons.get(planet, [])


def test_a_likelihood_is_that_of_the_light_at_measured_wavelengths(tmp_path):
    config, out = load([f"runtime.out={tmp_path}"]), tmp_path / "likelihood.nc"
    folder = write_run(config, [7, 8], dark=[0, 5])
    write_sidecar(folder / SIDECAR, MADE, state="done")
    export_spectra(config, out, stage="fit", kind="likelihood", samples=0)
    lit = ~np.isin(np.arange(283), [0, 5])
    learned = priors_hash(prior_path(folder, None))
    with xr.open_dataset(out, engine="h5netcdf") as found:
        for row, planet in enumerate((7, 8)):
            fit, _ = make_fit(planet, bias=0.0)
            assert np.array_equal(found["measured"][row], lit)
            assert np.array_equal(np.isnan(found["depth"][row]), ~lit)
            assert found["depth"].values[row, lit] == pytest.approx(fit.depth[lit], rel=1e-6)
            assert found["depth_error"].values[row, lit] == pytest.approx(fit.sigma[lit])
            assert found["prior"].values[row] == (
                "no prior over spectra; orbits, limb darkening, clocks, drift and noise by "
                f"priors/all.safetensors, hash {learned}, configuration {'c' * 16}, data "
                f"{'d' * 16}, 2026-01-01"
            )
    words = ("--kind", "likelihood", "--out", "tables", f"runtime.out={tmp_path}")
    spectramind(tmp_path, "export", *words)
    table = Table.read(tmp_path / "tables" / "7.ecsv")
    assert len(table) == 281
    assert table.meta["kind"] == "likelihood"


@pytest.mark.parametrize(("stage", "samples"), [("predict", 0), ("fit", 3)])
def test_a_network_has_no_likelihood_and_a_likelihood_no_draws(tmp_path, stage, samples):
    config, out = load([f"runtime.out={tmp_path}"]), tmp_path / "likelihood.nc"
    words = r"^--kind likelihood: .* A network's spectrum is a posterior, .* Leave --stage and"
    with pytest.raises(DataError, match=words):
        export_spectra(config, out, stage=stage, kind="likelihood", samples=samples)
