"""Sums as few short rows of ``+``: bits that stand side by side are added as words, what is left over in gates.

A carry chain of an FPGA takes one bit away per cell where gates of look-up tables need two cells; a sum of single bits
that is written as a ``+`` per bit wastes a whole chain on each. So the bits of all terms are gathered in columns, and
wherever three or more columns side by side have two bits, one ``+`` adds them, with a third bit of its first column as
carry. Rounds of this leave two rows, which the last ``+`` adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sklearn_htmc.circuit._gates import Wires, Word, addends_of, extended
from sklearn_htmc.circuit._graph import Node, Op
from sklearn_htmc.circuit._netlist import columns_of

UNBOUNDED = 64  # places; no word has as many
_LEAST = 3  # places of a `+`; synthesis makes fewer of gates, too


class Adders(Protocol):
    """What sums are written in."""

    longest: int

    def box(self, op: str, a: Wires, b: Wires, c: Wires | None = None) -> Wires:
        """Return the wires of a sum of two words of one width."""

    def level(self, wire: int) -> int:
        """Return the level of a wire."""

    def sum_and_carry(self, a: int, b: int, carry: int) -> tuple[int, int]:
        """Return the two wires of a full adder."""


Columns = list[Wires]


def added(net: Adders, node: Node, args: Sequence[Word]) -> Wires:
    """Add or subtract two words with one operator where that is long enough and not too long."""
    negated = node.op is Op.SUBTRACT
    a, b = (extended(word, node.width, shift) for word, shift in zip(args, node.data, strict=True))
    start = next((place for place in range(node.width) if b[place] and (a[place] or negated)), node.width)
    if not _LEAST <= node.width - start <= net.longest:
        weights = (1 << node.data[0], -(1 << node.data[1]) if negated else 1 << node.data[1])
        return heaped(net, node._replace(op=Op.SUM, data=(0, *weights)), args)
    low = [x | y for x, y in zip(a[:start], b[:start], strict=True)]  # one of the two is 0
    return low + net.box("-" if negated else "+", a[start:], b[start:])


def heaped(net: Adders, node: Node, args: Sequence[Word]) -> Wires:
    """Add all bits of all terms."""
    columns, constant = columns_of(addends_of(node, args), node.data[0], node.width)
    columns = columns[: node.width]
    for place, column in enumerate(columns):
        column.append(constant >> place & 1)
    _tidy(net, columns)
    while max(map(len, columns), default=0) > 1:
        _round(net, columns)
        _tidy(net, columns)
    return [column[0] if column else 0 for column in columns]


def _tidy(net: Adders, columns: Columns) -> None:
    """Put equal and opposite bits together; bits that are ready first come first, a constant one last."""
    for place, column in enumerate(columns):
        ones, single, twice = 0, dict[int, None](), Wires()
        for wire in column:
            if wire <= 1:
                ones += wire
            elif wire in single:  # twice a bit is the same bit in the next column
                del single[wire]
                twice.append(wire)
            elif wire ^ 1 in single:
                del single[wire ^ 1]
                ones += 1
            else:
                single[wire] = None
        columns[place] = sorted(single, key=net.level) + [1] * (ones % 2)
        if place + 1 < len(columns):
            columns[place + 1] += twice + [1] * (ones // 2)


def _round(net: Adders, columns: Columns) -> None:
    """Add bits that are there, and put the sums beside what is left over."""
    first = next(place for place, column in enumerate(columns) if len(column) > 1)
    if len(columns[first]) <= 3 and all(len(column) <= 2 for column in columns[first + 1 :]):
        _last(net, columns, first)
        return
    made: Columns = [[] for _ in columns]
    while runs := _runs(columns, made, net.longest):
        for start, stop in runs:
            _row(net, columns, made, start, stop)
    for place, column in enumerate(columns):
        while len(column) > 2:
            _adder(net, columns, made, place, 3)
    if not any(made):
        _adder(net, columns, made, first, 2)
    for column, wires in zip(columns, made, strict=True):
        column += wires


def _last(net: Adders, columns: Columns, first: int) -> None:
    """Add two rows, in parts where they are too long."""
    if min(len(columns) - first, net.longest) < _LEAST:
        made: Columns = [[] for _ in columns]
        _adder(net, columns, made, first, len(columns[first]))
        for column, wires in zip(columns, made, strict=True):
            column += wires
        return
    stop = min(len(columns), first + net.longest)
    for column in columns[first:stop]:
        column += [0] * (2 - len(column))
    _row(net, columns, columns, first, stop)


def _runs(columns: Columns, made: Columns, longest: int) -> list[tuple[int, int]]:
    """Return where columns side by side have two bits each, and one of them more."""
    runs, start = [], 0
    for place in range(len(columns) + 1):
        if place < len(columns) and len(columns[place]) > 1 and place - start < longest:
            continue
        height = max((len(columns[i]) + len(made[i]) for i in range(start, place)), default=0)
        if place - start >= _LEAST and height > 2:
            runs.append((start, place))
        start = place if place < len(columns) and len(columns[place]) > 1 else place + 1
    return runs


def _row(net: Adders, columns: Columns, made: Columns, start: int, stop: int) -> None:
    """Add the first two bits of some columns as words, and perhaps a third one of the first column."""
    a, b = ([columns[place].pop(0) for place in range(start, stop)] for _ in range(2))
    third = columns[start][:1]
    del columns[start][:1]
    over = int(stop < len(columns))
    # A third bit comes in as the carry of "1 + bit" one place below.
    out = net.box("+", [1] * len(third) + a + [0] * over, third + b + [0] * over)[len(third) :]
    for place, wire in enumerate(out, start=start):
        made[place].append(wire)


def _adder(net: Adders, columns: Columns, made: Columns, place: int, n_bits: int) -> None:
    """Add two or three bits of a column in gates."""
    bits = columns[place][:n_bits]
    del columns[place][:n_bits]
    total, carry = net.sum_and_carry(bits[0], bits[1], bits[2] if n_bits > 2 else 0)
    made[place].append(total)
    if place + 1 < len(columns):
        made[place + 1].append(carry)
