"""Growth: terms come at a price of a gate that falls from level to level.

Circuits of sums are the convex hull of circuits, so adding small ones greedily, each at its price in gates, is the
conditional-gradient method on that set. At every level the terms that lower ``squared error + price * gates`` come, the
weights settle, and terms that are no longer worth their gates go. The levels are the path of circuits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats, Integers
from sklearn_htmc.circuit._graph import Builder, Graph
from sklearn_htmc.circuit._grow.candidates import Candidates, views
from sklearn_htmc.circuit._grow.pool import Bits, Both, Definition, Pool, Writer
from sklearn_htmc.circuit._grow.ports import Ports
from sklearn_htmc.circuit._grow.swaps import Swaps
from sklearn_htmc.circuit._grow.terms import Terms

FACTOR = 0.7  # between the prices of levels
LARGEST = 0.05  # price of the first level, in units of the variance
_LOOKED_AT = 96  # candidates per step
_AT_ONCE = 12  # of which are added at most, or a tenth of the terms
_MOST_STEPS = 40  # per level
_IN_VAIN = 3  # steps that add nothing, where each looks at other rows, after which a level ends
_ALONE = 53  # significant bits of an output without terms: those of a double
_LAST = -8  # binary place of constants, which take no gates where there are no weights


def prices_down_to(last: float, factor: float = FACTOR) -> list[float]:
    """Return the prices of the levels; the last one is the number given."""
    found = [LARGEST]
    while found[-1] > last:
        found.append(found[-1] * factor)
    return [*found[:-1], last]


@dataclass(frozen=True, eq=False)
class Level:
    """The sums at one price of a gate.

    Attributes
    ----------
    price : float
        The price.
    bits : ndarray of shape (n_terms,)
        Bits of the terms, as numbers of a pool.
    sizes : ndarray of shape (n_terms, n_outputs)
        Their weights, signed powers of two or zero.
    constants : ndarray of shape (n_outputs,)
        Constants of the sums.
    loss : float
        Weighted mean square error.
    gates : float
        About how many gates the circuit takes.
    """

    price: float
    bits: NDArray[np.intp]
    sizes: Floats
    constants: Floats
    loss: float
    gates: float


class Growth:
    """Grows sums of bits on some rows.

    Parameters
    ----------
    ports : Ports
        Formats and comparisons.
    codes : list of ndarray of shape (n_rows,)
        Integers at the input ports.
    values : ndarray of shape (n_rows, n_outputs)
        What the sums should be.
    weights : ndarray of shape (n_rows,)
        Positive weights of the rows, sum one.
    importance : ndarray of shape (n_outputs,)
        What a squared error of every output counts.
    """

    def __init__(
        self, ports: Ports, codes: list[Integers], values: Floats, weights: Floats, importance: Floats
    ) -> None:
        self.ports = ports
        n_views = views(len(weights))
        # Rows that are looked at together are neighbours in memory.
        order = np.concatenate([np.arange(view, len(weights), n_views) for view in range(n_views)])
        self.pool = Pool(ports, [word[order] for word in codes])
        self.terms = Terms(self.pool, values[order], weights[order], importance)
        self._candidates = Candidates(self.pool, self.terms)
        self._swaps = Swaps(self.pool, self.terms, self._candidates)

    def level(self, price: float) -> Level:
        """Go on at a price, until nothing that could be added is worth it."""
        in_vain = 0
        for _ in range(_MOST_STEPS):
            in_vain = 0 if self._step(price) else in_vain + 1
            self.terms.settle(price)
            if in_vain == min(self._candidates.n_views, _IN_VAIN):
                break
        if self._swaps.once(price):
            self.terms.settle(price)
        terms = self.terms
        bits = np.array(terms.bits, dtype=np.intp)
        constants = terms.mean - terms.means @ terms.sizes if len(bits) else terms.mean
        return Level(price, bits, terms.sizes.copy(), constants, terms.loss, terms.gates)

    def _step(self, price: float) -> int:
        """Add the best candidates, each if it is worth its gates beside those before it; return how many."""
        n_added, most = 0, max(_AT_ONCE, len(self.terms) // 10)
        found = self._candidates.best(price, _LOOKED_AT)
        if not found:
            return 0
        columns = np.stack([self.pool.column(candidate.bit) for candidate in found])
        gains = self.terms.most_gains(columns, price)
        for candidate, column, gain in zip(found, columns, gains.tolist(), strict=True):
            if gain > price * self.pool.cost(candidate.bit):
                n_added += self._added(candidate.bit, column, price)
            if n_added == most:
                break
        return n_added

    def _added(self, bit: int | Both, column: Bits, price: float) -> bool:
        """Add a bit if that is worth it."""
        centred = self.terms.centred(column)
        sizes, gain = self.terms.best_sizes(centred, price)
        if gain <= price * self.pool.cost(bit):
            return False
        self.terms.add(self.pool.conjunction(bit) if isinstance(bit, Both) else bit, sizes, centred)
        return True


def values_of(level: Level, definitions: Sequence[Definition], codes: list[Integers]) -> Floats:
    """Return the sums of a level on any rows, of shape (n_rows, n_outputs)."""
    columns: dict[int, NDArray[np.bool_]] = {}

    def column(number: int) -> NDArray[np.bool_]:
        if number not in columns:
            definition = definitions[number]
            if isinstance(definition, Both):
                columns[number] = definition.column(column(definition.first), column(definition.second))
            else:
                columns[number] = definition.column(codes)
        return columns[number]

    out = np.tile(level.constants, (len(codes[0]), 1))
    for number, sizes in zip(level.bits.tolist(), level.sizes, strict=True):
        out += column(number)[:, None] * sizes
    return out


def graph_of(
    level: Level, definitions: Sequence[Definition], ports: Ports, center: Floats, places: Sequence[int]
) -> Graph:
    """Return the graph of a level.

    Parameters
    ----------
    level : Level
        The sums.
    definitions : sequence of Definition
        The pool.
    ports : Ports
        Formats of the inputs.
    center : ndarray of shape (n_outputs,)
        What is added to the outputs, in units of the sums.
    places : list of int
        Binary exponents of the units of the sums.
    """
    build = Builder(ports.formats)
    writer = Writer(build, definitions)
    outputs, exponents = [], []
    for sizes, constant, place in zip(level.sizes.T, level.constants + center, places, strict=True):
        used = np.flatnonzero(sizes)
        # A constant alone may be far smaller than the unit, or far larger.
        least = _LAST if len(used) else math.frexp(constant)[1] - _ALONE
        last = min([least, *(round(math.log2(abs(size))) for size in sizes[used].tolist())])
        # What is below the last bit of a double that holds the constant, no output could show.
        last = max(last, math.frexp(constant)[1] - _ALONE)
        weights = [round(math.ldexp(size, -last)) for size in sizes[used].tolist()]
        terms = [
            (writer.bit(number), weight)
            for number, weight in zip(level.bits[used].tolist(), weights, strict=True)
            if weight
        ]
        outputs.append(build.sum(terms, round(math.ldexp(constant, -last))))
        exponents.append(last + place)
    return build.graph(outputs, exponents)
