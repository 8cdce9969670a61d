"""A bar over the phases of a fit, where one is asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

from sklearn_htmc._network import RegularizationPath

if TYPE_CHECKING:
    from sklearn_htmc._training.core.deadline import Deadline
    from sklearn_htmc._training.core.problems import Report

TRAINING = "training"
_FORMAT = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
_STEP = 0.1  # share of what is kept for the second-order phase that one report of it takes


class Progress:
    """A tqdm bar that is there only when asked for, and the clock.

    Parameters
    ----------
    verbose : int or bool
        Whether there is a bar.
    deadline : Deadline
        When the fit has to end.
    """

    def __init__(self, verbose: int | bool, deadline: Deadline) -> None:
        self.verbose = bool(verbose)
        self.deadline = deadline
        self.bar: Any = None
        self.n_passes = 0
        self.second_order = 0.0  # units kept for what comes after the passes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, n_passes: int, phase: str = TRAINING, share: float = 1.0) -> Report | None:
        """Open a bar, or lengthen the open one, and return what moves it.

        Parameters
        ----------
        n_passes : int
            Passes to come, each one unit.
        phase : str
            What they are for.
        share : float
            Share of the passes in the time; what is left is kept for the second-order phase, whose length nobody
            knows: every report of it takes a tenth of what is still kept.
        """
        if not self.verbose:
            return None
        from tqdm.auto import tqdm

        if self.bar is None:
            self.bar = tqdm(total=0, leave=True, smoothing=0.0, bar_format=_FORMAT)
        self.second_order = n_passes * (1.0 / share - 1.0)
        self.bar.total += n_passes + self.second_order
        last = self.bar.total - self.second_order

        def report(n_done: int, loss: float, edges: float) -> None:
            step = min(float(n_done), max(0.0, last - self.bar.n))
            if not n_done:
                step = _STEP * self.second_order
                self.second_order -= step
            self.n_passes += n_done
            is_first = n_done > 0 or phase != TRAINING
            name = phase if is_first else "second-order phase"
            self.bar.set_description(name, refresh=self.bar.desc != f"{name}: ")  # the first of every phase is shown
            self._show(loss=f"{loss:.3g}", edges=f"{edges:.0f}")
            self.bar.update(step)

        return report

    def _show(self, **numbers: str) -> None:
        left = self.deadline.left
        ends = {} if left == math.inf else {"ends_in": f"{max(0.0, left):.0f}s"}
        self.bar.set_postfix(passes=self.n_passes, **numbers, **ends, refresh=False)

    def complete(self) -> None:
        """Come to the end: passes that were not needed, or were taken elsewhere."""
        if self.bar is not None:
            self.bar.update(self.bar.total - self.bar.n)
            self.bar.refresh()

    def close(self, path: RegularizationPath) -> None:
        """Show what the fit ended with."""
        if self.bar is not None:
            self._show(
                loss=f"{path.loss[0]:.3g}",
                edges=f"{path.n_edges[0]:.0f}",
                stationarity=f"{path.stationarity[0]:.2g}",
            )
            self.complete()
