"""The gates of a graph: every operation written out in two-input gates, equal gates made once, dead ones dropped.

Nothing here is an estimate. `Netlist.of` builds the whole Boolean circuit, with all constants propagated, and
`count_gates` counts it. All two-input functions cost one gate, so an inverter is free: it is a mark on a wire.
`_netlist` says what wires are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

from sklearn_htmc.circuit._graph import Graph, Node, Op, needed, require_graph
from sklearn_htmc.circuit._netlist import Addend, Gates, Wires, columns_of
from sklearn_htmc.circuit._short_paths import Greater, Word, Writers, with_short_paths
from sklearn_htmc.circuit._short_paths.carry_save import distinct

__all__ = [
    "Gates",
    "Greater",
    "Netlist",
    "Wires",
    "Word",
    "clamp",
    "count_gates",
    "extended",
    "greater_in_halves",
    "greater_serially",
    "heap_of_adders",
    "row_of_adders",
    "ways_to_compare",
]

MAX_GATES = 30_000_000  # about 4 GB


class Netlist(Gates):
    """Two-input gates in topological order, those of a graph."""

    @classmethod
    def of(cls, graph: Graph) -> Netlist:
        """Write a graph out in gates, as few as possible or, if that is its objective, on short paths.

        Raises
        ------
        ValueError
            If there are more than 30 million of them.
        """
        if getattr(graph, "objective", "gates") == "depth":
            return with_short_paths(graph, cls, cls._of_few_gates, Writers(_WRITE, ways_to_compare(graph)))
        return cls._of_few_gates(graph)

    @classmethod
    def _of_few_gates(cls, graph: Graph) -> Netlist:
        net = cls()
        for form in graph.input_formats:
            net.inputs.append(net.word(form.width))
        words: list[Wires] = [[]] * len(graph.nodes)
        ways = ways_to_compare(graph)
        for number, node in needed(graph):
            if node.op is Op.INPUT:
                words[number] = net.inputs[node.data[0]]
            elif node.op is Op.AT_MOST:
                (arg,) = node.args
                words[number] = [ways[arg][0](net, words[arg], graph.nodes[arg].signed, node.data[0]) ^ 1]
            else:
                args = [(words[arg], graph.nodes[arg]) for arg in node.args]
                words[number] = _WRITE[node.op](net, node, args)
            net.refuse_more_than(MAX_GATES)
        net.outputs = [words[number] for number in graph.outputs]
        return net


def count_gates(circuit: Graph) -> int:
    """Return the number of two-input gates of a circuit.

    The circuit is written out gate by gate with all constants propagated; equal gates count once, gates that no output
    depends on do not count, and inverters are free.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.

    Raises
    ------
    TypeError
        If circuit is none.
    ValueError
        If there are more than 30 million gates.

    Examples
    --------
    >>> from sklearn_htmc.circuit import Builder, Format, count_gates
    >>> build = Builder([Format(0, 255, 0), Format(0, 255, 0)])
    >>> count_gates(build.graph([build.add(build.input(0), build.input(1))], [0]))  # a half adder and seven full ones
    37
    """
    require_graph(circuit)
    return len(Netlist.of(circuit).live())


# --- the operations in gates ----------------------------------------------------------------------


def either(net: Gates, a: int, b: int) -> int:
    """Return "a or b"."""
    return net.conjunction(a ^ 1, b ^ 1) ^ 1


def extended(word: Word, n_bits: int, shift: int = 0) -> Wires:
    """Return the wires of a word times ``2**shift``, as many as asked for."""
    wires, node = word
    wires = [0] * shift + wires
    return (wires + [wires[-1] if node.signed else 0] * (n_bits - len(wires)))[:n_bits]


def _bit(word: Word) -> int:
    return word[0][0] if word[0] else 0


def row_of_adders(net: Gates, node: Node, args: Sequence[Word]) -> Wires:
    """Add or subtract two words place by place."""
    negated = node.op is Op.SUBTRACT
    a, b = (extended(word, node.width, shift) for word, shift in zip(args, node.data, strict=True))
    carry, out = int(negated), []
    for x, y in zip(a, b, strict=True):
        wire, carry = net.sum_and_carry(x, y ^ negated, carry)
        out.append(wire)
    return out


def addends_of(node: Node, args: Sequence[Word]) -> list[Addend]:
    """Return the words of a sum with their weights."""
    return [(wires, arg.signed, weight) for (wires, arg), weight in zip(args, node.data[1:], strict=True)]


def heap_of_adders(net: Gates, node: Node, args: Sequence[Word]) -> Wires:
    """Add all bits of all terms column by column.

    Of the constant every column has at most one bit.
    """
    columns, constant = columns_of(addends_of(node, args), node.data[0], node.width)
    out, carries = [], Wires()
    for place, column in enumerate(columns[: node.width]):
        wire, carries = _column(net, [*column, *carries, constant >> place & 1])
        out.append(wire)
    return out


def _column(net: Gates, bits: Wires) -> tuple[int, Wires]:
    """Return the sum of bits modulo two, and what they carry.

    A full adder takes one bit away, a half adder moves one on. Bits that arrive first are added first; a constant one
    comes last: beside one other bit it costs nothing, beside two a full adder has the price of a half adder.
    """
    single, ones, carries = distinct(bits)
    carries += [1] * (ones // 2)
    one = ones % 2
    ready = [(net.level(wire), wire) for wire in single]
    heapq.heapify(ready)
    while len(ready) + one > 1:
        a = heapq.heappop(ready)[1]
        b = heapq.heappop(ready)[1] if ready else 0
        c, one = (heapq.heappop(ready)[1], one) if ready else (one, 0)
        total, carry = net.sum_and_carry(a, b, c)
        carries.append(carry)
        heapq.heappush(ready, (net.level(total), total))
    return (ready[0][1] if ready else one), carries


def _relu(net: Gates, node: Node, args: Sequence[Word]) -> Wires:
    wires, arg = args[0]
    return [net.conjunction(wire, wires[-1] ^ 1) for wire in wires[: node.width]] if arg.signed else wires


def clamp(net: Gates, node: Node, args: Sequence[Word]) -> Wires:
    """Return a word between limits: two comparisons, and a gate per bit and limit."""
    low, high = node.low, node.high
    wires, arg = args[0]
    above = greater_serially(net, wires, arg.signed, high) if arg.high > high else 0
    below = greater_serially(net, wires, arg.signed, low - 1) ^ 1 if arg.low < low else 0
    out = []
    for place, wire in enumerate(extended(args[0], node.width)):
        for limit, outside in ((high, above), (low, below)):
            bit = limit >> place & 1
            wire = either(net, wire, outside) if bit else net.conjunction(wire, outside ^ 1)
        out.append(wire)
    return out


Write = Callable[[Gates, Node, Sequence[Word]], Wires]

# Operations that are wiring or single gates, however words are added.
BITS: dict[Op, Write] = {
    Op.CONSTANT: lambda _, node, __: [node.data[0] >> place & 1 for place in range(node.width)],
    Op.FLOOR: lambda _, node, args: extended(args[0], node.data[0] + node.width)[node.data[0] :],
    Op.BIT: lambda _, node, args: extended(args[0], node.data[0] + 1)[node.data[0] :],
    Op.NOT: lambda _, __, args: [_bit(args[0]) ^ 1],
    Op.AND: lambda net, _, args: [net.conjunction(_bit(args[0]), _bit(args[1]))],
    Op.OR: lambda net, _, args: [either(net, _bit(args[0]), _bit(args[1]))],
    Op.XOR: lambda net, _, args: [net.exclusive(_bit(args[0]), _bit(args[1]))],
    Op.JOIN: lambda _, node, args: [_bit(word) for word in args][: node.width],
}

# How an operation is written out; `INPUT` is wired and `AT_MOST` compared elsewhere.
_WRITE: dict[Op, Write] = BITS | {
    Op.ADD: row_of_adders,
    Op.SUBTRACT: row_of_adders,
    Op.SUM: heap_of_adders,
    Op.RELU: _relu,
    Op.CLAMP: clamp,
}


# --- comparisons with constants -------------------------------------------------------------------


def _offset(wires: Wires, signed: bool, constant: int) -> tuple[Wires, int]:
    """Return unsigned wires and constant of the same comparison."""
    if not signed:
        return wires, constant
    return [*wires[:-1], wires[-1] ^ 1], constant + (1 << (len(wires) - 1))


def greater_serially(net: Gates, wires: Wires, signed: bool, constant: int) -> int:
    """Return "word > constant", at most one gate per bit.

    From the lowest bit on it is "bit and so far" where the constant has a one, else "bit or so far". Runs of equal bits
    are put together from the top, as other constants may begin in the same way.
    """
    wires, constant = _offset(wires, signed, constant)
    if constant < 0 or constant >> len(wires):
        return int(constant < 0)
    greater, place = 0, 0
    while place < len(wires):
        bit, start = constant >> place & 1, place
        while place < len(wires) and constant >> place & 1 == bit:
            place += 1
        # "a or b" is "not (not a and not b)".
        inverted = bit ^ 1
        run = reduce(net.conjunction, (wire ^ inverted for wire in reversed(wires[start:place])))
        greater = net.conjunction(run, greater ^ inverted) ^ inverted
    return greater


def greater_in_halves(net: Gates, wires: Wires, signed: bool, constant: int) -> int:
    """Return the same from halves of the word, whose comparisons many constants share."""
    wires, constant = _offset(wires, signed, constant)
    return _halves(net, wires, constant)


def _halves(net: Gates, wires: Wires, constant: int) -> int:
    if constant < 0 or constant >> len(wires):
        return int(constant < 0)
    if len(wires) <= 1:
        return 0 if constant or not wires else wires[0]
    low = len(wires) // 2
    upper, lower = constant >> low, constant & ((1 << low) - 1)
    beyond = _halves(net, wires[low:], upper)
    return either(net, beyond, net.conjunction(_equal(net, wires[low:], upper), _halves(net, wires[:low], lower)))


def _equal(net: Gates, wires: Wires, constant: int) -> int:
    if len(wires) == 1:
        return wires[0] ^ (constant & 1 ^ 1)
    low = len(wires) // 2
    return net.conjunction(
        _equal(net, wires[:low], constant & ((1 << low) - 1)), _equal(net, wires[low:], constant >> low)
    )


def ways_to_compare(graph: Graph) -> dict[int, tuple[Greater, list[int]]]:
    """Return for every word that is compared with constants the cheaper way for all of them, and who compares it."""
    nodes: dict[int, list[int]] = {}
    for number, node in needed(graph):
        if node.op is Op.AT_MOST:
            nodes.setdefault(node.args[0], []).append(number)
    return {
        arg: (_cheapest(graph.nodes[arg], [graph.nodes[number].data[0] for number in numbers]), numbers)
        for arg, numbers in nodes.items()
    }


def _cheapest(node: Node, constants: Iterable[int]) -> Greater:
    def gates(greater: Greater) -> int:
        net = Gates()
        wires = net.word(node.width)
        net.outputs = [[greater(net, wires, node.signed, constant) for constant in constants]]
        return len(net.live())

    return min((greater_serially, greater_in_halves), key=gates)
