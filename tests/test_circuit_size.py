"""CircuitSizeScorer: a score that is a number of gates, and an estimator that predicts with its circuit."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import Lasso, LinearRegression, Ridge
from sklearn.metrics import check_scoring, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_htmc import CircuitSizeScorer, ResNetNormRegressor
from sklearn_htmc.circuit import _rounding, compile_circuit, lower, simulate
from sklearn_htmc.model_selection import best_within_budget, smallest_circuit

pytestmark = [
    pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]

GENERATOR = np.random.default_rng(11)
X = GENERATOR.normal(size=(90, 3)) * [1.0, 20.0, 0.1] + [0.0, 5.0, -3.0]
Y = 2.0 + X @ [1.5, 0.05, 4.0] + np.abs(X[:, 0]) + 0.05 * GENERATOR.normal(size=90)
WEIGHTS = GENERATOR.uniform(0.2, 2.0, 90)

SMALL = {"alpha": 0.02, "n_blocks": 1, "width": 4, "n_neurons": 4, "max_iter": 3, "random_state": 0}


# Smaller circuits are searched for where that is the subject only.
QuickScorer = partial(CircuitSizeScorer, effort=0)


def short(**parameters):
    return ResNetNormRegressor(**SMALL | parameters)


@pytest.fixture(scope="module")
def network():
    return short().fit(X, Y)


@pytest.fixture
def tiny_default(monkeypatch):
    """Have CircuitSizeScorer() train a tiny network and try few circuits: what is checked is neither."""
    tiny = ResNetNormRegressor(alpha=0.2, n_blocks=1, width=2, n_neurons=2, max_iter=2, random_state=0)
    monkeypatch.setattr(CircuitSizeScorer, "_regressor", lambda self: self.estimator or tiny)
    for name, value in {"_STEPS": 2, "_TINY": 0, "_LESS": ()}.items():
        monkeypatch.setattr(_rounding, name, value)


@parametrize_with_checks([CircuitSizeScorer(), CircuitSizeScorer(Ridge(), epsilon=0.01, target="prediction", effort=0)])
def test_every_check_of_scikit_learn_passes(tiny_default, estimator, check):
    check(estimator)


def test_the_default_is_our_regressor_with_a_fixed_seed():
    regressor = CircuitSizeScorer()._regressor()
    assert type(regressor) is ResNetNormRegressor
    assert repr(regressor) == "ResNetNormRegressor(random_state=0)"


# --- what the score is ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Ridge(), DecisionTreeRegressor(max_leaf_nodes=9), DummyRegressor()], ids=str)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_with_the_prediction_as_target_it_is_minus_the_gates_of_compile_circuit(model, weights):
    model.fit(X, Y)
    effort = "auto" if weights is None else 0
    score = CircuitSizeScorer(epsilon=0.3, target="prediction", effort=effort)(model, X, Y, weights)
    circuit = compile_circuit(model, X, y=Y, epsilon=0.3, sample_weight=weights, effort=effort)
    assert score == -circuit.n_gates
    assert isinstance(score, float)


def test_with_the_prediction_as_target_y_may_be_left_out(network):
    score = QuickScorer(epsilon=0.1, target="prediction")(network, X)
    assert score == -compile_circuit(network, X, epsilon=0.1, effort=0).n_gates


def test_the_error_of_the_model_is_taken_out_of_epsilon(network):
    """The circuit that fits the data may be coarser than the one that fits the model as well as the data are fitted."""
    own = np.std(network.predict(X) - Y) / np.std(Y)
    to_y = QuickScorer(epsilon=2.0 * own)(network, X, Y)
    to_model = QuickScorer(epsilon=0.2 * own, target="prediction")(network, X, Y)
    assert to_model < to_y < 0.0


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_a_model_that_misses_epsilon_scores_its_error(network, weights):
    residual = network.predict(X) - Y
    spread = Y - np.average(Y, weights=weights)
    ratio = np.sqrt(np.average(residual**2, weights=weights) / np.average(spread**2, weights=weights))
    score = QuickScorer(epsilon=0.001)(network, X, Y, weights)
    assert_allclose(score, -1e12 * ratio / 0.001, rtol=1e-9)


def test_every_feasible_score_is_above_every_infeasible_one_and_better_fits_are_higher(network):
    scorer = QuickScorer(epsilon=0.4)
    feasible = scorer(network, X, Y)
    near, far = (scorer(DummyRegressor(strategy="constant", constant=c).fit(X, Y), X, Y) for c in (Y.mean(), 99.0))
    assert far < near < -1e11 < feasible < 0.0


def test_smaller_epsilon_needs_more_gates(network):
    scores = [QuickScorer(epsilon=epsilon, target="prediction")(network, X, Y) for epsilon in (0.4, 0.1, 0.02, 0.004)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < scores[0]


@pytest.mark.parametrize("target", ["y", "prediction"])
def test_the_order_of_rows_does_not_matter(network, rng, target):
    scorer, order = QuickScorer(epsilon=0.3, target=target), rng.permutation(len(X))
    assert scorer(network, X[order], Y[order], WEIGHTS[order]) == scorer(network, X, Y, WEIGHTS)


@pytest.mark.parametrize("target", ["y", "prediction"])
def test_integer_weights_are_repetitions(network, rng, target):
    scorer, times = QuickScorer(epsilon=0.3, target=target), rng.integers(0, 4, len(X))
    repeated = scorer(network, np.repeat(X, times, axis=0), np.repeat(Y, times))
    assert repeated == scorer(network, X, Y, times.astype(float))


def test_the_error_of_several_outputs_is_a_mean_in_units_of_each():
    Z = np.column_stack([Y, 1000.0 * X[:, 1] ** 2])
    model = LinearRegression().fit(X, Z)
    ratio = np.sqrt(np.mean((model.predict(X) - Z) ** 2 / Z.var(axis=0)))
    assert_allclose(QuickScorer(epsilon=0.01)(model, X, Z), -1e12 * ratio / 0.01, rtol=1e-9)
    assert -1000.0 < QuickScorer(epsilon=1.2 * ratio)(model, X, Z) < 0.0


def test_a_constant_is_free():
    assert QuickScorer(epsilon=1.01)(DummyRegressor().fit(X, Y), X, Y) == 0.0


def test_constant_targets_have_the_unit_one():
    model = DummyRegressor().fit(X, np.full(90, 4.0))
    assert QuickScorer(epsilon=0.5)(model, X, np.full(90, 4.2)) == 0.0
    assert_allclose(QuickScorer(epsilon=0.1)(model, X, np.full(90, 4.2)), -1e12 * 0.2 / 0.1, rtol=1e-9)


# --- bad input ------------------------------------------------------------------------------------

BOTH_TARGETS = pytest.mark.parametrize("target", ["y", "prediction"])


@BOTH_TARGETS
@pytest.mark.parametrize("epsilon", [0.0, -0.1, "small", None])
def test_epsilon_must_be_positive(network, epsilon, target):
    message = r"The 'epsilon' parameter of CircuitSizeScorer must be a float in the range \(0.0, inf\). Got"
    scorer = QuickScorer(Ridge(), epsilon=epsilon, target=target)
    with pytest.raises(ValueError, match=message):
        scorer(network, X, Y)
    with pytest.raises(ValueError, match=message):
        scorer.fit(X, Y)


def test_an_unknown_target_is_refused(network):
    with pytest.raises(ValueError, match="The 'target' parameter of CircuitSizeScorer must be a str among"):
        QuickScorer(target="data")(network, X, Y)


@BOTH_TARGETS
def test_an_unfitted_model_is_refused(target):
    for model in (ResNetNormRegressor(), Ridge(), CircuitSizeScorer()):
        with pytest.raises(NotFittedError):
            QuickScorer(target=target)(model, X, Y)


@BOTH_TARGETS
def test_an_unsupported_model_is_refused_and_the_supported_ones_are_listed(target):
    message = r"no circuit can be made of a KNeighborsRegressor\. Supported are .*lower\.register"
    with pytest.raises(TypeError, match=message):
        CircuitSizeScorer(target=target)(KNeighborsRegressor().fit(X, Y), X, Y)
    with pytest.raises(TypeError, match=message):
        CircuitSizeScorer(KNeighborsRegressor(), target=target).fit(X, Y)


@BOTH_TARGETS
def test_a_step_of_a_pipeline_that_is_not_supported_is_named(target):
    model = make_pipeline(PolynomialFeatures(), Ridge()).fit(X, Y)
    with pytest.raises(TypeError, match="step 'polynomialfeatures'"):
        QuickScorer(target=target)(model, X, Y)


@BOTH_TARGETS
def test_another_number_of_features_is_refused(network, target):
    with pytest.raises(ValueError, match="X has 2 features, and the model was fitted with 3"):
        QuickScorer(target=target)(network, X[:, :2], Y)


@BOTH_TARGETS
@pytest.mark.parametrize("place", ["X", "y", "sample_weight"])
def test_nan_is_refused(network, target, place):
    rows = {"X": X.copy(), "y": Y.copy(), "sample_weight": WEIGHTS.copy()}
    rows[place][3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        QuickScorer(target=target)(network, **rows)
    with pytest.raises(ValueError, match="NaN"):
        QuickScorer(Ridge(), target=target).fit(**rows)


@BOTH_TARGETS
def test_weights_must_be_weights(network, target):
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        QuickScorer(target=target)(network, X, Y, -WEIGHTS)
    with pytest.raises(ValueError, match="zero"):
        QuickScorer(target=target)(network, X, Y, 0.0 * WEIGHTS)


@BOTH_TARGETS
def test_targets_of_another_shape_are_refused(network, target):
    with pytest.raises(ValueError, match="y has 2 outputs, and the model has 1"):
        QuickScorer(target=target)(network, X, np.column_stack([Y, Y]))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        QuickScorer(target=target)(network, X, Y[:-1])


def test_missing_targets_are_refused(network):
    with pytest.raises(ValueError, match="y must be given where circuits are compared with the targets"):
        QuickScorer()(network, X)
    with pytest.raises(ValueError, match="y must be given"):
        QuickScorer()(QuickScorer(Ridge()).fit(X, Y), X)


# --- as a scorer ----------------------------------------------------------------------------------


def test_a_scorer_can_be_copied_and_its_repr_can_be_pasted(network):
    scorer = QuickScorer(epsilon=0.3, target="prediction")
    assert repr(scorer) == "CircuitSizeScorer(effort=0, epsilon=0.3, target='prediction')"
    pasted = eval(repr(scorer), {"CircuitSizeScorer": CircuitSizeScorer})
    for copy in (pasted, clone(scorer), pickle.loads(pickle.dumps(scorer))):
        assert copy.get_params() == scorer.get_params()
        assert copy(network, X, Y) == scorer(network, X, Y)


def test_scoring_does_not_change_the_scorer(network):
    scorer = QuickScorer(epsilon=0.3)
    before = vars(scorer).copy()
    scorer(network, X, Y)
    assert vars(scorer) == before


def test_check_scoring_takes_it_alone_and_in_a_dict(network):
    scorer = QuickScorer(epsilon=0.3)
    assert check_scoring(network, scorer) is scorer
    both = check_scoring(network, {"size": scorer, "r2": "r2"})(network, X, Y)
    assert both == {"size": scorer(network, X, Y), "r2": r2_score(Y, network.predict(X))}


def test_cross_validation_gives_the_scores_of_separate_fits():
    cv, scorer = KFold(3), QuickScorer(epsilon=0.5)
    expected = [scorer(Ridge().fit(X[a], Y[a]), X[b], Y[b]) for a, b in cv.split(X)]
    assert_array_equal(cross_val_score(Ridge(), X, Y, cv=cv, scoring=scorer), expected)
    found = cross_validate(Ridge(), X, Y, cv=cv, scoring={"size": scorer, "r2": "r2"})
    assert_array_equal(found["test_size"], expected)


def test_learning_curve_works():
    scorer = QuickScorer(epsilon=0.2, target="prediction")
    _, _, scores = learning_curve(Ridge(), X, Y, cv=3, train_sizes=[0.5, 1.0], scoring=scorer)
    assert scores.shape == (2, 3)
    assert (scores < 0).all()


def test_it_selects_alone():
    search = GridSearchCV(Lasso(), {"alpha": [0.01, 1e6]}, cv=3, scoring=QuickScorer(epsilon=0.9))
    search.fit(X, Y)
    assert search.best_params_ == {"alpha": 0.01}  # the constant is smaller, but no circuit of it fits
    assert -1000 < search.best_score_ < 0


def test_with_an_unreachable_epsilon_the_most_accurate_model_wins():
    scoring = {"size": QuickScorer(epsilon=1e-6), "rmse": "neg_root_mean_squared_error"}
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0, 1e4]}, cv=3, scoring=scoring, refit="size").fit(X, Y)
    assert search.best_index_ == search.cv_results_["mean_test_rmse"].argmax()
    assert np.isfinite(search.cv_results_["mean_test_size"]).all()


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_a_search_over_networks_in_two_processes_takes_the_smallest_within_one_standard_error(weights):
    scoring = {"r2": "r2", "size": QuickScorer(epsilon=0.05, target="prediction")}
    params = {} if weights is None else {"sample_weight": weights}
    one, two = (
        GridSearchCV(short(), {"alpha": [0.3, 0.03]}, cv=2, scoring=scoring, refit=smallest_circuit(), n_jobs=n).fit(
            X, Y, **params
        )
        for n in (None, 2)
    )
    assert_array_equal(one.cv_results_["mean_test_size"], two.cv_results_["mean_test_size"])
    assert one.best_index_ == two.best_index_ == smallest_circuit()(one.cv_results_)
    assert (one.cv_results_["mean_test_size"] < 0).all()
    assert two.predict(X).shape == Y.shape


def test_weights_of_a_search_reach_the_scorer():
    spike = np.where(np.arange(90) % 3 == 0, 1.0, 0.0)
    scorer, cv = QuickScorer(epsilon=0.05, target="prediction"), KFold(2)
    search = GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=cv, scoring={"size": scorer}, refit="size")
    search.fit(X, Y, sample_weight=spike)
    a, b = next(iter(cv.split(X)))
    expected = scorer(Ridge().fit(X[a], Y[a], spike[a]), X[b], Y[b], spike[b])
    assert search.cv_results_["split0_test_size"][0] == expected


def test_a_search_may_choose_between_families():
    pipeline = Pipeline([("scale", StandardScaler()), ("model", Ridge())])
    families = [Ridge(), DecisionTreeRegressor(max_leaf_nodes=4, random_state=0), short(), DummyRegressor()]
    search = GridSearchCV(
        pipeline,
        {"model": families},
        cv=2,
        scoring={"r2": "r2", "size": QuickScorer(epsilon=0.1, target="prediction")},
        refit=best_within_budget(400),
    ).fit(X, Y)
    sizes, scores = search.cv_results_["mean_test_size"], search.cv_results_["mean_test_r2"]
    assert sizes[3] == 0.0
    assert (sizes[:3] < 0.0).all()
    assert scores[search.best_index_] == scores[sizes >= -400].max()


def test_halving_search_works():
    search = HalvingGridSearchCV(
        Ridge(), {"alpha": [0.1, 1.0, 1e5]}, cv=2, min_resources=20, scoring=QuickScorer(epsilon=0.9)
    ).fit(X, Y)
    assert search.best_params_["alpha"] < 1e5
    assert search.best_score_ > -1000


def test_an_unsupported_model_in_a_search_is_said():
    search = GridSearchCV(KNeighborsRegressor(), {}, cv=2, scoring=CircuitSizeScorer(), error_score="raise")
    with pytest.raises(TypeError, match="no circuit can be made of a KNeighborsRegressor"):
        search.fit(X, Y)


# --- as an estimator ------------------------------------------------------------------------------


@BOTH_TARGETS
@pytest.mark.parametrize("model", [Ridge(), short(), DecisionTreeRegressor(max_leaf_nodes=9)], ids=str)
def test_predict_is_the_circuit(model, target):
    fitted = QuickScorer(model, epsilon=0.35, target=target).fit(X, Y)
    assert_array_equal(fitted.predict(X), simulate(fitted.circuit_, X))
    assert fitted.reaches_epsilon_
    reference = Y if target == "y" else fitted.estimator_.predict(X)
    error = np.sqrt(np.mean((fitted.predict(X) - reference) ** 2)) / np.std(Y)
    assert_allclose(fitted.circuit_.error, error, rtol=1e-9)
    assert error <= 0.35


def test_where_the_model_misses_epsilon_the_circuit_follows_the_model():
    fitted = QuickScorer(Ridge(), epsilon=0.001).fit(X, Y)
    assert not fitted.reaches_epsilon_
    difference = fitted.predict(X) - fitted.estimator_.predict(X)
    assert np.sqrt(np.mean(difference**2)) <= 0.001 * np.std(Y)


def test_fit_leaves_the_given_regressor_alone():
    inner = Ridge(alpha=0.5)
    fitted = QuickScorer(inner, epsilon=0.9).fit(X, Y)
    assert not hasattr(inner, "coef_")
    assert fitted.estimator_.get_params() == inner.get_params()


def test_the_score_is_that_of_the_fitted_function(network):
    fitted = QuickScorer(short(), epsilon=0.4).fit(X[:60], Y[:60])
    expected = QuickScorer(epsilon=0.4)(fitted.estimator_, X[60:], Y[60:])
    assert fitted.score(X[60:], Y[60:]) == expected
    weighted = QuickScorer(epsilon=0.4)(fitted.estimator_, X[60:], Y[60:], WEIGHTS[60:])
    assert fitted.score(X[60:], Y[60:], sample_weight=WEIGHTS[60:]) == weighted


def test_a_scorer_takes_the_circuit_that_is_there():
    fitted = QuickScorer(Ridge(), epsilon=0.02, target="prediction").fit(X, Y)
    n_gates = fitted.circuit_.n_gates
    assert QuickScorer(epsilon=0.9)(fitted, X, Y) == -n_gates
    assert QuickScorer(epsilon=0.9, target="prediction")(fitted, X[:9], Y[:9]) == -n_gates
    rmse = np.sqrt(np.average((fitted.predict(X) - Y) ** 2, weights=WEIGHTS))
    spread = np.sqrt(np.average((Y - np.average(Y, weights=WEIGHTS)) ** 2, weights=WEIGHTS))
    score = QuickScorer(epsilon=1e-3)(fitted, X, Y, WEIGHTS)
    assert_allclose(score, -1e12 * rmse / (1e-3 * spread), rtol=1e-9)


def test_a_search_needs_no_scoring_and_predicts_with_the_circuit():
    search = GridSearchCV(QuickScorer(short(), epsilon=0.7), {"estimator__alpha": [0.3, 0.02]}, cv=2)
    search.fit(X, Y)
    best = search.best_estimator_
    assert search.best_score_ > -1e6
    assert_array_equal(search.predict(X), simulate(best.circuit_, X))
    assert best.estimator_.alpha == search.best_params_["estimator__alpha"]


def test_the_precision_of_deployed_circuits_can_be_searched():
    scoring = {"r2": "r2", "size": QuickScorer(target="prediction")}
    model = QuickScorer(Ridge(), target="prediction")
    search = GridSearchCV(model, {"epsilon": [0.3, 0.02]}, cv=2, scoring=scoring, refit=smallest_circuit())
    coarse, fine = search.fit(X, Y).cv_results_["mean_test_size"]
    assert fine < coarse < 0.0


def test_predictions_have_the_shape_of_the_targets():
    Z = np.column_stack([Y, X[:, 1]])
    assert QuickScorer(Ridge(), epsilon=0.9).fit(X, Y).predict(X).shape == (90,)
    assert QuickScorer(Ridge(), epsilon=0.9).fit(X, Y[:, None]).predict(X).shape == (90, 1)
    assert QuickScorer(Ridge(), epsilon=0.9).fit(X, Z).predict(X).shape == (90, 2)


def test_names_of_features_are_kept_and_checked():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = QuickScorer(make_pipeline(StandardScaler(), Ridge()), epsilon=0.9).fit(frame, Y)
    assert list(fitted.feature_names_in_) == ["a", "b", "c"]
    assert list(fitted.estimator_[0].feature_names_in_) == ["a", "b", "c"]
    assert fitted.n_features_in_ == 3
    assert_array_equal(fitted.predict(frame), simulate(fitted.circuit_, X))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["b", "a", "c"]])


def test_sparse_features_are_welcome_where_the_regressor_takes_them():
    dense = X * (np.abs(X) > 1.0)
    fitted = QuickScorer(Ridge(solver="lsqr"), epsilon=0.9, target="prediction").fit(sparse.csr_array(dense), Y)
    assert_array_equal(fitted.predict(sparse.csr_array(dense)), fitted.predict(dense))
    assert fitted.score(sparse.csr_array(dense), Y) == fitted.score(dense, Y)


def test_predict_refuses_what_fit_has_not_seen():
    fitted = QuickScorer(Ridge(), epsilon=0.9).fit(X, Y)
    with pytest.raises(ValueError, match="X has 2 features, but CircuitSizeScorer is expecting 3"):
        fitted.predict(X[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(np.full((1, 3), np.nan))
    with pytest.raises(NotFittedError):
        CircuitSizeScorer().predict(X)


def test_weights_reach_the_regressor_and_the_circuit():
    used = WEIGHTS > 0.8
    fitted = QuickScorer(short(), epsilon=0.4).fit(X, Y, sample_weight=np.where(used, WEIGHTS, 0.0))
    alone = QuickScorer(short(), epsilon=0.4).fit(X[used], Y[used], sample_weight=WEIGHTS[used])
    assert fitted.circuit_.text() == alone.circuit_.text()
    assert fitted.circuit_.text() != QuickScorer(short(), epsilon=0.4).fit(X, Y).circuit_.text()


def test_weights_that_the_regressor_does_not_take_are_refused():
    model = QuickScorer(make_pipeline(StandardScaler(), Ridge()))
    with pytest.raises(ValueError, match="sample_weight must be None for a Pipeline, whose fit does not take it"):
        model.fit(X, Y, sample_weight=WEIGHTS)


def test_a_fitted_one_can_be_pickled_and_lowered():
    fitted = QuickScorer(short(), epsilon=0.4).fit(X, Y)
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.predict(X), fitted.predict(X))
    assert lower(fitted).graph is fitted.circuit_
    assert_array_equal(lower(fitted)(X).ravel(), fitted.predict(X))


# --- metadata routing -----------------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_with_routing_a_scorer_gets_the_weights_it_asks_for(routing):
    cv, epsilon = KFold(2), 0.05
    weights = np.where(np.arange(90) % 3 == 0, 1.0, 0.0)
    asked, not_asked = (
        QuickScorer(epsilon=epsilon, target="prediction").set_score_request(sample_weight=wanted)
        for wanted in (True, False)
    )
    model = Ridge().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    search = GridSearchCV(model, {"alpha": [1.0]}, cv=cv, scoring={"w": asked, "o": not_asked, "r2": "r2"}, refit="w")
    with pytest.raises(ValueError, match=r"sample_weight.*not explicitly set"):
        clone(search).fit(X, Y, sample_weight=weights)  # the "r2" has not said
    search.set_params(scoring={"w": asked, "o": not_asked}).fit(X, Y, sample_weight=weights)
    a, b = next(iter(cv.split(X)))
    fitted = Ridge().fit(X[a], Y[a], weights[a])
    scorer = QuickScorer(epsilon=epsilon, target="prediction")
    assert search.cv_results_["split0_test_w"][0] == scorer(fitted, X[b], Y[b], weights[b])
    assert search.cv_results_["split0_test_o"][0] == scorer(fitted, X[b], Y[b])


def test_with_routing_a_scorer_works_alone(routing):
    scorer = QuickScorer(epsilon=0.5).set_score_request(sample_weight=True)
    model = Ridge().set_fit_request(sample_weight=True)
    found = cross_validate(model, X, Y, cv=KFold(2), scoring=scorer, params={"sample_weight": WEIGHTS})
    a, b = next(iter(KFold(2).split(X)))
    assert found["test_score"][0] == scorer(Ridge().fit(X[a], Y[a], WEIGHTS[a]), X[b], Y[b], WEIGHTS[b])


def test_with_routing_weights_go_through_a_pipeline_to_the_regressor(routing):
    steps = (StandardScaler().set_fit_request(sample_weight=False), Ridge().set_fit_request(sample_weight=True))
    model = QuickScorer(make_pipeline(*steps), epsilon=0.5).fit(X, Y, sample_weight=WEIGHTS)
    scaled = StandardScaler().fit_transform(X)
    assert_allclose(model.estimator_[-1].coef_, Ridge().fit(scaled, Y, WEIGHTS).coef_)


def test_with_routing_a_search_hands_weights_to_the_estimator_and_its_score(routing):
    inner = Ridge().set_fit_request(sample_weight=True)
    model = QuickScorer(inner, epsilon=0.5)
    model = model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    search = GridSearchCV(model, {"estimator__alpha": [1.0]}, cv=KFold(2)).fit(X, Y, sample_weight=WEIGHTS)
    a, b = next(iter(KFold(2).split(X)))
    expected = QuickScorer(epsilon=0.5)(Ridge().fit(X[a], Y[a], WEIGHTS[a]), X[b], Y[b], WEIGHTS[b])
    assert search.cv_results_["split0_test_score"][0] == expected


def test_with_routing_a_regressor_that_has_not_asked_is_an_error(routing):
    with pytest.raises(ValueError, match=r"sample_weight.*not explicitly set as requested"):
        QuickScorer(Ridge()).fit(X, Y, sample_weight=WEIGHTS)


def test_with_routing_the_default_takes_weights(routing):
    assert CircuitSizeScorer()._regressor().get_metadata_routing().fit.requests == {"sample_weight": True}
    assert CircuitSizeScorer().get_metadata_routing().consumes("fit", ["sample_weight"]) == {"sample_weight"}


def test_a_column_that_holds_no_numbers_is_named():
    X = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "city": ["Rome", "Oslo", "Rome", "Bern"]})
    scorer = CircuitSizeScorer(Ridge(), epsilon=0.5)
    with pytest.raises(ValueError, match="got the text 'Rome' in column 'city'; encode"):
        scorer.fit(X, [1.0, 2.0, 3.0, 4.0])
    scorer.fit(X.assign(city=[0.0, 1.0, 0.0, 2.0]), [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match="got the text 'Rome' in column 'city'; encode"):
        scorer.predict(X)
