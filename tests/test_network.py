"""The meaning of a network, against a loop over rows, neurons and edges."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse import csr_array

from sklearn_htmc._network import Block, SparseNetwork


def random_block(rng, width_in, n_neurons, width_out, *, density=0.4, skip="matrix"):
    def matrix(rows, columns):
        return csr_array(rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density))

    return Block(
        inner=matrix(n_neurons, width_in),
        bias=rng.normal(size=n_neurons),
        outer=matrix(width_out, n_neurons),
        skip=None if skip is None else matrix(width_out, width_in),
        offset=rng.normal(size=width_out),
    )


def random_network(rng, *, clip, n_features=5, n_outputs=2, scale=1):
    """Embedding, two blocks on a stream (identity and matrix), readout with neurons of its own."""
    width = 6 * scale
    blocks = (
        random_block(rng, n_features, 0, width),
        random_block(rng, width, 9 * scale, width, skip=None),
        random_block(rng, width, 7 * scale, width + 1),
        random_block(rng, width + 1, 3, n_outputs),
    )
    low = rng.uniform(-2.0, -0.5, n_features)
    return SparseNetwork(blocks, np.array([low, low + rng.uniform(0.5, 2.0, n_features)]), clip=clip)


def block_by_loops(block, h):
    inner, outer = block.inner.toarray(), block.outer.toarray()
    skip = np.eye(len(h)) if block.skip is None else block.skip.toarray()
    out = block.offset.copy()
    for target in range(len(out)):
        out[target] += sum(skip[target, source] * value for source, value in enumerate(h))
        for neuron, bias in enumerate(block.bias):
            drive = bias + sum(inner[neuron, source] * value for source, value in enumerate(h))
            if drive > 0:
                out[target] += outer[target, neuron] * drive
    return out


def network_by_loops(network, x):
    h = list(x)
    if network.clip:
        low, high = network.input_range
        h = [min(max(value, a), b) for value, a, b in zip(h, low, high, strict=True)]
    if network.center is not None:
        h = [value - zero for value, zero in zip(h, network.center, strict=True)]
    for block in network.blocks:
        h = block_by_loops(block, h)
    return h


@pytest.mark.parametrize("skip", [None, "matrix"])
@pytest.mark.parametrize("n_neurons", [0, 1, 8])
def test_block_is_skip_plus_neurons_plus_offset(rng, skip, n_neurons):
    block = random_block(rng, 4, n_neurons, 4, skip=skip)
    h = rng.normal(size=(20, 4))
    assert_allclose(block(h), [block_by_loops(block, row) for row in h], rtol=1e-12, atol=1e-12)


def test_identity_skip_is_the_identity_matrix(rng):
    short = random_block(rng, 4, 5, 4, skip=None)
    long = Block(short.inner, short.bias, short.outer, csr_array(np.eye(4)), short.offset)
    h = rng.normal(size=(20, 4))
    assert_array_equal(short(h), long(h))
    assert_array_equal(short.matrix.toarray(), np.eye(4))
    assert_array_equal(long.matrix.toarray(), np.eye(4))


def test_affine_block_has_no_neurons(rng):
    matrix, offset = rng.normal(size=(3, 4)), rng.normal(size=3)
    block = Block.affine(csr_array(matrix), offset)
    h = rng.normal(size=(6, 4))
    assert block.n_neurons == 0
    assert_allclose(block(h), h @ matrix.T + offset, rtol=1e-12)


def test_block_does_not_change_its_input(rng):
    for block in (random_block(rng, 4, 5, 4, skip=None), random_block(rng, 4, 0, 4, skip=None)):
        h = rng.normal(size=(6, 4))
        copy = h.copy()
        block(h)
        assert_array_equal(h, copy)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_network_is_the_composition_of_its_blocks(seed, clip):
    rng = np.random.default_rng(seed)
    network = random_network(rng, clip=clip)
    X = 3.0 * rng.normal(size=(30, 5))
    assert_allclose(network(X), [network_by_loops(network, x) for x in X], rtol=1e-10, atol=1e-10)


def test_clipping_saturates_every_feature_at_its_own_range(rng):
    network = random_network(rng, clip=True)
    far = 1e6 * rng.choice([-1.0, 1.0], size=(30, 5))
    assert_array_equal(network(far), network(np.clip(far, *network.input_range)))
    free = SparseNetwork(network.blocks, network.input_range, clip=False)
    assert_array_equal(free(np.clip(far, *network.input_range)), network(far))
    assert np.abs(free(far)).max() > 100 * np.abs(network(far)).max()


@pytest.mark.parametrize("scale", [1, 60])
def test_many_rows_equal_row_by_row(rng, scale):
    """Sizes below and above those of one chunk and of matrices that are multiplied as dense ones."""
    network = random_network(rng, clip=True, scale=scale)
    X = rng.normal(size=(1500, 5)) if scale > 1 else rng.normal(size=(12_000, 5))
    together = network(X)
    assert together.shape == (len(X), 2)
    rows = np.r_[0:5, 255:258, 511:514, len(X) - 5 : len(X)]
    alone = np.vstack([network(X[row : row + 1]) for row in rows])
    assert_allclose(together[rows], alone, rtol=1e-10, atol=1e-10)
    assert_allclose(together[700:], network(X[700:]), rtol=1e-10, atol=1e-10)


def test_sparse_and_dense_multiplication_agree(rng):
    """Very sparse wide blocks are multiplied as sparse matrices, their dense copies are not."""
    block = random_block(rng, 300, 300, 300, density=0.01)
    h = rng.normal(size=(20, 300))
    expected = h @ block.skip.toarray().T + block.offset
    expected += np.maximum(h @ block.inner.toarray().T + block.bias, 0.0) @ block.outer.toarray().T
    assert_allclose(block(h), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "form", [sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix, pd.DataFrame]
)
def test_rows_may_come_in_any_form(rng, form):
    network = random_network(rng, clip=True)
    for n_rows in (7, 12_000):
        X = rng.normal(size=(n_rows, 5)) * (rng.random((n_rows, 5)) < 0.5)
        assert_array_equal(network(form(X)), network(X))


def test_lists_and_small_numbers_are_evaluated_in_float64(rng):
    network = random_network(rng, clip=False)
    X = rng.integers(-3, 4, (6, 5))
    expected = network(X.astype(float))
    assert expected.dtype == np.float64
    for same in (X.tolist(), X, X.astype(np.float32), X.astype(np.int8), X.astype(object)):
        assert_array_equal(network(same), expected)


def test_no_rows_give_no_rows(rng):
    assert random_network(rng, clip=True)(np.empty((0, 5))).shape == (0, 2)


@pytest.mark.parametrize("shape", [(7, 1), (7, 6), (5,), (2, 7, 5), ()])
@pytest.mark.parametrize("clip", [False, True])
def test_rows_of_another_width_are_refused(rng, shape, clip):
    with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 5\), got .*; give the features seen in fit"):
        random_network(rng, clip=clip)(np.zeros(shape))


def test_a_network_without_a_stream_is_a_constant():
    nothing = Block.affine(csr_array((0, 3)), np.zeros(0))
    constant = Block.affine(csr_array((2, 0)), np.array([1.5, -2.0]))
    network = SparseNetwork((nothing, constant), np.array([[0.0] * 3, [1.0] * 3]), clip=True)
    assert_array_equal(network(np.ones((4, 3))), np.tile([1.5, -2.0], (4, 1)))
    assert network.n_neurons == 0


def test_sizes_are_those_of_the_blocks(rng):
    network = random_network(rng, clip=True)
    assert (network.n_features, network.n_outputs, network.n_neurons) == (5, 2, 9 + 7 + 3)


def test_pickle_drops_what_was_cached(rng):
    network = random_network(rng, clip=True)
    fresh = pickle.dumps(network)
    expected = network(rng.normal(size=(5, 5)))
    assert "_operators" in vars(network.blocks[1])
    assert pickle.dumps(network) == fresh
    copy = pickle.loads(fresh)
    assert not {"_operators", "_widest"} & (vars(copy).keys() | vars(copy.blocks[1]).keys())
    assert_array_equal(copy(np.ones((3, 5))), network(np.ones((3, 5))))
    assert expected.shape == (5, 2)


def test_networks_are_frozen(rng):
    network = random_network(rng, clip=True)
    with pytest.raises(AttributeError, match="cannot assign to field 'clip'"):
        network.clip = False
    with pytest.raises(AttributeError, match="cannot assign to field 'bias'"):
        network.blocks[0].bias = np.zeros(0)


def test_repr_says_the_sizes(rng):
    network = random_network(rng, clip=True)
    assert repr(network) == "SparseNetwork(n_features=5, n_outputs=2, n_blocks=3, n_neurons=19, clip=True)"


def test_edges_are_counted_from_the_center_and_blocks_by_their_neurons(rng):
    E, e = csr_array([[2.0, 0.0, 1.0], [0.0, -1.0, 0.0]]), np.array([0.5, 0.0])
    neurons = Block(csr_array([[1.0, -1.0]]), np.array([0.0]), csr_array([[3.0], [0.0]]), None, np.zeros(2))
    blocks = (Block.affine(E, e), neurons, Block.affine(csr_array([[1.0, 4.0]]), np.array([7.0])))
    network = SparseNetwork(blocks, np.array([[-1.0] * 3, [1.0] * 3]), clip=True, center=np.array([1.0, 10.0, 0.0]))
    # By hand: three weights and one offset in, two weights into the neuron and one out of it, two weights read out.
    assert network.n_edges == 3 + 1 + 2 + 1 + 2
    assert network.n_blocks == 1
    X = rng.normal(size=(30, 3))
    assert_allclose(network(X), [network_by_loops(network, x) for x in X], rtol=1e-12)
    plain = network.uncentered()
    assert plain.center is None
    assert plain.uncentered() is plain
    assert plain.n_edges == network.n_edges + 1  # the second coordinate now has an offset
    assert_allclose(plain(X), network(X), rtol=1e-12)


def test_an_uncentered_network_is_the_same_function(rng):
    for clip in (False, True):
        network = replace(random_network(rng, clip=clip), center=rng.normal(size=5))
        X = rng.normal(size=(40, 5))
        assert_allclose(network.uncentered()(X), network(X), rtol=1e-10, atol=1e-12)
        assert_allclose(network(X), [network_by_loops(network, x) for x in X], rtol=1e-10, atol=1e-10)
