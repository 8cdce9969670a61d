"""Training rows in canonical form: what makes weights equal repetition and the order of rows irrelevant, bit for bit.

Rows without weight are dropped, equal rows are merged (their weights add up) and the rest is sorted by content. A fit
that sees only this table cannot tell a weight of two from a row given twice, nor in which order rows came. Features
and targets are then standardised with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc._network import Floats


@dataclass(frozen=True, eq=False)
class Scaling:
    """Affine map ``z = (x - center) / scale`` per column.

    Attributes
    ----------
    center, scale : ndarray of shape (n_columns,)
        Weighted mean and standard deviation; a constant column has scale 1.
    """

    center: Floats
    scale: Floats

    @classmethod
    def of(cls, columns: Floats, weights: Floats) -> Scaling:
        """Measure the columns of an array of shape (n_samples, n_columns) with weights that sum to one."""
        # Powers of two scale exactly and keep the squares of 1e-200 and 1e200 in range.
        unit = np.ldexp(1.0, np.frexp(np.abs(columns).max(axis=0))[1])
        unit[unit == 0] = 1.0
        shrunk = columns / unit
        first = shrunk[0]  # differences from a row: exact zeros for a constant column
        center = first + weights @ (shrunk - first)
        scale = np.sqrt(weights @ (shrunk - center) ** 2)
        noise = 8 * np.finfo(float).eps * np.abs(shrunk).max(axis=0)
        constant = scale <= noise
        return cls(np.where(constant, first, center) * unit, np.where(constant, 1.0, scale * unit))

    def forward(self, columns: Floats) -> Floats:
        """Standardise."""
        return (columns - self.center) / self.scale

    def inverse(self) -> Scaling:
        """Return the scaling that undoes this one."""
        return Scaling(-self.center / self.scale, 1.0 / self.scale)


@dataclass(frozen=True, eq=False)
class Table:
    """Canonical, standardised training rows.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
        Standardised features.
    y : ndarray of shape (n_rows, n_outputs)
        Standardised targets, divided by ``sqrt(n_outputs)``, so that their total variance is one.
    weights : ndarray of shape (n_rows,)
        Positive, sum to one.
    groups : ndarray of shape (n_rows,)
        Number of the distinct feature row; rows that differ only in the target share it.
    features, targets : Scaling
        How raw units become the units of `X` and `y`.
    input_range : ndarray of shape (2, n_features)
        Smallest and largest raw value of every feature.
    """

    X: Floats
    y: Floats
    weights: Floats
    groups: NDArray[np.intp]
    features: Scaling
    targets: Scaling
    input_range: Floats

    @classmethod
    def build(
        cls,
        X: Floats,
        y: Floats,
        sample_weight: Floats,
        *,
        scalings: tuple[Scaling, Scaling] | None = None,
        input_range: Floats | None = None,
    ) -> Table:
        """Merge, sort and standardise raw rows, which the caller has validated.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Raw features.
        y : ndarray of shape (n_samples, n_outputs)
            Raw targets.
        sample_weight : ndarray of shape (n_samples,)
            Non-negative, not all zero.
        scalings : tuple of Scaling or None
            Those of features and targets where they are given, not measured.
        input_range : ndarray of shape (2, n_features) or None
            A range that is to be covered as well.
        """
        used = sample_weight > 0
        rows = np.hstack([X[used], y[used]]) + 0.0  # no negative zeros: equal rows get equal bytes
        rows, weights = _merged(rows, sample_weight[used])
        X, y = rows[:, : X.shape[1]], rows[:, X.shape[1] :]
        if scalings is None:
            targets = Scaling.of(y, weights)
            scalings = (
                Scaling.of(X, weights),
                Scaling(targets.center, targets.scale * np.sqrt(y.shape[1])),
            )
        covered = X if input_range is None else np.vstack([X, input_range])
        return cls(
            X=scalings[0].forward(X),
            y=scalings[1].forward(y),
            weights=weights,
            groups=np.unique(_as_bytes(X), return_inverse=True)[1],
            features=scalings[0],
            targets=scalings[1],
            input_range=np.array([covered.min(axis=0), covered.max(axis=0)]),
        )

    def folds(self, n_folds: int, random_state: np.random.RandomState) -> NDArray[np.intp]:
        """Assign every row to a fold: equal features share one, sizes differ by one group, targets are spread evenly.

        Consecutive groups in the order of their mean target are dealt to different folds.
        """
        n_groups = int(self.groups.max()) + 1
        counts = np.bincount(self.groups, minlength=n_groups)
        means = np.bincount(self.groups, self.y.mean(axis=1), n_groups) / counts
        deals = np.array([random_state.permutation(n_folds) for _ in range(-(-n_groups // n_folds))]).ravel()
        of_group = np.empty(n_groups, dtype=np.intp)
        of_group[np.argsort(means, kind="stable")] = deals[:n_groups]
        return of_group[self.groups]


def _merged(rows: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return distinct rows in canonical order and their total weights, which sum to one."""
    keys, number = np.unique(_as_bytes(rows), return_inverse=True)
    order = np.lexsort((weights, number))  # equal rows are added up in an order that does not depend on theirs
    starts = np.searchsorted(number[order], np.arange(len(keys)))
    total = np.add.reduceat(weights[order], starts)
    distinct = rows[order][starts]
    total = total / total.max()  # no overflow in the sum
    return distinct, total / total.sum()


def _as_bytes(rows: Floats) -> NDArray[np.void]:
    """View every row as one opaque item, so that sorting and comparing take its bytes."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
