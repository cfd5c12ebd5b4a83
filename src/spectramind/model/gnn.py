"""Dense relational graph network over the wavelengths: attention (gat) or convolution (rgcn).

Shapes: B planets, W nodes, D hidden width, R relations (the self loop is relation 0), H heads.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, StrictInt, model_validator
from torch import Tensor, nn

from spectramind.model.graph import EdgeType
from spectramind.settings import Settings

_FEED_FORWARD = 2  # inner width of a layer's feed-forward part over its width


class AirsEncoderConfig(Settings):
    """Graph network over the 283 wavelengths."""

    type: Literal["gnn"]  # kind of encoder
    gnn_type: Literal["gat", "rgcn"]  # attention | convolution a relation
    hidden: StrictInt = Field(ge=1)  # width of a node
    layers: StrictInt = Field(ge=1)  # message-passing layers
    heads: StrictInt = Field(ge=1)  # attention heads (gat) or diagonal blocks of a weight (rgcn)
    dropout: float = Field(ge=0, lt=1)  # share of a layer's output that is dropped
    edge_types: tuple[EdgeType, ...] = Field(min_length=1)  # relations besides the self loop
    neighbours: StrictInt = Field(ge=1)  # reach of `adjacent` on each side [bins]
    detector_block: StrictInt = Field(ge=1)  # width of a region of `detector` [columns]

    @model_validator(mode="after")
    def _fits_together(self) -> "AirsEncoderConfig":
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        if len(set(self.edge_types)) < len(self.edge_types):
            raise ValueError(f"edge_types names a relation twice: {', '.join(self.edge_types)}")
        return self


class RelationalAttention(nn.Module):
    """softmax_j(<q_i, k_j> / sqrt(D/H) + sum_r bias_rh [edge ij in r]) over the neighbours of i.

    Nodes without a common relation do not see each other; the bias of each edge type and head
    is learned.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2, with a bias an edge type as in
    Ying et al. 2021, arXiv 2106.05234, section 3.1.2; differs in masking non-neighbours.
    """

    def __init__(self, hidden: int, heads: int, relations: Bool[Tensor, "R W W"]) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.bias = nn.Parameter(torch.zeros(len(relations), heads))
        self.out = nn.Linear(hidden, hidden)
        self.register_buffer("edges", relations.float(), persistent=False)
        self.register_buffer("apart", ~relations.any(0), persistent=False)

    def forward(self, nodes: Float[Tensor, "B W D"]) -> Float[Tensor, "B W D"]:
        """Weighted mean of the neighbours' values, mixed over heads."""
        qkv = self.qkv(nodes).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        bias = torch.einsum("rh,rij->hij", self.bias, self.edges)
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
        attention = logits.masked_fill(self.apart, -torch.inf).softmax(-1)
        return self.out((attention.to(value.dtype) @ value).transpose(1, 2).flatten(2))


class RelationalConvolution(nn.Module):
    """sum_r mean over the neighbours of i in relation r of W_r x_j.

    W_r is block diagonal with one block a head; a node without a neighbour in a relation gets
    nothing from it.

    Source: Schlichtkrull et al. 2018, arXiv 1703.06103, equations 2 and 4.
    """

    def __init__(self, hidden: int, heads: int, relations: Bool[Tensor, "R W W"]) -> None:
        super().__init__()
        width = hidden // heads
        reach = width**-0.5
        weight = torch.empty(len(relations), heads, width, width).uniform_(-reach, reach)
        self.weight = nn.Parameter(weight)
        self.out = nn.Linear(hidden, hidden)
        degree = relations.sum(-1, keepdim=True).clamp(min=1)
        self.register_buffer("edges", relations.float() / degree, persistent=False)

    def forward(self, nodes: Float[Tensor, "B W D"]) -> Float[Tensor, "B W D"]:
        """Mean messages of each relation through its own weight, summed and mixed."""
        blocks = nodes.unflatten(-1, (self.weight.shape[1], -1))
        heard = torch.einsum("rij,bjhc->rbihc", self.edges.to(nodes.dtype), blocks)
        return self.out(torch.einsum("rbihc,rhcd->bihd", heard, self.weight).flatten(2))


class GraphLayer(nn.Module):
    """x + dropout(messages(norm x)), then x + dropout(feed_forward(norm x))."""

    def __init__(self, config: AirsEncoderConfig, relations: Bool[Tensor, "R W W"]) -> None:
        super().__init__()
        hidden, heads = config.hidden, config.heads
        self.norm = nn.RMSNorm(hidden)
        if config.gnn_type == "gat":
            self.messages = RelationalAttention(hidden, heads, relations)
        else:
            self.messages = RelationalConvolution(hidden, heads, relations)
        self.feed_forward = nn.Sequential(
            nn.RMSNorm(hidden),
            nn.Linear(hidden, _FEED_FORWARD * hidden),
            nn.SiLU(),
            nn.Linear(_FEED_FORWARD * hidden, hidden),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, nodes: Float[Tensor, "B W D"]) -> Float[Tensor, "B W D"]:
        """One round of messages between neighbours."""
        nodes = nodes + self.dropout(self.messages(self.norm(nodes)))
        return nodes + self.dropout(self.feed_forward(nodes))


class GraphEncoder(nn.Module):
    """A state for every wavelength from its features and its neighbours."""

    def __init__(
        self, config: AirsEncoderConfig, features: int, relations: Bool[Tensor, "R W W"]
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, config.hidden)
        self.layers = nn.ModuleList(GraphLayer(config, relations) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden)

    def forward(self, features: Float[Tensor, "B W F"]) -> Float[Tensor, "B W D"]:
        """Embed the features and pass messages."""
        nodes = self.embed(features).float()  # the residual stream keeps float32 under autocast
        for layer in self.layers:
            nodes = layer(nodes)
        return self.norm(nodes)
