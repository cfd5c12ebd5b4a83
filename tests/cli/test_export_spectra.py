"""Exported spectra say what they were made from, and which not to trust."""

import numpy as np
import pytest
import torch
import xarray as xr
from astropy.table import Table
from biased_fits import make_fit

from spectramind.archive.submission import write_spectra
from spectramind.cli.export import export_spectra
from spectramind.config import load
from spectramind.errors import ArtefactError
from spectramind.observation import NOT_MEASURED
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import Provenance, write_sidecar
from spectramind.stages.folders import SIDECAR, SPECTRA, stage_folder
from spectramind.transit.store import fit_path, write_fit


def test_an_export_carries_the_provenance_of_the_fits_and_not_that_of_now(tmp_path):
    config, out = load([f"runtime.out={tmp_path}"]), tmp_path / "spectra.nc"
    folder = stage_folder(config, "fit")
    write_fit(fit_path(folder, "test", 7), make_fit(7, bias=0.0)[0], {})
    unsealed = r"stage\.json: cannot be read, .* did not end\. Run `spectramind fit` again\.$"
    with pytest.raises(ArtefactError, match=unsealed):
        export_spectra(config, out, stage="fit", samples=0)
    made = Provenance("fit", "c" * 16, "e" * 16, "d" * 16, "none", False, "0", 1337, "2026-01-01")
    write_sidecar(folder / SIDECAR, made, state="done")
    export_spectra(config, out, stage="fit", samples=0)
    with xr.open_dataset(out, engine="h5netcdf") as found:
        for name, value in vars(made).items():
            assert found.attrs[f"provenance_{name}"] == str(value)


def test_predicted_spectra_carry_the_reasons_not_to_trust_them(tmp_path):
    config, out = load([f"runtime.out={tmp_path}"]), tmp_path / "spectra.nc"
    folder = stage_folder(config, "predict")
    depth = torch.full((3, 283), 0.01)
    write_spectra(folder / SPECTRA, np.array([7, 8, 9]), SpectrumPosterior(depth, 0.1 * depth))
    made = Provenance("predict", "c" * 16, "e" * 16, "d" * 16, "none", False, "0", 1, "2026-01-01")
    reasons = {"8": ["Visit 0, FGS1: odd.", "Visit 1: odd."], "9": [NOT_MEASURED]}
    write_sidecar(folder / SIDECAR, made, state="done", facts={"reasons": reasons})
    export_spectra(config, out, stage="predict", samples=0)
    with xr.open_dataset(out, engine="h5netcdf") as found:
        assert found["flag"].values.tolist() == [0, 1, 2]
        said = found["reasons"].values.tolist()
        assert said == ["", "Visit 0, FGS1: odd.; Visit 1: odd.", NOT_MEASURED]
    export_spectra(config, tmp_path / "tables", stage="predict", samples=0)
    for planet in ("7", "8", "9"):
        table = Table.read(tmp_path / "tables" / f"{planet}.ecsv")
        assert table.meta["reasons"] == reasons.get(planet, [])
