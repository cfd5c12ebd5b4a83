"""The stages in order: each takes the configuration and its output folder and says what it did.

A stage reads the artefacts of earlier stages under `runtime.out`, writes its own folder and,
last of all, `stage.json` with its provenance. `up_to_date` compares that file with the present
configuration and data, so that a command can bring the stages before it up to date first.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from spectramind.archive.fingerprint import archive_hash
from spectramind.archive.layout import Archive, open_archive
from spectramind.calibrate.cache import LightCurveStore
from spectramind.calibrate.chain import calibrate_archive
from spectramind.config import STAGES, Config, Stage, dump, stage_hash
from spectramind.errors import ArtefactError
from spectramind.provenance import Provenance, describe, digest, write_sidecar
from spectramind.simulate.writer import simulate_archive
from spectramind.transit.fit import fit_archive

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Result:
    """What a stage did, for the closing line, the debug log and `--json`."""

    summary: str
    outputs: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[str, ...] = ()  # planets left out, each as a sentence


def stage_folder(config: Config, stage: Stage) -> Path:
    """Output folder of a stage."""
    return config.runtime.out / stage


def up_to_date(config: Config, stage: Stage) -> bool:
    """Whether the stage's folder was made with this configuration from this archive."""
    sidecar = stage_folder(config, stage) / "stage.json"
    if not sidecar.is_file():
        return False
    made = json.loads(sidecar.read_text())
    same = made["config_hash"] == stage_hash(config, stage)
    return same and (stage == "simulate" or made["data_hash"] == data_hash(config))


def stages_before(config: Config, stage: Stage) -> tuple[Stage, ...]:
    """Stages to run first, in order, so that `stage` has what it reads; none when all is fresh.

    The archive itself is never simulated on the way: a missing one is an error with advice.
    """
    if stage == "simulate":
        return ()
    needed = STAGES[1 : STAGES.index(stage)]
    stale = [name for name in needed if not up_to_date(config, name)]
    return needed[needed.index(stale[0]) :] if stale else ()


def require_stages_before(config: Config, stage: Stage) -> None:
    """Refuse to go on when an earlier stage is missing or stale.

    Raises:
        ArtefactError: Names the command to run first.
    """
    stale = stages_before(config, stage)
    if stale:
        raise ArtefactError(
            f"{stage_folder(config, stale[0])}: missing, or made with another configuration or "
            f"archive. Run `spectramind {command_of(stale[0])}` with the same settings first."
        )


def command_of(stage: Stage) -> str:
    """The words of the command line that run a stage."""
    return "diagnose dashboard" if stage == "diagnose" else stage


@cache
def _archive_hash(root: Path) -> str:
    return archive_hash(root)


def data_hash(config: Config) -> str:
    """Hash of the archive at `data.root`; see `archive.fingerprint`."""
    return _archive_hash(config.data.root)


def seed_of(config: Config, stage: Stage) -> int:
    """The seed that a stage draws from."""
    return config.simulate.seed if stage == "simulate" else config.training.seed


def provenance_of(config: Config, stage: Stage) -> Provenance:
    """Provenance of what a stage makes now."""
    return describe(
        stage=stage,
        config_hash=stage_hash(config, stage),
        data_hash="" if stage == "simulate" else data_hash(config),
        seed=seed_of(config, stage),
    )


def run_stage(config: Config, stage: Stage, folder: Path) -> Result:
    """Run one stage into a folder and seal it with `stage.json`."""
    start = time.monotonic()
    result = _FUNCTIONS[stage](config, folder)
    if stage == "simulate":
        _archive_hash.cache_clear()
    write_sidecar(
        folder / "stage.json",
        provenance_of(config, stage),
        seconds=round(time.monotonic() - start, 3),
        facts=dict(result.facts),
        failures=list(result.failures),
        config=dump(config),
    )
    return result


def simulate(config: Config, folder: Path) -> Result:
    """Write an archive in the challenge's layout to `data.root`."""
    report = simulate_archive(
        config.simulate,
        root=config.data.root,
        level=config.data.level,
        workers=config.runtime.workers,
        provenance=provenance_of(config, "simulate"),
    )
    return Result(
        summary=f"simulated {report.planets} planets -> {config.data.root}",
        outputs=(config.data.root,),
        facts={"planets": report.planets, "visits": report.visits, "reused": report.reused},
    )


def calibrate(config: Config, folder: Path) -> Result:
    """Turn frames into light curves in the content-addressed store."""
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


def store_folder(config: Config) -> Path:
    """Folder of the light curves, addressed by the calibration settings that made them."""
    if config.data.level == "lightcurves":
        return config.data.root / "lightcurves"
    settings = dump(config)["calibration"]
    del settings["cache"]
    return stage_folder(config, "calibrate") / digest(settings)


def light_curve_store(config: Config) -> LightCurveStore:
    """The store that `fit` reads."""
    return LightCurveStore(store_folder(config))


def fit(config: Config, folder: Path) -> Result:
    """Fit the transit of every planet that has light curves."""
    archive, store = open_archive(config.data.root), light_curve_store(config)
    reports = [
        fit_archive(
            store,
            {planet: archive.star(split, planet) for planet in store.planets(split)},
            config.transit,
            split=split,
            out=folder,
            workers=config.runtime.workers,
            provenance=provenance_of(config, "fit"),
        )
        for split in SPLITS
    ]
    done = sum(report.done + report.cached for report in reports)
    flagged = sum(report.flagged for report in reports)
    return Result(
        summary=f"fitted {done} planets -> {folder}; {flagged} flagged, their sigma inflated",
        outputs=(folder,),
        facts={"planets": done, "flagged": flagged},
        failures=tuple(text for report in reports for text in report.failures),
    )


def train(config: Config, folder: Path) -> Result:
    """Train the network in folds; score what it predicts out of fold against the fit alone."""
    archive = open_archive(config.data.root)
    fits = read_fits(stage_folder(config, "fit"), "train")
    labels = archive.labels("train")
    report = train_members(
        fits,
        _stars(archive, "train", fits),
        labels,
        model=config.model,
        training=config.training,
        epistemic=config.uq.epistemic,
        mc_samples=config.uq.mc_samples,
        device=resolve_device(config.runtime.device),
        logger=config.runtime.logger,
        out=folder,
        provenance=provenance_of(config, "train"),
    )
    planets, posterior = read_spectra(folder / OUT_OF_FOLD)
    truth = depths_of(labels, planets)
    network = challenge_score(config, archive.year, truth, posterior, labels)
    alone = challenge_score(config, archive.year, truth, fit_posterior(fits, planets), labels)
    facts = {
        "members": report.members,
        "planets": len(planets),
        "score": network["score"],
        "fit_score": alone["score"],
        "gain": network["score"] - alone["score"],
    }
    return Result(
        summary=(
            f"trained {report.members} members -> {folder}; out of fold the score is "
            f"{facts['score']:.4f}, that of the fit alone {facts['fit_score']:.4f}"
        ),
        outputs=(folder,),
        facts=facts,
    )


def calibrate_temp(config: Config, folder: Path) -> Result:
    """Fit the temperature out of fold and the conformal quantiles on untouched planets."""
    labels = open_archive(config.data.root).labels("train")
    trained = stage_folder(config, "train")
    oof_ids, oof = read_spectra(trained / OUT_OF_FOLD)
    kept_ids, kept = read_spectra(trained / CALIBRATION_PLANETS)
    calibration = fit_calibration(
        oof,
        torch.from_numpy(depths_of(labels, oof_ids)),
        kept,
        torch.from_numpy(depths_of(labels, kept_ids)),
        temp_scale=config.uq.temp_scale,
        levels=config.uq.levels,
    )
    path = folder / CALIBRATION
    calibration.write(path, provenance_of(config, "calibrate-temp"))
    return Result(
        summary=(
            f"temperature {calibration.temperature:.3f} from {len(oof_ids)} planets out of fold, "
            f"conformal quantiles from {len(kept_ids)} untouched planets -> {path}"
        ),
        outputs=(path,),
        facts={"temperature": calibration.temperature, "planets": len(oof_ids)},
    )


def predict(config: Config, folder: Path) -> Result:
    """Predict the test planets; a planet without a fit gets the spread of the training labels."""
    archive = open_archive(config.data.root)
    fits = read_fits(stage_folder(config, "fit"), "test")
    trained, calibrated = stage_folder(config, "train"), stage_folder(config, "calibrate-temp")
    planets, posterior = predict_members(
        trained,
        fits,
        _stars(archive, "test", fits),
        epistemic=config.uq.epistemic,
        mc_samples=config.uq.mc_samples,
        device=resolve_device(config.runtime.device),
    )
    calibration = read_calibration(calibrated / CALIBRATION)
    posterior = calibration.apply(posterior)
    if config.uq.corel:
        say(NOT_RELATIONAL)
    intervals = calibration.intervals(posterior, corel=config.uq.corel)
    missing = [planet for planet in archive.listed("test") if planet not in fits]
    everyone, complete = with_unmeasured(planets, posterior, missing, archive.labels("train"))
    write_spectra(folder / SPECTRA, planets, posterior)
    write_intervals(folder / INTERVALS, planets, intervals)
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


def publish_submission(config: Config, path: Path) -> None:
    """Copy the submission of the `predict` stage to where the user wants it."""
    write_atomic(path, (stage_folder(config, "predict") / SUBMISSION).read_bytes())


def diagnose(config: Config, folder: Path) -> Result:
    """Score what can be scored and write the dashboard."""
    evidence = gather_evidence(config)
    report = write_dashboard(evidence, config.diagnostics, folder)
    return Result(
        summary=report.summary, outputs=report.outputs, facts=report.facts
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
