"""Selective scan on the CPU: fused numba kernels over blocks of channels.

A vector holds one state of 16 channels (8 in float64), so that the channels of a block need no
sums across lanes for y. A chunk of steps stays in the first-level cache: for four states at a
time the recurrence runs over the chunk with states and rates in registers. Only the states before
each chunk are kept; the backward pass runs the chunk again from there.

The gradients of b and c are sums over channels. Each group of blocks has its own, added up in
the order of the groups, so that results do not depend on the number of threads.

Arrays: x, dt and y are (B, L, D), b and c are (B, L, N) with N a multiple of 4. rate, the decay
rates times log2 e, is (blocks, N, lanes). kept is (B, chunks, blocks, N, lanes).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, no_type_check

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spectramind.compiled import kernel
from spectramind.model.scan.lanes import (
    add_totals,
    exp2,
    fill,
    load,
    load_some,
    prefetch,
    splat,
    store,
    store_some,
)
from spectramind.model.scan.layout import CHUNK, STATES, VECTOR_BYTES, empty_kept

BLOCKS = 8  # blocks of channels that one thread takes through time together
_LN2 = math.log(2.0)
_kernel = kernel(__name__, error_model="numpy", nogil=True)
_parallel = kernel(__name__, error_model="numpy", nogil=True, parallel=True)


class Inputs(NamedTuple):
    """Arguments of the scan, prepared as the module says."""

    x: np.ndarray
    dt: np.ndarray
    rate: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray


class Gradients(NamedTuple):
    """Outputs of the backward pass; those of b, c for each group, of rate, d for each sequence."""

    x: np.ndarray
    dt: np.ndarray
    rate: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray


class Where(NamedTuple):
    """Chunk of one sequence and block of channels that are worked on."""

    row: int  # of the first step among the B * L steps
    steps: int
    block: int
    chunk: int  # among the B * chunks


@_kernel
@no_type_check
def _aligned(vectors: int, like: np.ndarray) -> np.ndarray:
    """Empty array of so many vectors that starts at a multiple of a vector."""
    raw = np.empty((vectors + 1) * VECTOR_BYTES // like.itemsize, like.dtype)
    return raw[(-raw.ctypes.data % VECTOR_BYTES) // raw.itemsize :]


@_kernel
@no_type_check
def _prepare(inputs: Inputs, where: Where, dt: np.ndarray, push: np.ndarray) -> None:
    """Step sizes and dt x of a chunk, step after step; channels beyond the last are 0."""
    lanes, channels = VECTOR_BYTES // dt.itemsize, inputs.x.shape[2]
    first = where.block * lanes
    for t in range(where.steps):
        at = (where.row + t) * channels + first
        prefetch(inputs.dt, at + CHUNK * channels)
        prefetch(inputs.x, at + CHUNK * channels)
        step = load_some(inputs.dt, at, channels - first)
        store(dt, t * lanes, step)
        store(push, t * lanes, step * load_some(inputs.x, at, channels - first))


@_kernel
@no_type_check
def _forward_states(
    inputs: Inputs, where: Where, n: int, dt: np.ndarray, push: np.ndarray, state: np.ndarray,
    y: np.ndarray,
) -> None:  # fmt: skip
    """Take states n to n + 3 through a chunk and add their share to y."""
    lanes, states = VECTOR_BYTES // dt.itemsize, inputs.b.shape[2]
    r, p = (where.block * states + n) * lanes, n * lanes
    a0, a1 = load(inputs.rate, r), load(inputs.rate, r + lanes)
    a2, a3 = load(inputs.rate, r + 2 * lanes), load(inputs.rate, r + 3 * lanes)
    h0, h1 = load(state, p), load(state, p + lanes)
    h2, h3 = load(state, p + 2 * lanes), load(state, p + 3 * lanes)
    for t in range(where.steps):
        step, drive = load(dt, t * lanes), load(push, t * lanes)
        i = (where.row + t) * states + n
        h0 = exp2(step * a0) * h0 + drive * splat(inputs.b, i)
        h1 = exp2(step * a1) * h1 + drive * splat(inputs.b, i + 1)
        h2 = exp2(step * a2) * h2 + drive * splat(inputs.b, i + 2)
        h3 = exp2(step * a3) * h3 + drive * splat(inputs.b, i + 3)
        one = load(y, t * lanes) + h0 * splat(inputs.c, i) + h1 * splat(inputs.c, i + 1)
        other = h2 * splat(inputs.c, i + 2) + h3 * splat(inputs.c, i + 3)
        store(y, t * lanes, one + other)
    store(state, p, h0)
    store(state, p + lanes, h1)
    store(state, p + 2 * lanes, h2)
    store(state, p + 3 * lanes, h3)


@_kernel
@no_type_check
def _forward_chunk(
    inputs: Inputs, where: Where, scratch: np.ndarray, state: np.ndarray, y: np.ndarray,
    kept: np.ndarray,
) -> None:  # fmt: skip
    """Keep the states before a chunk, take them through it, write its outputs."""
    lanes, states, channels = VECTOR_BYTES // y.itemsize, inputs.b.shape[2], y.shape[2]
    first = where.block * lanes
    dt, push, total = scratch[0], scratch[1], scratch[2]
    _prepare(inputs, where, dt, push)
    before = (where.chunk * inputs.rate.shape[0] + where.block) * states * lanes
    for n in range(states):
        store(kept, before + n * lanes, load(state, n * lanes))
    total[:] = 0.0
    for n in range(0, states, STATES):
        _forward_states(inputs, where, n, dt, push, state, total)
    direct = load_some(inputs.d, first, channels - first)
    for t in range(where.steps):
        at = (where.row + t) * channels + first
        through = direct * load_some(inputs.x, at, channels - first)
        store_some(y, at, load(total, t * lanes) + through, channels - first)


@_kernel
@no_type_check
def _forward_group(
    inputs: Inputs, sequence: int, group: int, y: np.ndarray, kept: np.ndarray
) -> None:
    """Take a group of blocks through a sequence."""
    lanes, length, states = VECTOR_BYTES // y.itemsize, y.shape[1], inputs.b.shape[2]
    scratch = _aligned(3 * CHUNK, y)[: 3 * CHUNK * lanes].reshape(3, CHUNK * lanes)
    state = _aligned(BLOCKS * states, y)[: BLOCKS * states * lanes].reshape(BLOCKS, states * lanes)
    state[:] = 0.0
    low, high = group * BLOCKS, min(inputs.rate.shape[0], (group + 1) * BLOCKS)
    for chunk in range(kept.shape[1]):
        done = chunk * CHUNK
        for block in range(low, high):
            where = Where(
                sequence * length + done, min(CHUNK, length - done), block,
                sequence * kept.shape[1] + chunk,
            )  # fmt: skip
            _forward_chunk(inputs, where, scratch, state[block - low], y, kept)


@_parallel
@no_type_check
def _forward(inputs: Inputs, y: np.ndarray, kept: np.ndarray) -> None:
    """Fill y and the states before each chunk."""
    groups = (inputs.rate.shape[0] + BLOCKS - 1) // BLOCKS
    for unit in numba.prange(y.shape[0] * groups):
        _forward_group(inputs, unit // groups, unit % groups, y, kept)


@_kernel
@no_type_check
def _replay_states(
    inputs: Inputs, where: Where, n: int, dt: np.ndarray, push: np.ndarray, kept: np.ndarray,
    replay: np.ndarray,
) -> None:  # fmt: skip
    """Decays of each step and states before it, of states n to n + 3; the last states too."""
    lanes, states = VECTOR_BYTES // dt.itemsize, inputs.b.shape[2]
    r = (where.block * states + n) * lanes
    a0, a1 = load(inputs.rate, r), load(inputs.rate, r + lanes)
    a2, a3 = load(inputs.rate, r + 2 * lanes), load(inputs.rate, r + 3 * lanes)
    p = (where.chunk * inputs.rate.shape[0] + where.block) * states * lanes + n * lanes
    h0, h1 = load(kept, p), load(kept, p + lanes)
    h2, h3 = load(kept, p + 2 * lanes), load(kept, p + 3 * lanes)
    for t in range(where.steps):
        step, drive = load(dt, t * lanes), load(push, t * lanes)
        e0, e1, e2, e3 = exp2(step * a0), exp2(step * a1), exp2(step * a2), exp2(step * a3)
        k = 8 * t * lanes
        store(replay, k, h0)
        store(replay, k + lanes, h1)
        store(replay, k + 2 * lanes, h2)
        store(replay, k + 3 * lanes, h3)
        store(replay, k + 4 * lanes, e0)
        store(replay, k + 5 * lanes, e1)
        store(replay, k + 6 * lanes, e2)
        store(replay, k + 7 * lanes, e3)
        i = (where.row + t) * states + n
        h0 = e0 * h0 + drive * splat(inputs.b, i)
        h1 = e1 * h1 + drive * splat(inputs.b, i + 1)
        h2 = e2 * h2 + drive * splat(inputs.b, i + 2)
        h3 = e3 * h3 + drive * splat(inputs.b, i + 3)
    k = 8 * where.steps * lanes
    store(replay, k, h0)
    store(replay, k + lanes, h1)
    store(replay, k + 2 * lanes, h2)
    store(replay, k + 3 * lanes, h3)


@_kernel
@no_type_check
def _backward_states(
    inputs: Inputs, where: Where, n: int, scratch: np.ndarray, replay: np.ndarray,
    carried: np.ndarray, sums: Gradients,
) -> None:  # fmt: skip
    """Take the adjoints of states n to n + 3 back through a chunk.

    With g_t = dL/dh_t = c_t dL/dy_t + e_(t+1) g_(t+1): dL/db_t = sum_d g_t dt_t x_t,
    dL/dc_t = sum_d dL/dy_t h_t, and e_t g_t h_(t-1) is the gradient of dt_t a.
    """
    dt, push, dy, over_rate, over_b = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    lanes, states = VECTOR_BYTES // dt.itemsize, inputs.b.shape[2]
    r, p = (where.block * states + n) * lanes, n * lanes
    a0, a1 = load(inputs.rate, r), load(inputs.rate, r + lanes)
    a2, a3 = load(inputs.rate, r + 2 * lanes), load(inputs.rate, r + 3 * lanes)
    p0, p1 = load(carried, p), load(carried, p + lanes)
    p2, p3 = load(carried, p + 2 * lanes), load(carried, p + 3 * lanes)
    s0 = s1 = s2 = s3 = fill(dy, 0.0)
    k = 8 * where.steps * lanes
    h0, h1 = load(replay, k), load(replay, k + lanes)
    h2, h3 = load(replay, k + 2 * lanes), load(replay, k + 3 * lanes)
    for t in range(where.steps - 1, -1, -1):
        step, drive, v = load(dt, t * lanes), load(push, t * lanes), load(dy, t * lanes)
        i, k = (where.row + t) * states + n, 8 * t * lanes
        add_totals(sums.c, i, v * h0, v * h1, v * h2, v * h3)
        g0, g1 = p0 + v * splat(inputs.c, i), p1 + v * splat(inputs.c, i + 1)
        g2, g3 = p2 + v * splat(inputs.c, i + 2), p3 + v * splat(inputs.c, i + 3)
        add_totals(sums.b, i, g0 * drive, g1 * drive, g2 * drive, g3 * drive)
        h0, h1 = load(replay, k), load(replay, k + lanes)
        h2, h3 = load(replay, k + 2 * lanes), load(replay, k + 3 * lanes)
        p0, p1 = load(replay, k + 4 * lanes) * g0, load(replay, k + 5 * lanes) * g1
        p2, p3 = load(replay, k + 6 * lanes) * g2, load(replay, k + 7 * lanes) * g3
        q0, q1, q2, q3 = p0 * h0, p1 * h1, p2 * h2, p3 * h3
        s0, s1, s2, s3 = s0 + q0 * step, s1 + q1 * step, s2 + q2 * step, s3 + q3 * step
        one = load(over_rate, t * lanes) + q0 * a0 + q1 * a1
        store(over_rate, t * lanes, one + (q2 * a2 + q3 * a3))
        one = load(over_b, t * lanes) + g0 * splat(inputs.b, i) + g1 * splat(inputs.b, i + 1)
        other = g2 * splat(inputs.b, i + 2) + g3 * splat(inputs.b, i + 3)
        store(over_b, t * lanes, one + other)
    store(carried, p, p0)
    store(carried, p + lanes, p1)
    store(carried, p + 2 * lanes, p2)
    store(carried, p + 3 * lanes, p3)
    store(sums.rate, p, load(sums.rate, p) + s0)
    store(sums.rate, p + lanes, load(sums.rate, p + lanes) + s1)
    store(sums.rate, p + 2 * lanes, load(sums.rate, p + 2 * lanes) + s2)
    store(sums.rate, p + 3 * lanes, load(sums.rate, p + 3 * lanes) + s3)


@_kernel
@no_type_check
def _backward_chunk(
    inputs: Inputs, where: Where, scratch: np.ndarray, replay: np.ndarray, carried: np.ndarray,
    dy: np.ndarray, kept: np.ndarray, sums: Gradients,
) -> None:  # fmt: skip
    """All gradients of a chunk and a block of channels."""
    lanes, states, channels = VECTOR_BYTES // dy.itemsize, inputs.b.shape[2], dy.shape[2]
    first = where.block * lanes
    _prepare(inputs, where, scratch[0], scratch[1])
    for t in range(where.steps):
        at = (where.row + t) * channels + first
        store(scratch[2], t * lanes, load_some(dy, at, channels - first))
    scratch[3:] = 0.0
    for n in range(0, states, STATES):
        _replay_states(inputs, where, n, scratch[0], scratch[1], kept, replay)
        _backward_states(inputs, where, n, scratch, replay, carried, sums)
    direct, ln2 = load_some(inputs.d, first, channels - first), fill(dy, _LN2)
    total = fill(dy, 0.0)  # of the chunk, so that rounding does not grow with the length
    for t in range(where.steps):
        at = (where.row + t) * channels + first
        x, v = load_some(inputs.x, at, channels - first), load(scratch[2], t * lanes)
        step, over_b = load(scratch[0], t * lanes), load(scratch[4], t * lanes)
        total = total + v * x
        store_some(sums.x, at, step * over_b + direct * v, channels - first)
        slope = ln2 * load(scratch[3], t * lanes) + x * over_b
        store_some(sums.dt, at, slope, channels - first)
    store(sums.d, 0, load(sums.d, 0) + total)


@_kernel
@no_type_check
def _backward_group(
    inputs: Inputs, sequence: int, group: int, dy: np.ndarray, kept: np.ndarray, out: Gradients
) -> None:
    """Take a group of blocks back through a sequence."""
    lanes, length, states = VECTOR_BYTES // dy.itemsize, dy.shape[1], inputs.b.shape[2]
    scratch = _aligned(5 * CHUNK, dy)[: 5 * CHUNK * lanes].reshape(5, CHUNK * lanes)
    replay = _aligned(8 * (CHUNK + 1), dy)
    carried = _aligned(BLOCKS * states, dy)[: BLOCKS * states * lanes]
    carried = carried.reshape(BLOCKS, states * lanes)
    carried[:] = 0.0
    low, high = group * BLOCKS, min(inputs.rate.shape[0], (group + 1) * BLOCKS)
    for chunk in range(kept.shape[1] - 1, -1, -1):
        done = chunk * CHUNK
        for block in range(low, high):
            where = Where(
                sequence * length + done, min(CHUNK, length - done), block,
                sequence * kept.shape[1] + chunk,
            )  # fmt: skip
            sums = Gradients(
                out.x, out.dt, out.rate[sequence, block], out.b[group], out.c[group],
                out.d[sequence, block],
            )  # fmt: skip
            _backward_chunk(inputs, where, scratch, replay, carried[block - low], dy, kept, sums)


@_parallel
@no_type_check
def _backward(inputs: Inputs, dy: np.ndarray, kept: np.ndarray, out: Gradients) -> None:
    """Fill the gradients of x and dt; add to the others, which must be zero before."""
    groups = (inputs.rate.shape[0] + BLOCKS - 1) // BLOCKS
    for unit in numba.prange(dy.shape[0] * groups):
        _backward_group(inputs, unit // groups, unit % groups, dy, kept, out)


def forward(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """Y, and the states before each chunk."""
    y, kept = torch.empty_like(x), empty_kept(x, a)
    with _threads_of_torch():
        _forward(_inputs(x, dt, a, b, c, d), y.numpy(), kept.numpy())
    return y, kept


def backward(
    dy: Tensor, kept: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, dt, a, b, c, d."""
    inputs = _inputs(x, dt, a, b, c, d)
    (sequences, length, channels), (blocks, states, lanes) = x.shape, inputs.rate.shape
    dx, ddt = torch.empty_like(x), torch.empty_like(x)
    da = x.new_zeros(sequences, blocks, states * lanes)
    db, dc = x.new_zeros(2, -(-blocks // BLOCKS), sequences, length, states)
    dd = x.new_zeros(sequences, blocks, lanes)
    out = Gradients(*(tensor.numpy() for tensor in (dx, ddt, da, db, dc, dd)))
    with _threads_of_torch():
        _backward(inputs, dy.numpy(), kept.numpy(), out)
    da = da.sum(0).view(blocks, states, lanes).transpose(1, 2).reshape(-1, states)[:channels]
    return dx, ddt, da.contiguous(), db.sum(0), dc.sum(0), dd.sum(0).flatten()[:channels].clone()


def _inputs(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Inputs:
    lanes = VECTOR_BYTES // x.element_size()
    rate = F.pad(a / _LN2, (0, 0, 0, -a.shape[0] % lanes)).view(-1, lanes, a.shape[1])
    rate = rate.transpose(1, 2).contiguous()
    return Inputs(*(tensor.detach().numpy() for tensor in (x, dt, rate, b, c, d)))


@contextmanager
def _threads_of_torch() -> Iterator[None]:
    """As many of numba's threads as torch may use too."""
    threads = torch.get_num_threads()
    before = numba.get_num_threads()  # starts them at first, and OpenMP then gives torch as many
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, before))
    try:
        yield
    finally:
        numba.set_num_threads(before)
