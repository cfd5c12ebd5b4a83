"""Mamba encoder of the FGS1 light curve: strided stem, selective blocks, masked mean.

Shapes: S sequences (one a visit), C channels, L time bins, K tokens, D model width, I inner
width, N states.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, StrictInt
from torch import Tensor, nn
from torch.nn import functional as F

from spectramind.model.scan import selective_scan
from spectramind.settings import Settings

_DT_RANGE = (1e-3, 1e-1)  # initial step sizes, log-uniform (Mamba paper, section 3.6)
_DT_RANK_DIVISOR = 16  # rank of the step size is D / 16 (same)


class Fgs1EncoderConfig(Settings):
    """Encoder of the FGS1 light curve."""

    type: Literal["mamba"]  # kind of encoder
    d_model: StrictInt = Field(ge=1)  # width of a token
    n_layers: StrictInt = Field(ge=1)  # Mamba blocks
    dropout: float = Field(ge=0, lt=1)  # share of a block's output that is dropped
    d_state: StrictInt = Field(ge=1)  # states a channel
    d_conv: StrictInt = Field(ge=1)  # length of the causal convolution [tokens]
    expand: StrictInt = Field(ge=1)  # inner width over d_model
    stride: StrictInt = Field(ge=1)  # time bins a token


class MambaBlock(nn.Module):
    """x + dropout(out(scan(silu(conv(in_x(norm x)))) * silu(in_z(norm x)))).

    Source: Gu and Dao 2023, arXiv 2312.00752, figure 3; RMSNorm before the block.
    """

    def __init__(self, config: Fgs1EncoderConfig) -> None:
        super().__init__()
        width, states = config.d_model, config.d_state
        self.inner = config.expand * width
        self.splits = [math.ceil(width / _DT_RANK_DIVISOR), states, states]
        self.norm = nn.RMSNorm(width)
        self.in_proj = nn.Linear(width, 2 * self.inner, bias=False)
        self.conv = nn.Conv1d(self.inner, self.inner, config.d_conv, groups=self.inner)
        self.select = nn.Linear(self.inner, sum(self.splits), bias=False)
        self.dt_proj = nn.Linear(self.splits[0], self.inner)
        self.log_rate = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(self.inner, 1))
        self.direct = nn.Parameter(torch.ones(self.inner))
        self.out_proj = nn.Linear(self.inner, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self._spread_steps()

    def _spread_steps(self) -> None:
        """Start with step sizes log-uniform in the paper's range: softplus(bias) = dt."""
        low, high = (math.log(edge) for edge in _DT_RANGE)
        dt = torch.exp(torch.empty(self.inner).uniform_(low, high))
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x: Float[Tensor, "S K D"]) -> Float[Tensor, "S K D"]:
        """One residual block; step t sees steps up to t only."""
        stream, gate = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        causal = F.pad(stream.transpose(1, 2), (self.conv.kernel_size[0] - 1, 0))
        stream = F.silu(self.conv(causal).transpose(1, 2))
        dt, b, c = self.select(stream).split(self.splits, dim=-1)
        dt = F.softplus(self.dt_proj(dt))
        rate = -torch.exp(self.log_rate)
        stream = selective_scan(stream, dt, rate, b, c, self.direct)
        return x + self.dropout(self.out_proj(stream * F.silu(gate)))


class Fgs1Encoder(nn.Module):
    """One state a planet from the FGS1 series of its visits."""

    def __init__(self, config: Fgs1EncoderConfig, channels: int) -> None:
        super().__init__()
        self.stride = config.stride
        self.stem = nn.Conv1d(channels + 1, config.d_model, config.stride, stride=config.stride)
        self.blocks = nn.ModuleList(MambaBlock(config) for _ in range(config.n_layers))
        self.norm = nn.RMSNorm(config.d_model)

    def forward(
        self, series: Float[Tensor, "B V C L"], mask: Bool[Tensor, "B V L"]
    ) -> Float[Tensor, "B D"]:
        """Encode every visit that has data and average its tokens, then the visits.

        Args:
            series: Input channels, in time order; ignored where `mask` is False.
            mask: True where a bin holds data. A planet has at least one such bin.

        Returns:
            The state of each planet, independent of padding after the last bin.
        """
        present = mask.any(-1)
        states = self.encode(series[present], mask[present])
        visits = states.new_zeros(*present.shape, states.shape[-1])
        visits[present] = states
        return visits.sum(1) / present.sum(1, keepdim=True)

    def encode(
        self, series: Float[Tensor, "S C L"], mask: Bool[Tensor, "S L"]
    ) -> Float[Tensor, "S D"]:
        """Mean over the tokens that hold data."""
        tail = -mask.shape[-1] % self.stride
        valid = F.pad(mask[:, None].to(series.dtype), (0, tail))
        weight = F.max_pool1d(valid, self.stride).transpose(1, 2)
        return (self.tokens(series, mask) * weight).sum(1) / weight.sum(1)

    def tokens(
        self, series: Float[Tensor, "S C L"], mask: Bool[Tensor, "S L"]
    ) -> Float[Tensor, "S K D"]:
        """States of the tokens, `stride` bins each; bins without data are marked and zero."""
        valid = mask[:, None].to(series.dtype)
        channels = torch.cat([series.masked_fill(~mask[:, None], 0.0), valid], dim=1)
        channels = F.pad(channels, (0, -channels.shape[-1] % self.stride))
        tokens = self.stem(channels).transpose(1, 2).float()  # float32 residuals under autocast
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)
