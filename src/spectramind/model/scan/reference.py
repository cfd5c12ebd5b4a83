"""The definition of the selective scan, one step after the other in float64."""

import torch
from jaxtyping import Float
from torch import Tensor


def scan_reference(
    x: Float[Tensor, "B L D"],
    dt: Float[Tensor, "B L D"],
    a: Float[Tensor, "D N"],
    b: Float[Tensor, "B L N"],
    c: Float[Tensor, "B L N"],
    d: Float[Tensor, " D"],
) -> Float[Tensor, "B L D"]:
    """Slow, for tests. `unbind` takes the steps apart: indexing is quadratic in L backward.

    Source: as the package.
    """
    x, dt, a, b, c, d = (tensor.double() for tensor in (x, dt, a, b, c, d))
    state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
    outputs = []
    for x_t, dt_t, b_t, c_t in zip(*(series.unbind(1) for series in (x, dt, b, c)), strict=True):
        step = dt_t[:, :, None]
        state = torch.exp(step * a) * state + step * b_t[:, None, :] * x_t[:, :, None]
        outputs.append((state * c_t[:, None, :]).sum(-1) + d * x_t)
    return torch.stack(outputs, dim=1)
