"""What a fitted regressor promises: certificate, objective along alpha, the norm, the constant."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from scipy.stats import spearmanr
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path

from sklearn_htmc import ResNetNormRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def friedman(n=200, seed=0):
    return make_friedman1(n, n_features=6, noise=0.5, random_state=seed)


@pytest.fixture(scope="module", params=["friedman", "diabetes"])
def path(request):
    """Data and one fit per alpha along logspace(-5, 0)."""
    X, y = friedman() if request.param == "friedman" else load_diabetes(return_X_y=True)
    alphas = np.logspace(-5, 0, 11)
    return X, y, alphas, [ResNetNormRegressor(a, max_iter=200, random_state=0).fit(X, y) for a in alphas]


def test_objective_is_never_above_that_of_the_best_embedded_lasso_solution(path):
    X, y, alphas, models = path
    Z, t = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    strengths, coefficients, _ = lasso_path(Z, t, alphas=np.geomspace(1.0, 1e-5, 60))
    loss = 0.5 * np.mean((t[:, None] - Z @ coefficients) ** 2, axis=0)  # (n_strengths,)
    one_coordinate_each = 2 * np.abs(coefficients).sum(axis=0)
    one_for_all = np.abs(coefficients).sum(axis=0) + (Z @ coefficients).std(axis=0)
    assert len(strengths) == 60
    for alpha, model in zip(alphas, models, strict=True):
        for norm in (one_coordinate_each, one_for_all):
            assert model.objective_ <= (loss + alpha * norm).min() + 1e-9


def test_norm_falls_along_alpha(path):
    _, _, alphas, models = path
    assert spearmanr(alphas, [m.resnet_norm_ for m in models]).statistic <= -0.95


def test_alpha_of_one_gives_the_constant(path):
    _, y, _, models = path
    assert models[-1].n_edges_ == 0
    assert models[-1].network_(np.zeros((1, models[-1].n_features_in_)))[0, 0] == pytest.approx(y.mean())


@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_objective_norm_and_stationarity_are_those_of_the_network(alpha, n_outputs):
    X, y = friedman(60)
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.1, 2.0, 60)
    y = np.column_stack([y, -3.0 * y * X[:, 0]])[:, :n_outputs]
    model = ResNetNormRegressor(alpha, width=6, n_neurons=8, max_iter=100, random_state=0)
    model.fit(X, y if n_outputs > 1 else y.ravel(), sample_weight=weights)
    arrays, Z, t, w = oracles.standardised_problem(model, X, y, weights)
    objective, stationarity = oracles.measure(arrays, Z, t, w, alpha)
    assert model.objective_ == pytest.approx(objective, rel=1e-9)
    assert model.stationarity_ == pytest.approx(stationarity, rel=1e-6, abs=1e-9)
    assert model.resnet_norm_ == pytest.approx(oracles.resnet_norm(arrays, Z, w), rel=1e-9)
    flow = (oracles.sensitivity(arrays, Z, w)["E"] * np.abs(arrays["E"])).sum(axis=0)
    assert model.feature_importances_ == pytest.approx(flow / flow.sum(), rel=1e-8)


def test_a_fit_that_did_not_converge_says_so():
    X, y = friedman(60)
    with pytest.warns(ConvergenceWarning, match=r"stationarity_ is .* after 5 iterations .* above tol=1.2: "):
        ResNetNormRegressor(0.003, max_iter=5, random_state=0).fit(X, y)


@pytest.mark.parametrize("alpha", [1.0, 0.1, 0.003])
def test_a_fit_with_passes_enough_is_silent(recwarn, alpha):
    X, y = friedman(60)
    ResNetNormRegressor(alpha, random_state=0).fit(X, y)
    assert not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]


def test_small_alpha_fits_what_a_linear_model_cannot():
    X, y = friedman(300)
    assert ResNetNormRegressor(1e-3, random_state=0).fit(X, y).score(*friedman(300, seed=1)) > 0.9


def test_size_bound_is_the_squared_ratio_of_norm_and_accuracy():
    X, y = friedman(100)
    model = ResNetNormRegressor(0.02, max_iter=60, random_state=0).fit(X, y)
    assert model.circuit_size_bound(1e-9) == model.n_edges_
    assert model.circuit_size_bound(model.resnet_norm_ / 1.5) == 3  # ceil of 2.25
