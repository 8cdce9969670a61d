"""Scores what might be added next: every bit of the pool and every conjunction of two of them, in all polarities.

With ``P' diag(w r) P`` and ``P' diag(w) P`` for bits P, residual r and weights w, the sums over ``p and q``, ``p and
not q``, ``not p and q`` and ``neither`` follow, and so does the fall of the squared error by the best multiple of each:
two products of matrices score all of them. Merit is that fall per gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._grow.pool import Both, Pool
from sklearn_htmc.circuit._grow.terms import ADDER, Terms

_LEAST_ROWS = 10.0  # on either side of a bit
_PAIRED = 256  # bits whose conjunctions are scored ...
_INPUTS = 160  # ... of which at least so many are of inputs
_FEE = np.float32(1.0)  # gates that a low bit, which goes up and down with its feature, counts more in a conjunction
_ROWS = 4_000  # on which conjunctions are scored
_POLARITIES = ((False, False), (False, True), (True, True))

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A bit that may be added.

    Attributes
    ----------
    bit : int or Both
        Number in the pool, or a conjunction that may not be there yet.
    merit : float
        About how much the squared error falls per gate.
    """

    bit: int | Both
    merit: float


class Candidates:
    """Finds candidates.

    Parameters
    ----------
    pool : Pool
        The bits.
    weights : ndarray of shape (n_rows,)
        Weights of the rows.
    rho : float
        Ridge that is added to variances.
    """

    def __init__(self, pool: Pool, weights: Floats, rho: float) -> None:
        self.pool, self.weights, self.rho = pool, weights, rho
        self.least = _LEAST_ROWS / len(weights)
        self._pairs = _Pairs(self)

    @property
    def n_views(self) -> int:
        """Number of parts of the rows on which conjunctions are scored in turn."""
        return self._pairs.n_views

    def best(self, terms: Terms, price: float, most: int) -> list[Candidate]:
        """Return the bits and the conjunctions with the largest merit that is above a price, best first."""
        if not len(self.pool):
            return []
        columns, costs = self.pool.columns, np.array(self.pool.costs(), dtype=np.float32)
        slopes = columns @ (terms.residual * terms.weights).T.astype(np.float32)  # (n_bits, n_outputs)
        means: Singles = np.asarray(columns @ terms.weights.astype(np.float32))
        falls = np.square(slopes) * self.inverse_variance(means)[:, None]
        merits = _merits(falls.T, costs, terms.importance, price)
        found = [Candidate(place, float(merits[place])) for place in _largest(merits, price, most)]
        found += self._pairs.best(terms, merits, costs, price, most)
        return sorted(found, key=lambda candidate: -candidate.merit)

    def inverse_variance(self, means: Singles) -> Singles:
        """Return one over variance and ridge of bits with some means; 0 where too few rows are on one side."""
        believed = (means > self.least) & (means < 1.0 - self.least)
        return np.asarray(believed / (means * (1.0 - means) + np.float32(self.rho)), dtype=np.float32)


class _Pairs:
    """Scores the conjunctions of some bits; what does not depend on the residual is kept from step to step.

    Of the four polarities, "not p and q" is "q and not p" with the two exchanged, so that three are scored.

    Parameters
    ----------
    of : Candidates
        Pool, weights and the like.
    """

    def __init__(self, of: Candidates) -> None:
        self.of, self.pool = of, of.pool
        self.n_views, self.view = -(-len(of.weights) // _ROWS), 0
        self.paired = np.zeros(0, dtype=np.intp)
        self.bits: Singles = np.zeros((_PAIRED, len(of.weights)), dtype=np.float32)
        self.inverse: Singles = np.zeros((len(_POLARITIES), _PAIRED, _PAIRED), dtype=np.float32)

    def best(self, terms: Terms, merits: Singles, costs: Singles, price: float, most: int) -> list[Candidate]:
        """Return the conjunctions with the largest merit that is above a price."""
        self._choose(merits)
        # The best of very many on some rows are best there by chance as well, so others come next time.
        self.view = (self.view + 1) % self.n_views
        rows = slice(self.view, None, self.n_views)
        n = len(self.paired)
        bits, share = self.bits[:n, rows], self.of.weights[rows] / self.of.weights[rows].sum()
        own = costs[self.paired] + _FEE * np.array(self.pool.is_low, dtype=np.float32)[self.paired]
        falls = np.empty((len(terms.importance), len(_POLARITIES), n, n), dtype=np.float32)
        residual = terms.residual[:, rows]
        residual = (residual - (residual @ share)[:, None]) * share
        for of_output, weighted in zip(falls, residual.astype(np.float32), strict=True):
            both = np.matmul(bits * weighted, bits.T, out=of_output[0])
            one = both.diagonal().copy()
            np.subtract(one[:, None], both, out=of_output[1])
            # The residual is centred: its sum over "neither" is that over "one or both" with the other sign.
            np.add(of_output[1], one[None, :], out=of_output[2])
        np.square(falls, out=falls)
        falls *= self.inverse[:, :n, :n]
        merit = _merits(falls, own[:, None] + own[None, :] + np.float32(1.0), terms.importance, price)
        found = []
        for place in _largest(merit.ravel(), price, most):
            which, i, j = np.unravel_index(place, merit.shape)
            pair = _ordered(int(self.paired[i]), int(self.paired[j]), *_POLARITIES[which])
            found.append(Candidate(pair, float(merit[which, i, j])))
        return found

    def _choose(self, merits: Singles) -> None:
        """Choose the bits whose conjunctions are scored: those with most merit, more of inputs than of conjunctions.

        Those that stay keep their places, so that only the rows and columns of the others change.
        """
        n_first = self.pool.n_first
        inputs = np.argsort(-merits[:n_first], kind="stable")[: max(_INPUTS, _PAIRED - len(self.pool) + n_first)]
        made = n_first + np.argsort(-merits[n_first:], kind="stable")
        able = np.append(inputs, made[: _PAIRED - len(inputs)])
        coming = np.setdiff1d(able, self.paired, assume_unique=True)
        if not len(coming):
            return
        n_before = len(self.paired)
        leaving = np.flatnonzero(~np.isin(self.paired, able))[: len(coming)]
        fresh = np.append(leaving, np.arange(n_before, n_before + len(coming) - len(leaving)))
        self.paired = np.append(self.paired, np.zeros(len(fresh) - len(leaving), dtype=np.intp))
        self.paired[fresh] = coming
        self.bits[fresh] = self.pool.columns[coming]
        self._score_variances(fresh)

    def _score_variances(self, fresh: NDArray[np.intp]) -> None:
        """Work out what belongs to some of the bits."""
        n, of = len(self.paired), self.of.inverse_variance
        rows, inverse = slice(None, None, self.n_views), self.inverse[:, :n, :n]
        bits, share = self.bits[:n, rows], (self.of.weights[rows] / self.of.weights[rows].sum()).astype(np.float32)
        one = bits @ share
        both = (bits[fresh] * share) @ bits.T  # (n_fresh, n_paired)
        first, second = one[fresh, None], one[None, :]
        inverse[1, fresh] = of(first - both)
        inverse[1][:, fresh] = of(second - both).T
        places = np.arange(n)
        for polarity, means in ((0, both), (2, np.float32(1.0) - first - second + both)):
            # Both orders of two bits are the same: only one is scored.
            values = of(means)
            inverse[polarity, fresh] = values * (places > fresh[:, None])
            inverse[polarity][:, fresh] = values.T * (places[:, None] < fresh)


def _ordered(first: int, second: int, not_first: bool, not_second: bool) -> Both:
    """Return a conjunction with the bit of the smaller number first."""
    if first < second:
        return Both(first, second, (not_first, not_second))
    return Both(second, first, (not_second, not_first))


def _largest(merits: Singles, price: float, most: int) -> list[int]:
    """Return the places of the largest merits above a price."""
    above = np.flatnonzero(merits > price)
    if len(above) > most:
        above = np.sort(above[np.argpartition(-merits[above], most - 1)[:most]])
    return above.tolist()


def _merits(falls: Singles, fees: Singles, importance: Floats, price: float) -> Singles:
    """Return falls of the squared error per gate; falls have one more axis than the result, of outputs.

    Where there are several, a bit enters the sums that gain by it.
    """
    if len(importance) == 1:
        return np.asarray(falls[0] * np.float32(importance[0]) / (fees + np.float32(ADDER)))
    gains = falls * importance.reshape(-1, *[1] * (falls.ndim - 1)).astype(np.float32)
    enters = gains > price * ADDER
    n_outputs = np.maximum(enters.sum(axis=0), 1)
    return np.asarray((gains * enters).sum(axis=0) / (fees + np.float32(ADDER) * n_outputs), dtype=np.float32)
