"""What cannot be fitted is refused in clear words and changes nothing; what looks odd but has an answer just works."""

from __future__ import annotations

import pickle
import re
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from estimators import quick_fit
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc import CircuitRegressor, DeepSplineRegressor, ResNetNormRegressor, ResNetNormRegressorCV

pytestmark = pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(1).normal(size=(60, 4))
Y = 3.0 + np.abs(X[:, 0]) + np.maximum(X[:, 1] + X[:, 2], 0.0)


def with_value(array, value):
    out = np.array(array, dtype=float)
    out[7] = value
    return out


DAYS = pd.Series(pd.date_range("2020", periods=60))


def frame_with(column):
    """Return a frame with a column of something else."""
    return pd.DataFrame(X[:, :2], columns=["a", "b"]).assign(what=column)


BAD_DATA = {
    "NaN in X": ((with_value(X, np.nan), Y), "Input X contains NaN"),
    "infinity in X": ((with_value(X, np.inf), Y), "Input X contains infinity"),
    "NaN in a sparse X": ((sparse.csr_array(with_value(X, np.nan)), Y), "Input X contains NaN"),
    "missing value in X": ((pd.DataFrame(X).convert_dtypes().mask(X > 2), Y), "Input X contains NaN"),
    "NaN in y": ((X, with_value(Y, np.nan)), "Input y contains NaN"),
    "infinity in y": ((X, with_value(Y, -np.inf)), "Input y contains infinity"),
    "NaN in one output": ((X, with_value(np.column_stack([Y, Y]), np.nan)), "Input y contains NaN"),
    "no y": ((X, None), "requires y to be passed, but the target y is None"),
    "too few y": ((X, Y[:-1]), r"inconsistent numbers of samples: \[60, 59\]"),
    "y with three axes": ((X, Y[:, None, None]), "dim 3"),
    "y without outputs": ((X, np.zeros((60, 0))), r"0 feature\(s\)"),
    "words in y": ((X, ["one"] * 60), "y must hold numbers, got the text 'one'; this is a regressor.*use a classifier"),
    "labels in y": ((X, pd.Series(["a", "b", "c"] * 20)), "y must hold numbers, got the text 'a'; this is a regressor"),
    "categories in y": (
        (X, pd.Series(["a", "b", "c"] * 20, dtype="category")),
        "y must hold numbers, got categories; this is a regressor",
    ),
    "times in y": ((X, DAYS), "y must hold numbers, got times, of type datetime64.*turn times into numbers"),
    "complex y": ((X, Y + 1j), "Complex data not supported"),
    "words in X": ((np.full((60, 2), "one"), Y), "X must hold numbers, got the text 'one' in column 0; encode"),
    "words in rows": (([[1.0, "one"]] * 60, Y), "X must hold numbers, got the text 'one' in column 1; encode"),
    "words in objects": (
        (np.array([[1.0, "one"]] * 60, dtype=object), Y),
        "X must hold numbers, got the text 'one' in column 1; encode",
    ),
    "times in an array": ((DAYS.to_numpy()[:, None], Y), "X must hold numbers, got times in column 0"),
    "complex X": ((X + 1j, Y), "Complex data not supported"),
    "X with one axis": ((X[:, 0], Y), "Reshape your data"),
    "X with three axes": ((X[None], Y), "dim 3"),
    "no rows": ((X[:0], Y[:0]), r"0 sample\(s\)"),
    "no columns": ((X[:, :0], Y), r"0 feature\(s\)"),
    "NaN in weights": ((X, Y, with_value(np.ones(60), np.nan)), "Input sample_weight contains NaN"),
    "infinity in weights": ((X, Y, with_value(np.ones(60), np.inf)), "Input sample_weight contains infinity"),
    "negative weight": (
        (X, Y, with_value(np.ones(60), -2.0)),
        "sample_weight must not be negative, got -2 in row 7; a weight of 0 leaves a row out",
    ),
    "zero weights": (
        (X, Y, np.zeros(60)),
        "sample_weight must not be zero for all rows; give at least one row a positive weight",
    ),
    "too few weights": (
        (X, Y, np.ones(59)),
        r"sample_weight must have shape \(60,\), one weight per row of X, got \(59,\)",
    ),
    "weights with two axes": ((X, Y, np.ones((60, 1))), r"sample_weight must have shape \(60,\).*got \(60, 1\)"),
    "words as weights": ((X, Y, ["one"] * 60), "could not convert string to float"),
}

BAD_FRAMES = {
    "words in a frame": (
        (frame_with(["Rome", "Oslo"] * 30), Y),
        "X must hold numbers, got the text 'Rome' in column 'what'; encode .* OneHotEncoder.* in a pipeline, or drop",
    ),
    "words of their own type": (
        (frame_with(pd.array(["Rome", "Oslo"] * 30, dtype="string")), Y),
        "X must hold numbers, got the text 'Rome' in column 'what'; encode",
    ),
    "words among numbers": (
        (frame_with(["3", 4, "four"] * 20), Y),
        "X must hold numbers, got the text 'four' in column 'what'; encode",
    ),
    "categories in X": (
        (frame_with(pd.Categorical(["Rome", "Oslo"] * 30)), Y),
        "X must hold numbers, got categories in column 'what'; encode .*TargetEncoder",
    ),
    "times in X": (
        (frame_with(DAYS), Y),
        "X must hold numbers, got times in column 'what', of type datetime64.*turn times into numbers, such as days",
    ),
    "times alone": ((pd.DataFrame({"day": DAYS}), Y), "X must hold numbers, got times in column 'day'"),
    "days among objects": (
        (frame_with(pd.Series(DAYS.dt.date, dtype=object)), Y),
        "X must hold numbers, got the time 2020-01-01 in column 'what'; turn times into numbers",
    ),
    "times of a zone": ((frame_with(DAYS.dt.tz_localize("UTC")), Y), "got times in column 'what'"),
    "durations": ((frame_with(DAYS - DAYS[0]), Y), "got times in column 'what', of type timedelta"),
    "periods": ((frame_with(pd.period_range("2020", periods=60)), Y), r"times in column 'what', of type period\[d\]"),
}

BAD_PARAMETERS = [
    *(
        ({"alpha": value}, rf"'alpha' parameter.*\(0.0, inf\).*Got {value!r}")
        for value in (0, -0.5, np.nan, "foo", None)
    ),
    ({"alpha": np.inf}, r"'alpha' parameter.*Got inf"),
    *(
        ({name: 0}, rf"'{name}' parameter.*\[1, inf\).*Got 0")
        for name in ("n_neurons", "max_iter", "batch_size", "n_iter_no_change")
    ),
    ({"max_iter": 1.5}, "'max_iter' parameter.*Got 1.5"),
    ({"tol": -1e-4}, r"'tol' parameter.*\[0.0, inf\).*Got -0.0001"),
    ({"batch_size": "some"}, "'batch_size' parameter.*Got 'some'"),
    ({"extrapolation": "wild"}, "'extrapolation' parameter.*'clip'.*Got 'wild'"),
    ({"validation_fraction": 1.0}, r"'validation_fraction' parameter.*\(0.0, 1.0\).*Got 1.0"),
    ({"early_stopping": "yes"}, "'early_stopping' parameter.*Got 'yes'"),
    ({"warm_start": "yes"}, "'warm_start' parameter.*Got 'yes'"),
    ({"random_state": "today"}, "'random_state' parameter.*Got 'today'"),
    *(({"max_time": value}, r"'max_time' parameter.*\(0.0, inf\).*Got") for value in (0, -1.0, np.nan, "long")),
    ({"on_interrupt": "stop"}, "'on_interrupt' parameter.*'keep'.*Got 'stop'"),
    ({"verbose": -1}, "'verbose' parameter.*Got -1"),
    ({"device": "abacus"}, "device must be 'auto' or a torch device like 'cpu' or 'cuda:0', got 'abacus'"),
    ({"device": "gpu"}, "device must be 'auto' or .*got 'gpu'; say 'cuda' for a GPU"),
    ({"device": None}, "device must be 'auto' or a torch device.*got 'None'"),
    ({"device": "meta"}, "device must be present on this machine, got 'meta'; available: cpu"),
    ({"device": "cuda:99"}, "device must be present on this machine, got 'cuda:99'; available: "),
]

BAD_OWN_PARAMETERS = [
    *(
        (ResNetNormRegressor, {"max_edges": value}, rf"'max_edges' parameter.*int in the range \[1, inf\).*Got {value}")
        for value in (0, -3, 2.5)
    ),
    *((ResNetNormRegressor, {name: 0}, rf"'{name}' parameter.*\[1, inf\).*Got 0") for name in ("n_blocks", "width")),
    (ResNetNormRegressor, {"weighting": "equal"}, "'weighting' parameter.*'sensitivity'.*Got 'equal'"),
    *(
        (DeepSplineRegressor, {"ranks": value}, rf"'ranks' parameter.*'tuple' or .*'list'.*Got {value}")
        for value in (3, None)
    ),
    *(
        (
            DeepSplineRegressor,
            {"ranks": value},
            rf"ranks must be positive integers, .* like \(8,\) or \(4, 4\), got {re.escape(repr(value))}",
        )
        for value in ((0,), (2, -1), (2.0,), (True,), ("a",), [None])
    ),
    *(
        (DeepSplineRegressor, {"max_neurons": value}, rf"'max_neurons' parameter.*\[0, inf\).*Got {value}")
        for value in (-1, 2.5)
    ),
    (DeepSplineRegressor, {"penalty": "l2"}, "'penalty' parameter(?=.*'multitask')(?=.*'path_norm').*Got 'l2'"),
    (DeepSplineRegressor, {"skip": "yes"}, "'skip' parameter.*Got 'yes'"),
]

BUDGETS = {ResNetNormRegressor: {"max_edges": 5}, DeepSplineRegressor: {"max_neurons": 2}}
NO_ROOM = [
    (ResNetNormRegressor, {"width": 1}),
    (ResNetNormRegressor, {"n_blocks": 1}),
    (ResNetNormRegressor, {"n_neurons": 1}),
    (DeepSplineRegressor, {"ranks": (1,)}),
    (DeepSplineRegressor, {"ranks": ()}),
]


@pytest.fixture
def quick(regressor):
    return partial(quick_fit, regressor)


@pytest.fixture(scope="module")
def fitted(regressor):
    return pickle.dumps({method: getattr(quick_fit(regressor), method)(X, Y) for method in ("fit", "partial_fit")})


def assert_unfitted(model):
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    assert vars(model) == model.get_params()


def assert_refused(model, method, arguments, message, error=ValueError):
    """The call raises with the message, and the model is the same object in the same state as before."""
    before, numbers = vars(model).copy(), pickle.dumps(model)
    with pytest.raises(error, match=message):
        getattr(model, method)(*arguments)
    assert vars(model) == before
    assert pickle.dumps(model) == numbers


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused_and_changes_nothing(quick, fitted, method, name):
    arguments, message = BAD_DATA[name]
    unfitted = quick()
    assert_refused(unfitted, method, arguments, message)
    assert_unfitted(unfitted)
    for model in pickle.loads(fitted).values():
        assert_refused(model, method, arguments, message)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_columns_are_refused_by_name(quick, method, name):
    arguments, message = BAD_FRAMES[name]
    unfitted = quick()
    assert_refused(unfitted, method, arguments, message)
    assert_unfitted(unfitted)


def in_words(value):
    return getattr(value, "__name__", None) or re.sub(r"\W+", " ", str(value))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(("parameters", "message"), BAD_PARAMETERS, ids=in_words)
def test_bad_parameters_are_refused_and_change_nothing(quick, fitted, method, parameters, message):
    unfitted = quick(**parameters)
    assert_refused(unfitted, method, (X, Y), message)
    assert_unfitted(unfitted)
    for model in pickle.loads(fitted).values():
        assert_refused(model.set_params(**parameters), method, (X, Y), message)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(("regressor", "parameters", "message"), BAD_OWN_PARAMETERS, ids=in_words, scope="module")
def test_bad_parameters_of_one_regressor_are_refused_and_change_nothing(
    quick, fitted, method, regressor, parameters, message
):
    test_bad_parameters_are_refused_and_change_nothing(quick, fitted, method, parameters, message)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_is_refused_where_it_is_absent(quick, fitted):
    message = "device must be present on this machine, got 'cuda'; available: cpu"
    for device in ("cuda", torch.device("cuda")):
        unfitted = quick(device=device)
        assert_refused(unfitted, "fit", (X, Y), message)
        assert_unfitted(unfitted)
    for model in pickle.loads(fitted).values():
        assert_refused(model.set_params(device="cuda"), "fit", (X, Y), message)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_error_in_training_changes_nothing(quick, fitted, monkeypatch, method):
    def broken(*_):
        raise RuntimeError("out of memory, say")

    for network in ("residual.network.ResidualNetwork", "spline.network.SplineNetwork"):
        monkeypatch.setattr(f"sklearn_htmc._training.{network}.gradient", broken)
    unfitted = quick()
    assert_refused(unfitted, method, (X, Y), "out of memory, say", RuntimeError)
    assert_unfitted(unfitted)
    for model in pickle.loads(fitted).values():
        assert_refused(model, method, (X, Y), "out of memory, say", RuntimeError)


def test_using_an_unfitted_estimator_is_refused(quick):
    for use in (lambda m: m.predict(X), lambda m: m.score(X, Y)):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            use(quick())


def test_using_what_only_one_regressor_has_before_fit_is_refused():
    for use in (lambda: ResNetNormRegressor().circuit_size_bound(0.1), DeepSplineRegressor().to_spline):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            use()


def test_predicting_from_something_else_is_refused(regressor, fitted):
    for model in pickle.loads(fitted).values():
        assert_refused(model, "predict", (X[:, :3],), f"X has 3 features, but {regressor.__name__} is expecting 4")
        assert_refused(model, "predict", (np.hstack([X, X]),), "X has 8 features")
        assert_refused(model, "predict", (with_value(X, np.nan),), "Input X contains NaN")
        assert_refused(model, "predict", (with_value(X, np.inf),), "Input X contains infinity")
        assert_refused(model, "predict", (X[0],), "Reshape your data")
        assert_refused(model, "predict", (X[:0],), r"0 sample\(s\)")
        assert_refused(model, "predict", (np.full((60, 4), "one"),), "got the text 'one' in column 0; encode")
        assert_refused(model, "predict", (np.tile(DAYS.to_numpy()[:, None], 4),), "got times in column 0")


@pytest.mark.parametrize("regressor", [ResNetNormRegressor], ids=in_words, scope="module")
@pytest.mark.parametrize("epsilon", [0, -0.1, np.nan, "0.1", None])
def test_circuit_size_bound_refuses_an_epsilon_that_is_not_positive(fitted, regressor, epsilon):
    model = pickle.loads(fitted)["fit"]
    assert_refused(model, "circuit_size_bound", (epsilon,), rf"epsilon must be a positive number, .* got {epsilon!r}\.")


@pytest.mark.parametrize("regressor", [DeepSplineRegressor], ids=in_words, scope="module")
def test_to_spline_refuses_several_features(fitted, regressor):
    for model in pickle.loads(fitted).values():
        message = "to_spline needs a model of one feature, got 4; layers_ holds the functions of several features"
        assert_refused(model, "to_spline", (), message)


def test_partial_fit_refuses_another_problem(regressor, fitted):
    for model in pickle.loads(fitted).values():
        message = f"X has 3 features, but {regressor.__name__} is expecting 4"
        assert_refused(model, "partial_fit", (X[:, :3], Y), message)
        assert_refused(model, "partial_fit", (X, np.column_stack([Y, Y])), "y must have 1 outputs as before, got 2")


@pytest.mark.parametrize(("regressor", "sizes"), NO_ROOM, ids=in_words, scope="module")
def test_partial_fit_refuses_sizes_that_have_no_room_for_the_network(quick, regressor, sizes):
    model = quick(alpha=1e-4).partial_fit(X, Y).set_params(**sizes)
    assert_refused(
        model, "partial_fit", (X, Y), "partial_fit must have room for the fitted SparseNetwork.*keep the sizes"
    )


def test_partial_fit_refuses_rows_on_which_training_diverges(quick):
    model = quick().partial_fit(X, Y).partial_fit(X, Y)  # rows enough to know the units
    assert_refused(model, "partial_fit", (1e25 * X, Y), "partial_fit must see rows of a similar size")


def test_a_circuit_is_as_strict_about_columns():
    for what, message in (("Rome", "got the text 'Rome' in column 'what'"), (DAYS, "got times in column 'what'")):
        assert_refused(CircuitRegressor(max_gates=5), "fit", (frame_with(what), Y), message)


@pytest.mark.parametrize("make", [ResNetNormRegressor, ResNetNormRegressorCV])
def test_path_says_when_there_is_one(make):
    with pytest.raises(AttributeError, match=rf"{make.__name__} has no path_ before .*fit"):
        make().path_  # noqa: B018
    assert not hasattr(make(), "path_")
    with pytest.raises(AttributeError, match="a fit with max_edges, like max_edges=200"):
        ResNetNormRegressor(2, max_iter=1).path_  # noqa: B018


# What makes one look twice


def test_categories_that_are_numbers_warn_at_the_line_of_the_caller(quick):
    frame = frame_with(pd.Categorical([3, 1, 2] * 20))
    with pytest.warns(UserWarning, match="categories that are numbers in column 'what'.*OneHotEncoder") as caught:
        model = quick(tol=1e9).fit(frame, Y)
    assert [record.filename for record in caught] == [__file__]
    assert_array_equal(model.predict(frame), model.predict(frame.astype(float)))  # and no warning


def test_an_alpha_above_one_warns_that_nothing_is_left(recwarn):
    assert ResNetNormRegressor(1.0, max_iter=1, tol=1e9, random_state=0).fit(X, Y).n_edges_ == 0
    assert not len(recwarn)
    with pytest.warns(UserWarning, match="alpha is 1.5, above 1: .* the mean of y.*Decrease alpha") as caught:
        model = ResNetNormRegressor(1.5, max_iter=1, tol=1e9, random_state=0).fit(X, Y)
    assert [record.filename for record in caught] == [__file__]
    assert_allclose(model.predict(X[:1]), Y.mean())


# What just works

LARGE_AND_SMALL = pytest.mark.parametrize("exponent", [-660, -2, 100, 660])


@LARGE_AND_SMALL
def test_the_unit_of_the_target_does_not_matter(quick, fitted, exponent):
    factor = 2.0**exponent
    predicted = quick().fit(X, factor * Y).predict(X)
    assert_array_equal(predicted, factor * pickle.loads(fitted)["fit"].predict(X))
    assert_allclose(predicted, factor * Y, rtol=0.3)


@LARGE_AND_SMALL
def test_the_unit_of_the_features_does_not_matter(quick, fitted, exponent):
    factors = 2.0 ** (exponent * np.array([1.0, 0.0, -1.0, 0.5]))
    model = quick().fit(factors * X, Y)
    assert_array_equal(model.predict(factors * X), pickle.loads(fitted)["fit"].predict(X))


@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("alpha", [0.003, "auto"])
def test_targets_of_size_1e_minus_30_and_1e30_are_fitted(quick, size, alpha):
    assert quick(alpha=alpha, max_iter=40).fit(X, size * Y).score(X, size * Y) > 0.9


@pytest.mark.parametrize("largest", [1e300, np.finfo(float).max])
def test_a_column_with_the_largest_numbers_does_no_harm(quick, largest):
    """As nan_to_num leaves them in place of infinity."""
    extreme = X.copy()
    extreme[3, 3] = largest
    model = quick().fit(extreme, Y)
    assert model.score(extreme, Y) > 0.8
    assert np.isfinite(model.predict(-extreme)).all()


def test_a_column_of_the_smallest_numbers_does_no_harm(quick):
    tiny = X * [1.0, 1.0, 1.0, 1e-310]
    model = quick().fit(tiny, Y)
    assert model.score(tiny, Y) > 0.8
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("base", [2020.0, 1e6, 1.6e9])
def test_a_year_is_used_to_the_unit(rng, quick, base):
    year = base + rng.integers(-1, 2, 60)
    Z = np.column_stack([X, year])
    y = 5.0 * np.abs(year - base) + X[:, 0]
    model = quick(max_iter=60).fit(Z, y)
    assert model.score(Z, y) > 0.95
    assert np.argmax(model.feature_importances_) == 4


@pytest.mark.parametrize("alpha", [0.003, "auto"])
@pytest.mark.parametrize("value", [0.0, 0.1, -7e30, 1e-300])
def test_constant_target_is_predicted_exactly(quick, value, alpha):
    model = quick(alpha=alpha).fit(X, np.full(60, value))
    assert_array_equal(model.predict(10 * X), np.full(60, value))
    assert model.n_edges_ == 0
    assert model.n_neurons_ == 0
    assert_array_equal(model.feature_importances_, np.zeros(4))


@pytest.mark.parametrize("alpha", [0.003, "auto"])
def test_constant_features_leave_the_mean(quick, alpha):
    model = quick(alpha=alpha).fit(np.full((60, 2), 0.1), Y)
    assert_allclose(model.predict(np.array([[0.1, 0.1], [5.0, -3.0]])), Y.mean(), rtol=1e-12)
    assert model.n_edges_ == 0


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -1e300])
def test_a_constant_column_is_not_used(quick, value):
    Z = np.column_stack([X, np.full(60, value)])
    model = quick().fit(Z, Y)
    assert model.feature_importances_[4] == 0
    assert model.score(Z, Y) > 0.8
    Z[:, 4] += 1.0
    assert model.score(Z, Y) > 0.8


def test_duplicated_columns_share_the_work(quick):
    Z = np.hstack([X, X, X[:, :1]])
    model = quick().fit(Z, Y)
    assert model.score(Z, Y) > 0.8
    assert model.feature_importances_[[3, 7]].sum() < 0.2


@pytest.mark.parametrize("parameters", [{}, {"alpha": "auto"}, {"early_stopping": True}, "budget"], ids=in_words)
@pytest.mark.parametrize("n_rows", [1, 2, 3, 7])
def test_a_few_rows_are_enough(quick, regressor, parameters, n_rows):
    model = quick(**BUDGETS[regressor] if parameters == "budget" else parameters).fit(X[:n_rows], Y[:n_rows])
    predicted = model.predict(X)
    low, high = Y[:n_rows].min(), Y[:n_rows].max()
    assert np.isfinite(predicted).all()
    assert (predicted[:n_rows] >= low - 1e-6 - 0.5 * (high - low)).all()
    assert (predicted[:n_rows] <= high + 1e-6 + 0.5 * (high - low)).all()


def test_one_row_gives_its_target(quick):
    assert_array_equal(quick().fit(X[:1], Y[:1]).predict(X), np.full(60, Y[0]))


def test_rows_with_equal_features_get_their_weighted_mean(quick):
    model = quick(alpha="auto", early_stopping=True).fit(np.ones((4, 2)), [1.0, 2.0, 2.0, 7.0], [1, 1, 1, 2])
    assert_allclose(model.predict(np.ones((1, 2))), 19 / 5, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.01, "auto"])
def test_more_features_than_rows_are_fitted(rng, quick, alpha):
    Z = rng.normal(size=(20, 50))
    y = 2.0 * Z[:, 0]
    model = quick(alpha=alpha).fit(Z, y)
    assert model.score(Z, y) > 0.9
    assert np.argmax(model.feature_importances_) == 0


def test_read_only_and_memory_mapped_tables_are_fitted(tmp_path, quick):
    expected = quick().fit(X, Y).predict(X)
    joblib.dump((X, Y, np.ones(60)), tmp_path / "table.joblib")
    mapped = joblib.load(tmp_path / "table.joblib", mmap_mode="r")
    assert isinstance(mapped[0], np.memmap)
    assert_array_equal(quick().fit(*mapped).predict(mapped[0]), expected)
    locked = [np.asfortranarray(X), Y.copy(), np.ones(60)]
    for array in locked:
        array.flags.writeable = False
    assert_array_equal(quick().fit(*locked).predict(locked[0]), expected)


def test_fit_does_not_change_what_it_is_given(quick):
    table = [X.copy(), Y.copy(), np.linspace(0.0, 2.0, 60)]
    copies = [array.copy() for array in table]
    model = quick(extrapolation="clip").fit(*table)
    model.predict(table[0])
    for array, copy in zip(table, copies, strict=True):
        assert_array_equal(array, copy)


def test_boolean_features_and_targets_are_numbers(quick):
    Z = X > 0
    y = Z[:, 0] ^ Z[:, 1]
    model = quick(max_iter=60).fit(Z, y)
    assert_array_equal(model.predict(Z), quick(max_iter=60).fit(Z.astype(float), y.astype(float)).predict(Z))
    assert model.score(Z, y) > 0.9


@pytest.mark.parametrize("dtype", [">f8", "<f4", ">i4", np.uint8, np.float16, np.longdouble])
def test_numbers_of_every_kind_are_numbers(quick, dtype):
    Z = np.round(10 + 3 * X).astype(dtype)
    assert_array_equal(quick().fit(Z, Y).network_(Z), quick().fit(Z.astype(float), Y).network_(Z))


def test_weights_of_very_different_size_are_fitted(quick):
    weights = np.where(np.arange(60) < 50, 1e300, 1e-300)
    for alpha in (0.003, "auto"):
        model = quick(alpha=alpha).fit(X, Y, weights)
        assert_array_equal(model.predict(X), quick(alpha=alpha).fit(X[:50], Y[:50]).predict(X))


def test_partial_fit_survives_a_first_batch_that_shows_nothing(quick):
    """One row says nothing about the spread of anything."""
    for size in (1.0, 1e6, 1e200):
        model = quick(alpha=1e-4).partial_fit(size * (5 + X[:1]), Y[:1])
        for _ in range(40):
            model.partial_fit(size * (5 + X), Y)
        assert model.score(size * (5 + X), Y) > 0.3
