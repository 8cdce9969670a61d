"""The lasso, exactly: an active-set method for a few hundred correlated columns.

Hinges next to each other are nearly collinear, so coordinate descent would take millions of passes. Feature-sign
search (Lee, Battle, Raina and Ng 2007) solves for the active coefficients with their signs held, goes as far along the
way there as the objective falls, drops what has become zero, and lets the most violated coefficient in. The objective
falls in every step, so it ends at the optimum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from sklearn_htmc._network import Floats

_TOLERANCE = 1e-9  # of the optimality conditions, relative to the strength
_RIDGE = 1e-13  # of the mean diagonal: columns may be equal
_MOST_STEPS = 10  # times the number of columns


def lasso(gram: Floats, target: Floats, strength: float, start: Floats) -> Floats:
    """Return ``argmin_x 1/2 x'Gx - t'x + strength ||x||_1``.

    Parameters
    ----------
    gram : ndarray of shape (n_columns, n_columns)
        ``G``, positive semi-definite.
    target : ndarray of shape (n_columns,)
        ``t``.
    strength : float
        Positive.
    start : ndarray of shape (n_columns,)
        Where to start.
    """
    x: Floats = start.copy()
    slope = target - gram @ x
    ridge = _RIDGE * (float(np.trace(gram)) / max(1, len(gram)) + 1e-300)
    for _ in range(_MOST_STEPS * max(10, len(x))):
        active = np.flatnonzero(x)
        signs: Floats = np.sign(x[active])
        off = np.abs(slope[active] - strength * signs)
        if not len(active) or off.max() <= _TOLERANCE * strength:
            outside = np.where(x == 0, np.abs(slope), 0.0)
            entering = int(outside.argmax())
            if outside[entering] <= strength * (1.0 + _TOLERANCE):
                return x
            active, signs = np.append(active, entering), np.append(signs, np.sign(slope[entering]))
        moved = _towards(gram, x, slope, strength, active, signs, ridge)
        if np.array_equal(moved, x):
            return x
        x = moved
        slope = target - gram @ x
    return x


def _towards(
    gram: Floats, x: Floats, slope: Floats, strength: float, active: NDArray[np.intp], signs: Floats, ridge: float
) -> Floats:
    """Return the best point on the way to the minimum with the signs held: there, or where a coefficient is zero."""
    G = gram[np.ix_(active, active)]
    step = solve(G + ridge * np.eye(len(active)), slope[active] - strength * signs, assume_a="sym", check_finite=False)
    now = x[active]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.where(now * step < 0, -now / step, np.inf)
    stops = np.append(np.unique(crossings[crossings < 1.0]), 1.0)
    curvature, fall = step @ (G @ step), slope[active] @ step
    points = now + stops[:, None] * step
    gains = fall * stops - 0.5 * curvature * stops**2 - strength * (np.abs(points).sum(axis=1) - np.abs(now).sum())
    best = int(gains.argmax())
    moved = x.copy()
    if gains[best] <= 0:
        return moved
    moved[active] = points[best]
    moved[active[crossings == stops[best]]] = 0.0
    return moved
