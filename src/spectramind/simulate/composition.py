"""What an atmosphere is made of: free or equilibrium-like gases, cloud, haze, unknown bands."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.simulate.population import HYDROGEN, Planet, stream
from spectramind.simulate.settings import AtmosphereConfig
from spectramind.spectroscopy import GASES

# Atoms per hydrogen atom in the Sun; Asplund et al. 2009.
_SOLAR_OXYGEN, _SOLAR_NITROGEN, _SOLAR_SULPHUR = 4.9e-4, 6.8e-5, 1.3e-5
_TRACE = 1e-12  # least mixing ratio that a gas is given


@dataclass(frozen=True)
class UnknownBand:
    """Absorption of a gas that is in no table: a Gaussian in ln wavelength."""

    centre_um: float
    width: float  # standard deviation, relative to the wavelength
    section_cm2: float  # of the whole mixture, at the centre [cm2/molecule]


@dataclass(frozen=True)
class StarSlope:
    """Unocculted spots (cooler) or faculae (hotter) that colour the true spectrum."""

    share: float  # of the disc; 0 for none
    heat_k: float  # their temperature minus that of the star [K]


@dataclass(frozen=True)
class Atmosphere:
    """What one planet's spectrum is made of."""

    log10_abundance: dict[str, float]
    cloud_pressure_bar: float | None
    haze_enhancement: float
    haze_slope: float
    temperature_slope: float  # relative change of temperature per decade of pressure
    unknown_bands: tuple[UnknownBand, ...]
    star_slope: StarSlope


def draw_atmosphere(seed: int, planet: Planet, config: AtmosphereConfig) -> Atmosphere:
    """Composition, cloud, haze and all else of one planet; each independent of the others."""

    def rng(name: str) -> np.random.Generator:
        return stream(seed, planet.split, planet.index, name)

    first = rng("atmosphere")
    abundance = {gas: float(first.uniform(*config.log10_abundance[gas])) for gas in GASES}
    cloudy, hazy = first.random(2) < (config.cloud_probability, config.haze_probability)
    pressure = float(10 ** first.uniform(*config.log10_cloud_pressure_bar))
    haze = float(10 ** first.uniform(*config.log10_haze_enhancement))
    slope = float(first.uniform(*config.haze_slope))
    return Atmosphere(
        abundance | _main_gases(rng("equilibrium"), planet, config),
        pressure if cloudy else None,
        haze if hazy else 0.0,
        slope,
        temperature_slope=float(rng("profile").uniform(*config.temperature_slope)),
        unknown_bands=_unknown_bands(rng("unknown bands"), config),
        star_slope=_star_slope(rng("star slope"), config),
    )


def _main_gases(
    rng: np.random.Generator, planet: Planet, config: AtmosphereConfig
) -> dict[str, float]:
    """Equilibrium-like log10 mixing ratios of a share of the planets; empty for the others."""
    if rng.random() >= config.equilibrium_share:
        return {}
    metals = 10.0 ** rng.uniform(*config.log10_metallicity)
    carbon_to_oxygen = rng.uniform(*config.carbon_to_oxygen)
    pressure = 10.0 ** rng.uniform(*config.log10_quench_pressure_bar)
    mixture = equilibrium(planet.temperature_k, float(pressure), float(metals), carbon_to_oxygen)
    return {gas: math.log10(max(ratio, _TRACE)) for gas, ratio in mixture.items()}


def equilibrium(
    temperature_k: float, pressure_bar: float, metals: float, carbon_to_oxygen: float
) -> dict[str, float]:
    """Mixing ratios of the main gases of hydrogen-rich gas in chemical equilibrium.

    All carbon is in CO and CH4, all oxygen in CO and H2O: with C and O per molecule,
    CH4 H2O = k CO makes CO the smaller root of x^2 - (C + O + k) x + C O = 0. CO2 follows from
    CO + H2O = CO2 + H2 and NH3 from N2 + 3 H2 = 2 NH3. All sulphur is in H2S.

    Args:
        temperature_k: Where the gases freeze in [K].
        pressure_bar: There [bar].
        metals: O, N and S per hydrogen atom over the Sun's.
        carbon_to_oxygen: Carbon atoms per oxygen atom.

    Source: constants of methane reforming and of the water-gas shift, Twigg 1989; of ammonia a
    line through the values of Larson and Dodge 1923 at 673 and 773 K.
    """
    atoms = 2.0 * HYDROGEN * metals
    oxygen, nitrogen = atoms * _SOLAR_OXYGEN, atoms * _SOLAR_NITROGEN
    carbon = carbon_to_oxygen * oxygen
    k = math.exp(26830.0 / temperature_k - 30.114) * HYDROGEN**3 * pressure_bar**2
    total = carbon + oxygen + k
    monoxide = 2.0 * carbon * oxygen / (total + math.sqrt(total**2 - 4.0 * carbon * oxygen))
    water = oxygen - monoxide
    shift = math.exp(4577.8 / temperature_k - 4.33)
    ammonia = math.exp(6306.0 / temperature_k - 13.73) * HYDROGEN**1.5 * pressure_bar
    return {
        "H2O": water,
        "CO": monoxide,
        "CH4": carbon - monoxide,
        "CO2": min(shift * monoxide * water / HYDROGEN, carbon),
        "NH3": min(ammonia * math.sqrt(nitrogen / 2.0), nitrogen),
        "H2S": atoms * _SOLAR_SULPHUR,
    }


def _unknown_bands(rng: np.random.Generator, config: AtmosphereConfig) -> tuple[UnknownBand, ...]:
    first, last = np.log(config.unknown_band_um)
    thin, wide = np.log(config.unknown_band_width)
    return tuple(
        UnknownBand(
            centre_um=float(np.exp(rng.uniform(first, last))),
            width=float(np.exp(rng.uniform(thin, wide))),
            section_cm2=float(10.0 ** rng.uniform(*config.log10_unknown_section_cm2)),
        )
        for _ in range(rng.integers(0, config.unknown_bands_most + 1))
    )


def _star_slope(rng: np.random.Generator, config: AtmosphereConfig) -> StarSlope:
    sloped = rng.random() < config.star_slope_probability
    share, heat = rng.uniform(*config.star_slope_share), rng.uniform(*config.star_slope_heat_k)
    return StarSlope(float(share) if sloped else 0.0, float(heat))


def unknown_section(
    wavelength: Float64[np.ndarray, " W"], bands: tuple[UnknownBand, ...]
) -> Float64[np.ndarray, " W"]:
    """Cross section of all unknown bands of a mixture [cm2/molecule]."""
    total = np.zeros_like(wavelength)
    for band in bands:
        distance = np.log(wavelength / band.centre_um) / band.width
        total += band.section_cm2 * np.exp(-0.5 * distance**2)
    return total
