"""Cross-validated paths: what they are made of, what is chosen by them, and who works on them."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_htmc import DeepSplineRegressorCV, ResNetNormRegressor, ResNetNormRegressorCV
from sklearn_htmc._paths import strengths_of
from sklearn_htmc._selection import chosen
from sklearn_htmc._training.paths import passes
from sklearn_htmc.circuit import compile_circuit, simulate

pytestmark = pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning")

ALPHAS = [0.1, 0.03, 0.01]
SMALL = {"width": 8, "n_neurons": 8, "max_iter": 20, "random_state": 0}
SPLITTER = KFold(3, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3))
    return X, 30.0 * np.abs(X[:, 0]) + 20.0 * X[:, 1] + rng.normal(size=90)


def search(**parameters):
    return ResNetNormRegressorCV(**{"alphas": ALPHAS, "cv": SPLITTER} | SMALL | parameters)


@pytest.fixture(scope="module")
def plain(table):
    """Return a search that several tests compare with; none may change it."""
    return search().fit(*table)


@parametrize_with_checks(
    [
        # Strengths under which networks are tiny, and their fits soon finished.
        ResNetNormRegressorCV(alphas=[0.5, 0.2], cv=2, n_blocks=1, width=4, n_neurons=4, max_iter=2),
        DeepSplineRegressorCV(alphas=[0.5, 0.2], cv=2, ranks=(), n_neurons=2, max_iter=2),
    ]
)
def test_every_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


# What paths are made of


def test_errors_are_those_of_the_networks_of_the_folds(table, monkeypatch):
    X, y = table
    weights = np.arange(1.0, 91.0)
    paths = []

    def recording(self, *args, **keywords):
        paths[:] = ResNetNormRegressor._paths(self, *args, **keywords)
        return paths

    monkeypatch.setattr(ResNetNormRegressorCV, "_paths", recording)
    model = search().fit(X, y, weights)
    assert model.mse_path_.shape == model.n_edges_path_.shape == (3, 3)
    assert len(paths) == 4
    for fold, (_, out) in enumerate(SPLITTER.split(X)):
        expected = [np.average((n(X[out])[:, 0] - y[out]) ** 2, weights=weights[out]) for n in paths[fold].networks]
        assert_allclose(model.mse_path_[:, fold], expected)
        assert_array_equal(model.n_edges_path_[:, fold], [network.n_edges for network in paths[fold].networks])
    shares = np.array([weights[out].sum() for _, out in SPLITTER.split(X)])
    assert model.best_index_ == np.argmin(model.mse_path_ @ shares)


def test_cold_folds_are_separate_fits_to_their_own_rows(table):
    X, y = table
    model = search(warm_start=False).fit(X, y)
    for fold, (inside, out) in enumerate(SPLITTER.split(X)):
        for place, alpha in enumerate(ALPHAS):
            alone = ResNetNormRegressor(alpha, **SMALL).fit(X[inside], y[inside])
            assert model.mse_path_[place, fold] == pytest.approx(
                np.mean((alone.predict(X[out]) - y[out]) ** 2), rel=0.02
            )
            assert abs(model.n_edges_path_[place, fold] - alone.n_edges_) <= 3


@pytest.mark.parametrize("outputs", [1, 2])
def test_cold_paths_are_separate_fits(table, outputs):
    X, y = table
    y = y if outputs == 1 else np.column_stack([y, X[:, 2] * 1e-3])
    model = search(warm_start=False).fit(X, y)
    for place, alpha in enumerate(ALPHAS):
        alone = ResNetNormRegressor(alpha, **SMALL).fit(X, y)
        assert model.path_.objective[place] == pytest.approx(alone.objective_, rel=1e-3)
        assert_allclose(model.path_.networks[place](X).reshape(alone.predict(X).shape), alone.predict(X), rtol=0.01)


def test_warm_paths_begin_with_a_separate_fit_and_go_on(table, plain):
    X, y = table
    path = ResNetNormRegressor(**SMALL).path(X, y, ALPHAS)
    first = ResNetNormRegressor(ALPHAS[-1], **SMALL).fit(X, y)
    assert_allclose(path.objective, plain.path_.objective, rtol=5e-3)  # batches of other sizes round differently
    assert path.objective[-1] == pytest.approx(first.objective_, rel=1e-3)
    assert (np.diff(path.objective) < 0).all()  # a smaller strength has a smaller minimum
    assert passes([0.01, 0.1, 0.11], 300, is_warm=True) == [300, 150, 20]
    assert passes([0.01, 0.1], 300, is_warm=True, is_brief=True) == [180, 90]
    assert passes([0.01, 0.1], 300, is_warm=False) == [300, 300]


def test_the_network_is_the_one_of_the_chosen_strength_on_all_rows(table, plain):
    X, model = table[0], plain
    assert_array_equal(model.alphas_, ALPHAS)
    assert model.alpha_ == model.alphas_[model.best_index_]
    assert model.network_ is model.path_.networks[model.best_index_]
    assert model.n_edges_ == model.path_.n_edges[model.best_index_]
    assert_array_equal(model.path_.n_edges, [network.n_edges for network in model.path_.networks])
    assert_array_equal(model.predict(X), model.path_.networks[model.best_index_](X)[:, 0])


def test_restarts_are_compared_by_objective(table, plain):
    one, two = plain.path_, search(n_restarts=3).fit(*table).path_
    assert (two.objective <= one.objective * (1.0 + 1e-6)).all()
    assert (two.objective < one.objective * (1.0 - 1e-4)).any()


# What is chosen


def test_rules_of_selection_by_hand():
    losses = np.array([[5.0, 5.0], [1.4, 2.0], [1.0, 2.0], [1.1, 2.1]])
    even = np.array([0.5, 0.5])
    assert chosen(losses, even, "min") == 2
    # One standard error is std / sqrt(2) = .5: the second mean, 1.7, is within it, the first is not.
    assert chosen(losses, even, "one_se") == 1
    assert chosen(np.array([[1.0, 9.0], [2.0, 1.0]]), np.array([1.0, 0.0]), "min") == 0
    assert chosen(np.array([[np.inf, np.inf], [2.0, 1.0]]), even, "one_se") == 1
    assert chosen(np.full((2, 2), np.inf), even, "one_se") == 0


def test_one_standard_error_chooses_a_smaller_network(rng):
    X = rng.normal(size=(80, 4))
    y = X[:, 0] + rng.normal(size=80)
    least, sparse = (search(selection=rule, alphas=[0.3, 0.1, 0.03, 0.003]).fit(X, y) for rule in ("min", "one_se"))
    assert_allclose(least.mse_path_, sparse.mse_path_)
    assert sparse.alpha_ >= least.alpha_
    means = sparse.mse_path_ @ np.full(3, 1 / 3)
    error = sparse.mse_path_[least.best_index_].std(ddof=1) / np.sqrt(3)
    assert means[sparse.best_index_] <= means.min() + 1.05 * error
    assert (means[: sparse.best_index_] > means.min() + 0.95 * error).all()


def test_strengths_fall_over_three_decades():
    found = strengths_of(7, 400)
    assert_allclose(found, 0.05 * 10.0 ** -np.arange(0.0, 3.5, 0.5))
    assert_array_equal(strengths_of([0.1, 0.3, 0.1], 400), [0.3, 0.1])


def test_groups_are_kept_together(table):
    X, y = table
    groups = np.arange(90) % 6
    model = search(cv=GroupKFold(3)).fit(X, y, groups=groups)
    splits = list(GroupKFold(3).split(X, y, groups))
    assert_allclose(model.mse_path_, search(cv=splits).fit(X, y).mse_path_)
    with pytest.raises(ValueError, match="groups"):
        search(cv=GroupKFold(3)).fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        search(cv=GroupKFold(3)).fit(X, y, groups=groups[:-1])


def test_default_folds_do_not_depend_on_the_order_of_rows_nor_on_repetition(table, rng):
    X, y = table
    model = search(cv=None).fit(X, y)
    order = rng.permutation(90)
    shuffled = search(cv=None).fit(X[order], y[order])
    times = rng.integers(0, 3, size=90)
    repeated = search(cv=None).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    weighted = search(cv=None).fit(X, y, times)
    assert model.mse_path_.shape == (3, 5)
    for one, other in ((model, shuffled), (weighted, repeated)):
        assert_array_equal(one.mse_path_, other.mse_path_)
        assert_array_equal(one.predict(X), other.predict(X))


@pytest.mark.parametrize("scale", [2.0**-530, 2.0**660])
def test_no_scale_of_targets_changes_the_choice(table, plain, scale):
    X, y = table
    scaled = search().fit(X, scale * y)
    assert scaled.best_index_ == plain.best_index_
    assert_allclose(scaled.predict(X) / scale, plain.predict(X), rtol=1e-12)


def test_splits_are_taken_in_any_form(table, plain):
    X, y = table
    splits = list(SPLITTER.split(X))
    masks = [(np.isin(np.arange(90), inside), np.isin(np.arange(90), out)) for inside, out in splits]
    for form in (iter(splits), [(tuple(a), list(b)) for a, b in splits], masks):
        assert_array_equal(search(cv=form).fit(X, y).mse_path_, plain.mse_path_)


@pytest.mark.parametrize("weight", [1e308, 1e-310])
def test_weights_of_any_size_weigh_the_same(table, plain, weight):
    assert_allclose(search().fit(*table, np.full(90, weight)).mse_path_, plain.mse_path_, rtol=1e-10)


def test_counts_of_strengths_are_checked_by_path_too(table):
    for wrong in (0, -1, None, 2.0, True, np.array(3)):
        with pytest.raises(ValueError, match="alphas must be"):
            ResNetNormRegressor(**SMALL).path(*table, wrong)


def test_training_on_leaves_the_search_behind(table, plain):
    X, y = table
    model = copy.deepcopy(plain)
    alpha = model.alpha_
    model.partial_fit(X, y)
    assert model.alpha_ == alpha
    assert not {"alphas_", "best_index_", "mse_path_", "n_edges_path_", "path_"} & set(vars(model))


# Who works on it


def test_workers_change_nothing_but_rounding(table, plain):
    X, y = table
    for backend in ("threading", "loky"):
        with joblib.parallel_config(backend=backend, n_jobs=2):
            shared = search().fit(X, y)
        assert_allclose(shared.mse_path_, plain.mse_path_, rtol=1e-3)
        assert shared.alpha_ == plain.alpha_
    assert_allclose(search(n_jobs=2).fit(X, y).mse_path_, plain.mse_path_, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alphas", 4),
        ("cv", 4),
        ("n_restarts", 2),
        ("n_blocks", 1),
        ("width", 4),
        ("n_neurons", 4),
        ("weighting", "path"),
        ("max_iter", 10),
        ("batch_size", 16),
        ("early_stopping", True),
        ("warm_start", False),
        ("random_state", 3),
    ],
)
def test_every_parameter_changes_the_fit(table, plain, name, value):
    other = search(**{name: value}).fit(*table)
    same = plain.mse_path_.shape == other.mse_path_.shape and np.allclose(plain.mse_path_, other.mse_path_, rtol=1e-6)
    assert not same or not np.allclose(plain.path_.objective, other.path_.objective, rtol=1e-6)


def test_a_budget_of_edges_bounds_every_network(table):
    X, y = (rows[:40] for rows in table)
    small = {"alphas": [0.003], "cv": KFold(2), "n_blocks": 1, "width": 4, "max_iter": 10}
    free, bounded = (search(max_edges=most, **small).fit(X, y) for most in (None, 5))
    assert 0 < bounded.n_edges_path_.max() <= 5 < free.n_edges_path_.min()
    assert 0 < bounded.n_edges_ <= 5 < free.n_edges_


def test_extrapolation_is_that_of_the_plain_regressor(table, plain):
    X, y = table
    far = 10.0 * X[:5]
    assert_array_equal(plain.predict(far), plain.predict(np.clip(far, X.min(0), X.max(0))))
    assert not np.allclose(search(extrapolation="linear").fit(X, y).predict(far), plain.predict(far))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": [0.1, -1.0]}, "alphas must be"),
        ({"alphas": []}, "alphas|minimum of 1"),
        ({"alphas": 0}, "'alphas' parameter"),
        ({"alphas": [[0.1]]}, "alphas must be"),
        ({"alphas": np.array(0.1)}, "alphas must be"),
        ({"cv": []}, "none; a generator"),
        ({"cv": [(np.arange(90), np.arange(0))]}, "none in fold 0"),
        ({"cv": [(np.arange(45), np.arange(45, 90)), (np.arange(45), np.arange(90, 95))]}, "rows below 90, and fold 1"),
        ({"selection": "max"}, "'selection' parameter"),
        ({"n_restarts": 0}, "'n_restarts' parameter"),
        ({"cv": "five"}, "'cv' parameter"),
        ({"width": 0}, "'width' parameter"),
    ],
)
def test_bad_parameters_are_refused_and_leave_nothing(table, parameters, message):
    model = search(**parameters)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(*table)
    assert vars(model) == before


def test_folds_without_weight_are_refused_or_do_not_count(table):
    X, y = table
    splits = list(SPLITTER.split(X))
    inside, out = splits[0]
    weights = np.ones(90)
    weights[inside] = 0.0
    with pytest.raises(ValueError, match="fold 0"):
        search(cv=splits).fit(X, y, weights)
    weights = np.ones(90)
    weights[out] = 0.0
    masks = [np.isin(np.arange(90), part) for _, part in splits]
    model = search(cv=[(~mask, mask) for mask in masks]).fit(X, y, weights)
    assert model.best_index_ == np.argmin(model.mse_path_[:, 1:].mean(axis=1))
    with pytest.raises(ValueError, match="rows to judge by"):
        search(cv=splits[:1]).fit(X, y, weights)
    with pytest.raises(ValueError, match="cv=None needs 5 rows"):
        search(cv=None).fit(X[:4], y[:4])


def test_it_is_taken_wherever_the_plain_regressor_is(table, tmp_path):
    X, y = table
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = search().fit(frame, y)
    circuit = compile_circuit(model, frame, epsilon=0.2, effort=0)
    assert circuit.feature_names == ("a", "b", "c")
    assert np.std(simulate(circuit, frame) - model.predict(frame)) <= 0.2 * np.std(model.predict(frame))
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(frame), model.predict(frame))
    assert str(clone(model)) == str(model)
    more = clone(model).fit(frame, y).partial_fit(frame, y)
    assert more.alpha_ == model.alpha_


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_interrupting_a_search_ends_its_threads(table, n_jobs):
    model = search(max_iter=10**6, n_jobs=n_jobs, on_interrupt="raise")
    before, threads = dict(vars(model)), threading.active_count()
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*table)
    timer.join()
    assert vars(model) == before
    assert threading.active_count() <= threads


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_verbose_counts_the_passes_of_all_paths(table, n_jobs, capsys):
    one, fold = (sum(passes(ALPHAS[::-1], SMALL["max_iter"], is_warm=True, is_brief=brief)) for brief in (False, True))
    total = one + 3 * fold
    search(verbose=1, n_jobs=n_jobs).fit(*table)
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert f"passes={total}" in shown
    DeepSplineRegressorCV(ALPHAS, cv=SPLITTER, n_neurons=8, max_iter=SMALL["max_iter"], verbose=1).fit(*table)
    assert "100%" in capsys.readouterr().err  # passes that were not needed are done with


def test_warnings_name_the_line_that_calls_fit(table):
    with pytest.warns(ConvergenceWarning) as caught:
        search(tol=0.0).fit(*table)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(tol=10.0).fit(*table)
