"""From the end of the first-order phase to the finished composition of shallow networks, for one problem.

A single shallow network has a convex objective over measures on neurons. It is solved by turns: the outgoing weights
and the affine part of the neurons at hand by Gauss-Newton steps, which are exact there, and then the neurons that are
missed most come in (Frank-Wolfe with full correction). Neurons at hand climb as well, so that a hyperplane moves by
being replaced. In compositions hyperplanes move with everything else, and neurons of all layers come in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso
from torch import Tensor

from sklearn_htmc._network import Floats
from sklearn_htmc._training.architecture import Parameters
from sklearn_htmc._training.certificate import Certificate
from sklearn_htmc._training.first_order import Settings
from sklearn_htmc._training.gauss_newton import Point, Problem, Quadratic, descend
from sklearn_htmc._training.lasso import lasso
from sklearn_htmc._training.linear import quietly
from sklearn_htmc._training.objective import Rows, loss_and_gradient, mean_loss
from sklearn_htmc._training.spline import SplineNetwork
from sklearn_htmc._training.spline_calculus import (
    LayerSlopes,
    SplineCalculus,
    backward,
    neuron_sizes,
    norm,
    norm_gradient,
    reduced,
)
from sklearn_htmc._training.surgery import inverse_of, removed
from sklearn_htmc._training.task import End, Finished, Network, Task, described
from sklearn_htmc._training.violation import Measure, Neurons, most_violated

_CONVEX_ROUNDS = 100
_DEEP_ROUNDS = 3
_STEPS = 15  # Gauss-Newton steps of a round
_TOLERANCE = 0.004  # excess of correlations over the strength, relative, that is let be
_CONFIRMED = 2  # searches in a row that find nothing, the later ones with ...
_EFFORT = 4  # ... more starts
_ENTERING = 24  # neurons of a layer that come in together, at most
_ALIKE = 0.98  # cosine of two normals from which on neurons with near offsets are one
_NEAR = 0.1  # distance of offsets
_PARAMETERS = 1_200  # that move in a step, at most
_PER_ROW = 3  # with more of them than that the data do not say where to go
_ALL_KNOTS = 1_000  # rows of one feature up to which all knots are there from the start
_DESIGN_ENTRIES = 4_000_000  # of the columns held at a time
_SEARCH_ROWS = 4_000  # neurons are looked for on that many rows, and measured on all
_NEGLIGIBLE = 0.005  # part of the root mean square residual that all small neurons together may contribute
_ROUND = 0.1  # share of the neurons that go in one round
_REMOVALS = (1.0, 0.5, 0.0)  # shares of the linear compensation that are tried


@dataclass(frozen=True)
class SplineFamily:
    """Compositions of shallow networks.

    Attributes
    ----------
    architecture : SplineNetwork
        Sizes of the first-order phase.
    max_neurons : int or None
        Budget of neurons of all layers.
    """

    architecture: SplineNetwork
    max_neurons: int | None = None

    def finished(self, task: Task, trained: Network, settings: Settings, curve: Floats, end: End) -> Finished:
        """Finish one problem; see `task.Family`."""
        rows, judge = task.rows, Problem(task.rows, task.strength, SplineCalculus())
        candidates: list[Network] = [self.architecture.of(constant(self.architecture, rows))]
        if self.architecture.skip and self.architecture.n_outputs <= min(self.architecture.widths[1:]):
            candidates.append(self.architecture.of(linear(self.architecture, rows, task.strength)))
        if np.isfinite(mean_loss(*trained, rows)):  # else it has diverged
            candidates.append(without_negligible(*trained, rows))
        if self.max_neurons is not None or settings.polish or self._has_one_input:
            generator = torch.Generator().manual_seed(task.seed)
            start = min(candidates, key=lambda c: _objective(judge, c))
            improve = self._solved if self._is_lasso else self._improved
            point = self._to_budget(judge, improve(judge, start, generator, end), end)
            candidates = [c for c in candidates if self._fits(c)]
            candidates.append(point.compacted())
        best = min(candidates, key=lambda c: _objective(judge, c))
        generator = torch.Generator().manual_seed(task.seed + 1) if settings.polish else None
        return described(task, *best, certify(*best, rows, task.strength, generator), curve)

    def measured(self, task: Task, trained: Network, settings: Settings, curve: Floats) -> Finished:
        """Measure a network as it is."""
        return described(task, *trained, certify(*trained, task.rows, task.strength, None), curve)

    def _fits(self, candidate: Network) -> bool:
        return self.max_neurons is None or sum(candidate[0].neurons) <= self.max_neurons

    @property
    def _is_lasso(self) -> bool:
        return self.architecture.n_layers == 1 and self.architecture.penalty != "multitask"

    @property
    def _has_one_input(self) -> bool:
        """Whether solving is a matter of milliseconds."""
        return self._is_lasso and self.architecture.widths[0] == 1

    def _solved(self, judge: Problem, start: Network, generator: torch.Generator, end: End) -> Point:
        """Solve for a single shallow network: a lasso over neurons that come and go."""
        network, parameters = start
        if network.widths[0] == 1:
            parameters = knots_at_rows(network, parameters, judge.rows)
            network, parameters = network.of(parameters)
        point, confirmed = judge.at(*fitted_outgoing(network, parameters, judge)), 0
        for _ in range(_CONVEX_ROUNDS):
            end.watch(0, point.loss, point.n_edges)
            grown = with_violations(judge, point, generator, _EFFORT if confirmed else 1)
            confirmed = confirmed + 1 if grown is None else 0
            if confirmed == _CONFIRMED:
                break
            if grown is not None:
                point = judge.at(*fitted_outgoing(*grown, judge))
        return point

    def _improved(self, judge: Problem, start: Network, generator: torch.Generator, end: End) -> Point:
        """Descend and take neurons in until neither helps, or for as long as it is worth it."""
        problem, n_rounds = _movable(judge, start)
        if problem is None:
            return judge.at(*start)
        point, confirmed = judge.at(*start), 0
        for _ in range(n_rounds):
            following = descend(problem, point.network, point.parameters, max_steps=_STEPS, tol=1e-7)
            end.watch(0, following.loss, following.n_edges)
            converged = point.objective - following.objective <= 1e-7 * point.objective
            point = following
            grown = with_violations(problem, point, generator)
            if grown is None:
                confirmed += 1
                if confirmed == _CONFIRMED and converged:
                    break
                continue
            confirmed = 0
            trial = problem.at(*grown)
            point = point if trial.objective > 2.0 * point.objective else trial
        point = descend(problem, *point.compacted(), max_steps=2 * _STEPS, tol=1e-9)
        return judge.at(*point.compacted())

    def _to_budget(self, judge: Problem, point: Point, end: End) -> Point:
        """Remove neurons, a few at a time, the others compensating, until the budget is met."""
        while self.max_neurons is not None and sum(point.network.neurons) > self.max_neurons:
            n_neurons = sum(point.network.neurons)
            n_gone = min(max(1, int(_ROUND * n_neurons)), n_neurons - self.max_neurons)
            problem, _ = _movable(judge, point.compacted())
            smaller = fewer_neurons(judge if problem is None else problem, point, n_gone, exact=problem is not None)
            if problem is not None:
                smaller = descend(problem, *smaller.compacted(), max_steps=_STEPS, tol=1e-5)
            point = judge.at(*smaller.compacted())
            end.watch(0, point.loss, point.n_edges)
        return point


def _objective(judge: Problem, candidate: Network) -> float:
    value = judge.objective(*candidate)
    return value if np.isfinite(value) else np.inf


def _movable(judge: Problem, network: Network) -> tuple[Problem | None, int]:
    """Return the problem with the parameters that may move in a network of this size, and the rounds to take."""
    convex = network[0].n_layers == 1
    for moving in (False,) if convex else (True, False):
        problem = replace(judge, calculus=SplineCalculus(moving))
        n_moving = int(problem.calculus.kinds(*network).active.sum())
        if convex or n_moving <= min(_PARAMETERS, _PER_ROW * len(judge.rows.X)):
            return problem, _CONVEX_ROUNDS if convex else _DEEP_ROUNDS
    return None, 0


# --- one shallow network --------------------------------------------------------------------------


def knots_at_rows(network: SplineNetwork, parameters: Parameters, rows: Rows) -> dict[str, Floats]:
    """Return a network of one feature with its knots at rows, or where interpolants touch: optima have no others."""
    arrays = network.arrays(parameters.views)
    points = np.unique(np.append(rows.X[:, 0].numpy(), [0.0, 1.0] if network.skip else []))
    if len(points) > _ALL_KNOTS:
        points = points[np.unique(np.abs(points - (arrays["b0"] * arrays["W0"][:, 0])[:, None]).argmin(axis=1))]
    n = len(points)
    return arrays | {"W0": np.ones((n, 1)), "b0": points, "V0": np.zeros((network.n_outputs, n))}


def fitted_outgoing(network: SplineNetwork, parameters: Parameters, judge: Problem) -> Network:
    """Return the neurons at hand with the best outgoing weights and affine part: a lasso per output."""
    rows, arrays = judge.rows, network.arrays(parameters.views)
    n_affine = network.widths[0] if network.skip else 0
    n = len(arrays["b0"]) + n_affine
    gram, target = np.zeros((n, n)), np.zeros((n, network.n_outputs))
    mean, center = np.zeros(n), (rows.weights @ rows.y).numpy()
    for pass_ in ("mean", "gram"):
        for X, y, w in rows.parts(max(256, _DESIGN_ENTRIES // max(1, n))):
            _, tape = network.forward(parameters.views, X[None])
            rho = reduced(network, parameters, 0, LayerSlopes(tape[0][0], tape[1][0], X))
            columns = torch.cat([X[:, :n_affine], rho], dim=1).numpy()
            if pass_ == "mean":
                mean += w.numpy() @ columns
            else:
                columns = columns - mean
                weighted = columns * w.numpy()[:, None]
                gram += columns.T @ weighted
                target += weighted.T @ (y.numpy() - center)
    start = np.hstack([arrays["C0"][:, :n_affine], arrays["V0"]])
    coefficients = np.array([lasso(gram, target[:, j], judge.strength, start[j]) for j in range(network.n_outputs)])
    arrays["C0"][:, :n_affine], arrays["V0"] = coefficients[:, :n_affine], coefficients[:, n_affine:]
    arrays["c"] = center - coefficients @ mean
    smaller, filled = network.of(arrays)
    return smaller.compact(filled.views, 0)


# --- simple candidates ----------------------------------------------------------------------------


def constant(network: SplineNetwork, rows: Rows) -> dict[str, Floats]:
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


def linear(network: SplineNetwork, rows: Rows, strength: float) -> dict[str, Floats]:
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
    for layer in range(depth):
        arrays[f"C{layer}"][:n, :n] = np.eye(n) * size ** (1 / depth)
    arrays["C0"][:] = 0.0
    arrays["C0"][:n] = coefficients * size ** (1 / depth - 1)
    arrays["c"] = weights @ (y - X @ coefficients.T)
    return arrays


# --- fewer neurons --------------------------------------------------------------------------------


def without_negligible(network: SplineNetwork, parameters: Parameters, rows: Rows) -> Network:
    """Remove neurons that do nothing on the rows together; the loss has the last word."""
    loss = mean_loss(network, parameters, rows)
    effects = _effects(network, parameters, rows)
    squares = torch.cat(effects)
    order = squares.argsort()
    for share in (1.0, 0.3, 0.1):
        n_gone = int((squares[order].cumsum(0) <= (share * _NEGLIGIBLE) ** 2 * 2.0 * loss).sum())
        trial = _silenced(network, parameters, order[:n_gone])
        if mean_loss(network, trial, rows) <= loss * (1.0 + _NEGLIGIBLE):
            parameters = trial
            break
    for X, y, weights in rows.chunks():
        f, _ = network.forward(parameters.views, X)
        parameters.views["c"] += ((y - f) * weights).sum(1)
    smaller, compacted = network.compact(parameters.views, 0)
    return smaller, compacted


def _effects(network: SplineNetwork, parameters: Parameters, rows: Rows) -> list[Tensor]:
    """Return, per layer, the mean square of what every neuron contributes to the outputs, to first order."""
    totals = [torch.zeros(n, dtype=torch.float64) for n in network.neurons]
    for X, _, w in rows.parts(rows.chunk_size):
        _, tape = network.forward(parameters.views, X[None])
        for output in range(network.n_outputs):
            g = torch.zeros(len(X), network.n_outputs, dtype=X.dtype)
            g[:, output] = 1.0
            for layer, at in enumerate(backward(network, parameters, tape, g)):
                flow = at.g @ parameters.views[f"V{layer}"][0]
                totals[layer] += w @ (flow * reduced(network, parameters, layer, at)).square()
    return totals


def _silenced(network: SplineNetwork, parameters: Parameters, neurons: Tensor) -> Parameters:
    """Return parameters without the outgoing weights of neurons, which are counted through all layers."""
    trial, first = parameters.with_flat(parameters.flat.clone()), 0
    for layer, n_neurons in enumerate(network.neurons):
        here = neurons[(neurons >= first) & (neurons < first + n_neurons)] - first
        trial.views[f"V{layer}"][0, :, here] = 0.0
        first += n_neurons
    return trial


def fewer_neurons(problem: Problem, point: Point, n_gone: int, *, exact: bool) -> Point:
    """Remove the neurons that cost least, the others compensating where there is a matrix to say how."""
    network, parameters = point.network, point.parameters
    if not exact:
        order = torch.cat(_effects(network, parameters, problem.rows)).argsort()
        return problem.at(network, _silenced(network, parameters, order[:n_gone]))
    model = Quadratic.at(problem, point, problem.metric_rows())
    inverse = inverse_of(model.H)
    position = torch.full_like(parameters.flat, -1, dtype=torch.long)
    position[model.active] = torch.arange(len(model.u))
    groups, costs = [], []
    for layer in range(network.n_layers):
        sizes = neuron_sizes(network, parameters, layer)
        index = parameters.with_flat(position).views[f"V{layer}"][0]
        for k in range(network.neurons[layer]):
            group = index[:, k][index[:, k] >= 0]
            u = model.u[group]
            cost = 0.5 * float(u @ torch.linalg.solve(inverse[group][:, group], u)) if len(group) else 0.0
            groups.append(group)
            costs.append(cost - problem.strength * float(sizes[k]))
    order = np.argsort(costs, kind="stable")[:n_gone]
    gone = torch.cat([groups[i] for i in order])
    trials = [removed(problem, point, model, inverse, gone, share) for share in _REMOVALS]
    trials.append(problem.at(network, _silenced(network, parameters, torch.as_tensor(order.copy()))))
    return min(trials, key=lambda trial: trial.objective)


# --- more neurons ---------------------------------------------------------------------------------


def with_violations(problem: Problem, point: Point, generator: torch.Generator, effort: int = 1) -> Network | None:
    """Return the network with neurons and entries that violate the certificate, small; None where there are none."""
    network = point.network
    arrays = network.arrays(point.parameters.views)
    threshold = problem.strength * (1.0 + _TOLERANCE)
    entered = False
    gradient = point.parameters.with_flat(point.loss_gradient)
    for layer, (at, found) in enumerate(searched(network, point.parameters, problem.rows, generator, effort)):
        chosen = _different(found, threshold)
        n = len(chosen.b)
        if n:
            curvature = _curvature(network, at, chosen, problem.rows.weights)
            outgoing = _outgoing(chosen, problem.strength, curvature, shared=network.penalty == "multitask") / n
            arrays[f"W{layer}"] = np.vstack([arrays[f"W{layer}"], chosen.W.numpy()])
            arrays[f"b{layer}"] = np.append(arrays[f"b{layer}"], chosen.b.numpy())
            arrays[f"V{layer}"] = np.hstack([arrays[f"V{layer}"], outgoing.T.numpy()])
            entered = True
        entered |= _enter_entries(network, arrays, gradient, layer, at, threshold)
    return network.of(arrays) if entered else None


@dataclass(frozen=True, eq=False)
class _At:
    """Inputs of a layer and mean square derivatives at its outputs."""

    h: Tensor
    squares: Tensor  # (n_samples, n_out): squared derivatives of the outputs, summed


def searched(
    network: SplineNetwork, parameters: Parameters, rows: Rows, generator: torch.Generator, effort: int = 1
) -> Iterator[tuple[_At, Neurons]]:
    """Yield, for every layer, what it reads and the neurons that correlate most with the slope at its outputs."""
    f, tape = network.forward(parameters.views, rows.X[None])
    slope = (f[0] - rows.y) * rows.weights[:, None]
    unit = [torch.eye(network.n_outputs, dtype=slope.dtype)[j].expand_as(slope) for j in range(network.n_outputs)]
    squares = [
        sum(at.g.square() for at in layers)
        for layers in zip(*(backward(network, parameters, tape, g) for g in unit), strict=True)
    ]
    thin = max(1, -(-len(rows.X) // _SEARCH_ROWS))
    for layer, at in enumerate(backward(network, parameters, tape, slope)):
        options = {"reduced": network.skip, "shared": network.penalty == "multitask"}
        whole = Measure.of(at.h, at.g, **options)
        some = whole if thin == 1 else Measure.of(at.h[::thin], at.g[::thin] * thin, **options)
        found = most_violated(some, generator, parameters.views[f"W{layer}"][0], effort)
        if thin > 1:
            found = whole.correlation(found.W, found.b)
            found = found.at(found.size.argsort(descending=True))
        yield _At(at.h, squares[layer]), found


def _different(found: Neurons, threshold: float) -> Neurons:
    """Return the first few neurons above the threshold that are not alike."""
    chosen: list[int] = []
    for k in (found.size > threshold).nonzero().squeeze(1).tolist():
        others = torch.tensor(chosen, dtype=torch.long)
        cosine = found.W[others] @ found.W[k]
        near = (found.b[others] * cosine.sign() - found.b[k]).abs() < _NEAR
        one_input = found.W.shape[1] == 1
        if one_input or not bool(((cosine.abs() > _ALIKE) & near).any()):
            chosen.append(k)
        if len(chosen) == _ENTERING:
            break
    return found.at(torch.tensor(chosen, dtype=torch.long))


def _curvature(network: SplineNetwork, at: _At, neurons: Neurons, weights: Tensor) -> Tensor:
    """Return ``E_P[g_j^2 rho^2]`` of shape (n_neurons, n_out)."""
    single = replace(network, widths=(at.h.shape[1], 1), neurons=(len(neurons.b),))
    V = np.zeros((1, len(neurons.b)))
    _, parameters = single.of(
        {
            "W0": neurons.W.numpy(),
            "b0": neurons.b.numpy(),
            "V0": V,
            "C0": np.zeros((1, at.h.shape[1])),
            "c": np.zeros(1),
        }
    )
    a = (at.h @ neurons.W.T - neurons.b).relu()
    S, s = single.interpolants(parameters.views, 0)
    rho = a - s[0] - at.h @ S[0].T
    return (rho.square() * weights[:, None]).T @ at.squares


def _outgoing(neurons: Neurons, strength: float, curvature: Tensor, *, shared: bool) -> Tensor:
    """Return half of the step that is best for a neuron alone, of shape (n_neurons, n_out)."""
    c = neurons.correlation
    excess = (neurons.size - strength)[:, None]
    if shared:
        return -0.5 * c / neurons.size[:, None] * excess / curvature.amax(1, keepdim=True).clamp(min=1e-12)
    best = torch.zeros_like(c).scatter_(1, c.abs().argmax(1, keepdim=True), 1.0)
    return -0.5 * best * c.sign() * excess / curvature.clamp(min=1e-12)


def _enter_entries(
    network: SplineNetwork,
    arrays: dict[str, Floats],
    gradient: Parameters,
    layer: int,
    at: _At,
    threshold: float,
) -> bool:
    """Write small values into zero entries of V, C and inner c that violate the certificate; return whether any."""
    names = [f"V{layer}"] if network.penalty != "multitask" else []
    names += [f"C{layer}"] if network.skip else []
    names += [network.constant(layer)] if layer < network.n_layers - 1 else []
    any_entered = False
    scale = float(at.squares.mean() * at.h.square().mean()) + 1e-12
    for name in names:
        slope = gradient.views[name][0].numpy()
        array = arrays[name][..., : slope.shape[-1]]  # new neurons come behind
        enter = (array == 0) & (np.abs(slope) > threshold)
        n = int(enter.sum())
        if n:
            array[enter] = -0.1 * np.sign(slope[enter]) * (np.abs(slope[enter]) - threshold) / (scale * n)
            any_entered = True
    return any_entered


# --- the certificate ------------------------------------------------------------------------------


def certify(
    network: SplineNetwork, parameters: Parameters, rows: Rows, strength: float, generator: torch.Generator | None
) -> Certificate:
    """Measure one problem: entries that are there and that are not, and, with a generator, neurons that are not.

    Parameters
    ----------
    network, parameters : SplineNetwork, Parameters
        The compacted network and its float64 parameters.
    rows : Rows
        Float64 rows.
    strength : float
        Penalty strength.
    generator : torch.Generator or None
        Draws the starts of the search over all neurons; None leaves it out.
    """
    loss, gradient = loss_and_gradient(network, parameters, rows)
    size, slope = norm(network, parameters), norm_gradient(network, parameters)
    worst = float(gradient.views["c"].abs().max())
    for layer in range(network.n_layers):
        shared = network.penalty == "multitask"
        for name in (f"V{layer}", f"C{layer}", network.constant(layer)):
            if name == "c" or (name[0] == "C" and not network.skip) or not parameters.views[name].numel():
                continue
            t, g = parameters.views[name][0], gradient.views[name][0]
            violation = torch.where(
                t != 0, (g + strength * slope.views[name][0]).abs(), (g.abs() - strength).clamp(min=0)
            )
            if shared and name[0] == "V":
                violation = (g + strength * slope.views[name][0]).norm(dim=0)
            worst = max(worst, float(violation.max()))
    if generator is not None:
        for _, found in searched(network, parameters, rows, generator, _EFFORT):
            worst = max(worst, float(found.size.max()) - strength)
    importance = _feature_norms(network, parameters)
    return Certificate(loss, size, loss + strength * size, worst, gradient, slope, importance)


def _feature_norms(network: SplineNetwork, parameters: Parameters) -> Floats:
    """Return the part of the norm of the first layer that reads each feature; ``||w|| = sum_i w_i^2 / ||w||``."""
    W = parameters.views["W0"][0]
    share = W.square() / W.square().sum(1, keepdim=True).clamp(min=1e-300)
    total = neuron_sizes(network, parameters, 0) @ share + parameters.views["C0"][0].abs().sum(0)
    return np.asarray(total.numpy())
