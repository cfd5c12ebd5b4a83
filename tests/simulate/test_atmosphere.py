import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from spectramind.instrument import wavelength_um
from spectramind.simulate.atmosphere import Gas, chord_depth, collision_induced, depths
from spectramind.simulate.composition import Atmosphere, StarSlope, draw_atmosphere
from spectramind.simulate.population import draw_planet
from spectramind.spectroscopy import GASES

STAR_CM, BASE_CM, HEIGHT_CM = 8.5e10, 9.0e9, 4.0e7


def tensor(value):
    return torch.tensor([value], dtype=torch.float64)


def one_depth(config, sigma, cloud=math.inf, cia=0.0):
    return chord_depth(
        tensor(BASE_CM),
        tensor(HEIGHT_CM / BASE_CM**2),
        tensor(STAR_CM),
        Gas(
            tensor(1300.0),
            tensor(0.0),
            torch.full((1, 1, 1), sigma, dtype=torch.float64),
            torch.full((1, 1, 1), cia, dtype=torch.float64),
            tensor(cloud),
        ),
        config,
    ).item()


@pytest.fixture
def config(make_settings):
    return make_settings().atmosphere


def spectrum(make_settings, atmosphere, index=0):
    config = make_settings()
    planet = draw_planet(3, "train", index, 0.0, config.population)
    return depths([planet], [atmosphere], config.atmosphere)[0], planet


def clear(**abundance):
    gases = {gas: abundance.get(gas, -12.0) for gas in GASES}
    return Atmosphere(gases, None, 0.0, 4.0, 0.0, (), StarSlope(0.0, 0.0))


def test_no_opacity_leaves_the_bare_disc(config):
    assert one_depth(config, 0.0) == pytest.approx((BASE_CM / STAR_CM) ** 2, rel=1e-12)


def test_chord_equals_the_analytic_isothermal_radius(config):
    # ln(P0/P) at the effective radius is 0.577 + ln tau0, tau0 = sigma n0 sqrt(2 pi r H(r)) with
    # H growing as r^2. Source: Lecavelier des Etangs et al. 2008.
    sigma = 1e-25
    density = config.bottom_pressure_bar * 1e6 / (1.380649e-16 * 1300.0)
    radius = math.sqrt(one_depth(config, sigma)) * STAR_CM
    scale_heights = BASE_CM / HEIGHT_CM * (1.0 - BASE_CM / radius)
    height = HEIGHT_CM * (radius / BASE_CM) ** 2
    tau = sigma * density * math.sqrt(2 * math.pi * radius * height)
    assert scale_heights == pytest.approx(0.5772 + math.log(tau), abs=0.06)


def test_ten_times_the_opacity_lifts_the_radius_by_ln_ten_heights(config):
    low, high = (math.sqrt(one_depth(config, s)) * STAR_CM for s in (1e-25, 1e-24))
    gravity = (0.5 * (low + high) / BASE_CM) ** 2  # the scale height grows as r^2
    assert high - low == pytest.approx(math.log(10.0) * HEIGHT_CM * gravity, rel=0.03)


def test_more_layers_change_little(config):
    finer = config.model_copy(update={"layers": 240})
    assert one_depth(finer, 1e-24) == pytest.approx(one_depth(config, 1e-24), rel=2e-3)


def test_a_high_cloud_hides_everything_below(config):
    assert one_depth(config, 1e-26, cloud=1e-4) > one_depth(config, 1e-26, cloud=1.0)
    same = one_depth(config, 1e-29, cloud=1e-4), one_depth(config, 1e-28, cloud=1e-4)
    assert same[0] == pytest.approx(same[1], rel=1e-5)


def test_collision_induced_absorption_counts_density_twice(config):
    assert one_depth(config, 0.0, cia=1e-45) > one_depth(config, 0.0)
    wavelength = wavelength_um()
    peak = wavelength[np.argmax(collision_induced(wavelength, 1000.0))]
    assert peak == pytest.approx(2.40, abs=0.02)


def test_mean_over_airs_is_the_planet_s_depth(make_settings):
    depth, planet = spectrum(make_settings, clear(H2O=-3.0))
    assert depth[1:].mean() == pytest.approx(planet.depth, rel=5e-3)


def test_bands_stand_where_they_belong(make_settings):
    wavelength = wavelength_um()
    for gas, inside, outside in (
        ("H2O", 2.7, 3.8),
        ("CH4", 3.3, 2.7),
        ("CO", 2.35, 3.0),
        ("CO2", 2.75, 3.4),
    ):
        depth, _ = spectrum(make_settings, clear(**{gas: -3.0}))
        at = [depth[np.argmin(abs(wavelength - um))] for um in (inside, outside)]
        assert at[0] > at[1] * 1.002, gas


def test_haze_lifts_fgs1_above_airs(make_settings):
    plain, _ = spectrum(make_settings, clear(H2O=-3.0))
    hazy = replace(clear(H2O=-3.0), haze_enhancement=1e4)
    lifted, _ = spectrum(make_settings, hazy)
    assert lifted[0] - lifted[1:].mean() > plain[0] - plain[1:].mean() + 1e-5


def test_a_batch_equals_its_members(make_settings):
    config = make_settings()
    planets = [draw_planet(3, "train", i, 0.0, config.population) for i in range(3)]
    mixtures = [draw_atmosphere(3, p, config.atmosphere) for p in planets]
    together = depths(planets, mixtures, config.atmosphere)
    alone = np.concatenate(
        [depths([p], [m], config.atmosphere) for p, m in zip(planets, mixtures, strict=True)]
    )
    np.testing.assert_allclose(together, alone, rtol=1e-13)
    assert depths([], [], config.atmosphere).shape == (0, 283)


def test_every_gas_needs_a_range(make_settings):
    with pytest.raises(ValidationError, match=r"log10_abundance names \['CO'\], expected a range"):
        make_settings(atmosphere={"log10_abundance": {"CO": (-5.0, -3.0)}})
