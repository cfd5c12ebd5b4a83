"""Numbers and figure of one planet's fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spectramind.archive.layout import SPLITS
from spectramind.config import Config
from spectramind.errors import ArtefactError, DataError
from spectramind.files import replacing
from spectramind.observation import TransitFit
from spectramind.stages.folders import stage_folder
from spectramind.transit.figure import plot_fit
from spectramind.transit.metrics import NoiseMetrics, visit_noise
from spectramind.transit.store import fit_path, read_fit

_SHOWN = ("rms_ppm", "photon_ratio", "mad_ppm", "beta", "lag1")  # of `NoiseMetrics`


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
        "fgs1_measured": bool(fit.measured[0]),
        "fgs1_depth_ppm": 1e6 * float(fit.depth[0]),
        "fgs1_sigma_ppm": 1e6 * float(fit.sigma[0]),
        "airs_depth_ppm": 1e6 * fit.white_depth,
        "airs_sigma_ppm": 1e6 * fit.white_sigma,
        "fgs1_widening": float(fit.widening[0]),
        "airs_widening": float(fit.widening[1]),
        "airs_wavelengths": int(fit.measured[1:].sum()),
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
        line = f"{channel + ' mean depth':24s}{depth:12.0f} +- {sigma:.0f} ppm"
        lines.append(f"{line}, widened {facts[f'{channel}_widening']:.2f} times")
    if not facts["fgs1_measured"]:
        lines[1] += ", not measured: it follows from the prior"
    lines[2] += f" from {facts['airs_wavelengths']} wavelengths"
    for name, found in facts["parameters"].items():
        lines.append(f"{name:24s}{found['value']:12.5g} +- {found['sigma']:.2g}")
    lines.append(f"{'noise':24s}" + "".join(f"{name:>14s}" for name in _SHOWN))
    for name, found in facts["noise"].items():
        lines.append(f"{name:24s}" + "".join(f"{found[key]:14.3g}" for key in _SHOWN))
    return "\n".join(lines)
