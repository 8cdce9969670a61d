"""Graphs written out with short paths: sums in carry-save form, adders and comparisons that keep deadlines.

The graph is written twice. First everything is as early as possible, whatever it costs; that gives the depth, and from
the outputs back a deadline for every wire. Then every operation is written in the fewest gates if these keep the
deadlines, else in a way that does. A sum that only another one reads is not added up before. Where others read it, too,
they may still take its two rows, and only the carry into the place from which they read it. Chains of ``and`` and
``or`` of bits become trees in which the latest bit has the shortest way.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sklearn_htmc.circuit._graph import Graph, Node, Op, signed_powers
from sklearn_htmc.circuit._netlist import Addend, Gates, Wires
from sklearn_htmc.circuit._short_paths.carry_save import Rows, rows_of
from sklearn_htmc.circuit._short_paths.prefix import LATE, added, greater_before
from sklearn_htmc.circuit._short_paths.together import SUMS, Plan, Reading, Term

Word = tuple[Wires, Node]  # wires, and the range they are known to keep
Greater = Callable[[Gates, Wires, bool, int], int]
SomeGates = TypeVar("SomeGates", bound=Gates)

_LATEST = 3  # other sums whose rows are tried one after the other; else those of all


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
    few = of_few_gates(graph)
    plan = Plan(graph)
    earliest = _Writing(plan, new(), writers)
    earliest.run()
    thrifty = _Writing(plan, new(), writers, earliest.deadlines())
    thrifty.run()
    return min((few, thrifty.net, earliest.net), key=lambda net: (net.depth, len(net.live())))


@dataclass(frozen=True)
class _Deadlines:
    """What the earliest gates say of the others.

    Attributes
    ----------
    words : dict of int to list of int
        The latest level of every wire of a word for which the gates do not become deeper.
    rows : dict of int to list of int
        The same of the places of sums that are read before their carries have travelled.
    carried : dict of (int, int) to int
        The same of the carries into places of such sums.
    early : dict of int to tuple of Reading
        Of which other sums the rows are read by every sum.
    """

    words: dict[int, list[int]]
    rows: dict[int, list[int]]
    carried: dict[tuple[int, int], int]
    early: dict[int, tuple[Reading, ...]]


class _Writing(Generic[SomeGates]):
    """One way to write a graph out.

    Attributes
    ----------
    net : Gates
        The gates.
    """

    def __init__(self, plan: Plan, net: SomeGates, writers: Writers, deadlines: _Deadlines | None = None) -> None:
        self.net = net
        self._plan, self._writers, self._deadlines = plan, writers, deadlines
        self._words: dict[int, Wires] = {}
        self._rows: dict[int, Rows] = {}
        self._carried: dict[tuple[int, int], int] = {}
        self._early: dict[int, tuple[Reading, ...]] = {}

    def run(self) -> None:
        """Write all nodes."""
        graph = self._plan.graph
        for form in graph.input_formats:
            self.net.inputs.append(self.net.word(form.width))
        for number, node in self._plan.order:
            if number not in self._plan.inside:
                self._words[number] = self._written(number, node)
        self.net.outputs = [self._words[number] for number in graph.outputs]

    def deadlines(self) -> _Deadlines:
        """Return the latest levels for which the netlist does not become deeper."""
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
        return _Deadlines(
            {number: [latest[wire >> 1] for wire in word] for number, word in self._words.items()},
            {
                number: [min(latest[wire >> 1] for wire in wires) for wires in rows.wires]
                for number, rows in self._rows.items()
            },
            {key: latest[wire >> 1] for key, wire in self._carried.items()},
            self._early,
        )

    def _written(self, number: int, node: Node) -> Wires:
        if node.op is Op.INPUT:
            return self.net.inputs[node.data[0]]
        if node.op in SUMS:
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
        wires = None if self._deadlines is None else self._tried(thrifty, self._deadlines.words[number])
        return fast() if wires is None else wires

    def _tried(self, write: Callable[[], Wires], deadlines: Sequence[int]) -> Wires | None:
        """Return what is written if that keeps the deadlines, else take it back."""
        before = self.net.size
        wires = write()
        if all(self.net.level(wire) <= latest for wire, latest in zip(wires, deadlines, strict=True)):
            return wires
        self.net.forget(before)
        return None

    def _deadline(self, number: int) -> int | None:
        return None if self._deadlines is None else min(self._deadlines.words[number], default=LATE)

    # --- sums -------------------------------------------------------------------------------------

    def _sum(self, number: int, node: Node) -> Wires:
        terms, constant = self._plan.terms(number)
        late = sorted(self._plan.readings(terms), key=self._level_of, reverse=True)
        choices = [tuple(late[:count]) for count in sorted({*range(min(len(late), _LATEST) + 1), len(late)})]
        if self._deadlines is None:
            return self._earliest(number, node, terms, constant, choices)
        deadlines = self._deadlines.words[number]
        words = [(self._words[arg], self._plan.nodes[arg]) for arg, _ in terms]
        whole = Node(Op.SUM, tuple(arg for arg, _ in terms), (constant, *(w for _, w in terms)), node.low, node.high)
        if node.args == whole.args:
            whole = node
        write = self._writers.write[whole.op]
        wires = self._tried(lambda: write(self.net, whole, words), deadlines)
        for early in choices:
            if wires is None:
                self._prepare(early)
                make = partial(self._fast, node, terms, constant, early, deadlines)
                wires = self._tried(make, deadlines)
        if wires is None:
            early = self._deadlines.early[number]
            self._prepare(early)
            wires = self._fast(node, terms, constant, early, deadlines)
        return wires

    def _level_of(self, reading: Reading) -> int:
        return max(map(self.net.level, self._words[reading.source][reading.shift :]))

    def _earliest(
        self, number: int, node: Node, terms: list[Term], constant: int, choices: list[tuple[Reading, ...]]
    ) -> Wires:
        """Write a sum with those rows of other sums with which it is known first."""
        ranks = []
        for early in choices:
            self._prepare(early)
            before = self.net.size
            levels = [self.net.level(wire) for wire in self._fast(node, terms, constant, early, None)]
            ranks.append((max(levels, default=0), sum(levels)))
            self.net.forget(before)
        self._early[number] = choices[ranks.index(min(ranks))]
        return self._fast(node, terms, constant, self._early[number], None)

    def _fast(
        self, node: Node, terms: list[Term], constant: int, early: tuple[Reading, ...], deadlines: Sequence[int] | None
    ) -> Wires:
        net, width = self.net, node.width
        if len(terms) == 2 and not constant and not early and max(weight for _, weight in terms) > 0:
            # Two rows: signs are repeated, which is cheaper here than a constant of many ones.
            (a, u), (b, v) = sorted(terms, key=lambda pair: -pair[1])
            row, other = self._row(a, u, width), self._row(b, abs(v), width)
            negated = int(v < 0)
            return added(net, row, [wire ^ negated for wire in other], negated, deadlines)
        addends, constant = self._addends(terms, constant, early)
        return rows_of(net, addends, constant, width).word(net, width, deadlines)

    def _row(self, number: int, weight: int, width: int) -> Wires:
        """Return the wires of a word times a power of two, as many as asked for."""
        wires = [0] * (weight.bit_length() - 1) + self._words[number]
        sign = wires[-1] if self._plan.nodes[number].signed else 0
        return (wires + [sign] * (width - len(wires)))[:width]

    def _addends(self, terms: list[Term], constant: int, early: tuple[Reading, ...]) -> tuple[list[Addend], int]:
        """Return what a sum adds up if it reads the rows of some other sums."""
        replaced = {term for reading in early for term in reading.replaced}
        addends: list[Addend] = [
            (self._words[arg], self._plan.nodes[arg].signed, weight)
            for arg, weight in terms
            if (arg, weight) not in replaced
        ]
        for reading in early:
            wires = self._words[reading.source]
            addends += [([wires[place]], False, weight) for place, weight in reading.left]
            carried = self._carried[reading.source, reading.shift]
            for power in signed_powers(reading.factor):
                above, offset = self._rows[reading.source].above(reading.shift, carried, power)
                addends += above
                constant += offset
        return addends, constant

    def _prepare(self, early: Iterable[Reading]) -> None:
        """Make the rows of other sums, and what they carry into the place from which they are read."""
        for reading in early:
            key = reading.source, reading.shift
            if key not in self._carried:
                rows = self._rows_of(reading.source)
                deadline = None if self._deadlines is None else self._deadlines.carried.get(key)
                self._carried[key] = rows.carry_into(self.net, reading.shift, deadline)

    def _rows_of(self, number: int) -> Rows:
        if number not in self._rows:
            terms, constant = self._plan.terms(number)
            width = self._plan.nodes[number].width
            early: tuple[Reading, ...] = ()
            if self._deadlines is None:
                early = self._early[number]
            else:
                latest = self._deadlines.rows.get(number, [])
                rows = rows_of(self.net, *self._addends(terms, constant, ()), width)
                late = zip(rows.wires, latest, strict=False)
                if any(self.net.level(wire) > limit for wires, limit in late for wire in wires):
                    early = self._deadlines.early[number]
            self._prepare(early)
            self._rows[number] = rows_of(self.net, *self._addends(terms, constant, early), width)
        return self._rows[number]

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
        for place, wire in enumerate(self._row(arg, 1, node.width)):
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
