"""Understanding a fit: the network as text, executed; displays, whose artists are the numbers of the estimators."""

from __future__ import annotations

import pickle
import re
from copy import copy
from dataclasses import replace
from itertools import combinations

import matplotlib as mpl
import numpy as np
import oracles
import pandas as pd
import pytest
from estimators import quick_fit
from matplotlib import pyplot as plt
from matplotlib.colors import same_color, to_rgba
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.inspection import partial_dependence
from sklearn.linear_model import Lasso, LassoCV, LinearRegression
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import (
    CircuitRegressor,
    CircuitSizeScorer,
    DeepSplineRegressor,
    DeepSplineRegressorCV,
    ResNetNormRegressor,
    ResNetNormRegressorCV,
)
from sklearn_htmc._training.residual.network import as_network
from sklearn_htmc.circuit import Block, CircuitProfile, SparseNetwork, compile_circuit, lower, simulate
from sklearn_htmc.circuit._rules import Rules
from sklearn_htmc.inspection import (
    CircuitProfileDisplay,
    EffectDisplay,
    NetworkDisplay,
    ParetoDisplay,
    RegularizationPathDisplay,
    RulesDisplay,
    SizePathDisplay,
    _axes,
    network_text,
)

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)) * [1.0, 20.0, 0.1, 3.0] + [0.0, 50.0, 2.0, -1.0]
    y = 3.0 + np.abs(X[:, 0]) + np.maximum(X[:, 1] / 20.0 + 10.0 * X[:, 2] - 22.5, 0.0) + 0.05 * rng.normal(size=90)
    return X, y


@pytest.fixture(scope="module")
def sized(table):
    return quick_fit(ResNetNormRegressor, max_edges=25, width=8, n_neurons=6, tol=1.0).fit(*table)


@pytest.fixture(scope="module")
def grown(table):
    return CircuitRegressor(max_gates=60, augment=False).fit(*table)


@pytest.fixture(scope="module")
def searched(table):
    return ResNetNormRegressorCV(
        [0.1, 0.03, 0.01], cv=KFold(4), width=8, n_neurons=8, max_iter=20, tol=1.0, random_state=0
    ).fit(*table)


def executed(text, X, features, targets):
    """Run the text of a network as Python, names in backquotes replaced by others."""
    plain = {name: name if f"`{name}`" not in text else f"quoted{number}" for number, name in enumerate(features)}
    for name, other in plain.items():
        text = text.replace(f"`{name}`", other)
    space = {"relu": lambda z: np.maximum(z, 0.0), "clip": np.clip}
    space |= {plain[name]: column for name, column in zip(features, X.T.copy(), strict=True)}
    exec(text, space)
    return np.column_stack([np.broadcast_to(space[name], len(X)) for name in targets])


# --- text -----------------------------------------------------------------------------------------


def residual_network(rng, n_outputs=1, clip=False, neurons=(7, 5)):
    arrays = oracles.random_arrays(rng, n_outputs=n_outputs, neurons=neurons)
    arrays["E"][0] = arrays["e"][0] = arrays["U0"][1] = 0.0  # a coordinate that begins later, one that gets no more
    arrays["E"][2] = [0.0, 0.0, 1.0, 0.0]  # one that is a feature until it gets more
    arrays["e"][2] = 0.0
    return replace(as_network(arrays, np.array([[-1.0] * 4, [0.5] * 4])), clip=clip)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("clip", [True, False])
def test_the_text_of_a_residual_network_is_the_function(rng, n_outputs, clip):
    network, X = residual_network(rng, n_outputs, clip), rng.normal(size=(30, 4))
    targets = ["y"] if n_outputs == 1 else ["y0", "y1", "y2"]
    found = executed(network.to_text(precision=17), X, ["x0", "x1", "x2", "x3"], targets)
    assert_allclose(found, network(X), rtol=1e-12, atol=1e-12)


def test_the_text_of_general_blocks_is_the_function(rng):
    """Coordinates that are copies, of features, of neurons and of each other, and then get more."""
    dense = [
        Block(
            csr_array(rng.normal(size=(3, width_in))),
            rng.normal(size=3),
            csr_array(np.where(np.eye(4, 3) > 0, 1.0, 0.0)),
            csr_array(np.eye(4, width_in) * (np.arange(4)[:, None] > 2)),
            np.zeros(4),
        )
        for width_in in (4, 4)
    ]
    more = Block(csr_array(rng.normal(size=(2, 4))), np.zeros(2), csr_array(rng.normal(size=(4, 2))), None, np.ones(4))
    twice = Block.affine(csr_array(np.array([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])), np.zeros(3))
    grown = Block(
        csr_array(np.array([[1.0, -1.0, 0.5]])), np.zeros(1), csr_array([[1.0], [2.0], [0.0]]), None, np.zeros(3)
    )
    last = Block(
        csr_array([[0.0, 1.0, 1.0]]), np.ones(1), csr_array([[2.0]]), csr_array([[1.0, -1.0, 0.0]]), np.ones(1)
    )
    network = SparseNetwork((dense[0], more, dense[1], twice, grown, last), np.zeros((2, 4)), clip=False)
    X = rng.normal(size=(40, 4))
    assert_allclose(executed(network.to_text(precision=17), X, ["x0", "x1", "x2", "x3"], ["y"]), network(X), rtol=1e-9)


@pytest.mark.parametrize(
    "model",
    [
        quick_fit(ResNetNormRegressor, tol=9.0),
        quick_fit(DeepSplineRegressor, tol=9.0),
        make_pipeline(StandardScaler(), LinearRegression()),
        make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(5, 3), max_iter=5000, tol=1e-3, random_state=0)
        ),
        GridSearchCV(Lasso(), {"alpha": [0.1, 0.01]}),
    ],
    ids=["resnet", "spline", "linear", "perceptron", "search"],
)
def test_the_text_of_a_model_says_what_it_predicts(table, model):
    X, y = table
    names = ["age", "income (k)", "lambda", "z1"]  # a name in Python, one that is none, a keyword, one of ours
    model = clone(model).fit(pd.DataFrame(X, columns=names), y)
    text = network_text(model, target_names=["price"], precision=17)
    outside = np.vstack([X, 3.0 * X, X - 100.0])
    expected = model.predict(pd.DataFrame(outside, columns=names))
    assert_allclose(executed(text, outside, names, ["price"])[:, 0], expected, rtol=1e-9, atol=1e-9)
    rough = network_text(model, target_names=["price"])
    assert (
        np.sqrt(mean_squared_error(executed(rough, outside, names, ["price"])[:, 0], expected)) < 0.02 * expected.std()
    )
    assert len(rough) < len(text)


def test_the_text_has_a_term_for_every_edge(sized):
    network = sized.network_
    entries = [
        count for b in network.blocks for count in (b.inner.nnz, b.outer.nnz, 0 if b.skip is None else b.skip.nnz)
    ]
    constants = sum(np.count_nonzero(b.bias) + np.count_nonzero(b.offset) for b in network.blocks)
    sums = "\n".join(line for line in str(network).splitlines() if "clip" not in line)
    assert len(re.findall(r"[xzu]\d+", re.sub(r"(?m)^.*?=", "", sums))) == sum(entries)
    assert (
        len(re.findall(r"[\d.e+-]+(?![\d.e+*-])", re.sub(r"(?m)^.*?=|[xzu]\d+", "", sums).replace(" ", "")))
        >= constants
    )
    assert len(re.findall(r"relu", sums)) == network.n_neurons


def test_str_is_the_text_and_repr_stays_short(sized):
    assert str(sized.network_) == sized.network_.to_text()
    assert "\n" not in repr(sized.network_)
    assert len(repr(sized.network_)) < 120


def test_a_network_without_anything_is_a_constant():
    nothing = SparseNetwork((Block.affine(csr_array((2, 3)), np.array([0.0, -2.5])),), np.zeros((2, 3)), clip=True)
    assert str(nothing) == "y0 = 0\ny1 = -2.5"


def test_signs_units_and_constants_are_written_as_people_do():
    matrix = csr_array(np.array([[-1.0, 1.0, 0.0, 1e-7], [0.0, 0.0, 0.0, 0.0], [0.0, 123456.0, -2.0, 0.0]]))
    network = SparseNetwork((Block.affine(matrix, np.array([-3.0, 0.5, 0.0])),), np.zeros((2, 4)), clip=False)
    assert str(network) == "y0 = -x0 + x1 + 1e-07*x3 - 3\ny1 = 0.5\ny2 = 1.235e+05*x1 - 2*x2"


@pytest.mark.parametrize(("unit", "expected"), [(1.0, "y = 2*x0 + x1"), (1e-18, "y = 2*x0 + x1 + 1e-15")])
def test_a_constant_that_is_rounding_is_left_out(unit, expected):
    block = Block.affine(csr_array([[2.0, 1.0]]), np.array([1e-15]))
    assert str(SparseNetwork((block,), unit * np.array([[-1.0, -2.0], [3.0, 2.0]]), clip=False)) == expected
    assert str(SparseNetwork((block,), np.full((2, 2), np.inf), clip=False)) == "y = 2*x0 + x1 + 1e-15"


def test_names_do_not_collide(rng):
    network, X = residual_network(rng, n_outputs=2), rng.normal(size=(10, 4))
    names = ["u1", "z2", "y0", "relu"]
    text = network.to_text(names, precision=17)
    assert_allclose(executed(text, X, names, ["y_0", "y_1"]), network(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature_names": ["a", "b"]}, "feature_names must be 4 different names"),
        ({"feature_names": ["a", "b", "c", "a"]}, "feature_names must be 4 different names"),
        ({"target_names": ["a", "b"]}, "target_names must be 1 different names"),
        ({"target_names": ["x2"]}, "target_names must differ from those of the features, got 'x2'"),
        ({"precision": 0}, "precision must be an integer from 1 to 17, got 0"),
        ({"precision": 18}, "precision must be"),
        ({"precision": True}, "precision must be"),
    ],
)
def test_wrong_names_and_digits_are_refused(rng, arguments, message):
    with pytest.raises(ValueError, match=message):
        residual_network(rng).to_text(**arguments)


def test_what_is_no_network_has_no_text(table):
    with pytest.raises(TypeError, match=r"must be a network, got a DecisionTreeRegressor; .*export_text"):
        network_text(DecisionTreeRegressor(max_depth=1).fit(*table))


# --- at_size --------------------------------------------------------------------------------------


def test_at_size_is_a_fit_with_the_network_of_that_size(table, sized):
    X, y = table
    before = dict(vars(sized))
    for n in sized.path_.n_edges[1:].tolist():
        small = sized.at_size(n)
        assert isinstance(small, ResNetNormRegressor)
        assert small.network_ is sized.path_.within(n)
        assert small.n_edges_ == n
        assert small.n_neurons_ == small.network_.n_neurons
        assert small.max_edges == n
        assert_array_equal(small.predict(X), small.network_(X)[:, 0])
        arrays, Z, _, weights = oracles.standardised_problem(small, X, y)
        assert small.resnet_norm_ == pytest.approx(oracles.resnet_norm(arrays, Z, weights), rel=1e-6)
        loss = 0.5 * (1.0 - small.score(X, y))
        assert small.objective_ == pytest.approx(loss + small.alpha_ * small.resnet_norm_, rel=1e-6)
        share = (oracles.sensitivity(arrays, Z, weights)["E"] * np.abs(arrays["E"])).sum(axis=0)
        assert_allclose(small.feature_importances_, share / share.sum(), rtol=1e-6, atol=1e-9)
    assert vars(sized).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(sized).items())


def test_at_size_certifies_the_network(table, sized):
    X, y = table
    small = sized.at_size(12)
    arrays, Z, t, weights = oracles.standardised_problem(small, X, y)
    objective, stationarity = oracles.measure(arrays, Z, t, weights, small.alpha_)
    assert small.objective_ == pytest.approx(objective, rel=1e-6)
    assert small.stationarity_ == pytest.approx(stationarity, rel=1e-4, abs=1e-6)


def test_at_size_goes_on_like_any_fit(table, sized):
    X, y = table
    small = sized.at_size(15)
    again = pickle.loads(pickle.dumps(small))
    assert_array_equal(again.predict(X), small.predict(X))
    assert small.at_size(25).n_edges_ == sized.at_size(25).n_edges_
    more = small.partial_fit(X, y)
    assert more is small
    assert sized.n_edges_ != small.n_edges_ or sized.network_ is not small.network_
    assert clone(sized.at_size(15)).get_params() == sized.get_params() | {"max_edges": 15}


def test_at_size_of_a_search_is_no_search_any_more(sized, searched):
    model = copy(searched)
    model.max_edges, model.path_ = 25, replace(searched.path_, sizes=(None, sized.path_, sized.path_))
    assert searched.best_index_ > 0
    small = model.at_size(8)
    assert 0 < small.n_edges_ <= 8
    assert small.path_ is sized.path_
    assert small.network_ is sized.path_.within(8)
    assert small.alpha_ == searched.alpha_
    assert not {"alphas_", "best_index_", "mse_path_", "n_edges_path_", "fold_weights_"} & set(vars(small))
    assert small.at_size(20).n_edges_ > small.n_edges_
    assert model.path_.strengths.size == 3


def test_at_size_says_what_is_missing(table, sized, searched):
    plain = quick_fit(ResNetNormRegressor, tol=9.0).fit(*table)
    for model in (plain, searched):
        with pytest.raises(ValueError, match=r"at_size needs path_, .* fit with max_edges=7 or larger"):
            model.at_size(7)
    with pytest.raises(ValueError, match=r"max_edges must be at least 0, .* got -1"):
        sized.at_size(-1)


# --- the path over alpha --------------------------------------------------------------------------


def test_regularization_path_draws_the_errors_that_the_choice_saw(searched):
    display = RegularizationPathDisplay.from_estimator(searched)
    shares = np.array([23, 23, 22, 22]) / 90  # rows in the folds
    assert_allclose(searched.fold_weights_, shares)
    assert_allclose(display.line_.get_xydata(), np.column_stack([searched.alphas_, searched.mse_path_ @ shares]))
    assert np.argmin(display.line_.get_ydata()) == searched.best_index_
    assert display.chosen_.get_xdata() == [searched.alpha_]
    error = searched.mse_path_.std(axis=1, ddof=1) / 2.0
    edge = np.unique(display.band_.get_paths()[0].vertices[:, 1])
    assert_allclose(edge, np.unique([searched.mse_path_ @ shares - error, searched.mse_path_ @ shares + error]))
    assert_array_equal(display.size_line_.get_ydata(), searched.path_.n_edges)
    assert display.size_line_.get_ydata()[searched.best_index_] == searched.n_edges_


def test_regularization_path_of_a_regressor_that_chose_alpha(table):
    model = quick_fit(ResNetNormRegressor, alpha="auto", max_edges=12).fit(*table)
    display = RegularizationPathDisplay.from_estimator(model)
    assert_array_equal(display.alphas, model.alphas_)
    assert_allclose(display.errors, model.mse_path_ @ model.fold_weights_)
    assert_allclose(display.sizes, model.n_edges_path_ @ model.fold_weights_)
    assert display.chosen_.get_xdata() == [model.alpha_]


def test_regularization_path_leaves_out_folds_without_weight(table):
    X, y = table
    weights = np.repeat([0.0, 1.0, 2.0], 30)
    model = DeepSplineRegressorCV([0.1, 0.01], ranks=(), cv=KFold(3), tol=1.0, random_state=0).fit(X, y, weights)
    display = RegularizationPathDisplay.from_estimator(model)
    assert_allclose(model.fold_weights_, [0.0, 1 / 3, 2 / 3])
    assert_allclose(display.errors, model.mse_path_[:, 1:] @ [1 / 3, 2 / 3])
    assert_allclose(display.standard_errors, np.abs(np.diff(model.mse_path_[:, 1:])[:, 0]) / 2)


def test_regularization_path_of_a_search_is_that_of_lasso_cv(table):
    X, y = table
    alphas = [1.0, 0.3, 0.1, 0.03]
    search = GridSearchCV(
        make_pipeline(Lasso()), {"lasso__alpha": alphas[::-1]}, scoring="neg_mean_squared_error", cv=KFold(5)
    ).fit(X, y)
    peer = LassoCV(alphas=alphas, cv=KFold(5)).fit(X, y)
    display = RegularizationPathDisplay.from_search(search)
    assert_array_equal(display.alphas, peer.alphas_)
    assert_allclose(display.errors, peer.mse_path_.mean(axis=1), rtol=1e-3)
    assert_allclose(display.standard_errors, peer.mse_path_.std(axis=1, ddof=1) / np.sqrt(5), rtol=1e-2)
    assert display.alphas[display.chosen] == peer.alpha_
    assert display.size_line_ is None


def test_regularization_path_of_a_search_with_sizes(table):
    scoring = {"r2": "r2", "size": CircuitSizeScorer(epsilon=0.5, target="prediction", effort=0)}
    search = GridSearchCV(Lasso(), {"alpha": [1.0, 0.1]}, scoring=scoring, refit=False, cv=2).fit(*table)
    display = RegularizationPathDisplay.from_search(search, score="r2", size="size")
    assert_allclose(display.errors, search.cv_results_["mean_test_r2"])
    assert_allclose(display.size_line_.get_ydata(), -search.cv_results_["mean_test_size"])
    assert display.ax_.get_ylabel() == "held-out r2"
    assert display.chosen_ is None


def test_regularization_path_on_other_rows(table, searched):
    X, y = table
    y = y + 0.1
    display = RegularizationPathDisplay.from_path(searched.path_, X, y, chosen=1)
    off = np.array([(network(X)[:, 0] - y) ** 2 for network in searched.path_.networks])
    assert_allclose(display.line_.get_ydata(), off.mean(axis=1))
    assert_allclose(display.standard_errors, off.std(axis=1) / np.sqrt(len(X)))
    twice = RegularizationPathDisplay.from_path(searched.path_, X, y, np.full(len(X), 2.0), ax=display.ax_)
    assert twice.ax_ is display.ax_
    assert_allclose(twice.errors, display.errors)


def test_regularization_path_refuses_what_is_no_path_over_alpha(table, sized):
    with pytest.raises(
        TypeError,
        match=r"must be a fitted ResNetNormRegressorCV .* got a ResNetNormRegressor without mse_path_; from_path",
    ):
        RegularizationPathDisplay.from_estimator(sized)
    search = GridSearchCV(Lasso(), {"alpha": [1.0, 0.1], "positive": [True, False]}, cv=2).fit(*table)
    with pytest.raises(ValueError, match="must differ in 'alpha' alone, got alpha, positive"):
        RegularizationPathDisplay.from_search(search)
    search = GridSearchCV(Lasso(), {"selection": ["cyclic", "random"]}, cv=2).fit(*table)
    with pytest.raises(ValueError, match="'selection' must be a number in all candidates"):
        RegularizationPathDisplay.from_search(search)
    search = GridSearchCV(Lasso(), {"alpha": [1.0, 0.1]}, cv=2).fit(*table)
    with pytest.raises(ValueError, match="must have a score named 'size', got score"):
        RegularizationPathDisplay.from_search(search, size="size")


# --- the path over sizes --------------------------------------------------------------------------


def test_size_path_is_the_error_of_at_size(table, sized):
    X, y = table
    display = SizePathDisplay.from_estimator(sized, X, y)
    on_fit, given = display.lines_
    assert_array_equal(on_fit.get_xdata(), sized.path_.n_edges)
    assert_allclose(on_fit.get_ydata(), given.get_ydata(), rtol=1e-6)
    scores = [sized.at_size(n).score(X, y) for n in sized.path_.n_edges]
    assert_allclose(given.get_ydata(), np.sqrt(1.0 - np.array(scores)), atol=1e-8)
    assert set(display.chosen_.get_xdata()) == {sized.n_edges_}


def test_size_path_with_held_out_rows_and_several_outputs(table):
    X, y = table
    Y = np.column_stack([y, 100.0 * X[:, 0]])
    model = quick_fit(ResNetNormRegressor, max_edges=12, width=4, n_neurons=3, early_stopping=True, tol=9.0).fit(X, Y)
    display = SizePathDisplay.from_estimator(model, X, Y)
    assert [line.get_label() for line in display.lines_] == [
        "rows of the fit",
        "rows held out by the fit",
        "given rows",
    ]
    r2 = r2_score(Y, model.at_size(12).predict(X))
    at = np.flatnonzero(model.path_.n_edges <= 12)[-1]
    assert display.lines_[2].get_ydata()[at] == pytest.approx(np.sqrt(1.0 - r2))


def test_size_path_of_a_circuit(table, grown):
    X, y = table
    display = SizePathDisplay.from_estimator(grown, X, y)
    assert_array_equal(display.sizes, grown.path_.n_gates)
    assert_allclose(display.lines_[0].get_ydata(), display.lines_[-1].get_ydata(), rtol=1e-4)  # numbers are rounded
    assert display.ax_.get_xlabel() == "gates"


def test_size_path_refuses_what_has_none(table, sized, searched):
    with pytest.raises(TypeError, match=r"must have a path_ of sizes, .* got a ResNetNormRegressorCV"):
        SizePathDisplay.from_estimator(searched)
    with pytest.raises(ValueError, match="X and y must be given both or not at all, got X alone"):
        SizePathDisplay.from_estimator(sized, table[0])


# --- circuits -------------------------------------------------------------------------------------


def test_profiles_share_an_axis_and_their_lines_have_slope_gamma(table):
    X, y = table
    display = CircuitProfileDisplay.from_estimator(
        LinearRegression().fit(X, y), X, [0.5, 0.25, 0.1], effort=0, name="line"
    )
    profile = display.profiles["line"]
    assert_array_equal(display.lines_[0].get_ydata(), profile.n_gates)
    slope = np.polyfit(*np.log(display.fits_[0].get_xydata()).T, 1)[0]
    assert slope == pytest.approx(-profile.gamma, abs=1e-9)
    other = CircuitProfile(np.array([0.5, 0.25, 0.125]), np.array([0, 8, 32]))
    both = CircuitProfileDisplay.from_profile(
        {"other": other, "none": replace(other, n_gates=0 * other.n_gates)}, ax=display.ax_
    )
    assert both.ax_ is display.ax_
    assert_array_equal(both.lines_[0].get_xydata(), [[0.25, 8], [0.125, 32]])
    assert both.lines_[1].get_xydata().size == 0
    assert both.fits_[1] is None
    assert len({line.get_marker() for line in (*display.lines_, *both.lines_)}) == 3
    assert display.ax_.get_xlim()[0] > display.ax_.get_xlim()[1]
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()][:2] == [
        f"line: gamma = {profile.gamma:.2f}",
        "other: gamma = 2.00",
    ]


def test_pareto_measures_circuits(table, grown):
    X, y = table
    tree, line = DecisionTreeRegressor(max_leaf_nodes=4).fit(X, y), LinearRegression().fit(X, y)
    models = {"tree": tree, "line": line, "grown": grown}
    display = ParetoDisplay.from_estimators(models, X, y, epsilon=0.3, effort=0)
    circuits = [compile_circuit(model, X, epsilon=0.3, y=y, effort=0) for model in (tree, line)] + [grown.circuit_]
    expected = [(c.n_gates, np.sqrt(1.0 - r2_score(y, simulate(c, X)))) for c in circuits]
    assert_allclose(display.points_.get_offsets(), expected)
    assert_allclose(
        ParetoDisplay.from_estimators({"tree": circuits[0]}, X, y).points_.get_offsets(), expected[:1]
    )  # a circuit is one already
    assert [text.get_text() for text in display.texts_] == list(models)


def test_pareto_measures_networks_and_what_else_one_likes(table, sized):
    X, y = table
    line = LinearRegression().fit(X, y)
    models = {"line": line, "net": sized, "small": sized.at_size(10)}
    display = ParetoDisplay.from_estimators(models, X, y, size="edges")
    assert_array_equal(display.sizes, [4, sized.n_edges_, models["small"].n_edges_])
    assert_allclose(display.errors, [np.sqrt(1.0 - model.score(X, y)) for model in models.values()])
    own = ParetoDisplay.from_estimators(models, X, y, size=lambda model: len(model.__dict__))
    assert_array_equal(own.sizes, [len(model.__dict__) for model in models.values()])


def test_the_front_is_what_nobody_beats(rng):
    for _ in range(20):
        sizes, errors = rng.integers(1, 8, size=(2, 12))
        display = ParetoDisplay(names=[str(k) for k in range(12)], sizes=sizes, errors=errors / 10.0)
        beaten = [
            any(
                (s <= sizes[k] and e <= errors[k]) and (s < sizes[k] or e < errors[k])
                for s, e in zip(sizes, errors, strict=True)
            )
            for k in range(12)
        ]
        assert_array_equal(display.on_front, ~np.array(beaten))


def test_names_of_neighbours_do_not_hide_each_other():
    names = ["a model with a long name", "another one", "a third model", "the fourth"]
    display = ParetoDisplay(
        names=names, sizes=np.array([10, 11, 11, 1000]), errors=np.array([0.5, 0.51, 0.49, 0.1])
    ).plot()
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in display.texts_]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(display.ax_.get_window_extent().fully_containsx(box.x0) for box in boxes)
    assert all(display.ax_.get_window_extent().fully_containsx(box.x1) for box in boxes)


def test_pareto_refuses_what_it_cannot_measure(table):
    tree = DecisionTreeRegressor(max_depth=1).fit(*table)
    with pytest.raises(ValueError, match="at least one fitted model, got none"):
        ParetoDisplay.from_estimators({}, *table)
    with pytest.raises(ValueError, match="size must be 'gates', 'edges' or a callable"):
        ParetoDisplay.from_estimators({"tree": tree}, *table, size="depth")
    with pytest.raises(TypeError, match="must be a network, got a DecisionTreeRegressor"):
        ParetoDisplay.from_estimators({"tree": tree}, *table, size="edges")


def test_rules_are_bars(grown):
    display = RulesDisplay.from_estimator(grown, n_rules=4, target_name="price")
    shown = grown.rules_[:4]
    assert [bar.get_width() for bar in display.bars_] == [rule.weight for rule in shown]
    for bar, rule in zip(display.bars_, shown, strict=True):
        assert same_color(bar.get_facecolor(), _axes.POSITIVE if rule.weight > 0 else _axes.NEGATIVE)
    heights = [bar.get_y() for bar in display.bars_]
    assert heights == sorted(heights)
    assert display.ax_.yaxis_inverted()
    assert f"({len(grown.rules_) - 4} more rules)" in display.ax_.get_xlabel()
    assert display.ax_.get_title().startswith(f"price = {grown.rules_.constants[0]:.4g} +")
    with pytest.raises(ValueError, match="target must be the number of an output, below 1, got 1"):
        RulesDisplay.from_estimator(grown, target=1)
    with pytest.raises(ValueError, match="n_rules must be positive, got 0"):
        RulesDisplay.from_estimator(grown, n_rules=0)


def test_rules_of_what_has_none(sized):
    with pytest.raises(TypeError, match="must be a CircuitRegressor, got a ResNetNormRegressor"):
        RulesDisplay.from_estimator(sized)
    display = RulesDisplay.from_rules(Rules((2.5,), ()))
    assert len(display.bars_) == 0
    assert display.ax_.get_title().startswith("y = 2.5")


# --- the network as a picture ---------------------------------------------------------------------


def test_the_diagram_has_a_line_for_every_term_of_the_text(table, sized):
    display = NetworkDisplay.from_estimator(sized, table[0], target_names=["price"])
    lines = [line for line in sized.network_.to_text(target_names=["price"]).splitlines() if "clip" not in line]
    terms = [name for line in lines for name in re.findall(r"[xzu]\d+", line.partition("=")[2])]
    units = display.unrolled.units
    assert [units[source].name for source, _, _ in display.unrolled.edges()] == terms
    assert len(display.edges_.get_segments()) == len(terms)
    assert len(display.states_.get_segments()) == sum("+=" in line for line in lines)
    signs = [weight > 0 for _, _, weight in display.unrolled.edges()]
    for color, positive in zip(display.edges_.get_colors(), signs, strict=True):
        assert same_color(color[:3], _axes.POSITIVE if positive else _axes.NEGATIVE)
    assert len(set(map(tuple, display.positions_))) == len(units)
    for (source, target, _), segment in zip(display.unrolled.edges(), display.edges_.get_segments(), strict=True):
        assert_allclose([segment[0], segment[-1]], display.positions_[[source, target]])
        assert display.positions_[source, 0] < display.positions_[target, 0]
    assert {text.get_text() for text in display.texts_} == {unit.name for unit in units}


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_widths_are_what_passes_through_the_edges(rng, n_outputs):
    """An edge that grows by a share h, its mean compensated, changes the outputs by h times what passes through it."""
    network, X = residual_network(rng, n_outputs, neurons=(4, 3)), rng.normal(size=(50, 4))
    display = NetworkDisplay.from_estimator(network, X)
    effects, _ = display.unrolled.effects(X)
    stream = network.blocks[0](X)
    block = network.blocks[1]
    units = display.unrolled.units
    into = {}  # of the first neuron, in the order of the coordinates that it reads
    for (_, target, weight), effect in zip(display.unrolled.edges(), effects, strict=True):
        if units[target].name == "u1":
            into[weight] = effect
    f, h = network(X), 1e-6
    row = block.inner.toarray()[0]
    for column in np.flatnonzero(row):
        if not stream[:, column].any():
            continue
        inner, bias = block.inner.toarray(), block.bias.copy()
        inner[0, column] *= 1.0 + h
        bias[0] -= h * row[column] * stream[:, column].mean()
        changed = replace(block, inner=csr_array(inner), bias=bias)
        g = replace(network, blocks=(network.blocks[0], changed, *network.blocks[2:]))(X)
        expected = np.sqrt((np.square((g - f) / h).mean(axis=0) / f.var(axis=0)).sum())
        assert into[row[column]] == pytest.approx(expected, rel=1e-3)
    widths = display.edges_.get_linewidths()
    assert_array_equal(np.argsort(widths, kind="stable"), np.argsort(effects, kind="stable"))


def test_the_diagram_knows_rows_of_its_own_where_the_range_is_known(table, sized):
    display = NetworkDisplay.from_estimator(sized)
    low, high = sized.network_.input_range
    assert_array_equal(np.clip(display.X, low, high), display.X)
    line = LinearRegression().fit(*table)
    with pytest.raises(ValueError, match="X must be given, got None: the model does not know the range"):
        NetworkDisplay.from_estimator(line)
    assert len(NetworkDisplay.from_estimator(line, table[0]).edges_.get_segments()) == 4


def test_large_networks_are_not_drawn(table):
    big = MLPRegressor(hidden_layer_sizes=(40,), max_iter=2000, tol=1e-2, random_state=0).fit(*table)
    with pytest.raises(ValueError, match=r"at most 150 edges .* got 200; .*max_edges.*at_size.*network_text"):
        NetworkDisplay.from_estimator(big, table[0])
    with pytest.raises(ValueError, match="X must have 4 features, as in fit, got 2"):
        NetworkDisplay.from_estimator(LinearRegression().fit(*table), table[0][:, :2])


# --- effects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", [0, 1])
def test_effects_are_exact(table, sized, feature):
    X, _ = table
    display = EffectDisplay.from_estimator(sized, X, feature, kind="both", n_curves=20)
    peer = partial_dependence(
        sized, X, [feature], custom_values={feature: display.grid}, method="brute", kind="average"
    )
    assert_allclose(display.line_.get_ydata(), peer["average"][0], rtol=1e-9)
    middles = 0.5 * (display.grid[1:] + display.grid[:-1])
    kinks = np.diff(display.grid) > 1e-6 * np.ptp(display.grid)
    for t in middles[kinks]:
        rows = X.copy()
        rows[:, feature] = t
        assert np.interp(t, display.grid, display.average) == pytest.approx(sized.predict(rows).mean(), rel=1e-9)
    assert display.grid[[0, -1]].tolist() == [X[:, feature].min(), X[:, feature].max()]
    assert len(display.lines_.get_segments()) == 20
    assert_array_equal(display.rows_.get_xdata(), X[:, feature])


@pytest.mark.parametrize("model", [quick_fit(DeepSplineRegressor, tol=9.0), LinearRegression()], ids=["spline", "line"])
def test_curves_of_single_rows_are_predictions(table, model):
    X, y = table
    names = list("abcd")
    frame = pd.DataFrame(X, columns=names)
    model = clone(model).fit(frame, y)
    display = EffectDisplay.from_estimator(model, frame, "b", kind="individual", n_curves=5)
    assert display.line_ is None
    for curve in display.individual:
        others = {name: X[:, number] for number, name in enumerate(names) if name != "b"}
        rows = [
            row
            for row in X
            if np.allclose(
                model.predict(pd.DataFrame([[row[0], t, row[2], row[3]] for t in display.grid], columns=names)), curve
            )
        ]
        assert len(rows) == 1
        assert all(rows[0][number] in others[name] for number, name in enumerate(names) if name != "b")


def test_kinks_at_the_ends_of_the_fit_are_seen(table, sized):
    """Features saturate there."""
    X = table[0]
    wide = X.copy()
    wide[:2, 0] = [-50.0, 50.0]
    display = EffectDisplay.from_estimator(sized, wide, 0)
    assert set(sized.network_.input_range[:, 0]) <= set(display.grid)
    assert display.average[0] == pytest.approx(
        np.interp(sized.network_.input_range[0, 0], display.grid, display.average)
    )


def test_a_neuron_is_what_the_prediction_loses_without_it(table, sized):
    X, _ = table
    network = sized.network_.uncentered()
    numbered = [(block, row) for block, part in enumerate(network.blocks) for row in range(part.n_neurons)]
    assert len({block for block, _ in numbered}) == 2  # some neurons read others
    for neuron, (block, row) in enumerate(numbered, start=1):
        display = EffectDisplay.from_neuron(sized, X, f"u{neuron}" if neuron % 2 else neuron)
        blocks = list(network.blocks)
        keep = np.ones(blocks[block].n_neurons)
        keep[row] = 0.0
        blocks[block] = replace(blocks[block], outer=csr_array(blocks[block].outer * keep))
        h = np.clip(X, *network.input_range)
        for part in network.blocks[:block]:
            h = part(h)
        inputs = h @ network.blocks[block].inner.toarray()[row] + network.blocks[block].bias[row]
        expected = network(X)[:, 0] - replace(network, blocks=tuple(blocks))(X)[:, 0]
        assert_allclose(display.rows_.get_xdata(), inputs, atol=1e-9)
        assert_allclose(display.rows_.get_ydata(), expected, atol=1e-9)
        if block == numbered[-1][0]:  # nobody reads it but the output
            assert_allclose(np.interp(inputs, display.grid, display.average), expected, atol=1e-9)


def test_the_label_of_a_neuron_says_what_it_reads(rng):
    network, X = residual_network(rng, neurons=(2, 2)), rng.normal(size=(20, 4))
    names = ["x0", "x1", "x2", "x3"]
    for neuron in (1, 4):  # the last one reads earlier neurons
        display = EffectDisplay.from_neuron(network, X, neuron)
        text = display.ax_.get_xlabel().replace("\n", " ").partition(": ")[2]
        found = executed(f"{network.to_text(precision=17)}\ns = {text}", X, names, ["s"])[:, 0]
        assert_allclose(found, display.rows, atol=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, X: EffectDisplay.from_estimator(m, X, "age"),
            "feature must be a number below 4 or one of the names x0, ",
        ),
        (lambda m, X: EffectDisplay.from_estimator(m, X, 4), "feature must be a number below 4"),
        (
            lambda m, X: EffectDisplay.from_estimator(m, X, 0, kind="all"),
            "kind must be one of 'average', 'individual', ",
        ),
        (
            lambda m, X: EffectDisplay.from_estimator(m, X, 0, target=1),
            "target must be the number of an output, below 1",
        ),
        (lambda m, X: EffectDisplay.from_estimator(m, X, 0, n_curves=0), "n_curves and n_rows must be positive"),
        (lambda m, X: EffectDisplay.from_estimator(m, X[:, :2], 0), "X must have 4 features, as in fit, got 2"),
        (lambda m, X: EffectDisplay.from_neuron(m, X, 0), "neuron must be one of the network, from u1 to u"),
        (lambda m, X: EffectDisplay.from_neuron(m, X, "u99"), "neuron must be one of the network, from u1 to u"),
    ],
)
def test_effects_of_what_is_not_there(table, sized, call, message):
    with pytest.raises(ValueError, match=message):
        call(sized, table[0])


# --- all of them ----------------------------------------------------------------------------------


def test_displays_draw_where_they_are_told_and_again(table, sized, searched, grown):
    X, y = table
    calls = [
        lambda ax: RegularizationPathDisplay.from_estimator(searched, ax=ax),
        lambda ax: SizePathDisplay.from_estimator(sized, ax=ax),
        lambda ax: CircuitProfileDisplay.from_profile(CircuitProfile(np.array([0.5, 0.1]), np.array([3, 9])), ax=ax),
        lambda ax: ParetoDisplay.from_estimators({"net": sized}, X, y, size="edges", ax=ax),
        lambda ax: NetworkDisplay.from_estimator(sized, X, ax=ax),
        lambda ax: EffectDisplay.from_estimator(sized, X, 0, ax=ax),
        lambda ax: EffectDisplay.from_neuron(sized, X, 1, ax=ax),
        lambda ax: RulesDisplay.from_estimator(grown, ax=ax),
    ]
    for call in calls:
        _, ax = plt.subplots()
        display = call(ax)
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
        assert display.plot() is display
        assert display.ax_ is not ax
        display.figure_.canvas.draw()  # without a warning
        plt.close("all")


def test_keywords_reach_the_artists(table, sized):
    display = EffectDisplay.from_estimator(sized, table[0], 0, line_kw={"color": "red", "linewidth": 5})
    assert to_rgba(display.line_.get_color()) == to_rgba("red")
    assert display.line_.get_linewidth() == 5


def test_without_matplotlib_there_is_a_remedy_before_the_work(monkeypatch):
    monkeypatch.setattr(_axes.importlib.util, "find_spec", lambda _: None)
    for call in (
        lambda: RegularizationPathDisplay.from_estimator(None),
        lambda: RegularizationPathDisplay.from_search(None),
        lambda: RegularizationPathDisplay.from_path(None, None, None),
        lambda: SizePathDisplay.from_estimator(None),
        lambda: CircuitProfileDisplay.from_estimator(None, None),
        lambda: CircuitProfileDisplay.from_profile({}),
        lambda: ParetoDisplay.from_estimators({}, None, None),
        lambda: NetworkDisplay.from_estimator(None),
        lambda: EffectDisplay.from_estimator(None, None, 0),
        lambda: EffectDisplay.from_neuron(None, None, 0),
        lambda: RulesDisplay.from_estimator(None),
    ):
        with pytest.raises(ImportError, match=r'needs matplotlib, .* pip install "sklearn-htmc\[plot\]"'):
            call()


def test_forms_are_public(sized):
    assert isinstance(lower(sized), SparseNetwork)
