"""Mini-batches for a batch of problems: every problem draws from its own rows, all problems step together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sklearn_htmc._network import Floats


@dataclass(frozen=True, eq=False)
class Batches:
    """The rows of a batch of problems on the device of the training.

    A problem with zero weights has fewer rows and steps through them as often as the others through theirs. Where all
    rows fit in one batch there is nothing to draw: training is full-batch and deterministic.

    Attributes
    ----------
    X : Tensor of shape (n_samples, n_features)
        Features, shared by the problems.
    y : Tensor of shape (n_samples, n_outputs)
        Targets.
    rows : Tensor of shape (n_problems, n_rows)
        Rows with positive weight, padded with row 0.
    weights : Tensor of shape (n_problems, n_rows)
        Their weights; those of one batch sum to one on average (exactly for a full batch); 0 for the padding.
    counts : tuple of int
        Rows of each problem without the padding.
    size : int
        Rows of a batch.
    n_steps : int
        Batches of one pass.
    """

    X: Tensor
    y: Tensor
    rows: Tensor
    weights: Tensor
    counts: tuple[int, ...]
    size: int
    n_steps: int

    @classmethod
    def build(cls, X: Tensor, y: Tensor, sample_weights: Floats, *, size: int, n_rows: int, min_steps: int) -> Batches:
        """Collect the rows of the problems.

        Parameters
        ----------
        X, y : Tensor
            All rows.
        sample_weights : ndarray of shape (n_problems, n_samples)
            Non-negative.
        size : int
            Rows of a batch; larger than ``n_rows`` means full batches.
        n_rows : int
            Largest number of rows of a problem, perhaps of one in another batch of the same call.
        min_steps : int
            Steps of a pass where the rows are few.
        """
        size = min(size, n_rows)
        full = size == n_rows
        rows = np.zeros((len(sample_weights), n_rows), dtype=np.int64)
        weights = np.zeros((len(sample_weights), n_rows), dtype=np.float32)
        counts = []
        for problem, w in enumerate(sample_weights):
            used = np.flatnonzero(w)
            rows[problem, : used.size] = used
            weights[problem, : used.size] = w[used] / w[used].sum() * (1.0 if full else used.size / size)
            counts.append(used.size)
        n_steps = max(min_steps, 1 if full else round(n_rows / size))
        return cls(
            X,
            y,
            torch.as_tensor(rows, device=X.device),
            torch.as_tensor(weights, device=X.device),
            tuple(counts),
            size,
            n_steps,
        )

    @property
    def is_full(self) -> bool:
        """Whether a batch holds all rows."""
        return self.size == self.rows.shape[1]

    def order(self, generators: list[torch.Generator]) -> Tensor:
        """Return the positions of the next pass, of shape (n_problems, n_steps * size)."""
        if self.is_full:
            return torch.arange(self.size).repeat(self.n_steps).expand(len(self.counts), -1)
        length = self.n_steps * self.size
        return torch.stack(
            [
                torch.cat([torch.randperm(count, generator=g) for _ in range(math.ceil(length / count))])[:length]
                for count, g in zip(self.counts, generators, strict=True)
            ]
        )

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return X, y and weights (with a trailing axis) at ``positions`` of shape (n_problems, size)."""
        rows = self.rows.gather(1, positions)
        return self.X[rows], self.y[rows], self.weights.gather(1, positions).unsqueeze(2)

    def select(self, problems: list[int]) -> Batches:
        """Return the batches of some of the problems."""
        return Batches(
            self.X,
            self.y,
            self.rows[problems],
            self.weights[problems],
            tuple(self.counts[p] for p in problems),
            self.size,
            self.n_steps,
        )
