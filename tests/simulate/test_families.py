"""Wider families of spectra: each key at its claim, and none of them in the default archive."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from spectramind import config as configuration
from spectramind.instrument import wavelength_um
from spectramind.observation import Star
from spectramind.simulate import atmosphere as atmosphere_module
from spectramind.simulate.alternatives import alternative_spectra
from spectramind.simulate.atmosphere import Gas, chord_depth, depths, slope_factor
from spectramind.simulate.composition import (
    Atmosphere,
    StarSlope,
    UnknownBand,
    draw_atmosphere,
    equilibrium,
)
from spectramind.simulate.population import draw_planet
from spectramind.spectroscopy import GASES

FAMILIES = {
    "equilibrium_share": 1.0,
    "temperature_slope": (0.05, 0.08),
    "unknown_bands_most": 3,
    "star_slope_probability": 1.0,
}
TYPICAL = Atmosphere(
    {gas: {"H2O": -3.0, "CH4": -4.0}.get(gas, -9.0) for gas in GASES},
    None, 0.0, 4.0, 0.0, (), StarSlope(0.0, 0.0),
)  # fmt: skip
STAR_CM, BASE_CM, HEIGHT_CM = 8.5e10, 9.0e9, 4.0e7


def planet_of(config, index=0):
    return draw_planet(3, "train", index, 0.0, config.population)


def spectrum(config, atmosphere, index=0):
    return depths([planet_of(config, index)], [atmosphere], config.atmosphere)[0]


def shapes(spectra):
    centred = spectra - spectra.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True))


def left_by(shape, count):
    """Share of the variance that the leading components leave."""
    power = np.linalg.svd(shape - shape.mean(0), compute_uv=False) ** 2
    return power[count:].sum() / power.sum()


def test_the_default_archive_has_none_of_them(make_settings):
    config = make_settings()
    for index in range(20):
        drawn = draw_atmosphere(3, planet_of(config, index), config.atmosphere)
        assert drawn.temperature_slope == 0.0
        assert drawn.unknown_bands == ()
        assert drawn.star_slope.share == 0.0


@pytest.mark.parametrize("key", FAMILIES)
def test_a_family_leaves_all_other_draws_alone(key, make_settings):
    plain, wide = make_settings(), make_settings(atmosphere={key: FAMILIES[key]})
    field = key.removesuffix("_share").removesuffix("_most").removesuffix("_probability")
    field = {"equilibrium": "log10_abundance"}.get(field, field)
    changed = 0
    for index in range(20):
        planet = planet_of(plain, index)
        before = draw_atmosphere(3, planet, plain.atmosphere)
        after = draw_atmosphere(3, planet, wide.atmosphere)
        changed += before != after
        assert replace(after, **{field: getattr(before, field)}) == before
        for gas in ("HCN", "C2H2", "SO2"):
            assert before.log10_abundance[gas] == after.log10_abundance[gas]
    assert changed > 10


def test_equilibrium_has_the_gases_of_hot_and_cool_giants():
    hot, cool = (equilibrium(heat, 0.1, 1.0, 0.55) for heat in (1800.0, 600.0))
    oxygen = 1.7 * 4.9e-4
    assert hot["CO"] == pytest.approx(0.55 * oxygen, rel=1e-3)
    assert hot["H2O"] == pytest.approx(0.45 * oxygen, rel=1e-3)
    assert hot["CH4"] < 1e-8
    assert cool["CH4"] == pytest.approx(0.55 * oxygen, rel=0.01)
    assert cool["H2O"] == pytest.approx(oxygen, rel=0.01)
    assert cool["NH3"] > 30 * hot["NH3"]
    assert 1e-8 < hot["CO2"] < 1e-6
    rich = equilibrium(1800.0, 0.1, 10.0, 0.55)
    assert rich["CO"] == pytest.approx(10 * hot["CO"], rel=1e-3)
    assert rich["CO2"] == pytest.approx(100 * hot["CO2"], rel=1e-2)
    assert rich["H2S"] == pytest.approx(10 * hot["H2S"])


@pytest.mark.parametrize("heat", [500.0, 1000.0, 1500.0])
@pytest.mark.parametrize("ratio", [0.3, 0.9, 1.2])
def test_equilibrium_keeps_atoms_and_the_law_of_mass_action(heat, ratio):
    gas = equilibrium(heat, 0.3, 3.0, ratio)
    oxygen = 3.0 * 1.7 * 4.9e-4
    assert gas["CO"] + gas["H2O"] == pytest.approx(oxygen)
    assert gas["CO"] + gas["CH4"] == pytest.approx(ratio * oxygen)
    constant = np.exp(26830.0 / heat - 30.114)
    assert gas["CH4"] * gas["H2O"] == pytest.approx(
        constant * gas["CO"] * 0.85**3 * 0.3**2, rel=1e-3, abs=1e-12
    )


def test_carbon_rich_gas_has_lost_its_water():
    assert equilibrium(1500.0, 0.1, 1.0, 1.2)["H2O"] < 1e-5
    assert equilibrium(1500.0, 0.1, 1.0, 1.2)["CH4"] > 1e-5


def test_a_share_of_the_planets_is_in_equilibrium(make_settings):
    config = make_settings(atmosphere={"equilibrium_share": 0.5})
    plain = make_settings()
    other = sum(
        draw_atmosphere(3, planet_of(config, i), config.atmosphere)
        != draw_atmosphere(3, planet_of(config, i), plain.atmosphere)
        for i in range(200)
    )
    assert 80 < other < 120


def cloud_radius(config, slope):
    """Radius of the top of a cloud at a millibar, nothing above it."""
    one = torch.ones((1, 1, 1), dtype=torch.float64)
    gas = Gas(
        torch.tensor([1300.0]).double(), torch.tensor([slope]).double(), 0.0 * one, 0.0 * one,
        torch.tensor([1e-3]).double(),
    )  # fmt: skip
    base, fall, star = (
        torch.tensor([value]).double() for value in (BASE_CM, HEIGHT_CM / BASE_CM**2, STAR_CM)
    )
    return float(torch.sqrt(chord_depth(base, fall, star, gas, config))) * STAR_CM


@pytest.mark.parametrize("slope", [-0.06, 0.0, 0.1])
def test_a_warmer_atmosphere_stands_higher(slope, make_settings):
    """From 10 bar to 1 mbar, four decades, the mean temperature is 1 + 2 slope of that there."""
    config = make_settings(atmosphere={"layers": 2000}).atmosphere
    rise = np.log(1e4) * HEIGHT_CM / BASE_CM**2 * (1.0 + 2.0 * slope)
    expected = 1.0 / (1.0 / BASE_CM - rise)
    assert cloud_radius(config, slope) == pytest.approx(expected, abs=0.02 * HEIGHT_CM)


def test_a_profile_changes_the_bands_and_few_nodes_follow_it(make_settings, monkeypatch):
    config = make_settings(atmosphere={"temperature_slope": (0.0, 0.1)})
    flat, warm = (
        spectrum(config, replace(TYPICAL, temperature_slope=slope)) for slope in (0.0, 0.1)
    )
    plain = spectrum(make_settings(), TYPICAL)
    np.testing.assert_allclose(flat, plain, rtol=1e-12)
    assert (warm - flat).std() > 0.05 * flat.std()
    monkeypatch.setattr(atmosphere_module, "_PROFILE_NODES", 13)
    finer = spectrum(config, replace(TYPICAL, temperature_slope=0.1))
    assert (finer - warm).std() < 0.02 * warm.std()


def test_opacity_is_that_of_the_temperature_at_each_pressure(make_settings, monkeypatch):
    config = make_settings(atmosphere={"temperature_slope": (0.0, 0.1)})
    planet, warm = planet_of(config), replace(TYPICAL, temperature_slope=0.1)
    heat = atmosphere_module._node_temperatures(planet, warm, config.atmosphere)
    np.testing.assert_allclose(heat[[0, -1]], planet.temperature_k * np.array([1.4, 0.6]))
    own = spectrum(config, warm)
    monkeypatch.setattr(
        atmosphere_module, "_node_temperatures", lambda planet, *_: [planet.temperature_k] * 4
    )
    assert (spectrum(config, warm) - own).std() > 0.02 * own.std()


def test_layers_between_nodes_have_a_share_of_both():
    layers = (np.arange(60) + 0.5) / 60
    for nodes in (1, 4):
        shares = atmosphere_module._node_shares(nodes, 60).numpy()
        np.testing.assert_allclose(shares.sum(0), 1.0)
    np.testing.assert_allclose(np.linspace(0.0, 1.0, 4) @ shares, layers, atol=1e-12)


def test_an_unknown_band_stands_at_its_wavelength(make_settings):
    config, wavelength = make_settings(), wavelength_um()
    band = UnknownBand(3.6, 0.02, 1e-22)
    bare = replace(TYPICAL, log10_abundance=dict.fromkeys(GASES, -12.0))
    rise = spectrum(config, replace(bare, unknown_bands=(band,))) - spectrum(config, bare)
    rise -= np.median(rise)
    peak = wavelength[np.argmax(rise)]
    assert peak == pytest.approx(3.6, abs=0.03)
    assert rise[abs(np.log(wavelength / 3.6)) > 0.15].max() < 0.05 * rise.max()


def test_bands_fill_their_ranges(make_settings):
    config = make_settings(atmosphere={"unknown_bands_most": 3})
    drawn = [
        draw_atmosphere(3, planet_of(config, i), config.atmosphere).unknown_bands
        for i in range(100)
    ]
    assert {len(bands) for bands in drawn} == {0, 1, 2, 3}
    every = [band for bands in drawn for band in bands]
    assert all(0.6 <= band.centre_um <= 4.0 for band in every)
    assert all(0.01 <= band.width <= 0.15 for band in every)
    assert all(1e-27 <= band.section_cm2 <= 1e-22 for band in every)


def test_spots_of_a_sunlike_star_tilt_the_spectrum_by_what_is_known(make_settings):
    """5,700 K, spots of 4,200 K on 5 %: 1.0379 at 0.7 um, 1.0226 at 2.0 um, 1.0180 at 3.85 um."""
    config = make_settings()
    planet = planet_of(config)
    planet = replace(planet, star=replace(planet.star, temperature_k=5700.0))
    spotted = replace(TYPICAL, star_slope=StarSlope(0.05, -1500.0))
    factor = slope_factor(planet, spotted)
    for um, known in ((0.705, 1.0379), (2.0, 1.0226), (3.85, 1.0180)):
        assert factor[np.argmin(abs(wavelength_um() - um))] == pytest.approx(known, abs=4e-4)
    plain = depths([planet], [TYPICAL], config.atmosphere)[0]
    tilted = depths([planet], [spotted], config.atmosphere)[0]
    assert tilted[1:].mean() == pytest.approx(planet.depth, rel=5e-3)
    shape = tilted / plain / factor
    np.testing.assert_allclose(shape, shape.mean(), rtol=2e-3)
    faculae = slope_factor(planet, replace(TYPICAL, star_slope=StarSlope(0.05, 300.0)))
    assert faculae[0] < faculae[282] < 1.0


def test_the_shipped_prior_is_taught_wider_families(make_settings):
    wide = configuration.load(["experiment=pretrain"]).simulate
    plain = make_settings()
    shape = []
    for config in (plain, wide):
        planets = [planet_of(config, i) for i in range(250)]
        drawn = [draw_atmosphere(3, planet, config.atmosphere) for planet in planets]
        spectra = depths(planets, drawn, config.atmosphere)
        assert np.isfinite(spectra).all()
        assert (spectra > 0.0).all()
        shape.append(shapes(spectra))
    assert left_by(shape[1], 5) > 1.3 * left_by(shape[0], 5)
    for key, value in FAMILIES.items():
        assert getattr(wide.atmosphere, key) != getattr(plain.atmosphere, key), value


def test_planets_are_observed_again_with_the_wider_families():
    wide = configuration.load(["experiment=pretrain"]).simulate
    star = Star(1.2, 1.1, 5800.0, 0.9, 0.0, 4.0, 9.0, 88.0)
    drawn = [
        alternative_spectra(7, star, 0.012, 12, wide.population, atmosphere, 3)
        for atmosphere in (
            wide.atmosphere, wide.atmosphere.model_copy(update={"unknown_bands_most": 0})
        )
    ]  # fmt: skip
    np.testing.assert_allclose(drawn[0][:, 1:].mean(1), 0.012, rtol=5e-3)
    assert abs(drawn[0] - drawn[1]).max() > 1e-6


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("temperature_slope", (0.0, 0.3), r"temperature_slope is \[0.0, 0.3\]: over 4.0 decades .*"
         r"80% .* Keep it within -\+0.200"),
        ("temperature_slope", (0.1, 0.0), "expected the smaller number first"),
        ("equilibrium_share", 1.5, "equilibrium_share\n.*less than or equal to 1"),
        ("log10_metallicity", (0.0, 3.0), "log10_metallicity.1\n.*less than or equal to 2"),
        ("carbon_to_oxygen", (0.0, 1.0), "carbon_to_oxygen.0\n.*greater than 0"),
        ("unknown_bands_most", -1, "unknown_bands_most\n.*greater than or equal to 0"),
        ("unknown_band_width", (0.0, 0.1), "unknown_band_width.0\n.*greater than 0"),
        ("star_slope_share", (0.0, 1.0), "star_slope_share.1\n.*less than"),
        ("star_slope_heat_k", (-5000.0, 0.0), r"star_slope_heat_k.0\n.*greater than or equal to"),
    ],
)  # fmt: skip
def test_families_that_mean_nothing_are_refused(key, value, sentence, make_settings):
    with pytest.raises(ValidationError, match=sentence):
        make_settings(atmosphere={key: value})


def test_an_abundance_above_one_is_refused(make_settings):
    gases = make_settings().atmosphere.log10_abundance | {"CO": (-3.0, 0.5)}
    with pytest.raises(ValidationError, match=r"abundance\.CO is \[-3\.0, 0\.5\], expected the"):
        make_settings(atmosphere={"log10_abundance": gases})
