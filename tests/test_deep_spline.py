"""DeepSplineRegressor: the convex problems against their exact solutions, structure, and every parameter."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import spline_oracle, strongest_neuron
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.neural_network import MLPRegressor

from sklearn_htmc import DeepSplineRegressor
from sklearn_htmc._automatic import tried_strengths

pytestmark = pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning")


def model(**parameters):
    return DeepSplineRegressor(
        **{"alpha": 0.003, "ranks": (3,), "n_neurons": 16, "max_iter": 20, "random_state": 0} | parameters
    )


def standardised(*arrays):
    return [(array - array.mean(axis=0)) / array.std(axis=0) for array in arrays]


def one_input(seed):
    """Return a random problem of one feature: x, y and a strength."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([10, 20, 50, 100, 200]))
    x = rng.uniform(-3.0, 5.0, n) if seed % 2 else rng.normal(2.0, 3.0, n)
    y = np.sin(2.0 * x) + 0.3 * x + rng.choice([0.0, 0.1, 0.5]) * rng.normal(size=n)
    return x, y, 10.0 ** rng.uniform(-4.5, -0.5)


# Automatic alpha


def test_the_table_of_a_path_ends_where_the_path_does(rng):
    x = rng.uniform(-3.0, 3.0, size=(150, 1))
    y = np.sin(2.0 * x[:, 0]) + 0.5 * rng.normal(size=150)
    least, sparse = (model(alpha="auto", ranks=(), selection=rule).fit(x, y) for rule in ("min", "one_se"))
    tried = tried_strengths(150)
    assert_array_equal(least.alphas_, tried[: len(least.alphas_)])
    assert least.mse_path_.shape == least.n_edges_path_.shape == (len(least.alphas_), 3)
    assert len(least.alphas_) < len(tried)
    assert_array_equal(least.mse_path_, sparse.mse_path_)
    means = least.mse_path_ @ least.fold_weights_
    assert least.best_index_ == np.flatnonzero(means <= 1.02 * means.min())[0]
    best = np.argmin(means)
    allowed = means[best] + least.mse_path_[best].std(ddof=1) / np.sqrt(3)
    assert sparse.best_index_ == min(least.best_index_, np.flatnonzero(means <= allowed)[0]) < least.best_index_
    for fitted in (least, sparse):
        assert fitted.alpha_ == fitted.alphas_[fitted.best_index_]
    assert sparse.n_knots_ < least.n_knots_


def test_one_fold_says_the_same_with_either_rule(rng):
    x = rng.uniform(-3.0, 3.0, size=(800, 1))
    y = np.sin(2.0 * x[:, 0]) + 0.5 * rng.normal(size=800)
    least, sparse = (model(alpha="auto", ranks=(), selection=rule).fit(x, y) for rule in ("min", "one_se"))
    assert least.mse_path_.shape == (len(least.alphas_), 1)
    assert_array_equal(least.fold_weights_, [1.0])
    assert_array_equal(least.predict(x), sparse.predict(x))


def test_the_table_is_in_units_of_the_full_fit_where_a_part_was_compared(rng, monkeypatch):
    monkeypatch.setattr(DeepSplineRegressor, "_choice_rows", 60)
    x = rng.uniform(-3.0, 3.0, size=(240, 1))
    fitted = model(alpha="auto", ranks=()).fit(x, np.sin(2.0 * x[:, 0]))
    assert_array_equal(fitted.alphas_, tried_strengths(240)[: len(fitted.alphas_)])
    assert fitted.alpha_ == fitted.alphas_[fitted.best_index_]


# One input


@pytest.mark.parametrize("seed", range(20))
def test_a_fit_of_one_input_is_the_exact_optimum(seed):
    x, y, alpha = one_input(seed)
    fitted = model(alpha=alpha, ranks=()).fit(x[:, None], y)
    lower, upper, predicted = spline_oracle(*standardised(x, y), alpha)
    assert lower <= upper * (1.0 + 1e-12)  # the oracle brackets the optimum by duality
    assert fitted.objective_ <= upper * (1.0 + 1e-3)
    assert fitted.objective_ >= lower * (1.0 - 1e-9)
    assert np.abs((fitted.predict(x[:, None]) - y.mean()) / y.std() - predicted).max() < 0.01
    assert fitted.n_knots_ <= len(x) - 1


@pytest.mark.parametrize("seed", range(4))
def test_the_objective_is_data_term_plus_alpha_times_the_norm_of_the_function(seed):
    x, y, alpha = one_input(seed)
    fitted = model(alpha=alpha, ranks=()).fit(x[:, None], y)
    spline = fitted.to_spline()
    xs, ys = x.std(), y.std()
    slopes = spline.c[0] * xs / ys
    at = lambda z: (spline(x.mean() + z * xs) - y.mean()) / ys  # noqa: E731
    norm = np.abs(np.diff(slopes)).sum() + abs(at(1.0) - at(0.0))
    loss = 0.5 * np.mean(((fitted.predict(x[:, None]) - y) / ys) ** 2)
    assert_allclose(fitted.rbv2_norm_, norm, rtol=1e-6)
    assert_allclose(fitted.objective_, loss + alpha * norm, rtol=1e-6)


@pytest.mark.parametrize("extrapolation", ["linear", "clip"])
@pytest.mark.parametrize("ranks", [(), (3,), (2, 3)])
def test_the_spline_is_the_prediction_on_and_off_the_data(ranks, extrapolation):
    x, y, _ = one_input(3)
    fitted = model(alpha=1e-3, ranks=ranks, extrapolation=extrapolation).fit(x[:, None], y)
    spline = fitted.to_spline()
    assert fitted.n_knots_ > 0
    t = np.concatenate([x, np.linspace(-50.0, 50.0, 301), spline.x])
    expected = fitted.predict(t[:, None])
    assert_allclose(spline(t), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    # Breakpoints but the outer two are knots, and the slope changes at each.
    assert len(spline.x) - 2 == fitted.n_knots_
    assert (np.diff(spline.c[0]) != 0).all()
    assert np.diff(spline.x).min() > 1e-12


def test_knots_are_seen_by_the_second_difference():
    x, y, _ = one_input(5)
    fitted = model(alpha=1e-3).fit(x[:, None], y)
    inner = fitted.to_spline().x[1:-1]
    away = np.setdiff1d(np.linspace(-10.0, 10.0, 400), inner)
    step = 1e-7
    away = away[np.abs(away[:, None] - inner).min(axis=1) > 2 * step]
    bend = fitted.predict((away - step)[:, None]) + fitted.predict((away + step)[:, None])
    assert np.abs(bend - 2.0 * fitted.predict(away[:, None])).max() < 1e-12


def test_several_outputs_give_one_spline_each():
    x, y, _ = one_input(7)
    Y = np.column_stack([y, np.abs(x - 1.0)])
    fitted = model(ranks=()).fit(x[:, None], Y)
    for spline, column in zip(fitted.to_spline(), fitted.predict(x[:, None]).T, strict=True):
        assert_allclose(spline(x), column, rtol=1e-9)


def test_a_line_is_a_spline_without_knots():
    x = np.linspace(0.0, 1.0, 20)
    fitted = model(ranks=()).fit(x[:, None], 3.0 * x - 1.0)
    spline = fitted.to_spline()
    assert fitted.n_knots_ == len(spline.x) - 2 == 0
    t = np.linspace(-5.0, 5.0, 11)
    assert_allclose(spline(t), fitted.predict(t[:, None]), rtol=1e-9)


def test_a_spline_needs_one_feature_and_a_fit(rng):
    with pytest.raises(NotFittedError):
        model().to_spline()
    X = rng.normal(size=(40, 2))
    fitted = model().fit(X, np.abs(X[:, 0]))
    assert not hasattr(fitted, "n_knots_")
    with pytest.raises(ValueError, match=r"to_spline needs a model of one feature, got 2; layers_"):
        fitted.to_spline()


# One shallow network


@pytest.mark.parametrize(("n_features", "n_rows", "alpha"), [(2, 200, 0.01), (5, 200, 0.01), (10, 200, 0.02)])
def test_no_neuron_is_missed(rng, n_features, n_rows, alpha):
    X = rng.normal(size=(n_rows, n_features))
    y = np.sin(2 * X[:, 0]) + np.abs(X[:, 0] + X[:, 1]) + 0.1 * rng.normal(size=n_rows)
    fitted = model(alpha=alpha, ranks=()).fit(X, y)
    residual = (y - fitted.predict(X)) / y.std()
    (standard,) = standardised(X)
    assert fitted.n_neurons_ > 3
    strongest = strongest_neuron(standard, residual, rng)
    assert 0.98 * alpha < strongest <= 1.02 * alpha


@pytest.mark.parametrize("penalty", ["path_norm", "multitask"])
def test_neurons_of_several_outputs_are_optimal(rng, penalty):
    X = rng.normal(size=(150, 3))
    Y = np.column_stack([np.abs(X[:, 0]) + X[:, 1], np.maximum(X[:, 0] - X[:, 2], 0.0)])
    fitted = model(alpha=0.01, ranks=(), penalty=penalty).fit(X, Y)
    assert fitted.stationarity_ < 0.05 * 0.01


def test_the_outer_search_finds_what_a_coarse_fit_misses(rng):
    """The check above can fail: a fit with fewer neurons than it needs does not pass it."""
    X = rng.normal(size=(200, 2))
    y = np.sin(2 * X[:, 0]) + np.abs(X[:, 0] + X[:, 1])
    fitted = model(alpha=0.01, ranks=(), max_neurons=2).fit(X, y)
    assert strongest_neuron(*standardised(X), (y - fitted.predict(X)) / y.std(), rng) > 1.1 * 0.01


# Structure


def test_ranks_bound_the_weights_between_neurons(rng):
    X = rng.normal(size=(120, 5))
    y = np.sin(X[:, 0] + X[:, 1]) * np.abs(X[:, 2])
    fitted = model(alpha=1e-4, ranks=(2, 3), max_iter=40, skip=False).fit(X, y)  # with lines one layer does it all
    assert len(fitted.weight_ranks_) == 2
    for rank, limit, later, earlier in zip(
        fitted.weight_ranks_, (2, 3), fitted.layers_[1:], fitted.layers_, strict=False
    ):
        values = np.linalg.svd(later.W @ earlier.V, compute_uv=False)
        assert rank == (values > 1e-10 * values[0]).sum() <= limit
    assert fitted.weight_ranks_ == (2, 3)


def test_layers_compose_to_the_prediction(rng):
    X = rng.normal(size=(100, 3))
    fitted = model(alpha=1e-4).fit(X, np.abs(X[:, 0]) - X[:, 1])
    h = X
    for layer in fitted.layers_:
        h = np.maximum(h @ layer.W.T - layer.b, 0.0) @ layer.V.T + h @ layer.C.T + layer.c
    assert_allclose(h[:, 0], fitted.predict(X), rtol=1e-10)


@pytest.mark.parametrize(("ranks", "alpha"), [((), 0.01), ((2,), 0.001), ((8,), 0.003), ((3, 3), 0.01)])
def test_path_norm_and_weight_decay_have_the_same_minimisers(rng, ranks, alpha):
    X = rng.uniform(size=(150, 5))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    ends = [
        model(alpha=alpha, ranks=ranks, penalty=penalty, n_neurons=64, max_iter=100).fit(X, y).objective_
        for penalty in ("path_norm", "weight_decay")
    ]
    assert_allclose(*ends, rtol=0.01)


def test_a_composition_is_no_worse_than_one_layer_of_it(rng):
    """With all neurons in the first layer the problem is a lasso, and training must not end above it."""
    X = rng.uniform(-1.0, 1.0, (200, 3))
    y = np.sin(3.0 * X[:, 0]) + X[:, 1] ** 2 * X[:, 2] + 0.1 * rng.normal(size=200)
    alone = model(alpha=0.005, ranks=(), n_neurons=64).fit(X, y)
    loss = alone.objective_ - 0.005 * alone.rbv2_norm_
    bound = loss + 0.005 * 2.0 * np.sqrt(alone.rbv2_norm_)  # both layers share the norm equally
    for seed in range(3):
        for ranks in ((2,), (8,)):
            deep = model(alpha=0.005, ranks=ranks, n_neurons=64, max_iter=60, random_state=seed).fit(X, y)
            assert deep.objective_ <= bound


def test_a_line_costs_no_neuron_unless_it_has_to_be_made_of_them(rng):
    X = rng.normal(size=(100, 3))
    y = X @ [1.0, -2.0, 0.5] + 3.0
    for ranks in ((), (2,)):
        straight = model(alpha=0.001, ranks=ranks).fit(X, y)
        assert straight.n_neurons_ == 0
        assert straight.score(X, y) > 0.999
        assert model(alpha=0.001, ranks=ranks, skip=False, max_iter=100).fit(X, y).n_neurons_ > 0


def test_lines_are_the_lasso_where_no_neuron_helps(rng):
    from sklearn.linear_model import Lasso

    X = rng.normal(size=(100, 3)) * [1.0, 5.0, 0.1]
    y = X @ [1.0, -0.2, 0.5] + 3.0
    fitted = model(alpha=0.05, ranks=()).fit(X, y)
    (standard,) = standardised(X)
    lasso = Lasso(alpha=0.05).fit(standard, (y - y.mean()) / y.std())
    assert fitted.n_neurons_ == 0
    assert_allclose(fitted.predict(X), lasso.predict(standard) * y.std() + y.mean(), rtol=1e-3)


def test_tasks_share_neurons(rng):
    X = rng.normal(size=(200, 4))
    kinks = np.abs(X[:, :2])
    Y = kinks @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(200, 5))
    shared = model(alpha=0.02, ranks=(), penalty="multitask").fit(X, Y)
    outgoing = shared.layers_[0].V
    assert outgoing.shape[1] > 0
    assert (outgoing != 0).all()  # a neuron is for all outputs or for none
    alone = model(alpha=0.02, ranks=(), penalty="path_norm").fit(X, Y).layers_[0].V
    assert (alone == 0).mean() > 0.3


@pytest.mark.parametrize("ranks", [(), (3,)])
def test_a_budget_of_neurons_is_met_and_well_spent(rng, ranks):
    X = rng.normal(size=(300, 4))
    y = np.abs(X[:, 0]) + np.maximum(X[:, 1] + X[:, 2], 0.0)
    objectives = []
    for budget in (0, 2, 6):
        fitted = model(alpha=1e-3, ranks=ranks, max_neurons=budget, max_iter=60).fit(X, y)
        assert fitted.n_neurons_ <= budget
        objectives.append(fitted.objective_)
    assert objectives[1] < 0.8 * objectives[0]
    assert objectives[2] < 1.001 * objectives[1]
    assert fitted.score(X, y) > 0.99


def test_neurons_on_the_same_hyperplane_are_one(rng):
    from sklearn_htmc._training.spline.network import SplineNetwork

    network = SplineNetwork((2, 1), (4,))
    arrays = {
        "W0": np.array([[0.6, 0.8], [-0.6, -0.8], [1.2, 1.6], [0.6, -0.8]]),
        "b0": np.array([0.3, -0.3, 0.6, 0.3]),
        "V0": np.array([[1.0, 2.0, 0.5, 1.0]]),
        "C0": np.array([[0.1, 0.2]]),
        "c": np.array([0.5]),
    }
    _, full = network.of(arrays)
    merged, parameters = network.compact(full.views, 0)
    assert merged.neurons == (2,)
    span = np.array([[-3.0, -3.0], [3.0, 3.0]])
    X = rng.normal(size=(50, 2))
    assert_allclose(
        merged.to_network(parameters.views, 0, span)(X), network.to_network(full.views, 0, span)(X), rtol=1e-12
    )
    assert sorted(np.abs(parameters.views["V0"][0, 0].numpy())) == pytest.approx([1.0, 4.0])


def rmse(predicted, y):
    return np.sqrt(np.mean((predicted - y) ** 2))


def wave(X):
    a, b = np.abs(X[:, 0]) + np.abs(X[:, 1]) + X[:, 2], np.maximum(X[:, 3], 0.0) + np.abs(X[:, 4]) - np.abs(X[:, 5])
    return np.sin(2.0 * a) * np.cos(1.5 * b)


def bump(X):
    a, b = np.abs(X[:, 0]) + np.abs(X[:, 1]) + X[:, 2], np.maximum(X[:, 3], 0.0) + np.abs(X[:, 4]) - X[:, 5]
    return np.exp(-((a - a.mean()) ** 2) - (b - b.mean()) ** 2)


def ridges(X):
    return np.abs(np.abs(X[:, 0]) + np.abs(X[:, 1]) - 0.9)


def test_depth_pays_where_the_target_is_a_small_composition(rng):
    X = rng.uniform(-1.0, 1.0, (1200, 2))
    y = ridges(X)
    train, test = slice(0, 200), slice(200, None)
    deep, shallow = (model(alpha=0.005, ranks=ranks, max_iter=60).fit(X[train], y[train]) for ranks in ((2,), ()))
    assert deep.objective_ < shallow.objective_
    assert rmse(deep.predict(X[test]), y[test]) < 0.5 * rmse(shallow.predict(X[test]), y[test])


def test_the_choice_of_alpha_sees_a_small_composition(rng):
    X = rng.uniform(-1.0, 1.0, (1200, 2))
    y = ridges(X)
    train, test = slice(0, 200), slice(200, None)
    chosen = model(alpha="auto", ranks=(2,), max_iter=60).fit(X[train], y[train])
    assert rmse(chosen.predict(X[test]), y[test]) < 0.25 * y.std()


@pytest.mark.slow
def test_depth_pays_where_the_target_is_a_composition(rng):
    X = rng.uniform(-1.0, 1.0, (4000, 8))
    y = bump(X)
    train, test = slice(0, 600), slice(1000, None)
    deep, shallow = (
        model(alpha=0.002, ranks=ranks, n_neurons=64, max_iter=100).fit(X[train], y[train]) for ranks in ((2,), ())
    )
    assert deep.objective_ < shallow.objective_
    assert deep.weight_ranks_ == (2,)
    assert rmse(deep.predict(X[test]), y[test]) < 0.5 * rmse(shallow.predict(X[test]), y[test])


@pytest.mark.slow
def test_the_choice_of_alpha_sees_compositions(rng):
    X = rng.uniform(-1.0, 1.0, (4000, 8))
    y = bump(X)
    train, test = slice(0, 1000), slice(1000, None)
    chosen = model(alpha="auto", ranks=(2,), n_neurons=64, max_iter=150).fit(X[train], y[train])
    assert chosen.weight_ranks_ == (2,)
    assert rmse(chosen.predict(X[test]), y[test]) < 0.25 * y.std()


def test_early_stopping_keeps_a_network_that_was_trained_with_its_ranks(rng):
    X = rng.uniform(-1.0, 1.0, (600, 6))
    y = bump(X)
    stopped = model(ranks=(2,), max_iter=100, early_stopping=True, n_iter_no_change=5).fit(X, y)
    assert 60 < stopped.n_iter_ <= 100  # coordinates are condensed up to 60 % of the passes
    assert max(stopped.weight_ranks_) <= 2
    assert stopped.score(X, y) > 0.8


@pytest.mark.parametrize("target", [pytest.param(wave, marks=pytest.mark.slow), bump])
def test_depth_pays_against_a_network_without_structure(rng, target):
    X = rng.uniform(-1.0, 1.0, (4000, 8))
    y = target(X)
    train, test = slice(0, 1000), slice(1000, None)
    deep = model(alpha=1e-3, ranks=(2,), n_neurons=64, max_iter=100).fit(X[train], y[train])
    assert deep.weight_ranks_ == (2,)
    peer = MLPRegressor(hidden_layer_sizes=(128,), max_iter=2000, random_state=0).fit(X[train], y[train])
    assert rmse(deep.predict(X[test]), y[test]) < 0.5 * rmse(peer.predict(X[test]), y[test])


# Parameters


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 0.03},
        {"ranks": (2,)},
        {"n_neurons": 8},
        {"penalty": "weight_decay"},
        {"skip": False},
        {"max_neurons": 3},
        {"max_iter": 40},
        {"batch_size": 20},
        {"early_stopping": True},
        {"random_state": 1},
    ],
)
def test_every_parameter_changes_the_fit(ramps, parameters):
    X, y = ramps(120)
    large = {"alpha": 1e-4, "n_neurons": 64}  # large enough to depend on training
    plain, changed = (model(**large | more).fit(X, y) for more in ({}, parameters))
    assert plain.n_neurons_ > 40
    assert not np.array_equal(plain.predict(X), changed.predict(X))


def test_the_penalty_for_several_tasks_changes_the_fit(ramps):
    X, y = ramps(120)
    Y = np.column_stack([y, y**2])
    fits = [model(penalty=penalty).fit(X, Y).predict(X) for penalty in ("path_norm", "multitask")]
    assert not np.array_equal(*fits)


def test_extrapolation_changes_what_is_beyond_the_data(ramps):
    X, y = ramps(100)
    linear, clip = (model(extrapolation=how).fit(X, y) for how in ("linear", "clip"))
    far = 10.0 * X
    assert_allclose(clip.predict(far), clip.predict(np.clip(far, X.min(axis=0), X.max(axis=0))))
    assert not np.allclose(linear.predict(far), clip.predict(far))
    assert_array_equal(linear.predict(X), clip.predict(X))


def test_warm_start_goes_on_from_the_fitted_network(ramps):
    X, y = ramps(150)
    cold = model(max_iter=3).fit(X, y)
    warm = model(max_iter=3, warm_start=True).fit(X, y).fit(X, y)
    assert warm.loss_curve_[0] < 0.5 * cold.loss_curve_[0]


@pytest.mark.parametrize("ranks", [(), (2,)])
def test_neurons_beyond_the_initial_ones_are_not_lost_when_fitting_on(ramps, ranks):
    X, y = ramps(150)
    sizes = {"alpha": 1e-3, "n_neurons": 1, "ranks": ranks}
    fitted = model(**sizes).fit(X, y)
    assert max(len(layer.b) for layer in fitted.layers_) > 1
    first_loss = fitted.set_params(warm_start=True).fit(X, y).loss_curve_[0]
    assert first_loss < 0.5 * model(**sizes).fit(X, y).loss_curve_[0]
    assert fitted.partial_fit(X, y).score(X, y) > 0.95  # a pass of constant steps moves away a little


def test_a_larger_alpha_gives_fewer_neurons_and_one_gives_the_mean(ramps):
    X, y = ramps(150)
    fits = [model(alpha=alpha, ranks=()).fit(X, y) for alpha in (1e-3, 1e-2, 1e-1, 1.0)]
    sizes = [fitted.n_neurons_ for fitted in fits]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1] == 0
    assert_allclose(fits[-1].predict(X), y.mean())


# Edges


def edge_table(kind, n_features, x_scale, y_scale):
    """Return a table with little in it: y is ``|x_0| + x_-1`` unless it is constant."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=({"one row": 1, "two rows": 2}.get(kind, 12), n_features))
    if kind in ("constant X", "constant"):
        X[:] = X[0]
    y = np.abs(X[:, 0]) + X[:, -1] + np.arange(len(X))
    if kind in ("constant y", "constant"):
        y[:] = 0.1
    return (X > 0 if kind == "boolean" else x_scale * X), y_scale * y


# Any two of the three settings meet in every way.
STRUCTURES = [((), True, None), ((2,), True, 0), ((), False, 0), ((2,), False, None)]


@pytest.mark.parametrize("kind", ["constant X", "constant y", "constant", "one row", "two rows", "boolean", "plain"])
@pytest.mark.parametrize(("ranks", "skip", "max_neurons"), STRUCTURES)
@pytest.mark.parametrize(("x_scale", "y_scale"), [(1.0, 1.0), (1e-18, 1e12), (1e-12, 1e18), (1e18, 1e-18)])
def test_little_data_of_any_size_is_fitted_without_a_warning(kind, ranks, skip, max_neurons, x_scale, y_scale):
    for n_features in (1, 3):
        X, y = edge_table(kind, n_features, x_scale, y_scale)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = model(ranks=ranks, skip=skip, max_neurons=max_neurons, n_neurons=8, max_iter=3).fit(X, y)
            predicted = fitted.predict(X)
        assert np.isfinite(predicted).all()
        if np.ptp(y) == 0:
            assert_array_equal(predicted, y)
        if n_features == 1:
            x = X[:, 0].astype(float)
            extent = max(np.ptp(x), abs(x[0]))
            t = np.concatenate([x, x.min() + extent * np.linspace(-3.0, 4.0, 41)])
            expected = fitted.predict(t[:, None])
            spread = max(np.ptp(expected), 1e-3 * np.abs(expected).max())
            assert np.abs(fitted.to_spline()(t) - expected).max() <= 1e-9 * spread


@pytest.mark.parametrize("columns", ["path_norm", "multitask"])
def test_several_constant_targets_are_exact(rng, columns):
    X, Y = rng.normal(size=(10, 1)), np.tile([0.1, -3.7], (10, 1))
    fitted = model(ranks=(), skip=False, penalty=columns).fit(X, Y)
    assert_array_equal(fitted.predict(X), Y)
