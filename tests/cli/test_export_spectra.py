"""Exported spectra say what they were made from."""

import pytest
import xarray as xr
from biased_fits import make_fit

from spectramind.cli.export import export_spectra
from spectramind.config import load
from spectramind.errors import ArtefactError
from spectramind.provenance import Provenance, write_sidecar
from spectramind.stages.folders import SIDECAR, stage_folder
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
