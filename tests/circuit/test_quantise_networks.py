"""Networks become few-digit sums: the steps are exact functions, compensation pays, and the promise is measured."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from sklearn_htmc._network import Block, SparseNetwork
from sklearn_htmc.circuit import Op, compile_circuit, count_gates, simulate
from sklearn_htmc.circuit import _rounding as rounding
from sklearn_htmc.circuit._graph import fits
from sklearn_htmc.circuit._quantise import networks as quantise
from sklearn_htmc.circuit._quantise import sums
from sklearn_htmc.circuit._quantise.digits import rounded
from sklearn_htmc.circuit._quantise.networks import Block as Linearised
from sklearn_htmc.circuit._quantise.networks import NetworkQuantiser, State, _factor_of_inverse
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._quantise.sharing import Pair, Search, Term, shared
from sklearn_htmc.circuit._quantise.units import rescaled, units_of


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def sparse(rng, n_rows, n_columns, density=0.4):
    sampler = rng.standard_normal
    return csr_array(random_array((n_rows, n_columns), density=density, random_state=rng, data_sampler=sampler))


def residual_network(rng, n_features=4, n_outputs=1, width=6, neurons=(5, 7)):
    """Return a random sparse residual network in raw units, with offsets everywhere."""
    blocks = [Block.affine(sparse(rng, width, n_features, 0.5), rng.normal(size=width))]
    for n in neurons:
        offset = np.where(rng.random(width) < 0.3, rng.normal(size=width), 0.0)
        blocks.append(Block(sparse(rng, n, width), rng.normal(size=n), sparse(rng, width, n, 0.3), None, offset))
    blocks.append(Block.affine(sparse(rng, n_outputs, width, 0.8), rng.normal(size=n_outputs)))
    return SparseNetwork(tuple(blocks), np.array([[-2.0] * n_features, [2.5] * n_features]), clip=True)


def perceptron(rng, n_features=3, hidden=(6, 5)):
    blocks, before = [], n_features
    for n in hidden:
        blocks.append(
            Block(
                csr_array(rng.normal(size=(n, before))),
                rng.normal(size=n),
                csr_array(np.eye(n)),
                csr_array((n, before)),
                np.zeros(n),
            )
        )
        before = n
    blocks.append(Block.affine(csr_array(rng.normal(size=(1, before))), rng.normal(size=1)))
    return SparseNetwork(tuple(blocks), np.array([[-np.inf] * n_features, [np.inf] * n_features]), clip=False)


def sample_of(network, rng, n=150):
    X = rng.uniform(-2.0, 2.0, size=(n, network.n_features))
    weights = rng.uniform(0.5, 2.0, size=n)
    values = network(X)
    reach = np.array([X.min(axis=0), X.max(axis=0)])
    return Sample(X, weights / weights.sum(), values, values.std(axis=0), reach)


@pytest.fixture(params=["residual", "two outputs", "perceptron"])
def network(request, rng):
    makers = {
        "residual": residual_network,
        "two outputs": lambda rng: residual_network(rng, n_outputs=2),
        "perceptron": perceptron,
    }
    return makers[request.param](rng)


@pytest.fixture(params=["residual", "two outputs", "perceptron"])
def small(request, rng):
    """Networks whose circuits take no time."""
    makers = {
        "residual": lambda rng: residual_network(rng, width=3, neurons=(3, 3)),
        "two outputs": lambda rng: residual_network(rng, n_outputs=2, width=3, neurons=(2, 3)),
        "perceptron": lambda rng: perceptron(rng, hidden=(4, 3)),
    }
    return makers[request.param](rng)


def test_units_are_the_network(network, rng):
    X = rng.uniform(-2.0, 2.0, size=(40, network.n_features))
    units = units_of(network)
    np.testing.assert_allclose(units.evaluate(X)[units.outputs].T, network(X), rtol=1e-10, atol=1e-10)


def test_copies_of_a_neuron_are_not_units(rng):
    assert len(units_of(perceptron(rng)).rows) == 6 + 5 + 1


def test_slopes_are_derivatives_at_the_units(network, rng):
    X = rng.uniform(-2.0, 2.0, size=(30, network.n_features))
    units = units_of(network)
    values = units.evaluate(X)
    for output, unit in enumerate(units.outputs):
        slopes = units.slopes(values, output)
        for r in range(len(units.rows)):
            rows = list(units.rows)
            rows[r] = replace(rows[r], bias=rows[r].bias + 1e-7)
            changed = replace(units, rows=rows).evaluate(X)[unit]
            np.testing.assert_allclose(
                (changed - values[unit]) / 1e-7, slopes[units.n_features + r], rtol=1e-4, atol=1e-4
            )


def test_rescaling_changes_nothing_but_makes_weights_free(network, rng):
    X = rng.uniform(-2.0, 2.0, size=(40, network.n_features))
    units = units_of(network)
    importance = [rng.random(len(row.weights)) for row in units.rows]
    scaled = rescaled(units, importance)
    np.testing.assert_allclose(
        scaled.evaluate(X)[units.outputs], units.evaluate(X)[units.outputs], rtol=1e-9, atol=1e-9
    )
    exact = [weight for row in scaled.rows for weight in row.weights[row.exact]]
    assert set(np.abs(exact)) == {1.0}
    read = {int(source) for row in units.rows for source in row.sources}
    groups = {units.rows[unit - units.n_features].group for unit in read if unit >= units.n_features}
    assert sum(row.exact.sum() for row in scaled.rows) >= len(groups - {units.rows[-1].group})


def test_the_factor_is_that_of_the_inverse(rng):
    A = rng.normal(size=(8, 20))
    U = _factor_of_inverse(A @ A.T)
    np.testing.assert_allclose(U.T @ U @ (A @ A.T), np.eye(8), atol=1e-9)
    assert not np.tril(U, -1).any()


@pytest.mark.parametrize("value", [0.7, -13.37, 1e-6, 3.0])
def test_more_digits_come_closer(value):
    errors, counts = [], []
    for cost in 10.0 ** -np.arange(0, 14):
        total, digits = rounded(value, 1.0 / value**2, cost)
        assert total == sum(sign * 2.0**place for sign, place in digits)
        errors.append(abs(total - value))
        counts.append(len(digits))
    assert counts == sorted(counts)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5 * abs(value)


def rows_of_terms(rng, n_rows, n_units, n_terms):
    """Return random rows, in which every unit is at every place at most once."""
    rows = []
    for _ in range(n_rows):
        places = rng.choice(n_units * 5, size=n_terms, replace=False)
        rows.append([Term(int(p) % n_units, int(p) // n_units - 2, int(rng.choice([-1, 1]))) for p in places])
    return rows


def assert_the_same_sums(rows, made, pairs, n_units, rng):
    values = [Fraction(int(value)) for value in rng.integers(-1000, 1000, size=n_units)]
    for pair in pairs:
        values.append(values[pair.first] + pair.sign * Fraction(2) ** pair.place * values[pair.second])
    for before, after in zip(rows, made, strict=True):
        first, second = (sum(t.sign * Fraction(2) ** t.place * values[t.unit] for t in row) for row in (before, after))
        assert first == second


def n_adders(rows, pairs=()):
    return sum(len(row) - 1 for row in rows) + len(pairs)


def test_sums_of_shared_pairs_are_the_same_sums(rng):
    rows = rows_of_terms(rng, 12, 6, 7)
    made, pairs = shared(rows, 6)
    assert_the_same_sums(rows, made, pairs, 6, rng)
    assert n_adders(made, pairs) < n_adders(rows)


def test_terms_that_are_there_twice_count_twice(rng):
    rows = [[Term(0, 0, 1)] * 3 + [Term(1, 2, -1), Term(1, 2, 1)], [Term(0, 1, 1), Term(0, 0, 1), Term(2, 0, 1)]]
    made, pairs = shared(rows, 3)
    assert_the_same_sums(rows, made, pairs, 3, rng)
    assert pairs == [Pair(0, 0, -1, 1)]


def occurrences(row, pair):
    """Return how often a pair is in a row, and its disjoint pairs of terms from the last place on."""
    count, found = 0, []
    for term in sorted(row):
        other = Term(pair.second, term.place + pair.place, term.sign * pair.sign)
        if term.unit == pair.first and other in row:
            count += 1
            if not {term, other} & {taken for terms in found for taken in terms}:
                found.append((term, other))
    return count, found


def greedy(rows, n_units):
    """Replace the most frequent pair again and again, everything counted anew every time."""
    rows, pairs = [sorted(row) for row in rows], []
    while True:
        patterns = {
            Pair(a.unit, b.unit, b.place - a.place, a.sign * b.sign)
            for row in rows
            for a in row
            for b in row
            if a != b and (a.unit, -a.place) <= (b.unit, -b.place)
        }
        counted = [(sum(occurrences(row, pair)[0] for row in rows), pair) for pair in patterns]
        for count, pair in sorted(counted, key=lambda item: (-item[0], item[1])):
            found = [occurrences(row, pair)[1] for row in rows]
            if count > 1 and sum(len(terms) for terms in found) > 1:
                break
        else:
            return rows, pairs
        for row, terms in zip(rows, found, strict=True):
            for gone in (term for both in terms for term in both):
                row.remove(gone)
            row += [Term(n_units + len(pairs), term.place, term.sign) for term, _ in terms]
        pairs.append(pair)


def test_the_most_frequent_pair_comes_first(rng):
    for n_terms in range(2, 8):
        rows = rows_of_terms(rng, 8, 3, n_terms)
        assert shared(rows, 3) == greedy(rows, 3)


@pytest.mark.parametrize("most", [0, 1, 500, 20_000, 200_000])
def test_no_more_pairs_are_looked_at_than_allowed(most, rng):
    rows = rows_of_terms(rng, 60, 30, 60)
    search = Search(rows, 30, most)
    pairs = search.pairs()
    assert search.looked_at <= most
    assert_the_same_sums(rows, search.rows, pairs, 30, rng)
    assert n_adders(search.rows, pairs) <= n_adders(rows)
    unbounded = Search(rows, 30)
    assert n_adders(unbounded.rows, unbounded.pairs()) <= n_adders(search.rows, pairs)
    assert unbounded.looked_at > 200_000


def test_rows_without_anything_in_common_stay():
    rows = [[Term(0, 0, 1), Term(1, 0, 1)], [Term(1, 3, -1), Term(2, 0, 1)]]
    assert shared(rows, 3) == (rows, [])


def test_compensation_by_the_others_pays(network, rng):
    quantiser = NetworkQuantiser.of(network, sample_of(network, rng))
    (block,) = quantiser.blocks
    adders = [np.full(len(row.weights), 1e-7) for row in quantiser.start.units.rows]
    alone = replace(block, U=np.diag(block.U.diagonal()))

    def error(of):
        state, _ = quantiser.start.rounded(of, len(of.edges), adders)
        assert all(
            weight == sum(s * 2.0**p for s, p in d)
            for r in zip(state.units.rows, state.digits, strict=True)
            for weight, d in zip(r[0].weights, r[1], strict=True)
        )
        return quantise._error(state.units, quantiser.sample), sum(len(d) for row in state.digits for d in row)

    (together, n_together), (apart, n_apart) = error(block), error(alone)
    assert together < 0.8 * apart
    assert n_together < 1.2 * n_apart


def test_to_first_order_the_foreseen_error_is_the_error(network, rng):
    sample = sample_of(network, rng)
    quantiser = NetworkQuantiser.of(network, sample)
    adders = [np.full(len(row.weights), 1e-11) for row in quantiser.start.units.rows]
    block = quantiser.blocks[0]
    state, foreseen = quantiser.start.rounded(block, len(block.edges), adders)
    assert 0.8 * foreseen**0.5 < quantise._error(state.units, sample) < 1.01 * foreseen**0.5  # the ridge counts, too
    for row, digits in zip(state.units.rows, state.digits, strict=True):
        assert row.weights.tolist() == [sum(sign * 2.0**place for sign, place in of) for of in digits]


def test_a_correction_lowers_the_error(network, rng):
    sample = sample_of(network, rng)
    start = State.of(units_of(network))
    rows = [replace(row, bias=row.bias + 0.02 * rng.normal()) for row in start.units.rows]
    moved = replace(start, units=replace(start.units, rows=rows))
    edges = [(r, k) for r, row in enumerate(rows) for k in range(len(row.weights))]
    corrected = moved
    for _ in range(3):
        corrected = corrected.corrected(Linearised.at(corrected.units, sample, edges, biases=True), sample)
    assert quantise._error(corrected.units, sample) < 0.3 * quantise._error(moved.units, sample)


@pytest.mark.filterwarnings("ignore:words of 24 bits or more:UserWarning")
@pytest.mark.parametrize("epsilon", [0.2, 0.05, 0.001, 1e-5])
def test_the_measured_error_is_within_epsilon(small, rng, epsilon):
    X = rng.uniform(-2.0, 2.0, size=(100, small.n_features))
    circuit = compile_circuit(small, X, epsilon=epsilon, effort=0)
    values = small(X)
    error = np.sqrt(np.mean(np.square((simulate(circuit, X) - values) / values.std(axis=0))))
    assert circuit.error == pytest.approx(error, rel=1e-9)
    assert error <= epsilon


def test_smaller_epsilon_needs_more_gates(small, rng):
    X = rng.uniform(-2.0, 2.0, size=(100, small.n_features))
    gates = [compile_circuit(small, X, epsilon=epsilon, effort=0).n_gates for epsilon in (0.2, 0.05, 0.01, 0.001)]
    assert gates == sorted(gates)
    assert gates[0] < 0.6 * gates[-1]


def test_circuits_do_not_depend_on_the_order_of_rows(small, rng):
    X = rng.uniform(-2.0, 2.0, size=(120, small.n_features))
    weights = rng.integers(0, 3, size=120)
    order = rng.permutation(120)
    first = compile_circuit(small, X, epsilon=0.02, sample_weight=weights, effort=0)
    second = compile_circuit(small, X[order], epsilon=0.02, sample_weight=weights[order], effort=0)
    assert first.text() == second.text()


def test_a_neuron_that_is_off_on_all_rows_stays_off(rng):
    network = residual_network(rng, width=4, neurons=(4,))
    first, block, *rest = network.blocks
    bias = block.bias.copy()
    bias[0] = -100.0
    block = replace(block, bias=bias, outer=csr_array(block.outer.toarray() + 0.5))
    network = replace(network, blocks=(first, block, *rest))
    X = rng.uniform(-2.0, 2.0, size=(100, 4))
    assert compile_circuit(network, X, epsilon=1e-3, effort=0).error <= 1e-3


def test_a_feature_far_from_zero_is_counted_from_its_low_end(rng, monkeypatch):
    X = rng.uniform([4095.0, -1.0], [4097.0, 1.0], size=(200, 2))
    weights = csr_array([[1.0, 0.7], [0.4, -0.9], [0.8, 0.3]])
    head = Block.affine(weights, -weights @ np.array([4096.0, 0.0]))
    ramps = Block(csr_array(np.eye(3)), np.zeros(3), csr_array(np.ones((3, 3))), None, np.zeros(3))
    tail = Block.affine(csr_array([[0.3, 0.45, -0.8]]), np.zeros(1))
    network = SparseNetwork((head, ramps, tail), np.full((2, 2), np.nan), clip=False)
    counted = compile_circuit(network, X, epsilon=0.01, effort=0)
    monkeypatch.setattr(sums, "_FAR", 99)
    assert counted.n_gates < compile_circuit(network, X, epsilon=0.01, effort=0).n_gates
    assert counted.error <= 0.01


def test_tries_with_too_long_words_do_not_lose_the_circuit_at_hand(rng, monkeypatch):
    network = SparseNetwork(
        (Block.affine(csr_array([[3.0, -0.7]]), np.ones(1)),), np.array([[0, 0], [1, 1]]), clip=True
    )
    X = rng.random((60, 2))
    long = []
    monkeypatch.setattr(rounding, "_ladder", lambda _: [2.0**-60, 1e-30])
    monkeypatch.setattr(rounding, "fits", lambda graph: fits(graph) or long.append(graph))
    assert compile_circuit(network, X, epsilon=0.01, effort=0).error <= 0.01
    assert len(long) == 2


def test_where_words_are_too_long_coarser_ones_are_tried(rng, monkeypatch):
    """Only circuits with short words are allowed, as if a finer one did not fit."""
    network = residual_network(rng, width=3, neurons=(3,))
    X = rng.uniform(-2.0, 2.0, size=(100, 4))
    longest = max(node.width for node in compile_circuit(network, X, epsilon=0.2, effort=0).nodes)
    monkeypatch.setattr(rounding, "fits", lambda graph: max(node.width for node in graph.nodes) <= longest)
    monkeypatch.setattr(rounding, "_excess", lambda error, _: 1e-3 * error)  # starts with too little noise
    circuit = compile_circuit(network, X, epsilon=0.2, effort=0)
    assert circuit.error <= 0.2
    assert max(node.width for node in circuit.nodes) <= longest


def test_large_networks_compensate_row_by_row(rng, monkeypatch):
    network = perceptron(rng, hidden=(9, 9))
    monkeypatch.setattr(quantise, "_FULL", 20)
    monkeypatch.setattr(quantise, "_OF_ROW", 5)
    X = rng.uniform(-2.0, 2.0, size=(150, 3))
    quantiser = NetworkQuantiser.of(network, sample_of(network, rng))
    assert max(len(block.edges) for block in quantiser.blocks) == 5
    assert compile_circuit(network, X, epsilon=0.03, effort=0).error <= 0.03


def test_many_rows_are_thinned_but_all_are_measured(rng, monkeypatch):
    network = residual_network(rng, width=3, neurons=(4,))
    monkeypatch.setattr(quantise, "_ROWS", 50)
    X = rng.uniform(-2.0, 2.0, size=(400, 4))
    circuit = compile_circuit(network, X, epsilon=0.05, effort=0)
    values = network(X)
    assert np.sqrt(np.mean((simulate(circuit, X) - values) ** 2)) <= 0.05 * values.std()


def test_an_affine_function_needs_no_relu_and_few_gates(rng):
    network = SparseNetwork(
        (Block.affine(csr_array([[2.0, -0.5, 0.25]]), np.array([1.0])),), np.full((2, 3), np.nan), clip=False
    )
    X = rng.uniform(-1.0, 1.0, size=(100, 3))
    circuit = compile_circuit(network, X, epsilon=0.01, effort=0)
    assert not any(node.op is Op.RELU for node in circuit.nodes)
    assert sum(node.op in (Op.ADD, Op.SUBTRACT) for node in circuit.nodes) <= 3
    assert count_gates(circuit) < 250


def test_a_constant_costs_nothing(rng):
    network = SparseNetwork((Block.affine(csr_array((1, 2)), np.array([3.7])),), np.full((2, 2), np.nan), clip=False)
    circuit = compile_circuit(network, rng.normal(size=(20, 2)), epsilon=0.01)
    assert circuit.n_gates == 0
    assert abs(simulate(circuit, [[0.0, 0.0]])[0, 0] - 3.7) <= 0.01
