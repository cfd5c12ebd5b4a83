"""The heads: small perceptrons that all wavelengths share; their output is 0 until trained."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spectramind.model.settings import CovarianceHeadConfig

_FIRST_LOADING = 0.01  # typical loading of an untrained network


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
        """K numbers per wavelength."""
        return self.last(self.hidden(state))


class CovarianceHead(nn.Module):
    """K factors U of the errors; the diagonal part shrinks so that the marginal sigma stays.

    With loadings l (B, W, K) from a perceptron, U = sigma l / sqrt(1 + |l|^2). The correlation
    matrix is that of I + L L^T.

    U = 0 would be a stationary point of every likelihood, which depends on U U^T, and no training
    would leave it. So the loadings start small instead; mu and sigma do not depend on them.

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
        """The factors, in the unit of sigma."""
        loadings = self.loadings(state).to(sigma.dtype)
        reach = torch.sqrt(1.0 + loadings.square().sum(-1))
        return loadings * (sigma / reach)[..., None]


def soft_bound(value: Float[Tensor, "B W"], bound: float) -> Float[Tensor, "B W"]:
    """Bound * tanh(value / bound): the value itself where small, never beyond the bound.

    Source: own choice; keeps sigma within a factor exp(bound) of the fit's, so that a few
    planets cannot make it collapse.
    """
    return bound * torch.tanh(value / bound)
