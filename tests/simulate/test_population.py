import numpy as np

from spectramind.simulate.population import (
    draw_planet,
    identifier,
    radius_m,
    scale_height_m,
    stream,
)


def planets(config, count=400):
    return [draw_planet(5, "train", i, 0.1, config.population) for i in range(count)]


def table(drawn, name):
    return np.array([getattr(planet.table, name) for planet in drawn])


def test_star_table_has_the_quantiles_of_the_challenge(make_settings):
    drawn = planets(make_settings())
    for name, middle in (
        ("radius_rsun", 1.23),
        ("mass_msun", 1.10),
        ("temperature_k", 5887.0),
        ("planet_mass_mjup", 0.94),
        ("period_d", 5.20),
        ("semi_major_axis_rs", 10.5),
    ):
        low, median, high = np.percentile(table(drawn, name), [25, 50, 75])
        # Three standard errors of a median of 400, taken from the quartiles.
        assert abs(median - middle) < 3 * 1.25 * (high - low) / 1.35 / 20, name
    radius, heat = np.log(table(drawn, "radius_rsun")), table(drawn, "temperature_k")
    assert abs(np.corrcoef(radius, heat)[0, 1] - 0.73) < 0.1
    period, axis = table(drawn, "period_d"), table(drawn, "semi_major_axis_rs")
    assert abs(np.corrcoef(period, axis)[0, 1] - 0.64) < 0.1


def test_depths_have_the_mean_and_spread_of_the_2025_labels(make_settings):
    depth = np.array([planet.depth for planet in planets(make_settings(), 1000)]) * 1e6
    assert abs(depth.mean() - 14_689) < 1_100  # three standard errors
    assert abs(depth.std() - 10_661) < 1_800


def test_the_table_is_near_the_truth_but_not_exact(make_settings):
    drawn = planets(make_settings(), 200)
    true = np.array([planet.star.semi_major_axis_rs for planet in drawn])
    error = np.log(table(drawn, "semi_major_axis_rs") / true)
    assert 0.05 < error.std() < 0.07
    period = table(drawn, "period_d") / [planet.star.period_d for planet in drawn] - 1
    assert 0.008 < period.std() < 0.012
    exact = make_settings(
        population={
            "table_period_scatter": 0.0,
            "table_semi_major_axis_scatter": 0.0,
            "table_impact_scatter": 0.0,
        }
    )
    same = draw_planet(5, "train", 0, 0.0, exact.population)
    assert same.star.period_d == same.table.period_d
    assert abs(same.star.inclination_deg - same.table.inclination_deg) < 1e-9


def test_orbits_are_keplerian_and_planets_bound(make_settings):
    for planet in planets(make_settings(), 50):
        star = planet.star
        density = star.semi_major_axis_rs**3 / star.period_d**2
        sun = 4.2083**3 * star.mass_msun / star.radius_rsun**3
        assert abs(density / sun - 1) < 1e-9
        assert radius_m(planet) > 30 * scale_height_m(planet)
        assert planet.impact_parameter <= 0.9


def test_duration_and_what_counts_as_partial(make_settings):
    planet = draw_planet(5, "train", 0, 0.0, make_settings().population)
    assert 1.0 < planet.duration_h < 12.0
    margin = 0.5 * planet.duration_h
    assert not planet.is_partial(margin + 0.01)
    assert planet.is_partial(margin - 0.01)
    assert planet.is_partial(7.5 - margin + 0.01)


def test_identifiers_never_repeat():
    ids = {identifier(9, split, i) for split in ("train", "test") for i in range(5000)}
    assert len(ids) == 10_000
    assert min(ids) >= 10_000
    assert max(ids) < 2**32


def test_streams_depend_on_every_part_of_their_name():
    first = {
        stream(seed, split, index, name, visit).random()
        for seed in (1, 2)
        for split in ("train", "test")
        for index in (0, 1)
        for name in ("a", "b")
        for visit in (0, 1)
    }
    assert len(first) == 32
