"""Time: how long a fit and its phases may take, and that somebody has asked it to end.

All phases ask one object, and so end in order: what they have is finished, measured and returned. A phase gets a share
of the time of the whole. An interrupt leaves a fit little time, of which the phases that are left, or under way, get
the same shares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

TRAINING, SECOND_ORDER = "training", "the second-order phase"  # what a warning says was cut short
SEARCH, STRENGTHS, MISSING = "the search for alpha", "the larger strengths", "the search for neurons of stationarity_"

_GRACE = (1.0, 0.1, 5.0)  # seconds after an interrupt: these, a share of what has passed, but at most these


@dataclass(eq=False)
class _Course:
    """What all deadlines of one fit have in common."""

    began: float
    interrupted: float = math.inf
    has_network: bool = False
    refused: dict[str, None] = field(default_factory=dict)


class Deadline:
    """When a fit, or a part of it, has to end; phases ask it whether they may go on.

    Parameters
    ----------
    seconds : float or None
        From now on; None is for ever, unless there is an interrupt.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._began = time.monotonic()
        self._ends = math.inf if seconds is None else self._began + seconds
        self._course = _Course(self._began)
        self._whole: Deadline | None = None
        self._share, self._name = 1.0, ""

    # For phases.

    def allows(self, phase: str) -> bool:
        """Return whether there is time left; if not, the phase is noted as cut short.

        Who asks holds a network.
        """
        self.holds_network()
        if self.left > 0:
            return True
        self.cut(phase)
        return False

    def holds_network(self) -> None:
        """Note that there is a network: from now on an interrupt leaves one."""
        self._course.has_network = True

    def cut(self, phase: str) -> None:
        """Note that a phase has less time than it wants."""
        self._course.refused[self._name or phase] = None

    def part(self, share: float, name: str = "") -> Deadline:
        """Return the deadline of a phase that gets a share of what is left; a name stands for all that is in it."""
        part = Deadline.__new__(Deadline)
        part._began, part._course, part._whole, part._share = time.monotonic(), self._course, self, share
        left = self.left
        part._ends = part._began + share * left if left > 0 else part._began
        part._name = self._name or name
        return part

    def turn(self, place: int, n_items: int, n_at_once: int = 1) -> Deadline:
        """Return the deadline of one of some equal items, which is about to start; so many run at once."""
        rounds = -(-n_items // n_at_once)
        return self.part(1.0 / (rounds - place // n_at_once))

    @property
    def left(self) -> float:
        """Seconds that are left; infinite where nothing ends a fit."""
        return self._end() - time.monotonic()

    @property
    def is_limited(self) -> bool:
        """Whether anything ends it."""
        return self._end() < math.inf

    def _end(self) -> float:
        at = self._course.interrupted
        if at <= self._began and self._whole is not None:
            return self._ends  # the time was short already when this part began
        if at == math.inf:
            return self._ends
        if self._whole is None:
            least, share, most = _GRACE
            return min(self._ends, at + min(most, least + share * (at - self._course.began)))
        return min(self._ends, at + self._share * max(0.0, self._whole._end() - at))

    # For those who wait.

    def interrupt(self) -> bool:
        """Ask the fit to end; return whether it has a network to end with."""
        if self._course.has_network:
            self._course.interrupted = time.monotonic()
        return self._course.has_network

    @property
    def is_interrupted(self) -> bool:
        """Whether somebody has asked the fit to end."""
        return self._course.interrupted < math.inf

    @property
    def refused(self) -> tuple[str, ...]:
        """What was cut short."""
        return tuple(self._course.refused)

    def note(self, refused: Iterable[str]) -> None:
        """Take over what was cut short elsewhere."""
        self._course.refused.update(dict.fromkeys(refused))

    # In another process, perhaps on another machine, clocks of its own run.

    def __getstate__(self) -> dict[str, Any]:
        """Return the instant by the clock on the wall."""
        return {"ends": time.time() + self.left, "name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start the clock of this process."""
        self.__init__(state["ends"] - time.time())  # type: ignore[misc]
        self._name = state["name"]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: there is one clock."""
        return self


UNLIMITED = Deadline()
