from dataclasses import replace

import numpy as np
import pytest
import torch
from transit_columns import own_light_curves, reference_curves, small_batch, truth, with_flux

from spectramind.transit.linear import Linear
from spectramind.transit.parameters import Layout

LAYOUT = Layout(visits=2, time_order=2, wavelength_terms=3)
NAMES = ("depth", "cross", "shared", "depth_pull", "shared_pull", "chi2")


@pytest.fixture
def guess(rng):
    return truth(rng, LAYOUT)


@pytest.fixture
def batch(rng, guess):
    """Light curves away from the guess, with noise and levels of the star."""
    empty = small_batch(rng)
    depth, shared = guess
    noise = torch.tensor(1e-4 * rng.normal(size=empty.log_flux.shape))
    star = torch.tensor(rng.normal(size=(*empty.log_flux.shape[:-1], 1)))
    model = reference_curves(empty, LAYOUT, depth + 1e-4, shared + 1e-4)
    return with_flux(empty, model + noise + star)


def _differences(batch, depth, shared):
    """Dense Jacobian (B, V, W, T, W + N) of the reference model by central differences."""
    columns = []
    both = torch.cat([depth, shared], dim=1)
    for place in range(both.shape[1]):
        step = torch.zeros_like(both)
        step[:, place] = 1e-6 if place < depth.shape[1] else 1e-5
        upper, lower = (
            reference_curves(batch, LAYOUT, *(both + sign * step).tensor_split([5], dim=1))
            for sign in (1.0, -1.0)
        )
        columns.append((upper - lower) / (2.0 * step[0, place]))
    return torch.stack(columns, dim=-1)


def _dense(batch, depth, shared):
    """Normal equations from the dense Jacobian, each star's level projected out."""
    weight = batch.weight[..., None]
    table = torch.cat(
        [
            _differences(batch, depth, shared),
            (batch.log_flux - reference_curves(batch, LAYOUT, depth, shared))[..., None],
        ],
        dim=-1,
    )
    table = table - (weight * table).sum(3, keepdim=True) / weight.sum(3, keepdim=True)
    table = (weight.sqrt() * table).flatten(1, 3)
    return table.transpose(-1, -2) @ table


def _close(found, expected, tolerance):
    scale = float(expected.abs().amax())
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0.0, atol=tolerance)


def test_curves_equal_the_model_written_out(batch, guess, rng):
    depth, shared = guess
    for visit in range(2):
        own = LAYOUT.drift(visit)
        shared[:, own] = torch.tensor(0.01 * rng.normal(size=(2, own.stop - own.start)))
    curves = Linear(batch, LAYOUT).curves(depth, shared)
    found = curves.log_transit + curves.log_gain
    assert (found - reference_curves(batch, LAYOUT, depth, shared)).abs().max() < 3e-7


def test_offset_of_a_visit_shifts_its_depths_by_channel(batch, guess):
    depth, shared = guess
    shared[:, LAYOUT.offsets(1)] = torch.tensor([3e-5, -2e-5, 1e-5], dtype=torch.float64)
    curves = Linear(batch, LAYOUT).curves(depth, shared)
    moved = curves.log_transit - reference_curves(batch, LAYOUT, depth, shared)
    assert moved.abs().max() < 1e-6  # second order in the offset, and the table
    none = shared.clone()
    none[:, LAYOUT.offsets(1)] = 0.0
    change = curves.log_transit - Linear(batch, LAYOUT).curves(depth, none).log_transit
    assert change[:, 0].abs().max() == 0.0
    assert change[:, 1, 0].min() < -2.5e-5
    assert change[:, 1, 1:].max() > 1.5e-5


def test_normal_equations_equal_those_of_a_dense_jacobian(batch, guess):
    normal = Linear(batch, LAYOUT).normal(*guess)
    dense = _dense(batch, *guess)
    depths = dense[:, :5, :5]
    off = depths - torch.diag_embed(depths.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() == 0.0  # a depth is seen by its own wavelength alone
    _close(normal.depth, depths.diagonal(dim1=-2, dim2=-1), 5e-4)
    scale = dense.diagonal(dim1=-2, dim2=-1).sqrt()
    unit = dense / scale[:, :, None] / scale[:, None]
    _close(normal.cross / scale[:, :5, None] / scale[:, None, 5:-1], unit[:, :5, 5:-1], 5e-4)
    found = normal.shared / scale[:, 5:-1, None] / scale[:, None, 5:-1]
    _close(found, unit[:, 5:-1, 5:-1], 5e-4)
    _close(normal.depth_pull / scale[:, :5], dense[:, :5, -1] / scale[:, :5], 5e-4)
    _close(normal.shared_pull / scale[:, 5:-1], dense[:, 5:-1, -1] / scale[:, 5:-1], 5e-4)
    _close(normal.chi2, dense[:, -1, -1], 5e-4)


def test_pull_is_minus_half_the_slope_of_chi2_also_with_drift_and_a_grazing_planet(batch, rng):
    depth, shared = truth(rng, LAYOUT, drift=2e-4)
    shared[1, 2] = 1.0  # grazes the limb
    linear = Linear(batch, LAYOUT)
    normal = linear.normal(depth, shared)
    both = torch.cat([depth, shared], dim=1)
    pull = torch.cat([normal.depth_pull, normal.shared_pull], dim=1)
    scale = torch.cat([normal.depth, normal.shared.diagonal(dim1=-2, dim2=-1)], 1).sqrt()
    for place in range(both.shape[1]):
        step = torch.zeros_like(both)
        step[:, place] = 1e-6
        upper, lower = (
            linear.normal(*(both + sign * step).tensor_split([5], dim=1)).chi2
            for sign in (1.0, -1.0)
        )
        slope = -0.5 * (upper - lower) / 2e-6 / scale[:, place]
        size = normal.chi2.sqrt()
        np.testing.assert_allclose(
            pull[:, place] / scale[:, place] / size, slope / size, atol=2e-3
        )


def test_level_of_the_star_drops_out(batch, guess):
    brighter = with_flux(batch, batch.log_flux + torch.linspace(-1, 1, 5).double()[:, None])
    before, after = (Linear(one, LAYOUT).normal(*guess) for one in (batch, brighter))
    for name in NAMES:
        _close(getattr(after, name), getattr(before, name), 1e-10)


def test_values_without_weight_and_padding_change_nothing(batch, guess):
    used = torch.ones_like(batch.weight, dtype=torch.bool)
    used[:, 1, :, 30:] = False
    used[0, 0, 2] = False  # a dark wavelength
    kept = batch.keep(used)
    spoiled = with_flux(kept, torch.where(used, kept.log_flux, 5.0))
    before, after = (Linear(one, LAYOUT).normal(*guess) for one in (kept, spoiled))
    for name in NAMES:
        assert torch.isfinite(getattr(after, name)).all()
        _close(getattr(after, name), getattr(before, name), 1e-10)
    full = Linear(batch, LAYOUT).normal(*guess)
    assert (before.depth < full.depth).all()
    assert (before.chi2 < full.chi2).all()
    longer = replace(
        batch,
        time_h=torch.cat([batch.time_h, batch.time_h[..., -1:, :].expand(-1, -1, -1, 7, -1)], 3),
        tau=torch.cat([batch.tau, torch.zeros(2, 2, 2, 7).double()], 3),
        log_flux=torch.cat([batch.log_flux, torch.zeros(2, 2, 5, 7).double()], 3),
        weight=torch.cat([batch.weight, torch.zeros(2, 2, 5, 7).double()], 3),
    )
    padded = Linear(longer, LAYOUT).normal(*guess)
    for name in NAMES:
        _close(getattr(padded, name), getattr(full, name), 1e-10)


def test_residual_of_the_own_model_is_nothing(batch, guess):
    depth, shared = guess
    own = own_light_curves(batch, LAYOUT, depth, shared, star=0.3)
    normal = Linear(own, LAYOUT).normal(depth, shared)
    assert normal.chi2.max() < 1e-12
    assert Linear(own, LAYOUT).normal(depth + 1e-4, shared).chi2.min() > 1.0


def test_a_wide_spectrum_is_met_by_the_table_of_radius_ratios(rng):
    layout = Layout(visits=1, time_order=1, wavelength_terms=1)
    empty = small_batch(rng, planets=1, visits=1, columns=30)
    depth, shared = truth(rng, layout, planets=1, columns=30)
    depth = depth * torch.linspace(0.7, 1.4, 30).double()
    batch = with_flux(empty, reference_curves(empty, layout, depth, shared))
    linear = Linear(batch, layout)
    normal = linear.normal(depth, shared)
    assert linear.residual(linear.curves(depth, shared)).abs().max() < 1e-5  # at the contacts
    bias = normal.depth_pull / normal.depth
    assert bias.abs().max() < 1e-6  # 1 ppm
    deeper = linear.normal(depth + 1e-5, shared)
    np.testing.assert_allclose(deeper.depth_pull / deeper.depth, -1e-5, rtol=0.05)
