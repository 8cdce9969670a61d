"""The frozen object between training and circuits: a sparse residual network in raw units.

Everything torch knows ends here and everything a circuit knows begins here, so this module imports numpy and
scipy only and states the exact meaning of the fitted function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from sklearn_htmc._formulas import names_of_units, statements, targets_beside

Floats = NDArray[np.float64]

_DIGITS = 17  # with which a double can be read back

# Rows of one evaluation chunk are chosen so that its widest array stays in the cache of one core.
_CHUNK_ENTRIES = 65_536
# A matrix with a larger share of nonzeros than this, or a small one, is multiplied as a dense one.
_DENSE_SHARE = 0.05
_DENSE_ENTRIES = 20_000


@dataclass(frozen=True, eq=False)
class Block:
    """One residual block ``h -> skip @ h + outer @ relu(inner @ h + bias) + offset``.

    Attributes
    ----------
    inner : csr_array of shape (n_neurons, width_in)
        Incoming weights of the neurons; a purely affine block has ``n_neurons = 0``.
    bias : ndarray of shape (n_neurons,)
        Biases of the neurons.
    outer : csr_array of shape (width_out, n_neurons)
        Outgoing weights of the neurons.
    skip : csr_array of shape (width_out, width_in) or None
        Linear part; ``None`` is the identity.
    offset : ndarray of shape (width_out,)
        Constant part.
    """

    inner: csr_array
    bias: Floats
    outer: csr_array
    skip: csr_array | None
    offset: Floats

    @classmethod
    def affine(cls, matrix: csr_array, offset: Floats) -> Block:
        """Return the block ``h -> matrix @ h + offset``, which has no neurons."""
        width_out, width_in = matrix.shape
        return cls(
            inner=csr_array((0, width_in)),
            bias=np.zeros(0),
            outer=csr_array((width_out, 0)),
            skip=matrix,
            offset=offset,
        )

    @property
    def n_neurons(self) -> int:
        """Number of ReLU neurons of the block."""
        return int(self.bias.size)

    @property
    def matrix(self) -> csr_array:
        """The linear part as a matrix, the identity included."""
        if self.skip is not None:
            return self.skip
        n = self.offset.size
        return csr_array((np.ones(n), np.arange(n), np.arange(n + 1)), shape=(n, n))

    @cached_property
    def _operators(self) -> tuple[Any, Any, Any, bool]:
        """Transposed matrices in the form in which they multiply fastest, and whether there is an offset."""
        skip = None if self.skip is None else _fast_transpose(self.skip)
        return (
            _fast_transpose(self.inner),
            _fast_transpose(self.outer),
            skip,
            bool(np.any(self.offset)),
        )

    def __call__(self, h: Floats) -> Floats:
        """Apply the block to ``h`` of shape (n_samples, width_in)."""
        inner, outer, skip, has_offset = self._operators
        out = h if skip is None else _product(h, skip)
        if self.bias.size:
            active = _product(h, inner)
            active += self.bias
            np.maximum(active, 0.0, out=active)
            out = out + _product(active, outer)
        return out + self.offset if has_offset else out

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cached operators out of pickles, and write matrices compactly."""
        state = {key: value for key, value in self.__dict__.items() if key != "_operators"}
        return {key: _packed(value) if issparse(value) else value for key, value in state.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore matrices, bit for bit."""
        self.__dict__.update({key: _unpacked(*v) if isinstance(v, tuple) else v for key, v in state.items()})


@dataclass(frozen=True, eq=False)
class SparseNetwork:
    """A compacted ReLU network: raw features in, raw targets out.

    The function is ``f(x) = blocks[-1](... blocks[0](clip(x) - center))`` where ``clip`` saturates every feature at
    ``input_range`` if the flag of that name is set and is the identity otherwise. All arithmetic is float64.

    What is counted does not depend on units: ``center`` and the offset of the last block say where features and targets
    have their zero and are no edges.

    Attributes
    ----------
    blocks : tuple of Block
        The first block embeds the features in the stream, the last one reads the targets out.
    input_range : ndarray of shape (2, n_features)
        Smallest and largest value of every feature seen in fit: what a circuit must cover.
    clip : bool
        Whether inputs are saturated at ``input_range`` before the first block.
    center : ndarray of shape (n_features,) or None
        From where the first block measures the features; None is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from sklearn_htmc.circuit import Block, SparseNetwork
    >>> double = Block.affine(csr_array([[2.0]]), np.array([1.0]))
    >>> network = SparseNetwork((double,), np.array([[0.0], [1.0]]), clip=True)
    >>> network(np.array([[0.5], [9.0]]))
    array([[2.],
           [3.]])
    """

    blocks: tuple[Block, ...]
    input_range: Floats
    clip: bool
    center: Floats | None = None

    @property
    def n_features(self) -> int:
        """Number of raw input features."""
        return int(self.input_range.shape[1])

    @property
    def n_outputs(self) -> int:
        """Number of raw outputs."""
        return int(self.blocks[-1].offset.size)

    @property
    def n_neurons(self) -> int:
        """Number of ReLU neurons of all blocks."""
        return sum(block.n_neurons for block in self.blocks)

    @property
    def n_blocks(self) -> int:
        """Number of blocks with neurons; those that only embed the features or read the targets out do not count."""
        return sum(block.n_neurons > 0 for block in self.blocks)

    @property
    def n_edges(self) -> int:
        """Number of nonzero weights, biases and inner offsets; those of an identity are not counted.

        Neither are `center` and the offset of the last block: the number is that of the network in standardised units.
        """
        weights = sum(b.inner.nnz + b.outer.nnz + (0 if b.skip is None else b.skip.nnz) for b in self.blocks)
        biases = sum(np.count_nonzero(b.bias) + np.count_nonzero(b.offset) for b in self.blocks)
        return int(weights + biases - np.count_nonzero(self.blocks[-1].offset))

    def uncentered(self) -> SparseNetwork:
        """Return the same function without `center`, which becomes part of the first block: perhaps with more edges."""
        if self.center is None:
            return self
        first, *rest = self.blocks
        bias, offset = first.bias - first.inner @ self.center, first.offset - first.matrix @ self.center
        # An identity stays one.
        return replace(self, blocks=(replace(first, bias=bias, offset=offset), *rest), center=None)

    def __call__(self, X: Any) -> Floats:
        """Evaluate the network.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Raw features.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            Raw targets, float64.

        Raises
        ------
        ValueError
            If X is not two-dimensional or has another number of features.
        """
        X = X.tocsr() if issparse(X) else np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise ValueError(
                f"X must have shape (n_samples, {self.n_features}), got {X.shape}; give the features seen in fit."
            )
        rows = max(256, _CHUNK_ENTRIES // max(1, self._widest))
        if X.shape[0] <= rows:
            return self._evaluate(X)
        out = np.empty((X.shape[0], self.n_outputs))
        for start in range(0, X.shape[0], rows):
            out[start : start + rows] = self._evaluate(X[start : start + rows])
        return out

    @cached_property
    def _widest(self) -> int:
        return max(self.n_features, *(max(b.n_neurons, b.offset.size) for b in self.blocks))

    def _evaluate(self, X: Any) -> Floats:
        h: Floats = np.asarray(X.toarray() if issparse(X) else X, dtype=np.float64)
        if self.clip:
            h = np.minimum(np.maximum(h, self.input_range[0]), self.input_range[1])
        if self.center is not None:
            h = h - self.center
        for block in self.blocks:
            h = block(h)
        return h

    def to_text(
        self, feature_names: Sequence[Any] | None = None, target_names: Sequence[Any] | None = None, precision: int = 4
    ) -> str:
        """Write the function down: one line per coordinate, neuron and output, in raw units.

        Coordinates are called z1, z2, ..., neurons u1, u2, ...; what is zero is left out. Where names are names in
        Python, so is the text, with ``relu`` and ``clip`` as of numpy; others are in backquotes.

        Parameters
        ----------
        feature_names : sequence of str of length n_features, default=None
            Names of the features; None calls them x0, x1, ...
        target_names : sequence of str of length n_outputs, default=None
            Names of the outputs; None calls them y, or y0, y1, ...
        precision : int, default=4
            Significant digits of numbers; 17 are all of them.

        Returns
        -------
        str
            The lines.

        Raises
        ------
        ValueError
            If there are not as many different names as features and outputs, or `precision` is not from 1 to 17.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.sparse import csr_array
        >>> from sklearn_htmc.circuit import Block, SparseNetwork
        >>> price = Block.affine(csr_array([[2.5, 0.0, -0.25]]), np.array([1.0]))
        >>> network = SparseNetwork((price,), np.array([[0.0, 0.0, 1.0], [9.0, 1.0, 99.0]]), clip=True)
        >>> print(network.to_text(["rooms", "floor", "age"], ["price"]))
        rooms = clip(rooms, 0, 9)
        age = clip(age, 1, 99)
        price = 2.5*rooms - 0.25*age + 1
        """
        if isinstance(precision, bool) or not isinstance(precision, Integral) or not 1 <= precision <= _DIGITS:
            raise ValueError(f"precision must be an integer from 1 to {_DIGITS}, got {precision!r}.")
        numbers = [f"x{feature}" for feature in range(self.n_features)]
        features = names_of_units(feature_names, self.n_features, numbers, "feature_names")
        targets = names_of_units(target_names, self.n_outputs, targets_beside(features, self.n_outputs), "target_names")
        if both := set(features) & set(targets):
            raise ValueError(f"target_names must differ from those of the features, got {sorted(both)[0]!r} for both.")
        return "\n".join(line.text(int(precision)) for line in statements(self.uncentered(), features, targets))

    def __str__(self) -> str:
        """Return the function as text."""
        return self.to_text()

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached values out of pickles."""
        return {key: value for key, value in self.__dict__.items() if key != "_widest"}

    def __repr__(self) -> str:
        """Say the sizes, not the numbers."""
        return (
            f"SparseNetwork(n_features={self.n_features}, n_outputs={self.n_outputs}, "
            f"n_blocks={self.n_blocks}, n_neurons={self.n_neurons}, clip={self.clip})"
        )


@dataclass(frozen=True, eq=False)
class SizePath:
    """The networks that one fit went through on its way to a budget, from small to large: the larger, the better
    fitted.

    Attributes
    ----------
    networks : tuple of SparseNetwork
        The functions.
    n_edges : ndarray of shape (n_sizes,)
        Their nonzero parameters, rising.
    loss : ndarray of shape (n_sizes,)
        Half the mean squared error on the training rows in standardised units, falling.
    validation_loss : ndarray of shape (n_sizes,)
        The same on the held-out rows; NaN where there are none.
    objective, norm, stationarity : ndarray of shape (n_sizes,)
        Objective, penalty value at strength one, and the certificate.
    feature_norms : ndarray of shape (n_sizes, n_features)
        Part of the norm on the edges that leave each feature.
    """

    networks: tuple[SparseNetwork, ...]
    n_edges: NDArray[np.int64]
    loss: Floats
    validation_loss: Floats
    objective: Floats
    norm: Floats
    stationarity: Floats
    feature_norms: Floats

    def within(self, max_edges: int) -> SparseNetwork:
        """Return the best network with at most that many edges.

        Parameters
        ----------
        max_edges : int
            Number of edges allowed.

        Raises
        ------
        ValueError
            If every network of the path is larger.
        """
        return self.networks[self.index_within(max_edges)]

    def index_within(self, max_edges: int) -> int:
        """Return the number of the best network with at most that many edges; see `within`."""
        chosen = np.flatnonzero(self.n_edges <= max_edges)
        if not chosen.size:
            raise ValueError(
                f"max_edges must be at least {self.n_edges.min()}, the smallest size on the path, got {max_edges}."
            )
        return int(chosen[-1])


@dataclass(frozen=True, eq=False)
class RegularizationPath:
    """What a batch of fits ended with; entry ``i`` of everything belongs to problem ``i``.

    All numbers are in standardised units: features and targets have zero mean and unit variance.

    Attributes
    ----------
    strengths : ndarray of shape (n_problems,)
        Penalty strengths.
    networks : tuple of SparseNetwork
        The fitted functions, standardised features in and standardised targets out.
    objective, loss, norm, stationarity : ndarray of shape (n_problems,)
        Objective, data term, penalty value at strength one, and the certificate, on the rows of the problem.
    typical_violation : ndarray of shape (n_problems,)
        Typical violation of the optimality conditions when training ended, in units of the strength; NaN where that
        says nothing, as with a budget.
    n_edges : ndarray of shape (n_problems,)
        Nonzero parameters, the free output constant not counted.
    validation_loss : ndarray of shape (n_problems,)
        Data term on the held-out rows of the problem; NaN where there are none.
    loss_curves : tuple of ndarray
        Mean data term of every pass of the first-order phase.
    feature_norms : ndarray of shape (n_problems, n_features)
        Part of the norm on the edges that leave each feature.
    sizes : tuple of SizePath or None
        The way of each problem to its budget.
    """

    strengths: Floats
    networks: tuple[SparseNetwork, ...]
    objective: Floats
    loss: Floats
    norm: Floats
    stationarity: Floats
    typical_violation: Floats
    n_edges: NDArray[np.int64]
    validation_loss: Floats
    loss_curves: tuple[Floats, ...]
    feature_norms: Floats
    sizes: tuple[SizePath | None, ...] = ()

    def entries(self, places: NDArray[np.intp] | Sequence[int]) -> RegularizationPath:
        """Return the path of some of the problems."""

        def some(value: Any) -> Any:
            return tuple(value[place] for place in places) if isinstance(value, tuple) else value[np.asarray(places)]

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["sizes"] = values["sizes"] or (None,) * len(self.networks)
        return RegularizationPath(**{name: some(value) for name, value in values.items()})

    @classmethod
    def joined(cls, paths: Sequence[RegularizationPath]) -> RegularizationPath:
        """Return the path of the problems of some paths, one after the other."""

        def all_of(values: list[Any]) -> Any:
            return sum(values, ()) if isinstance(values[0], tuple) else np.concatenate(values)

        return cls(**{field.name: all_of([getattr(path, field.name) for path in paths]) for field in fields(cls)})


def _packed(matrix: csr_array) -> tuple[Any, ...]:
    """Return the parts of a matrix without what says nothing: digits that are zero, places in a full matrix."""
    data, shape = matrix.data, matrix.shape
    with np.errstate(over="ignore", under="ignore"):
        single = data.astype(np.float32)
    data = single if np.array_equal(single, data) else data
    is_full = matrix.nnz == shape[0] * shape[1] and np.array_equal(
        matrix.indices, np.tile(np.arange(shape[1]), shape[0])
    )
    return data, shape, None if is_full else matrix.indices, None if is_full else matrix.indptr


def _unpacked(data: Any, shape: tuple[int, int], indices: Any, indptr: Any) -> csr_array:
    if indices is None:
        indices = np.tile(np.arange(shape[1], dtype=np.int32), shape[0])
        indptr = np.arange(0, data.size + 1, max(1, shape[1]), dtype=np.int32)
        indptr = indptr if shape[1] else np.zeros(shape[0] + 1, dtype=np.int32)
    return csr_array((data.astype(np.float64), indices, indptr), shape=shape)


def _product(h: Floats, matrix: Any) -> Floats:
    """Multiply by a dense or a sparse matrix; for a single row the method takes a third of the time of the operator."""
    product: Floats = h.dot(matrix) if isinstance(matrix, np.ndarray) else h @ matrix
    return product


def _fast_transpose(matrix: csr_array) -> Any:
    """Return the transpose as a dense array where that multiplies faster, else as a sparse one."""
    entries = matrix.shape[0] * matrix.shape[1]
    if entries <= _DENSE_ENTRIES or matrix.nnz > _DENSE_SHARE * entries:
        return np.ascontiguousarray(matrix.toarray().T)
    return matrix.T.tocsc()
