"""Sums of bits as branches: what is asked once, and what is added then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sklearn_htmc.circuit._graph import Node, Op

Literal = tuple[int, bool]  # the number of a bit, and whether it is one
Conjunction = frozenset[Literal]

_LITERALS = 40  # of a conjunction: so deep are blocks inside each other
_PATHS = 400  # conjunctions of one bit
_WORK = 400_000  # conjunctions that are kept in all
_COMPARED = 10_000_000  # pairs of literals in all, some seconds
_ALTERNATIVES = 64  # conjunctions that one may become


class Add(NamedTuple):
    """Something to add where all literals hold.

    Attributes
    ----------
    literals : tuple of Literal
        Without any it is always added.
    weight : int
        What is added.
    """

    literals: tuple[Literal, ...]
    weight: int


class Split(NamedTuple):
    """A question.

    Attributes
    ----------
    bit : int
        Number of the bit.
    yes, no : list
        What is done where it is one, and where it is zero.
    """

    bit: int
    yes: list[Add | Split]
    no: list[Add | Split]


Step = Add | Split


class Paths:
    """Bits as sums of conjunctions that exclude each other, such as the paths to the leaves of a tree.

    Parameters
    ----------
    nodes : dict of int to Node
        Nodes of a graph by number, arguments first.
    spread : int
        How many conjunctions one may become where others are excluded from it; 0 leaves all bits as they are.
    """

    def __init__(self, nodes: dict[int, Node], spread: int) -> None:
        self._nodes, self._spread = nodes, spread
        self._of: dict[int, tuple[Conjunction, ...]] = {}
        self._compared = 0
        left = _WORK if spread else 0
        for number, node in nodes.items():
            if node.op in (Op.AND, Op.OR) and left > 0 and self._compared < _COMPARED:
                paths = (self._both if node.op is Op.AND else self._either)(*node.args)
                if paths is not None and len(paths) <= _PATHS and all(len(path) <= _LITERALS for path in paths):
                    self._of[number] = paths
                    left -= len(paths)

    def of(self, number: int) -> tuple[Conjunction, ...]:
        """Return conjunctions exactly one of which holds where a bit is one."""
        one = True
        while self._nodes[number].op is Op.NOT:
            (number,), one = self._nodes[number].args, not one
        if one and number in self._of:
            return self._of[number]
        return (frozenset({(number, one)}),)

    def _both(self, a: int, b: int) -> tuple[Conjunction, ...] | None:
        first, second = self.of(a), self.of(b)
        if len(first) * len(second) > _PATHS:
            return None
        found = dict[Conjunction, None]()
        for joined in (p | q for p in first for q in second if not self._excluded(p, q)):
            found |= dict.fromkeys(self._simpler(joined))
            if len(found) > _PATHS:
                return None
        return tuple(found)

    def _either(self, a: int, b: int) -> tuple[Conjunction, ...] | None:
        first, second = self.of(a), self.of(b)
        if len(first) + len(second) > _PATHS:
            return None
        for one, other in ((first, second), (second, first)):
            rest = [self._without(path, one) for path in other]
            found = [path for paths in rest if paths is not None for path in paths]
            if None not in rest and len(found) < len(other) + self._spread:
                return one + tuple(found)
        return None

    def _simpler(self, path: Conjunction) -> Sequence[Conjunction]:
        """Return a conjunction without inverted bits of which little is open."""
        done, todo = list[Conjunction](), [path]
        while todo:
            if len(done) + len(todo) > _ALTERNATIVES or self._compared > _COMPARED:
                return [path]
            found = self._without_one(last := todo.pop())
            if found is None:
                done.append(last)
            else:
                todo += reversed(found)
        return done

    def _without_one(self, path: Conjunction) -> list[Conjunction] | None:
        """Return a conjunction without its first inverted bit of which little is open, None if there is none."""
        for bit, one in sorted(path):
            if not one and bit in self._of:
                found = self._without(path - {(bit, one)}, self._of[bit])
                if found is not None:
                    return found
        return None

    def _without(self, path: Conjunction, others: Sequence[Conjunction]) -> list[Conjunction] | None:
        """Return what is left of a conjunction where none of others holds, None if that is long."""
        left = [path]
        for other in others:
            parts = list[Conjunction]()
            for part in left:
                if self._excluded(part, other):
                    parts.append(part)
                    continue
                found = set(part)
                for bit, one in sorted(other - part):
                    parts.append(frozenset(found | {(bit, not one)}))
                    found.add((bit, one))
            left = parts
            if len(left) > self._spread:
                return None
        return left

    def _excluded(self, p: Conjunction, q: Conjunction) -> bool:
        """Return whether two conjunctions never hold together."""
        self._compared += len(p) * len(q)
        return any((bit, not one) in q for bit, one in p) or any(self._apart(a, b) for a in p for b in q)

    def _apart(self, a: Literal, b: Literal) -> bool:
        """Return whether two comparisons of the same word never hold together."""
        x, y = self._nodes[a[0]], self._nodes[b[0]]
        if x.op is not Op.AT_MOST or y.op is not Op.AT_MOST or x.args != y.args or a[1] == b[1]:
            return False
        below, above = (x, y) if a[1] else (y, x)
        return below.data[0] <= above.data[0]


def steps_of(terms: Iterable[tuple[Conjunction, int]]) -> list[Step]:
    """Return a sum of weighted conjunctions as steps: the bit that most of them ask for is asked first."""
    weights: Counter[Conjunction] = Counter()
    for path, weight in terms:
        weights[path] += weight
    return _steps([(path, weight) for path, weight in weights.items() if weight])


def _steps(terms: list[tuple[Conjunction, int]]) -> list[Step]:
    steps = list[Step]()
    while True:
        asked = Counter(bit for path, _ in terms for bit, _ in path)
        bit, times = max(asked.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
        if times < 2:
            return [*steps, *(Add(tuple(sorted(path)), weight) for path, weight in terms)]
        yes, no = (
            [(path - {(bit, one)}, weight) for path, weight in terms if (bit, one) in path] for one in (True, False)
        )
        steps.append(Split(bit, _steps(yes), _steps(no)))
        terms = [(path, weight) for path, weight in terms if (bit, True) not in path and (bit, False) not in path]


class Bounds(NamedTuple):
    """Bounds of a sum.

    Attributes
    ----------
    low, high : int
        After some steps.
    least, most : int
        On the way.
    """

    low: int
    high: int
    least: int
    most: int


def bounds_of(steps: Sequence[Step], low: int, high: int) -> Bounds:
    """Return the bounds of a sum after steps, from those before them."""
    least, most = low, high
    for step in steps:
        if isinstance(step, Split):
            sides = [bounds_of(side, low, high) for side in (step.yes, step.no)]
        else:
            after = low + step.weight, high + step.weight
            sides = [Bounds(*after, *after)] + [Bounds(low, high, low, high)] * bool(step.literals)
        low, high = min(side.low for side in sides), max(side.high for side in sides)
        least, most = min(least, *(side.least for side in sides)), max(most, *(side.most for side in sides))
    return Bounds(low, high, least, most)


def bits_asked(steps: Iterable[Step]) -> Iterator[int]:
    """Yield the bits that steps ask for, in order."""
    for step in steps:
        if isinstance(step, Split):
            yield step.bit
            yield from bits_asked(step.yes)
            yield from bits_asked(step.no)
        else:
            yield from (bit for bit, _ in step.literals)
