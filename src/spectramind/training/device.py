"""Device and numerical precision of the computation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from spectramind.errors import ConfigError
from spectramind.hardware import cpu_multiplies_bf16, gpu_multiplies_bf16

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


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
    """Mixed precision where it is asked for and the device is made for it.

    On a GPU bf16 where it is native (compute capability 8 and up), else fp16; on a CPU bf16 where
    it has instructions for it (avx512_bf16, amx_bf16), else float32, which is faster there.
    Features alone decide, so that one machine always trains in one precision.
    """
    if not amp:
        return "32-true"
    if device.type == "cuda":
        native = gpu_multiplies_bf16(torch.cuda.get_device_capability(device))
        return "bf16-mixed" if native else "16-mixed"
    return "bf16-mixed" if cpu_multiplies_bf16() else "32-true"


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers from this seed inside; their state is restored afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
