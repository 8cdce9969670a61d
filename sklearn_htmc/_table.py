"""Training rows in canonical form: what makes weights equal repetition and the order of rows irrelevant, bit for bit.

Rows without weight are dropped, equal rows are merged (their weights add up) and the rest is sorted by content. A fit
that sees only this table cannot tell a weight of two from a row given twice, nor in which order rows came. Features
and targets are then standardised with the weights.

Many rows in single precision stay in it: sums over them are made in double precision, some rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc._network import Floats

SINGLE_ENTRIES = 100_000  # features in single precision become double ones if there are not more of them
_CHUNK_ENTRIES = 2**20  # that are double at a time where the whole is single
_SMALLEST_SCALE = 1e-305  # its inverse, times a weight, is still a number
_ROUNDING = 64 * np.finfo(float).eps  # of the size of a column: a standard deviation up to this is rounding


@dataclass(frozen=True, eq=False)
class Scaling:
    """Affine map ``z = (x - center) / scale`` per column.

    Attributes
    ----------
    center, scale : ndarray of shape (n_columns,)
        Weighted mean and standard deviation; the scale of a constant column is its size, so that values met later
        are not out of all proportion, and 1 for zeros.
    """

    center: Floats
    scale: Floats

    @classmethod
    def of(cls, columns: Floats, weights: Floats) -> Scaling:
        """Measure the columns of an array of shape (n_samples, n_columns) with weights that sum to one."""
        return Moments.of(columns, weights).scaling()

    def forward(self, columns: Floats) -> Floats:
        """Standardise."""
        unit = power_of_two(self.scale)  # no overflow in the difference
        return (columns / unit - self.center / unit) / (self.scale / unit)

    def inverse(self) -> Scaling:
        """Return the scaling that undoes this one."""
        return Scaling(-self.center / self.scale, 1.0 / self.scale)


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and standard deviation of columns; the deviation is zero where it is rounding.

    Attributes
    ----------
    center, spread : ndarray of shape (n_columns,)
        Weighted.
    """

    center: Floats
    spread: Floats

    @classmethod
    def of(cls, columns: Floats, weights: Floats) -> Moments:
        """Measure the columns of an array of shape (n_samples, n_columns) with weights that sum to one."""
        # Powers of two scale exactly and keep the squares of 1e-200 and 1e200 in range.
        largest = np.maximum(columns.max(axis=0), -columns.min(axis=0)).astype(np.float64)
        unit = power_of_two(largest)
        first = columns[0] / unit  # differences from a row: exact zeros for a constant column
        center, variance = first.copy(), np.zeros(len(unit))
        for part in slices(columns):
            center += weights[part] @ (columns[part] / unit - first)
        for part in slices(columns):
            variance += weights[part] @ (columns[part] / unit - center) ** 2
        spread = np.sqrt(variance)
        constant = _is_rounding(spread, largest / unit, unit)
        return cls(np.where(constant, first, center) * unit, np.where(constant, 0.0, spread * unit))

    def merged(self, other: Moments, share: float) -> Moments:
        """Return the moments of both, where the share of the weight is that of the other."""
        unit = power_of_two(np.max([np.abs(self.center), np.abs(other.center), self.spread, other.spread], axis=0))
        a, b = self.center / unit, other.center / unit
        within = (1.0 - share) * (self.spread / unit) ** 2 + share * (other.spread / unit) ** 2
        spread = np.sqrt(within + share * (1.0 - share) * (b - a) ** 2)
        constant = _is_rounding(spread, np.maximum(np.abs(a), np.abs(b)), unit)
        center = np.where(constant, a, a + share * (b - a))
        return Moments(center * unit, np.where(constant, 0.0, spread * unit))

    def scaling(self) -> Scaling:
        """Return how the columns are standardised."""
        return Scaling(self.center, np.where(self.spread == 0, _size(self.center), self.spread))


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of all rows so far.

    Attributes
    ----------
    features, targets : Moments
        Of raw columns.
    weight : float
        Sum of the weights.
    n_rows : int
        Number of rows, those that are equal within a call counted once.
    share : float
        Share of the weight in the last call.
    """

    features: Moments
    targets: Moments
    weight: float
    n_rows: int
    share: float = 1.0

    def after(self, before: Seen | None) -> Seen:
        """Return what is known after earlier rows as well."""
        if before is None:
            return self
        share = 1.0 / (1.0 + before.weight / self.weight)
        return Seen(
            before.features.merged(self.features, share),
            before.targets.merged(self.targets, share),
            min(before.weight + self.weight, np.finfo(float).max),
            before.n_rows + self.n_rows,
            share,
        )

    def scalings(self) -> tuple[Scaling, Scaling]:
        """Return how features and targets are standardised."""
        targets = self.targets.scaling()
        return self.features.scaling(), Scaling(targets.center, targets.scale * np.sqrt(len(targets.scale)))


@dataclass(frozen=True, eq=False)
class Table:
    """Canonical, standardised training rows.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
        Standardised features; float32 where those given were, and are many, else float64.
    y : ndarray of shape (n_rows, n_outputs)
        Standardised targets, divided by ``sqrt(n_outputs)``, so that their total variance is one; of the type of `X`.
    weights : ndarray of shape (n_rows,)
        Positive, sum to one.
    groups : ndarray of shape (n_rows,)
        Number of the distinct feature row; rows that differ only in the target share it.
    features, targets : Scaling
        How raw units become the units of `X` and `y`.
    input_range : ndarray of shape (2, n_features)
        Smallest and largest raw value of every feature.
    seen : Seen
        What is known of these rows and those before them.
    """

    X: Floats
    y: Floats
    weights: Floats
    groups: NDArray[np.intp]
    features: Scaling
    targets: Scaling
    input_range: Floats
    seen: Seen

    @classmethod
    def build(
        cls,
        X: Floats,
        y: Floats,
        sample_weight: Floats,
        *,
        scalings: tuple[Scaling, Scaling] | None = None,
        input_range: Floats | None = None,
        before: Seen | None = None,
    ) -> Table:
        """Merge, sort and standardise raw rows, which the caller has validated.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Raw features, float64 or float32; of distinct float32 rows with up to `SINGLE_ENTRIES` entries float64 ones
            are made.
        y : ndarray of shape (n_samples, n_outputs)
            Raw targets, float64.
        sample_weight : ndarray of shape (n_samples,)
            Non-negative, not all zero.
        scalings : tuple of Scaling or None
            Those of features and targets where they are given, not measured.
        input_range : ndarray of shape (2, n_features) or None
            A range that is to be covered as well.
        before : Seen or None
            What is known of earlier rows, which scalings take into account.
        """
        used = sample_weight > 0
        if not used.all():
            X, y, sample_weight = X[used], y[used], sample_weight[used]
        with np.errstate(over="ignore"):
            weight = float(np.clip(sample_weight.sum(), np.finfo(float).tiny, np.finfo(float).max))
        X, y, weights = _canonical(X, y, sample_weight)
        seen = Seen(Moments.of(X, weights), Moments.of(y, weights), weight, len(X)).after(before)
        if scalings is None:
            scalings = seen.scalings()
        covered = [np.array([X.min(axis=0), X.max(axis=0)], dtype=np.float64)]
        covered += [] if input_range is None else [input_range]
        return cls(
            X=_standardised(X, scalings[0], X.dtype),
            y=_standardised(y, scalings[1], X.dtype),
            weights=weights,
            # Rows are sorted by their features before their targets.
            groups=np.concatenate([[0], np.cumsum((X[1:] != X[:-1]).any(axis=1), dtype=np.intp)]),
            features=scalings[0],
            targets=scalings[1],
            input_range=np.array([np.min(covered, axis=(0, 1)), np.max(covered, axis=(0, 1))]),
            seen=seen,
        )

    @property
    def n_groups(self) -> int:
        """Number of distinct feature rows."""
        return int(self.groups.max()) + 1

    def folds(self, n_folds: int, random_state: np.random.RandomState) -> NDArray[np.intp]:
        """Assign every row to a fold: equal features share one, sizes differ by one group, targets are spread evenly.

        Consecutive groups in the order of their mean target are dealt to different folds.
        """
        deals = np.array([random_state.permutation(n_folds) for _ in range(-(-self.n_groups // n_folds))]).ravel()
        return self._dealt(deals[: self.n_groups])

    def hold_out(self, fraction: float, random_state: np.random.RandomState) -> NDArray[np.bool_]:
        """Choose rows to hold out: equal features stay together, targets are spread evenly, both sides get a group.

        One group is drawn from each of as many stretches, in the order of their mean target, as groups are wanted.
        """
        n_groups = self.n_groups
        n_out = min(max(1, round(fraction * n_groups)), n_groups - 1)
        n_drawn = min(n_out, n_groups - n_out)
        bounds = np.linspace(0, n_groups, n_drawn + 1).round().astype(np.intp)
        drawn = np.zeros(n_groups, dtype=bool)
        drawn[random_state.randint(bounds[:-1], bounds[1:])] = True
        return self._dealt(drawn if n_drawn == n_out else ~drawn)

    def _dealt(self, of_rank: NDArray[Any]) -> NDArray[Any]:
        """Return for every row what the rank of its group, in the order of mean targets, has been given."""
        counts = np.bincount(self.groups, minlength=self.n_groups)
        means = np.bincount(self.groups, self.y.mean(axis=1), self.n_groups) / counts
        of_group = np.empty_like(of_rank)
        of_group[np.argsort(means, kind="stable")] = of_rank
        return of_group[self.groups]


def _is_rounding(spread: Floats, size: Floats, unit: Floats) -> NDArray[np.bool_]:
    """Return which standard deviations say nothing, in some units: rounding of numbers of a size, or too small."""
    return (spread <= _ROUNDING * size) | (spread * unit < _SMALLEST_SCALE)


def _size(value: Floats) -> Floats:
    """Return the sizes of numbers, 1 for zeros: the scale of a column that shows none."""
    size = np.abs(value)
    return np.where(size < _SMALLEST_SCALE, 1.0, size)


def power_of_two(values: Floats) -> Floats:
    """Return the largest powers of two that are not above positive values, and 1 for zeros."""
    return np.where(values > 0, np.ldexp(1.0, np.frexp(values)[1] - 1), 1.0)


def _canonical(X: Floats, y: Floats, sample_weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Return features and targets of distinct rows in canonical order, and their weights, which sum to one."""
    raw = _records(X, y)
    rows, total = _merged(raw, sample_weight)
    if X.dtype == np.float32 and rows["X"].size <= SINGLE_ENTRIES:
        raw, sample_weight = _records(rows["X"].astype(np.float64), rows["y"]), total
        rows, total = _merged(raw, sample_weight)
    rows, weights = _shares(rows, total)
    constant = {name: Moments.of(rows[name], weights).spread == 0 for name in ("X", "y")}
    if any((rows[name][:, same] != rows[name][0, same]).any() for name, same in constant.items()):
        for name, same in constant.items():
            raw[name][:, same] = raw[name][:, same].min(axis=0)  # but for rounding
        rows, weights = _shares(*_merged(raw, sample_weight))
    return rows["X"], rows["y"], weights


def _records(X: Floats, y: Floats) -> NDArray[np.void]:
    """Return a record of features and targets for every row."""
    records = np.empty(len(X), dtype=[("X", X.dtype, X.shape[1:]), ("y", y.dtype, y.shape[1:])])
    np.add(X, 0.0, out=records["X"])  # no negative zeros: equal rows get equal bytes
    np.add(y, 0.0, out=records["y"])
    return records


def _merged(records: NDArray[np.void], weights: Floats) -> tuple[NDArray[np.void], Floats]:
    """Return distinct records in canonical order and the sums of their weights."""
    keys, number = np.unique(_as_bytes(records), return_inverse=True)
    order = np.lexsort((weights, number))  # equal rows are added up in an order that does not depend on theirs
    starts = np.searchsorted(number[order], np.arange(len(keys)))
    return records[order[starts]], np.add.reduceat(weights[order], starts)


def _shares(records: NDArray[np.void], total: Floats) -> tuple[NDArray[np.void], Floats]:
    """Return the records that have weight, and their weights, which sum to one."""
    total = total / total.max()  # no overflow in the sum
    heavy = total > 0  # what has underflowed next to the others has no weight
    if not heavy.all():
        records, total = records[heavy], total[heavy]
    return records, total / total.sum()


def slices(table: Floats) -> Iterator[slice]:
    """Yield slices of rows, so short that a copy of one in double precision is small."""
    size = max(1, _CHUNK_ENTRIES // max(1, table.shape[1]))
    return (slice(start, start + size) for start in range(0, len(table), size))


def _standardised(columns: Floats, scaling: Scaling, dtype: np.dtype[Any]) -> Floats:
    """Return standardised columns of a type."""
    out = np.empty(columns.shape, dtype=dtype)
    with np.errstate(over="ignore"):
        for part in slices(columns):
            out[part] = scaling.forward(columns[part])
    return out


def _as_bytes(records: NDArray[np.void]) -> NDArray[np.void]:
    """View every record as one opaque item, so that sorting and comparing take its bytes."""
    return records.view(np.dtype((np.void, records.dtype.itemsize)))
