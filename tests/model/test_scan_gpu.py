"""The Triton kernels are the definition: interpreted on the CPU, compiled, and on a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spectramind.model.scan import scan_reference, selective_scan
from spectramind.model.scan.layout import CHUNK

pytest.importorskip("triton", reason="the GPU kernels need the package triton")

SHAPES = ((1, 1, 3, 4), (2, 34, 17, 5), (1, 65, 3, 20))  # B, L, D, N
INTERPRET = """
import sys
import torch
from spectramind.model.scan import gpu
cases = torch.load(sys.argv[1])
results = []
for dy, *inputs in cases:
    y, kept = gpu.forward(*inputs)
    results.append([y, *gpu.backward(dy, kept, *inputs)])
torch.save(results, sys.argv[2])
"""


def case(shape, dtype):
    torch.manual_seed(2)
    batch, length, channels, states = shape
    x, dy = torch.randn(2, batch, length, channels, dtype=dtype)
    dt = torch.rand(batch, length, channels, dtype=dtype)
    a = -torch.rand(channels, states, dtype=dtype) - 0.1
    b, c = torch.randn(2, batch, length, states, dtype=dtype)
    return [dy, x, dt, a, b, c, torch.randn(channels, dtype=dtype)]


def reference(dy, *inputs):
    exact = [tensor.detach().double().cpu().requires_grad_() for tensor in inputs]
    y = scan_reference(*exact)
    return [y, *torch.autograd.grad(y, exact, dy.double().cpu())]


def assert_equal(results, wanted, tolerance):
    for got, right in zip(results, wanted, strict=True):
        assert got.shape == right.shape
        assert (got.cpu() - right).abs().max() <= tolerance * right.abs().max()


def test_interpreted_kernels_equal_the_reference_in_value_and_gradients(tmp_path):
    cases = [case(shape, torch.float64) for shape in SHAPES]
    cases.append(case((1, 34, 3, 8), torch.float32))
    torch.save(cases, tmp_path / "cases.pt")
    subprocess.run(
        [sys.executable, "-c", INTERPRET, tmp_path / "cases.pt", tmp_path / "results.pt"],
        check=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},  # must be set before triton is imported
    )
    for one, results in zip(cases, torch.load(tmp_path / "results.pt"), strict=True):
        tolerance = 1e-12 if one[0].dtype == torch.float64 else 1e-6
        assert_equal(results, reference(*one), tolerance)


@pytest.mark.parametrize("name", ["forward_kernel", "backward_kernel"])
def test_kernels_compile_for_a_gpu_that_need_not_be_there(name, tmp_path: Path, monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from spectramind.model.scan import gpu

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(gpu, name)
    constants = {"chunk": CHUNK, "lanes": 16, "padded_states": 16}
    kinds = {
        argument: "*fp32" if argument.endswith("_at") else "i32" for argument in kernel.arg_names
    }
    source = ASTSource(kernel, {**kinds, **dict.fromkeys(constants, "constexpr")}, constants)
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1})
    assert len(compiled.asm["cubin"]) > 1000
    assert "ex2.approx" in compiled.asm["ptx"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU seen")
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3000, 512, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scan_on_a_gpu_equals_the_reference_in_value_and_gradients(shape, dtype):
    dy, *inputs = (tensor.cuda() for tensor in case(shape, dtype))
    leaves = [tensor.requires_grad_() for tensor in inputs]
    y = selective_scan(*leaves)
    assert y.is_cuda
    results = [y, *torch.autograd.grad(y, leaves, dy)]
    tolerance = 1e-11 if dtype == torch.float64 else 5e-6
    assert_equal(results, reference(dy, *inputs), tolerance)
