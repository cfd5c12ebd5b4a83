"""Quadratic limb-darkening coefficients expected for a star, by temperature and wavelength."""

import numpy as np
from jaxtyping import Float64

# Rows: temperature; columns: wavelength. Up to 1.65 um from the PHOENIX tables of ExoTiC-LD for
# late dwarfs to F stars; beyond, no table was at hand: u1 and u2 fall slowly with wavelength
# (assumption). The fit therefore treats these numbers as the centre of a wide prior.
_TEMPERATURE_K = np.array([3457.0, 4539.0, 5485.0, 6360.0])
_WAVELENGTH_UM = np.array([0.70, 1.0, 1.65, 2.0, 3.9])
_U1 = np.array(
    [
        [0.360, 0.140, 0.070, 0.065, 0.040],
        [0.600, 0.390, 0.140, 0.110, 0.060],
        [0.460, 0.310, 0.120, 0.095, 0.055],
        [0.375, 0.255, 0.105, 0.085, 0.050],
    ]
)
_U2 = np.array(
    [
        [0.34, 0.33, 0.30, 0.26, 0.16],
        [0.10, 0.15, 0.32, 0.28, 0.17],
        [0.18, 0.19, 0.29, 0.25, 0.16],
        [0.21, 0.20, 0.24, 0.22, 0.15],
    ]
)


def quadratic_coefficients(
    temperature_k: float, wavelength_um: Float64[np.ndarray, " W"]
) -> Float64[np.ndarray, "W 2"]:
    """u1 and u2, linear between the table's temperatures and in log wavelength; held at its ends.

    Args:
        temperature_k: Effective temperature of the star [K].
        wavelength_um: Wavelengths [um].

    Returns:
        Coefficients u1, u2 of I(mu) = 1 - u1 (1 - mu) - u2 (1 - mu)^2.

    Source: PHOENIX coefficients as tabulated with ExoTiC-LD (Grant and Wakeford 2022) at 0.70,
    1.0 and 1.65 um; beyond 1.65 um an assumption.
    """
    where = np.log(wavelength_um)
    columns = np.log(_WAVELENGTH_UM)
    pair = []
    for table in (_U1, _U2):
        row = [np.interp(temperature_k, _TEMPERATURE_K, table[:, i]) for i in range(columns.size)]
        pair.append(np.interp(where, columns, np.array(row)))
    return np.stack(pair, axis=-1)
