"""Training planets observed again with other atmospheres: more spectra to learn from.

Each trusted training planet with a star is given other sizes, masses, compositions, clouds and
hazes, observed through its own visits (`transit.measurement`). They show what spectra can look
like, for which labels are too few. Labels of other planets play a part only through the priors
of the donor's fit, which were learned from them. Every epoch draws other spectra and other noise,
so that no network can learn them by heart.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, Int64

from spectramind.errors import ConfigError
from spectramind.observation import Star, TransitFit
from spectramind.parallel import Shown, one_thread, results
from spectramind.provenance import digest
from spectramind.simulate.alternatives import alternative_spectra
from spectramind.simulate.settings import AtmosphereConfig, PopulationConfig
from spectramind.training.data import Batches, FeatureTable, Samples, Scaling
from spectramind.training.features import VisitFeatures, planet_features, visit_features
from spectramind.transit.measurement import Measurement
from spectramind.transit.priors import priors_hash, read_priors
from spectramind.transit.spectrum_prior import PriorOnDevice, log_signal
from spectramind.transit.store import read_fit

_UNSEEN = Shown("observe", "planets", silent=True)  # in every epoch, of every member
_FAMILY = 5  # atmospheres of one size and mass, at most
# Scatter of log depth and of log planet mass among the planets in a donor's place.
_DEPTH_SCATTER, _MASS_SCATTER = 0.15, 0.4


@dataclass(frozen=True, eq=False)
class Reobservations:
    """Unscaled features and true spectra of M observations, with light curves of the donors."""

    donor: Int64[np.ndarray, " M"]  # planet whose visits are used, in increasing order
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
            both(table.own_sigma, self.sigma),  # nothing speaks against an observation
        )
        return whole, both(truth, self.truth)


@dataclass(frozen=True, eq=False)
class Atmospheres:
    """Number of other atmospheres per planet and epoch, and the population they come from."""

    count: int
    population: PopulationConfig
    atmosphere: AtmosphereConfig
    seed: int


@dataclass(frozen=True, eq=False)
class Donor:
    """A planet whose visits are observed with other atmospheres."""

    planet_id: int
    fit: Path
    star: Star
    priors: Path  # that its fit was made with
    learned: str  # hash of what they say


@dataclass(frozen=True, eq=False)
class Donors:
    """All planets that can be observed again, in increasing order."""

    planets: tuple[Donor, ...]
    atmospheres: Atmospheres
    key: str  # hash of all but the code that the observations depend on

    def of(self, planet_ids: Int[np.ndarray, " K"]) -> "Donors":
        """The donors among these planets."""
        wanted = set(planet_ids.tolist())
        kept = tuple(donor for donor in self.planets if donor.planet_id in wanted)
        return replace(self, planets=kept)

    def __len__(self) -> int:
        """Observations per epoch."""
        return len(self.planets) * self.atmospheres.count

    def observe(self, epoch: int, *, workers: int) -> Reobservations:
        """Observations of every donor, new in each epoch and the same for the same epoch.

        Args:
            epoch: Of the training, from 0.
            workers: Processes.

        Raises:
            ArtefactError: If a fit or its priors cannot be read.
        """
        task = partial(_observe, self.atmospheres, epoch)
        made = results(task, self.planets, workers=workers, shown=_UNSEEN)
        return joined(sorted((part for _, part in made), key=lambda part: part.donor[0]))


def find_donors(
    fits: Mapping[int, TransitFit],
    stars: Mapping[int, Star | None],
    places: Mapping[int, tuple[Path, Path]],
    atmospheres: Atmospheres,
) -> Donors:
    """Find the planets that can be observed again.

    They have a trusted fit with a prior over spectra, and a row in the star table.

    Args:
        fits: Of training planets.
        stars: Of the same.
        places: File of each fit, and of the priors that it was made with.
        atmospheres: What to draw.

    Raises:
        ArtefactError: If priors cannot be read.
        ConfigError: If no planet can be observed again.
    """
    seen = hashlib.sha256()
    learned = {priors: priors_hash(priors) for priors in {priors for _, priors in places.values()}}
    donors: list[Donor] = []
    for planet, fit in sorted(fits.items()):
        place, priors = places[planet]
        star = stars[planet]
        if fit.reasons or star is None or _prior(priors, learned[priors]) is None:
            continue
        donors.append(Donor(planet, place, star, priors, learned[priors]))
        seen.update(f"{planet} {star} {learned[priors]}".encode())
        seen.update(fit.information.tobytes())
    if not donors:
        raise ConfigError(_why_none(fits, stars, atmospheres.count))
    drawn = [
        part.model_dump(mode="json") for part in (atmospheres.population, atmospheres.atmosphere)
    ]
    key = digest([seen.hexdigest(), atmospheres.count, atmospheres.seed, *drawn])
    return Donors(tuple(donors), atmospheres, key)


def _why_none(fits: Mapping[int, TransitFit], stars: Mapping[int, Star | None], count: int) -> str:
    flagged = sum(bool(fit.reasons) for fit in fits.values())
    starless = sum(stars[planet] is None for planet in fits)
    return (
        f"training.reobserved={count}: none of {len(fits)} training planets can be observed with "
        f"other atmospheres. {flagged} have a flagged fit, {starless} no row in the star table, "
        "the others a fit without a prior over spectra (too few labels). Set "
        "training.reobserved=0, or fit with prior=pretrained."
    )


class RenewedBatches(Batches):
    """Batches of planets and of their observations, which are new in every epoch."""

    def __init__(
        self,
        table: FeatureTable,
        truth: Float64[np.ndarray, "B W"],
        scaling: Scaling,
        donors: Donors,
        *,
        size: int,
        seed: int,
        workers: int,
    ) -> None:
        super().__init__(Samples.of(table, truth, scaling), size=size, seed=seed)
        self.table, self.truth, self.scaling = table, truth, scaling
        self.donors, self.workers = donors.of(table.planet_ids), workers
        self.planets += len(self.donors)

    def samples(self, epoch: int) -> Samples:
        """The planets, followed by their observations of this epoch."""
        if not self.donors.planets:  # donors of other folds only
            return super().samples(epoch)
        others = self.donors.observe(epoch, workers=self.workers)
        return Samples.of(*others.join(self.table, self.truth), self.scaling)


def _observe(atmospheres: Atmospheres, epoch: int, donor: Donor) -> Reobservations:
    """Observations of one planet."""
    prior = _prior(donor.priors, donor.learned)
    assert prior is not None
    fit, rng = (
        read_fit(donor.fit),
        np.random.default_rng([atmospheres.seed, donor.planet_id, epoch]),
    )
    with one_thread():
        measurement, visits = Measurement(fit.information, prior), visit_features(fit)
        families = -(-atmospheres.count // _FAMILY)
        return joined(
            [
                _observe_family(
                    replace(atmospheres, count=len(own)), donor, fit, visits, measurement, rng
                )
                for own in np.array_split(np.arange(atmospheres.count), families)
            ]
        )


def _observe_family(
    atmospheres: Atmospheres,
    donor: Donor,
    fit: TransitFit,
    visits: VisitFeatures,
    measurement: Measurement,
    rng: np.random.Generator,
) -> Reobservations:
    """Observations of one planet of other size and mass in the donor's place."""
    seed = int(rng.integers(2**62))
    size, mass = rng.standard_normal(2)
    level = fit.white_depth * math.exp(_DEPTH_SCATTER * size)
    heavy = donor.star.planet_mass_mjup * math.exp(_MASS_SCATTER * mass)
    star = replace(donor.star, planet_mass_mjup=heavy)
    truth = alternative_spectra(
        fit.planet_id, star, level, atmospheres.count,
        atmospheres.population, atmospheres.atmosphere, seed,
    )  # fmt: skip
    depth, sigma = measurement.observe(truth, log_signal(star, level), rng)
    features = [
        planet_features(replace(fit, depth=own, sigma=error, own_sigma=error), star, visits)
        for own, error in zip(depth, sigma, strict=True)
    ]
    return Reobservations(
        donor=np.full(len(truth), fit.planet_id),
        nodes=np.stack([one.nodes for one in features]),
        planet=np.stack([one.planet for one in features]),
        depth=depth,
        sigma=sigma,
        truth=truth,
    )


def joined(parts: Sequence[Reobservations]) -> Reobservations:
    """All observations, in the order of the parts."""
    names = [field.name for field in fields(Reobservations)]
    return Reobservations(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


@cache
def _prior(path: Path, learned: str) -> PriorOnDevice | None:  # noqa: ARG001 - part of the key
    """Prior over spectra in a file of priors; read once per process while it says the same."""
    spectrum = read_priors(path).spectrum
    return None if spectrum is None else PriorOnDevice(spectrum, torch.device("cpu"))
