"""Stage `diagnose`: what the stages left, scored and drawn as a dashboard."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from spectramind.archive.opening import PlanetArchive, open_data
from spectramind.archive.submission import completed_fit, fit_posterior, read_spectra
from spectramind.archive.tables import read_labels
from spectramind.diagnose.evidence import Evidence, OutOfFold
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
    read_sidecar,
    run_folder,
    stage_folder,
    stages_of,
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
    return Result(
        summary=f"{_found(facts, report)} -> {report.html or report.json}",
        outputs=report.outputs,
        facts=facts,
    )


def _found(facts: Mapping[str, Any], report: DashboardReport) -> str:
    """What the dashboard says in a line."""
    if report.headline is None:
        seen = counted(facts["planets"], "predicted planet")
        return f"{seen}, none of which can be scored: no true spectrum is known"
    where = counted(facts["planets"], "held-out planet" if report.held_out else "training planet")
    how = "" if report.held_out else ", out of fold"
    return (
        f"score {facts['score']:.4f} ({facts['metric']} metric) on {where}{how} "
        f"(the fit alone {facts['fit_score']:.4f})"
    )


_BULKY = ("config", "facts", "failures", "values")  # what a table of provenance omits


def gather_evidence(config: "Config", *, command: str) -> Evidence:
    """Read back what the stages left, for the dashboard and for scores."""
    archive = open_data(config.data)
    labels, trained = archive.labels(), config.weights is None
    scored = trained or (archive.root / HIDDEN_LABELS).is_file()
    naive = naive_guess(config.diagnostics.metric, labels) if scored else None
    fits = read_fits(stage_folder(config, "fit"), "test")
    predicted = stage_folder(config, "predict")
    planets, posterior = read_spectra(predicted / SPECTRA)
    sidecars = [made for stage in stages_of(config)[:-1] if (made := read_sidecar(config, stage))]
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
        oof=_out_of_fold(config, labels) if trained else None,
        provenance=[_without_bulk(made) for made in sidecars],
        stage_seconds={made["stage"]: made["seconds"] for made in sidecars},
        fits=[fits[int(planet)] for planet in planets if int(planet) in fits],
        command=command,
    )


def _out_of_fold(config: "Config", labels: Labels) -> OutOfFold:
    """Training planets by networks that never saw them, with the temperature."""
    planets, posterior = read_spectra(stage_folder(config, "train") / OUT_OF_FOLD)
    calibration = read_calibration(stage_folder(config, "calibrate-temp") / CALIBRATION)
    return OutOfFold(calibration.apply(posterior), labels.of(planets))


def conformal_planets(config: "Config") -> int:
    """Calibration planets behind the intervals of `predict`: of another run with `weights`."""
    run = config.runtime.out if config.weights is None else run_folder(config.weights)
    return read_calibration(run / "calibrate-temp" / CALIBRATION).conformal_planets


def hidden_truth(archive: PlanetArchive, planets: Int[np.ndarray, " B"]) -> Labels | None:
    """True spectra of test planets, which a simulated archive has."""
    path = archive.root / HIDDEN_LABELS
    return read_labels(path).of(planets) if path.is_file() else None


def _facts(config: "Config", evidence: Evidence, report: DashboardReport) -> dict[str, Any]:
    """Score of V50 and of the fit alone on held-out planets, else on training planets, if any."""
    v50, fit = report.headline, report.scores.get(FIT_ALONE)
    if v50 is None:
        return {"planets": len(evidence.planet_ids), "held_out": False}
    if fit is None:  # the dashboard has it for held-out planets only
        assert evidence.oof is not None
        assert evidence.naive is not None
        fits, known = read_fits(stage_folder(config, "fit"), "train"), evidence.oof.labels
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
