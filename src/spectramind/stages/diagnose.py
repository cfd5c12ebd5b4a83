"""Stage `diagnose`: what the stages left, scored and drawn as a dashboard."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from spectramind.archive.layout import Archive, open_archive
from spectramind.archive.submission import completed_fit, fit_posterior, read_spectra
from spectramind.archive.tables import read_labels
from spectramind.diagnose.evidence import Evidence
from spectramind.diagnose.report import FIT_ALONE, DashboardReport, write_dashboard
from spectramind.diagnose.scorecard import Yardstick, naive_guess
from spectramind.files import write_atomic
from spectramind.observation import Labels
from spectramind.provenance import Provenance
from spectramind.sentences import counted
from spectramind.stages.folders import (
    CALIBRATION,
    HIDDEN_LABELS,
    INTERVALS,
    OUT_OF_FOLD,
    SPECTRA,
    STAGES,
    read_sidecar,
    run_folder,
    stage_folder,
)
from spectramind.stages.result import Result
from spectramind.transit.store import read_fits
from spectramind.uq.calibration import read_calibration
from spectramind.uq.intervals import read_intervals

if TYPE_CHECKING:
    from spectramind.config import Config


def diagnose(config: "Config", folder: Path, _provenance: Provenance) -> Result:
    """Score what can be scored and write the dashboard."""
    params = folder / "params.yaml"
    write_atomic(params, config.frozen().encode())
    evidence = gather_evidence(config, command=f"spectramind run --params {params}")
    report = write_dashboard(evidence, config.diagnostics, folder)
    facts = _facts(config, evidence, report)
    where = counted(facts["planets"], "held-out planet" if report.held_out else "training planet")
    how = "" if report.held_out else ", out of fold"
    return Result(
        summary=(
            f"score {facts['score']:.4f} ({facts['metric']} metric) on {where}{how} "
            f"(the fit alone "
            f"{facts['fit_score']:.4f}) -> {report.html or report.json}"
        ),
        outputs=report.outputs,
        facts=facts,
    )


_BULKY = ("config", "facts", "failures", "values")  # what a table of provenance omits


def gather_evidence(config: "Config", *, command: str) -> Evidence:
    """Read back what the stages left, for the dashboard and for scores."""
    archive = open_archive(config.data.root)
    labels = archive.labels()
    naive = naive_guess(config.diagnostics.metric, labels)
    fits = read_fits(stage_folder(config, "fit"), "test")
    predicted = stage_folder(config, "predict")
    planets, posterior = read_spectra(predicted / SPECTRA)
    oof_ids, oof = read_spectra(stage_folder(config, "train") / OUT_OF_FOLD)
    calibration = read_calibration(stage_folder(config, "calibrate-temp") / CALIBRATION)
    sidecars = [made for stage in STAGES[:-1] if (made := read_sidecar(config, stage))]
    return Evidence(
        year=archive.year,
        planet_ids=planets,
        wavelength_um=archive.wavelength_um(),
        predicted=posterior,
        fit=completed_fit(fits, planets, labels),
        intervals=read_intervals(
            predicted / INTERVALS, "conformal" if config.uq.corel else "Gaussian"
        ),
        calibration_planets=conformal_planets(config) if config.uq.corel else None,
        truth=hidden_truth(archive, planets),
        naive=naive,
        oof=calibration.apply(oof),
        oof_labels=labels.of(oof_ids),
        provenance=[_without_bulk(made) for made in sidecars],
        stage_seconds={made["stage"]: made["seconds"] for made in sidecars},
        fits=[fits[int(planet)] for planet in planets if int(planet) in fits],
        command=command,
    )


def conformal_planets(config: "Config") -> int:
    """Calibration planets behind the intervals of `predict`: of another run with `weights`."""
    run = config.runtime.out if config.weights is None else run_folder(config.weights)
    return read_calibration(run / "calibrate-temp" / CALIBRATION).conformal_planets


def hidden_truth(archive: Archive, planets: Int[np.ndarray, " B"]) -> Labels | None:
    """True spectra of test planets, which only a simulated archive has."""
    path = archive.root / HIDDEN_LABELS
    return read_labels(path).of(planets) if path.is_file() else None


def _facts(config: "Config", evidence: Evidence, report: DashboardReport) -> dict[str, Any]:
    """Score of V50 and of the fit alone on held-out planets, else on training planets."""
    v50, fit = report.headline, report.scores.get(FIT_ALONE)
    if fit is None:  # the dashboard has it for held-out planets only
        fits, known = read_fits(stage_folder(config, "fit"), "train"), evidence.oof_labels
        yardstick = Yardstick(config.diagnostics.metric, evidence.year, evidence.naive)
        fit = yardstick.score(known.depth, fit_posterior(fits, known.planet_ids))
    return {
        "score": v50.total,
        "fgs1": v50.fgs1,
        "airs": v50.airs,
        "fit_score": fit.total,
        "gain": v50.total - fit.total,
        "metric": v50.year,
        "planets": len(v50.planets),
        "held_out": report.held_out,
    }


def _without_bulk(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sidecar.items() if key not in _BULKY}
