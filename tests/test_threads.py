"""Fits that overlap in several threads leave the numbers of threads as they were."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import threadpoolctl
import torch
from estimators import quick_fit
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, CircuitSizeScorer, DeepSplineRegressor, ResNetNormRegressor
from sklearn_htmc._threads import one_blas_thread, one_thread_each
from sklearn_htmc.circuit import compile_circuit

pytestmark = pytest.mark.usefixtures("two_threads")


def counts():
    """Return the threads of torch and of every library, as the calling thread sees them."""
    pools = {pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return pools | {"torch": torch.get_num_threads()}


def blas():
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}


def jobs(X, y):
    """Fits and compilations of different length, by all that limit threads."""
    return [
        lambda: quick_fit(ResNetNormRegressor, max_iter=5).fit(X, y),
        lambda: quick_fit(ResNetNormRegressor, alpha="auto", max_iter=30).fit(X, y),
        lambda: quick_fit(DeepSplineRegressor).fit(X, y),
        lambda: CircuitRegressor(alpha=0.01, augment=False, teacher=None).fit(X, y),
        lambda: compile_circuit(DecisionTreeRegressor(max_depth=4).fit(X, y), X, epsilon=0.3, y=y),
        lambda: CircuitSizeScorer(DecisionTreeRegressor(max_depth=3), epsilon=0.8).fit(X, y),
        lambda: HistGradientBoostingRegressor(max_iter=3).fit(X, y),
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fits_of_different_length_in_four_threads_restore_every_count(ramps):
    X, y = ramps(60)
    before = counts()

    def job(number):
        jobs(X, y)[number % 7]()
        return torch.get_num_threads()

    together = threading.Barrier(4)

    def begin():
        assert torch.get_num_threads() == 2
        together.wait(60)

    with ThreadPoolExecutor(4, initializer=begin) as pool:
        after = list(pool.map(job, range(14)))
    assert counts() == before
    assert set(after) == {2}


@pytest.mark.parametrize("limit", [one_blas_thread, one_thread_each])
def test_the_last_to_leave_restores_whatever_the_order(limit):
    before = counts()
    first, second = ExitStack(), ExitStack()
    first.enter_context(limit())
    second.enter_context(limit())
    assert blas() == {1}
    first.close()
    assert blas() == {1}
    second.close()
    assert counts() == before


def test_threads_that_overlap_restore_their_own_counts():
    """The first to enter is the first to leave, while the other one goes on."""
    before = counts()
    entered, may_leave = threading.Event(), threading.Event()

    def other():
        own = torch.get_num_threads()
        with one_thread_each() as n_threads:
            entered.set()
            assert may_leave.wait(60)
            assert torch.get_num_threads() == 1
        return n_threads, own, torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        with one_thread_each() as n_threads:
            future = pool.submit(other)
            assert entered.wait(60)
        assert n_threads == 2
        assert torch.get_num_threads() == 2
        assert blas() == {1}
        may_leave.set()
        assert future.result() == (2, 2, 2)  # a thread that is new to torch does not inherit the limit
    assert counts() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("limit", [one_blas_thread, one_thread_each])
def test_exceptions_restore(limit, error):
    before = counts()
    with pytest.raises(error), limit(), limit():
        raise error
    assert counts() == before


def test_an_inner_limit_leaves_the_outer_one_alone():
    with one_thread_each() as outer:
        with one_blas_thread(), one_thread_each() as inner:
            assert set(counts().values()) == {1}
        assert set(counts().values()) == {1}
    assert (outer, inner) == (2, 2)


def test_an_interrupt_while_entering_restores(monkeypatch):
    before = counts()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "set_num_threads", interrupted)
    with pytest.raises(KeyboardInterrupt), one_thread_each():
        pass
    monkeypatch.undo()
    with one_thread_each():
        pass
    assert counts() == before


def test_limits_of_circuits_do_not_import_torch():
    code = (
        "import sys, numpy as np; from sklearn.linear_model import Ridge; from sklearn_htmc.circuit import *;"
        "X = np.arange(20.0)[:, None]; compile_circuit(Ridge().fit(X, X[:, 0]), X, epsilon=0.1);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_small_products_are_the_same_inside_and_outside():
    A = np.random.default_rng(0).normal(size=(30, 30))
    with one_blas_thread():
        inside = A @ A
    np.testing.assert_array_equal(inside, A @ A)
