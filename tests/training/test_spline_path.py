"""Lassos over neurons along falling strengths, their columns, and the choice of a strength."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_htmc._training.choice import Question, choose
from sklearn_htmc._training.core.objective import Rows, mean_loss
from sklearn_htmc._training.core.problems import Problems, Settings
from sklearn_htmc._training.core.task import End
from sklearn_htmc._training.core.weightings import PATH
from sklearn_htmc._training.paths import Steps, passes, walk
from sklearn_htmc._training.second_order.gauss_newton import Problem
from sklearn_htmc._training.spline.calculus import SplineCalculus, norm
from sklearn_htmc._training.spline.columns import Columns, Missed
from sklearn_htmc._training.spline.finish import SplineFamily
from sklearn_htmc._training.spline.network import SplineNetwork
from sklearn_htmc._training.spline.shallow import Bounds, constant, solved, solved_path
from sklearn_htmc._training.spline.violation import Measure, most_violated

pytestmark = pytest.mark.usefixtures("one_thread")
STRENGTHS = [0.1, 0.03, 0.01, 0.003]
SILENT = End(lambda *_: None, 1)


def kinks(rng, n=120, d=3):
    """Return standardised rows of ``|x_0 + x_1| + x_2`` with noise."""
    X = rng.normal(size=(n, d))
    y = np.abs(X[:, 0] + X[:, 1]) + X[:, 2] + 0.1 * rng.normal(size=n)
    return X, ((y - y.mean()) / y.std())[:, None]


def as_rows(X, y, rng):
    weights = rng.uniform(0.5, 1.5, len(X))
    return Rows(*(torch.as_tensor(a) for a in (X, y, weights / weights.sum())))


def generator():
    return torch.Generator().manual_seed(0)


# --- paths ----------------------------------------------------------------------------------------


def test_a_path_ends_where_separate_solves_do(rng):
    rows = as_rows(*kinks(rng), rng)
    network = SplineNetwork((3, 1), (8,))
    start = network.of(constant(network, rows))
    path = solved_path(network, start, rows, STRENGTHS, generator(), SILENT, Bounds())
    for strength, found in zip(STRENGTHS, path, strict=True):
        judge = Problem(rows, strength, SplineCalculus())
        alone = solved(network, start, judge, generator(), SILENT, Bounds())
        assert judge.objective(*found) == pytest.approx(judge.objective(*alone), rel=1e-3)


def test_norms_grow_along_a_path(rng):
    rows = as_rows(*kinks(rng), rng)
    network = SplineNetwork((3, 4, 1), (8, 8))
    start = network.of(constant(network, rows))
    path = list(solved_path(network, start, rows, STRENGTHS, generator(), SILENT, Bounds(64, 1e-3)))
    sizes = [norm(*found) for found in path]
    assert sizes == sorted(sizes)
    assert 0 < sizes[0] < sizes[-1]
    assert all(found[0].neurons[0] <= 64 for found in path)


def test_weaker_strengths_do_not_change_what_came_before(rng):
    rows = as_rows(*kinks(rng), rng)
    family = SplineFamily(SplineNetwork((3, 4, 1), (8, 8)))
    few, many = (list(family.path(rows, STRENGTHS[:n], 0, SILENT)) for n in (2, 4))
    for a, b in zip(few, many, strict=False):
        assert torch.equal(a[1].flat, b[1].flat)


def test_features_beyond_those_at_hand_enter_where_they_are_missed(rng):
    X = rng.normal(size=(100, 300))
    y = X[:, 7:8] / X[:, 7].std()
    rows = as_rows(X, y - y.mean(), rng)
    network = SplineNetwork((300, 2, 1), (8, 8))
    start = network.of(constant(network, rows))
    judge = Problem(rows, 0.05, SplineCalculus())
    found = solved(network, start, judge, generator(), SILENT, Bounds(0, 1e-3))
    assert_array_equal(np.flatnonzero(found[0].arrays(found[1].views)["C0"][0]), [7])


# --- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [True, False])
def test_the_gram_matrix_is_that_of_the_columns_whatever_entered_and_left(rng, skip):
    X, y = kinks(rng)
    rows = as_rows(X, np.hstack([y, y**2]), rng)
    network = SplineNetwork((3, 2), (0,), skip=skip)
    arrays = {name: np.zeros(shape) for name, shape in network.shapes.items()}
    columns = Columns.of(network, rows, arrays)
    for strength in (0.2, 0.1):
        W = rng.normal(size=(6, 3))
        W /= np.linalg.norm(W, axis=1, keepdims=True)
        columns = columns.entered(Missed(columns.features[:0], W, rng.normal(size=6))).solved(strength)
    assert 0 < len(columns.b) < 12
    shallow, parameters = network.of(columns.arrays())
    A = shallow.reduced(parameters.views, rows.X).numpy()
    A = np.hstack([X[:, columns.features], A]) if skip else A
    w = rows.weights.numpy()
    centred = A - w @ A
    assert_allclose(columns.gram, centred.T @ (centred * w[:, None]), atol=1e-12)
    assert_allclose(columns.target, centred.T @ (rows.y.numpy() * w[:, None]), atol=1e-12)
    f, _ = shallow.forward(parameters.views, rows.X[None])
    assert_allclose(columns.residual(), rows.y - f[0], atol=1e-12)
    assert columns.size == pytest.approx(norm(shallow, parameters))


def test_neurons_found_on_a_part_of_many_rows_are_measured_on_all(rng):
    h, g = (torch.as_tensor(rng.normal(size=(9_000, width))) for width in (4, 1))
    measure = Measure.of(h, g / 9_000, reduced=True, shared=False)
    none = torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    found = most_violated(measure, generator(), none, 0.25)
    again = measure.correlation(found.W, found.b)
    assert_allclose(found.size, again.size, rtol=1e-9)
    assert (np.diff(found.size.numpy()) <= 0).all()


# --- choice ---------------------------------------------------------------------------------------


def chosen(X, y, held_out, strengths=STRENGTHS, question=None, **sizes):
    family = SplineFamily(SplineNetwork((3, 4, 1), (8, 8), **sizes))
    asked = Question(np.array(strengths), np.ones(len(X)), held_out, seed=0, **(question or {}))
    return choose(X, y, asked, family=family, settings=Settings(20, 64, weighting=PATH))


def test_the_choice_is_the_least_held_out_error_of_fits_with_fixed_strengths(rng):
    X, y = kinks(rng, n=240)
    folds = np.arange(240) % 3
    held_out = [folds == fold for fold in range(3)]
    losses = []
    for strength in STRENGTHS:
        total = 0.0
        for out in held_out:
            rows = Rows(*(torch.as_tensor(a) for a in (X[~out], y[~out], np.full(160, 1 / 160))))
            network = SplineNetwork((3, 4, 1), (8, 8))
            judge = Problem(rows, strength, SplineCalculus())
            found = solved(network, network.of(constant(network, rows)), judge, generator(), SILENT, Bounds(32, 5e-3))
            f, _ = found[0].forward(found[1].views, torch.as_tensor(X[out])[None])
            total += float((f[0].numpy() - y[out]).__pow__(2).mean())
        losses.append(total)
    index = chosen(X, y, held_out).index
    assert losses[index] <= 1.05 * min(losses)


def test_the_choice_does_not_depend_on_strengths_beyond_the_end_of_the_path(rng):
    X, y = kinks(rng, n=240)
    held_out = [np.arange(240) % 3 == fold for fold in range(3)]
    assert chosen(X, y, held_out).index == chosen(X, y, held_out, [*STRENGTHS, 1e-3, 3e-4]).index


def test_a_strength_that_says_nothing_is_not_chosen_for_being_first(rng):
    X, y = kinks(rng, n=240)
    held_out = [np.arange(240) % 3 == 0]
    assert chosen(X, y, held_out, [1.0, 0.9, 0.03, 0.01]).index >= 2


def test_training_ranks_strengths_where_layers_cannot_hand_outputs_on(rng):
    X, y = kinks(rng)
    held_out = [np.arange(120) % 3 == 0]
    choice = chosen(X, y, held_out, skip=False)
    assert 0 <= choice.index < len(STRENGTHS)
    rows = Rows(*(torch.as_tensor(a) for a in (X, y, np.full(120, 1 / 120))))
    assert mean_loss(*choice.begun.network, rows) < 0.5 * float(np.var(y)) / 2  # it was trained on all rows
    for question in ({"is_part": True}, {"with_start": False}):
        other = chosen(X, y, held_out, skip=False, question=question)
        assert (other.index, other.begun) == (choice.index, None)


def test_the_ranking_is_of_the_networks_of_the_path(rng):
    X, y = kinks(rng, n=240)
    y = np.hstack([y, np.sin(X[:, :1])])
    held_out = [np.arange(240) % 3 == fold for fold in range(3)]
    family = SplineFamily(SplineNetwork((3, 2), (8,)))
    asked = Question(np.array(STRENGTHS), np.ones(240), held_out, seed=0)
    ranking = choose(X, y, asked, family=family, settings=Settings(20, 64, weighting="path")).ranking
    for fold, out in enumerate(held_out):
        rows = Rows(*(torch.as_tensor(a) for a in (X[~out], y[~out], np.full(160, 1 / 160))))
        for place, found in zip(range(len(ranking.numbers)), family.path(rows, STRENGTHS, 0, SILENT), strict=False):
            f, _ = found[0].forward(found[1].views, torch.as_tensor(X[out])[None])
            assert_allclose(ranking.squares[place, fold], np.square(f[0].numpy() - y[out]).mean(axis=0), rtol=1e-9)
    assert_allclose(ranking.losses, ranking.squares.sum(axis=2) / 2, rtol=1e-12)


def test_a_rule_may_take_a_larger_strength_but_no_smaller_one(rng):
    X, y = kinks(rng, n=240)
    held_out = [np.arange(240) % 3 == fold for fold in range(3)]
    for skip in (True, False):
        usual = chosen(X, y, held_out, skip=skip)
        assert usual.index > 0
        first, last = (
            chosen(X, y, held_out, skip=skip, question={"rule": lambda losses, _, at=at: range(len(losses))[at]})
            for at in (0, -1)
        )
        assert (first.index, last.index) == (0, usual.index)
        assert (first.begun.network[1].flat != 0).sum() < (usual.begun.network[1].flat != 0).sum()


def test_the_fit_starts_where_a_path_over_all_rows_has_come_to(rng):
    X, y = kinks(rng)
    problems = Problems((0.0,), (0,), np.ones((1, 120)))
    family = SplineFamily(SplineNetwork((3, 4, 1), (8, 8), skip=False))
    settings = Settings(20, 64, weighting=PATH)
    choice = chosen(X, y, [np.arange(120) % 3 == 0], skip=False)
    rising = tuple(STRENGTHS[choice.index :][::-1])
    steps = Steps(rising, tuple(passes(rising, 20, is_warm=True)))
    *_, last = walk(X, y, problems, steps, family=family, settings=settings)
    assert_array_equal(last.ends[0].network[1].flat, choice.begun.network[1].flat)
