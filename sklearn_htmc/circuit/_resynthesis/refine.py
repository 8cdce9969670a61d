"""From a rounded circuit to smaller ones: where searches start, on which rows, and how long they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sklearn_htmc.circuit._elsewhere import perturbed
from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._resynthesis.parts import put_together
from sklearn_htmc.circuit._resynthesis.rows import Rows
from sklearn_htmc.circuit._resynthesis.search import Found, resynthesised

_ROWS = 2_000  # rows at hand that are looked at
_TIMES = 4  # as many rows elsewhere ...
_MOST_ROWS = 6_000  # ... up to this
_SEED = 1  # of the rows elsewhere
_WORK = 12_000_000  # evaluations of nodes per search, about 40 s
_MARGIN = 0.98  # of the error, where not all rows are looked at
_LEAST_ROOM = 1e-6  # squared, in units of the tolerance
_GUARD = 1.2  # times the error allowed elsewhere, on rows that searches do not see; what exceeds it is rejected
_GUARD_SEED = 3  # of these rows


@dataclass(frozen=True, eq=False)
class Refinement:
    """Rows and limits for searches that start from circuits of one model.

    Attributes
    ----------
    sample : Sample
        Rows at hand, thinned.
    reference : ndarray of shape (n_samples, n_outputs)
        What the outputs should be there.
    elsewhere : Sample
        Rows near them, with the values of the model.
    guard : Sample
        More of them, which searches do not see, to reject what was learnt by heart.
    base : float
        Error of the model itself at hand.
    margin : float
        Share of an error allowed that is used.
    """

    sample: Sample
    reference: Floats
    elsewhere: Sample
    guard: Sample
    base: float
    margin: float

    @classmethod
    def of(cls, sample: Sample, reference: Floats, function: Callable[[Floats], Floats], base: float) -> Refinement:
        """Choose rows.

        Parameters
        ----------
        sample : Sample
            Rows at hand.
        reference : ndarray of shape (n_samples, n_outputs)
            What the outputs should be there.
        function : callable
            The model.
        base : float
            Error of the model itself.
        """
        elsewhere = sample_elsewhere(sample, function, min(_TIMES * len(sample.X), _MOST_ROWS), _SEED)
        guard = sample_elsewhere(sample, function, min(2 * len(sample.X), _ROWS), _GUARD_SEED)
        if len(sample.X) <= _ROWS:
            return cls(sample, reference, elsewhere, guard, base, 1.0)
        chosen = np.linspace(0, len(sample.X) - 1, _ROWS).astype(np.intp)
        return cls(sample.part(chosen), reference[chosen], elsewhere, guard, base, _MARGIN)

    def found(
        self,
        start: Graph,
        beside: Graph,
        tolerance: float,
        report: Callable[[Found], None],
        most_work: float | None = None,
    ) -> Iterator[Graph]:
        """Search from a graph; yield what has no larger errors than allowed, the smallest first.

        Parameters
        ----------
        start : Graph
            Where to start.
        beside : Graph
            A circuit that was only rounded; elsewhere none is to be further from the model.
        tolerance : float
            Error allowed.
        report : callable
            Told what was found after every pass.
        most_work : float
            Evaluations of nodes after which the search ends; None is about 40 s of them.
        """
        references = self.reference, self.elsewhere.values
        rows = Rows.of(start.input_formats, start.output_formats, (self.sample, self.elsewhere), references, tolerance)
        # All in units of the tolerance: what the model leaves of it, and the error allowed elsewhere.
        room = np.sqrt(max(1.0 - (self.base / tolerance) ** 2, _LEAST_ROOM))
        limit = max(self.elsewhere.error_of(beside) / tolerance, room)
        allowed, units = np.square([self.margin, limit]), np.square([room, limit])
        way: list[Found] = []
        for found in resynthesised(start, rows, allowed, units, _WORK if most_work is None else most_work):
            report(found)
            if (found.squares <= allowed).all():
                way.append(found)
        for found in sorted(way, key=lambda found: found.n_gates):
            graph = put_together(found.graph)
            if self.guard.error_of(graph) <= _GUARD * limit * tolerance:
                yield graph

    def follows(self, graph: Graph, beside: Graph | None, tolerance: float) -> bool:
        """Return whether a graph is about as near to the model elsewhere as a rounded circuit, or as is allowed."""
        limit = tolerance if beside is None else max(tolerance, self.elsewhere.error_of(beside))
        return self.guard.error_of(graph) <= _GUARD * limit


def sample_elsewhere(sample: Sample, function: Callable[[Floats], Floats], n_rows: int, seed: int) -> Sample:
    """Return perturbed rows and what a model says on them."""
    X, weights = perturbed(sample.X, sample.weights, n_rows, seed)
    return replace(sample, X=X, weights=weights, values=function(X))
