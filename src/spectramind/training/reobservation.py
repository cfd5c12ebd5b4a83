"""Training planets observed again with other atmospheres: spectra for the network to learn from.

Each trusted training planet with a star is given other sizes, masses, compositions, clouds and
hazes, seen through its own visits (`transit.reobserve`). They teach what spectra can look like,
which no thousand labels do; labels of other planets play no part in them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from spectramind.observation import Star, TransitFit
from spectramind.parallel import each
from spectramind.simulate.alternatives import alternative_spectra
from spectramind.simulate.settings import AtmosphereConfig, PopulationConfig
from spectramind.training.data import FeatureTable
from spectramind.training.features import planet_features, visit_features
from spectramind.transit.learning import read_priors
from spectramind.transit.prior import PriorOnDevice, log_signal
from spectramind.transit.reobserve import reobserve

_FAMILY = 10  # atmospheres of one size and mass, at most
# Scatter of log depth and of log planet mass among the planets in a donor's place, so that no
# network can learn one depth a donor by heart. Gains over the fit did not rise by it.
_DEPTH_SCATTER, _MASS_SCATTER = 0.15, 0.4


@dataclass(frozen=True, eq=False)
class Reobservations:
    """Unscaled features and truth of M observations; series and masks are those of the donor."""

    donor: Int64[np.ndarray, " M"]  # planet whose visits they are, not decreasing
    nodes: Float32[np.ndarray, "M W F"]
    planet: Float32[np.ndarray, "M P"]
    depth: Float64[np.ndarray, "M W"]
    sigma: Float64[np.ndarray, "M W"]
    truth: Float64[np.ndarray, "M W"]

    def join(
        self, table: FeatureTable, truth: Float64[np.ndarray, "B W"]
    ) -> tuple[FeatureTable, Float64[np.ndarray, "N W"]]:
        """The planets of a table and all observations of them, with their true spectra."""
        own = np.isin(self.donor, table.planet_ids)
        rows = np.searchsorted(table.planet_ids, self.donor[own])

        def both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return np.concatenate([first, second[own]])

        whole = FeatureTable(
            both(table.planet_ids, self.donor),
            both(table.nodes, self.nodes),
            table.series,
            table.mask,
            np.concatenate([table.curves, table.curves[rows]]),
            both(table.planet, self.planet),
            both(table.depth, self.depth),
            both(table.sigma, self.sigma),
        )
        return whole, both(truth, self.truth)


@dataclass(frozen=True, eq=False)
class Atmospheres:
    """How many other atmospheres each planet gets, and of what population."""

    count: int
    population: PopulationConfig
    atmosphere: AtmosphereConfig
    seed: int


@dataclass(frozen=True, eq=False)
class _Donor:
    fit: TransitFit
    star: Star
    priors: Path  # that its fit was made with


def observe_again(
    fits: Mapping[int, TransitFit],
    stars: Mapping[int, Star | None],
    priors: Mapping[int, Path],
    atmospheres: Atmospheres,
    *,
    workers: int,
) -> Reobservations | None:
    """Observations of every trusted planet with a star; None if there is none.

    Args:
        fits: Of training planets.
        stars: Of the same.
        priors: File of the priors that each fit was made with.
        atmospheres: What to draw.
        workers: Processes.

    Raises:
        ArtefactError: If priors cannot be read.
    """
    donors = [
        _Donor(fit, star, priors[planet])
        for planet, fit in sorted(fits.items())
        if not fit.reasons and (star := stars[planet]) is not None
    ]
    parts: list[Reobservations] = []
    task = partial(_observe, atmospheres)
    for outcome in each(task, donors, workers=workers, label="observe again"):
        if outcome.error is not None:
            raise outcome.error
        if outcome.value is not None:
            parts.append(outcome.value)
    if not parts:
        return None
    return joined(sorted(parts, key=lambda part: part.donor[0]))


def _observe(atmospheres: Atmospheres, donor: _Donor) -> Reobservations | None:
    """Observations of one planet; None where its fit had no prior over spectra."""
    torch.set_num_threads(1)
    prior = _prior(donor.priors)
    if prior is None:
        return None
    planet, count = donor.fit.planet_id, atmospheres.count
    rng = np.random.default_rng([atmospheres.seed, planet])
    families = -(-count // _FAMILY)
    parts = [
        _observe_family(replace(atmospheres, count=len(own)), donor, prior, rng)
        for own in np.array_split(np.arange(count), families)
    ]
    return joined(parts)


def _observe_family(
    atmospheres: Atmospheres, donor: _Donor, prior: PriorOnDevice, rng: np.random.Generator
) -> Reobservations:
    """A planet of other size and mass in the donor's place, with some atmospheres."""
    fit, seed = donor.fit, int(rng.integers(2**62))
    size, mass = rng.standard_normal(2)
    depth = fit.white_depth * math.exp(_DEPTH_SCATTER * size)
    heavy = donor.star.planet_mass_mjup * math.exp(_MASS_SCATTER * mass)
    star = replace(donor.star, planet_mass_mjup=heavy)
    truth = alternative_spectra(
        fit.planet_id, star, depth, atmospheres.count,
        atmospheres.population, atmospheres.atmosphere, seed,
    )  # fmt: skip
    again = reobserve(fit, truth, prior, log_signal(star, depth), rng)
    visits = visit_features(fit)
    features = [planet_features(one, star, visits) for one in again]
    return Reobservations(
        donor=np.full(len(again), fit.planet_id),
        nodes=np.stack([one.nodes for one in features]),
        planet=np.stack([one.planet for one in features]),
        depth=np.stack([one.depth for one in again]),
        sigma=np.stack([one.sigma for one in again]),
        truth=truth,
    )


def joined(parts: Sequence[Reobservations]) -> Reobservations:
    """All observations, in the order of the parts."""
    names = [field.name for field in fields(Reobservations)]
    return Reobservations(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


@cache
def _prior(path: Path) -> PriorOnDevice | None:
    """Prior over spectra, read once in each process."""
    spectrum = read_priors(path).spectrum
    return None if spectrum is None else PriorOnDevice(spectrum, torch.device("cpu"))
