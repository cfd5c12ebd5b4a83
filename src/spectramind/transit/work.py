"""What the work on all planets of an archive begins with: light curves, places, planets read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from spectramind.archive.source import LightCurveSource
from spectramind.errors import SpectraMindError
from spectramind.observation import Star
from spectramind.provenance import Provenance
from spectramind.transit.settings import TransitConfig
from spectramind.transit.start import BinnedPlanet, prepare
from spectramind.transit.store import (
    IndexRow,
)

UNSOLVABLE = (np.linalg.LinAlgError, torch.linalg.LinAlgError)  # pyright: ignore[reportPrivateImportUsage]
Labels = Mapping[int, Float64[np.ndarray, " 283"]]


@dataclass(frozen=True, eq=False)
class Work:
    """What every task of the stage needs to know; goes to the workers."""

    source: LightCurveSource
    stars: Mapping[int, Star | None]
    config: TransitConfig
    out: Path
    provenance: Provenance
    device: str


@dataclass(frozen=True, eq=False)
class LearnedPriors:
    """Priors on disk, and the planets that were read and binned to learn them."""

    everyone: Path  # file of the priors that all labelled planets taught
    own: Mapping[int, Path] = field(default_factory=dict)  # of each labelled planet
    binned: Mapping[int, BinnedPlanet] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanetOutcome:
    """What became of one planet."""

    planet_id: int
    cached: bool = False
    row: IndexRow | None = None  # of a planet with a fit
    failure: str | None = None  # of a planet without one, as a sentence


def batches(planets: Sequence[int], visits: Mapping[int, int], size: int) -> list[tuple[int, ...]]:
    """Planets with equally many visits, at most `size` together."""
    batches = []
    for number in sorted({visits[planet] for planet in planets}):
        own = [planet for planet in planets if visits[planet] == number]
        batches += [tuple(own[i : i + size]) for i in range(0, len(own), size)]
    return batches


def prepared(
    work: Work, split: str, planets: Iterable[int]
) -> tuple[list[BinnedPlanet], list[PlanetOutcome]]:
    """Planets in time bins, and what became of those that cannot be."""
    ready, failed = [], []
    for planet_id in planets:
        try:
            curves = work.source.curves(split, planet_id)
            ready.append(prepare(curves, work.stars[planet_id], work.config))
        except SpectraMindError as error:
            failed.append(PlanetOutcome(planet_id, failure=str(error)))
    return ready, failed


def facts_of(provenance: Provenance) -> dict[str, str]:
    """Provenance as the header of a file holds it."""
    return {key: str(value) for key, value in asdict(provenance).items()}


def planet_origin(work: Work, split: str, planet_id: int) -> dict[str, object]:
    """What is known of a planet before its light curves are read: star and hash of the curves.

    Raises:
        SpectraMindError: If the planet has no usable light curves.
    """
    star = work.stars[planet_id]
    return {
        "planet": planet_id,
        "star": None if star is None else asdict(star),
        "light_curves": work.source.origin(split, planet_id),
    }
