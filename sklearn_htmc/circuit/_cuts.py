"""Cuts of the gates of a netlist: sets of wires that determine a gate, the best few of each, a whole level at a time.

Gates are numbered anew, inputs first, then by the number of gates on the longest path to them, so that all gates of one
level are neighbours, and the cuts of a level follow from those of the levels below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._netlist import Gates

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Signatures = NDArray[np.uint64]

N_CUTS = 10  # that a gate keeps
_RANKED = 2 * N_CUTS  # that are looked at for those that have all leaves of a better one
_BITS = np.uint64(64)  # of a signature: the remainders of the leaves, a quick test of sizes and subsets


@dataclass(frozen=True, eq=False)
class Levels:
    """Gates by level.

    Attributes
    ----------
    old : ndarray of shape (n_inputs + n_gates,)
        Numbers in the netlist of inputs and gates.
    new : dict of int to int
        The other way round.
    n_inputs : int
        Number of inputs.
    operands : ndarray of shape (n_gates, 2)
        What every gate reads.
    bounds : list of (int, int)
        First and last gate, exclusive, of every level.
    """

    old: Integers
    new: dict[int, int]
    n_inputs: int
    operands: Integers
    bounds: list[tuple[int, int]]

    @classmethod
    def of(cls, net: Gates) -> Levels:
        """Sort the gates that the outputs of a netlist depend on."""
        inputs = [wire >> 1 for word in net.inputs for wire in word]
        live = sorted(net.live(), key=lambda number: net.level(2 * number))
        old = np.array(inputs + live, dtype=np.int64)
        new = {int(number): place for place, number in enumerate(old)}
        operands = [[new[wire >> 1] for wire in net.operands(number)] for number in live]
        level = np.array([net.level(2 * number) for number in live], dtype=np.int64)
        starts = np.flatnonzero(np.diff(level, prepend=-1)) + len(inputs)
        ends = [*starts[1:].tolist(), len(old)]
        bounds = list(zip(starts.tolist(), ends, strict=True)) if live else []
        return cls(old, new, len(inputs), np.array(operands, dtype=np.int64).reshape(-1, 2), bounds)


class Cuts:
    """The best few cuts of every gate.

    Parameters
    ----------
    levels : Levels
        The gates.
    k : int
        Leaves of a cut at most.

    Attributes
    ----------
    leaves : ndarray of shape (n_inputs + n_gates, N_CUTS + 1, k)
        Leaves in rising order, filled up with a number that no gate has; the best cut first, the gate itself last.
    counts : ndarray of shape (n_inputs + n_gates,)
        Number of cuts, without the gate itself.
    depths : ndarray of shape (n_inputs + n_gates + 1,)
        Tables on the longest path to a gate that is driven by its best cut.
    """

    def __init__(self, levels: Levels, k: int) -> None:
        self._levels, self._k = levels, k
        n = len(levels.old)
        self._none = n
        self.leaves = np.full((n, N_CUTS + 1, k), n, dtype=np.int64)
        self.counts = np.zeros(n, dtype=np.int64)
        self.depths = np.zeros(n + 1, dtype=np.int64)
        self._signatures = np.zeros((n, N_CUTS + 1), dtype=np.uint64)
        self._present = np.zeros((n, N_CUTS + 1), dtype=bool)
        self.leaves[:, N_CUTS, 0] = np.arange(n)
        self._signatures[:, N_CUTS] = _bits_of(np.arange(n)[:, None], n)
        self._present[:, N_CUTS] = True

    def find(self, readers: Floats, limits: Integers | None, best: Integers | None) -> None:
        """Find cuts anew: the earliest ones, or, where there are limits, those with the least share of tables.

        Parameters
        ----------
        readers : ndarray of shape (n_inputs + n_gates,)
            By how many tables each gate is read, about.
        limits : ndarray of shape (n_inputs + n_gates,) or None
            The depth that every gate may have.
        best : ndarray of shape (n_inputs + n_gates, k) or None
            A cut of every gate that is to be looked at, too.
        """
        first = self._levels.n_inputs
        areas = np.zeros(self._none + 1)
        for start, end in self._levels.bounds:
            gate, leaves, signature = self._merged(start, end)
            if best is not None:
                gate = np.append(gate, np.arange(start, end))
                leaves = np.concatenate([leaves, best[start:end]])
                signature = np.append(signature, _bits_of(best[start:end], self._none))
            depth = 1 + self.depths[leaves].max(axis=1)
            area = 1.0 + areas[leaves].sum(axis=1)
            size = (leaves < self._none).sum(axis=1)
            if limits is None:
                order = np.lexsort((area, size, depth, gate))
            else:
                order = np.lexsort((depth + size / 16, area, depth > limits[gate], gate))
            kept, rank = _undominated(gate[order], leaves[order], signature[order], self._none)
            order = order[kept]
            self._present[start:end, :N_CUTS] = False
            self.leaves[start:end, :N_CUTS] = self._none
            self._present[gate[order], rank] = True
            self.leaves[gate[order], rank] = leaves[order]
            self._signatures[gate[order], rank] = signature[order]
            chosen = order[rank == 0]
            self.depths[start:end] = depth[chosen]
            areas[start:end] = area[chosen] / np.maximum(readers[start:end], 1.0)
        self.counts[first:] = self._present[first:, :N_CUTS].sum(axis=1)

    def _merged(self, start: int, end: int) -> tuple[Integers, Integers, Signatures]:
        """Return all cuts of the gates of a level that cuts of their operands make: gates, leaves and signatures."""
        a, b = self._levels.operands[start - self._levels.n_inputs : end - self._levels.n_inputs].T
        both = self._signatures[a][:, :, None] | self._signatures[b][:, None, :]
        fits = _count_bits(both) <= self._k
        fits &= self._present[a][:, :, None] & self._present[b][:, None, :]
        gate, of_a, of_b = np.nonzero(fits)
        leaves = np.sort(np.concatenate([self.leaves[a[gate], of_a], self.leaves[b[gate], of_b]], axis=1), axis=1)
        leaves[:, 1:][leaves[:, 1:] == leaves[:, :-1]] = self._none
        small = (leaves < self._none).sum(axis=1) <= self._k
        leaves = np.sort(leaves[small], axis=1)[:, : self._k]
        return gate[small] + start, leaves, both[fits][small]


def _bits_of(leaves: Integers, none: int) -> Signatures:
    """Return the signatures of cuts."""
    bits = np.uint64(1) << (leaves.astype(np.uint64) % _BITS)
    return np.asarray(np.bitwise_or.reduce(np.where(leaves < none, bits, np.uint64(0)), axis=1))


def _count_bits(words: Signatures) -> NDArray[Any]:
    """Count the ones of words of 64 bits: in pairs, fours and bytes, whose sums a product puts together."""
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = np.uint64(0x3333333333333333)
    words = (words & fours) + ((words >> np.uint64(2)) & fours)
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _undominated(gate: Integers, leaves: Integers, signature: Signatures, none: int) -> tuple[Integers, Integers]:
    """Return the places and ranks of the first cuts of every gate, without those that have all leaves of a better one.

    The cuts are sorted by gate and by what makes them good.
    """
    new = np.append(True, gate[1:] != gate[:-1])
    starts = np.flatnonzero(new)
    rank = np.arange(len(gate)) - starts[np.cumsum(new) - 1]
    near = np.flatnonzero(rank < _RANKED)
    row = np.cumsum(new)[near] - 1
    table = np.full((len(starts), _RANKED), -1)
    table[row, rank[near]] = near
    signatures = np.where(table >= 0, signature[table], ~np.uint64(0))
    better = np.triu(np.ones((_RANKED, _RANKED), dtype=bool), 1)
    subset = (signatures[:, :, None] & ~signatures[:, None, :]) == 0
    at, i, j = np.nonzero(subset & better & (table[:, None, :] >= 0))
    inside, outside = leaves[table[at, i]], leaves[table[at, j]]
    has = (inside[:, :, None] == outside[:, None, :]).any(axis=2) | (inside == none)
    dominated = np.zeros(table.shape, dtype=bool)
    proved = has.all(axis=1)
    dominated[at[proved], j[proved]] = True
    left = (table >= 0) & ~dominated
    place = np.cumsum(left, axis=1) - 1
    left &= place < N_CUTS
    return table[left], place[left]
