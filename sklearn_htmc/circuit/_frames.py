"""Arrays and frames that users give: numbers, or an error that says which; names of columns where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import _get_feature_names, check_array

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._graph import Graph

_SHOWN = 5  # names in a text


def numbers(given: Any, name: str, *, ensure_2d: bool = True) -> Floats:
    """Return a dense float64 array; raise ValueError for what holds no numbers, ``pandas.NA`` included."""
    try:
        array = check_array(given, accept_sparse="csr", dtype=np.float64, input_name=name, ensure_2d=ensure_2d)
    except TypeError as error:
        raise ValueError(f"{name} must hold numbers alone, and no missing ones: {error}.") from error
    return np.asarray(array.toarray() if issparse(array) else array)


def names_of(X: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of a frame; None where there are none, or none that are texts."""
    names = _get_feature_names(X)
    return None if names is None else tuple(str(name) for name in names)


def names_of_fit(model: Any) -> tuple[str, ...] | None:
    """Return the names that a model was fitted with, or that a circuit has; None where there are none."""
    names = getattr(model, "feature_names" if isinstance(model, Graph) else "feature_names_in_", None)
    return None if names is None else tuple(str(name) for name in names)


def require_names(expected: tuple[str, ...] | None, X: Any, called: str = "X") -> None:
    """Refuse a frame whose columns are others than those of the fit, or in another order."""
    names = names_of(X)
    if expected is None or names is None or names == expected:
        return
    what = "in the order of the fit" if sorted(names) == sorted(expected) else "those of the fit"
    wanted, found = (listed([repr(name) for name in some]) for some in (expected, names))
    raise ValueError(f"{called} must have the columns {wanted}, {what}, got {found}.")


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def as_numbers(X: Any) -> Any:
    """Return an array of numbers of any kind, which may be infinite; raise ValueError for what holds none."""
    array = np.asarray(X)
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind == "c":
        raise ValueError("X must hold real numbers, got complex ones.")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"X must hold numbers alone, and no missing ones: {error}.") from error
