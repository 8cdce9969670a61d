"""What of a graph is written together where paths must be short: sums with those they add up, bits with their gates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sklearn_htmc.circuit._graph import Graph, Node, Op, needed, signed_powers

Term = tuple[int, int]  # a node and its weight

SUMS = {Op.ADD, Op.SUBTRACT, Op.SUM}
_BITS = {Op.AND, Op.OR, Op.XOR, Op.NOT}
_FEWEST = 3  # bits of another sum that are worth to be read before they are known


@dataclass(frozen=True)
class Reading:
    """The high part of another sum as a term: ``factor * floor(sum / 2**shift)``, also if it is written as single bits.

    Attributes
    ----------
    source : int
        The other sum.
    shift, factor : int
        What is read of it.
    replaced : tuple of (int, int)
        The terms that it replaces.
    left : tuple of (int, int)
        Places of the other sum, with weights, that are read beside it.
    """

    source: int
    shift: int
    factor: int
    replaced: tuple[Term, ...]
    left: tuple[Term, ...]


class Plan:
    """What is written together.

    Attributes
    ----------
    order : list of (int, Node)
        The nodes that outputs depend on.
    inside : set of int
        Nodes that are written by their only reader: sums by a sum, bits by a gate that may take in what they read.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.order = graph, needed(graph)
        self.nodes = dict(self.order)
        readers: dict[int, list[int]] = {number: [] for number in self.nodes}
        for number, node in self.order:
            for arg in node.args:
                readers[arg].append(number)
        self.inside: set[int] = set()
        self._kind: dict[int, tuple[Op, int]] = {}
        outputs = set(graph.outputs)
        for number, node in reversed(self.order):
            reader = readers[number][0] if len(readers[number]) == 1 and number not in outputs else None
            if node.op in SUMS and reader is not None and self.nodes[reader].op in SUMS:
                self.inside.add(number)
            elif node.op in _BITS:
                self._place(number, node, reader)

    def _place(self, number: int, node: Node, reader: int | None) -> None:
        """Say whether a bit is taken in by its reader, and what kind of gate it belongs to."""
        if reader in self._kind:
            op, inverted = self._kind[reader]
            if op is Op.AND:
                # Behind an inverter the opposite is looked at; "or" is "and" of what is inverted.
                inverted ^= self.nodes[reader].op is Op.NOT
                alike = node.op is (Op.OR if inverted else Op.AND)
            else:
                alike = node.op is Op.XOR
            if alike or node.op is Op.NOT:
                self.inside.add(number)
                self._kind[number] = op, inverted
                return
        if node.op is not Op.NOT:
            self._kind[number] = (Op.XOR, 0) if node.op is Op.XOR else (Op.AND, int(node.op is Op.OR))

    def terms(self, number: int) -> tuple[list[Term], int]:
        """Return the words that a sum adds up, with their weights, and the constant."""
        terms, constant, todo = list[Term](), 0, [(number, 1)]
        while todo:
            number, weight = todo.pop()
            node = self.nodes[number]
            if node.op is Op.SUM:
                constant += weight * node.data[0]
                weights: Iterable[int] = node.data[1:]
            else:
                s, t = node.data
                weights = (1 << s, -(1 << t) if node.op is Op.SUBTRACT else 1 << t)
            for arg, factor in zip(node.args, weights, strict=True):
                (todo if arg in self.inside else terms).append((arg, weight * factor))
        return terms, constant

    def literals(self, number: int) -> tuple[Op, int, list[Term]]:
        """Return what a bit is made of: "and" or "exclusive or", whether inverted, and bits, each inverted or not."""
        op, inverted = self._kind[number]
        literals, todo = list[Term](), [(number, inverted)]
        while todo:
            number, inverts = todo.pop()
            node = self.nodes[number]
            if node.op is Op.NOT:
                inverts, inverted = (inverts ^ 1, inverted) if op is Op.AND else (0, inverted ^ 1)
            for arg in node.args:
                # An "or" is an inverted "and" of what is inverted, and so is all inside.
                (todo if arg in self.inside else literals).append((arg, inverts))
        return op, inverted, literals

    def readings(self, terms: Sequence[Term]) -> list[Reading]:
        """Return the high parts of other sums among the terms of a sum."""
        by_source: dict[int, list[Term]] = {}
        for arg, weight in terms:
            node = self.nodes[arg]
            source = node.args[0] if node.op in (Op.FLOOR, Op.BIT) else arg
            if self.nodes[source].op in SUMS:
                by_source.setdefault(source, []).append((arg, weight))
        found = (self._reading(source, replaced) for source, replaced in by_source.items())
        return [reading for reading in found if reading is not None]

    def _reading(self, source: int, replaced: Sequence[Term]) -> Reading | None:
        word = self.nodes[source]
        weights = [0] * word.width
        for arg, weight in replaced:
            for place, factor in self._places(arg, source):
                weights[place] += weight * factor
        # From the top down as long as weights halve; that of a sign is negative.
        sign = -1 if word.signed else 1
        shift = word.width - 1
        while shift and 2 * weights[shift - 1] == weights[shift] * (sign if shift == word.width - 1 else 1):
            shift -= 1
        factor = weights[shift]
        if word.width - shift < _FEWEST or not factor:
            return None
        left = [(place, power) for place in range(shift) for power in signed_powers(weights[place])]
        return Reading(source, shift, factor, tuple(replaced), tuple(left))

    def _places(self, arg: int, source: int) -> Iterable[Term]:
        """Yield the places of a word that another one reads, with their weights there."""
        node, word = self.nodes[arg], self.nodes[source]
        last = word.width - 1
        if node.op is Op.BIT:
            (place,) = node.data
            if place <= last or word.signed:
                yield min(place, last), 1
            return
        (shift,) = node.data if arg != source else (0,)
        for place in range(min(shift, last) if word.signed else shift, last + 1):
            factor = 1 << max(place - shift, 0)
            yield place, -factor if word.signed and place == last else factor
