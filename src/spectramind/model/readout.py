"""The readout: a perceptron over all wavelengths that weighs learned spectral patterns.

A spectrum has few causes (gases, temperature, clouds) that reach over all of it. Message passing
sees a wavelength's neighbours; the readout sees all wavelengths at their places, and weighs
spectral patterns, which are learned like the principal components of a linear model.

Shapes: B planets, W wavelengths, D width of a node, C of what is common, K patterns.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spectramind.model.settings import FusionConfig


class Readout(nn.Module):
    """MLP over all wavelengths side by side, and its weights times learned patterns.

    Source: the factored answer is that of an operator network with a learned trunk, Lu et al.
    2021, arXiv 1910.03193, equation 2; own form.
    """

    def __init__(self, config: FusionConfig, nodes: int, common: int, wavelengths: int) -> None:
        super().__init__()
        width = config.width
        self.narrow = nn.Linear(nodes, config.channels)
        self.first = nn.Sequential(
            nn.Linear(wavelengths * config.channels + common, width), nn.SiLU()
        )
        self.between = nn.RMSNorm(width)
        self.second = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.norm = nn.RMSNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.weights = nn.Linear(width, config.patterns)
        self.patterns = nn.Parameter(torch.randn(wavelengths, config.patterns))

    def forward(
        self, nodes: Float[Tensor, "B W D"], common: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B W K"]:
        """Each pattern at each wavelength, times its weight for the planet."""
        flat = torch.cat([self.narrow(nodes).flatten(1), common], dim=-1)
        state = self.between(self.first(flat).float())  # float32 under autocast
        state = self.norm(state + self.second(state))
        return self.weights(self.dropout(state))[:, None] * self.patterns
