"""The lasso of the second-order phase against scikit-learn and the conditions of its optimum."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import MultiTaskLasso

from sklearn_htmc._training.spline.lasso import lasso, shared_lasso

STRENGTHS = pytest.mark.parametrize("strength", [0.01, 0.003, 3e-4])


def hinges_and_walks(rng):
    """Return Gram matrix and correlations of hinges next to each other, which are nearly collinear, and three walks."""
    t = np.sort(rng.normal(size=120))
    A = np.maximum(t[:, None] - np.quantile(t, np.linspace(0.0, 1.0, 70)), 0.0)
    Y = rng.normal(size=(120, 3)).cumsum(axis=0)
    A, Y = A - A.mean(axis=0), (Y - Y.mean(axis=0)) / Y.std(axis=0)
    return A.T @ A / 120, A.T @ Y / 120


@pytest.fixture
def hinges(rng):
    return hinges_and_walks(rng)


def assert_optimal(gram, target, strength, X, n_single):
    """Every column has zero in the subdifferential of the objective, to 1e-5 of the strength."""
    slope = target - gram @ X
    there = np.abs(slope[:n_single] - strength * np.sign(X[:n_single]))
    off = np.where(X[:n_single] != 0, there, np.abs(slope[:n_single]) - strength)
    assert off.max(initial=0.0) <= 1e-5 * strength
    length = np.linalg.norm(X[n_single:], axis=1, keepdims=True)
    direction = X[n_single:] / np.where(length > 0, length, 1.0)
    off = np.linalg.norm(slope[n_single:] - strength * direction, axis=1) - strength * (length[:, 0] == 0)
    assert off.max(initial=0.0) <= 1e-5 * strength


@STRENGTHS
def test_lasso_is_optimal(hinges, strength):
    gram, target = hinges
    x = lasso(gram, target[:, 0], strength, np.zeros(70))
    assert 0 < np.count_nonzero(x) < 70
    assert_optimal(gram, target[:, :1], strength, x[:, None], 70)


@STRENGTHS
@pytest.mark.parametrize("n_single", [0, 2])
def test_shared_lasso_is_optimal(hinges, strength, n_single):
    gram, target = hinges
    X = shared_lasso(gram, target, strength, np.zeros_like(target), n_single)
    used = X[n_single:].any(axis=1)
    assert 0 < used.sum() < 70
    assert (X[n_single:][used] != 0).all()  # outputs share what they use
    assert_optimal(gram, target, strength, X, n_single)


@pytest.mark.parametrize(("seed", "n_single"), [(24, 2), (51, 0), (77, 0)])
def test_shared_lasso_is_optimal_where_objectives_no_longer_differ(seed, n_single):
    gram, target = hinges_and_walks(np.random.default_rng(seed))
    X = shared_lasso(gram, target, 3e-4, np.zeros_like(target), n_single)
    assert_optimal(gram, target, 3e-4, X, n_single)


@STRENGTHS
def test_shared_lasso_of_one_output_is_the_lasso(hinges, strength):
    gram, target = hinges
    shared = shared_lasso(gram, target[:, :1], strength, np.zeros((70, 1)), 5)
    assert_allclose(shared[:, 0], lasso(gram, target[:, 0], strength, np.zeros(70)), rtol=1e-4, atol=1e-6)


def test_shared_lasso_is_that_of_scikit_learn(rng):
    A, Y = rng.normal(size=(50, 8)), rng.normal(size=(50, 3))
    X = shared_lasso(A.T @ A / 50, A.T @ Y / 50, 0.1, np.zeros((8, 3)), 0)
    expected = MultiTaskLasso(alpha=0.1, tol=1e-12, max_iter=10_000, fit_intercept=False).fit(A, Y).coef_.T
    assert_allclose(X, expected, atol=1e-9)
    assert 0 < X.any(axis=1).sum() < 8


def test_the_start_does_not_matter(rng, hinges):
    gram, target = hinges
    expected = shared_lasso(gram, target, 0.01, np.zeros_like(target), 1)
    found = shared_lasso(gram, target, 0.01, rng.normal(size=target.shape), 1)
    assert_allclose(gram @ found, gram @ expected, atol=1e-7)


def test_columns_of_zeros_and_equal_columns_do_no_harm(hinges):
    gram, target = hinges
    order = np.append(np.repeat(np.arange(30), 2), 70)
    gram, target = np.pad(gram, (0, 1))[np.ix_(order, order)], np.pad(target, ((0, 1), (0, 0)))[order]
    for n_single in (0, 3):
        X = shared_lasso(gram, target, 0.01, np.zeros_like(target), n_single)
        assert_array_equal(X[-1], 0.0)
        assert_optimal(gram, target, 0.01, X, n_single)


def test_a_warm_start_ends_where_a_cold_one_does(hinges):
    gram, target = hinges
    x = np.zeros(70)
    for strength in (0.1, 0.03, 0.01, 0.003, 1e-3):
        x = lasso(gram, target[:, 0], strength, x)
        assert_optimal(gram, target[:, :1], strength, x[:, None], 70)


@pytest.mark.parametrize("seed", range(5))
def test_many_columns_that_enter_together_end_at_the_optimum(seed):
    rng = np.random.default_rng(seed)
    A = np.maximum(rng.normal(size=(150, 4)) @ rng.normal(size=(4, 300)) - rng.normal(size=300), 0.0)
    A -= A.mean(axis=0)
    y = rng.normal(size=150)
    x = lasso(A.T @ A / 150, A.T @ y / 150, 0.003, np.zeros(300))
    assert 50 < np.count_nonzero(x) <= 150
    assert_optimal(A.T @ A / 150, (A.T @ y / 150)[:, None], 0.003, x[:, None], 300)


@pytest.mark.parametrize("seed", range(8))
def test_everything_leaves_where_the_strength_is_large(seed):
    rng = np.random.default_rng(seed)
    column = rng.normal(size=4) * [1.0, 0.06, 0.0, 1.0]
    gram, target = np.outer(column, column), 0.07 * column
    found = lasso(gram, target, 7.0, rng.normal(size=4))
    assert_array_equal(found, 0.0)
