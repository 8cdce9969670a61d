"""A graph as gates between word-wide boxes: what a module is made of, before it has stages and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sklearn_htmc.circuit._gates import Netlist, Wires, Word, either, extended, greater_serially, ways_to_compare
from sklearn_htmc.circuit._graph import Graph, Node, Op, needed
from sklearn_htmc.circuit._verilog.sums import UNBOUNDED, added, heaped

INPUT_OWNER = -1


class Box(NamedTuple):
    """A word that is written with one operator.

    Attributes
    ----------
    op : {"+", "-", "?"}
        Sum, difference, or choice: where the only wire of `a` is one the constant `b`, else `c`.
    a, b, c : list of int
        Wires that are read, lowest first.
    out : list of int
        Wires of the word.
    """

    op: str
    a: Wires
    b: Wires
    c: Wires
    out: Wires

    @property
    def reads(self) -> Wires:
        """Wires that vary and are read."""
        return [wire for wire in (*self.a, *self.b, *self.c) if wire > 1]

    def levels(self, level: Callable[[int], int]) -> list[int]:
        """Return the levels of the word, in two-input gates, from those of what it reads."""
        if self.op == "?":
            chosen = level(self.a[0])
            return [1 + max(chosen, level(wire)) for wire in self.c]
        found, carry, carried = [], int(self.op == "-"), 0
        for x, y in zip(self.a, self.b, strict=True):
            y ^= int(self.op == "-")
            varying = [level(wire) for wire in (x, y) if wire > 1]
            ones = sum(wire for wire in (x, y) if wire <= 1)
            if carry <= 1:
                ones, last = ones + carry, -1
            else:
                last = carried
            total, carry, carried = _full_adder(varying, ones, last)
            found.append(total)
        return found


def _full_adder(varying: list[int], ones: int, carried: int) -> tuple[int, int, int]:
    """Return the level of the sum, the carry (2 where it varies), and its level; ``carried`` is -1 if it is known."""
    n_varying = len(varying) + (carried >= 0)
    latest = max([*varying, carried, 0])
    if n_varying == 0:
        return 0, int(ones > 1), 0
    if n_varying == 1:
        return latest, (2 if ones == 1 else ones // 2), latest
    if n_varying == 2:
        return latest + 1, 2, latest + 1
    half = max(varying) + 1
    return max(half, carried) + 1, 2, max(half, carried) + 2


class Structure(Netlist):
    """Gates and boxes of a graph, operands first.

    Attributes
    ----------
    boxes : dict of int to Box
        Boxes by the number of the first wire that they drive.
    owners : list of int
        For every gate the node it was made for.
    words : dict of int to list of int
        Wires of the nodes.
    longest : int
        Places that one sum may have.
    """

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.longest = longest
        self.boxes: dict[int, Box] = {}
        self.owners: list[int] = [INPUT_OWNER]
        self.words: dict[int, Wires] = {}

    def box(self, op: str, a: Wires, b: Wires, c: Wires | None = None) -> Wires:
        """Return the wires of a new box."""
        levels = Box(op, a, b, c or [], []).levels(self.level)
        self.level(2 * len(self._gates) - 1)  # those of all gates so far
        out = self.word(len(levels))
        self._levels += levels
        self.boxes[out[0] >> 1] = Box(op, a, b, c or [], out)
        return out

    @property
    def n_wires(self) -> int:
        """Numbers that are taken by constants, inputs, gates and bits of boxes."""
        return len(self._gates)

    def own(self, number: int) -> None:
        """Say which node the latest gates were made for."""
        self.owners += [number] * (len(self._gates) - len(self.owners))


def structure_of(graph: Graph, longest: int = UNBOUNDED) -> Structure:
    """Write a graph in gates and boxes; no sum is longer than so many places.

    Where short paths are asked for, the gates are those that are counted, without boxes.
    """
    net = Structure(longest)
    for form in graph.input_formats:
        net.inputs.append(net.word(form.width))
    net.own(INPUT_OWNER)
    if getattr(graph, "objective", "gates") == "depth":
        _copy_gates(net, graph)
    else:
        _write(net, graph)
    net.outputs = [
        extended((net.words[number], graph.nodes[number]), form.width)
        for number, form in zip(graph.outputs, graph.output_formats, strict=True)
    ]
    return net


def _copy_gates(net: Structure, graph: Graph) -> None:
    """Take over the gates of short paths, which belong to no node but the outputs."""
    counted = Netlist.of(graph)
    new = {0: 0}
    for old, wires in zip(counted.inputs, net.inputs, strict=True):
        new |= {a >> 1: b for a, b in zip(old, wires, strict=True)}
    for number in counted.live():
        a, b = (new[wire >> 1] ^ (wire & 1) for wire in counted.operands(number))
        new[number] = net.exclusive(a, b) if counted.is_exclusive(number) else net.conjunction(a, b)
    net.own(graph.outputs[-1])
    for number, wires in zip(graph.outputs, counted.outputs, strict=True):
        net.words[number] = [new[wire >> 1] ^ (wire & 1) for wire in wires]


def _write(net: Structure, graph: Graph) -> None:
    """Write node after node."""
    ways = ways_to_compare(graph)
    for number, node in needed(graph):
        if node.op is Op.INPUT:
            net.words[number] = net.inputs[node.data[0]]
        elif node.op is Op.AT_MOST:
            (arg,) = node.args
            greater = ways[arg][0](net, net.words[arg], graph.nodes[arg].signed, node.data[0])
            net.words[number] = [greater ^ 1]
        else:
            args = [(net.words[arg], graph.nodes[arg]) for arg in node.args]
            net.words[number] = _WRITE[node.op](net, node, args)
        net.own(number)


def _chosen(net: Structure, condition: int, constant: int, word: Wires) -> Wires:
    """Return a constant where a wire is one, else a word."""
    bits = [constant >> place & 1 for place in range(len(word))]
    if condition <= 1:
        return bits if condition else word
    varying = [place for place, wire in enumerate(word) if wire > 1]
    out = [
        bit if wire == bit else wire if wire > 1 else condition ^ bit ^ 1 for wire, bit in zip(word, bits, strict=True)
    ]
    if len(varying) < _SHORT:
        for place in varying:
            wire = word[place]
            out[place] = either(net, wire, condition) if bits[place] else net.conjunction(wire, condition ^ 1)
        return out
    made = net.box("?", [condition], [bits[place] for place in varying], [word[place] for place in varying])
    for place, wire in zip(varying, made, strict=True):
        out[place] = wire
    return out


_SHORT = 3  # words of fewer bits are written gate by gate


def _relu(net: Structure, node: Node, args: Sequence[Word]) -> Wires:
    wires, arg = args[0]
    return _chosen(net, wires[-1], 0, extended(args[0], node.width)) if arg.signed else wires


def _clamp(net: Structure, node: Node, args: Sequence[Word]) -> Wires:
    wires, arg = args[0]
    word = extended(args[0], node.width)
    if arg.high > node.high:
        word = _chosen(net, greater_serially(net, wires, arg.signed, node.high), node.high, word)
    if arg.low < node.low:
        word = _chosen(net, greater_serially(net, wires, arg.signed, node.low - 1) ^ 1, node.low, word)
    return word


def _bit(word: Word) -> int:
    return word[0][0] if word[0] else 0


_WRITE: dict[Op, Callable[[Structure, Node, Sequence[Word]], Wires]] = {
    Op.CONSTANT: lambda _, node, __: [node.data[0] >> place & 1 for place in range(node.width)],
    Op.ADD: added,
    Op.SUBTRACT: added,
    Op.SUM: heaped,
    Op.FLOOR: lambda _, node, args: extended(args[0], node.data[0] + node.width)[node.data[0] :],
    Op.RELU: _relu,
    Op.CLAMP: _clamp,
    Op.BIT: lambda _, node, args: extended(args[0], node.data[0] + 1)[node.data[0] :],
    Op.NOT: lambda _, __, args: [_bit(args[0]) ^ 1],
    Op.AND: lambda net, _, args: [net.conjunction(_bit(args[0]), _bit(args[1]))],
    Op.OR: lambda net, _, args: [either(net, _bit(args[0]), _bit(args[1]))],
    Op.XOR: lambda net, _, args: [net.exclusive(_bit(args[0]), _bit(args[1]))],
    Op.JOIN: lambda _, node, args: [_bit(word) for word in args][: node.width],
}
