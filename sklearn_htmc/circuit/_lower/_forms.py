"""Forms of models: sums of decision trees, and circuits. That of networks is `sklearn_htmc._network.SparseNetwork`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit._fixed_point import Floats, Format
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._simulate import simulated

AnyGraph = TypeVar("AnyGraph", bound=Graph)


@dataclass(frozen=True, eq=False)
class Tree:
    """One decision tree; a row goes left where ``x[feature] <= threshold``. Node 0 is the root.

    Attributes
    ----------
    feature : ndarray of shape (n_nodes,)
        Feature of a split, -1 for a leaf.
    threshold : ndarray of shape (n_nodes,)
        Threshold of a split; not used for a leaf.
    left, right : ndarray of shape (n_nodes,)
        Numbers of the children; not used for a leaf.
    value : ndarray of shape (n_nodes, n_outputs)
        Values of the leaves; not used for a split.
    """

    feature: NDArray[np.intp]
    threshold: Floats
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    value: Floats

    def leaves(self, X: Floats) -> NDArray[np.intp]:
        """Return the number of the leaf of every row, of shape (n_samples,)."""
        at = np.zeros(len(X), dtype=np.intp)
        rows = np.arange(len(X))
        while True:
            feature = self.feature[at]
            inside = feature >= 0
            if not inside.any():
                return at
            goes_left = X[rows, feature] <= self.threshold[at]
            at = np.where(inside, np.where(goes_left, self.left[at], self.right[at]), at)


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """A sum of trees: ``f(x) = offset + sum of the values of the leaves that x reaches``.

    Attributes
    ----------
    trees : tuple of Tree
        The trees, in the order in which they were fitted.
    offset : ndarray of shape (n_outputs,)
        Constant part.
    n_features : int
        Number of raw features.
    """

    trees: tuple[Tree, ...]
    offset: Floats
    n_features: int

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.offset.size)

    def __call__(self, X: Any) -> Floats:
        """Evaluate the ensemble on ``X`` of shape (n_samples, n_features); return (n_samples, n_outputs)."""
        X = np.asarray(X, dtype=np.float64)
        out = np.repeat(self.offset[None, :], len(X), axis=0)
        for tree in self.trees:
            out += tree.value[tree.leaves(X)]
        return out


@dataclass(frozen=True, eq=False)
class Wired:
    """A function that is a circuit already.

    Attributes
    ----------
    graph : Graph
        The circuit.
    """

    graph: Graph

    @property
    def n_features(self) -> int:
        """Number of raw features."""
        return len(self.graph.input_formats)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return len(self.graph.outputs)

    def __call__(self, X: Any) -> Floats:
        """Simulate the circuit on ``X`` of shape (n_samples, n_features); return (n_samples, n_outputs)."""
        return simulated(self.graph, X)


Form = SparseNetwork | TreeEnsemble | Wired


def shifted(form: Form, inputs: Sequence[int], outputs: Sequence[int]) -> Form:
    """Return the function in units that are powers of two: ``z -> 2^-outputs * form(2^inputs * z)``.

    Parameters
    ----------
    form : SparseNetwork, TreeEnsemble or Wired
        The function.
    inputs, outputs : sequence of int
        Binary exponents of the units of features and outputs.
    """
    before, after = np.asarray(inputs), -np.asarray(outputs)
    if isinstance(form, Wired):
        return Wired(shifted_ports(form.graph, (-before).tolist(), after.tolist()))
    if isinstance(form, TreeEnsemble):
        trees = tuple(
            replace(tree, threshold=np.ldexp(tree.threshold, -before[tree.feature]), value=np.ldexp(tree.value, after))
            for tree in form.trees
        )
        return replace(form, trees=trees, offset=np.ldexp(form.offset, after))
    first, *rest = form.blocks
    first = replace(first, inner=_shifted(first.inner, 0, before), skip=_shifted(first.matrix, 0, before))
    *rest, last = first, *rest
    last = replace(
        last,
        outer=_shifted(last.outer, after, 0),
        skip=_shifted(last.matrix, after, 0),
        offset=np.ldexp(last.offset, after),
    )
    return replace(form, blocks=(*rest, last), input_range=np.ldexp(form.input_range, -before))


def shifted_ports(graph: AnyGraph, inputs: Sequence[int], outputs: Sequence[int]) -> AnyGraph:
    """Return a circuit whose ports count as those of another one times powers of two; its gates are the same."""
    return replace(
        graph,
        input_formats=_shifted_formats(graph.input_formats, inputs),
        output_formats=_shifted_formats(graph.output_formats, outputs),
    )


def _shifted_formats(formats: Sequence[Format], places: Sequence[int]) -> tuple[Format, ...]:
    return tuple(
        replace(form, exponent=form.exponent + place, offset=math.ldexp(form.offset, place))
        for form, place in zip(formats, places, strict=True)
    )


def _shifted(matrix: csr_array, rows: NDArray[np.intp] | int, columns: NDArray[np.intp] | int) -> csr_array:
    """Return a matrix whose rows and columns are multiplied by powers of two."""
    n_rows, n_columns = matrix.shape
    of_rows = np.repeat(np.broadcast_to(rows, n_rows), np.diff(matrix.indptr))
    data = np.ldexp(matrix.data, of_rows + np.broadcast_to(columns, n_columns)[matrix.indices])
    return csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
