"""Device and numerical precision of the computation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from spectramind.errors import ConfigError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

_PROBE_SIZE = 768  # of the matrices whose product is timed
_PROBE_REPEATS = 5
BF16_GAIN = 1.2  # bf16 must be faster than float32 by this factor to pay for its casts


def resolve_device(name: str) -> torch.device:
    """The device that `runtime.device` names: auto | cpu | cuda.

    Raises:
        ConfigError: If a GPU is asked for and none is seen.
    """
    seen = torch.cuda.is_available()
    if name == "cuda" and not seen:
        raise ConfigError(
            "runtime.device=cuda: no CUDA device is seen on this machine. Use "
            "runtime.device=auto or cpu, or install a GPU build of torch and its driver."
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and seen) else "cpu")


def precision(device: torch.device, *, amp: bool) -> Precision:
    """Precision of the training: mixed where asked for and where the device gains from it.

    On a GPU bf16 where it is native, else fp16; on a CPU bf16 if a timed matrix product is
    faster in it, else float32.
    """
    if not amp:
        return "32-true"
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if bf16_speedup(device) > BF16_GAIN else "32-true"


def bf16_speedup(device: torch.device) -> float:
    """Time of a float32 matrix product over that of a bf16 one."""
    return _product_s(torch.float32, device) / _product_s(torch.bfloat16, device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers from this seed inside; their state is restored afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _product_s(dtype: torch.dtype, device: torch.device) -> float:
    left = torch.ones(_PROBE_SIZE, _PROBE_SIZE, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(_PROBE_REPEATS):
        start = time.perf_counter()
        torch.mm(left, left)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return best
