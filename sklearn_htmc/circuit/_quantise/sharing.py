"""Sums that several rows have in common are computed once.

A row is a set of terms ``sign * 2**place * unit``. Two terms of a row make a pattern: the two units, the difference of
their places and the product of their signs. The pattern that occurs most often becomes a unit of its own, and so on
as long as one occurs twice.

The work is bounded by the number of pairs of terms that are looked at. Where rows are too long for that, only terms
that are near each other in their row make patterns at first, and where pairs are left when the number is reached,
they stay as they are.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

MOST = 20_000_000  # pairs of terms that are looked at
_AT_FIRST = 0.1  # of which to find the patterns of the rows as they are
_COUNT = 10  # pairs that counting a pattern again is worth, and one more ...
_BITS = 4_096  # ... for so many bits of the terms of a unit


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


def shared(rows: Sequence[Iterable[Term]], n_units: int, most: int = MOST) -> tuple[list[list[Term]], list[Pair]]:
    """Find common pairs of terms.

    Parameters
    ----------
    rows : sequence of iterable of Term
        The sums.
    n_units : int
        Number of units; the i-th pair becomes unit ``n_units + i``.
    most : int, default=20_000_000
        Pairs of terms that are looked at.

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
    search = Search(rows, n_units, most)
    pairs = search.pairs()
    return [list(row) for row in search.rows], pairs


# A term as numbers (a, b, sign) of which patterns are made: with a term that comes first in the order of units and of
# falling places, the pattern of two is ``a of the first + b of the second``, plus one if they have the same sign.
# Patterns are ordered as pairs are, and are integers for speed.
Numbers = tuple[int, int, int]
Row = dict[Term, Numbers]
Found = list[tuple[int, list[tuple[Term, Term]]]]  # rows and their pairs of terms, no term in two of them
Hits = tuple[int, int]  # terms of a unit, those with sign 1 and those with -1: ones at ``n_rows * place + row``


class Search:
    """Rows, and the terms of every unit in all of them.

    Parameters
    ----------
    rows, n_units, most
        As in `shared`.

    Attributes
    ----------
    rows : list of dict
        The rows as they are now.
    looked_at : int
        Pairs of terms that were looked at; to count a pattern again is as much work as some.
    """

    def __init__(self, rows: Sequence[Iterable[Term]], n_units: int, most: int = MOST) -> None:
        terms = [sorted(_merged(row)) for row in rows]
        places = [term.place for row in terms for term in row]
        self._n_units, self._most, self.looked_at = n_units, most, 0
        self._last = min(places, default=0)
        self._span = max(places, default=0) - self._last
        # Every pair takes the place of four terms in all at least, and leaves two.
        most_units = n_units + len(places) // 2
        self._of_second = 2 * (2 * self._span + 1)
        self._of_first = self._of_second * most_units
        self._scale = self._of_first * most_units  # above all patterns
        self._count_again = _COUNT + len(rows) * self._span // _BITS
        self.rows: list[Row] = [{} for _ in terms]
        self._hits: dict[int, Hits] = {}
        for number, row in enumerate(terms):
            for term in row:
                self._append(number, term)
        self._heap = self._counted(round(_AT_FIRST * most))
        heapq.heapify(self._heap)

    def pairs(self) -> list[Pair]:
        """Replace the pattern that occurs most often, again and again; return what was replaced."""
        pairs: list[Pair] = []
        while (common := self._most_common()) is not None:
            found = self._occurrences(common)
            if self.looked_at + sum(len(terms) * len(self.rows[number]) for number, terms in found) > self._most:
                break
            self._replace(found, self._n_units + len(pairs))
            pairs.append(common)
        return pairs

    def _numbers(self, term: Term) -> Numbers:
        unit, place, sign = term
        return unit * self._of_first - 2 * place, unit * self._of_second + 2 * (place + self._span), sign

    def _pair(self, pattern: int) -> Pair:
        first, rest = divmod(pattern, self._of_first)
        second, rest = divmod(rest, self._of_second)
        return Pair(first, second, rest // 2 - self._span, 2 * (rest % 2) - 1)

    def _entry(self, pattern: int, count: int) -> int:
        """Return an integer for the heap: what occurs more often comes first, then the smaller pattern."""
        return pattern - count * self._scale

    def _counted(self, most: int) -> list[int]:
        """Count the patterns of the rows, those of neighbours first; return those that occur twice or more."""
        numbers = [of_term for row in self.rows for of_term in row.values()]
        a, b, sign = np.array(numbers, dtype=np.int64).reshape(-1, 3).T
        lengths = np.array([len(row) for row in self.rows], dtype=np.intp)
        following = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(len(a))  # terms of its row after a term
        found, distance = [np.zeros(0, dtype=np.int64)], 1
        i = np.flatnonzero(following >= distance)
        while len(i) and self.looked_at + len(i) <= most:
            j = i + distance
            found.append(np.where(a[i] <= a[j], a[i] + b[j], a[j] + b[i]) + (sign[i] == sign[j]))
            self.looked_at += len(i)
            distance += 1
            i = i[following[i] >= distance]
        patterns, counts = np.unique(np.concatenate(found), return_counts=True)
        often = counts > 1
        return [self._entry(*pair) for pair in zip(patterns[often].tolist(), counts[often].tolist(), strict=True)]

    def _most_common(self) -> Pair | None:
        """Return the pattern that occurs most often, None if none occurs twice in what is left.

        Terms only go, and a unit that is new brings its own patterns, so that no pattern occurs more often than it did
        when it was counted.
        """
        while self._heap and self.looked_at + self._count_again <= self._most:
            self.looked_at += self._count_again
            minus_count, pattern = divmod(heapq.heappop(self._heap), self._scale)
            pair = self._pair(pattern)
            plus, minus = self._common(pair)
            now = plus.bit_count() + minus.bit_count()
            if now == -minus_count:
                # Pairs of a unit with itself may share terms.
                if pair.first != pair.second or sum(len(terms) for _, terms in self._occurrences(pair)) > 1:
                    return pair
            elif now > 1:
                heapq.heappush(self._heap, self._entry(pattern, now))
        return None

    def _common(self, pair: Pair) -> Hits:
        """Return the terms of the first unit of a pair beside which there is the other one."""
        (plus, minus), (a, b) = self._hits[pair.first], self._hits[pair.second]
        if pair.sign < 0:
            a, b = b, a
        shift = len(self.rows) * pair.place
        return (plus & a >> shift, minus & b >> shift) if shift >= 0 else (plus & a << -shift, minus & b << -shift)

    def _occurrences(self, pair: Pair) -> Found:
        """Return the rows of a pair, and where it is in them from the last place on."""
        n_rows = len(self.rows)
        found: dict[int, list[tuple[Term, Term]]] = {}
        taken = set[tuple[int, Term]]()
        firsts = [
            (*divmod(bit, n_rows), sign)
            for hits, sign in zip(self._common(pair), (1, -1), strict=True)
            for bit in _ones(hits)
        ]
        for place, number, sign in sorted(firsts):
            term = Term(pair.first, place + self._last, sign)
            other = Term(pair.second, term.place + pair.place, sign * pair.sign)
            if not taken & {(number, term), (number, other)}:
                taken |= {(number, term), (number, other)}
                found.setdefault(number, []).append((term, other))
        return sorted(found.items())

    def _replace(self, occurrences: Found, unit: int) -> None:
        """Put a unit in the place of all occurrences of a pair."""
        counts: Counter[int] = Counter()
        for number, found in occurrences:
            for term in (term for terms in found for term in terms):
                self._remove(number, term)
            for term, _ in found:
                new = Term(unit, term.place, term.sign)
                counts.update(self._patterns(self._numbers(new), self.rows[number]))
                self._append(number, new)
        for pattern, count in counts.items():
            if count > 1:
                heapq.heappush(self._heap, self._entry(pattern, count))

    def _append(self, number: int, term: Term) -> None:
        self.rows[number][term] = self._numbers(term)
        self._flip(number, term)

    def _remove(self, number: int, term: Term) -> None:
        del self.rows[number][term]
        self._flip(number, term)

    def _flip(self, number: int, term: Term) -> None:
        plus, minus = self._hits.get(term.unit, (0, 0))
        bit = 1 << len(self.rows) * (term.place - self._last) + number
        self._hits[term.unit] = (plus ^ bit, minus) if term.sign > 0 else (plus, minus ^ bit)

    def _patterns(self, numbers: Numbers, row: Row) -> list[int]:
        """Return the patterns of a term with those of a row."""
        a, b, sign = numbers
        self.looked_at += len(row)
        return [(a + d if a <= c else c + b) + (sign == other) for c, d, other in row.values()]


def _ones(number: int) -> Iterator[int]:
    """Yield the places of the ones of an integer."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _merged(row: Iterable[Term]) -> set[Term]:
    """Return the same sum with every term once: two equal ones are one of the next place, opposite ones are none."""
    merged: set[Term] = set()
    for term in row:
        while term in merged:
            merged.remove(term)
            term = term._replace(place=term.place + 1)
        opposite = term._replace(sign=-term.sign)
        if opposite in merged:
            merged.remove(opposite)
        else:
            merged.add(term)
    return merged
