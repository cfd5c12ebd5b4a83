"""Stage `predict`: spectra of the test planets, their intervals and the submission."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from jaxtyping import Int64

from spectramind.archive.layout import Archive, open_archive, stars_of
from spectramind.archive.submission import (
    fit_posterior,
    with_unmeasured,
    write_spectra,
    write_submission,
)
from spectramind.errors import ConfigError
from spectramind.observation import NOT_MEASURED, Star, TransitFit, named
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import Provenance
from spectramind.sentences import counted
from spectramind.stages.folders import (
    CALIBRATION,
    INTERVALS,
    SPECTRA,
    SUBMISSION,
    read_sidecar,
    run_folder,
    stage_folder,
)
from spectramind.stages.result import Result, require_some
from spectramind.training.predict import Epistemic, predict_members
from spectramind.training.store import read_run
from spectramind.transit.store import read_fits
from spectramind.uq.calibration import Calibration, IntervalKind, read_calibration
from spectramind.uq.intervals import write_intervals

if TYPE_CHECKING:
    from spectramind.config import Config


def predict(config: "Config", folder: Path, _provenance: Provenance) -> Result:
    """Predict the test planets; a planet without a fit gets the spread of the training labels."""
    archive = open_archive(config.data.root)
    fits = read_fits(stage_folder(config, "fit"), "test")
    run = config.runtime.out if config.weights is None else run_folder(config.weights)
    if config.weights is not None:
        require_prior(config)
        require_epistemic(config, run)
    missing = sorted(_expected(archive) - set(fits))
    failures = (*archive.problems("test"), *_unmeasured(missing))
    require_some(len(fits), len(missing), "predicted", failures)
    calibration = _calibration(config, run)
    planets, spectra = _spectra(config, run, calibration, fits, stars_of(archive, "test", fits))
    everyone, complete = with_unmeasured(planets, spectra, missing, archive.labels())
    write_spectra(folder / SPECTRA, everyone, complete)
    kinds = get_args(IntervalKind)
    intervals = {kind: calibration.intervals(complete, kind) for kind in kinds}
    write_intervals(folder / INTERVALS, everyone, intervals)
    write_submission(folder / SUBMISSION, everyone, complete)
    doubts = _doubts(fits, missing)
    return Result(
        summary=(
            f"predicted {counted(len(planets), 'planet')} -> {folder / SUBMISSION}; "
            f"{len(doubts) - len(missing)} flagged, {len(missing)} not measured"
        ),
        outputs=(folder / SUBMISSION, folder / SPECTRA, folder / INTERVALS),
        facts={"planets": len(planets), "unmeasured": missing, "reasons": doubts},
        failures=failures,
    )


def _spectra(
    config: "Config",
    run: Path,
    calibration: Calibration,
    fits: Mapping[int, TransitFit],
    stars: Mapping[int, Star | None],
) -> tuple[Int64[np.ndarray, " B"], SpectrumPosterior]:
    """Planets with a fit, and their spectra at the calibration's temperature.

    With borrowed weights no sigma is smaller than the fit's: no label of the archive says that it
    may be.
    """
    planets, posterior = predict_members(
        run / "train",
        fits,
        stars,
        model=config.model if config.weights is None else None,
        epistemic=Epistemic(config.uq.epistemic, config.uq.mc_samples),
        seed=config.training.seed,
        device=config.runtime.device,
    )
    spectra = calibration.apply(posterior)
    if config.weights is not None:
        spectra = spectra.at_least(fit_posterior(fits, planets).sigma)
    return planets, spectra


def _calibration(config: "Config", run: Path) -> Calibration:
    """What corrects the error bars of a run's network on this archive.

    Raises:
        ConfigError: If conformal intervals are asked for, and planets were too few for them.
    """
    calibration = read_calibration(run / "calibrate-temp" / CALIBRATION)
    if config.uq.corel:
        calibration.require_conformal()
    return calibration if config.weights is None else calibration.elsewhere()


def _doubts(fits: Mapping[int, TransitFit], unmeasured: Sequence[int]) -> dict[str, list[str]]:
    """Why not to trust a spectrum, of each planet that is not trusted; by its number as text."""
    flagged = {str(planet): list(fit.reasons) for planet, fit in fits.items() if fit.reasons}
    return flagged | {str(planet): [NOT_MEASURED] for planet in unmeasured}


def _unmeasured(planets: list[int]) -> list[str]:
    return [
        f"test: {named(planets)} not measured: there is no fit, so the mean and spread of the "
        "training labels stand in the submission. The stages `calibrate` and `fit` say why."
    ][: len(planets)]


def _expected(archive: Archive) -> set[int]:
    """Test planets that a submission must hold: those of tables, folders and the sample."""
    return {*archive.planets("test"), *archive.listed("test"), *archive.sample_planets()}


def require_prior(config: "Config") -> None:
    """Refuse fits without a prior over spectra, which no network of another run has seen.

    Raises:
        ConfigError: If the archive's own labels were too few to learn one.
    """
    made = read_sidecar(config, "fit")
    if made is not None and made["facts"]["labels"] == 0:
        raise ConfigError(
            f"weights={config.weights}: the archive has too few labels to learn a prior over "
            "spectra from, which the network's fits had. Fit it with prior=pretrained too."
        )


def require_epistemic(config: "Config", run: Path) -> None:
    """Refuse another measure of the members' spread than the one their temperature is for.

    Raises:
        ConfigError: If it is so.
    """
    known = read_run(run / "train")["epistemic"]
    if known != config.uq.epistemic:
        raise ConfigError(
            f"uq.epistemic={config.uq.epistemic}: the temperature of weights={config.weights} "
            f"was fitted with {known}. Set uq.epistemic={known}, or train."
        )
