"""Training without labels: filling gaps, and matching light curves with spectra.

masked autoencoding -> contrastive alignment -> supervised (`training.module`). The first two
train the encoders through small heads of their own, which are dropped afterwards.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spectramind.model.network import V50, Batch
from spectramind.training.settings import ContrastiveConfig, MaskedConfig


class MaskedAutoencoding(nn.Module):
    """Mean square error of hidden series tokens and of hidden wavelength blocks.

    Hidden time bins lose their flag of validity, hidden wavelengths get the features 0, which
    are the typical ones; one linear head per kind of input predicts them.

    Source: He et al. 2022, arXiv 2111.06377 (masking of inputs); own form for series and graph.
    """

    def __init__(self, network: V50, config: MaskedConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.stride, self.channels = network.fgs1.stride, network.sizes.series
        width = network.fgs1.stem.out_channels
        self.series = nn.Linear(width, self.stride * self.channels)
        self.nodes = nn.Linear(network.airs.embed.out_features, network.sizes.nodes)

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Sum of the errors of series and nodes."""
        return self.series_error(batch) + self.nodes_error(batch)

    def series_error(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean square error of the hidden bins of the FGS1 series; 0 where nothing is hidden."""
        present = batch.mask.any(-1)
        series, mask = batch.series[present], batch.mask[present]
        hidden = self._hidden(mask) & mask
        states = self.network.fgs1.tokens(series, mask & ~hidden)
        guess = self.series(states).unflatten(-1, (self.channels, self.stride))
        guess = guess.transpose(1, 2).flatten(2)[..., : series.shape[-1]]
        square = (guess - series).square().mean(1)
        return (square * hidden).sum() / hidden.sum().clamp(min=1)

    def nodes_error(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean square error of the features of hidden wavelengths."""
        planets, wavelengths = batch.nodes.shape[:2]
        blocks = -(-wavelengths // self.config.block)
        drawn = torch.rand(planets, blocks, device=batch.nodes.device) < self.config.hidden_share
        hidden = drawn.repeat_interleave(self.config.block, dim=1)[:, :wavelengths, None]
        states = self.network.spectrum(batch.nodes.masked_fill(hidden, 0.0), batch.planet)
        guess = self.nodes(states)
        square = (guess - batch.nodes).square().mean(-1, keepdim=True)
        return (square * hidden).sum() / hidden.sum().clamp(min=1)

    def _hidden(self, mask: Bool[Tensor, "S L"]) -> Bool[Tensor, "S L"]:
        tokens = -(-mask.shape[-1] // self.stride)
        drawn = torch.rand(len(mask), tokens, device=mask.device) < self.config.hidden_share
        return drawn.repeat_interleave(self.stride, dim=1)[:, : mask.shape[-1]]


class ContrastiveAlignment(nn.Module):
    """Cross-entropy of finding the spectrum that belongs to a light curve, and the reverse.

    Both encoders' readouts are projected to unit vectors; within a batch the right partner must
    have the largest cosine, over `temperature`.

    Source: Radford et al. 2021, arXiv 2103.00020, figure 3.
    """

    def __init__(self, network: V50, config: ContrastiveConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.curve = nn.Linear(network.fgs1.stem.out_channels, config.width, bias=False)
        self.spectrum = nn.Linear(network.airs.embed.out_features, config.width, bias=False)

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean over both directions [nat]; 0 for a single planet."""
        curve = F.normalize(self.curve(self.network.fgs1(batch.series, batch.mask)), dim=-1)
        nodes = self.network.spectrum(batch.nodes, batch.planet)
        spectrum = F.normalize(self.spectrum(nodes.mean(1)), dim=-1)
        logits = curve @ spectrum.T / self.config.temperature
        own = torch.arange(len(logits), device=logits.device)
        return 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
