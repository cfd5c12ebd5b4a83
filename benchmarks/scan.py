"""The selective scan beside its rivals in torch, at the width of one V50 block.

    python benchmarks/scan.py            L = 8192, 512 channels, 16 states, a few minutes; stores
    python benchmarks/scan.py --quick    L = 1024, two rounds
    python benchmarks/scan.py --stored   the last full run again

Rivals: mambapy's parallel scan (its default), its sequential mode, and a loop over time in torch
(benchmarks/torch_loop.py). All give the same numbers, which is checked first. Backward, mambapy's
sequential mode writes a gradient of all steps at every step, so its time grows with the square of
the length; `sequential_over_parallel` shows it at a length where that can still be waited for, and
it takes no part at the full one. At 135,000 steps mambapy needs more memory than the machine has.

Speed: all of them, and the arithmetic they cannot do without, take turns in one process on the
same inputs after a run that is not counted; each figure is a ratio of medians, `*_vs_best` that
of the fastest rival over this scan. The limits are two loops of our own without any memory
traffic: exp2 alone, once for each state and step, and fused multiply-adds alone, as many as the
scan has products (10 per state and step forward, 17 more backward).

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
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import no_type_check

import numba
import numpy as np
import torch
from mambapy.mamba import MambaBlock
from torch import Tensor

from quiet import Machine
from reports.scan import table
from spectramind.model.scan import scan_reference, selective_scan
from spectramind.model.scan.lanes import exp2, load, store
from torch_loop import loop_scan

RESULT = Path(__file__).parents[1] / "docs" / "results" / "scan.json"
LENGTH, LONG, CHANNELS, STATES, SEED = 8192, 135_000, 512, 16, 2026
PRODUCTS, BACKWARD_PRODUCTS = 10, 17
VECTOR = 16  # numbers
ROUNDS, QUICK_ROUNDS, OURS_PER_ROUND = 5, 2, 7
SHORT = 512  # steps, of mambapy's sequential mode backward
CLOSE = 1e-5  # largest difference of a rival's output over the largest output
Scan = Callable[..., Tensor]
MEMORY = """
import resource, sys
import torch
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
with open("/proc/self/statm") as pages:
    before = int(pages.read().split()[1]) * resource.getpagesize()
run(args)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print((peak - before) / 1e9)
"""


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Selective scan against mambapy's.")
    parser.add_argument("--quick", action="store_true", help="an eighth of the steps, two rounds")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    if arguments.stored:
        result = json.loads(RESULT.read_text())
    else:
        state, quick = Machine.now(), {"length": LENGTH // 8, "rounds": QUICK_ROUNDS}
        full = {"length": LENGTH, "rounds": ROUNDS}
        result = measure(**(quick if arguments.quick else full)) | state.stored()
        if not arguments.quick:
            state.store_times(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def draw(length: int, needs_grad: bool) -> list[Tensor]:
    """Inputs of one sequence: the block's rates at the start, steps as the paper spreads them."""
    source = torch.Generator().manual_seed(SEED)
    x = torch.empty(1, length, CHANNELS).normal_(generator=source)
    dt = torch.empty(1, length, CHANNELS).uniform_(-6.9, -2.3, generator=source).exp_()
    a = -torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1)
    b, c = (torch.empty(1, length, STATES).normal_(generator=source) for _ in range(2))
    return [part.requires_grad_(needs_grad) for part in (x, dt, a, b, c, torch.ones(CHANNELS))]


def parallel_scan(*args: Tensor) -> Tensor:
    """Mambapy's default."""
    return MambaBlock.selective_scan(None, *args)


def sequential_scan(*args: Tensor) -> Tensor:
    """Mambapy's loop over time; of its block it needs two sizes only."""
    sizes = SimpleNamespace(d_inner=CHANNELS, d_state=STATES)
    return MambaBlock.selective_scan_seq(SimpleNamespace(config=sizes), *args)


RIVALS: dict[str, Scan] = {
    "mambapy_parallel": parallel_scan,
    "mambapy_sequential": sequential_scan,
    "torch_loop": loop_scan,
}
BACKWARD_RIVALS = {name: RIVALS[name] for name in ("mambapy_parallel", "torch_loop")}
LONG_RIVALS = {"torch_loop": loop_scan}


def measure(*, length: int, rounds: int) -> dict[str, object]:
    """Ratios, errors, memory."""
    gb, gb_both = memory(LONG, "forward"), memory(LONG, "backward")  # while this process is small
    args = draw(length, needs_grad=False)
    agree(draw(SHORT, needs_grad=True))
    forward = race(args, RIVALS, rounds, backward=False)
    both = race(draw(length, needs_grad=True), BACKWARD_RIVALS, rounds, backward=True)
    forward_long, both_long = (long_race(length, rounds, both_ways) for both_ways in (False, True))
    return {
        "forward_vs_best": over_best(forward),
        "forward_backward_vs_best": over_best(both),
        "forward_135k_vs_best": over_best(forward_long),
        "forward_backward_135k_vs_best": over_best(both_long),
        "sequential_over_parallel": sequential_over_parallel(rounds),
        "extra_gb_135k": round(gb, 3),
        "extra_gb_135k_forward_backward": round(gb_both, 3),
        "max_rel_error": float(f"{error(args):.2g}"),
        "max_rel_gradient_error": float(f"{gradient_error():.2g}"),
        "forward_over_exp_limit": round(forward["scan"] / forward["exp"], 2),
        "forward_over_fma_limit": round(forward["scan"] / forward["fma"], 2),
        "forward_backward_over_exp_limit": round(both["scan"] / both["exp"], 2),
        "forward_backward_over_fma_limit": round(both["scan"] / both["fma"], 2),
        "ms": {"forward": milliseconds(forward), "forward_backward": milliseconds(both)},
        "forward_135k_over_linear": over_linear(forward_long, length),
        "forward_backward_135k_over_linear": over_linear(both_long, length),
        "length": length,
        "rounds": rounds,
        "channels": CHANNELS,
        "states": STATES,
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "seed": SEED,
    }


def milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    """The same to a tenth of a millisecond."""
    return {name: round(1e3 * spent, 1) for name, spent in seconds.items()}


def over_best(seconds: dict[str, float]) -> float:
    """Seconds of the fastest rival over those of this scan."""
    return round(min(seconds[name] for name in RIVALS if name in seconds) / seconds["scan"], 1)


def agree(args: list[Tensor]) -> None:
    """Stop where a rival computes something else, forward or backward."""
    ours = run(selective_scan, args, backward=True)
    for name, rival in RIVALS.items():
        for own, other in zip(ours, run(rival, args, backward=True), strict=True):
            apart = ((own - other).abs().max() / own.abs().max()).item()
            if not apart <= CLOSE:
                raise SystemExit(
                    f"scan: {name} differs from the scan by {apart:.2g} of the largest value, "
                    f"expected at most {CLOSE:g}. Times of different results say nothing: "
                    "mend one of the two first."
                )


def run(scan: Scan, args: list[Tensor], *, backward: bool) -> list[Tensor]:
    """Output, and the gradients of all inputs for a unit gradient of it."""
    y = scan(*args)
    return [y, *torch.autograd.grad(y, args, torch.ones_like(y))] if backward else [y]


def race(
    args: list[Tensor], rivals: dict[str, Scan], rounds: int, *, backward: bool
) -> dict[str, float]:
    """Median seconds of each contestant; all take turns, the short ones several times per turn."""
    work = args[0].numel() * STATES // VECTOR
    products = PRODUCTS + (BACKWARD_PRODUCTS if backward else 0)
    scratch = np.full((numba.get_num_threads(), 8 * VECTOR), 0.5, np.float32)
    ours: dict[str, Callable[[], object]] = {
        "scan": partial(run, selective_scan, args, backward=backward),
        "exp": lambda: exponentials(scratch, work * (2 if backward else 1)),
        "fma": lambda: multiply_adds(scratch, work * products),
    }
    theirs = {name: partial(run, rival, args, backward=backward) for name, rival in rivals.items()}
    return take_turns(ours | theirs, rounds, dict.fromkeys(ours, OURS_PER_ROUND))


def take_turns(
    contestants: dict[str, Callable[[], object]], rounds: int, times: dict[str, int]
) -> dict[str, float]:
    """Median seconds of each, so many `times` per round (1), after a run that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant()
    for _ in range(rounds):
        for name, contestant in contestants.items():
            for _ in range(times.get(name, 1)):
                start = time.perf_counter()
                contestant()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def long_race(length: int, rounds: int, backward: bool) -> dict[str, float]:
    """Median seconds at `LONG` steps; `short` is this scan at `length` steps."""
    short, long = draw(length, backward), draw(LONG, backward)
    contestants = {
        name: partial(run, rival, long, backward=backward) for name, rival in LONG_RIVALS.items()
    }
    contestants["short"] = partial(run, selective_scan, short, backward=backward)
    contestants["scan"] = partial(run, selective_scan, long, backward=backward)
    return take_turns(contestants, rounds, {"short": OURS_PER_ROUND})


def over_linear(seconds: dict[str, float], length: int) -> float:
    """Seconds of LONG steps over those of `length` steps times the ratio of the two."""
    return round(seconds["scan"] / seconds["short"] * length / LONG, 2)


def sequential_over_parallel(rounds: int) -> dict[str, float]:
    """How many times longer mambapy's sequential mode takes, forward and backward."""
    args = draw(SHORT, needs_grad=True)
    rivals = {"parallel": parallel_scan, "sequential": sequential_scan}
    spent = take_turns(
        {name: partial(run, rival, args, backward=True) for name, rival in rivals.items()},
        rounds,
        {},
    )
    return {"length": SHORT, "ratio": round(spent["sequential"] / spent["parallel"], 1)}


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


if __name__ == "__main__":
    main()
