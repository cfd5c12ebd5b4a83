"""Work in parallel, with progress and ETA, where one bad item does not stop the others."""

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from types import FrameType
from typing import Any, Generic, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from spectramind.errors import ArtefactError, SpectraMindError, WriteError
from spectramind.hardware import memory_limit_gib

Item = TypeVar("Item")
Value = TypeVar("Value")

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS")
SILENCE_S = 30.0  # without a terminal: at most this long between two progress lines
GRACE_S = 3.0  # that workers have to tidy up when the run is interrupted


@dataclass(frozen=True)
class Shown:
    """How the progress of a piece of work is displayed."""

    label: str  # what is done, for example "calibrate"
    unit: str  # what is counted, for example "visits"
    size: Callable[[Any], int] = lambda _: 1  # of an item, in this unit
    later: int = 0  # units of the same stage that come after this work
    silent: bool = False


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """Result of one item: a value, or the error that a user should read."""

    item: Item
    value: Value | None
    error: SpectraMindError | None
    seconds: float  # that it took


def each(
    function: Callable[[Item], Value], items: Sequence[Item], *, workers: int, shown: Shown
) -> Iterator[Outcome[Item, Value]]:
    """Apply a function to every item; yields outcomes as they come, in no fixed order.

    Args:
        function: Picklable when `workers` is above 1; it may raise `SpectraMindError`.
        items: One entry per task.
        workers: Processes; 1 runs in this one.
        shown: How progress is displayed.

    Yields:
        One `Outcome` per item. `WriteError` and errors of other kinds end the run, and so does
        who takes no more outcomes: workers that are at work then are stopped.

    Raises:
        ArtefactError: If a worker process is killed.
    """
    processes = 1 if len(items) < 2 else min(workers, len(items))
    with _Progress(shown, sum(map(shown.size, items)), processes) as progress:
        if processes == 1:
            for item in items:
                outcome = _attempt(function, item)
                yield outcome
                progress.advance(shown.size(item), outcome.seconds)
            return
        others = set(active_children())
        with _pool(processes) as pool:
            with _one_thread_each(), _deaf_to_interrupts():
                futures = [pool.submit(_serve, function, item) for item in items]
            try:
                for future in _as_completed(futures):
                    outcome = future.result()
                    yield outcome
                    progress.advance(shown.size(outcome.item), outcome.seconds)
            except BrokenProcessPool as error:
                raise ArtefactError(
                    f"{shown.label}: a worker process was killed, most likely for want of memory"
                    f"{_limit()}. Lower runtime.workers; finished work is kept and the next run "
                    "goes on from it."
                ) from error
            finally:
                if not all(future.done() for future in futures):  # nobody waits for the others
                    stop_workers(set(active_children()) - others)
                pool.shutdown(wait=True, cancel_futures=True)


def results(
    function: Callable[[Item], Value], items: Sequence[Item], *, workers: int, shown: Shown
) -> Iterator[tuple[Item, Value]]:
    """As `each`, for work of which every item must succeed.

    Yields:
        Each item with its value.

    Raises:
        SpectraMindError: The error of the first item that fails; the others are left out.
    """
    for outcome in each(function, items, workers=workers, shown=shown):
        if outcome.error is not None:
            raise outcome.error
        yield outcome.item, cast(Value, outcome.value)


def stop_workers(workers: Collection[BaseProcess] | None = None) -> None:
    """End worker processes within seconds; None: all of this process.

    They may remove what they have written in half. The workers of workers end with them.
    """
    workers = active_children() if workers is None else workers
    with _deaf_to_interrupts():
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + GRACE_S
        for worker in workers:
            worker.join(max(end - time.monotonic(), 0.0))
        for worker in workers:
            worker.kill()


def _as_completed(futures: Collection[Future[Value]]) -> Iterator[Future[Value]]:
    """Futures as they end.

    This thread wakes now and then: a signal may reach another one first, and Python runs its
    handler in this one alone.
    """
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
        yield from done


def _attempt(function: Callable[[Item], Value], item: Item) -> Outcome[Item, Value]:
    start = time.monotonic()
    try:
        value, error = function(item), None
    except WriteError:
        raise
    except SpectraMindError as raised:
        value, error = None, raised
    return Outcome(item, value, error, time.monotonic() - start)


def _serve(function: Callable[[Item], Value], item: Item) -> Outcome[Item, Value]:
    """What a worker does with an item; one that is told to end tidies up and takes no other."""
    try:
        return _attempt(function, item)
    except SystemExit:
        os._exit(1)


def _pool(workers: int) -> Executor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Let this worker end when it is told to, and when its parent is killed."""
    parent = parent_process()
    assert parent is not None

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # it tidies up now
        raise SystemExit(1)

    def watch() -> None:
        parent.join()
        os._exit(1)  # it would wait for work for ever

    signal.signal(signal.SIGTERM, end)
    Thread(target=watch, daemon=True).start()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Hold back SIGINT until the end; processes started inside never get one.

    On a terminal all processes get it at once, from a scheduler only the first one; this one ends
    the others in both cases.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _limit() -> str:
    """How much memory this process may use, where that is less than the machine has."""
    limit = memory_limit_gib()
    return "" if limit is None else f" (the limit is {limit:.1f} GiB)"


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside compute with one thread each.

    Libraries read these when they are loaded, which in a new process may be before anything of
    ours runs in it; so it must inherit them.
    """
    kept = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread inside, so that results to the bit depend on no setting.

    Worker processes have one thread anyway; this is for work that runs in the calling process.
    """
    import torch  # takes seconds to import, and only some work needs it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Progress:
    """A bar on a terminal, a line now and then elsewhere; both on stderr.

    What is left is reckoned from how long items took in their workers. Items that were there
    already take next to nothing, so each item weighs as much as it took: the estimate is that of
    the slow ones, and comes true or better.
    """

    def __init__(self, shown: Shown, total: int, processes: int) -> None:
        self.shown, self.total, self.processes, self.done = shown, total, processes, 0
        self.spent = self.weighed = 0.0  # sums of seconds, and of seconds times those per unit
        self.said = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> "_Progress":
        if not self.shown.silent and sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{self.shown.unit} {{task.fields[left]}}"),
                console=Console(stderr=True),
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task(self.shown.label, total=self.total, left="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, units: int, seconds: float) -> None:
        """Count an item, which took so many seconds."""
        self.done += units
        self.spent += seconds
        self.weighed += seconds * seconds / max(units, 1)
        if self.bar is not None:
            self.bar.update(self.task, advance=units, left=self._left())
            return
        now = time.monotonic()
        late = now - self.said > SILENCE_S
        if not self.shown.silent and late and self.done < self.total:
            self.said = now
            print(  # noqa: T201
                f"{self.shown.label}: {self.done} of {self.total} {self.shown.unit}, "
                f"{self._left()}",
                file=sys.stderr,
            )

    def _left(self) -> str:
        units = self.total - self.done + self.shown.later
        each_s = self.weighed / self.spent if self.spent else 0.0
        return f"about {units * each_s / self.processes:.0f} s left"
