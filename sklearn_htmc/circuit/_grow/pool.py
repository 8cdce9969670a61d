"""The bits that growth may add: comparisons and high bits of inputs, and conjunctions that were made for a term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Integers
from sklearn_htmc.circuit._graph import Builder
from sklearn_htmc.circuit._grow.ports import Ports

Bits = NDArray[np.bool_]
Singles = NDArray[np.float32]

_BLOCK = 16  # columns that are made numbers at once


class Above(NamedTuple):
    """The bit that says whether the code of a feature is above a constant."""

    feature: int
    cut: int

    def column(self, codes: Sequence[Integers]) -> Bits:
        """Return the bit on rows with some integers at the ports."""
        return np.asarray(codes[self.feature] > self.cut)


class Digit(NamedTuple):
    """A bit of the code of a feature."""

    feature: int
    place: int

    def column(self, codes: Sequence[Integers]) -> Bits:
        """Return the bit on rows with some integers at the ports."""
        return (codes[self.feature] >> self.place & 1).astype(np.bool_)


class Both(NamedTuple):
    """The conjunction of two bits of a pool, each of which may be inverted."""

    first: int
    second: int
    inverted: tuple[bool, bool]

    @classmethod
    def ordered(cls, bit: int, not_bit: bool, other: int, not_other: bool) -> Both:
        """Return a conjunction with the bit of the smaller number first."""
        if bit < other:
            return cls(bit, other, (not_bit, not_other))
        return cls(other, bit, (not_other, not_bit))

    def column(self, first: Bits, second: Bits) -> Bits:
        """Return the conjunction of the values of the two bits."""
        not_first, not_second = self.inverted
        return np.asarray((first ^ not_first) & (second ^ not_second))


Definition = Above | Digit | Both


def products(columns: Bits, places: Sequence[int], values: Singles) -> Singles:
    """Return the sums over the rows of some bits times some values.

    Parameters
    ----------
    columns : ndarray of shape (n_bits, n_rows)
        Bits.
    places : sequence of int
        Which of them.
    values : ndarray of shape (n_values, n_rows)
        Values.

    Returns
    -------
    ndarray of shape (len(places), n_values)
        The sums.
    """
    found = np.empty((len(places), len(values)), dtype=np.float32)
    bytes_of = columns.view(np.uint8)  # whose conversion to numbers is faster
    for first in range(0, len(places), _BLOCK):
        some = slice(first, first + _BLOCK)
        np.matmul(bytes_of[places[some]].astype(np.float32), values.T, out=found[some])
    return found


class Pool:
    """Bits on some rows, what they cost, and who reads them.

    Parameters
    ----------
    ports : Ports
        Formats and comparisons.
    codes : list of ndarray of shape (n_rows,)
        Integers at the input ports.

    Attributes
    ----------
    definitions : list of Definition
        What the bits are; a conjunction comes after what it is made of.
    n_first : int
        Number of bits that are there from the beginning: they belong to inputs.
    is_low : list of bool
        Whether the bits are lower ones of a feature, which go up and down with it.
    own : list of float
        Gates of the bits themselves.
    n_readers : list of int
        Terms and read conjunctions that read the bits.
    """

    def __init__(self, ports: Ports, codes: list[Integers]) -> None:
        of_inputs = list[Above | Digit]()
        self.is_low: list[bool] = []
        gates = list[float]()
        for feature, word in enumerate(codes):
            for cut in ports.cuts[feature]:
                of_inputs.append(Above(feature, cut))
                gates.append(ports.comparison_gates(feature, cut))
            high_bits = ports.high_bits(feature, word)
            for place in high_bits:
                of_inputs.append(Digit(feature, place))
                gates.append(0.0)
            n_low = max(len(high_bits) - 1, 0)
            self.is_low += [False] * (len(gates) - len(self.is_low) - n_low) + [True] * n_low
        self.definitions: list[Definition] = [*of_inputs]
        self.n_first = len(of_inputs)
        self._columns = np.zeros((len(gates), len(codes[0])), dtype=np.bool_)
        for number, definition in enumerate(of_inputs):
            self._columns[number] = definition.column(codes)
        self.own, self.n_readers = gates, [0] * len(gates)
        self._known: dict[Both, int] = {}

    def __len__(self) -> int:
        return len(self.definitions)

    @property
    def columns(self) -> Bits:
        """Values of the bits, of shape (n_bits, n_rows)."""
        return self._columns[: len(self)]

    def products(self, bits: Sequence[int], values: Singles) -> Singles:
        """Return `products` of some bits of the pool."""
        return products(self._columns, bits, values)

    def conjunction(self, both: Both) -> int:
        """Return the number of a conjunction, which is made where there is none yet."""
        number = self._known.get(both)
        if number is None:
            number = self._known[both] = len(self)
            if number >= len(self._columns):
                # What is not written yet takes no memory.
                columns = np.empty((number + max(64, number // 2), self._columns.shape[1]), dtype=np.bool_)
                columns[:number] = self._columns
                self._columns = columns
            self._columns[number] = self.value(both)
            self.definitions.append(both)
            self.own.append(1.0)
            self.is_low.append(False)
            self.n_readers.append(0)
        return number

    def number(self, bit: int | Both) -> int | None:
        """Return the number of a bit; None for a conjunction that has not been made."""
        return self._known.get(bit) if isinstance(bit, Both) else bit

    def column(self, bit: int | Both) -> Bits:
        """Return the values of a bit, or of a conjunction that may not have been made."""
        return self.value(bit) if isinstance(bit, Both) else self._columns[bit]

    def value(self, both: Both) -> Bits:
        """Return the values of a conjunction."""
        return both.column(self._columns[both.first], self._columns[both.second])

    def cost(self, bit: int | Both) -> float:
        """Return the gates that a bit takes where nothing but what is read exists."""
        if isinstance(bit, Both):
            known = self._known.get(bit)
            return 1.0 + self.cost(bit.first) + self.cost(bit.second) if known is None else self.cost(known)
        if self.n_readers[bit]:
            return 0.0
        definition = self.definitions[bit]
        below = self.cost(definition.first) + self.cost(definition.second) if isinstance(definition, Both) else 0.0
        return self.own[bit] + below

    def costs(self) -> list[float]:
        """Return the costs of all bits."""
        found = list[float]()
        for definition, own, n_readers in zip(self.definitions, self.own, self.n_readers, strict=True):
            if n_readers:
                found.append(0.0)
            elif isinstance(definition, Both):
                found.append(own + found[definition.first] + found[definition.second])
            else:
                found.append(own)
        return found

    def costs_of_inputs(self) -> list[float]:
        """Return the costs of the bits of inputs."""
        readers = self.n_readers[: self.n_first]
        return [0.0 if n else own for own, n in zip(self.own, readers, strict=False)]

    def saved(self, bit: int) -> float:
        """Return the gates that go with the only reader of a bit; none where there are more."""
        if self.n_readers[bit] > 1:
            return 0.0
        definition = self.definitions[bit]
        below = self.saved(definition.first) + self.saved(definition.second) if isinstance(definition, Both) else 0.0
        return self.own[bit] + below

    def read(self, bit: int, change: int) -> None:
        """Count one more reader of a bit, or one less."""
        before = self.n_readers[bit]
        self.n_readers[bit] += change
        definition = self.definitions[bit]
        if isinstance(definition, Both) and (before == 0 or before + change == 0):
            self.read(definition.first, change)
            self.read(definition.second, change)


class Writer:
    """Writes bits of a pool into a graph, each once.

    Parameters
    ----------
    build : Builder
        Where to.
    definitions : sequence of Definition
        The pool.
    """

    def __init__(self, build: Builder, definitions: Sequence[Definition]) -> None:
        self.build, self.definitions = build, definitions
        self._made: dict[int, int] = {}

    def bit(self, number: int) -> int:
        """Return the node of a bit."""
        if number not in self._made:
            self._made[number] = self._written(self.definitions[number])
        return self._made[number]

    def _written(self, definition: Definition) -> int:
        build = self.build
        if isinstance(definition, Above):
            return build.negation(build.at_most(build.input(definition.feature), definition.cut))
        if isinstance(definition, Digit):
            return build.bit(build.input(definition.feature), definition.place)
        ends = (self.bit(definition.first), self.bit(definition.second))
        signed = zip(ends, definition.inverted, strict=True)
        return build.conjunction(*(build.negation(end) if inverted else end for end, inverted in signed))
