"""The rivals of the scan compute what it computes, and ratios are of the fastest of them."""

import pytest
import torch

import scan
from reports.scan import table
from spectramind.model.scan import scan_reference
from torch_loop import CHUNK, loop_scan


def inputs(sequences, steps):
    source = torch.Generator().manual_seed(3)
    x, noise = (torch.randn(sequences, steps, 6, generator=source).double() for _ in range(2))
    a = -torch.rand(6, 4, generator=source).double()
    b, c = (torch.randn(sequences, steps, 4, generator=source).double() for _ in range(2))
    args = (x, noise.abs(), a, b, c, torch.linspace(-1.0, 1.0, 6).double())
    return [own.requires_grad_() for own in args]


@pytest.mark.parametrize("steps", [1, CHUNK, 2 * CHUNK + 5])
def test_the_loop_is_the_scan_with_all_gradients(steps):
    args = inputs(2, steps)
    loop, exact = (scan.run(own, args, backward=True) for own in (loop_scan, scan_reference))
    for one, other in zip(loop, exact, strict=True):
        torch.testing.assert_close(one, other)


def test_the_loop_is_right_to_its_own_derivatives():
    assert torch.autograd.gradcheck(loop_scan, inputs(1, 5))


def test_a_rival_that_computes_something_else_stops_the_race(monkeypatch):
    def half(*args):
        return 0.5 * loop_scan(*args)

    monkeypatch.setattr(scan, "RIVALS", {"half": half})
    with pytest.raises(SystemExit, match=r"^scan: half differs from the scan by 0\.5 of the "):
        scan.agree(scan.draw(16, needs_grad=True))


def test_the_ratio_is_that_of_the_fastest_rival():
    seconds = {"scan": 2.0, "exp": 1.0, "mambapy_parallel": 40.0, "torch_loop": 15.0}
    assert scan.over_best(seconds) == 7.5


def test_all_take_turns_and_medians_leave_the_first_out(monkeypatch):
    clock, order = iter(range(100)), []
    monkeypatch.setattr(scan.time, "perf_counter", lambda: float(next(clock)))
    found = scan.take_turns(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, {"a": 2}
    )
    assert order == ["a", "b", "a", "a", "b", "a", "a", "b"]
    assert found == {"a": 1.0, "b": 1.0}


def test_a_short_run_makes_a_whole_table(monkeypatch):
    monkeypatch.setattr(scan, "LONG", 256)
    monkeypatch.setattr(scan, "SHORT", 32)
    monkeypatch.setattr(scan, "memory", lambda *_: 0.25)
    found = scan.measure(length=64, rounds=1)
    assert found["forward_vs_best"] == pytest.approx(
        min(spent for name, spent in found["ms"]["forward"].items() if name in scan.RIVALS)
        / found["ms"]["forward"]["scan"],
        rel=0.5,
    )
    shown = table(found | {"date": "2026-01-02T03:04:05", "cores": 2, "load_before": 0.25})
    assert "| 64 steps, 512 channels, 16 states | forward | forward and backward |" in shown
    assert "Measured on 2026-01-02: 2 cores, load 0.25 before the start." in shown
