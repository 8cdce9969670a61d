"""The network behind a fitted regressor, with the names that it was fitted with, and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn_htmc._formulas import names_of_units, targets_beside
from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit import lower
from sklearn_htmc.circuit._frames import names_of_fit


def network_of(model: Any) -> SparseNetwork:
    """Return the network of a fitted regressor.

    Raises
    ------
    TypeError
        If its function is another one.
    """
    form = lower(model)
    if not isinstance(form, SparseNetwork):
        raise TypeError(
            f"the model must be a network, got a {type(model).__name__}; RulesDisplay and rules_ show circuits, "
            "sklearn.tree.export_text shows trees, and sklearn.inspection.PartialDependenceDisplay takes any model."
        )
    return form


def feature_names_of(model: Any, n_features: int, given: Sequence[Any] | None = None) -> list[str]:
    """Return the given names of features, those of the fit, or x0, x1, ..."""
    names = names_of_fit(model) if given is None else given
    return names_of_units(names, n_features, [f"x{feature}" for feature in range(n_features)], "feature_names")


def names_of_model(
    model: Any, network: SparseNetwork, features: Sequence[Any] | None, targets: Sequence[Any] | None
) -> tuple[list[str], list[str]]:
    """Return the names of features and targets."""
    names = feature_names_of(model, network.n_features, features)
    defaults = targets_beside(names, network.n_outputs)
    return names, names_of_units(targets, network.n_outputs, defaults, "target_names")


def network_text(
    estimator: Any,
    *,
    feature_names: Sequence[Any] | None = None,
    target_names: Sequence[Any] | None = None,
    precision: int = 4,
) -> str:
    """Write the function of a fitted regressor down, with the names of its features.

    Parameters
    ----------
    estimator : object
        A fitted regressor that is a network: one of ours, a linear model, an `MLPRegressor`, or a pipeline or search
        around them.
    feature_names : sequence of str of length n_features, default=None
        Names of the features; None takes those of the fit, or x0, x1, ...
    target_names : sequence of str of length n_outputs, default=None
        Names of the outputs; None calls them y, or y0, y1, ...
    precision : int, default=4
        Significant digits of numbers; 17 are all of them.

    Returns
    -------
    str
        One line per coordinate, neuron and output, as `SparseNetwork.to_text` writes them.

    Raises
    ------
    TypeError
        If the regressor is no network.
    ValueError
        If there are not as many different names as features and outputs, or `precision` is not from 1 to 17.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn_htmc.inspection import network_text
    >>> X = np.array([[1.0, 20.0], [2.0, 5.0], [4.0, 10.0]])
    >>> model = LinearRegression().fit(X, 30.0 + 2.5 * X[:, 0] - 0.5 * X[:, 1])
    >>> print(network_text(model, feature_names=["rooms", "age"], target_names=["price"]))
    price = 2.5*rooms - 0.5*age + 30
    """
    network = network_of(estimator)
    features, targets = names_of_model(estimator, network, feature_names, target_names)
    return network.to_text(features, targets, precision)
