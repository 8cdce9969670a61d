"""A batch of problems, and what the user may set of their training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sklearn_htmc._network import Floats
from sklearn_htmc._training.core.deadline import UNLIMITED, Deadline
from sklearn_htmc._training.core.weightings import SENSITIVITY, Weighting

Report = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Settings:
    """What the user may set of a fit.

    Attributes
    ----------
    max_iter : int
        Passes over the rows.
    batch_size : int
        Rows of a batch.
    min_steps : int
        Steps of a pass at least.
    weighting : Weighting
        Weights of the norm.
    max_edges : int or None
        Budget of edges.
    patience : int or None
        Passes without a better validation loss after which a problem ends; None trains to the end.
    rate : float or None
        Constant step size; None lets it grow and decay.
    polish : bool
        Whether the second-order phase follows.
    is_brief : bool
        Whether that takes a few steps and removes no edge in the end, which is enough to rank strengths.
    trial : bool
        Whether a family may say, after a short training, that the whole is in vain.
    deadline : Deadline
        When to end.
    """

    max_iter: int
    batch_size: int
    min_steps: int = 4
    weighting: Weighting = SENSITIVITY
    max_edges: int | None = None
    patience: int | None = None
    rate: float | None = None
    polish: bool = True
    is_brief: bool = False
    trial: bool = True
    deadline: Deadline = UNLIMITED


@dataclass(frozen=True, eq=False)
class Problems:
    """A batch of problems: what differs between them.

    Attributes
    ----------
    strengths : tuple of float
        Penalty strengths.
    seeds : tuple of int
        Seeds of initial weights and row order.
    sample_weights : ndarray of shape (n_problems, n_samples)
        Weights of the rows; zero where a row is not part of the problem.
    validation_weights : ndarray of shape (n_problems, n_samples) or None
        Weights of the rows that judge.
    """

    strengths: tuple[float, ...]
    seeds: tuple[int, ...]
    sample_weights: Floats
    validation_weights: Floats | None = None

    def __len__(self) -> int:
        """Return the number of problems."""
        return len(self.strengths)

    def part(self, chosen: Sequence[int]) -> Problems:
        """Return some of the problems."""
        held_out, index = self.validation_weights, list(chosen)
        return Problems(
            tuple(self.strengths[i] for i in index),
            tuple(self.seeds[i] for i in index),
            self.sample_weights[index],
            None if held_out is None else held_out[index],
        )
