"""Running out of memory: which errors mean it, and which settings to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from spectramind.errors import ConfigError, SpectraMindError
from spectramind.training.ddp import cause_of
from spectramind.training.settings import TrainingConfig


def is_out_of_memory(error: Exception | None) -> bool:
    """Whether an error means that memory has run out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


@contextmanager
def advise_when_out_of_memory(step: str, config: TrainingConfig) -> Iterator[None]:
    """Turn running out of memory into an error that names the settings to lower.

    An error of another training process is raised here as that process raised it.

    Args:
        step: First words of the message.
        config: Section `training`.

    Raises:
        ConfigError: If the memory does not suffice.
    """
    try:
        yield
    except (ProcessRaisedException, RuntimeError, MemoryError) as error:
        cause = cause_of(str(error)) if isinstance(error, ProcessRaisedException) else error
        if is_out_of_memory(cause):
            message = f"{step}: the device is out of memory. {_advice(config)}"
            raise ConfigError(message) from error
        if isinstance(cause, SpectraMindError):
            raise cause from error
        raise


def _advice(config: TrainingConfig) -> str:
    """Settings to change, those that take most memory first."""
    advice = (
        f"Lower training.batch_size (now {config.batch_size}), or model.encoders.fgs1.d_model and "
        "model.encoders.airs.hidden, or raise model.encoders.fgs1.stride. "
    )
    if config.reobserved == 0:
        return f"{advice}Of a computer's own memory, fewer runtime.workers take less."
    return (
        f"{advice}Of a computer's own memory, observed-again planets take most: lower "
        f"training.reobserved (now {config.reobserved}) or runtime.workers."
    )
