"""What meets a fitted model before it becomes a circuit: frames, scales, and its own predict."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, CircuitSizeScorer, ResNetNormRegressor
from sklearn_htmc.circuit import circuit_profile, compile_circuit, simulate

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(150, 3))
    return X, X[:, 0] + np.abs(X[:, 1]) + 0.1 * rng.normal(size=150)


@pytest.fixture(scope="module")
def frame(table):
    return pd.DataFrame(table[0], columns=["a", "b", "c"])


# Scales


@pytest.mark.parametrize("place", [511, 520, -538, 1000, -1000])
@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeRegressor(max_leaf_nodes=12),
        ResNetNormRegressor(0.01, width=8, n_neurons=8, max_iter=10, random_state=0),
        CircuitRegressor(1e-3, augment=False),
    ],
    ids=lambda model: type(model).__name__,
)
def test_errors_are_true_at_every_scale_of_the_targets(table, model, place):
    X, y = table
    effort = 2 if place == -1000 else 0
    if isinstance(model, DecisionTreeRegressor):  # its fit squares targets
        model.fit(X, y)
        usual = compile_circuit(model, X, epsilon=0.1, y=y, effort=effort)
        model.tree_.value[:] = np.ldexp(model.tree_.value, place)
    else:
        usual = compile_circuit(model.fit(X, y), X, epsilon=0.1, y=y, effort=effort)
        model.fit(X, np.ldexp(y, place))
    circuit = compile_circuit(model, X, epsilon=0.1, y=np.ldexp(y, place), effort=effort)
    assert circuit.n_gates == usual.n_gates > 0
    apart = np.ldexp(simulate(circuit, X), -place) - np.ldexp(model.predict(X), -place)
    assert circuit.error == pytest.approx(np.sqrt(np.mean(apart**2)) / np.std(y), rel=1e-9, abs=1e-15)
    assert circuit.error <= 0.1


def test_outputs_of_very_different_scales_have_their_own_units(table):
    X, y = table
    Y = np.column_stack([y, -2.0 * y])
    model = LinearRegression().fit(X, Y)
    usual = compile_circuit(model, X, epsilon=0.2, y=Y)
    places = np.array([900, -900])
    model.coef_, model.intercept_ = np.ldexp(model.coef_, places[:, None]), np.ldexp(model.intercept_, places)
    circuit = compile_circuit(model, X, epsilon=0.2, y=np.ldexp(Y, places))
    assert circuit.nodes == usual.nodes
    assert_array_equal(np.ldexp(simulate(circuit, X), -places), simulate(usual, X))


@pytest.mark.parametrize("places", [(300, 0, -300), (-900, 70, 900)])
def test_errors_are_true_at_every_scale_of_the_features(table, places):
    X, y = table
    model = LinearRegression().fit(X, y)
    usual = compile_circuit(model, X, epsilon=0.2, y=y)
    model.coef_ = np.ldexp(model.coef_, -np.array(places))
    circuit = compile_circuit(model, np.ldexp(X, places), epsilon=0.2, y=y)
    assert circuit.nodes == usual.nodes
    assert_array_equal(simulate(circuit, np.ldexp(X, places)), simulate(usual, X))


def test_thresholds_are_those_of_features_in_their_own_units(table):
    X, y = table
    tree = HistGradientBoostingRegressor(max_iter=3, max_leaf_nodes=8)
    usual = compile_circuit(tree.fit(X, y), X, epsilon=0.2, y=y)
    places = (400, 0, -400)
    circuit = compile_circuit(tree.fit(np.ldexp(X, places), y), np.ldexp(X, places), epsilon=0.2, y=y)
    assert circuit.nodes == usual.nodes
    assert_array_equal(simulate(circuit, np.ldexp(X, places)), simulate(usual, X))


# Frames


def entries(frame, model, circuit):
    return {
        "compile_circuit": lambda X: compile_circuit(model, X, epsilon=0.1, effort=0),
        "circuit_profile": lambda X: circuit_profile(model, X, [0.5], effort=0),
        "scorer": lambda X: CircuitSizeScorer(epsilon=0.1, effort=0)(model, X, frame["a"]),
        "simulate": lambda X: simulate(circuit, X),
    }


@pytest.mark.parametrize("name", ["compile_circuit", "circuit_profile", "scorer", "simulate"])
@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        make_pipeline(StandardScaler(), Ridge()),
        CircuitRegressor(1e-2, augment=False),
        CircuitSizeScorer(LinearRegression(), epsilon=0.2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_columns_in_another_order_are_refused(table, frame, model, name):
    model.fit(frame, table[1])
    circuit = compile_circuit(LinearRegression().fit(frame, table[1]), frame, epsilon=0.1, effort=0)
    entry = entries(frame, model, circuit)[name]
    for X in (frame[["b", "a", "c"]], frame.rename(columns={"a": "d"})):
        with pytest.raises(ValueError, match=r"order|should match|must have the columns"):
            entry(X)
    entry(frame)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")  # of scikit-learn
        entry(frame.to_numpy())


def test_missing_values_of_pandas_are_named(table, frame):
    model = LinearRegression().fit(*table)
    circuit = compile_circuit(model, table[0], epsilon=0.1, effort=0)
    holed = frame.astype(object)
    holed.iloc[3, 1] = pd.NA
    for call in (lambda: simulate(circuit, holed), lambda: compile_circuit(model, holed, epsilon=0.1)):
        with pytest.raises(ValueError, match="X must hold numbers alone, and no missing ones"):
            call()


# The function that predicts


class Clipped(Ridge):
    def predict(self, X):
        return np.clip(super().predict(X), -0.5, 0.5)


class Median(RandomForestRegressor):
    def predict(self, X):
        return np.median([tree.predict(X) for tree in self.estimators_], axis=0)


@pytest.mark.parametrize("model", [Clipped(), Median(15, random_state=0)], ids=lambda model: type(model).__name__)
def test_a_predict_of_its_own_is_not_compiled_as_that_of_the_base_class(table, model):
    X, y = table
    model.fit(X, y)
    with pytest.raises(ValueError, match=f"predict of this {type(model).__name__} must be the function of its fitted"):
        compile_circuit(model, X, epsilon=0.1)


def test_xgboost_is_compiled_up_to_its_best_iteration(table, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    X, y = table
    stop = xgboost.callback.EarlyStopping(rounds=3)
    model = xgboost.XGBRegressor(n_estimators=200, learning_rate=0.9, callbacks=[stop])
    model.fit(X[:100], y[:100], eval_set=[(X[100:], y[100:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    model.save_model(tmp_path / "model.json")
    again = xgboost.XGBRegressor()
    again.load_model(tmp_path / "model.json")
    for fitted in (model, again):
        circuit = compile_circuit(fitted, X, epsilon=1e-4, effort=0)
        apart = simulate(circuit, X) - fitted.predict(X)
        assert np.sqrt(np.mean(apart**2)) <= 2e-4 * np.std(fitted.predict(X))


def test_names_are_kept_with_the_circuit(table, frame, tmp_path):
    model = CircuitRegressor(1e-2, augment=False).fit(frame, table[1])
    for circuit in (model.circuit_, compile_circuit(model, table[0], epsilon=0.1)):
        assert circuit.feature_names == ("a", "b", "c")
        circuit.save(tmp_path / "circuit.json")
        assert type(circuit).load(tmp_path / "circuit.json").feature_names == ("a", "b", "c")
    assert compile_circuit(LinearRegression().fit(*table), table[0], epsilon=0.1).feature_names is None
