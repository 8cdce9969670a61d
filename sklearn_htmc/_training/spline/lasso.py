"""The lasso and the group lasso, exactly: active-set methods for a few hundred correlated columns.

Hinges next to each other are nearly collinear, so coordinate descent would take millions of passes. Feature-sign
search (Lee, Battle, Raina and Ng 2007) solves for the active coefficients with their signs held, goes as far along the
way there as the objective falls, drops what has become zero, and lets violated coefficients in: all of them together,
which is a few steps where a path of strengths goes on or columns are added, and one at a time where that gains nothing.
The objective falls in every step, so it ends at the optimum.

Where outputs share columns, the length of the coefficients of a column is priced. That is smooth but at zero, so steps
are Newton steps, and after each one every column goes to its minimum with the others held: that is how it gets to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

from sklearn_htmc._network import Floats

_TOLERANCE = 1e-9  # of the optimality conditions, relative to the strength
_RIDGE = 1e-13  # of the mean diagonal: columns may be equal
_DAMPING = (_RIDGE, _RIDGE, _RIDGE, 1e-10, 1e-10, 1e-7, 1e-7)  # after so many steps in a row that gained nothing
_ZERO = 1e-10  # of its step: a coefficient up to this that moves towards zero is there
_TOGETHER = 8  # columns that enter in a step, and a quarter of those that are there
_MOST_STEPS = 10  # times the number of columns
_SHORTER = (0.5, 0.2, 0.05)  # shares of a Newton step that are tried


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
    x: Floats = np.where(np.diag(gram) > 0, start, 0.0)  # a column of zeros only costs
    if not len(x):
        return x
    slope = target - gram @ x
    scale = float(np.trace(gram)) / max(1, len(gram)) + 1e-300
    failures = 0  # in a row: after one, columns enter one at a time; after more, steps are damped
    for _ in range(_MOST_STEPS * max(10, len(x))):
        active = np.flatnonzero(x)
        signs: Floats = np.sign(x[active])
        off = float(np.abs(slope[active] - strength * signs).max(initial=0.0))
        outside = np.where(x == 0, np.abs(slope), 0.0)
        entering = np.flatnonzero(outside > strength * (1.0 + _TOLERANCE))
        settled = off <= _TOLERANCE * strength
        if (settled and not len(entering)) or failures == len(_DAMPING):
            break  # in the latter case rounding is all there is
        if settled or failures:  # else those that are there settle first
            n_most = 1 if failures else _TOGETHER + len(active) // 4
            entering = entering[np.argsort(-outside[entering], kind="stable")[:n_most]]
        else:
            entering = entering[:0]
        active, signs = np.append(active, entering), np.append(signs, np.sign(slope[entering]))
        moved = _towards(gram, x, slope, strength, active, signs, _DAMPING[failures] * scale)
        failures = failures + 1 if np.array_equal(moved, x) else 0
        x = moved
        slope = target - gram @ x
    return x


def _towards(
    gram: Floats, x: Floats, slope: Floats, strength: float, active: NDArray[np.intp], signs: Floats, ridge: float
) -> Floats:
    """Return the best point on the way to the minimum with the signs held: there, or where a coefficient is zero."""
    fall = slope[active] - strength * signs
    staying, step = _newton(gram, x[active], fall, active, signs, ridge)
    moved = x.copy()
    moved[active[~staying]] = 0.0
    active = active[staying]
    G = gram[np.ix_(active, active)]
    now = x[active]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.where(now * step < 0, -now / step, np.inf)
    stops = np.append(np.unique(crossings[crossings < 1.0]), 1.0)
    curvature, fall = step @ (G @ step), slope[active] @ step
    points = now + stops[:, None] * step
    gains = fall * stops - 0.5 * curvature * stops**2 - strength * (np.abs(points).sum(axis=1) - np.abs(now).sum())
    best = int(gains.argmax())
    if gains[best] <= 0:
        return moved
    moved[active] = points[best]
    moved[active[crossings == stops[best]]] = 0.0
    return moved


def _newton(
    gram: Floats, now: Floats, fall: Floats, active: NDArray[np.intp], signs: Floats, ridge: float
) -> tuple[NDArray[np.bool_], Floats]:
    """Return which columns stay and their step to the minimum with the signs held.

    Columns that enter together take from each other: those whose step has the wrong sign leave, all but the one that
    is missed most, which has the right sign where it is the only one. So do those that are as good as zero on their
    way out.
    """
    staying: NDArray[np.bool_] = np.ones(len(active), dtype=bool)
    new = now == 0
    while staying.any():
        G = gram[np.ix_(active[staying], active[staying])]
        G[np.diag_indices_from(G)] += ridge
        factor, failed = dpotrf(G.T, lower=1, overwrite_a=1)  # the transpose is in the order of Fortran
        step: Floats
        step = (
            dpotrs(factor, fall[staying], lower=1)[0] if not failed else np.linalg.solve(G, fall[staying]).astype(float)
        )
        wrong = np.zeros(len(active), dtype=bool)
        wrong[staying] = (step * signs[staying] <= 0) & (np.abs(now[staying]) <= _ZERO * np.abs(step))
        if not wrong.any():
            return staying, step
        entering = new & staying
        if entering.sum() > 1 and not (entering & ~wrong).any():
            wrong[np.where(entering, np.abs(fall), -1.0).argmax()] = False
        staying &= ~wrong
    return staying, np.zeros(0)


def shared_lasso(gram: Floats, target: Floats, strength: float, start: Floats, n_single: int) -> Floats:
    """Return ``argmin_X 1/2 tr X'GX - tr T'X + strength (sum_(k < n) ||x_k||_1 + sum_(k >= n) ||x_k||_2)``, rows x_k.

    Parameters
    ----------
    gram : ndarray of shape (n_columns, n_columns)
        ``G``, positive semi-definite.
    target : ndarray of shape (n_columns, n_outputs)
        ``T``.
    strength : float
        Positive.
    start : ndarray of shape (n_columns, n_outputs)
        Where to start.
    n_single : int
        ``n``: the first columns, which outputs do not share.
    """
    n, n_outputs = target.shape
    # A column that is not shared is one unit per output.
    column = np.append(np.repeat(np.arange(n_single), n_outputs), np.arange(n_single, n))
    allowed = np.vstack([np.tile(np.eye(n_outputs), (n_single, 1)), np.ones((n - n_single, n_outputs))])
    problem = _Shared(gram[np.ix_(column, column)], target[column] * allowed, strength, allowed)
    useful = (np.diag(gram) > 0)[column, None]  # a column of zeros only costs
    x: Floats = np.zeros_like(target)
    np.add.at(x, column, problem.solved(start[column] * allowed * useful))
    return x


@dataclass(frozen=True, eq=False)
class _Shared:
    """The group lasso; a unit is a row of coefficients that pays for its length.

    Attributes
    ----------
    gram, target, strength
        See `shared_lasso`, for units.
    allowed : ndarray of shape (n_units, n_outputs)
        1.0 for the outputs that a unit may have.
    """

    gram: Floats
    target: Floats
    strength: float
    allowed: Floats

    def solved(self, x: Floats) -> Floats:
        """Descend to the minimum."""
        if not len(x):
            return x
        stuck = False
        for _ in range(_MOST_STEPS * max(10, len(x))):
            slope, length = self._slope(x), np.linalg.norm(x, axis=1)
            alive = np.flatnonzero(length)
            off = np.linalg.norm(slope[alive] - self.strength * x[alive] / length[alive, None], axis=1)
            settled = stuck or not len(alive) or off.max() <= _TOLERANCE * self.strength
            if settled:
                outside = np.where(length == 0, np.linalg.norm(slope, axis=1), 0.0)
                entering = int(outside.argmax())
                if outside[entering] <= self.strength * (1.0 + _TOLERANCE):
                    return x
                moved = self._each_on_its_own(x, [entering])
            else:
                moved = self._stepped(x, slope, length, alive)
                moved = self._each_on_its_own(moved, np.flatnonzero(moved.any(axis=1)).tolist())
            stuck = self._fall(x, slope, moved) <= 0.0
            if stuck and settled:
                return x  # rounding is all there is
            x = x if stuck else moved
        return x

    def _slope(self, x: Floats) -> Floats:
        slope: Floats = (self.target - self.gram @ x) * self.allowed
        return slope

    def _fall(self, x: Floats, slope: Floats, moved: Floats) -> float:
        """Return by how much the objective falls from ``x``; a difference of objectives would run out of digits."""
        step, both = moved - x, np.linalg.norm(x, axis=1) + np.linalg.norm(moved, axis=1)
        # ||b|| - ||a|| = <b - a, a + b> / (||a|| + ||b||)
        direction = np.divide(x + moved, both[:, None], out=np.zeros_like(x), where=both[:, None] > 0)
        return float(np.sum(step * (slope - self.strength * direction)) - 0.5 * np.sum(step * (self.gram @ step)))

    def _stepped(self, x: Floats, slope: Floats, length: Floats, alive: NDArray[np.intp]) -> Floats:
        """Return the best point on the way of a Newton step over the living units."""
        at, output = np.nonzero(self.allowed[alive])
        unit = alive[at]
        u = x[unit, output] / length[unit]
        same_output, same_unit = output[:, None] == output, unit[:, None] == unit
        H = self.gram[np.ix_(unit, unit)] * same_output
        H += self.strength / length[unit] * same_unit * (same_output - np.outer(u, u))
        H[np.diag_indices_from(H)] += _RIDGE * (float(np.trace(H)) / len(H) + 1e-300)
        step = np.zeros_like(x)
        fall = slope[unit, output] - self.strength * u
        step[unit, output] = np.linalg.solve(H, fall)
        along = (x * step).sum(axis=1)
        crossings = np.divide(-(length**2), along, out=np.full(len(x), np.inf), where=along < 0)
        stops = np.concatenate([np.unique(crossings[crossings < 1.0]), _SHORTER, [1.0]])
        lengths = np.linalg.norm(x[alive] + stops[:, None, None] * step[alive], axis=2).sum(axis=1)
        gains = np.sum(slope * step) * stops - 0.5 * np.sum(step * (self.gram @ step)) * stops**2
        best = int((gains - self.strength * lengths).argmax())
        moved = x + stops[best] * step
        without = np.where((crossings <= stops[best])[:, None], 0.0, moved)
        return max(without, moved, key=lambda there: self._fall(x, slope, there))

    def _each_on_its_own(self, x: Floats, units: list[int]) -> Floats:
        """Return the point after every unit in turn has gone to its minimum with the others held."""
        x, slope = x.copy(), self._slope(x)
        for k in units:
            curvature = self.gram[k, k]
            pull = slope[k] + curvature * x[k]
            size = float(np.linalg.norm(pull))
            best = pull * ((size - self.strength) / (size * curvature)) if size > self.strength else np.zeros_like(pull)
            slope -= np.outer(self.gram[k], best - x[k]) * self.allowed
            x[k] = best
        return x
