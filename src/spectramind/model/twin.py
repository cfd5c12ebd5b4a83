"""The graph network edge by edge, in PyTorch Geometric, with the same weights, for its explainers.

`GraphTwin` loads the state of a `GraphEncoder` and gives the same states. It takes the graph as
edges without self loops (`gat_edges`, `rgcn_edges`); the self loops are part of the layers and
no mask reaches them. An edge mask of PyG's explainers acts as the gate of the dense form: one
value per pair of nodes for gat, one per pair and relation for rgcn.

Shapes: W nodes, E edges, F features, D hidden width, R relations, H heads; leading axes are
planets that share the edges. A batch of PyG (planets side by side in W) does as well.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from spectramind.extras import Extra
from spectramind.model.gnn import GraphStack, initial_blocks
from spectramind.model.settings import AirsEncoderConfig

with Extra("explain", "explainers of the graph", instead=""):
    from torch_geometric.nn import MessagePassing
    from torch_geometric.utils import scatter

_FAINTEST = -80.0  # a self loop weighs at least exp(-80): with all edges masked it is alone


def gat_edges(
    relations: Bool[Tensor, "R W W"],
) -> tuple[Int64[Tensor, "2 E"], Float[Tensor, "E R"]]:
    """Sources and targets of all pairs with a relation, and which relations they have.

    Parallel edges are one, as each counts once in the softmax; self loops are left out.
    """
    target, source = _without_loops(relations).any(0).nonzero(as_tuple=True)
    return torch.stack([source, target]), relations[:, target, source].T.float()


def rgcn_edges(
    relations: Bool[Tensor, "R W W"],
) -> tuple[Int64[Tensor, "2 E"], Int64[Tensor, " E"]]:
    """Sources and targets of the edges of each relation, and its index; no self loops."""
    relation, target, source = _without_loops(relations).nonzero(as_tuple=True)
    return torch.stack([source, target]), relation


def _without_loops(relations: Bool[Tensor, "R W W"]) -> Bool[Tensor, "R W W"]:
    return relations & ~torch.eye(relations.shape[-1], dtype=torch.bool, device=relations.device)


class GraphTwin(GraphStack):
    """A state for every wavelength from its features and the edges given."""

    def __init__(self, config: AirsEncoderConfig, features: int, relations: int) -> None:
        kind = AttentionMessages if config.gnn_type == "gat" else ConvolutionMessages
        super().__init__(config, features, lambda: kind(config.hidden, config.heads, relations))

    def forward(
        self,
        features: Float[Tensor, "... W F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_type: Float[Tensor, "E R"] | Int64[Tensor, " E"],
    ) -> Float[Tensor, "... W D"]:
        """Embed the features and pass messages along edges of `gat_edges` or `rgcn_edges`."""
        return self.run(features, edge_index, edge_type)


class AttentionMessages(MessagePassing):
    """`RelationalAttention` with one message per edge: its weight and its weighted value.

    Both are summed and then divided, so that a mask on the messages closes edges before the
    softmax is normalised, as the gate of the dense form does.
    """

    def __init__(self, hidden: int, heads: int, relations: int) -> None:
        super().__init__(aggr="sum", node_dim=-2)
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.bias = nn.Parameter(torch.zeros(relations, heads))
        self.out = nn.Linear(hidden, hidden)

    def forward(
        self,
        nodes: Float[Tensor, "... W D"],
        edge_index: Int64[Tensor, "2 E"],
        edge_type: Float[Tensor, "E R"],
    ) -> Float[Tensor, "... W D"]:
        """Weighted mean of the neighbours' values, mixed over heads."""
        query, key, value = self.qkv(nodes).chunk(3, dim=-1)
        logits = self.edge_updater(edge_index, query=query, key=key, edge_type=edge_type)
        alone = self._scores(query, key) + self.bias[0]
        peak = scatter(
            logits, edge_index[1], dim=-2, dim_size=nodes.shape[-2], reduce="max"
        ).maximum(alone)
        peak = peak.detach()
        heard = self.propagate(edge_index, value=value, logits=logits, peak=peak)
        heard = heard + self._weighted(value, (alone - peak).clamp(min=_FAINTEST))
        total, weight = heard.tensor_split([value.shape[-1]], dim=-1)
        return self.out((self._by_head(total) / weight[..., None]).flatten(-2))

    def edge_update(self, query_i: Tensor, key_j: Tensor, edge_type: Tensor) -> Tensor:
        """Logits of the edges, (..., E, H)."""
        return self._scores(query_i, key_j) + edge_type @ self.bias

    def message(self, value_j: Tensor, logits: Tensor, peak_i: Tensor) -> Tensor:
        """Weighted values and, behind them, the weights of the edges, (..., E, D + H)."""
        return self._weighted(value_j, logits - peak_i)

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        scale = (query.shape[-1] // self.heads) ** -0.5
        return (self._by_head(query) * self._by_head(key)).sum(-1) * scale

    def _weighted(self, value: Tensor, logits: Tensor) -> Tensor:
        weight = logits.exp()
        weighted = self._by_head(value) * weight[..., None]
        return torch.cat([weighted.flatten(-2), weight], dim=-1)

    def _by_head(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.heads, -1))


class ConvolutionMessages(MessagePassing):
    """`RelationalConvolution` in one propagation over the edges of all relations.

    Each node sends from R copies of itself, one per relation, so that one mask fits all edges.
    A mask multiplies the messages; the mean stays that over all edges given.
    """

    def __init__(self, hidden: int, heads: int, relations: int) -> None:
        super().__init__(aggr="sum", node_dim=-2)
        self.weight = nn.Parameter(initial_blocks(hidden, heads, relations))
        self.out = nn.Linear(hidden, hidden)

    def forward(
        self,
        nodes: Float[Tensor, "... W D"],
        edge_index: Int64[Tensor, "2 E"],
        edge_type: Int64[Tensor, " E"],
    ) -> Float[Tensor, "... W D"]:
        """Mean messages of each relation through its own weight, summed and mixed."""
        relations, heads = self.weight.shape[:2]
        size = nodes.shape[-2]
        blocks = nodes.unflatten(-1, (heads, -1))
        sent = torch.einsum("...jhc,rhcd->...jrhd", blocks, self.weight).flatten(-2)
        source, target = edge_index
        slot = target * relations + edge_type
        degree = torch.bincount(slot, minlength=size * relations)
        heard = self.propagate(
            torch.stack([source * relations + edge_type, target]),
            sent=(sent.flatten(-3, -2), None),
            share=1.0 / degree[slot],
            size=(size * relations, size),
        )
        return self.out(sent[..., 0, :] + heard)

    def message(self, sent_j: Tensor, share: Tensor) -> Tensor:
        """Messages over the number of neighbours of their relation, (..., E, D)."""
        return sent_j * share[:, None]
