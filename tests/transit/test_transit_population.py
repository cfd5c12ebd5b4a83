from dataclasses import replace

import numpy as np
import pytest
from transit_world import default_config

from spectramind.observation import Star
from spectramind.transit.parameters import FIXED, Layout
from spectramind.transit.priors import (
    LabelAlone,
    LabelledEvidence,
    first_priors,
    label_hash,
    learn_priors,
)
from spectramind.transit.shared_prior import (
    Guess,
    OrbitEvidence,
    Population,
    _offset_evidence,
    _prior,
    _seen_offsets,
    first_population,
    guess_orbit,
    learn_population,
    make_evidence,
)
from spectramind.transit.spectrum_learning import learn_spectrum_prior
from spectramind.transit.time_noise import NoiseBelief

CONFIG = default_config(baseline__scatter=[0.008, 0.004], baseline__wavelength_order=2)
GUESS = Guess(5500.0, 4.0, 9.0, 0.4, known=True)
IMPACT_SCATTER = 0.15


def _impact_unit(impact):
    """Scatter of (b + s x)^2 with x a unit Gaussian: exactly sqrt((2 b s)^2 + 2 s^4)."""
    return np.sqrt((2.0 * impact * IMPACT_SCATTER) ** 2 + 2.0 * IMPACT_SCATTER**4)


def _covariance(rng, scatter):
    scatter = np.asarray(scatter)
    turn, _ = np.linalg.qr(rng.normal(size=(scatter.size, scatter.size)))
    correlation = turn @ np.diag(np.linspace(0.1, 2.0, scatter.size)) @ turn.T
    spread = np.sqrt(np.diag(correlation))
    return correlation / np.outer(spread, spread) * np.outer(scatter, scatter)


def _population(rng) -> Population:
    return Population(
        mean=np.array([0.003, -0.03, 0.4, 0.05, -0.02, 0.04, 0.0, 0.01, -0.005]),
        covariance=_covariance(rng, [0.004, 0.05, 0.6, 0.05, 0.04, 0.03, 0.06, 0.008, 0.006]),
        clock_h=0.002,
        visit_offset=(8e-3, 2e-3, 1e-3),
        drift_fgs1=_covariance(rng, [0.002, 0.001]),
        drift_time=_covariance(rng, [0.003, 0.0015]),
        drift_wavelength=_covariance(rng, [1.0, 0.5, 0.25]),
        spots=0.003,
        planets=0,
    )


def _draw(rng, population, visits, noise):
    """Evidence of a planet drawn from a population, measured with errors of `noise` scatters."""
    layout = Layout(visits, 2, 3)
    airs = np.kron(population.drift_time, population.drift_wavelength)
    parts = [rng.multivariate_normal(population.mean, population.covariance)]
    for _ in range(visits):
        parts.append(rng.normal(0.0, population.clock_h, 1))
        parts.append(rng.normal(0.0, population.visit_offset))
        parts.append(rng.multivariate_normal(np.zeros(2), population.drift_fgs1))
        parts.append(rng.multivariate_normal(np.zeros(6), airs))
    x = np.concatenate(parts)
    scale = [np.sqrt(np.diag(population.covariance))]
    for _ in range(visits):
        scale += [[population.clock_h], population.visit_offset]
        scale += [np.sqrt(np.diag(population.drift_fgs1)), np.sqrt(np.diag(airs))]
    error = noise * np.concatenate(scale)
    root = rng.normal(size=(x.size, 2 * x.size)) / np.sqrt(2 * x.size)
    information = root @ root.T / np.outer(error, error)
    vector = information @ x + np.linalg.cholesky(information) @ rng.normal(size=x.size)
    return OrbitEvidence(layout, information, vector)


@pytest.fixture(scope="module")
def learned():
    rng = np.random.default_rng(5)
    true = _population(rng)
    planets = [_draw(rng, true, 1 + i % 2, 0.5) for i in range(240)]
    return true, learn_population(first_population(CONFIG, known=True), planets, CONFIG.prior)


def _in_units(found, true):
    scatter = np.sqrt(np.diag(true))
    return (found - true) / np.outer(scatter, scatter)


def test_means_and_scatters_of_a_known_population_come_back(learned):
    true, found = learned
    scatter = np.sqrt(np.diag(true.covariance))
    assert found.planets == 240
    assert np.abs((found.mean - true.mean) / scatter).max() < 0.3  # 1/sqrt(240), 4 sigma
    assert np.abs(_in_units(found.covariance, true.covariance)).max() < 0.45
    assert found.clock_h == pytest.approx(true.clock_h, rel=0.2)
    assert np.abs(_in_units(found.drift_fgs1, true.drift_fgs1)).max() < 0.4
    airs, expected = (np.kron(p.drift_time, p.drift_wavelength) for p in (found, true))
    assert np.abs(_in_units(airs, expected)).max() < 0.4
    assert found.visit_offset == pytest.approx(true.visit_offset, rel=0.35)


def test_correlations_of_orbit_and_limb_darkening_are_learned(learned):
    true, found = learned
    scatter = np.sqrt(np.diag(true.covariance))
    strongest = np.unravel_index(
        np.abs(np.triu(true.covariance / np.outer(scatter, scatter), 1)).argmax(), (9, 9)
    )
    expected = true.covariance[strongest] / scatter[strongest[0]] / scatter[strongest[1]]
    spread = np.sqrt(np.diag(found.covariance))
    correlation = found.covariance[strongest] / spread[strongest[0]] / spread[strongest[1]]
    assert abs(expected) > 0.25
    assert correlation == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("offset", [2e-4, 2e-3, 3e-2])
@pytest.mark.parametrize("part", range(3))
def test_each_disagreement_of_visits_is_learned_apart(rng, offset, part):
    offsets = [1e-3, 1e-3, 1e-3]
    offsets[part] = offset
    true = replace(_population(rng), visit_offset=tuple(offsets))
    planets = [_draw(rng, true, 2, 0.5) for _ in range(60)]
    found = learn_population(first_population(CONFIG, known=True), planets, CONFIG.prior)
    assert found.visit_offset == pytest.approx(offsets, rel=0.5)


def test_evidence_of_offsets_is_the_marginal_likelihood_of_the_data(rng):
    """Ratio of two populations' evidence: Gaussian density of the estimate x = A^-1 b."""
    true = _population(rng)
    planet = _draw(rng, true, 2, 0.7)
    estimate = np.linalg.solve(planet.information, planet.vector)
    error = np.linalg.inv(planet.information)

    def density(population):
        airs = np.kron(population.drift_time, population.drift_wavelength)
        blocks = [population.covariance]
        for _ in range(2):
            blocks += [[[population.clock_h**2]], np.diag(np.square(population.visit_offset))]
            blocks += [population.drift_fgs1, airs]
        total = error.copy()
        start = 0
        for block in blocks:
            end = start + len(block)
            total[start:end, start:end] += block
            start = end
        left = estimate.copy()
        left[:FIXED] -= population.mean
        return -0.5 * (left @ np.linalg.solve(total, left) + np.linalg.slogdet(total)[1])

    other = replace(true, visit_offset=(3e-3, 5e-3, 1e-3))
    seen = _seen_offsets(_prior(true, planet.layout), planet)
    found = _offset_evidence(*seen, np.array(other.visit_offset))
    found -= _offset_evidence(*seen, np.array(true.visit_offset))
    assert found == pytest.approx(density(other) - density(true), rel=1e-6)


def test_planets_that_say_nothing_leave_the_start():
    start = first_population(CONFIG, known=True)
    size = Layout(2, 2, 3).size - 2
    silent = [OrbitEvidence(Layout(2, 2, 3), np.zeros((size, size)), np.zeros(size))] * 3
    found = learn_population(start, silent, CONFIG.prior)
    for name in ("covariance", "drift_fgs1", "drift_time", "drift_wavelength"):
        expected = getattr(start, name)
        tolerance = 1e-3 * np.diag(expected).max()
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-3, atol=tolerance)
    np.testing.assert_array_equal(found.mean, 0.0)
    assert found.clock_h == pytest.approx(start.clock_h)
    assert found.visit_offset == pytest.approx(start.visit_offset)


def test_an_order_of_the_drift_that_is_not_there_loses_its_scatter(rng):
    layout = Layout(1, 2, 3)
    planets = []
    for _ in range(30):
        error = np.full(layout.size - 1, 1e-5)
        x = error * rng.normal(size=error.size)
        x[13] += 0.002 * rng.normal()  # first order of FGS1 and of AIRS-CH0, and no second
        x[15:18] += 0.003 * rng.normal(size=3)
        planets.append(OrbitEvidence(layout, np.diag(error**-2.0), x / error**2))
    start = first_population(CONFIG, known=True)
    found = learn_population(start, planets, CONFIG.prior)
    assert np.sqrt(found.drift_fgs1[0, 0]) == pytest.approx(0.002, rel=0.4)
    assert np.sqrt(found.drift_time[0, 0] * found.drift_wavelength[0, 0]) == pytest.approx(
        0.003, rel=0.4
    )
    for second in (found.drift_fgs1[1, 1], found.drift_time[1, 1] * found.drift_wavelength[0, 0]):
        assert second < (0.01 * start.drift_time[1, 1] ** 0.5) ** 2


def _lesson(number, known, evidence):
    silent = np.zeros((1, *NoiseBelief.first().belief.shape))
    return LabelledEvidence(number, known, evidence, silent, np.zeros(5), np.full(283, 0.01), 0.0)


def test_too_few_planets_of_a_kind_leave_the_settings(rng):
    true = _population(rng)
    fewest = CONFIG.spectrum.fewest_labels
    lessons = [_lesson(i, True, _draw(rng, true, 1, 0.5)) for i in range(fewest - 1)]
    few, start = learn_priors(lessons, CONFIG), first_priors(CONFIG)
    assert few.spectrum is None
    for found, expected in ((few.known, start.known), (few.unknown, start.unknown)):
        assert found.planets == 0
        np.testing.assert_array_equal(found.covariance, expected.covariance)
        assert found.visit_offset == expected.visit_offset


@pytest.mark.parametrize("measured", [0, 5, 25])
def test_labels_without_light_curves_teach_the_spectra_and_nothing_else(rng, measured):
    few = {"components": (2,), "lengths_um": (0.03,)}
    config = CONFIG.model_copy(update={"spectrum": CONFIG.spectrum.model_copy(update=few)})
    true, fewest = _population(rng), config.spectrum.fewest_labels
    labels = 0.012 + 1e-4 * rng.normal(size=(measured + fewest, 283))
    lessons = [
        replace(_lesson(n, True, _draw(rng, true, 1, 0.5)), label=labels[n], log_scale=-9.0)
        for n in range(measured)
    ]
    scales = rng.normal(-9.0, 1.0, fewest)
    scales[0] = np.nan  # its star is in no table
    alone = [
        LabelAlone(n, labels[n], float(scale)) for n, scale in enumerate(scales, start=measured)
    ]
    found, without = learn_priors(lessons, config, alone), learn_priors(lessons, config)
    expected = learn_spectrum_prior(labels, [*[-9.0] * measured, *scales], config.spectrum)
    assert found.spectrum.planets == measured + fewest
    np.testing.assert_array_equal(found.spectrum.components, expected.components)
    assert found.spectrum.amplitude == expected.amplitude
    for own, other in ((found.known, without.known), (found.unknown, without.unknown)):
        assert own.planets == other.planets
        np.testing.assert_array_equal(own.covariance, other.covariance)
    assert found.noise.visits == without.noise.visits == (measured if measured >= fewest else 0)
    assert found.taught_by == {n: label_hash(label) for n, label in enumerate(labels)}
    few = learn_priors(lessons[:5], config, alone[: fewest - 6])
    assert few.spectrum is None
    assert few.taught_by == {}


def test_unknown_stars_start_wider():
    known, unknown = (first_population(CONFIG, known=known) for known in (True, False))
    widening = CONFIG.unknown_star.widening
    np.testing.assert_allclose(unknown.covariance, widening**2 * known.covariance)
    assert unknown.clock_h == known.clock_h == pytest.approx(CONFIG.prior.clock_s / 3600.0)
    assert np.sqrt(known.covariance[1, 1]) == pytest.approx(CONFIG.prior.semi_major_axis)
    assert np.sqrt(known.drift_wavelength[2, 2]) == pytest.approx(
        CONFIG.baseline.wavelength_decay**2
    )


def test_prior_of_a_planet_puts_every_scatter_in_its_place(rng):
    population = _population(rng)
    layout = Layout(2, 2, 3)
    mean, covariance = population.prior(GUESS, [3.0, 4.0], layout, CONFIG)
    unit = _impact_unit(0.4)
    assert mean[0] == pytest.approx(np.log(4.0) + 0.003)
    assert mean[1] == pytest.approx(np.log(9.0) - 0.03)
    assert mean[2] == pytest.approx(0.16 + 0.4 * unit)
    np.testing.assert_allclose(mean[3:9], population.mean[3:])
    assert covariance[2, 2] == pytest.approx(population.covariance[2, 2] * unit**2)
    assert covariance[2, 5] == pytest.approx(population.covariance[2, 5] * unit)
    for visit, middle in enumerate((3.0, 4.0)):
        first = 9 + 13 * visit
        np.testing.assert_array_equal(mean[first : first + 13], [middle] + [0.0] * 12)
        own = covariance[first : first + 13, first : first + 13]
        expected = np.diag([24.0**2, 0.002**2, 8e-5**2, 2e-5**2, 1e-5**2])
        np.testing.assert_allclose(own[:5, :5], expected)
        np.testing.assert_array_equal(own[5:7, 5:7], population.drift_fgs1)
        airs = own[7:, 7:].reshape(2, 3, 2, 3)
        assert airs[0, 1, 1, 2] == pytest.approx(
            population.drift_time[0, 1] * population.drift_wavelength[1, 2]
        )
        rest = np.delete(covariance[first : first + 13], np.s_[first : first + 13], axis=1)
        assert not rest.any()
    narrow = population.prior(GUESS, [3.0], Layout(1, 2, 1), CONFIG)[1]
    np.testing.assert_allclose(
        narrow[16:, 16:], population.drift_time * population.drift_wavelength[0, 0]
    )


def test_impact_scatter_is_that_of_its_square(rng):
    """The unit of b^2 is the scatter that a Gaussian b about the table's would have."""
    for impact in (0.0, 0.4, 0.8):
        guess = replace(GUESS, impact_parameter=impact)
        start = first_population(CONFIG, known=True)
        _, covariance = start.prior(guess, [0.0], Layout(1, 2, 3), CONFIG)
        drawn = (impact + IMPACT_SCATTER * rng.normal(size=200_000)) ** 2
        assert np.sqrt(covariance[2, 2]) == pytest.approx(drawn.std(), rel=0.02)


def test_evidence_is_the_likelihood_with_free_mid_transit_times(rng):
    """For any x, the likelihood maximised over the mid-transit times, up to one constant."""
    layout = Layout(2, 2, 3)
    root = rng.normal(size=(layout.size, 2 * layout.size))
    information, pull = root @ root.T, rng.normal(size=layout.size)
    shared = rng.normal(size=layout.size)
    evidence = make_evidence(GUESS, shared, information, pull, layout, CONFIG)
    mid = [9, 22]
    rest = np.delete(np.arange(layout.size), mid)
    scale = np.ones(layout.size)
    scale[2] = _impact_unit(0.4)
    for visit in range(2):
        scale[layout.offsets(visit)] = GUESS.depth
    centre = np.zeros(layout.size)
    centre[:3] = np.log(4.0), np.log(9.0), 0.16

    def best(x):
        move = np.zeros(layout.size)
        move[rest] = (centre + scale * _filled(x, rest, layout.size) - shared)[rest]
        towards = pull[mid] - information[mid][:, rest] @ move[rest]
        move[mid] = np.linalg.solve(information[mid][:, mid], towards)
        return -0.5 * move @ information @ move + pull @ move

    def own(x):
        return -0.5 * x @ evidence.information @ x + evidence.vector @ x

    nothing = np.zeros(rest.size)
    for _ in range(5):
        x = rng.normal(size=rest.size)
        assert own(x) == pytest.approx(best(x) - best(nothing), rel=1e-9)


def _filled(x, rest, size):
    whole = np.zeros(size)
    whole[rest] = x
    return whole


def test_guess_of_an_orbit_is_that_of_the_table_or_of_the_settings():
    star = Star(1.2, 1.1, 5600.0, 0.9, 0.0, 4.0, 9.0, 88.0)
    guess = guess_orbit(star, CONFIG)
    assert guess.known
    assert guess.impact_parameter == pytest.approx(9.0 * np.sin(np.radians(2.0)))
    np.testing.assert_allclose(
        guess.centre(), [np.log(4.0), np.log(9.0), guess.impact_parameter**2]
    )
    unknown = guess_orbit(None, CONFIG)
    assert not unknown.known
    assert unknown.period_d == CONFIG.unknown_star.period_d


def test_a_planet_beyond_belief_teaches_nothing():
    rng = np.random.default_rng(6)
    true, start = _population(rng), first_population(CONFIG, known=True)
    planets = [_draw(rng, true, 1 + i % 2, 0.5) for i in range(40)]
    lost = _draw(rng, true, 1, 0.1)
    shift = np.zeros(lost.vector.size)
    shift[1] = 40.0 * np.sqrt(start.covariance[1, 1])
    lost = OrbitEvidence(lost.layout, lost.information, lost.vector + lost.information @ shift)
    alone, together = (
        learn_population(start, own, CONFIG.prior) for own in (planets, [*planets, lost])
    )
    assert together.planets == alone.planets == 40
    np.testing.assert_array_equal(together.covariance, alone.covariance)


def test_limb_darkening_that_scatters_beyond_belief_is_given_up(rng):
    start = first_population(CONFIG, known=True)
    usual = replace(_population(rng), mean=np.zeros(FIXED))
    wild = replace(usual, covariance=usual.covariance.copy())
    wild.covariance[5:7, 5:7] *= 36.0  # u1 and u2 of AIRS-CH0
    for true, given_up in ((usual, False), (wild, True)):
        planets = [_draw(rng, true, 1, 0.1) for _ in range(60)]
        found = learn_population(start, planets, CONFIG.prior)
        assert found.gave_up is given_up
        assert np.array_equal(found.covariance, start.covariance) is given_up
        assert np.array_equal(found.mean, start.mean) is given_up
        assert found.clock_h == pytest.approx(true.clock_h, rel=0.3)  # the instrument is learned


def test_stars_of_no_table_have_the_instrument_of_the_others(rng):
    true = _population(rng)
    planets = [
        replace(
            _lesson(n, True, _draw(rng, true, 1, 0.1)), label=0.01 + 1e-4 * rng.normal(size=283)
        )
        for n in range(25)
    ]
    found = learn_priors(planets, CONFIG)
    first = first_priors(CONFIG)
    assert found.unknown.clock_h == found.known.clock_h != first.unknown.clock_h
    np.testing.assert_array_equal(found.unknown.drift_time, found.known.drift_time)
    np.testing.assert_array_equal(found.unknown.covariance, first.unknown.covariance)
