"""One problem of a batch on its own, what a family of networks does with it at the end, and what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from sklearn_htmc._network import Floats, SizePath, SparseNetwork
from sklearn_htmc._training.core.architecture import Architecture, Parameters
from sklearn_htmc._training.core.certificate import Certificate
from sklearn_htmc._training.core.deadline import UNLIMITED, Deadline
from sklearn_htmc._training.core.objective import Rows, mean_loss, mean_squares
from sklearn_htmc._training.core.problems import Problems, Report, Settings

Network = tuple[Any, Parameters]  # a compacted architecture and float64 parameters of one problem


@dataclass(frozen=True, eq=False)
class Finished:
    """One problem at its end."""

    network: SparseNetwork
    certificate: Certificate
    n_edges: int
    validation_loss: float
    curve: Floats
    sizes: SizePath | None = None


@dataclass(frozen=True, eq=False)
class Begun:
    """Where the second-order phase of a problem starts without training, or with what a short training has found.

    Attributes
    ----------
    network : tuple of Architecture and Parameters
        A compacted network.
    curve : ndarray of shape (n_iter,)
        Loss of the passes of the short training.
    """

    network: Network
    curve: Floats


@dataclass(frozen=True, eq=False)
class Task:
    """One problem of a batch with its own rows.

    Attributes
    ----------
    rows : Rows
        Rows with positive weight.
    judges : Rows or None
        Held-out rows.
    strength : float
        Penalty strength.
    seed : int
        Seed.
    """

    rows: Rows
    judges: Rows | None
    strength: float
    seed: int

    @classmethod
    def of(cls, problems: Problems, problem: int, X: Floats, y: Floats) -> Task:
        """Take one problem out of a batch."""
        held_out = problems.validation_weights
        judges = None if held_out is None or not held_out[problem].any() else weighted_rows(X, y, held_out[problem])
        return cls(
            rows=weighted_rows(X, y, problems.sample_weights[problem]),
            judges=judges,
            strength=problems.strengths[problem],
            seed=problems.seeds[problem],
        )

    def judged(self, network: Architecture, parameters: Parameters) -> float:
        """Return the loss on the held-out rows; NaN where there are none."""
        return np.nan if self.judges is None else mean_loss(network, parameters, self.judges)

    def judged_squares(self, network: Architecture, parameters: Parameters) -> Floats:
        """Return the mean squared error of every output on the held-out rows; NaN where there are none."""
        if self.judges is None:
            return np.full(network.n_outputs, np.nan)
        return np.asarray(mean_squares(network, parameters, self.judges).numpy())

    def exported(self, network: Architecture, parameters: Parameters) -> SparseNetwork:
        """Return a network of the problem as a frozen object."""
        input_range = np.array([self.rows.X.amin(0).numpy(), self.rows.X.amax(0).numpy()])
        return network.to_network(parameters.views, 0, input_range)


class Family(Protocol):
    """A family of networks as a fit needs it: sizes for the first-order phase, and what comes after."""

    @property
    def architecture(self) -> Architecture:
        """The largest sizes."""

    @property
    def trained(self) -> Architecture:
        """Sizes of the first-order phase, perhaps larger, which `finished` brings down."""

    def path(self, rows: Rows, strengths: Sequence[float], seed: int, end: End) -> Iterator[Network] | None:
        """Yield networks for falling strengths, each from the one before; None where strengths are ranked by training.

        Parameters
        ----------
        rows : Rows
            Rows.
        strengths : sequence of float
            Falling.
        seed : int
            Seed.
        end : End
            Whom to tell.
        """

    def trials(
        self, rows: Rows, strengths: Sequence[float], seed: int, settings: Settings, watch: Report
    ) -> list[Begun] | None:
        """Return what short trainings end with; None where they are of no use.

        Parameters
        ----------
        rows, strengths, seed
            See `path`.
        settings : Settings
            Settings of the first-order phase.
        watch : callable
            See `loop.train`.
        """

    def begun(self, task: Task, settings: Settings, watch: Report) -> Begun | None:
        """Return where to start without training; None where only training, or all of it, can say.

        Parameters
        ----------
        task : Task
            The problem.
        settings : Settings
            Settings of the first-order phase.
        watch : callable
            See `loop.train`.
        """

    def finished(self, task: Task, trained: Network, settings: Settings, curve: Floats, end: End) -> Finished:
        """Take one problem from the end of the first-order phase to the finished network.

        Parameters
        ----------
        task : Task
            The problem.
        trained : tuple of Architecture and Parameters
            What the first-order phase has ended with, compacted.
        settings : Settings
            Settings of the first-order phase, the budget among them.
        curve : ndarray of shape (n_iter,)
            Loss of the passes.
        end : End
            Whom to tell, and threads to use.
        """

    def measured(self, task: Task, trained: Network, settings: Settings, curve: Floats) -> Finished:
        """Measure a network as it is."""


@dataclass(frozen=True, eq=False)
class End:
    """Around the end of a fit.

    Attributes
    ----------
    watch : callable
        Called with 0, loss and edges of every network on the way to a budget; see `loop.train`.
    n_threads : int
        Threads to use.
    deadline : Deadline
        When to end.
    """

    watch: Report
    n_threads: int
    deadline: Deadline = UNLIMITED


def described(
    task: Task,
    network: Architecture,
    parameters: Parameters,
    certificate: Certificate,
    curve: Floats,
    sizes: SizePath | None = None,
) -> Finished:
    """Return the result that belongs to a certified network."""
    network_, judged = task.exported(network, parameters), task.judged(network, parameters)
    return Finished(network_, certificate, network_.n_edges, judged, curve, sizes)


def weighted_rows(X: Floats, y: Floats, weights: Floats) -> Rows:
    """Return the rows with positive weight as float64 tensors."""
    used = np.flatnonzero(weights)
    if used.size < len(weights):
        X, y, weights = X[used], y[used], weights[used]
    return Rows(torch.as_tensor(X), torch.as_tensor(y), torch.as_tensor(weights / weights.sum()))
