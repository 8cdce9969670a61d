"""ResNetNormRegressor: what every parameter does and what every attribute says."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import learning_curve

from sklearn_htmc import DeepSplineRegressor, ResNetNormRegressor
from sklearn_htmc._automatic import automatic_strengths
from sklearn_htmc._table import Table
from sklearn_htmc._training.choice import Verdict

pytestmark = pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning")


# Parameters


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 0.1},
        {"n_blocks": 1},
        {"width": 8},
        {"n_neurons": 8},
        {"weighting": "path"},
        {"max_edges": 30},
        {"max_iter": 10},
        {"batch_size": 32},
        {"early_stopping": True},
        {"random_state": 1},
        {"max_time": 1e-6},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
@pytest.mark.filterwarnings("ignore:max_time=1e-06 seconds:sklearn.exceptions.ConvergenceWarning")
def test_changing_a_parameter_changes_the_fit(ramps, quick, parameters):
    X, y = ramps(200)
    plain, changed = quick().fit(X, y), quick(**parameters).fit(X, y)
    assert np.abs(plain.predict(X) - changed.predict(X)).max() > 1e-3


@pytest.mark.parametrize("parameters", [{"validation_fraction": 0.3}, {"n_iter_no_change": 1}], ids=str)
def test_changing_a_parameter_of_early_stopping_changes_the_fit(ramps, quick, parameters):
    X, y = ramps(200, noise=1.0)
    plain = quick(early_stopping=True, max_iter=60).fit(X, y)
    changed = quick(early_stopping=True, max_iter=60, **parameters).fit(X, y)
    assert np.abs(plain.predict(X) - changed.predict(X)).max() > 1e-3


def test_larger_alpha_gives_fewer_edges_a_smaller_norm_and_a_worse_fit(ramps, quick):
    X, y = ramps(200)
    fits = [quick(alpha=alpha, max_iter=60).fit(X, y) for alpha in (1e-3, 1e-2, 1e-1, 1.0)]
    for attribute in ("n_edges_", "n_neurons_", "resnet_norm_"):
        values = [getattr(model, attribute) for model in fits]
        assert values == sorted(values, reverse=True), attribute
    scores = [model.score(X, y) for model in fits]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.95
    assert fits[-1].n_edges_ == 0


@pytest.mark.parametrize("budget", [1, 10, 100])
def test_budget_of_edges_is_met(ramps, quick, budget):
    X, y = ramps(150)
    model = quick(max_edges=budget, n_neurons=16, width=8).fit(X, y)
    assert model.n_edges_ == model.network_.n_edges <= budget
    assert model.network_.n_blocks <= model.n_blocks
    matrices = [m for b in model.network_.blocks for m in (b.inner, b.outer, b.skip) if m is not None]
    written = sum(m.count_nonzero() for m in matrices)
    written += sum(np.count_nonzero(block.bias) for block in model.network_.blocks)
    written += sum(np.count_nonzero(block.offset) for block in model.network_.blocks[:-1])
    assert written == model.n_edges_
    if budget >= 30:
        assert model.score(X, y) > 0.9


@pytest.mark.parametrize(
    "parameters",
    [{"early_stopping": True}, {"alpha": "auto"}, {"weighting": "path"}, {"max_iter": 1}],
    ids=str,
)
def test_budget_of_edges_is_met_with_other_parameters(ramps, quick, parameters):
    X, y = ramps(150)
    model = quick(max_edges=20, n_neurons=16, width=8, **parameters).fit(X, y)
    assert 0 < model.n_edges_ <= 20


def test_path_shows_the_networks_on_the_way_to_the_budget(ramps, quick):
    X, y = ramps(150)
    model = quick(max_edges=15, n_neurons=16, width=8).fit(X, y)
    path = model.path_
    assert len(path.networks) == len(path.n_edges) == len(path.loss) > 3
    assert (np.diff(path.n_edges) > 0).all()
    assert (np.diff(path.loss) < 0).all()
    assert np.isnan(path.validation_loss).all()
    for network, loss in zip(path.networks, path.loss, strict=True):
        assert 0.5 * np.mean((network(X)[:, 0] - y) ** 2) / y.var() == pytest.approx(loss, rel=1e-6)
    for budget in (int(path.n_edges[0]), 40, 10**6):
        fitting = path.n_edges <= budget
        assert path.within(budget) is path.networks[np.flatnonzero(fitting)[-1]]
        assert path.within(budget).n_edges <= budget
    assert_array_equal(path.n_edges, [network.n_edges for network in path.networks])
    with pytest.raises(ValueError, match=f"max_edges must be at least {path.n_edges[0]}, .* got {path.n_edges[0] - 1}"):
        path.within(int(path.n_edges[0]) - 1)
    assert not hasattr(model.set_params(max_edges=None).fit(X, y), "path_")


def test_budget_that_is_not_needed_changes_nothing_much(ramps, quick):
    X, y = ramps(150)
    model = quick(max_edges=10_000, n_neurons=8, width=4).fit(X, y)
    assert_allclose(model.score(X, y), quick(n_neurons=8, width=4).fit(X, y).score(X, y), atol=0.03)


def test_network_is_at_most_as_large_as_its_parameters_allow(ramps, quick):
    X, y = ramps(100)
    model = quick(alpha=1e-5, n_blocks=3, width=5, n_neurons=7).fit(X, y)
    assert len(model.network_.blocks) == 3 + 2
    for block in model.network_.blocks[1:-1]:
        assert block.offset.size <= 5
        assert block.n_neurons <= 7
    assert model.n_neurons_ == model.network_.n_neurons <= 21


def test_max_iter_limits_the_passes(ramps, quick):
    X, y = ramps(100)
    for max_iter in (1, 7):
        model = quick(max_iter=max_iter).fit(X, y)
        assert model.n_iter_ == len(model.loss_curve_) == max_iter


def test_a_batch_of_all_rows_is_the_largest(ramps, quick):
    X, y = ramps(100)
    all_rows = quick(batch_size=100).fit(X, y).predict(X)
    for batch_size in (101, 10**9, "auto"):
        assert_array_equal(quick(batch_size=batch_size).fit(X, y).predict(X), all_rows)


def test_tol_decides_who_is_warned_and_nothing_else(ramps, quick, recwarn):
    X, y = ramps(80)
    patient = quick(tol=1e9).fit(X, y)
    assert len(recwarn) == 0
    with pytest.warns(ConvergenceWarning, match="stationarity_ is"):
        strict = quick(tol=0.0).fit(X, y)
    assert_array_equal(strict.predict(X), patient.predict(X))
    assert strict.stationarity_ == patient.stationarity_ > 0


def test_early_stopping_stops_when_nothing_gets_better(rng, quick):
    X, y = rng.normal(size=(150, 4)), rng.normal(size=150)
    early = quick(early_stopping=True, max_iter=200, n_iter_no_change=15).fit(X, y)
    full = quick(max_iter=200).fit(X, y)
    assert early.n_iter_ < full.n_iter_ == 200
    assert np.isfinite(early.predict(X)).all()
    X_new, y_new = rng.normal(size=(500, 4)), rng.normal(size=500)
    assert early.score(X_new, y_new) > full.score(X_new, y_new)


def test_more_patience_means_more_passes(ramps, quick):
    X, y = ramps(150, noise=1.0)
    fits = [quick(early_stopping=True, max_iter=150, n_iter_no_change=n).fit(X, y).n_iter_ for n in (5, 30, 1000)]
    assert fits == sorted(fits)
    assert fits[0] < fits[-1] == 150


def test_extrapolation_matters_outside_the_range_only(ramps, quick):
    X, y = ramps(100)
    clip, linear = (quick(extrapolation=how).fit(X, y) for how in ("clip", "linear"))
    assert_array_equal(clip.predict(X), linear.predict(X))
    assert_array_equal(clip.predict(10 * X), clip.predict(np.clip(10 * X, X.min(axis=0), X.max(axis=0))))
    far = 1e4 * X[:1]
    assert np.abs(clip.predict(far)) < 20
    near, middle, away = (linear.predict(factor * far)[0] for factor in (1, 2, 3))
    assert away - middle == pytest.approx(middle - near, rel=1e-6)  # affine on a ray far out
    assert abs(near) > 100


def test_warm_start_starts_where_the_last_fit_ended(ramps, quick):
    X, y = ramps(150)
    model = quick(warm_start=True).fit(X, y)
    cold, ended = model.loss_curve_[0], model.loss_curve_[-1]
    model.fit(X, y)
    assert model.loss_curve_[0] < ended + 0.3 * (cold - ended)
    assert model.score(X, y) > 0.9


def test_without_warm_start_the_last_fit_is_forgotten(ramps, quick):
    X, y = ramps(100)
    model = quick().fit(3 * X, -y)
    assert_array_equal(model.fit(X, y).predict(X), quick().fit(X, y).predict(X))


def test_warm_start_from_a_network_that_has_no_room_is_a_cold_start(ramps, quick):
    X, y = ramps(100)
    for parameters in ({"n_blocks": 1}, {"width": 2}, {"n_neurons": 2}):
        model = quick(warm_start=True).fit(X, y).set_params(**parameters).fit(X, y)
        assert_array_equal(model.predict(X), quick(**parameters).fit(X, y).predict(X))
    model = quick(warm_start=True).fit(X, y).fit(X[:, :3], y)
    assert_array_equal(model.predict(X[:, :3]), quick().fit(X[:, :3], y).predict(X[:, :3]))


def test_warm_start_from_another_scale_and_a_constant_works(ramps, quick):
    X, y = ramps(150)
    model = quick(warm_start=True, max_iter=40).fit(X[:20], np.ones(20))
    assert model.n_edges_ == 0
    assert model.fit(X, 1e6 * y).score(X, 1e6 * y) > 0.9
    assert model.fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "auto"])
def test_device_is_reported(ramps, quick, device):
    X, y = ramps(60)
    assert quick(device=device).fit(X, y).device_ == "cpu"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("alpha", [0.003, "auto"])
def test_cuda_fits_as_well_as_the_cpu(ramps, quick, alpha):
    X, y = ramps(400)
    cpu, cuda = (quick(alpha=alpha, max_iter=100, device=device).fit(X, y) for device in ("cpu", "cuda"))
    assert cuda.device_.startswith("cuda")
    assert cuda.score(X, y) == pytest.approx(cpu.score(X, y), abs=0.02)
    again = quick(alpha=alpha, max_iter=100, device="cuda").fit(X, y)
    assert again.score(X, y) == pytest.approx(cuda.score(X, y), abs=0.02)


@pytest.mark.parametrize("alpha", [0.003, "auto"])
def test_verbose_shows_a_bar_on_stderr(ramps, quick, capsys, alpha):
    X, y = ramps(80)
    quick(alpha=alpha).fit(X, y)
    assert capsys.readouterr() == ("", "")
    quick(alpha=alpha, verbose=1).fit(X, y)
    shown = capsys.readouterr()
    assert shown.out == ""
    first = "the search for alpha" if alpha == "auto" else "training"
    for word in (first, "second-order phase", "100%", "passes=", "loss=", "edges=", "stationarity="):
        assert word in shown.err


# Automatic alpha


def test_automatic_alpha_is_one_of_the_strengths_and_fits(ramps, quick):
    X, y = ramps(150)
    model = quick(alpha="auto", max_iter=40).fit(X, y)
    assert model.alpha_ in automatic_strengths(150)
    assert model.score(*ramps(300)) > 0.9


def test_more_noise_gets_a_larger_alpha(ramps, quick):
    clean, noisy = (quick(alpha="auto", max_iter=60).fit(*ramps(150, noise=noise)) for noise in (0.01, 3.0))
    assert noisy.alpha_ > clean.alpha_
    assert noisy.n_edges_ < clean.n_edges_


def test_a_given_alpha_is_used_as_it_is(ramps, quick):
    assert quick(alpha=0.0123).fit(*ramps(60)).alpha_ == 0.0123


TABLE = ("alphas_", "best_index_", "mse_path_", "n_edges_path_", "fold_weights_")


def test_the_table_of_the_choice_is_that_of_networks_of_the_folds(ramps, quick, monkeypatch):
    dealt, networks = [], []
    folds, verdict = Table.folds, Verdict.of
    monkeypatch.setattr(Table, "folds", lambda *args: dealt.append((args[0], folds(*args))) or dealt[-1][1])
    monkeypatch.setattr(
        Verdict, "of", lambda task, network: networks.append(task.exported(*network)) or verdict(task, network)
    )
    monkeypatch.setattr("sklearn_htmc._training.choice._N_SHARDS", 1)  # strength by strength, fold by fold
    X, y = ramps(90)
    weights = np.arange(90) % 3 + 1.0
    model = quick(alpha="auto").fit(X, np.column_stack([y, 100.0 * X[:, 0]]), weights)
    ((table, fold),) = dealt
    errors, edges, shares = np.empty((6, 3)), np.empty((6, 3)), np.bincount(fold, table.weights)
    raw = table.targets.inverse().forward(table.y)
    for number, network in enumerate(networks):
        place = 5 - number // 3, number % 3
        out = fold == place[1]
        off = np.square(table.targets.inverse().forward(network(table.X[out])) - raw[out])
        errors[place], edges[place] = table.weights[out] @ off.mean(axis=1) / shares[place[1]], network.n_edges
    assert_allclose(model.mse_path_, errors, rtol=1e-9)
    assert_array_equal(model.n_edges_path_, edges)
    assert_allclose(model.fold_weights_, shares)
    assert_array_equal(model.alphas_, automatic_strengths(90))


def test_the_least_error_of_the_table_is_what_was_chosen(ramps, quick):
    X, y = ramps(120)
    model = quick(alpha="auto").fit(X, 1e200 * y)  # whose squares no double holds
    assert np.isinf(model.mse_path_).all()
    model.fit(X, y)
    assert model.alpha_ == model.alphas_[model.best_index_]
    assert model.best_index_ == np.argmin(model.mse_path_ @ model.fold_weights_)
    assert (np.diff(model.alphas_) < 0).all()
    assert (model.n_edges_path_[-1] > model.n_edges_path_[0]).all()


def test_the_table_is_only_where_alpha_was_chosen(ramps, quick):
    X, y = ramps(90)
    model = quick(alpha="auto").fit(X, y)
    for later in (
        lambda: model.partial_fit(X, y),
        lambda: model.set_params(alpha=0.01).fit(X, y),
        lambda: model.set_params(alpha="auto").fit(X[:5], y[:5]),
    ):
        model.set_params(alpha="auto").fit(X, y)
        assert all(hasattr(model, name) for name in TABLE)
        later()
        for name in TABLE:
            with pytest.raises(AttributeError, match=f"has no {name} unless fit has chosen alpha"):
                getattr(model, name)


def test_one_standard_error_takes_the_largest_alpha_within_it(ramps, quick):
    X, y = ramps(90, noise=1.0)
    least, sparse = (quick(alpha="auto", selection=rule, width=4, n_neurons=8).fit(X, y) for rule in ("min", "one_se"))
    assert_array_equal(least.mse_path_, sparse.mse_path_)
    means, best = least.mse_path_ @ least.fold_weights_, least.best_index_
    allowed = means[best] + least.mse_path_[best].std(ddof=1) / np.sqrt(3)
    assert sparse.best_index_ == np.flatnonzero(means <= allowed)[0] < best
    assert sparse.alpha_ == sparse.alphas_[sparse.best_index_] > least.alpha_
    assert sparse.n_edges_ < least.n_edges_


def test_folds_judge_a_few_rows_and_one_hold_out_judges_many(ramps, quick, monkeypatch):
    asked = []
    folds = Table.folds
    monkeypatch.setattr(Table, "folds", lambda table, n, state: asked.append(n) or folds(table, n, state))
    monkeypatch.setattr("sklearn_htmc._automatic._HOLD_OUT_ROWS", 150)
    for n_rows in (150, 151):
        X, y = ramps(n_rows)
        model = quick(alpha="auto").fit(X, y)
        assert model.alpha_ in automatic_strengths(n_rows)
        assert model.score(X, y) > 0.8
    assert asked == [3, 10]


# Attributes


def test_documented_attributes_are_those_of_a_fit(ramps, quick):
    X, y = ramps(60)
    model = quick(alpha="auto", max_edges=20, n_neurons=8, width=4).fit(pd.DataFrame(X, columns=list("abcd")), y)
    section = ResNetNormRegressor.__doc__.split("Attributes\n")[1].split("See Also")[0]
    documented = set(re.findall(r"^    (\w+) : ", section, flags=re.MULTILINE))
    present = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert documented == present


def test_objective_is_the_data_term_plus_alpha_times_the_norm(ramps, quick):
    X, y = ramps(100)
    weights = np.linspace(0.0, 2.0, 100)
    model = quick().fit(X, y, weights)
    mean = np.average(y, weights=weights)
    variance = np.average((y - mean) ** 2, weights=weights)
    loss = 0.5 * np.average((model.predict(X) - y) ** 2, weights=weights) / variance
    assert model.objective_ == pytest.approx(loss + model.alpha_ * model.resnet_norm_, rel=1e-9)
    assert model.resnet_norm_ > 0.5


def test_loss_curve_falls(ramps, quick):
    curve = quick().fit(*ramps(100)).loss_curve_
    assert all(type(loss) is float for loss in curve)
    assert curve[-1] < 0.1 * curve[0]


def test_predict_is_a_call_of_the_network(ramps, quick):
    X, y = ramps(100)
    model = quick().fit(X, y)
    assert_array_equal(model.predict(2 * X), model.network_(2 * X)[:, 0])
    assert_array_equal(model.network_.input_range, [X.min(axis=0), X.max(axis=0)])


def test_feature_importances_are_shares_and_tell_who_matters(ramps, quick):
    X, y = ramps(200, n_features=8)
    shares = quick(alpha=0.01, max_iter=100).fit(X, y).feature_importances_
    assert shares.shape == (8,)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares >= 0).all()
    assert shares[:3].sum() > 0.9
    assert shares[:3].min() > shares[3:].max()


# partial_fit


def chunks(X, y, size):
    return [(X[start : start + size], y[start : start + size]) for start in range(0, len(X), size)]


@pytest.mark.parametrize("alpha", [0.003, "auto"])
def test_partial_fit_learns_from_chunks(ramps, quick, alpha):
    parts, (X, y) = chunks(*ramps(2000), 200), ramps(500)
    model, scores = quick(alpha=alpha), []
    for _ in range(3):
        for part in parts:
            assert model.partial_fit(*part) is model
        scores.append(model.score(X, y))
    assert scores == sorted(scores)
    assert scores[0] > 0.5
    assert scores[-1] > 0.95
    assert model.alpha_ == (0.001 if alpha == "auto" else alpha)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("estimator", [ResNetNormRegressor, DeepSplineRegressor])
def test_partial_fit_from_a_handful_of_rows_is_no_worse_than_their_mean(seed, estimator):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(400, 5))
    y = 2 * X[:, 0] + np.abs(X[:, 1]) + 0.1 * rng.normal(size=400)
    sizes = [8, 16, 40, 160, 320]
    model = estimator(random_state=0)
    _, _, scores = learning_curve(model, X, y, train_sizes=sizes, exploit_incremental_learning=True)
    means = scores.mean(axis=1)
    assert means.min() > -0.1
    assert means[3] > 0.8


@pytest.mark.parametrize("n_first", [1, 2, 3])
def test_units_of_partial_fit_follow_the_rows(ramps, n_first):
    """The first rows are no measure of the others."""
    X, y = ramps(600)
    for shift, size in ((0.0, 1.0), (1e3, 1e3)):
        model = ResNetNormRegressor(random_state=0).partial_fit(size * X[:n_first], y[:n_first] + shift)
        for part in chunks(size * X[:400], y[:400] + shift, 20):
            model.partial_fit(*part)
        assert model.score(size * X[400:], y[400:] + shift) > 0.5


def test_a_feature_that_has_been_constant_so_far_changes_nothing(ramps):
    X, y = ramps(200)
    X[:100, 3] = 14.63
    model = ResNetNormRegressor(random_state=0).partial_fit(X[:100], y[:100])
    Z = X[:100].copy()
    Z[:, 3] = 14.62
    assert_array_equal(model.predict(Z), model.predict(X[:100]))
    for _ in range(5):
        model.partial_fit(X[100:], y[100:])
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("estimator", [ResNetNormRegressor, DeepSplineRegressor])
def test_a_pickle_after_partial_fit_is_small_and_goes_on_the_same(ramps, estimator):
    X, y = ramps(150)
    model = estimator(random_state=0).partial_fit(X, y)
    dumped = pickle.dumps(model)
    assert len(dumped) < 8 * model.n_edges_ + 4_000  # single precision, and what the blocks need
    copy = pickle.loads(dumped)
    for _ in range(3):
        assert_array_equal(copy.partial_fit(X, y).predict(X), model.partial_fit(X, y).predict(X))
        copy = pickle.loads(pickle.dumps(copy))


def test_partial_fit_goes_on_from_a_fit(ramps, quick):
    X, y = ramps(1000)
    model = quick(max_iter=40).fit(X[:200], y[:200])
    before = model.score(X, y)
    predicted = model.predict(X)
    for part in chunks(X[200:], y[200:], 200):
        model.partial_fit(*part)
        assert model.score(X, y) > before - 0.1
    assert not np.array_equal(model.predict(X), predicted)
    fresh = quick().partial_fit(X[200:400], y[200:400])
    assert fresh.score(X, y) < before - 0.1  # what would be left if it started anew


def test_partial_fit_keeps_automatic_alpha(ramps, quick):
    X, y = ramps(150)
    model = quick(alpha="auto").fit(X, y)
    chosen = model.alpha_
    assert model.partial_fit(X, y).alpha_ == chosen != 0.001


def test_partial_fit_covers_the_range_of_all_rows(ramps, quick):
    X, y = ramps(100)
    model = quick().partial_fit(X, y).partial_fit(2 * X, y)
    assert_array_equal(model.network_.input_range, [2 * X.min(axis=0), 2 * X.max(axis=0)])


def test_partial_fit_heeds_weights(rng, ramps, quick):
    X, y = ramps(100)
    weights = rng.integers(0, 3, 100)
    weighted = quick().partial_fit(X, y, weights)
    repeated = quick().partial_fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    assert_array_equal(weighted.predict(X), repeated.predict(X))


def test_partial_fit_learns_several_outputs(ramps, quick):
    X, y = ramps(400)
    Y, model = np.column_stack([y, np.abs(X[:, 3])]), quick(alpha=0.001)
    for _ in range(15):
        model.partial_fit(X, Y)
    assert model.score(X, Y) > 0.8


def test_fit_after_partial_fit_is_a_fit(ramps, quick):
    X, y = ramps(100)
    model = quick().partial_fit(3 * X, -y)
    assert_array_equal(model.fit(X, y).predict(X), quick().fit(X, y).predict(X))


# circuit_size_bound


def test_circuit_size_bound_is_the_square_of_norm_over_epsilon_up_to_the_edges(ramps, quick):
    model = quick(alpha=0.01, max_iter=60).fit(*ramps(100))
    R, n_edges = model.resnet_norm_, model.n_edges_
    for epsilon in (2.0, 1.0, np.float32(0.5)):
        assert model.circuit_size_bound(epsilon) == min(n_edges, int(np.ceil((R / epsilon) ** 2)))
    assert model.circuit_size_bound(R) == 1
    bounds = [model.circuit_size_bound(epsilon) for epsilon in (1e-300, 1e-5, 0.1, 1, 10, 1e300, np.inf)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == n_edges
    assert all(type(bound) is int for bound in bounds)
