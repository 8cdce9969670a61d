"""The pace of a schedule: one step of it per step of training, or more where time would not be enough."""

from __future__ import annotations

import math
import time

from sklearn_htmc._training.core.deadline import TRAINING, Deadline

_LITTLE = 0.5  # of a step, that is left out at the end
_KNOWN_STEPS, _KNOWN_SHARE = 10, 0.05  # after which, of steps or of the time, the time of a step is known


class Pace:
    """How far a schedule has come.

    Where time is short the schedule is run through faster, to its end: step sizes still decay, edges are still removed.

    Parameters
    ----------
    total : int
        Steps of the schedule.
    deadline : Deadline
        When it has to end.
    """

    def __init__(self, total: int, deadline: Deadline) -> None:
        self.total, self.deadline = total, deadline
        self.done: float = 0  # an integer as long as nothing is cut short
        self.is_hurried = False
        self._n_taken, self._began = 0, math.nan  # the clock starts after the first step, which warms up

    @property
    def is_over(self) -> bool:
        """Whether the schedule has come to its end."""
        return self.done >= self.total

    @property
    def hurry(self) -> float:
        """Share of the steps of the schedule so far that have been left out."""
        return 1.0 - self._n_taken / self.done if self.is_hurried else 0.0

    def advance(self) -> None:
        """Count a step that has been taken."""
        self.deadline.holds_network()
        self._n_taken += 1
        ahead = self.total - self.done
        if ahead <= 1:
            self.done = self.total
            return
        more = self._more_steps() if self.deadline.is_limited else math.inf
        if ahead - 1 <= more:
            self.done += 1
        else:
            stride = ahead / (1.0 + more)
            self.done = self.total if ahead - stride < _LITTLE else self.done + stride
            self.is_hurried = True
            self.deadline.cut(TRAINING)

    def _more_steps(self) -> float:
        """Return how many steps there is time for."""
        left = self.deadline.left
        if math.isnan(self._began):
            self._began = time.monotonic()
            return math.inf if left > 0 else 0.0
        passed = max(time.monotonic() - self._began, 1e-9)
        if left > 0 and self._n_taken <= _KNOWN_STEPS and passed < _KNOWN_SHARE * left:
            return math.inf
        return max(0.0, left) * (self._n_taken - 1) / passed
