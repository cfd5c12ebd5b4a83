"""Features of the machine, from what the system says."""

import ctypes
import os
import subprocess

import pytest
import torch

from spectramind import hardware
from spectramind.cli import doctor
from spectramind.config import load
from spectramind.hardware import Gpu
from spectramind.training.device import precision

XEON = "processor : 0\nphysical id : 0\ncore id : 0\nflags : fpu avx512f amx_bf16\n"
TWO_THREADS = XEON + "\n" + XEON.replace("processor : 0", "processor : 1")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose /proc/cpuinfo and /proc/meminfo say this."""

    def say(cpu: str, memory: str = "") -> None:
        for name, text in (("_CPU", cpu), ("_MEMORY", memory)):
            (tmp_path / name).write_text(text)
            monkeypatch.setattr(hardware, name, tmp_path / name)
        hardware.cpu_multiplies_bf16.cache_clear()

    yield say
    hardware.cpu_multiplies_bf16.cache_clear()


@pytest.mark.parametrize(
    ("cpu", "wanted"),
    [
        (XEON, "bf16-mixed"),
        (XEON.replace("amx_bf16", "avx512_bf16"), "bf16-mixed"),
        ("Features : fp asimd bf16 i8mm\n", "bf16-mixed"),
        (XEON.replace("amx_bf16", "avx2"), "32-true"),
        ("", "32-true"),
    ],
)
def test_precision_of_a_cpu_follows_from_its_flags(machine, cpu, wanted):
    machine(cpu)
    assert precision(torch.device("cpu"), amp=True) == wanted
    assert precision(torch.device("cpu"), amp=False) == "32-true"


@pytest.mark.parametrize(
    ("capability", "wanted"),
    [((9, 0), "bf16-mixed"), ((8, 0), "bf16-mixed"), ((7, 5), "16-mixed")],
)
def test_precision_of_a_gpu_follows_from_its_generation(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    assert precision(torch.device("cuda"), amp=True) == wanted
    assert precision(torch.device("cuda"), amp=False) == "32-true"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"memory.max": "max"}, None),
        ({"memory.max": str(2**31)}, 2.0),
        ({"job/memory.max": str(2**30)}, 1.0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_a_limit_of_memory_is_seen(machine, tmp_path, monkeypatch, files, limit):
    machine(XEON, "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    (tmp_path / "cgroup").write_text("0::/job\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(hardware, "_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(hardware, "_GROUPS", tmp_path)
    assert hardware.memory_limit_gib() == limit
    assert hardware.free_memory_gib() == (8.0 if limit is None else limit)


def test_nothing_is_timed(monkeypatch, machine):
    """One machine, one result: neither a product nor a clock is asked."""
    machine(XEON)
    monkeypatch.setattr(torch, "mm", lambda *_: pytest.fail("a product was timed"))
    monkeypatch.setattr("time.perf_counter", lambda: pytest.fail("a clock was read"))
    assert precision(torch.device("cpu"), amp=True) == "bf16-mixed"


def test_cores_and_memory(machine):
    machine(TWO_THREADS, "MemTotal: 9 kB\nMemAvailable:   2097152 kB\n")
    assert hardware.cores() == 1
    assert hardware.free_memory_gib() == 2.0
    machine("")
    assert hardware.cores() == os.cpu_count()
    assert hardware.free_memory_gib() is None


def test_the_processor_is_named_as_the_kernel_names_it(machine):
    machine("processor\t: 0\nmodel name\t: Abacus 9\n\nprocessor\t: 1\nmodel name\t: B\n")
    assert hardware.cpu_name() == "Abacus 9"
    machine("")
    assert hardware.cpu_name() == os.uname().machine


def test_no_driver_means_no_gpu(monkeypatch):
    monkeypatch.setattr(hardware, "_DRIVER", "libnone.so")
    assert hardware.gpus() == ()


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return RESULT; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "H100", size); return 0; }
int cuDeviceGetAttribute(int *v, int which, int device) { *v = which == 75 ? 9 : 1; return 0; }
"""


@pytest.mark.parametrize(("result", "wanted"), [(0, (Gpu("H100", (9, 1)),)), (100, ())])
def test_gpus_are_those_of_the_driver(tmp_path, monkeypatch, result, wanted):
    """A driver of our own; code 100 is that of a driver that shows no device."""
    source, library = tmp_path / "cuda.c", tmp_path / "libcuda.so"
    source.write_text(DRIVER.replace("RESULT", str(result)))
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    ctypes.CDLL(str(library))
    monkeypatch.setattr(hardware, "_DRIVER", str(library))
    assert hardware.gpus() == wanted


H100, T4 = Gpu("H100", (9, 0)), Gpu("T4", (7, 5))


@pytest.mark.parametrize(
    ("wanted", "gpus", "device", "mixed"),
    [
        ("auto", (), "cpu for runtime.device=auto; the driver shows no GPU; CPU: ", "float32"),
        ("auto", (H100,), "cuda for runtime.device=auto; H100 (9.0); CPU: ", "bf16"),
        ("cuda", (T4,), "cuda for runtime.device=cuda; T4 (7.5); CPU: ", "fp16"),
        ("cpu", (H100,), "cpu for runtime.device=cpu; H100 (9.0); CPU: ", "float32"),
        ("cuda", (), "runtime.device=cuda cannot be had: the driver shows no GPU", "float32"),
    ],
)
def test_doctor_says_what_a_stage_will_take(machine, monkeypatch, wanted, gpus, device, mixed):
    machine(XEON.replace("amx_bf16", "avx2"))
    monkeypatch.setattr(doctor, "_built_for_gpus", lambda: True)
    monkeypatch.setattr(hardware, "gpus", lambda: gpus)
    found = doctor.examine(load([f"runtime.device={wanted}"]))
    assert found["device"].startswith(device)
    assert found["precision"].startswith(f"training.amp=true; true trains in {mixed}")


def test_doctor_knows_how_torch_was_built(monkeypatch):
    assert doctor._built_for_gpus() is (torch.version.cuda is not None)
    monkeypatch.setattr(doctor, "_built_for_gpus", lambda: False)
    monkeypatch.setattr(hardware, "gpus", lambda: (H100,))
    found = doctor.examine(load([]))["device"]
    assert found.startswith("cpu for runtime.device=auto; torch is built without CUDA")


def test_doctor_says_how_to_install_what_is_not_there(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda _: None)
    assert doctor.examine(load([]))["dvc"] == "not installed: pip install 'spectramind[pipeline]'"
