"""Other atmospheres of a planet that is known from the star table and its depth."""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from spectramind.observation import Star
from spectramind.simulate.atmosphere import depths
from spectramind.simulate.composition import draw_atmosphere
from spectramind.simulate.population import Planet, gravity_m_s2, radius_m, scale_height_m, stream
from spectramind.simulate.settings import AtmosphereConfig, PopulationConfig

_SPLIT = "train"  # of the random streams alone
_MU_AMU = 2.3


def alternative_spectra(
    planet_id: int,
    star: Star,
    depth: float,
    count: int,
    population: PopulationConfig,
    atmosphere: AtmosphereConfig,
    seed: int,
) -> Float64[np.ndarray, "K 283"]:
    """Spectra of the planet with other compositions, clouds, hazes and temperatures.

    Mean depth over AIRS-CH0, gravity and star stay; the temperature is drawn about that of the
    table, no higher than where the atmosphere would escape.

    Args:
        planet_id: Of the random streams.
        star: Row of the star table.
        depth: Mean depth over AIRS-CH0 (Rp/Rs)^2.
        count: Number of spectra K.
        population: For the temperatures.
        atmosphere: For everything else.
        seed: Of the random streams.
    """
    cold = Planet(
        planet_id, _SPLIT, 0, 1, star, star, depth, 0.0,
        temperature_k=star.temperature_k / math.sqrt(2.0 * star.semi_major_axis_rs),
        mu_amu=_MU_AMU, gravity_m_s2=gravity_m_s2(star, depth),
    )  # fmt: skip
    reach = radius_m(cold) / scale_height_m(cold)
    hottest = reach / population.radius_over_scale_height_min
    planets, atmospheres = [], []
    for number in range(count):
        index = planet_id * 2**32 + number  # a stream for each planet and draw
        rng = stream(seed, _SPLIT, index, "alternative")
        heat = rng.uniform(*population.temperature_factor)
        temperature = cold.temperature_k * min(float(heat), hottest)
        planets.append(replace(cold, index=index, temperature_k=temperature))
        atmospheres.append(draw_atmosphere(seed, planets[-1], atmosphere))
    return depths(planets, atmospheres, atmosphere)
