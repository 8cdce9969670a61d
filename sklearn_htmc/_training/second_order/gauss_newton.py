"""Second-order phase: Levenberg-Marquardt on the active edges of one problem, in float64.

Assumptions: the data term is a mean of squares and the network is compacted. With frozen weights every step would
gain by making the incoming edges of a neuron smaller and its outgoing ones larger, which changes nothing (theory,
balance). So what falls here is ``L + strength R`` with R as a function of the parameters. R counts a path once for
every edge on it; dividing alpha by that number, ``kappa = t'grad R / R``, gives the strength at which the identity of
a self-consistent point, ``alpha R = sum_p t_p E_P[r df/dt_p]``, holds.

One step solves ``min_s g's + 1/2 s'(H + mu I)s`` within the orthant of the edges, where g is the gradient of the
objective and H the Gauss-Newton matrix of the data term. Everything is scaled by the sensitivities: H has a unit
diagonal, and steps do not depend on how a neuron or stream coordinate is scaled. An edge that would cross zero stops
there and leaves. A step is taken only if the objective falls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.core.calculus import Calculus
from sklearn_htmc._training.core.deadline import SECOND_ORDER, UNLIMITED, Deadline
from sklearn_htmc._training.core.objective import Rows

_MATRIX_ROWS = 4_000  # the matrix is a metric: that many rows are enough for it
_DAMPING = (1e-2, 1e-8, 1e8)  # first, least and largest
_LEAST = 0.1  # of the mean importance
_SOLVES = 4  # rounds of stopping edges at zero in one step
_TRIES = 10  # dampings of one step


@dataclass(frozen=True, eq=False)
class Point:
    """A network with the value and slope of its objective.

    Attributes
    ----------
    network : ResidualNetwork or SplineNetwork
        Sizes.
    parameters : Parameters
        Float64 parameters of one problem.
    objective, loss : float
        ``L + strength R`` and L.
    gradient : Tensor of shape (n_parameters,)
        Gradient of the objective in the orthant of the parameters.
    loss_gradient : Tensor of shape (n_parameters,)
        Gradient of L.
    weights : Tensor of shape (n_parameters,)
        ``omega``.
    """

    network: Any
    parameters: Parameters
    objective: float
    loss: float
    gradient: Tensor
    loss_gradient: Tensor
    weights: Tensor

    @property
    def n_edges(self) -> int:
        """Number of nonzero parameters without the free constant."""
        return int(torch.count_nonzero(self.parameters.flat)) - int(torch.count_nonzero(self.parameters.views["c"]))

    def compacted(self) -> tuple[Any, Parameters]:
        """Return the network without units that are no longer alive."""
        smaller: tuple[Any, Parameters] = self.network.compact(self.parameters.views, 0)
        return smaller


@dataclass(frozen=True, eq=False)
class Problem:
    """What is minimised: rows, strength, and the derivatives of the objective of a family of networks; and how long."""

    rows: Rows
    strength: float
    calculus: Calculus
    deadline: Deadline = UNLIMITED

    def consistent(self, network: Any, parameters: Parameters) -> Problem:
        """Return the problem whose minimisers obey the identity of self-consistent points; see the module."""
        at = self.calculus.differentiate(network, parameters, self.rows)
        kappa = float(at.norm_gradient @ parameters.flat) / max(at.norm, 1e-300)
        return replace(self, strength=self.strength / max(1.0, kappa))

    def at_least(self, strength: float) -> Problem:
        """Return the problem with a strength that is not below some value."""
        return replace(self, strength=max(self.strength, strength))

    def objective(self, network: Any, parameters: Parameters) -> float:
        """Return ``L + strength R``."""
        at = self.calculus.value(network, parameters, self.rows)
        return at.loss + self.strength * at.norm

    def at(self, network: Any, parameters: Parameters) -> Point:
        """Return value and slope at some parameters."""
        at = self.calculus.differentiate(network, parameters, self.rows)
        gradient = at.gradient + self.strength * at.norm_gradient
        objective = at.loss + self.strength * at.norm
        return Point(network, parameters, objective, at.loss, gradient, at.gradient, at.weights)

    def metric_rows(self) -> Rows:
        """Return rows for the Gauss-Newton matrix: all of them, or evenly spread ones where they are many."""
        return self.rows.thinned(_MATRIX_ROWS)


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The local model in scaled variables ``u = omega t`` of the active parameters.

    Attributes
    ----------
    active : Tensor of shape (n_parameters,)
        Which parameters take part: those that may move and have an effect.
    scale : Tensor of shape (n_active,)
        ``1 / omega``, less for edges of little importance.
    u, slope : Tensor of shape (n_active,)
        Variables and gradient of the objective.
    H : Tensor of shape (n_active, n_active)
        Gauss-Newton matrix of the data term, its diagonal one, less for edges of little importance; and the curvature
        of the norm, where that is not linear.
    penalised : Tensor of shape (n_active,)
        Those with an l1 price, which stop at zero.
    """

    active: Tensor
    scale: Tensor
    u: Tensor
    slope: Tensor
    H: Tensor
    penalised: Tensor

    @classmethod
    def at(cls, problem: Problem, point: Point, metric: Rows) -> Quadratic:
        """Build the model of a problem at a point, with the curvature on some rows."""
        t = point.parameters.flat
        kinds = problem.calculus.kinds(point.network, point.parameters)
        active = kinds.active.clone()
        H = problem.calculus.matrix(point.network, point.parameters, metric, active)
        omega = H.diagonal().sqrt()
        bending = problem.calculus.bending(point.network, point.parameters, active)
        H = H if bending is None else H + problem.strength * bending
        if bool((omega == 0).any()):
            alive = omega > 0
            active[active.clone()] = alive
            H, omega = H[alive][:, alive], omega[alive]
        size, penalised = t[active].abs(), kinds.penalised[active]
        # An edge with a tiny sensitivity may hold a neuron shut: its step is damped as if it had some importance.
        least = _LEAST * float((omega * size)[penalised].sum()) / max(1, point.n_edges)
        scale = 1.0 / torch.where(penalised, omega.maximum(least / size), 1.0)
        return cls(
            active, scale, t[active] / scale, point.gradient[active] * scale, H * scale[:, None] * scale, penalised
        )

    def step(self, damping: float) -> Tensor:
        """Return the damped Newton step in which penalised variables stop at zero."""
        s, free = torch.zeros_like(self.u), torch.ones_like(self.penalised)
        for _ in range(_SOLVES):
            index = free.nonzero().squeeze(1)
            A = self.H[index][:, index]
            right = -(self.slope[index] + self.H[index][:, ~free] @ s[~free])
            A.diagonal().add_(damping)
            factor, failed = torch.linalg.cholesky_ex(A)
            if int(failed):
                return self.step(10.0 * damping)
            s[index] = torch.cholesky_solve(right[:, None], factor)[:, 0]
            crossing = free & self.penalised & ((self.u + s) * self.u < 0)
            if not bool(crossing.any()):
                break
            s[crossing] = -self.u[crossing]
            free = free & ~crossing
        return s

    def landed(self, point: Point, u: Tensor) -> Parameters:
        """Return the parameters at scaled values ``u``; what has crossed zero is exactly zero."""
        crossed = (u * self.u <= 0) & self.penalised
        moved = point.parameters.with_flat(point.parameters.flat.clone())
        moved.flat[self.active] = torch.where(crossed, 0.0, u) * self.scale
        return moved

    def predicted(self, s: Tensor) -> float:
        """Return by how much the model falls along a step."""
        return -float(self.slope @ s + 0.5 * s @ (self.H @ s))


def descend(problem: Problem, network: Any, parameters: Parameters, *, max_steps: int, tol: float) -> Point:
    """Lower the objective by damped Gauss-Newton steps.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    network, parameters : ResidualNetwork or SplineNetwork, Parameters
        The compacted network and its float64 parameters.
    max_steps : int
        Steps at most.
    tol : float
        Relative fall of the objective in one step below which the phase ends.

    Returns
    -------
    Point
        Never above the start.
    """
    metric, damping = problem.metric_rows(), _DAMPING[0]
    point = problem.at(network, parameters)
    for _ in range(max_steps):
        if not problem.deadline.allows(SECOND_ORDER):
            break
        model = Quadratic.at(problem, point, metric)
        following, damping = _one_step(problem, point, model, damping)
        if following is None:
            break
        fallen = point.objective - following.objective
        point = problem.at(network, following.parameters)
        if fallen <= tol * point.objective:
            break
    network, parameters = point.compacted()
    same = network == point.network and torch.equal(parameters.flat, point.parameters.flat)
    return point if same else problem.at(network, parameters)


def _one_step(problem: Problem, point: Point, model: Quadratic, damping: float) -> tuple[Point | None, float]:
    """Return a point with a lower objective, or None, and the damping for the next step."""
    for _ in range(_TRIES):
        s = model.step(damping)
        moved = model.landed(point, model.u + s)
        objective = problem.objective(point.network, moved)
        if objective < point.objective:
            if point.objective - objective > 0.5 * model.predicted(s):
                damping = max(_DAMPING[1], damping / 4.0)
            return replace(point, parameters=moved, objective=objective), damping
        damping = min(_DAMPING[2], damping * 4.0)
    return None, damping
