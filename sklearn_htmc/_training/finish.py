"""From the end of the first-order phase to the finished network of one problem.

What does nothing goes, the rest descends to a minimum, a budget is met, simpler models are compared, and everything
is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from sklearn_htmc._network import Floats, SizePath, SparseNetwork
from sklearn_htmc._training.architecture import Parameters
from sklearn_htmc._training.certificate import Certificate, certify
from sklearn_htmc._training.first_order import Problems, Report, Settings
from sklearn_htmc._training.gauss_newton import Point, Problem, descend
from sklearn_htmc._training.linear import constant_candidate, linear_candidate
from sklearn_htmc._training.objective import Rows, mean_loss, sensitivities
from sklearn_htmc._training.residual import ResidualNetwork, as_network, n_edges, network_of
from sklearn_htmc._training.sizes import grow
from sklearn_htmc._training.surgery import pruned, shrink
from sklearn_htmc._training.threads import Stop, in_threads

_LAST_STEPS = 15  # Gauss-Newton steps at the end
_PATIENCE = 8  # single edges whose removal is tried at the very end
_SECOND_ORDER_EDGES = 800  # above this a step costs more than it is worth
_EDGES_PER_ROW = 3  # with more of them than that the data do not say where to go
_NEGLIGIBLE = 0.01  # root mean square of what the last removal may change, relative to that of the residual
_ROWS_PER_EDGE = 2  # beyond the budget growth stays below that
_MEETING = 250  # edges: removal goes down to there, growth up
_SEARCH_ROWS = 12_000  # the way to a budget looks at that many; the end looks at all
_LINEAR = 0.01  # strength of the linear model from which networks grow
_FLOOR = 5e-4  # times the root mean square of the residual: least strength, against long chains of huge weights

Network = tuple[ResidualNetwork, Parameters]


@dataclass(frozen=True, eq=False)
class Finished:
    """One problem at its end."""

    network: SparseNetwork
    certificate: Certificate
    n_edges: int
    validation_loss: float
    curve: Floats
    sizes: SizePath | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """One problem of a batch with its own rows.

    Attributes
    ----------
    rows : Rows
        Rows with positive weight.
    judges : Rows or None
        Held-out rows.
    strength : float
        Penalty strength.
    seed : int
        Seed.
    """

    rows: Rows
    judges: Rows | None
    strength: float
    seed: int

    @classmethod
    def of(cls, problems: Problems, problem: int, X: Floats, y: Floats) -> Task:
        """Take one problem out of a batch."""
        held_out = problems.validation_weights
        judges = None if held_out is None or not held_out[problem].any() else weighted_rows(X, y, held_out[problem])
        return cls(
            rows=weighted_rows(X, y, problems.sample_weights[problem]),
            judges=judges,
            strength=problems.strengths[problem],
            seed=problems.seeds[problem],
        )

    def judged(self, network: ResidualNetwork, parameters: Parameters) -> float:
        """Return the loss on the held-out rows; NaN where there are none."""
        return np.nan if self.judges is None else mean_loss(network, parameters, self.judges)

    def exported(self, network: ResidualNetwork, parameters: Parameters) -> SparseNetwork:
        """Return a network of the problem as a frozen object."""
        input_range = np.array([self.rows.X.amin(0).numpy(), self.rows.X.amax(0).numpy()])
        return as_network(network.arrays(parameters.views), input_range)


def finished(
    task: Task,
    architecture: ResidualNetwork,
    trained: Network,
    settings: Settings,
    curve: Floats,
    watch: Report,
    n_threads: int,
) -> Finished:
    """Finish one problem.

    Parameters
    ----------
    task : Task
        The problem.
    architecture : ResidualNetwork
        The largest sizes allowed.
    trained : ResidualNetwork and Parameters
        What the first-order phase has ended with, compacted.
    settings : Settings
        Settings of the first-order phase, the budget among them.
    curve : ndarray of shape (n_iter,)
        Loss of the passes.
    watch : callable
        Called with 0, loss and edges of every network on the way to a budget; see `first_order.train`.
    n_threads : int
        Threads to use.
    """
    rows, budget = task.rows, settings.max_edges
    candidates = [
        c for c in _simple_candidates(architecture, rows, task.strength) if budget is None or _size(c) <= budget
    ]
    ways: list[Network] = []
    if np.isfinite(mean_loss(*trained, rows)):  # else it has diverged, and a simple candidate takes its place
        ways = [trained]
        if settings.polish:
            trained = _without_negligible(*trained, rows)
            problem = Problem.consistent(rows, task.strength, settings.weighting, *trained)
            if budget is None:
                ways = [_at_minimum(problem, trained)]
            else:
                ways = _to_budget(problem, trained, architecture, budget, task.seed, watch, n_threads)
        candidates.insert(0, ways[-1])
    judge = Problem(rows, task.strength, settings.weighting)
    objectives = np.array([judge.objective(network, parameters) for network, parameters in candidates])
    best = candidates[int(np.argmin(np.where(np.isfinite(objectives), objectives, np.inf)))]
    certificate = certify(*best, rows, task.strength, settings.weighting)
    sizes = None if budget is None else _size_path([*ways, best], task)
    return described(task, *best, certificate, curve, sizes)


def described(
    task: Task,
    network: ResidualNetwork,
    parameters: Parameters,
    certificate: Certificate,
    curve: Floats,
    sizes: SizePath | None = None,
) -> Finished:
    """Return the result that belongs to a certified network."""
    network_, judged = task.exported(network, parameters), task.judged(network, parameters)
    return Finished(network_, certificate, _size((network, parameters)), judged, curve, sizes)


def weighted_rows(X: Floats, y: Floats, weights: Floats) -> Rows:
    """Return the rows with positive weight as float64 tensors."""
    used = np.flatnonzero(weights)
    if used.size < len(weights):
        X, y, weights = X[used], y[used], weights[used]
    return Rows(torch.as_tensor(X), torch.as_tensor(y), torch.as_tensor(weights / weights.sum()))


def _size(network: Network) -> int:
    return n_edges(network[0].arrays(network[1].views))


# --- one network ----------------------------------------------------------------------------------


def _without_negligible(network: ResidualNetwork, parameters: Parameters, rows: Rows) -> Network:
    """Remove edges that do nothing on the rows, re-centre the output, and compact again.

    Importance is a derivative, and an edge whose derivative is zero can still hold a neuron shut. So a set of edges
    goes only if the loss agrees; else a smaller set is tried.
    """
    loss = mean_loss(network, parameters, rows)
    omega = sensitivities(network, parameters, rows)
    squares = (omega.flat * parameters.flat).square()
    squares[(omega.flat == 0) | (parameters.flat == 0)] = np.inf  # c, and what is gone or cannot be judged
    squares, order = squares.sort()
    for share in (1.0, 0.3, 0.1):
        n_removed = int((squares.cumsum(0) <= (share * _NEGLIGIBLE) ** 2 * 2.0 * loss).sum())
        trial = parameters.with_flat(parameters.flat.clone())
        trial.flat[order[:n_removed]] = 0.0
        if mean_loss(network, trial, rows) <= loss * (1.0 + _NEGLIGIBLE):
            network, parameters = network.compact(trial.views, 0)
            break
    for X, y, weights in rows.chunks():
        f, _ = network.forward(parameters.views, X)
        parameters.views["c"] += ((y - f) * weights).sum(1)
    return network, parameters


def _at_minimum(problem: Problem, network: Network) -> Network:
    """Descend to a minimum, of removals too, where the network is small enough and the rows can tell where it is."""
    if _size(network) > min(_SECOND_ORDER_EDGES, _EDGES_PER_ROW * len(problem.rows.X)):
        return network
    point = descend(problem, *network, max_steps=_LAST_STEPS, tol=1e-5)
    return pruned(problem, point, 0.0, patience=_PATIENCE).compacted()


def _simple_candidates(architecture: ResidualNetwork, rows: Rows, strength: float) -> list[Network]:
    """Return the best linear network, where there is one, and the constant."""
    X, y, weights = rows.X.numpy(), rows.y.numpy(), rows.weights.numpy()
    linear = linear_candidate(X, y, weights, strength, width=architecture.width)
    constant = constant_candidate(y, weights, n_features=X.shape[1])
    return [
        network_of(arrays, architecture.n_features, architecture.n_blocks)
        for arrays in (linear, constant)
        if arrays is not None
    ]


# --- the way to a budget --------------------------------------------------------------------------


def _to_budget(
    problem: Problem,
    trained: Network,
    room: ResidualNetwork,
    budget: int,
    seed: int,
    watch: Report,
    n_threads: int,
) -> list[Network]:
    """Return networks of all sizes on the way, the last one within the budget and re-optimised on all rows."""
    rows = problem.rows.thinned(_SEARCH_ROWS)
    rms = (2.0 * mean_loss(*trained, rows)) ** 0.5
    problem = problem.at_least(_FLOOR * rms)
    search = replace(problem, rows=rows.single())
    simple = _simple_candidates(room, rows, _LINEAR)
    linear, constant = simple[0], simple[-1]  # the same where no line is better than the mean
    trained = _most_important(*trained, rows, max(budget, _SECOND_ORDER_EDGES))

    def one_way(way: Iterator[Point], stop: Stop) -> list[Point]:
        points = []
        for point in way:
            watch(0, point.loss, point.n_edges)
            stop.check()
            points.append(point)
        return points

    ways = [_down(search, trained, budget)]
    if budget < _MEETING:  # one growth that goes all the way, and another try at the budget itself
        whole = min(_MEETING, len(rows.X) // _ROWS_PER_EDGE)
        ways.append(_up(search, linear, room, budget, max(budget, whole), seed))
        ways.append(_up(search, linear, room, budget, budget, seed + 1))
    found = in_threads(one_way, ways, n_threads)
    points = [point for way in found for point in way]
    if 2 * max((p.n_edges for p in points if p.n_edges <= budget), default=0) < budget:
        # Growth has run out of room or of moves: removal goes all the way.
        points += one_way(shrink(search, found[0][-1], budget), Stop())
    networks = [constant, *(point.compacted() for point in points)]
    within = [network for network in networks if _size(network) <= budget]
    losses = [mean_loss(network, parameters, problem.rows) for network, parameters in within]
    best = within[int(np.argmin(losses))]
    last = descend(problem, *best, max_steps=_LAST_STEPS, tol=1e-5)
    return [*networks, pruned(problem, last, 0.0, patience=_PATIENCE).compacted()]


def _down(problem: Problem, trained: Network, budget: int) -> Iterator[Point]:
    """Yield ever smaller networks from the trained one on, to where growth is better or to the budget."""
    point = problem.at(*trained)
    yield point
    if point.n_edges <= _SECOND_ORDER_EDGES:
        yield from shrink(problem, point, max(budget, _MEETING))


def _up(
    problem: Problem, linear: Network, room: ResidualNetwork, budget: int, limit: int, seed: int
) -> Iterator[Point]:
    """Yield ever larger networks from a linear one on, then go back from just beyond the budget into it."""
    beyond = None
    for point in grow(problem, problem.at(*linear), room, limit, seed):
        if beyond is None and point.n_edges > budget:
            beyond = point
        yield point
    if beyond is not None:
        yield from shrink(problem, beyond, budget)


def _most_important(network: ResidualNetwork, parameters: Parameters, rows: Rows, n_kept: int) -> Network:
    """Keep the most important edges; the first-order phase has usually seen to it already."""
    if _size((network, parameters)) <= n_kept:
        return network, parameters
    importance = sensitivities(network, parameters, rows)
    importance.flat.mul_(parameters.flat.abs())
    importance.views["c"].fill_(np.inf)
    order = importance.flat.argsort(descending=True)
    trial = parameters.with_flat(parameters.flat.clone())
    trial.flat[order[n_kept + network.n_outputs :]] = 0.0
    return network.compact(trial.views, 0)


def _size_path(ways: list[Network], task: Task) -> SizePath:
    """Return the networks that no smaller one fits as well as, from small to large."""
    measured = [(_size(network), mean_loss(*network, task.rows), network) for network in ways]
    kept: list[tuple[int, float, Network]] = []
    for item in sorted(measured, key=lambda item: item[:2]):
        if np.isfinite(item[1]) and (not kept or item[1] < kept[-1][1]):
            kept.append(item)
    return SizePath(
        networks=tuple(task.exported(*network) for _, _, network in kept),
        n_edges=np.array([size for size, _, _ in kept], dtype=np.int64),
        loss=np.array([loss for _, loss, _ in kept]),
        validation_loss=np.array([task.judged(*network) for _, _, network in kept]),
    )
