"""What the machine offers, read from the system without loading torch.

Only features are asked for, nothing is timed: the same machine gives the same answer every time.
"""

import ctypes
import os
import re
import resource
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

_CPU = Path("/proc/cpuinfo")
_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/proc/self/cgroup")  # the control group of this process
_GROUPS = Path("/sys/fs/cgroup")
_DRIVER = "libcuda.so.1"
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, Arm
_BF16_CAPABILITY = 8  # first generation of NVIDIA GPUs that multiply bf16 natively
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR

Mixed = Literal["bf16", "fp16", "float32"]


class Gpu(NamedTuple):
    """An NVIDIA GPU as its driver describes it."""

    name: str
    capability: tuple[int, int]  # compute capability


def mixed_precision(capability: tuple[int, int] | None) -> Mixed:
    """What mixed precision means on a GPU of this compute capability; None: on this CPU.

    Where there are bf16 units it is bf16. Elsewhere it is fp16 on a GPU and float32, which is
    faster there, on a CPU.
    """
    if capability is not None:
        return "bf16" if capability[0] >= _BF16_CAPABILITY else "fp16"
    return "bf16" if cpu_multiplies_bf16() else "float32"


@cache
def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions that multiply bf16."""
    return bool(_BF16_FLAGS & _cpu_flags(_read(_CPU)))


def cpu_name() -> str:
    """Model of this CPU, as it names itself."""
    found = re.search(r"^(?:model name|CPU part)\s*:\s*(.+)$", _read(_CPU), re.MULTILINE)
    return found[1] if found else os.uname().machine


def cores() -> int:
    """Cores of this machine; two threads of one core count once."""
    pairs = re.findall(
        r"^physical id\s*:\s*(\d+)$.*?^core id\s*:\s*(\d+)$", _read(_CPU), re.MULTILINE | re.DOTALL
    )
    return len(set(pairs)) or os.cpu_count() or 1


def free_memory_gib() -> float | None:
    """Memory that can be had without swapping [GiB]; None where the system does not say."""
    free, limit = _memory("MemAvailable"), memory_limit_gib()
    return free if free is None or limit is None else min(free, limit)


def memory_limit_gib() -> float | None:
    """Memory that this process may use [GiB]; None where only the machine limits it.

    A container, a scheduler (control groups) or a shell (`ulimit -v`) sets such a limit.
    """
    group = re.search(r"^0::/?(.*)$", _read(_GROUP), re.MULTILINE)
    files = [_GROUPS / "memory.max", _GROUPS / "memory" / "memory.limit_in_bytes"]
    if group:
        files.append(_GROUPS / group[1] / "memory.max")
    limits = [int(text) for file in files if (text := _read(file).strip()).isdecimal()]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    if own != resource.RLIM_INFINITY:
        limits.append(own)
    limit = min(limits, default=2**63) / 2**30
    machine = _memory("MemTotal")
    return limit if limit < (2**33 if machine is None else machine) else None


def _memory(name: str) -> float | None:
    found = re.search(rf"^{name}:\s*(\d+) kB$", _read(_MEMORY), re.MULTILINE)
    return int(found[1]) / 2**20 if found else None


def gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs that the driver shows to this process; none without a driver."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:  # no driver, no GPU
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_gpu(driver, number) for number in range(count.value))


def _gpu(driver: ctypes.CDLL, number: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(name, len(name), device)
    values = (ctypes.c_int(), ctypes.c_int())
    for value, attribute in zip(values, (_MAJOR, _MINOR), strict=True):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return Gpu(name.value.decode(), (values[0].value, values[1].value))


def _cpu_flags(text: str) -> set[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return set(found[1].split()) if found else set()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
