"""Searches on a cluster: real worker processes of dask, reached through joblib."""

from __future__ import annotations

import os
import signal
import threading
import time

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_htmc import ResNetNormRegressor, ResNetNormRegressorCV

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning")

SIZES = {"width": 8, "n_neurons": 8, "random_state": 0}


@pytest.fixture(scope="module")
def client():
    """Return a client of two worker processes; what is killed is started again."""
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def table(rng):
    X = rng.normal(size=(120, 3))
    return X, np.abs(X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=120)


def model(**parameters):
    return ResNetNormRegressorCV([0.1, 0.03, 0.01], cv=KFold(4), **SIZES | parameters)


def test_a_cluster_selects_what_this_process_selects(client, table):
    here = model(max_iter=30).fit(*table)
    with joblib.parallel_config(backend="dask"):
        there = model(max_iter=30).fit(*table)
    assert_allclose(there.mse_path_, here.mse_path_, rtol=1e-2)
    assert there.alpha_ == here.alpha_
    assert_allclose(there.predict(table[0]), here.predict(table[0]), atol=1e-2)


def test_a_grid_search_runs_on_a_cluster(client, table):
    search = GridSearchCV(ResNetNormRegressor(max_iter=20, **SIZES), {"alpha": [0.1, 0.01]}, cv=3)
    here = search.fit(*table).best_params_
    with joblib.parallel_config(backend="dask"):
        assert search.fit(*table).best_params_ == here


def test_a_worker_that_is_killed_loses_nothing(client, table):
    here = model(max_iter=100, n_restarts=2).fit(*table)
    victims = list(client.run(os.getpid).values())
    killed = []

    def kill():
        time.sleep(1.0)
        os.kill(victims[0], signal.SIGKILL)
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill)
    with joblib.parallel_config(backend="dask"):
        killer.start()
        there = model(max_iter=100, n_restarts=2).fit(*table)
        ended = time.monotonic()
    killer.join()
    assert killed[0] < ended
    assert there.alpha_ == here.alpha_
    assert there.mse_path_.shape == here.mse_path_.shape
    assert np.isfinite(there.mse_path_).all()
    assert victims[0] not in client.run(os.getpid).values()
