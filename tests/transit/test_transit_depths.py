from dataclasses import replace

import numpy as np
import pytest
import torch
from transit_columns import own_light_curves, small_batch, truth, wide_prior, with_flux
from transit_world import default_config, draw_world, fit_alone, make_curves

from spectramind.transit import depths
from spectramind.transit.depths import (
    Beliefs,
    Likelihood,
    _most_likely,
    _own_drift,
    fit_known,
    fit_spectrum,
    marginalise,
    without_depths,
)
from spectramind.transit.linear import Linear, Normal
from spectramind.transit.parameters import Layout
from spectramind.transit.spectrum_prior import Posterior, PriorOnDevice
from spectramind.transit.spots import Apparent, Spots
from spectramind.transit.time_noise import NoiseBelief
from spectramind.transit.white import SharedPrior, Solution, solve

CONFIG = default_config()


def no_spots(batch) -> Spots:
    planets = len(batch.log_flux)
    return Spots(torch.zeros(planets, batch.depths).double(), torch.zeros(planets).double())


def _positive(rng, planets, size):
    root = rng.normal(size=(planets, size, 2 * size))
    return torch.tensor(root @ root.transpose(0, 2, 1) / size)


def _random_normal(rng, planets=2, columns=4, size=3):
    whole = _positive(rng, planets, columns + size)
    depth = torch.tensor(rng.uniform(20.0, 30.0, (planets, columns)))
    pull = torch.tensor(rng.normal(size=(planets, columns + size)))
    normal = Normal(
        depth=depth,
        cross=whole[:, :columns, columns:],
        shared=whole[:, columns:, columns:] + 5.0 * torch.eye(size).double(),
        depth_pull=pull[:, :columns],
        shared_pull=pull[:, columns:],
        chi2=torch.zeros(planets).double(),
    )
    prior = SharedPrior(
        torch.tensor(rng.normal(size=(planets, size))), _positive(rng, planets, size)
    )
    return normal, prior


def test_marginal_likelihood_is_that_of_the_joint_gaussian(rng):
    normal, prior = _random_normal(rng)
    guess = torch.tensor(rng.normal(size=(2, 4))), torch.tensor(rng.normal(size=(2, 3)))
    found = marginalise(normal, prior, *guess)
    for b in range(2):
        d0, s0 = (part[b].numpy() for part in guess)
        joint = np.block(
            [
                [np.diag(normal.depth[b]), normal.cross[b].numpy()],
                [normal.cross[b].numpy().T, (normal.shared[b] + prior.precision[b]).numpy()],
            ]
        )
        towards = prior.precision[b].numpy() @ (s0 - prior.mean[b].numpy())
        gradient = np.concatenate(
            [normal.depth_pull[b].numpy(), normal.shared_pull[b].numpy() - towards]
        )
        covariance = np.linalg.inv(joint)
        mean = np.concatenate([d0, s0]) + covariance @ gradient
        own = covariance[:4, :4]
        information = found.information[b].numpy()
        np.testing.assert_allclose(information, np.linalg.inv(own), atol=1e-9)
        np.testing.assert_allclose(np.linalg.solve(information, found.vector[b]), mean[:4])
        np.testing.assert_allclose(found.covariance[b], np.linalg.inv(joint[4:, 4:]))
        np.testing.assert_allclose(
            found.response[b], -covariance[4:, :4] @ np.linalg.inv(own), atol=1e-12
        )
        at_best = found.centre[b].numpy() - found.response[b].numpy() @ (mean[:4] - d0)
        np.testing.assert_allclose(at_best, mean[4:])


@pytest.fixture
def case(rng):
    layout = Layout(visits=2, time_order=2, wavelength_terms=2)
    batch = small_batch(rng, columns=8, bins=80)
    depth, shared = truth(rng, layout, columns=8, drift=2e-3)
    star = torch.tensor(rng.normal(size=(2, 2, 8, 1)))
    return layout, own_light_curves(batch, layout, depth, shared, star=star), depth, shared


def _start(case):
    """A white-light solution beside the truth: two depths, no drift yet."""
    layout, batch, depth, shared = case
    near = shared.clone()
    near[:, :3] += torch.tensor([3e-3, 0.02, 0.03], dtype=torch.float64)
    near[:, 3:9] = 0.0
    for visit in range(2):
        near[:, layout.drift(visit)] = 0.0
        near[:, layout.times(visit).start] += 0.02
    two = torch.stack([depth[:, 0], depth[:, 1:].mean(1)], 1) * 1.01
    mean = near.clone()
    return Solution(
        two, near, Linear(batch, layout).normal(depth, near), torch.zeros(2).double()
    ), mean


def test_noise_free_light_curves_give_their_depths_back(case):
    layout, batch, depth, shared = case
    start, mean = _start(case)
    fit = fit_spectrum(
        batch,
        layout,
        Beliefs(wide_prior(mean, layout), None, NoiseBelief.first(), no_spots(batch)),
        torch.zeros(2).double(),
        start,
        CONFIG,
    )
    assert (fit.depth - depth).abs().max() < 5e-7
    assert fit.change.max() < 1e-7
    assert (start.depth[:, 1:] - depth[:, 1:]).abs().max() > 1e-4
    times = [layout.times(visit).start for visit in range(2)]
    assert (fit.shared - shared)[:, times].abs().max() < 1e-4
    drift = layout.drift(1)
    assert (fit.shared - shared)[:, drift].abs().max() < 1e-5
    assert (fit.shared_covariance - fit.likelihood.covariance).diagonal(
        dim1=-2, dim2=-1
    ).min() >= 0.0


def test_depths_scatter_as_their_covariance_says(rng):
    layout = Layout(visits=1, time_order=1, wavelength_terms=1)
    empty = small_batch(rng, planets=30, visits=1, columns=6, bins=80, noise=3e-4)
    depth, shared = truth(rng, layout, planets=30, columns=6)
    scatter = np.array([3e-3, 0.02, 0.03, *[0.03] * 6, 24.0, 0.01, *[2e-5] * 3, 1e-3, 1e-3])
    mean = shared.clone()
    drawn = scatter * rng.normal(size=shared.shape)
    drawn[:, layout.times(0).start] = 0.0
    shared = mean + torch.tensor(drawn)
    precision = torch.diag(torch.tensor(scatter) ** -2.0).expand(30, -1, -1)
    clean = own_light_curves(empty, layout, depth, shared)
    noise = torch.tensor(rng.normal(size=empty.weight.shape)) * empty.weight**-0.5
    batch = with_flux(clean, clean.log_flux + noise)
    two = torch.stack([depth[:, 0], depth[:, 1:].mean(1)], 1)
    start = Solution(
        two, mean, Linear(batch, layout).normal(depth, mean), torch.zeros(30).double()
    )
    fit = fit_spectrum(
        batch, layout,
        Beliefs(SharedPrior(mean, precision), None, NoiseBelief.white(), no_spots(batch)),
        torch.zeros(30).double(), start,
        CONFIG,
    )  # fmt: skip
    error = (fit.depth - depth)[..., None]
    lower = torch.linalg.cholesky(fit.posterior.covariance)
    z = torch.linalg.solve_triangular(lower, error, upper=False)
    assert 0.7 < float((z**2).mean()) < 1.35


def test_outliers_and_wrong_noise_are_found_out(case, rng):
    layout, batch, depth, _ = case
    start, mean = _start(case)
    flux = batch.log_flux + 1e-4 * torch.tensor(rng.normal(size=batch.log_flux.shape))
    flux[0, 0, 3, 40] += 0.02
    spoiled = with_flux(batch, flux)
    spoiled = replace(spoiled, weight=torch.full_like(spoiled.weight, 25e8))  # 2e-5 claimed
    fit = fit_spectrum(
        spoiled,
        layout,
        Beliefs(wide_prior(mean, layout), None, NoiseBelief.first(), no_spots(batch)),
        torch.zeros(2).double(),
        start,
        CONFIG,
    )
    weight = fit.linear.batch.weight
    assert weight[0, 0, 3, 40] == 0.0
    found = weight.amax(-1) ** -0.5
    assert 0.7e-4 < found.min() < found.max() < 1.4e-4
    assert (weight == 0.0).sum() < 10
    z = (fit.depth - depth) / fit.posterior.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert z.abs().max() < 4.5


class _Zero(PriorOnDevice):
    """A prior over spectra that is sure of zero depth."""

    def __init__(self):
        pass

    def gaussian(self, amplitude, scale):  # noqa: ARG002
        return torch.zeros(8).double(), 1e-20 * torch.eye(8).double()

    def posterior(self, information, vector, log_scale):
        assert information.shape == (*vector.shape, vector.shape[1])
        size = vector.shape[1]
        tight = 1e-20 * torch.eye(size).to(vector).expand(len(vector), -1, -1)
        return Posterior(torch.zeros_like(vector), tight, log_scale, log_scale)


def test_a_sure_prior_over_spectra_outweighs_the_light_curves(case):
    layout, batch, _, _ = case
    start, mean = _start(case)
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)
    result = fit_spectrum(
        batch,
        layout,
        Beliefs(wide_prior(mean, layout), _Zero(), NoiseBelief.first(), no_spots(batch)),
        scale,
        start,
        CONFIG,
    )
    assert result.depth.max() <= 1e-7
    assert torch.equal(result.posterior.log_amplitude, scale)


def test_shared_parameters_of_a_known_spectrum_are_found(rng):
    layout = Layout(visits=1, time_order=2, wavelength_terms=2)
    empty = small_batch(rng, planets=1, visits=1, columns=283, bins=40)
    depth, shared = truth(rng, layout, planets=1, columns=283, drift=1e-3)
    batch = own_light_curves(empty, layout, depth, shared)
    off = shared.clone()
    off[:, :3] += torch.tensor([2e-3, 0.01, 0.02], dtype=torch.float64)
    off[:, layout.drift(0)] = 0.0
    prior = wide_prior(off, layout)
    found, _ = fit_known(batch, layout, prior, depth, off, CONFIG)
    assert torch.equal(found.depth, depth)
    drift, times = layout.drift(0), layout.times(0)
    assert (found.shared - shared)[:, drift].abs().max() < 1e-5
    assert (found.shared - shared)[:, times].abs().max() < 1e-3
    held = solve(Linear(batch, layout), depth, off, prior, free_depth=False, steps=CONFIG.passes)
    assert torch.equal(held.depth, depth)
    assert held.cost < 0.01 * (Linear(batch, layout).normal(depth, off).chi2)


def test_a_planet_held_at_the_centre_of_the_star_is_the_conditional_gaussian(rng):
    """b^2 would fall below 0: all others are given that it is 0."""
    columns, size, planets = 4, 5, 2
    response = torch.tensor(rng.normal(size=(planets, size, columns)))
    local, spread = 0.01 * _positive(rng, planets, size), 1e-6 * _positive(rng, planets, columns)
    centre = torch.tensor([[0.0, 0.0, -0.05, 0.3, 0.1], [0.0, 0.0, 0.05, 0.3, 0.1]]).double()
    likelihood = Likelihood(
        information=torch.zeros(planets, columns, columns).double(),
        vector=torch.zeros(planets, columns).double(),
        centre=centre, response=response, covariance=local,
    )  # fmt: skip
    depth = torch.full((planets, columns), 0.01).double()
    mean = depth + 1e-4 * torch.tensor(rng.normal(size=(planets, columns)))
    apparent = Apparent(mean, spread, spread)
    prior = SharedPrior(
        torch.zeros(planets, size).double(), torch.eye(size).double().expand(2, -1, -1)
    )
    held, shared = _most_likely(likelihood, apparent, depth, prior)
    new = mean - (held[:, None] @ spread)[:, 0]
    for b in range(planets):
        r, s = response[b].numpy(), spread[b].numpy()
        joint = np.block([[s, -s @ r.T], [-r @ s, local[b].numpy() + r @ s @ r.T]])
        best = np.concatenate([mean[b], centre[b].numpy() - r @ (mean[b] - depth[b]).numpy()])
        place = columns + 2
        best = best + joint[:, place] / joint[place, place] * max(0.0, -best[place])
        np.testing.assert_allclose(new[b], best[:columns], rtol=1e-9)
        np.testing.assert_allclose(shared[b], best[columns:], atol=1e-9)
    assert shared[0, 2] == 0.0
    assert shared[1, 2] > 0.0


def test_a_drift_far_stronger_than_usual_is_followed(rng):
    """FGS1 drifts by ten times its prior, about as uncertain as that prior is wide."""
    layout = Layout(visits=1, time_order=2, wavelength_terms=1)
    empty = small_batch(rng, planets=1, visits=1, columns=4, bins=80, noise=0.03)
    depth, shared = truth(rng, layout, planets=1, columns=4)
    first = layout.drift(0).start
    shared[0, first : first + 2] = torch.tensor([0.1, -0.1], dtype=torch.float64)
    clean = own_light_curves(empty, layout, depth, shared)
    noise = torch.tensor(rng.normal(size=empty.weight.shape)) * empty.weight**-0.5
    batch = with_flux(clean, clean.log_flux + noise)
    mean = shared.clone()
    mean[:, layout.drift(0)] = 0.0
    two = torch.stack([depth[:, 0], depth[:, 1:].mean(1)], 1)
    start = Solution(two, mean, Linear(batch, layout).normal(depth, mean), torch.zeros(1).double())
    error = []
    for typical in (2.0, 1e6):
        config = default_config(baseline__typical=typical)
        fit = fit_spectrum(
            batch,
            layout,
            Beliefs(wide_prior(mean, layout), None, NoiseBelief.first(), no_spots(batch)),
            torch.zeros(1).double(),
            start,
            config,
        )
        error.append(float((fit.shared - shared)[0, first : first + 2].norm()))
    assert error[0] < 0.5 * error[1]


def test_each_visit_and_channel_has_a_drift_of_its_own_strength():
    layout = Layout(visits=2, time_order=2, wavelength_terms=3)
    shared = torch.zeros(1, layout.size).double()
    prior = wide_prior(shared, layout)
    first = layout.drift(1).start
    shared[:, first : first + 2] = 0.01 * 3.0  # FGS1 of the second visit: thrice the usual
    covariance = torch.zeros(1, layout.size, layout.size).double()
    airs = torch.arange(layout.drift(0).start + 2, layout.drift(0).stop)
    covariance[:, airs, airs] = 0.01**2  # AIRS-CH0 of the first: no more known than the usual
    before = prior.precision.clone()
    found = _own_drift(prior, layout, shared, covariance, CONFIG)
    ratio = (found.precision / prior.precision).diagonal(dim1=-2, dim2=-1)[0]
    assert torch.equal(prior.precision, before)
    typical = CONFIG.baseline.typical
    expected = torch.ones(layout.size).double()
    expected[first : first + 2] = (2 + typical) / (2 * 9.0 + typical)
    for start, count in ((layout.drift(0).start, 2), (first + 2, 6)):
        expected[start : start + count] = (count + typical) / typical  # none was seen
    np.testing.assert_allclose(ratio, expected)


def test_shared_parameters_without_depths_are_those_of_the_joint_gaussian(rng):
    normal, _ = _random_normal(rng)
    depth = torch.tensor(rng.normal(size=4))
    mean, covariance = torch.tensor(rng.normal(size=4)), _positive(rng, 1, 4)[0]
    information, pull = without_depths(normal, 0, (mean, covariance), depth)
    precision = torch.linalg.inv(covariance)
    whole = torch.diag(normal.depth[0]) + precision
    gain = torch.linalg.solve(whole, normal.cross[0]).T
    towards = normal.depth_pull[0] + precision @ (mean - depth)
    expected = normal.shared[0] - gain @ normal.cross[0]
    np.testing.assert_allclose(information, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(pull, normal.shared_pull[0] - gain @ towards, rtol=1e-9)


def test_shapes_are_searched_first_only_once_the_transit_is_found(monkeypatch):
    """Near a transit that was not found yet they would pass for it."""
    asked, hear = [], depths.find_noise

    def heard(*words, shapes_first):
        asked.append(shapes_first)
        return hear(*words, shapes_first=shapes_first)

    monkeypatch.setattr(depths, "find_noise", heard)
    world, quick = draw_world(1), default_config(bin_s=900.0, scan__starts=1, passes=6)
    fit_alone([make_curves(world, factor=90)], world.table, quick)
    assert asked == [False, True]
