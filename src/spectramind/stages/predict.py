"""Stage `predict`: spectra of the test planets, their intervals and the submission."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from jaxtyping import Int64

from spectramind.archive.opening import open_data, stars_of
from spectramind.archive.submission import (
    fit_posterior,
    standing_in,
    with_unmeasured,
    write_spectra,
    write_submission,
)
from spectramind.errors import ConfigError
from spectramind.observation import NOT_MEASURED, Labels, Spectra, Star, TransitFit, named
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import Provenance
from spectramind.sentences import counted
from spectramind.stages.folders import (
    CALIBRATION,
    EXPORT,
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
from spectramind.transit.spectra import MeasuredPlanet, measured_planets
from spectramind.transit.store import read_fits
from spectramind.uq.calibration import Calibration, IntervalKind, read_calibration
from spectramind.uq.intervals import write_intervals

if TYPE_CHECKING:
    from spectramind.config import Config


def predict(config: "Config", folder: Path, provenance: Provenance) -> Result:
    """Predict the test planets; a planet without a fit gets the spread of the training labels."""
    archive = open_data(config.data)
    fits, labels = read_fits(stage_folder(config, "fit"), "test"), archive.labels()
    run = config.runtime.out if config.weights is None else run_folder(config.weights)
    if config.weights is not None:
        made = read_sidecar(config, "fit")
        require_prior(config, over_spectra=made is None or made["facts"]["labels"] > 0)
        require_epistemic(config, run)
    missing = sorted(archive.expected() - set(fits))
    failures = (*archive.problems("test"), *_unmeasured(missing, labels))
    require_some(len(fits), len(missing), "predicted", failures)
    calibration = _calibration(config, run)
    planets, own = _spectra(config, run, calibration, fits, stars_of(archive, "test", fits))
    spectra = with_unmeasured(planets, own, missing, labels)
    doubts = _doubts(fits, missing)
    outputs = _write(folder, calibration, *spectra)
    if archive.for_retrieval:
        from spectramind.archive.export import write_export  # xarray takes a second to import

        seen = measured_planets(stage_folder(config, "fit"), "test")
        exported = predicted_spectra(*spectra, doubts, seen)
        outputs += write_export(exported, provenance, folder / EXPORT)
    return Result(
        summary=(
            f"predicted {counted(len(planets), 'planet')} -> {folder / SUBMISSION}; "
            f"{len(doubts) - len(missing)} flagged, {len(missing)} not measured"
        ),
        outputs=outputs,
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


def _write(
    folder: Path,
    calibration: Calibration,
    planets: Int64[np.ndarray, " B"],
    posterior: SpectrumPosterior,
) -> tuple[Path, ...]:
    """Spectra for the next stage, their intervals, and the submission."""
    write_spectra(folder / SPECTRA, planets, posterior)
    kinds = get_args(IntervalKind)
    intervals = {kind: calibration.intervals(posterior, kind) for kind in kinds}
    write_intervals(folder / INTERVALS, planets, intervals)
    write_submission(folder / SUBMISSION, planets, posterior)
    return folder / SUBMISSION, folder / SPECTRA, folder / INTERVALS


def predicted_spectra(
    planets: Int64[np.ndarray, " B"],
    posterior: SpectrumPosterior,
    doubts: Mapping[str, Sequence[str]],
    fits: Mapping[int, MeasuredPlanet],
) -> Spectra:
    """Spectra of the network as an export holds them.

    Args:
        planets: In the order of the posterior.
        posterior: Its covariance is not part of it.
        doubts: Why not to trust a spectrum, by the planet's number as text.
        fits: What the fit of each planet measured; nothing of a planet without one.
    """
    mu, sigma = (part.numpy().astype(np.float64) for part in (posterior.mu, posterior.sigma))
    reasons = [doubts.get(str(planet), ()) for planet in planets]
    nothing = MeasuredPlanet(np.zeros(mu.shape[1], bool), "none, for there is no fit")
    seen = [fits.get(planet, nothing) for planet in planets.tolist()]
    return Spectra(
        "posterior",
        planets.tolist(),
        mu,
        sigma,
        None,
        None,
        np.stack([own.measured for own in seen]),
        [f"labels that taught the network; in the transit fit: {own.prior}" for own in seen],
        reasons,
    )


def _doubts(fits: Mapping[int, TransitFit], unmeasured: Sequence[int]) -> dict[str, list[str]]:
    """Why not to trust a spectrum, of each planet that is not trusted; by its number as text."""
    flagged = {str(planet): list(fit.reasons) for planet, fit in fits.items() if fit.reasons}
    return flagged | {str(planet): [NOT_MEASURED] for planet in unmeasured}


def _unmeasured(planets: list[int], labels: Labels) -> list[str]:
    then = "the mean and spread of the training labels stand in the submission"
    if not standing_in(labels):
        then = "no spectrum is written: there are no labels whose mean and spread could stand in"
    return [
        f"test: {named(planets)} not measured: there is no fit, so {then}. The stages `calibrate` "
        "and `fit` say why."
    ][: len(planets)]


def require_prior(config: "Config", *, over_spectra: bool) -> None:
    """Refuse fits without a prior over spectra, which no network of another run has seen.

    Args:
        config: The whole configuration.
        over_spectra: Whether the fits have, or will have, such a prior.

    Raises:
        ConfigError: If the archive's own labels are too few to learn one.
    """
    if not over_spectra:
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
