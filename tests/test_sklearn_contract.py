"""What scikit-learn, pandas, pickle and threads may expect of an estimator."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import warnings
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import threadpoolctl
import torch
from estimators import quick_fit
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_htmc import DeepSplineRegressor, ResNetNormRegressor

pytestmark = pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning")

BOTH_ALPHAS = pytest.mark.parametrize("alpha", [0.003, "auto"])
BUDGETS = {ResNetNormRegressor: {"max_edges": 30, "width": 8}, DeepSplineRegressor: {"max_neurons": 4}}
FULL_AND_MINI_BATCHES = pytest.mark.parametrize("n_rows", [60, 200])


@pytest.fixture
def quick(regressor):
    return partial(quick_fit, regressor)


@parametrize_with_checks(
    [
        ResNetNormRegressor(n_blocks=1, width=4, n_neurons=4, max_iter=4),
        ResNetNormRegressor(alpha=0.1, weighting="path", n_blocks=1, width=4, n_neurons=4, max_iter=4),
        DeepSplineRegressor(alpha=0.03, penalty="weight_decay", skip=False, ranks=(2,), n_neurons=4, max_iter=20),
    ]
)
def test_every_check_of_scikit_learn_passes(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        ResNetNormRegressor(),
        ResNetNormRegressor(alpha=0.01, max_edges=20, n_neurons=8, max_iter=20),
        DeepSplineRegressor(),
        DeepSplineRegressor(alpha=0.01, penalty="multitask", max_neurons=4, ranks=(), n_neurons=8, max_iter=20),
    ]
)
def test_every_check_of_scikit_learn_passes_with_defaults_and_budgets(estimator, check):
    check(estimator)


# Copies


@BOTH_ALPHAS
def test_same_random_state_gives_the_same_bits(ramps, quick, alpha):
    X, y = ramps(200)
    first, second = (quick(alpha=alpha, random_state=3).fit(X, y) for _ in range(2))
    assert_array_equal(first.predict(X), second.predict(X))
    assert first.objective_ == second.objective_
    assert first.loss_curve_ == second.loss_curve_
    assert not np.array_equal(quick(alpha=alpha, random_state=4).fit(X, y).predict(X), first.predict(X))


def test_same_random_state_gives_the_same_bits_with_several_outputs(ramps, quick):
    X, y = ramps(200)
    Y = np.column_stack([y, X[:, 0] * y])
    predictions = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # nothing may depend on the global state
        predictions.append(quick().fit(X, Y).predict(X))
    assert_array_equal(*predictions)


def test_random_state_instance_is_drawn_from(ramps, quick):
    X, y = ramps(100)
    state = np.random.RandomState(0)
    first, second = (quick(random_state=state).fit(X, y).predict(X) for _ in range(2))
    again = quick(random_state=np.random.RandomState(0)).fit(X, y).predict(X)
    assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_clone_fits_the_same_function(ramps, quick):
    X, y = ramps(100)
    model = quick().fit(X, y)
    copy = clone(model)
    assert not hasattr(copy, "network_")
    assert_array_equal(copy.fit(X, y).predict(X), model.predict(X))


def test_pickle_and_joblib_round_trips_predict_the_same(ramps, quick, tmp_path):
    X, y = ramps(150)
    for model in (quick().fit(X, y), quick(alpha="auto").fit(X, y), quick().partial_fit(X, y)):
        joblib.dump(model, tmp_path / "model.joblib")
        for copy in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
            assert_array_equal(copy.predict(X), model.predict(X))
            assert copy.get_params() == model.get_params()


def test_a_copy_goes_on_with_partial_fit_like_the_original(ramps, quick):
    X, y = ramps(150)
    model = quick().partial_fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.partial_fit(X, y).predict(X), model.partial_fit(X, y).predict(X))


def test_pickle_of_a_fit_on_many_rows_is_small_and_holds_no_rows(rng, ramps, quick):
    X, y = ramps(5_000, n_features=10)
    model = quick(alpha=0.01, max_iter=1).fit(X, y)
    dumped = pickle.dumps(model)
    assert len(dumped) < 0.3 * X.nbytes
    for row in rng.choice(len(X), 100):
        assert X[row].tobytes() not in dumped
        assert y[row].tobytes() not in dumped


# Other tools


def test_grid_search_in_two_processes_finds_what_one_finds(ramps, quick):
    X, y = ramps(120)
    grid = {"alpha": [0.1, 0.003]}
    one, two = (GridSearchCV(quick(), grid, cv=2, n_jobs=n_jobs).fit(X, y) for n_jobs in (None, 2))
    assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    assert one.best_params_ == two.best_params_
    assert one.best_params_["alpha"] == 0.003
    assert_array_equal(one.predict(X), two.predict(X))


def test_cross_val_score_is_the_score_of_separate_fits(ramps, quick):
    X, y = ramps(120)
    cv = KFold(3)
    expected = [quick().fit(X[a], y[a]).score(X[b], y[b]) for a, b in cv.split(X)]
    assert_array_equal(cross_val_score(quick(), X, y, cv=cv), expected)
    assert min(expected) > 0.5


def test_pipeline_is_its_steps(ramps, quick):
    X, y = ramps(100)
    Z = StandardScaler().fit_transform(X)
    pipeline = make_pipeline(StandardScaler(), quick()).fit(X, y)
    assert_array_equal(pipeline.predict(X), quick().fit(Z, y).predict(Z))


def test_pipeline_that_hands_on_data_frames_gives_feature_names(ramps, quick):
    X, y = ramps(100)
    frame = pd.DataFrame(X, columns=list("abcd"))
    pipeline = make_pipeline(StandardScaler(), quick()).set_output(transform="pandas").fit(frame, y)
    assert list(pipeline[-1].feature_names_in_) == list("abcd")
    assert np.isfinite(pipeline.predict(frame)).all()


def test_transformed_target_is_a_fit_to_the_transformed_target(ramps, quick):
    X, y = ramps(100)
    model = TransformedTargetRegressor(quick(), func=np.log, inverse_func=np.exp, check_inverse=False).fit(X, y)
    assert_allclose(model.predict(X), np.exp(quick().fit(X, np.log(y)).predict(X)), rtol=1e-12)


def test_metadata_routing_brings_the_weights(ramps, quick):
    X, y = ramps(90)
    weights = np.repeat([0.0, 1.0, 2.0], 30)
    with sklearn.config_context(enable_metadata_routing=True):
        model = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, model).fit(X, y, sample_weight=weights)
        search = GridSearchCV(model, {"alpha": [0.01]}, cv=2).fit(X, y, sample_weight=weights)
    Z = StandardScaler().fit_transform(X)
    assert_array_equal(pipeline.predict(X), quick().fit(Z, y, weights).predict(Z))
    assert_array_equal(search.predict(X), quick(alpha=0.01).fit(X, y, weights).predict(X))


# Weights


@BOTH_ALPHAS
@FULL_AND_MINI_BATCHES
def test_integer_weights_equal_repetition_exactly(rng, ramps, quick, alpha, n_rows):
    X, y = ramps(n_rows)
    weights = rng.integers(1, 4, n_rows)
    weighted = quick(alpha=alpha).fit(X, y, weights)
    repeated = quick(alpha=alpha).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    assert_array_equal(weighted.predict(X), repeated.predict(X))
    assert weighted.objective_ == repeated.objective_
    assert not np.array_equal(weighted.predict(X), quick(alpha=alpha).fit(X, y).predict(X))


@BOTH_ALPHAS
@FULL_AND_MINI_BATCHES
def test_zero_weight_equals_removal_exactly(rng, ramps, quick, alpha, n_rows):
    X, y = ramps(n_rows)
    weights = rng.uniform(0.5, 2.0, n_rows)
    weights[rng.random(n_rows) < 0.3] = 0.0
    X[weights == 0] *= 100.0
    used = weights > 0
    assert_array_equal(
        quick(alpha=alpha).fit(X, y, weights).predict(X),
        quick(alpha=alpha).fit(X[used], y[used], weights[used]).predict(X),
    )


@BOTH_ALPHAS
@FULL_AND_MINI_BATCHES
def test_order_of_rows_does_not_matter(rng, ramps, quick, alpha, n_rows):
    X, y = ramps(n_rows)
    weights = rng.uniform(0.5, 2.0, n_rows)
    weights[: n_rows // 2] = 1.0
    X[5:10], y[5:10] = X[:5], y[:5]  # equal rows with other weights beside them
    order = rng.permutation(n_rows)
    assert_array_equal(
        quick(alpha=alpha).fit(X, y, weights).predict(X),
        quick(alpha=alpha).fit(X[order], y[order], weights[order]).predict(X),
    )


@pytest.mark.parametrize("limit", ["early stopping", "budget"])
def test_weights_equal_repetition_with_early_stopping_and_a_budget(rng, ramps, quick, regressor, limit):
    X, y = ramps(150)
    parameters = {"early_stopping": True, "max_iter": 30} if limit == "early stopping" else BUDGETS[regressor]
    weights = rng.integers(1, 4, len(X))
    weighted = quick(**parameters).fit(X, y, weights)
    repeated = quick(**parameters).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    assert_array_equal(weighted.predict(X), repeated.predict(X))


def test_only_the_proportions_of_weights_matter(rng, ramps, quick):
    X, y = ramps(80)
    weights = rng.uniform(0.5, 2.0, len(X))
    expected = quick().fit(X, y, weights).predict(X)
    for factor in (2.0**-900, 2.0**5, 2.0**900):
        assert_array_equal(quick().fit(X, y, factor * weights).predict(X), expected)


def test_weights_may_be_a_list_a_series_or_one_number(ramps, quick):
    X, y = ramps(60)
    weights = np.repeat([1.0, 3.0], 30)
    expected = quick().fit(X, y, weights).predict(X)
    for same in (weights.tolist(), pd.Series(weights, index=np.arange(60)[::-1]), weights.astype(np.int8)):
        assert_array_equal(quick().fit(X, y, same).predict(X), expected)
    assert_array_equal(quick().fit(X, y, 5).predict(X), quick().fit(X, y).predict(X))


# Kinds of data


def test_data_frames_give_names_and_the_same_fit(ramps, quick):
    X, y = ramps(100)
    frame = pd.DataFrame(X, columns=list("abcd"), index=np.arange(100)[::-1])
    target = pd.Series(y, index=np.arange(100) + 7)
    model = quick().fit(frame, target)
    assert list(model.feature_names_in_) == list("abcd")
    assert_array_equal(model.predict(frame), quick().fit(X, y).predict(X))
    assert_array_equal(
        quick().fit(frame.convert_dtypes(), target.convert_dtypes()).predict(frame), model.predict(frame)
    )


def test_columns_in_another_order_are_refused(ramps, quick):
    X, y = ramps(60)
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = quick().fit(frame, y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[list("dcba")])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)


def test_lists_integers_and_objects_are_numbers(rng, quick):
    X = rng.integers(-3, 4, (80, 3))
    y = np.abs(X[:, 0]) + X[:, 1]
    expected = quick().fit(X.astype(float), y.astype(float)).predict(X)
    for same_X, same_y in ((X, y), (X.tolist(), y.tolist()), (X.astype(object), y.astype(object))):
        model = quick().fit(same_X, same_y)
        assert_array_equal(model.predict(same_X), expected)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix])
def test_sparse_features_equal_dense_ones(rng, ramps, quick, form):
    X, y = ramps(100)
    X[rng.random(X.shape) < 0.5] = 0.0
    dense, thin = quick().fit(X, y), quick().fit(form(X), y)
    assert_array_equal(thin.predict(form(X)), dense.predict(X))
    assert_array_equal(thin.predict(X), dense.predict(form(X)))


def test_sparse_target_is_made_dense(ramps, quick):
    X, y = ramps(60)
    Y = np.column_stack([y, np.maximum(y, 3.0) - 3.0])
    assert_array_equal(quick().fit(X, sparse.csr_array(Y)).predict(X), quick().fit(X, Y).predict(X))


def test_thousands_of_sparse_features_are_fitted(quick, regressor):
    X = sparse.random_array((300, 3000), density=0.01, format="csr", random_state=np.random.default_rng(0))
    y = np.asarray(X[:, :3].sum(axis=1)).ravel()
    model = quick(alpha=0.05).fit(X, y)
    assert model.score(X, y) > 0.8
    if regressor is ResNetNormRegressor:  # whose norm has a price for every edge
        assert set(np.flatnonzero(model.feature_importances_)) == {0, 1, 2}


def test_float32_in_gives_float32_out(ramps, quick):
    X, y = ramps(80)
    model = quick().fit(X.astype(np.float32), y.astype(np.float32))
    assert model.predict(X.astype(np.float32)).dtype == np.float32
    assert model.predict(X).dtype == np.float64
    assert model.predict(X.astype(np.float16)).dtype == np.float64
    assert_allclose(model.predict(X.astype(np.float32)), model.predict(X), rtol=1e-4)


def test_predictions_have_the_shape_of_the_target(ramps, quick):
    X, y = ramps(80)
    assert quick().fit(X, y).predict(X[:7]).shape == (7,)
    assert quick().fit(X, y[:, None]).predict(X[:7]).shape == (7, 1)
    assert quick().fit(X, np.column_stack([y, -y, X[:, 0]])).predict(X[:7]).shape == (7, 3)
    assert_array_equal(quick().fit(X, y[:, None]).predict(X)[:, 0], quick().fit(X, y).predict(X))


def test_several_outputs_are_all_learnt(ramps, regressor):
    X, y = ramps(300)
    Y = np.column_stack([y, 1e6 * np.abs(X[:, 3]), np.full(300, -7.0)])
    model = regressor(alpha=0.001, max_iter=60, random_state=0).fit(X, Y)
    predicted = model.predict(X)
    residual = ((predicted - Y)[:, :2] ** 2).mean(axis=0) / Y[:, :2].var(axis=0)
    assert residual.max() < 0.1
    assert_allclose(predicted[:, 2], -7.0, atol=0.05)


# The state of the caller


def state_of_the_process():
    return {
        "torch threads": torch.get_num_threads(),
        "pools": sorted((pool["filepath"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()),
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": str(np.random.get_state()),  # noqa: NPY002
        "python generator": random.getstate(),
        "gradients": torch.is_grad_enabled(),
        "type": torch.get_default_dtype(),
        "warnings": list(warnings.filters),
    }


@pytest.mark.parametrize("n_outputs", [1, 2])
@BOTH_ALPHAS
def test_fit_leaves_the_state_of_the_process_as_it_was(ramps, quick, two_threads, alpha, n_outputs):
    X, y = ramps(150)
    Y = np.column_stack([y, X[:, 3] ** 2])[:, :n_outputs]
    before = state_of_the_process()
    quick(alpha=alpha, early_stopping=True).fit(X, Y)
    assert state_of_the_process() == before
    quick(alpha=alpha).partial_fit(X, Y)
    assert state_of_the_process() == before


def test_fit_leaves_the_warning_filters_alone_where_linear_models_do_not_converge(rng, quick, two_threads):
    X = rng.normal(size=(100, 60))
    X = np.hstack([X, X + 1e-3 * rng.normal(size=X.shape)])
    y = X[:, 0] + np.abs(X[:, 1])
    before = list(warnings.filters)
    for _ in range(3):
        quick(alpha="auto", max_iter=2).fit(X, y)
        assert list(warnings.filters) == before


@BOTH_ALPHAS
def test_a_fit_that_raises_leaves_the_state_of_the_process_as_it_was(ramps, quick, two_threads, monkeypatch, alpha):
    def broken(*_, **__):
        raise RuntimeError("out of memory, say")

    X, y = ramps(150)
    before = state_of_the_process()
    for network in ("residual.network.ResidualNetwork", "spline.network.SplineNetwork"):
        monkeypatch.setattr(f"sklearn_htmc._training.{network}.gradient", broken)
    for train in (quick(alpha=alpha).fit, quick(alpha=alpha).partial_fit):
        with pytest.raises(RuntimeError, match="out of memory, say"):
            train(X, y)
        assert state_of_the_process() == before


def test_fits_in_several_threads_leave_the_state_of_the_process_as_it_was(ramps, quick, two_threads):
    X, y = ramps(100)
    expected = quick().fit(X, y).predict(X)
    before = state_of_the_process()
    fits = joblib.Parallel(n_jobs=3, backend="threading")(joblib.delayed(quick().fit)(X, y) for _ in range(9))
    assert state_of_the_process() == before
    for model in fits:
        assert_array_equal(model.predict(X), expected)


def running_threads():
    """Return the threads of Python code; those of a test runner are dummies that show up when they like."""
    return {thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}


@BOTH_ALPHAS
@pytest.mark.usefixtures("interruptible")
def test_interrupting_a_fit_stops_it_and_leaves_nothing(ramps, regressor, two_threads, alpha):
    X, y = ramps(1000)
    before, threads = state_of_the_process(), running_threads()
    model = regressor(alpha=alpha, max_iter=100_000, random_state=0, on_interrupt="raise")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    timer.join()
    assert running_threads() == threads  # nothing goes on training in the background
    assert vars(model) == model.get_params()
    assert state_of_the_process() == before


@BOTH_ALPHAS
def test_result_does_not_depend_on_the_number_of_threads(ramps, quick, two_threads, alpha):
    X, y = ramps(200)
    many = quick(alpha=alpha).fit(X, y)
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        one = quick(alpha=alpha).fit(X, y)
    assert_array_equal(one.predict(X), many.predict(X))
    assert one.alpha_ == many.alpha_


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_a_joblib_backend_of_the_caller_changes_nothing(ramps, quick, backend, capfd):
    X, y = ramps(60)
    expected = quick(alpha="auto", max_iter=4).fit(X, y).predict(X)
    with joblib.parallel_config(backend, n_jobs=2):
        found = quick(alpha="auto", max_iter=4, verbose=1).fit(X, y).predict(X)
    assert_array_equal(found, expected)


# A light import


def python(code, *arguments):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_importing_the_package_does_not_import_torch():
    loaded = python("import sys; from sklearn_htmc import *; print(*(m for m in sys.modules if '.' not in m))")
    assert "sklearn_htmc" in loaded
    assert not {"torch", "matplotlib", "tqdm"} & set(loaded)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_unpickling_and_predicting_does_not_import_torch(ramps, quick, tmp_path, method):
    X, y = ramps(60)
    model = getattr(quick(), method)(X, y)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((model, X)))
    code = """
import pathlib, pickle, sys
model, X = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
print(*model.predict(X).tolist(), "torch" in sys.modules)
"""
    *predicted, loaded = python(code, str(tmp_path / "model.pickle"))
    assert loaded == "False"
    assert_allclose(np.array(predicted, dtype=float), model.predict(X), rtol=1e-12)


# Warnings


def test_a_fit_that_has_not_converged_says_so_at_the_line_of_the_caller(ramps, quick):
    X, y = ramps(60)
    with pytest.warns(
        ConvergenceWarning, match=r"stationarity_ is .* \* alpha, above tol=0: .* Increase max_iter or alpha"
    ) as seen:
        quick(tol=0.0).fit(X, y)
    assert [record.filename for record in seen] == [__file__]


def test_partial_fit_does_not_warn_that_it_has_not_ended(ramps, quick):
    X, y = ramps(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(tol=0.0).partial_fit(X, y)
