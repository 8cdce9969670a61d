"""Twelve circuits of all families, which the benchmarks of hardware share: made once and kept as circuit files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import ours
from resynthesis import FAMILIES
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor
from sklearn_htmc.circuit import Circuit, Format, compile_circuit

EPSILON = 0.05
COARSE = 0.1  # where the model itself is further than that from what it says of codes of ten bits
BITS = 10  # of a converter
MARGIN = 0.05  # of the range, on either side of what a converter covers
TWO = "tree, two outputs"


def boosting_in_a_pipeline() -> Any:
    """Return gradient boosting between scalers of features and target."""
    boosting = GradientBoostingRegressor(n_estimators=30, random_state=0)
    return make_pipeline(RobustScaler(), TransformedTargetRegressor(boosting, transformer=StandardScaler()))


MODELS: dict[str, Callable[[], Any]] = {
    "ridge": FAMILIES["ridge"],
    "network, 20 edges": lambda: ours(alpha=0.001, max_edges=20),
    "network, 100 edges": FAMILIES["network, 100 edges"],
    "spline": FAMILIES["spline"],
    "MLP (16,)": FAMILIES["MLP (16,)"],
    "tree": FAMILIES["tree"],
    "forest": FAMILIES["forest"],
    "histograms": FAMILIES["histograms"],
    "LightGBM 20 x 8": FAMILIES["LightGBM 20 x 8"],
    "CircuitRegressor": lambda: CircuitRegressor(2e-4),
    TWO: lambda: DecisionTreeRegressor(max_leaf_nodes=40, random_state=0),
    "pipeline": boosting_in_a_pipeline,
}


def converters(X: np.ndarray) -> dict[int, Format]:
    """Return formats of ten bits that cover the features and a little more."""
    low, high = X.min(axis=0), X.max(axis=0)
    room = MARGIN * np.where(high > low, high - low, 1.0)
    return {port: Format.spanning(BITS, *ends) for port, ends in enumerate(zip(low - room, high + room, strict=True))}


def fitted(name: str, X: np.ndarray, y: np.ndarray, **parameters: Any) -> Any:
    """Return a model that was fitted to the rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MODELS[name]().set_params(**parameters).fit(X, np.stack([y, y**2], axis=1) if name == TWO else y)


def referee(cache: Path, name: str, X: np.ndarray, y: np.ndarray, *, given: bool = False) -> Circuit:
    """Return the circuit of a model, with formats that are chosen, or with those of converters."""
    path = cache / f"{name}{', given ports' if given else ''}.json"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _made(name, X, y, converters(X) if given else None).save(path)
    return Circuit.load(path)


def _made(name: str, X: np.ndarray, y: np.ndarray, formats: dict[int, Format] | None) -> Circuit:
    if name == "CircuitRegressor":
        return fitted(name, X, y, input_formats=formats).circuit_
    model = fitted(name, X, y)
    for epsilon in (EPSILON, COARSE):
        try:
            return compile_circuit(model, X, epsilon=epsilon, input_formats=formats)
        except ValueError as error:  # thresholds of trees between neighbouring codes
            if epsilon == COARSE or "on the codes of input_formats" not in str(error):
                raise
    raise AssertionError
