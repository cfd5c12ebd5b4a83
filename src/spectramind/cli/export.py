"""Spectra of a run as files for retrieval codes."""

from pathlib import Path
from typing import Literal

import numpy as np

from spectramind.archive.export import NETCDF, write_export
from spectramind.archive.submission import read_spectra
from spectramind.config import Config
from spectramind.errors import DataError
from spectramind.observation import Spectra
from spectramind.stages.folders import SPECTRA, stage_folder
from spectramind.stages.freshness import provenance_of
from spectramind.transit.store import spectra_of_fits


def export_spectra(
    config: Config, out: Path, *, stage: Literal["fit", "predict"], samples: int
) -> tuple[Path, ...]:
    """Write the spectra of a stage as `out.nc`, or one ECSV per planet into the folder `out`.

    Args:
        config: The whole configuration.
        out: File that ends in .nc, or a folder.
        stage: "fit", with covariance, or "predict", the network's, with errors alone.
        samples: Draws from the posterior of each planet, for a netCDF file of the fits.

    Raises:
        ArtefactError: If the stage has not run.
        DataError: If the name of the file has another ending, or cannot hold samples.
        WriteError: If a file cannot be written.
    """
    if out.suffix not in ("", NETCDF):
        raise DataError(
            f"--out {out}: ends in {out.suffix}, expected a file that ends in .nc for all planets "
            "or a folder for one .ecsv a planet."
        )
    if samples and (stage != "fit" or out.suffix != NETCDF):
        raise DataError(
            f"--samples {samples}: draws come with the transit fits as netCDF only. Use --stage "
            "fit and an --out that ends in .nc, or leave the option out."
        )
    folder = stage_folder(config, stage)
    spectra = spectra_of_fits(folder, samples) if stage == "fit" else _predicted(folder)
    return write_export(spectra, provenance_of(config, stage), out)


def _predicted(folder: Path) -> Spectra:
    planets, posterior = read_spectra(folder / SPECTRA)
    mu, sigma = (part.numpy().astype(np.float64) for part in (posterior.mu, posterior.sigma))
    return Spectra(planets.tolist(), mu, sigma, None, None, [()] * len(planets))
