"""How many look-up tables a circuit takes: its counted gates mapped to tables of k inputs by priority cuts.

A cut of a gate is a set of wires, its leaves, that determine it; a cut of at most k leaves is a look-up table. Every
gate keeps the few best cuts, made of those of its two operands [1]_. A first pass finds the least number of levels.
Then tables are saved wherever a path has time: first by the area of a cut, shared among all that read it, then by
counting the tables which one cut makes needless and another one brings back.

References
----------
.. [1] A. Mishchenko, S. Cho, S. Chatterjee, R. Brayton, "Combinational and sequential mapping with priority cuts",
   ICCAD 2007.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._graph import Graph, require_graph
from sklearn_htmc.circuit._sweeping import without_equal_gates

Cut = frozenset[int]
Signed = tuple[
    Cut, int
]  # a cut and the set of the remainders of its leaves, as bits: a quick test of sizes and subsets

_N_CUTS = 8  # that a gate keeps
_N_FLOWS = 2  # passes that share areas
_N_EXACT = 3  # passes that count tables
_MODULUS = 61  # of the remainders of leaves, so that a set of them is a short integer
_NO_LIMIT = 1 << 30
_LEAST, _MOST = 3, 8  # inputs of a table


@dataclass(frozen=True)
class LutEstimate:
    """What a circuit takes in look-up tables.

    Attributes
    ----------
    n_luts : int
        Number of look-up tables.
    levels : int
        Tables on the longest path.
    k : int
        Inputs that a table has at most.
    """

    n_luts: int
    levels: int
    k: int


def estimate_luts(circuit: Graph, k: int = 6) -> LutEstimate:
    """Return how many look-up tables of k inputs a circuit takes in an FPGA, and their levels, without synthesis.

    The gates that `count_gates` counts, without those that provably equal another one, are mapped to tables: as few
    levels as can be found, and as few tables as can be found at that number of levels. This is a mapping that works,
    not a model of one. It knows neither carry chains nor registers, and tools make adders of their own where a module
    says ``+``: often larger ones, unless they have carry chains.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    k : int, default=6
        Inputs of a table, from 3 to 8: 6 for larger FPGAs, 4 for small ones.

    Returns
    -------
    LutEstimate
        With `n_luts`, `levels` and `k`. A wire that leads from an input or a constant to an output takes no table, an
        inverter between them one.

    Raises
    ------
    TypeError
        If circuit is none.
    ValueError
        If k is not an integer from 3 to 8, or there are more than 30 million gates.

    See Also
    --------
    count_gates, to_verilog

    Examples
    --------
    >>> from sklearn_htmc.circuit import Builder, Format, estimate_luts
    >>> build = Builder([Format(0, 3, 0), Format(0, 3, 0)])
    >>> circuit = build.graph([build.add(build.input(0), build.input(1))], [0])
    >>> estimate_luts(circuit)  # each of the three bits of the sum depends on at most four bits
    LutEstimate(n_luts=3, levels=1, k=6)
    """
    require_graph(circuit)
    n_inputs = _table_size(k)
    tables, levels = mapped(without_equal_gates(Netlist.of(circuit)), n_inputs)
    return LutEstimate(len(tables), levels, n_inputs)


def _table_size(k: Any) -> int:
    if not isinstance(k, Integral) or isinstance(k, bool) or not _LEAST <= int(k) <= _MOST:
        raise ValueError(f"k must be an integer from {_LEAST} to {_MOST}, got {k!r}.")
    return int(k)


def mapped(net: Netlist, k: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """Cover the gates behind the outputs with look-up tables.

    Parameters
    ----------
    net : Netlist
        The gates.
    k : int
        Inputs of a table.

    Returns
    -------
    tables : dict of int to tuple of int
        For every wire that a table drives, the gates and inputs (numbers, not wires) that the table reads.
    levels : int
        Tables on the longest path.
    """
    driven = {wire for word in net.outputs for wire in word if wire > 1}
    mapping = _Mapping(net, {wire >> 1 for wire in driven}, k)
    mapping.run()
    tables = {2 * number: tuple(sorted(mapping.best[number])) for number in mapping.used()}
    inverters = set()
    for wire in driven:
        number = wire >> 1
        if number not in mapping.operands:  # an inverter behind an input
            if wire & 1:
                tables[wire] = (number,)
                inverters.add(wire)
        elif wire & 1 and wire ^ 1 in driven:  # both are read from outside
            tables[wire] = tables[wire ^ 1]
    return tables, max(mapping.levels[wire >> 1] + (wire in inverters) for wire in driven) if driven else 0


class _Mapping:
    """The state of the passes: cuts of every gate, the best one, and what follows from that.

    Attributes
    ----------
    operands : dict of int to tuple of two int
        Numbers of the gates or inputs that a live gate reads, in topological order.
    best : dict of int to Cut
        The cut of every gate that a table would have.
    levels : list of int
        Tables on the longest path to a gate.
    """

    def __init__(self, net: Netlist, roots: set[int], k: int) -> None:
        self.k, self.roots = k, roots
        self.operands: dict[int, tuple[int, int]] = {}
        for number in net.live():
            a, b = net.operands(number)
            self.operands[number] = a >> 1, b >> 1
        size = 1 + max((wire >> 1 for word in net.inputs for wire in word), default=0)
        self._size = max(size, 1 + max(self.operands, default=0))
        self.levels = [0] * self._size
        self.best: dict[int, Cut] = {}
        self._inputs = [wire >> 1 for word in net.inputs for wire in word]
        self._cuts: dict[int, list[Signed]] = {}
        self._reads = [0] * self._size
        for number in (*(number for pair in self.operands.values() for number in pair), *roots):
            self._reads[number] += 1

    def run(self) -> None:
        """Find a mapping."""
        shared = [float(count) for count in self._reads]
        self._enumerate(shared, None)
        depth = max((self.levels[number] for number in self.roots), default=0)
        for _ in range(_N_FLOWS):
            self._count()
            # Estimates of how many tables read a gate settle where they move only part of the way.
            shared = [(before + 2 * now) / 3 for before, now in zip(shared, self._reads, strict=True)]
            self._enumerate(shared, self._limits(depth))
        for _ in range(_N_EXACT):
            self._count()
            self._recover(self._limits(depth))
        self._count()

    def used(self) -> list[int]:
        """Return the gates that tables drive."""
        return [number for number in self.operands if self._reads[number]]

    def _count(self) -> None:
        """Count how many tables and outputs read every gate."""
        self._reads = [0] * self._size
        for number in self.roots:
            self._reads[number] = 1
        for number in reversed(self.operands):
            if self._reads[number]:
                for leaf in self.best[number]:
                    self._reads[leaf] += 1

    def _limits(self, depth: int) -> list[int]:
        """Return the level that every gate may have."""
        limits = [_NO_LIMIT] * self._size
        for number in self.roots:
            limits[number] = depth
        for number in reversed(self.operands):
            if self._reads[number]:
                limit = limits[number] - 1
                for leaf in self.best[number]:
                    limits[leaf] = min(limits[leaf], limit)
        return limits

    def _enumerate(self, shared: list[float], limits: list[int] | None) -> None:
        """Find cuts anew: the earliest ones, or, where there are limits, those with the least share of tables."""
        levels, areas = self.levels, [0.0] * self._size
        level, area = levels.__getitem__, areas.__getitem__
        cuts: dict[int, list[Signed]] = {number: [_itself(number)] for number in self._inputs}
        for number, (a, b) in self.operands.items():
            ranked: list[tuple[float, float, float, Cut, int]] = []
            for cut, signature in self._merged(cuts[a], cuts[b], number).items():
                late, cost = 1 + max(map(level, cut)), 1 + sum(map(area, cut))
                if limits is None:
                    ranked.append((late, len(cut), cost, cut, signature))
                else:
                    ranked.append((late > limits[number], cost, late + len(cut) / 16, cut, signature))
            ranked.sort(key=_first_three)
            kept = cuts[number] = _undominated((entry[3], entry[4]) for entry in ranked)
            best = self.best[number] = kept[0][0]
            levels[number] = 1 + max(map(level, best))
            areas[number] = (1 + sum(map(area, best))) / max(shared[number], 1.0)
            kept.append(_itself(number))
        self._cuts = cuts

    def _merged(self, of_a: list[Signed], of_b: list[Signed], number: int) -> dict[Cut, int]:
        """Return the cuts of a gate that cuts of its operands make, and the one that is in use."""
        k, merged = self.k, {}
        for cut, signature in of_a:
            for other, of_other in of_b:
                both = signature | of_other
                if both.bit_count() <= k:
                    union = cut | other
                    if len(union) <= k:
                        merged[union] = both
        if number in self.best:
            cut = self.best[number]
            merged[cut] = sum({1 << leaf % _MODULUS for leaf in cut})
        return merged

    def _recover(self, limits: list[int]) -> None:
        """Take for every gate the cut that needs the fewest tables that nothing else needs."""
        levels, level = self.levels, self.levels.__getitem__
        for number in self.operands:
            used = self._reads[number] > 0
            if used:
                self._release(self.best[number])
            found: tuple[tuple[bool, int, int, int], Cut] | None = None
            for cut, _ in self._cuts[number][:-1]:
                late = 1 + max(map(level, cut))
                if late > limits[number] and found is not None:
                    continue
                tables = self._claim(cut)
                self._release(cut)
                rank = late > limits[number], tables, late, len(cut)
                if found is None or rank < found[0]:
                    found = rank, cut
            if found is not None:
                self.best[number], levels[number] = found[1], found[0][2]
            if used:
                self._claim(self.best[number])

    def _claim(self, cut: Cut) -> int:
        """Let a table read its leaves; return the number of tables that this brings in, itself included."""
        reads, operands, best = self._reads, self.operands, self.best
        tables, todo = 1, [cut]
        while todo:
            for leaf in todo.pop():
                reads[leaf] += 1
                if reads[leaf] == 1 and leaf in operands:
                    tables += 1
                    todo.append(best[leaf])
        return tables

    def _release(self, cut: Cut) -> None:
        """Take back what `_claim` did."""
        reads, operands, best = self._reads, self.operands, self.best
        todo = [cut]
        while todo:
            for leaf in todo.pop():
                reads[leaf] -= 1
                if reads[leaf] == 0 and leaf in operands:
                    todo.append(best[leaf])


def _first_three(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    return entry[:3]


def _itself(number: int) -> Signed:
    return frozenset((number,)), 1 << number % _MODULUS


def _undominated(cuts: Iterable[Signed]) -> list[Signed]:
    """Return the first cuts, without those that have all leaves of an earlier one and more."""
    kept: list[Signed] = []
    for cut, signature in cuts:
        for other, of_other in kept:
            if not of_other & ~signature and other <= cut:
                break
        else:
            kept.append((cut, signature))
            if len(kept) == _N_CUTS:
                break
    return kept
