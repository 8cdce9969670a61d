"""What holds a circuit goes through files and comes back as it was, bit for bit."""

from __future__ import annotations

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import skops.io
from estimators import QUICK, quick_fit
from numpy.testing import assert_array_equal
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, CircuitSizeScorer
from sklearn_htmc.circuit import Builder, Circuit, Format, compile_circuit, simulate, verify

LINEAR = LinearRegression()
TREE = DecisionTreeRegressor(max_depth=4, random_state=0)


def through_skops(thing):
    data = skops.io.dumps(thing)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def through_joblib(thing):
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {
    "skops": through_skops,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "oldest pickle": lambda thing: pickle.loads(pickle.dumps(thing, protocol=0)),
    "joblib": through_joblib,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.fixture(params=WAYS)
def copied(request):
    return WAYS[request.param]


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(120, 3))
    return X, np.column_stack([X[:, 0] + np.abs(X[:, 1]), 1e-30 * X[:, 2]])


def assert_same_circuit(copy, circuit, X):
    verify(copy)
    assert copy.text() == circuit.text()
    assert_array_equal(simulate(copy, X), simulate(circuit, X))
    assert type(copy) is type(circuit)
    if isinstance(circuit, Circuit):
        for name in ("n_gates", "depth", "error", "error_elsewhere", "epsilon"):
            assert_array_equal(getattr(copy, name), getattr(circuit, name))


@pytest.mark.parametrize("model", [LINEAR, TREE], ids=["linear", "tree"])
def test_circuits(table, copied, model):
    X, Y = table
    circuit = compile_circuit(model.fit(X, Y), X, epsilon=0.3, y=Y, effort=0)
    for _ in range(2):  # the second time with what was cached
        assert_same_circuit(copied(circuit), circuit, X)
    assert_same_circuit(copied(copied(circuit)), circuit, X)


def test_graphs_of_all_sorts_of_integers(copied):
    build = Builder([Format(-4, 3, -1000), Format(0, 2**31 - 1, np.int64(7))])
    first, second = build.input(0), build.input(1)
    nodes = [build.clamp(first, -2, 1), build.sum([(second, 1 << 20), (first, -2)], 2**60), build.at_most(second, 5)]
    graph = build.graph(nodes, [np.int64(0), -3, 0])
    assert copied(graph).text() == graph.text()
    assert copied(graph).nodes == graph.nodes
    assert copied(graph).input_formats == graph.input_formats
    assert copied(graph).output_formats == graph.output_formats


@pytest.fixture(
    scope="module",
    params=[
        CircuitSizeScorer(TREE, epsilon=0.8, effort=0),
        CircuitSizeScorer(LINEAR, epsilon=0.5, target="prediction"),
        CircuitRegressor(alpha=0.01, teacher=None, augment=False),
        CircuitRegressor(max_gates=60, teacher=TREE, input_formats={1: Format(-512, 511, -7)}),
        make_pipeline(StandardScaler(), CircuitSizeScorer(TREE, epsilon=0.8, effort=0)),
        GridSearchCV(CircuitSizeScorer(TREE, effort=0), {"epsilon": [0.6, 0.8]}, cv=2),
    ],
    ids=["scorer", "prediction", "regressor", "taught", "pipeline", "search"],
)
def fitted(request, table):
    return request.param.fit(*table)


def test_estimators_that_hold_circuits(table, copied, fitted):
    X, _ = table
    model = fitted
    again = copied(model)
    assert_array_equal(again.predict(X), model.predict(X))
    if isinstance(model, CircuitRegressor):
        assert str(again.rules_) == str(model.rules_)
        assert len(again.path_) == len(model.path_)
        for number in (0, len(model.path_) // 2):
            assert_same_circuit(again.path_.circuit(number), model.path_.circuit(number), X)
    if hasattr(model, "circuit_"):
        assert_same_circuit(again.circuit_, model.circuit_, X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("regressor", QUICK)
def test_regressors_of_networks_through_skops(ramps, regressor):
    X, y = ramps(100)
    model = quick_fit(regressor).fit(X, y)
    again = through_skops(model)
    assert_array_equal(again.predict(X), model.predict(X))
    assert_array_equal(again.partial_fit(X, y).predict(X), model.partial_fit(X, y).predict(X))


def test_pickles_are_small(table):
    X, Y = table
    circuit = compile_circuit(TREE.fit(X, Y), X, epsilon=0.3, y=Y)
    assert len(pickle.dumps(circuit)) < 4000
    assert len(pickle.dumps(CircuitRegressor(max_gates=60, teacher=None).fit(X, Y))) < 16_000
    assert len(skops.io.dumps(circuit)) < 8000
