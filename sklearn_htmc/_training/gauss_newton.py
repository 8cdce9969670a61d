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

import torch
from torch import Tensor

from sklearn_htmc._training.architecture import Parameters
from sklearn_htmc._training.objective import (
    Rows,
    loss_and_gradient,
    mean_loss,
    norm_gradient,
    penalty_weights,
    sensitivities,
)
from sklearn_htmc._training.penalties import WeightedL1
from sklearn_htmc._training.residual import ResidualNetwork

_CHUNK_ENTRIES = 4_000_000  # of the Jacobian held at a time
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
    network : ResidualNetwork
        Sizes.
    parameters : Parameters
        Float64 parameters of one problem.
    objective, loss : float
        ``L + strength R`` and L.
    gradient : Tensor of shape (n_parameters,)
        Gradient of the objective in the orthant of the parameters.
    """

    network: ResidualNetwork
    parameters: Parameters
    objective: float
    loss: float
    gradient: Tensor

    @property
    def n_edges(self) -> int:
        """Number of nonzero parameters without the free constant."""
        return int(torch.count_nonzero(self.parameters.flat)) - int(torch.count_nonzero(self.parameters.views["c"]))

    def compacted(self) -> tuple[ResidualNetwork, Parameters]:
        """Return the network without units that are no longer alive."""
        return self.network.compact(self.parameters.views, 0)


@dataclass(frozen=True, eq=False)
class Problem:
    """What is minimised: rows, strength and weighting."""

    rows: Rows
    strength: float
    weighting: str

    @classmethod
    def consistent(
        cls, rows: Rows, alpha: float, weighting: str, network: ResidualNetwork, parameters: Parameters
    ) -> Problem:
        """Return the problem whose minimisers obey the identity of self-consistent points; see the module."""
        omega = penalty_weights(network, parameters, rows, weighting)
        slope = norm_gradient(network, parameters, rows, omega, weighting)
        norm = float(WeightedL1(omega.flat).value(parameters.flat))
        kappa = float(slope @ parameters.flat) / max(norm, 1e-300)
        return cls(rows, alpha / max(1.0, kappa), weighting)

    def at_least(self, strength: float) -> Problem:
        """Return the problem with a strength that is not below some value."""
        return replace(self, strength=max(self.strength, strength))

    def objective(self, network: ResidualNetwork, parameters: Parameters) -> float:
        """Return ``L + strength R``."""
        omega = penalty_weights(network, parameters, self.rows, self.weighting)
        norm = float(WeightedL1(omega.flat).value(parameters.flat))
        return mean_loss(network, parameters, self.rows) + self.strength * norm

    def at(self, network: ResidualNetwork, parameters: Parameters) -> Point:
        """Return value and slope at some parameters."""
        loss, gradient = loss_and_gradient(network, parameters, self.rows)
        omega = penalty_weights(network, parameters, self.rows, self.weighting)
        slope = norm_gradient(network, parameters, self.rows, omega, self.weighting)
        norm = float(WeightedL1(omega.flat).value(parameters.flat))
        return Point(network, parameters, loss + self.strength * norm, loss, gradient.flat + self.strength * slope)

    def metric_rows(self) -> Rows:
        """Return rows for the Gauss-Newton matrix: all of them, or evenly spread ones where they are many."""
        n = len(self.rows.X)
        if n <= _MATRIX_ROWS:
            return self.rows
        chosen = torch.linspace(0, n - 1, _MATRIX_ROWS).long()
        weights = self.rows.weights[chosen]
        return Rows(self.rows.X[chosen], self.rows.y[chosen], weights / weights.sum())


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The local model in scaled variables ``u = omega t`` of the active parameters.

    Attributes
    ----------
    active : Tensor of shape (n_parameters,)
        Which parameters take part: the nonzero ones with an effect, and the free constant.
    scale : Tensor of shape (n_active,)
        ``1 / omega``, less for edges of little importance.
    u, slope : Tensor of shape (n_active,)
        Variables and gradient of the objective.
    H : Tensor of shape (n_active, n_active)
        Gauss-Newton matrix of the data term; its diagonal is one, less for edges of little importance.
    penalised : Tensor of shape (n_active,)
        All but the free constant.
    """

    active: Tensor
    scale: Tensor
    u: Tensor
    slope: Tensor
    H: Tensor
    penalised: Tensor

    @classmethod
    def at(cls, point: Point, metric: Rows) -> Quadratic:
        """Build the model at a point."""
        omega = sensitivities(point.network, point.parameters, metric)
        omega.views["c"].fill_(1.0)
        pays = omega.with_flat(torch.ones_like(omega.flat))
        pays.views["c"].zero_()
        free = pays.flat == 0
        t = point.parameters.flat
        active = ((t != 0) | free) & (omega.flat > 0)
        # An edge with a tiny sensitivity may hold a neuron shut: its step is damped as if it had some importance.
        least = _LEAST * float((omega.flat * t.abs())[~free].sum()) / max(1, point.n_edges)
        scale = 1.0 / torch.where(free, 1.0, omega.flat.maximum(least / t.abs()))[active]
        H = gauss_newton_matrix(point.network, point.parameters, metric, active) * scale[:, None] * scale
        return cls(
            active, scale, point.parameters.flat[active] / scale, point.gradient[active] * scale, H, ~free[active]
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


def gauss_newton_matrix(network: ResidualNetwork, parameters: Parameters, rows: Rows, active: Tensor) -> Tensor:
    """Return ``E_P[(df/dt)' (df/dt)]`` over the active parameters, accumulated over chunks of rows.

    Parameters
    ----------
    network : ResidualNetwork
        The network.
    parameters : Parameters
        Parameters of one problem.
    rows : Rows
        Rows.
    active : Tensor of shape (n_parameters,)
        Which parameters take part.

    Returns
    -------
    Tensor of shape (n_active, n_active)
        In float64, from products in float32: a damped step does not feel the difference.
    """
    n_active = int(active.sum())
    total = torch.zeros(n_active, n_active, dtype=torch.float32)
    where = {name: view[0].nonzero(as_tuple=True) for name, view in parameters.with_flat(active).views.items()}
    for X, _, weights in rows.chunks(max(64, _CHUNK_ENTRIES // max(1, n_active))):
        for output in range(network.n_outputs):
            factors = network.factors(parameters.views, X, output)
            columns = [
                target[:, index[0]] * (source[:, index[1]] if len(index) > 1 else 1.0)
                for (source, target), index in ((factors[name], where[name]) for name in where)
            ]
            J = (torch.cat(columns, dim=1) * weights[0].sqrt()).float()
            total.addmm_(J.T, J)
    return total.double()


def descend(problem: Problem, network: ResidualNetwork, parameters: Parameters, *, max_steps: int, tol: float) -> Point:
    """Lower the objective by damped Gauss-Newton steps.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    network, parameters : ResidualNetwork, Parameters
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
        model = Quadratic.at(point, metric)
        following, damping = _one_step(problem, point, model, damping)
        if following is None:
            break
        fallen = point.objective - following.objective
        point = problem.at(network, following.parameters)
        if fallen <= tol * point.objective:
            break
    return problem.at(*point.compacted())


def _one_step(problem: Problem, point: Point, model: Quadratic, damping: float) -> tuple[Point | None, float]:
    """Return a point with a lower objective, or None, and the damping for the next step."""
    for _ in range(_TRIES):
        s = model.step(damping)
        moved = model.landed(point, model.u + s)
        objective = problem.objective(point.network, moved)
        if objective < point.objective:
            if point.objective - objective > 0.5 * model.predicted(s):
                damping = max(_DAMPING[1], damping / 4.0)
            return Point(point.network, moved, objective, point.loss, point.gradient), damping
        damping = min(_DAMPING[2], damping * 4.0)
    return None, damping
