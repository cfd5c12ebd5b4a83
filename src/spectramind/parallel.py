"""Planets in parallel, with progress and ETA, where one bad planet does not stop the others."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Generic, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spectramind.errors import ArtefactError, SpectraMindError, WriteError

Item = TypeVar("Item")
Value = TypeVar("Value")

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS")
SILENCE_S = 30.0  # without a terminal: at most this long between two progress lines


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """Result of one item: a value, or the error that a user should read."""

    item: Item
    value: Value | None
    error: SpectraMindError | None


def each(
    function: Callable[[Item], Value],
    items: Sequence[Item],
    *,
    workers: int,
    label: str,
    shown: bool = True,
) -> Iterator[Outcome[Item, Value]]:
    """Apply a function to every item; yields outcomes as they come, in no fixed order.

    Args:
        function: Picklable when `workers` is above 1; it may raise `SpectraMindError`.
        items: One entry per task.
        workers: Processes; 1 runs in this one.
        label: Word for the progress display, for example "calibrate".
        shown: Whether progress is displayed.

    Yields:
        One `Outcome` per item. `WriteError` and errors of other kinds end the run.

    Raises:
        ArtefactError: If a worker process is killed.
    """
    with _progress(label, len(items), shown=shown) as advance:
        if workers == 1 or len(items) < 2:
            for item in items:
                yield _attempt(function, item)
                advance()
            return
        with _pool(min(workers, len(items))) as pool:
            with _one_thread_each():
                futures = [pool.submit(_attempt, function, item) for item in items]
            try:
                for future in as_completed(futures):
                    yield future.result()
                    advance()
            except BrokenProcessPool as error:
                raise ArtefactError(
                    f"{label}: a worker process was killed, most likely for want of memory. Lower "
                    "runtime.workers; finished work is kept and the next run goes on from it."
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def results(
    function: Callable[[Item], Value],
    items: Sequence[Item],
    *,
    workers: int,
    label: str,
    shown: bool = True,
) -> Iterator[tuple[Item, Value]]:
    """As `each`, for work of which every item must succeed.

    Yields:
        Each item with its value.

    Raises:
        SpectraMindError: The error of the first item that fails; what has not begun is left out.
    """
    for outcome in each(function, items, workers=workers, label=label, shown=shown):
        if outcome.error is not None:
            raise outcome.error
        yield outcome.item, cast(Value, outcome.value)


def _attempt(function: Callable[[Item], Value], item: Item) -> Outcome[Item, Value]:
    try:
        return Outcome(item, function(item), None)
    except WriteError:
        raise
    except SpectraMindError as error:
        return Outcome(item, None, error)


def _pool(workers: int) -> Executor:
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed; it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


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


class _progress:
    """A bar on a terminal, a line now and then elsewhere; both on stderr."""

    def __init__(self, label: str, total: int, *, shown: bool) -> None:
        self.label, self.total, self.done, self.shown = label, total, 0, shown
        self.start = self.said = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> Callable[[], None]:
        if self.shown and sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=self.total)
        return self._advance

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def _advance(self) -> None:
        self.done += 1
        if self.bar is not None:
            self.bar.advance(self.task)
            return
        now = time.monotonic()
        late = now - self.said > SILENCE_S
        if self.shown and late and self.done < self.total:
            self.said = now
            eta = (now - self.start) / self.done * (self.total - self.done)
            print(  # noqa: T201
                f"{self.label}: {self.done} of {self.total}, about {eta:.0f} s left",
                file=sys.stderr,
            )
