"""The chunked scan is the definition, in value and in every gradient."""

import pytest
import torch

from spectramind.model.scan import scan_reference, selective_scan


def inputs(length: int, *, dtype=torch.float64, batch=2, channels=3, states=4, scale=1.0):
    torch.manual_seed(1)
    x = torch.randn(batch, length, channels, dtype=dtype)
    dt = scale * torch.rand(batch, length, channels, dtype=dtype)
    a = -torch.rand(channels, states, dtype=dtype) - 0.1
    b, c = torch.randn(2, batch, length, states, dtype=dtype)
    d = torch.randn(channels, dtype=dtype)
    return [tensor.clone().requires_grad_() for tensor in (x, dt, a, b, c, d)]


@pytest.mark.parametrize("length", [1, 8, 21])  # 21 is no multiple of 8
def test_scan_equals_reference_in_value_and_gradients(length):
    args = inputs(length)
    fast, slow = selective_scan(*args, chunk=8), scan_reference(*args)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(slow)
    for got, wanted in zip(
        torch.autograd.grad((fast * weight).sum(), args),
        torch.autograd.grad((slow * weight).sum(), args),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
        assert length == 1 or got.abs().max() > 0


def test_scan_of_one_state_by_hand():
    one = torch.ones(1, 2, 1, dtype=torch.float64)
    a = torch.tensor([[-1.0]], dtype=torch.float64)
    d = torch.tensor([0.5], dtype=torch.float64)
    y = selective_scan(one, one, a, one, one, d, chunk=1)
    e = torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    torch.testing.assert_close(y.flatten(), torch.stack([torch.ones_like(e), 1 + e]) + 0.5)


def test_scan_gradcheck():
    args = inputs(5, batch=1, channels=2, states=2)
    assert torch.autograd.gradcheck(lambda *tensors: selective_scan(*tensors, chunk=2), args)


def test_scan_of_tiny_steps_keeps_its_precision():
    args = [tensor.detach().float() for tensor in inputs(50, scale=1e-7)]
    fast, slow = selective_scan(*args, chunk=8), scan_reference(*args)
    assert float((fast - slow).abs().max() / slow.abs().max()) < 1e-6
    no_direct = torch.zeros_like(args[-1])
    fast = selective_scan(*args[:-1], no_direct, chunk=8)
    slow = scan_reference(*args[:-1], no_direct)
    assert slow.abs().max() > 0
    assert float((fast - slow).abs().max() / slow.abs().max()) < 1e-5


def test_scan_runs_in_float32_under_autocast():
    args = [tensor.detach().float() for tensor in inputs(9)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(*args, chunk=4)
    torch.testing.assert_close(y, selective_scan(*args, chunk=4), rtol=0, atol=0)


def run_long(length: int) -> None:
    args = [
        tensor.detach().float().requires_grad_()
        for tensor in inputs(length, batch=1, channels=2, states=2)
    ]
    y = selective_scan(*args, chunk=64)
    y.square().mean().backward()
    assert torch.isfinite(y).all()
    for tensor in args:
        assert torch.isfinite(tensor.grad).all()


def test_scan_is_finite_over_20000_steps():
    run_long(20_000)


@pytest.mark.slow
def test_scan_is_finite_over_135000_steps():
    run_long(135_000)
