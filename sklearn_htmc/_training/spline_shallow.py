"""One shallow network, alone or in the first layer of a composition: a lasso over neurons that come and go.

A shallow network of norm R and q outputs in the first layer of a composition of L layers, with multiples of the
identity behind it, costs at best ``L (R q^(L-1))^(1/L)``. The layers share that equally. It is concave in R, so its
tangent bounds it: lassos whose strength is the slope at the R before descend on it (majorise and minimise). With L = 1
the strength stays what it is, the problem is convex, and the end is the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from sklearn_htmc._training.architecture import Arrays, Parameters
from sklearn_htmc._training.gauss_newton import Problem
from sklearn_htmc._training.lasso import lasso, shared_lasso
from sklearn_htmc._training.objective import Rows
from sklearn_htmc._training.spline import SplineNetwork
from sklearn_htmc._training.spline_calculus import SplineCalculus, norm
from sklearn_htmc._training.spline_neurons import GLANCE, with_violations
from sklearn_htmc._training.task import End, Network

_ROUNDS = 100
_FEW = 10  # neurons found, or fewer, after which the effort doubles ...
_EFFORT = 4.0  # ... up to this
_CONFIRMED = 2  # searches in a row with all effort that find nothing
_FIRST = 0.5  # multiple of the strength in the first round of a composition: from there the norm comes down
_ALL_KNOTS = 1_000  # rows of one feature up to which all knots are there from the start
_DESIGN_ENTRIES = 4_000_000  # of the columns held at a time


@dataclass(frozen=True)
class Lift:
    """How a shallow network is priced as the first layer of a composition, and how it becomes one.

    Attributes
    ----------
    network : SplineNetwork
        Sizes of the composition.
    """

    network: SplineNetwork

    @property
    def is_possible(self) -> bool:
        """Whether the other layers can hand the outputs on."""
        network = self.network
        return network.n_layers == 1 or (network.skip and network.n_outputs <= min(network.widths[1:]))

    @property
    def shallow(self) -> SplineNetwork:
        """Sizes of the shallow network, without neurons."""
        widths = (self.network.widths[0], self.network.n_outputs)
        return replace(self.network, widths=widths, neurons=(0,), ranks=None)

    def price(self, size: float) -> float:
        """Return the norm of the composition with a shallow network of some norm."""
        depth, n_outputs = self.network.n_layers, self.network.n_outputs
        return float(depth * (size * n_outputs ** (depth - 1)) ** (1.0 / depth))

    def slope(self, size: float) -> float:
        """Return the derivative of the price; it is also the scale of the first layer at best."""
        depth = self.network.n_layers
        return 1.0 if depth == 1 else float((self.network.n_outputs / size) ** ((depth - 1) / depth))

    def lifted(self, shallow: SplineNetwork, parameters: Parameters) -> Network:
        """Return the composition of the same function."""
        depth, widths, n_outputs = self.network.n_layers, self.network.widths, self.network.n_outputs
        arrays, size = shallow.arrays(parameters.views), norm(shallow, parameters)
        if depth == 1:
            return self.network.of(arrays)
        lifted = empty(self.network) | {"c": arrays["c"]}
        if size > 0:
            scale = self.slope(size)
            lifted |= {"W0": arrays["W0"], "b0": arrays["b0"]}
            for name in ("V0", "C0"):
                lifted[name] = np.zeros((widths[1], arrays[name].shape[1]))
                lifted[name][:n_outputs] = scale * arrays[name]
            for layer in range(1, depth):
                np.fill_diagonal(lifted[f"C{layer}"][:n_outputs, :n_outputs], scale ** (-1.0 / (depth - 1)))
        return self.network.of(lifted)


def solved(
    network: SplineNetwork,
    start: Network,
    judge: Problem,
    generator: torch.Generator,
    end: End,
    *,
    limit: int | None = None,
    worth: float = 0.0,
) -> Network:
    """Return the best composition with all neurons in the first layer.

    Parameters
    ----------
    network : SplineNetwork
        Sizes of the composition.
    start : tuple of SplineNetwork and Parameters
        A composition whose neurons of the first layer are at hand.
    judge : Problem
        What is minimised.
    generator : torch.Generator
        Draws the starts of the search for neurons.
    end : End
        Whom to tell.
    limit : int or None
        Neurons, at most; None takes as many as it needs.
    worth : float
        Relative fall of the objective in a round, to go on; with zero it ends when no search finds a neuron.
    """
    lift = Lift(network)
    first = 1.0 if network.n_layers == 1 else _FIRST
    at = replace(judge, strength=first * judge.strength, calculus=SplineCalculus(moving=False))
    point = at.at(*fitted_outgoing(*_at_hand(lift, start, judge.rows, limit), at))
    effort, confirmed, before = GLANCE, 0, np.inf
    for _ in range(_ROUNDS):
        end.watch(0, point.loss, point.n_edges)
        size = norm(point.network, point.parameters)
        objective = point.loss + judge.strength * lift.price(size)
        if (worth and before - objective <= worth * objective) or (network.n_layers > 1 and size == 0):
            break
        at, before = replace(at, strength=judge.strength * lift.slope(size)), objective
        room = None if limit is None else limit - point.network.neurons[0]
        grown = with_violations(at, point, generator, effort, room=room)
        confirmed = confirmed + 1 if grown is None and effort == _EFFORT else 0
        if confirmed == _CONFIRMED:
            break
        if not worth and (grown is None or grown[0].neurons[0] - point.network.neurons[0] <= _FEW):
            effort = min(2.0 * effort, _EFFORT)
        if grown is not None or network.n_layers > 1:
            point = at.at(*fitted_outgoing(*(grown or (point.network, point.parameters)), at))
    return lift.lifted(point.network, point.parameters)


def _at_hand(lift: Lift, start: Network, rows: Rows, limit: int | None) -> Network:
    """Return the shallow network with the neurons of the first layer of a start, or with all that one input needs."""
    network = lift.shallow
    arrays = start[0].arrays(start[1].views)
    if lift.network.n_layers > 1:
        arrays = empty(network) | {name: arrays[name] for name in ("W0", "b0")}
    if network.widths[0] == 1 and limit is None:
        arrays |= knots_at_rows(arrays, rows, reduced=network.skip)
    n_neurons = len(arrays["b0"])
    if arrays["V0"].shape[1] != n_neurons:
        arrays["V0"] = np.zeros((network.n_outputs, n_neurons))
    return network.of(arrays)


def knots_at_rows(arrays: Arrays, rows: Rows, *, reduced: bool) -> Arrays:
    """Return neurons of one feature with their knots at rows, or where interpolants touch: optima have no others."""
    points = np.unique(np.append(rows.X[:, 0].numpy(), [0.0, 1.0] if reduced else []))
    if len(points) > _ALL_KNOTS:
        near = np.abs(points - (arrays["b0"] * arrays["W0"][:, 0])[:, None]).argmin(axis=1)
        points = points[np.unique(near)]
    return {"W0": np.ones((len(points), 1)), "b0": points}


def fitted_outgoing(network: SplineNetwork, parameters: Parameters, judge: Problem) -> Network:
    """Return the neurons at hand with the best outgoing weights and affine part: a lasso, per output or shared."""
    rows, arrays = judge.rows, network.arrays(parameters.views)
    n_affine = network.widths[0] if network.skip else 0
    n = len(arrays["b0"]) + n_affine
    gram, target = np.zeros((n, n)), np.zeros((n, network.n_outputs))
    mean, center = np.zeros(n), (rows.weights @ rows.y).numpy()
    for pass_ in ("mean", "gram"):
        for X, y, w in rows.parts(max(256, _DESIGN_ENTRIES // max(1, n))):
            columns = torch.cat([X[:, :n_affine], network.reduced(parameters.views, X)], dim=1).numpy()
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


def empty(network: SplineNetwork) -> Arrays:
    """Return a network of zeros without neurons."""
    shapes = replace(network, neurons=(0,) * network.n_layers).shapes
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def constant(network: SplineNetwork, rows: Rows) -> Arrays:
    """Return the mean."""
    return empty(network) | {"c": (rows.weights @ rows.y).numpy()}
