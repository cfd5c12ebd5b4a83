"""Spectra of a run as files for retrieval codes."""

from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from spectramind.archive.export import NETCDF, write_export
from spectramind.archive.submission import read_spectra
from spectramind.config import Config
from spectramind.errors import ArtefactError, DataError
from spectramind.observation import SpectraKind
from spectramind.provenance import Provenance
from spectramind.stages.folders import SIDECAR, SPECTRA, command_of, read_sidecar, stage_folder
from spectramind.stages.predict import predicted_spectra
from spectramind.transit.spectra import measured_planets, spectra_of_fits

Exported = Literal["fit", "predict"]


def export_spectra(
    config: Config, out: Path, *, stage: Exported, kind: SpectraKind, samples: int
) -> tuple[Path, ...]:
    """Write the spectra of a stage as `out.nc`, or one ECSV per planet into the folder `out`.

    Args:
        config: The whole configuration.
        out: File that ends in .nc, or a folder.
        stage: "fit", with covariance, or "predict", the network's, with errors alone.
        kind: "posterior", or "likelihood", which the transit fits alone have.
        samples: Draws from the posterior of each planet, for a netCDF file of the fits.

    Raises:
        ArtefactError: If the stage has not run, or not to its end.
        DataError: If the name of the file has another ending, or what is asked for is not there.
        WriteError: If a file cannot be written.
    """
    if out.suffix not in ("", NETCDF):
        raise DataError(
            f"--out {out}: ends in {out.suffix}, expected a file that ends in .nc for all planets "
            "or a folder for one .ecsv per planet."
        )
    if kind == "likelihood" and (stage != "fit" or samples):
        raise DataError(
            "--kind likelihood: comes from the transit fits, without draws. A network's spectrum "
            "is a posterior, and what its labels taught cannot be taken out. Leave --stage and "
            "--samples out."
        )
    if samples and (stage != "fit" or out.suffix != NETCDF):
        raise DataError(
            f"--samples {samples}: draws come with the transit fits as netCDF only. Use --stage "
            "fit and an --out that ends in .nc, or leave the option out."
        )
    folder, made = stage_folder(config, stage), _record(config, stage)
    if stage == "fit":
        spectra = spectra_of_fits(folder, kind=kind, samples=samples)
    else:
        fits = measured_planets(stage_folder(config, "fit"), "test")
        planets, posterior = read_spectra(folder / SPECTRA)
        spectra = predicted_spectra(planets, posterior, made["facts"]["reasons"], fits)
    made_by = Provenance(**{field.name: made[field.name] for field in fields(Provenance)})
    return write_export(spectra, made_by, out)


def _record(config: Config, stage: Exported) -> dict[str, Any]:
    """What the run that made the spectra says of itself; this configuration may be another."""
    made = read_sidecar(config, stage)
    if made is None:
        raise ArtefactError(
            f"{stage_folder(config, stage) / SIDECAR}: cannot be read, so the run that made the "
            f"spectra did not end. Run `spectramind {command_of(stage)}` again."
        )
    return made
