"""What is installed, what the machine offers, and whether the archive is found."""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from spectramind.archive.layout import open_archive
from spectramind.config import Config
from spectramind.errors import DataError
from spectramind.training.device import BF16_GAIN, bf16_speedup, resolve_device

_PACKAGES = ("spectramind", "torch", "lightning", "numba", "polars", "hydra-core", "dvc")


def examine(config: Config) -> dict[str, Any]:
    """Findings by name; nothing is changed."""
    findings: dict[str, Any] = {name: version(name) for name in _PACKAGES}
    device = resolve_device(config.runtime.device)
    findings["device"] = _describe(device)
    speedup = bf16_speedup(device)
    findings["bf16"] = f"{speedup:.2f} times the speed of fp32 in a matrix product: " + (
        "training.amp=true pays" if speedup > BF16_GAIN else "leave training.amp=false"
    )
    findings["cores"] = psutil.cpu_count(logical=False) or psutil.cpu_count()
    findings["memory"] = f"{psutil.virtual_memory().available / 2**30:.1f} GiB free"
    findings["disk"] = _disk(config.runtime.out)
    findings["archive"] = _archive(config)
    return findings


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu: {torch.backends.cpu.get_cpu_capability()}, no GPU seen"


def _disk(out: Path) -> str:
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 2**30:.0f} GiB free at {out}"


def _archive(config: Config) -> str:
    try:
        archive = open_archive(config.data.root)
    except DataError as error:
        return f"not found: {error}"
    counts = ", ".join(f"{len(archive.planets(split))} {split}" for split in ("train", "test"))
    return f"{archive.year} layout at {config.data.root}: {counts} planets"
