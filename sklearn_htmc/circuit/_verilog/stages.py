"""Where ranks of flip-flops cut a structure: balanced by the levels of gates, at narrow places.

A cut takes everything up to a level of a *timetable*, an integer per gate and box that never falls along a path; so
what is before a cut never reads what is behind it. The depth of the part between any two cuts is computed gate by
gate; among the cuts that make the deepest part least deep, the ones with the fewest flip-flops are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Integers
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._verilog.structure import Box, Structure, structure_of
from sklearn_htmc.circuit._verilog.sums import UNBOUNDED

_WORK = 10_000_000  # levels of gates that are computed for all timetables
_DEEPER = 2.0  # what sums that are not cut may do to the deepest part: adders of tools are faster than their gates
_NEVER = np.iinfo(np.int64).max // 4


class Item(NamedTuple):
    """A gate or a box that outputs depend on.

    Attributes
    ----------
    number : int
        Number of the gate, or of the first bit of the box.
    box : Box or None
        None for a gate.
    reads : tuple of int
        Numbers of what is read.
    """

    number: int
    box: Box | None
    reads: tuple[int, ...]

    @property
    def numbers(self) -> range:
        """Numbers of what is driven."""
        return range(self.number, self.number + (1 if self.box is None else len(self.box.out)))


@dataclass(frozen=True, eq=False)
class Stages:
    """A structure, cut into parts.

    Attributes
    ----------
    net : Structure
        Gates and boxes.
    items : list of Item
        Those that outputs depend on, operands first.
    stage : dict of int to int
        For every number that is driven by an input or an item the part that it belongs to, from 0 on.
    latency : int
        Ranks of flip-flops on every path.
    """

    net: Structure
    items: list[Item]
    stage: dict[int, int]
    latency: int


def combinational(graph: Graph) -> Stages:
    """Return a graph as one part."""
    net = structure_of(graph)
    items = _items(net)
    return Stages(net, items, dict.fromkeys(_numbers(net, items), 0), 0)


def balanced(graph: Graph, ranks: int) -> Stages:
    """Cut a graph by some ranks of flip-flops into parts of least depth.

    Sums are as long as they may be without making a part much deeper.

    Raises
    ------
    ValueError
        If there are fewer levels than parts.
    """
    if not ranks:
        return combinational(graph)
    whole = structure_of(graph)
    target = -(-whole.depth // (ranks + 1))
    ways = []
    for longest in dict.fromkeys((UNBOUNDED, _places(target), 0)):
        cuts = [one for one in _all_cuts(structure_of(graph, longest)) if one.end > ranks]
        if cuts:
            depth = min(one.least_depth(ranks) for one in cuts)
            ways.append((depth, [one for one in cuts if one.least_depth(ranks) <= depth]))
    if not ways:
        most = max((one.end for one in _all_cuts(structure_of(graph, 0))), default=1) - 1
        raise ValueError(
            f"registers must be at most {max(most, 0)} for this circuit, as no part may be without gates, got {ranks}."
        )
    enough = _DEEPER * min(depth for depth, _ in ways)
    depth, cuts = next(way for way in ways if way[0] <= enough)
    return min((one.best(ranks, depth) for one in cuts), key=lambda pair: pair[0])[1]


def within(graph: Graph, max_levels: int) -> Stages:
    """Cut a graph by as few ranks of flip-flops as bound the levels of every part."""
    found = []
    for cuts in _all_cuts(structure_of(graph, _places(max_levels))):
        ranks = cuts.fewest(max_levels)
        found.append((ranks, *cuts.best(ranks, max_levels)))
    return min(found, key=lambda triple: triple[:2])[2]


def _places(depth: int) -> int:
    """Return the places of the longest sum with a carry in and out that has some depth."""
    return max((depth - 1) // 2, 0)


# --- what is cut ----------------------------------------------------------------------------------


def _items(net: Structure) -> list[Item]:
    """Return the gates and boxes that outputs depend on, operands first."""
    box_of = {wire >> 1: box for box in net.boxes.values() for wire in box.out}
    wanted = {wire >> 1 for word in net.outputs for wire in word if wire > 1}
    items = []
    for number in range(net.n_wires - 1, 0, -1):
        if number not in wanted:
            continue
        box = box_of.get(number)
        if box is not None:
            first = box.out[0] >> 1
            wanted.add(first)
            if number != first:
                continue  # its other bits come later
            reads = tuple(dict.fromkeys(wire >> 1 for wire in box.reads))
            items.append(Item(number, box, reads))
        else:
            reads = tuple(wire >> 1 for wire in net.operands(number) if wire > 1)
            if not reads:
                continue  # an input
            items.append(Item(number, None, reads))
        wanted.update(reads)
    return items[::-1]


def _inputs(net: Structure) -> Iterator[int]:
    return (wire >> 1 for word in net.inputs for wire in word)


def _numbers(net: Structure, items: Sequence[Item]) -> Iterator[int]:
    yield from _inputs(net)
    for item in items:
        yield from item.numbers


def _levels(items: Sequence[Item], levels: list[int]) -> Iterator[tuple[Item, int]]:
    """Fill in the levels of items from those of what they read; yield every item with its highest level."""
    for item in items:
        if item.box is None:
            level = 1 + max(levels[number] for number in item.reads)
            levels[item.number] = level
            yield item, level
        else:
            found = item.box.levels(lambda wire: levels[wire >> 1])
            levels[item.number : item.number + len(found)] = found
            yield item, max(found)


Timetable = dict[int, int]  # number of an item, time


def _timetables(net: Structure, items: Sequence[Item]) -> list[Timetable]:
    """Return the earliest times, with boxes as slow as they are with all bits at once, the latest, and between."""
    nothing = [0] * net.n_wires
    delay = {item.number: next(_levels([item], list(nothing)))[1] for item in items}
    first = {number: item.number for item in items for number in item.numbers}
    early: Timetable = {}
    for item in items:
        start = max((early[first[number]] for number in item.reads if number in first), default=0)
        early[item.number] = start + delay[item.number]
    end = max(early.values(), default=0)
    late = dict.fromkeys(early, end)
    for item in reversed(items):
        for number in item.reads:
            if number in first:
                late[first[number]] = min(late[first[number]], late[item.number] - delay[item.number])
    return [early, late, {number: (early[number] + late[number]) // 2 for number in early}]


# --- cuts -----------------------------------------------------------------------------------------


class _Cuts:
    """All cuts by one timetable.

    Attributes
    ----------
    end : int
        Latest time.
    depth : ndarray of shape (end, end + 1)
        Levels of the part between a cut and a later one; those before the first one and behind the last one included.
    bits : ndarray of shape (end,)
        Flip-flops of a cut.
    """

    def __init__(self, net: Structure, items: list[Item], times: Timetable) -> None:
        self.net, self.items, self.times = net, items, times
        self.end = max(times.values(), default=0)
        self.depth = np.full((self.end, self.end + 1), _NEVER)
        for start in range(self.end):
            self.depth[start] = self._depths(start)
        self.bits = self._flip_flops()

    def _depths(self, start: int) -> Integers:
        """Return the levels between a cut and all later ones."""
        deepest: Integers = np.zeros(self.end + 1, dtype=np.int64)
        items = [item for item in self.items if self.times[item.number] > start]
        for item, level in _levels(items, [0] * self.net.n_wires):
            time = self.times[item.number]
            deepest[time] = max(deepest[time], level)
        deepest = np.maximum.accumulate(deepest)
        deepest[: start + 1] = _NEVER
        return deepest

    def _flip_flops(self) -> Integers:
        """Return how many bits cross every cut."""
        born = dict.fromkeys(_inputs(self.net), 0)
        died = dict.fromkeys(born, 0)
        for item in self.items:
            time = self.times[item.number]
            for number in item.reads:
                died[number] = max(died[number], time)
            born |= dict.fromkeys(item.numbers, time)
            died |= dict.fromkeys(item.numbers, time)
        for word in self.net.outputs:
            died |= {wire >> 1: self.end for wire in word if wire > 1}
        changes = np.zeros(self.end + 1, dtype=np.int64)
        np.add.at(changes, list(born.values()), 1)
        np.add.at(changes, list(died.values()), -1)
        return np.cumsum(changes)[: self.end]

    def least_depth(self, ranks: int) -> int:
        """Return the least depth of the deepest part."""
        reached = self.depth[0].copy()  # of the parts up to a cut
        for _ in range(ranks):
            reached = np.maximum(reached[: self.end, None], self.depth).min(axis=0)
        return int(reached[self.end])

    def fewest(self, max_levels: int) -> int:
        """Return the fewest ranks with which no part is deeper."""
        ranks, place = 0, 0
        while place < self.end and self.depth[place, self.end] > max_levels:
            place = int(np.flatnonzero(self.depth[place] <= max_levels)[-1])
            ranks += 1
        return ranks

    def best(self, ranks: int, max_levels: int) -> tuple[int, Stages]:
        """Return the fewest flip-flops with which no part is deeper, and the parts."""
        allowed = self.depth <= max_levels
        cost: NDArray[np.float64] = np.where(allowed[0], 0.0, np.inf) if self.end else np.zeros(1)
        before = []
        for _ in range(ranks):
            through = np.where(allowed, (cost[: self.end] + self.bits)[:, None], np.inf)
            before.append(through.argmin(axis=0))
            cost = through.min(axis=0)
        places = [self.end]
        for choice in reversed(before):
            places.append(int(choice[places[-1]]))
        places = places[:0:-1]
        stage = dict.fromkeys(_inputs(self.net), 0)
        for item in self.items:
            part = int(np.searchsorted(places, self.times[item.number], side="left"))
            stage |= dict.fromkeys(item.numbers, part)
        return int(cost[-1]), Stages(self.net, self.items, stage, ranks)


def _all_cuts(net: Structure) -> list[_Cuts]:
    items = _items(net)
    times = _timetables(net, items)
    work = len(items) * max(times[0].values(), default=0) / 2
    return [_Cuts(net, items, table) for table in times[: max(int(_WORK / max(work, 1)), 1)]]
