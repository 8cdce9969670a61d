"""Whether parameters are a self-consistent minimiser, from objective and penalty alone.

The solver does not judge itself: nothing here is used by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sklearn_htmc._network import Floats
from sklearn_htmc._training.core.architecture import Architecture, Parameters
from sklearn_htmc._training.core.objective import Rows, loss_and_gradient
from sklearn_htmc._training.core.penalties import WeightedL1
from sklearn_htmc._training.core.weightings import SENSITIVITY, Weighting


@dataclass(frozen=True, eq=False)
class Certificate:
    """Value and stationarity of one problem.

    Attributes
    ----------
    loss, norm, objective : float
        ``L(t)``, ``R(t)`` and ``L + strength * R``.
    stationarity : float
        ``max_p dist(-dL/dt_p, strength omega_p d|t_p|) / omega_p`` over all edges with positive ``omega_p``.
    typical : float
        Median of the same distances, in units of the strength. A few edges of next to no effect make the largest one
        large in every fit; the median is small in those that have been trained to their end. A family may put the mean,
        or that of another stage, here.
    gradient, weights : Parameters
        ``dL/dt`` and ``omega``.
    feature_norms : ndarray of shape (n_features,)
        Part of the norm on the edges that leave each feature.
    """

    loss: float
    norm: float
    objective: float
    stationarity: float
    typical: float
    gradient: Parameters
    weights: Parameters
    feature_norms: Floats


def certify(
    architecture: Architecture,
    parameters: Parameters,
    rows: Rows,
    strength: float,
    weighting: Weighting = SENSITIVITY,
) -> Certificate:
    """Measure one problem exactly (theory, section 2), zeros included.

    Parameters
    ----------
    architecture : Architecture
        The compacted network, so that every unit is alive.
    parameters : Parameters
        Float64 parameters of one problem.
    rows : Rows
        Float64 rows.
    strength : float
        Penalty strength.
    weighting : Weighting
        Which weights the norm has.
    """
    loss, gradient = loss_and_gradient(architecture, parameters, rows)
    weights = weighting.over_rows(architecture, parameters, rows)
    norm = float(WeightedL1(weights.flat).value(parameters.flat))
    free = weights.with_flat(weights.flat.clone())
    free.views["c"].fill_(1.0)  # the free constant: plain gradient in units of its sensitivity, which is one
    distance = WeightedL1(strength * weights.flat).distance(parameters.flat, gradient.flat)
    living = free.flat > 0
    violations = distance[living] / free.flat[living]
    worst, typical = float(violations.max()), float(violations.median()) / strength
    importance = (weights.views["E"] * parameters.views["E"].abs())[0].sum(0).numpy()
    return Certificate(loss, norm, loss + strength * norm, worst, typical, gradient, weights, importance)
