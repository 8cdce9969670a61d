"""The models that the benchmarks compare with, and how the size of each is counted.

Every model uses its default number of threads, which is all cores for LightGBM, XGBoost, the BLAS
calls of the MLPs and us: seconds are what a user who changes nothing would wait. Where other work
runs on the same machine, threads that wait for each other can cost a peer far more than they give
it, a hundredfold and more, and such a comparison flatters us. Then pin the whole run to one core,
which all of these libraries respect: ``taskset --cpu-list 0 python benchmarks/...`` on Linux.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LassoCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


@dataclass(frozen=True)
class Model:
    """How to make a model, and what its size means."""

    title: str
    make: Callable[[], Any]
    size: Callable[[Any], int]  # of the fitted model
    unit: str
    package: str  # as it is imported
    distribution: str  # as it is installed

    @property
    def installed(self) -> bool:
        """Whether the package can be imported here, without importing it."""
        return find_spec(self.package) is not None

    @property
    def library(self) -> str:
        """Name and version of the distribution, to be kept with every result."""
        return f"{self.distribution} {importlib.import_module(self.package).__version__}"


def available_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # knows what taskset and containers took away: Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ours(**parameters: Any) -> Any:
    """``ResNetNormRegressor`` with its defaults, but for `parameters` and the seed."""
    package = importlib.import_module("sklearn_htmc")
    return package.ResNetNormRegressor(**{"random_state": 0} | parameters)


def splines(**parameters: Any) -> Any:
    """``DeepSplineRegressor`` with its defaults, but for `parameters` and the seed."""
    package = importlib.import_module("sklearn_htmc")
    return package.DeepSplineRegressor(**{"random_state": 0} | parameters)


def mlp(*hidden_layer_sizes: int, random_state: int = 0) -> MLPRegressor:
    """One plain ``MLPRegressor``; the caller scales X and y."""
    # By name: since scikit-learn 1.9 the first position is the loss.
    return MLPRegressor(hidden_layer_sizes=hidden_layer_sizes, max_iter=500, random_state=random_state)


def scaled_mlp(*hidden_layer_sizes: int) -> TransformedTargetRegressor:
    """An ``MLPRegressor`` that standardises X and y, without which it is no fair peer."""
    regressor = make_pipeline(StandardScaler(), mlp(*hidden_layer_sizes))
    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


def lightgbm() -> Any:
    """LightGBM with 500 trees of 31 leaves and learning rate 0.05."""
    package = importlib.import_module("lightgbm")
    return package.LGBMRegressor(n_estimators=500, learning_rate=0.05, verbose=-1)


def xgboost() -> Any:
    """XGBoost with 500 trees of depth 5 and learning rate 0.05."""
    package = importlib.import_module("xgboost")
    return package.XGBRegressor(n_estimators=500, max_depth=5, learning_rate=0.05)


def lasso() -> Any:
    """The linear baseline: lasso on standardised features, its penalty by cross-validation."""
    return make_pipeline(StandardScaler(), LassoCV())


def count_edges(model: Any) -> int:
    """Count the nonzero weights of our network as the estimator reports them."""
    return int(model.n_edges_)


def count_weights(model: TransformedTargetRegressor) -> int:
    """Count the weights of an MLP; its biases are left out, in its favour."""
    return sum(weights.size for weights in model.regressor_[-1].coefs_)


def count_lightgbm_leaves(model: Any) -> int:
    """Count the leaves of all trees."""
    return sum(tree["num_leaves"] for tree in model.booster_.dump_model()["tree_info"])


def count_xgboost_leaves(model: Any) -> int:
    """Count the leaves of all trees."""
    return sum(tree.count("leaf=") for tree in model.get_booster().get_dump())


def count_coefficients(model: Any) -> int:
    """Count the coefficients that the lasso did not set to zero."""
    return int(np.count_nonzero(model[-1].coef_))


_OURS = {
    "size": count_edges,
    "unit": "edges",
    "package": "sklearn_htmc",
    "distribution": "sklearn-htmc",
}
_MLP = {
    "size": count_weights,
    "unit": "weights",
    "package": "sklearn",
    "distribution": "scikit-learn",
}

MODELS = {
    "ours": Model("ours", ours, **_OURS),
    "ours400": Model("ours, max_edges=400", lambda: ours(max_edges=400), **_OURS),
    "splines": Model("ours, splines", splines, **_OURS),
    "lightgbm": Model("LightGBM", lightgbm, count_lightgbm_leaves, "leaves", "lightgbm", "lightgbm"),
    "xgboost": Model("XGBoost", xgboost, count_xgboost_leaves, "leaves", "xgboost", "xgboost"),
    "mlp100": Model("MLP (100,)", lambda: scaled_mlp(100), **_MLP),
    "mlp64": Model("MLP (64, 64)", lambda: scaled_mlp(64, 64), **_MLP),
    "lasso": Model("lasso", lasso, count_coefficients, "coefficients", "sklearn", "scikit-learn"),
}
