"""`lower`: one function with an entry per model type; the other modules of this folder register them."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

from sklearn.utils.validation import check_is_fitted

from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._lower._forms import Form, TreeEnsemble, Wired

SUPPORTED = (
    "the regressors of sklearn_htmc, linear models with coef_, MLPRegressor (relu or identity), decision trees, random "
    "forests, extra trees, GradientBoostingRegressor, HistGradientBoostingRegressor, DummyRegressor, LightGBM and "
    "XGBoost regressors, Pipeline and TransformedTargetRegressor of affine scalers around them, and circuits themselves"
)

_LATER: dict[str, Callable[[], None]] = {}  # by package


def register_later(package: str, register: Callable[[], None]) -> None:
    """Have a function called, which imports a package and registers its types, once a model of the package comes."""
    _LATER[package] = register


@singledispatch
def lower(model: Any) -> Form:
    """Return the exact function of a fitted regressor as a sparse network or as a sum of trees.

    Register your own model types: a registered function returns a `SparseNetwork`, a `TreeEnsemble`, or
    ``lower(something that is supported)``.

    Parameters
    ----------
    model : object
        A fitted regressor.

    Returns
    -------
    SparseNetwork or TreeEnsemble
        Raw features in, raw targets out.

    Raises
    ------
    TypeError
        If the type of the model is not supported; the text lists what is.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn_htmc.circuit import lower
    >>> lower(LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]))
    SparseNetwork(n_features=1, n_outputs=1, n_blocks=0, n_neurons=0, clip=False)

    Your own type, here a wrapper:

    >>> class Wrapper:
    ...     def __init__(self, inner):
    ...         self.inner = inner
    >>> @lower.register
    ... def _(model: Wrapper):
    ...     return lower(model.inner)
    """
    unknown = lower.dispatch(object)
    for package in {kind.__module__.partition(".")[0] for kind in type(model).__mro__} & _LATER.keys():
        _LATER[package]()
    if lower.dispatch(type(model)) is not unknown:
        return lower(model)
    if (network := _network_of(model)) is not None:
        return network
    raise TypeError(
        f"no circuit can be made of a {type(model).__name__}. Supported are {SUPPORTED}. Register your own type with "
        f"@sklearn_htmc.circuit.lower.register; the function returns a SparseNetwork, a TreeEnsemble or "
        "lower(a supported model)."
    )


def _network_of(model: Any) -> SparseNetwork | None:
    """Return the `network_` of a regressor that has one; circuits must not import the classes of those regressors."""
    if any(kind.__module__.startswith("sklearn_htmc.") for kind in type(model).__mro__):
        check_is_fitted(model)
    network = getattr(model, "network_", None)
    return network.uncentered() if isinstance(network, SparseNetwork) else None


@lower.register
def _(model: SparseNetwork) -> Form:
    return model.uncentered()  # units have no center


@lower.register
def _(model: TreeEnsemble) -> Form:
    return model


@lower.register
def _(model: Graph) -> Form:
    return Wired(model)
