"""Profiles: sizes of circuits at several accuracies, and the exponent and the norm that belong to them."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc.circuit import CircuitProfile, circuit_profile, compile_circuit

GENERATOR = np.random.default_rng(2)
X = GENERATOR.normal(size=(150, 2)) * [1.0, 9.0]
Y = X @ [1.0, 0.3] + 0.1 * X[:, 0] ** 2
EPSILONS = [0.3, 0.1, 0.03, 0.01]


def power_law(gamma, norm, n=12):
    epsilons = 2.0 ** -np.arange(n)
    return CircuitProfile(epsilons, np.rint((norm / epsilons) ** gamma).astype(np.int64))


@pytest.mark.parametrize(("gamma", "norm"), [(1.0, 300.0), (2.0, 40.0), (2.5, 30.0)])
def test_a_power_law_has_its_exponent_and_its_norm(gamma, norm):
    profile = power_law(gamma, norm)
    assert_allclose(profile.gamma, gamma, rtol=1e-3)
    assert_allclose(profile.htmc_norm, norm, rtol=1e-2)


def test_the_norm_bounds_all_sizes():
    profile = CircuitProfile(np.array([0.4, 0.2, 0.1]), np.array([7, 60, 100]))
    bounds = (profile.htmc_norm / profile.epsilons) ** profile.gamma
    assert (bounds >= profile.n_gates * (1 - 1e-9)).all()
    assert_allclose((bounds / profile.n_gates).min(), 1.0)


def test_an_affine_function_has_an_exponent_near_zero_and_the_text_says_so():
    model = Ridge().fit(X, Y)
    coarse, fine = (
        circuit_profile(model, X, epsilons, effort=0)
        for epsilons in (2.0 ** -np.arange(3, 9), 2.0 ** -np.arange(10, 16))
    )
    assert 0.0 < fine.gamma < 0.3
    assert fine.gamma < coarse.gamma < 0.7
    assert "gamma near 0: gates grow with log(1 / epsilon), as for an affine function" in repr(fine)


def test_a_power_law_is_not_said_to_be_near_zero():
    text = repr(power_law(2.0, 3.0, n=2))
    assert text == "CircuitProfile({1: 9, 0.5: 36}, gamma=2.00, htmc_norm=3)"


def test_a_constant_has_no_gates_and_no_norm():
    profile = circuit_profile(DummyRegressor().fit(X, Y), X, EPSILONS)
    assert_array_equal(profile.n_gates, np.zeros(4))
    assert (profile.gamma, profile.htmc_norm) == (0.0, 0.0)
    assert "htmc_norm=0 " in repr(profile)


@pytest.mark.parametrize("gates", [[0, 0, 5], [5, 5, 5]])
def test_sizes_that_do_not_grow_have_no_finite_norm(gates):
    profile = CircuitProfile(np.array([0.4, 0.2, 0.1]), np.array(gates))
    assert abs(profile.gamma) < 1e-12
    assert profile.htmc_norm == math.inf


def test_sizes_are_those_of_compile_circuit_and_rise():
    model = DecisionTreeRegressor(max_leaf_nodes=6, random_state=0).fit(X, Y)
    profile = circuit_profile(model, X, EPSILONS[::-1], y=Y)
    assert_array_equal(profile.epsilons, EPSILONS)
    made = [compile_circuit(model, X, epsilon=epsilon, y=Y).n_gates for epsilon in EPSILONS]
    assert_array_equal(profile.n_gates, np.minimum.accumulate(made[::-1])[::-1])
    assert (np.diff(profile.n_gates) >= 0).all()
    assert profile.n_gates[-1] > profile.n_gates[0]


def test_one_epsilon_is_enough():
    profile = circuit_profile(Ridge().fit(X, Y), X, 0.1)
    assert profile.n_gates.shape == (1,)
    assert profile.gamma == 0.0


def test_a_profile_can_be_pickled():
    profile = power_law(2.0, 3.0)
    assert repr(pickle.loads(pickle.dumps(profile))) == repr(profile)


@pytest.mark.parametrize(
    ("epsilons", "message"),
    [
        ([], "epsilons must hold at least one number"),
        ([0.1, -0.1], r"epsilon must be a positive, finite number, got -0\.1"),
    ],
)
def test_bad_epsilons_are_refused(epsilons, message):
    with pytest.raises(ValueError, match=message):
        circuit_profile(Ridge().fit(X, Y), X, epsilons)
