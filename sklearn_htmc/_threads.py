"""How many threads libraries use: one owner of the limit in a process, however many fits run in it at once.

Where two calls limit a library and each restores what it found, the later one finds the limit of the earlier one and
leaves it behind. Here the first to enter records and the last to leave restores. The number of BLAS belongs to the
process, those of OpenMP and torch to each thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from threadpoolctl import ThreadpoolController

_TRIES = 10  # somebody else may take control of OpenBLAS in between


class _Limit:
    """One thread for some libraries as long as anybody asks for it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.entries: set[object] = set()
        self.before: dict[str, tuple[Any, int]] = {}

    def add(self, entry: object, libraries: list[Any]) -> None:
        """Limit libraries; those that were not loaded when others entered are recorded now."""
        with self.lock:
            self.entries.add(entry)
            for library in libraries:
                self.before.setdefault(library.filepath, (library, library.get_num_threads()))
                _set(library, 1)

    def remove(self, entry: object) -> None:
        """Restore what was found if nobody else asks for the limit; an entry may be removed twice."""
        with self.lock:
            self.entries.discard(entry)
            if not self.entries:
                while self.before:
                    library, n_threads = self.before.popitem()[1]
                    _set(library, n_threads)


def _set(library: Any, n_threads: int) -> None:
    """Set the threads of a library from any thread.

    threadpoolctl lets only the thread that was first set those of OpenBLAS and silently ignores the others, until
    that one is through.
    """
    clear = getattr(library, "clear_controlling_thread", None)
    for _ in range(_TRIES):
        if clear is not None:
            clear(force=True)
        library.set_num_threads(n_threads)
        if clear is None or library.get_num_threads() == n_threads:
            break
    if clear is not None:
        clear(force=True)


class _Torch:
    """The threads of torch in the calling thread; torch is imported by those who use it.

    A thread that is new to torch takes over the number that was set last in any thread. What new threads take over is
    therefore put back at once, from a new thread; those that enter here meanwhile wait. One that calls torch for the
    first time in these microseconds, and not through this package, would take over the limit.
    """

    filepath = "torch"
    lock = threading.RLock()

    def get_num_threads(self) -> int:
        """Return the number of the calling thread."""
        import torch

        with self.lock:
            return torch.get_num_threads()

    def set_num_threads(self, n_threads: int) -> None:
        """Set the number of the calling thread alone."""
        import torch

        with self.lock:
            inherited = _in_new_thread(torch.get_num_threads)
            try:
                torch.set_num_threads(n_threads)
            finally:
                _in_new_thread(partial(torch.set_num_threads, inherited))


def _in_new_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


class _Own(threading.local):
    """The limit of torch and OpenMP in the calling thread."""

    def __init__(self) -> None:
        self.limit = _Limit()


_blas, _own = _Limit(), _Own()


def _libraries(user_api: str) -> list[Any]:
    return [library for library in ThreadpoolController().lib_controllers if library.user_api == user_api]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread: small products lose on two, and two could change the last bit of a sum."""
    entry = object()
    try:
        _blas.add(entry, _libraries("blas"))
        yield
    finally:
        _blas.remove(entry)


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Limit BLAS, OpenMP and torch to one thread in the calling thread, and yield how many torch had before.

    Threads that are started inside enter themselves. The split of the work never depends on the number of threads, so
    results do not either.
    """
    entry, own = object(), _own.limit
    try:
        with one_blas_thread():
            # torch comes first and is restored last: it is one of those who use OpenMP.
            own.add(entry, [_Torch(), *_libraries("openmp")])
            yield own.before[_Torch.filepath][1]
    finally:
        own.remove(entry)
