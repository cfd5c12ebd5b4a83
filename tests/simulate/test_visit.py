import numpy as np
import pytest

from spectramind.instrument import AIRS, FGS1
from spectramind.simulate.population import draw_planet
from spectramind.simulate.visit import GainDrift, draw_visit, stamps_h

MERGED = 225


def visit_of(config, index=0, number=0):
    planet = draw_planet(1, "train", index, 0.0, config.population)
    return planet, draw_visit(1, planet, number, MERGED, config.effects, config.visit)


def all_off(make_settings):
    names = type(make_settings().effects).model_fields
    return make_settings(effects=dict.fromkeys(names, False))


def test_gain_drift_has_its_amplitude_and_separates():
    drift = GainDrift(0.01, (0.3, -0.5, 0.2), (0.7, 0.4))
    gain = drift.gain(np.linspace(0, 1, 50), 356)
    assert np.ptp(gain) == pytest.approx(0.01)
    assert np.linalg.matrix_rank(gain - 1.0, tol=1e-9) == 1


def test_switched_off_nothing_moves(make_settings):
    planet, visit = visit_of(all_off(make_settings))
    for channel in (FGS1, AIRS):
        np.testing.assert_array_equal(visit.pointing(channel), 0.0)
        np.testing.assert_array_equal(visit.modes[channel.name][0], 1.0)
        assert visit.drift[channel.name].amplitude == 0.0
        assert visit.edge[channel.name] == (1.0, 1.0)
    assert visit.clock_offset_s == 0.0
    assert visit.partial == planet.is_partial(visit.mid_time_h)


def test_one_switch_leaves_the_other_draws_alone(make_settings):
    _, full = visit_of(make_settings())
    _, without = visit_of(make_settings(effects={"jitter": False}))
    assert full.mid_time_h == without.mid_time_h
    assert full.drift == without.drift
    np.testing.assert_array_equal(full.modes["FGS1"][5], without.modes["FGS1"][5])


def test_jitter_has_its_rms_at_full_cadence(make_settings):
    config = make_settings()
    planet = draw_planet(1, "train", 0, 0.0, config.population)
    visit = draw_visit(1, planet, 0, 1, config.effects, config.visit)
    assert visit.pointing(FGS1).std() == pytest.approx(0.03, rel=0.05)
    merged = visit.modes["FGS1"][1].reshape(AIRS.pairs, -1).mean(1)
    np.testing.assert_allclose(visit.modes["AIRS-CH0"][1], merged, atol=1e-6)


def test_a_partial_transit_leaves_the_window(make_settings):
    config = make_settings(visit={"partial_probability": 1.0})
    for index in range(10):
        planet, visit = visit_of(config, index)
        assert visit.partial
        assert planet.is_partial(visit.mid_time_h)
    never = make_settings(effects={"partial_transits": False}, visit={"partial_probability": 1.0})
    assert not any(
        visit_of(never, i)[1].partial for i in range(10) if visit_of(never, i)[0].duration_h < 7.0
    )


def test_two_visits_differ(make_settings):
    config = make_settings()
    first, second = visit_of(config, number=0)[1], visit_of(config, number=1)[1]
    assert first.drift != second.drift
    assert first.mid_time_h != second.mid_time_h


def test_merged_stamps_keep_the_mean_time():
    for channel in (FGS1, AIRS):
        full = stamps_h(channel, 1)
        assert full[0] * 3600.0 == pytest.approx(0.15)
        np.testing.assert_allclose(
            stamps_h(channel, MERGED), full.reshape(-1, MERGED).mean(1), rtol=1e-12
        )
