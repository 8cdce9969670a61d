"""Moves: redefinitions of nodes that save gates or lower the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sklearn_htmc.circuit._graph import Node, Op
from sklearn_htmc.circuit._resynthesis.prices import Prices
from sklearn_htmc.circuit._resynthesis.state import State

_OF_BITS = (Op.NOT, Op.AND, Op.OR, Op.XOR, Op.JOIN)


class Move(Protocol):
    """A change of a graph.

    Attributes
    ----------
    merit : float
        What was gained by it when it was found: gates saved times their price, less the rise of the error.
    risk : float
        What a few rows on which no difference was seen might add to the error.
    """

    @property
    def merit(self) -> float:
        """See above."""

    @property
    def risk(self) -> float:
        """See above."""

    def changed(self, state: State) -> dict[int, Node] | None:
        """Return new definitions, None if the move is not possible any more."""

    def saved(self, prices: Prices) -> float:
        """Return the gates saved, about."""


@dataclass(frozen=True)
class Substitution:
    """A bit becomes constant, another bit, or the inverse of another bit.

    Attributes
    ----------
    number : int
        The bit.
    by : int
        The other bit, or the constant.
    op : Op
        `CONSTANT`, `OR` for a copy, or `NOT`.
    merit, risk : float
        See `Move`.
    """

    number: int
    by: int
    op: Op
    merit: float
    risk: float = 0.0

    def changed(self, state: State) -> dict[int, Node] | None:
        """Return the new definition unless nobody reads the bit."""
        if state.is_dead(self.number):
            return None
        if self.op is Op.CONSTANT:
            return {self.number: Node(self.op, (), (self.by,), self.by, self.by)}
        args = (self.by,) if self.op is Op.NOT else (self.by, self.by)
        return {self.number: Node(self.op, args, (), 0, 1)}

    def saved(self, prices: Prices) -> float:
        """Return the gates saved."""
        if self.op is Op.CONSTANT:
            return prices.constant(self.number, self.by)
        return prices.dying(self.number, (self.by,)) - prices.reviving(self.by)


@dataclass(frozen=True)
class Gate:
    """A bit becomes a gate of two other bits or their inverses.

    Attributes
    ----------
    number : int
        The bit.
    op : Op
        `AND` or `OR`.
    args : (int, int)
        The other bits.
    inverted : (int, int)
        Whether their inverses are read.
    merit, risk : float
        See `Move`.
    """

    number: int
    op: Op
    args: tuple[int, int]
    inverted: tuple[int, int]
    merit: float
    risk: float = 0.0

    def changed(self, state: State) -> dict[int, Node] | None:
        """Return the new definition unless nobody reads the bit."""
        return None if state.is_dead(self.number) else {self.number: Node(self.op, self.args, self.inverted, 0, 1)}

    def saved(self, prices: Prices) -> float:
        """Return the gates saved."""
        return prices.dying(self.number, self.args) - sum(prices.reviving(arg) for arg in self.args) - 1.0


@dataclass(frozen=True)
class Terms:
    """Terms of a sum get other weights.

    Attributes
    ----------
    number : int
        The sum.
    weights : tuple of (int, int, int)
        What is added, with which weight before and after; zero if it was not or is not added.
    constant : int
        What the constant rises by.
    merit, risk : float
        See `Move`.
    """

    number: int
    weights: tuple[tuple[int, int, int], ...]
    constant: int
    merit: float
    risk: float = 0.0

    def changed(self, state: State) -> dict[int, Node] | None:
        """Return the new sum unless a term has changed already."""
        node = state.nodes[self.number]
        terms = list(zip(node.args, node.data[1:], strict=True))
        if node.op is not Op.SUM or state.is_dead(self.number) or self._read_as_bit(state):
            return None
        for arg, old, new in self.weights:
            if old and (arg, old) not in terms:
                return None
            if old:
                terms.remove((arg, old))
            if new:
                terms.append((arg, new))
        args, weights = tuple(arg for arg, _ in terms), tuple(weight for _, weight in terms)
        return {self.number: node._replace(args=args, data=(node.data[0] + self.constant, *weights))}

    def _read_as_bit(self, state: State) -> bool:
        return any(state.nodes[reader].op in _OF_BITS for reader in state.readers[self.number])

    def saved(self, prices: Prices) -> float:
        """Return the gates saved."""
        return sum(
            prices.term(arg) if not new else -prices.new_term(arg) if not old else 0.0 for arg, old, new in self.weights
        )


@dataclass(frozen=True)
class Limits:
    """A word saturates at rounder limits.

    Attributes
    ----------
    number : int
        The `CLAMP` node.
    low, high : int
        New limits.
    gates : float
        What that saves.
    merit, risk : float
        See `Move`.
    """

    number: int
    low: int
    high: int
    gates: float
    merit: float
    risk: float = 0.0

    def changed(self, state: State) -> dict[int, Node] | None:
        """Return the new definition unless nobody reads the word."""
        node = state.nodes[self.number]
        return None if state.is_dead(self.number) else {self.number: node._replace(data=(self.low, self.high))}

    def saved(self, _: Prices) -> float:
        """Return the gates saved."""
        return self.gates
