"""Selective scan on a GPU: Triton kernels, one program for a sequence and a block of channels.

A program holds the states of its channels in registers and goes through time alone. Before each
chunk of steps it writes them down. The backward pass computes the states of a chunk again from
there into a scratch of one chunk, then goes back through it. Gradients of b and c are sums over
channels: each block writes its own and torch adds them up, always in the same order.

Arrays: x, dt and y are (B, L, D), b and c are (B, L, N). rate, the decay rates times log2 e, is
(D, N). kept is (B, chunks, at least D N).
"""

import math
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from spectramind.model.scan.layout import CHUNK, empty_kept

_LANES = 16  # channels a program
_LAUNCH = {"num_warps": 1}  # sums over channels and states stay within a warp
_NOT_CONSTANT = ("length", "sequences")  # one compiled kernel for all of them
_LN2 = tl.constexpr(math.log(2.0))


@triton.jit
@no_type_check
def _row(at, row, width, column, inside):
    """Part of a row of a matrix, 0 where it is outside."""
    return tl.load(at + row * width + column, mask=inside, other=0.0)


@triton.jit(do_not_specialize=_NOT_CONSTANT)
@no_type_check
def forward_kernel(
    x_at, dt_at, rate_at, b_at, c_at, d_at, y_at, kept_at, length, channels, states,
    chunk: tl.constexpr, lanes: tl.constexpr, padded_states: tl.constexpr,
):  # fmt: skip
    """Take a block of channels of one sequence through time."""
    block, sequence = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, state = block * lanes + tl.arange(0, lanes), tl.arange(0, padded_states)
    live, known = channel < channels, state < states
    both, place = live[:, None] & known[None, :], channel[:, None] * states + state[None, :]
    rate = tl.load(rate_at + place, mask=both, other=0.0)
    d = tl.load(d_at + channel, mask=live, other=0.0)
    size = tl.cast(channels, tl.int64) * states
    kept_at += sequence * tl.cdiv(length, chunk) * size
    h = rate * 0.0
    for t in range(length):
        if t % chunk == 0:
            tl.store(kept_at + (t // chunk) * size + place, h, mask=both)
        row = sequence * length + t
        x, dt = _row(x_at, row, channels, channel, live), _row(dt_at, row, channels, channel, live)
        b, c = _row(b_at, row, states, state, known), _row(c_at, row, states, state, known)
        h = tl.exp2(dt[:, None] * rate) * h + (dt * x)[:, None] * b[None, :]
        y = tl.sum(h * c[None, :], axis=1) + d * x
        tl.store(y_at + row * channels + channel, y, mask=live)


@triton.jit
@no_type_check
def _replay(
    x_at, dt_at, b_at, replay_at, h, rate, first, steps, size, place, both, channels, states,
    channel, state, live, known,
):  # fmt: skip
    """Write the states before each step of a chunk down; return those after the last."""
    for t in range(steps):
        tl.store(replay_at + t * size + place, h, mask=both)
        x = _row(x_at, first + t, channels, channel, live)
        dt = _row(dt_at, first + t, channels, channel, live)
        b = _row(b_at, first + t, states, state, known)
        h = tl.exp2(dt[:, None] * rate) * h + (dt * x)[:, None] * b[None, :]
    tl.debug_barrier()
    return h


@triton.jit(do_not_specialize=_NOT_CONSTANT)
@no_type_check
def backward_kernel(
    dy_at, x_at, dt_at, rate_at, b_at, c_at, d_at, kept_at, replay_at,
    dx_at, ddt_at, drate_at, db_at, dc_at, dd_at, length, channels, states, sequences,
    chunk: tl.constexpr, lanes: tl.constexpr, padded_states: tl.constexpr,
):  # fmt: skip
    """Take a block of channels of one sequence back through time, chunk by chunk.

    The formulas are those of `cpu._backward_states`.
    """
    block, sequence = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    channel, state = block * lanes + tl.arange(0, lanes), tl.arange(0, padded_states)
    live, known = channel < channels, state < states
    both, place = live[:, None] & known[None, :], channel[:, None] * states + state[None, :]
    rate = tl.load(rate_at + place, mask=both, other=0.0)
    d = tl.load(d_at + channel, mask=live, other=0.0)
    size, chunks = tl.cast(channels, tl.int64) * states, tl.cdiv(length, chunk)
    replay_at += sequence * chunk * size
    carried, drate, dd = rate * 0.0, rate * 0.0, d * 0.0
    for done in range(chunks):
        start = (chunks - 1 - done) * chunk
        first, steps = sequence * length + start, tl.minimum(chunk, length - start)
        kept = kept_at + (sequence * chunks + start // chunk) * size + place
        h = _replay(
            x_at, dt_at, b_at, replay_at, tl.load(kept, mask=both, other=0.0), rate, first, steps,
            size, place, both, channels, states, channel, state, live, known,
        )  # fmt: skip
        chunk_rate, chunk_d = rate * 0.0, d * 0.0  # rounding does not grow with the length
        for back in range(steps):
            row = first + steps - 1 - back
            x = _row(x_at, row, channels, channel, live)
            dt = _row(dt_at, row, channels, channel, live)
            dy = _row(dy_at, row, channels, channel, live)
            b, c = _row(b_at, row, states, state, known), _row(c_at, row, states, state, known)
            summed = (block * sequences * length + row) * states + state
            tl.store(dc_at + summed, tl.sum(dy[:, None] * h, axis=0), mask=known)
            g = carried + dy[:, None] * c[None, :]
            tl.store(db_at + summed, tl.sum(g * (dt * x)[:, None], axis=0), mask=known)
            h = _row(replay_at, steps - 1 - back, size, place, both)
            carried = tl.exp2(dt[:, None] * rate) * g
            chunk_rate += carried * h * dt[:, None]
            chunk_d += dy * x
            over_b = tl.sum(g * b[None, :], axis=1)
            ddt = _LN2 * tl.sum(carried * h * rate, axis=1) + x * over_b
            tl.store(dx_at + row * channels + channel, dt * over_b + d * dy, mask=live)
            tl.store(ddt_at + row * channels + channel, ddt, mask=live)
        drate, dd = drate + chunk_rate, dd + chunk_d
        tl.debug_barrier()
    tl.store(drate_at + sequence * size + place, drate, mask=both)
    tl.store(dd_at + sequence * channels + channel, dd, mask=live)


def forward(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """Y, and the states before each chunk."""
    (sequences, length, channels), states = x.shape, a.shape[1]
    y, kept = torch.empty_like(x), empty_kept(x, a)
    with torch.cuda.device_of(x):
        forward_kernel[(-(-channels // _LANES), sequences)](
            x, dt, a / math.log(2.0), b, c, d, y, kept, length, channels, states,
            CHUNK, _LANES, triton.next_power_of_2(states), **_LAUNCH,
        )  # fmt: skip
    return y, kept


def backward(
    dy: Tensor, kept: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, dt, a, b, c, d."""
    (sequences, length, channels), states = x.shape, a.shape[1]
    blocks = -(-channels // _LANES)
    replay = x.new_empty(sequences, CHUNK, kept.shape[-1])
    dx, ddt = torch.empty_like(x), torch.empty_like(x)
    da, dd = x.new_empty(sequences, channels, states), x.new_empty(sequences, channels)
    db, dc = x.new_empty(2, blocks, sequences, length, states)
    with torch.cuda.device_of(x):
        backward_kernel[(blocks, sequences)](
            dy, x, dt, a / math.log(2.0), b, c, d, kept, replay, dx, ddt, da, db, dc, dd,
            length, channels, states, sequences,
            CHUNK, _LANES, triton.next_power_of_2(states), **_LAUNCH,
        )  # fmt: skip
    return dx, ddt, da.sum(0), db.sum(0), dc.sum(0), dd.sum(0)
