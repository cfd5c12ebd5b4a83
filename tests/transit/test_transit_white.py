from dataclasses import replace

import numpy as np
import pytest
import torch
from transit_columns import own_light_curves, small_batch, truth, wide_prior, with_flux
from transit_world import default_config

from spectramind.transit.binning import BinnedVisit
from spectramind.transit.columns import make_white_columns
from spectramind.transit.flux import separation, transit_flux
from spectramind.transit.linear import Linear
from spectramind.transit.parameters import Layout
from spectramind.transit.shared_prior import Guess, first_population
from spectramind.transit.white import (
    SharedPrior,
    bounded,
    first_guesses,
    fit_white,
    fit_with_jumps,
    solve,
    stack_priors,
    steady,
    without_jumps,
    without_spikes,
)

CONFIG = default_config()
PERIOD, AXIS, IMPACT, DEPTH = 4.0, 9.0, 0.3, 0.01
LIMB = np.array([0.15, 0.25])
NOISE = 5e-5


def _binned(rng, mid_h, *, clock_h=0.01, visit=0, bins=150, drift=0.004) -> BinnedVisit:
    """White light of a transit with drift and noise; AIRS-CH0 alike at all wavelengths."""
    width = 7.5 / bins
    time = (np.arange(bins) + 0.5) * width

    samples = time[:, None] + width * ((np.arange(15) + 0.5) / 15 - 0.5)

    def light(own_mid):
        z = separation(
            torch.tensor(samples - own_mid),
            t0_h=0.0, period_d=PERIOD, semi_major_axis_rs=AXIS, impact_parameter=IMPACT,
        )  # fmt: skip
        radius = torch.tensor(DEPTH, dtype=torch.float64).sqrt()
        flux = transit_flux(z, radius, *LIMB).mean(-1).numpy()
        tau = 2.0 * (time - time[0]) / (time[-1] - time[0]) - 1.0
        slope, bend = drift * rng.normal(size=2)
        return flux * (1.0 + slope * tau + 0.5 * bend * (2.0 * tau**2 - 1.0))

    airs = light(mid_h) * (1.0 + NOISE * rng.normal(size=bins))
    fgs1 = light(mid_h + clock_h) * (1.0 + NOISE * rng.normal(size=bins))
    airs, fgs1 = airs / np.median(airs), fgs1 / np.median(fgs1)
    return BinnedVisit(
        visit=visit, airs_time_h=time, fgs1_time_h=time, width_h=width,
        airs=np.repeat(airs[:, None], 282, axis=1), airs_white=airs, fgs1=fgs1,
        white_share=np.full(282, 1.0 / 282), lit=np.ones(282, dtype=bool), columns=282,
        electrons=np.full(283, 1e6), airs_noise=NOISE, fgs1_noise=NOISE,
        fine_time_h=time, fine_fgs1=fgs1, fine_centroid=np.zeros((bins, 2)),
    )  # fmt: skip


def _fit(planets, guess):
    visits = len(planets[0])
    layout = Layout(visits, len(CONFIG.baseline.scatter), 1)
    population = first_population(CONFIG, known=True)
    own = population.prior(guess, [3.75] * visits, layout, CONFIG)
    prior = stack_priors([own] * len(planets), torch.device("cpu"))
    limb = np.broadcast_to(LIMB, (len(planets), 283, 2)).copy()
    batch = make_white_columns(planets, limb, CONFIG)
    solution, linear = fit_white(batch, layout, prior, planets, [guess] * len(planets), CONFIG)
    return layout, prior, solution, linear


GUESS = Guess(5500.0, 1.01 * PERIOD, 0.93 * AXIS, 0.35, known=True)


def test_transits_far_from_the_middle_of_the_window_are_found(rng):
    mids = (1.9, 3.75, 5.6)
    layout, _, solution, linear = _fit([[_binned(rng, mid)] for mid in mids], GUESS)
    start = layout.times(0).start
    np.testing.assert_allclose(solution.shared[:, start], mids, atol=0.01)
    np.testing.assert_allclose(solution.shared[:, start + 1], 0.01, atol=0.005)
    error = solution.depth.numpy() - DEPTH
    assert np.abs(error).max() < 1e-4
    reduced = solution.normal.chi2.numpy() / (linear.batch.weight > 0).sum((1, 2, 3)).numpy()
    assert ((reduced > 0.6) & (reduced < 1.3)).all()


def test_transits_of_which_only_a_part_is_seen_are_found(rng):
    mids = (0.2, 1.3, 6.4)
    layout, _, solution, _ = _fit([[_binned(rng, mid, drift=5e-4)] for mid in mids], GUESS)
    np.testing.assert_allclose(solution.shared[:, layout.times(0).start], mids, atol=0.15)
    np.testing.assert_allclose(solution.depth[:, 1], DEPTH, rtol=0.1)


def test_visits_have_times_of_their_own_and_one_orbit(rng):
    planet = [_binned(rng, 2.5), _binned(rng, 5.1, clock_h=-0.02, visit=1)]
    layout, _, solution, _ = _fit([planet], GUESS)
    times = [solution.shared[0, layout.times(visit)].tolist() for visit in range(2)]
    np.testing.assert_allclose(times, [[2.5, 0.01], [5.1, -0.02]], atol=0.006)
    log_orbit = solution.shared[0, :2].numpy()
    np.testing.assert_allclose(log_orbit, np.log([PERIOD, AXIS]), atol=0.08)


def test_a_flare_is_left_out(rng):
    visit = _binned(rng, 3.6)
    airs = visit.airs_white.copy()
    airs[[10, 75]] += 0.002
    layout, _, solution, linear = _fit([[replace(visit, airs_white=airs)]], GUESS)
    weight = linear.batch.weight[0, 0, 1]
    assert weight[[10, 75]].tolist() == [0.0, 0.0]
    assert (weight == 0.0).sum() < 5
    assert float(solution.shared[0, layout.times(0).start]) == pytest.approx(3.6, abs=0.01)
    assert float(solution.depth[0, 1]) == pytest.approx(DEPTH, rel=0.02)


def test_first_guesses_stand_at_the_transit_best_first(rng):
    visits = [[_binned(rng, 1.6)], [_binned(rng, 6.0)]]
    layout = Layout(1, len(CONFIG.baseline.scatter), 1)
    own = first_population(CONFIG, known=True).prior(GUESS, [3.75], layout, CONFIG)
    prior = stack_priors([own] * 2, torch.device("cpu"))
    depth, shared = first_guesses(visits, [GUESS] * 2, prior, layout, CONFIG)
    assert depth.shape == (2, CONFIG.scan.starts + 1, 2)
    assert torch.equal(shared[:, -1], prior.mean)  # the last start is the expected orbit
    depth, shared = depth[:, :-1], shared[:, :-1]
    times = shared[:, :, layout.times(0).start]
    np.testing.assert_allclose(times[:, 0], [1.6, 6.0], atol=3 * CONFIG.scan.step_h)
    assert ((depth > 0.5 * DEPTH) & (depth < 2.0 * DEPTH)).all()
    assert len(set(shared[0, :, 2].tolist())) == CONFIG.scan.starts  # impact parameters differ


def _problem(rng, planets=3):
    layout = Layout(visits=1, time_order=2, wavelength_terms=1)
    empty = small_batch(rng, planets=planets, visits=1, columns=2, noise=3e-4)
    depth, shared = truth(rng, layout, planets=planets, columns=2, drift=1e-3)
    clean = own_light_curves(empty, layout, depth, shared)
    noise = 3e-4 * torch.tensor(rng.normal(size=empty.log_flux.shape))
    return layout, with_flux(clean, clean.log_flux + noise), depth, shared


@pytest.mark.parametrize("free_depth", [True, False])
def test_cost_never_rises_and_is_that_of_data_and_prior(rng, free_depth):
    layout, batch, depth, shared = _problem(rng)
    linear, prior = Linear(batch, layout), wide_prior(shared, layout)
    for steps in (0, 1, 2, 5):
        for reach in (0.1, 2.0):
            begin = shared.clone()
            begin[:, 9] += torch.tensor(reach * rng.normal(size=len(shared)))
            begin[:, :2] += torch.tensor(0.05 * rng.normal(size=(len(shared), 2)))
            first = torch.full_like(depth, 0.02)
            before = linear.normal(first, begin).chi2 + prior.chi2(begin)
            found = solve(linear, first, begin, prior, free_depth=free_depth, steps=steps)
            assert (found.cost <= before).all()
            again = linear.normal(found.depth, found.shared)
            np.testing.assert_allclose(found.cost, again.chi2 + prior.chi2(found.shared))
            np.testing.assert_allclose(found.normal.shared_pull, again.shared_pull, rtol=1e-6)
            if not free_depth:
                assert torch.equal(found.depth, first)


def test_solution_is_where_the_gradient_vanishes(rng):
    layout, batch, depth, shared = _problem(rng)
    linear, prior = Linear(batch, layout), wide_prior(shared, layout)
    begin = shared.clone()
    begin[:, 9] += 0.1
    first = linear.normal(0.9 * depth, begin)
    found = solve(linear, 0.9 * depth, begin, prior, free_depth=True, steps=60)
    pull = found.normal.shared_pull + prior.pull(found.shared)
    error = (found.normal.shared + prior.precision).diagonal(dim1=-2, dim2=-1).sqrt()
    assert (found.normal.depth_pull / found.normal.depth.sqrt()).abs().max() < 0.3
    assert (pull / error).abs().max() < 0.3  # in sigma
    assert (found.cost < 0.2 * first.chi2).all()
    assert (found.depth - depth).abs().max() < 1e-3


def test_a_far_start_reaches_the_same_minimum_and_then_stops(rng, monkeypatch):
    layout, batch, depth, shared = _problem(rng)
    linear, prior = Linear(batch, layout), wide_prior(shared, layout)
    near = solve(linear, depth, shared, prior, free_depth=True, steps=60)
    calls = []
    own = linear.normal
    monkeypatch.setattr(linear, "normal", lambda *guess: calls.append(1) or own(*guess))
    begin = shared.clone()
    begin[:, 9] += torch.tensor([0.9, -0.9, 0.6], dtype=torch.float64)
    far = solve(linear, 0.3 * depth, begin, prior, free_depth=True, steps=60)
    assert (far.cost - near.cost).abs().max() < 0.1
    assert 3 < len(calls) < 40


def test_planets_of_a_batch_do_not_touch_each_other(rng):
    layout, batch, depth, shared = _problem(rng)
    prior = wide_prior(shared, layout)
    begin = shared.clone()
    begin[:, 9] += torch.tensor([0.02, 0.3, -0.1], dtype=torch.float64)
    together = solve(Linear(batch, layout), depth, begin, prior, free_depth=True, steps=40)
    for b in range(3):
        row = torch.tensor([b])
        one = replace(
            batch,
            time_h=batch.time_h[row],
            tau=batch.tau[row],
            log_flux=batch.log_flux[row],
            weight=batch.weight[row],
            limb=batch.limb[row],
        )
        alone = solve(
            Linear(one, layout), depth[row], begin[row], prior.take(row), free_depth=True, steps=40
        )
        np.testing.assert_allclose(together.depth[row], alone.depth, rtol=1e-8)
        np.testing.assert_allclose(together.cost[row], alone.cost, rtol=1e-9)


def test_prior_is_a_gaussian_with_its_gradient(rng):
    means, covariances = rng.normal(size=(2, 4)), []
    for _ in range(2):
        root = rng.normal(size=(4, 8))
        covariances.append(root @ root.T)
    prior = stack_priors(list(zip(means, covariances, strict=True)), torch.device("cpu"))
    x = torch.tensor(rng.normal(size=(2, 4)), requires_grad=True)
    chi2 = prior.chi2(x)
    left = x.detach().numpy() - means
    expected = [own @ np.linalg.solve(c, own) for own, c in zip(left, covariances, strict=True)]
    np.testing.assert_allclose(chi2.detach(), expected)
    (slope,) = torch.autograd.grad(chi2.sum(), x)
    np.testing.assert_allclose(prior.pull(x.detach()), -0.5 * slope)
    turned = prior.take(torch.tensor([1, 0, 1]))
    np.testing.assert_array_equal(turned.mean, means[[1, 0, 1]])


def test_orbits_stay_within_reach_of_the_table():
    mean = torch.zeros(1, 10).double()
    prior = SharedPrior(mean, torch.eye(10).double()[None])
    far = torch.full((1, 10), 5.0).double()
    held = bounded(far, prior)[0]
    assert held[:3].tolist() == pytest.approx([0.2, 1.2, 1.44])
    assert held[3:].tolist() == [5.0] * 7
    below = bounded(-far, prior)[0]
    assert below[:3].tolist() == pytest.approx([-0.2, -1.2, 0.0])


def test_steady_values_are_those_near_the_model(rng):
    layout, batch, depth, shared = _problem(rng)
    flux = batch.log_flux.clone()
    flux[1, 0, 1, 7] -= 0.01
    weight = batch.weight.clone()
    weight[2, 0, 0, 3] = 0.0
    linear = Linear(replace(batch, log_flux=flux, weight=weight), layout)
    used = steady(linear.batch, linear.residual(linear.curves(depth, shared)), 6.0)
    assert not used[1, 0, 1, 7]
    assert not used[2, 0, 0, 3]
    assert (~used).sum() == 2


def test_running_median_takes_single_spikes_and_leaves_slopes():
    slope = np.linspace(0.0, 1.0, 9)
    np.testing.assert_array_equal(without_spikes(slope)[1:-1], slope[1:-1])
    spiked = slope.copy()
    spiked[[0, 4]] += 5.0
    assert without_spikes(spiked).max() <= 1.0


def _jumped(visit: BinnedVisit, size: float, *, share: float) -> BinnedVisit:
    """AIRS-CH0 brighter from a third of the visit on; one bin holds both levels."""
    step, place = np.zeros_like(visit.airs_white), visit.airs_white.size // 3
    step[place], step[place + 1 :] = share * size, size
    return replace(visit, airs_white=visit.airs_white + step)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_jumps_are_taken_out_and_a_transit_stays(rng, share):
    visit = _binned(rng, 3.7)
    calm, jumps = without_jumps(visit)
    assert jumps == 0
    np.testing.assert_array_equal(calm.airs_white, visit.airs_white)
    mended, jumps = without_jumps(_jumped(visit, 0.05, share=share))
    assert jumps == 1
    np.testing.assert_allclose(mended.airs_white, visit.airs_white, atol=1e-3)


def test_a_jump_does_not_move_the_transit(rng):
    visit = _binned(rng, 3.7)
    planets = [[visit], [_jumped(visit, 0.05, share=0.4)]]

    def begin(planets):
        return _fit(planets, GUESS)[2:]

    solution, used = fit_with_jumps(begin, planets, CONFIG.failure.chi2)
    assert used.shape == (2, 1, 2, 150)
    np.testing.assert_allclose(solution.shared[:, 9], 3.7, atol=0.01)
    assert abs(solution.depth[1] - solution.depth[0]).max() < 3e-4
    least_squares = begin(planets)[0]
    assert abs(least_squares.depth[1] - least_squares.depth[0]).max() > 5e-3
    assert torch.equal(least_squares.depth[0], solution.depth[0])
