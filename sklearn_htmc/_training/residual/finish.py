"""From the end of the first-order phase to the finished network of one problem.

What does nothing goes, the rest descends to a minimum, a budget is met, simpler models are compared, and everything
is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sklearn_htmc._network import Floats, SizePath
from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.core.certificate import certify
from sklearn_htmc._training.core.deadline import SECOND_ORDER
from sklearn_htmc._training.core.objective import Rows, mean_loss, sensitivities
from sklearn_htmc._training.core.problems import Report, Settings
from sklearn_htmc._training.core.task import End, Finished, Network, Task, described
from sklearn_htmc._training.core.threads import Stop, in_threads
from sklearn_htmc._training.core.weightings import Weighting
from sklearn_htmc._training.residual.derivatives import ResidualCalculus
from sklearn_htmc._training.residual.linear import as_arrays, constant_candidate, linear_candidate
from sklearn_htmc._training.residual.network import ResidualNetwork, n_edges, network_of
from sklearn_htmc._training.residual.sizes import grow
from sklearn_htmc._training.second_order.gauss_newton import Point, Problem, descend
from sklearn_htmc._training.second_order.surgery import pruned, shrink

_LAST_STEPS = 15  # Gauss-Newton steps at the end
_BRIEF_STEPS = 5  # of them where networks are only to be ranked
_PATIENCE = 8  # single edges whose removal is tried at the very end
_SECOND_ORDER_EDGES = 800  # above this a step costs more than it is worth
_EDGES_PER_ROW = 3  # with more of them than that the data do not say where to go
_NEGLIGIBLE = 0.01  # root mean square of what the last removal may change, relative to that of the residual
_ROWS_PER_EDGE = 2  # beyond the budget growth stays below that
_MEETING = 250  # edges: removal goes down to there, growth up
_SEARCH_ROWS = 12_000  # the way to a budget looks at that many; the end looks at all
_SAMPLE_ROWS = 8_000  # of more than _SEARCH_ROWS on which removals are tried ...
_POLISH_STEPS = 5  # ... before Gauss-Newton steps on all
_LINEAR = 0.01  # strength of the linear model from which networks grow
_WAYS = 0.75  # share of the time that is left for the ways to a budget ...
_DOWN = 0.3  # ... and of that for removal, where growth comes after it; the second growth is not for those in a hurry
_FLOOR = 5e-4  # times the root mean square of the residual: least strength, against long chains of huge weights


@dataclass(frozen=True)
class ResidualFamily:
    """Residual networks with the ResNet norm.

    Attributes
    ----------
    architecture : ResidualNetwork
        The largest sizes.
    """

    architecture: ResidualNetwork

    @property
    def trained(self) -> ResidualNetwork:
        """Sizes of the first-order phase."""
        return self.architecture

    def path(self, rows: Rows, strengths: Sequence[float], seed: int, end: End) -> None:
        """Strengths are ranked by training."""

    def trials(self, rows: Rows, strengths: Sequence[float], seed: int, settings: Settings, watch: Report) -> None:
        """There is no path to compare with."""

    def begun(self, task: Task, settings: Settings, watch: Report) -> None:
        """Training comes first."""

    def finished(self, task: Task, trained: Network, settings: Settings, curve: Floats, end: End) -> Finished:
        """Finish one problem; see `task.Family`."""
        architecture = self.architecture
        rows, budget, start = task.rows, settings.max_edges, trained
        judge = Problem(rows, task.strength, ResidualCalculus(settings.weighting), end.deadline)
        candidates = [
            c for c in _simple_candidates(architecture, rows, task.strength) if budget is None or _size(c) <= budget
        ]
        ways: list[Network] = []
        loss = mean_loss(*trained, rows)
        if np.isfinite(loss):  # else it has diverged, and a simple candidate takes its place
            end.watch(0, loss, _size(trained))
            ways = [trained]
            if settings.polish:
                trained = _without_negligible(*trained, rows)
                ways = [trained]
                if budget is not None:
                    ways = _to_budget(judge.consistent(*trained), trained, architecture, budget, task.seed, end)
                elif end.deadline.allows(SECOND_ORDER):
                    ways = [_at_minimum(judge.consistent(*trained), trained, end, is_brief=settings.is_brief)]
            candidates.insert(0, ways[-1])
        objectives = np.array([judge.objective(network, parameters) for network, parameters in candidates])
        best = candidates[int(np.argmin(np.where(np.isfinite(objectives), objectives, np.inf)))]
        certificate = certify(*best, rows, task.strength, settings.weighting)
        certificate = replace(certificate, typical=_typical(start, task, settings))
        sizes = None if budget is None else _size_path([*ways, best], task, settings.weighting)
        return described(task, *best, certificate, curve, sizes)

    def measured(self, task: Task, trained: Network, settings: Settings, curve: Floats) -> Finished:
        """Measure a network as it is."""
        return described(task, *trained, certify(*trained, task.rows, task.strength, settings.weighting), curve)


def _typical(trained: Network, task: Task, settings: Settings) -> float:
    """Return the typical violation at the end of training: of that a simple candidate in its place says nothing.

    NaN where training has diverged, with a budget, for then that and not the strength says which edges are missing, and
    where networks are only ranked: nobody is warned of those.
    """
    rows = task.rows.thinned(_SEARCH_ROWS)
    if settings.max_edges is not None or settings.is_brief or not np.isfinite(mean_loss(*trained, rows)):
        return np.nan
    return certify(*trained, rows, task.strength, settings.weighting).typical


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


def _at_minimum(problem: Problem, network: Network, end: End, *, is_brief: bool) -> Network:
    """Descend to a minimum, of removals too, where the network is small enough and the rows can tell where it is."""
    if _size(network) > min(_SECOND_ORDER_EDGES, _EDGES_PER_ROW * len(problem.rows.X)):
        return network
    is_large = len(problem.rows.X) > _SEARCH_ROWS
    if is_large:
        problem = replace(problem, rows=problem.rows.single())
    if is_brief:
        return descend(problem, *network, max_steps=_BRIEF_STEPS, tol=1e-3).compacted()
    if not is_large:
        point = descend(problem, *network, max_steps=_LAST_STEPS, tol=1e-5)
        end.watch(0, point.loss, point.n_edges)
        return pruned(problem, point, 0.0, patience=_PATIENCE).compacted()
    # Which edges are worth their price some rows can tell; how large they are all rows tell in a few steps.
    sample = replace(problem, rows=problem.rows.thinned(_SAMPLE_ROWS))
    found = pruned(sample, descend(sample, *network, max_steps=_LAST_STEPS, tol=1e-4), 0.0).compacted()
    last = descend(problem, *found, max_steps=_POLISH_STEPS, tol=1e-5)
    end.watch(0, last.loss, last.n_edges)
    # Few rows may have most of the weight.
    return min((last.compacted(), network), key=lambda each: problem.objective(*each))


def _simple_candidates(architecture: ResidualNetwork, rows: Rows, strength: float) -> list[Network]:
    """Return the best linear network, where there is one, and the constant."""
    X, y, weights = as_arrays(rows)
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
    end: End,
) -> list[Network]:
    """Return networks of all sizes on the way, the last one within the budget and re-optimised on all rows."""
    rows = problem.rows.thinned(_SEARCH_ROWS)
    rms = (2.0 * mean_loss(*trained, rows)) ** 0.5
    problem = problem.at_least(_FLOOR * rms)
    search = replace(problem, rows=rows.single())
    simple = _simple_candidates(room, rows, _LINEAR)
    linear, constant = simple[0], simple[-1]  # the same where no line is better than the mean
    trained = _most_important(*trained, rows, max(budget, _SECOND_ORDER_EDGES))
    time = end.deadline.part(_WAYS)
    ways: list[Callable[[Problem], Iterator[Point]]] = [lambda search: _down(search, trained, budget)]
    if budget < _MEETING:  # one growth that goes all the way, and another try at the budget itself
        whole = min(_MEETING, len(rows.X) // _ROWS_PER_EDGE)
        ways.append(lambda search: _up(search, linear, room, budget, max(budget, whole), seed))
        ways.append(lambda search: _up(search, linear, room, budget, budget, seed + 1))

    def one_way(place: int, stop: Stop) -> list[Point]:
        points, share = [], _DOWN if place == 0 and end.n_threads == 1 else 1.0
        for point in ways[place](replace(search, deadline=time.part(share))):
            end.watch(0, point.loss, point.n_edges)
            stop.check()
            points.append(point)
        return points

    found = in_threads(one_way, range(len(ways)), end.n_threads)
    points = [point for way in found for point in way]
    if 2 * max((p.n_edges for p in points if p.n_edges <= budget), default=0) < budget:
        # Growth has run out of room or of moves: removal goes all the way.
        ways.append(lambda search: shrink(search, found[0][-1], budget))
        points += one_way(len(ways) - 1, Stop())
    if time.left <= 0:  # removal may not have come to the budget
        cut = _most_important(*found[0][-1].compacted(), rows, budget)
        points.append(descend(search, *cut, max_steps=_BRIEF_STEPS, tol=1e-3))
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


def _size_path(ways: list[Network], task: Task, weighting: Weighting) -> SizePath:
    """Return the networks that no smaller one fits as well as, from small to large."""
    measured = [(_size(network), mean_loss(*network, task.rows), network) for network in ways]
    kept: list[tuple[int, float, Network]] = []
    for item in sorted(measured, key=lambda item: item[:2]):
        if np.isfinite(item[1]) and (not kept or item[1] < kept[-1][1]):
            kept.append(item)
    networks = tuple(task.exported(*network) for _, _, network in kept)
    certificates = [certify(*network, task.rows, task.strength, weighting) for _, _, network in kept]
    return SizePath(
        networks=networks,
        n_edges=np.array([network.n_edges for network in networks], dtype=np.int64),
        loss=np.array([loss for _, loss, _ in kept]),
        validation_loss=np.array([task.judged(*network) for _, _, network in kept]),
        objective=np.array([c.objective for c in certificates]),
        norm=np.array([c.norm for c in certificates]),
        stationarity=np.array([c.stationarity for c in certificates]),
        feature_norms=np.array([c.feature_norms for c in certificates]),
    )
