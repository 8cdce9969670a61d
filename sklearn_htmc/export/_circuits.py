"""A circuit as ONNX operators on int64 words and bool bits: all words of one depth and operation are one tensor.

So a circuit of thousands of nodes is some dozens of operators. Tensors have the shape (n_words, n_samples).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats, Format, Integers
from sklearn_htmc.circuit._graph import MAX_BITS, Graph, Node, Op, needed
from sklearn_htmc.export._emitter import Emitter

_SAFE_EXPONENT = 1000  # larger powers of two are multiplied by in two steps


class _Batch(NamedTuple):
    """Nodes of one depth and operation, with as many arguments each, and the nodes of these arguments."""

    nodes: list[Node]
    args: list[tuple[Node, ...]]


class _Entry(NamedTuple):
    """How an operation is written, from tensors of its arguments to one of its values.

    Attributes
    ----------
    of_bits, to_bits : bool
        Whether arguments and values are bits, as bool, or words, as int64.
    write : callable
        Writes the operation for a batch.
    """

    of_bits: bool
    to_bits: bool
    write: Callable[[Emitter, Sequence[str], _Batch], str]


def _column(numbers: Sequence[int]) -> Integers:
    return np.array(numbers, dtype=np.int64)[:, None]


def _data(batch: _Batch, place: int, plus: int = 0) -> Integers:
    """Return a constant of every node as a column."""
    return _column([node.data[place] + plus for node in batch.nodes])


def _places(batch: _Batch) -> list[int]:
    """Return shifts; words have MAX_BITS bits, so one place less says the same and leaves room for carries."""
    return [min(node.data[0], MAX_BITS - 1) for node in batch.nodes]


def _floor(emit: Emitter, words: Sequence[str], batch: _Batch) -> str:
    # Integer division rounds to zero: it is the floor of what is not negative.
    places = _places(batch)
    multiples = [-(min(arg.low, 0) >> place) for (arg,), place in zip(batch.args, places, strict=True)]
    raised, word = _column([n << place for n, place in zip(multiples, places, strict=True)]), words[0]
    word = emit("Add", word, raised) if raised.any() else word
    word = emit("Div", word, _column([1 << place for place in places]))
    return emit("Sub", word, _column(multiples)) if raised.any() else word


def _bit(emit: Emitter, words: Sequence[str], batch: _Batch) -> str:
    # The remainder has the sign of the divisor.
    places = _places(batch)
    remainder = emit("Mod", words[0], _column([2 << place for place in places]))
    return emit("Less", _column([(1 << place) - 1 for place in places]), remainder)


def _clamp(emit: Emitter, words: Sequence[str], batch: _Batch) -> str:
    return emit("Min", emit("Max", words[0], _data(batch, 0)), _data(batch, 1))


_ENTRIES: dict[Op, _Entry] = {
    Op.FLOOR: _Entry(False, False, _floor),
    Op.RELU: _Entry(False, False, lambda emit, a, _: emit("Max", a[0], np.array(0))),
    Op.CLAMP: _Entry(False, False, _clamp),
    Op.AT_MOST: _Entry(False, True, lambda emit, a, batch: emit("Less", a[0], _data(batch, 0, plus=1))),
    Op.BIT: _Entry(False, True, _bit),
    Op.NOT: _Entry(True, True, lambda emit, a, _: emit("Not", a[0])),
    Op.AND: _Entry(True, True, lambda emit, a, _: emit("And", a[0], a[1])),
    Op.OR: _Entry(True, True, lambda emit, a, _: emit("Or", a[0], a[1])),
    Op.XOR: _Entry(True, True, lambda emit, a, _: emit("Xor", a[0], a[1])),
}

# The others are sums with weights: the constant, then the weight of every argument.
_WEIGHTS: dict[Op, Callable[[Node], tuple[int, ...]]] = {
    Op.ADD: lambda node: (0, 1 << node.data[0], 1 << node.data[1]),
    Op.SUBTRACT: lambda node: (0, 1 << node.data[0], -(1 << node.data[1])),
    Op.SUM: lambda node: node.data,
    Op.JOIN: lambda node: (0, *(1 << place for place in range(len(node.args)))),
}


def write_circuit(emit: Emitter, graph: Graph, X: str) -> str:
    """Write a circuit of the float64 tensor ``X`` of shape (n_samples, n_features); return that of the targets."""
    words = _Words(emit, graph)
    for (_, op, _), numbers in _levels(words.nodes):
        if op is Op.INPUT:
            words.add(numbers, _codes(emit, X, [words.nodes[number].data[0] for number in numbers], graph))
        elif op is Op.CONSTANT:
            n_rows = emit("Gather", emit("Shape", X), np.array([0]))
            values = _column([words.nodes[number].data[0] for number in numbers])
            words.add(numbers, emit("Expand", values, n_rows))
        elif op is Op.SUM:
            words.add(numbers, _sums(emit, words, numbers))
        else:
            words.add(numbers, _written(emit, words, op, numbers), bits=_ENTRIES[op].to_bits)
    y = _values(emit, emit.cast(words.gather(np.array(graph.outputs), bits=False), np.float64), graph.output_formats)
    return emit("Transpose", y, perm=[1, 0])


def _levels(nodes: dict[int, Node]) -> list[tuple[tuple[int, Op, int], list[int]]]:
    """Return nodes by depth, operation and terms of a sum, arguments first."""
    depth: dict[int, int] = {}
    found: dict[tuple[int, Op, int], list[int]] = {}
    for number, node in nodes.items():
        depth[number] = 1 + max((depth[arg] for arg in node.args), default=0)
        is_sum = node.op in _WEIGHTS
        key = (depth[number], Op.SUM if is_sum else node.op, _n_terms(node) if is_sum else 0)
        found.setdefault(key, []).append(number)
    return sorted(found.items(), key=lambda item: item[0][0])


def _n_terms(node: Node) -> int:
    """Return the number of terms that a sum is filled up to: a power of two, so that few lengths occur."""
    return 1 << (len(node.args) - 1).bit_length()


class _Words:
    """Where the value of every node is: a row of a tensor.

    Attributes
    ----------
    nodes : dict of int to Node
        What the outputs depend on.
    """

    def __init__(self, emit: Emitter, graph: Graph) -> None:
        self.nodes = dict(needed(graph))
        self._emit = emit
        self._tensors: list[tuple[str, bool, int]] = []  # name, whether it holds bits, rows
        self._at: dict[int, tuple[int, int]] = {}  # number of a node: tensor and row

    def add(self, numbers: Sequence[int], tensor: str, *, bits: bool = False) -> None:
        """Take note of a tensor with the values of some nodes."""
        self._at.update({number: (len(self._tensors), row) for row, number in enumerate(numbers)})
        self._tensors.append((tensor, bits, len(numbers)))

    def gather(self, numbers: NDArray[np.int64], *, bits: bool) -> str:
        """Return a tensor of shape (*numbers.shape, n_samples) with the values of nodes, as bits or as words."""
        found = [self._at[number] for number in numbers.ravel().tolist()]
        rows: dict[int, dict[int, None]] = {}
        for tensor, row in found:
            rows.setdefault(tensor, {})[row] = None
        parts, place = list[str](), dict[tuple[int, int], int]()
        for tensor, wanted in rows.items():
            parts.append(self._rows_of(tensor, list(wanted), bits=bits))
            for row in wanted:
                place[tensor, row] = len(place)
        joined = parts[0] if len(parts) == 1 else self._emit("Concat", *parts, axis=0)
        at = np.array([place[there] for there in found], dtype=np.int64)
        if numbers.ndim == 1 and np.array_equal(at, np.arange(len(place))):
            return joined
        return self._emit("Gather", joined, at.reshape(numbers.shape), axis=0)

    def _rows_of(self, tensor: int, rows: list[int], *, bits: bool) -> str:
        name, holds_bits, n_rows = self._tensors[tensor]
        if rows != list(range(n_rows)):
            name = self._emit("Gather", name, np.array(rows), axis=0)
        return name if bits == holds_bits else self._emit.cast(name, np.bool_ if bits else np.int64)


def _written(emit: Emitter, words: _Words, op: Op, numbers: Sequence[int]) -> str:
    nodes = [words.nodes[number] for number in numbers]
    batch = _Batch(nodes, [tuple(words.nodes[arg] for arg in node.args) for node in nodes])
    places = zip(*(node.args for node in nodes), strict=True)
    args = [words.gather(np.array(place), bits=_ENTRIES[op].of_bits) for place in places]
    return _ENTRIES[op].write(emit, args, batch)


def _sums(emit: Emitter, words: _Words, numbers: Sequence[int]) -> str:
    nodes = [words.nodes[number] for number in numbers]
    n_terms = _n_terms(nodes[0])
    args = np.array([node.args + node.args[:1] * (n_terms - len(node.args)) for node in nodes])
    constants, weights = np.zeros((len(nodes), 1), dtype=np.int64), np.zeros(args.shape, dtype=np.int64)
    for row, node in enumerate(nodes):
        constants[row], *powers = _WEIGHTS[node.op](node)
        weights[row, : len(powers)] = powers
    terms = words.gather(args, bits=False)  # (n_sums, n_terms, n_samples)
    # Products of matrices of integers are exact; onnxruntime computes a ReduceSum of them in doubles.
    total = emit("Squeeze", emit("MatMul", weights[:, None, :], terms), np.array([1]))
    return emit("Add", total, constants) if constants.any() else total


# Both conversions are the operations of `Format` one by one, so that they round alike.


def _codes(emit: Emitter, X: str, ports: Sequence[int], graph: Graph) -> str:
    """Write `Format.encode` for some ports: nearest codes, ties to even, saturated."""
    forms: list[Format] = [graph.input_formats[port] for port in ports]
    low, high = _column([form.low for form in forms]), _column([form.high for form in forms])
    values = emit("Gather", emit("Transpose", X, perm=[1, 0]), np.array(ports), axis=0)
    scales, offsets = _units(forms)
    values = emit("Sub", values, offsets) if offsets.any() else values
    values = emit("Div", values, scales) if (scales != 1.0).any() else values
    scaled = _times_power(emit, values, [-form.exponent for form in forms])
    inside = emit("Min", emit("Max", scaled, low.astype(np.float64)), high.astype(np.float64))
    codes = emit.cast(emit("Round", inside), np.int64)
    return emit("Min", emit("Max", codes, low), high)  # long bounds are no doubles


def _values(emit: Emitter, codes: str, forms: Sequence[Format]) -> str:
    """Write `Format.decode` for some ports."""
    scales, offsets = _units(forms)
    values = emit("Mul", codes, scales) if (scales != 1.0).any() else codes
    values = _times_power(emit, values, [form.exponent for form in forms])
    return emit("Add", values, offsets) if offsets.any() else values


def _units(forms: Sequence[Format]) -> tuple[Floats, Floats]:
    """Return scales and offsets as columns."""
    return np.array([[form.scale] for form in forms]), np.array([[form.offset] for form in forms])


def _times_power(emit: Emitter, values: str, exponents: Sequence[int]) -> str:
    """Write the product of every row with a power of two, which may be one that no double holds."""
    column = np.array(exponents)[:, None]
    if np.abs(column).max() <= _SAFE_EXPONENT:
        return emit("Mul", values, _power(column))
    return emit("Mul", emit("Mul", values, _power(column // 2)), _power(column - column // 2))


def _power(exponents: NDArray[np.int64]) -> Floats:
    return np.ldexp(1.0, exponents)
