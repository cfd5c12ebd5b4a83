"""The selective scan as a loop over time in torch alone, as fast as such a loop can be made.

One step is one operation, h_t = drive_t + decay_t h_{t-1}, written in place. Everything else is
done for `CHUNK` steps together in buffers that stay in the cache, and nothing of the size of all
steps times all states is ever built. Backward walks the chunks the other way, makes their states
anew from the one before, and again does one operation per step:

    g_t = dy_t c_t + decay_{t+1} g_{t+1}

Shapes: B sequences, L steps, D channels, N states, K steps of a chunk.
"""

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

CHUNK = 32  # steps, fastest of 8 to 256 at 512 channels and 16 states


class Buffers(NamedTuple):
    """What a chunk needs, (B, K, D, N) each."""

    decay: Tensor
    drive: Tensor
    states: Tensor

    @classmethod
    def like(cls, x: Tensor, a: Tensor, steps: int) -> Self:
        """Empty ones."""
        shape = (x.shape[0], steps, *a.shape)
        return cls(*(torch.empty(shape, dtype=x.dtype) for _ in range(3)))

    def of(self, steps: int) -> Self:
        """Their first steps."""
        return type(self)(*(own[:, :steps] for own in self))

    def run(self, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, before: Tensor) -> Tensor:
        """Fill them from the state before the chunk; returns the state after it, a view."""
        torch.mul(dt[..., None], a, out=self.decay).exp_()
        torch.mul((dt * x)[..., None], b[:, :, None], out=self.drive)
        state = before
        for drive, decay, after in zip(*(own.unbind(1) for own in self._order()), strict=True):
            state = torch.addcmul(drive, decay, state, out=after)
        return state

    def _order(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.drive, self.decay, self.states


class LoopScan(torch.autograd.Function):
    """The scan with its gradients by hand."""

    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Tensor:  # noqa: ANN401 - torch's own context
        """Outputs, and the state before each chunk for backward."""
        x, dt, a, b, c, d = args
        y = x * d
        state, starts = x.new_zeros(x.shape[0], *a.shape), []
        buffers = Buffers.like(x, a, min(CHUNK, x.shape[1]))
        for rows in _chunks(x.shape[1]):
            starts.append(state)
            own = buffers.of(rows.stop - rows.start)
            state = own.run(x[:, rows], dt[:, rows], a, b[:, rows], state).clone()
            y[:, rows] += (own.states @ c[:, rows, :, None])[..., 0]
        ctx.save_for_backward(*args, *starts)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        """Gradients of all six inputs."""
        (dy,) = grads
        (x, dt, a, b, c, d), starts = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
        dx, ddt, da = dy * d, torch.empty_like(dt), torch.zeros_like(a)
        db, dc = torch.empty_like(b), torch.empty_like(c)
        buffers = Buffers.like(x, a, min(CHUNK, x.shape[1]))
        errors = torch.empty_like(buffers.states)
        carried = torch.zeros_like(starts[0])
        for rows, start in zip(reversed(_chunks(x.shape[1])), reversed(starts), strict=True):
            own, g = buffers.of(rows.stop - rows.start), errors[:, : rows.stop - rows.start]
            step, value, out = dt[:, rows], x[:, rows], dy[:, rows]
            own.run(value, step, a, b[:, rows], start)
            dc[:, rows] = torch.einsum("bkd,bkdn->bkn", out, own.states)
            torch.mul(out[..., None], c[:, rows, None], out=own.drive)
            carried = _walk_back(own, g, carried)
            driven = (g @ b[:, rows, :, None])[..., 0]  # gradient of dt x
            db[:, rows] = torch.einsum("bkd,bkdn->bkn", step * value, g)
            dx[:, rows] += driven * step
            earlier = torch.cat([start[:, None], own.states[:, :-1]], dim=1)
            rate = g.mul_(earlier).mul_(own.decay)  # gradient of dt A
            ddt[:, rows] = driven * value + torch.einsum("bkdn,dn->bkd", rate, a)
            da += torch.einsum("bkdn,bkd->dn", rate, step)
        return dx, ddt, da, db, dc, (dy * x).sum((0, 1))


def _walk_back(own: Buffers, g: Tensor, carried: Tensor) -> Tensor:
    """Fill g from the last step to the first; returns what the chunk before gets of it."""
    drive, decay, here = (part.unbind(1) for part in (own.drive, own.decay, g))
    later = torch.add(drive[-1], carried, out=here[-1])
    for step in range(len(here) - 2, -1, -1):
        later = torch.addcmul(drive[step], decay[step + 1], later, out=here[step])
    return decay[0] * later


def _chunks(length: int) -> list[slice]:
    return [slice(first, min(first + CHUNK, length)) for first in range(0, length, CHUNK)]


def loop_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """As `selective_scan`, by a loop over time."""
    return LoopScan.apply(x, dt, a, b, c, d)
