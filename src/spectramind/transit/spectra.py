"""Spectra of transit fits, to be exported: posteriors, or what the light alone says."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64

from spectramind.archive.layout import SPLITS
from spectramind.errors import ArtefactError
from spectramind.observation import Spectra, SpectraKind, TransitFit
from spectramind.sentences import counted
from spectramind.transit.depths import BARE
from spectramind.transit.likelihood import measured_depths
from spectramind.transit.priors import priors_hash, read_prior_facts, read_priors
from spectramind.transit.store import fit_path, read_fit, read_index


@dataclass(frozen=True, eq=False)
class MeasuredPlanet:
    """What a spectrum that rests on a fit inherits from it."""

    measured: Bool[np.ndarray, " 283"]
    prior: str  # of the fit, in words


@dataclass(frozen=True, eq=False)
class _Row:
    """One planet of an export."""

    depth: Float64[np.ndarray, " 283"]
    sigma: Float64[np.ndarray, " 283"]
    covariance: Float[np.ndarray, "283 283"]
    samples: Float64[np.ndarray, "S 283"]
    measured: Bool[np.ndarray, " 283"]
    prior: str
    reasons: tuple[str, ...]


def spectra_of_fits(folder: Path, *, kind: SpectraKind, samples: int) -> Spectra:
    """Spectra of all fits below the folder of the stage `fit`.

    Args:
        folder: Of the stage.
        kind: "posterior", or "likelihood": NaN where nothing is measured.
        samples: Draws from each posterior.

    Raises:
        ArtefactError: If there is no fit, or a file of a fit or of priors cannot be read.
    """
    here = [split for split in SPLITS if any((folder / split).glob("*.parquet"))]
    rows: dict[int, _Row] = {}
    for split in here or SPLITS[:1]:
        for fit, prior in _fits(folder, split, kind):
            rows[fit.planet_id] = _row(fit, prior, kind, samples)
    if not rows:
        raise ArtefactError(
            f"{folder}: holds no transit fit. Run `spectramind fit`: it says why planets have "
            "none."
        )
    return Spectra(
        kind,
        list(rows),
        np.stack([row.depth for row in rows.values()]),
        np.stack([row.sigma for row in rows.values()]),
        np.stack([row.covariance for row in rows.values()]),
        np.stack([row.samples for row in rows.values()]) if samples else None,
        np.stack([row.measured for row in rows.values()]),
        [row.prior for row in rows.values()],
        [row.reasons for row in rows.values()],
    )


def measured_planets(folder: Path, split: str) -> dict[int, MeasuredPlanet]:
    """Mask and prior of each fit of a split.

    Raises:
        ArtefactError: If a file of a fit or of priors cannot be read.
    """
    fits = _fits(folder, split, "posterior")
    return {fit.planet_id: MeasuredPlanet(fit.measured, prior) for fit, prior in fits}


def _fits(folder: Path, split: str, kind: SpectraKind) -> Iterator[tuple[TransitFit, str]]:
    """Each fit of a split, and its prior in words."""
    index = read_index(folder, split)
    words = {path: _prior_words(path, kind) for path in {row.priors for row in index.values()}}
    for planet, row in index.items():
        yield read_fit(fit_path(folder, split, planet)), words[row.priors]


def _row(fit: TransitFit, prior: str, kind: SpectraKind, samples: int) -> _Row:
    if kind == "posterior":
        return _Row(
            fit.depth, fit.sigma, fit.covariance, fit.samples(samples), fit.measured, prior,
            fit.reasons,
        )  # fmt: skip
    own = measured_depths(fit)
    return _Row(
        own.depth, own.sigma, own.covariance, np.empty((0, len(own.depth))), fit.measured, prior,
        own.reasons,
    )  # fmt: skip


def _prior_words(path: Path, kind: SpectraKind) -> str:
    """What a file of priors adds to the light, what taught it, and where it comes from."""
    facts = read_prior_facts(path)
    file = (
        f"{path.parent.name}/{path.name}, hash {priors_hash(path)}, configuration "
        f"{facts['config_hash']}, data {facts['data_hash']}, {facts['created']}"
    )
    if kind == "likelihood":
        return f"no prior over spectra; orbits, limb darkening, clocks, drift and noise by {file}"
    spectrum, lent = read_priors(path).spectrum, facts.get("lent", "")
    if spectrum is None:
        return (
            f"settings alone, no prior over spectra: a scatter of {BARE:g} about the white light "
            f"at each wavelength ({file})"
        )
    labels = counted(spectrum.planets, "label")
    return f"prior over spectra from {labels}{f', lent by {lent}' if lent else ''} ({file})"
