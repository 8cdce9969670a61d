"""The sum of weighted bits: its residual, and its weights, which are signed powers of two.

For a centred bit ``b`` with weight ``x`` in an output, residual ``r`` and weights ``w`` of the rows, the squared error
falls by ``2 d c - d^2 v`` where the weight moves by ``d``, with ``c = <w r, b>`` and ``v = <w b, b>``. A ridge is added
to ``v``: a bit that few rows have seen is not believed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._grow.pool import Bits, Pool, Singles, products

ADDER = 5.0  # gates of a full adder, which takes one bit out of a sum
_SHRUNK = 0.8  # of the best weight is where a new one starts
_RIDGE = 8.0  # rows
_MOVES = (-1.0, 1.0, -0.5, -2.0)  # changes of a weight in units of it: to zero, twice, half, its opposite
_MOST_CHANGES = 4  # per weight, when weights settle
_LEAST_GAIN = 1e-12


class Terms:
    """A constant and weighted bits for every output.

    Parameters
    ----------
    pool : Pool
        The bits.
    values : ndarray of shape (n_rows, n_outputs)
        What the sums should be.
    weights : ndarray of shape (n_rows,)
        Weights of the rows, sum one.
    importance : ndarray of shape (n_outputs,)
        What a squared error of every output counts.

    Attributes
    ----------
    bits : list of int
        Bits of the terms.
    sizes : ndarray of shape (n_terms, n_outputs)
        Their weights: zero or signed powers of two.
    mean : ndarray of shape (n_outputs,)
        Of the values; bits are centred, so this is the constant beside them.
    residual : ndarray of shape (n_outputs, n_rows)
        Values without the sums.
    means : ndarray of shape (n_terms,)
        Of the bits of the terms.
    rho : float
        The ridge.
    """

    def __init__(self, pool: Pool, values: Floats, weights: Floats, importance: Floats) -> None:
        self.pool, self.weights, self.importance = pool, weights, importance
        self.mean: Floats = weights @ values
        self.residual: Floats = np.ascontiguousarray((values - self.mean).T)
        self.bits: list[int] = []
        self.sizes: Floats = np.zeros((0, len(importance)))
        self.rho = _RIDGE / len(weights)
        self.means: Floats = np.zeros(0)
        self._gram: Singles = np.zeros((64, 64), dtype=np.float32)
        self._unknown = set[int]()  # places of terms whose products are not in the Gram matrix
        self._settled_at = np.inf  # price at which no weight gains by a change

    def __len__(self) -> int:
        return len(self.bits)

    @property
    def loss(self) -> float:
        """Weighted mean square error."""
        return float(self.importance @ (np.square(self.residual) @ self.weights))

    @property
    def gates(self) -> float:
        """About how many gates the sums and all bits that are read take."""
        pool = self.pool
        own = sum(gates for gates, n in zip(pool.own, pool.n_readers, strict=True) if n)
        return own + ADDER * float(np.count_nonzero(self.sizes))

    def centred(self, column: Bits) -> Floats:
        """Return a bit without its mean."""
        return np.asarray(column - float(column @ self.weights), dtype=np.float64)

    def most_gains(self, columns: Bits, price: float) -> Floats:
        """Return what new bits gain at most, with any weights, without the price of the bits themselves."""
        right = np.vstack([self.residual * self.weights, self.weights]).astype(np.float32)
        found = products(columns, range(len(columns)), right).astype(np.float64)
        means = found[:, -1:]
        falls = np.square(found[:, :-1]) / (means * (1.0 - means) + self.rho) * self.importance
        return np.asarray(np.maximum(falls - price * ADDER, 0.0).sum(axis=1))

    def best_sizes(self, centred: Floats, price: float) -> tuple[Floats, float]:
        """Return weights for a new bit, and what they gain without the price of the bit itself."""
        weighted = centred * self.weights
        curvature = float(weighted @ centred) + self.rho
        sizes, gain = np.zeros(len(self.importance)), 0.0
        for output, slope in enumerate((self.residual @ weighted).tolist()):
            size = _power(_SHRUNK * abs(slope) / curvature)
            fall = size * (2.0 * abs(slope) - size * curvature) * float(self.importance[output]) - price * ADDER
            if fall > 0:
                sizes[output], gain = math.copysign(size, slope), gain + fall
        return sizes, gain

    def add(self, bit: int, sizes: Floats, centred: Floats) -> None:
        """Add a term, or its weights to those of the same bit where that has none yet."""
        self.residual -= sizes[:, None] * centred
        self._settled_at = np.inf
        for place, other in enumerate(self.bits):
            if other == bit and not ((self.sizes[place] != 0) & (sizes != 0)).any():
                self.sizes[place] += sizes
                return
        n = len(self.bits)
        if n == len(self._gram):
            self._gram = np.pad(self._gram, ((0, n), (0, n)))
        self._unknown.add(n)
        self.bits.append(bit)
        self.sizes = np.vstack([self.sizes, sizes])
        self.means = np.append(self.means, self._mean(bit))
        self.pool.read(bit, 1)

    def _mean(self, bit: int) -> float:
        return float(self.pool.columns[bit] @ self.weights)

    def column(self, place: int) -> Floats:
        """Return the centred bit of a term."""
        return np.asarray(self.pool.columns[self.bits[place]] - self.means[place], dtype=np.float64)

    def worth(self, residual: Floats, centred: Floats, sizes: Floats) -> float:
        """Return by how much squared error and ridge fall where a bit enters a sum that leaves a residual."""
        weighted = centred * self.weights
        slopes, curvature = residual @ weighted, float(weighted @ centred) + self.rho
        return float(self.importance @ (sizes * (2.0 * slopes - sizes * curvature)))

    def replace(self, place: int, bit: int) -> None:
        """Let a term read another bit."""
        self._settled_at = np.inf
        before = self.column(place)
        self._unknown.add(place)
        self.bits[place], self.means[place] = bit, self._mean(bit)
        self.residual += self.sizes[place][:, None] * (before - self.column(place))

    def settle(self, price: float) -> None:
        """Change one weight after the other, the one that gains most first, until none gains; drop terms without any.

        The objective is squared error + ridge + price * gates.
        """
        n = len(self.bits)
        if not n or price == self._settled_at:
            return
        slopes = self._slopes().astype(np.float64)
        gram = self._gram[:n, :n]
        curvature = gram.diagonal().astype(np.float64)[:, None] + self.rho
        steps = np.array(_MOVES)
        saved = np.array([self.pool.saved(bit) for bit in self.bits])
        for _ in range(_MOST_CHANGES * n):
            moves = self.sizes[:, :, None] * steps  # (n_terms, n_outputs, n_moves)
            # The ridge prices the square of a weight: 2 x d + d^2.
            slope = (slopes - self.rho * self.sizes)[:, :, None]
            gains = moves * (2.0 * slope - moves * curvature[:, :, None]) * self.importance[:, None]
            alone = np.count_nonzero(self.sizes, axis=1) == 1
            gains[:, :, 0] += price * (ADDER + saved * alone)[:, None] * (self.sizes != 0)
            best = int(gains.argmax())
            term, output, move = np.unravel_index(best, gains.shape)
            if gains[term, output, move] <= _LEAST_GAIN:
                self._settled_at = price
                break
            change = moves[term, output, move]
            self.sizes[term, output] += change
            slopes[:, output] -= change * gram[:, term]
            self.residual[output] -= change * self.column(int(term))
        self._drop()

    def _slopes(self) -> Singles:
        """Return the products of the bits and the residual, of shape (n_terms, n_outputs); complete the Gram matrix.

        One pass over the bits of all terms does both.
        """
        unknown = sorted(self._unknown)
        right = np.empty((len(unknown) + len(self.residual), len(self.weights)), dtype=np.float32)
        for values, place in zip(right, unknown, strict=False):
            values[:] = self.column(place) * self.weights
        right[len(unknown) :] = self.residual * self.weights
        n, found = len(self.bits), self.pool.products(self.bits, right)
        self._gram[:n, unknown] = found[:, : len(unknown)]
        self._gram[unknown, :n] = found[:, : len(unknown)].T
        self._unknown.clear()
        return found[:, len(unknown) :]

    def _drop(self) -> None:
        """Drop terms without a weight; the last ones take their places."""
        keep: NDArray[np.bool_] = np.any(self.sizes, axis=1)
        if keep.all():
            return
        for place in np.flatnonzero(~keep).tolist():
            self.pool.read(self.bits[place], -1)
        n = int(keep.sum())
        holes, moved = np.flatnonzero(~keep[:n]), n + np.flatnonzero(keep[n:])
        self._gram[holes] = self._gram[moved]
        self._gram[:, holes] = self._gram[:, moved]
        order = np.arange(n)
        order[holes] = moved
        self.bits = [self.bits[place] for place in order.tolist()]
        self.sizes, self.means = self.sizes[order], self.means[order]


def _power(size: float) -> float:
    """Return the power of two that is nearest to a positive number, of logarithms; 0 for 0."""
    return 2.0 ** round(math.log2(size)) if size > 0 else 0.0
