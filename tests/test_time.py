"""Fits that are short of time, or interrupted: what they end with, when, and what they say."""

from __future__ import annotations

import math
import os
import pickle
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score

from sklearn_htmc import (
    DeepSplineRegressor,
    DeepSplineRegressorCV,
    ResNetNormRegressor,
    ResNetNormRegressorCV,
    _paths,
)
from sklearn_htmc._interrupts import timed
from sklearn_htmc._training.core import deadline as module
from sklearn_htmc._training.core.deadline import SECOND_ORDER, TRAINING, Deadline
from sklearn_htmc._training.core.problems import Problems, Settings
from sklearn_htmc._training.first_order.loop import train
from sklearn_htmc._training.first_order.pace import Pace
from sklearn_htmc._training.residual.network import ResidualNetwork

ENDLESS = {"max_iter": 100_000, "random_state": 0, "tol": 10.0}  # some hours
SOON = 25.0  # seconds: nothing beside those hours, and enough for a machine with other work
BOTH = pytest.mark.parametrize("regressor", [ResNetNormRegressor, DeepSplineRegressor])


@pytest.fixture
def clock(monkeypatch):
    """Return the time, which only a test moves: ``clock[0] += 1``."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def interrupt_after(*delays):
    timers = [threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)) for delay in delays]
    for timer in timers:
        timer.start()
    return timers


def interrupt_with_a_network(monkeypatch):
    """Send the signal when the fit has its first network: some fits end in less time than others take to begin."""
    asked, before = threading.Event(), Deadline.holds_network

    def holds_network(deadline):
        before(deadline)
        if not asked.is_set():
            asked.set()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Deadline, "holds_network", holds_network)


def is_measured(model, X, y):
    """Whether attributes are those of the network, and it says more than the mean."""
    matrices = [m for b in model.network_.blocks for m in (b.inner, b.outer, b.matrix) if m is not None]
    written = sum(m.count_nonzero() for m in matrices)
    written += sum(np.count_nonzero(v) for b in model.network_.blocks for v in (b.bias, b.offset) if v is not None)
    assert model.n_edges_ <= written
    assert math.isfinite(model.objective_)
    assert math.isfinite(model.stationarity_)
    assert len(model.loss_curve_) == model.n_iter_
    assert_array_equal(model.predict(X), model.network_(X)[:, 0])
    return model.score(X, y) > 0.2


# Deadlines


def test_turns_and_parts_share_the_time(clock):
    whole = Deadline(12.0)
    for place in range(4):
        turn = whole.turn(place, 4)
        assert turn.left == pytest.approx(3.0)
        clock[0] += 3.0
    assert not whole.allows(TRAINING)
    whole = Deadline(12.0)
    assert [whole.turn(place, 4, 2).left for place in range(4)] == pytest.approx([6.0, 6.0, 12.0, 12.0])
    part = whole.part(0.5)
    clock[0] += 5.0
    assert part.left == pytest.approx(1.0)
    assert part.part(0.5).left == pytest.approx(0.5)
    clock[0] += 2.0
    assert part.left == pytest.approx(-1.0)
    assert part.part(0.5).left == 0.0  # a part of nothing does not go back in time


def test_without_a_limit_nothing_ends(clock):
    whole = Deadline()
    part = whole.part(0.1).turn(0, 10)
    clock[0] += 1e9
    assert part.allows(TRAINING)
    assert part.left == math.inf
    assert not part.is_limited
    assert whole.refused == ()


@pytest.mark.parametrize(("passed", "grace"), [(0.5, 1.05), (10.0, 2.0), (3600.0, 5.0)])
@pytest.mark.parametrize("seconds", [None, 1e6])
def test_an_interrupt_leaves_little_time_and_parts_the_same_shares_of_it(clock, passed, grace, seconds):
    whole = Deadline(seconds)
    part, inner = whole.part(0.5), whole.part(0.5).part(0.2)
    assert not whole.interrupt()  # there is no network yet
    assert part.allows(TRAINING)
    clock[0] += passed
    assert whole.interrupt()
    assert (whole.left, part.left, inner.left) == pytest.approx((grace, grace / 2, grace / 10))
    clock[0] += grace / 2
    assert not part.allows(TRAINING)
    assert whole.part(1.0).left == pytest.approx(grace / 2)
    assert whole.part(1.0).allows(SECOND_ORDER)
    assert whole.refused == (TRAINING,)


def test_an_interrupt_never_lengthens(clock):
    whole = Deadline(0.5)
    part = whole.part(0.5)
    whole.holds_network()
    clock[0] += 0.2
    whole.interrupt()
    assert (whole.left, part.left) == pytest.approx((0.3, 0.05))


def test_what_has_a_name_is_cut_short_by_that_name():
    whole = Deadline(0.0)
    for _ in range(2):
        assert not whole.part(1.0, "the search").part(0.5, "inner").allows(TRAINING)
    assert not whole.allows(SECOND_ORDER)
    assert whole.refused == ("the search", SECOND_ORDER)


def test_a_deadline_goes_to_other_processes_as_an_instant(clock, monkeypatch):
    wall = [1e9]
    monkeypatch.setattr(time, "time", lambda: wall[0])
    sent = pickle.dumps(Deadline(60.0).part(0.5, "the search"))
    wall[0], clock[0] = wall[0] + 10.0, 5.0  # a clock that began elsewhere
    received = pickle.loads(sent)
    assert received.left == pytest.approx(20.0)
    received.cut(TRAINING)
    assert received.refused == ("the search",)
    assert pickle.loads(pickle.dumps(Deadline())).left == math.inf
    assert module.UNLIMITED.left == math.inf


# The pace of a schedule


def steps_of(pace, clock, seconds_of_step):
    """Run through a schedule; return where it was after every step."""
    found = []
    while not pace.is_over:
        clock[0] += seconds_of_step(len(found))
        pace.advance()
        found.append(pace.done)
    return found


@pytest.mark.parametrize("seconds", [None, 101.5, 1e6])
def test_with_time_enough_a_schedule_is_what_it_always_is(clock, seconds):
    pace = Pace(1000, Deadline(seconds))
    found = steps_of(pace, clock, lambda n: 0.1 if n else 1.0)  # the first step warms up
    assert found == list(range(1, 1001))
    assert all(isinstance(done, int) for done in found)
    assert not pace.is_hurried
    assert pace.hurry == 0.0
    assert pace.deadline.refused == ()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_in_a_hurry_a_schedule_comes_to_its_end_in_time(clock, share):
    deadline, begun = Deadline(100.0 * share), clock[0]
    pace = Pace(1000, deadline)
    found = steps_of(pace, clock, lambda _: 0.1)
    assert clock[0] - begun <= 100.0 * share + 0.1
    assert len(found) == pytest.approx(1000 * share, rel=0.02, abs=1)
    assert np.all(np.diff(found) >= 1 - 1e-9)
    assert np.diff(found)[len(found) // 2 :] == pytest.approx(np.diff(found)[-2], rel=0.3)  # no jump
    assert found[-1] == 1000
    assert pace.hurry == pytest.approx(1.0 - share, abs=0.02)
    assert deadline.refused == (TRAINING,)


def test_a_schedule_becomes_slower_again_when_steps_become_faster(clock):
    pace = Pace(1000, Deadline(50.0))
    found = steps_of(pace, clock, lambda n: 0.2 if n < 100 else 0.01)
    assert len(found) > 500
    assert found[-1] == 1000


def test_a_schedule_without_time_takes_one_step(clock):
    deadline = Deadline(1.0)
    clock[0] += 2.0
    pace = Pace(1000, deadline)
    assert steps_of(pace, clock, lambda _: 0.1) == [1000]


def test_training_without_time_takes_one_step_and_removes_edges_all_the_same(rng):
    X, y = torch.tensor(rng.normal(size=(50, 3)), dtype=torch.float32), torch.zeros(50, 1)
    architecture = ResidualNetwork(3, 1, 16, (64, 64))
    start = architecture.initial([0])
    f, _ = architecture.forward(start.views, X[None])
    settings = Settings(max_iter=100, batch_size=64, deadline=Deadline(0.0))
    trained = train(architecture, X, y, Problems((0.01,), (0,), np.ones((1, 50))), settings, n_rows=50, initial=start)
    # The loss of a pass that has been broken off is that of the steps that it has taken.
    assert_allclose(trained.curves[0], [0.5 * float(f.square().mean())], rtol=1e-5)
    assert torch.count_nonzero(start.flat) > 2000
    assert torch.count_nonzero(trained.parameters.flat) <= 800 + 1


# Fits that are short of time


@BOTH
@pytest.mark.parametrize("alpha", [0.003, "auto"])
def test_a_fit_ends_in_time_with_a_small_measured_network(ramps, regressor, alpha):
    X, y = ramps(400)
    start = time.monotonic()
    with pytest.warns(ConvergenceWarning, match=r"^max_time=1 seconds have cut short .*Increase max_time") as caught:
        model = regressor(alpha, max_time=1, **ENDLESS).fit(X, y)
    assert time.monotonic() - start < SOON
    assert is_measured(model, X, y)
    assert 0 < model.n_edges_ <= 2000  # of 9,000 and of 3,000: it has not lost its zeros
    assert len(caught) == 1
    assert ("the search for alpha" in str(caught[0].message)) == (alpha == "auto")
    assert caught[0].filename == __file__


@pytest.mark.parametrize("seconds", [1e-6, 1.0])
def test_budgets_hold_in_a_hurry(ramps, seconds):
    X, y = ramps(300)
    with pytest.warns(ConvergenceWarning, match="max_time"):
        edges = ResNetNormRegressor(0.003, max_edges=25, max_time=seconds, **ENDLESS).fit(X, y)
    assert edges.n_edges_ <= 25
    assert max(edges.path_.n_edges) >= edges.n_edges_
    with pytest.warns(ConvergenceWarning, match="max_time"):
        neurons = DeepSplineRegressor(1e-3, max_neurons=3, max_time=seconds, **ENDLESS).fit(X, y)
    assert neurons.n_neurons_ <= 3
    assert is_measured(edges, X, y)
    assert is_measured(neurons, X, y)


def test_early_stopping_keeps_a_trained_network_in_a_hurry(ramps):
    X, y = ramps(300)
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model = ResNetNormRegressor(0.003, early_stopping=True, max_time=0.3, **ENDLESS).fit(X, y)
    assert is_measured(model, X, y)


@BOTH
def test_time_enough_changes_no_bit(ramps, regressor):
    X, y = ramps(120)
    plain = regressor("auto", max_iter=12, tol=10.0, random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timely = regressor("auto", max_iter=12, tol=10.0, random_state=0, max_time=3600).fit(X, y)
    assert_array_equal(timely.predict(X), plain.predict(X))
    assert timely.loss_curve_ == plain.loss_curve_


@pytest.mark.parametrize("search", [ResNetNormRegressorCV, DeepSplineRegressorCV])
@pytest.mark.parametrize("seconds", [1e-6, 3.0])
def test_a_search_chooses_among_what_it_has_judged(ramps, search, seconds):
    X, y = ramps(200)
    start = time.monotonic()
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model = search([0.1, 0.03, 0.01, 0.003], cv=3, max_time=seconds, **ENDLESS).fit(X, y)
    assert time.monotonic() - start < SOON
    n_judged = len(model.alphas_)
    assert 1 <= n_judged <= 4
    assert_array_equal(model.alphas_, [0.1, 0.03, 0.01, 0.003][-n_judged:])
    assert_array_equal(model.path_.strengths, model.alphas_)
    assert model.mse_path_.shape == model.n_edges_path_.shape == (n_judged, 3)
    assert np.isfinite(model.mse_path_).all()
    assert model.alpha_ == model.alphas_[model.best_index_]
    assert is_measured(model, X, y)


def test_a_path_leaves_the_largest_strengths_out(ramps):
    X, y = ramps(200)
    model = ResNetNormRegressor(max_time=1e-6, **ENDLESS)
    with pytest.warns(ConvergenceWarning, match=r"max_time=1e-06 .* the larger strengths: 1 of 3 strengths are there"):
        path = model.path(X, y, [0.1, 0.03, 0.01])
    assert_array_equal(path.strengths, [0.01])
    assert vars(model) == model.get_params()


def test_other_processes_share_the_time_and_say_what_they_have_cut_short(ramps, monkeypatch):
    def elsewhere(n_jobs):
        return lambda calls: [f(*arguments) for f, arguments, _ in pickle.loads(pickle.dumps(list(calls)))]

    monkeypatch.setattr(_paths, "_in_this_process", lambda: False)
    monkeypatch.setattr(_paths, "Parallel", elsewhere)
    X, y = ramps(150)
    start = time.monotonic()
    model = ResNetNormRegressorCV([0.1, 0.01], cv=2, width=8, n_neurons=8, max_time=2, n_jobs=2, **ENDLESS)
    with pytest.warns(ConvergenceWarning, match="cut short training"):
        model.fit(X, y)
    assert time.monotonic() - start < SOON
    assert is_measured(model, X, y)


# Interrupts


@pytest.mark.usefixtures("interruptible")
@BOTH
@pytest.mark.parametrize("alpha", [0.003, "auto"])
def test_an_interrupt_keeps_the_best_network_so_far(ramps, regressor, alpha, monkeypatch):
    X, y = ramps(400)
    threads = threading.active_count()
    interrupt_with_a_network(monkeypatch)
    with pytest.warns(ConvergenceWarning, match=r"^An interrupt has cut short .*on_interrupt='raise'") as caught:
        model = regressor(alpha, **ENDLESS).fit(X, y)
    assert len(caught) == 1
    assert is_measured(model, X, y)
    assert threading.active_count() <= threads
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert set(vars(pickle.loads(pickle.dumps(model)))) == set(vars(model))


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_search_keeps_what_it_has_judged(ramps):
    X, y = ramps(150)
    interrupt_after(1.0)
    with pytest.warns(ConvergenceWarning, match="An interrupt has cut short"):
        model = ResNetNormRegressorCV([0.1, 0.01], cv=2, n_blocks=1, width=8, n_neurons=8, **ENDLESS).fit(X, y)
    assert is_measured(model, X, y)
    assert len(model.alphas_) == len(model.mse_path_)


@pytest.mark.usefixtures("interruptible")
@BOTH
def test_a_second_interrupt_raises_and_leaves_nothing(ramps, regressor):
    X, y = ramps(1000)
    model = regressor(0.003, **ENDLESS)
    interrupt_after(0.8, 0.9)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert vars(model) == model.get_params()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_before_there_is_a_network_raises(ramps, quick, monkeypatch):
    X, y = ramps(50)
    model = quick().fit(X, y)
    before = dict(vars(model))
    monkeypatch.setattr(ResNetNormRegressor, "_settings", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, -y)
    assert vars(model) == before


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_all_or_nothing_where_asked_for_and_online(ramps, quick, monkeypatch, way):
    X, y = ramps(50)
    model = quick(on_interrupt="raise" if way == "fit" else "keep").fit(X, y)
    before = dict(vars(model))

    def interrupted(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("sklearn_htmc._training.fit.train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        getattr(model, way)(X, -y)
    assert vars(model) == before


def handler_in_a_fit(*_):
    with timed(None, "keep"):
        return signal.getsignal(signal.SIGINT)


def in_a_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(handler_in_a_fit).result()


def in_a_loop(n_jobs, backend=None):
    return joblib.Parallel(n_jobs=n_jobs, backend=backend)([joblib.delayed(handler_in_a_fit)()])[0]


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("call", [in_a_thread, partial(in_a_loop, 1), partial(in_a_loop, 2, "threading")])
def test_where_others_count_on_interrupts_they_are_left_alone(call):
    assert handler_in_a_fit() is not signal.default_int_handler
    assert call() is signal.default_int_handler


@pytest.mark.usefixtures("interruptible")
def test_handlers_of_others_and_worker_processes_are_left_alone(monkeypatch):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert handler_in_a_fit() is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())
    assert handler_in_a_fit() is signal.default_int_handler


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_cross_validation(ramps):
    X, y = ramps(200)
    interrupt_after(1.0)
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(ResNetNormRegressor(0.003, **ENDLESS), X, y, cv=2)
