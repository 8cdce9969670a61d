"""The intermediate representation: a list of word-level operations on integers with exact ranges.

A graph is a list of nodes in which every argument comes before its use. A node computes one integer from the integers
of its arguments; ``low`` and ``high`` are bounds that its value never leaves, whatever the input ports carry. Real
numbers appear only at the ports, in their formats: inside there is no rounding that is not written down as a node.

    op         arguments   data          value
    INPUT                  port          the code at the port: any integer that fits into its word
    CONSTANT               c             c
    ADD        a, b        s, t          a 2^s + b 2^t
    SUBTRACT   a, b        s, t          a 2^s - b 2^t
    SUM        a, b, ...   c, u, v, ...  c + u a + v b + ...     u, v, ... are signed powers of two
    FLOOR      a           s             floor(a / 2^s)
    RELU       a                         max(a, 0)
    CLAMP      a           l, h          min(max(a, l), h)
    AT_MOST    a           c             1 if a <= c else 0
    BIT        a           s             floor(a / 2^s) modulo 2
    NOT        a                         1 - a                   a is 0 or 1, as in the next four
    AND        a, b                      1 if both are 1
    OR         a, b                      1 if one is 1
    XOR        a, b                      1 if they differ
    JOIN       a, b, ...                 a + 2 b + 4 c + ...

The operations on bits are single gates: with `BIT` and `SUM` between them and words, every netlist is a graph.

`Builder` makes graphs that are well formed; `verify` checks one that comes from elsewhere.
"""

from __future__ import annotations

import enum
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from operator import index
from typing import Any, NamedTuple

from sklearn_htmc.circuit._fixed_point import Format, width

MAX_BITS = 62  # words stay within int64_t, sums of two of them included
LEAST_EXPONENT, MAX_EXPONENT = -1074, 1024  # of the least double, and of what no double reaches


class Op(enum.Enum):
    """What a node does; the module states the meaning of each."""

    INPUT = "input"
    CONSTANT = "constant"
    ADD = "add"
    SUBTRACT = "subtract"
    SUM = "sum"
    FLOOR = "floor"
    RELU = "relu"
    CLAMP = "clamp"
    AT_MOST = "at_most"
    BIT = "bit"
    NOT = "not"
    AND = "and"
    OR = "or"
    XOR = "xor"
    JOIN = "join"

    __hash__ = object.__hash__  # that of Enum is slow, and tables are looked up for every node


class Node(NamedTuple):
    """One operation.

    Attributes
    ----------
    op : Op
        Operation.
    args : tuple of int
        Numbers of earlier nodes.
    data : tuple of int
        Constants of the operation.
    low, high : int
        Bounds of the value.
    """

    op: Op
    args: tuple[int, ...]
    data: tuple[int, ...]
    low: int
    high: int

    @property
    def width(self) -> int:
        """Bits of the word."""
        return width(self.low, self.high)

    @property
    def signed(self) -> bool:
        """Whether the word is in two's complement."""
        return self.low < 0


Bounds = Callable[[Sequence[Node], tuple[int, ...], Sequence[Format]], tuple[int, int]]

# Bounds of the value of a node, from its arguments, its constants and the formats of the input ports.
BOUNDS: dict[Op, Bounds] = {
    Op.INPUT: lambda _, data, formats: formats[data[0]].word,
    Op.CONSTANT: lambda _, data, __: (data[0], data[0]),
    Op.ADD: lambda a, d, _: ((a[0].low << d[0]) + (a[1].low << d[1]), (a[0].high << d[0]) + (a[1].high << d[1])),
    Op.SUBTRACT: lambda a, d, _: ((a[0].low << d[0]) - (a[1].high << d[1]), (a[0].high << d[0]) - (a[1].low << d[1])),
    Op.SUM: lambda a, d, _: (
        d[0] + sum(w * (x.low if w > 0 else x.high) for x, w in zip(a, d[1:], strict=True)),
        d[0] + sum(w * (x.high if w > 0 else x.low) for x, w in zip(a, d[1:], strict=True)),
    ),
    Op.FLOOR: lambda a, d, _: (a[0].low >> d[0], a[0].high >> d[0]),
    Op.RELU: lambda a, _, __: (max(a[0].low, 0), max(a[0].high, 0)),
    Op.CLAMP: lambda a, d, _: (min(max(a[0].low, d[0]), d[1]), min(max(a[0].high, d[0]), d[1])),
    Op.AT_MOST: lambda a, d, _: (int(a[0].high <= d[0]), int(a[0].low <= d[0])),
    Op.BIT: lambda a, d, _: (a[0].low >> d[0] & 1,) * 2 if a[0].low >> d[0] == a[0].high >> d[0] else (0, 1),
    Op.NOT: lambda a, _, __: (1 - a[0].high, 1 - a[0].low),
    Op.AND: lambda a, _, __: (a[0].low & a[1].low, a[0].high & a[1].high),
    Op.OR: lambda a, _, __: (a[0].low | a[1].low, a[0].high | a[1].high),
    # Where one of the two bits is known, the other one or its inverse.
    Op.XOR: lambda a, _, __: (a[0].low ^ a[1].low,) * 2 if a[0].low == a[0].high and a[1].low == a[1].high else (0, 1),
    Op.JOIN: lambda a, _, __: (
        sum(bit.low << i for i, bit in enumerate(a)),
        sum(bit.high << i for i, bit in enumerate(a)),
    ),
}


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A combinational integer program between fixed-point ports.

    Attributes
    ----------
    nodes : tuple of Node
        Operations, arguments first.
    outputs : tuple of int
        The nodes that drive the output ports.
    input_formats : tuple of Format
        Formats of the input ports; features that are not read have one, too.
    output_formats : tuple of Format
        Formats of the output ports; they hold the bounds of their nodes.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    input_formats: tuple[Format, ...]
    output_formats: tuple[Format, ...]

    def text(self) -> str:
        """Return one line per port and node."""
        lines = [f"x{port}: {form}" for port, form in enumerate(self.input_formats)]
        lines += [_node_text(number, node) for number, node in enumerate(self.nodes)]
        for port, (number, form) in enumerate(zip(self.outputs, self.output_formats, strict=True)):
            lines.append(f"y{port}: n{number}, {form}")
        return "\n".join(lines)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, those of the graph as one text: no class of ours, and a short file in every format."""
        content = [
            node_rows(self.nodes),
            self.outputs,
            [astuple(form) for form in self.input_formats],
            [astuple(form) for form in self.output_formats],
        ]
        own = {key: value for key, value in self.__dict__.items() if key not in Graph.__annotations__}
        return own | {"graph": json.dumps(content, separators=(",", ":"), default=index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what `__getstate__` returned."""
        own = dict(state)
        rows, outputs, inputs_, outputs_ = json.loads(own.pop("graph"))
        fields = (
            nodes_of(rows),
            tuple(outputs),
            tuple(Format(*form) for form in inputs_),
            tuple(Format(*form) for form in outputs_),
        )
        self.__dict__.update(zip(Graph.__annotations__, fields, strict=True), **own)


def node_rows(nodes: Iterable[Node]) -> list[list[Any]]:
    """Return nodes as lists of texts and integers."""
    return [[node.op.value, list(node.args), list(node.data), node.low, node.high] for node in nodes]


def nodes_of(rows: Iterable[Any]) -> tuple[Node, ...]:
    """Return the nodes that `node_rows` was given."""
    return tuple(
        Node(Op(op), tuple(map(index, args)), tuple(map(index, data)), index(low), index(high))
        for op, args, data, low, high in rows
    )


def _node_text(number: int, node: Node) -> str:
    words = [node.op.value, *(f"n{arg}" for arg in node.args), *map(str, node.data)]
    return f"n{number} = {' '.join(words)}  # {node.low} .. {node.high}"


class Builder:
    """Makes a graph node by node, with exact ranges; equal nodes are made once and constants are folded.

    Parameters
    ----------
    input_formats : sequence of Format
        Formats of the input ports.

    Examples
    --------
    >>> from sklearn_htmc.circuit._fixed_point import Format
    >>> build = Builder([Format(-4, 3, 0), Format(0, 7, 0)])
    >>> both = build.add(build.input(0), build.input(1), 1, 0)
    >>> print(build.graph([build.relu(both)], [0]).text())
    x0: -4 .. 3 times 2^0
    x1: 0 .. 7 times 2^0
    n0 = input 0  # -4 .. 3
    n1 = input 1  # 0 .. 7
    n2 = add n0 n1 1 0  # -8 .. 13
    n3 = relu n2  # 0 .. 13
    y0: n3, 0 .. 13 times 2^0
    """

    def __init__(self, input_formats: Sequence[Format]) -> None:
        self.input_formats = tuple(input_formats)
        self.nodes: list[Node] = []
        self._known: dict[tuple[Op, tuple[int, ...], tuple[int, ...]], int] = {}

    def _node(self, op: Op, args: tuple[int, ...] = (), data: tuple[int, ...] = ()) -> int:
        low, high = BOUNDS[op]([self.nodes[arg] for arg in args], data, self.input_formats)
        if low == high and op is not Op.CONSTANT:
            return self.constant(low)
        key = (op, args, data)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self.nodes)
            self.nodes.append(Node(op, args, data, low, high))
        return number

    def value(self, a: int) -> int | None:
        """Return the value of a constant node, None for others."""
        node = self.nodes[a]
        return node.low if node.low == node.high else None

    def input(self, port: int) -> int:
        """Read a port; its value is any that fits into the word."""
        return self._node(Op.INPUT, (), (port,))

    def saturated_input(self, port: int) -> int:
        """Read a port and saturate it at the ends of its format."""
        form = self.input_formats[port]
        return self.clamp(self.input(port), form.low, form.high)

    def constant(self, value: int) -> int:
        """Make a constant."""
        return self._node(Op.CONSTANT, (), (int(value),))

    def add(self, a: int, b: int, s: int = 0, t: int = 0) -> int:
        """Make ``a 2^s + b 2^t``."""
        x, y = self.nodes[a], self.nodes[b]
        if y.low == y.high == 0 and s == 0:
            return a
        if x.low == x.high == 0 and t == 0:
            return b
        if (b, t) < (a, s):
            a, b, s, t = b, a, t, s
        return self._node(Op.ADD, (a, b), (s, t))

    def subtract(self, a: int, b: int, s: int = 0, t: int = 0) -> int:
        """Make ``a 2^s - b 2^t``."""
        y = self.value(b)
        if y is not None:
            return self.add(a, self.constant(-y), s, t)
        if a == b and s == t:
            return self.constant(0)
        return self._node(Op.SUBTRACT, (a, b), (s, t))

    def sum(self, terms: Iterable[tuple[int, int]], constant: int = 0) -> int:
        """Make ``constant + sum of weight * node`` for pairs (node, weight); weights are signed powers of two.

        Words joined from bits are added bit by bit, inverted bits as what they are the inverse of; equal terms are
        put together.
        """
        weights: Counter[int] = Counter()
        todo = list(terms)
        while todo:
            a, weight = todo.pop()
            node = self.nodes[a]
            if node.low == node.high:
                constant += weight * node.low
            elif node.op is Op.JOIN:
                todo += [(bit, weight << place) for place, bit in enumerate(node.args)]
            elif node.op is Op.NOT:
                constant += weight
                todo.append((node.args[0], -weight))
            else:
                weights[a] += weight
        pairs = [(a, power) for a, weight in sorted(weights.items()) for power in signed_powers(weight)]
        if len(pairs) == 1 and constant == 0 and pairs[0][1] == 1:
            return pairs[0][0]
        if not pairs:
            return self.constant(constant)
        return self._node(Op.SUM, tuple(a for a, _ in pairs), (constant, *(w for _, w in pairs)))

    def floor(self, a: int, s: int) -> int:
        """Make ``floor(a / 2^s)``."""
        x = self.nodes[a]
        s = min(s, max(x.width, MAX_BITS))  # nothing is left to shift out
        if s == 0:
            return a
        if x.op is Op.FLOOR:
            return self.floor(x.args[0], x.data[0] + s)
        return self._node(Op.FLOOR, (a,), (s,))

    def relu(self, a: int) -> int:
        """Make ``max(a, 0)``."""
        return a if self.nodes[a].low >= 0 else self._node(Op.RELU, (a,))

    def clamp(self, a: int, low: int, high: int) -> int:
        """Make ``min(max(a, low), high)``."""
        x = self.nodes[a]
        if low <= x.low and x.high <= high:
            return a
        return self._node(Op.CLAMP, (a,), (low, high))

    def at_most(self, a: int, c: int) -> int:
        """Make the bit ``a <= c``."""
        return self._node(Op.AT_MOST, (a,), (c,))

    def bit(self, a: int, place: int) -> int:
        """Make bit number ``place`` of a word, as of a word that is long enough."""
        x = self.nodes[a]
        if x.op is Op.JOIN:
            return x.args[place] if place < len(x.args) else self.constant(0)
        if place == 0 and (x.low, x.high) == (0, 1):
            return a
        return self._node(Op.BIT, (a,), (place,))

    def negation(self, a: int) -> int:
        """Make ``1 - a`` for a bit."""
        x = self.nodes[a]
        return x.args[0] if x.op is Op.NOT else self._node(Op.NOT, (a,))

    def conjunction(self, a: int, b: int) -> int:
        """Make the bit that is one where two bits are."""
        x, y = self.nodes[a], self.nodes[b]
        if a == b or x.low == 1:
            return b
        if y.low == 1:
            return a
        return self._node(Op.AND, (min(a, b), max(a, b)))

    def disjunction(self, a: int, b: int) -> int:
        """Make the bit that is one where one of two bits is."""
        x, y = self.nodes[a], self.nodes[b]
        if a == b or x.high == 0:
            return b
        if y.high == 0:
            return a
        return self._node(Op.OR, (min(a, b), max(a, b)))

    def difference(self, a: int, b: int) -> int:
        """Make the bit that is one where two bits differ."""
        for known, other in ((a, b), (b, a)):
            value = self.value(known)
            if value is not None:
                return self.negation(other) if value else other
        if a == b:
            return self.constant(0)
        return self._node(Op.XOR, (min(a, b), max(a, b)))

    def join(self, bits: Sequence[int]) -> int:
        """Make the word of some bits, lowest first."""
        return bits[0] if len(bits) == 1 else self._node(Op.JOIN, tuple(bits))

    def graph(self, outputs: Sequence[int], exponents: Sequence[int]) -> Graph:
        """Return the graph of what the outputs need.

        Parameters
        ----------
        outputs : sequence of int
            Nodes that drive the output ports.
        exponents : sequence of int
            Binary exponents of the output ports.
        """
        live = _live(self.nodes, outputs)
        new = {old: number for number, old in enumerate(live)}
        nodes = tuple(self.nodes[old]._replace(args=tuple(new[arg] for arg in self.nodes[old].args)) for old in live)
        driven = [self.nodes[number] for number in outputs]
        formats = (Format(node.low, node.high, e) for node, e in zip(driven, exponents, strict=True))
        return Graph(nodes, tuple(new[number] for number in outputs), self.input_formats, tuple(formats))


def signed_powers(number: int) -> list[int]:
    """Return the fewest signed powers of two whose sum is a number, no two of them neighbours."""
    powers, place = [], 0
    while number:
        if number & 1:
            digit = 2 - (number & 3)
            powers.append(digit << place)
            number -= digit
        number, place = number >> 1, place + 1
    return powers


def _live(nodes: Sequence[Node], outputs: Iterable[int]) -> list[int]:
    """Return the numbers of the nodes that outputs depend on, in order."""
    needed = set(outputs)
    for number in range(len(nodes) - 1, -1, -1):
        if number in needed:
            needed.update(nodes[number].args)
    return sorted(needed)


def needed(graph: Graph) -> list[tuple[int, Node]]:
    """Return the nodes that the outputs depend on, with their numbers; those of one value as constants."""
    wanted = bytearray(len(graph.nodes))
    for number in graph.outputs:
        wanted[number] = 1
    found = []
    for number in range(len(wanted) - 1, -1, -1):
        if wanted[number]:
            node = graph.nodes[number]
            _, args, _, low, high = node
            if low == high:
                node, args = Node(Op.CONSTANT, (), (low,), low, high), ()
            for arg in args:
                wanted[arg] = 1
            found.append((number, node))
    return found[::-1]


def require_graph(circuit: Any) -> None:
    """Raise TypeError unless the argument is a graph, as circuits are."""
    if not isinstance(circuit, Graph):
        raise TypeError(
            f"circuit must be what compile_circuit returns, got a {type(circuit).__name__}; for a fitted model call "
            "compile_circuit(model, X, epsilon=...) first."
        )


# --- verification ---------------------------------------------------------------------------------

# Numbers of arguments (None: two to 62, for a sum any from one on) and of constants (None: one more than arguments).
_SHAPES: dict[Op, tuple[int | None, int | None]] = {
    Op.INPUT: (0, 1),
    Op.CONSTANT: (0, 1),
    Op.ADD: (2, 2),
    Op.SUBTRACT: (2, 2),
    Op.SUM: (None, None),
    Op.FLOOR: (1, 1),
    Op.RELU: (1, 0),
    Op.CLAMP: (1, 2),
    Op.AT_MOST: (1, 1),
    Op.BIT: (1, 1),
    Op.NOT: (1, 0),
    Op.AND: (2, 0),
    Op.OR: (2, 0),
    Op.XOR: (2, 0),
    Op.JOIN: (None, 0),
}
_OF_BITS = {Op.NOT, Op.AND, Op.OR, Op.XOR, Op.JOIN}


def verify(graph: Graph) -> None:
    """Raise ValueError unless a graph is well formed and its bounds are those that follow from the arguments.

    Raises
    ------
    TypeError
        If the argument is no graph.
    ValueError
        For no outputs, ports above 62 bits or with exponents beyond those of doubles, an argument that does not come
        before its use, wrong numbers of arguments or constants, words where bits are needed, negative shifts, weights
        that are no powers of two, bounds that do not follow, words, shifted words, parts of sums or constants above 62
        bits, or outputs whose format does not hold what their node may be.
    """
    require_graph(graph)
    if not graph.outputs:
        raise ValueError("the graph has no outputs.")
    _check_ports("x", graph.input_formats)
    for number, node in enumerate(graph.nodes):
        if problem := _problem(graph, number, node):
            raise ValueError(f"n{number} = {node.op.value} {problem}.")
    if len(graph.outputs) != len(graph.output_formats):
        raise ValueError(f"{len(graph.outputs)} outputs have {len(graph.output_formats)} formats.")
    for port, (number, form) in enumerate(zip(graph.outputs, graph.output_formats, strict=True)):
        if not 0 <= number < len(graph.nodes):
            raise ValueError(f"y{port} is driven by n{number}, which does not exist.")
        node = graph.nodes[number]
        if not (form.low <= node.low and node.high <= form.high):
            raise ValueError(f"the format of y{port} does not hold the bounds of n{number}.")
    _check_ports("y", graph.output_formats)


def _check_ports(name: str, formats: Sequence[Format]) -> None:
    """Raise ValueError where a port is too wide, or its step or its values are no floating-point numbers."""
    for port, form in enumerate(formats):
        if form.width > MAX_BITS:
            raise ValueError(f"{name}{port} has {form.width} bits, and words have at most {MAX_BITS}.")
        least, most = exponents_of(form)
        if not least <= form.exponent <= most:
            raise ValueError(
                f"{name}{port} has the exponent {form.exponent}, and with {form.width} bits it must be in "
                f"{least} .. {most}."
            )


def exponents_of(form: Format) -> tuple[int, int]:
    """Return the least and the largest exponent with which the step and the values of a port are doubles."""
    place = math.frexp(form.scale)[1] - 1
    return LEAST_EXPONENT - place, MAX_EXPONENT - form.width - place


def fits(graph: Graph) -> bool:
    """Return whether the words of a graph from a builder are short enough; if not, its numbers are too fine."""
    return not any(node.width > MAX_BITS or _problem_of_length(graph, node) for node in graph.nodes)


def _problem(graph: Graph, number: int, node: Node) -> str | None:
    """Return what is wrong with a node, None if nothing is."""
    if any(not 0 <= arg < number for arg in node.args):
        return "uses a node that does not come before it"
    if not _shaped(node):
        return f"has {len(node.args)} arguments and {len(node.data)} constants"
    args = [graph.nodes[arg] for arg in node.args]
    if node.op in _OF_BITS and any(arg.low < 0 or arg.high > 1 for arg in args):
        return "needs bits"
    if problem := _problem_of_data(graph, node) or _problem_of_length(graph, node):
        return problem
    bounds = BOUNDS[node.op](args, node.data, graph.input_formats)
    if bounds != (node.low, node.high):
        return f"has bounds {node.low} .. {node.high}, and {bounds[0]} .. {bounds[1]} follow from its arguments"
    return f"has {node.width} bits, and words have at most {MAX_BITS}" if node.width > MAX_BITS else None


def _shaped(node: Node) -> bool:
    """Return whether a node has as many arguments and constants as its operation takes."""
    n_args, n_data = _SHAPES[node.op]
    if n_data is None:
        return len(node.data) == len(node.args) + 1 > 1
    return len(node.data) == n_data and (
        2 <= len(node.args) <= MAX_BITS if n_args is None else len(node.args) == n_args
    )


def _problem_of_data(graph: Graph, node: Node) -> str | None:
    if node.op is Op.CLAMP and node.data[0] > node.data[1]:
        return "has limits in the wrong order"
    if node.op is Op.INPUT and not 0 <= node.data[0] < len(graph.input_formats):
        return f"reads port {node.data[0]}, which does not exist"
    if node.op is Op.SUM and any(abs(weight).bit_count() != 1 for weight in node.data[1:]):
        return "has weights that are not powers of two"
    return None


def largest_part(node: Node, args: Iterable[Node]) -> int:
    """Return a bound of the size of every partial sum of a sum, in whatever order its terms are added."""
    return abs(node.data[0]) + sum(
        abs(weight) * max(abs(arg.low), abs(arg.high)) for arg, weight in zip(args, node.data[1:], strict=True)
    )


def _problem_of_length(graph: Graph, node: Node) -> str | None:
    """Return what is too long beside the result of a node, None if nothing is."""
    if node.op in (Op.ADD, Op.SUBTRACT, Op.FLOOR, Op.BIT) and not 0 <= min(node.data) <= max(node.data) <= MAX_BITS:
        return f"has shifts outside 0 .. {MAX_BITS}"
    if node.op in (Op.ADD, Op.SUBTRACT):
        longest = max(graph.nodes[arg].width + shift for arg, shift in zip(node.args, node.data, strict=True))
        if longest > MAX_BITS:
            return f"shifts an argument to {longest} bits, and words have at most {MAX_BITS}"
    if node.op is Op.SUM and largest_part(node, (graph.nodes[arg] for arg in node.args)) >> MAX_BITS - 1:
        return f"has parts of more than {MAX_BITS} bits"
    if node.op in (Op.CLAMP, Op.AT_MOST) and width(min(node.data), max(node.data)) > MAX_BITS:
        return f"has constants of more than {MAX_BITS} bits"
    return None
