"""Polynomials through Chebyshev nodes: smooth functions known at a few places."""

import numpy as np
from jaxtyping import Float64


def chebyshev_nodes(values: Float64[np.ndarray, " W"], count: int) -> Float64[np.ndarray, " K"]:
    """Chebyshev nodes over the range of the values; one node where all are equal."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        return np.array([0.5 * (low + high)])
    angle = np.pi * (np.arange(count) + 0.5) / count
    return 0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle)


def lagrange(
    values: Float64[np.ndarray, " W"], nodes: Float64[np.ndarray, " K"]
) -> Float64[np.ndarray, "W K"]:
    """Weight of each node in the polynomial through all of them, at the values."""
    weights = np.ones((len(values), len(nodes)))
    for i, here in enumerate(nodes):
        for other in np.delete(nodes, i):
            weights[:, i] *= (values - other) / (here - other)
    return weights
