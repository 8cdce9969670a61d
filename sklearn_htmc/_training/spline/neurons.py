"""Neurons of compositions come and go: removal with compensation, and entry where the certificate is violated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sklearn_htmc._training.core.architecture import Arrays, Parameters
from sklearn_htmc._training.core.objective import Rows, mean_loss
from sklearn_htmc._training.core.task import Network
from sklearn_htmc._training.second_order.gauss_newton import Point, Problem, Quadratic
from sklearn_htmc._training.second_order.surgery import inverse_of, removed
from sklearn_htmc._training.spline.calculus import backward, neuron_sizes
from sklearn_htmc._training.spline.network import SplineNetwork
from sklearn_htmc._training.spline.violation import Measure, Neurons, most_violated

TOLERANCE = 0.005  # excess of correlations over the strength, relative, that is let be
GLANCE = 0.25  # effort of a search where a neuron need not be the best
_ENTERING = 24  # neurons of a layer that come in together, at most
_ALIKE = 0.98  # cosine of two normals from which on neurons with near offsets are one
_NEAR = 0.1  # distance of offsets
_NEGLIGIBLE = 0.005  # part of the root mean square residual that all small neurons together may contribute
_REMOVALS = (1.0, 0.5, 0.0)  # shares of the linear compensation that are tried


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
                totals[layer] += w @ (flow * at.reduced).square()
    return totals


def _silenced(network: SplineNetwork, parameters: Parameters, neurons: Tensor) -> Parameters:
    """Return parameters without the outgoing weights of neurons, which are counted through all layers."""
    trial, first = parameters.with_flat(parameters.flat.clone()), 0
    for layer, n_neurons in enumerate(network.neurons):
        here = neurons[(neurons >= first) & (neurons < first + n_neurons)] - first
        trial.views[f"V{layer}"][0, :, here] = 0.0
        first += n_neurons
    return trial


def without_useless(problem: Problem, point: Point) -> Point:
    """Remove shared neurons whose norm is worth more than what they do: their lengths shrink, but end at no zero."""
    network, parameters = point.network, point.parameters
    gradient = parameters.with_flat(point.loss_gradient)
    worth = []
    for layer, at in enumerate(_effects(network, parameters, problem.rows)):
        V, g = parameters.views[f"V{layer}"][0], gradient.views[f"V{layer}"][0]
        worth.append(0.5 * at - (V * g).sum(0) - problem.strength * neuron_sizes(network, parameters, layer))
    order = torch.cat(worth).argsort()
    n_gone = int((torch.cat(worth) < 0).sum())
    while n_gone:
        trial = problem.at(network, _silenced(network, parameters, order[:n_gone]))
        if trial.objective < point.objective:
            return problem.at(*trial.compacted())
        n_gone //= 2
    return point


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
    cheapest = torch.as_tensor(np.argsort(costs, kind="stable")[:n_gone].copy())
    gone = torch.cat([groups[i] for i in cheapest.tolist()])
    trials = [removed(problem, point, model, inverse, gone, share) for share in _REMOVALS]
    trials.append(problem.at(network, _silenced(network, parameters, cheapest)))
    return min(trials, key=lambda trial: trial.objective)


# --- more neurons ---------------------------------------------------------------------------------


def with_violations(
    problem: Problem, point: Point, generator: torch.Generator, effort: float = 1.0, room: int | None = None
) -> Network | None:
    """Return the network with neurons and entries that violate the certificate, small; None where there are none.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    point : Point
        Where.
    generator : torch.Generator
        Draws the starts of the search.
    effort : float
        See `violation.most_violated`.
    room : int or None
        Neurons that may come in, first where they are missed most; None takes as many as are good for a step.
    """
    network = point.network
    arrays = network.arrays(point.parameters.views)
    threshold = problem.strength * (1.0 + TOLERANCE)
    entered = False
    gradient = point.parameters.with_flat(point.loss_gradient)
    layers = list(searched(network, point.parameters, problem.rows, generator, effort))
    for layer in sorted(range(network.n_layers), key=lambda layer: -float(layers[layer][1].size.max())):
        at, found = layers[layer]
        chosen = different(found, threshold)
        if room is not None:
            chosen = chosen.at(torch.arange(max(0, min(len(chosen.b), room))))
            room -= len(chosen.b)
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
    network: SplineNetwork, parameters: Parameters, rows: Rows, generator: torch.Generator, effort: float = 1.0
) -> Iterator[tuple[_At, Neurons]]:
    """Yield, for every layer, what it reads and the neurons that correlate most with the slope at its outputs."""
    f, tape = network.forward(parameters.views, rows.X[None])
    slope = (f[0] - rows.y) * rows.weights[:, None]
    unit = [torch.eye(network.n_outputs, dtype=slope.dtype)[j].expand_as(slope) for j in range(network.n_outputs)]
    squares = [
        sum(at.g.square() for at in layers)
        for layers in zip(*(backward(network, parameters, tape, g) for g in unit), strict=True)
    ]
    for layer, at in enumerate(backward(network, parameters, tape, slope)):
        measure = Measure.of(at.h, at.g, reduced=network.skip, shared=network.penalty == "multitask")
        known = parameters.views[f"W{layer}"][0], parameters.views[f"b{layer}"][0]
        found = most_violated(measure, generator, known, effort)
        yield _At(at.h, squares[layer]), found


def different(found: Neurons, threshold: float) -> Neurons:
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
    single = replace(network, widths=(at.h.shape[1], 1), neurons=(len(neurons.b),), ranks=None)
    rho = single.reduced({"W0": neurons.W[None], "b0": neurons.b[None]}, at.h)
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
    arrays: Arrays,
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
