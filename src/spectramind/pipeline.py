"""The stages in order: each takes the configuration and its output folder and says what it did.

A stage reads the artefacts of earlier stages under `runtime.out`, writes its own folder and,
last of all, `stage.json` with its provenance.
"""

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from spectramind.archive.layout import Archive, Split, open_archive
from spectramind.archive.submission import read_spectra, write_spectra, write_submission
from spectramind.artefacts import (
    CALIBRATION,
    CALIBRATION_PLANETS,
    INTERVALS,
    OUT_OF_FOLD,
    SIDECAR,
    SPECTRA,
    SUBMISSION,
    borrowed_hash,
    command_of,
    forget_data_hash,
    light_curve_store,
    provenance_of,
    run_folder,
    stage_code_hash,
    stage_folder,
    store_folder,
)
from spectramind.assessment import fit_posterior, gather_evidence, score_facts
from spectramind.borrowed import donors_of, prior_file, require_epistemic, require_prior
from spectramind.calibrate.chain import calibrate_archive
from spectramind.config import STAGES, Config, Stage, dump, freeze
from spectramind.diagnose.scoring import challenge_score, depths_of
from spectramind.errors import ArtefactError, ConfigError
from spectramind.provenance import unwritable, write_atomic, write_sidecar
from spectramind.sources import SPLITS, open_source, stars_of
from spectramind.training.device import resolve_device
from spectramind.training.predict import predict_members
from spectramind.transit.learning import Priors, prior_path, read_priors
from spectramind.transit.stage import Work, fit_split, learn_folds
from spectramind.transit.store import read_fits
from spectramind.uq.calibration import fit_calibration, read_calibration
from spectramind.uq.intervals import with_unmeasured, write_intervals

_SCORED: tuple[Stage, ...] = ("train", "diagnose")  # stages whose facts DVC shows as metrics


@dataclass(frozen=True)
class Result:
    """What a stage did, for the closing line, the debug log and `--json`."""

    summary: str
    outputs: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[str, ...] = ()  # planets left out, each as a sentence


def run_stage(config: Config, stage: Stage, folder: Path) -> Result:
    """Run one stage into a folder and seal it with `stage.json`."""
    start = time.monotonic()
    with _alone(stage, folder):
        _unseal(folder)
        result = _FUNCTIONS[stage](config, folder)
        _seal(config, stage, folder, result, seconds=round(time.monotonic() - start, 3))
    return result


def _seal(config: Config, stage: Stage, folder: Path, result: Result, *, seconds: float) -> None:
    """Write what the stage leaves beside its products: metrics, then `stage.json`."""
    if stage == "simulate":
        forget_data_hash()
    provenance = provenance_of(config, stage)
    if stage in _SCORED:
        write_sidecar(folder.with_name(f"{stage}-metrics.json"), provenance, **result.facts)
    write_sidecar(
        folder / SIDECAR,
        provenance,
        code_hash=stage_code_hash(stage),
        borrowed_hash=borrowed_hash(config, stage),
        command=command_of(stage),
        device=config.runtime.device,
        seconds=seconds,
        outputs=[str(path) for path in result.outputs],
        facts=dict(result.facts),
        failures=list(result.failures),
        state="done",
        config=dump(config),
    )


@contextmanager
def _alone(stage: Stage, folder: Path) -> Iterator[None]:
    """Hold the stage's folder for this process; the lock vanishes with it.

    `calibrate` needs none: its store locks single visits, so several processes may share it.

    Raises:
        ArtefactError: If another process is writing there.
        WriteError: If the folder above cannot be written.
    """
    if stage == "calibrate":
        yield
        return
    path = folder.with_name(f".{stage}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except OSError as error:
        raise unwritable(path, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtefactError(
                f"{folder}: another process is running `spectramind {command_of(stage)}` there. "
                "Wait for it, or give this run its own runtime.out."
            ) from error
        yield


def _unseal(folder: Path) -> None:
    """Remove the mark of an earlier run, so that a run that fails leaves no stage called done."""
    try:
        (folder / SIDECAR).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder / SIDECAR, error) from error


def simulate(config: Config, _folder: Path) -> Result:
    """Write an archive in the challenge's layout to `data.root`."""
    from spectramind.simulate.writer import simulate_archive  # SciPy's signal package is slow

    if config.data.name != "sim":
        raise ConfigError(
            f"data={config.data.name}: `simulate` writes simulated archives only. Use data=sim."
        )
    report = simulate_archive(
        config.simulate,
        root=config.data.root,
        level=config.data.level,
        workers=config.runtime.workers,
        device=resolve_device(config.runtime.device),
        provenance=provenance_of(config, "simulate"),
    )
    return Result(
        summary=f"simulated {report.planets} planets -> {config.data.root}",
        outputs=(config.data.root,),
        facts={"planets": report.planets, "visits": report.visits, "reused": report.reused},
    )


def calibrate(config: Config, folder: Path) -> Result:
    """Turn frames into light curves in the content-addressed store."""
    if config.data.name == "lightcurves":
        source = open_source(config)
        planets = sum(len(own) for own in source.visits.values())
        return Result(
            summary=f"data=lightcurves holds light curves of {planets} planets already",
            outputs=(config.data.root,),
            facts={"planets": planets},
        )
    archive = open_archive(config.data.root)
    problems = tuple(text for split in SPLITS for text in archive.problems(split))
    if config.data.level == "lightcurves":
        store = light_curve_store(config)
        planets = sum(len(store.planets(split)) for split in SPLITS)
        folder.mkdir(parents=True, exist_ok=True)
        return Result(
            summary=f"the archive holds calibrated light curves of {planets} planets already",
            outputs=(store.folder,),
            facts={"planets": planets},
            failures=problems,
        )
    report = calibrate_archive(
        archive,
        config.calibration,
        store=store_folder(config),
        splits=SPLITS,
        workers=config.runtime.workers,
        provenance=provenance_of(config, "calibrate"),
    )
    lost = tuple(
        f"{split} planet {planet}, visit {visit}: {why}"
        for split, planet, visit, why in report.failures
    )
    return Result(
        summary=(
            f"calibrated {report.done} visits, {report.cached} from the cache -> "
            f"{store_folder(config)}; {100 * report.masked_fraction:.2f} % pixels masked"
        ),
        outputs=(store_folder(config),),
        facts={
            "calibrated": report.done,
            "cached": report.cached,
            "masked_fraction": report.masked_fraction,
        },
        failures=problems + lost,
    )


def fit(config: Config, folder: Path) -> Result:
    """Learn priors from labelled planets, then fit every planet that has light curves."""
    source = open_source(config)
    device = resolve_device(config.runtime.device)
    workers = 1 if device.type == "cuda" else config.runtime.workers

    def work(split: Split) -> Work:
        return Work(
            source.read, source.stars[split], config.transit, folder,
            provenance_of(config, "fit"), str(device),
        )  # fmt: skip

    everyone = prior_path(folder, None) if config.prior is None else prior_file(config.prior)
    own: dict[int, Path] = {}
    if config.prior is None:
        own = learn_folds(work("train"), source.labels, source.visits["train"], workers=workers)
    reports = [
        fit_split(work(split), split, source.visits[split], own, everyone, workers=workers)
        for split in SPLITS
    ]
    priors = read_priors(everyone)
    done = sum(report.done + report.cached for report in reports)
    flagged = sum(report.flagged for report in reports)
    outputs = [folder]
    if config.data.name == "lightcurves" and done:
        from spectramind.products import spectra_of_fits, write_spectra  # xarray is slow to import

        path = folder / "spectra.nc"
        outputs += write_spectra(spectra_of_fits(folder, 0), provenance_of(config, "fit"), path)
    return Result(
        summary=(
            f"fitted {done} planets -> {folder}; {flagged} flagged, their sigma inflated; "
            f"{_prior_words(priors)}"
        ),
        outputs=tuple(outputs),
        facts={"planets": done, "flagged": flagged, "labels": _labels_behind(priors)},
        failures=(*source.problems, *[text for report in reports for text in report.failures]),
    )


def _labels_behind(priors: Priors) -> int:
    return 0 if priors.spectrum is None else priors.spectrum.planets


def _prior_words(priors: Priors) -> str:
    if priors.spectrum is None:
        return "too few labels for a prior over spectra, so each wavelength stands alone"
    return f"prior over spectra from {priors.spectrum.planets} labels"


def train(config: Config, folder: Path) -> Result:
    """Train the network in folds; score what it predicts out of fold against the fit alone."""
    from spectramind.training.members import train_members  # Lightning takes seconds to import

    archive = open_archive(config.data.root)
    labels = archive.labels("train")
    known = set(labels.planet_ids.tolist())
    everyone = read_fits(stage_folder(config, "fit"), "train")
    fits = {planet: fit for planet, fit in everyone.items() if planet in known}
    stars, _ = stars_of(archive, "train", fits)
    donors = donors_of(config, fits, stars)
    report = train_members(
        fits,
        stars,
        labels,
        donors=donors,
        model=config.model,
        training=config.training,
        start=None if config.training.start is None else run_folder(config.training.start),
        epistemic=config.uq.epistemic,
        mc_samples=config.uq.mc_samples,
        device=config.runtime.device,
        devices=config.runtime.devices,
        workers=config.runtime.workers,
        logger=config.runtime.logger,
        out=folder,
        provenance=provenance_of(config, "train"),
    )
    planets, posterior = read_spectra(folder / OUT_OF_FOLD)
    truth = depths_of(labels, planets)
    metric = config.diagnostics.metric
    network = challenge_score(metric, archive.year, truth, posterior, labels)
    alone = challenge_score(metric, archive.year, truth, fit_posterior(fits, planets), labels)
    facts = {
        "members": len(report.members),
        "planets": len(planets),
        "score": network["score"],
        "fit_score": alone["score"],
        "gain": network["score"] - alone["score"],
    }
    return Result(
        summary=(
            f"trained {len(report.members)} members -> {folder}; out of fold the score is "
            f"{facts['score']:.4f}, that of the fit alone {facts['fit_score']:.4f}"
        ),
        outputs=(folder,),
        facts=facts,
        failures=tuple(
            f"train planet {planet}: has no label, so nothing was learned from it. Add it to the "
            "archive's table of labels."
            for planet in everyone
            if planet not in known
        ),
    )


def calibrate_temp(config: Config, folder: Path) -> Result:
    """Fit the temperature out of fold and the conformal quantiles on untouched planets."""
    labels = open_archive(config.data.root).labels("train")
    trained = stage_folder(config, "train")
    oof_ids, oof = read_spectra(trained / OUT_OF_FOLD)
    fits = read_fits(stage_folder(config, "fit"), "train")
    kept_ids, kept = read_spectra(trained / CALIBRATION_PLANETS)
    calibration = fit_calibration(
        oof,
        torch.from_numpy(depths_of(labels, oof_ids)),
        torch.tensor([not fits[planet].reasons for planet in oof_ids.tolist()]),
        kept,
        torch.from_numpy(depths_of(labels, kept_ids)),
        temp_scale=config.uq.temp_scale,
        levels=config.uq.levels,
    )
    path = folder / CALIBRATION
    calibration.write(path, provenance_of(config, "calibrate-temp"))
    return Result(
        summary=(
            f"temperature {calibration.temperature:.3f} from {calibration.temperature_planets} "
            "planets out of fold with trusted fits, "
            f"conformal quantiles from {len(kept_ids)} untouched planets -> {path}"
        ),
        outputs=(path,),
        facts={"temperature": calibration.temperature, "planets": calibration.temperature_planets},
    )


def predict(config: Config, folder: Path) -> Result:
    """Predict the test planets; a planet without a fit gets the spread of the training labels."""
    archive = open_archive(config.data.root)
    fits = read_fits(stage_folder(config, "fit"), "test")
    stars, _ = stars_of(archive, "test", fits)
    own = config.weights is None
    run = config.runtime.out if config.weights is None else run_folder(config.weights)
    if not own:
        require_prior(config)
        require_epistemic(config, run)
    planets, posterior = predict_members(
        run / "train",
        fits,
        stars,
        model=config.model if own else None,
        epistemic=config.uq.epistemic,
        mc_samples=config.uq.mc_samples,
        seed=config.training.seed,
        device=config.runtime.device,
    )
    calibration = read_calibration(run / "calibrate-temp" / CALIBRATION)
    missing = sorted(_expected(archive) - set(fits))
    everyone, complete = with_unmeasured(
        planets, calibration.apply(posterior), missing, archive.labels("train")
    )
    write_spectra(folder / SPECTRA, everyone, complete)
    intervals = calibration.intervals(complete, corel=config.uq.corel)
    write_intervals(folder / INTERVALS, everyone, intervals)
    write_submission(folder / SUBMISSION, everyone, complete)
    return Result(
        summary=f"predicted {len(planets)} planets -> {folder / SUBMISSION}",
        outputs=(folder / SUBMISSION, folder / SPECTRA, folder / INTERVALS),
        facts={"planets": len(planets), "unmeasured": missing},
        failures=tuple(
            f"test planet {planet}: no fit, so the mean and spread of the training labels stand "
            "in the submission; the `calibrate` and `fit` stages say why"
            for planet in missing
        ),
    )


def _expected(archive: Archive) -> set[int]:
    """Test planets that a submission must hold: those of tables, folders and the sample."""
    return {*archive.planets("test"), *archive.listed("test"), *archive.sample_planets()}


def publish_submission(config: Config, path: Path) -> None:
    """Copy the submission of the `predict` stage, and its provenance, to where the user wants."""
    folder = stage_folder(config, "predict")
    write_atomic(path, (folder / SUBMISSION).read_bytes())
    write_atomic(path.with_name(f"{path.name}.json"), (folder / SIDECAR).read_bytes())


def diagnose(config: Config, folder: Path) -> Result:
    """Score what can be scored and write the dashboard."""
    from spectramind.diagnose.report import write_dashboard  # so does Plotly

    params = folder / "params.yaml"
    write_atomic(params, freeze(config).encode())
    evidence = gather_evidence(config, command=f"spectramind run --params {params}")
    report = write_dashboard(evidence, config.diagnostics, folder)
    facts = score_facts(config, evidence)
    where = "held-out planets" if evidence.truth is not None else "training planets, out of fold"
    return Result(
        summary=(
            f"score {facts['score']:.4f} ({facts['metric']} metric) on {facts['planets']} {where} "
            f"(the fit alone "
            f"{facts['fit_score']:.4f}) -> {report.html or report.json}"
        ),
        outputs=report.outputs,
        facts=facts,
    )


def run_all(
    config: Config, announce: Callable[[Stage], None], conclude: Callable[[Stage, Result], None]
) -> Result:
    """All stages in order, the archive included where it is a simulated one.

    Args:
        config: The whole configuration.
        announce: Called before each stage.
        conclude: Called with the result of each stage.

    Returns:
        The result of the last stage.
    """
    stages = STAGES if config.data.name == "sim" else STAGES[1:]
    for stage in stages:
        announce(stage)
        result = run_stage(config, stage, stage_folder(config, stage))
        conclude(stage, result)
    return result


_FUNCTIONS: dict[Stage, Callable[[Config, Path], Result]] = {
    "simulate": simulate,
    "calibrate": calibrate,
    "fit": fit,
    "train": train,
    "calibrate-temp": calibrate_temp,
    "predict": predict,
    "diagnose": diagnose,
}
