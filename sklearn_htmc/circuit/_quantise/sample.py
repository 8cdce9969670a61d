"""The rows on which a circuit has to agree with its model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats, Format
from sklearn_htmc.circuit._given import Fixed
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._simulate import simulated


@dataclass(frozen=True, eq=False)
class Sample:
    """Weighted rows in a canonical order, so that a circuit does not depend on the order in which they came.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        Raw features.
    weights : ndarray of shape (n_samples,)
        Positive, sum to one.
    values : ndarray of shape (n_samples, n_outputs)
        What the model says on the rows.
    scale : ndarray of shape (n_outputs,)
        Unit of the error of every output.
    input_range : ndarray of shape (2, n_features)
        Range in which inputs are represented; they saturate at its ends.
    fixed : Fixed
        What users ask of the input ports.
    """

    X: Floats
    weights: Floats
    values: Floats
    scale: Floats
    input_range: Floats
    fixed: Fixed = field(default_factory=Fixed)

    def format(self, feature: int, exponent: int) -> Format:
        """Return the format of a feature with some last place, or the finest one that there is."""
        low, high = self.input_range[:, feature]
        return self.fixed.format(feature, low, high, exponent)

    def limits(self, feature: int, form: Format) -> tuple[int, int]:
        """Return the codes at which a feature saturates."""
        return self.fixed.limits(feature, form, self.input_range[:, feature])

    def unread(self, feature: int) -> Format:
        """Return the format of a feature that a circuit does not read: its word has few bits."""
        low, high = self.input_range[:, feature]
        return self.format(feature, math.frexp(max(abs(low), abs(high)))[1])

    def part(self, rows: NDArray[np.intp]) -> Sample:
        """Return some of the rows."""
        weights = self.weights[rows] / self.weights[rows].sum()
        return replace(self, X=self.X[rows], weights=weights, values=self.values[rows])

    def error_of(self, graph: Graph) -> float:
        """Return the error of a circuit to the model."""
        return self.error(simulated(graph, self.X))

    def error(self, predicted: Floats, reference: Floats | None = None) -> float:
        """Return the weighted root mean square difference from the model, or a reference, in units of the scale."""
        unit = np.ldexp(0.5, np.frexp(self.scale)[1])  # a difference of large numbers stays one
        reference = self.values if reference is None else reference
        difference = (predicted / unit - reference / unit) / (self.scale / unit)
        return float(np.sqrt(self.weights @ np.mean(np.square(difference), axis=1)))
