"""What in a table is no number: words that name the column and say what to do about it.

Frames are known by their `columns` and `dtypes`; no library of frames is imported.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = "biufc"  # kinds of dtypes
_NOT_CONVERTED = ("could not convert string to float", "must be a string or a real number")  # from numpy and Python
_TIMES = ("date", "timestamp", "time", "duration", "period")  # how the names of dtypes of times begin
_CATEGORIES = ("category", "categorical", "enum")
_ENCODE = (
    "encode categories, with OneHotEncoder, OrdinalEncoder or TargetEncoder of scikit-learn in a pipeline, or drop the "
    "column"
)
_COUNT = "turn times into numbers, such as days since a start, or month and weekday"
_REGRESSOR = "this is a regressor; to predict labels use a classifier"


@contextmanager
def only_numbers(X: Any, y: Any = None) -> Iterator[None]:
    """Refuse times and categories in a table, and say where the text is on which a conversion to numbers fails.

    Parameters
    ----------
    X : object
        What was given as features.
    y : object, default=None
        What was given as targets.

    Raises
    ------
    ValueError
        With the column and a remedy.
    """
    _require(X, "X", _ENCODE)
    _require(y, "y", _REGRESSOR)
    try:
        yield
    except (TypeError, ValueError) as error:
        if not any(words in str(error) for words in _NOT_CONVERTED):
            raise
        for given, name, remedy in ((X, "X", _ENCODE), (y, "y", _REGRESSOR)):
            for where, column in _columns(given):
                found = _stranger_in(column)
                if isinstance(found, str | bytes):
                    raise ValueError(f"{name} must hold numbers, got the text {found!r}{where}; {remedy}.") from error
                if found is not None:
                    raise ValueError(f"{name} must hold numbers, got the time {found}{where}; {_COUNT}.") from error
        raise


def warn_of_numbered_categories(X: Any) -> None:
    """Warn of columns whose categories are numbers: they count as numbers."""
    for where, column in _columns(X):
        if _kind(column).startswith(_CATEGORIES):
            warnings.warn(
                f"X has categories that are numbers{where}, and they are used as such, in their order and at their "
                f"distances. If they are mere names, {_ENCODE}; if they are quantities, convert the column to numbers.",
                UserWarning,
                stacklevel=_level_of_caller(),
            )


def _require(given: Any, name: str, remedy: str) -> None:
    """Refuse columns whose type says that they are no numbers."""
    for where, column in _columns(given):
        kind = _kind(column)
        if kind.startswith(_TIMES):
            raise ValueError(f"{name} must hold numbers, got times{where}, of type {kind}; {_COUNT}.")
        if kind.startswith(_CATEGORIES):
            categories = np.asarray(getattr(getattr(column, "dtype", None), "categories", ("",)))
            if categories.dtype.kind not in _NUMBERS:
                raise ValueError(f"{name} must hold numbers, got categories{where}; {remedy}.")


def _columns(given: Any) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a table that may hold something else than numbers, with words for where they are."""
    names = getattr(given, "columns", None)
    if names is not None and hasattr(given, "dtypes"):  # a frame
        for place, (name, dtype) in enumerate(zip(names, given.dtypes, strict=True)):
            if getattr(dtype, "kind", "O") not in _NUMBERS:
                yield f" in column {name!r}", given.iloc[:, place] if hasattr(given, "iloc") else given[name]
        return
    if isinstance(given, list | tuple):
        given = _as_array(given)
    is_known = hasattr(given, "ndim") and not hasattr(given, "nnz")  # what is sparse holds numbers
    if not is_known or getattr(getattr(given, "dtype", None), "kind", "f") in _NUMBERS:
        return
    if given.ndim == 2:
        yield from ((f" in column {place}", given[:, place]) for place in range(given.shape[1]))
    else:
        yield "", given


def _as_array(given: Any) -> NDArray[Any]:
    """Return a list as an array, of objects where it holds not only numbers."""
    try:
        array = np.asarray(given)
        return array if array.dtype.kind in _NUMBERS else np.array(given, dtype=object)
    except ValueError:  # rows of different lengths
        return np.zeros(0)


def _kind(column: Any) -> str:
    return str(getattr(column, "dtype", "")).lower()


def _stranger_in(column: Any) -> Any:
    """Return the first text that is no number or the first time in a column of objects, or None."""
    for value in np.asarray(column, dtype=object).ravel():
        if isinstance(value, str | bytes):
            try:
                float(value)
            except ValueError:
                return value
        elif hasattr(value, "isoformat"):
            return value
    return None


def _level_of_caller() -> int:
    """Return the level of the first frame outside this package, for the caller of this function."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("sklearn_htmc"):
        frame, level = frame.f_back, level + 1
    return level
