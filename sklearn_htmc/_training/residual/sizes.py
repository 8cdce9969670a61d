"""Networks of every size: up from the linear model, down from the trained one.

Small networks come from growth, large ones from removal; the two meet somewhere between 100 and 400 edges, and
whoever needs a size takes the better one. Growth minimises ``objective + price * edges`` for a falling price by moves
that are kept only if they lower it: new neurons, new edges, fewer edges, each followed by Gauss-Newton steps. A price
is finished when no move helps: a minimum under continuous and discrete moves.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sklearn_htmc._training.core.deadline import SECOND_ORDER
from sklearn_htmc._training.residual.growth import with_new_edges, with_new_neurons
from sklearn_htmc._training.residual.network import ResidualNetwork
from sklearn_htmc._training.second_order.gauss_newton import Point, Problem, descend
from sklearn_htmc._training.second_order.surgery import pruned

_PRICES = tuple(0.04 * 0.5**k for k in range(8))  # of an edge, in shares of the loss
_STEPS = 8  # Gauss-Newton steps after new edges
_FAILURES = 3  # moves in a row without success after which a price is finished
_WORTH = 1e-3  # relative fall of the objective that makes a move a success


def grow(problem: Problem, point: Point, room: ResidualNetwork, n_edges: int, seed: int) -> Iterator[Point]:
    """Yield networks as they grow, until they have more edges than asked for, nothing helps, or time is up.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    point : Point
        A small network to start from.
    room : ResidualNetwork
        The largest sizes allowed.
    n_edges : int
        Where to stop.
    seed : int
        Seed of the search for neurons.

    Yields
    ------
    Point
        After every successful move.
    """
    generator, rows = torch.Generator().manual_seed(seed), problem.metric_rows()
    yield point
    for share in _PRICES:
        price, failures, neurons_next = share * point.loss, 0, True
        while failures < _FAILURES and point.n_edges <= n_edges and problem.deadline.allows(SECOND_ORDER):
            if neurons_next:
                trial = with_new_neurons(point, rows, price, generator, room)
            else:
                trial = with_new_edges(problem, point, price)
            neurons_next = not neurons_next
            failures += 1
            following = point if trial is None else descend(problem, *trial, max_steps=_STEPS, tol=1e-3)
            if point.objective - following.objective <= _WORTH * point.objective:
                continue
            following = pruned(problem, following, price)
            gain = point.objective - following.objective + price * (point.n_edges - following.n_edges)
            if gain > _WORTH * point.objective:
                point, failures = following, 0
                yield point
