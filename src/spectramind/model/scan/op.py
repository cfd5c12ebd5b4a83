"""The selective scan as one torch operation with autograd, on CPU and CUDA."""

import torch
from jaxtyping import Float
from torch import Tensor, library
from torch.nn import functional as F

from spectramind.extras import Extra
from spectramind.model.scan import cpu
from spectramind.model.scan.layout import STATES, empty_kept


def selective_scan(
    x: Float[Tensor, "B L D"],
    dt: Float[Tensor, "B L D"],
    a: Float[Tensor, "D N"],
    b: Float[Tensor, "B L N"],
    c: Float[Tensor, "B L N"],
    d: Float[Tensor, " D"],
) -> Float[Tensor, "B L D"]:
    """h_t = exp(dt_t a) h_(t-1) + dt_t b_t x_t from h_0 = 0; y_t = <c_t, h_t> + d x_t.

    Fused kernels, numba on CPU and Triton on CUDA: memory beyond inputs and outputs is that of
    one state in `layout.CHUNK`. The backward pass computes the others again and cannot itself be
    differentiated. Results do not depend on the number of threads.

    Args:
        x: Input.
        dt: Positive step sizes.
        a: Negative decay rates.
        b: Input weights of the states.
        c: Output weights of the states.
        d: Weight of the direct path.

    Returns:
        y in the precision of `x`. The recurrence runs in float32, or in float64 if any argument
        has it, under autocast too.

    Raises:
        ConfigError: If the tensors are on a GPU and triton is not installed.

    Source: as the package.
    """
    precision = torch.float32
    for tensor in (x, dt, a, b, c, d):
        precision = torch.promote_types(precision, tensor.dtype)
    kept = x.dtype
    x, dt, a, b, c, d = (tensor.to(precision) for tensor in (x, dt, a, b, c, d))
    a, b, c = (F.pad(tensor, (0, -tensor.shape[-1] % STATES)) for tensor in (a, b, c))
    y, _ = _scan(*(tensor.contiguous() for tensor in (x, dt, a, b, c, d)))
    return y.to(kept)


@library.custom_op("spectramind::selective_scan", mutates_args=(), device_types="cpu")
def _scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """Y, and the states before each chunk; contiguous arguments of one precision."""
    return cpu.forward(x, dt, a, b, c, d)


@library.custom_op("spectramind::selective_scan_backward", mutates_args=(), device_types="cpu")
def _scan_backward(
    dy: Tensor, kept: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, dt, a, b, c, d."""
    return cpu.backward(dy.contiguous(), kept, x, dt, a, b, c, d)


@_scan.register_kernel("cuda")
def _scan_cuda(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    with Extra("triton", "selective scan on a GPU", instead="set runtime.device=cpu"):
        from spectramind.model.scan import gpu
    return gpu.forward(x, dt, a, b, c, d)


@_scan_backward.register_kernel("cuda")
def _scan_backward_cuda(
    dy: Tensor, kept: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    from spectramind.model.scan import gpu

    return gpu.backward(dy.contiguous(), kept, x, dt, a, b, c, d)


@_scan.register_fake
def _scan_shapes(x: Tensor, _: Tensor, a: Tensor, *_others: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), empty_kept(x, a)


@_scan_backward.register_fake
def _scan_backward_shapes(_dy: Tensor, _kept: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(tensor) for tensor in inputs)


def _save(
    ctx: torch.autograd.function.FunctionCtx,
    inputs: tuple[Tensor, ...],
    output: tuple[Tensor, Tensor],
) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], *inputs)


def _gradients(
    ctx: torch.autograd.function.BackwardCFunction, dy: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    if dy is None:  # autograd's way to write zero
        return (None,) * 6
    return _scan_backward(dy, *ctx.saved_tensors)


_scan.register_autograd(_gradients, setup_context=_save)
