"""Mamba encoder of the FGS1 light curve: strided stem, selective blocks, masked mean.

Shapes: S sequences (one per visit), C channels, L time bins, K tokens, D model width, I inner
width.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spectramind.model.scan import selective_scan
from spectramind.model.settings import Fgs1EncoderConfig

_DT_RANGE = (1e-3, 1e-1)  # initial step sizes, log-uniform (Mamba paper, section 3.6)
_DT_RANK_DIVISOR = 16  # rank of the step size is D / 16 (same)


class SelectivePath(nn.Module):
    """scan(silu(conv(x))) with step sizes and weights of the states chosen by the input itself.

    Source: Gu and Dao 2023, arXiv 2312.00752, figure 3 and section 3.6.
    """

    def __init__(self, config: Fgs1EncoderConfig) -> None:
        super().__init__()
        inner, states = config.expand * config.d_model, config.d_state
        self.splits = [math.ceil(config.d_model / _DT_RANK_DIVISOR), states, states]
        self.conv = nn.Conv1d(inner, inner, config.d_conv, groups=inner)
        self.select = nn.Linear(inner, sum(self.splits), bias=False)
        self.dt_proj = nn.Linear(self.splits[0], inner)
        self.log_rate = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.direct = nn.Parameter(torch.ones(inner))
        self._spread_steps()

    def _spread_steps(self) -> None:
        """Start with step sizes log-uniform in the paper's range: softplus(bias) = dt."""
        low, high = (math.log(edge) for edge in _DT_RANGE)
        dt = torch.exp(torch.empty_like(self.direct).uniform_(low, high))
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(
        self, stream: Float[Tensor, "S K I"], inside: Float[Tensor, "S K 1"] | None
    ) -> Float[Tensor, "S K I"]:
        """Step t sees steps up to t only; a step where `inside` is 0 leaves no trace."""
        if inside is not None:
            stream = stream * inside
        causal = F.pad(stream.transpose(1, 2), (self.conv.kernel_size[0] - 1, 0))
        stream = F.silu(self.conv(causal).transpose(1, 2))
        if inside is not None:
            stream = stream * inside  # the bias of the convolution would enter the state
        dt, b, c = self.select(stream).split(self.splits, dim=-1)
        dt = F.softplus(self.dt_proj(dt))
        return selective_scan(stream, dt, -torch.exp(self.log_rate), b, c, self.direct)


class MambaBlock(nn.Module):
    """x + dropout(out(paths(in_x(norm x)) * silu(in_z(norm x)))).

    `paths` is the path forward in time, and where `bidirectional` is set the sum of it and of a
    path of its own weights over the reversed tokens.

    Source: Gu and Dao 2023, arXiv 2312.00752, figure 3; RMSNorm before the block. Both
    directions under one gate as in Zhu et al. 2024, arXiv 2401.09417, algorithm 1; differs in
    leaving out what lies after the last token of a sequence.
    """

    def __init__(self, config: Fgs1EncoderConfig) -> None:
        super().__init__()
        inner = config.expand * config.d_model
        self.norm = nn.RMSNorm(config.d_model)
        self.in_proj = nn.Linear(config.d_model, 2 * inner, bias=False)
        self.onward = SelectivePath(config)
        self.back = SelectivePath(config) if config.bidirectional else None
        self.out_proj = nn.Linear(inner, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "S K D"], inside: Bool[Tensor, "S K"]
    ) -> Float[Tensor, "S K D"]:
        """One residual block.

        Args:
            x: Tokens.
            inside: False after the last token of a sequence that holds data.

        Returns:
            Tokens that depend on those before them, or if bidirectional on all that are inside.
        """
        stream, gate = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        heard = self.onward(stream, None)
        if self.back is not None:
            ending = inside[..., None].to(stream.dtype).flip(1)
            heard = heard + self.back(stream.flip(1), ending).flip(1)
        return x + self.dropout(self.out_proj(heard * F.silu(gate)))


class Fgs1Encoder(nn.Module):
    """One state per planet from the FGS1 series of its visits."""

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
            mask: True where a bin holds data.

        Returns:
            The state of each planet, independent of padding after the last bin; 0 for a planet
            without such a bin.
        """
        present = mask.any(-1)
        present[:, 0] |= ~present.any(-1)  # one series of a planet is read, if only as empty
        states = self.encode(series[present], mask[present])
        visits = states.new_zeros(*present.shape, states.shape[-1])
        visits[present] = states
        return visits.sum(1) / present.sum(1, keepdim=True)

    def encode(
        self, series: Float[Tensor, "S C L"], mask: Bool[Tensor, "S L"]
    ) -> Float[Tensor, "S D"]:
        """Mean over the tokens that hold data."""
        weight = self._held(mask)[..., None].to(series.dtype)
        return (self.tokens(series, mask) * weight).sum(1) / weight.sum(1).clamp_min(1.0)

    def tokens(
        self, series: Float[Tensor, "S C L"], mask: Bool[Tensor, "S L"]
    ) -> Float[Tensor, "S K D"]:
        """States of the tokens, `stride` bins each; bins without data are marked and zero."""
        valid = mask[:, None].to(series.dtype)
        channels = torch.cat([series.masked_fill(~mask[:, None], 0.0), valid], dim=1)
        channels = F.pad(channels, (0, -channels.shape[-1] % self.stride))
        tokens = self.stem(channels).transpose(1, 2).float()  # float32 residuals under autocast
        inside = self._held(mask).flip(1).cumsum(1).flip(1) > 0
        for block in self.blocks:
            tokens = block(tokens, inside)
        return self.norm(tokens)

    def _held(self, mask: Bool[Tensor, "S L"]) -> Bool[Tensor, "S K"]:
        """Which tokens hold data in at least one of their bins."""
        padded = F.pad(mask, (0, -mask.shape[-1] % self.stride))
        return padded.unflatten(-1, (-1, self.stride)).any(-1)
