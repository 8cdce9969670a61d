"""Random graphs, a slow exact oracle for them, and hand-made circuits of the kinds that models become.

The oracle shares nothing with the package but the names of the operations; it computes one row at a time with Python's
own integers and fractions.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np

from sklearn_htmc.circuit import Builder, Format, Graph, Node, Op
from sklearn_htmc.circuit._graph import BOUNDS

# --- the oracle -----------------------------------------------------------------------------------


MEANINGS = {
    Op.INPUT: lambda code, _: code,
    Op.CONSTANT: lambda c: c,
    Op.ADD: lambda a, b, s, t: a * 2**s + b * 2**t,
    Op.SUBTRACT: lambda a, b, s, t: a * 2**s - b * 2**t,
    Op.SUM: lambda *all_: _weighted(*all_),
    Op.FLOOR: lambda a, s: math.floor(Fraction(a, 2**s)),
    Op.RELU: lambda a: a if a > 0 else 0,
    Op.CLAMP: lambda a, low, high: sorted([low, a, high])[1],
    Op.AT_MOST: lambda a, c: int(not a > c),
    Op.BIT: lambda a, s: int(f"{a % 2**70:070b}"[-1 - s]),
    Op.NOT: lambda a: {0: 1, 1: 0}[a],
    Op.AND: lambda a, b: {0: 0, 1: 0, 2: 1}[a + b],
    Op.OR: lambda a, b: {0: 0, 1: 1, 2: 1}[a + b],
    Op.XOR: lambda a, b: {0: 0, 1: 1, 2: 0}[a + b],
    Op.JOIN: lambda *bits: int("".join(str(bit) for bit in reversed(bits)), base=2),
}


def _weighted(*numbers):
    """Return c + u a + v b + ... for the numbers a, b, ..., c, u, v, ..."""
    words, constant, weights = (
        numbers[: len(numbers) // 2],
        numbers[len(numbers) // 2],
        numbers[len(numbers) // 2 + 1 :],
    )
    return constant + sum(weight * word for weight, word in zip(weights, words, strict=True))


def oracle(graph, row):
    """Return the integers at the output ports for one integer per input port, which Python does not round."""
    values = []
    for node in graph.nodes:
        args = [row[node.data[0]]] if node.op is Op.INPUT else [values[arg] for arg in node.args]
        values.append(MEANINGS[node.op](*args, *node.data))
        assert node.low <= values[-1] <= node.high
    return [values[number] for number in graph.outputs]


def oracle_codes(graph, codes):
    """Return the integers at the output ports for arrays of integers at the input ports, of shape (n_rows,) each."""
    rows = zip(*(code.tolist() for code in codes), strict=True)
    return [np.array(column) for column in zip(*(oracle(graph, row) for row in rows), strict=True)]


# --- integers and bits ----------------------------------------------------------------------------


def codes_for(graph, rng, n_rows=1000):
    """Return integers for the input ports: all combinations of the ends of their words, then any."""
    formats = graph.input_formats
    corners = list(itertools.product(*((form.word) for form in formats)))
    ends = [
        [
            rng.choice([*form.word, form.low, form.high, 0])
            if rng.random() < 0.3
            else rng.integers(*form.word, endpoint=True)
            for form in formats
        ]
        for _ in range(n_rows - len(corners))
    ]
    return [np.array(column, dtype=np.int64) for column in zip(*corners, *ends, strict=True)]


def bits_of(codes, form):
    """Return for every wire of a word the integer whose bits are its values in all rows."""
    return [sum(int(bit) << row for row, bit in enumerate(codes >> place & 1)) for place in range(form.width)]


def codes_of(wires, form, n_rows):
    """Return the integers of a word from the values of its wires."""
    codes = np.zeros(n_rows, dtype=np.int64)
    for place, wire in enumerate(wires):
        weight = -1 if form.signed and place == form.width - 1 else 1
        codes += np.array([weight * (wire >> row & 1) for row in range(n_rows)], dtype=np.int64) << place
    return codes


# --- random graphs --------------------------------------------------------------------------------


class RandomGraph:
    """Makes a graph of all operations, half of it past the builder: with dead, constant and redundant nodes."""

    def __init__(self, seed, n_nodes=60, max_bits=40):
        self.rng = np.random.default_rng(seed)
        low, span = self.rng.integers(-60, 20, 4), self.rng.integers(0, 90, 4)
        self.build = Builder([Format(int(a), int(a + b), 0) for a, b in zip(low, span, strict=True)])
        self.max_bits = max_bits
        self.words = [self.build.input(port) for port in range(4)]
        self.words += [self.build.saturated_input(port) for port in range(4)]
        self.words += [self.build.constant(int(c)) for c in self.rng.integers(-40, 40, 2)]
        self.bits = [self.build.at_most(word, int(self.rng.integers(-30, 30))) for word in self.words]
        self.bits = [bit for bit in self.bits if self.build.value(bit) is None] or [self.build.constant(1)]
        makers = [
            self.sum,
            self.sum,
            self.weighted,
            self.bit,
            self.floor,
            self.relu,
            self.clamp,
            self.at_most,
            self.logic,
            self.join,
            self.constant,
        ]
        for _ in range(n_nodes):
            makers[self.rng.integers(len(makers))]()

    def integers(self, *limits):
        return tuple(int(i) for i in self.rng.integers(*limits))

    def some(self, numbers):
        return int(self.rng.choice(numbers[-12:] if self.rng.random() < 0.7 else numbers))

    def node(self, numbers, op, args, data=()):
        """Make a node as it is, whatever a builder would make of it."""
        build = self.build
        low, high = BOUNDS[op]([build.nodes[arg] for arg in args], data, build.input_formats)
        node = Node(op, args, data, low, high)
        if node.width <= self.max_bits:
            numbers.append(len(build.nodes))
            build.nodes.append(node)

    def built(self, numbers, number):
        if self.build.nodes[number].width <= self.max_bits:
            numbers.append(number)

    def by(self, numbers, make, op, args, data=()):
        """Make a node with the builder or without it."""
        if self.rng.random() < 0.5:
            self.built(numbers, make(*args, *data))
        else:
            self.node(numbers, op, args, data)

    def sum(self):
        a, b, shifts = self.some(self.words), self.some(self.words), self.integers(0, 5, 2)
        if self.rng.random() < 0.5:
            self.by(self.words, self.build.add, Op.ADD, (a, b), shifts)
        else:
            self.by(self.words, self.build.subtract, Op.SUBTRACT, (a, b), shifts)

    def weighted(self):
        """Make a sum of words and bits with signed powers of two, some terms twice."""
        n_terms = int(self.rng.integers(1, 6))
        args = tuple(self.some(self.words if self.rng.random() < 0.6 else self.bits) for _ in range(n_terms))
        weights = tuple(int(self.rng.choice([-1, 1])) << shift for shift in self.integers(0, 5, n_terms))
        (constant,) = self.integers(-99, 99, 1)
        if self.rng.random() < 0.5:
            self.built(self.words, self.build.sum(zip(args, weights, strict=True), constant))
        else:
            self.node(self.words, Op.SUM, args, (constant, *weights))

    def bit(self):
        self.by(self.bits, self.build.bit, Op.BIT, (self.some(self.words),), self.integers(0, 8, 1))

    def floor(self):
        self.by(self.words, self.build.floor, Op.FLOOR, (self.some(self.words),), self.integers(0, 9, 1))

    def relu(self):
        self.by(self.words, self.build.relu, Op.RELU, (self.some(self.words + self.bits),))

    def clamp(self):
        limits = tuple(sorted(self.integers(-120, 120, 2)))
        self.by(self.words, self.build.clamp, Op.CLAMP, (self.some(self.words + self.bits),), limits)

    def at_most(self):
        self.by(self.bits, self.build.at_most, Op.AT_MOST, (self.some(self.words),), self.integers(-120, 120, 1))

    def logic(self):
        a, b = self.some(self.bits), self.some(self.bits)
        self.by(self.bits, self.build.negation, Op.NOT, (a,))
        self.by(self.bits, self.build.conjunction, Op.AND, (self.some(self.bits), b))
        self.by(self.bits, self.build.disjunction, Op.OR, (self.some(self.bits), a))
        self.by(self.bits, self.build.difference, Op.XOR, (self.some(self.bits), self.some(self.bits)))

    def join(self):
        bits = tuple(self.some(self.bits) for _ in range(int(self.rng.integers(2, 6))))
        if self.rng.random() < 0.5:
            self.built(self.words, self.build.join(bits))
        else:
            self.node(self.words, Op.JOIN, bits)

    def constant(self):
        self.words.append(self.build.constant(int(self.rng.integers(-500, 500))))

    def graph(self):
        """Return a graph with outputs that depend on much; dead nodes stay in it."""
        nodes = tuple(self.build.nodes)
        varying = [number for number in self.words[8:] if nodes[number].low < nodes[number].high]
        outputs = (*varying[-6:], self.words[-1], *self.bits[-3:])
        formats = tuple(Format(nodes[number].low, nodes[number].high, -place) for place, number in enumerate(outputs))
        return Graph(nodes, outputs, self.build.input_formats, formats)


def random_graph(seed):
    return RandomGraph(seed).graph()


# --- circuits of the kinds that models become -----------------------------------------------------


def signed_digits(rng, bits, most=12):
    """Return a random number of some bits as (sign, place), no two of them next to each other."""
    left, place, digits = int(rng.integers(1 << (bits - 2), 1 << bits)), 0, []
    while left:
        if left & 1:
            digit = 2 - (left & 3)
            digits.append((digit, place))
            left -= digit
        left, place = left >> 1, place + 1
    sign = int(rng.choice([-1, 1]))
    return [(sign * digit, place) for digit, place in digits[-most:]]


def plus(build, total, word, digits):
    for sign, place in digits:
        total = (build.add if sign > 0 else build.subtract)(total, word, 0, place)
    return total


def adder_chain(seed):
    rng = np.random.default_rng(seed)
    build = Builder([Format(-100, 100, 0), Format(0, 200, 0), Format(-1000, 3, 0), Format(0, 15, 0)])
    total = build.input(0)
    for port in range(1, 4):
        total = build.add(total, build.input(port), 0, int(rng.integers(3)))
    return build.graph([total], [0])


def multiplication(seed):
    rng = np.random.default_rng(seed)
    build = Builder([Format(-128, 127, 0)])
    total = plus(build, build.constant(int(rng.integers(1, 100))), build.input(0), signed_digits(rng, 8))
    return build.graph([build.floor(total, 4)], [0])


def affine(seed, n_features=4, bits=8):
    rng = np.random.default_rng(seed)
    build = Builder([Format(-90, int(high), 0) for high in rng.integers(40, 128, n_features)])
    total = build.constant(int(rng.integers(-300, 300)))
    for port in range(n_features):
        total = plus(build, total, build.saturated_input(port), signed_digits(rng, bits, 3))
    return build.graph([build.floor(total, 3)], [0])


def network(seed, n_features=3, widths=(4, 3)):
    rng = np.random.default_rng(seed)
    build = Builder([Format(-20, 30, 0)] * n_features)
    words = [build.saturated_input(port) for port in range(n_features)]
    for n_units in (*widths, 1):
        rows = []
        for _ in range(n_units):
            total = build.constant(int(rng.integers(-100, 100)))
            for word in rng.choice(words, 2, replace=False):
                total = plus(build, total, int(word), signed_digits(rng, 4, 2))
            rows.append(build.floor(total, 4))
        words = [build.relu(row) for row in rows]
    return build.graph(rows, [0])


def comparators(seed, n_constants, bits=10):
    rng = np.random.default_rng(seed)
    build = Builder([Format(-(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0)])
    constants = rng.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1, n_constants)
    bits = [build.at_most(build.input(0), int(constant)) for constant in np.unique(constants)]
    return build.graph(bits, [0] * len(bits))


def trees(seed, n_trees, depth, n_features=3, bits=8):
    """Sum of trees: every place of a leaf value is one where the row is at one of the leaves that have it."""
    rng = np.random.default_rng(seed)
    build = Builder([Format(-64, 63, 0)] * n_features)
    words = []
    for _ in range(n_trees):
        root = _split(rng, build, None, depth, {port: (-64, 63) for port in range(n_features)}, bits)
        words.append(build.join([_place_of_leaves(build, root, place) for place in range(bits)]))
    total = build.constant(-n_trees << (bits - 1))
    for word in words:
        total = build.add(total, word)
    return build.graph([total], [0])


def _split(rng, build, path, depth, box, bits):
    """Return (path, value) for a leaf and (path, left, right) for a split; a path is a bit, None for the root."""
    port = int(rng.integers(len(box)))
    low, high = box[port]
    if depth == 0 or high <= low:
        return path, int(rng.integers(1 << bits))
    limit = int(rng.integers(low, high))
    left = build.at_most(build.input(port), limit)
    sides = []
    for bit, inside in ((left, (low, limit)), (build.negation(left), (limit + 1, high))):
        onwards = bit if path is None else build.conjunction(path, bit)
        sides.append(_split(rng, build, onwards, depth - 1, box | {port: inside}, bits))
    return path, *sides


def _paths(tree, place, bit):
    """Return the paths to the leaves that have a bit at a place; one path where that is all of a subtree."""
    if len(tree) == 2:
        return [tree[0]] if tree[1] >> place & 1 == bit else []
    left, right = (_paths(side, place, bit) for side in tree[1:])
    return [tree[0]] if left == [tree[1][0]] and right == [tree[2][0]] else left + right


def _place_of_leaves(build, tree, place):
    ones, zeros = _paths(tree, place, 1), _paths(tree, place, 0)
    if ones == [None]:
        return build.constant(1)
    total = build.constant(0)
    for path in min(ones, zeros, key=len):
        total = build.disjunction(total, path)
    return total if len(ones) <= len(zeros) else build.negation(total)
