"""Networks in other units: the same function with exactly as many parameters, there and back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from sklearn_htmc._network import Block, SparseNetwork
from sklearn_htmc._table import Scaling
from sklearn_htmc._units import in_units


@pytest.fixture
def network(rng):
    """A stream of three coordinates, of which one has an offset, and two neurons, of which one has a bias."""
    inner, outer = csr_array([[1.0, 0.0, -2.0], [0.0, 1.0, 0.5]]), csr_array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    blocks = (
        Block.affine(csr_array([[1.0, 0.0], [0.5, -1.0], [0.0, 3.0]]), np.array([0.0, 0.7, 0.0])),
        Block(inner, np.array([0.0, -0.3]), outer, None, np.zeros(3)),
        Block.affine(csr_array([[1.0, 1.0, 1.0]]), np.array([0.2])),
    )
    return SparseNetwork(blocks, np.array([[-2.0, -2.0], [2.0, 2.0]]), clip=False)


@pytest.fixture
def scalings(rng):
    return Scaling(np.array([30.0, -0.01]), np.array([7.0, 0.003])), Scaling(np.array([-5.0]), np.array([2.5]))


def test_units_change_neither_the_function_nor_its_size(network, scalings, rng):
    features, targets = scalings
    raw = in_units(network, features, targets, input_range=network.input_range, clip=False)
    assert raw.n_edges == network.n_edges
    X = features.inverse().forward(rng.normal(size=(50, 2)))
    assert_allclose(raw(X), targets.inverse().forward(network(features.forward(X))), rtol=1e-12)
    single = in_units(network, features, targets, input_range=network.input_range, clip=False, single=True)
    assert single.n_edges == network.n_edges
    assert_allclose(single(X), raw(X), rtol=1e-5)


def test_there_and_back_zeros_stay_zeros(network, scalings):
    features, targets = scalings
    raw = in_units(network, features, targets, input_range=network.input_range, clip=False)
    back = in_units(raw, features.inverse(), targets.inverse(), input_range=network.input_range, clip=False)
    assert back.center is None
    assert_array_equal(back.blocks[0].offset, network.blocks[0].offset)
    for ours, theirs in zip(back.blocks, network.blocks, strict=True):
        assert_allclose(ours.matrix.toarray(), theirs.matrix.toarray(), rtol=1e-12)


def test_a_network_moves_from_one_pair_of_units_to_another(network, scalings, rng):
    features, targets = scalings
    once = in_units(network, features, targets, input_range=network.input_range, clip=False)
    other = Scaling(np.array([4.0, 2.0]), np.array([0.5, 11.0]))
    twice = in_units(once, other, targets.inverse(), input_range=network.input_range, clip=False)
    Z = rng.normal(size=(50, 2))
    assert_allclose(twice(Z), network(features.forward(other.forward(Z))), rtol=1e-9, atol=1e-9)
    assert twice.n_edges == network.n_edges
