"""The best linear function in the form of the network: the candidate that a fit must never be worse than.

With one stream coordinate per output, ``f = X b + c`` has the ResNet norm ``||b||_1 + ||X b||_P`` (features have unit
variance): the edges of the embedding pay the first term, the edge that reads the coordinate out pays the second. The
minimiser of ``L(b) + strength (||b||_1 + ||X b||_P)`` is the lasso solution u of the same strength, shrunk as a block:
``b = u max(0, 1 - strength / ||X u||_P)``. (Substitute b = u / kappa: the optimality conditions of the two problems
are the same for ``kappa = 1 + strength / ||X b||_P``.) With the path weighting it is a linear function all the same,
merely not the best one.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from sklearn_htmc._network import Floats
from sklearn_htmc._training.core.architecture import Arrays
from sklearn_htmc._training.core.objective import Rows

_filters_of_warnings = threading.Lock()


@contextmanager
def quietly(category: type[Warning]) -> Iterator[None]:
    """Ignore warnings of a category; the filters belong to the process, so one thread at a time may change them."""
    with _filters_of_warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield


def linear_candidate(X: Floats, y: Floats, weights: Floats, strength: float, *, width: int) -> Arrays | None:
    """Return the best linear network, or None where the constant is better or the stream is too narrow.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Standardised features.
    y : ndarray of shape (n_samples, n_outputs)
        Standardised targets.
    weights : ndarray of shape (n_samples,)
        Weights of the rows, sum to one.
    strength : float
        Penalty strength.
    width : int
        Largest number of stream coordinates.
    """
    if y.shape[1] > width:
        return None
    coefficients = np.array([_shrunk_lasso(X, column, weights, strength) for column in y.T])
    used = coefficients.any(axis=1)
    if not used.any():
        return None
    center = weights @ y - coefficients @ (weights @ X)
    readout = np.eye(y.shape[1])[:, used]
    return {"E": coefficients[used], "e": np.zeros(int(used.sum())), "A": readout, "c": center}


def constant_candidate(y: Floats, weights: Floats, *, n_features: int) -> Arrays:
    """Return the constant network: the weighted mean."""
    return {
        "E": np.zeros((0, n_features)),
        "e": np.zeros(0),
        "A": np.zeros((y.shape[1], 0)),
        "c": weights @ y,
    }


def as_arrays(rows: Rows) -> tuple[Floats, Floats, Floats]:
    """Return X, y and weights in double precision; of many rows in single precision few with the same moments.

    Linear least squares sees means and covariances only. Those of m columns are shared by 2m rows of equal weight: with
    the covariance ``L L'``, the mean plus and minus ``sqrt(m)`` times each column of L.

    Parameters
    ----------
    rows : Rows
        Rows whose weights sum to one.

    Returns
    -------
    X : ndarray of shape (n_rows, n_features)
        Features.
    y : ndarray of shape (n_rows, n_outputs)
        Targets.
    weights : ndarray of shape (n_rows,)
        Positive, sum to one.
    """
    n_features, n_columns = rows.X.shape[1], rows.X.shape[1] + rows.y.shape[1]
    if rows.X.dtype == torch.float64 or len(rows.X) <= 2 * n_columns:
        return rows.X.double().numpy(), rows.y.double().numpy(), rows.weights.double().numpy()
    mean = torch.zeros(n_columns, dtype=torch.float64)
    for X, y, w in rows.chunks():
        mean += w[0, :, 0] @ torch.cat([X[0], y[0]], dim=1)
    covariance = torch.zeros(n_columns, n_columns, dtype=torch.float64)
    for X, y, w in rows.chunks():
        off = torch.cat([X[0], y[0]], dim=1) - mean
        covariance += (off * w[0]).T @ off
    values, vectors = torch.linalg.eigh(covariance)
    steps = (n_columns * values.clamp(min=0.0)).sqrt()[:, None] * vectors.T
    few = torch.cat([mean + steps, mean - steps]).numpy()
    return few[:, :n_features], few[:, n_features:], np.full(len(few), 1.0 / len(few))


def _shrunk_lasso(X: Floats, y: Floats, weights: Floats, strength: float) -> Floats:
    lasso = Lasso(alpha=strength, tol=1e-8, max_iter=2000, random_state=0)
    with quietly(ConvergenceWarning):  # a candidate need not be optimal to the last digit: it is measured
        lasso.fit(X, y, sample_weight=weights)
    fitted = X @ lasso.coef_
    fitted -= weights @ fitted
    size = float(np.sqrt(weights @ fitted**2))
    return lasso.coef_ * max(0.0, 1.0 - strength / size) if size > 0 else np.zeros(X.shape[1])
