"""The selective scan beside mambapy's parallel scan, at the width of one V50 block.

    python benchmarks/scan.py            L = 8192, 512 channels, 16 states, a few minutes; stores
    python benchmarks/scan.py --quick    L = 1024
    python benchmarks/scan.py --stored   the last full run again

Speed: both scans, and the arithmetic they cannot do without, take turns in one process on the same
inputs; each figure is a ratio of medians. The limits are two loops of our own without any memory
traffic: exp2 alone, once for each state and step, and fused multiply-adds alone, as many as the
scan has products (10 a state and step forward, 17 more backward).

Memory: a fresh process each, peak resident memory above that with the inputs in place; the
output, and backward also its gradient and those of the inputs, are part of it. The last line is
JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import no_type_check

import numba
import numpy as np
import torch
from mambapy.mamba import MambaBlock
from torch import Tensor

from spectramind.files import write_json
from spectramind.model.scan import scan_reference, selective_scan
from spectramind.model.scan.lanes import exp2, load, store
from spectramind.provenance import git_state, utc_now

RESULT = Path(__file__).parents[1] / "docs" / "results" / "scan.json"
LENGTH, LONG, CHANNELS, STATES, SEED = 8192, 135_000, 512, 16, 2026
PRODUCTS, BACKWARD_PRODUCTS = 10, 17
VECTOR = 16  # numbers
ROUNDS, OURS_A_ROUND = 5, 7
MEMORY = """
import resource, sys
import psutil, torch
sys.path.insert(0, sys.argv[1])
from scan import draw
from spectramind.model.scan import selective_scan
backward = sys.argv[3] == "backward"
def run(args):
    with torch.set_grad_enabled(backward):
        y = selective_scan(*args)
        return torch.autograd.grad(y, args, torch.ones_like(y)) if backward else y
run(draw(64, backward))
args = draw(int(sys.argv[2]), backward)
before = psutil.Process().memory_info().rss
run(args)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print((peak - before) / 1e9)
"""


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Selective scan against mambapy's.")
    parser.add_argument("--quick", action="store_true", help="an eighth of the steps")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    else:
        result = measure(length=LENGTH // 8 if arguments.quick else LENGTH)
        if not arguments.quick:
            write_json(RESULT, result)
    print_table(result)
    print(json.dumps(result))


def draw(length: int, needs_grad: bool) -> list[Tensor]:
    """Inputs of one sequence: the block's rates at the start, steps as the paper spreads them."""
    source = torch.Generator().manual_seed(SEED)
    x = torch.empty(1, length, CHANNELS).normal_(generator=source)
    dt = torch.empty(1, length, CHANNELS).uniform_(-6.9, -2.3, generator=source).exp_()
    a = -torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1)
    b, c = (torch.empty(1, length, STATES).normal_(generator=source) for _ in range(2))
    return [part.requires_grad_(needs_grad) for part in (x, dt, a, b, c, torch.ones(CHANNELS))]


def measure(*, length: int) -> dict[str, object]:
    """Ratios, errors, memory."""
    gb, gb_both = memory(LONG, "forward"), memory(LONG, "backward")  # while this process is small
    args = draw(length, needs_grad=False)
    forward = race(args, backward=False)
    both = race(draw(length, needs_grad=True), backward=True)
    sha, dirty = git_state()
    return {
        "forward_vs_mambapy": round(forward["mambapy"] / forward["scan"], 1),
        "forward_backward_vs_mambapy": round(both["mambapy"] / both["scan"], 1),
        "extra_gb_135k": round(gb, 3),
        "extra_gb_135k_forward_backward": round(gb_both, 3),
        "max_rel_error": float(f"{error(args):.2g}"),
        "max_rel_gradient_error": float(f"{gradient_error():.2g}"),
        "forward_over_exp_limit": round(forward["scan"] / forward["exp"], 2),
        "forward_over_fma_limit": round(forward["scan"] / forward["fma"], 2),
        "forward_backward_over_exp_limit": round(both["scan"] / both["exp"], 2),
        "forward_backward_over_fma_limit": round(both["scan"] / both["fma"], 2),
        "forward_ms": round(1e3 * forward["scan"], 1),
        "forward_backward_ms": round(1e3 * both["scan"], 1),
        "forward_135k_over_linear": round(over_linear(length, False), 2),
        "forward_backward_135k_over_linear": round(over_linear(length, True), 2),
        "length": length,
        "channels": CHANNELS,
        "states": STATES,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "seed": SEED,
        "date": utc_now(),
        "git_sha": sha,
        "git_dirty": dirty,
    }


def race(args: list[Tensor], *, backward: bool) -> dict[str, float]:
    """Median seconds of each contestant; all take turns, the short ones several times a turn."""
    dy = torch.ones_like(args[0])
    work = args[0].numel() * STATES // VECTOR
    products = PRODUCTS + (BACKWARD_PRODUCTS if backward else 0)
    scratch = np.full((numba.get_num_threads(), 8 * VECTOR), 0.5, np.float32)

    def run(scan: Callable[..., Tensor]) -> None:
        y = scan(*args)
        if backward:
            torch.autograd.grad(y, args, dy)

    contestants = {
        "scan": lambda: run(selective_scan),
        "exp": lambda: exponentials(scratch, work * (2 if backward else 1)),
        "fma": lambda: multiply_adds(scratch, work * products),
        "mambapy": lambda: run(lambda *tensors: MambaBlock.selective_scan(None, *tensors)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for name in ("scan", "exp", "fma"):
        contestants[name]()
    for _ in range(ROUNDS):
        for name, contestant in contestants.items():
            for _ in range(1 if name == "mambapy" else OURS_A_ROUND):
                start = time.perf_counter()
                contestant()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


@numba.njit(parallel=True)
@no_type_check
def exponentials(values: np.ndarray, count: int) -> None:
    """`count` vectors of exp2 over all threads, four at a time in registers."""
    for thread in numba.prange(values.shape[0]):
        mine = values[thread]
        v0, v1, v2, v3 = load(mine, 0), load(mine, 16), load(mine, 32), load(mine, 48)
        for _ in range(count // (4 * values.shape[0])):
            v0, v1, v2, v3 = exp2(v0), exp2(v1), exp2(v2), exp2(v3)
        store(mine, 0, v0 + v1 + v2 + v3)


@numba.njit(parallel=True)
@no_type_check
def multiply_adds(values: np.ndarray, count: int) -> None:
    """`count` vectors of fused multiply-adds over all threads, eight at a time in registers."""
    for thread in numba.prange(values.shape[0]):
        mine = values[thread]
        v0, v1, v2, v3 = load(mine, 0), load(mine, 16), load(mine, 32), load(mine, 48)
        v4, v5, v6, v7 = load(mine, 64), load(mine, 80), load(mine, 96), load(mine, 112)
        m = load(mine, 0)
        for _ in range(count // (8 * values.shape[0])):
            v0, v1, v2, v3 = v0 * m + m, v1 * m + m, v2 * m + m, v3 * m + m
            v4, v5, v6, v7 = v4 * m + m, v5 * m + m, v6 * m + m, v7 * m + m
        store(mine, 16, v0 + v1 + v2 + v3 + v4 + v5 + v6 + v7)


def error(args: list[Tensor]) -> float:
    """Largest |y - y64| over the largest |y64|."""
    exact = scan_reference(*args)
    return ((selective_scan(*args) - exact).abs().max() / exact.abs().max()).item()


def gradient_error() -> float:
    """The same of the worst of the six gradients, over 1024 steps."""
    args = draw(1024, needs_grad=True)
    exact = [part.detach().double().requires_grad_() for part in args]
    dy = torch.empty_like(args[0]).normal_(generator=torch.Generator().manual_seed(SEED))
    fast = torch.autograd.grad(selective_scan(*args), args, dy)
    slow = torch.autograd.grad(scan_reference(*exact), exact, dy.double())
    pairs = zip(fast, slow, strict=True)
    return max(((got - right).abs().max() / right.abs().max()).item() for got, right in pairs)


def over_linear(length: int, backward: bool) -> float:
    """Seconds of LONG steps over those of `length` steps times the ratio of the two."""
    runs = [draw(length, backward), draw(LONG, backward)]
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for args, spent in zip(runs, seconds, strict=True):
            for _ in range(OURS_A_ROUND if args is runs[0] else 1):
                start = time.perf_counter()
                y = selective_scan(*args)
                if backward:
                    torch.autograd.grad(y, args, torch.ones_like(y))
                spent.append(time.perf_counter() - start)
    short, long = (statistics.median(values) for values in seconds)
    return long / short * length / LONG


def memory(length: int, passes: str) -> float:
    """Peak GB above the inputs of one run in a fresh process.

    Linux counts the peak of the process that started it as its own: start it from a small one.
    """
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, folder, str(length), passes],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def print_table(result: dict[str, object]) -> None:
    """Figures, targets, and when and from which code they were measured."""
    rows = [
        ("forward, times as fast as mambapy's", "forward_vs_mambapy", "", ">= 20"),
        ("forward + backward, likewise", "forward_backward_vs_mambapy", "", ">= 15"),
        ("forward over 135,000 steps, above inputs", "extra_gb_135k", "GB", "<= 0.6"),
        ("forward + backward, likewise", "extra_gb_135k_forward_backward", "GB", ""),
        ("largest error over largest |y|", "max_rel_error", "", "<= 1e-6"),
        ("worst gradient, likewise", "max_rel_gradient_error", "", ""),
        ("forward over its exponentials alone", "forward_over_exp_limit", "x", ""),
        ("forward over its products alone", "forward_over_fma_limit", "x", ""),
        ("forward + backward over exponentials", "forward_backward_over_exp_limit", "x", ""),
        ("forward + backward over products", "forward_backward_over_fma_limit", "x", ""),
        ("forward", "forward_ms", "ms", ""),
        ("forward + backward", "forward_backward_ms", "ms", ""),
        ("forward, 135,000 steps over linear", "forward_135k_over_linear", "x", "about 1"),
        ("forward + backward, likewise", "forward_backward_135k_over_linear", "x", "about 1"),
    ]
    for label, key, unit, target in rows:
        print(f"{label:42s}{result[key]:>10} {unit:3s}{target}")
    print(f"measured {result['date']} at {result['git_sha']}, dirty {result['git_dirty']}")


if __name__ == "__main__":
    main()
