"""The heads: a small perceptron a wavelength, silent until trained."""

from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, StrictInt
from torch import Tensor, nn

from spectramind.settings import Settings

Width = Annotated[StrictInt, Field(ge=1)]


class MuHeadConfig(Settings):
    """Head of the mean's correction."""

    hidden: tuple[Width, ...] = Field(min_length=1)  # widths of the hidden layers


class SigmaHeadConfig(Settings):
    """Head of the error bar's correction."""

    hidden: tuple[Width, ...] = Field(min_length=1)  # widths of the hidden layers
    max_log_scale: float = Field(gt=0, le=10)  # bound of |ln(sigma / sigma_fit)|


class DecodersConfig(Settings):
    """Both heads."""

    mu: MuHeadConfig
    sigma: SigmaHeadConfig


class Head(nn.Module):
    """Perceptron with SiLU whose last layer starts at zero, so that its output does."""

    def __init__(self, inputs: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1], 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, state: Float[Tensor, "B W D"]) -> Float[Tensor, "B W"]:
        """One number a wavelength."""
        return self.last(self.hidden(state)).squeeze(-1)


def soft_bound(value: Float[Tensor, "B W"], bound: float) -> Float[Tensor, "B W"]:
    """Bound * tanh(value / bound): the value itself where small, never beyond the bound.

    Source: own choice; keeps sigma within a factor exp(bound) of the fit's, so that a few
    planets cannot make it collapse.
    """
    return bound * torch.tanh(value / bound)
