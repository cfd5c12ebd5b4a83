"""Molecular absorption bands of nine gases and the cross sections they add up to.

For a gas with bands b,

    sigma(nu, T) = sum_b S_b(296 K) * Phi_b(T) / Phi_b(296 K) * f_b(nu; T)    [cm2/molecule]

where S_b is the integrated band strength, Phi_b the hot-band sum of a damped harmonic
oscillator, and f_b a band shape of unit area: P and R wings, an optional Gaussian Q branch,
hot bands shifted to the red, and an exponential far wing that grows with temperature.
The result is the mean over unresolved lines and overstates the line-by-line opacity of
saturated bands. Checked from 300 to 2000 K and 0.95 to 4.5 um; strengths of HCN and H2S are
uncertain by a factor 2 to 3.

Source: band centres from HITRAN and Herzberg; strengths and global scalars adjusted to
HITRAN and HITEMP band integrals and to the HITEMP k-tables of N. Wogan
(photochem_clima_data); the hot-band sum is the Edwards, Penner and RADCAL form with damping.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

SECOND_RADIATION_CONSTANT_CM_K = 1.4388  # h c / k
_HC_OVER_K_UM = 14387.77  # [um K]
BOLTZMANN_CM_PER_K = 0.6950  # k / (h c)
REFERENCE_TEMPERATURE_K = 296.0
HOT_BANDS = 12  # terms of the geometric series of thermal quanta, the cold band included
SMALLEST_HOT_BAND_WEIGHT = 1e-4

MEMBERSHIP_TEMPERATURE_K = 1000.0  # where bands are told apart
BAND_EDGE = 0.25  # a bin belongs to a band down to this share of the band's own peak
WEAKEST_BAND = 3e-3  # bands with a lower peak than this share of the gas's strongest bin are left


class Band(NamedTuple):
    """One vibrational band (or a polyad lumped into one)."""

    centre: float  # [cm-1]
    strength: float  # integrated over wavenumber at 296 K [cm/molecule]
    quanta: tuple[int, ...]  # quanta gained in each mode of the gas
    rotational_constant: float  # effective B, sets the spread of the P and R wings [cm-1]
    q_fraction: float  # share of the strength in the Q branch
    q_width: float  # standard deviation of the Q branch [cm-1]
    red_shift: float  # shift of the hot bands for each thermal quantum [cm-1]


class Gas(NamedTuple):
    """A molecule: its vibrational modes, its far wing and its bands."""

    modes: tuple[float, ...]  # fundamental wavenumbers [cm-1]
    degeneracies: tuple[int, ...]  # weight of each mode in the mean number of thermal quanta
    damping: tuple[float, ...]  # 1 is the pure harmonic oscillator
    wing_fraction: float  # share of a band in its far wing at 1000 K
    wing_length: float  # e-folding length of the far wing at 1000 K [cm-1]
    bands: tuple[Band, ...]


def cross_section(
    gas: Gas, wavenumber: Float64[np.ndarray, " N"], temperature: float
) -> Float64[np.ndarray, " N"]:
    """Mean absorption cross section of a gas.

    Args:
        gas: An entry of `GASES`.
        wavenumber: Wavenumbers in any order [cm-1].
        temperature: Gas temperature [K].

    Returns:
        Cross section [cm2/molecule].
    """
    total = np.zeros_like(wavenumber)
    for band in gas.bands:
        total += band_cross_section(gas, band, wavenumber, temperature)
    return total


def band_cross_section(
    gas: Gas, band: Band, wavenumber: Float64[np.ndarray, " N"], temperature: float
) -> Float64[np.ndarray, " N"]:
    """Mean absorption cross section of one band of a gas [cm2/molecule]."""
    growth = hot_band_sum(gas, band, temperature)
    growth /= hot_band_sum(gas, band, REFERENCE_TEMPERATURE_K)
    return band.strength * growth * band_shape(gas, band, wavenumber, temperature)


def hot_band_sum(gas: Gas, band: Band, temperature: float) -> float:
    """Phi = (1 - exp(-c2 nu0 / T)) / prod_i (1 - exp(-c2 w_i / T)) ** (1 + (n_i - 1) d_i).

    The product runs over the modes in which the band gains n_i >= 1 quanta.
    """
    c2 = SECOND_RADIATION_CONSTANT_CM_K
    phi = 1.0 - np.exp(-c2 * band.centre / temperature)
    for mode, quanta, damping in zip(gas.modes, band.quanta, gas.damping, strict=True):
        if quanta:
            phi /= (1.0 - np.exp(-c2 * mode / temperature)) ** (1.0 + (quanta - 1) * damping)
    return float(phi)


def thermal_quanta(gas: Gas, temperature: float) -> float:
    """Mean number of thermal quanta, nbar = sum_i g_i / (exp(c2 w_i / T) - 1)."""
    c2 = SECOND_RADIATION_CONSTANT_CM_K
    return float(
        sum(
            degeneracy / (np.exp(c2 * mode / temperature) - 1.0)
            for mode, degeneracy in zip(gas.modes, gas.degeneracies, strict=True)
        )
    )


def band_shape(
    gas: Gas, band: Band, wavenumber: Float64[np.ndarray, " N"], temperature: float
) -> Float64[np.ndarray, " N"]:
    """Band shape of unit area over wavenumber [cm].

    f = (1 - a_T) sum_n p_n g(nu - nu0 + n h) + a_T exp(-|nu - nu0| / L_T) / (2 L_T), with
    p_n = (1 - r) r ** n, r = nbar / (1 + nbar), a_T = a (T / 1000 K) ** 2 and
    L_T = L sqrt(T / 1000 K).
    """
    nbar = thermal_quanta(gas, temperature)
    ratio = nbar / (1.0 + nbar)
    weights = (1.0 - ratio) * ratio ** np.arange(HOT_BANDS)
    weights /= weights.sum()

    shape = np.zeros_like(wavenumber)
    for n, weight in enumerate(weights):
        if weight < SMALLEST_HOT_BAND_WEIGHT:
            continue
        offset = wavenumber - (band.centre - n * band.red_shift)
        shape += weight * rotational_contour(band, offset, temperature)

    wing_share = gas.wing_fraction * (temperature / 1000.0) ** 2
    wing_length = gas.wing_length * np.sqrt(temperature / 1000.0)
    far_wing = np.exp(-np.abs(wavenumber - band.centre) / wing_length) / (2.0 * wing_length)
    return (1.0 - wing_share) * shape + wing_share * far_wing


def rotational_contour(
    band: Band, offset: Float64[np.ndarray, " N"], temperature: float
) -> Float64[np.ndarray, " N"]:
    """P and R wings, |x| / W**2 exp(-x**2 / W**2) with W**2 = 4 B k T / (h c), and Q branch."""
    width_squared = 4.0 * band.rotational_constant * BOLTZMANN_CM_PER_K * temperature
    wings = np.abs(offset) / width_squared * np.exp(-(offset**2) / width_squared)
    q_norm = band.q_width * np.sqrt(2.0 * np.pi)
    q_branch = np.exp(-0.5 * (offset / band.q_width) ** 2) / q_norm
    return (1.0 - band.q_fraction) * wings + band.q_fraction * q_branch


def bands_of(gas: str, wavelength_um: Float64[np.ndarray, " W"]) -> Bool[np.ndarray, "K W"]:
    """Bins inside each separate absorption band of a gas.

    At 1000 K a bin belongs to a band where the band's cross section is at least a quarter of
    the band's peak. Bands whose peak is below 0.003 of the gas's largest cross section over
    the given bins are left out; bands that share a bin are one.

    Args:
        gas: A key of `GASES`.
        wavelength_um: Bins in any order [um].

    Returns:
        One row per band, by increasing wavenumber of the lowest band centre in it; K may be 0.
    """
    entry, wavenumber = GASES[gas], 1e4 / wavelength_um
    strongest = cross_section(entry, wavenumber, MEMBERSHIP_TEMPERATURE_K).max()
    groups: list[np.ndarray] = []
    for band in sorted(entry.bands):
        near = band.centre + np.linspace(-1000.0, 1000.0, 2001)
        peak = band_cross_section(entry, band, near, MEMBERSHIP_TEMPERATURE_K).max()
        here = band_cross_section(entry, band, wavenumber, MEMBERSHIP_TEMPERATURE_K)
        inside = (here >= BAND_EDGE * peak) & (peak >= WEAKEST_BAND * strongest)
        if not inside.any():
            continue
        touching = [group for group in groups if (group & inside).any()]
        groups = [group for group in groups if not (group & inside).any()]
        groups.append(np.logical_or.reduce([inside, *touching]))
    return np.array(groups, dtype=bool).reshape(len(groups), len(wavelength_um))


def band_membership(
    wavelength_um: Float64[np.ndarray, " W"],
) -> Bool[np.ndarray, "G W"]:
    """Which bins lie in any band of each gas, in the order of `tuple(GASES)`; see `bands_of`."""
    return np.array([bands_of(gas, wavelength_um).any(axis=0) for gas in GASES])


# Columns of a band: centre, strength, quanta, B, Q share, Q width, red shift. Units as in `Band`.
GASES: dict[str, Gas] = {
    "H2O": Gas(
        modes=(3657, 1595, 3756),
        degeneracies=(1, 1, 1),
        damping=(0.5, 0.5, 0.5),
        wing_fraction=0.041,
        wing_length=299,
        bands=(
            Band(1595, 1.06e-17, (0, 1, 0), 15.343, 0.12, 60, 85.8),
            Band(3152, 7.60e-20, (0, 2, 0), 15.343, 0.12, 60, 85.8),
            Band(3657, 5.00e-19, (1, 0, 0), 13.425, 0.12, 60, 171.6),
            Band(3756, 7.60e-18, (0, 0, 1), 13.425, 0.24, 45, 171.6),
            Band(4667, 4.00e-22, (0, 3, 0), 13.425, 0.12, 60, 171.6),
            Band(5235, 4.50e-20, (1, 1, 0), 13.425, 0.12, 60, 171.6),
            Band(5331, 8.20e-19, (0, 1, 1), 13.425, 0.24, 45, 171.6),
            Band(6872, 6.00e-20, (0, 2, 1), 13.425, 0.12, 60, 171.6),
            Band(7202, 5.50e-20, (2, 0, 0), 13.425, 0.12, 60, 200.2),
            Band(7250, 5.40e-19, (1, 0, 1), 13.425, 0.24, 45, 200.2),
            Band(7445, 1.50e-20, (0, 0, 2), 13.425, 0.12, 60, 200.2),
            Band(8374, 1.50e-21, (0, 3, 1), 13.425, 0.16, 60, 200.2),
            Band(8762, 3.00e-21, (2, 1, 0), 13.425, 0.16, 60, 200.2),
            Band(8807, 4.20e-20, (1, 1, 1), 13.425, 0.24, 50, 200.2),
            Band(10329, 2.10e-21, (1, 2, 1), 13.425, 0.16, 60, 228.8),
            Band(10613, 2.20e-20, (2, 0, 1), 13.425, 0.24, 50, 228.8),
            Band(11032, 2.40e-21, (0, 0, 3), 13.425, 0.16, 60, 228.8),
            Band(12151, 1.60e-21, (2, 1, 1), 13.425, 0.24, 60, 228.8),
            Band(13831, 1.70e-21, (3, 0, 1), 13.425, 0.24, 60, 228.8),
            Band(15348, 1.20e-22, (3, 1, 1), 13.425, 0.24, 60, 228.8),
        ),
    ),
    "CO2": Gas(
        modes=(1388, 667, 2349),
        degeneracies=(0, 2, 0),
        damping=(0.48, 0.4, 0.8),
        wing_fraction=0.0001,
        wing_length=159,
        bands=(
            Band(667, 8.30e-18, (0, 1, 0), 0.32, 0.4, 2, 0),
            Band(2349, 9.60e-17, (0, 0, 1), 0.32, 0, 1, 20.1),
            Band(2077, 2.50e-20, (1, 1, 0), 0.32, 0.3, 3, 8),
            Band(3613, 1.04e-18, (0, 2, 1), 0.32, 0, 1, 22.5),
            Band(3715, 1.58e-18, (1, 0, 1), 0.32, 0, 1, 22.5),
            Band(4854, 7.80e-21, (0, 4, 1), 0.32, 0, 1, 25.7),
            Band(4978, 3.50e-20, (1, 2, 1), 0.32, 0, 1, 25.7),
            Band(5100, 1.10e-20, (2, 0, 1), 0.32, 0, 1, 25.7),
            Band(6076, 4.50e-23, (0, 6, 1), 0.32, 0, 1, 27.3),
            Band(6228, 4.40e-22, (1, 4, 1), 0.32, 0, 1, 27.3),
            Band(6348, 4.40e-22, (2, 2, 1), 0.32, 0, 1, 27.3),
            Band(6503, 4.80e-23, (3, 0, 1), 0.32, 0, 1, 27.3),
            Band(6973, 1.50e-21, (0, 0, 3), 0.32, 0, 1, 59.5),
            Band(8192, 3.00e-23, (0, 2, 3), 0.32, 0, 1, 62.7),
            Band(8294, 6.00e-23, (1, 0, 3), 0.32, 0, 1, 62.7),
            Band(9517, 5.00e-24, (1, 2, 3), 0.32, 0, 1, 62.7),
        ),
    ),
    "CO": Gas(
        modes=(2143,),
        degeneracies=(1,),
        damping=(1.39,),
        wing_fraction=0.0007,
        wing_length=89,
        bands=(
            Band(2143, 9.80e-18, (1,), 2.391, 0, 1, 61.6),
            Band(4260, 7.50e-20, (2,), 2.391, 0, 1, 125.6),
            Band(6350, 4.80e-22, (3,), 2.391, 0, 1, 187.3),
        ),
    ),
    "CH4": Gas(
        modes=(2917, 1533, 3019, 1306),
        degeneracies=(1, 2, 3, 3),
        damping=(0.14, 0.14, 0.14, 0.14),
        wing_fraction=0.0243,
        wing_length=929,
        bands=(
            Band(1306, 5.20e-18, (0, 0, 0, 1), 5.747, 0.33, 12, 9.2),
            Band(1533, 5.50e-20, (0, 1, 0, 0), 5.747, 0.2, 20, 9.2),
            Band(2600, 5.50e-20, (0, 0, 0, 2), 5.747, 0.33, 25, 11.6),
            Band(2830, 4.00e-19, (0, 1, 0, 1), 5.747, 0.33, 25, 11.6),
            Band(3019, 1.08e-17, (0, 0, 1, 0), 5.747, 0.28, 14, 11.6),
            Band(4223, 2.60e-19, (1, 0, 0, 1), 5.747, 0.33, 30, 13.9),
            Band(4319, 4.30e-19, (0, 0, 1, 1), 5.747, 0.33, 30, 13.9),
            Band(4546, 8.00e-20, (0, 1, 1, 0), 5.747, 0.33, 30, 13.9),
            Band(5585, 1.50e-20, (1, 1, 0, 1), 5.747, 0.33, 45, 17.3),
            Band(5861, 6.00e-20, (0, 1, 1, 1), 5.747, 0.33, 40, 17.3),
            Band(6005, 6.00e-20, (0, 0, 2, 0), 5.747, 0.33, 25, 20.8),
            Band(6100, 1.50e-20, (1, 0, 1, 0), 5.747, 0.33, 50, 20.8),
            Band(6900, 3.50e-21, (0, 1, 1, 2), 5.747, 0.33, 80, 17.3),
            Band(7320, 3.00e-20, (0, 0, 2, 1), 5.747, 0.33, 60, 20.8),
            Band(7510, 1.20e-20, (0, 1, 2, 0), 5.747, 0.33, 50, 20.8),
            Band(8620, 1.00e-20, (0, 1, 2, 1), 5.747, 0.33, 80, 20.8),
            Band(8800, 1.00e-20, (0, 0, 3, 0), 5.747, 0.33, 60, 20.8),
            Band(9050, 2.50e-21, (1, 0, 2, 0), 5.747, 0.33, 60, 20.8),
            Band(10000, 2.20e-21, (0, 0, 3, 1), 5.747, 0.33, 110, 23.1),
            Band(11270, 2.00e-21, (0, 1, 3, 1), 5.747, 0.33, 110, 23.1),
            Band(12700, 1.50e-22, (0, 0, 4, 1), 5.747, 0.33, 120, 23.1),
            Band(13750, 5.00e-23, (0, 1, 4, 1), 5.747, 0.33, 120, 23.1),
        ),
    ),
    "NH3": Gas(
        modes=(3337, 950, 3444, 1627),
        degeneracies=(1, 1, 2, 2),
        damping=(0.5, 0.5, 0.5, 0.5),
        wing_fraction=0.03,
        wing_length=300,
        bands=(
            Band(950, 2.20e-17, (0, 1, 0, 0), 6.545, 0.3, 20, 20),
            Band(1627, 4.60e-18, (0, 0, 0, 1), 6.545, 0.3, 25, 8),
            Band(2500, 2.40e-20, (0, 1, 0, 1), 6.545, 0.3, 40, 15),
            Band(3220, 1.60e-19, (0, 0, 0, 2), 6.545, 0.3, 30, 10),
            Band(3337, 9.00e-19, (1, 0, 0, 0), 6.545, 0.3, 14, 12),
            Band(3444, 5.20e-19, (0, 0, 1, 0), 6.545, 0.3, 25, 12),
            Band(4300, 2.00e-19, (1, 1, 0, 0), 6.545, 0.33, 30, 20),
            Band(4430, 6.60e-19, (0, 1, 1, 0), 6.545, 0.33, 30, 20),
            Band(4956, 2.20e-19, (1, 0, 0, 1), 6.545, 0.33, 30, 15),
            Band(5053, 5.50e-19, (0, 0, 1, 1), 6.545, 0.33, 30, 15),
            Band(6015, 4.00e-20, (0, 1, 1, 1), 6.545, 0.33, 60, 20),
            Band(6609, 3.60e-19, (1, 0, 1, 0), 6.545, 0.33, 35, 20),
            Band(6680, 1.00e-19, (0, 0, 2, 0), 6.545, 0.33, 50, 20),
            Band(7600, 2.00e-20, (1, 1, 1, 0), 6.545, 0.33, 60, 20),
            Band(8177, 5.00e-20, (1, 0, 1, 1), 6.545, 0.33, 60, 20),
            Band(8650, 1.00e-20, (0, 0, 2, 1), 6.545, 0.33, 60, 20),
            Band(9690, 3.00e-20, (2, 0, 1, 0), 6.545, 0.33, 60, 20),
        ),
    ),
    "SO2": Gas(
        modes=(1151, 518, 1362),
        degeneracies=(1, 1, 1),
        damping=(0.5, 0.5, 0.5),
        wing_fraction=0.01,
        wing_length=100,
        bands=(
            Band(1151, 3.40e-18, (1, 0, 0), 1.103, 0.2, 8, 4),
            Band(1362, 3.00e-17, (0, 0, 1), 0.809, 0, 6, 5),
            Band(2296, 9.00e-21, (2, 0, 0), 1.103, 0.2, 8, 6),
            Band(2500, 6.50e-19, (1, 0, 1), 0.809, 0, 6, 8),
            Band(2715, 4.00e-21, (0, 0, 2), 1.103, 0.2, 8, 10),
            Band(3630, 5.70e-21, (2, 0, 1), 0.809, 0, 8, 10),
            Band(4054, 1.10e-21, (0, 0, 3), 0.809, 0, 8, 14),
        ),
    ),
    "HCN": Gas(
        modes=(3311, 712, 2097),
        degeneracies=(0, 2, 0),
        damping=(0.5, 0.5, 0.5),
        wing_fraction=0.01,
        wing_length=60,
        bands=(
            Band(712, 1.00e-17, (0, 1, 0), 1.48, 0.45, 4, 0),
            Band(1411, 2.50e-18, (0, 2, 0), 1.48, 0, 4, 5),
            Band(2097, 1.00e-20, (0, 0, 1), 1.48, 0, 4, 5),
            Band(2805, 6.00e-20, (0, 1, 1), 1.48, 0.4, 5, 6),
            Band(3311, 9.50e-18, (1, 0, 0), 1.48, 0, 4, 19),
            Band(4005, 8.00e-20, (1, 1, 0), 1.48, 0.4, 5, 19),
            Band(4685, 1.50e-21, (1, 2, 0), 1.48, 0, 5, 20),
            Band(5394, 6.00e-20, (1, 0, 1), 1.48, 0, 5, 22),
            Band(6520, 1.00e-19, (2, 0, 0), 1.48, 0, 5, 38),
            Band(9627, 7.00e-21, (3, 0, 0), 1.48, 0, 5, 57),
        ),
    ),
    "C2H2": Gas(
        modes=(3374, 1974, 3289, 612, 730),
        degeneracies=(0, 0, 0, 2, 2),
        damping=(0.5, 0.5, 0.5, 0.5, 0.5),
        wing_fraction=0.01,
        wing_length=60,
        bands=(
            Band(730, 2.80e-17, (0, 0, 0, 0, 1), 1.18, 0.45, 4, 3),
            Band(1328, 4.20e-18, (0, 0, 0, 1, 1), 1.18, 0, 4, 5),
            Band(2702, 7.00e-20, (0, 1, 0, 0, 1), 1.18, 0.4, 5, 6),
            Band(3289, 1.10e-17, (0, 0, 1, 0, 0), 1.18, 0, 4, 12),
            Band(4092, 2.60e-19, (1, 0, 0, 0, 1), 1.18, 0.4, 5, 14),
            Band(6556, 3.00e-19, (1, 0, 1, 0, 0), 1.18, 0, 5, 20),
            Band(9640, 4.00e-21, (1, 0, 2, 0, 0), 1.18, 0, 5, 40),
        ),
    ),
    "H2S": Gas(
        modes=(2615, 1183, 2626),
        degeneracies=(1, 1, 1),
        damping=(0.5, 0.5, 0.5),
        wing_fraction=0.03,
        wing_length=90,
        bands=(
            Band(1183, 5.00e-20, (0, 1, 0), 7.5, 0.2, 30, 8),
            Band(2354, 2.50e-21, (0, 2, 0), 7.5, 0.2, 30, 10),
            Band(2615, 4.00e-20, (1, 0, 0), 7.5, 0.2, 30, 20),
            Band(2626, 1.20e-20, (0, 0, 1), 7.5, 0.3, 30, 20),
            Band(3779, 5.50e-20, (1, 1, 0), 7.5, 0.3, 30, 20),
            Band(3789, 3.00e-20, (0, 1, 1), 7.5, 0.3, 30, 20),
            Band(5145, 5.00e-20, (2, 0, 0), 7.5, 0.3, 30, 25),
            Band(6289, 4.50e-20, (1, 1, 1), 7.5, 0.3, 30, 25),
            Band(7577, 3.50e-21, (2, 0, 1), 7.5, 0.3, 35, 30),
        ),
    ),
}


def photons(
    wavelength: Float64[np.ndarray, " W"], temperature_k: float
) -> Float64[np.ndarray, " W"]:
    """Planck photon rate by wavelength, 1 / (l^4 (exp(hc/(l k T)) - 1)), arbitrary unit."""
    return wavelength**-4.0 / np.expm1(_HC_OVER_K_UM / (wavelength * temperature_k))
