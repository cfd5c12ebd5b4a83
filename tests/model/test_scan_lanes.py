"""Vectors inside numba kernels: what each operation does to every lane."""

from typing import no_type_check

import numba
import numpy as np
import pytest

from spectramind.model.scan.lanes import (
    add_totals,
    exp2,
    fill,
    load,
    load_some,
    splat,
    store,
    store_some,
)


@numba.njit
@no_type_check
def powers(values, out):
    for at in range(0, values.size, 64 // values.itemsize):
        store(out, at, exp2(load(values, at)))


@numba.njit
@no_type_check
def combine(one, other, out, live):
    product = load_some(one, 0, live) * splat(other, 2) - fill(one, 0.5)
    store_some(out, 0, product + load(other, 0), live)


@numba.njit
@no_type_check
def totals(values, out):
    n = 64 // values.itemsize
    add_totals(out, 1, load(values, 0), load(values, n), load(values, 2 * n), load(values, 3 * n))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp2_is_exact_to_two_roundings_over_the_normal_range(dtype):
    limits = np.finfo(dtype)
    grid = np.linspace(limits.minexp, limits.maxexp - 1, 64_000)
    near = np.concatenate([grid, np.linspace(-2, 2, 64_000), np.arange(-64.0, 64.0)]).astype(dtype)
    out = np.empty_like(near)
    powers(near, out)
    exact = np.exp2(near.astype(np.longdouble))
    assert np.max(np.abs(out - exact) / exact) < 2 * limits.eps
    assert (out[-128:] == np.exp2(np.arange(-64.0, 64.0))).all()  # whole powers exactly


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp2_ends_at_the_limits_of_the_range_and_keeps_nan(dtype):
    values = np.zeros(64 // np.dtype(dtype).itemsize, dtype)
    values[:5] = (-np.inf, -1e30, 1e30, np.inf, np.nan)
    out = np.empty_like(values)
    powers(values, out)
    tiny, huge = np.finfo(dtype).tiny, 2.0 ** (np.finfo(dtype).maxexp - 1)
    np.testing.assert_array_equal(out[:5], np.array([tiny, tiny, huge, huge, np.nan], dtype))
    assert (out[5:] == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masked_lanes_are_neither_read_nor_written(dtype, rng):
    n = 64 // np.dtype(dtype).itemsize
    one, other = rng.normal(size=(2, n)).astype(dtype)
    for live in (1, 3, n, n + 5):
        out = np.full(n, 7, dtype)
        combine(one, other, out, live)
        wanted = one * other[2] - dtype(0.5) + other
        np.testing.assert_allclose(out[:live], wanted[:live], rtol=10 * np.finfo(dtype).eps)
        assert (out[live:] == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_totals_of_four_vectors_are_added_in_order(dtype, rng):
    n = 64 // np.dtype(dtype).itemsize
    values = rng.integers(-9, 9, (4, n)).astype(dtype)
    out = np.arange(6, dtype=dtype)
    totals(values.ravel(), out)
    np.testing.assert_array_equal(out, [0, *(np.arange(1, 5) + values.sum(1)), 5])
