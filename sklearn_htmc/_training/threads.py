"""Threads: many small problems at once, each on one thread, and a process left as it was found.

joblib leaves threads running behind a caller who has been interrupted. Here the pool of the standard library waits
for them, and they look at `Stop` after every piece of work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stop:
    """Tells the workers of one call that nobody waits for them any more."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the workers to end."""
        self._event.set()

    def check(self) -> None:
        """End the worker that calls it, by an exception, if it was asked to."""
        if self._event.is_set():
            raise InterruptedError("the caller of this fit has been interrupted")


class _Limits:
    """One thread per library as long as any fit of the process runs; fits in several threads may overlap."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_fits = 0
        self.n_threads = 1
        self.libraries = ExitStack()

    def enter(self) -> int:
        with self.lock:
            if self.n_fits == 0:
                self.n_threads = torch.get_num_threads()
                self.libraries.enter_context(threadpool_limits(1))
            self.n_fits += 1
            torch.set_num_threads(1)  # of every thread that enters
            return self.n_threads

    def leave(self) -> None:
        with self.lock:
            self.n_fits -= 1
            if self.n_fits == 0:
                self.libraries.close()
                torch.set_num_threads(self.n_threads)


_limits = _Limits()


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Limit every library to one thread and yield how many the caller had: small products lose on two threads.

    The caller's settings are restored when the last fit of the process ends. The split of the work never depends on
    the number of threads, so results do not either.
    """
    n_threads = _limits.enter()
    try:
        yield n_threads
    finally:
        _limits.leave()


def in_threads(function: Callable[[Item, Stop], Result], items: Sequence[Item], n_threads: int) -> list[Result]:
    """Apply a function to all items, several at a time, and return what it returns.

    Parameters
    ----------
    function : callable
        Takes an item and the `Stop` that it is to check now and then.
    items : sequence
        The items.
    n_threads : int
        How many run at once. A single item, or a single thread, needs no other thread than the caller's.

    Returns
    -------
    list
        In the order of the items. When this function returns or raises, no thread of it runs any more.
    """
    stop = Stop()
    if n_threads == 1 or len(items) == 1:
        return [function(item, stop) for item in items]
    with ThreadPoolExecutor(n_threads) as pool:
        running = [pool.submit(function, item, stop) for item in items]
        try:
            return [future.result() for future in running]
        except BaseException:
            stop.set()
            for future in running:
                future.cancel()
            raise
