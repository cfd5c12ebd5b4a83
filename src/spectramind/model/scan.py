"""The selective scan of Mamba: a readable chunked form and the reference that defines it.

    h_t = exp(dt_t A) h_{t-1} + dt_t b_t x_t        h_0 = 0
    y_t = <c_t, h_t> + d x_t

Shapes: B sequences, L steps, D channels, N states.

Source: Gu and Dao 2023, arXiv 2312.00752, algorithm 2 with the simplified (Euler) input matrix.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 8  # steps whose states are held at once: they fit the cache; changes no result


def selective_scan(
    x: Float[Tensor, "B L D"],
    dt: Float[Tensor, "B L D"],
    a: Float[Tensor, "D N"],
    b: Float[Tensor, "B L N"],
    c: Float[Tensor, "B L N"],
    d: Float[Tensor, " D"],
    *,
    chunk: int,
) -> Float[Tensor, "B L D"]:
    """Scan chunk by chunk, so that memory beyond inputs and output is that of one chunk.

    The backward pass recomputes the states of a chunk instead of storing them. Steps are taken
    apart with `unbind`: indexing `[:, t]` would make the backward pass quadratic in L.

    Args:
        x: Input.
        dt: Positive step sizes.
        a: Negative decay rates.
        b: Input weights of the states.
        c: Output weights of the states.
        d: Weight of the direct path.
        chunk: Steps a chunk; L need not be a multiple.

    Returns:
        y in the precision of `x`; the recurrence itself runs in float32 or better.

    Source: as the module; the order of operations is the definition's, only regrouped.
    """
    kept = x.dtype
    with torch.autocast(x.device.type, enabled=False):
        x, dt, a, b, c, d = (_at_least_float32(tensor) for tensor in (x, dt, a, b, c, d))
        state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
        outputs = []
        chunks = (tensor.split(chunk, dim=1) for tensor in (x, dt, b, c))
        for part in zip(*chunks, strict=True):
            output, state = checkpoint(
                _scan_chunk, state, a, *part, use_reentrant=False, preserve_rng_state=False
            )
            outputs.append(output)
        return (torch.cat(outputs, dim=1) + d * x).to(kept)


def _scan_chunk(
    state: Float[Tensor, "B D N"],
    a: Float[Tensor, "D N"],
    x: Float[Tensor, "B K D"],
    dt: Float[Tensor, "B K D"],
    b: Float[Tensor, "B K N"],
    c: Float[Tensor, "B K N"],
) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B D N"]]:
    """Outputs <c_t, h_t> of one chunk and the state that it hands on."""
    decay = torch.exp(dt[..., None] * a)
    drive = (dt * x)[..., None] * b[:, :, None, :]
    states = []
    for keep, push in zip(decay.unbind(1), drive.unbind(1), strict=True):
        state = torch.addcmul(push, keep, state)
        states.append(state)
    return torch.einsum("bkdn,bkn->bkd", torch.stack(states, dim=1), c), state


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def scan_reference(
    x: Float[Tensor, "B L D"],
    dt: Float[Tensor, "B L D"],
    a: Float[Tensor, "D N"],
    b: Float[Tensor, "B L N"],
    c: Float[Tensor, "B L N"],
    d: Float[Tensor, " D"],
) -> Float[Tensor, "B L D"]:
    """The definition, one step after the other in float64; slow, for tests.

    Source: as the module.
    """
    x, dt, a, b, c, d = (tensor.double() for tensor in (x, dt, a, b, c, d))
    state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
    outputs = []
    for t in range(x.shape[1]):
        step = dt[:, t, :, None]
        state = torch.exp(step * a) * state + step * b[:, t, None, :] * x[:, t, :, None]
        outputs.append((state * c[:, t, None, :]).sum(-1) + d * x[:, t])
    return torch.stack(outputs, dim=1)
