"""The canonical table: what is the same data becomes the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_htmc._table import Scaling, Table

FIELDS = ("X", "y", "weights", "groups", "input_range")


@pytest.fixture(params=range(3))
def rng(request):
    return np.random.default_rng(request.param)


def random_table(rng, n_rows=50, n_features=3, n_outputs=2):
    """Return rows with some equal ones, some equal in X only, and weights that are not exact in binary."""
    X, y = rng.normal(size=(n_rows, n_features)) + 5.0, rng.normal(size=(n_rows, n_outputs))
    X[10:20], y[10:15] = X[:10], y[:5]
    return X, y, rng.uniform(0.1, 3.0, n_rows)


def assert_same(first, second):
    for field in FIELDS:
        assert_array_equal(getattr(first, field), getattr(second, field), err_msg=field)
    for field in ("features", "targets"):
        assert_array_equal(getattr(first, field).center, getattr(second, field).center)
        assert_array_equal(getattr(first, field).scale, getattr(second, field).scale)


def test_order_of_rows_does_not_matter(rng):
    X, y, weights = random_table(rng)
    order = rng.permutation(len(X))
    assert_same(Table.build(X, y, weights), Table.build(X[order], y[order], weights[order]))


def test_integer_weights_equal_repetition(rng):
    X, y, _ = random_table(rng)
    weights = rng.integers(1, 5, len(X))
    repeated = (np.repeat(a, weights, axis=0) for a in (X, y, np.ones(len(X))))
    assert_same(Table.build(X, y, weights.astype(float)), Table.build(*repeated))


def test_zero_weight_equals_removal(rng):
    X, y, weights = random_table(rng)
    weights[rng.random(len(X)) < 0.4] = 0.0
    X[weights == 0] *= 1e3
    used = weights > 0
    assert_same(Table.build(X, y, weights), Table.build(X[used], y[used], weights[used]))


def test_memory_layout_and_negative_zeros_do_not_matter(rng):
    X, y, weights = random_table(rng)
    X[20:30, 0], X[30:40, 0] = 0.0, -0.0
    X[30:40, 1:], y[30:40] = X[20:30, 1:], y[20:30]
    table = Table.build(X, y, weights)
    assert len(table.X) == 50 - 5 - 10
    assert_same(table, Table.build(np.asfortranarray(X), y, weights))


def test_equal_rows_are_merged_and_their_weights_add_up(rng):
    X, y, weights = random_table(rng)
    table = Table.build(X, y, weights)
    assert len(table.X) == 45
    assert table.weights.sum() == pytest.approx(1.0, rel=1e-15)
    raw = table.X * table.features.scale + table.features.center
    for row in range(5):
        there = np.abs(raw - X[row]).max(axis=1) < 1e-12
        there &= np.abs(table.y * table.targets.scale + table.targets.center - y[row]).max(axis=1) < 1e-12
        assert table.weights[there] == pytest.approx((weights[row] + weights[10 + row]) / weights.sum())


def test_columns_have_weighted_mean_zero_and_variance_one(rng):
    X, y, weights = random_table(rng)
    table = Table.build(X * [1e-9, 1.0, 1e9], y, weights)
    assert_allclose(table.weights @ table.X, 0.0, atol=1e-13)
    assert_allclose(table.weights @ table.X**2, 1.0, rtol=1e-13)
    assert_allclose(table.weights @ table.y, 0.0, atol=1e-13)
    assert_allclose(table.weights @ table.y**2, 1 / 2, rtol=1e-13)  # the total variance of the outputs is one
    shares = weights / weights.sum()
    assert_allclose(table.features.center, shares @ X * [1e-9, 1.0, 1e9], rtol=1e-13)


def test_input_range_is_that_of_rows_with_weight(rng):
    X, y, weights = random_table(rng)
    weights[:20] = 0.0
    X[:20] = 1e9
    assert_array_equal(Table.build(X, y, weights).input_range, [X[20:].min(axis=0), X[20:].max(axis=0)])


def test_given_scalings_and_range_are_kept_and_covered(rng):
    X, y, weights = random_table(rng)
    first = Table.build(X, y, weights)
    scalings = (first.features, first.targets)
    more = Table.build(2 * X, y, weights, scalings=scalings, input_range=first.input_range)
    assert more.features is first.features
    assert_array_equal(more.input_range, [X.min(axis=0), 2 * X.max(axis=0)])
    assert_allclose(more.weights @ more.X, (2 * first.features.center - first.features.center) / first.features.scale)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e300, 1e-310, 5e-324])
def test_constant_columns_become_exact_zeros(rng, value):
    X, y, weights = random_table(rng)
    X[:, 1] = value
    table = Table.build(X, np.column_stack([y[:, 0], np.full(50, value)]), weights)
    assert_array_equal(table.X[:, 1], 0.0)
    assert_array_equal(table.y[:, 1], 0.0)
    assert table.features.center[1] == value
    assert table.features.scale[1] > 0


@pytest.mark.parametrize("exponent", [-990, -660, -1, 1, 660, 1000])
def test_units_that_are_powers_of_two_do_not_change_a_bit(rng, exponent):
    X, y, weights = random_table(rng)
    table, other = Table.build(X, y, weights), Table.build(2.0**exponent * X, 2.0**exponent * y, weights)
    assert_array_equal(other.X, table.X)
    assert_array_equal(other.y, table.y)
    assert_array_equal(other.features.scale, 2.0**exponent * table.features.scale)


def test_the_largest_numbers_are_standardised(rng):
    largest = np.finfo(float).max
    columns = np.array([[largest, 1.0], [-largest, 2.0], [largest / 2, 3.0]])
    scaling = Scaling.of(columns, np.array([0.25, 0.25, 0.5]))
    z = scaling.forward(columns)
    assert np.isfinite(z).all()
    assert_allclose([0.25, 0.25, 0.5] @ z**2, 1.0, rtol=1e-12)


def test_a_small_spread_on_a_large_offset_is_kept(rng):
    year = 1e6 + rng.integers(-1, 2, (40, 1)).astype(float)
    z = Scaling.of(year, np.full(40, 1 / 40)).forward(year)
    assert_allclose(z.std(), 1.0, rtol=1e-9)
    assert len(np.unique(z)) == 3


@pytest.mark.parametrize("value", [14.63, -3e-200, 1.0, 7e250])
def test_rounding_noise_is_no_spread(rng, value):
    """As in `StandardScaler`: what varies by a few units in the last place is constant."""
    X, y, weights = random_table(rng)
    X[:, 1] = value + rng.integers(-20, 21, 50) * np.spacing(abs(value))
    y[:, 0] = X[:, 1]
    table = Table.build(X, y, weights)
    assert_array_equal(table.X[:, 1], 0.0)
    assert_array_equal(table.y[:, 0], 0.0)
    assert table.input_range[0, 1] == table.input_range[1, 1]
    assert (len(table.X), table.n_groups) == (45, 40)  # equal but for rounding is equal
    X, y = X.copy(), y.copy()
    X[:, 1] = X[:, 1].min()
    y[:, 0] = X[:, 1]
    assert_same(table, Table.build(X, y, weights))


@pytest.mark.parametrize("offset", [1e9, 1e12, 2.0**40])
def test_whole_numbers_on_a_large_offset_are_kept(rng, offset):
    column = offset + rng.integers(0, 3, 40).astype(float)
    table = Table.build(column[:, None], column[:, None], np.ones(40))
    raw = np.sort(table.X[:, 0]) * table.features.scale + table.features.center
    assert_allclose(raw - offset, [0, 1, 2], atol=1e-3)


def test_inverse_undoes_the_scaling(rng):
    X = rng.normal(size=(30, 4)) * [1e-20, 1.0, 1e3, 1e20] + [0.0, 7.0, -1e3, 0.0]
    scaling = Scaling.of(X, np.full(30, 1 / 30))
    assert_allclose(scaling.inverse().forward(scaling.forward(X)), X, rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-300, 1.0, 1e300])
def test_only_the_proportions_of_weights_count(rng, factor):
    X, y, weights = random_table(rng)
    assert_allclose(Table.build(X, y, factor * weights).weights, Table.build(X, y, weights).weights, rtol=1e-12)


def test_a_row_whose_weight_vanishes_beside_the_others_is_dropped(rng):
    X, y, weights = random_table(rng)
    weights[20:] *= 1e-320
    weights[:20] *= 1e300
    table = Table.build(X, y, weights)
    assert (table.weights > 0).all()
    assert_same(table, Table.build(X[:20], y[:20], weights[:20]))


# Folds


@pytest.mark.parametrize("n_folds", [2, 3, 10])
def test_rows_with_equal_features_share_a_fold(rng, n_folds):
    X = np.repeat(rng.normal(size=(31, 2)), 3, axis=0)
    table = Table.build(X, rng.normal(size=(93, 1)), np.ones(93))
    folds = table.folds(n_folds, np.random.RandomState(0))
    for group in range(table.n_groups):
        assert len(set(folds[table.groups == group])) == 1
    assert table.n_groups == 31
    sizes = np.bincount(folds, minlength=n_folds) // 3
    assert sizes.sum() == 31
    assert sizes.max() - sizes.min() <= 1


def test_targets_are_spread_evenly_over_the_folds(rng):
    y = np.sort(rng.lognormal(size=(90, 1)), axis=0)
    table = Table.build(rng.normal(size=(90, 2)), y, np.ones(90))
    folds = table.folds(3, np.random.RandomState(0))
    ranks = np.argsort(np.argsort(table.y[:, 0]))
    for third in range(30):
        assert sorted(folds[ranks // 3 == third]) == [0, 1, 2]


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.5, 0.7, 0.999])
def test_hold_out_takes_the_fraction_of_the_groups(rng, fraction):
    X = np.repeat(rng.normal(size=(40, 2)), 3, axis=0)
    table = Table.build(X, rng.normal(size=(120, 1)), np.ones(120))
    out = table.hold_out(fraction, np.random.RandomState(0))
    assert out.sum() == 3 * min(max(1, round(fraction * 40)), 39)
    for group in range(40):
        assert len(set(out[table.groups == group])) == 1


def test_hold_out_takes_targets_of_all_sizes(rng):
    table = Table.build(rng.normal(size=(100, 2)), rng.lognormal(size=(100, 1)), np.ones(100))
    ranks = np.argsort(np.argsort(table.y[:, 0]))
    for fraction in (0.1, 0.9):
        out = table.hold_out(fraction, np.random.RandomState(0))
        assert_array_equal(np.bincount(ranks[out] // 10), 10 * fraction)


@pytest.mark.parametrize("choose", [lambda t, s: t.folds(3, s), lambda t, s: t.hold_out(0.3, s)])
def test_choices_depend_on_content_and_random_state_alone(rng, choose):
    X, y, weights = random_table(rng)
    order = rng.permutation(len(X))
    table, shuffled = Table.build(X, y, weights), Table.build(X[order], y[order], weights[order])
    first = choose(table, np.random.RandomState(0))
    assert_array_equal(choose(shuffled, np.random.RandomState(0)), first)
    assert any(not np.array_equal(choose(table, np.random.RandomState(seed)), first) for seed in range(1, 5))
