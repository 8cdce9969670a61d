"""Errors in units in which models of different targets can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length

from sklearn_htmc._network import Floats


def targets_of(y: Any, X: Any) -> Floats:
    """Return targets of shape (n_samples, n_outputs)."""
    values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    check_consistent_length(X, values)
    return np.asarray(values.reshape(len(values), -1))


def relative_error(y: Floats, predicted: Any, sample_weight: Any = None) -> float:
    """Return the root mean square error in units of the standard deviation of y: the root of ``1 - R2``.

    Of several outputs it is the root of the mean over those that vary; where none does, their own units count.
    """
    predicted = np.asarray(predicted, dtype=np.float64).reshape(y.shape)
    weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
    weights = weights / weights.sum()
    variance = weights @ np.square(y - weights @ y)
    errors = weights @ np.square(predicted - y)
    varies = variance > 0
    return float(np.sqrt(np.mean(errors[varies] / variance[varies]) if varies.any() else errors.mean()))


def squared_errors(y: Floats, predicted: Any, sample_weight: Any = None) -> tuple[float, float]:
    """Return the mean squared error, averaged over outputs, and its standard error over the rows."""
    off = np.square(np.asarray(predicted, dtype=np.float64).reshape(y.shape) - y).mean(axis=1)
    weights = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
    weights = weights / weights.sum()
    mean = weights @ off
    return float(mean), float(np.sqrt(np.square(weights) @ np.square(off - mean)))
