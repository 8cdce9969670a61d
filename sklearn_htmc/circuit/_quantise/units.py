"""A sparse network as a list of units, each an affine function of earlier ones, perhaps through a ReLU.

Between blocks a stream coordinate whose block adds nothing stays the same unit, so that every row is a sum that a
circuit has to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc._network import Block, SparseNetwork
from sklearn_htmc.circuit._fixed_point import Floats


@dataclass(frozen=True, eq=False)
class Row:
    """One unit: ``sum_k weights[k] * sources[k] + bias``, and its ReLU if asked for.

    Attributes
    ----------
    sources : ndarray of shape (n_terms,)
        Numbers of units; those below the number of features are inputs.
    weights : ndarray of shape (n_terms,)
        Weights.
    exact : ndarray of shape (n_terms,)
        Whether the weight is a signed power of two that stays as it is.
    bias : float
        Constant part.
    relu : bool
        Whether negative values become zero.
    group : int
        Units that are scaled together: the copies of a stream coordinate after each block.
    """

    sources: NDArray[np.intp]
    weights: Floats
    exact: NDArray[np.bool_]
    bias: float
    relu: bool
    group: int

    def with_values(self, weights: Floats, bias: float) -> Row:
        """Return the unit with other weights and another bias."""
        return Row(self.sources, weights, self.exact, bias, self.relu, self.group)


@dataclass(frozen=True, eq=False)
class Units:
    """All units of a network; unit ``n_features + i`` is ``rows[i]``.

    Attributes
    ----------
    n_features : int
        Number of inputs.
    rows : list of Row
        The other units, sources first.
    outputs : list of int
        Units that are outputs.
    """

    n_features: int
    rows: list[Row]
    outputs: list[int]

    def evaluate(self, X: Floats) -> Floats:
        """Return the values of all units, of shape (n_units, n_samples)."""
        values = np.empty((self.n_features + len(self.rows), len(X)))
        values[: self.n_features] = X.T
        for number, row in enumerate(self.rows, start=self.n_features):
            value = row.weights @ values[row.sources] + row.bias
            values[number] = np.maximum(value, 0.0) if row.relu else value
        return values

    def slopes(self, values: Floats, output: int) -> Floats:
        """Return the derivatives of one output at all units before their ReLU, of shape (n_units, n_samples)."""
        slopes = np.zeros_like(values)
        slopes[self.outputs[output]] = 1.0
        for number in range(len(values) - 1, self.n_features - 1, -1):
            row, slope = self.rows[number - self.n_features], slopes[number]
            if row.relu:
                slope *= values[number] > 0
            for source, weight in zip(row.sources, row.weights, strict=True):
                slopes[source] += weight * slope
        return slopes


@dataclass
class _Growing:
    """Units while they are being listed."""

    n_features: int
    rows: list[Row] = field(default_factory=list)
    n_groups: int = 0

    def add(
        self, sources: Sequence[int] | NDArray[np.intp], weights: Floats, *, bias: float, relu: bool, group: int | None
    ) -> int:
        """Append a unit and return its number; without a group it gets one of its own."""
        if group is None:
            group = self.n_groups
            self.n_groups += 1
        exact = np.zeros(len(weights), dtype=bool)
        self.rows.append(Row(np.asarray(sources, dtype=np.intp), weights, exact, bias, relu, group))
        return self.n_features + len(self.rows) - 1


def units_of(network: SparseNetwork) -> Units:
    """List the units of a network."""
    growing = _Growing(network.n_features)
    stream = np.arange(network.n_features)
    for block in network.blocks:
        stream = _block(growing, block, stream)
    return Units(network.n_features, growing.rows, [int(unit) for unit in stream])


def _block(growing: _Growing, block: Block, stream: NDArray[np.intp]) -> NDArray[np.intp]:
    """Append the units of a block; return the units of the stream behind it."""
    inner, outer = block.inner, block.outer
    neurons = np.array(
        [
            growing.add(stream[_columns(inner, k)], _entries(inner, k), bias=float(bias), relu=True, group=None)
            for k, bias in enumerate(block.bias)
        ],
        dtype=np.intp,
    )
    after = np.empty(block.offset.size, dtype=np.intp)
    for j, offset in enumerate(block.offset):
        sources, weights = neurons[_columns(outer, j)], _entries(outer, j)
        if block.skip is None:
            after[j] = _continued(growing, int(stream[j]), sources, weights, float(offset))
        else:
            sources = np.concatenate([stream[_columns(block.skip, j)], sources])
            weights = np.concatenate([_entries(block.skip, j), weights])
            if len(weights) == 1 and weights[0] == 1.0 and not offset:
                after[j] = sources[0]  # a copy
                continue
            after[j] = growing.add(sources, weights, bias=float(offset), relu=False, group=None)
    return after


def _continued(growing: _Growing, before: int, sources: NDArray[np.intp], weights: Floats, offset: float) -> int:
    """Append a stream coordinate with what a block adds to it; the same unit if that is nothing."""
    if not len(sources) and not offset:
        return before
    row = growing.rows[before - growing.n_features] if before >= growing.n_features else None
    group = None if row is None or row.relu else row.group
    number = growing.add([before, *sources], np.array([1.0, *weights]), bias=offset, relu=False, group=group)
    growing.rows[-1].exact[0] = group is not None  # else the two are scaled on their own
    return number


def _columns(matrix: object, row: int) -> NDArray[np.intp]:
    found: NDArray[np.intp] = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]][_nonzero(matrix, row)]  # type: ignore[attr-defined]
    return found


def _entries(matrix: object, row: int) -> Floats:
    found: Floats = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]][_nonzero(matrix, row)]  # type: ignore[attr-defined]
    return found


def _nonzero(matrix: object, row: int) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]] != 0  # type: ignore[attr-defined]
    return mask


def rescaled(units: Units, importance: Sequence[Floats]) -> Units:
    """Return the same function with one weight out of every group of units equal to 1 or -1.

    A ReLU commutes with positive factors, and a sum with all, so a group may be scaled if those who read it are scaled
    back. A weight of one costs no gate. The most important weight is chosen, as it would need the most digits.

    Parameters
    ----------
    units : Units
        The units.
    importance : sequence of ndarray
        Importance of every weight of every row.
    """
    d = units.n_features
    scale: dict[int, float] = {units.rows[unit - d].group: 1.0 for unit in units.outputs if unit >= d}
    exact = [row.exact.copy() for row in units.rows]
    readers = _readers(units)
    for number in range(len(units.rows) - 1, -1, -1):
        group = units.rows[number].group
        if group in scale:
            continue
        edges = [(r, k) for r, k in readers[d + number] if not exact[r][k] and units.rows[r].group in scale]
        if not edges:
            scale[group] = 1.0
            continue
        r, k = max(edges, key=lambda edge: (importance[edge[0]][edge[1]], edge))
        scale[group] = abs(units.rows[r].weights[k]) * scale[units.rows[r].group]
        exact[r][k] = True
    rows = []
    for row, kept in zip(units.rows, exact, strict=True):
        own = scale[row.group]
        of_sources = np.array([1.0 if s < d else scale[units.rows[s - d].group] for s in row.sources])
        weights = row.weights * own / of_sources if len(row.weights) else row.weights
        # What is exact is exact: the division may be off by one unit in the last place.
        weights = np.where(kept, np.sign(weights), weights)
        rows.append(replace(row, weights=weights, exact=kept, bias=row.bias * own))
    return Units(d, rows, units.outputs)


def _readers(units: Units) -> list[list[tuple[int, int]]]:
    """Return for every unit the rows and terms that read it."""
    readers: list[list[tuple[int, int]]] = [[] for _ in range(units.n_features + len(units.rows))]
    for r, row in enumerate(units.rows):
        for k, source in enumerate(row.sources):
            readers[source].append((r, k))
    return readers
