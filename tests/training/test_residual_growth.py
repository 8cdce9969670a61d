"""Growth, removal at a price, and the way to a budget."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import make_friedman1, make_regression
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from sklearn_htmc import ResNetNormRegressor
from sklearn_htmc._training.core.task import weighted_rows
from sklearn_htmc._training.core.weightings import SENSITIVITY
from sklearn_htmc._training.residual import growth
from sklearn_htmc._training.residual.derivatives import ResidualCalculus
from sklearn_htmc._training.residual.growth import with_new_edges, with_new_neurons
from sklearn_htmc._training.residual.network import ResidualNetwork, network_of
from sklearn_htmc._training.residual.sizes import grow
from sklearn_htmc._training.second_order import surgery
from sklearn_htmc._training.second_order.gauss_newton import Problem, descend
from sklearn_htmc._training.second_order.surgery import pruned, shrink

ROOM = ResidualNetwork(4, 1, 24, (16, 16))
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def rows_of(X, y):
    y = np.asarray(y, dtype=float).reshape(len(X), -1)
    return weighted_rows(X, (y - y.mean(axis=0)) / max(1.0, y.std()), np.ones(len(X)))


def linear_network(rows, n_blocks=2):
    """Return the least-squares line through one coordinate per output, without neurons."""
    X, y = rows.X.numpy(), rows.y.numpy()
    line = LinearRegression().fit(X, y)
    width = y.shape[1]
    arrays = {"E": line.coef_, "e": np.zeros(width), "A": np.eye(width), "c": line.intercept_}
    return network_of(arrays, X.shape[1], n_blocks)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_missing_neuron_is_found(rng, n_outputs):
    X = rng.normal(size=(300, 4))
    hinge = np.maximum(X[:, 1] - 0.7 * X[:, 3] + 0.4, 0.0)
    rows = rows_of(X, np.column_stack([X[:, 0] + hinge, 2.0 * hinge - X[:, 2]])[:, :n_outputs])
    problem = Problem(rows, 1e-6, ResidualCalculus(SENSITIVITY))
    start = problem.at(*linear_network(rows))
    room = ResidualNetwork(4, n_outputs, 24, (16, 16))
    point = descend(problem, *with_new_neurons(start, rows, 1e-4, generator(), room), max_steps=30, tol=1e-9)
    assert start.loss > 0.01
    assert point.loss < 1e-3 * start.loss


def test_an_entering_neuron_adds_itself_to_the_function_and_nothing_else(rng):
    arrays, X = oracles.random_arrays(rng), rng.normal(size=(40, 4))
    before = oracles.values(arrays, X)
    tape = growth.forward(
        growth.matrices(network_of({name: a.copy() for name, a in arrays.items()}, 4)[1]), torch.tensor(X), 2
    )
    room = ResidualNetwork(4, 1, 30, (20, 20))
    weights = {("x", 2): 0.7, ("a", 3): -1.1, ("h", 0, 4): 0.6}
    h = np.maximum(0.7 * X[:, 2] - 1.1 * tape.stream[1][:, 3].numpy() + 0.6 * tape.neurons[0][:, 4].numpy() + 0.2, 0.0)
    neuron = growth._Neuron(1, weights, 0.2, torch.tensor([1.3], dtype=torch.float64), torch.tensor(h), 1.0)
    assert growth._enter(arrays, neuron, room)
    assert arrays["b1"].size == 6
    assert_allclose(oracles.values(arrays, X)[:, 0], before[:, 0] + 1.3 * h, rtol=1e-9, atol=1e-9)


def test_growth_stays_within_its_room(rng):
    X = rng.normal(size=(200, 4))
    rows = rows_of(X, np.sin(3 * X[:, 0]) + np.abs(X[:, 1] * X[:, 2]))
    problem = Problem(rows.single(), 1e-4, ResidualCalculus(SENSITIVITY))
    room = ResidualNetwork(4, 1, 5, (3, 2))
    for point in grow(problem, problem.at(*linear_network(rows)), room, 80, 0):
        assert point.network.width <= 5
        assert all(n <= most for n, most in zip(point.network.neurons, room.neurons, strict=True))


def test_growth_lowers_the_loss_reads_earlier_neurons_and_repeats(rng):
    X = rng.normal(size=(400, 4))
    inner = np.maximum(X[:, 0] + X[:, 1], 0.0)
    rows = rows_of(X, np.maximum(inner - np.maximum(X[:, 2], 0.0), 0.0))
    problem = Problem(rows.single(), 1e-5, ResidualCalculus(SENSITIVITY))
    points = list(grow(problem, problem.at(*linear_network(rows)), ROOM, 60, 0))
    assert points[-1].loss < 0.05 * points[0].loss
    assert points[-1].network.neurons[1] > 0
    again = list(grow(problem, problem.at(*linear_network(rows)), ROOM, 60, 0))
    assert [p.objective for p in again] == [p.objective for p in points]
    other = list(grow(problem, problem.at(*linear_network(rows)), ROOM, 60, 1))
    assert [p.objective for p in other] != [p.objective for p in points]


def test_linear_data_grow_no_neuron(rng):
    X = rng.normal(size=(150, 4))
    rows = rows_of(X, X @ [1.0, -2.0, 0.0, 0.5])
    problem = Problem(rows.single(), 1e-4, ResidualCalculus(SENSITIVITY))
    *_, last = grow(problem, problem.at(*linear_network(rows)), ROOM, 60, 0)
    assert last.network.neurons == (0, 0)


def test_new_edges_are_those_that_violate_the_certificate(rng):
    X = rng.normal(size=(200, 4))
    rows = rows_of(X, X @ [1.0, -2.0, 0.8, 0.5])
    network, parameters = linear_network(rows)
    parameters.views["E"][0, 0, 2] = 0.0
    point = Problem(rows, 0.05, ResidualCalculus(SENSITIVITY)).at(network, parameters)
    _, grown = with_new_edges(Problem(rows, 0.05, ResidualCalculus(SENSITIVITY)), point, 1e-4)
    assert (grown.flat != 0).sum() == (parameters.flat != 0).sum() + 1
    assert grown.views["E"][0, 0, 2] > 0
    assert (
        with_new_edges(Problem(rows, 0.99, ResidualCalculus(SENSITIVITY)), point, 1e-4) is None
    )  # no correlation is above that
    assert with_new_edges(Problem(rows, 0.05, ResidualCalculus(SENSITIVITY)), point, 10.0) is None  # none is worth that


@pytest.fixture
def grown(rng):
    X = rng.normal(size=(250, 4))
    rows = rows_of(X, np.abs(X[:, 0]) + np.maximum(X[:, 1] + X[:, 2], 0.3) + 0.1 * rng.normal(size=250))
    problem = Problem(rows, 1e-4, ResidualCalculus(SENSITIVITY))
    *_, point = grow(problem, problem.at(*linear_network(rows)), ROOM, 50, 0)
    return problem, point


@pytest.mark.parametrize("price", [0.0, 1e-4, 1e-2, 10.0])
def test_removal_at_a_price_pays(grown, price):
    problem, point = grown
    less = pruned(problem, point, price)
    assert less.objective + price * less.n_edges <= point.objective + price * point.n_edges
    assert less.n_edges <= point.n_edges
    if price == 10.0:
        assert less.n_edges <= 1


def test_at_the_end_every_edge_matters(grown):
    problem, point = grown
    point = descend(problem, *point.compacted(), max_steps=60, tol=1e-9)
    point = pruned(problem, point, 0.0, patience=60, n_steps=20)
    network, parameters = point.compacted()
    assert 20 < point.n_edges < 100
    as_it_is = descend(problem, network, parameters, max_steps=20, tol=1e-7)
    # A row that crosses the kink of a neuron makes the norm jump by about its share. Descents end on such jumps.
    jump = (as_it_is.objective - as_it_is.loss) / len(problem.rows.X)
    for edge in parameters.flat[:-1].nonzero().squeeze(1).tolist():
        without = parameters.with_flat(parameters.flat.clone())
        without.flat[edge] = 0.0
        refitted = descend(problem, *network.compact(without.views, 0), max_steps=20, tol=1e-7)
        assert refitted.objective > as_it_is.objective - 2.0 * jump


def test_removal_does_not_take_the_only_way_out(grown):
    problem, point = grown
    sizes = [p.n_edges for p in shrink(problem, point, 4)]
    losses = [p.loss for p in shrink(problem, point, 4)]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < sizes[-1] <= 4
    assert losses[-1] < 0.5 * float((problem.rows.weights @ problem.rows.y.square())[0])  # better than the mean


@pytest.mark.parametrize(
    "change",
    ["duplicated features", "duplicated rows", "linear", "wide", "constant feature", "weights", "few values"],
)
@pytest.mark.parametrize("max_edges", [None, pytest.param(25, marks=pytest.mark.slow)])
def test_degenerate_problems_do_not_break_the_fit(change, max_edges):
    X, y = make_friedman1(120, n_features=5, noise=0.3, random_state=0)
    weights = None
    if change == "duplicated features":
        X = np.hstack([X, X, X[:, :1]])
    elif change == "duplicated rows":
        X, y = np.repeat(X[:40], 3, axis=0), np.repeat(y[:40], 3)
    elif change == "linear":
        y = X @ np.arange(5.0)
    elif change == "wide":
        X, y = np.random.default_rng(0).normal(size=(20, 60)), y[:20]
    elif change == "constant feature":
        X[:, 2] = 3.0
    elif change == "weights":
        weights = np.logspace(-3, 3, 120)
    else:
        X = np.round(2 * X)
    model = ResNetNormRegressor(0.003, max_edges=max_edges, max_iter=60, random_state=0).fit(X, y, weights)
    assert np.isfinite(model.predict(X)).all()
    assert model.score(X, y, weights) > 0.8
    if max_edges:
        assert model.n_edges_ <= max_edges
    if change == "linear":
        assert model.score(X, y) > 0.999


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_growth_starts_from_the_mean_where_no_line_is_better(n_outputs):
    X = np.random.default_rng(0).uniform(-1.0, 1.0, size=(300, 2))
    X = np.vstack([X, -X])  # even functions do not correlate with any line
    y = np.column_stack([np.abs(X[:, 0]), X[:, 1] ** 2, np.abs(X[:, 0]) - X[:, 1] ** 2])[:, :n_outputs]
    model = ResNetNormRegressor(0.001, max_edges=40, max_iter=30, width=2 if n_outputs == 3 else 8, random_state=0)
    model.fit(X, y)
    assert model.n_edges_ <= 40
    assert model.score(X, y) > 0.9


def test_no_network_on_the_path_explodes():
    X, y = make_friedman1(200, n_features=6, noise=0.5, random_state=0)
    X_test, y_test = make_friedman1(1000, n_features=6, noise=0.5, random_state=1)
    path = ResNetNormRegressor(0.001, max_edges=10, max_iter=100, random_state=0).fit(X, y).path_
    linear = np.mean((LinearRegression().fit(X, y).predict(X_test) - y_test) ** 2)
    for size, network in zip(path.n_edges, path.networks, strict=True):
        if size >= 10:
            assert np.mean((network(X_test)[:, 0] - y_test) ** 2) < 1.1 * linear
    best = min(np.mean((network(X_test)[:, 0] - y_test) ** 2) for network in path.networks)
    assert best < 0.2 * linear


def test_removals_that_gain_nothing_but_rounding_end(monkeypatch, rng):
    # On these rows, objectives fell by 1e-11 for thousands of steps, each of which counted as a success.
    X, y = make_regression(n_samples=200, n_features=10, n_informative=1, bias=5.0, noise=20, random_state=42)
    tried = []
    lower = surgery._if_lower

    def counting(*args):
        tried.append(args)
        return lower(*args)

    monkeypatch.setattr(surgery, "_if_lower", counting)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    sizes = {"n_blocks": 1, "width": 8, "n_neurons": 8, "max_iter": 8, "random_state": 0}
    path = ResNetNormRegressor(**sizes, tol=1.0).path(X, y, [0.1, 0.01])
    assert path.n_edges.max() < 60
    assert 0 < len(tried) < 300
