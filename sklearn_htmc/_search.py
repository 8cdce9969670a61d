"""Choice of alpha by cross-validated paths: strengths x folds x restarts, and what is chosen by them."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_consistent_length

from sklearn_htmc._absent import Absent
from sklearn_htmc._automatic import worthwhile_device
from sklearn_htmc._base import NetworkRegressor
from sklearn_htmc._network import Floats
from sklearn_htmc._paths import strengths_of
from sklearn_htmc._progress import Progress
from sklearn_htmc._selection import chosen
from sklearn_htmc._table import Scaling, Seen, Table, power_of_two

if TYPE_CHECKING:
    from sklearn_htmc._training.core.deadline import Deadline

_N_FOLDS = 5


def with_search(constraints: dict[str, Any]) -> dict[str, Any]:
    """Return the constraints of a plain regressor with those of the search instead of that of alpha."""
    return {
        **{name: value for name, value in constraints.items() if name != "alpha"},
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "cv": ["cv_object"],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
    }


class CrossValidatedRegressor(NetworkRegressor):
    """Base of the regressors that choose alpha by cross-validation and show all of it."""

    path_: Any = Absent("before fit, and after partial_fit")
    alphas_: Any = Absent("before fit, and after partial_fit")
    best_index_: Any = Absent("before fit, and after partial_fit")
    mse_path_: Any = Absent("before fit, and after partial_fit")
    n_edges_path_: Any = Absent("before fit, and after partial_fit")
    fold_weights_: Any = Absent("before fit, and after partial_fit")

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit paths to the folds and to all rows, and choose a network of the latter.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features; a sparse matrix is made dense.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows, in training and in held-out errors.
        groups : array-like of shape (n_samples,), default=None
            Group labels for the splitter.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            As for the plain regressor, and for alphas that are not positive. The estimator is then as it was before
            the call.
        KeyboardInterrupt
            As for the plain regressor, and where other processes do the work.
        """
        with self._all_or_nothing():
            self._validate_params()
            with self._timed() as deadline:
                device = self._checked_device()
                X, y, weights, is_1d = self._validated(X, y, sample_weight, reset=True)
                self._fit_folds(X, y, weights, groups, device, deadline)
            self._memory = None
            self._y_is_1d = is_1d
        return self

    def _advance(self, table: Table, device: str, before: Seen | None) -> None:
        """Train on with `alpha_`; what belongs to the search no longer belongs to the network."""
        super()._advance(table, device, before)
        self.__dict__.pop("path_", None)

    def _fit_folds(self, X: Floats, y: Floats, weights: Floats, groups: Any, device: str, deadline: Deadline) -> None:
        if groups is not None:
            check_consistent_length(X, groups)
        if self.cv is None:
            X, y, weights, folds = _dealt(X, y, weights, check_random_state(self.random_state))
        else:
            folds = _as_numbers(check_cv(self.cv).split(X, y, groups), len(X))
        weights = weights / weights.max()  # whose sum is a double
        for number, (inside, _) in enumerate(folds):
            if not weights[inside].any():
                raise ValueError(f"sample_weight must leave rows to train on in every fold, got none in fold {number}.")
        if not any(weights[out].any() for _, out in folds):
            raise ValueError("sample_weight must leave rows to judge by, got none in what all folds hold out.")
        tables = [Table.build(X[inside], y[inside], weights[inside]) for inside, _ in folds]
        tables.append(Table.build(X, y, weights))
        strengths = strengths_of(self.alphas, len(tables[-1].X))
        device = worthwhile_device(device, sum(len(table.X) for table in tables))
        with Progress(self.verbose, deadline) as progress:
            paths = self._paths(
                tables,
                strengths,
                device,
                progress,
                n_restarts=int(self.n_restarts),
                is_warm=bool(self.warm_start),
                n_jobs=self.n_jobs,
            )
        strengths = paths[-1].strengths  # all of them, if there was time
        unit = float(power_of_two(np.array([np.abs(y).max() or 1.0]))[0])  # whose square may be too large for a double
        losses, shares = np.empty((len(strengths), len(folds))), np.zeros(len(folds))
        for number, ((_, out), path) in enumerate(zip(folds, paths, strict=False)):
            total = weights[out].sum()
            shares[number] = total
            share = weights[out] / total if total > 0 else np.full(len(out), 1.0 / len(out))
            for place, network in enumerate(path.networks):
                off = np.square((network(X[out]) - y[out]) / unit)
                losses[place, number] = share @ off.mean(axis=1)
        self.fold_weights_ = shares / shares.sum()
        best = chosen(losses, self.fold_weights_, self.selection)
        self.alphas_, self.best_index_, self.alpha_ = strengths, best, float(strengths[best])
        with np.errstate(over="ignore", under="ignore"):
            self.mse_path_ = losses * unit * unit
        self.n_edges_path_ = np.stack([path.n_edges for path in paths[:-1]], axis=1)
        self._set_fitted(tables[-1], paths[-1].entries([best]), device)
        self.path_ = paths[-1]
        self._warn_if_not_optimal(deadline)


def _as_numbers(splits: Iterable[tuple[Any, Any]], n_rows: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return splits as numbers of rows, whatever selects them."""
    rows = np.arange(n_rows)

    def numbers(part: Any) -> NDArray[np.intp]:
        return rows[part if isinstance(part, slice) else np.asarray(part) if len(part) else []]

    folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]()
    for inside, out in splits:
        try:
            folds.append((numbers(inside), numbers(out)))
        except IndexError as error:
            raise ValueError(f"cv must select rows below {n_rows}, and fold {len(folds)} does not: {error}.") from error
        if not len(folds[-1][0]) or not len(folds[-1][1]):
            raise ValueError(f"cv must leave rows to train on and rows to judge by, got none in fold {len(folds) - 1}.")
    if not folds:
        raise ValueError("cv must give splits, got none; a generator gives them once only.")
    return folds


def _dealt(
    X: Floats, y: Floats, weights: Floats, random_state: np.random.RandomState
) -> tuple[Floats, Floats, Floats, list[tuple[NDArray[np.intp], NDArray[np.intp]]]]:
    """Return the distinct rows in canonical order, and folds that do not part rows of equal features."""
    same = Scaling(np.zeros(X.shape[1]), np.ones(X.shape[1])), Scaling(np.zeros(y.shape[1]), np.ones(y.shape[1]))
    table = Table.build(X, y, weights, scalings=same)
    if table.n_groups < _N_FOLDS:
        raise ValueError(
            f"cv=None needs {_N_FOLDS} rows of different features with positive weight, got {table.n_groups} "
            f"(n_samples={len(X)}); give a splitter, or use the plain regressor."
        )
    folds = table.folds(_N_FOLDS, random_state)
    parts = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(_N_FOLDS)]
    return table.X, table.y, table.weights, parts
