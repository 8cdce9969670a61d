"""Sums of shifted words: every row of a rounded network as one sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sklearn_htmc.circuit._fixed_point import Format, width
from sklearn_htmc.circuit._graph import Builder, Graph
from sklearn_htmc.circuit._quantise.digits import Digits
from sklearn_htmc.circuit._quantise.sharing import Pair, Term, shared
from sklearn_htmc.circuit._quantise.units import Row

_FAR = 2  # bits that a feature far from zero has to save to be counted from its low end


class Addend(NamedTuple):
    """A node times ``sign * 2**shift``."""

    node: int
    shift: int
    sign: int


def truncated(build: Builder, term: Addend) -> Addend:
    """Return a term without the places below the last one of the sum."""
    return term if term.shift >= 0 else Addend(build.floor(term.node, -term.shift), 0, term.sign)


def spread_of(terms: Sequence[Addend]) -> float:
    """Return what truncation takes from a sum on average, in units of its last place."""
    return sum(0.5 * term.sign * (1.0 - 2.0**term.shift) for term in terms if term.shift < 0)


def network_graph(
    n_features: int,
    rows: Sequence[Row],
    outputs: Sequence[int],
    digits: Sequence[Sequence[Digits]],
    exponents: Sequence[float],
    formats: Sequence[Format],
    limits: Sequence[tuple[int, int]],
) -> Graph:
    """Return the graph of a network with few-digit weights.

    Parameters
    ----------
    n_features : int
        Number of inputs.
    rows : sequence of Row
        Units above the inputs.
    outputs : sequence of int
        Units that are outputs.
    digits : sequence of sequence of Digits
        Weights of every row.
    exponents : sequence of float
        Binary exponent of the last place of every unit; infinity for a unit that nobody reads.
    formats : sequence of Format
        Formats of the inputs.
    limits : sequence of (int, int)
        Codes at which they saturate.
    """
    sums = [
        [
            Term(int(source), place, sign)
            for source, of_term in zip(row.sources, of_row, strict=True)
            for sign, place in of_term
        ]
        if math.isfinite(last)
        else []
        for row, of_row, last in zip(rows, digits, exponents[n_features:], strict=True)
    ]
    sums, pairs = shared(sums, len(exponents))
    words = _Words(formats, limits, pairs, sums, exponents)
    for number, (row, terms) in enumerate(zip(rows, sums, strict=True), start=n_features):
        words.add_row(number, terms, row)
    return words.build.graph([words.node[unit] for unit in outputs], [words.exponent[unit] for unit in outputs])


class _Words:
    """The words of inputs, rows and pairs while a graph is built.

    Attributes
    ----------
    build : Builder
        The graph.
    node, exponent : dict
        Node and last place of the units that have been built.
    deficit : dict
        What rows have to add where they read a unit: the low end of a feature that is represented without it, the
        offset of its format, and what truncation takes from a pair on average. Rows make up for their own truncation
        themselves.
    """

    def __init__(
        self,
        formats: Sequence[Format],
        limits: Sequence[tuple[int, int]],
        pairs: Sequence[Pair],
        sums: Sequence[Sequence[Term]],
        exponents: Sequence[float],
    ) -> None:
        self.build = Builder(formats)
        self.pairs, self.first_pair = pairs, len(exponents)
        self.node: dict[int, int] = {}
        self.exponent = {unit: int(last) for unit, last in enumerate(exponents) if math.isfinite(last)}
        self.deficit: dict[int, float] = {}
        for port, form in enumerate(formats):
            self.node[port], self.deficit[port] = self._input(port, form, *limits[port])
            self.exponent[port] = form.exponent
        self._place_pairs(sums, exponents[len(formats) :])

    def _input(self, port: int, form: Format, low: int, high: int) -> tuple[int, float]:
        """Read a port; return its word and what is missing from it."""
        if high == low:
            return self.build.constant(low), form.offset
        node = self.build.clamp(self.build.input(port), low, high)
        if width(0, high - low) > form.width - _FAR:
            return node, form.offset
        return self.build.add(node, self.build.constant(-low)), math.ldexp(low, form.exponent) + form.offset

    def _place_pairs(self, sums: Sequence[Sequence[Term]], exponents: Sequence[float]) -> None:
        """Give a pair the places that its finest reader needs."""
        for terms, last in zip(sums, exponents, strict=True):
            for term in terms:
                self._needed(term.unit, int(last) - term.place)
        for number in range(len(self.pairs) - 1, -1, -1):
            pair = self.pairs[number]
            last = self.exponent[self.first_pair + number]
            self._needed(pair.first, last)
            self._needed(pair.second, last - pair.place)

    def _needed(self, unit: int, exponent: int) -> None:
        if unit >= self.first_pair:
            self.exponent[unit] = min(self.exponent.get(unit, exponent), exponent)

    def add_row(self, number: int, terms: Sequence[Term], row: Row) -> None:
        """Build a row."""
        if number not in self.exponent:  # nobody reads it
            self.node[number], self.exponent[number] = self.build.constant(0), 0
            return
        node, _ = self._sum(terms, self.exponent[number], row.bias)
        self.node[number] = self.build.relu(node) if row.relu else node

    def _sum(self, terms: Sequence[Term], exponent: int, constant: float | None) -> tuple[int, float]:
        """Build a sum; return its node and what truncation takes from it on average.

        With a constant, that makes up for it.
        """
        for term in terms:
            self._require(term.unit)
        addends = [
            Addend(self.node[term.unit], self.exponent[term.unit] + term.place - exponent, term.sign) for term in terms
        ]
        lost = math.ldexp(spread_of(addends), exponent)
        lost += sum(math.ldexp(term.sign * self.deficit.get(term.unit, 0.0), term.place) for term in terms)
        added = 0 if constant is None else round(math.ldexp(constant + lost, -exponent))
        kept = (truncated(self.build, addend) for addend in addends)
        return self.build.sum([(term.node, term.sign << term.shift) for term in kept], added), lost

    def _require(self, unit: int) -> None:
        """Build a pair that is not built yet."""
        if unit < self.first_pair or unit in self.node:
            return
        pair = self.pairs[unit - self.first_pair]
        terms = [Term(pair.first, 0, 1), Term(pair.second, pair.place, pair.sign)]
        self.node[unit], self.deficit[unit] = self._sum(terms, self.exponent[unit], None)
