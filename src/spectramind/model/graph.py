"""The graph of the 283 wavelengths: which bins speak to each other, and as what.

Node 0 is FGS1, nodes 1..282 are AIRS-CH0 with increasing wavelength. Relations are symmetric
boolean matrices; the first one is always the self loop.
"""

from collections.abc import Sequence
from functools import cache
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool

from spectramind.instrument import WAVELENGTHS, wavelength_um
from spectramind.spectroscopy import GASES, bands_of

EdgeType = Literal["adjacent", "molecule", "detector"]


def relations(
    edge_types: Sequence[EdgeType], *, neighbours: int, detector_block: int
) -> Bool[np.ndarray, "R 283 283"]:
    """The self loop and the chosen relations, in order.

    Args:
        edge_types: Relations besides the self loop.
        neighbours: Reach of `adjacent` on each side [bins].
        detector_block: Width of a region of `detector` [columns].

    Returns:
        One matrix a relation; only the first has a filled diagonal.
    """
    matrices = [np.eye(WAVELENGTHS, dtype=bool)]
    for edge_type in edge_types:
        match edge_type:
            case "adjacent":
                matrices.append(adjacent(neighbours))
            case "molecule":
                matrices.append(molecule())
            case "detector":
                matrices.append(detector(detector_block))
            case _:
                assert_never(edge_type)
    return np.stack(matrices)


def adjacent(neighbours: int) -> Bool[np.ndarray, "283 283"]:
    """Bins at most `neighbours` steps apart; FGS1 stands before the bluest AIRS bin."""
    index = np.arange(WAVELENGTHS)
    distance = np.abs(index[:, None] - index[None, :])
    return (distance > 0) & (distance <= neighbours)


@cache
def molecule() -> Bool[np.ndarray, "283 283"]:
    """Bins that share a vibrational band of any gas of the band tables."""
    grid = wavelength_um()
    members = np.concatenate([bands_of(gas, grid) for gas in GASES])
    shared = _without_self(np.any(members[:, :, None] & members[:, None, :], axis=0))
    shared.setflags(write=False)  # one matrix for all networks of the process
    return shared


def detector(block: int) -> Bool[np.ndarray, "283 283"]:
    """AIRS bins in the same block of detector columns; FGS1, another detector, stands alone."""
    region = np.concatenate([[-1], np.arange(WAVELENGTHS - 1) // block])
    return _without_self(region[:, None] == region[None, :])


def _without_self(matrix: Bool[np.ndarray, "W W"]) -> Bool[np.ndarray, "W W"]:
    return matrix & ~np.eye(len(matrix), dtype=bool)
