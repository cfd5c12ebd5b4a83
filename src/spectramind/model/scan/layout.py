"""How both kernels cut the work: steps a chunk, channels a block, states at once."""

import torch
from torch import Tensor

CHUNK = 32  # steps between kept states; on the CPU they take half of a 32 KiB first-level cache
LANES = 16  # channels a block
STATES = 4  # states taken through a chunk at once; their number is padded to a multiple


def kept_shape(x: Tensor, a: Tensor) -> tuple[int, int, int]:
    """Sequences, chunks, and numbers in one state of all channels, padded to whole blocks."""
    sequences, length, channels = x.shape
    return sequences, -(-length // CHUNK), -(-channels // LANES) * LANES * a.shape[1]


