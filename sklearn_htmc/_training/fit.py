"""A batch of problems in, a regularisation path out.

Folds are 0/1 sample weights, restarts are seeds, a path is strengths: one fit, a path, a cross-validated path are
the same call with a different batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from sklearn_htmc._network import Floats, RegularizationPath, SizePath, SparseNetwork
from sklearn_htmc._training.architecture import Parameters
from sklearn_htmc._training.certificate import Certificate, certify
from sklearn_htmc._training.first_order import Memory, Problems, Report, Settings, train
from sklearn_htmc._training.gauss_newton import Point, Problem, descend
from sklearn_htmc._training.linear import constant_candidate, linear_candidate
from sklearn_htmc._training.objective import Rows, mean_loss, sensitivities
from sklearn_htmc._training.residual import Arrays, ResidualNetwork, as_network, n_edges
from sklearn_htmc._training.surgery import shrink
from sklearn_htmc._training.threads import Stop, in_threads, one_thread_each

_CHUNK = 16  # problems that train as one tensor; more of them gain nothing on a CPU
_LAST_STEPS = 15  # Gauss-Newton steps at the budget
_SECOND_ORDER_EDGES = 800  # above this a step costs more than it is worth
_EDGES_PER_ROW = 3  # with more of them than that the data do not say where to go
_NEGLIGIBLE = 0.01  # root mean square of what the last removal may change, relative to that of the residual


@dataclass(frozen=True, eq=False)
class _Finished:
    """One problem at its end."""

    network: SparseNetwork
    certificate: Certificate
    n_edges: int
    validation_loss: float
    curve: Floats
    sizes: SizePath | None = None


def fit_problems(
    X: Floats,
    y: Floats,
    problems: Problems,
    *,
    architecture: ResidualNetwork,
    settings: Settings,
    initial: Arrays | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> RegularizationPath:
    """Fit all problems.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Standardised features.
    y : ndarray of shape (n_samples, n_outputs)
        Standardised targets.
    problems : Problems
        Strengths, seeds and weights.
    architecture : ResidualNetwork
        Sizes of the network.
    settings : Settings
        Settings of the first-order phase.
    initial : dict of ndarray or None
        A network to start all problems from; None starts from random weights.
    device : str
        Torch device of the first-order phase; the rest runs on the CPU.
    report : callable or None
        See `first_order.train`.

    Returns
    -------
    RegularizationPath
        One entry per problem.
    """
    n_rows = int(max(np.count_nonzero(problems.sample_weights, axis=1)))
    X32, y32 = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in (X, y))

    def one_chunk(bounds: tuple[int, int], stop: Stop) -> list[_Finished]:
        def watch(n_done: int, loss: float, edges: float) -> None:
            stop.check()
            if report is not None:
                report(n_done, loss, edges)

        part = problems.part(*bounds)
        start = None if initial is None else _resume(architecture, part, initial)
        trained = train(architecture, X32, y32, part, settings, n_rows=n_rows, initial=start, report=watch)
        return [
            _finish(
                architecture,
                trained.parameters,
                part,
                problem,
                X,
                y,
                settings,
                trained.curves[problem],
                stop,
            )
            for problem in range(len(part))
        ]

    with one_thread_each() as n_threads:
        parts = in_threads(one_chunk, _chunks(len(problems), X32.device.type), n_threads)
    return _as_path(problems, [item for part in parts for item in part])


def fit_more(
    X: Floats,
    y: Floats,
    problems: Problems,
    *,
    architecture: ResidualNetwork,
    settings: Settings,
    initial: Arrays | None,
    memory: Memory | None,
    device: str = "cpu",
) -> tuple[RegularizationPath, Memory | None]:
    """Train a single problem on with new rows; the parameters are those of `fit_problems`.

    The result is measured on the new rows, and no simpler model takes its place: they are only a part of the data.
    """
    with one_thread_each():
        X32, y32 = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in (X, y))
        start = None if initial is None else _resume(architecture, problems, initial)
        trained = train(architecture, X32, y32, problems, settings, n_rows=len(X), initial=start, memory=memory)
        network, parameters = architecture.compact(trained.parameters.views, 0)
        rows = weighted_rows(X, y, problems.sample_weights[0])
        certificate = certify(network, parameters, rows, problems.strengths[0], settings.weighting)
        item = _described(network, parameters, certificate, np.nan, X, trained.curves[0])
    return _as_path(problems, [item]), trained.memory


def _chunks(n_problems: int, device_type: str) -> list[tuple[int, int]]:
    """Cut a batch into an even number of nearly equal chunks; a GPU takes all problems at once."""
    n_chunks = 1 if device_type != "cpu" else min(n_problems, 2 * -(-n_problems // (2 * _CHUNK)))
    ends = np.linspace(0, n_problems, n_chunks + 1).round().astype(int)
    return [(int(a), int(b)) for a, b in pairwise(ends)]


def _resume(architecture: ResidualNetwork, problems: Problems, initial: Arrays) -> Parameters:
    """Return random parameters whose leading units are a given network; the others do not reach the output yet."""
    parameters = architecture.initial(list(problems.seeds))
    for name, view in parameters.views.items():
        if name[0] in "UA":
            view.zero_()
    for problem in range(len(problems)):
        architecture.embed(initial, parameters, problem)
    return parameters


def _finish(
    architecture: ResidualNetwork,
    parameters: Parameters,
    problems: Problems,
    problem: int,
    X: Floats,
    y: Floats,
    settings: Settings,
    curve: Floats,
    stop: Stop,
) -> _Finished:
    """Compact one problem, clean it, compare it with the linear model and the constant, and measure it."""
    rows = weighted_rows(X, y, problems.sample_weights[problem])
    strength = problems.strengths[problem]
    points: list[Point] = []
    candidates = [architecture.compact(parameters.views, problem)]
    if np.isfinite(mean_loss(*candidates[0], rows)):  # else it has diverged, and a simple candidate takes its place
        points = _second_order(*_without_negligible(*candidates[0], rows), rows, strength, settings, stop)
        candidates = [points[-1].compacted()]
    for arrays in _simple_candidates(architecture, rows, strength):
        if settings.max_edges is None or n_edges(arrays) <= settings.max_edges:
            candidates.append(_from_arrays(architecture, arrays))
    measured = [(certify(*c, rows, strength, settings.weighting), c) for c in candidates]
    finite = [m for m in measured if np.isfinite(m[0].objective)]
    certificate, (network, best) = min(finite, key=lambda m: m[0].objective)
    held_out, judges = problems.validation_weights, None
    if held_out is not None and held_out[problem].any():
        judges = weighted_rows(X, y, held_out[problem])
    item = _described(network, best, certificate, _judged(network, best, judges), X, curve)
    sizes = [(p.network, p.parameters, p.loss) for p in points] + [(network, best, certificate.loss)]
    return replace(item, sizes=_size_path(sizes, judges, X))


def _judged(network: ResidualNetwork, parameters: Parameters, judges: Rows | None) -> float:
    return np.nan if judges is None else mean_loss(network, parameters, judges)


def _size_path(sizes: list[tuple[ResidualNetwork, Parameters, float]], judges: Rows | None, X: Floats) -> SizePath:
    """Return the networks that no smaller one fits as well as, from small to large."""
    described = [(n_edges(network.arrays(p.views)), loss, network, p) for network, p, loss in sizes]
    kept: list[tuple[int, float, ResidualNetwork, Parameters]] = []
    for item in sorted(described, key=lambda item: item[:2]):
        if not kept or item[1] < kept[-1][1]:
            kept.append(item)
    input_range = np.array([X.min(axis=0), X.max(axis=0)])
    return SizePath(
        networks=tuple(as_network(network.arrays(p.views), input_range) for _, _, network, p in kept),
        n_edges=np.array([size for size, _, _, _ in kept], dtype=np.int64),
        loss=np.array([loss for _, loss, _, _ in kept]),
        validation_loss=np.array([_judged(network, p, judges) for _, _, network, p in kept]),
    )


def _described(
    network: ResidualNetwork,
    parameters: Parameters,
    certificate: Certificate,
    validation_loss: float,
    X: Floats,
    curve: Floats,
) -> _Finished:
    arrays = network.arrays(parameters.views)
    input_range = np.array([X.min(axis=0), X.max(axis=0)])
    return _Finished(as_network(arrays, input_range), certificate, n_edges(arrays), validation_loss, curve)


def weighted_rows(X: Floats, y: Floats, weights: Floats) -> Rows:
    """Return the rows with positive weight as float64 tensors."""
    used = np.flatnonzero(weights)
    if used.size < len(weights):
        X, y, weights = X[used], y[used], weights[used]
    return Rows(torch.as_tensor(X), torch.as_tensor(y), torch.as_tensor(weights / weights.sum()))


def _without_negligible(
    network: ResidualNetwork, parameters: Parameters, rows: Rows
) -> tuple[ResidualNetwork, Parameters]:
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


def _second_order(
    network: ResidualNetwork, parameters: Parameters, rows: Rows, strength: float, settings: Settings, stop: Stop
) -> list[Point]:
    """Descend to a minimum, through ever smaller networks where there is a budget; return all of them in that order."""
    budget = settings.max_edges
    problem = Problem.consistent(rows, strength, settings.weighting, network, parameters)
    if budget is not None:
        network, parameters = _most_important(network, parameters, rows, max(budget, _SECOND_ORDER_EDGES))
    points = [problem.at(network, parameters)]
    if budget is not None and budget < _SECOND_ORDER_EDGES:
        for point in shrink(problem, points[0], budget):
            stop.check()
            points.append(point)
    last = points[-1]
    if last.n_edges <= min(_SECOND_ORDER_EDGES, _EDGES_PER_ROW * len(rows.X)) or len(points) > 1:
        points.append(descend(problem, last.network, last.parameters, max_steps=_LAST_STEPS, tol=1e-5))
    return points


def _most_important(
    network: ResidualNetwork, parameters: Parameters, rows: Rows, n_kept: int
) -> tuple[ResidualNetwork, Parameters]:
    """Keep the most important edges; the first-order phase has usually seen to it already."""
    if n_edges(network.arrays(parameters.views)) <= n_kept:
        return network, parameters
    importance = sensitivities(network, parameters, rows)
    importance.flat.mul_(parameters.flat.abs())
    importance.views["c"].fill_(np.inf)
    order = importance.flat.argsort(descending=True)
    trial = parameters.with_flat(parameters.flat.clone())
    trial.flat[order[n_kept + network.n_outputs :]] = 0.0
    return network.compact(trial.views, 0)


def _simple_candidates(architecture: ResidualNetwork, rows: Rows, strength: float) -> list[Arrays]:
    """Return the best linear network, where there is one, and the constant."""
    X, y, weights = rows.X.numpy(), rows.y.numpy(), rows.weights.numpy()
    linear = linear_candidate(X, y, weights, strength, width=architecture.width)
    constant = constant_candidate(y, weights, n_features=X.shape[1])
    return [constant] if linear is None else [linear, constant]


def _from_arrays(architecture: ResidualNetwork, arrays: Arrays) -> tuple[ResidualNetwork, Parameters]:
    """Return a network without blocks."""
    small = ResidualNetwork(architecture.n_features, architecture.n_outputs, arrays["e"].size, ())
    return small, small.embed(arrays, Parameters.zeros(small.shapes, 1, dtype=torch.float64))


def _as_path(problems: Problems, items: list[_Finished]) -> RegularizationPath:
    certificates = [item.certificate for item in items]
    return RegularizationPath(
        strengths=np.array(problems.strengths),
        networks=tuple(item.network for item in items),
        objective=np.array([c.objective for c in certificates]),
        loss=np.array([c.loss for c in certificates]),
        norm=np.array([c.norm for c in certificates]),
        stationarity=np.array([c.stationarity for c in certificates]),
        n_edges=np.array([item.n_edges for item in items], dtype=np.int64),
        validation_loss=np.array([item.validation_loss for item in items]),
        loss_curves=tuple(item.curve for item in items),
        feature_norms=np.array([c.feature_norms for c in certificates]),
        sizes=tuple(item.sizes for item in items),
    )
