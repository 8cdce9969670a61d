"""What CircuitRegressor grows on: canonical rows, folds, values of a teacher; and the circuit that is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import has_fit_parameter

from sklearn_htmc._network import Floats
from sklearn_htmc._table import Scaling, Table, power_of_two
from sklearn_htmc.circuit._circuit import Circuit
from sklearn_htmc.circuit._elsewhere import perturbed
from sklearn_htmc.circuit._gates import count_gates
from sklearn_htmc.circuit._given import Given
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._grow.path import Rows, Validation
from sklearn_htmc.circuit._grow.ports import Ports
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._resynthesis.refine import Refinement
from sklearn_htmc.circuit._simulate import simulated

Bits = NDArray[np.bool_]
Labels = Callable[[Floats], Floats]

_N_FOLDS = 3
_MORE_FOLDS = 5  # where there are few rows ...
_FEW_ROWS = 600  # ... up to this
_HOLD_OUT_ROWS = 10_000  # above this one hold-out of a tenth judges, below three folds
_SEED = 0  # of folds and perturbed rows: fits are repeatable
_PERTURBED = 2  # times as many perturbed rows as there are rows, for a teacher to label; together they count as much
_MOST_PERTURBED = 20_000
_WORK = 50_000  # evaluations of nodes by resynthesis, half a second or so
_ROOM = 1.05  # times the error, within which resynthesis looks for gates
_MOST_REPEATED = 100  # times a row is repeated for a teacher that takes no weights


@dataclass(frozen=True, eq=False)
class Task:
    """Rows in canonical order, and the units of growth.

    Outputs are measured from their means in units of the power of two below their standard deviation, so that weights
    that are powers of two stay what they are in raw units.

    Attributes
    ----------
    table : Table
        Raw features, and targets in these units.
    ports : Ports
        Formats and comparisons.
    spread : ndarray of shape (n_outputs,)
        Standard deviations of the raw targets; 1 for constants.
    """

    table: Table
    ports: Ports
    spread: Floats

    @classmethod
    def of(cls, X: Floats, y: Floats, sample_weight: Floats, given: Given) -> Task:
        """Bring validated rows in order."""
        n_features = X.shape[1]
        same = Scaling(np.zeros(n_features), np.ones(n_features))
        rough = Table.build(X, y, sample_weight, scalings=(same, Scaling(np.zeros(y.shape[1]), np.ones(y.shape[1]))))
        measured = Scaling.of(rough.y, rough.weights)
        spread = np.where(np.ptp(rough.y, axis=0) > 0, measured.scale, 1.0)
        targets = Scaling(measured.center, power_of_two(spread))
        table = replace(rough, y=targets.forward(rough.y), targets=targets)
        given.require_inputs(table.X)
        return cls(table, Ports.of(table.X, table.input_range, given.inputs), spread)

    @property
    def X(self) -> Floats:
        """Raw features."""
        return self.table.X

    @property
    def weights(self) -> Floats:
        """Weights of the rows, sum one."""
        return self.table.weights

    @property
    def raw(self) -> Floats:
        """Raw targets."""
        return self.table.targets.inverse().forward(self.table.y)

    @property
    def places(self) -> list[int]:
        """Binary exponents of the units of the outputs."""
        return (np.frexp(self.table.targets.scale)[1] - 1).tolist()

    @property
    def center(self) -> Floats:
        """Means of the outputs in their units."""
        return self.table.targets.center / self.table.targets.scale

    @property
    def importance(self) -> Floats:
        """What a squared error of every output counts, in units of the variance, averaged over outputs."""
        return np.square(self.table.targets.scale / self.spread) / len(self.spread)

    @property
    def can_be_judged(self) -> bool:
        """Whether there are rows to hold out, and something to predict."""
        return self.table.n_groups >= 2 * _MORE_FOLDS and bool(np.ptp(self.table.y, axis=0).any())

    # Rows to grow on.

    def everywhere(self) -> Bits:
        """Return that no row is left out."""
        return np.ones(len(self.X), dtype=np.bool_)

    @property
    def share_inside(self) -> float:
        """Share of the rows that a fold does not hold out."""
        return 1.0 - float(np.mean(self.held_out()[0]))

    def held_out(self) -> list[Bits]:
        """Return the rows that every fold holds out."""
        random_state = np.random.RandomState(_SEED)
        if len(self.X) > _HOLD_OUT_ROWS:
            return [self.table.hold_out(0.1, random_state)]
        n_folds = _MORE_FOLDS if self.table.n_groups <= _FEW_ROWS else _N_FOLDS
        folds = self.table.folds(n_folds, random_state)
        return [folds == fold for fold in range(n_folds)]

    def measured(self, rows: Bits) -> Rows:
        """Return some rows and their targets; weights keep their sum."""
        return Rows(self.ports.codes(self.X[rows]), self.table.y[rows], self.weights[rows])

    def grown_on(self, rows: Bits, labels: Labels | None, share: float) -> Rows:
        """Return some rows with targets that are mixed with labels, and perturbed rows with labels alone.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Which rows.
        labels : callable or None
            What a smoother function says about raw features. None for targets alone.
        share : float
            Of the labels in what is grown on where there are targets.
        """
        X, y, weights = self.X[rows], self.table.y[rows], self.weights[rows] / self.weights[rows].sum()
        if labels is None:
            return Rows(self.ports.codes(X), y, weights)
        n_more = min(_PERTURBED * len(X), _MOST_PERTURBED)
        more, of_more = perturbed(X, weights, n_more, _SEED)
        # Far from the rows a function may say anything.
        beside = np.clip(labels(more), y.min(axis=0), y.max(axis=0))
        if share:
            y = (1.0 - share) * y + share * labels(X)
        weights = np.append(weights, n_more / (_PERTURBED * len(X)) * of_more)
        codes = self.ports.codes(np.concatenate([X, more]))
        return Rows(codes, np.concatenate([y, beside]), weights / weights.sum())

    def labels_of(self, teacher: Any) -> Labels:
        """Return what a fitted teacher says about raw features, in the units of growth."""
        return lambda X: self._said(teacher, X)

    def labels_of_folds(self, validation: Validation) -> Labels:
        """Return what circuits that were grown on parts of the rows say about raw features in the mean."""
        return lambda X: validation.mean(self.ports.codes(X))

    def _said(self, teacher: Any, X: Floats) -> Floats:
        said = np.asarray(teacher.predict(X), dtype=np.float64).reshape(len(X), -1)
        if said.shape[1] != self.table.y.shape[1] or not np.isfinite(said).all():
            raise ValueError(
                f"teacher must predict finite numbers of shape ({len(X)}, {self.table.y.shape[1]}), and "
                f"{type(teacher).__name__} does not."
            )
        return self.table.targets.forward(said)

    def taught(self, teacher: Any, rows: Bits) -> Any:
        """Return a teacher that was fitted to some rows.

        Raises
        ------
        ValueError
            If rows differ in weight and the teacher takes no weights.
        """
        X, y, weights = self.X[rows], self.raw[rows], self.weights[rows]
        y = y.ravel() if y.shape[1] == 1 else y
        relative = weights / weights.min()
        if (relative == 1.0).all():
            return teacher.fit(X, y)
        if has_fit_parameter(teacher, "sample_weight"):
            return teacher.fit(X, y, sample_weight=weights / weights.mean())
        times = np.rint(relative).astype(np.intp)
        if relative.max() > _MOST_REPEATED or np.abs(relative - times).max() > 1e-6:
            raise ValueError(
                f"sample_weight must be None, or whole numbers of copies, for the teacher {type(teacher).__name__}, "
                "whose fit does not take it."
            )
        return teacher.fit(np.repeat(X, times, axis=0), np.repeat(y, times, axis=0))

    # Circuits at the end.

    def error(self, graph: Graph) -> float:
        """Return the root mean square error in units of the standard deviation."""
        return self._sample.error(simulated(graph, self.X))

    @cached_property
    def _sample(self) -> Sample:
        return Sample(self.X, self.weights, self.raw, self.spread, self.table.input_range)

    def finished(self, graph: Graph) -> Circuit:
        """Return a graph as a circuit with its error."""
        error = self.error(graph)
        return Circuit.of(graph, epsilon=error, error=error)

    def resynthesised(self, graph: Graph, alpha: float, max_gates: float = np.inf) -> Circuit | None:
        """Return the circuit of least ``squared error + alpha * gates`` that resynthesis finds within some gates.

        None if there is none.
        """
        sample, error = self._sample, self.error(graph)
        found = [graph]
        if error and count_gates(graph):
            refinement = Refinement.of(sample, sample.values, lambda X: simulated(graph, X), 0.0)
            found += refinement.found(graph, graph, _ROOM * error, lambda _: None, _WORK)
        costs = [
            (self.error(other) ** 2 + alpha * n_gates, place)
            for place, other in enumerate(found)
            if (n_gates := count_gates(other)) <= max_gates
        ]
        return self.finished(found[min(costs)[1]]) if costs else None
