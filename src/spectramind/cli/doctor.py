"""What is installed, what the machine offers, and whether the archive is found; loads no torch."""

import re
import shutil
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from spectramind import hardware
from spectramind.compiled import kernel_cache
from spectramind.config import Config
from spectramind.errors import DataError
from spectramind.extras import PACKAGES, install_command
from spectramind.sentences import counted

_NOWHERE = "kept nowhere, so every process compiles them; NUMBA_CACHE_DIR=DIR names a place"
_PACKAGES = ("spectramind", "torch", "lightning", "numba", "polars", "hydra-core")


def examine(config: Config) -> dict[str, Any]:
    """Findings by name; nothing is changed."""
    findings: dict[str, Any] = {name: version(name) for name in _PACKAGES}
    for extra, package in PACKAGES.items():
        findings[package] = _version(package) or f"not installed: {install_command(extra)}"
    gpus = hardware.gpus() if _built_for_gpus() else ()
    findings["device"] = _device(config.runtime.device, gpus)
    findings["precision"] = _precision(config, gpus)
    findings["cores"] = hardware.cores()
    memory = hardware.free_memory_gib()
    findings["memory"] = "not known" if memory is None else f"{memory:.1f} GiB free{_limit()}"
    findings["disk"] = _disk(config.runtime.out)
    place = kernel_cache()
    findings["kernels"] = f"kept in {place}" if place else _NOWHERE
    findings["archive"] = _archive(config)
    return findings


def _limit() -> str:
    limit = hardware.memory_limit_gib()
    return "" if limit is None else f", of {limit:.1f} GiB that this process may use"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _built_for_gpus() -> bool:
    """Whether torch was built for CUDA, from the text of its own version file."""
    text = Path(str(distribution("torch").locate_file("torch/version.py"))).read_text(
        encoding="utf-8"
    )
    return bool(re.search(r"^cuda\b[^=]*= ['\"]", text, re.MULTILINE))


def _device(wanted: str, gpus: tuple[hardware.Gpu, ...]) -> str:
    """The device that a stage will take, and why."""
    if not _built_for_gpus():
        seen = "torch is built without CUDA"
    elif gpus:
        seen = ", ".join(f"{gpu.name} ({'.'.join(map(str, gpu.capability))})" for gpu in gpus)
    else:
        seen = "the driver shows no GPU"
    taken = "cuda" if _takes_gpu(wanted, gpus) else "cpu"
    if wanted == "cuda" and not gpus:
        return f"runtime.device=cuda cannot be had: {seen}"
    return f"{taken} for runtime.device={wanted}; {seen}; CPU: {hardware.cpu_name()}"


def _takes_gpu(wanted: str, gpus: tuple[hardware.Gpu, ...]) -> bool:
    return bool(gpus) and wanted != "cpu"


def _precision(config: Config, gpus: tuple[hardware.Gpu, ...]) -> str:
    """What training.amp means on this machine."""
    taken = gpus[0].capability if _takes_gpu(config.runtime.device, gpus) else None
    mixed = hardware.mixed_precision(taken)
    unit = "CPU" if taken is None else "GPU"
    lacking = "" if mixed == "bf16" else f" (this {unit} has no bf16 units)"
    return f"training.amp={str(config.training.amp).lower()}; true trains in {mixed}{lacking}"


def _disk(out: Path) -> str:
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 2**30:.0f} GiB free at {out}"


def _archive(config: Config) -> str:
    if not config.data.root.is_dir():
        return (
            f"not found: data.root={config.data.root} is no folder; `spectramind simulate` makes "
            "one, data=kaggle data.root=DIR takes the challenge's, data=lightcurves data.root=DIR "
            "light curves of another pipeline"
        )
    try:
        return _foreign(config.data.root) if config.data.name == "lightcurves" else _own(config)
    except DataError as error:
        return f"not found: {error}"


def _foreign(root: Path) -> str:
    from spectramind.archive.foreign import open_foreign  # xarray takes long to load

    archive = open_foreign(root)
    planets = {planet for planet, _ in archive.files}
    found = f"{counted(len(planets), 'planet')}, {counted(len(archive.files), 'file')}"
    return f"light curves at {root}: {found}"


def _own(config: Config) -> str:
    from spectramind.archive.layout import SPLITS, open_archive  # polars takes long to load

    archive = open_archive(config.data.root)
    counts = [counted(len(archive.planets(split)), f"{split} planet") for split in SPLITS]
    return f"{archive.year} layout at {config.data.root}: {', '.join(counts)}"
