"""Trees, forests and boosted trees as sums of trees that test ``x <= threshold`` in float64."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._lower._dispatch import lower, register_later
from sklearn_htmc.circuit._lower._forms import Tree, TreeEnsemble

# Objectives whose prediction is the sum of the trees, without a transform.
_LIGHTGBM_IDENTITY = {
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",  # codespell:ignore mape
    "custom",
    "none",
    "",
}
_LIGHTGBM_ZERO = float(np.float32(1e-35))  # features up to this size count as zero
_XGBOOST_IDENTITY = {
    "reg:squarederror",
    "reg:linear",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "reg:quantileerror",
    "reg:squaredlogerror",
}


def of_float64(threshold: ArrayLike) -> Floats:
    """Return the thresholds for float64 that float32 thresholds mean for features that are rounded to float32 first.

    ``float32(x) <= t`` holds for the x that round to at most t: up to the middle between t and the next float32, and
    for the middle itself where it rounds to t, whose last bit is then even.
    """
    threshold = np.asarray(threshold, dtype=np.float64)
    with np.errstate(over="ignore"):
        last = threshold.astype(np.float32)
        last = np.where(last > threshold, np.nextafter(last, np.float32(-np.inf)), last)
        beyond = np.nextafter(last, np.float32(np.inf))
        middle = last.astype(np.float64) / 2 + beyond.astype(np.float64) / 2
    even = last.view(np.int32) % 2 == 0
    return np.where(np.isfinite(middle), np.where(even, middle, np.nextafter(middle, -np.inf)), last)


# --- scikit-learn ---------------------------------------------------------------------------------


def _tree(tree: Any, scale: float = 1.0) -> Tree:
    """Return a fitted ``tree_`` of scikit-learn, its values times a scale."""
    return Tree(
        feature=np.where(tree.children_left < 0, -1, tree.feature),
        threshold=of_float64(tree.threshold),
        left=tree.children_left,
        right=tree.children_right,
        value=tree.value[:, :, 0] * scale,
    )


@lower.register
def _(model: DecisionTreeRegressor) -> TreeEnsemble:
    check_is_fitted(model)
    return TreeEnsemble((_tree(model.tree_),), np.zeros(model.n_outputs_), model.n_features_in_)


@lower.register(RandomForestRegressor)
@lower.register(ExtraTreesRegressor)
def _(model: Any) -> TreeEnsemble:
    check_is_fitted(model)
    share = 1.0 / len(model.estimators_)
    trees = tuple(_tree(member.tree_, share) for member in model.estimators_)
    return TreeEnsemble(trees, np.zeros(model.n_outputs_), model.n_features_in_)


@lower.register
def _(model: GradientBoostingRegressor) -> TreeEnsemble:
    check_is_fitted(model)
    trees = tuple(_tree(member.tree_, model.learning_rate) for member in model.estimators_[:, 0])
    return TreeEnsemble(trees, _initial(model.init_), model.n_features_in_)


def _initial(init: Any) -> Floats:
    if isinstance(init, str):  # "zero", the only text that fit accepts
        return np.zeros(1)
    if isinstance(init, DummyRegressor):
        return np.asarray(init.constant_, dtype=np.float64).ravel()
    raise TypeError(
        f"the circuit of a GradientBoostingRegressor needs a constant start, got init={init!r}; fit with init=None, "
        "'zero' or a DummyRegressor."
    )


@lower.register
def _(model: HistGradientBoostingRegressor) -> TreeEnsemble:
    check_is_fitted(model)
    if model.loss not in ("squared_error", "absolute_error", "quantile"):
        raise _transformed(model, f"loss={model.loss!r}", "squared_error, absolute_error and quantile")
    if model.is_categorical_ is not None and model.is_categorical_.any():
        raise _categorical(model)
    trees = tuple(_histogram_tree(step[0].nodes) for step in model._predictors)
    return TreeEnsemble(trees, np.ravel(model._baseline_prediction).astype(np.float64), model.n_features_in_)


def _histogram_tree(nodes: NDArray[Any]) -> Tree:
    return Tree(
        feature=np.where(nodes["is_leaf"], -1, nodes["feature_idx"].astype(np.intp)),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.intp),
        right=nodes["right"].astype(np.intp),
        value=nodes["value"].astype(np.float64)[:, None],
    )


def _transformed(model: Any, got: str, allowed: str) -> TypeError:
    return TypeError(
        f"the trees of a {type(model).__name__} must add up to its prediction, and with {got} it is a transform of "
        f"the sum; use one of {allowed}."
    )


def _categorical(model: Any) -> TypeError:
    return TypeError(
        f"no circuit can be made of splits on categories, which this {type(model).__name__} has; encode the "
        "categories as numbers and fit without categorical features."
    )


# --- LightGBM -------------------------------------------------------------------------------------


def _register_lightgbm() -> None:
    from lightgbm import Booster, LGBMRegressor

    lower.register(Booster, _lightgbm)
    lower.register(LGBMRegressor, _lightgbm_regressor)


def _lightgbm_regressor(model: Any) -> TreeEnsemble:
    check_is_fitted(model)
    return _lightgbm(model.booster_)


def _lightgbm(booster: Any) -> TreeEnsemble:
    model = booster.dump_model()
    objective = str(model.get("objective", ""))
    if objective.split(" ")[0] not in _LIGHTGBM_IDENTITY or "sqrt" in objective:
        raise _transformed(booster, f"objective={objective!r}", ", ".join(sorted(_LIGHTGBM_IDENTITY - {""})))
    if model["num_tree_per_iteration"] != 1:
        raise TypeError(f"one tree per iteration is supported, got {model['num_tree_per_iteration']}; fit a regressor.")
    roots = [info["tree_structure"] for info in model["tree_info"]]
    share = 1.0 / len(roots) if model["average_output"] else 1.0
    trees = tuple(_lightgbm_tree(booster, root, share) for root in roots)
    return TreeEnsemble(trees, np.zeros(1), model["max_feature_idx"] + 1)


def _lightgbm_tree(booster: Any, root: dict[str, Any], share: float) -> Tree:
    nodes = [root]
    for node in nodes:  # grows as it is read: breadth first
        if "split_feature" in node:
            node["children"] = len(nodes)
            nodes += [node["left_child"], node["right_child"]]
        _check_lightgbm(booster, node)
    return Tree(
        feature=np.array([node.get("split_feature", -1) for node in nodes]),
        threshold=_past_zero(np.array([node.get("threshold", 0.0) for node in nodes], dtype=np.float64)),
        left=np.array([node.get("children", -1) for node in nodes]),
        right=np.array([node.get("children", -2) + 1 for node in nodes]),
        value=share * np.array([[node.get("leaf_value", 0.0)] for node in nodes], dtype=np.float64),
    )


def _past_zero(threshold: Floats) -> Floats:
    """Move thresholds among the numbers that LightGBM reads as zero to the ends of these."""
    ends = np.where(threshold < 0, np.nextafter(-_LIGHTGBM_ZERO, -np.inf), _LIGHTGBM_ZERO)
    return np.where(np.abs(threshold) <= _LIGHTGBM_ZERO, ends, threshold)


def _check_lightgbm(booster: Any, node: dict[str, Any]) -> None:
    if node.get("decision_type", "<=") != "<=":
        raise _categorical(booster)
    if node.get("missing_type") == "Zero":
        raise TypeError("no circuit can be made of zeros that count as missing; fit with zero_as_missing=False.")
    if "leaf_coeff" in node:
        raise TypeError("no circuit can be made of trees with linear leaves; fit with linear_tree=False.")


# --- XGBoost --------------------------------------------------------------------------------------


def _register_xgboost() -> None:
    from xgboost import Booster, XGBRegressor

    lower.register(Booster, _xgboost)
    lower.register(XGBRegressor, _xgboost_regressor)


def _xgboost_regressor(model: Any) -> TreeEnsemble:
    check_is_fitted(model)
    if not np.isnan(model.missing):
        raise TypeError(f"no circuit can be made of numbers that count as missing, got missing={model.missing}.")
    booster = model.get_booster()
    # Early stopping, be it a parameter or a callback, of this process or of a saved model: predict goes by this.
    best = booster.attr("best_iteration")
    return _xgboost(booster if best is None else booster[: int(best) + 1])


def _xgboost(booster: Any) -> TreeEnsemble:
    learner = json.loads(booster.save_raw("json"))["learner"]
    objective, boosting = learner["objective"]["name"], learner["gradient_booster"]
    if objective not in _XGBOOST_IDENTITY:
        raise _transformed(booster, f"objective={objective!r}", ", ".join(sorted(_XGBOOST_IDENTITY)))
    if boosting["name"] not in ("gbtree", "dart"):
        raise TypeError(f"the booster must be one of trees, got {boosting['name']!r}; fit with booster='gbtree'.")
    shares = boosting.get("weight_drop")
    model = boosting.get("gbtree", boosting)["model"]
    size = learner["learner_model_param"]
    offset = np.atleast_1d(np.asarray(json.loads(size["base_score"]), dtype=np.float64))
    n_outputs = max(offset.size, int(size["num_target"]), int(size["num_class"]), 1)
    trees = tuple(
        _xgboost_tree(booster, tree, np.eye(n_outputs)[output] * share)
        for tree, output, share in zip(
            model["trees"], model["tree_info"], shares or [1.0] * len(model["trees"]), strict=True
        )
    )
    return TreeEnsemble(trees, np.broadcast_to(offset, n_outputs).copy(), int(size["num_feature"]))


def _xgboost_tree(booster: Any, tree: dict[str, Any], direction: Floats) -> Tree:
    if any(tree["split_type"]):
        raise _categorical(booster)
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise TypeError(
            "no circuit can be made of trees with several outputs each; fit with multi_strategy='one_output_per_tree'."
        )
    left = np.array(tree["left_children"], dtype=np.intp)
    condition = np.array(tree["split_conditions"], dtype=np.float32)
    return Tree(
        feature=np.where(left < 0, -1, np.array(tree["split_indices"], dtype=np.intp)),
        # It goes left where float32(x) < condition, that is up to the float32 before.
        threshold=of_float64(np.nextafter(condition, np.float32(-np.inf))),
        left=left,
        right=np.array(tree["right_children"], dtype=np.intp),
        value=condition.astype(np.float64)[:, None] * direction,
    )


register_later("lightgbm", _register_lightgbm)
register_later("xgboost", _register_xgboost)
