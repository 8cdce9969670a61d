"""Lowering is exact: linear models, perceptrons, networks, and pipelines and target transforms around regressors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LinearRegression,
    MultiTaskLasso,
    OrthogonalMatchingPursuit,
    PoissonRegressor,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    RidgeCV,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVR
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import ResNetNormRegressor
from sklearn_htmc._network import Block, SparseNetwork
from sklearn_htmc.circuit import TreeEnsemble, lower
from sklearn_htmc.circuit._lower.compose import Scaler, _float, _last_at_most, _ordinal

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]

GENERATOR = np.random.default_rng(5)
# Columns of different sizes and places, so that forgotten scales and shifts show.
X = GENERATOR.normal(size=(80, 4)) * [1.0, 30.0, 0.02, 5.0] + [0.0, 200.0, 3.0, -7.0]
Y = 3.0 + X @ [1.5, -0.02, 20.0, 0.3] + np.abs(X[:, 0])
YY = np.column_stack([Y, X[:, 3] ** 2, 10.0 - X[:, 1]])
ELSEWHERE = X + GENERATOR.normal(size=X.shape) * 3.0 * X.std(axis=0)


def short(**parameters):
    return ResNetNormRegressor(
        **{"alpha": 0.03, "n_blocks": 1, "width": 6, "n_neurons": 6, "max_iter": 3, "random_state": 0} | parameters
    )


def perceptron(**parameters):
    return MLPRegressor(**{"hidden_layer_sizes": (6, 5), "max_iter": 40, "random_state": 0} | parameters)


def assert_exact(model, rows=(X, ELSEWHERE)):
    form = lower(model)
    for table in rows:
        expected = model.predict(table)
        found = form(table)
        assert found.shape == (len(table), form.n_outputs)
        assert_allclose(found.reshape(expected.shape), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    return form


# --- linear ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        LinearRegression(fit_intercept=False),
        Ridge(alpha=0.3),
        RidgeCV(),
        Lasso(alpha=0.1),
        LassoCV(cv=2, alphas=3),
        ElasticNet(alpha=0.1),
        ElasticNetCV(cv=2, alphas=3),
        Lars(),
        LarsCV(cv=2),
        LassoLars(alpha=0.01),
        OrthogonalMatchingPursuit(n_nonzero_coefs=2),
        BayesianRidge(),
        ARDRegression(),
        HuberRegressor(max_iter=1000),
        LinearSVR(random_state=0),
        QuantileRegressor(alpha=0.01),
        SGDRegressor(learning_rate="constant", eta0=1e-7, random_state=0),
        TheilSenRegressor(random_state=0, max_subpopulation=100),
        RANSACRegressor(random_state=0),
        TweedieRegressor(power=0),
        TweedieRegressor(power=1.5, link="identity", max_iter=2),
    ],
    ids=str,
)
def test_a_linear_model_is_one_affine_block(model):
    form = assert_exact(model.fit(X, np.abs(Y)))
    assert (len(form.blocks), form.n_neurons, form.clip) == (1, 0, False)
    assert not np.isfinite(form.input_range).any()


@pytest.mark.parametrize("model", [LinearRegression(), Ridge(), MultiTaskLasso(alpha=0.1), Lars()], ids=str)
def test_a_linear_model_with_several_outputs_is_exact(model):
    assert assert_exact(model.fit(X, YY)).n_outputs == 3


def test_a_linear_model_with_several_outputs_and_no_intercept_is_exact():
    assert_exact(LinearRegression(fit_intercept=False).fit(X, YY))


def test_a_column_of_targets_is_one_output():
    assert assert_exact(LinearRegression().fit(X, Y[:, None])).n_outputs == 1


def test_sparse_coefficients_are_taken_as_they_are():
    model = SGDRegressor(penalty="l1", alpha=1.0, learning_rate="constant", eta0=1e-6, random_state=0).fit(X, Y)
    expected = model.predict(X)
    model.sparsify()
    assert sparse.issparse(model.coef_)
    assert_allclose(lower(model)(X)[:, 0], expected, rtol=1e-9)


def test_coefficients_that_are_zero_are_not_stored():
    model = Lasso(alpha=1.0).fit(X, Y)
    assert 0 < lower(model).blocks[0].matrix.nnz == np.count_nonzero(model.coef_) < 4


@pytest.mark.parametrize("model", [PoissonRegressor(max_iter=2), GammaRegressor(max_iter=2)], ids=str)
def test_a_log_link_is_refused(model):
    model.fit(X / X.std(axis=0), np.abs(Y) + 1.0)
    with pytest.raises(TypeError, match=r"link must be the identity, and a .* predicts the exponential.* use"):
        lower(model)


def test_the_log_link_of_a_tweedie_regressor_is_refused():
    model = TweedieRegressor(power=1.5, max_iter=2).fit(X / X.std(axis=0), np.abs(Y))
    with pytest.raises(TypeError, match="link must be the identity, and a TweedieRegressor"):
        lower(model)


def test_a_classifier_is_refused():
    with pytest.raises(TypeError, match="made of regressors, got the classifier RidgeClassifier"):
        lower(RidgeClassifier().fit(X, Y.mean() < Y))


@pytest.mark.parametrize("targets", [Y, YY], ids=["one output", "three outputs"])
@pytest.mark.parametrize(
    "model", [DummyRegressor(), DummyRegressor(strategy="median"), DummyRegressor(strategy="quantile", quantile=0.9)]
)
def test_a_dummy_is_a_constant(model, targets):
    form = assert_exact(model.fit(X, targets))
    assert form.blocks[0].matrix.nnz == 0
    assert form.n_features == 4


def test_a_given_constant_is_that_constant():
    assert_array_equal(lower(DummyRegressor(strategy="constant", constant=2.5).fit(X, Y))(X), np.full((80, 1), 2.5))


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [Y, YY], ids=["one output", "three outputs"])
@pytest.mark.parametrize("parameters", [{}, {"extrapolation": "linear"}, {"n_blocks": 2, "alpha": 0.01}], ids=str)
def test_our_networks_are_themselves(parameters, targets):
    model = short(**parameters).fit(X, targets)
    form = assert_exact(model)
    assert form.center is None  # it is in the first block, where circuits look for it
    assert all(ours is theirs for ours, theirs in zip(form.blocks[1:], model.network_.blocks[1:], strict=True))
    assert lower(form) is form
    assert_array_equal(lower(model.network_)(X), form(X))


def test_any_object_with_a_network_is_that_network():
    class Foreign:
        network_ = short().fit(X, Y).network_

    assert_array_equal(lower(Foreign())(X), lower(Foreign.network_)(X))


@pytest.mark.parametrize("targets", [Y, YY], ids=["one output", "three outputs"])
@pytest.mark.parametrize("sizes", [(6,), (6, 5), (4, 3, 5)])
def test_a_perceptron_has_a_block_per_hidden_layer(sizes, targets):
    form = assert_exact(make_pipeline(StandardScaler(), perceptron(hidden_layer_sizes=sizes)).fit(X, targets))
    assert [block.n_neurons for block in form.blocks] == [*sizes, 0]


def test_a_perceptron_with_identities_is_affine():
    form = assert_exact(perceptron(activation="identity").fit(X, YY))
    assert (len(form.blocks), form.n_neurons) == (1, 0)


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_another_activation_is_refused(activation):
    with pytest.raises(TypeError, match=f"must be 'relu' or 'identity', got '{activation}'"):
        lower(perceptron(activation=activation, max_iter=1).fit(X, Y))


def test_a_perceptron_with_an_exponential_output_is_refused():
    try:
        model = perceptron(loss="poisson", max_iter=1).fit(X / X.std(axis=0), np.abs(Y))
    except TypeError:
        pytest.skip("this scikit-learn has no such loss")
    with pytest.raises(TypeError, match=r"output of an MLPRegressor must be linear.*fit with loss='squared_error'"):
        lower(model)


# --- pipelines ------------------------------------------------------------------------------------

SCALERS = [
    [StandardScaler()],
    [StandardScaler(with_mean=False)],
    [StandardScaler(with_std=False)],
    [MinMaxScaler((-3.0, 5.0))],
    [MaxAbsScaler()],
    [RobustScaler()],
    [RobustScaler(with_centering=False, unit_variance=True)],
    [RobustScaler(with_scaling=False)],
    [FunctionTransformer(), "passthrough", None],
    [MinMaxScaler(), StandardScaler(), RobustScaler()],
    [make_pipeline(MaxAbsScaler(), StandardScaler()), MinMaxScaler()],
]

REGRESSORS = [
    Ridge(alpha=0.1),
    perceptron(),
    short(),
    short(extrapolation="linear"),
    DecisionTreeRegressor(random_state=0),
    ExtraTreesRegressor(3, random_state=0),
    HistGradientBoostingRegressor(max_iter=4, min_samples_leaf=3),
]


@pytest.mark.parametrize("scalers", SCALERS, ids=str)
@pytest.mark.parametrize("regressor", [Ridge(), short(), DecisionTreeRegressor(random_state=0)], ids=str)
def test_every_affine_scaler_is_exact(scalers, regressor):
    assert_exact(make_pipeline(*scalers, regressor).fit(X, Y))


@pytest.mark.parametrize("regressor", REGRESSORS, ids=str)
def test_every_form_goes_between_scalers(regressor):
    inner = make_pipeline(RobustScaler(), MinMaxScaler((-1.0, 2.0)), regressor)
    assert_exact(TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(X, Y))


@pytest.mark.parametrize(
    "transformer",
    [None, StandardScaler(), MinMaxScaler((1.0, 4.0)), make_pipeline(MaxAbsScaler(), StandardScaler())],
    ids=str,
)
@pytest.mark.parametrize("regressor", [Ridge(), short(), DecisionTreeRegressor(random_state=0)], ids=str)
def test_every_affine_target_transform_is_exact_for_several_outputs(transformer, regressor):
    assert assert_exact(TransformedTargetRegressor(regressor, transformer=transformer).fit(X, YY)).n_outputs == 3


def test_a_transformed_target_inside_a_pipeline_is_exact():
    model = TransformedTargetRegressor(perceptron(), transformer=StandardScaler())
    assert_exact(make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(), model)).fit(X, Y))


def test_a_scaler_does_not_hide_the_range_that_a_network_clips_at():
    form = lower(make_pipeline(StandardScaler(), MinMaxScaler((-4.0, 9.0)), short()).fit(X, Y))
    assert form.clip
    assert_allclose(form.input_range, [X.min(axis=0), X.max(axis=0)], rtol=1e-12)


def test_an_unknown_range_stays_unknown():
    form = lower(make_pipeline(StandardScaler(), Ridge()).fit(X, Y))
    assert_array_equal(form.input_range, [[-np.inf] * 4, [np.inf] * 4])


def test_a_network_that_starts_with_neurons_goes_behind_a_scaler():
    rng = np.random.default_rng(1)
    block = Block(
        sparse.csr_array(rng.normal(size=(5, 4))),
        rng.normal(size=5),
        sparse.csr_array(rng.normal(size=(4, 5))),
        None,
        rng.normal(size=4),
    )
    network = SparseNetwork((block,), np.array([[-1.0] * 4, [1.5] * 4]), clip=True)

    class Foreign(DummyRegressor):
        def predict(self, X):
            return network(X)

    lower.register(Foreign, lambda _: network)
    pipeline = make_pipeline(StandardScaler(), Foreign())
    assert_exact(TransformedTargetRegressor(pipeline, transformer=MinMaxScaler((2.0, 3.0))).fit(X, YY @ np.eye(3, 4)))


@pytest.mark.parametrize("scalers", SCALERS, ids=str)
def test_trees_behind_scalers_decide_alike_at_their_thresholds(scalers):
    """Rows on the thresholds and on the next numbers: no tolerance hides a decision that differs."""
    model = make_pipeline(*scalers, DecisionTreeRegressor(random_state=0)).fit(X, Y)
    form = lower(model)
    tree = form.trees[0]
    split = tree.feature >= 0
    rows = np.repeat(X[:1], 3 * split.sum(), axis=0)
    for k, towards in enumerate([None, -np.inf, np.inf]):
        part = np.arange(split.sum()) * 3 + k
        at = tree.threshold[split]
        rows[part, tree.feature[split]] = at if towards is None else np.nextafter(at, towards)
    assert split.sum() > 20
    assert_array_equal(form(rows)[:, 0], model.predict(rows))


def test_the_threshold_of_a_rising_function_is_the_last_number_at_most_the_limit():
    rng = np.random.default_rng(3)
    scaler = Scaler.of(center=0.1, divisor=0.3, factor=7.1, shift=-2.7)
    limits = rng.normal(size=200) * 10.0 ** rng.integers(-9, 9, 200)
    found = _last_at_most(scaler.forward, limits)
    assert np.all(scaler.forward(found) <= limits)
    assert np.all(scaler.forward(np.nextafter(found, np.inf)) > limits)
    assert_array_equal(_last_at_most(scaler.forward, np.array([np.inf])), [np.inf])


def test_ordinals_are_in_the_order_of_the_numbers():
    numbers = np.array([-np.inf, -1e308, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1e308, np.inf])
    ordinals = _ordinal(numbers)
    assert np.all(np.diff(ordinals) > 0)
    assert_array_equal(_float(ordinals), numbers)
    assert ordinals[5] - ordinals[4] == 1


@pytest.mark.parametrize("kind", [GridSearchCV, RandomizedSearchCV])
def test_a_search_is_its_best_estimator(kind):
    spare = {"n_iter": 2} if kind is RandomizedSearchCV else {}
    search = kind(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 10.0]}, cv=2, **spare)
    assert_exact(search.fit(X, Y))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [PolynomialFeatures(), SelectKBest(f_regression, k=2), FunctionTransformer(np.cbrt), MinMaxScaler(clip=True)],
    ids=lambda step: type(step).__name__,
)
def test_a_step_that_is_not_an_affine_scaler_is_named(step):
    model = make_pipeline(StandardScaler(), step, Ridge()).fit(X, Y)
    with pytest.raises(TypeError, match=f"step '{type(step).__name__.lower()}': .*got {type(step).__name__}"):
        lower(model)


def test_a_step_inside_an_inner_pipeline_is_named():
    inner = make_pipeline(StandardScaler(), PolynomialFeatures())
    with pytest.raises(TypeError, match="step 'pipeline': step 'polynomialfeatures': "):
        lower(make_pipeline(inner, Ridge()).fit(X, Y))


def test_a_target_transform_that_is_not_affine_is_refused():
    model = TransformedTargetRegressor(Ridge(), func=np.cbrt, inverse_func=lambda y: y**3).fit(X, Y)
    with pytest.raises(TypeError, match=r"transformer of the target: .* must be the identity"):
        lower(model)


def test_a_pipeline_of_scalers_alone_is_refused():
    with pytest.raises(TypeError, match="last step of a pipeline must be a regressor, got 'passthrough'"):
        lower(make_pipeline(StandardScaler(), "passthrough").fit(X))


def test_an_unknown_type_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(TypeError, match=r"no circuit .* KNeighborsRegressor\. Supported are .*MLPRegressor.*Register"):
        lower(KNeighborsRegressor().fit(X, Y))


def test_an_unknown_last_step_is_refused():
    with pytest.raises(TypeError, match="KNeighborsRegressor"):
        lower(make_pipeline(StandardScaler(), KNeighborsRegressor()).fit(X, Y))


@pytest.mark.parametrize(
    "model",
    [
        Ridge(),
        RANSACRegressor(),
        SGDRegressor(),
        PoissonRegressor(),
        MLPRegressor(),
        DummyRegressor(),
        DecisionTreeRegressor(),
        ResNetNormRegressor(),
        GridSearchCV(Ridge(), {"alpha": [1.0]}),
        make_pipeline(StandardScaler(), Ridge()),
        make_pipeline(Ridge()),
        TransformedTargetRegressor(Ridge()),
    ],
    ids=str,
)
def test_an_unfitted_model_is_refused_as_not_fitted(model):
    with pytest.raises(NotFittedError):
        lower(model)


def test_an_unfitted_scaler_in_front_of_a_fitted_regressor_is_refused():
    with pytest.raises(NotFittedError):
        lower(make_pipeline(StandardScaler(), Ridge().fit(X, Y)))


def test_a_search_without_refit_is_refused_as_not_fitted():
    search = GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2, refit=False).fit(X, Y)
    with pytest.raises(NotFittedError, match="GridSearchCV has no best_estimator_; fit it with refit"):
        lower(search)


def test_lowering_a_model_fitted_to_a_data_frame_gives_no_warning():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = make_pipeline(StandardScaler(), DecisionTreeRegressor(random_state=0)).fit(frame, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        form = lower(model)
    assert isinstance(form, TreeEnsemble)
    assert_allclose(form(X)[:, 0], model.predict(frame), rtol=1e-9)


def test_short_fits_are_not_expected_to_converge():
    """The filter at the top of this module is about these."""
    with pytest.warns(ConvergenceWarning):
        short(tol=0.0).fit(X, Y)
