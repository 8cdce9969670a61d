"""The clock of a fit, and what Ctrl-C does to it. Imports no torch."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn_htmc._training.core.deadline import Deadline


@contextmanager
def timed(max_time: float | None, on_interrupt: str) -> Iterator[Deadline]:
    """Start the clock of a fit; with ``on_interrupt="keep"`` an interrupt stops it, once there is a network to keep.

    A second interrupt raises, as the first one does where nothing could be kept, or where others count on it: in other
    threads than the main one no signal arrives, in worker processes and loops of joblib (a search, a cross-validation)
    the whole is to end and not this fit alone, and whoever has a handler of their own knows what it is for.

    Parameters
    ----------
    max_time : float or None
        Seconds.
    on_interrupt : {"keep", "raise"}
        Whether interrupts stop the clock.
    """
    from sklearn_htmc._training.core.deadline import Deadline

    deadline = Deadline(max_time)
    if on_interrupt == "raise" or not _is_alone():
        yield deadline
        return

    def interrupted(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not deadline.interrupt():
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield deadline
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_alone() -> bool:
    """Whether an interrupt means this fit, and reaches it."""
    if threading.current_thread() is not threading.main_thread() or multiprocessing.parent_process() is not None:
        return False
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler and not _is_in_loop_of_joblib()


def _is_in_loop_of_joblib() -> bool:
    """Whether joblib has called, which says so nowhere where it works one by one."""
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        if str(caller.f_globals.get("__name__")).partition(".")[0] == "joblib":
            return True
        frame = caller
    return False
