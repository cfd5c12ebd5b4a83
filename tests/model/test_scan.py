"""The fused scan is the definition, in value and in every gradient."""

import os
import subprocess
import sys

import pytest
import torch
from torch import library

from spectramind.errors import ConfigError
from spectramind.model import scan
from spectramind.model.scan import op, scan_reference, selective_scan


def inputs(length: int, *, dtype=torch.float64, batch=2, channels=3, states=4, scale=1.0):
    torch.manual_seed(1)
    x = torch.randn(batch, length, channels, dtype=dtype)
    dt = scale * torch.rand(batch, length, channels, dtype=dtype)
    a = -torch.rand(channels, states, dtype=dtype) - 0.1
    b, c = torch.randn(2, batch, length, states, dtype=dtype)
    d = torch.randn(channels, dtype=dtype)
    return [tensor.clone().requires_grad_() for tensor in (x, dt, a, b, c, d)]


def detached(tensors, dtype=torch.float32):
    return [tensor.detach().to(dtype) for tensor in tensors]


def gradients(function, args, weight):
    y = function(*args)
    return torch.autograd.grad(y, args, weight.to(y.dtype))


# Lengths below, at and beyond chunks of 32; channels of part of a block, and of three groups.
@pytest.mark.parametrize("length", [1, 32, 71])
@pytest.mark.parametrize(("channels", "states"), [(3, 4), (70, 5)])
def test_scan_equals_reference_in_value_and_gradients(length, channels, states):
    args = inputs(length, channels=channels, states=states)
    slow = scan_reference(*args)
    torch.testing.assert_close(selective_scan(*args), slow, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(slow)
    fast_gradients = gradients(selective_scan, args, weight)
    for got, wanted in zip(fast_gradients, gradients(scan_reference, args, weight), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
        assert length == 1 or got.abs().max() > 0


def test_scan_in_float32_is_within_a_millionth_of_the_reference():
    args = inputs(300, dtype=torch.float32, channels=37, states=16)
    weight = torch.randn(2, 300, 37)
    exact = [tensor.detach().double().requires_grad_() for tensor in args]
    fast = [selective_scan(*args), *gradients(selective_scan, args, weight)]
    slow = [scan_reference(*exact), *gradients(scan_reference, exact, weight)]
    for got, wanted in zip(fast, slow, strict=True):
        assert got.dtype == torch.float32
        error = (got - wanted).abs().max() / wanted.abs().max()
        assert error.item() < 1e-6


def test_scan_equals_that_of_mambapy():
    judge = pytest.importorskip("mambapy.mamba").MambaBlock
    args = inputs(64, dtype=torch.float32, channels=20)
    weight = torch.randn(2, 64, 20)

    def parallel_scan(*tensors):
        return judge.selective_scan(None, *tensors)

    torch.testing.assert_close(selective_scan(*args), parallel_scan(*args), rtol=1e-5, atol=1e-5)
    for got, wanted in zip(
        gradients(selective_scan, args, weight),
        gradients(parallel_scan, args, weight),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_scan_of_one_state_by_hand():
    one = torch.ones(1, 2, 1, dtype=torch.float64)
    a = torch.tensor([[-1.0]], dtype=torch.float64)
    d = torch.tensor([0.5], dtype=torch.float64)
    y = selective_scan(one, one, a, one, one, d)
    e = torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    torch.testing.assert_close(y.flatten(), torch.stack([torch.ones_like(e), 1 + e]) + 0.5)


def test_scan_gradcheck():
    args = inputs(3, batch=1, channels=2, states=2)
    assert torch.autograd.gradcheck(selective_scan, args)


def test_scan_is_a_sound_torch_operation():
    args = [tensor.detach().requires_grad_() for tensor in inputs(40, channels=20)]
    library.opcheck(op._scan, args)


def test_scan_of_strided_views_is_that_of_copies():
    args = detached(inputs(40, channels=20))
    views = [tensor.transpose(0, -1).contiguous().transpose(0, -1) for tensor in args]
    views[5] = args[5].repeat(2, 1).t().reshape(-1)[::2]
    assert not any(view.is_contiguous() for view in views)
    assert torch.equal(selective_scan(*views), selective_scan(*args))
    for tensor in views:
        tensor.requires_grad_()
    (one,) = torch.autograd.grad(selective_scan(*views).sum(), views[:1])  # dy is expanded
    (other,) = torch.autograd.grad(
        selective_scan(*views), views[:1], torch.ones(2, 40, 20), retain_graph=False
    )
    assert torch.equal(one, other)


def test_scan_forgets_all_at_large_steps_and_keeps_all_at_none():
    x, dt, a, b, c, d = detached(inputs(40, channels=20))
    weight = (b * c).sum(-1, keepdim=True)
    y = selective_scan(x, dt + 1e4, a, b, c, d)
    torch.testing.assert_close(y, weight * (dt + 1e4) * x + d * x, rtol=1e-5, atol=1e-2)
    y = selective_scan(x, torch.ones_like(dt), torch.zeros_like(a), b, c, torch.zeros_like(d))
    sums = torch.einsum("bln,bkn,bkd->blkd", c, b, x)
    wanted = torch.stack([sums[:, t, : t + 1].sum(1) for t in range(40)], dim=1)
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)


def test_nan_stays_in_its_channel_and_does_not_go_back_in_time():
    x, dt, a, b, c, d = detached(inputs(70, channels=20))
    clean = selective_scan(x, dt, a, b, c, d)
    dt[0, 40, 7] = torch.nan
    broken = selective_scan(x, dt, a, b, c, d)
    assert broken[0, 40:, 7].isnan().all()
    broken[0, 40:, 7] = clean[0, 40:, 7]
    assert torch.equal(broken, clean)


def test_scan_of_tiny_steps_keeps_its_precision():
    args = detached(inputs(50, scale=1e-7))
    for direct in (args[-1], torch.zeros_like(args[-1])):
        fast, slow = selective_scan(*args[:-1], direct), scan_reference(*args[:-1], direct)
        assert slow.abs().max() > 0
        assert float((fast - slow).abs().max() / slow.abs().max()) < 1e-6


def test_scan_runs_in_float32_under_autocast_and_returns_the_precision_of_x():
    args = detached(inputs(9))
    wanted = selective_scan(*args)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(selective_scan(*args), wanted)
        rounded = [args[0].bfloat16().requires_grad_(), *args[1:]]
        y = selective_scan(*rounded)
    exact = selective_scan(rounded[0].detach().float(), *args[1:])
    assert torch.equal(y, exact.bfloat16())
    y.sum().backward()
    assert rounded[0].grad.dtype == torch.bfloat16


def test_a_scan_leaves_torch_the_threads_it_had():
    """Numba's threads start with the first scan of a process; torch shares its OpenMP."""
    code = """
import torch
from spectramind.model.scan.op import selective_scan
x, a, b = torch.ones(2, 8, 16), -torch.ones(16, 4), torch.ones(2, 8, 4)
selective_scan(x, x, a, b, b, torch.ones(16))
print(torch.get_num_threads())
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_threads_change_no_bit_and_are_those_of_torch():
    import numba

    args = [tensor.detach().float().requires_grad_() for tensor in inputs(70, channels=150)]
    weight, before, numbas = (
        torch.randn(2, 70, 150),
        torch.get_num_threads(),
        numba.get_num_threads(),
    )
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append([selective_scan(*args), *gradients(selective_scan, args, weight)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert numba.get_num_threads() == numbas


def test_only_the_states_before_each_chunk_are_kept():
    args = detached(inputs(71, channels=20), torch.float64)
    y, kept = op._scan(*args)
    assert kept.shape == (2, 3, 3 * 8 * 4)  # 20 channels are three vectors of 8
    again, _ = op._scan(*(args[i][:, 32:] if i in (0, 1, 3, 4) else args[i] for i in range(6)))
    assert not torch.allclose(again[:, 0], y[:, 32])  # the second chunk does need them


def test_gpu_without_triton_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "spectramind.model.scan.gpu", raising=False)
    monkeypatch.delattr(scan, "gpu", raising=False)
    with pytest.raises(ConfigError) as raised:
        op._scan_cuda(*detached(inputs(3)))
    assert str(raised.value) == (
        "selective scan on a GPU: the package triton is not installed. Run pip install "
        "'spectramind[triton]', or set runtime.device=cpu."
    )


def run_long(length: int) -> None:
    args = [
        tensor.detach().float().requires_grad_()
        for tensor in inputs(length, batch=1, channels=2, states=2)
    ]
    y = selective_scan(*args)
    y.square().mean().backward()
    assert torch.isfinite(y).all()
    for tensor in args:
        assert torch.isfinite(tensor.grad).all()


def test_scan_is_finite_over_135000_steps():
    run_long(135_000)
