"""Circuits grown on the values of a model, beside those that its parameters give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from sklearn_htmc.circuit._elsewhere import perturbed
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._grow.growth import FACTOR, LARGEST, Level, graph_of
from sklearn_htmc.circuit._grow.path import Rows
from sklearn_htmc.circuit._grow.ports import Ports
from sklearn_htmc.circuit._lower._forms import Form
from sklearn_htmc.circuit._rounding import Tries

_ROWS = 2_000  # at hand, that are grown on
_TIMES = 4  # as many rows beside them
ELSEWHERE = 1.0  # weight of these, together, where that of those at hand is one ...
LITTLE = 0.1  # ... and where no circuit follows the model there
_SEED = 4  # of these rows
_SMALLEST = 1e-8  # price of a gate at which growth ends, in units of the variance
_MOST_GATES = 10_000  # about, at which it ends
_COUNTED = 0.8  # of the gates that growth estimates are there, at least
_NEAR = 2.0  # times the error allowed, on all rows together: from there on circuits are made
_HOPE = 0.1  # of the most gates: from there on growth ends where the error would be far off if it fell as gates rise
_BEYOND = 3  # levels whose error is allowed, after which it ends


def grown(
    form: Form,
    tries: Tries,
    follows: Callable[[Graph], bool],
    report: Callable[[float, float], None],
    elsewhere: float = ELSEWHERE,
) -> Iterator[Graph]:
    """Yield circuits grown on the values of a model whose error is allowed, the smallest first.

    Growth is on rows at hand and on rows beside them, for which the model is asked, so that the circuit follows it
    there as well. It ends a little after the error is allowed, or where circuits are not small any more.

    Parameters
    ----------
    form : SparseNetwork, TreeEnsemble or Wired
        The model.
    tries : Tries
        Rows and the error that is allowed.
    follows : callable
        Says whether a circuit is near enough to the model elsewhere.
    report : callable
        Told after every level about how many gates there are, and the error on all rows together.
    elsewhere : float
        Weight of the rows beside those at hand, together, where that of those at hand is one.
    """
    sample = tries.sample
    chosen = np.linspace(0, len(sample.X) - 1, min(len(sample.X), _ROWS)).astype(np.intp)
    near = sample.part(chosen) if len(chosen) < len(sample.X) else sample
    X, weights = perturbed(near.X, near.weights, _TIMES * len(near.X), _SEED)
    unit = np.ldexp(1.0, np.frexp(sample.scale)[1] - 1)
    center = near.weights @ near.values
    values = (np.concatenate([near.values, form(X)]) - center) / unit
    X, weights = np.concatenate([near.X, X]), np.append(near.weights, elsewhere * weights) / (1.0 + elsewhere)
    ports = Ports.of(near.X, sample.input_range, sample.fixed.words)
    importance = np.square(unit / sample.scale) / len(unit)
    growth = Rows(ports.codes(X), values, weights).grown(ports, importance)
    places = (np.frexp(unit)[1] - 1).tolist()
    price, n_good, most = LARGEST, 0, min(tries.best_gates, _MOST_GATES)
    going = True
    while going:
        level = growth.level(price)
        report(level.gates, math.sqrt(level.loss))
        price *= FACTOR
        too_large = _COUNTED * level.gates > most
        going = price > _SMALLEST and n_good < _BEYOND and not too_large and not _hopeless(level, tries)
        if going and math.sqrt(level.loss) > _NEAR * tries.tolerance:
            continue
        graph = graph_of(level, growth.pool.definitions, ports, center / unit, places)
        if not follows(graph):
            continue
        error = tries.error_of(graph)
        tries.error = min(tries.error, error)
        if error <= tries.tolerance and not too_large:
            n_good += 1
            yield graph


def _hopeless(level: Level, tries: Tries) -> bool:
    """Return whether a large model, which has a rounded circuit, is too fine for growth.

    An error that falls like one over the gates, faster than that of sums does, would still be far from the one allowed.
    """
    is_large = _MOST_GATES <= tries.best_gates < math.inf
    if not is_large or level.gates < _HOPE * _MOST_GATES:
        return False
    return math.sqrt(level.loss) * level.gates > _NEAR * tries.tolerance * _MOST_GATES
