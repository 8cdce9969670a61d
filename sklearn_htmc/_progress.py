"""A bar over the passes of a fit, where one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from sklearn_htmc._network import RegularizationPath

if TYPE_CHECKING:
    from sklearn_htmc._training.core.deadline import Deadline
    from sklearn_htmc._training.core.problems import Report


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, total: int) -> Report | None:
        """Open a bar, or lengthen the open one, and return what moves it."""
        if not self.verbose:
            return None
        from tqdm.auto import tqdm

        if self.bar is None:
            self.bar = tqdm(total=0, unit="pass", leave=True)
        self.bar.total += total
        return self._report

    def complete(self) -> None:
        """Count what has not been reported: passes that were not needed, or were taken elsewhere."""
        if self.bar is not None:
            self.bar.update(self.bar.total - self.bar.n)
            self.bar.refresh()

    def _report(self, n_done: int, loss: float, edges: float) -> None:
        self.bar.set_postfix(loss=f"{loss:.3g}", edges=f"{edges:.0f}", refresh=n_done == 0)
        self.bar.update(n_done)

    def close(self, path: RegularizationPath) -> None:
        """Show what the fit ended with."""
        if self.bar is not None:
            self.bar.total = self.bar.n  # passes that were not needed
            self.bar.set_postfix(
                loss=f"{path.loss[0]:.3g}",
                edges=int(path.n_edges[0]),
                stationarity=f"{path.stationarity[0]:.2g}",
            )
