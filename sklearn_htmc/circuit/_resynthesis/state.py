"""A graph while it is being changed: the values of all nodes on the rows, kept up to date along fan-out cones.

A bit on all rows is one integer of Python, a row a place: a gate on thousands of rows is then one operation of a few
nanoseconds. Words are arrays.
"""

from __future__ import annotations

import heapq
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._graph import Graph, Node, Op, needed
from sklearn_htmc.circuit._resynthesis.copying import Copy
from sklearn_htmc.circuit._resynthesis.rows import Rows
from sklearn_htmc.circuit._simulate import MEANINGS, Words

Values = dict[int, Any]  # an integer for a bit, an array for a word

# A bit is an integer here if one of these makes it; any other node is an array, even if it only holds zeros and ones.
_GATES: dict[Op, Callable[[int, int], int]] = {Op.AND: operator.and_, Op.OR: operator.or_, Op.XOR: operator.xor}


class State:
    """Nodes that may be redefined, what they are on the rows, and who reads them.

    A node is redefined by nodes with smaller numbers, so their order stays a topological one. A gate may read the
    inverses of its arguments; two constants of the node then say which.

    Parameters
    ----------
    graph : Graph
        The graph to start from.
    rows : Rows
        Rows to measure on.

    Attributes
    ----------
    nodes : list of Node
        Present definitions.
    values : list
        What the nodes are on the rows.
    readers : list of list of int
        Nodes that read a node, live or not; a node that reads it twice is there twice.
    n_live_readers : list of int
        How often nodes that outputs depend on read a node.
    errors : ndarray of shape (n_outputs, n_rows)
        Differences from the reference.
    squares : ndarray of shape (2,)
        Squared errors of the groups of rows.
    work : int
        Nodes that have been evaluated.
    """

    def __init__(self, graph: Graph, rows: Rows) -> None:
        self.graph, self.rows = graph, rows
        self.nodes = list(graph.nodes)
        self.n_rows, self.work = rows.reference.shape[1], 0
        self._ones = (1 << self.n_rows) - 1
        self.readers: list[list[int]] = [[] for _ in self.nodes]
        self.values: list[Any] = []
        for number, node in enumerate(self.nodes):
            self.values.append(self._evaluated(node, self.values.__getitem__))
            for arg in node.args:
                self.readers[arg].append(number)
        self.places: dict[int, list[int]] = {}
        for place, number in enumerate(graph.outputs):
            self.places.setdefault(number, []).append(place)
        self.n_live_readers = [0] * len(self.nodes)
        for _, node in needed(graph):
            for arg in node.args:
                self.n_live_readers[arg] += 1
        self.errors = rows.errors([self.word(number) for number in graph.outputs])
        self.squares = rows.squares(self.errors)

    # Bits and words.

    def unpacked(self, bits: int) -> NDArray[np.int8]:
        """Return a bit as an array of zeros and ones."""
        raw = np.frombuffer(bits.to_bytes(-(-self.n_rows // 8), "little"), dtype=np.uint8)
        return np.unpackbits(raw, count=self.n_rows, bitorder="little").view(np.int8)

    def _packed(self, word: Words) -> int:
        return int.from_bytes(np.packbits(word != 0, bitorder="little").tobytes(), "little")

    def word(self, number: int) -> Words:
        """Return the values of a node as an array."""
        return self._as_word(self.values[number])

    def _as_word(self, value: Any) -> Words:
        return self.unpacked(value) if isinstance(value, int) else value

    def _as_bits(self, value: Any) -> int:
        return value if isinstance(value, int) else self._packed(value)

    def flipped(self, number: int) -> int:
        """Return the inverse of a bit."""
        return int(self.values[number] ^ self._ones)

    def _evaluated(self, node: Node, value_of: Callable[[int], Any]) -> Any:
        op, args, data, _, _ = node
        if op in _GATES:
            a, b = self._as_bits(value_of(args[0])), self._as_bits(value_of(args[1]))
            if data:
                a, b = a ^ (self._ones * data[0]), b ^ (self._ones * data[1])
            return _GATES[op](a, b)
        if op is Op.NOT:
            return self._as_bits(value_of(args[0])) ^ self._ones
        if op is Op.BIT:
            return self._packed(self._as_word(value_of(args[0])) >> np.int64(data[0]) & 1)
        if op is Op.AT_MOST:
            return self._packed(self._as_word(value_of(args[0])) <= data[0])
        if op is Op.INPUT:
            arguments = [self.rows.codes[data[0]]]
        else:
            arguments = [self._as_word(value_of(arg)).astype(np.int64, copy=False) for arg in args]
        found = np.broadcast_to(MEANINGS[op](arguments, data), (self.n_rows,))
        return self._packed(found) if op is Op.CONSTANT and data[0] in (0, 1) else found

    def redefined(self, number: int, node: Node) -> Any:
        """Return what a node would be with another definition."""
        old = self.nodes[number]
        if node.op is not Op.SUM or old.op is not Op.SUM:
            return self._evaluated(node, self.values.__getitem__)
        terms = Counter(zip(node.args, node.data[1:], strict=True))
        terms.subtract(zip(old.args, old.data[1:], strict=True))
        total = self.values[number] + (node.data[0] - old.data[0])
        for (arg, weight), times in terms.items():
            if times:
                total += self.word(arg) * np.int64(weight * times)
        return total

    # Cones.

    def following(self, changed: Mapping[int, Any], *, live: bool = False) -> Values:
        """Return the new values of all nodes that are others if some nodes had other values.

        Parameters
        ----------
        changed : dict
            The other values.
        live : bool, default=False
            Whether nodes that no output depends on may be left out; not before a change is accepted.
        """
        new: Values = {}
        values, readers = self.values, self.readers
        todo = list(changed)
        heapq.heapify(todo)
        seen = set(todo)

        def value_of(number: int) -> Any:
            return new[number] if number in new else values[number]

        while todo:
            number = heapq.heappop(todo)
            if number in changed:
                value = changed[number]
            elif self.nodes[number].op is Op.SUM:
                value = self._moved_sum(number, new)
            else:
                value = self._evaluated(self.nodes[number], value_of)
            if value == values[number] if isinstance(value, int) else np.array_equal(value, values[number]):
                continue
            new[number] = value
            for reader in readers[number]:
                if reader not in seen and not (live and self.is_dead(reader)):
                    seen.add(reader)
                    heapq.heappush(todo, reader)
        self.work += len(seen)
        return new

    def _moved_sum(self, number: int, new: Values) -> Words:
        _, args, data, _, _ = self.nodes[number]
        total: Words = self.values[number].copy()
        for arg, weight in zip(args, data[1:], strict=True):
            if arg in new:
                total += self._difference(new[arg], self.values[arg]) * np.int64(weight)
        return total

    def _difference(self, new: Any, old: Any) -> NDArray[Any]:
        return self._as_word(new) - self._as_word(old)

    def effect(self, new: Mapping[int, Any]) -> Floats | None:
        """Return by how much the outputs are others, of shape (n_outputs, n_rows); None if they are not."""
        out = None
        for number, places in self.places.items():
            if number in new:
                out = np.zeros_like(self.errors) if out is None else out
                change = self._difference(new[number], self.values[number])
                for place in places:
                    out[place] = change * self.rows.steps[place]
        return out

    def gain(self, number: int) -> Floats:
        """Return by how much the outputs rise with a word, of shape (n_outputs, n_rows)."""
        effect = self.effect(self.following({number: self.word(number) + np.int64(1)}, live=True))
        return np.zeros_like(self.errors) if effect is None else effect

    # Changes.

    def accept(self, changed: Mapping[int, Node], new: Mapping[int, Any], errors: Floats, squares: Floats) -> None:
        """Redefine nodes and take over what follows."""
        for number, node in changed.items():
            before, self.nodes[number] = self.nodes[number].args, node
            for arg in before:
                self.readers[arg].remove(number)
            for arg in node.args:
                self.readers[arg].append(number)
            if not self.is_dead(number):
                self._read(node.args)
                self._release(before)
        for number, value in new.items():
            self.values[number] = value
        self.errors, self.squares = errors, squares

    def _read(self, args: Iterable[int]) -> None:
        """Count one more live reader of some nodes; those that were dead begin to read themselves."""
        todo = list(args)
        while todo:
            number = todo.pop()
            if self.is_dead(number):
                todo += self.nodes[number].args
            self.n_live_readers[number] += 1

    def _release(self, args: Iterable[int]) -> None:
        """Count one live reader less of some nodes; those that die release what they read themselves."""
        todo = list(args)
        while todo:
            number = todo.pop()
            self.n_live_readers[number] -= 1
            if self.is_dead(number):
                todo += self.nodes[number].args

    def is_dead(self, number: int) -> bool:
        """Return whether no output depends on a node."""
        return not self.n_live_readers[number] and number not in self.places

    def rebuilt(self) -> Graph:
        """Return the graph as it is defined now, simplified."""
        copy = Copy(self.graph)
        for number, node in enumerate(self.nodes):
            if not self.is_dead(number):
                copy.make(number, node)
        return copy.pruned()
