"""Device and numerical precision of the computation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from spectramind.errors import ConfigError
from spectramind.hardware import Mixed, mixed_precision

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISION: dict[Mixed, Precision] = {  # as Lightning names it
    "bf16": "bf16-mixed", "fp16": "16-mixed", "float32": "32-true",
}  # fmt: skip


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

    Features alone decide (`hardware.mixed_precision`), so that one machine always trains in one
    precision.
    """
    if not amp:
        return "32-true"
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return _PRECISION[mixed_precision(capability)]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers from this seed inside; their state is restored afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
