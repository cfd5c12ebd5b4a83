"""How the kernels cut the work: steps per chunk, channels per vector, states at once."""

from torch import Tensor

CHUNK = 32  # steps between kept states; on the CPU they take half of a 32 KiB first-level cache
STATES = 4  # states taken through a chunk at once; their number is padded to a multiple
VECTOR_BYTES = 64  # channels side by side: 16 in float32, 8 in float64


def empty_kept(x: Tensor, a: Tensor) -> Tensor:
    """Room for the states before each chunk: sequences, chunks, states of the padded channels."""
    sequences, length, channels = x.shape
    lanes = VECTOR_BYTES // x.element_size()
    return x.new_empty(sequences, -(-length // CHUNK), -(-channels // lanes) * lanes * a.shape[1])
