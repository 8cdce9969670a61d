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

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._graph import Graph, require_graph
from sklearn_htmc.circuit._luts.cuts import Cuts, Integers, Levels
from sklearn_htmc.circuit._luts.sweeping import without_equal_gates
from sklearn_htmc.circuit._netlist import Gates

_N_FLOWS = 3  # passes that share areas
_N_EXACT = 3  # passes that count tables
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


def mapped(net: Gates, k: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """Cover the gates behind the outputs with look-up tables.

    Parameters
    ----------
    net : Gates
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
    if not driven:
        return {}, 0
    gates = Levels.of(net)
    mapping = _Mapping(gates, {gates.new[wire >> 1] for wire in driven}, k)
    old = gates.old.tolist()
    tables = {2 * old[gate]: tuple(old[leaf] for leaf in leaves) for gate, leaves in mapping.tables().items()}
    depth = 0
    for wire in driven:
        gate = gates.new[wire >> 1]
        behind_input = gate < gates.n_inputs and wire & 1  # an inverter
        depth = max(depth, mapping.depths[gate] + behind_input)
        if behind_input:
            tables[wire] = (wire >> 1,)
        elif wire & 1 and wire ^ 1 in driven:  # both are read from outside
            tables[wire] = tables[wire ^ 1]
    return tables, depth


class _Mapping:
    """One cut for every gate, as passes find it.

    Attributes
    ----------
    depths : list of int
        Tables on the longest path to every gate.
    """

    def __init__(self, gates: Levels, roots: set[int], k: int) -> None:
        self._gates, self._roots, self._k = gates, sorted(roots), k
        n = len(gates.old)
        reads = np.bincount(np.append(gates.operands.ravel(), self._roots), minlength=n)
        self._reads: list[int] = reads.tolist()
        self._cuts = Cuts(gates, k)
        self._run()

    def tables(self) -> dict[int, list[int]]:
        """Return the leaves of every gate that a table drives."""
        return {gate: self._best[gate] for gate in range(self._gates.n_inputs, len(self._reads)) if self._reads[gate]}

    def _run(self) -> None:
        readers = np.array(self._reads, dtype=np.float64)
        best: Integers | None = None
        limits: Integers | None = None
        for _ in range(1 + _N_FLOWS):
            self._cuts.find(readers, limits, best)
            best = self._cuts.leaves[:, 0].copy()
            self._best = _lists(best, len(best))
            self.depths: list[int] = self._cuts.depths.tolist()
            if limits is None:
                depth = max(self.depths[root] for root in self._roots)
            self._count()
            limits = np.array(self._limits(depth), dtype=np.int64)
            # Estimates of how many tables read a gate settle where they move only part of the way.
            readers = (readers + 2.0 * np.array(self._reads)) / 3.0
        self._choices = {gate: self._choices_of(gate) for gate in range(self._gates.n_inputs, len(self._reads))}
        for _ in range(_N_EXACT):
            self._recover(self._limits(depth))
            self._count()

    def _choices_of(self, gate: int) -> list[list[int]]:
        return _lists(self._cuts.leaves[gate, : self._cuts.counts[gate]], len(self._reads))

    def _count(self) -> None:
        """Count how many tables and outputs read every gate."""
        reads = self._reads = [0] * len(self._reads)
        for root in self._roots:
            reads[root] = 1
        for gate in range(len(reads) - 1, self._gates.n_inputs - 1, -1):
            if reads[gate]:
                for leaf in self._best[gate]:
                    reads[leaf] += 1

    def _limits(self, depth: int) -> list[int]:
        """Return the depth that every gate may have."""
        limits = [_NO_LIMIT] * len(self._reads)
        for root in self._roots:
            limits[root] = depth
        for gate in range(len(limits) - 1, self._gates.n_inputs - 1, -1):
            if self._reads[gate]:
                limit = limits[gate] - 1
                for leaf in self._best[gate]:
                    limits[leaf] = min(limits[leaf], limit)
        return limits

    def _recover(self, limits: list[int]) -> None:
        """Take for every gate that a table drives the cut that needs the fewest tables that nothing else needs."""
        depths, best, depth_of = self.depths, self._best, self.depths.__getitem__
        for gate in range(self._gates.n_inputs, len(self._reads)):
            if not self._reads[gate]:
                depths[gate] = 1 + max(map(depth_of, best[gate]))
                continue
            self._release(best[gate])
            ranked = []
            for leaves in self._choices[gate]:
                depth = 1 + max(map(depth_of, leaves))
                if depth <= limits[gate]:
                    tables = self._claim(leaves)
                    self._release(leaves)
                    ranked.append((tables, depth, len(leaves), leaves))
            if ranked:
                _, depths[gate], _, best[gate] = min(ranked)
            else:
                depths[gate] = 1 + max(map(depth_of, best[gate]))
            self._claim(best[gate])

    def _claim(self, leaves: list[int]) -> int:
        """Let a table read its leaves; return the number of tables that this brings in, itself included."""
        reads, best, n_inputs = self._reads, self._best, self._gates.n_inputs
        tables, todo = 1, [leaves]
        while todo:
            for leaf in todo.pop():
                reads[leaf] += 1
                if reads[leaf] == 1 and leaf >= n_inputs:
                    tables += 1
                    todo.append(best[leaf])
        return tables

    def _release(self, leaves: list[int]) -> None:
        """Take back what `_claim` did."""
        reads, best, n_inputs = self._reads, self._best, self._gates.n_inputs
        todo = [leaves]
        while todo:
            for leaf in todo.pop():
                reads[leaf] -= 1
                if reads[leaf] == 0 and leaf >= n_inputs:
                    todo.append(best[leaf])


def _lists(leaves: Integers, none: int) -> list[list[int]]:
    """Return rows of leaves without what fills them up."""
    return [[leaf for leaf in row if leaf != none] for row in leaves.tolist()]
