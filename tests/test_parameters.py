"""Values as searches and files give them: numpy's scalars, lists for tuples; and numbers that can be written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from sklearn_htmc import CircuitRegressor, CircuitSizeScorer, DeepSplineRegressor, ResNetNormRegressor
from sklearn_htmc.circuit import circuit_profile, compile_circuit, simulate

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {
    "alpha": 0.01,
    "selection": "one_se",
    "max_iter": 5,
    "tol": 0.5,
    "batch_size": 32,
    "early_stopping": True,
    "validation_fraction": 0.25,
    "n_iter_no_change": 3,
    "extrapolation": "linear",
    "warm_start": False,
    "device": "cpu",
    "random_state": 3,
    "max_time": 1000.0,
    "on_interrupt": "raise",
    "verbose": 0,
}
ESTIMATORS = [
    ResNetNormRegressor(**SMALL, n_blocks=1, width=4, n_neurons=6, weighting="path", max_edges=9),
    DeepSplineRegressor(**SMALL, ranks=(2, 2), n_neurons=8, penalty="multitask", skip=False, max_neurons=7),
    CircuitRegressor(1e-3, max_gates=50, augment=False, verbose=0),
    CircuitSizeScorer(LinearRegression(), epsilon=0.1, target="y", effort=0),
]


def in_numpy(value):
    """Return what a search over an array of numpy gives."""
    kinds = {bool: np.bool_, int: np.int64, float: np.float64, str: np.str_}
    if isinstance(value, tuple):
        return [np.int32(number) for number in value]
    return kinds[type(value)](value) if type(value) in kinds else value


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    return X, X[:, 0] + np.abs(X[:, 1])


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_numpy_scalars_and_lists_fit_the_same_bits(table, estimator):
    X, y = table
    expected = clone(estimator).fit(X, y)
    values = {name: in_numpy(value) for name, value in estimator.get_params(deep=False).items()}
    assert any(isinstance(value, np.generic) for value in values.values())
    fitted = type(estimator)(**values).fit(X, y)
    assert_array_equal(fitted.predict(X), expected.predict(X))
    for name in ("max_iter", "max_gates", "max_edges", "n_neurons"):
        if name in values and values[name] is not None:
            small = clone(estimator).set_params(**{name: np.uint8(values[name])}).fit(X, y)
            assert_array_equal(small.predict(X), expected.predict(X))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_fitted_numbers_can_be_written(table, estimator):
    X, y = table
    values = {name: in_numpy(value) for name, value in estimator.get_params(deep=False).items()}
    fitted = type(estimator)(**values).fit(X, y)
    numbers = {
        name: value
        for name, value in vars(fitted).items()
        if name.endswith("_") and isinstance(value, int | float | str | list | np.generic)
    }
    assert numbers
    json.dumps(numbers)
    json.dumps(fitted.score(X, y))


def test_functions_take_numpy_scalars(table):
    X, y = table
    model = LinearRegression().fit(X, y)
    expected = compile_circuit(model, X, epsilon=0.125, effort=1, method="round")
    circuit = compile_circuit(
        model, X, epsilon=np.float32(0.125), effort=np.int8(1), method=np.str_("round"), verbose=np.int64(0)
    )
    assert circuit.nodes == expected.nodes
    assert_array_equal(simulate(circuit, X), simulate(expected, X))
    profile = circuit_profile(model, X, [np.float32(0.5), np.float64(0.125)], effort=np.int64(0))
    json.dumps([int(n) for n in profile.n_gates] + [profile.gamma, profile.htmc_norm, circuit.error, circuit.n_gates])


@pytest.mark.parametrize("place", [500, -500])
@pytest.mark.parametrize("estimator", ESTIMATORS[:3], ids=lambda estimator: type(estimator).__name__)
def test_float32_features_give_float64_where_float32_cannot_hold_the_targets(table, estimator, place):
    X, y = table[0].astype(np.float32), table[1]
    usual = clone(estimator).fit(X, y).predict(X)
    assert usual.dtype == np.float32
    predicted = clone(estimator).fit(X, np.ldexp(y, place)).predict(X)
    assert predicted.dtype == np.float64
    assert_allclose(np.ldexp(predicted, -place), usual, rtol=1e-5, atol=1e-6)
