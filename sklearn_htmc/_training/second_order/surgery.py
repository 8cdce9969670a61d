"""Fewer edges: removal with compensation by the others (optimal brain surgeon), down to a budget.

In the scaled variables of `gauss_newton.Quadratic` removing the edges S costs ``1/2 u_S' ((H^-1)_SS)^-1 u_S`` once
the others move by ``-(H^-1)_(:,S) ((H^-1)_SS)^-1 u_S``. The linear model overestimates what compensation can do, most
of all along long chains, so a removal is taken only where the true objective agrees; else fewer edges go, or the
others stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from sklearn_htmc._training.core.deadline import SECOND_ORDER
from sklearn_htmc._training.second_order.gauss_newton import Point, Problem, Quadratic, descend

_ROUND = 0.08  # share of the edges that go in one round
_RIDGE = 1e-4  # added to the unit diagonal of H before it is inverted
_STEPS = 6  # Gauss-Newton steps between two rounds
_PRUNING_STEPS = 4  # the same where the price decides
_EXPLOSION = 1.5  # times the objective that a removal may lead to, before the steps that repair it
_SINGLES = 8  # edges whose true cost is looked at where all removals explode
_TRIED = 0.3  # share of the edges that may go at once where they are cheap
_MATTERS = 1e-6  # relative fall of the objective below which a step that removes nothing is one in vain
_REPAIRED = 0.25  # of the objective: what steps after a removal may be expected to win back
_HALVINGS = 6  # sizes of a removal that are tried


def shrink(problem: Problem, point: Point, budget: int) -> Iterator[Point]:
    """Yield ever smaller networks, the last one within the budget if there is time.

    Parameters
    ----------
    problem : Problem
        What is minimised at every size.
    point : Point
        Where to start.
    budget : int
        Number of edges of the last network.

    Yields
    ------
    Point
        Re-optimised networks with falling numbers of edges.
    """
    stuck = 0
    while point.n_edges > budget and problem.deadline.allows(SECOND_ORDER):
        n_edges = point.n_edges
        n_removed = min(max(1, int(_ROUND * n_edges)), n_edges - budget)
        if stuck:
            # Folding constants costs edges, and edges without effect have no saliency: cut more, and those first.
            smaller = _largest(problem, point, max(0, n_edges - (n_removed << stuck)))
        else:
            smaller = _without(problem, point, n_removed)
        point = descend(problem, smaller.network, smaller.parameters, max_steps=_STEPS, tol=1e-5)
        stuck = 0 if point.n_edges < n_edges else stuck + 1
        yield point


def pruned(problem: Problem, point: Point, price: float, *, patience: int = 0, n_steps: int = _PRUNING_STEPS) -> Point:
    """Remove edges as long as the objective plus ``price`` times the number of edges falls.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    point : Point
        Where to start.
    price : float
        What an edge has to lower the objective by, to stay.
    patience : int
        Single edges that are tried in a row, in vain, although they do not look cheap. With the patience for all
        edges and steps to convergence, a minimum of removals remains, but for jumps at kinks.
    n_steps : int
        Gauss-Newton steps at most after a removal.

    Returns
    -------
    Point
        Re-optimised, and not above the start with the price of the edges included.
    """
    metric, n_tried, failures = problem.metric_rows(), max(1, int(_TRIED * point.n_edges)), 0
    while point.n_edges > 1 and (n_tried or failures < patience) and problem.deadline.allows(SECOND_ORDER):
        model = Quadratic.at(problem, point, metric)
        inverse = inverse_of(model.H + _rescalings(point, model))
        # What the data term loses, less what the norm gains to first order; twice that much gain may still pay.
        gain = price + problem.strength * model.u.abs()
        cost = torch.where(model.penalised, 0.5 * model.u.square() / inverse.diagonal(), math.inf)
        order = (cost - gain).argsort()
        n_tried = min(n_tried, int((cost < 2.0 * gain).sum()))
        if not n_tried and failures == patience:
            break
        sets = [order[: n_tried >> k] for k in range(_HALVINGS) if n_tried >> k] or [order[failures : failures + 1]]
        trials = [removed(problem, point, model, inverse, gone, 1.0) for gone in sets]
        trials.append(removed(problem, point, model, inverse, sets[0], 0.0))
        best = min(trials, key=lambda trial: trial.objective + price * trial.n_edges)
        following = _if_lower(problem, point, best, price, n_steps)
        if following is not None:
            fallen = point.objective - following.objective
            matters = following.n_edges < point.n_edges or fallen > _MATTERS * point.objective
            point, failures = following, 0 if matters else failures + 1
        elif n_tried:
            n_tried = min(n_tried, point.n_edges - best.n_edges) // 8
        else:
            failures += 1
    return point


def _if_lower(problem: Problem, point: Point, trial: Point, price: float, n_steps: int) -> Point | None:
    """Return a trial after some steps if it ends below a point, the price of the edges included."""
    before = point.objective + price * point.n_edges
    if trial.objective + price * trial.n_edges >= before + _REPAIRED * point.objective:
        return None
    following = descend(problem, *trial.compacted(), max_steps=n_steps, tol=1e-4 / n_steps)
    return following if following.objective + price * following.n_edges < before else None


def _largest(problem: Problem, point: Point, n_kept: int) -> Point:
    """Keep the largest edges in scaled variables, and nothing else."""
    model = Quadratic.at(problem, point, problem.metric_rows())
    size = torch.where(model.penalised, model.u.abs(), math.inf)
    order = size.argsort(descending=True)[: n_kept + int((~model.penalised).sum())]
    kept = torch.zeros_like(model.u)
    kept[order] = model.u[order]
    moved = model.landed(point, kept)
    moved.flat[~model.active] = 0.0
    return problem.at(*point.network.compact(moved.views, 0))


def _without(problem: Problem, point: Point, n_removed: int) -> Point:
    """Remove the least salient edges; fewer of them where the objective would explode."""
    model = Quadratic.at(problem, point, problem.metric_rows())
    inverse = inverse_of(model.H + _rescalings(point, model))
    saliency = model.u.square() / inverse.diagonal()
    saliency[~model.penalised] = math.inf
    order = saliency.argsort()[: int(model.penalised.sum())]
    while n_removed:
        gone = order[:n_removed]
        best = min(
            (removed(problem, point, model, inverse, gone, share) for share in (1.0, 0.5, 0.0)),
            key=lambda p: p.objective,
        )
        if best.objective <= _EXPLOSION * point.objective:
            return problem.at(*best.compacted())
        n_removed //= 2
    # Not even the least salient edge can go cheaply: look at what the others really cost.
    singles = [
        removed(problem, point, model, inverse, edge[None], share) for edge in order[:_SINGLES] for share in (1.0, 0.0)
    ]
    return problem.at(*min(singles, key=lambda p: p.objective).compacted())


def removed(problem: Problem, point: Point, model: Quadratic, inverse: Tensor, gone: Tensor, share: float) -> Point:
    """Return the point without some edges; the others compensate by a share of what the linear model says."""
    u = model.u.clone()
    if share > 0:
        u = u - share * inverse[:, gone] @ torch.linalg.solve(inverse[gone][:, gone], model.u[gone])
    u[gone] = 0.0
    moved = model.landed(point, u)
    objective = problem.objective(point.network, moved)
    if not math.isfinite(objective):
        objective = math.inf
    return replace(point, parameters=moved, objective=objective)


def _rescalings(point: Point, model: Quadratic) -> Tensor:
    """Return what makes the directions of rescaling stiff, in scaled variables.

    H does not see them, so without it the last edge out of a unit would seem free to go: a zero that is "compensated"
    by factors that grow without bound.
    """
    directions: Tensor = point.network.rescalings(point.parameters)[:, model.active] / model.scale
    size = directions.norm(dim=1, keepdim=True)
    directions = directions / torch.where(size > 0, size, 1.0)
    return directions.T @ directions


def inverse_of(H: Tensor) -> Tensor:
    """Return the inverse of a nearly singular matrix with the least ridge that makes it positive definite."""
    ridge = _RIDGE
    while True:
        A = H.clone()
        A.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(A)
        if not int(failed):
            inverse: Tensor = torch.cholesky_inverse(factor)
            return inverse
        ridge *= 10.0
