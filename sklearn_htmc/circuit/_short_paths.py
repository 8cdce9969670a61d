"""Graphs written out with short paths: sums in carry-save form, adders and comparisons that keep deadlines.

The graph is written twice. First everything is as early as possible, whatever it costs; that gives the depth, and from the
outputs back a deadline for every wire. Then every operation is written in the fewest gates if these keep the
deadlines, else in a way that does. Words that only one sum reads are not added up before, and chains of ``and`` and ``or``
of bits become trees in which the latest bit has the shortest way.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sklearn_htmc.circuit._carry_save import columns_of, two_rows
from sklearn_htmc.circuit._graph import Graph, Node, Op, needed
from sklearn_htmc.circuit._netlist import Gates, Wires
from sklearn_htmc.circuit._prefix import LATE, added, greater_before

Word = tuple[Wires, Node]  # wires, and the range they are known to keep
Greater = Callable[[Gates, Wires, bool, int], int]
Term = tuple[int, int]  # a node and its weight
SomeGates = TypeVar("SomeGates", bound=Gates)

_SUMS = {Op.ADD, Op.SUBTRACT, Op.SUM}


@dataclass(frozen=True)
class Writers:
    """What takes the fewest gates.

    Attributes
    ----------
    write : mapping of Op to callable
        How an operation is written out.
    compare : mapping of int to (callable, list of int)
        How each word that is compared with constants is compared.
    """

    write: Mapping[Op, Callable[[Gates, Node, Sequence[Word]], Wires]]
    compare: Mapping[int, tuple[Greater, list[int]]]


def with_short_paths(
    graph: Graph, new: Callable[[], SomeGates], of_few_gates: Callable[[Graph], SomeGates], writers: Writers
) -> SomeGates:
    """Return the gates of a graph, with the least depth that is found, and few of them.

    Parameters
    ----------
    graph : Graph
        The graph.
    new : callable
        Makes an empty netlist.
    of_few_gates : callable
        Writes a graph out in the fewest gates.
    writers : Writers
        How operations are written out in the fewest gates.
    """
    plan = _Plan(graph)
    earliest = _Writing(plan, new(), writers)
    earliest.run()
    thrifty = _Writing(plan, new(), writers, earliest.deadlines())
    thrifty.run()
    found = [of_few_gates(graph), thrifty.net, earliest.net]
    return min(found, key=lambda net: (net.depth, len(net.live())))


class _Plan:
    """What is written together: sums whose only reader is a sum, and bits whose only reader takes them in.

    Attributes
    ----------
    order : list of (int, Node)
        The nodes that outputs depend on.
    inside : set of int
        Nodes that are written by their reader.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.order = graph, needed(graph)
        self.nodes = dict(self.order)
        readers: dict[int, list[int]] = {number: [] for number in self.nodes}
        for number, node in self.order:
            for arg in node.args:
                readers[arg].append(number)
        outputs = set(graph.outputs)
        self.inside: set[int] = set()
        self._kind: dict[int, tuple[Op, int]] = {}
        for number, node in reversed(self.order):
            reader = readers[number][0] if len(readers[number]) == 1 and number not in outputs else None
            self._place(number, node, reader)

    def _place(self, number: int, node: Node, reader: int | None) -> None:
        """Say whether a node belongs to its reader."""
        if reader is not None and node.op in _SUMS and self.nodes[reader].op in _SUMS:
            self.inside.add(number)
        if node.op not in (Op.AND, Op.OR, Op.XOR, Op.NOT):
            return
        kind = self._kind.get(reader) if reader is not None else None
        if kind is not None:
            # Behind an inverter the opposite is looked at; "or" is "and" of what is inverted.
            op, inverted = kind
            inverted ^= self.nodes[reader].op is Op.NOT
            if (
                node.op is Op.NOT
                or (node.op is Op.XOR) == (op is Op.XOR)
                and (op is Op.XOR or (node.op is Op.OR) == inverted)
            ):
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

    def literals(self, number: int) -> tuple[Op, int, list[tuple[int, int]]]:
        """Return what a bit is made of: "and" or "exclusive or", whether inverted, and bits, each inverted or not."""
        op, inverted = self._kind[number]
        literals, todo = list[tuple[int, int]](), [(number, inverted)]
        while todo:
            number, inverts = todo.pop()
            node = self.nodes[number]
            if node.op is Op.NOT:
                inverts, inverted = (inverts ^ 1, inverted) if op is Op.AND else (0, inverted ^ 1)
            for arg in node.args:
                # An "or" is an inverted "and" of what is inverted, and so is all inside.
                (todo if arg in self.inside else literals).append((arg, inverts))
        return op, inverted, literals


class _Writing:
    """One way to write a graph out.

    Attributes
    ----------
    net : Gates
        The gates.
    """

    def __init__(
        self, plan: _Plan, net: SomeGates, writers: Writers, deadlines: Mapping[int, list[int]] | None = None
    ) -> None:
        self.net = net
        self._plan, self._writers, self._deadlines = plan, writers, deadlines
        self._words: dict[int, Wires] = {}

    def run(self) -> None:
        """Write all nodes."""
        graph = self._plan.graph
        for form in graph.input_formats:
            self.net.inputs.append(self.net.word(form.width))
        for number, node in self._plan.order:
            if number not in self._plan.inside:
                self._words[number] = self._written(number, node)
        self.net.outputs = [self._words[number] for number in graph.outputs]

    def deadlines(self) -> dict[int, list[int]]:
        """Return the latest level of every wire of every word for which the netlist does not become deeper."""
        net = self.net
        latest = [LATE] * net.size
        depth = net.depth
        for word in net.outputs:
            for wire in word:
                latest[wire >> 1] = depth
        for number in reversed(net.live()):
            before = latest[number] - 1
            for wire in net.operands(number):
                latest[wire >> 1] = min(latest[wire >> 1], before)
        return {number: [latest[wire >> 1] for wire in word] for number, word in self._words.items()}

    def _written(self, number: int, node: Node) -> Wires:
        if node.op is Op.INPUT:
            return self.net.inputs[node.data[0]]
        if node.op in _SUMS:
            return self._sum(number, node)
        if node.op in (Op.AND, Op.OR, Op.XOR):
            return [self._tree(number)]
        args = [(self._words[arg], self._plan.nodes[arg]) for arg in node.args]
        if node.op is Op.AT_MOST:
            return self._within(number, lambda: [self._few_gates(node) ^ 1], lambda: [self._greater(number, node) ^ 1])
        write = self._writers.write[node.op]
        if node.op is Op.CLAMP:
            return self._within(number, lambda: write(self.net, node, args), lambda: self._clamp(number, node))
        return write(self.net, node, args)

    def _within(self, number: int, thrifty: Callable[[], Wires], fast: Callable[[], Wires]) -> Wires:
        """Return what is written with few gates if that keeps the deadlines, else what is written fast."""
        if self._deadlines is not None:
            before = self.net.size
            wires = thrifty()
            if all(self.net.level(wire) <= latest for wire, latest in zip(wires, self._deadlines[number], strict=True)):
                return wires
            self.net.forget(before)
        return fast()

    def _deadline(self, number: int) -> int | None:
        return None if self._deadlines is None else min(self._deadlines[number], default=LATE)

    # --- sums -------------------------------------------------------------------------------------

    def _sum(self, number: int, node: Node) -> Wires:
        terms, constant = self._plan.terms(number)
        words = [(self._words[arg], self._plan.nodes[arg]) for arg, _ in terms]
        weights = [weight for _, weight in terms]

        def thrifty() -> Wires:
            if number in self._plan.nodes and not self._plan.inside.intersection(node.args):
                return self._writers.write[node.op](self.net, node, words)
            whole = Node(Op.SUM, tuple(arg for arg, _ in terms), (constant, *weights), node.low, node.high)
            return self._writers.write[Op.SUM](self.net, whole, words)

        return self._within(number, thrifty, lambda: self._carry_save(number, node, words, weights, constant))

    def _carry_save(
        self, number: int, node: Node, words: Sequence[Word], weights: Sequence[int], constant: int
    ) -> Wires:
        net, width = self.net, node.width
        deadlines = None if self._deadlines is None else self._deadlines[number]
        if len(words) == 2 and not constant and max(weights) > 0:
            # Two rows: signs are repeated, which is cheaper here than a constant of many ones.
            (a, u), (b, v) = sorted(zip(words, weights, strict=True), key=lambda pair: -pair[1])
            rows = [_row(a, u, width), _row(b, abs(v), width)]
            negated = int(v < 0)
            return added(net, rows[0], [wire ^ negated for wire in rows[1]], negated, deadlines)
        bits = [(wires, arg.signed, weight) for (wires, arg), weight in zip(words, weights, strict=True)]
        first, a, b, carry = two_rows(net, columns_of(bits, constant, width))
        onwards = None if deadlines is None else deadlines[first:]
        return a[:first] + added(net, a[first:], b[first:], carry, onwards)

    # --- comparisons ------------------------------------------------------------------------------

    def _few_gates(self, node: Node) -> int:
        (arg,) = node.args
        return self._writers.compare[arg][0](self.net, self._words[arg], self._plan.nodes[arg].signed, node.data[0])

    def _greater(self, number: int, node: Node) -> int:
        (arg,) = node.args
        signed = self._plan.nodes[arg].signed
        return greater_before(self.net, self._words[arg], signed, node.data[0], self._deadline(number))

    def _clamp(self, number: int, node: Node) -> Wires:
        net, (arg,) = self.net, node.args
        wires, word = self._words[arg], self._plan.nodes[arg]
        deadline = self._deadline(number)
        if deadline is not None:
            deadline -= (word.high > node.high) + (word.low < node.low)
        outside = []
        if word.high > node.high:
            outside.append((node.high, greater_before(net, wires, word.signed, node.high, deadline)))
        if word.low < node.low:
            outside.append((node.low, greater_before(net, wires, word.signed, node.low - 1, deadline) ^ 1))
        outside.sort(key=lambda pair: net.level(pair[1]))
        out = []
        for place, wire in enumerate(_row((wires, word), 1, node.width)):
            for limit, beyond in outside:
                bit = limit >> place & 1
                wire = net.conjunction(wire ^ bit, beyond ^ 1) ^ bit
            out.append(wire)
        return out

    # --- bits -------------------------------------------------------------------------------------

    def _tree(self, number: int) -> int:
        """Write a conjunction or an exclusive or of many bits, the earliest first."""
        net = self.net
        op, inverted, literals = self._plan.literals(number)
        gate = net.exclusive if op is Op.XOR else net.conjunction
        wires = [(self._words[arg][0] if self._words[arg] else 0) ^ inverts for arg, inverts in literals]
        ready = [(net.level(wire), wire) for wire in wires]
        heapq.heapify(ready)
        while len(ready) > 1:
            wire = gate(heapq.heappop(ready)[1], heapq.heappop(ready)[1])
            heapq.heappush(ready, (net.level(wire), wire))
        return ready[0][1] ^ inverted


def _row(word: Word, weight: int, width: int) -> Wires:
    """Return the wires of a word times a power of two, as many as asked for."""
    wires, node = word
    wires = [0] * (weight.bit_length() - 1) + wires
    return (wires + [wires[-1] if node.signed else 0] * (width - len(wires)))[:width]
