"""The heads: small perceptrons a wavelength, silent until trained."""

from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, StrictInt, model_validator
from torch import Tensor, nn

from spectramind.model.diffusion import DiffusionConfig
from spectramind.settings import Settings

Width = Annotated[StrictInt, Field(ge=1)]

_FIRST_LOADING = 0.01  # typical loading of an untrained network


class MuHeadConfig(Settings):
    """Head of the mean's correction."""

    hidden: tuple[Width, ...] = Field(min_length=1)  # widths of the hidden layers


class SigmaHeadConfig(Settings):
    """Head of the error bar's correction."""

    hidden: tuple[Width, ...] = Field(min_length=1)  # widths of the hidden layers
    max_log_scale: float = Field(gt=0, le=10)  # bound of |ln(sigma / sigma_fit)|


class CovarianceHeadConfig(Settings):
    """Head of the correlations between wavelengths."""

    rank: StrictInt = Field(ge=0, le=32)  # factors a planet; 0: independent wavelengths
    hidden: tuple[Width, ...] = Field(min_length=1)  # widths of the hidden layers
    weight: float = Field(gt=0)  # of the joint likelihood in the loss


class DecodersConfig(Settings):
    """From the fused state to the spectrum (`configs/decoders`)."""

    mu: MuHeadConfig
    sigma: SigmaHeadConfig
    covariance: CovarianceHeadConfig
    diffusion: DiffusionConfig | None  # None: the Gaussian heads alone

    @model_validator(mode="after")
    def _one_kind_of_correlation(self) -> "DecodersConfig":
        if self.diffusion is not None and self.covariance.rank:
            raise ValueError(
                "the diffusion decoder has correlations of its own, so that covariance.rank "
                "would be ignored; set model.decoders.covariance.rank=0 or use decoders=gaussian"
            )
        return self


class Head(nn.Module):
    """Perceptron with SiLU whose last layer starts at zero, so that its outputs do."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1], outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, state: Float[Tensor, "B W D"]) -> Float[Tensor, "B W K"]:
        """K numbers a wavelength."""
        return self.last(self.hidden(state))


class CovarianceHead(nn.Module):
    """K factors U of the errors, whose diagonal part gives way: the marginal sigma stays.

    With loadings l (B, W, K) from a perceptron, U = sigma l / sqrt(1 + |l|^2). The correlation
    matrix is that of I + L L^T.

    U = 0 would be a stationary point of every likelihood (it holds U twice), from which no
    training departs; so the loadings start small instead, and neither mu nor sigma knows of it.

    Source: factor analysis, Bishop 2006, section 12.2.4; own form with a given diagonal.
    """

    def __init__(self, inputs: int, config: CovarianceHeadConfig) -> None:
        super().__init__()
        self.loadings = Head(inputs, config.hidden, config.rank)
        nn.init.normal_(self.loadings.last.bias, std=_FIRST_LOADING)
        nn.init.normal_(self.loadings.last.weight, std=_FIRST_LOADING)

    def forward(
        self, state: Float[Tensor, "B W D"], sigma: Float[Tensor, "B W"]
    ) -> Float[Tensor, "B W K"]:
        """The factors in units of sigma's."""
        loadings = self.loadings(state).to(sigma.dtype)
        reach = torch.sqrt(1.0 + loadings.square().sum(-1))
        return loadings * (sigma / reach)[..., None]


def soft_bound(value: Float[Tensor, "B W"], bound: float) -> Float[Tensor, "B W"]:
    """Bound * tanh(value / bound): the value itself where small, never beyond the bound.

    Source: own choice; keeps sigma within a factor exp(bound) of the fit's, so that a few
    planets cannot make it collapse.
    """
    return bound * torch.tanh(value / bound)
