"""What a change of a graph is likely to save, in gates; the count of the finished circuit has the last word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sklearn_htmc.circuit._graph import Node, Op
from sklearn_htmc.circuit._resynthesis.state import State

ADDER = 5.0  # gates of a full adder, which takes one bit away
_LOGIC = {Op.AND: 1.0, Op.OR: 1.0, Op.XOR: 1.0}


class Prices:
    """Estimates of gates saved.

    Parameters
    ----------
    state : State
        The graph.
    own : dict of int to float
        Gates of the comparisons.
    """

    def __init__(self, state: State, own: dict[int, float]) -> None:
        self.state = state
        self.own = [_own(state, node) for node in state.nodes]
        for number, gates in own.items():
            self.own[number] = gates

    def dying(self, number: int, kept: Iterable[int] = ()) -> float:
        """Return the gates that are not needed any more where nobody reads a node, but somebody reads others."""
        state, lost = self.state, Counter({arg: -1 for arg in kept})
        todo, saved = [number], 0.0
        while todo:
            dead = todo.pop()
            saved += self.own[dead]
            for arg in state.nodes[dead].args:
                lost[arg] += 1
                if lost[arg] == state.n_live_readers[arg] and arg not in state.places:
                    todo.append(arg)
        return saved

    def reviving(self, number: int) -> float:
        """Return the gates that are needed where somebody begins to read a node."""
        state, todo, needed, seen = self.state, [number], 0.0, set[int]()
        while todo:
            dead = todo.pop()
            if dead not in seen and state.is_dead(dead):
                seen.add(dead)
                needed += self.own[dead]
                todo += state.nodes[dead].args
        return needed

    def new_term(self, arg: int) -> float:
        """Return the gates that one more term of a sum takes."""
        return ADDER * max(self.state.nodes[arg].width, 1) + self.reviving(arg)

    def constant(self, number: int, value: int) -> float:
        """Return the gates saved where a bit becomes constant."""
        saved, todo = self.dying(number), [(number, value)]
        while todo:
            bit, value = todo.pop()
            for reader in self.state.readers[bit]:
                if self.state.is_dead(reader):
                    continue
                op, args, data, _, _ = self.state.nodes[reader]
                read = value ^ data[args.index(bit)] if data and op in _LOGIC else value
                if op is Op.SUM:
                    saved += ADDER
                elif op is Op.NOT:
                    todo.append((reader, 1 - value))
                elif op in _LOGIC:
                    saved += 1.0
                    if (op is Op.AND and not read) or (op is Op.OR and read):
                        todo.append((reader, read))
        return saved

    def term(self, arg: int) -> float:
        """Return the gates saved where a sum loses a term."""
        state = self.state
        width = max(state.nodes[arg].width, 1)
        return ADDER * width + (self.dying(arg) if state.n_live_readers[arg] == 1 else 0.0)


def _own(state: State, node: Node) -> float:
    if node.op in _LOGIC or (node.op is Op.BIT and state.nodes[node.args[0]].op is Op.RELU):
        return 1.0
    if node.op is Op.CLAMP:
        return float(node.width)
    if node.op is Op.SUM:
        bits = sum(state.nodes[arg].width for arg in node.args)
        return ADDER * max(bits - node.width, 0)
    if node.op in (Op.ADD, Op.SUBTRACT):
        return ADDER * min(state.nodes[arg].width for arg in node.args)
    return 0.0
