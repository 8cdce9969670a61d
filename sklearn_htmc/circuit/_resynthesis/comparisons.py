"""What comparisons of words with constants cost, each and one more."""

from __future__ import annotations

from collections import Counter

from sklearn_htmc.circuit._gates import Greater, Netlist, clamp, ways_to_compare
from sklearn_htmc.circuit._graph import Graph, Node, Op


class Comparators:
    """All comparisons of one word with constants, written out together.

    Parameters
    ----------
    word : Node
        What is compared.
    greater : callable
        How the comparisons are written.
    constants : dict of int to int
        Constants of the nodes that compare.

    Attributes
    ----------
    own : dict of int to float
        Gates that go if only this node goes.
    """

    def __init__(self, word: Node, greater: Greater, constants: dict[int, int]) -> None:
        self.word, self._greater, self.constants = word, greater, constants
        self._net = Netlist()
        self._wires = self._net.word(word.width)
        wires = {number: self._written(constant) for number, constant in constants.items()}
        self._net.outputs = [list(wires.values())]
        reads = Counter(wire >> 1 for number in self._net.live() for wire in self._net.operands(number))
        reads.update(wire >> 1 for wire in wires.values())
        self.own = {number: self._alone(wire, reads) for number, wire in wires.items()}

    def _written(self, constant: int) -> int:
        return self._greater(self._net, self._wires, self.word.signed, constant)

    def _alone(self, wire: int, reads: Counter[int]) -> float:
        """Return how many gates nobody else reads."""
        lost: Counter[int] = Counter()
        todo, gates = [wire], 0
        while todo:
            number = todo.pop() >> 1
            lost[number] += 1
            a, b = self._net.operands(number)
            if lost[number] == reads[number] and a | b:
                gates += 1
                todo += [a, b]
        return float(gates)

    def rounder(self) -> list[int]:
        """Return constants near those in use that end in more ones, which a comparison does not read."""
        used, word = set(self.constants.values()), self.word
        found = {
            ((constant >> places) + up << places) - 1
            for constant in used
            for places in range(1, word.width)
            for up in (0, 1)
        }
        return sorted(constant for constant in found - used if word.low <= constant < word.high)

    def price(self, constant: int) -> float:
        """Return how many gates one more comparison takes."""
        return float(self._net.cost(lambda: self._written(constant)))


def comparators(graph: Graph) -> list[tuple[int, Comparators]]:
    """Return the words of a graph that are compared, and their comparators."""
    return [
        (arg, Comparators(graph.nodes[arg], greater, {number: graph.nodes[number].data[0] for number in numbers}))
        for arg, (greater, numbers) in ways_to_compare(graph).items()
    ]


# --- words that saturate --------------------------------------------------------------------------

_OUTWARDS = 8  # a limit moves outwards by the range divided by this at most


def clamp_gates(word: Node, low: int, high: int) -> int:
    """Return the gates that saturate a word."""
    net = Netlist()
    net.inputs = [net.word(word.width)]
    node = Node(Op.CLAMP, (0,), (low, high), max(low, word.low), min(high, word.high))
    net.outputs = [clamp(net, node, [(net.inputs[0], word)])]
    return len(net.live())


def rounder_limits(low: int, high: int, word: Node) -> list[tuple[int, int]]:
    """Return limits near those of a word that saturates, one of them moved, that take fewer gates to compare with."""
    reach = (high - low) // _OUTWARDS
    found = set()
    for places in range(1, word.width):
        for up in (0, 1):
            found.add((low, min(((high + 1 >> places) + up << places) - 1, word.high)))
            found.add((max((low >> places) + up << places, word.low), high))
    return sorted(
        (a, b)
        for a, b in found
        if a < b
        and low - reach <= a
        and b <= high + reach
        and a <= low + reach
        and high - reach <= b
        and (a, b) != (low, high)
    )
