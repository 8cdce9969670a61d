"""From the end of the first-order phase to the finished composition of shallow networks, for one problem.

A single shallow network has a convex objective over measures on neurons. It is solved by turns: the outgoing weights
and the affine part of the neurons at hand by Gauss-Newton steps, which are exact there, and then the neurons that are
missed most come in (Frank-Wolfe with full correction). Neurons at hand climb as well, so that a hyperplane moves by
being replaced. In compositions hyperplanes move with everything else, and neurons of all layers come in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from sklearn_htmc._network import Floats
from sklearn_htmc._training.architecture import Arrays, Parameters
from sklearn_htmc._training.first_order import Settings
from sklearn_htmc._training.gauss_newton import Point, Problem, descend
from sklearn_htmc._training.lasso import lasso, shared_lasso
from sklearn_htmc._training.linear import quietly
from sklearn_htmc._training.objective import Rows, mean_loss
from sklearn_htmc._training.spline import SplineNetwork
from sklearn_htmc._training.spline_calculus import SplineCalculus, backward
from sklearn_htmc._training.spline_certificate import certify
from sklearn_htmc._training.spline_neurons import fewer_neurons, with_violations, without_negligible, without_useless
from sklearn_htmc._training.task import End, Finished, Network, Task, described

_CONVEX_ROUNDS = 100
_WORTH = 3e-3  # relative fall of the objective in a round of a composition, to go on
_STEPS = 10  # Gauss-Newton steps of a round ...
_FALL = 1e-6  # ... which ends where the objective falls by less, relative
_GLANCE = 0.25  # effort of a search where a neuron need not be the best
_FEW = 10  # neurons found, or fewer, after which the effort doubles ...
_EFFORT = 4.0  # ... up to this
_CONFIRMED = 2  # searches in a row with all effort that find nothing
_PARAMETERS = 1_000  # that move in a step, at most
_PER_ROW = 3  # with more of them than that the data do not say where to go
_ALL_KNOTS = 1_000  # rows of one feature up to which all knots are there from the start
_DESIGN_ENTRIES = 4_000_000  # of the columns held at a time
_PATIENCE = 3  # neurons in a row that help nothing, after which growth ends
_GROWN = 40  # neurons of a network up to which growth is tried as well
_ROUND = 0.1  # share of the neurons that go in one round


@dataclass(frozen=True)
class SplineFamily:
    """Compositions of shallow networks.

    Attributes
    ----------
    architecture : SplineNetwork
        Sizes of the first-order phase.
    max_neurons : int or None
        Budget of neurons of all layers.
    rounds : int
        Rounds of descent and entry for a composition, at most; growth has three times as many.
    wide : int
        Inner coordinates at the start of training, at least.
    """

    architecture: SplineNetwork
    max_neurons: int | None = None
    rounds: int = 12
    wide: int = 8

    @property
    def trained(self) -> SplineNetwork:
        """Sizes of the first-order phase: few coordinates are found best among some more."""
        widths, ranks = self.architecture.widths, self.architecture.widths[1:-1]
        wide = tuple(max(rank, self.wide) for rank in ranks)
        return replace(self.architecture, widths=(widths[0], *wide, widths[-1]), ranks=ranks)

    def finished(self, task: Task, trained: Network, settings: Settings, curve: Floats, end: End) -> Finished:
        """Finish one problem; see `task.Family`."""
        rows, judge = task.rows, Problem(task.rows, task.strength, SplineCalculus())
        finite = np.isfinite(mean_loss(*trained, rows))  # else it has diverged
        if finite:
            trained = trained[0].narrowed(trained[1], rows.X, rows.weights)
        candidates: list[Network] = [self.architecture.of(constant(self.architecture, rows))]
        if self.architecture.skip and self.architecture.n_outputs <= min(self.architecture.widths[1:]):
            candidates.append(self.architecture.of(linear(self.architecture, rows, task.strength)))
        simple = candidates[-1]
        if finite:
            candidates.append(without_negligible(*trained, rows))
        if self.max_neurons is not None or settings.polish or self._has_one_input:
            generator = torch.Generator().manual_seed(task.seed)
            start = min(candidates, key=lambda c: _objective(judge, c))
            improve = self._solved if self._is_lasso else self._improved
            point = self._to_budget(judge, improve(judge, start, generator, end), end)
            candidates = [*(c for c in candidates if self._fits(c)), point.compacted()]
            room = min(_GROWN, _GROWN if self.max_neurons is None else self.max_neurons)
            if not self._is_lasso and sum(point.network.neurons) <= _GROWN:
                candidates.append(self._grown(judge, simple, room, generator, end).compacted())
        best = without_idle(*min(candidates, key=lambda c: _objective(judge, c)), rows)
        other = torch.Generator().manual_seed(task.seed + 1) if settings.polish else None
        return described(task, *best, certify(*best, rows, task.strength, other), curve)

    def measured(self, task: Task, trained: Network, settings: Settings, curve: Floats) -> Finished:
        """Measure a network as it is."""
        return described(task, *trained, certify(*trained, task.rows, task.strength, None), curve)

    def _fits(self, candidate: Network) -> bool:
        return self.max_neurons is None or sum(candidate[0].neurons) <= self.max_neurons

    @property
    def _is_lasso(self) -> bool:
        return self.architecture.n_layers == 1

    @property
    def _has_one_input(self) -> bool:
        """Whether solving is a matter of milliseconds."""
        return self._is_lasso and self.architecture.widths[0] == 1

    def _solved(self, judge: Problem, start: Network, generator: torch.Generator, end: End) -> Point:
        """Solve for a single shallow network: a lasso over neurons that come and go."""
        network, parameters = start
        if network.widths[0] == 1:
            network, parameters = network.of(knots_at_rows(network, parameters, judge.rows))
        point, effort, confirmed = judge.at(*fitted_outgoing(network, parameters, judge)), _GLANCE, 0
        for _ in range(_CONVEX_ROUNDS):
            end.watch(0, point.loss, point.n_edges)
            grown = with_violations(judge, point, generator, effort)
            confirmed = confirmed + 1 if grown is None and effort == _EFFORT else 0
            if confirmed == _CONFIRMED:
                break
            if grown is None or sum(grown[0].neurons) - sum(point.network.neurons) <= _FEW:
                effort = min(2.0 * effort, _EFFORT)
            if grown is not None:
                point = judge.at(*fitted_outgoing(*grown, judge))
        return point

    def _improved(self, judge: Problem, start: Network, generator: torch.Generator, end: End) -> Point:
        """Descend and take neurons in until neither helps, or for as long as it is worth it."""
        point, before = judge.at(*start), math.inf
        for _ in range(self.rounds):
            problem = _movable(judge, point.network, point.parameters)
            if problem is None:
                break
            following = descend(problem, point.network, point.parameters, max_steps=_STEPS, tol=_FALL)
            end.watch(0, following.loss, following.n_edges)
            converged = before - following.objective <= _WORTH * following.objective
            before, point = following.objective, following
            if self.architecture.penalty == "multitask":
                point = without_useless(problem, point)
            if converged:
                break
            grown = with_violations(problem, point, generator)
            if grown is not None and problem.objective(*grown) <= 2.0 * point.objective:
                point = problem.at(*grown)
        problem = _movable(judge, *point.compacted())
        if problem is not None:
            point = descend(problem, *point.compacted(), max_steps=2 * _STEPS, tol=_FALL)
            if self.architecture.penalty == "multitask":
                point = without_useless(problem, point)
        return judge.at(*point.compacted())

    def _grown(self, judge: Problem, start: Network, limit: int, generator: torch.Generator, end: End) -> Point:
        """Take neurons in one by one from a simple network on, up to a limit: the other way to small networks."""
        point, failures = judge.at(*start), 0
        for _ in range(min(2 * limit, 3 * self.rounds)):
            room = min(max(1, limit // 20), limit - sum(point.network.neurons))
            grown = with_violations(judge, point, generator, _GLANCE, room=room)
            trial = point.compacted() if grown is None else grown
            problem = _movable(judge, *trial)
            if problem is None:
                break
            following = descend(problem, *trial, max_steps=2 * _STEPS, tol=_FALL)
            failures = 0 if following.objective < (1.0 - _FALL) * point.objective else failures + 1
            if failures == _PATIENCE:
                break
            if following.objective < point.objective:
                point = judge.at(*following.compacted())
            end.watch(0, point.loss, point.n_edges)
        return point

    def _to_budget(self, judge: Problem, point: Point, end: End) -> Point:
        """Remove neurons, a few at a time, the others compensating, until the budget is met."""
        while self.max_neurons is not None and sum(point.network.neurons) > self.max_neurons:
            n_neurons = sum(point.network.neurons)
            n_gone = min(max(1, int(_ROUND * n_neurons)), n_neurons - self.max_neurons)
            problem = _movable(judge, *point.compacted())
            smaller = fewer_neurons(judge if problem is None else problem, point, n_gone, exact=problem is not None)
            if problem is not None:
                smaller = descend(problem, *smaller.compacted(), max_steps=_STEPS, tol=1e-5)
            point = judge.at(*smaller.compacted())
            end.watch(0, point.loss, point.n_edges)
        return point


def _objective(judge: Problem, candidate: Network) -> float:
    value = judge.objective(*candidate)
    return value if np.isfinite(value) else np.inf


def _movable(judge: Problem, network: SplineNetwork, parameters: Parameters) -> Problem | None:
    """Return the problem with the parameters that may move in a network of this size; None where it is too large."""
    convex = network.n_layers == 1
    for moving in (False,) if convex else (True, False):
        calculus = SplineCalculus(moving)
        n_moving = int(calculus.kinds(network, parameters).active.sum())
        if convex or n_moving <= min(_PARAMETERS, _PER_ROW * len(judge.rows.X)):
            return replace(judge, calculus=calculus)
    return None


# --- one shallow network --------------------------------------------------------------------------


def knots_at_rows(network: SplineNetwork, parameters: Parameters, rows: Rows) -> Arrays:
    """Return a network of one feature with its knots at rows, or where interpolants touch: optima have no others."""
    arrays = network.arrays(parameters.views)
    points = np.unique(np.append(rows.X[:, 0].numpy(), [0.0, 1.0] if network.skip else []))
    if len(points) > _ALL_KNOTS:
        points = points[np.unique(np.abs(points - (arrays["b0"] * arrays["W0"][:, 0])[:, None]).argmin(axis=1))]
    n = len(points)
    return arrays | {"W0": np.ones((n, 1)), "b0": points, "V0": np.zeros((network.n_outputs, n))}


def fitted_outgoing(network: SplineNetwork, parameters: Parameters, judge: Problem) -> Network:
    """Return the neurons at hand with the best outgoing weights and affine part: a lasso, per output or shared."""
    rows, arrays = judge.rows, network.arrays(parameters.views)
    n_affine = network.widths[0] if network.skip else 0
    n = len(arrays["b0"]) + n_affine
    gram, target = np.zeros((n, n)), np.zeros((n, network.n_outputs))
    mean, center = np.zeros(n), (rows.weights @ rows.y).numpy()
    for pass_ in ("mean", "gram"):
        for X, y, w in rows.parts(max(256, _DESIGN_ENTRIES // max(1, n))):
            _, tape = network.forward(parameters.views, X[None])
            (at,) = backward(network, parameters, tape, X)
            columns = torch.cat([X[:, :n_affine], at.reduced], dim=1).numpy()
            if pass_ == "mean":
                mean += w.numpy() @ columns
            else:
                columns = columns - mean
                weighted = columns * w.numpy()[:, None]
                gram += columns.T @ weighted
                target += weighted.T @ (y.numpy() - center)
    start = np.hstack([arrays["C0"][:, :n_affine], arrays["V0"]])
    if network.penalty == "multitask" and network.n_outputs > 1:
        coefficients = shared_lasso(gram, target, judge.strength, start.T, n_affine).T
    else:
        each = zip(target.T, start, strict=True)
        coefficients = np.array([lasso(gram, one, judge.strength, before) for one, before in each])
    arrays["C0"][:, :n_affine], arrays["V0"] = coefficients[:, :n_affine], coefficients[:, n_affine:]
    arrays["c"] = center - coefficients @ mean
    smaller, filled = network.of(arrays)
    return smaller.compact(filled.views, 0)


def without_idle(network: SplineNetwork, parameters: Parameters, rows: Rows) -> Network:
    """Zero the weights of features that are constant: only the norm feels them, and its slope never ends at zero."""
    idle = ~rows.X.any(0)
    if not bool(idle.any()):
        return network, parameters
    trial = parameters.with_flat(parameters.flat.clone())
    for name in ("W0", "C0"):
        trial.views[name][..., idle] = 0.0
    return network.compact(trial.views, 0)


# --- simple candidates ----------------------------------------------------------------------------


def constant(network: SplineNetwork, rows: Rows) -> Arrays:
    """Return the mean."""
    arrays = {
        name: np.zeros([0 if size == n else size for size, n in zip(shape, _neuron_axes(network, name), strict=True)])
        for name, shape in network.shapes.items()
    }
    arrays["c"] = (rows.weights @ rows.y).numpy()
    return arrays


def _neuron_axes(network: SplineNetwork, name: str) -> tuple[int | None, ...]:
    """Return the number of neurons for the axes of a parameter that count them, None for the others."""
    if name == "c" or name[0] in "Cc":
        return (None,) * (1 + (name[0] == "C"))
    n_neurons = network.neurons[int(name[1:])]
    return {"W": (n_neurons, None), "b": (n_neurons,), "V": (None, n_neurons)}[name[0]]


def linear(network: SplineNetwork, rows: Rows, strength: float) -> Arrays:
    """Return the lasso, every layer with an equal part of its norm."""
    X, y, weights = rows.X.numpy(), rows.y.numpy(), rows.weights.numpy()
    arrays = constant(network, rows)
    model = Lasso(alpha=strength, tol=1e-6, max_iter=2000, random_state=0)
    with quietly(ConvergenceWarning):
        coefficients = np.array([model.fit(X, column, sample_weight=weights).coef_.copy() for column in y.T])
    size = float(np.abs(coefficients).sum()) / len(coefficients)
    if size == 0:
        return arrays
    depth = network.n_layers
    n = len(coefficients)
    for layer in range(1, depth):
        arrays[f"C{layer}"][:n, :n] = np.eye(n) * size ** (1 / depth)
    arrays["C0"][:n] = coefficients * size ** (1 / depth - 1)
    arrays["c"] = weights @ (y - X @ coefficients.T)
    return arrays
