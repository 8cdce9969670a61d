"""Sums of many words as columns of bits, and columns made two bits high without a carry that travels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sklearn_htmc.circuit._netlist import Addend, Gates, Wires, columns_of
from sklearn_htmc.circuit._short_paths.prefix import added, carry_out


@dataclass(frozen=True)
class Rows:
    """A number as the sum of two rows of bits, one more bit and a constant: known before any carry has travelled.

    Attributes
    ----------
    a, b : list of int
        Rows of wires, equally long.
    first : int
        The lowest place with more than one bit.
    carry : int
        A third bit in that place.
    constant : int
        A multiple of two to the power of the number of places.
    """

    a: Wires
    b: Wires
    first: int
    carry: int
    constant: int

    @property
    def wires(self) -> list[Wires]:
        """All wires by place."""
        extra = [self.carry if place == self.first else 0 for place in range(len(self.a))]
        return [list(column) for column in zip(self.a, self.b, extra, strict=True)]

    def word(self, net: Gates, width: int, deadlines: Sequence[int] | None) -> Wires:
        """Add up the rows, modulo ``2**width``, where the constant is zero."""
        first = min(self.first, width)
        onwards = None if deadlines is None else deadlines[first:]
        a, b = ((row + [0] * (width - len(row)))[first:width] for row in (self.a, self.b))
        return self.a[:first] + added(net, a, b, self.carry, onwards)

    def carry_into(self, net: Gates, place: int, deadline: int | None) -> int:
        """Return what the places below one carry into it."""
        if place <= self.first:
            return 0
        return carry_out(net, self.a[self.first : place], self.b[self.first : place], self.carry, deadline)

    def above(self, place: int, carried: int, factor: int) -> tuple[list[Addend], int]:
        """Return ``factor * floor(number / 2**place)`` as words and a constant, for a power of two."""
        addends: list[Addend] = [(self.a[place:], False, factor), (self.b[place:], False, factor)]
        if self.first >= place and self.carry:
            addends.append(([self.carry], False, factor << self.first - place))
        if carried:
            addends.append(([carried], False, factor))
        return addends, factor * (self.constant >> place)


def rows_of(net: Gates, addends: Iterable[Addend], constant: int, width: int) -> Rows:
    """Add up words, so that two rows are left of at least as many places as asked for."""
    columns, constant = columns_of(addends, constant, width)
    for place, column in enumerate(columns):
        column.append(constant >> place & 1)
    n_places = len(columns)
    first, a, b, carry = _two_rows(net, columns)
    return Rows(a, b, first, carry, constant >> n_places << n_places)


def distinct(bits: Iterable[int]) -> tuple[set[int], int, Wires]:
    """Return the bits of a column that differ, how many are constantly one, and what equal bits carry.

    Twice a bit is the same bit in the next column, and a bit and its inverse are one.
    """
    single, ones, carries = set[int](), 0, Wires()
    for wire in bits:
        if wire <= 1:
            ones += wire
        elif wire in single:
            single.remove(wire)
            carries.append(wire)
        elif wire ^ 1 in single:
            single.remove(wire ^ 1)
            ones += 1
        else:
            single.add(wire)
    return single, ones, carries


def _two_rows(net: Gates, columns: list[Wires]) -> tuple[int, Wires, Wires, int]:
    """Add up columns until each has at most two bits, but for one of three, below which all have one.

    The heights go down by Dadda's steps: in every step all adders work side by side, on the bits that arrive first, and
    are as few as reach the next height. Returned are the lowest place with more than one bit, two rows, and the third
    bit of that place.
    """
    columns = _distinct_columns(columns)
    heights = [2]
    while heights[-1] < max(map(len, columns), default=0):
        heights.append(heights[-1] * 3 // 2)
    for height in reversed(heights[:-1] if len(heights) > 1 else heights):
        columns = _step(net, columns, height)
    first = next((place for place, column in enumerate(columns) if len(column) > 1), len(columns))
    carry = columns[first].pop() if first < len(columns) and len(columns[first]) == 3 else 0
    a, b = ([column[row] if row < len(column) else 0 for column in columns] for row in range(2))
    return first, a, b, carry


def _distinct_columns(columns: list[Wires]) -> list[Wires]:
    found, carries, place = list[Wires](), Wires(), 0
    while place < len(columns) or carries:
        single, ones, twice = distinct([*(columns[place] if place < len(columns) else ()), *carries])
        carries = twice + [1] * (ones // 2)
        found.append([1] * (ones % 2) + sorted(single))
        place += 1
    return found


def _step(net: Gates, columns: list[Wires], height: int) -> list[Wires]:
    """Bring all columns to a height, by adders that do not wait for each other."""
    made, carries, lower, place = list[Wires](), Wires(), True, 0
    while place < len(columns) or carries:
        waiting = sorted(columns[place], key=net.level) if place < len(columns) else []
        place += 1
        if height == 2 and lower and len(waiting) == 3 and not carries:
            made.append(waiting)  # the adder of the two rows takes a carry at its lowest place
            lower = False
            continue
        lower = lower and len(waiting) + len(carries) <= 1
        sums, onwards = Wires(), Wires()
        while (over := len(waiting) + len(sums) + len(carries) - height) > 0 and len(waiting) > 1:
            inputs = waiting[: 2 if over == 1 or len(waiting) == 2 else 3]
            waiting = waiting[len(inputs) :]
            # A constant one comes last, where it saves most.
            a, b, c = ((inputs[1:] + inputs[:1] if inputs[0] <= 1 else inputs) + [0])[:3]
            total, carry = net.sum_and_carry(a, b, c)
            sums.append(total)
            onwards.append(carry)
        made.append(waiting + sums + carries)
        carries = onwards
    return made
