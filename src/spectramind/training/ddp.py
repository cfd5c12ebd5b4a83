"""Training of one network by several processes: their planets, devices and errors.

Every process holds the whole training set and takes its own part of each batch, so that a batch
is the same whatever the number of processes. Gradients are averaged over them.
"""

from collections.abc import Iterator

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed

from spectramind.errors import ConfigError, DataError
from spectramind.model.network import Batch
from spectramind.training.data import Batches


class Share:
    """The part of each batch that this process trains on; of N processes each Nth planet.

    A last batch of fewer planets than processes is left out; which planets these are changes
    from epoch to epoch.
    """

    def __init__(self, batches: Batches, processes: int) -> None:
        planets = batches.planets
        if planets < processes:
            raise DataError(
                f"training planets: {planets} in this fold, fewer than runtime.devices="
                f"{processes}. Lower runtime.devices or add planets."
            )
        self.batches, self.processes = batches, processes
        self.count = len(batches) - (0 < planets % batches.size < processes)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Batch, Tensor, list[int]]]:
        """As `Batches`, with this process's share of each batch."""
        for features, truth, planets in self.batches:
            if len(planets) < self.processes:
                return
            rows = torch.arange(rank(), len(planets), self.processes)
            yield features[rows], truth[rows], [planets[row] for row in rows.tolist()]


def rank() -> int:
    """Number of this process among those that train; 0 for a single one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def of_all(planets: list[int]) -> list[int]:
    """The planets of all processes together; every process must call it."""
    if not distributed.is_initialized():
        return planets
    parts: list[list[int]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, planets)
    return [planet for part in parts for planet in part]


def require_devices(device: torch.device, count: int, *, batch_size: int) -> None:
    """Refuse a number of devices that is not there or does not divide a batch.

    Raises:
        ConfigError: Names how many there are, or the batch.
    """
    seen = torch.cuda.device_count()
    if device.type == "cuda" and count > seen:
        raise ConfigError(
            f"runtime.devices={count}: {seen} CUDA devices are seen on this machine. Set "
            f"runtime.devices to at most {seen}."
        )
    if batch_size % count:
        raise ConfigError(
            f"runtime.devices={count}: does not divide training.batch_size={batch_size}, so the "
            "processes would weigh planets differently. Make the batch a multiple of the devices."
        )


def strategy(devices: int) -> DDPStrategy | str:
    """How Lightning starts and joins the processes.

    They are spawned, so that they import this package and not the command that was called, whose
    lock and log are this process's. The stages before the last one leave the heads of the
    spectrum without gradient.
    """
    if devices == 1:
        return "auto"
    return DDPStrategy(start_method="spawn", find_unused_parameters=True)


def cause_of(failure: str) -> Exception | None:
    """The error with which another process ended, if a user can mend it.

    Args:
        failure: Its traceback, as torch reports it.

    Returns:
        The same error, or None if it was of another kind.
    """
    kinds = (ConfigError, DataError, torch.OutOfMemoryError, RuntimeError, MemoryError)
    named = {
        f"{kind.__module__}.{kind.__name__}".removeprefix("builtins."): kind for kind in kinds
    }
    name, _, sentence = failure.strip().splitlines()[-1].partition(": ")
    return named[name](sentence) if name in named else None
