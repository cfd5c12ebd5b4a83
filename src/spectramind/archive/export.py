"""Spectra in the formats of the field: netCDF for all planets, ECSV for one.

The covariance goes along: errors of neighbouring wavelengths are correlated, and a retrieval
that takes them as independent is too sure of its temperature and abundances. A posterior holds a
prior over spectra, which a retrieval counts a second time. A likelihood holds none.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import xarray as xr
from astropy.table import Table
from jaxtyping import Bool, Float64

from spectramind import __version__
from spectramind.errors import ArtefactError
from spectramind.files import replacing, write_atomic
from spectramind.instrument import FGS1_BAND_UM, airs_edges_um, wavelength_um
from spectramind.observation import NOT_MEASURED, Spectra, SpectraKind
from spectramind.provenance import Provenance

NETCDF = ".nc"  # ending of a file for all planets
_SOURCE = f"SpectraMind V50 {__version__}"
_DEPTH = "transit depth (Rp/Rs)^2"
_FLAGS = ("trusted", "suspicious", "not_measured")
_DIAGONAL_RTOL = 1e-9  # of rounding, with ample room
_COMMENTS: dict[SpectraKind, str] = {
    "posterior": (
        "Posterior: depths are weighed by the prior that `prior` names. A retrieval that brings a "
        "prior of its own counts both. Where `measured` is false the prior alone speaks."
    ),
    "likelihood": (
        "Likelihood: the light curves alone, without a prior over spectra, at the wavelengths "
        "where `measured` is true. Where light leaves a sum of depths free, `reasons` says so."
    ),
}


def write_spectra_netcdf(path: Path, spectra: Spectra, provenance: Mapping[str, str]) -> None:
    """Write spectra of many planets as netCDF-4 after the CF conventions, atomically.

    Dimensions are planet, wavelength, wavelength_2 of the covariance and draw of the samples;
    variables `depth`, `depth_error`, `depth_covariance`, `depth_sample`, `measured`, `bandwidth`,
    `flag`, `reasons` and `prior`. Global attributes `kind` and `comment` say what the depths are.

    Args:
        path: File to write.
        spectra: What to write; covariance or samples that are None leave their variable out.
        provenance: Written as global attributes `provenance_<key>`.

    Raises:
        ArtefactError: If a value is not finite, a sigma not positive, or the diagonal of the
            covariance contradicts sigma; names the first planet.
        WriteError: If the file cannot be written.
    """
    for row in range(len(spectra.planet_ids)):
        _check(path, spectra, row)
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
            "kind": spectra.kind,
            "comment": _COMMENTS[spectra.kind],
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
    beside = "depth_error measured flag reasons prior"
    beside += "" if covariance is None else " depth_covariance"
    flags = np.array([_flag(found) for found in reasons], np.int8)
    meanings = np.arange(len(_FLAGS), dtype=np.int8)
    values = {"flag_values": meanings, "flag_meanings": " ".join(_FLAGS)}
    said = ["; ".join(found) for found in reasons]
    variables: dict[str, tuple] = {
        "depth": (spectrum, spectra.depth, _one(_DEPTH, ancillary_variables=beside)),
        "depth_error": (spectrum, spectra.sigma, _one(f"standard deviation of the {_DEPTH}")),
        "measured": (
            spectrum,
            spectra.measured,
            {"long_name": "whether light measures the depth"},
        ),
        "bandwidth": ("wavelength", bandwidth_um(), {"long_name": "bin width", "units": "um"}),
        "flag": ("planet", flags, {"long_name": "trust in the spectrum", **values}),
        "reasons": _texts(said, "why not to trust the spectrum"),
        "prior": _texts(spectra.priors, "what else than light made the spectrum"),
    }
    if covariance is not None:
        square = (*spectrum, "wavelength_2")
        variables["depth_covariance"] = (square, covariance, _one(f"covariance of the {_DEPTH}"))
    return variables


def _texts(texts: Sequence[str], long_name: str) -> tuple:
    """A variable of one text per planet."""
    return "planet", np.array(texts, dtype=object), {"long_name": long_name}


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
    path: Path, spectra: Spectra, row: int, provenance: Mapping[str, str]
) -> None:
    """Write the spectrum of one planet as an astropy ECSV table, atomically.

    Columns `wavelength` [um], `depth`, `depth_error`, `bandwidth` [um], in the order in which
    TauREx reads a text file, then `measured` and, where given, `depth_covariance`, one matrix row
    per table row. The covariance is a column and not metadata so that a reader gets it as an
    array. The table of a likelihood has the measured wavelengths alone, and its covariance their
    rows and columns. One of a planet without any has neither rows nor covariance.

    Args:
        path: File to write.
        spectra: Of planets; covariance None leaves the column out.
        row: Of the planet. Its number, prior and reasons go to the metadata.
        provenance: Where the spectrum comes from; goes to the metadata.

    Raises:
        ArtefactError: If a value is not finite, a sigma not positive, or the diagonal of the
            covariance contradicts sigma.
        WriteError: If the file cannot be written.
    """
    _check(path, spectra, row)
    kept = _spoken(spectra, row)
    columns: dict[str, np.ndarray] = {
        "wavelength": wavelength_um()[kept],
        "depth": spectra.depth[row, kept],
        "depth_error": spectra.sigma[row, kept],
        "bandwidth": bandwidth_um()[kept],
        "measured": spectra.measured[row, kept],
    }
    if spectra.covariance is not None and kept.any():
        columns["depth_covariance"] = spectra.covariance[row][np.ix_(kept, kept)]
    table = Table(
        columns,
        units={"wavelength": "um", "bandwidth": "um"},
        descriptions={"depth": _DEPTH},
        meta={
            "planet_id": int(spectra.planet_ids[row]),
            "source": _SOURCE,
            "kind": spectra.kind,
            "comment": _COMMENTS[spectra.kind],
            "prior": spectra.priors[row],
            "reasons": list(spectra.reasons[row]),
            "provenance": dict(provenance),
        },
    )
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    write_atomic(path, text.getvalue().encode())


def _spoken(spectra: Spectra, row: int) -> Bool[np.ndarray, " 283"]:
    """Wavelengths of a planet that hold a depth."""
    if spectra.kind == "likelihood":
        return spectra.measured[row]
    return np.ones_like(spectra.measured[row])


def bandwidth_um() -> Float64[np.ndarray, " 283"]:
    """Full width of each wavelength bin [um]: the band of FGS1, the columns of AIRS-CH0."""
    return np.append(FGS1_BAND_UM[1] - FGS1_BAND_UM[0], np.diff(airs_edges_um()))


def _check(path: Path, spectra: Spectra, row: int) -> None:
    """Refuse numbers that are no spectrum at the wavelengths that hold one."""
    kept = _spoken(spectra, row)
    mu, sigma = spectra.depth[row, kept], spectra.sigma[row, kept]
    where = f"{path}: not written, planet {spectra.planet_ids[row]}"
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all() and (sigma > 0.0).all()):
        raise ArtefactError(
            f"{where} has depths that are not finite or errors that are not positive. Predict it "
            "anew or leave it out."
        )
    if spectra.covariance is not None and kept.any():
        _check_covariance(where, sigma, spectra.covariance[row][np.ix_(kept, kept)])


def _check_covariance(
    where: str, sigma: Float64[np.ndarray, " W"], covariance: Float64[np.ndarray, "W W"]
) -> None:
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
    paths = tuple(out / f"{planet}.ecsv" for planet in spectra.planet_ids)
    for row, path in enumerate(paths):
        write_spectrum_ecsv(path, spectra, row, facts)
    return paths
