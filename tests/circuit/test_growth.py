"""Growth: exact scores, exact bookkeeping, prices that mean what they say, and graphs that are the sums."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import GradientBoostingRegressor

from sklearn_htmc.circuit import Builder, Format, compile_circuit, count_gates, simulate, verify
from sklearn_htmc.circuit._grow.candidates import Candidates
from sklearn_htmc.circuit._grow.growth import LARGEST, Growth, graph_of, prices_down_to, values_of
from sklearn_htmc.circuit._grow.path import Rows, levels, validated
from sklearn_htmc.circuit._grow.pool import Above, Both, Digit, Pool, Writer, products
from sklearn_htmc.circuit._grow.ports import Ports
from sklearn_htmc.circuit._grow.swaps import Swaps
from sklearn_htmc.circuit._grow.terms import ADDER, Terms


@pytest.fixture
def table(rng):
    """Return features, two outputs, and uneven weights."""
    X = rng.normal(size=(150, 3)) * [1.0, 40.0, 0.01] + [0.0, 300.0, 0.0]
    Y = np.column_stack([np.where((X[:, 0] > 0.3) & (X[:, 1] < 310.0), 1.5, 0.0), 20.0 * X[:, 2] + X[:, 0]])
    weights = rng.uniform(0.2, 3.0, size=150)
    return X, Y + 0.1 * rng.normal(size=Y.shape), weights / weights.sum()


@pytest.fixture
def ports(table):
    return Ports.of(table[0], np.array([table[0].min(axis=0), table[0].max(axis=0)]))


@pytest.fixture
def growth(table, ports):
    X, Y, weights = table
    return Growth(ports, ports.codes(X), Y, weights, np.array([0.7, 0.3]))


# Ports


def test_words_tell_different_values_apart_also_where_they_are_close():
    X = np.column_stack([np.geomspace(1.0, 2000.0, 20).repeat(5), np.arange(100.0)])
    ports = Ports.of(X, np.array([X.min(axis=0), X.max(axis=0)]))
    assert [len(np.unique(codes)) for codes in ports.codes(X)] == [20, 100]
    assert len(ports.cuts[0]) == 19  # one between any two values that differ


def test_constants_of_comparisons_end_in_ones_where_rows_allow_it(rng):
    X = rng.uniform(0.0, 255.0, size=(2000, 1))
    ports = Ports.of(X, np.array([[0.0], [255.0]]))
    found = np.array(ports.cuts[0])
    ones = [int(cut ^ (cut + 1)).bit_length() - 1 for cut in found]
    assert len(found) > 15
    assert np.mean(ones) >= 2.0  # one on average for numbers that are not chosen


@pytest.mark.parametrize("column", [np.full(20, 3.7), np.zeros(20)])
def test_a_constant_feature_has_no_comparisons(column):
    ports = Ports.of(column[:, None], np.array([[column[0]], [column[0]]]))
    assert ports.cuts == ((),)
    assert len(Pool(ports, ports.codes(column[:, None]))) == 0


def test_one_outlier_does_not_hide_a_feature(rng):
    X = rng.normal(size=(200, 1))
    X[0] = 1e6
    ports = Ports.of(X, np.array([X.min(axis=0), X.max(axis=0)]))
    assert len(ports.cuts[0]) > 15


def test_given_formats_are_kept(table):
    form = Format(-3, 3, 0)
    ports = Ports.of(table[0], np.array([table[0].min(axis=0), table[0].max(axis=0)]), {0: form})
    assert ports.formats[0] == form
    assert set(ports.cuts[0]) <= set(range(-3, 3))


# Bits


def test_bits_of_a_pool_are_what_the_written_graph_computes(table, ports, rng):
    X = table[0]
    pool = Pool(ports, ports.codes(X))
    for _ in range(60):
        first, second = sorted(rng.choice(len(pool), size=2, replace=False).tolist())
        pool.conjunction(Both(first, second, (bool(rng.integers(2)), bool(rng.integers(2)))))
    build = Builder(ports.formats)
    writer = Writer(build, pool.definitions)
    graph = build.graph([writer.bit(number) for number in range(len(pool))], [0] * len(pool))
    verify(graph)
    assert {type(bit) for bit in pool.definitions} == {Above, Digit, Both}
    assert_array_equal(simulate(graph, X).T, pool.columns)


def test_comparisons_cost_as_many_gates_as_they_are_said_to(ports):
    for feature, cuts in enumerate(ports.cuts):
        for cut in cuts:
            build = Builder(ports.formats)
            bit = build.at_most(build.input(feature), cut)
            assert count_gates(build.graph([bit], [0])) == ports.comparison_gates(feature, cut)


def test_what_is_read_costs_nothing_and_what_has_one_reader_is_saved(table, ports):
    pool = Pool(ports, ports.codes(table[0]))
    dear = max(range(len(pool)), key=lambda bit: pool.own[bit])
    other = next(bit for bit in range(len(pool)) if isinstance(pool.definitions[bit], Above) and bit != dear)
    both = Both(*sorted((dear, other)), (False, True))
    assert pool.cost(both) == 1.0 + pool.own[dear] + pool.own[other]
    number = pool.conjunction(both)
    pool.read(number, 1)
    assert pool.cost(number) == pool.cost(dear) == pool.cost(other) == 0.0
    assert pool.saved(number) == 1.0 + pool.own[dear] + pool.own[other]
    pool.read(dear, 1)
    assert pool.saved(number) == 1.0 + pool.own[other]
    pool.read(number, -1)
    assert pool.cost(other) == pool.own[other]
    assert pool.cost(dear) == 0.0


# Scores


def scores_by_hand(pool, terms, price, least):
    """Score every bit and every conjunction of two, one at a time, from the definition."""
    columns, weights = pool.columns, terms.weights
    for i, j in itertools.combinations_with_replacement(range(len(pool)), 2):
        for not_i, not_j in itertools.product([False, True], repeat=2):
            if i == j and (not_i or not_j):
                continue
            column = (columns[i] ^ not_i) & (columns[j] ^ not_j)
            mean = weights @ column
            if not least < mean < 1 - least:
                continue
            slopes = (terms.residual * weights) @ (column - mean)
            falls = terms.importance * slopes**2 / (mean * (1 - mean) + terms.rho)
            low = 0.0 if i == j else float(pool.is_low[i]) + float(pool.is_low[j])
            gates = pool.cost(i) if i == j else pool.cost(i) + pool.cost(j) + 1.0 + low
            enters = falls > price * ADDER
            if enters.any():
                yield falls[enters].sum() / (gates + ADDER * enters.sum()), (i, j, not_i, not_j)


def test_scores_are_those_of_every_candidate_by_hand(table, ports):
    X, Y, weights = table
    pool = Pool(Ports(ports.formats, tuple(cuts[::6] for cuts in ports.cuts)), ports.codes(X))
    terms = Terms(pool, Y, weights, np.array([0.7, 0.3]))
    candidates = Candidates(pool, terms)
    price = 1e-4
    for _ in range(3):
        found = candidates.best(price, 40)
        expected = sorted(scores_by_hand(pool, terms, price, candidates.least), reverse=True)
        expected = [merit for merit, _ in expected if merit > price]
        assert len(found) >= 40
        assert_allclose([candidate.merit for candidate in found[:30]], expected[:30], rtol=2e-4)
        best = found[0].bit
        column = pool.value(best) if isinstance(best, Both) else pool.columns[best]
        sizes, _ = terms.best_sizes(terms.centred(column), price)
        terms.add(pool.conjunction(best) if isinstance(best, Both) else best, sizes, terms.centred(column))


def test_products_are_those_of_matrices_for_any_places(rng):
    columns = rng.random((70, 333)) < 0.3
    values = rng.normal(size=(3, 333)).astype(np.float32)
    for places in ([], [5], rng.permutation(70)[:37].tolist()):
        assert_allclose(products(columns, places, values), columns[places].astype(np.float32) @ values.T, atol=1e-4)


def test_no_weight_gains_more_than_the_bound_and_the_best_real_one_gains_it(table, ports, growth):
    growth.level(0.01)
    terms, price = growth.terms, 1e-4
    columns = growth.pool.columns[:40]
    bounds = terms.most_gains(columns, price)
    for column, bound in zip(columns, bounds, strict=True):
        centred = terms.centred(column)
        _, gain = terms.best_sizes(centred, price)
        assert gain <= bound * (1.0 + 1e-4)
        weighted = centred * terms.weights
        best = (terms.residual @ weighted) / (weighted @ centred + terms.rho)
        worth = [terms.worth(terms.residual, centred, size) for size in np.diag(best)]
        assert bound == pytest.approx(sum(max(gained - price * ADDER, 0.0) for gained in worth), rel=1e-3, abs=1e-9)
    assert (bounds > 0.0).sum() > 5


# Sums


def objective(terms, price):
    """Return loss, ridge and price from the definition."""
    gates = sum(own for own, readers in zip(terms.pool.own, terms.pool.n_readers, strict=True) if readers)
    gates += ADDER * np.count_nonzero(terms.sizes)
    ridge = terms.rho * float((np.square(terms.sizes) @ terms.importance).sum())
    return terms.loss + ridge + price * gates


def test_residuals_are_values_less_sums(table, ports, growth):
    X, Y, weights = table
    for price in (0.02, 0.002, 0.0005):
        level = growth.level(price)
        predicted = values_of(level, growth.pool.definitions, ports.codes(X))
        assert_allclose(growth.terms.residual.T, Y - predicted, atol=1e-5)
        assert level.loss == pytest.approx(weights @ np.square(Y - predicted) @ [0.7, 0.3], rel=1e-4)
        assert level.gates == growth.terms.gates
    assert len(level.bits) > 10
    assert_array_equal(np.log2(np.abs(level.sizes[level.sizes != 0])) % 1.0, 0.0)


def test_products_of_terms_follow_additions_exchanges_and_removals(growth):
    terms = growth.terms
    n_terms = list[int]()
    for price in (0.02, 1e-3, 1e-4, 0.02, 1e-3):
        growth.level(price)
        terms.settle(0.5 * price)
        centred = np.array([terms.column(place) for place in range(len(terms))])
        assert_allclose(terms.means, [terms.pool.columns[bit] @ terms.weights for bit in terms.bits])
        known = [place for place in range(len(terms)) if place not in terms._unknown]
        expected = (centred * terms.weights) @ centred.T
        assert_allclose(terms._gram[np.ix_(known, known)], expected[np.ix_(known, known)], atol=1e-6)
        n_terms.append(len(known))
    assert n_terms[3] < n_terms[2]  # some were dropped


def test_settled_weights_cannot_be_halved_doubled_turned_or_dropped_for_a_gain(growth):
    price = 1e-3
    growth.level(price)
    terms = growth.terms
    best = objective(terms, price)
    for term, output in zip(*np.nonzero(terms.sizes), strict=True):
        for factor in (0.0, 0.5, 2.0, -1.0):
            change = (factor - 1.0) * terms.sizes[term, output]
            centred = terms.centred(terms.pool.columns[terms.bits[term]])
            terms.residual[output] -= change * centred
            terms.sizes[term, output] += change
            alone = not terms.sizes[term].any()
            if alone:
                terms.pool.read(terms.bits[term], -1)
            assert objective(terms, price) >= best - 1e-7
            if alone:
                terms.pool.read(terms.bits[term], 1)
            terms.residual[output] += change * centred
            terms.sizes[term, output] -= change


def test_no_level_raises_the_objective_at_its_price(growth):
    gates, losses = [], []
    for price in prices_down_to(1e-5):
        before = objective(growth.terms, price)
        level = growth.level(price)
        assert objective(growth.terms, price) <= before + 1e-7
        gates.append(level.gates)
        losses.append(level.loss)
    assert gates[0] < gates[len(gates) // 2] < gates[-1]
    assert losses[0] > losses[len(gates) // 2] > losses[-1]


def test_prices_are_a_ladder_with_a_last_step():
    assert prices_down_to(1.0) == [1.0]
    found = prices_down_to(1e-4)
    assert found[0] == LARGEST
    assert found[-1] == 1e-4
    assert_allclose(np.divide(found[1:-1], found[:-2]), 0.7)


# Constructed functions


def test_rules_with_powers_of_two_are_found_exactly(rng):
    X = rng.integers(0, 16, size=(600, 4)).astype(float)
    Y = 4.0 * ((X[:, 0] > 7) & (X[:, 1] <= 3)) - 2.0 * (X[:, 2] > 11) + 1.0 * (X[:, 3] > 7) + 0.5
    ports = Ports.of(X, np.array([X.min(axis=0), X.max(axis=0)]))
    growth = Growth(ports, ports.codes(X), Y[:, None], np.full(600, 1 / 600), np.array([1.0 / Y.var()]))
    *_, last = levels(growth, prices_down_to(1e-4))
    graph = graph_of(last, growth.pool.definitions, ports, np.zeros(1), [0])
    assert_allclose(simulate(graph, X)[:, 0], Y, atol=2.0**-7)
    # Four comparisons of 0, 1, 1 and 0 gates, a conjunction, and three bits whose sum is a word without one carry.
    assert count_gates(graph) <= 12


def test_outputs_share_the_pool(rng):
    X = rng.integers(0, 64, size=(500, 3)).astype(float)
    deep = (X[:, 0] > 23) & (X[:, 1] > 39)
    Y = np.column_stack([4.0 * deep, 1.0 - 2.0 * deep])
    ports = Ports.of(X, np.array([X.min(axis=0), X.max(axis=0)]))

    def gates(columns):
        values = Y[:, columns]
        growth = Growth(ports, ports.codes(X), values, np.full(500, 1 / 500), np.full(len(columns), 0.5))
        *_, last = levels(growth, prices_down_to(1e-4))
        n = len(columns)
        return count_gates(graph_of(last, growth.pool.definitions, ports, np.zeros(n), [0] * n))

    # A conjunction of comparisons of five bits and of six costs more than it does to put it into another sum.
    assert gates([0, 1]) <= gates([0]) + ADDER


def test_a_term_is_exchanged_for_a_better_one(rng):
    X = rng.integers(0, 64, size=(500, 2)).astype(float)
    wanted = (X[:, 0] > 23) & (X[:, 1] > 39)
    ports = Ports.of(X, np.array([X.min(axis=0), X.max(axis=0)]))
    pool = Pool(ports, ports.codes(X))
    terms = Terms(pool, 2.0 * wanted[:, None], np.full(500, 1 / 500), np.ones(1))
    cuts = [(number, bit) for number, bit in enumerate(pool.definitions) if isinstance(bit, Above)]
    near = [
        min(cuts, key=lambda cut, f=f, at=at: np.abs(pool.columns[cut[0]] ^ (X[:, f] > at)).sum())[0]
        for f, at in ((0, 23), (1, 39))
    ]
    away = near[0] - 4
    assert pool.definitions[away].feature == 0
    start = pool.conjunction(Both.ordered(away, False, near[1], False))
    terms.add(start, np.array([2.0]), terms.centred(pool.columns[start]))
    before = terms.loss
    assert Swaps(pool, terms, Candidates(pool, terms)).once(1e-6) == 1
    assert terms.loss < 0.6 * before
    assert pool.definitions[terms.bits[0]] == Both.ordered(near[0], False, near[1], False)
    # Books are kept: nobody reads the first cut any more, and the residual is that of the new term.
    assert pool.n_readers[away] == 0
    assert pool.n_readers[near[0]] == 1
    column = pool.columns[terms.bits[0]] * 2.0
    assert_allclose(terms.residual[0], 2.0 * wanted - 2.0 * wanted.mean() - column + column.mean(), atol=1e-6)


def test_graphs_are_the_sums_and_verified(table, ports, growth):
    X = table[0]
    for level in levels(growth, prices_down_to(1e-4)):
        graph = graph_of(level, growth.pool.definitions, ports, np.array([3.0, -100.0]), [2, -5])
        verify(graph)
        sums = values_of(level, growth.pool.definitions, ports.codes(X))
        assert_allclose(simulate(graph, X) / [4.0, 2.0**-5], sums + np.array([3.0, -100.0]), atol=2.0**-9)


def test_constants_far_above_the_weights_keep_the_bits_of_a_double(table, ports, growth):
    X = table[0]
    *_, level = levels(growth, prices_down_to(1e-4))
    assert np.abs(level.sizes[level.sizes != 0]).min() < 1.0
    center = np.array([2.0**60 + 2.0**20, -(2.0**58)])
    graph = graph_of(level, growth.pool.definitions, ports, center, [0, 0])
    verify(graph)
    sums = values_of(level, growth.pool.definitions, ports.codes(X))
    assert_allclose(simulate(graph, X), center + sums, rtol=2.0**-50)
    # One far below the last bit of the constant is gone, one above it stays.
    assert np.ptp(simulate(graph, X), axis=0).max() < 2.0**12


# Held-out rows


def test_held_out_rows_stop_growth_where_there_is_noise_only(rng):
    X, y = rng.normal(size=(200, 5)), rng.normal(size=200)
    ports = Ports.of(X, np.array([X.min(axis=0), X.max(axis=0)]))
    inside = np.arange(200) % 2 == 0

    def rows(chosen):
        return Rows(ports.codes(X[chosen]), y[chosen, None], np.full(100, 0.01))

    noise = validated(ports, [(rows(inside), rows(~inside))], np.ones(1))
    assert noise.best <= 3  # the constant, or nearly
    y = np.sign(X[:, 0]) * (X[:, 1] > 0)
    assert validated(ports, [(rows(inside), rows(~inside))], np.ones(1)).best > 3


# Circuits of models


@pytest.fixture(scope="module")
def boosting():
    X = np.random.default_rng(0).normal(size=(300, 4))
    y = np.sin(2.0 * X[:, 0]) + X[:, 1] * (X[:, 2] > 0)
    return GradientBoostingRegressor(n_estimators=40, random_state=0).fit(X, y), X, y


@pytest.fixture(scope="module")
def compiled(boosting):
    """Return a function that compiles the model; what was asked before is not compiled again."""
    model, X, y = boosting
    return cache(
        lambda epsilon, method, effort: compile_circuit(model, X, epsilon=epsilon, y=y, method=method, effort=effort)
    )


@pytest.mark.parametrize(("epsilon", "effort"), [(0.3, 0), (0.3, 1), (0.1, 0)])
def test_grown_circuits_are_within_epsilon(boosting, compiled, epsilon, effort):
    model, X, y = boosting
    circuit = compiled(epsilon, "grow", effort)
    verify(circuit)
    error = np.sqrt(np.mean((simulate(circuit, X) - model.predict(X)) ** 2)) / np.std(y)
    assert error == pytest.approx(circuit.error)
    assert error <= epsilon


@pytest.mark.parametrize("epsilon", [0.3, 0.1])
def test_both_ways_together_are_never_larger_than_rounding(compiled, epsilon):
    assert compiled(epsilon, "auto", 1).n_gates <= compiled(epsilon, "round", 1).n_gates


@pytest.mark.parametrize("epsilon", [0.3, 0.1])
def test_elsewhere_both_ways_together_are_about_as_near_to_the_model_as_rounding(compiled, epsilon):
    rounded, found = (compiled(epsilon, "auto", effort).error_elsewhere for effort in (0, 1))
    assert found <= 1.25 * max(epsilon, rounded)


def test_coarse_circuits_are_grown(compiled):
    assert compiled(0.3, "auto", 1).n_gates < 0.8 * compiled(0.3, "round", 1).n_gates


def test_what_cannot_be_grown_says_how_near_it_came(boosting):
    model, X, y = boosting
    with pytest.raises(ValueError, match=r"no circuit within epsilon=1e-05 was found; the best error reached is 0\.0"):
        compile_circuit(model, X[:30], epsilon=1e-5, y=y[:30], method="grow", effort=0)
