import numpy as np
import pytest

from spectramind.instrument import wavelength_um
from spectramind.spectroscopy import (
    GASES,
    band_membership,
    band_shape,
    bands_of,
    cross_section,
)

# Source: physics notes, table of reference values (cm2/molecule at 300, 1000 and 2000 K).
REFERENCE = {
    ("H2O", 3776): (2.595326e-20, 1.760128e-20, 1.251578e-20),
    ("CO2", 4998): (5.416430e-22, 6.224020e-22, 1.064281e-21),
    ("CO", 4280): (6.154808e-22, 2.296906e-22, 1.944426e-22),
    ("CH4", 3039): (6.071179e-20, 3.134746e-20, 1.859525e-20),
    ("NH3", 4450): (3.879294e-21, 3.613380e-21, 3.741915e-21),
    ("SO2", 2735): (4.606930e-23, 3.030375e-23, 6.563655e-23),
    ("HCN", 3331): (1.095383e-19, 4.722029e-20, 3.063022e-20),
    ("C2H2", 3309): (1.440722e-19, 6.116729e-20, 4.175172e-20),
    ("H2S", 3799): (4.380389e-22, 3.957245e-22, 4.646302e-22),
}


@pytest.mark.parametrize(("gas", "wavenumber"), REFERENCE)
def test_cross_sections_equal_the_reference_values(gas, wavenumber):
    found = [
        cross_section(GASES[gas], np.array([float(wavenumber)]), temperature)[0]
        for temperature in (300.0, 1000.0, 2000.0)
    ]
    np.testing.assert_allclose(found, REFERENCE[gas, wavenumber], rtol=1e-6)


@pytest.mark.parametrize("gas", GASES)
def test_band_shapes_have_unit_area(gas):
    entry = GASES[gas]
    band = entry.bands[0]
    wavenumber = np.arange(band.centre - 15000.0, band.centre + 15000.0, 0.25)
    area = band_shape(entry, band, wavenumber, 800.0).sum() * 0.25
    assert area == pytest.approx(1.0, abs=2e-3)


def test_known_bands_belong_to_their_gases():
    wavelength = wavelength_um()
    member = dict(zip(GASES, band_membership(wavelength), strict=True))

    def near(um):
        return int(np.argmin(abs(wavelength - um)))

    assert member["H2O"][near(2.7)]
    assert member["CH4"][near(3.3)]
    assert member["CO2"][near(2.75)]
    assert member["CO"][near(2.35)]
    assert not member["CO"][near(3.3)]
    assert not member["CO2"][near(3.3)]
    assert not any(flags[0] for flags in member.values())  # FGS1 holds no strong band


def test_bands_of_a_gas_are_disjoint_and_add_up_to_its_membership():
    wavelength = wavelength_um()
    for gas, member in zip(GASES, band_membership(wavelength), strict=True):
        bands = bands_of(gas, wavelength)
        assert bands.any(axis=1).all()
        np.testing.assert_array_equal(bands.sum(axis=0), member.astype(int))


def test_membership_does_not_depend_on_the_order_of_the_bins():
    wavelength = wavelength_um()
    np.testing.assert_array_equal(
        band_membership(wavelength[::-1].copy())[:, ::-1], band_membership(wavelength)
    )


def test_no_bands_far_from_all_of_them():
    assert bands_of("CO", np.array([3.2, 3.3, 3.4])).shape == (0, 3)
