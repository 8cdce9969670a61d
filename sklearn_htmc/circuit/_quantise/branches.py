"""One tree of integers as bits: the cheapest of two ways at every split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sklearn_htmc.circuit._graph import Builder


class Part:
    """A leaf or a split of an integer tree with the cheapest ways to make the bits of its value.

    Bits are made in two ways. Alone, they are the value of the part, whatever the row; gated, they are zero unless
    the row comes to the part, which another bit says. Gated bits of the two children are joined by "or", and the
    splits below share who comes where among all bits; bits alone are chosen between by the comparison.

    Parameters
    ----------
    cut : int
        Comparison of a split, -1 for a leaf.
    left, right : Part or None
        Children of a split.
    value : int
        Value of a leaf, not negative.

    Attributes
    ----------
    every, some : int
        Bits that are one in every leaf, and in some.
    alone, gated : int
        Gates that the bits take.
    chosen : bool
        Whether the bits alone are chosen between, instead of joined.
    joined : bool
        Whether the gated bits are joined, instead of those alone being masked.
    """

    __slots__ = ("alone", "chosen", "cut", "every", "gated", "joined", "left", "right", "some")

    def __init__(self, cut: int, left: Part | None, right: Part | None, value: int = 0) -> None:
        self.cut, self.left, self.right = cut, left, right
        self.every = self.some = value
        self.alone = self.gated = 0
        self.chosen = self.joined = False
        if left is not None and right is not None:
            self._plan(left, right)

    def _plan(self, left: Part, right: Part) -> None:
        self.every, self.some = left.every & right.every, left.some | right.some
        varied = self.some & ~self.every
        joins = left.gated + right.gated + (left.some & right.some & ~self.every).bit_count()
        left_varied, right_varied = left.some & ~left.every, right.some & ~right.every
        both, one = left_varied & right_varied, left_varied ^ right_varied
        choices = left.alone + right.alone + 3 * both.bit_count() + one.bit_count()
        self.chosen, self.alone = choices <= joins, min(choices, joins)
        arrivals = sum(bool(child.some & ~self.every) for child in (left, right))
        masked = self.alone + varied.bit_count()
        self.joined, self.gated = joins + arrivals <= masked, min(joins + arrivals, masked)


class Parts:
    """Makes parts; equal ones are made once, and a split between equal ones is not made at all."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], Part] = {}

    def leaf(self, value: int) -> Part:
        """Return a leaf."""
        return self._known.get((-1, value, 0)) or self._known.setdefault((-1, value, 0), Part(-1, None, None, value))

    def split(self, cut: int, left: Part, right: Part) -> Part:
        """Return a split."""
        if left is right:
            return left
        key = (cut, id(left), id(right))
        return self._known.get(key) or self._known.setdefault(key, Part(cut, left, right))


# --- in a graph ----------------------------------------------------------------------------------


@dataclass
class Visit:
    """A part in its place in a tree.

    Attributes
    ----------
    part : Part
        The part.
    mask : int or None
        Bit to mask the bits with, None if they are as they should be.
    arrival : int or None
        Bit that says whether a row comes here, None where bits are chosen between.
    left, right : int
        Places of the children.
    """

    part: Part
    mask: int | None
    arrival: int | None
    left: int = 0
    right: int = 0


def bits_of(build: Builder, bits: Sequence[int], root: Part) -> list[int]:
    """Return the nodes of the bits of the value of a tree, lowest first.

    Parameters
    ----------
    build : Builder
        Where the nodes are made.
    bits : sequence of int
        Nodes of the comparisons.
    root : Part
        The tree.
    """
    made: dict[int, list[int]] = {}
    visits = _visits(build, bits, root)
    for place in range(len(visits) - 1, -1, -1):
        made[place] = _bits(build, bits, visits[place], made, root.some.bit_length())
    return made[0]


def _visits(build: Builder, bits: Sequence[int], root: Part) -> list[Visit]:
    """Return the parts of a tree, parents first, and how the bits of each are made."""
    visits: list[Visit] = []
    todo: list[tuple[Part, int | None, int, bool]] = [(root, None, -1, False)]  # part, gate, place of the parent, side
    while todo:
        part, gate, parent, is_right = todo.pop()
        if parent >= 0:
            setattr(visits[parent], "right" if is_right else "left", len(visits))
        masked = gate is not None and not part.joined
        chosen = part.chosen and (masked or gate is None)
        arrival = None if chosen else build.constant(1) if masked or gate is None else gate
        place = len(visits)
        visits.append(Visit(part, gate if masked else None, arrival))
        if part.left is not None and part.right is not None:
            test = bits[part.cut]
            sides = (test, build.negation(test))
            gates = (None, None) if arrival is None else tuple(build.conjunction(arrival, side) for side in sides)
            todo += [(part.right, gates[1], place, True), (part.left, gates[0], place, False)]
    return visits


def _bits(build: Builder, bits: Sequence[int], visit: Visit, made: dict[int, list[int]], n_bits: int) -> list[int]:
    part = visit.part
    if part.cut < 0:
        out = [build.constant(part.some >> place & 1) for place in range(n_bits)]
    elif visit.arrival is None:
        test = bits[part.cut]
        out = [_choice(build, test, x, y) for x, y in zip(made.pop(visit.left), made.pop(visit.right), strict=True)]
    else:
        pairs = zip(made.pop(visit.left), made.pop(visit.right), strict=True)
        out = [
            visit.arrival if part.every >> place & 1 else build.disjunction(x, y) for place, (x, y) in enumerate(pairs)
        ]
    return out if visit.mask is None else [build.conjunction(visit.mask, bit) for bit in out]


def _choice(build: Builder, test: int, x: int, y: int) -> int:
    """Return x where the test holds, else y."""
    if x == y:
        return x
    return build.disjunction(build.conjunction(test, x), build.conjunction(build.negation(test), y))
