"""What planets have in common besides their spectra.

Errors of the star table, limb darkening away from its table, clocks, disagreement of visits and
gain drift.
The scatters begin with those of the settings and are learned from training planets whose
spectrum is known: with the depths held at the labels, each planet's light curves give a Gaussian
likelihood of its shared parameters, and expectation-maximisation finds the Gaussian they were
drawn from. Source: Dempster, Laird and Rubin 1977.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from spectramind.observation import Star
from spectramind.transit.parameters import FIXED, OFFSETS, ORBIT, Layout
from spectramind.transit.settings import PriorConfig, TransitConfig

_ROUNDS = 60  # of expectation-maximisation
_LIMB_FGS1, _LIMB_AIRS = slice(ORBIT, ORBIT + 2), slice(ORBIT + 2, FIXED)
_FREE_TIME_H = 24.0  # so wide that the prior only keeps a rank
_FARTHEST = 6.0  # from the first guess that a planet may lie and still teach [scatters]
_FLOOR = 1e-3  # smallest scatter after learning, of that before it
_OFFSET_STEPS = np.linspace(-4.5, 4.5, 19)  # of ln scatter of a visit's offsets, tried
_OFFSET_BELIEF = 1.5  # scatter of ln of that scatter beforehand
_LEAST_OFFSET = 1e-6
_SWEEPS = 2  # over the three of them
_TYPICAL_DEPTH = 0.01  # of a planet before its light is seen [(Rp/Rs)^2]


@dataclass(frozen=True)
class Guess:
    """What is known of a planet before its spectrum: orbit of the star table, or its absence."""

    temperature_k: float
    period_d: float
    semi_major_axis_rs: float
    impact_parameter: float
    known: bool  # the star is in the table
    depth: float = _TYPICAL_DEPTH  # in white light [(Rp/Rs)^2]

    def centre(self) -> Float64[np.ndarray, " 3"]:
        """Logarithms of P and a, and b^2."""
        return np.array(
            [np.log(self.period_d), np.log(self.semi_major_axis_rs), self.impact_parameter**2]
        )


def guess_orbit(star: Star | None, config: TransitConfig) -> Guess:
    """Orbit from a row of the star table, or the assumed one of an unknown star."""
    if star is None:
        unknown = config.unknown_star
        return Guess(
            unknown.temperature_k,
            unknown.period_d,
            unknown.semi_major_axis_rs,
            unknown.impact_parameter,
            known=False,
        )
    impact = star.semi_major_axis_rs * float(np.cos(np.radians(star.inclination_deg)))
    return Guess(star.temperature_k, star.period_d, star.semi_major_axis_rs, impact, known=True)


@dataclass(frozen=True, eq=False)
class Population:
    """Gaussian prior of the shared parameters."""

    mean: Float64[np.ndarray, " 9"]  # of orbit and limb darkening minus the guess; b^2 scaled
    covariance: Float64[np.ndarray, "9 9"]
    clock_h: float  # scatter of the clock difference [h]
    visit_offset: tuple[float, float, float]  # scatter of a visit's depths, over the planet's
    drift_fgs1: Float64[np.ndarray, "I I"]  # covariance over orders in time
    drift_time: Float64[np.ndarray, "I I"]
    drift_wavelength: Float64[np.ndarray, "J J"]  # times `drift_time`: covariance of AIRS-CH0
    spots: float  # scatter of the share of the disc that spots take, for a star of 5000 K
    planets: int  # from which it was learned; 0: the settings alone

    @property
    def gave_up(self) -> bool:
        """Whether limb darkening could not be learned; what is learned has a mean of its own."""
        parts = (self.mean[_LIMB_FGS1], self.mean[_LIMB_AIRS])
        return self.planets > 0 and not all(part.any() for part in parts)

    def prior(
        self, guess: Guess, mid_time_h: Sequence[float], layout: Layout, config: TransitConfig
    ) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, "N N"]]:
        """Mean and covariance of one planet's shared parameters.

        Args:
            guess: Its orbit.
            mid_time_h: Middle of each visit's window, with a scatter of a day [h].
            layout: Which parameters there are; a layout of fewer orders takes the lower ones.
            config: Section `transit`.
        """
        mean, covariance = np.zeros(layout.size), np.zeros((layout.size, layout.size))
        scale = np.ones(FIXED)
        scale[2] = _impact_scale(guess, config)
        mean[:FIXED] = scale * self.mean
        mean[:ORBIT] += guess.centre()
        covariance[:FIXED, :FIXED] = scale[:, None] * self.covariance * scale
        terms = layout.wavelength_terms
        airs = np.kron(self.drift_time, self.drift_wavelength[:terms, :terms])
        for visit, middle in enumerate(mid_time_h):
            times, offsets = layout.times(visit), layout.offsets(visit)
            mean[times.start] = middle
            covariance[times, times] = np.diag([_FREE_TIME_H**2, self.clock_h**2])
            covariance[offsets, offsets] = np.diag(_variances(self.visit_offset) * guess.depth**2)
            first = layout.drift(visit).start
            middle_drift, last = first + layout.time_order, layout.drift(visit).stop
            covariance[first:middle_drift, first:middle_drift] = self.drift_fgs1
            covariance[middle_drift:last, middle_drift:last] = airs
        return mean, covariance


def _impact_scale(guess: Guess, config: TransitConfig) -> float:
    """Scatter of b^2 for the set scatter s of b: sqrt((2 b s)^2 + 2 s^4)."""
    scatter = config.prior.impact_parameter
    return float(np.hypot(2.0 * guess.impact_parameter * scatter, np.sqrt(2.0) * scatter**2))


def with_wide_orbit(population: Population, config: TransitConfig) -> Population:
    """The population where a row of the star table is not believed."""
    wide = first_population(config, known=False)
    return _with_part(population, wide, slice(ORBIT))


def first_population(config: TransitConfig, *, known: bool) -> Population:
    """The settings' prior; `known`: for stars of the table."""
    prior, baseline = config.prior, config.baseline
    widening = 1.0 if known else config.unknown_star.widening
    orbit = [prior.period, prior.semi_major_axis, 1.0]
    limb = [prior.limb_darkening] * 4 + [prior.limb_darkening_colour] * 2
    scatter = widening * np.array(orbit + limb)
    time = np.diag(np.square(baseline.scatter))
    decay = baseline.wavelength_decay ** np.arange(baseline.wavelength_order + 1)
    return Population(
        mean=np.zeros(FIXED),
        covariance=np.diag(scatter**2),
        clock_h=prior.clock_s / 3600.0,
        visit_offset=(prior.visit_offset, prior.visit_offset, prior.visit_offset),
        drift_fgs1=time,
        drift_time=time,
        drift_wavelength=np.diag(decay**2),
        spots=config.spots.scatter,
        planets=0,
    )


@dataclass(frozen=True, eq=False)
class OrbitEvidence:
    """What one planet's light curves say of its shared parameters, the depths being known.

    The likelihood is exp(-x A x / 2 + b x) with x the parameters minus the guess, b^2 in units
    of its set scatter, offsets of visits in units of the depth, mid-transit times marginalised.
    """

    layout: Layout
    information: Float64[np.ndarray, "M M"]  # A
    vector: Float64[np.ndarray, " M"]  # b


def make_evidence(
    guess: Guess,
    shared: Float64[np.ndarray, " N"],
    information: Float64[np.ndarray, "N N"],
    pull: Float64[np.ndarray, " N"],
    layout: Layout,
    config: TransitConfig,
) -> OrbitEvidence:
    """Likelihood of the shared parameters from normal equations at `shared`."""
    centre = np.zeros(layout.size)
    centre[:ORBIT] = guess.centre()
    vector = pull + information @ (shared - centre)
    scale = np.ones(layout.size)
    scale[2] = _impact_scale(guess, config)
    for visit in range(layout.visits):
        scale[layout.offsets(visit)] = guess.depth
    information, vector = scale[:, None] * information * scale, scale * vector
    mid = [layout.times(visit).start for visit in range(layout.visits)]
    rest = np.setdiff1d(np.arange(layout.size), mid)
    cross = information[np.ix_(rest, mid)]
    solved = np.linalg.solve(information[np.ix_(mid, mid)], np.c_[cross.T, vector[mid]])
    return OrbitEvidence(
        layout,
        information[np.ix_(rest, rest)] - cross @ solved[:, :-1],
        vector[rest] - cross @ solved[:, -1],
    )


def learn_population(
    start: Population, planets: Sequence[OrbitEvidence], config: PriorConfig
) -> Population:
    """Population that makes the planets most likely, from `start` on.

    Where limb darkening would scatter more widely than `start` has it, something that the model
    does not know has gone where freedom is. Then that of FGS1 stays as `start` has it, or, where
    it is that of AIRS-CH0, all limb darkening and the orbits.

    Args:
        start: First guess; scatters of which the planets say nothing stay as they are. Those of
            orbit and limb darkening keep a share of it, worth `config.typical` planets.
        planets: At least one planet's evidence.
        config: Section `transit.prior`.
    """
    first = _priors(start, planets)
    planets = [one for one in planets if _plausible(start, first[one.layout], one)]
    if not planets:
        return start
    population = start
    for _ in range(_ROUNDS):
        population = _improve(population, start, planets, config.typical)
    pairs = [planet for planet in planets if planet.layout.visits > 1]
    if pairs:
        population = _with_offsets(population, start, pairs)
    wider = np.diag(population.covariance) > np.diag(start.covariance)
    if wider[_LIMB_AIRS].any():
        population = replace(population, mean=start.mean, covariance=start.covariance)
    elif wider[_LIMB_FGS1].any():
        population = _with_part(population, start, _LIMB_FGS1)
    return replace(population, planets=len(planets))


def _with_part(population: Population, other: Population, part: slice) -> Population:
    """A population with some of the orbit and limb darkening of another, and no correlation."""
    mean, covariance = population.mean.copy(), population.covariance.copy()
    mean[part] = other.mean[part]
    covariance[part] = covariance[:, part] = 0.0
    covariance[part, part] = other.covariance[part, part]
    return replace(population, mean=mean, covariance=covariance)


def _with_offsets(
    population: Population, start: Population, pairs: Sequence[OrbitEvidence]
) -> Population:
    """Offsets of visits as planets with several have them: mean of ln scatter by evidence."""
    prior = _priors(population, pairs)
    seen = [_seen_offsets(prior[one.layout], one) for one in pairs]
    offsets = np.maximum(np.array(start.visit_offset), _LEAST_OFFSET)
    tried = np.log(offsets)[:, None] + _OFFSET_STEPS
    belief = -0.5 * (_OFFSET_STEPS / _OFFSET_BELIEF) ** 2
    for part in list(range(OFFSETS)) * _SWEEPS:
        likelihood = belief.copy()
        for place, step in enumerate(tried[part]):
            offsets[part] = np.exp(step)
            likelihood[place] += sum(_offset_evidence(*one, offsets) for one in seen)
        share = np.exp(likelihood - likelihood.max())
        offsets[part] = np.exp(np.average(tried[part], weights=share))
    return replace(population, visit_offset=tuple(offsets.tolist()))


def _seen_offsets(
    prior: "_Prior", planet: OrbitEvidence
) -> tuple[Float64[np.ndarray, "M M"], Float64[np.ndarray, " M"]]:
    """Information and vector of a planet's offsets, all else marginalised under its prior."""
    own = np.concatenate([np.arange(len(prior.mean))[visit.offsets] for visit in prior.visits])
    rest = np.setdiff1d(np.arange(len(prior.mean)), own)
    information, vector = planet.information + prior.precision, planet.vector + prior.pull
    cross = information[np.ix_(rest, own)]
    solved = np.linalg.solve(information[np.ix_(rest, rest)], np.c_[cross, vector[rest]])
    return (
        planet.information[np.ix_(own, own)] - cross.T @ solved[:, :-1],
        vector[own] - cross.T @ solved[:, -1],
    )


def _offset_evidence(
    information: Float64[np.ndarray, "M M"],
    vector: Float64[np.ndarray, " M"],
    offsets: Float64[np.ndarray, " 3"],
) -> float:
    """Log evidence of scatters of the offsets, up to a constant."""
    precision = np.tile(offsets**-2.0, len(vector) // OFFSETS)
    total = information + np.diag(precision)
    size = np.log(precision).sum() - np.linalg.slogdet(total)[1]
    return float(0.5 * (vector @ np.linalg.solve(total, vector) + size))


def _variances(visit_offset: Sequence[float]) -> Float64[np.ndarray, " 3"]:
    """Of the depth offsets of a visit; never so small that they cannot be inverted."""
    return np.maximum(np.array(visit_offset), _LEAST_OFFSET) ** 2


def _plausible(start: Population, prior: "_Prior", planet: OrbitEvidence) -> bool:
    """Whether a planet's parameters lie where the first guess can believe them at all.

    A lost transit or a star that is not the table's would teach all others its fault.
    """
    mean, _ = _posterior(prior, planet)
    scatter = np.sqrt(np.diag(start.covariance))
    fixed = np.abs(mean[:FIXED] - start.mean) / scatter
    clocks = [abs(mean[own.clock]) / start.clock_h for own in prior.visits]
    return bool(max(*fixed, *clocks) < _FARTHEST)


def _improve(
    population: Population, start: Population, planets: Sequence[OrbitEvidence], typical: float
) -> Population:
    """One round: posterior of each planet, then the moments of them all."""
    fixed = [np.zeros(FIXED), np.zeros((FIXED, FIXED))]
    clock, fgs1 = 0.0, np.zeros_like(population.drift_fgs1)
    orders, terms = len(population.drift_time), len(population.drift_wavelength)
    airs = np.zeros((orders * terms, orders * terms))
    visits = 0
    priors = _priors(population, planets)
    for planet in planets:
        prior = priors[planet.layout]
        mean, covariance = _posterior(prior, planet)
        second = covariance + np.outer(mean, mean)
        fixed[0] += mean[:FIXED]
        fixed[1] += second[:FIXED, :FIXED]
        for own in prior.visits:
            clock += second[own.clock, own.clock]
            fgs1 += second[own.fgs1, own.fgs1]
            airs += second[own.airs, own.airs]
            visits += 1
    mean = fixed[0] / len(planets)
    covariance = fixed[1] - len(planets) * np.outer(mean, mean) + typical * start.covariance
    covariance = covariance / (len(planets) + typical)
    moment = (airs / visits).reshape(orders, terms, orders, terms)
    time, wavelength = _separate(moment, population.drift_time, population.drift_wavelength)
    return replace(
        population,
        mean=mean,
        covariance=_floored(covariance, start.covariance),
        clock_h=max(float(np.sqrt(clock / visits)), _FLOOR * start.clock_h),
        drift_fgs1=_floored(fgs1 / visits, start.drift_fgs1),
        drift_time=_floored(time, start.drift_time),
        drift_wavelength=_floored(wavelength, start.drift_wavelength),
    )


def _floored(
    covariance: Float64[np.ndarray, "N N"], start: Float64[np.ndarray, "N N"]
) -> Float64[np.ndarray, "N N"]:
    """Symmetric, and never so narrow that it cannot be inverted."""
    return 0.5 * (covariance + covariance.T) + _FLOOR**2 * np.diag(np.diag(start))


def _separate(
    moment: Float64[np.ndarray, "I J I J"],
    time: Float64[np.ndarray, "I I"],
    wavelength: Float64[np.ndarray, "J J"],
) -> tuple[Float64[np.ndarray, "I I"], Float64[np.ndarray, "J J"]]:
    """Product of two covariances nearest in likelihood. Source: Dutilleul 1999 (flip-flop)."""
    for _ in range(2):
        time = np.einsum("iajb,ab->ij", moment, np.linalg.inv(wavelength)) / len(wavelength)
        wavelength = np.einsum("iajb,ij->ab", moment, np.linalg.inv(time)) / len(time)
    return time, wavelength


@dataclass(frozen=True)
class _Block:
    """Where a visit's parameters stand once mid-transit times are marginalised."""

    clock: int
    offsets: slice
    fgs1: slice
    airs: slice


def _blocks(layout: Layout) -> list[_Block]:
    blocks = []
    for visit in range(layout.visits):
        first = layout.first(visit) - visit
        fgs1 = first + 1 + OFFSETS
        airs = fgs1 + layout.time_order
        end = fgs1 + layout.drift_terms
        blocks.append(_Block(first, slice(first + 1, fgs1), slice(fgs1, airs), slice(airs, end)))
    return blocks


@dataclass(frozen=True, eq=False)
class _Prior:
    """A population as all planets of one layout meet it, mid-transit times marginalised."""

    visits: list[_Block]
    precision: Float64[np.ndarray, "M M"]
    mean: Float64[np.ndarray, " M"]
    pull: Float64[np.ndarray, " M"]  # precision @ mean


def _priors(population: Population, planets: Sequence[OrbitEvidence]) -> dict[Layout, _Prior]:
    """One for each layout among the planets."""
    return {layout: _prior(population, layout) for layout in {one.layout for one in planets}}


def _prior(population: Population, layout: Layout) -> _Prior:
    size = layout.size - layout.visits
    precision, mean = np.zeros((size, size)), np.zeros(size)
    precision[:FIXED, :FIXED] = np.linalg.inv(population.covariance)
    mean[:FIXED] = population.mean
    fgs1 = np.linalg.inv(population.drift_fgs1)
    airs = np.kron(
        np.linalg.inv(population.drift_time), np.linalg.inv(population.drift_wavelength)
    )
    offsets = np.diag(1.0 / _variances(population.visit_offset))
    visits = _blocks(layout)
    for own in visits:
        precision[own.clock, own.clock] = population.clock_h**-2.0
        precision[own.offsets, own.offsets] = offsets
        precision[own.fgs1, own.fgs1] = fgs1
        precision[own.airs, own.airs] = airs
    return _Prior(visits, precision, mean, precision @ mean)


def _posterior(
    prior: _Prior, planet: OrbitEvidence
) -> tuple[Float64[np.ndarray, " M"], Float64[np.ndarray, "M M"]]:
    """Mean and covariance of a planet's parameters."""
    covariance = np.linalg.inv(planet.information + prior.precision)
    return covariance @ (planet.vector + prior.pull), covariance
