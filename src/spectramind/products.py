"""What people take away from the fits: files for retrieval codes, a figure and its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from spectramind.archive.export import write_spectra_netcdf, write_spectrum_ecsv
from spectramind.archive.submission import read_spectra
from spectramind.artefacts import SPECTRA, provenance_of, stage_folder
from spectramind.config import Config
from spectramind.errors import ArtefactError, DataError
from spectramind.observation import TransitFit
from spectramind.provenance import Provenance, replacing
from spectramind.sources import SPLITS
from spectramind.transit.figure import plot_fit
from spectramind.transit.metrics import NoiseMetrics, visit_noise
from spectramind.transit.store import fit_path, read_fit, read_fits

_NETCDF = ".nc"
_SHOWN = ("rms_ppm", "photon_ratio", "mad_ppm", "beta", "lag1")  # of `NoiseMetrics`


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra of planets, ready to be written."""

    planet_ids: Sequence[int]
    depth: Float64[np.ndarray, "B 283"]
    sigma: Float64[np.ndarray, "B 283"]
    covariance: Float32[np.ndarray, "B 283 283"] | None
    samples: Float64[np.ndarray, "B S 283"] | None
    reasons: Sequence[Sequence[str]]  # of flagged planets


def spectra_of_fits(folder: Path, samples: int) -> Spectra:
    """Spectra of all fits below the folder of the stage `fit`, with so many draws from each.

    Raises:
        ArtefactError: If there is none.
    """
    here = [split for split in SPLITS if any((folder / split).glob("*.safetensors"))]
    fits = [fit for split in here or SPLITS[:1] for fit in read_fits(folder, split).values()]
    return Spectra(
        [fit.planet_id for fit in fits],
        np.stack([fit.depth for fit in fits]),
        np.stack([fit.sigma for fit in fits]),
        np.stack([fit.covariance for fit in fits]),
        np.stack([fit.samples(samples) for fit in fits]) if samples else None,
        [fit.reasons for fit in fits],
    )


def export_spectra(
    config: Config, out: Path, *, stage: Literal["fit", "predict"], samples: int
) -> tuple[Path, ...]:
    """Write the spectra of a stage as `out.nc`, or one ECSV a planet into the folder `out`.

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
    if out.suffix not in ("", _NETCDF):
        raise DataError(
            f"--out {out}: ends in {out.suffix}, expected a file that ends in .nc for all planets "
            "or a folder for one .ecsv a planet."
        )
    if samples and (stage != "fit" or out.suffix != _NETCDF):
        raise DataError(
            f"--samples {samples}: draws come with the transit fits as netCDF only. Use --stage "
            "fit and an --out that ends in .nc, or leave the option out."
        )
    folder = stage_folder(config, stage)
    spectra = spectra_of_fits(folder, samples) if stage == "fit" else _predicted(folder)
    return write_spectra(spectra, provenance_of(config, stage), out)


def write_spectra(spectra: Spectra, provenance: Provenance, out: Path) -> tuple[Path, ...]:
    """Write spectra as one netCDF file, or as a folder of ECSV files."""
    facts = {key: str(value) for key, value in asdict(provenance).items()}
    if out.suffix == _NETCDF:
        write_spectra_netcdf(
            out, spectra.planet_ids, spectra.depth, spectra.sigma, spectra.covariance,
            samples=spectra.samples, reasons=spectra.reasons,
            provenance=facts,
        )  # fmt: skip
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


def _predicted(folder: Path) -> Spectra:
    planets, posterior = read_spectra(folder / SPECTRA)
    mu, sigma = (part.numpy().astype(np.float64) for part in (posterior.mu, posterior.sigma))
    return Spectra(planets.tolist(), mu, sigma, None, None, [()] * len(planets))


def inspect_planet(
    config: Config, planet_id: int, out: Path | None
) -> tuple[str, dict[str, Any], Path]:
    """Numbers and figure of one planet's fit.

    Args:
        config: The whole configuration.
        planet_id: Planet of either split.
        out: PNG, PDF or SVG file; None: a PNG below the folder of the stage.

    Returns:
        A table for people, the same as facts, and the figure's path.

    Raises:
        ArtefactError: If the planet has no fit.
        WriteError: If the figure cannot be written.
    """
    folder = stage_folder(config, "fit")
    paths = [fit_path(folder, split, planet_id) for split in SPLITS]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise ArtefactError(
            f"planet {planet_id}: no fit in {folder}. Run `spectramind fit` first, or take a "
            f"planet that is there: {', '.join(sorted(p.stem for p in folder.glob('*/*')))[:80]}"
        )
    fit = read_fit(found[0])
    facts = _facts(fit, config.transit.failure.red_noise_s)
    path = folder / "figures" / f"{planet_id}.png" if out is None else out
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise DataError(f"--out {path}: expected a name that ends in .png, .pdf or .svg.")
    with replacing(path) as temporary:
        plot_fit(fit).savefig(temporary, format=path.suffix.removeprefix("."))
    return _table(facts), facts, path


def _facts(fit: TransitFit, red_noise_s: float) -> dict[str, Any]:
    sigma = np.sqrt(np.diag(fit.parameter_covariance))
    noise = {}
    for visit in fit.visits:
        found = visit_noise(visit, visit.electrons.astype(np.float64), red_noise_s=red_noise_s)
        for name in ("fgs1", "airs_white", "airs"):
            metrics: NoiseMetrics | None = getattr(found, name)
            if metrics is not None:
                noise[f"visit {visit.visit} {name}"] = {k: getattr(metrics, k) for k in _SHOWN}
    return {
        "planet_id": fit.planet_id,
        "verdict": list(fit.reasons) or ["trusted"],
        "fgs1_depth_ppm": 1e6 * float(fit.depth[0]),
        "fgs1_sigma_ppm": 1e6 * float(fit.sigma[0]),
        "airs_depth_ppm": 1e6 * fit.white_depth,
        "airs_sigma_ppm": 1e6 * float(np.sqrt(fit.covariance[1:, 1:].astype(np.float64).mean())),
        "reduced_chi2": fit.reduced_chi2,
        "parameters": {
            name: {"value": float(value), "sigma": float(error)}
            for name, value, error in zip(fit.parameter_names, fit.parameters, sigma, strict=True)
        },
        "noise": noise,
    }


def _table(facts: Mapping[str, Any]) -> str:
    lines = [f"planet {facts['planet_id']}: {' '.join(facts['verdict'])}"]
    for channel in ("fgs1", "airs"):
        depth, sigma = facts[f"{channel}_depth_ppm"], facts[f"{channel}_sigma_ppm"]
        lines.append(f"{channel + ' mean depth':24s}{depth:12.0f} +- {sigma:.0f} ppm")
    for name, found in facts["parameters"].items():
        lines.append(f"{name:24s}{found['value']:12.5g} +- {found['sigma']:.2g}")
    lines.append(f"{'noise':24s}" + "".join(f"{name:>14s}" for name in _SHOWN))
    for name, found in facts["noise"].items():
        lines.append(f"{name:24s}" + "".join(f"{found[key]:14.3g}" for key in _SHOWN))
    return "\n".join(lines)
