"""Stars, orbits and planets, drawn to the quantiles and correlations of the 2025 star table."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spectramind.instrument import WINDOW_H
from spectramind.observation import Star
from spectramind.simulate.settings import PopulationConfig, Range

Split = Literal["train", "test"]

SPLITS: tuple[Split, ...] = ("train", "test")
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
# Source: quantiles of the public 2025 star table (1,100 planets); natural logarithms are drawn.
_TABLE = {
    "radius_rsun": (0.65, 0.80, 0.97, 1.23, 1.45, 1.90, 2.89),
    "mass_msun": (0.60, 0.75, 0.94, 1.10, 1.25, 1.43, 1.82),
    "temperature_k": (4236, 4823, 5571, 5887, 6230, 6521, 6979),
    "planet_mass_mjup": (0.049, 0.19, 0.59, 0.94, 1.65, 5.95, 24.7),
    "period_d": (2.78, 3.00, 3.95, 5.20, 6.34, 7.40, 7.61),
}
# Rank correlations of radius, mass and temperature; radius-temperature is the table's, the other
# two are those of a main sequence with scatter (assumption).
_STAR_CORRELATION = np.array([[1.0, 0.8, 0.73], [0.8, 1.0, 0.85], [0.73, 0.85, 1.0]])
_SUN_DENSITY_A = 4.2083  # a/Rs of a 1-day orbit around the Sun: (G M T^2 / 4 pi^2)^(1/3) / Rsun
_GOLDEN_STEP = 2654435761  # odd, so that index -> identifier is one to one modulo 2^32
_SMALLEST_ID = 10_000


@dataclass(frozen=True)
class Planet:
    """Truth of one planet before its atmosphere."""

    planet_id: int
    split: Split
    index: int
    visits: int
    star: Star  # true
    table: Star  # what the star table says
    depth: float  # (Rp/Rs)^2 averaged over AIRS-CH0
    impact_parameter: float
    temperature_k: float  # of the atmosphere
    mu_amu: float  # mean molecular mass
    gravity_m_s2: float  # at the radius of `depth`

    @property
    def duration_h(self) -> float:
        """Transit duration from first to fourth contact [h].

        Source: Seager and Mallen-Ornelas 2003, equation 3 (circular orbit).
        """
        chord = math.sqrt((1.0 + math.sqrt(self.depth)) ** 2 - self.impact_parameter**2)
        inclination = math.radians(self.star.inclination_deg)
        sine = chord / (self.star.semi_major_axis_rs * math.sin(inclination))
        return self.star.period_d * 24.0 / math.pi * math.asin(sine)

    def is_partial(self, mid_time_h: float) -> bool:
        """Whether first or fourth contact falls outside the window."""
        return abs(mid_time_h - WINDOW_H / 2) > (WINDOW_H - self.duration_h) / 2


def stream(seed: int, split: Split, index: int, name: str, visit: int = 0) -> np.random.Generator:
    """Random stream of one quantity of one planet; no stream depends on another."""
    return np.random.default_rng(
        [seed, SPLITS.index(split), index, visit, zlib.crc32(name.encode())]
    )


def identifier(seed: int, split: Split, index: int) -> int:
    """Identifier of a planet, different for every (split, index) of one seed."""
    start = int(np.random.default_rng([seed]).integers(2**31))
    position = len(SPLITS) * index + SPLITS.index(split)
    span = 2**32 - _SMALLEST_ID
    return _SMALLEST_ID + (start + position * _GOLDEN_STEP) % span


def draw_planet(
    seed: int, split: Split, index: int, two_visit_fraction: float, config: PopulationConfig
) -> Planet:
    """Draw one planet; unbound atmospheres and grazing orbits are drawn again."""
    rng = stream(seed, split, index, "population")
    visits = 1 + int(rng.random() < two_visit_fraction)
    while True:
        star, depth, impact = _draw_system(rng, config)
        heat = rng.uniform(*config.temperature_factor)
        temperature = heat * star.temperature_k / math.sqrt(2 * star.semi_major_axis_rs)
        planet = Planet(
            planet_id=identifier(seed, split, index),
            split=split,
            index=index,
            visits=visits,
            star=star,
            table=_inexact(star, impact, rng, config),
            depth=depth,
            impact_parameter=impact,
            temperature_k=temperature,
            mu_amu=2.3,
            gravity_m_s2=gravity_m_s2(star, depth),
        )
        if radius_m(planet) > config.radius_over_scale_height_min * scale_height_m(planet):
            return planet


def _draw_system(rng: np.random.Generator, config: PopulationConfig) -> tuple[Star, float, float]:
    latent = np.linalg.cholesky(_STAR_CORRELATION) @ rng.standard_normal(3)
    radius, mass, temperature = (
        _from_table(name, _normal_cdf(z))
        for name, z in zip(("radius_rsun", "mass_msun", "temperature_k"), latent, strict=True)
    )
    period = _from_table("period_d", rng.random())
    axis = _SUN_DENSITY_A * (mass * period**2) ** (1 / 3) / radius
    impact = _redraw(
        lambda: abs(rng.normal(0.0, config.impact_scatter)), (0.0, config.impact_limit)
    )
    depth = _redraw(lambda: depth_at(rng.normal(), config), config.depth_range)
    size = math.log((depth - config.depth_floor) / config.depth_excess_median)
    common = config.mass_radius_correlation
    mass_rank = common * size / config.depth_log_scatter + math.sqrt(1 - common**2) * rng.normal()
    star = Star(
        radius_rsun=radius,
        mass_msun=mass,
        temperature_k=temperature,
        planet_mass_mjup=_from_table("planet_mass_mjup", _normal_cdf(mass_rank)),
        eccentricity=0.0,
        period_d=period,
        semi_major_axis_rs=axis,
        inclination_deg=math.degrees(math.acos(impact / axis)),
    )
    return star, depth, impact


def depth_at(z: float, config: PopulationConfig) -> float:
    """Depth at z standard deviations of the shifted lognormal."""
    return config.depth_floor + config.depth_excess_median * math.exp(config.depth_log_scatter * z)


def _from_table(name: str, quantile: float) -> float:
    return math.exp(float(np.interp(quantile, _QUANTILES, np.log(_TABLE[name]))))


def _normal_cdf(z: float) -> float:
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


def _redraw(draw: Callable[[], float], limits: Range) -> float:
    while True:
        value = draw()
        if limits[0] <= value <= limits[1]:
            return value


def _inexact(
    star: Star, impact: float, rng: np.random.Generator, config: PopulationConfig
) -> Star:
    """The star as the table gives it: period, a/Rs and inclination scatter about the truth."""
    axis = star.semi_major_axis_rs * math.exp(config.table_semi_major_axis_scatter * rng.normal())
    impact = abs(impact + config.table_impact_scatter * rng.normal())
    return Star(
        radius_rsun=star.radius_rsun,
        mass_msun=star.mass_msun,
        temperature_k=star.temperature_k,
        planet_mass_mjup=star.planet_mass_mjup,
        eccentricity=star.eccentricity,
        period_d=star.period_d * (1.0 + config.table_period_scatter * rng.normal()),
        semi_major_axis_rs=axis,
        inclination_deg=math.degrees(math.acos(min(impact / axis, 1.0))),
    )


_G_MJUP = 1.26687e17  # gravitational parameter of Jupiter [m^3 s^-2]
RSUN_M = 6.957e8
HYDROGEN, HELIUM = 0.85, 0.15  # shares of the background gas
_GAS_CONSTANT = 8.314462618e3  # per kg of 1 amu [J K^-1 kg^-1]


def gravity_m_s2(star: Star, depth: float) -> float:
    """Gravity at the radius that a depth stands for [m s^-2]."""
    return _G_MJUP * star.planet_mass_mjup / (depth * (star.radius_rsun * RSUN_M) ** 2)


def radius_m(planet: Planet) -> float:
    """Radius that `depth` stands for [m]."""
    return math.sqrt(planet.depth) * planet.star.radius_rsun * RSUN_M


def scale_height_m(planet: Planet) -> float:
    """Pressure scale height k T / (mu g) [m]."""
    return _GAS_CONSTANT * planet.temperature_k / (planet.mu_amu * planet.gravity_m_s2)
