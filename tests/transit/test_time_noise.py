"""Noise that is correlated in time: found, believed in proportion, and marginalised exactly."""

import numpy as np
import pytest
import torch
from transit_columns import own_light_curves, small_batch, truth, with_flux

from spectramind.transit.linear import Linear
from spectramind.transit.parameters import Layout
from spectramind.transit.time_noise import (
    COLOURS,
    MODES,
    NoiseBelief,
    Projected,
    TimeNoise,
    colour_modes,
    learn_belief,
    process_covariance,
    root_of,
)

BINS = 150
TIME_H = np.linspace(0.02, 7.4, BINS)
OUTSIDE = np.abs(TIME_H - 3.7) > 1.2


def seen(series, *, inside=0.0):
    """One mode of a light curve; a transit of a depth known to 1 in units of the noise."""
    shape = np.where(OUTSIDE, 0.0, 1.0)
    design = torch.tensor((shape - shape.mean())[None, :, None])
    series = series - series.mean() + inside * design[0, :, 0].numpy()
    times = torch.tensor(np.stack([TIME_H]))
    return Projected(design, torch.tensor(series[None]), torch.ones(1, BINS).double(), times)


def total(series, belief=None, size=1e4, *, shapes_first=True):
    """Mean covariance of the process where the depth is known to `size`."""
    known, belief = torch.tensor([[size**2]]).double(), belief or NoiseBelief.first()
    found, _, evidence = process_covariance(seen(series), known, belief, shapes_first=shapes_first)
    return found[0].numpy(), evidence[:, 0].numpy()


def ornstein_uhlenbeck(rng, scatter, tau_h):
    lag = np.abs(np.subtract.outer(TIME_H, TIME_H))
    return rng.multivariate_normal(np.zeros(BINS), scatter**2 * np.exp(-lag / tau_h))


def test_white_noise_stays_white(rng):
    """Sizes that the light curves exclude have no say, however large they are."""
    found = [total(rng.standard_normal(BINS))[0] for _ in range(10)]
    assert np.median([np.diag(own).mean() for own in found]) < 0.1
    assert max(np.diag(own).mean() for own in found) < 1.0


@pytest.mark.parametrize(("scatter", "tau_h"), [(3.0, 0.15), (3.0, 0.5), (10.0, 1.0)])
def test_red_noise_is_found_with_its_strength(rng, scatter, tau_h):
    variance = [
        np.diag(total(rng.standard_normal(BINS) + ornstein_uhlenbeck(rng, scatter, tau_h))[0])
        for _ in range(8)
    ]
    assert 0.3 * scatter < np.sqrt(np.mean(variance)) < 2.5 * scatter


@pytest.mark.parametrize("size", [20.0, 300.0])
def test_a_step_widens_what_a_step_hides_and_nothing_else(rng, size):
    jump = size * (TIME_H > 4.4)
    found, _ = total(rng.standard_normal(BINS) + jump)
    step = (TIME_H > 4.4) - np.mean(TIME_H > 4.4)
    along = step @ found @ step / (step @ step) ** 2
    assert 0.5 * size**2 < along < 3.0 * size**2
    fast = np.where(np.arange(BINS) % 2, 1.0, -1.0) / np.sqrt(BINS)
    fast = fast - (fast @ step) / (step @ step) * step
    assert fast @ found @ fast < 3.0


def hidden(found):
    """By how many components the information is less."""
    return float(root_of(torch.tensor(found)).square().sum())


def left_of(found, series):
    """What is left of a series where the process with this covariance is subtracted."""
    root = root_of(torch.tensor(found)).numpy()
    series = series - series.mean()
    return series - root @ (root.T @ series)


@pytest.mark.parametrize("periods_h", [(0.31,), (0.9,), (0.33, 1.7)])
def test_waves_of_any_frequency_and_phase_are_found_and_hide_little_else(rng, periods_h):
    wave = sum(20.0 * np.sin(2.0 * np.pi * TIME_H / period + 0.8) for period in periods_h)
    found, _ = total(rng.standard_normal(BINS) + wave)
    assert np.abs(left_of(found, wave)).max() < 3.0
    assert hidden(found) < 6.0 * len(periods_h)


def test_several_jumps_hide_no_more_than_jumps_do(rng):
    jumps = 30.0 * (TIME_H > 1.1) - 50.0 * (TIME_H > 4.9)
    series = rng.standard_normal(BINS) + jumps
    found, kernel = (total(series, shapes_first=own)[0] for own in (True, False))
    assert np.abs(left_of(found, jumps)).max() < 5.0
    assert hidden(found) < 0.1 * hidden(kernel)


def test_a_ramp_is_told_from_a_transit(rng):
    ramp = 40.0 * np.exp(-TIME_H / 0.5)
    found, _ = total(rng.standard_normal(BINS) + ramp)
    root = root_of(torch.tensor(found)).numpy()
    smoother = root @ np.swapaxes(root, -1, -2)
    left = (np.eye(BINS) - smoother) @ (ramp - ramp.mean())
    assert np.abs(left).max() < 4.0


def test_a_root_keeps_all_but_a_thousandth(rng):
    basis, _ = np.linalg.qr(rng.standard_normal((3, 40, 40)))
    values = np.geomspace(1e-9, 1e4, 40)
    covariance = torch.tensor((basis * values) @ np.swapaxes(basis, 1, 2))
    root = root_of(covariance)
    wanted = covariance @ torch.linalg.inv(torch.eye(40).double() + covariance)
    assert torch.linalg.eigvalsh(wanted - root @ root.mT).abs().max() < 1e-3
    assert root.shape[-1] == np.sum(values > 1e-3)


def test_a_transit_is_no_noise(rng):
    """A depth of a thousand sigma is explained by the depth, which is free."""
    known = torch.tensor([[1e8]]).double()
    deep = seen(rng.standard_normal(BINS), inside=300.0)
    found, *_ = process_covariance(deep, known, NoiseBelief.first(), shapes_first=True)
    assert float(found.diagonal(dim1=-2, dim2=-1).mean()) < 1.0


def test_an_archive_teaches_what_to_believe(rng):
    white = np.stack([total(rng.standard_normal(BINS))[1] for _ in range(12)])
    red = np.stack(
        [
            total(rng.standard_normal(BINS) + ornstein_uhlenbeck(rng, 5.0, 0.4))[1]
            for _ in range(12)
        ]
    )
    quiet, loud = (
        learn_belief(np.repeat(own[:, :, None], MODES, axis=2)).belief[0, 0]
        for own in (white, red)
    )
    first = NoiseBelief.first().belief[0, 0]
    assert quiet[0] > 0.5 > loud[0]
    assert loud[0] < first[0]
    for own in (quiet, loud):
        assert own.sum() == pytest.approx(1.0)
        assert (own > 0.0).all()  # what was not seen stays possible


def test_beliefs_sum_to_one():
    for belief in (NoiseBelief.first(), NoiseBelief.white()):
        np.testing.assert_allclose(belief.belief.sum(-1), 1.0)
    assert total(100.0 * np.sin(TIME_H), NoiseBelief.white())[0].max() < 1e-6


def test_colours_are_orthonormal_in_units_of_the_noise(rng):
    batch = small_batch(rng, planets=2, visits=1, columns=20)
    modes = colour_modes(batch.weight, batch.place)
    assert modes.shape == (2, 1, 20, MODES)
    products = modes.mT @ modes
    assert (products - torch.eye(COLOURS + 1).double()).abs().max() < 1e-9
    assert (modes[:, :, 0, 1:] == 0.0).all()  # FGS1 alone
    grey = batch.weight.amax(-1).sqrt()[0, 0, 1:]
    cosine = (grey / grey.norm()) @ modes[0, 0, 1:, 1]
    assert float(cosine.abs()) == pytest.approx(1.0)


def test_normal_equations_are_those_of_the_dense_covariance(rng):
    """The process marginalised: white noise and modes x kernels, over all wavelengths and bins."""
    layout = Layout(visits=1, time_order=1, wavelength_terms=2)
    batch = small_batch(rng, planets=1, visits=1, columns=8, bins=30)
    depth, shared = truth(rng, layout, planets=1, columns=8)
    batch = own_light_curves(batch, layout, depth, shared)
    noise = 2.0 * torch.tensor(rng.standard_normal(batch.weight.shape)) * batch.weight**-0.5
    batch = with_flux(batch, batch.log_flux + noise)
    modes = colour_modes(batch.weight, batch.place)
    root = torch.tensor(rng.normal(size=(1, 1, modes.shape[-1], 30, 12)))
    centre = torch.eye(30).double() - 1.0 / 30.0
    process = centre @ (root @ root.mT) @ centre
    nothing = torch.zeros(1, 1, 2, modes.shape[-1], 1).to(modes)
    own = TimeNoise.of(modes, process, torch.full((1, 1), 0.7).double(), nothing)
    linear = Linear(batch, layout, own)
    curves = linear.curves(depth, shared)
    found = linear.normal(depth, shared)
    slopes, residual = _dense_slopes(linear, curves)
    covariance = torch.eye(8 * 30).double()
    for k in range(modes.shape[-1]):
        both = torch.einsum("w,v,st->wsvt", modes[0, 0, :, k], modes[0, 0, :, k], process[0, 0, k])
        covariance += both.reshape(240, 240)
    roots = [_root(process[0, 0, k]) for k in range(2)]
    cross = torch.einsum("w,v,st->wsvt", modes[0, 0, :, 0], modes[0, 0, :, 1], roots[0] @ roots[1])
    covariance += 0.7 * (cross.reshape(240, 240) + cross.reshape(240, 240).T)
    solved = torch.linalg.solve(covariance, torch.cat([slopes, residual[:, None]], 1))
    expected = torch.cat([slopes, residual[:, None]], 1).T @ solved
    information = torch.diag(found.depth[0]) - found.blurred[0]
    scale = expected.diagonal().sqrt()
    for got, want, over in (
        (information, expected[:8, :8], scale[:8, None] * scale[:8]),
        (found.cross[0], expected[:8, 8:-1], scale[:8, None] * scale[8:-1]),
        (found.shared[0], expected[8:-1, 8:-1], scale[8:-1, None] * scale[8:-1]),
        (found.depth_pull[0], expected[:8, -1], scale[:8] * scale[-1]),
        (found.shared_pull[0], expected[8:-1, -1], scale[8:-1] * scale[-1]),
    ):
        assert ((got - want) / over).abs().max() < 1e-8
    assert float(found.chi2[0]) == pytest.approx(float(expected[-1, -1]), rel=1e-8)
    smooth = (covariance - torch.eye(240).double()) @ torch.linalg.solve(covariance, residual)
    course = linear.process(curves)[0, 0] * batch.weight[0, 0].sqrt()
    assert (course.flatten() - smooth).abs().max() < 1e-6


def _root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0.0).sqrt()) @ vectors.T


@pytest.mark.parametrize("wanted", [-0.8, 0.0, 0.9])
def test_fgs1_and_grey_light_are_as_correlated_as_they_seem(rng, wanted):
    """Over visits; a depth that both show is no common noise."""
    found = []
    for _ in range(6):
        first, other = (ornstein_uhlenbeck(rng, 5.0, 0.3) for _ in range(2))
        second = wanted * first + np.sqrt(1.0 - wanted**2) * other
        pair = [seen(rng.standard_normal(BINS) + own, inside=300.0) for own in (first, second)]
        both = Projected(*(torch.cat(part) for part in zip(*map(_parts, pair), strict=True)))
        known = torch.tensor([[1e8]]).double()
        _, common, _ = process_covariance(both, known, NoiseBelief.first(), shapes_first=True)
        found.append(float(common))
    assert np.mean(found) == pytest.approx(wanted, abs=0.2)


def _parts(own):
    return own.design, own.residual, own.used, own.time_h


def _dense_slopes(linear, curves):
    """Slopes by depths and shared parameters in units of the noise, star eliminated; residual."""
    everything = torch.eye(8).double()[None, None].expand(1, 1, -1, -1)
    design, residual = linear.projected(curves, everything)
    return design[0, 0].flatten(0, 1), residual[0, 0].flatten()
