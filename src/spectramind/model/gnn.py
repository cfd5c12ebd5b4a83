"""Dense relational graph network over the wavelengths: attention (gat) or convolution (rgcn).

Shapes: B planets, W nodes, D hidden width, R relations (the self loop is relation 0), H heads.

A gate in [0, 1] closes edges and is differentiable: 1 leaves an edge as it is, 0 takes it away.
Of shape (W, W) it acts on all relations of a pair, of shape (R, W, W) on each relation by itself;
[i, j] is what node i hears of node j. Self loops stay open whatever the gate says.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from spectramind.model.settings import AirsEncoderConfig

_FEED_FORWARD = 2  # inner width of a layer's feed-forward part over its width
_CLOSED = 1e-6  # openness below which the split among relations fades

Gate = Float[Tensor, "R W W"] | Float[Tensor, "W W"]


class RelationalAttention(nn.Module):
    """softmax_j(<q_i, k_j> / sqrt(D/H) + sum_r bias_rh [edge ij in r]) over the neighbours of i.

    Nodes without a common relation do not see each other; the bias of each edge type and head
    is learned. With a gate g an edge weighs

        w_ij = m_ij exp(<q_i, k_j> / sqrt(D/H) + sum_r bias_rh g_rij / m_ij),  m_ij = max_r g_rij

    over the relations r of the edge, and node i hears sum_j w_ij v_j / sum_j w_ij: an edge is as
    open as the most open of its relations. A closed relation leaves the graph without it.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2, with a bias per edge type as in
    Ying et al. 2021, arXiv 2106.05234, section 3.1.2; differs in masking non-neighbours.
    """

    edges: Float[Tensor, "R W W"]
    apart: Bool[Tensor, "W W"]

    def __init__(self, hidden: int, heads: int, relations: Bool[Tensor, "R W W"]) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.bias = nn.Parameter(torch.zeros(len(relations), heads))
        self.out = nn.Linear(hidden, hidden)
        self.register_buffer("edges", relations.float(), persistent=False)
        self.register_buffer("apart", ~relations.any(0), persistent=False)

    def forward(
        self, nodes: Float[Tensor, "B W D"], gate: Gate | None = None
    ) -> Float[Tensor, "B W D"]:
        """Weighted mean of the neighbours' values, mixed over heads."""
        qkv = self.qkv(nodes).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        if gate is None:
            bias = self.edge_bias()[None].to(query.dtype)
            heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            heard = self._attention(query, key, gate).to(value.dtype) @ value
        return self.out(heard.transpose(1, 2).flatten(2))

    def edge_bias(self) -> Float[Tensor, "H W W"]:
        """What an edge's types add to its logit in each head; -inf where there is no edge."""
        return self._bias(self.edges).masked_fill(self.apart, -torch.inf)

    def _attention(
        self, query: Float[Tensor, "B H W C"], key: Float[Tensor, "B H W C"], gate: Gate
    ) -> Float[Tensor, "B H W W"]:
        shares = _gated(self.edges, gate)
        openness = shares.amax(0)
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        logits = logits + self._bias(shares / openness.clamp(min=_CLOSED))
        peak = logits.masked_fill(openness == 0, -torch.inf).amax(-1, keepdim=True).detach()
        # Only a closed edge rises above the peak; the clamp keeps its 0 * exp(.) finite.
        weights = openness * (logits - peak).clamp(max=0).exp()
        return weights / weights.sum(-1, keepdim=True)

    def _bias(self, shares: Float[Tensor, "R W W"]) -> Float[Tensor, "H W W"]:
        return torch.einsum("rh,rij->hij", self.bias, shares)


class RelationalConvolution(nn.Module):
    """sum_r mean over the neighbours of i in relation r of W_r x_j.

    W_r is block diagonal with one block a head; a node without a neighbour in a relation gets
    nothing from it. A gate g multiplies the messages, g_rij W_r x_j, and leaves the mean over
    the neighbours of the whole graph: a closed edge is silent, and the others do not grow
    louder for it.

    Source: Schlichtkrull et al. 2018, arXiv 1703.06103, equations 2 and 4.
    """

    edges: Float[Tensor, "R W W"]  # each row over its number of neighbours

    def __init__(self, hidden: int, heads: int, relations: Bool[Tensor, "R W W"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(initial_blocks(hidden, heads, len(relations)))
        self.out = nn.Linear(hidden, hidden)
        degree = relations.sum(-1, keepdim=True).clamp(min=1)
        self.register_buffer("edges", relations.float() / degree, persistent=False)

    def forward(
        self, nodes: Float[Tensor, "B W D"], gate: Gate | None = None
    ) -> Float[Tensor, "B W D"]:
        """Mean messages of each relation through its own weight, summed and mixed."""
        edges = self.edges if gate is None else _gated(self.edges, gate)
        blocks = nodes.unflatten(-1, (self.weight.shape[1], -1))
        sent = torch.einsum("bjhc,rhcd->brjhd", blocks, self.weight).flatten(3).flatten(1, 2)
        return self.out(edges.transpose(0, 1).flatten(1).to(sent.dtype) @ sent)


def initial_blocks(hidden: int, heads: int, relations: int) -> Float[Tensor, "R H C C"]:
    """Uniform weights of variance 1 / (3 R C), as if the R messages of width C were one input."""
    width = hidden // heads
    reach = (relations * width) ** -0.5
    return torch.empty(relations, heads, width, width).uniform_(-reach, reach)


def _gated(edges: Float[Tensor, "R W W"], gate: Gate) -> Float[Tensor, "R W W"]:
    """Edges times their gate; the self loops, relation 0, stay open."""
    return edges * torch.where(edges[0] > 0, 1.0, gate)


class GraphLayer(nn.Module):
    """x + dropout(messages(norm x)), then x + dropout(feed_forward(norm x))."""

    def __init__(self, config: AirsEncoderConfig, messages: nn.Module) -> None:
        super().__init__()
        hidden = config.hidden
        self.norm = nn.RMSNorm(hidden)
        self.messages = messages
        self.feed_forward = nn.Sequential(
            nn.RMSNorm(hidden),
            nn.Linear(hidden, _FEED_FORWARD * hidden),
            nn.SiLU(),
            nn.Linear(_FEED_FORWARD * hidden, hidden),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, nodes: Float[Tensor, "... W D"], *graph: Tensor | None
    ) -> Float[Tensor, "... W D"]:
        """One round of messages between neighbours; `graph` goes to them as it is."""
        nodes = nodes + self.dropout(self.messages(self.norm(nodes), *graph))
        return nodes + self.dropout(self.feed_forward(nodes))


class GraphStack(nn.Module):
    """Embedding, layers of messages of one kind, and a norm: all weights of the encoder."""

    def __init__(
        self, config: AirsEncoderConfig, features: int, messages: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, config.hidden)
        self.layers = nn.ModuleList(GraphLayer(config, messages()) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden)

    def run(
        self, features: Float[Tensor, "... W F"], *graph: Tensor | None
    ) -> Float[Tensor, "... W D"]:
        """Embed the features and pass messages along the graph."""
        nodes = self.embed(features).float()  # the residual stream keeps float32 under autocast
        for layer in self.layers:
            nodes = layer(nodes, *graph)
        return self.norm(nodes)


class GraphEncoder(GraphStack):
    """A state for every wavelength from its features and its neighbours."""

    def __init__(
        self, config: AirsEncoderConfig, features: int, relations: Bool[Tensor, "R W W"]
    ) -> None:
        kind = RelationalAttention if config.gnn_type == "gat" else RelationalConvolution
        super().__init__(config, features, lambda: kind(config.hidden, config.heads, relations))

    def forward(
        self, features: Float[Tensor, "B W F"], gate: Gate | None = None
    ) -> Float[Tensor, "B W D"]:
        """Embed the features and pass messages; every layer has the same gate."""
        return self.run(features, gate)
