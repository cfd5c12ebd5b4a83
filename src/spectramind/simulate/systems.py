"""Everything about the planets that does not depend on the detector, for whole splits."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.simulate.atmosphere import depths
from spectramind.simulate.composition import Atmosphere, draw_atmosphere
from spectramind.simulate.population import Planet, Split, draw_planet
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.star import StarLight, draw_star


@dataclass(frozen=True, eq=False)
class System:
    """One planet with its atmosphere, spectrum and star."""

    planet: Planet
    atmosphere: Atmosphere
    depth: Float64[np.ndarray, " 283"]  # true (Rp/Rs)^2, the label
    light: StarLight


def draw_systems(config: SimulateConfig, split: Split) -> list[System]:
    """All systems of a split, by increasing planet identifier."""
    count = config.train_planets if split == "train" else config.test_planets
    planets = [
        draw_planet(config.seed, split, i, config.two_visit_fraction, config.population)
        for i in range(count)
    ]
    planets.sort(key=lambda planet: planet.planet_id)
    atmospheres = [draw_atmosphere(config.seed, p, config.atmosphere) for p in planets]
    spectra = depths(planets, atmospheres, config.atmosphere)
    return [
        System(
            planet,
            atmosphere,
            depth,
            draw_star(config.seed, planet, config.effects, config.star),
        )
        for planet, atmosphere, depth in zip(planets, atmospheres, spectra, strict=True)
    ]
