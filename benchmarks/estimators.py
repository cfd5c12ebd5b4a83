"""Estimators of benchmarks/accuracy.py that fit light curves: the full one and parts of it.

Every estimator sees the same binned visits and priors learned from the same planets, never from
those it judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64

from bounds import Spectrum, limit, perfect
from sets import DriftPrior, World
from spectramind.instrument import wavelength_um
from spectramind.observation import TransitFit
from spectramind.transit.columns import make_white_columns
from spectramind.transit.depths import marginalise
from spectramind.transit.fit import fit_planets, learn_from, learn_without_labels
from spectramind.transit.limb_darkening import quadratic_coefficients
from spectramind.transit.parameters import ORBIT, Layout
from spectramind.transit.priors import (
    LabelledEvidence,
    Priors,
    UnlabelledEvidence,
    first_priors,
    learn_priors,
)
from spectramind.transit.settings import FailureConfig, TransitConfig
from spectramind.transit.shared_prior import Population, guess_orbit
from spectramind.transit.spectrum_learning import learn_spectrum_prior
from spectramind.transit.spectrum_prior import SpectrumPrior
from spectramind.transit.start import BinnedPlanet
from spectramind.transit.time_noise import NoiseBelief
from spectramind.transit.verdict import lost
from spectramind.transit.white import fit_white, stack_priors

NO_LABEL = "no label, prior that ships"
_NARROW = 1e-4  # of a scatter, where a parameter is held at its expectation
_NO_LENGTH_UM = 1e-6  # of a process that is independent from wavelength to wavelength


@dataclass(frozen=True, eq=False)
class Schooling:
    """Priors that never saw the planets of one fold, and those of the rows that lack a part."""

    full: Priors
    only_process: SpectrumPrior  # no principal components
    no_process: SpectrumPrior  # components and independent scatter
    lent: Priors  # those that ship, and what the set's light curves add without a label


@dataclass(frozen=True, eq=False)
class Answer:
    """What one estimator says of one planet."""

    depth: Float64[np.ndarray, " 283"]
    sigma: Float64[np.ndarray, " 283"]
    reasons: tuple[str, ...]  # why it is not to be trusted
    measured_sigma: Float64[np.ndarray, " 283"] | None = None  # by a wavelength alone
    joint: Float64[np.ndarray, " 3"] | None = None  # parts of the distance from the truth


def teach(worlds: Sequence[World], config: TransitConfig) -> list[LabelledEvidence]:
    """What planets with equally many visits teach to priors."""
    torch.set_num_threads(1)
    labels = {world.planet_id: world.label for world in worlds}
    return learn_from(_planets(worlds), labels, first_priors(config), config)


def hear(
    worlds: Sequence[World], start: Priors, config: TransitConfig
) -> list[UnlabelledEvidence]:
    """What planets with equally many visits teach without their labels."""
    torch.set_num_threads(1)
    return learn_without_labels(_planets(worlds), start, config)


def school(evidence: Sequence[LabelledEvidence], lent: Priors, config: TransitConfig) -> Schooling:
    """Priors of all rows from the same evidence, but for those that are `lent`.

    The rows without components or without the process learn the rest anew.
    """
    torch.set_num_threads(1)
    labels = np.stack([one.label for one in evidence])
    scale = [one.log_scale for one in evidence]
    process, components = (
        learn_spectrum_prior(labels, scale, config.spectrum.model_copy(update=change))
        for change in ({"components": (0,)}, {"lengths_um": (_NO_LENGTH_UM,)})
    )
    return Schooling(learn_priors(evidence, config), process, components, lent)


def answers(
    worlds: Sequence[World], schooling: Schooling, drift: DriftPrior, config: TransitConfig
) -> list[dict[str, Answer]]:
    """Answers of all estimators and, for worlds with truth, of the bounds, by name.

    Args:
        worlds: Planets with equally many visits.
        schooling: Priors that never saw their labels.
        drift: The simulator's own, for the bounds.
        config: Section `transit`.
    """
    torch.set_num_threads(1)
    planets = _planets(worlds)
    rows = {
        name: [
            _answer(fit, world.label)
            for fit, world in zip(fit_planets(planets, priors, config), worlds, strict=True)
        ]
        for name, priors in _variants(schooling, config).items()
    }
    rows["white light"] = [
        distrusted(*flat, bare.reasons, config.failure)
        for flat, bare in zip(
            white_light(planets, schooling.full, config), rows["least squares"], strict=True
        )
    ]
    if all(world.truth is not None for world in worlds):
        spectra = schooling.full.spectrum
        assert spectra is not None
        rows["limit"] = [Answer(*limit(world, drift, spectra), ()) for world in worlds]
        rows["perfect"] = [Answer(*perfect(world, spectra), ()) for world in worlds]
    return [{name: own[row] for name, own in rows.items()} for row in range(len(worlds))]


def _variants(schooling: Schooling, config: TransitConfig) -> dict[str, Priors]:
    """Priors of each row that is a fit."""
    full, first = schooling.full, first_priors(config)

    def with_drift(learned: Population, settings: Population) -> Population:
        return replace(
            learned, drift_fgs1=settings.drift_fgs1, drift_time=settings.drift_time,
            drift_wavelength=settings.drift_wavelength,
        )  # fmt: skip

    pairs = {"known": (full.known, first.known), "unknown": (full.unknown, first.unknown)}
    return {
        "full fit": full,
        NO_LABEL: schooling.lent,
        "least squares": replace(full, spectrum=None),
        "GP only": replace(full, spectrum=schooling.only_process),
        "no GP": replace(full, spectrum=schooling.no_process),
        "drift prior not learned": replace(
            full, **{name: with_drift(*pair) for name, pair in pairs.items()}
        ),
        "white noise alone": replace(full, noise=NoiseBelief.white()),
        "drift grey": replace(full, **{name: grey(own) for name, (own, _) in pairs.items()}),
        "limb darkening fixed": replace(
            full, **{name: fixed_limb(own) for name, (own, _) in pairs.items()}
        ),
    }


def grey(population: Population) -> Population:
    """The same drift at every wavelength of AIRS-CH0: orders along the spectrum held at 0."""
    covariance = population.drift_wavelength
    held = np.diag(np.diag(covariance)) * _NARROW**2
    held[0, 0] = covariance[0, 0]
    return replace(population, drift_wavelength=held)


def fixed_limb(population: Population) -> Population:
    """Limb darkening held at its table."""
    mean, covariance = population.mean.copy(), population.covariance.copy()
    mean[ORBIT:] = 0.0
    held = np.diag(np.diag(covariance))[ORBIT:] * _NARROW**2
    covariance[ORBIT:], covariance[:, ORBIT:] = held, held.T
    return replace(population, mean=mean, covariance=covariance)


def white_light(
    planets: Sequence[BinnedPlanet], priors: Priors, config: TransitConfig
) -> list[Spectrum]:
    """One depth and one sigma per planet: mean of the two white depths by their joint errors."""
    guesses = [guess_orbit(planet.star, config) for planet in planets]
    limb = np.stack([quadratic_coefficients(g.temperature_k, wavelength_um()) for g in guesses])
    layout = Layout(len(planets[0].visits), len(config.baseline.scatter), 1)
    prior = stack_priors(
        [
            (priors.known if guess.known else priors.unknown).prior(
                guess, planet.middles_h, layout, config
            )
            for guess, planet in zip(guesses, planets, strict=True)
        ],
        torch.device("cpu"),
    )
    visits = [planet.visits for planet in planets]
    batch = make_white_columns(visits, limb, config)
    white, _ = fit_white(batch, layout, prior, visits, guesses, config)
    information = marginalise(white.normal, prior, white.depth, white.shared).information
    total = information.sum((-1, -2))
    mean = (information.sum(-1) * white.depth).sum(-1) / total
    return [
        (np.full(283, float(depth)), np.full(283, float(own) ** -0.5))
        for depth, own in zip(mean, total, strict=True)
    ]


def distrusted(
    depth: Float64[np.ndarray, " 283"],
    sigma: Float64[np.ndarray, " 283"],
    reasons: tuple[str, ...],
    config: FailureConfig,
) -> Answer:
    """An answer that doubts a planet whose transit was not found, as the fit does."""
    scatter = config.depth_scatter if lost(reasons) else 0.0
    return Answer(depth, np.hypot(sigma, scatter), reasons)


def _answer(fit: TransitFit, label: Float64[np.ndarray, " 283"]) -> Answer:
    joint = joint_distance(fit, label)
    return Answer(fit.depth, fit.sigma, fit.reasons, fit.measured_sigma, joint)


def joint_distance(
    fit: TransitFit, label: Float64[np.ndarray, " 283"]
) -> Float64[np.ndarray, " 3"]:
    """Squared Mahalanobis distance of a label over 283, in parts: FGS1, both, and AIRS-CH0.

    With sigma of FGS1 times f and of AIRS-CH0 times g it is a / f^2 + 2 b / (f g) + c / g^2.
    """
    error = fit.depth - label
    parts = np.zeros((283, 2))
    parts[0, 0], parts[1:, 1] = error[0], error[1:]
    solved = parts.T @ np.linalg.solve(fit.covariance, parts) / 283.0
    return np.array([solved[0, 0], solved[0, 1], solved[1, 1]])


def measured_sigma(answer: Answer) -> Float64[np.ndarray, " 283"]:
    """Errors by each wavelength alone, which answers of fits have."""
    assert answer.measured_sigma is not None, "the answer is not that of a fit"
    return answer.measured_sigma


def _planets(worlds: Sequence[World]) -> list[BinnedPlanet]:
    return [BinnedPlanet(world.planet_id, world.star, world.visits) for world in worlds]
