"""What the tests of the estimator share: a generator, a table with a known function, and a fit that takes no time."""

from __future__ import annotations

import signal
from functools import partial

import numpy as np
import pytest
import threadpoolctl
import torch
from estimators import QUICK, quick_fit

from sklearn_htmc import ResNetNormRegressor
from sklearn_htmc._threads import one_thread_each


@pytest.fixture
def one_thread():
    """Small products lose on two threads, most of all beside other work; `fit_problems` sees to it itself."""
    with one_thread_each():
        yield


@pytest.fixture
def two_threads():
    """Let every library have two threads, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpoolctl.threadpool_limits(2):
        yield
    torch.set_num_threads(before)


@pytest.fixture
def interruptible():
    """Let SIGINT raise KeyboardInterrupt, also where the tests were started in the background and ignore it."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def ramps(rng):
    """Return a function that makes a table; only the first three features matter, and no linear function fits."""

    def make(n_rows, n_features=4, noise=0.05):
        X = rng.normal(size=(n_rows, n_features))
        y = 3.0 + np.abs(X[:, 0]) + np.maximum(X[:, 1] + X[:, 2], 0.0) + noise * rng.normal(size=n_rows)
        return X, y

    return make


@pytest.fixture
def quick():
    """Return a function that makes an estimator with a fixed seed and few passes."""
    return partial(quick_fit, ResNetNormRegressor)


@pytest.fixture(scope="module", params=QUICK, ids=lambda regressor: regressor.__name__)
def regressor(request):
    """Return the class of each estimator in turn: what is asked of one is asked of all."""
    return request.param
