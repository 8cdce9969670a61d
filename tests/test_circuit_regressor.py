"""CircuitRegressor: the contract of scikit-learn, budgets, teachers, rules, and its own circuit."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_htmc import CircuitRegressor, CircuitSizeScorer, ResNetNormRegressor
from sklearn_htmc.circuit import Circuit, Format, compile_circuit, count_gates, simulate


@parametrize_with_checks(
    [
        CircuitRegressor(0.01, max_gates=40),
        CircuitRegressor(alpha=1e-3, max_gates=60, teacher=Ridge(), augment=False),
    ]
)
def test_every_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([CircuitRegressor(), CircuitRegressor(alpha=1e-3, max_gates=60, teacher=Ridge())])
def test_every_check_of_scikit_learn_passes_with_defaults(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def friedman():
    return make_friedman1(600, noise=0.5, random_state=0)


@pytest.fixture(scope="module")
def few(friedman):
    """Return the first rows, for what does not depend on their number."""
    X, y = friedman
    return X[:100], y[:100]


@pytest.fixture(scope="module")
def fitted(friedman):
    return CircuitRegressor().fit(*friedman)


# What is fitted


def test_predictions_are_what_the_circuit_computes(friedman, fitted):
    X, y = friedman
    assert_array_equal(fitted.predict(X), simulate(fitted.circuit_, X))
    assert fitted.n_gates_ == count_gates(fitted.circuit_)
    assert fitted.circuit_.error == pytest.approx(np.std(fitted.predict(X) - y) / np.std(y), rel=1e-3)


def test_new_rows_of_a_known_function_are_predicted(fitted):
    X, y = make_friedman1(2000, noise=0.0, random_state=1)
    assert fitted.score(X, y) > 0.85
    assert fitted.feature_importances_[:5].sum() > 0.9  # the other five do not matter
    assert fitted.feature_importances_.sum() == pytest.approx(1.0)


def test_a_higher_price_gives_fewer_gates_and_a_larger_error(friedman):
    sizes, errors = zip(
        *(
            (model.n_gates_, model.circuit_.error)
            for model in (CircuitRegressor(a, augment=False).fit(*friedman) for a in (1e-3, 1e-4))
        ),
        strict=True,
    )
    assert 0 < sizes[0] < 0.6 * sizes[1]
    assert errors[0] > 1.2 * errors[1]


@pytest.mark.parametrize("max_gates", [0, 1, 20, 100, 300])
def test_budgets_are_kept_and_used(friedman, max_gates):
    model = CircuitRegressor(1e-5, max_gates=max_gates, augment=False).fit(*friedman)
    assert model.n_gates_ <= max_gates
    assert model.n_gates_ >= 0.8 * max_gates - 5
    if max_gates >= 20:
        smaller = CircuitRegressor(1e-5, max_gates=max_gates // 5, augment=False).fit(*friedman)
        assert model.circuit_.error < smaller.circuit_.error


def test_the_path_holds_circuits_of_all_sizes(friedman):
    X, y = friedman
    fitted = CircuitRegressor(augment=False).fit(X, y)
    path = fitted.path_
    assert len(path) == len(path.circuits) == len(path.n_gates) == len(path.loss) == len(path.validation_loss)
    assert path.n_gates[0] == 0
    assert (np.diff(path.alphas) < 0).all()
    assert (np.diff(path.loss) < 1e-6).all()
    for number in (1, len(path) // 2, len(path) - 1):
        circuit = path.circuits[number]
        error = simulate(circuit, X) - y
        assert np.mean(error**2) / np.var(y) == pytest.approx(path.loss[number], rel=1e-3)
        assert path.within(int(path.n_gates[number])).n_gates <= path.n_gates[number]
    assert np.isfinite(path.validation_loss).all()
    assert fitted.alpha_ <= path.alphas[-1] < 2.1 * fitted.alpha_  # levels that change nothing are left out
    with pytest.raises(ValueError, match="max_gates must be at least 0, the smallest size, got -1"):
        path.within(-1)


def test_noise_is_not_learnt(rng):
    X, y = rng.normal(size=(150, 8)), rng.normal(size=150)
    model = CircuitRegressor().fit(X, y)
    new = rng.normal(size=(2000, 8))
    assert np.std(model.predict(new)) < 0.35 * np.std(y)


def test_targets_of_any_scale_give_the_same_circuit(few):
    X, y = few
    first, second = (CircuitRegressor(1e-3).fit(X, scale * y) for scale in (1.0, 2.0**-400))
    assert_array_equal(np.ldexp(second.predict(X), 400), first.predict(X))


@pytest.mark.parametrize("value", [0.0, 0.1, -3e-300, 1e12 + 0.5, -1e300, 2.0**80])
def test_constants_of_any_size_are_exact(value):
    X = np.arange(6.0)[:, None]
    assert_array_equal(CircuitRegressor().fit(X, np.full(6, value)).predict(X), value)
    assert_array_equal(CircuitRegressor().fit(X[:1], [value]).predict(X), value)


def test_several_outputs_share_bits(friedman):
    X, y = friedman
    Y = np.column_stack([y, -3.0 * y + 5.0])
    both = CircuitRegressor(1e-4, augment=False).fit(X, Y)
    assert both.predict(X).shape == Y.shape
    assert both.circuit_.error < 0.4
    alone = [CircuitRegressor(2e-4, augment=False).fit(X, column).n_gates_ for column in Y.T]
    assert both.n_gates_ < sum(alone)


# Rows and weights


def test_integer_weights_equal_repetition_exactly(few, rng):
    X, y = few
    times = rng.integers(0, 4, size=len(X))
    weighted = CircuitRegressor().fit(X, y, sample_weight=times)
    repeated = CircuitRegressor().fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    assert_array_equal(weighted.predict(X), repeated.predict(X))
    assert weighted.circuit_.text() == repeated.circuit_.text()


def test_order_of_rows_does_not_matter(few, rng):
    X, y = few
    order = rng.permutation(len(X))
    assert CircuitRegressor().fit(X[order], y[order]).circuit_.text() == CircuitRegressor().fit(X, y).circuit_.text()


def test_sparse_features_equal_dense_ones(few):
    X, y = few
    X = np.where(X > 0.5, X, 0.0)
    dense, other = (CircuitRegressor(1e-3).fit(form, y) for form in (X, sparse.csr_array(X)))
    assert dense.circuit_.text() == other.circuit_.text()
    assert_array_equal(dense.predict(X), other.predict(sparse.csr_array(X)))


def test_teachers_get_weights_or_repetitions(few, rng):
    X, y = (rows[:50] for rows in few)
    times = rng.integers(1, 4, size=len(X))
    for teacher in (DecisionTreeRegressor(max_leaf_nodes=20, random_state=0), KNeighborsRegressor(3)):
        weighted = CircuitRegressor(1e-3, teacher=teacher).fit(X, y, sample_weight=times)
        repeated = CircuitRegressor(1e-3, teacher=teacher).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
        assert_array_equal(weighted.predict(X), repeated.predict(X))
    with pytest.raises(ValueError, match="whole numbers of copies, for the teacher KNeigh"):
        CircuitRegressor(1e-3, teacher=KNeighborsRegressor()).fit(X, y, sample_weight=rng.uniform(0.5, 1.0, len(X)))


# Teachers


class Truth:
    """A teacher that knows the function."""

    def fit(self, X, y):
        return self

    def predict(self, X):
        return 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]

    def get_params(self, deep=True):
        return {}


class Liar(Truth):
    """A teacher that knows nothing."""

    def predict(self, X):
        return 10.0 * np.sin(1000.0 * X[:, 0])


@pytest.mark.parametrize(("n_rows", "alpha"), [(100, 1e-3), pytest.param(150, 3e-5, marks=pytest.mark.slow)])
def test_a_good_teacher_helps_and_a_bad_one_is_not_listened_to(n_rows, alpha):
    X, y = make_friedman1(n_rows, noise=2.0, random_state=0)
    new, truth = make_friedman1(2000, noise=0.0, random_state=1)
    alone, taught, misled = (CircuitRegressor(alpha, teacher=teacher).fit(X, y) for teacher in (None, Truth(), Liar()))
    assert isinstance(taught.teacher_, Truth)
    assert np.std(taught.predict(new) - truth) < 0.7 * np.std(alone.predict(new) - truth)
    assert misled.teacher_ is None
    assert_array_equal(misled.predict(new), alone.predict(new))


@pytest.mark.parametrize("n_rows", [150, pytest.param(300, marks=pytest.mark.slow)])
def test_perturbed_rows_that_the_folds_label_smooth(n_rows):
    new, truth = make_friedman1(2000, noise=0.0, random_state=99)
    worse = []
    for seed in range(3):
        X, y = make_friedman1(n_rows, noise=2.0, random_state=seed)
        with_them, without = (
            np.std(CircuitRegressor(augment=augment).fit(X, y).predict(new) - truth) for augment in (True, False)
        )
        worse.append(without / with_them)
    assert np.mean(worse) > 1.02


def test_many_rows_are_judged_by_a_tenth_of_them(rng):
    X = rng.uniform(size=(10_500, 3))
    y = np.where((X[:, 0] > 0.5) & (X[:, 1] > 0.25), 2.0, 0.0) + np.sin(6.0 * X[:, 2]) + 0.3 * rng.normal(size=len(X))
    model = CircuitRegressor().fit(X, y)
    path, chosen = model.path_, len(model.path_) - 1
    # The rule of choice, from its definition: the first circuit that is hardly worse than the best one.
    assert np.isfinite(path.validation_loss).all()
    assert model.alpha_ == path.alphas[chosen]
    assert path.validation_loss[chosen] <= path.validation_loss.min() * (1.0 + 0.6 / np.sqrt(1_050))
    noise = 0.09 / y.var()
    assert noise * 0.9 < path.validation_loss[chosen] < noise * 1.1
    # A budget ends the search early.
    small = CircuitRegressor(max_gates=10).fit(X, y)
    assert small.n_gates_ <= 10
    assert small.path_.n_gates.max() < 0.7 * path.n_gates.max()


def test_where_rows_are_few_nothing_is_added():
    X, y = make_friedman1(9, random_state=0)
    first, second = (CircuitRegressor(1e-2, augment=augment).fit(X, y).predict(X) for augment in (True, False))
    assert_array_equal(first, second)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_auto_teaches_with_a_network(few, quick, monkeypatch):
    if quick:
        network = partial(ResNetNormRegressor, 0.01, n_blocks=1, width=4, n_neurons=4, max_iter=4)
        monkeypatch.setattr("sklearn_htmc._resnet_norm.ResNetNormRegressor", network)
    X, y = few
    model = CircuitRegressor(1e-3, teacher="auto", augment=False).fit(X[:60], y[:60])
    assert model.teacher_ is None or "network" in model.teacher_.named_estimators_


# Rules


def test_rules_add_up_to_the_prediction(rng):
    X = pd.DataFrame(rng.uniform(0.0, 100.0, size=(400, 2)), columns=["age", "dose"])
    X = X.round(-1)
    y = 8.0 * ((X["age"] > 50) & (X["dose"] <= 20)) - 4.0 * (X["dose"] > 70) + 100.0
    model = CircuitRegressor(1e-3, augment=False).fit(X, y)
    rules = model.rules_
    predicted = np.full(len(X), rules.constants[0])
    for rule in rules:
        holds = X.eval(rule.condition)
        assert rule.share == pytest.approx(holds.mean())
        predicted += rule.weight * holds
    assert_allclose(predicted, model.predict(X))
    assert pd.DataFrame(rules).columns.tolist() == ["output", "weight", "condition", "share", "gates"]
    text = str(rules)
    assert "age > 5" in text  # between 50 and 60
    assert "dose <= 2" in text


def test_rules_say_what_every_kind_of_term_is(fitted):
    rules = fitted.rules_
    assert sum(rule.gates for rule in rules) > 0
    assert all("x" in rule.condition for rule in rules)
    assert len(str(rules).splitlines()) <= 63
    assert rules[0] == rules[:1][0]


@pytest.mark.parametrize("constant", [1e-9, -3.3, 1e12])
def test_a_constant_is_predicted_whatever_its_size(rng, constant):
    model = CircuitRegressor().fit(rng.normal(size=(30, 2)), np.full(30, constant))
    assert_allclose(model.predict(np.zeros((2, 2))), constant, rtol=1e-9)


def test_a_constant_model_has_no_rules(rng):
    model = CircuitRegressor().fit(rng.normal(size=(30, 2)), np.full(30, 7.5))
    assert model.n_gates_ == 0
    assert_allclose(model.predict(np.zeros((2, 2))), 7.5)
    assert str(model.rules_) == "y = 7.5"


# Together with the rest


def test_its_score_by_size_is_its_own_circuit(friedman, fitted):
    X, y = friedman
    assert CircuitSizeScorer(epsilon=0.9)(fitted, X, y) == -fitted.n_gates_
    assert CircuitSizeScorer(target="prediction")(fitted, X, y) == -fitted.n_gates_
    assert CircuitSizeScorer(epsilon=1e-3)(fitted, X, y) < -1e12


def test_its_circuit_is_compiled_to_a_smaller_one(few):
    X, y = few
    fitted = CircuitRegressor(1e-4, augment=False).fit(X, y)
    circuit = compile_circuit(fitted, X, epsilon=0.2, y=y, effort=1)
    assert circuit.error <= 0.2
    assert circuit.n_gates < fitted.n_gates_
    exact = compile_circuit(fitted, X, epsilon=1e-6, effort=0)
    assert_array_equal(simulate(exact, X), fitted.predict(X))


def test_searches_take_it(friedman):
    X, y = friedman
    plain = CircuitRegressor(augment=False)
    search = GridSearchCV(plain, {"alpha": [1e-2, 1e-3], "max_gates": [None, 20]}, cv=2).fit(X[:200], y[:200])
    assert search.best_params_ == {"alpha": 1e-3, "max_gates": None}
    steps = Pipeline([("model", LinearRegression())])
    models = [LinearRegression(), CircuitRegressor(1e-3, augment=False)]
    by_size = GridSearchCV(steps, {"model": models}, scoring=CircuitSizeScorer(epsilon=0.5, effort=0), cv=2)
    by_size.fit(X[:400], y[:400])
    assert isinstance(by_size.best_params_["model"], CircuitRegressor)


def test_scalers_before_it_are_refused_with_a_reason(friedman):
    X, y = friedman
    model = make_pipeline(StandardScaler(), CircuitRegressor(1e-2, augment=False)).fit(X, y)
    with pytest.raises(TypeError, match="cannot take in scalers; leave them out: it does not depend on the scale"):
        compile_circuit(model, X, epsilon=0.1)


def test_pickles_are_small_and_predict_the_same(friedman, fitted, tmp_path):
    X, _ = friedman
    content = pickle.dumps(CircuitRegressor(1e-3, augment=False).fit(*friedman))
    assert len(content) < 20_000
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.predict(X), fitted.predict(X))
    assert str(copy.rules_) == str(fitted.rules_)
    assert_array_equal(copy.path_.n_gates, fitted.path_.n_gates)
    fitted.circuit_.save(tmp_path / "circuit.json")
    assert_array_equal(simulate(Circuit.load(tmp_path / "circuit.json"), X), fitted.predict(X))


def test_no_torch_is_loaded_without_a_network(friedman):
    script = """
import sys
import numpy as np
from sklearn_htmc import CircuitRegressor
X = np.random.default_rng(0).normal(size=(60, 2))
CircuitRegressor().fit(X, X[:, 0]).predict(X)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# Parameters and bad input


def test_input_formats_are_those_of_the_ports(friedman):
    X, y = make_friedman1(300, random_state=0)
    frame = pd.DataFrame(X, columns=[f"f{number}" for number in range(10)])
    coarse = Format(0, 3, -2)
    model = CircuitRegressor(1e-3, augment=False, input_formats={"f3": coarse, 0: coarse}).fit(frame, y)
    assert [place for place, form in enumerate(model.circuit_.input_formats) if form == coarse] == [0, 3]
    assert model.circuit_.error > CircuitRegressor(1e-3, augment=False).fit(frame, y).circuit_.error


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": 0.0}, "'alpha' parameter of CircuitRegressor must be"),
        ({"alpha": "best"}, "'alpha' parameter of CircuitRegressor must be"),
        ({"max_gates": -1}, "'max_gates' parameter of CircuitRegressor must be"),
        ({"max_gates": 2.5}, "'max_gates' parameter of CircuitRegressor must be"),
        ({"teacher": "network"}, "'teacher' parameter of CircuitRegressor must be"),
        ({"teacher": StandardScaler()}, "'teacher' parameter of CircuitRegressor must be"),
        ({"input_formats": [Format(0, 1, 0)]}, "'input_formats' parameter of CircuitRegressor must be"),
        (
            {"input_formats": {99: Format(0, 1, 0)}},
            "input_formats must name features, by number below 10 or by name, got 99",
        ),
        ({"input_formats": {"age": Format(0, 1, 0)}}, "input_formats must name features.*got 'age'"),
        ({"input_formats": {0: 8}}, "input_formats must hold Format objects, got 8 for 0"),
    ],
)
def test_bad_parameters_are_refused_and_leave_nothing(friedman, parameters, message):
    model = CircuitRegressor(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(*friedman)
    assert vars(model) == model.get_params(deep=False)


def test_bad_data_are_refused_and_keep_the_fit(few):
    X, y = few
    model = CircuitRegressor(1e-2).fit(X, y)
    before = model.predict(X)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
            model.fit(np.where(X[3, 3] == X, bad, X), y)
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        model.fit(X, y, sample_weight=np.where(y == y[0], -1.0, 1.0))
    assert_array_equal(model.predict(X), before)


class Wrong(Truth):
    def predict(self, X):
        return np.full(len(X), np.nan)


def test_a_teacher_that_predicts_nonsense_is_named(few):
    with pytest.raises(
        ValueError, match=r"teacher must predict finite numbers of shape \(\d+, 1\), and Wrong does not"
    ):
        CircuitRegressor(1e-2, teacher=Wrong()).fit(*few)


@pytest.mark.usefixtures("interruptible")
def test_interrupting_a_fit_stops_it_and_leaves_nothing():
    model = CircuitRegressor(1e-7)
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*make_friedman1(4000, noise=1.0, random_state=0))
    assert set(vars(model)) == set(model.get_params())


def test_verbose_shows_gates_and_error(few, capsys):
    CircuitRegressor(1e-2, verbose=1).fit(*few)
    assert "gates, error" in capsys.readouterr().err


def test_real_data_are_read_with_their_names():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    model = clone(CircuitRegressor(max_gates=80)).fit(X, y)
    assert model.score(X, y) > 0.35
    assert any("bmi" in rule.condition for rule in model.rules_)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[X.columns[::-1]])
