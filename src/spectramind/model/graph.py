"""The graph of the 283 wavelengths: which bins are neighbours, by which relations.

Node 0 is FGS1, nodes 1..282 are AIRS-CH0 with increasing wavelength. Relations are symmetric
boolean matrices; the first one is always the self loop. Two bins may share several relations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import assert_never

import numpy as np
from jaxtyping import Bool

from spectramind.instrument import WAVELENGTHS, wavelength_um
from spectramind.model.settings import EdgeType
from spectramind.spectroscopy import GASES, bands_of


@dataclass(frozen=True, eq=False)
class Relations:
    """Named relations between the wavelengths; only the first has a filled diagonal."""

    names: tuple[str, ...]  # self, then adjacent, molecule:H2O, ..., detector as chosen
    matrices: Bool[np.ndarray, "R 283 283"]


def relations(
    edge_types: Sequence[EdgeType], *, neighbours: int, detector_block: int
) -> Relations:
    """The self loop and the chosen relations, in order; `molecule` is one relation per gas.

    Args:
        edge_types: Relations besides the self loop.
        neighbours: Reach of `adjacent` on each side [bins].
        detector_block: Width of a region of `detector` [columns].

    Returns:
        A name and a matrix for each relation.
    """
    named = [("self", np.eye(WAVELENGTHS, dtype=bool))]
    for edge_type in edge_types:
        match edge_type:
            case "adjacent":
                named.append((edge_type, adjacent(neighbours)))
            case "molecule":
                named += [(f"{edge_type}:{gas}", molecule(gas)) for gas in GASES]
            case "detector":
                named.append((edge_type, detector(detector_block)))
            case _:
                assert_never(edge_type)
    names, matrices = zip(*named, strict=True)
    return Relations(names, np.stack(matrices))


def adjacent(neighbours: int) -> Bool[np.ndarray, "283 283"]:
    """Bins at most `neighbours` steps apart; FGS1 stands before the bluest AIRS bin."""
    index = np.arange(WAVELENGTHS)
    distance = np.abs(index[:, None] - index[None, :])
    return (distance > 0) & (distance <= neighbours)


@cache
def molecule(gas: str) -> Bool[np.ndarray, "283 283"]:
    """Bins that share a vibrational band of a gas of the band tables."""
    members = bands_of(gas, wavelength_um())
    shared = _without_self(np.any(members[:, :, None] & members[:, None, :], axis=0))
    shared.setflags(write=False)  # one matrix for all networks of the process
    return shared


def detector(block: int) -> Bool[np.ndarray, "283 283"]:
    """Bins that are read in the same region of the same detector.

    Rows tell no two AIRS-CH0 bins apart: the spectrum lies along the columns, and the flux of
    every column is the sum over the same rows. What is left to share is local along the
    columns (flat field, dead and hot pixels, drifts of the image over them). A region is
    therefore `block` consecutive columns through all summed rows, counted from the first
    scored column, which holds the reddest bin; the last region may be narrower. FGS1 is
    another detector and has no neighbour here.

    Args:
        block: Width of a region [columns].
    """
    columns_from_first = np.arange(WAVELENGTHS - 1)[::-1]  # of bins 1..282: wavelength falls
    region = np.concatenate([[-1], columns_from_first // block])
    return _without_self(region[:, None] == region[None, :])


def _without_self(matrix: Bool[np.ndarray, "W W"]) -> Bool[np.ndarray, "W W"]:
    return matrix & ~np.eye(len(matrix), dtype=bool)
