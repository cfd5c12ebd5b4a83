"""Spectra in the formats of the field: netCDF for all planets, ECSV for one.

The covariance goes along: errors of neighbouring wavelengths are correlated, and a retrieval
that takes them as independent is too sure of its temperature and abundances.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import xarray as xr
from astropy.table import Table
from jaxtyping import Float64

from spectramind import __version__
from spectramind.errors import ArtefactError
from spectramind.files import replacing, write_atomic
from spectramind.instrument import FGS1_BAND_UM, airs_edges_um, wavelength_um
from spectramind.observation import NOT_MEASURED, Spectra
from spectramind.provenance import Provenance

NETCDF = ".nc"  # ending of a file for all planets
_SOURCE = f"SpectraMind V50 {__version__}"
_DEPTH = "transit depth (Rp/Rs)^2"
_FLAGS = ("trusted", "suspicious", "not_measured")
_DIAGONAL_RTOL = 1e-9  # of rounding, with ample room


def write_spectra_netcdf(path: Path, spectra: Spectra, provenance: Mapping[str, str]) -> None:
    """Write spectra of many planets as netCDF-4 after the CF conventions, atomically.

    Dimensions are planet, wavelength, wavelength_2 of the covariance and draw of the samples;
    variables `depth`, `depth_error`, `depth_covariance`, `depth_sample`, `bandwidth`, `flag` and
    `reasons`.

    Args:
        path: File to write.
        spectra: What to write; covariance or samples that are None leave their variable out.
        provenance: Written as global attributes `provenance_<key>`.

    Raises:
        ArtefactError: If a value is not finite, a sigma not positive, or the diagonal of the
            covariance contradicts sigma; names the first planet.
        WriteError: If the file cannot be written.
    """
    for row, planet_id in enumerate(spectra.planet_ids):
        covariance = None if spectra.covariance is None else spectra.covariance[row]
        _check(path, planet_id, spectra.depth[row], spectra.sigma[row], covariance)
    planets = np.asarray(spectra.planet_ids, np.int64)
    dataset = xr.Dataset(
        _variables(spectra),
        coords={
            "planet": ("planet", planets, {"long_name": "planet_id"}),
            "wavelength": ("wavelength", wavelength_um(), _wavelength_attributes()),
        },
        attrs={
            "Conventions": "CF-1.11",
            "title": "Transmission spectra of exoplanets",
            "source": _SOURCE,
            **{f"provenance_{key}": value for key, value in provenance.items()},
        },
    )
    if spectra.covariance is not None:
        dataset = dataset.assign_coords(
            wavelength_2=("wavelength_2", wavelength_um(), _wavelength_attributes())
        )
    if spectra.samples is not None:
        axes, about = ("planet", "draw", "wavelength"), f"draws from the posterior of the {_DEPTH}"
        dataset["depth_sample"] = (axes, spectra.samples, _one(about))
    with replacing(path) as temporary:
        dataset.to_netcdf(temporary, engine="h5netcdf", format="NETCDF4")


def _variables(spectra: Spectra) -> dict[str, tuple]:
    covariance, reasons = spectra.covariance, spectra.reasons
    spectrum = ("planet", "wavelength")
    beside = "depth_error flag reasons" + ("" if covariance is None else " depth_covariance")
    flags = np.array([_flag(found) for found in reasons], np.int8)
    meanings = np.arange(len(_FLAGS), dtype=np.int8)
    values = {"flag_values": meanings, "flag_meanings": " ".join(_FLAGS)}
    variables: dict[str, tuple] = {
        "depth": (spectrum, spectra.depth, _one(_DEPTH, ancillary_variables=beside)),
        "depth_error": (spectrum, spectra.sigma, _one(f"standard deviation of the {_DEPTH}")),
        "bandwidth": ("wavelength", bandwidth_um(), {"long_name": "bin width", "units": "um"}),
        "flag": ("planet", flags, {"long_name": "trust in the spectrum", **values}),
        "reasons": (
            "planet",
            np.array(["; ".join(found) for found in reasons], dtype=object),
            {"long_name": "why not to trust the spectrum"},
        ),
    }
    if covariance is not None:
        square = (*spectrum, "wavelength_2")
        variables["depth_covariance"] = (square, covariance, _one(f"covariance of the {_DEPTH}"))
    return variables


def _flag(reasons: Sequence[str]) -> int:
    """Place in `_FLAGS`."""
    if NOT_MEASURED in reasons:
        return 2
    return 1 if reasons else 0


def _one(long_name: str, **more: str) -> dict[str, str]:
    """Attributes of a quantity without dimension."""
    return {"long_name": long_name, "units": "1", **more}


def _wavelength_attributes() -> dict[str, str]:
    return {"standard_name": "radiation_wavelength", "long_name": "wavelength", "units": "um"}


def write_spectrum_ecsv(
    path: Path,
    planet_id: int,
    mu: Float64[np.ndarray, " 283"],
    sigma: Float64[np.ndarray, " 283"],
    covariance: Float64[np.ndarray, "283 283"] | None,
    *,
    reasons: Sequence[str],
    provenance: Mapping[str, str],
) -> None:
    """Write the spectrum of one planet as an astropy ECSV table, atomically.

    Columns `wavelength` [um], `depth`, `depth_error`, `bandwidth` [um], in the order in which
    TauREx reads a text file, then, where given, `depth_covariance`, one matrix row per table row.
    The covariance is a column and not metadata so that a reader gets it as an array, and a
    row selection takes its rows along.

    Args:
        path: File to write.
        planet_id: Goes to the metadata, as do `reasons` and `provenance`.
        mu: Depths (Rp/Rs)^2; wavelength 0 is FGS1.
        sigma: Standard deviations of the depths.
        covariance: Of the depths, with diagonal sigma^2; None leaves the column out.
        reasons: Why not to trust the spectrum; empty for a trusted one.
        provenance: Where the spectrum comes from.

    Raises:
        ArtefactError: If a value is not finite, a sigma not positive, or the diagonal of the
            covariance contradicts sigma.
        WriteError: If the file cannot be written.
    """
    _check(path, planet_id, mu, sigma, covariance)
    columns: dict[str, np.ndarray] = {
        "wavelength": wavelength_um(),
        "depth": mu,
        "depth_error": sigma,
        "bandwidth": bandwidth_um(),
    }
    if covariance is not None:
        columns["depth_covariance"] = covariance
    table = Table(
        columns,
        units={"wavelength": "um", "bandwidth": "um"},
        descriptions={"depth": _DEPTH},
        meta={
            "planet_id": int(planet_id),
            "source": _SOURCE,
            "reasons": list(reasons),
            "provenance": dict(provenance),
        },
    )
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    write_atomic(path, text.getvalue().encode())


def bandwidth_um() -> Float64[np.ndarray, " 283"]:
    """Full width of each wavelength bin [um]: the band of FGS1, the columns of AIRS-CH0."""
    return np.append(FGS1_BAND_UM[1] - FGS1_BAND_UM[0], np.diff(airs_edges_um()))


def _check(
    path: Path,
    planet_id: int,
    mu: Float64[np.ndarray, " 283"],
    sigma: Float64[np.ndarray, " 283"],
    covariance: Float64[np.ndarray, "283 283"] | None,
) -> None:
    where = f"{path}: not written, planet {planet_id}"
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all() and (sigma > 0.0).all()):
        raise ArtefactError(
            f"{where} has depths that are not finite or errors that are not positive. Predict it "
            "anew or leave it out."
        )
    if covariance is None:
        return
    ratio = np.diagonal(covariance) / sigma**2
    agrees = np.allclose(ratio, 1.0, rtol=0.0, atol=_DIAGONAL_RTOL)
    if not (agrees and np.isfinite(covariance).all()):
        worst = ratio[np.argmax(np.abs(ratio - 1.0))]
        raise ArtefactError(
            f"{where}: the covariance is not finite or contradicts the errors: its diagonal is "
            f"{worst:.6g} times sigma^2 in one bin, expected 1. Scale both alike."
        )


def write_export(spectra: Spectra, provenance: Provenance, out: Path) -> tuple[Path, ...]:
    """Write spectra as one netCDF file, or as a folder of ECSV files."""
    facts = {key: str(value) for key, value in asdict(provenance).items()}
    if out.suffix == NETCDF:
        write_spectra_netcdf(out, spectra, facts)
        return (out,)
    paths = []
    for row, planet in enumerate(spectra.planet_ids):
        covariance = None if spectra.covariance is None else spectra.covariance[row]
        paths.append(out / f"{planet}.ecsv")
        write_spectrum_ecsv(
            paths[-1], planet, spectra.depth[row], spectra.sigma[row], covariance,
            reasons=spectra.reasons[row], provenance=facts,
        )  # fmt: skip
    return tuple(paths)
