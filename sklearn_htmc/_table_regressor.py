"""What every regressor does with a table of data: validation before a fit, and predictions after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sklearn_htmc._columns import only_numbers, warn_of_numbered_categories
from sklearn_htmc._links import DocumentationLink
from sklearn_htmc._network import Floats
from sklearn_htmc._units import SINGLE


def _checked_weights(sample_weight: Any, n_rows: int) -> Floats:
    """Return float64 weights of the rows; raise ValueError for what cannot be weights."""
    if sample_weight is None or isinstance(sample_weight, Real):
        sample_weight = np.full(n_rows, 1.0 if sample_weight is None else sample_weight)
    weights = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), one weight per row of X, got {weights.shape}.")
    if weights.min() < 0:
        raise ValueError(
            f"sample_weight must not be negative, got {weights.min():g} in row {weights.argmin()}; "
            "a weight of 0 leaves a row out."
        )
    if not weights.any():
        raise ValueError("sample_weight must not be zero for all rows; give at least one row a positive weight.")
    return weights


def plain(value: Any) -> Any:
    """Return a parameter as an object of Python itself: searches over arrays give scalars of numpy, of few bits."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


class TableRegressor(DocumentationLink, RegressorMixin, BaseEstimator):
    """Base of all regressors: what becomes of a table of data before a fit, and of predictions after it."""

    _y_is_1d: bool
    _y_fits_single: bool

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put the attributes back when anything is raised: no half-fitted estimator."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _plain_params(self) -> SimpleNamespace:
        """Return the parameters as attributes, without scalars of numpy."""
        return SimpleNamespace(**{name: plain(value) for name, value in self.get_params(deep=False).items()})

    def _validated(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, most: int | None = None
    ) -> tuple[Floats, Floats, Floats, bool]:
        """Return float64 X, 2-d y and weights, and whether y was 1-d; float32 X with more entries than `most` stays."""
        given = X
        with only_numbers(given, y):
            X, y = validate_data(
                self,
                given,
                y,
                accept_sparse=("csr", "csc"),
                dtype=np.float64 if most is None else (np.float64, np.float32),
                multi_output=True,
                y_numeric=True,
                reset=reset,
            )
            y = np.asarray(y.toarray() if issparse(y) else y, dtype=np.float64)
        weights = _checked_weights(sample_weight, X.shape[0])
        if reset:
            warn_of_numbered_categories(given)
        size = np.abs(y.reshape(len(y), -1)).max(axis=0)
        fits = bool(((size == 0) | ((SINGLE[0] < size) & (size < SINGLE[1]))).all())
        self._y_fits_single = fits if reset else fits and getattr(self, "_y_fits_single", True)
        X = X.toarray() if issparse(X) else X
        if X.dtype == np.float32 and (most is None or X.size <= most):
            X = X.astype(np.float64)
        return X, y.reshape(len(y), -1), weights, y.ndim == 1

    def _predicted(self, X: Any, function: Callable[[Any], Floats]) -> Floats:
        """Return the values of the fitted function, of the shape that y had; float32 if X is, and can hold targets."""
        check_is_fitted(self)
        with only_numbers(X):
            X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False)
        y = function(X)
        if X.dtype == np.float32 and self._y_fits_single:
            with np.errstate(over="ignore"):
                y = y.astype(np.float32)
        return y.ravel() if self._y_is_1d else y

    def __sklearn_tags__(self) -> Any:
        """Say that sparse X and several outputs are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags
