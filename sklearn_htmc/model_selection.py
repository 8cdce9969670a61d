"""Rules that choose from a search with several scores: hand them to ``refit`` of `GridSearchCV` and the like.

Score ``search.best_estimator_`` afterwards: ``search.score`` of scikit-learn does not work with several scores and a
rule (its issue 17058).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from sklearn_htmc._network import Floats

__all__ = ["best_within_budget", "smallest_circuit"]

Results = Mapping[str, Any]  # cv_results_ of a search


def smallest_circuit(size: str = "size", score: str = "r2", within: str | float = "one_se") -> Callable[[Results], int]:
    """Return the rule "the smallest circuit whose score is as good as the best one's, up to chance".

    Parameters
    ----------
    size : str, default="size"
        Name of the score that is minus the number of gates, that of a `CircuitSizeScorer`.
    score : str, default="r2"
        Name of the score that must be good; larger is better.
    within : "one_se" or float, default="one_se"
        How far the mean score may be below the best one. "one_se": by one standard error of the best one, that is
        its standard deviation over the folds by the square root of their number. A number: by that much.

    Returns
    -------
    callable
        Takes ``cv_results_`` and returns ``best_index_``. Among equally small circuits the better score wins. It can be
        pickled.

    Raises
    ------
    ValueError
        If `within` is neither "one_se" nor a number that is not negative; in a search, if it has no scores of these
        names, or no candidate with finite ones.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.linear_model import Lasso
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_htmc import CircuitSizeScorer
    >>> from sklearn_htmc.model_selection import smallest_circuit
    >>> X, y = make_regression(100, n_features=8, n_informative=3, noise=5.0, random_state=0)
    >>> search = GridSearchCV(
    ...     Lasso(),
    ...     {"alpha": [0.01, 0.1, 1.0, 10.0]},
    ...     scoring={"r2": "r2", "size": CircuitSizeScorer(epsilon=0.05, target="prediction")},
    ...     refit=smallest_circuit(),
    ... )
    >>> search.fit(X, y).best_index_ == smallest_circuit()(search.cv_results_)
    True
    """
    if within != "one_se" and not (_is_number(within) and 0 <= float(within) < math.inf):
        raise ValueError(f"within must be 'one_se' or a number that is not negative, got {within!r}.")
    return _SmallestCircuit(size, score, within)


def best_within_budget(max_gates: float, size: str = "size", score: str = "r2") -> Callable[[Results], int]:
    """Return the rule "the best score among the circuits that are small enough".

    Parameters
    ----------
    max_gates : float
        Largest mean number of gates over the folds; positive.
    size : str, default="size"
        Name of the score that is minus the number of gates, that of a `CircuitSizeScorer`.
    score : str, default="r2"
        Name of the score to maximise.

    Returns
    -------
    callable
        Takes ``cv_results_`` and returns ``best_index_``. Among equal scores the smaller circuit wins. Where no
        circuit is within the budget it takes the smallest one and warns, so that a long search is not lost. It can be
        pickled.

    Raises
    ------
    ValueError
        If `max_gates` is not positive; in a search, if it has no scores of these names, or no candidate with finite
        ones.
    """
    if not (_is_number(max_gates) and float(max_gates) > 0):
        raise ValueError(f"max_gates must be positive, got {max_gates!r}.")
    return _BestWithinBudget(max_gates, size, score)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class _SmallestCircuit:
    size: str
    score: str
    within: str | float

    def __call__(self, cv_results: Results) -> int:
        size, score = _means(cv_results, self.size, self.score)
        best = int(np.nanargmax(score))
        allowed = _standard_error(cv_results, self.score, best) if self.within == "one_se" else float(self.within)
        return _first_of(np.where(score >= score[best] - allowed, size, np.nan), score)

    def __repr__(self) -> str:
        return f"smallest_circuit(size={self.size!r}, score={self.score!r}, within={self.within!r})"


@dataclass(frozen=True)
class _BestWithinBudget:
    max_gates: float
    size: str
    score: str

    def __call__(self, cv_results: Results) -> int:
        size, score = _means(cv_results, self.size, self.score)
        small = -size <= self.max_gates
        if small.any():
            return _first_of(np.where(small, score, np.nan), size)
        warnings.warn(
            f"no candidate has at most max_gates={self.max_gates} gates, the smallest one, which is taken, has "
            f"{-np.nanmax(size):.6g}; search smaller models or a larger epsilon.",
            stacklevel=2,
        )
        return _first_of(size, score)

    def __repr__(self) -> str:
        return f"best_within_budget({self.max_gates!r}, size={self.size!r}, score={self.score!r})"


def _means(cv_results: Results, size: str, score: str) -> tuple[Floats, Floats]:
    """Return the mean sizes and scores of the candidates, both NaN where one of them is not finite."""
    sizes, scores = (_mean(cv_results, name) for name in (size, score))
    finite = np.isfinite(sizes) & np.isfinite(scores)
    if not finite.any():
        raise ValueError(f"no candidate of the search has finite scores {size!r} and {score!r}; see its warnings.")
    return np.where(finite, sizes, np.nan), np.where(finite, scores, np.nan)


def _mean(cv_results: Results, name: str) -> Floats:
    key = f"mean_test_{name}"
    if key not in cv_results:
        known = sorted(other.removeprefix("mean_test_") for other in cv_results if other.startswith("mean_test_"))
        raise ValueError(
            f"the search must have a score named {name!r}, got {', '.join(known)}; use "
            f"scoring={{'r2': 'r2', 'size': CircuitSizeScorer(target='prediction')}} or give the names to the rule."
        )
    return np.asarray(cv_results[key], dtype=np.float64)


def _standard_error(cv_results: Results, name: str, candidate: int) -> float:
    pattern = re.compile(rf"split\d+_test_{re.escape(name)}")
    n_folds = sum(pattern.fullmatch(key) is not None for key in cv_results)
    return float(cv_results[f"std_test_{name}"][candidate]) / math.sqrt(max(n_folds, 1))


def _first_of(values: Floats, ties: Floats) -> int:
    """Return the place of the largest value, by the second array among equals; NaN is never chosen."""
    candidates = np.flatnonzero(np.isfinite(values))
    return int(max(candidates, key=lambda place: (values[place], ties[place], -place)))
