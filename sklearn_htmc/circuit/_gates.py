"""The gates of a graph: every operation written out in two-input gates, equal gates made once, dead ones dropped.

Nothing here is an estimate. `Netlist.of` builds the whole Boolean circuit, with all constants propagated, and
`count_gates` counts it. All two-input functions cost one gate, so an inverter is free: it is a mark on a wire.
A wire is an integer, twice the number of its gate plus one if it is inverted; 0 and 1 are the constants.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

from sklearn_htmc.circuit._graph import Graph, Node, Op, needed, require_graph

Wires = list[int]

MAX_GATES = 30_000_000  # about 4 GB
_SHIFT = 26  # bits of a wire
_MASK = (1 << _SHIFT) - 1


class Netlist:
    """Two-input gates in topological order.

    Attributes
    ----------
    outputs : list of list of int
        Wires of every output word, lowest bit first.
    inputs : list of list of int
        Wires of every input port.
    """

    def __init__(self) -> None:
        # A gate is one integer, for speed: its two wires, negated where it is an exclusive or; 0 for inputs.
        self._gates: list[int] = [0]
        self._known: dict[int, int] = {}
        self._levels: list[int] = []
        self.inputs: list[Wires] = []
        self.outputs: list[Wires] = []

    @classmethod
    def of(cls, graph: Graph) -> Netlist:
        """Write a graph out in gates.

        Raises
        ------
        ValueError
            If there are more than 30 million of them.
        """
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
            if len(net._gates) > MAX_GATES:
                raise ValueError(
                    f"the circuit has more than {MAX_GATES:,} gates; make the model smaller or epsilon larger."
                )
        net.outputs = [words[number] for number in graph.outputs]
        return net

    def word(self, width: int) -> Wires:
        """Return new wires that no gate drives."""
        first = len(self._gates)
        self._gates += [0] * width
        return [2 * number for number in range(first, first + width)]

    def conjunction(self, a: int, b: int) -> int:
        """Return the wire "a and b"."""
        if a > b:
            a, b = b, a
        if a <= 1:
            return b if a else 0
        if a ^ b <= 1:
            return a if a == b else 0
        if self._gates[a >> 1] > 0 or self._gates[b >> 1] > 0:
            simpler = self._simplified(a, b)
            if simpler is not None:
                return simpler
        return self._gate(a << _SHIFT | b)

    def exclusive(self, a: int, b: int) -> int:
        """Return the wire "a or b, but not both"."""
        inverted = (a ^ b) & 1
        a, b = (a & ~1, b & ~1) if a < b else (b & ~1, a & ~1)
        if a == b:
            return inverted
        if a == 0:
            return b ^ inverted
        return self._gate(-(a << _SHIFT | b)) ^ inverted

    def sum_and_carry(self, a: int, b: int, carry: int) -> tuple[int, int]:
        """Return the two wires of a full adder."""
        half = self.exclusive(a, b)
        if carry <= 1:
            return half ^ carry, self.conjunction(a ^ carry, b ^ carry) ^ carry
        generated = self.conjunction(a, b)
        total = self.exclusive(half, carry)
        if a > 1 and b > 1 and generated > 1 and half > 1 and half ^ carry > 1:
            # Most gates are made here, and they hardly ever simplify.
            propagated = self._gate(half << _SHIFT | carry if half < carry else carry << _SHIFT | half)
            if generated < propagated:
                return total, self._gate((generated ^ 1) << _SHIFT | propagated ^ 1) ^ 1
        else:
            propagated = self.conjunction(half, carry)
        return total, self.conjunction(generated ^ 1, propagated ^ 1) ^ 1

    def _simplified(self, a: int, b: int) -> int | None:
        """Return a simpler wire for "a and b" if what their gates read allows one."""
        key = self._gates[a >> 1]
        x, y = (key >> _SHIFT, key & _MASK) if key > 0 else (0, 0)
        key = self._gates[b >> 1]
        u, v = (key >> _SHIFT, key & _MASK) if key > 0 else (0, 0)
        if u and (a ^ u <= 1 or a ^ v <= 1):
            return self._absorbed(a, b, u, v)
        if x and (b ^ x <= 1 or b ^ y <= 1):
            return self._absorbed(b, a, x, y)
        if x and u and (x ^ 1 in (u, v) or y ^ 1 in (u, v)):
            return self._excluded(a, b, (x, y), (u, v))
        return None

    def _absorbed(self, a: int, b: int, x: int, y: int) -> int:
        """Return "a and b" where b is "x and y" or its inverse, and one of the two is a or its inverse."""
        if a ^ 1 in (x, y):
            return a if b & 1 else 0  # a and not (not a and y) is a
        return self.conjunction(a, (y if a == x else x) ^ 1) if b & 1 else b

    def _excluded(self, a: int, b: int, of_a: tuple[int, int], of_b: tuple[int, int]) -> int | None:
        """Return "a and b" where one gate reads the inverse of what the other one reads."""
        if not (a | b) & 1:
            return 0
        if a & 1 and b & 1:
            for x, y in (of_a, of_a[::-1]):
                if x ^ 1 in of_b and y in of_b:
                    return y ^ 1  # neither (x and y) nor (not x and y) is not y
            return None
        return b if a & 1 else a  # x and y and not (not x and z) is x and y

    def _gate(self, key: int) -> int:
        wire = self._known.get(key)
        if wire is None:
            wire = self._known[key] = 2 * len(self._gates)
            self._gates.append(key)
        return wire

    def cost(self, write: Callable[[], int]) -> int:
        """Return how many gates some more writing would make, and take them back."""
        n_gates = len(self._gates)
        write()
        for key in self._gates[n_gates:]:
            del self._known[key]
        made = len(self._gates) - n_gates
        del self._gates[n_gates:], self._levels[n_gates:]
        return made

    def operands(self, number: int) -> tuple[int, int]:
        """Return the wires that a gate reads; two times zero for an input."""
        key = abs(self._gates[number])
        return key >> _SHIFT, key & _MASK

    def is_exclusive(self, number: int) -> bool:
        """Return whether a gate is an exclusive or; else it is an "and"."""
        return self._gates[number] < 0

    def level(self, wire: int) -> int:
        """Return the number of gates on the longest path to a wire."""
        levels = self._levels
        for key in self._gates[len(levels) :]:
            key = abs(key)
            levels.append(1 + max(levels[key >> _SHIFT + 1], levels[(key & _MASK) >> 1]) if key else 0)
        return levels[wire >> 1]

    def live(self) -> list[int]:
        """Return the numbers of the gates that the outputs depend on, operands first."""
        gates = self._gates
        wanted = bytearray(len(gates))
        for wire in (wire for word in self.outputs for wire in word):
            wanted[wire >> 1] = 1
        for number in range(len(gates) - 1, 0, -1):
            if wanted[number]:
                key = abs(gates[number])
                wanted[key >> _SHIFT + 1] = wanted[(key & _MASK) >> 1] = 1
        return [number for number in range(1, len(wanted)) if wanted[number] and gates[number]]

    @property
    def depth(self) -> int:
        """Gates on the longest path from an input to an output."""
        return max((self.level(wire) for word in self.outputs for wire in word), default=0)

    def evaluate(self, inputs: Sequence[Sequence[int]], n_rows: int) -> list[list[int]]:
        """Evaluate all gates; an integer of ``n_rows`` bits is one wire in as many rows.

        Parameters
        ----------
        inputs : sequence of sequence of int
            Values of the wires of every input port.
        n_rows : int
            Number of rows.

        Returns
        -------
        list of list of int
            Values of the wires of every output word.
        """
        ones = (1 << n_rows) - 1
        values = [0] * len(self._gates)
        for word, wires in zip(inputs, self.inputs, strict=True):
            for value, wire in zip(word, wires, strict=True):
                values[wire >> 1] = value
        for number in self.live():
            a, b = self.operands(number)
            x, y = values[a >> 1] ^ -(a & 1), values[b >> 1] ^ -(b & 1)
            values[number] = (x & y if self._gates[number] > 0 else x ^ y) & ones
        return [[(values[wire >> 1] ^ -(wire & 1)) & ones for wire in word] for word in self.outputs]


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

Word = tuple[Wires, Node]  # wires, and the range they are known to keep


def either(net: Netlist, a: int, b: int) -> int:
    """Return "a or b"."""
    return net.conjunction(a ^ 1, b ^ 1) ^ 1


def extended(word: Word, n_bits: int, shift: int = 0) -> Wires:
    """Return the wires of a word times ``2**shift``, as many as asked for."""
    wires, node = word
    wires = [0] * shift + wires
    return (wires + [wires[-1] if node.signed else 0] * (n_bits - len(wires)))[:n_bits]


def _bit(word: Word) -> int:
    return word[0][0] if word[0] else 0


def row_of_adders(net: Netlist, node: Node, args: Sequence[Word]) -> Wires:
    """Add or subtract two words place by place."""
    negated = node.op is Op.SUBTRACT
    a, b = (extended(word, node.width, shift) for word, shift in zip(args, node.data, strict=True))
    carry, out = int(negated), []
    for x, y in zip(a, b, strict=True):
        wire, carry = net.sum_and_carry(x, y ^ negated, carry)
        out.append(wire)
    return out


def heap_of_adders(net: Netlist, node: Node, args: Sequence[Word]) -> Wires:
    """Add all bits of all terms column by column.

    A bit that counts negatively is its inverse less one, so signs only change the constant, of which every column has
    at most one bit.
    """
    constant, columns = node.data[0], [Wires() for _ in range(node.width)]
    for (wires, arg), weight in zip(args, node.data[1:], strict=True):
        last, first = len(wires) - 1, abs(weight).bit_length() - 1
        for place, wire in enumerate(wires):
            negative = (weight < 0) != (arg.signed and place == last)
            constant -= negative << first + place
            if first + place < node.width:
                columns[first + place].append(wire ^ negative)
    out, carries = [], Wires()
    for place, column in enumerate(columns):
        wire, carries = _column(net, [*column, *carries, constant >> place & 1])
        out.append(wire)
    return out


def _column(net: Netlist, bits: Wires) -> tuple[int, Wires]:
    """Return the sum of bits modulo two, and what they carry.

    A full adder takes one bit away, a half adder moves one on. Bits that arrive first are added first; a constant one
    comes last: beside one other bit it costs nothing, beside two a full adder has the price of a half adder.
    """
    ones, single, carries = 0, set[int](), Wires()
    for wire in bits:
        if wire <= 1:
            ones += wire
        elif wire in single:  # twice a bit is the same bit in the next column
            single.remove(wire)
            carries.append(wire)
        elif wire ^ 1 in single:
            single.remove(wire ^ 1)
            ones += 1
        else:
            single.add(wire)
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


def _relu(net: Netlist, node: Node, args: Sequence[Word]) -> Wires:
    wires, arg = args[0]
    return [net.conjunction(wire, wires[-1] ^ 1) for wire in wires[: node.width]] if arg.signed else wires


def clamp(net: Netlist, node: Node, args: Sequence[Word]) -> Wires:
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


# How an operation is written out; `INPUT` is wired and `AT_MOST` compared elsewhere.
_WRITE: dict[Op, Callable[[Netlist, Node, Sequence[Word]], Wires]] = {
    Op.CONSTANT: lambda _, node, __: [node.data[0] >> place & 1 for place in range(node.width)],
    Op.ADD: row_of_adders,
    Op.SUBTRACT: row_of_adders,
    Op.SUM: heap_of_adders,
    Op.FLOOR: lambda _, node, args: extended(args[0], node.data[0] + node.width)[node.data[0] :],
    Op.RELU: _relu,
    Op.CLAMP: clamp,
    Op.BIT: lambda _, node, args: extended(args[0], node.data[0] + 1)[node.data[0] :],
    Op.NOT: lambda _, __, args: [_bit(args[0]) ^ 1],
    Op.AND: lambda net, _, args: [net.conjunction(_bit(args[0]), _bit(args[1]))],
    Op.OR: lambda net, _, args: [either(net, _bit(args[0]), _bit(args[1]))],
    Op.XOR: lambda net, _, args: [net.exclusive(_bit(args[0]), _bit(args[1]))],
    Op.JOIN: lambda _, node, args: [_bit(word) for word in args][: node.width],
}


# --- comparisons with constants -------------------------------------------------------------------


def _offset(wires: Wires, signed: bool, constant: int) -> tuple[Wires, int]:
    """Return unsigned wires and constant of the same comparison."""
    if not signed:
        return wires, constant
    return [*wires[:-1], wires[-1] ^ 1], constant + (1 << (len(wires) - 1))


def greater_serially(net: Netlist, wires: Wires, signed: bool, constant: int) -> int:
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


def greater_in_halves(net: Netlist, wires: Wires, signed: bool, constant: int) -> int:
    """Return the same from halves of the word, whose comparisons many constants share."""
    wires, constant = _offset(wires, signed, constant)
    return _halves(net, wires, constant)


def _halves(net: Netlist, wires: Wires, constant: int) -> int:
    if constant < 0 or constant >> len(wires):
        return int(constant < 0)
    if len(wires) <= 1:
        return 0 if constant or not wires else wires[0]
    low = len(wires) // 2
    upper, lower = constant >> low, constant & ((1 << low) - 1)
    beyond = _halves(net, wires[low:], upper)
    return either(net, beyond, net.conjunction(_equal(net, wires[low:], upper), _halves(net, wires[:low], lower)))


def _equal(net: Netlist, wires: Wires, constant: int) -> int:
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


Greater = Callable[[Netlist, Wires, bool, int], int]


def _cheapest(node: Node, constants: Iterable[int]) -> Greater:
    def gates(greater: Greater) -> int:
        net = Netlist()
        wires = net.word(node.width)
        net.outputs = [[greater(net, wires, node.signed, constant) for constant in constants]]
        return len(net.live())

    return min((greater_serially, greater_in_halves), key=gates)
