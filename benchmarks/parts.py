"""Networks of benchmarks/ablation.py that lack a part, or have another one in its place."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spectramind.model.gnn import GraphEncoder
from spectramind.model.network import V50, FeatureSizes
from spectramind.model.settings import ModelConfig

_HEADS = 4  # of the transformer


class Silent(nn.Module):
    """Zeros of a fixed width, whatever it is told."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, first: Tensor, *_: object) -> Tensor:
        """Zeros for every planet."""
        return first.new_zeros(len(first), *self.shape)


class TransformerBlock(nn.Module):
    """Self-attention among tokens in place of a selective scan, as many parameters as nearly fit.

    The feed-forward width makes up for the parameters of the Mamba block it replaces.
    """

    def __init__(self, width: int, parameters: int, tokens: int) -> None:
        super().__init__()
        attention = 4 * width * width
        inner = max((parameters - attention) // (2 * width), width)
        self.layer = nn.TransformerEncoderLayer(
            width, _HEADS, inner, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        place = torch.arange(tokens)[:, None] / torch.logspace(0, 3, width // 2)
        encoding = torch.cat([torch.sin(place), torch.cos(place)], dim=-1)
        self.register_buffer("encoding", 0.1 * encoding, persistent=False)

    encoding: Tensor

    def forward(
        self, x: Float[Tensor, "S K D"], inside: Bool[Tensor, "S K"]
    ) -> Float[Tensor, "S K D"]:
        """Tokens after the end of a sequence are not attended to."""
        return self.layer(x + self.encoding[: x.shape[1]], src_key_padding_mask=~inside)


def whole(model: ModelConfig, sizes: FeatureSizes) -> V50:
    """The network as configured."""
    return V50(model, sizes)


def without_fgs1(model: ModelConfig, sizes: FeatureSizes) -> V50:
    """The FGS1 state is zero."""
    network = V50(model, sizes)
    network.fgs1 = Silent(model.encoders.fgs1.d_model)  # pyright: ignore[reportAttributeAccessIssue]
    return network


def without_graph(model: ModelConfig, sizes: FeatureSizes) -> V50:
    """Every wavelength hears itself alone; layers and widths stay."""
    network = V50(model, sizes)
    wavelengths = len(network.readout.patterns)
    alone = torch.eye(wavelengths, dtype=torch.bool)[None]
    network.airs = GraphEncoder(model.encoders.airs, sizes.nodes + sizes.planet, alone)
    return network


def without_readout(model: ModelConfig, sizes: FeatureSizes) -> V50:
    """No state of the whole spectrum."""
    network = V50(model, sizes)
    patterns = network.readout.patterns.shape
    network.readout = Silent(*patterns)  # pyright: ignore[reportAttributeAccessIssue]
    return network


def with_transformer(model: ModelConfig, sizes: FeatureSizes) -> V50:
    """Self-attention in place of the Mamba blocks, at equal size."""
    network = V50(model, sizes)
    blocks = network.fgs1.blocks
    parameters = sum(p.numel() for p in blocks[0].parameters())
    width = model.encoders.fgs1.d_model
    network.fgs1.blocks = nn.ModuleList(
        TransformerBlock(width, parameters, tokens=4096) for _ in blocks
    )
    return network
