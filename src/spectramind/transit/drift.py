"""Gain drift 1 + sum_ij c_ij T_i(time) T_j(wavelength), Chebyshev polynomials in both.

Time runs from -1 to 1 over a visit and wavelength over AIRS-CH0; FGS1 has a drift of its own
over time alone. i starts at 1: what is constant in time belongs to the star. The covariance of
c is that of a product f(t) g(w), (time) x (wavelength), and is learned with the other priors:
an order that the data do not ask for ends with a scatter of nothing.

Source: form of ExoSim 2, addGainDrift (Mugnai et al. 2025).
"""

import torch
from jaxtyping import Float
from torch import Tensor


def chebyshev(x: Float[Tensor, "*S"], order: int) -> Float[Tensor, "*S N"]:
    """T_0..T_order at x."""
    terms = [torch.ones_like(x), x]
    for _ in range(order - 1):
        terms.append(2.0 * x * terms[-1] - terms[-2])
    return torch.stack(terms[: order + 1], dim=-1)


def chebyshev_slopes(x: Float[Tensor, "*S"], order: int) -> Float[Tensor, "*S N"]:
    """Derivatives of T_0..T_order at x, by dT_n/dx = n U_(n-1)."""
    second = [torch.ones_like(x), 2.0 * x]
    for _ in range(order - 1):
        second.append(2.0 * x * second[-1] - second[-2])
    slopes = [torch.zeros_like(x)] + [n * second[n - 1] for n in range(1, order + 1)]
    return torch.stack(slopes, dim=-1)


def log_gain(
    fgs1: Float[Tensor, "B V I"],
    airs: Float[Tensor, "B V I J"],
    time: Float[Tensor, "B V 2 T I"],
    wavelength: Float[Tensor, "A J"],
) -> Float[Tensor, "B V W T"]:
    """Logarithm of the drift at FGS1 (column 0) and each of A AIRS-CH0 columns.

    Args:
        fgs1: Coefficients of FGS1.
        airs: Coefficients of AIRS-CH0.
        time: T_1..T_I at the bins of FGS1 and of AIRS-CH0.
        wavelength: T_0..T_(J-1) at the columns.
    """
    first = torch.einsum("bvti,bvi->bvt", time[:, :, 0], fgs1)
    others = torch.einsum("bvti,bvij,wj->bvwt", time[:, :, 1], airs, wavelength)
    return torch.log1p(torch.cat([first[:, :, None], others], dim=2))
