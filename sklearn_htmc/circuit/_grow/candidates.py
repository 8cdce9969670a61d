"""Scores what might be added next: every bit of the pool and every conjunction of two of them, in all polarities.

With ``P' diag(w r) P`` and ``P' diag(w) P`` for bits P, residual r and weights w, the sums over ``p and q``, ``p and
not q``, ``not p and q`` and ``neither`` follow, and so does the fall of the squared error by the best multiple of each:
two products of matrices score all of them. Merit is that fall per gate.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._grow.pool import Both, Pool, Singles
from sklearn_htmc.circuit._grow.terms import ADDER, Terms

_LEAST_ROWS = 10.0  # on either side of a bit
_PAIRED = 256  # bits whose conjunctions are scored ...
_INPUTS = 160  # ... of which at least so many are of inputs
FEE = np.float32(1.0)  # gates that a low bit, which goes up and down with its feature, counts more in a conjunction
_ROWS = 4_000  # on which conjunctions are scored
_POLARITIES = ((False, False), (False, True), (True, True))


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


def views(n_rows: int) -> int:
    """Return in how many parts rows are looked at in turn."""
    return -(-n_rows // _ROWS)


class Candidates:
    """Finds candidates.

    With many rows, each call looks at another part of them: the best of very many on some rows are the best there by
    chance as well. What is found is checked on all rows by the caller.

    Parameters
    ----------
    pool : Pool
        The bits.
    terms : Terms
        The sum so far.
    """

    def __init__(self, pool: Pool, terms: Terms) -> None:
        self.pool, self.terms = pool, terms
        self.least = _LEAST_ROWS / len(terms.weights)
        self.n_views = views(len(terms.weights))
        bounds = np.cumsum([0, *(len(range(view, len(terms.weights), self.n_views)) for view in range(self.n_views))])
        self._parts = [slice(first, last) for first, last in itertools.pairwise(bounds.tolist())]
        self._turn = 0
        self._means: Singles = np.zeros(0, dtype=np.float32)
        self._pairs = _Pairs(self, self._parts[0])

    def best(self, price: float, most: int) -> list[Candidate]:
        """Return the bits and the conjunctions with the largest merit that is above a price, best first."""
        if not len(self.pool):
            return []
        terms, rows = self.terms, self.next_part()
        share = terms.weights[rows] / terms.weights[rows].sum()
        residual = terms.residual[:, rows]
        weighted = ((residual - (residual @ share)[:, None]) * share).astype(np.float32)  # (n_outputs, n_rows)
        costs = np.array(self.pool.costs(), dtype=np.float32)
        falls = np.square(self.pool.columns[:, rows] @ weighted.T) * self.inverse_variance(self._known_means())[:, None]
        merits = _merits(falls.T, costs, terms.importance, price)
        found = [Candidate(place, float(merits[place])) for place in _largest(merits, price, most)]
        found += self._pairs.best(rows, weighted, merits, costs, price, most)
        return sorted(found, key=lambda candidate: -candidate.merit)

    def next_part(self) -> slice:
        """Return the rows to look at; the others come in turn."""
        self._turn += 1
        return self._parts[(self._turn - 1) % self.n_views]

    def _known_means(self) -> Singles:
        new = self.pool.columns[len(self._means) :] @ self.terms.weights.astype(np.float32)
        self._means = np.append(self._means, new)
        return self._means

    def inverse_variance(self, means: Singles) -> Singles:
        """Return one over variance and ridge of bits with some means; 0 where too few rows are on one side."""
        return np.float32(1.0) / self.variance(means)

    def variance(self, means: Singles) -> Singles:
        """Return variance and ridge of bits with some means; infinite where too few rows are on one side."""
        believed = (means > self.least) & (means < 1.0 - self.least)
        return np.where(believed, means * (np.float32(1.0) - means) + np.float32(self.terms.rho), np.float32(np.inf))


class _Pairs:
    """Scores the conjunctions of some bits; what does not depend on the residual is kept from step to step.

    Of the four polarities, "not p and q" is "q and not p" with the two exchanged, so that three are scored.

    Parameters
    ----------
    of : Candidates
        Pool, sum and the like.
    rows : slice
        On which the means of conjunctions are measured.
    """

    def __init__(self, of: Candidates, rows: slice) -> None:
        self.of, self.pool, self.rows = of, of.pool, rows
        n_rows = len(of.terms.weights)
        self.paired = np.zeros(0, dtype=np.intp)
        self.bits: Singles = np.zeros((_PAIRED, n_rows), dtype=np.float32)
        self.inverse: Singles = np.zeros((len(_POLARITIES), _PAIRED, _PAIRED), dtype=np.float32)

    def best(
        self, rows: slice, residual: Singles, merits: Singles, costs: Singles, price: float, most: int
    ) -> list[Candidate]:
        """Return the conjunctions with the largest merit that is above a price.

        Parameters
        ----------
        rows : slice
            Rows to look at.
        residual : ndarray of shape (n_outputs, n_rows)
            Residual of these rows, centred, times weights that sum to one.
        merits, costs : ndarray of shape (n_bits,)
            Of the bits of the pool.
        price, most
            As in `Candidates.best`.
        """
        self._choose(merits)
        n, importance = len(self.paired), self.of.terms.importance
        bits = self.bits[:n, rows]
        own = costs[self.paired] + FEE * np.array(self.pool.is_low, dtype=np.float32)[self.paired]
        falls = np.empty((len(importance), len(_POLARITIES), n, n), dtype=np.float32)
        for of_output, weighted in zip(falls, residual, strict=True):
            both = np.matmul(bits * weighted, bits.T, out=of_output[0])
            one = both.diagonal().copy()
            np.subtract(one[:, None], both, out=of_output[1])
            # The residual is centred: its sum over "neither" is that over "one or both" with the other sign.
            np.add(of_output[1], one[None, :], out=of_output[2])
        np.square(falls, out=falls)
        falls *= self.inverse[:, :n, :n]
        merit = _merits(falls, own[:, None] + own[None, :] + np.float32(1.0), importance, price)
        found = []
        for place in _largest(merit.ravel(), price, most):
            which, i, j = np.unravel_index(place, merit.shape)
            not_first, not_second = _POLARITIES[which]
            pair = Both.ordered(int(self.paired[i]), not_first, int(self.paired[j]), not_second)
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
        weights, inverse = self.of.terms.weights[self.rows], self.inverse[:, :n, :n]
        bits, share = self.bits[:n, self.rows], (weights / weights.sum()).astype(np.float32)
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
