"""What is installed, what the machine offers, and whether the archive is found."""

import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from spectramind.archive.layout import open_archive
from spectramind.config import Config
from spectramind.errors import DataError

_PACKAGES = ("spectramind", "torch", "lightning", "numba", "polars", "hydra-core", "dvc")
_GEMM = 1024  # size of the probed matrix product
_REPEATS = 5


def examine(config: Config) -> dict[str, Any]:
    """Findings by name; nothing is changed."""
    findings: dict[str, Any] = {name: version(name) for name in _PACKAGES}
    findings["device"] = _device()
    speedup = bf16_speedup()
    findings["bf16"] = (
        f"{speedup:.2f} times the speed of fp32 in a matrix product: "
        + ("training.amp=true pays" if speedup > 1.2 else "leave training.amp=false")
    )
    findings["cores"] = psutil.cpu_count(logical=False) or psutil.cpu_count()
    findings["memory"] = f"{psutil.virtual_memory().available / 2**30:.1f} GiB free"
    findings["disk"] = _disk(config.runtime.out)
    findings["archive"] = _archive(config)
    return findings


def bf16_speedup() -> float:
    """Time of an fp32 matrix product over that of a bf16 one on the device in use."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return _product_s(torch.float32, device) / _product_s(torch.bfloat16, device)


def _product_s(dtype: torch.dtype, device: str) -> float:
    left = torch.ones(_GEMM, _GEMM, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        product = left @ left
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return best


def _device() -> str:
    if torch.cuda.is_available():
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
