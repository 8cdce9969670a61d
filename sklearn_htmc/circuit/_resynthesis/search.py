"""The search: passes at a rising price of a gate, each move checked against the exact error before it is made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._gates import count_gates
from sklearn_htmc.circuit._graph import Graph, Node, Op, fits
from sklearn_htmc.circuit._resynthesis.comparisons import comparators
from sklearn_htmc.circuit._resynthesis.moves import Move
from sklearn_htmc.circuit._resynthesis.parts import BITS, Pair, conjunctions, taken_apart
from sklearn_htmc.circuit._resynthesis.prices import Prices
from sklearn_htmc.circuit._resynthesis.rows import Rows
from sklearn_htmc.circuit._resynthesis.scoring import Scoring
from sklearn_htmc.circuit._resynthesis.state import State

# Of all gates, in units of the squared error allowed, from pass to pass; finest where most gates go.
PRICES = (1.0, 2.0, 4.0, 6.0, 8.0, 11.0, 16.0, 23.0, 32.0, 45.0, 64.0, 128.0, 256.0)
_DEAR = 16.0  # price from which on a pass that saves nothing is the last
_GATES = 4.0  # price from which on new gates are looked for
_REPAIRS = 4  # passes at the first price until errors are allowed
_CANDIDATES = 60  # conjunctions that may take the place of other bits
_MOST_BITS = 600  # that these are made of


@dataclass(frozen=True)
class Found:
    """A graph on the way.

    Attributes
    ----------
    graph : Graph
        The graph.
    n_gates : int
        Its gates.
    squares : ndarray of shape (2,)
        Its squared errors on the groups of rows.
    """

    graph: Graph
    n_gates: int
    squares: Floats


def resynthesised(graph: Graph, rows: Rows, allowed: Floats, units: Floats, most_work: float) -> Iterator[Found]:
    """Yield smaller and smaller graphs whose squared errors are mostly allowed.

    A move is made if it lowers ``squared error / unit + price * gates``. The price rises from pass to pass, so that
    what saves most gates per error goes first; at a low price, moves that lower the error make room for others.

    Parameters
    ----------
    graph : Graph
        Where to start. Its errors may be larger than allowed; then no move raises them further.
    rows : Rows
        Rows to measure on.
    allowed : ndarray of shape (2,)
        Squared errors allowed on the groups of rows.
    units : ndarray of shape (2,)
        Units in which squared errors are weighed against each other and against gates.
    most_work : float
        Evaluations of nodes after which no new pass begins and none goes on.
    """
    first = n_gates = max(count_gates(graph), 1)
    place, n_repairs = 0, 0
    while place < len(PRICES) and most_work > 0:
        state = _passed(graph, rows, allowed, units, PRICES[place] / first, most_work, gates=PRICES[place] >= _GATES)
        most_work -= state.work
        graph, before = state.rebuilt(), n_gates
        if not fits(graph):
            return
        n_gates = count_gates(graph)
        yield Found(graph, n_gates, state.squares)
        if (state.squares > allowed).any():
            # Only while gates are cheap, errors fall.
            n_repairs += 1
            if n_repairs > _REPAIRS:
                return
            continue
        if n_gates == before and PRICES[place] >= _DEAR:
            return
        # Where not all passes can be made, those that are left are spread over the prices that are left.
        n_left = len(PRICES) - 1 - place
        place += max(1, math.ceil(n_left * state.work / max(most_work, 1.0)))


def _passed(
    graph: Graph, rows: Rows, allowed: Floats, units: Floats, price: float, most_work: float, *, gates: bool
) -> State:
    """Look for moves once and make those that still gain something when it is their turn."""
    weights = (rows.weights / units[:, None]).sum(axis=0)
    graph, own = taken_apart(graph, comparators(graph), _pairs(State(graph, rows), weights))
    for _, of_word in comparators(graph):
        own.update(of_word.own)
    state = State(graph, rows)
    scoring = Scoring(state, Prices(state, own), weights, price, most_work=0.6 * most_work, gates=gates)
    for move in scoring.moves():
        if state.work >= most_work:
            break
        changed = move.changed(state)
        if changed is not None:
            _try(state, scoring, move, changed, allowed)
    return state


def _pairs(state: State, weights: Floats) -> list[Pair]:
    """Return pairs of bits whose conjunctions say most about the errors."""
    bits = [number for number, node in enumerate(state.nodes) if node.op in BITS][:_MOST_BITS]
    if len(bits) < 2:
        return []
    B = np.array([state.word(number) for number in bits], dtype=np.float32)
    return [
        (bits[i], bits[j], *inverted)
        for residual in state.errors
        for i, j, inverted in conjunctions(B, residual, weights, _CANDIDATES)
    ]


def _try(state: State, scoring: Scoring, move: Move, changed: Mapping[int, Node], allowed: Floats) -> None:
    """Make a move if it gains something and the errors stay allowed, or do not rise where they are not."""
    new = state.following({number: state.redefined(number, node) for number, node in changed.items()})
    effect = state.effect(new)
    gain = scoring.price * move.saved(scoring.prices) - move.risk
    if effect is None:
        if gain > 0:
            state.accept(changed, new, state.errors, state.squares)
        return
    changed, new = _recentred(state, changed, new, effect, scoring.weights)
    errors = state.errors + effect
    squares = state.rows.squares(errors)
    if ((squares > allowed) & (squares > state.squares)).any():
        return
    if gain > scoring.rise(effect):
        state.accept(changed, new, errors, squares)


def _recentred(
    state: State, changed: Mapping[int, Node], new: Mapping[int, Any], effect: Floats, weights: Floats
) -> tuple[dict[int, Node], dict[int, Any]]:
    """Let the constants of outputs take the means of the errors back; the effect is updated in place."""
    changed, new = dict(changed), dict(new)
    for number, places in state.places.items():
        node = changed.get(number, state.nodes[number])
        if node.op is Op.SUM and len(places) == 1 and number in new and not state.n_live_readers[number]:
            place = places[0]
            mean = float(weights @ (state.errors[place] + effect[place])) / float(weights.sum())
            constant = -round(mean / state.rows.steps[place])
            if constant:
                changed[number] = node._replace(data=(node.data[0] + constant, *node.data[1:]))
                new[number] = new[number] + constant
                effect[place] += constant * state.rows.steps[place]
    return changed, new
