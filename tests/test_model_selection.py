"""Rules that choose from the results of a search."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from sklearn_htmc import CircuitSizeScorer
from sklearn_htmc.model_selection import best_within_budget, smallest_circuit


def results(sizes, scores, folds=None, **names):
    """Return cv_results_ of a search with given mean sizes; the scores of the folds differ from the mean by turns."""
    size, score = names.get("size", "size"), names.get("score", "r2")
    scores = np.asarray(scores, dtype=float)
    spread = np.zeros((len(scores), 4)) if folds is None else np.asarray(folds, dtype=float)
    table = {
        f"mean_test_{size}": -np.asarray(sizes, dtype=float),
        f"mean_test_{score}": scores,
        f"std_test_{score}": spread.std(axis=1),
    }
    return table | {f"split{k}_test_{score}": scores + spread[:, k] for k in range(spread.shape[1])}


# Standard deviation 0.04 over four folds: the standard error is 0.02.
FOLDS = [[0.04, -0.04, 0.04, -0.04]] * 4


def test_the_smallest_within_one_standard_error_is_taken():
    table = results([900, 500, 300, 10], [0.90, 0.89, 0.881, 0.879], FOLDS)
    assert smallest_circuit()(table) == 2


def test_the_standard_error_is_that_of_the_best_candidate():
    folds = [[0.0] * 4, *FOLDS[1:]]
    table = results([900, 500, 300, 10], [0.90, 0.89, 0.881, 0.879], folds)
    assert smallest_circuit()(table) == 0


@pytest.mark.parametrize(("within", "expected"), [(0.0, 0), (0.01, 1), (0.02, 2), (0.5, 3)])
def test_a_number_is_the_drop_that_is_allowed(within, expected):
    table = results([900, 500, 300, 10], [0.90, 0.8901, 0.8801, 0.7], FOLDS)
    assert smallest_circuit(within=within)(table) == expected


def test_more_folds_make_the_standard_error_smaller():
    scores = [0.90, 0.885]
    few = results([900, 10], scores, np.tile([0.04, -0.04], (2, 2)))
    many = results([900, 10], scores, np.tile([0.04, -0.04], (2, 8)))
    assert (smallest_circuit()(few), smallest_circuit()(many)) == (1, 0)


def test_among_equal_sizes_the_better_score_wins_and_then_the_first():
    assert smallest_circuit(within=0.1)(results([5, 5, 5, 5], [0.88, 0.90, 0.89, 0.90])) == 1


def test_the_best_score_within_the_budget_is_taken():
    table = results([900, 500, 300, 10], [0.95, 0.94, 0.93, 0.2])
    assert best_within_budget(500)(table) == 1
    assert best_within_budget(499)(table) == 2
    assert best_within_budget(1e9)(table) == 0


def test_among_equal_scores_the_smaller_circuit_wins():
    assert best_within_budget(500)(results([400, 300, 300, 450], [0.9, 0.9, 0.9, 0.8])) == 1


def test_without_a_circuit_within_the_budget_the_smallest_is_taken_with_a_warning():
    table = results([900, 500, 300], [0.95, 0.94, 0.93])
    with pytest.warns(UserWarning, match=r"at most max_gates=200 gates, the smallest one, which is taken, has 300;"):
        assert best_within_budget(200)(table) == 2


def test_an_infeasible_candidate_is_taken_only_if_nothing_else_is_good_enough():
    table = results([3e12, 800, 2e12], [0.91, 0.90, 0.905])
    assert smallest_circuit(within=0.05)(table) == 1
    assert best_within_budget(1000)(table) == 1
    assert smallest_circuit(within=0.007)(table) == 2  # the nearest to feasible


@pytest.mark.parametrize("rule", [smallest_circuit(within=0.1), best_within_budget(1000)], ids=str)
def test_candidates_that_failed_are_never_taken(rule):
    assert rule(results([np.nan, 10, 20], [0.99, np.nan, 0.9])) == 2
    with pytest.raises(ValueError, match="no candidate of the search has finite scores 'size' and 'r2'"):
        rule(results([np.nan, 10], [0.99, np.nan]))


@pytest.mark.parametrize("rule", [smallest_circuit(size="gates", score="mae"), best_within_budget(9, "gates", "mae")])
def test_other_names_may_be_given(rule):
    assert rule(results([9, 5], [-0.3, -0.3], size="gates", score="mae")) == 1


@pytest.mark.parametrize("rule", [smallest_circuit(), best_within_budget(9)], ids=str)
def test_missing_scores_are_named(rule):
    table = results([9, 5], [0.3, 0.3])
    del table["mean_test_size"]
    with pytest.raises(ValueError, match=r"search must have a score named 'size', got r2; use scoring="):
        rule(table)
    with pytest.raises(ValueError, match="search must have a score named 'size', got score"):
        GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2, refit=rule).fit(np.eye(8), np.arange(8.0))


@pytest.mark.parametrize("within", [-0.1, "two_se", None, np.inf, np.nan, True])
def test_within_must_be_one_se_or_a_drop(within):
    with pytest.raises(ValueError, match="within must be 'one_se' or a number that is not negative, got"):
        smallest_circuit(within=within)


@pytest.mark.parametrize("max_gates", [0, -5, "few", None, np.nan])
def test_the_budget_must_be_positive(max_gates):
    with pytest.raises(ValueError, match="max_gates must be positive, got"):
        best_within_budget(max_gates)


@pytest.mark.parametrize("rule", [smallest_circuit(within=0.05), best_within_budget(400)], ids=str)
def test_rules_can_be_pickled_and_their_repr_can_be_pasted(rule):
    table = results([900, 500, 300, 10], [0.95, 0.94, 0.93, 0.2])
    names = {"smallest_circuit": smallest_circuit, "best_within_budget": best_within_budget}
    for copy in (pickle.loads(pickle.dumps(rule)), eval(repr(rule), names)):
        assert copy == rule
        assert copy(table) == rule(table) == 2


def test_after_a_search_with_a_rule_the_best_estimator_is_scored():
    """README and user guide say so; ``search.score`` itself fails in scikit-learn, whose issue 17058 this is."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = X[:, 0]
    scoring = {"r2": "r2", "size": CircuitSizeScorer(epsilon=0.2, target="prediction", effort=0)}
    for refit in (smallest_circuit(), best_within_budget(10_000)):
        search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, scoring=scoring, refit=refit, cv=2).fit(X, y)
        assert search.best_estimator_.score(X, y) > 0.9
        assert search.scorer_["r2"](search.best_estimator_, X, y) == search.best_estimator_.score(X, y)
        assert search.scorer_["size"](search.best_estimator_, X, y) < 0
