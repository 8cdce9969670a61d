"""Linear models, perceptrons and what wraps a fitted regressor, as sparse networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import is_regressor
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import (
    GammaRegressor,
    PoissonRegressor,
    RANSACRegressor,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.linear_model._base import LinearModel
from sklearn.model_selection._search import BaseSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc._network import Block, SparseNetwork
from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._lower._dispatch import lower
from sklearn_htmc.circuit._lower._forms import Form


def network_of(*blocks: Block) -> SparseNetwork:
    """Return the network of some blocks for inputs of which no range is known."""
    n_features = blocks[0].inner.shape[1]
    return SparseNetwork(blocks, np.array([[-np.inf], [np.inf]]) * np.ones(n_features), clip=False)


def _affine(matrix: Any, offset: Any) -> Block:
    """Return ``h -> matrix @ h + offset``; a matrix of one row may be 1-d, one offset counts for all outputs."""
    matrix = csr_array(np.atleast_2d(matrix.toarray() if hasattr(matrix, "toarray") else matrix), dtype=np.float64)
    offset = np.asarray(offset, dtype=np.float64).ravel()
    return Block.affine(matrix, np.broadcast_to(offset, matrix.shape[:1]).copy())


# --- linear ---------------------------------------------------------------------------------------


@lower.register(LinearModel)
@lower.register(SGDRegressor)
def _(model: Any) -> Form:
    check_is_fitted(model)
    if not is_regressor(model):
        raise TypeError(f"circuits are made of regressors, got the classifier {type(model).__name__}.")
    return network_of(_affine(model.coef_, model.intercept_))


@lower.register(GammaRegressor)
@lower.register(PoissonRegressor)
@lower.register(TweedieRegressor)
def _(model: Any) -> Form:
    check_is_fitted(model)
    link = getattr(model, "link", "log")
    if link == "log" or (link == "auto" and model.power > 0):
        raise TypeError(
            f"the link must be the identity, and a {type(model).__name__} predicts the exponential of a linear "
            "function; use TweedieRegressor(link='identity') or fit a linear model to the logarithm of the target."
        )
    return network_of(_affine(model.coef_, model.intercept_))


@lower.register
def _(model: DummyRegressor) -> Form:
    check_is_fitted(model)
    constant = np.asarray(model.constant_, dtype=np.float64).ravel()
    return network_of(Block.affine(csr_array((constant.size, model.n_features_in_)), constant))


# --- perceptrons ----------------------------------------------------------------------------------


@lower.register
def _(model: MLPRegressor) -> Form:
    check_is_fitted(model)
    if model.activation not in ("identity", "relu"):
        raise TypeError(f"the activation of an MLPRegressor must be 'relu' or 'identity', got {model.activation!r}.")
    if model.out_activation_ != "identity":
        raise TypeError(
            "the output of an MLPRegressor must be linear, and with "
            f"loss={model.loss!r} it is passed through {model.out_activation_!r}; fit with loss='squared_error'."
        )
    layers = [
        (np.asarray(weights.T, dtype=np.float64), np.asarray(bias, dtype=np.float64))
        for weights, bias in zip(model.coefs_, model.intercepts_, strict=True)
    ]
    if model.activation == "identity":
        return network_of(_affine(*_product(layers)))
    return network_of(*(_rectified(weights, bias) for weights, bias in layers[:-1]), _affine(*layers[-1]))


def _product(layers: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return the one affine map that several in a row are."""
    matrix, offset = layers[0]
    for weights, bias in layers[1:]:
        matrix, offset = weights @ matrix, weights @ offset + bias
    return matrix, offset


def _rectified(weights: Floats, bias: Floats) -> Block:
    """Return ``h -> relu(weights @ h + bias)``."""
    n_neurons, n_inputs = weights.shape
    identity = csr_array(np.eye(n_neurons))
    return Block(csr_array(weights), bias, identity, csr_array((n_neurons, n_inputs)), np.zeros(n_neurons))


# --- wrappers -------------------------------------------------------------------------------------


@lower.register
def _(model: BaseSearchCV) -> Form:
    check_is_fitted(model, "best_estimator_", msg="this %(name)s has no best_estimator_; fit it with refit.")
    return lower(model.best_estimator_)


@lower.register
def _(model: RANSACRegressor) -> Form:
    check_is_fitted(model)
    return lower(model.estimator_)
