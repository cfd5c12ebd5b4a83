"""Other planets in place of one that is known from the star table and its depth."""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from spectramind.observation import Star
from spectramind.simulate.atmosphere import depths, draw_atmosphere
from spectramind.simulate.population import Planet, gravity_m_s2, radius_m, scale_height_m, stream
from spectramind.simulate.settings import AtmosphereConfig, PopulationConfig

_SPLIT = "train"  # of the random streams alone
_MU_AMU = 2.3
# Scatter of log depth and log planet mass: a network that meets the same depth in every spectrum
# of a planet learns it by heart, and small enough for the visits' noise to hold.
_DEPTH_SCATTER, _MASS_SCATTER = 0.15, 0.4


def alternative_spectra(
    planet_id: int,
    star: Star,
    depth: float,
    count: int,
    population: PopulationConfig,
    atmosphere: AtmosphereConfig,
    seed: int,
) -> tuple[list[Star], Float64[np.ndarray, "K 283"]]:
    """Spectra of planets of other size, mass, composition, clouds, hazes and temperature.

    Star and orbit stay; depth and mass scatter about those of the planet. The temperature is
    drawn about that of the table, no higher than where the atmosphere would escape.

    Args:
        planet_id: Of the random streams.
        star: Row of the star table.
        depth: Mean depth over AIRS-CH0 (Rp/Rs)^2.
        count: Number of spectra K.
        population: For the temperatures.
        atmosphere: For everything else.
        seed: Of the random streams.

    Returns:
        The row of the star table that each planet would have, and the spectra.
    """
    planets, atmospheres = [], []
    for number in range(count):
        index = planet_id * 2**32 + number  # a stream for each planet and draw
        rng = stream(seed, _SPLIT, index, "alternative")
        heat, size, mass = rng.uniform(*population.temperature_factor), *rng.standard_normal(2)
        own = replace(
            star, planet_mass_mjup=star.planet_mass_mjup * math.exp(_MASS_SCATTER * mass)
        )
        planets.append(
            _planet(
                planet_id, index, own, depth * math.exp(_DEPTH_SCATTER * size), heat, population
            )
        )
        atmospheres.append(draw_atmosphere(seed, planets[-1], atmosphere))
    return [planet.star for planet in planets], depths(planets, atmospheres, atmosphere)


def _planet(
    planet_id: int, index: int, star: Star, depth: float, heat: float, config: PopulationConfig
) -> Planet:
    """A planet as hot as `heat` times its equilibrium temperature, if it can hold its gas."""
    cold = Planet(
        planet_id, _SPLIT, index, 1, star, star, depth, 0.0,
        temperature_k=star.temperature_k / math.sqrt(2.0 * star.semi_major_axis_rs),
        mu_amu=_MU_AMU, gravity_m_s2=gravity_m_s2(star, depth),
    )  # fmt: skip
    hottest = radius_m(cold) / scale_height_m(cold) / config.radius_over_scale_height_min
    return replace(cold, temperature_k=cold.temperature_k * min(heat, hottest))
