"""Sums of many words as columns of bits, and columns made two bits high without a carry that travels."""

from __future__ import annotations

from collections.abc import Iterable

from sklearn_htmc.circuit._netlist import Gates, Wires

Term = tuple[Wires, bool, int]  # wires of a word, whether it is signed, and its weight, a signed power of two


def columns_of(terms: Iterable[Term], constant: int, width: int) -> list[Wires]:
    """Return the bits of all terms by place.

    A bit that counts negatively is its inverse less one, so signs only change the constant, of which every column has
    at most one bit.
    """
    columns = [Wires() for _ in range(width)]
    for wires, signed, weight in terms:
        last, first = len(wires) - 1, abs(weight).bit_length() - 1
        for place, wire in enumerate(wires):
            negative = (weight < 0) != (signed and place == last)
            constant -= negative << first + place
            if first + place < width:
                columns[first + place].append(wire ^ negative)
    for place, column in enumerate(columns):
        column.append(constant >> place & 1)
    return columns


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


def two_rows(net: Gates, columns: list[Wires]) -> tuple[int, Wires, Wires, int]:
    """Add up columns until each has at most two bits, but for one of three, below which all have one.

    The heights go down by Dadda's steps: in every step all adders work side by side, on the bits that arrive first, and
    are as few as reach the next height.

    Returns
    -------
    first : int
        The lowest place with more than one bit.
    a, b : list of int
        Two rows of wires for all places.
    carry : int
        The third bit of the lowest place with more than one.
    """
    columns = _distinct_columns(columns)
    heights = [2]
    while heights[-1] < max(map(len, columns), default=0):
        heights.append(heights[-1] * 3 // 2)
    for height in reversed(heights[:-1] if len(heights) > 1 else heights):
        columns = _step(net, columns, height)
    first = next((place for place, column in enumerate(columns) if len(column) > 1), len(columns))
    carry = columns[first].pop() if first < len(columns) and len(columns[first]) == 3 else 0
    return first, *([column[row] if row < len(column) else 0 for column in columns] for row in range(2)), carry


def _distinct_columns(columns: list[Wires]) -> list[Wires]:
    found, carries = [], Wires()
    for column in columns:
        single, ones, twice = distinct([*column, *carries])
        carries = twice + [1] * (ones // 2)
        found.append([1] * (ones % 2) + sorted(single))
    return found


def _step(net: Gates, columns: list[Wires], height: int) -> list[Wires]:
    """Bring all columns to a height, by adders that do not wait for each other."""
    made, carries, lower = [], Wires(), True
    for column in columns:
        if height == 2 and lower and len(column) == 3 and not carries:
            made.append(column)  # the adder of the two rows takes a carry at its lowest place
            lower = False
            continue
        lower = lower and len(column) + len(carries) <= 1
        waiting, sums, onwards = sorted(column, key=net.level), Wires(), Wires()
        while (over := len(waiting) + len(sums) + len(carries) - height) > 0 and len(waiting) > 1:
            inputs = waiting[: 2 if over == 1 or len(waiting) == 2 else 3]
            waiting = waiting[len(inputs) :]
            total, carry = _sum(net, inputs)
            sums.append(total)
            onwards.append(carry)
        made.append(waiting + sums + carries)
        carries = onwards
    return made


def _sum(net: Gates, inputs: Wires) -> tuple[int, int]:
    """Return sum and carry of bits, the earliest first; a constant one comes last, where it saves most."""
    inputs = inputs[1:] + inputs[:1] if inputs[0] <= 1 else inputs
    a, b, c = (*inputs, 0)[:3]
    return net.sum_and_carry(a, b, c)
