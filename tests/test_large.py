"""Tables that are large: what is single stays single, sums over chunks are sums over rows, samples end on all rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_htmc import DeepSplineRegressor, ResNetNormRegressor, ResNetNormRegressorCV, _base, _table
from sklearn_htmc._table import Moments, Table
from sklearn_htmc._training.core import objective
from sklearn_htmc._training.core.certificate import certify
from sklearn_htmc._training.core.objective import Rows
from sklearn_htmc._training.core.weightings import PATH, SENSITIVITY
from sklearn_htmc._training.residual import derivatives, finish
from sklearn_htmc._training.residual.derivatives import differentiate, gauss_newton_matrix, value
from sklearn_htmc._training.residual.linear import as_arrays, linear_candidate
from sklearn_htmc._training.residual.network import ResidualNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = 64  # entries that make a table large in these tests


@pytest.fixture
def few_are_many(monkeypatch):
    """Let small tables be treated like large ones, in chunks of few rows."""
    monkeypatch.setattr(_table, "SINGLE_ENTRIES", FEW)
    monkeypatch.setattr(_table, "_CHUNK_ENTRIES", 4 * FEW)
    monkeypatch.setattr(_base, "SINGLE_ENTRIES", FEW)
    monkeypatch.setattr(objective, "_ROWS", 50)


def single_table(rng, n_rows=300, n_features=4):
    """Return single X, double y and weights with rows that are equal, wholly or in their features alone."""
    X, y = rng.normal(size=(n_rows, n_features)).astype(np.float32), rng.normal(size=(n_rows, 2))
    X[10:20], y[10:15] = X[:10], y[:5]
    return X, y, rng.integers(1, 4, n_rows).astype(float)


def assert_same(first, second):
    for field in ("X", "y", "weights", "groups", "input_range"):
        assert_array_equal(getattr(first, field), getattr(second, field), err_msg=field)
    assert_array_equal(first.features.center, second.features.center)
    assert_array_equal(first.targets.scale, second.targets.scale)


# --- the table ------------------------------------------------------------------------------------


def test_single_rows_that_are_few_become_the_double_table(rng):
    X, y, weights = single_table(rng)
    assert_same(Table.build(X, y, weights), Table.build(X.astype(float), y, weights))


def test_laws_of_the_table_hold_bit_for_bit_in_single_precision(rng, few_are_many):
    X, y, weights = single_table(rng)
    table, order = Table.build(X, y, weights), rng.permutation(len(X))
    assert table.X.dtype == table.y.dtype == np.float32
    assert_same(table, Table.build(X[order], y[order], weights[order]))
    repeated = (np.repeat(a, weights.astype(int), axis=0) for a in (X, y, np.ones(len(X))))
    assert_same(table, Table.build(*repeated))
    absent = np.vstack([X, X + 1]), np.vstack([y, y]), np.append(weights, np.zeros(len(X)))
    assert_same(table, Table.build(*absent))


def test_single_tables_have_the_units_and_groups_of_double_ones(rng, few_are_many):
    X, y, weights = single_table(rng)
    single, double = Table.build(X, y, weights), Table.build(X.astype(float), y, weights)
    for field in ("features", "targets"):
        assert_allclose(getattr(single, field).center, getattr(double, field).center, rtol=1e-12, atol=1e-14)
        assert_allclose(getattr(single, field).scale, getattr(double, field).scale, rtol=1e-12)
    assert_array_equal(single.input_range, double.input_range)
    assert single.n_groups == double.n_groups == len(np.unique(X, axis=0))
    for group in range(single.n_groups):
        assert len(np.unique(single.X[single.groups == group], axis=0)) == 1
    by_content = [np.lexsort(np.column_stack([t.X, t.y]).T) for t in (single, double)]
    assert_allclose(single.X[by_content[0]], double.X[by_content[1]], rtol=1e-6, atol=1e-7)
    assert_allclose(single.y[by_content[0]], double.y[by_content[1]], rtol=1e-6, atol=1e-7)


def test_moments_of_chunks_are_those_of_the_whole(rng, monkeypatch):
    X, weights = rng.normal(size=(500, 3)) * [1e-200, 1.0, 1e200] + [0.0, 1e3, 0.0], rng.dirichlet(np.ones(500))
    whole = Moments.of(X, weights)
    monkeypatch.setattr(_table, "_CHUNK_ENTRIES", 21)
    chunked = Moments.of(X, weights)
    assert_allclose(chunked.center / whole.spread, whole.center / whole.spread, rtol=1e-12, atol=1e-15)
    assert_allclose(chunked.spread, whole.spread, rtol=1e-12)
    constant = Moments.of(np.full((500, 1), 0.1), weights)
    assert constant.spread[0] == 0
    assert constant.center[0] == 0.1


def test_large_tables_need_a_few_times_the_memory_of_their_rows(rng):
    X, y = rng.normal(size=(50_000, 16)).astype(np.float32), rng.normal(size=(50_000, 1))
    weights = np.ones(len(X))
    tracemalloc.start()
    table = Table.build(X, y, weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table.X.dtype == np.float32
    assert peak < 6.5 * (X.nbytes + y.nbytes)  # records, their keys in order, the result; no double copy of X


# --- sums over rows -------------------------------------------------------------------------------


def random_problem(rng, n_rows=333, n_outputs=2):
    """Return a network, its parameters with some zeros, and rows."""
    network = ResidualNetwork(4, n_outputs, 5, (6, 7))
    parameters = network.initial([0]).to(torch.float64)
    parameters.flat.mul_(torch.tensor(rng.random(len(parameters.flat)) < 0.7))
    weights = torch.tensor(rng.dirichlet(np.ones(n_rows)))
    X, y = torch.tensor(rng.normal(size=(n_rows, 4))), torch.tensor(rng.normal(size=(n_rows, n_outputs)))
    return network, parameters, Rows(X, y, weights)


def of_objective(network, parameters, rows, weighting):
    """Return everything that the second-order phase asks for, by name."""
    at, only = differentiate(network, parameters, rows, weighting), value(network, parameters, rows, weighting)
    matrix = gauss_newton_matrix(network, parameters, rows, parameters.flat != 0)
    found = {"gradient": at.gradient, "norm gradient": at.norm_gradient, "weights": at.weights, "matrix": matrix}
    return found | {"values": torch.tensor([at.loss, at.norm, only.loss, only.norm], dtype=torch.float64)}


@pytest.mark.parametrize("weighting", [SENSITIVITY, PATH])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_normal_equations_of_chunks_add_up_to_those_of_all_rows(rng, monkeypatch, weighting, n_outputs):
    network, parameters, rows = random_problem(rng, n_outputs=n_outputs)
    whole = of_objective(network, parameters, rows, weighting)
    monkeypatch.setattr(objective, "_ROWS", 50)
    monkeypatch.setattr(derivatives, "_CHUNK_ENTRIES", 1)  # 64 rows of the Jacobian at a time
    chunked = of_objective(network, parameters, rows, weighting)
    single = of_objective(network, parameters, Rows(rows.X.float(), rows.y.float(), rows.weights), weighting)
    for name, expected in whole.items():
        size = float(expected.abs().max())
        rounding = 1e-6 if name == "matrix" else 1e-14  # products for the matrix are single in any case
        assert_allclose(chunked[name], expected, rtol=0, atol=rounding * size, err_msg=name)
        assert_allclose(single[name], expected, rtol=0, atol=2e-6 * size, err_msg=name)
        assert single[name].dtype == torch.float64


def test_single_rows_are_certified_in_double_precision(rng):
    network, parameters, rows = random_problem(rng)
    single = Rows(rows.X.float(), rows.y.float(), rows.weights)
    same = Rows(single.X.double(), single.y.double(), rows.weights)
    for weighting in (SENSITIVITY, PATH):
        first, second = (certify(network, parameters, r, 0.01, weighting) for r in (single, same))
        assert first.objective == second.objective
        assert first.stationarity == second.stationarity


def test_a_few_rows_with_the_same_moments_have_the_same_linear_candidate(rng):
    X = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) + 1.0
    X[:, 4] = 0.25  # constant
    y = X[:, :2] + 0.3 * rng.normal(size=(400, 2))
    X, y = (torch.tensor(a, dtype=torch.float32) for a in (X, y))
    rows = Rows(X, y, torch.tensor(rng.dirichlet(np.ones(400))))
    few = as_arrays(rows)
    assert len(few[0]) == 2 * 7
    whole = as_arrays(Rows(X.double(), y.double(), rows.weights))
    assert len(whole[0]) == 400
    first, second = (linear_candidate(*arrays, 0.05, width=4) for arrays in (few, whole))
    for name, array in second.items():
        assert_allclose(first[name], array, rtol=0, atol=1e-6, err_msg=name)


# --- fits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_mapped_file_is_fitted_like_the_array_in_memory(rng, ramps, quick, tmp_path, few_are_many, method):
    X, y = (a.astype(np.float32) for a in ramps(400))
    mapped = []
    for name, array in (("X", X), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    first, second = quick(tol=10.0), quick(tol=10.0)
    for part in (slice(0, 200), slice(200, 400)):
        getattr(first, method)(X[part], y[part])
        getattr(second, method)(mapped[0][part], mapped[1][part])
    assert isinstance(mapped[0], np.memmap)
    assert_array_equal(first.predict(X), second.predict(mapped[0]))
    assert first.objective_ == second.objective_


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_weights_equal_repetition_in_single_precision(rng, ramps, quick, few_are_many, method):
    X, y = (a.astype(np.float32) for a in ramps(150))
    weights, order = rng.integers(0, 3, 150), rng.permutation(150)
    weighted = getattr(quick(), method)(X[order], y[order], weights[order])
    repeated = getattr(quick(), method)(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    assert_array_equal(weighted.predict(X), repeated.predict(X))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"alpha": "auto"},
        {"early_stopping": True},
        {"weighting": "path"},
        {"max_edges": 300},
        {"warm_start": True},
    ],
    ids=str,
)
def test_every_kind_of_fit_takes_single_tables(ramps, quick, few_are_many, parameters):
    X, y = ramps(150)
    y = y if parameters else np.column_stack([y, -y])
    single, double = (quick(**{"alpha": 0.02, "max_iter": 30, "tol": 1.0} | parameters) for _ in range(2))
    for _ in range(1 + ("warm_start" in parameters)):
        single.fit(X.astype(np.float32), y)
        double.fit(X.astype(np.float32).astype(float), y)
    assert single.score(X, y) == pytest.approx(double.score(X, y), abs=0.06)


def test_paths_and_cross_validation_take_single_tables(ramps, few_are_many):
    X, y = (a.astype(np.float32) for a in ramps(200))
    sizes = {"n_neurons": 8, "width": 8, "max_iter": 20, "random_state": 0}
    path = ResNetNormRegressor(**sizes).path(X, y, [0.1, 0.01])
    assert path.loss[1] < path.loss[0]
    assert ResNetNormRegressorCV([0.1, 0.01], cv=2, tol=10.0, **sizes).fit(X, y).score(X, y) > 0.5


def test_splines_see_the_same_numbers_in_single_precision(ramps, few_are_many):
    X, y = (a.astype(np.float32) for a in ramps(200))
    fits = [DeepSplineRegressor(0.01, ranks=(), tol=1.0, random_state=0).fit(Z, y) for Z in (X, X.astype(np.float64))]
    assert_array_equal(*(fit.predict(X.astype(np.float64)) for fit in fits))


def test_removals_on_a_sample_end_near_a_minimum_on_all_rows(ramps, quick, monkeypatch):
    X, y = ramps(900)
    whole = quick(alpha=0.02, max_iter=60).fit(X, y)
    monkeypatch.setattr(finish, "_SEARCH_ROWS", 800)
    monkeypatch.setattr(finish, "_SAMPLE_ROWS", 450)
    sampled = quick(alpha=0.02, max_iter=60).fit(X, y)
    assert sampled.n_edges_ < 1.5 * whole.n_edges_
    assert sampled.objective_ == pytest.approx(whole.objective_, rel=0.02)
    assert sampled.objective_ != whole.objective_


def test_steps_of_large_fits_are_bounded_and_passes_of_small_ones_are_not():
    def passes(n_rows, **parameters):
        return ResNetNormRegressor(**parameters)._settings(n_rows).max_iter

    assert passes(10_000) == 300
    assert passes(10_000, max_iter=4_000) == 4_000
    assert passes(36_000) * 36_000 / 256 == pytest.approx(20_000, rel=0.02)
    assert passes(2_000_000) == 10
    assert passes(2_000_000, max_iter=3) == 3
