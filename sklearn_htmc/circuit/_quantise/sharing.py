"""Sums that several rows have in common are computed once.

A row is a set of terms ``sign * 2**place * unit``. Two terms of a row make a pattern: the two units, the difference of
their places and the product of their signs. The pattern that occurs most often becomes a unit of its own, and so on
as long as one occurs twice.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Term(NamedTuple):
    """``sign * 2**place`` times a unit."""

    unit: int
    place: int
    sign: int


class Pair(NamedTuple):
    """The sum ``unit first + sign * 2**place * unit second``."""

    first: int
    second: int
    place: int
    sign: int


def shared(rows: Sequence[Iterable[Term]], n_units: int) -> tuple[list[list[Term]], list[Pair]]:
    """Find common pairs of terms.

    Parameters
    ----------
    rows : sequence of iterable of Term
        The sums.
    n_units : int
        Number of units; the i-th pair becomes unit ``n_units + i``.

    Returns
    -------
    rows : list of list of Term
        The same sums with pairs in place of the terms they replace.
    pairs : list of Pair
        The pairs, each made of units and earlier pairs.

    Examples
    --------
    >>> rows = [[Term(0, 0, 1), Term(1, 2, -1), Term(2, 0, 1)], [Term(0, 3, -1), Term(1, 5, 1)]]
    >>> shared(rows, 3)[1]
    [Pair(first=0, second=1, place=2, sign=-1)]
    """
    search = _Search([sorted(row) for row in rows])
    pairs: list[Pair] = []
    while (pair := search.most_common()) is not None:
        search.replace(pair, n_units + len(pairs))
        pairs.append(pair)
    return search.rows, pairs


class _Search:
    """Rows, how often every pattern occurs in them, and who reads a unit."""

    def __init__(self, rows: list[list[Term]]) -> None:
        self.rows = rows
        self._counts: Counter[Pair] = Counter()
        self._readers: dict[int, set[int]] = {}
        for number, row in enumerate(rows):
            self._counts.update(pattern for i, term in enumerate(row) for pattern in _patterns(term, row[:i]))
            for term in row:
                self._readers.setdefault(term.unit, set()).add(number)
        self._heap = [(-count, pattern) for pattern, count in self._counts.items() if count > 1]
        heapq.heapify(self._heap)

    def most_common(self) -> Pair | None:
        """Return the pattern that occurs most often, None if none occurs twice in what is left."""
        while self._heap:
            count, pattern = heapq.heappop(self._heap)
            now = self._counts[pattern]
            if now == -count:
                if sum(len(found) for _, found in self._occurrences(pattern)) > 1:
                    return pattern
            elif now > 1:
                heapq.heappush(self._heap, (-now, pattern))
        return None

    def _occurrences(self, pair: Pair) -> Iterator[tuple[int, list[tuple[Term, Term]]]]:
        """Yield rows and their pairs of terms, no term in two of them."""
        for number in sorted(self._readers.get(pair.first, set()) & self._readers.get(pair.second, set())):
            present, found = set(self.rows[number]), []
            for term in self.rows[number]:
                if term.unit != pair.first or term not in present:
                    continue
                other = Term(pair.second, term.place + pair.place, term.sign * pair.sign)
                if other in present and other != term:
                    present -= {term, other}
                    found.append((term, other))
            if found:
                yield number, found

    def replace(self, pair: Pair, unit: int) -> None:
        """Put a unit in the place of all occurrences of a pair."""
        changed: set[Pair] = set()
        for number, found in list(self._occurrences(pair)):
            row = self.rows[number]
            for gone in (term for terms in found for term in terms):
                row.remove(gone)
                self._counts.subtract(_patterns(gone, row))
            for term, _ in found:
                new = Term(unit, term.place, term.sign)
                patterns = list(_patterns(new, row))
                self._counts.update(patterns)
                changed.update(patterns)
                row.append(new)
            self._readers.setdefault(unit, set()).add(number)
            for old in {pair.first, pair.second} - {term.unit for term in row}:
                self._readers[old].discard(number)
        for pattern in sorted(changed):
            if self._counts[pattern] > 1:
                heapq.heappush(self._heap, (-self._counts[pattern], pattern))


def _patterns(term: Term, others: Iterable[Term]) -> Iterator[Pair]:
    """Yield the patterns of a term with others."""
    for other in others:
        a, b = (term, other) if (term.unit, -term.place) <= (other.unit, -other.place) else (other, term)
        yield Pair(a.unit, b.unit, b.place - a.place, a.sign * b.sign)
