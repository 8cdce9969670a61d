"""One shallow network, alone or in the first layer of a composition: a lasso over neurons that come and go.

A shallow network of norm R and q outputs in the first layer of a composition of L layers, with multiples of the
identity behind it, costs at best ``L (R q^(L-1))^(1/L)``. The layers share that equally. It is concave in R, so its
tangent bounds it: lassos whose strength is the slope at the R before descend on it (majorise and minimise). With L = 1
the strength stays what it is, the problem is convex, and the end is the optimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sklearn_htmc._training.core.architecture import Arrays, Parameters
from sklearn_htmc._training.core.deadline import SECOND_ORDER
from sklearn_htmc._training.core.objective import Rows
from sklearn_htmc._training.core.task import End, Network
from sklearn_htmc._training.second_order.gauss_newton import Problem
from sklearn_htmc._training.spline.calculus import norm
from sklearn_htmc._training.spline.columns import Columns
from sklearn_htmc._training.spline.network import SplineNetwork

_ROUNDS = 100
_GLANCE = 0.25  # effort of the first searches
_FEW = 10  # neurons found, or fewer, after which the effort doubles ...
_EFFORT = 4.0  # ... up to this
_CONFIRMED = 2  # searches in a row with all effort that find nothing
_FIRST = 0.5  # multiple of the strength in the first round of a composition: from there the norm comes down
_TURN = 2.0  # times its equal share of a time that is short, that a strength may take
_ALL_KNOTS = 1_000  # rows of one feature up to which all knots are there from the start


@dataclass(frozen=True)
class Bounds:
    """How far the lasso goes.

    Attributes
    ----------
    limit : int or None
        Neurons, at most; None takes as many as it needs.
    worth : float
        Relative fall of the objective in a round, to go on; with zero it ends when no search finds a neuron.
    rounds : int
        Rounds for a strength, at most.
    """

    limit: int | None = None
    worth: float = 0.0
    rounds: int = _ROUNDS


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
    bounds: Bounds,
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
    bounds : Bounds
        How far to go.
    """
    return next(solved_path(network, start, judge.rows, [judge.strength], generator, end, bounds))


def solved_path(
    network: SplineNetwork,
    start: Network,
    rows: Rows,
    strengths: Sequence[float],
    generator: torch.Generator,
    end: End,
    bounds: Bounds,
) -> Iterator[Network]:
    """Yield the best compositions with all neurons in the first layer for falling strengths, each from the one before.

    Parameters
    ----------
    network, start, generator, end, bounds
        See `solved`.
    rows : Rows
        Rows.
    strengths : sequence of float
        Falling.
    """
    lift = Lift(network)
    columns = Columns.of(lift.shallow, rows, _at_hand(lift, start, rows, bounds.limit))
    for place, strength in enumerate(strengths):
        own = replace(end, deadline=end.deadline.part(min(1.0, _TURN / (len(strengths) - place))))
        columns = _descended(lift, columns, strength, generator, own, bounds)
        shallow, parameters = lift.shallow.of(columns.arrays())
        yield lift.lifted(*shallow.compact(parameters.views, 0))


def _descended(
    lift: Lift,
    columns: Columns,
    strength: float,
    generator: torch.Generator,
    end: End,
    bounds: Bounds,
) -> Columns:
    """Let columns in and solve for all of them, until it is worth no more."""
    is_deep, size = lift.network.n_layers > 1, columns.size
    tangent = strength
    if is_deep:
        tangent *= min(_FIRST, lift.slope(size)) if size > 0 else _FIRST
    columns = columns.solved(tangent)
    effort, confirmed, before = _GLANCE, 0, np.inf
    for n_round in range(bounds.rounds):
        size, residual = columns.size, columns.residual()
        loss = 0.5 * float(columns.rows.weights @ residual.square().sum(1))
        end.watch(0, loss, int(np.count_nonzero(columns.x)))
        if not end.deadline.allows(SECOND_ORDER):
            break
        objective = loss + strength * lift.price(size)
        if (bounds.worth and before - objective <= bounds.worth * objective) or (is_deep and size == 0 and n_round):
            break
        if size > 0:
            tangent = strength * lift.slope(size)
        before = objective
        room = None if bounds.limit is None else bounds.limit - len(columns.b)
        missed = columns.missed(residual, tangent, generator, effort, room)
        confirmed = confirmed + 1 if not len(missed) and effort == _EFFORT else 0
        if confirmed == _CONFIRMED:
            break
        if not bounds.worth and len(missed) <= _FEW:
            effort = min(2.0 * effort, _EFFORT)
        if len(missed) or is_deep:
            columns = columns.entered(missed).solved(tangent)
    return columns


def _at_hand(lift: Lift, start: Network, rows: Rows, limit: int | None) -> Arrays:
    """Return the shallow network with the neurons of the first layer of a start, or with all that one input needs."""
    network = lift.shallow
    arrays = first_layer(start)
    if network.widths[0] == 1 and limit is None:
        arrays |= knots_at_rows(arrays, rows, reduced=network.skip)
    n_neurons = len(arrays["b0"])
    if arrays["V0"].shape[1] != n_neurons:
        arrays["V0"] = np.zeros((network.n_outputs, n_neurons))
    return arrays


def first_layer(composition: Network) -> Arrays:
    """Return the neurons of the first layer, with what leads out of them where all other layers are linear."""
    network, parameters = composition
    arrays = network.arrays(parameters.views)
    V, C = arrays["V0"], arrays["C0"]
    for layer in range(1, network.n_layers):
        V, C = arrays[f"C{layer}"] @ V, arrays[f"C{layer}"] @ C
    is_linear = not any(network.neurons[1:])
    return {"W0": arrays["W0"], "b0": arrays["b0"], "V0": V * is_linear, "C0": C * is_linear}


def knots_at_rows(arrays: Arrays, rows: Rows, *, reduced: bool) -> Arrays:
    """Return neurons of one feature with their knots at rows, or where interpolants touch: optima have no others."""
    points = np.unique(np.append(rows.X[:, 0].numpy(), [0.0, 1.0] if reduced else []))
    if len(points) > _ALL_KNOTS:
        near = np.abs(points - (arrays["b0"] * arrays["W0"][:, 0])[:, None]).argmin(axis=1)
        points = points[np.unique(near)]
    return {"W0": np.ones((len(points), 1)), "b0": points}


def empty(network: SplineNetwork) -> Arrays:
    """Return a network of zeros without neurons."""
    shapes = replace(network, neurons=(0,) * network.n_layers).shapes
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def constant(network: SplineNetwork, rows: Rows) -> Arrays:
    """Return the mean."""
    return empty(network) | {"c": (rows.weights @ rows.y).numpy()}
