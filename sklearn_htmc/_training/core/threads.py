"""Threads: many small problems at once, each on one thread.

joblib leaves threads running behind a caller who has been interrupted. Here the pool of the standard library waits
for them, and they look at `Stop` after every piece of work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from sklearn_htmc._threads import one_thread_each

if TYPE_CHECKING:
    from sklearn_htmc._training.core.problems import Report

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

    def watch(self, report: Report | None) -> Report:
        """Return what tells of progress, if anybody wants to know, and ends the worker if it was asked to."""

        def watched(n_done: int, loss: float, edges: float) -> None:
            self.check()
            if report is not None:
                report(n_done, loss, edges)

        return watched


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

    def limited(item: Item) -> Result:
        with one_thread_each():
            return function(item, stop)

    with ThreadPoolExecutor(n_threads) as pool:
        running = [pool.submit(limited, item) for item in items]
        try:
            return [future.result() for future in running]
        except BaseException:
            stop.set()
            for future in running:
                future.cancel()
            raise
