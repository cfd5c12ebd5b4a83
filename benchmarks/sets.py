"""The frozen sets of the accuracy benchmarks: worlds drawn in memory at light-curve level.

`sim2025`: the simulator's own planets with the settings of configs/simulate. `inject2024`: the
real label spectra of 2024 as true depths of simulated visits with that year's noise and two
stars. `shifted`: test planets of another world. All are the same for every number of workers;
nothing is written to disk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from spectramind import config as configuration
from spectramind.archive.tables import planet_ids, read_labels, read_table, require_columns
from spectramind.config import Config
from spectramind.errors import DataError
from spectramind.instrument import AIRS, FGS1, Channel, to_scored, wavelength_um
from spectramind.observation import LightCurves, Star
from spectramind.parallel import Shown, results
from spectramind.simulate.composition import draw_atmosphere
from spectramind.simulate.curves import draw_curves
from spectramind.simulate.limb_darkening import LimbLaw
from spectramind.simulate.population import Planet, Split, draw_planet, stream
from spectramind.simulate.scene import mean_transit
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.star import StarLight, draw_star, separation, transit_flux
from spectramind.simulate.systems import System, draw_systems
from spectramind.simulate.visit import Visit, draw_visit, stamps_h
from spectramind.transit.binning import BinnedVisit, bin_visit

LABELS_2024 = Path(__file__).parents[2] / "shared" / "data" / "2024" / "train_labels.csv"
SEED_2025, SEED_2024, SEED_SHIFTED = 2025, 2024, 2026
FOLDS = 5
DRIFT_ORDER = 5  # of the Chebyshev terms of the drift prior, in time and in wavelength
_MERGED = 5  # read pairs in one exposure of both sets
_STEP = 1e-3  # of the depth, for the slope's central difference
_SHIFT = 0.05  # of a bin; by how much rejected exposures may move a bin's mean time
_CHOSEN = {FGS1: slice(0, 1), AIRS: slice(1, None)}  # of the 283 wavelengths

# Noise of 2024: electrons of an exposure at 0.7 um (FGS1), 2.1 and 3.9 um (AIRS-CH0) and the
# noise there. Source: one planet of star 1, challenge.md section 6.4. The ratio to Poisson noise
# (0.264 % and 1.387 %) is interpolated in wavelength between the two of AIRS-CH0.
_FGS1_ELECTRONS, _FGS1_OVER_POISSON = 275_656, 2.0
_AIRS_UM, _AIRS_ELECTRONS, _AIRS_NOISE = (2.1, 3.9), (143_000, 5_200), (0.0027, 0.020)
# Temperature [K], radius [Rsun], mass [Msun] of the stars 0 and 1 of 2024, which nobody published
# (assumption): radius and mass go with the temperature as in the 2025 star table, and star 0,
# whose planets are 3 times as deep, is the smaller one.
_STARS = ((4900.0, 0.82, 0.77), (5800.0, 1.15, 1.05))


@dataclass(frozen=True, eq=False)
class TransitTruth:
    """Truth of one visit in the bins of its BinnedVisit; wavelength 0 is FGS1, on its clock."""

    transit: Float64[np.ndarray, "T 283"]  # noise-free relative flux, mean over a bin's exposures
    slope: Float64[np.ndarray, "T 283"]  # d transit / d depth at the same wavelength
    drift: Float64[np.ndarray, "T 283"]  # gain; FGS1: mean over the detector
    mid_time_h: float  # on the FGS1 clock [h]
    clock_offset_s: float  # AIRS time stamps run behind FGS1 by this [s]
    period_d: float  # [d]
    semi_major_axis_rs: float  # in stellar radii
    impact_parameter: float  # in stellar radii
    law: LimbLaw  # limb darkening of the star


@dataclass(frozen=True, eq=False)
class World:
    """One planet: what an estimator may see, its label, and the truth where asked for."""

    planet_id: int
    fold: int  # sim2025: -1 train, 0 test; inject2024: 0..4, the fold that leaves it out
    star: Star | None  # row of the (inexact) star table; None in inject2024
    group: int  # star index of 2024; 0 in sim2025
    label: Float64[np.ndarray, " 283"]  # true (Rp/Rs)^2
    visits: tuple[BinnedVisit, ...]
    truth: tuple[TransitTruth, ...] | None


@dataclass(frozen=True, eq=False)
class DriftPrior:
    """Second moments of the simulator's log gain in Chebyshev terms T_i(tau) T_j(xi).

    i = 1..5 over the bins of a visit (tau -1..1), j = 0..5 over the 282 scored wavelengths by
    increasing wavelength (xi -1..1, even in the index), row-major (i, j). Terms without time
    (i = 0) belong to the star's level and are left out. The moments are about zero, the mean of
    a drift whose factor in time has either sign with equal probability.
    """

    airs: Float64[np.ndarray, "30 30"]
    fgs1: Float64[np.ndarray, "5 5"]
    remainder: float  # rms of the AIRS log gain that the terms do not follow, relative


@dataclass(frozen=True, eq=False)
class _Draft:
    """A planet that is to be observed; the fields that `World` has mean the same."""

    system: System
    fold: int
    star: Star | None
    group: int
    with_truth: bool


def sim2025(train: int, test: int, *, truth: bool, workers: int) -> list[World]:
    """Planets of the simulator with its default settings, training planets first.

    Args:
        train: Training planets (fold -1).
        test: Test planets (fold 0), whose labels no estimator may see.
        truth: Whether the test planets get `World.truth`.
        workers: Processes.
    """
    settings = _settings(SEED_2025, f"train_planets={train}", f"test_planets={test}")
    splits: tuple[tuple[Split, int], ...] = (("train", -1), ("test", 0))
    drafts = [
        _Draft(system, fold, system.planet.table, 0, truth and fold == 0)
        for split, fold in splits
        for system in draw_systems(settings.simulate, split)
    ]
    return _drawn(settings, drafts, workers, "sim2025")


def shifted(test: int, *, workers: int) -> list[World]:
    """Test planets of another world: other gases, 1.5 times the noise, drifts twice as strong.

    Args:
        test: Planets (fold 0), whose labels no estimator may see.
        workers: Processes.
    """
    settings = _settings(
        SEED_SHIFTED, "train_planets=1", f"test_planets={test}",
        f"star.fgs1_electrons={2.45e5 / 1.5**2}", f"star.airs_electrons={1.32e5 / 1.5**2}",
        "visit.gain_drift_amplitude=[2e-3,2e-2]",
        "atmosphere.log10_abundance.H2O=[-8,-4]", "atmosphere.log10_abundance.CO2=[-6,-2]",
        "atmosphere.log10_abundance.CH4=[-6,-2]", "atmosphere.log10_abundance.SO2=[-7,-3]",
        "atmosphere.cloud_probability=0.4",
    )  # fmt: skip
    drafts = [
        _Draft(system, 0, system.planet.table, 0, with_truth=False)
        for system in draw_systems(settings.simulate, "test")
    ]
    return _drawn(settings, drafts, workers, "shifted")


def inject2024(labels: Path, limit: int | None, *, truth: bool, workers: int) -> list[World]:
    """Real label spectra of 2024 injected into simulated visits, by planet identifier.

    Args:
        labels: train_labels.csv of 2024, beside its train_adc_info.csv.
        limit: At most so many planets, dealt evenly from the folds; None takes all.
        truth: Whether the planets get `World.truth`.
        workers: Processes.

    Raises:
        FileNotFoundError: If `labels` is absent.
        DataError: If the two tables are damaged or name different planets.
    """
    if not labels.is_file():
        raise FileNotFoundError(
            f"{labels}: the label spectra of 2024 are not here, expected train_labels.csv of the "
            "Ariel Data Challenge 2024. Fetch it or leave inject2024 out."
        )
    settings = _settings(
        SEED_2024, "two_visit_fraction=0", "star.electrons_scatter=0",
        f"star.fgs1_electrons={_FGS1_ELECTRONS}", f"star.airs_electrons={_AIRS_ELECTRONS[0]}",
        # what these add to photon noise is part of the year's ratio to Poisson
        "effects.read_noise=false", "effects.foreground=false", "effects.dark=false",
    )  # fmt: skip
    config, table = settings.simulate, read_labels(labels)
    groups = _star_of(labels.with_name("train_adc_info.csv"), table.planet_ids)
    lights = [_light_2024(group, config) for group in range(len(_STARS))]
    ids, by_id = table.planet_ids, np.argsort(table.planet_ids)
    dealt = np.random.default_rng(SEED_2024).permutation(ids.size)
    drafts = []
    for position, index in sorted(enumerate(dealt[:limit].tolist()), key=lambda pair: pair[1]):
        row, group = by_id[index], int(groups[by_id[index]])
        planet = _planet_2024("train", index, group, config)
        atmosphere = draw_atmosphere(config.seed, planet, config.atmosphere)  # not in the label
        depth = table.depth[row]
        planet = replace(planet, planet_id=int(ids[row]), depth=float(depth[1:].mean()))
        system = System(planet, atmosphere, depth, lights[group])
        drafts.append(_Draft(system, position % FOLDS, None, group, truth))
    return _drawn(settings, drafts, workers, "inject2024")


def drift_prior(samples: int, seed: int) -> DriftPrior:
    """Gaussian moments of the gain drifts that the simulator draws.

    Each drift is projected by least squares on the terms of `DriftPrior`, terms without time
    included, over the exposures that the fit uses.

    Args:
        samples: Visits drawn.
        seed: Of the draws.
    """
    settings = _settings(seed, "train_planets=1", "test_planets=0")
    config, edge = settings.simulate, settings.transit.edge_exposures
    system = draw_systems(config, "train")[0]
    visits = [
        draw_visit(seed, system.planet, number, _MERGED, config.effects, config.visit)
        for number in range(samples)
    ]
    binned = bin_visit(draw_curves(system, visits[0], config), settings.transit)
    terms = np.polynomial.chebyshev.chebvander
    colour = terms(np.linspace(-1.0, 1.0, binned.lit.size), DRIFT_ORDER)
    stamps = {c: stamps_h(c, _MERGED) for c in (FGS1, AIRS)}
    used = {c: slice(edge, time.size - edge) for c, time in stamps.items()}
    time = {c: terms(binned.scaled(stamps[c][used[c]]), DRIFT_ORDER) for c in (FGS1, AIRS)}
    invert = {c: np.linalg.pinv(time[c]) for c in (FGS1, AIRS)}
    airs, fgs1, rest = [], [], []
    for visit in visits:
        gain = np.log(_gain(AIRS, visit)[used[AIRS]])
        weights = invert[AIRS] @ gain @ np.linalg.pinv(colour).T
        airs.append(weights[1:].ravel())
        rest.append(np.mean((gain - time[AIRS] @ weights @ colour.T) ** 2))
        fgs1.append((invert[FGS1] @ np.log(_gain(FGS1, visit)[used[FGS1], 0]))[1:])
    second = [np.array(rows).T @ np.array(rows) / samples for rows in (airs, fgs1)]
    return DriftPrior(second[0], second[1], float(np.sqrt(np.mean(rest))))


def _settings(seed: int, *changes: str) -> Config:
    """The default settings at the sets' cadence; `TransitTruth.slope` leaves spots out."""
    fixed = (f"seed={seed}", f"cadence_factor={_MERGED}", "effects.spots=false")
    return configuration.load([f"simulate.{change}" for change in (*fixed, *changes)])


def _drawn(settings: Config, drafts: Sequence[_Draft], workers: int, label: str) -> list[World]:
    """Every planet, in the order of the drafts; a frozen set is whole or not at all."""
    made = results(
        partial(_observe, settings), drafts, workers=workers, shown=Shown(label, "planets")
    )
    worlds = {world.planet_id: world for _, world in made}
    return [worlds[draft.system.planet.planet_id] for draft in drafts]


def _observe(settings: Config, draft: _Draft) -> World:
    """Draw, bin and, where asked for, explain the visits of one planet."""
    config, system, planet = settings.simulate, draft.system, draft.system.planet
    visits, truth = [], []
    for number in range(planet.visits):
        visit = draw_visit(config.seed, planet, number, _MERGED, config.effects, config.visit)
        curves = draw_curves(system, visit, config)
        if draft.star is None:
            curves = _noise_2024(curves, planet, config.seed)
        visits.append(bin_visit(curves, settings.transit))
        if draft.with_truth:
            truth.append(_explain(system, visit, visits[-1], settings.transit.edge_exposures))
    return World(
        planet.planet_id, draft.fold, draft.star, draft.group, system.depth, tuple(visits),
        tuple(truth) if draft.with_truth else None,
    )  # fmt: skip


def _explain(system: System, visit: Visit, binned: BinnedVisit, edge: int) -> TransitTruth:
    planet, light, depth = system.planet, system.light, system.depth
    series = []
    for channel in (FGS1, AIRS):
        average = _averages(channel, planet, visit, binned, edge)
        transit = mean_transit(channel, planet, light, depth, visit, _MERGED)
        curves = (transit, _slope(channel, system, visit), _gain(channel, visit))
        series.append([average(values) for values in curves])
    transit, slope, drift = (np.concatenate(pair, axis=1) for pair in zip(*series, strict=True))
    return TransitTruth(
        transit, slope, drift, visit.mid_time_h, visit.clock_offset_s, planet.star.period_d,
        planet.star.semi_major_axis_rs, planet.impact_parameter, light.limb_darkening,
    )  # fmt: skip


def _slope(channel: Channel, system: System, visit: Visit) -> Float64[np.ndarray, "S W"]:
    """Derivative of the flux by depth amid each exposure, by central difference."""
    chosen = _CHOSEN[channel]
    offset_h = visit.clock_offset_s / 3600.0 if channel == AIRS else 0.0
    time = stamps_h(channel, _MERGED) + offset_h
    z = separation(time, visit.mid_time_h, system.planet.star)
    depth, law = system.depth[chosen], system.light.limb_darkening.at(chosen)
    more, less = (transit_flux(z, depth * (1.0 + step), law) for step in (_STEP, -_STEP))
    return (more - less) / (2.0 * _STEP * depth)


def _gain(channel: Channel, visit: Visit) -> Float64[np.ndarray, "S W"]:
    """True gain of every exposure without edge faults, at the channel's scored wavelengths."""
    time = stamps_h(channel, _MERGED)
    tau = (time - time[0]) / (time[-1] - time[0])
    gain = visit.drift[channel.name].gain(tau, channel.columns).T
    return gain.mean(1, keepdims=True) if channel == FGS1 else to_scored(gain)


def _averages(
    channel: Channel, planet: Planet, visit: Visit, binned: BinnedVisit, edge: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Means of a channel's exposures over the bins of a BinnedVisit, along the first axis.

    Raises:
        DataError: If the bins are not those of the visit.
    """
    time, airs_time = stamps_h(channel, _MERGED), stamps_h(AIRS, _MERGED)
    start = airs_time[edge] - 0.5 * (airs_time[1] - airs_time[0])
    lower = start + binned.width_h * np.floor((binned.airs_time_h - start) / binned.width_h)
    first = np.clip(np.searchsorted(time, lower), edge, None)
    last = np.clip(np.searchsorted(time, lower + binned.width_h), None, time.size - edge)

    def average(values: np.ndarray) -> np.ndarray:
        return np.array([values[i:j].mean(0) for i, j in zip(first, last, strict=True)])

    seen = binned.airs_time_h if channel == AIRS else binned.fgs1_time_h
    shift = float(np.abs(average(time) - seen).max() / binned.width_h)
    if shift > _SHIFT:
        raise DataError(
            f"planet {planet.planet_id}, visit {visit.visit}, {channel.name}: bins of the truth "
            f"lie {shift:.3f} of a bin beside those of the light curve, expected at most "
            f"{_SHIFT}. Bring benchmarks/sets.py in line with transit/binning.py."
        )
    return average


def _star_of(path: Path, ids: Int64[np.ndarray, " B"]) -> Int64[np.ndarray, " B"]:
    """Star index 0 or 1 of each planet, from the table of the converters."""
    table = read_table(path)
    require_columns(table, ["star"], path)
    star = dict(zip(planet_ids(table, path).tolist(), table["star"].to_list(), strict=True))
    if set(star) != set(ids.tolist()) or not set(star.values()) <= set(range(len(_STARS))):
        raise DataError(
            f"{path}: holds {len(star)} planets of the stars {sorted(set(star.values()))}, "
            f"expected the {ids.size} planets of train_labels.csv and the stars 0 and 1. Fetch "
            "both files again."
        )
    return np.array([star[planet] for planet in ids.tolist()], dtype=np.int64)


def _planet_2024(split: Split, index: int, group: int, config: SimulateConfig) -> Planet:
    """A planet of the population with its period and impact parameter on one of the two stars.

    Source: Kepler's third law, a/Rs = (G M P^2 / 4 pi^2)^(1/3) / Rs at the same period.
    """
    planet = draw_planet(config.seed, split, index, config.two_visit_fraction, config.population)
    temperature, radius, mass = _STARS[group]
    old = planet.star
    axis = old.semi_major_axis_rs * (mass / old.mass_msun) ** (1 / 3) * old.radius_rsun / radius
    star = replace(
        old, radius_rsun=radius, mass_msun=mass, temperature_k=temperature,
        semi_major_axis_rs=axis,
        inclination_deg=float(np.degrees(np.arccos(planet.impact_parameter / axis))),
    )  # fmt: skip
    return replace(planet, star=star, table=star)


def _light_2024(group: int, config: SimulateConfig) -> StarLight:
    """The light and the limb darkening that all planets of one star share."""
    planet = _planet_2024("test", group, group, config)
    return draw_star(config.seed, planet, config.effects, config.star)


def _noise_2024(curves: LightCurves, planet: Planet, seed: int) -> LightCurves:
    """Add what the noise of 2024 has above the photon noise that is already there."""
    rng = stream(seed, planet.split, planet.index, "noise of 2024", curves.visit)
    ratio = np.array(_AIRS_NOISE) * np.sqrt(np.array(_AIRS_ELECTRONS, dtype=np.float64))

    def noisier(flux: np.ndarray, over_poisson: np.ndarray | float) -> np.ndarray:
        variance = (np.square(over_poisson) - 1.0) * np.median(flux, axis=0) / _MERGED
        return (flux + np.sqrt(variance) * rng.standard_normal(flux.shape)).astype(np.float32)

    return replace(
        curves,
        fgs1_e=noisier(curves.fgs1_e, _FGS1_OVER_POISSON),
        airs_e=noisier(curves.airs_e, np.interp(wavelength_um()[1:], _AIRS_UM, ratio)),
    )
