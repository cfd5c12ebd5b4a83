"""Transmission spectra: gases, Rayleigh, collision-induced absorption, cloud, haze, slopes."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.instrument import FGS1_BAND_UM, wavelength_um
from spectramind.simulate.composition import Atmosphere, unknown_section
from spectramind.simulate.population import (
    HELIUM,
    HYDROGEN,
    RSUN_M,
    Planet,
    radius_m,
    scale_height_m,
)
from spectramind.simulate.settings import AtmosphereConfig
from spectramind.spectroscopy import GASES, cross_section, photons

_BOLTZMANN_CGS = 1.380649e-16
_BAR_CGS = 1e6
_TEMPERATURE_NODES_K = np.geomspace(400.0, 2600.0, 8)
_FGS1_SAMPLES = 21  # wavelengths averaged over the FGS1 band
_BATCH = 64
_AMAGAT_CGS = 2.6868e19
# Rayleigh scattering of H2 at 1 um [cm2]; Lecavelier des Etangs et al. 2008.
_RAYLEIGH_CGS = 8.14e-29
_NORMALISATION_PASSES = 4
_PROFILE_NODES = 4  # pressures at which the opacity of a temperature profile is computed


def depths(
    planets: Sequence[Planet], atmospheres: Sequence[Atmosphere], config: AtmosphereConfig
) -> Float64[np.ndarray, "B 283"]:
    """Transit depth of each planet at the scored wavelengths, by the chord integral.

    The radius at the bottom pressure is set so that the mean over AIRS-CH0 is `Planet.depth`.
    Computed in batches on torch's default device.
    """
    parts = [
        _batch(planets[i : i + _BATCH], atmospheres[i : i + _BATCH], config)
        for i in range(0, len(planets), _BATCH)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(wavelength_um())))


def _batch(
    planets: Sequence[Planet], atmospheres: Sequence[Atmosphere], config: AtmosphereConfig
) -> Float64[np.ndarray, "B 283"]:
    pairs = list(zip(planets, atmospheres, strict=True))
    clouds = [
        math.inf if a.cloud_pressure_bar is None else a.cloud_pressure_bar for a in atmospheres
    ]
    nodes = [_node_temperatures(p, a, config) for p, a in pairs]
    absorption = [[collision_induced(wavelength_um(), heat) for heat in own] for own in nodes]
    opacity = [
        [_opacity(heat, a) for heat in own] for own, a in zip(nodes, atmospheres, strict=True)
    ]
    gas = Gas(
        heat_k=torch.tensor([p.temperature_k for p in planets]).double(),
        slope=torch.tensor([a.temperature_slope for a in atmospheres]).double(),
        opacity=torch.tensor(np.array(opacity)),
        cia=torch.tensor(np.array(absorption)),
        cloud_bar=torch.tensor(clouds).double(),
    )
    colour = torch.tensor(np.array([slope_factor(p, a) for p, a in pairs]))
    target = torch.tensor([p.depth for p in planets], dtype=torch.float64)
    star_cm = torch.tensor([p.star.radius_rsun * RSUN_M * 100 for p in planets]).double()
    fall = torch.tensor([scale_height_m(p) / (100 * radius_m(p) ** 2) for p in planets]).double()
    base_cm = torch.tensor([radius_m(p) * 100 for p in planets]).double()
    depth = colour
    for _ in range(_NORMALISATION_PASSES):
        depth = colour * chord_depth(base_cm, fall, star_cm, gas, config)
        base_cm = base_cm * torch.sqrt(target / depth[:, 1:].mean(1))
    return depth.cpu().numpy()


@dataclass(frozen=True, eq=False)
class Gas:
    """Gas of B planets, mixed alike at all heights, under a cloud that lets nothing through.

    Temperature is a straight line in ln pressure. Cross sections are given at K pressures, from
    the bottom to the top evenly in ln pressure, and are lines between them; K = 1 where the
    temperature is the same everywhere.
    """

    heat_k: Float64[Tensor, " B"]  # temperature at `profile_pressure_bar` [K]
    slope: Float64[Tensor, " B"]  # relative change of it per decade of pressure
    opacity: Float64[Tensor, "B K W"]  # cross section of the mixture [cm2/molecule]
    cia: Float64[Tensor, "B K W"]  # collision-induced coefficient [cm5/molecule2]
    cloud_bar: Float64[Tensor, " B"]  # pressure of the cloud top, inf for none [bar]


def chord_depth(
    base_cm: Float64[Tensor, " B"],
    fall_cm: Float64[Tensor, " B"],
    star_cm: Float64[Tensor, " B"],
    gas: Gas,
    config: AtmosphereConfig,
) -> Float64[Tensor, "B W"]:
    """Depth of a hydrostatic atmosphere seen edge-on.

    1/r(P) = 1/R0 - ln(P0/P) kT/(mu G M), since gravity falls as 1/r^2, with T the mean over
    ln P between the two pressures; for the tangent radius
    b of a layer the column is N = sum_j 2 (sqrt(r_{j+1}^2 - b^2) - sqrt(r_j^2 - b^2)) n_j, and
    depth = (R0^2 + sum 2 b dr (1 - exp(-sigma N - k N2))) / Rs^2 with N2 the column of n^2.

    Args:
        base_cm: Radius at the bottom pressure [cm].
        fall_cm: kT / (mu G M) at `gas.heat_k`, the scale height over the radius squared [1/cm].
        star_cm: Radius of the star [cm].
        gas: What absorbs.
        config: Layers and pressure limits.

    Source: the transmission integral as in TauREx 3 (Al-Refaie et al. 2021); constant
    composition, so that one column for each K serves all wavelengths.
    """
    bottom, top = math.log(config.bottom_pressure_bar), math.log(config.top_pressure_bar)
    ln_p = torch.linspace(bottom, top, config.layers + 1, dtype=torch.float64)

    def warmth(ln_pressure: Tensor) -> Tensor:
        """Temperature over `heat_k`; at the middle of a range it is the mean over the range."""
        decades = (ln_pressure - math.log(config.profile_pressure_bar)) / math.log(10.0)
        return 1.0 + gas.slope[:, None] * decades[None, :]

    shift = (bottom - ln_p)[None, :] * fall_cm[:, None] * warmth(0.5 * (bottom + ln_p))
    edge = 1.0 / (1.0 / base_cm[:, None] - shift)  # (B, L + 1)
    inner, outer = edge[:, :-1], edge[:, 1:]
    tangent = 0.5 * (inner + outer)
    ln_middle = 0.5 * (ln_p[1:] + ln_p[:-1])
    pressure = torch.exp(ln_middle)
    heat = gas.heat_k[:, None] * warmth(ln_middle)
    density = _BAR_CGS * pressure[None, :] / (_BOLTZMANN_CGS * heat)
    square = tangent[:, :, None] ** 2

    def reach(radius: Tensor) -> Tensor:
        return torch.sqrt(torch.clamp(radius[:, None, :] ** 2 - square, min=0.0))

    path = 2.0 * (reach(outer) - reach(inner))  # (B, tangent, layer)
    tau = torch.zeros((), dtype=torch.float64)
    for k, share in enumerate(_node_shares(gas.opacity.shape[1], config.layers)):
        column = (path @ (share * density)[:, :, None])[..., 0]
        column2 = (path @ (share * density**2)[:, :, None])[..., 0]
        tau = tau + column[:, :, None] * gas.opacity[:, k, None, :]
        tau = tau + column2[:, :, None] * gas.cia[:, k, None, :]
    clear = (pressure[None, :] < gas.cloud_bar[:, None])[:, :, None]
    blocked = 1.0 - torch.exp(-tau) * clear
    ring = 2.0 * tangent * (outer - inner)
    return (base_cm[:, None] ** 2 + (ring[:, :, None] * blocked).sum(1)) / star_cm[:, None] ** 2


def _node_shares(nodes: int, layers: int) -> Float64[Tensor, "K L"]:
    """Part of each node in each layer's opacity, piecewise linear from the bottom to the top."""
    if nodes == 1:
        return torch.ones((1, layers), dtype=torch.float64)
    position = (torch.arange(layers, dtype=torch.float64) + 0.5) / layers * (nodes - 1)
    distance = position[None, :] - torch.arange(nodes, dtype=torch.float64)[:, None]
    return torch.clamp(1.0 - torch.abs(distance), min=0.0)


def _node_temperatures(
    planet: Planet, atmosphere: Atmosphere, config: AtmosphereConfig
) -> Float64[np.ndarray, " K"]:
    """Temperatures at the pressures of `Gas`; one where no planet has a profile."""
    if config.temperature_slope == (0.0, 0.0):
        return np.array([planet.temperature_k])
    bottom, top = (
        math.log10(end / config.profile_pressure_bar)
        for end in (config.bottom_pressure_bar, config.top_pressure_bar)
    )
    decades = np.linspace(bottom, top, _PROFILE_NODES)
    return planet.temperature_k * (1.0 + atmosphere.temperature_slope * decades)


def slope_factor(planet: Planet, atmosphere: Atmosphere) -> Float64[np.ndarray, " 283"]:
    """Factor of unocculted spots or faculae on the depth, 1 / (1 - f (1 - F_spot / F_star)).

    Source: Rackham et al. 2018, equation 3; both are black bodies.
    """
    slope, heat = atmosphere.star_slope, planet.star.temperature_k
    ratio = photons(wavelength_um(), heat + slope.heat_k) / photons(wavelength_um(), heat)
    return 1.0 / (1.0 - slope.share * (1.0 - ratio))


def _opacity(temperature_k: float, atmosphere: Atmosphere) -> Float64[np.ndarray, " 283"]:
    abundance = np.array([10 ** atmosphere.log10_abundance[gas] for gas in GASES])
    wavelength = wavelength_um()
    rayleigh = _RAYLEIGH_CGS * wavelength**-4.0
    haze_at_035 = atmosphere.haze_enhancement * _RAYLEIGH_CGS * 0.35**-4.0
    haze = haze_at_035 * (wavelength / 0.35) ** -atmosphere.haze_slope
    known = abundance @ _sections(temperature_k) + HYDROGEN * rayleigh + haze
    return known + unknown_section(wavelength, atmosphere.unknown_bands)


def _sections(temperature_k: float) -> Float64[np.ndarray, "G 283"]:
    """Cross sections of the gases, linear in ln sigma against ln T between the table's nodes."""
    table = _section_table()
    position = np.interp(
        math.log(temperature_k), np.log(_TEMPERATURE_NODES_K), np.arange(len(table))
    )
    low = min(int(position), len(table) - 2)
    return np.exp(table[low] + (position - low) * (table[low + 1] - table[low]))


@functools.cache
def _section_table() -> Float64[np.ndarray, "N G 283"]:
    """Logarithm of the mean cross section in each bin at the temperature nodes."""
    centre = wavelength_um()[1:]
    third = np.gradient(centre) / 3.0
    airs = np.stack([centre - third, centre, centre + third])
    fgs1 = np.linspace(*FGS1_BAND_UM, _FGS1_SAMPLES)
    wavenumber = 1e4 / np.concatenate([fgs1, airs.ravel()])
    table = []
    for temperature in _TEMPERATURE_NODES_K:
        sigma = np.array([cross_section(gas, wavenumber, temperature) for gas in GASES.values()])
        fgs1_mean = sigma[:, :_FGS1_SAMPLES].mean(1, keepdims=True)
        airs_mean = sigma[:, _FGS1_SAMPLES:].reshape(len(GASES), 3, -1).mean(1)
        table.append(np.concatenate([fgs1_mean, airs_mean], axis=1))
    return np.log(np.maximum(table, 1e-60))


def collision_induced(
    wavelength: Float64[np.ndarray, " W"], temperature_k: float
) -> Float64[np.ndarray, " W"]:
    """Smooth H2-H2 and H2-He absorption coefficient [cm5/molecule2].

    A Gaussian at the H2 fundamental (4,161 cm-1) and one at the first overtone (8,087 cm-1),
    width 350 cm-1 sqrt(T/300 K), integrated strengths 1.8e-3 and 3e-5 cm-2 amagat-2 that grow
    as sqrt(T/300 K); helium counts 1.2 times as much as hydrogen.

    Source: order of magnitude of the tables of Borysow; our smooth approximation, good to a
    factor of about two and without the structure of the bands.
    """
    wavenumber, warm = 1e4 / wavelength, math.sqrt(temperature_k / 300.0)
    width = 350.0 * warm
    pairs = HYDROGEN**2 + 1.2 * HYDROGEN * HELIUM
    total = np.zeros_like(wavelength)
    for centre, strength in ((4161.0, 1.8e-3), (8087.0, 3e-5)):
        shape = np.exp(-0.5 * ((wavenumber - centre) / width) ** 2)
        total += strength * warm * shape / (width * math.sqrt(2 * math.pi))
    return pairs * total / _AMAGAT_CGS**2
