"""Resynthesis: exact scores of moves, errors that are allowed, never larger, repeatable, at its limits."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from functools import cache

import numpy as np
import pytest
from graphs import oracle_codes, random_graph, trees
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc.circuit import Graph, Op, _compile, circuit_profile, compile_circuit, count_gates, simulate, verify
from sklearn_htmc.circuit._elsewhere import perturbed
from sklearn_htmc.circuit._resynthesis.comparisons import clamp_gates, comparators, rounder_limits
from sklearn_htmc.circuit._resynthesis.parts import BITS, conjunctions, put_together, taken_apart
from sklearn_htmc.circuit._resynthesis.prices import Prices
from sklearn_htmc.circuit._resynthesis.rows import Rows
from sklearn_htmc.circuit._resynthesis.scoring import Scoring
from sklearn_htmc.circuit._resynthesis.state import State
from sklearn_htmc.circuit._simulate import words_at_outputs

MODELS = {
    "linear": Ridge(),
    "tree": DecisionTreeRegressor(max_leaf_nodes=12, random_state=0),
    "boosting": GradientBoostingRegressor(n_estimators=6, random_state=0),
    "network": MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=200, random_state=0),
}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def problem(seed=0, n_samples=250):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 4)) * [1.0, 30.0, 0.01, 1.0] + [0.0, 500.0, 0.0, -3.0]
    y = np.sin(2.0 * X[:, 0]) + 0.03 * np.abs(X[:, 1] - 480.0) + 0.3 * X[:, 3] * (X[:, 2] > 0)
    return X, y


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    X, y = problem(n_samples=200)
    return MODELS[request.param].fit(X, y), X, y


@pytest.fixture(scope="module")
def compiled(fitted):
    """Return a function that compiles the model; what was asked before is not compiled again."""
    model, X, y = fitted
    return cache(lambda epsilon, effort=1: compile_circuit(model, X, epsilon=epsilon, y=y, effort=effort))


def error_of(circuit, model, X, y):
    return np.sqrt(np.mean((simulate(circuit, X) - model.predict(X)) ** 2)) / np.std(y)


def rows_of(graph, rng, n_rows=80):
    """Rows in two groups with unequal weights, and a reference that the graph misses by a little noise."""
    codes = [rng.integers(*form.word, endpoint=True, size=n_rows) for form in graph.input_formats]
    exact = np.array(words_at_outputs(graph, codes), dtype=float)
    scale = np.maximum(exact.std(axis=1, keepdims=True), 1.0)
    weights = np.zeros((2, n_rows))
    weights[0, : n_rows // 2], weights[1, n_rows // 2 :] = rng.random((2, n_rows // 2))
    weights /= weights.sum(axis=1, keepdims=True)
    reference = exact / scale + 0.1 * rng.normal(size=exact.shape)
    return Rows(codes, reference, 1.0 / scale[:, 0], weights)


def state_of(graph, rng):
    graph, own = taken_apart(graph, comparators(graph), [])
    state = State(graph, rows_of(graph, rng))
    return state, Prices(state, own)


# --- what a move does to the error ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_values_follow_redefinitions_as_a_new_evaluation_says(seed, rng):
    """Random substitutions, one after the other; in the end the rebuilt graph is asked again, by the oracle."""
    state, _ = state_of(random_graph(seed), rng)
    bits = [number for number, node in enumerate(state.nodes) if node.op in BITS and not state.is_dead(number)]
    for number in rng.permutation(bits)[:8].tolist():
        below = [bit for bit in bits if bit < number] or [number]
        by = int(rng.choice(below))
        if by == number or state.is_dead(number):
            continue
        changed = {number: state.nodes[number]._replace(op=Op.NOT, args=(by,), data=())}
        new = state.following({n: state.redefined(n, node) for n, node in changed.items()})
        effect = state.effect(new)
        errors = state.errors if effect is None else state.errors + effect
        state.accept(changed, new, errors, state.rows.squares(errors))
    rebuilt = state.rebuilt()
    verify(rebuilt)
    words = oracle_codes(rebuilt, state.rows.codes)
    np.testing.assert_allclose(state.rows.errors(words), state.errors, atol=1e-9)
    np.testing.assert_allclose(state.rows.squares(state.errors), state.squares)


@pytest.mark.parametrize("graph", [trees(3, 3, 3), trees(5, 6, 2), *(random_graph(seed) for seed in (3, 6, 9))])
def test_scores_of_moves_are_their_gains(graph, rng):
    """The matrix products say for every move what making it alone would say, the constants following the means."""
    state, prices = state_of(graph, rng)
    weights = rng.random(state.n_rows)
    price = 1e-3 * float(weights.sum())
    scoring = Scoring(state, prices, weights, price, most_work=np.inf, gates=True)
    checked = 0
    for move in scoring.moves():
        changed = move.changed(state)
        if changed is None:
            continue
        new = state.following({n: state.redefined(n, node) for n, node in changed.items()})
        gain = price * move.saved(prices) - scoring.rise(state.effect(new)) - move.risk
        if type(move).__name__ == "Terms" and move.number not in state.places:
            continue  # of sums inside only the slope is known
        if type(move).__name__ == "Terms":
            # What the other term needs is looked at when the move is made.
            gain = max(gain, move.merit) if len(move.weights) > 1 else gain
        assert gain == pytest.approx(move.merit, rel=2e-3, abs=2e-3 * float(weights.sum())), move
        checked += 1
    assert checked > 10


def test_conjunctions_are_those_that_an_exhaustive_search_finds(rng):
    B = (rng.random((7, 60)) < 0.4).astype(np.float32)
    residual, weights = rng.normal(size=60), rng.random(60)

    def score(i, j, inverted):
        bit = np.abs(B[i] - inverted[0]) * np.abs(B[j] - inverted[1])
        return (weights * residual) @ bit * ((weights * residual) @ bit) / max(weights @ bit, 1e-3 * weights.sum())

    every = itertools.product(itertools.combinations(range(7), 2), itertools.product((False, True), repeat=2))
    best = sorted((score(i, j, inverted) for (i, j), inverted in every), reverse=True)[:9]
    found = sorted((score(*pair) for pair in conjunctions(B, residual, weights, 9)), reverse=True)
    np.testing.assert_allclose(found, best, rtol=1e-4)
    # Residuals of any size have the same conjunctions.
    for factor in (2.0**-700, 2.0**500):
        assert list(conjunctions(B, factor * residual, weights, 9)) == list(conjunctions(B, residual, weights, 9))


@pytest.mark.parametrize("seed", range(4))
def test_taken_apart_and_put_together_a_graph_computes_the_same(seed, rng):
    graph = random_graph(seed)
    codes = rows_of(graph, rng).codes
    apart, _ = taken_apart(graph, comparators(graph), [])
    verify(apart)
    together = put_together(apart)
    verify(together)
    for other in (apart, together):
        for word, exact in zip(words_at_outputs(other, codes), words_at_outputs(graph, codes), strict=True):
            assert np.array_equal(word, exact)
    assert count_gates(together) <= 1.02 * count_gates(graph)


def test_words_are_whole_again_where_no_bit_was_changed(fitted):
    model, X, y = fitted
    graph = compile_circuit(model, X, epsilon=0.1, y=y, effort=0)
    together = put_together(taken_apart(graph, comparators(graph), [])[0])
    assert not any(node.op is Op.BIT for node in together.nodes)


def test_rounder_limits_save_gates_and_stay_near():
    graph = random_graph(0)
    word = next(node for node in graph.nodes if node.op is Op.INPUT and node.width > 5)
    low, high = word.low + 3, word.high - 5
    found = rounder_limits(low, high, word)
    assert min(clamp_gates(word, *limits) for limits in found) < clamp_gates(word, low, high)
    reach = (high - low) // 8
    for a, b in found:
        assert word.low <= a < b <= word.high
        assert abs(a - low) <= reach
        assert abs(b - high) <= reach


# --- circuits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.2, 0.1])
def test_circuits_are_smaller_within_epsilon_and_near_the_model_elsewhere(fitted, compiled, epsilon):
    model, X, y = fitted
    rounded, circuit = compiled(epsilon, 0), compiled(epsilon)
    verify(circuit)
    assert circuit.n_gates <= rounded.n_gates
    assert circuit.error == pytest.approx(error_of(circuit, model, X, y), rel=1e-9)
    assert circuit.error <= epsilon
    assert circuit.error_elsewhere <= 1.25 * max(rounded.error_elsewhere, epsilon)


def test_half_of_the_gates_of_boosted_trees_make_no_difference():
    X, y = problem()
    model = GradientBoostingRegressor(n_estimators=40, random_state=0).fit(X, y)
    rounded, circuit = (compile_circuit(model, X, epsilon=0.2, effort=effort) for effort in (0, 1))
    assert circuit.n_gates < 0.55 * rounded.n_gates


def test_the_error_elsewhere_is_measured_on_rows_with_entries_of_other_rows(fitted, compiled):
    model, X, y = fitted
    circuit = compiled(0.2)
    rng = np.random.default_rng(99)
    other = X[rng.integers(len(X), size=X.shape), np.arange(4)]
    exchanged = rng.random(X.shape) < 0.1
    exchanged[np.arange(len(X)), rng.integers(4, size=len(X))] = True
    independent = error_of(circuit, model, np.where(exchanged, other, X), y)
    assert circuit.error_elsewhere == pytest.approx(independent, rel=0.4)


def test_perturbed_rows_hold_values_of_their_features_and_differ_in_at_least_one():
    X, _ = problem()
    weights = np.arange(1.0, len(X) + 1.0)
    rows, of_rows = perturbed(X, weights, 600, seed=3)
    assert all(np.isin(rows[:, j], X[:, j]).all() for j in range(4))
    own = np.arange(600) % len(X)
    assert ((rows != X[own]).any(axis=1)).mean() > 0.95
    np.testing.assert_allclose(of_rows, weights[own] / weights[own].sum())
    assert not np.array_equal(rows, perturbed(X, weights, 600, seed=4)[0])


def test_more_effort_never_needs_more_gates(fitted, compiled):
    gates = [compiled(0.2, effort).n_gates for effort in range(4)]
    assert gates == sorted(gates, reverse=True)
    assert gates[1] < gates[0] or isinstance(fitted[0], Ridge)  # a few digits can hardly be fewer


def test_circuits_are_repeatable_and_do_not_depend_on_the_order_of_rows(fitted, compiled, rng):
    model, X, y = fitted
    order = rng.permutation(len(X))
    for rows in (slice(None), order):
        again = compile_circuit(model, X[rows], epsilon=0.2, y=y[rows], effort=2)
        assert again.text() == compiled(0.2, 2).text()


def test_a_weight_of_three_is_a_row_three_times(fitted, compiled, rng):
    model, X, y = fitted
    weights = rng.integers(0, 4, len(X))
    repeated = np.repeat(np.arange(len(X)), weights)
    once = compile_circuit(model, X, epsilon=0.2, y=y, sample_weight=weights, effort=1)
    assert once.text() == compile_circuit(model, X[repeated], epsilon=0.2, y=y[repeated], effort=1).text()
    assert once.text() != compiled(0.2).text()


def test_several_outputs_share_the_error():
    X, y = problem()
    model = DecisionTreeRegressor(max_leaf_nodes=20, random_state=0).fit(X, np.column_stack([y, 100.0 * X[:, 2], -y]))
    rounded, circuit = (compile_circuit(model, X, epsilon=0.2, effort=effort) for effort in (0, 1))
    assert circuit.n_gates < rounded.n_gates
    values = model.predict(X)
    squares = np.mean((simulate(circuit, X) - values) ** 2, axis=0) / values.var(axis=0)
    assert circuit.error == pytest.approx(np.sqrt(squares.mean()), rel=1e-9)
    assert circuit.error <= 0.2


def test_many_rows_are_thinned_but_all_are_measured(fitted, monkeypatch):
    from sklearn_htmc.circuit._resynthesis import refine

    model, X, y = fitted
    monkeypatch.setattr(refine, "_ROWS", 60)
    circuit = compile_circuit(model, X, epsilon=0.2, y=y, effort=1)
    assert circuit.error == pytest.approx(error_of(circuit, model, X, y), rel=1e-9)
    assert circuit.error <= 0.2


def test_the_work_of_a_search_is_bounded(monkeypatch):
    from sklearn_htmc.circuit._resynthesis import refine

    X, y = problem()
    model = GradientBoostingRegressor(n_estimators=15, random_state=0).fit(X, y)
    sizes = []
    for work in (0, 10_000, 10_000_000):
        monkeypatch.setattr(refine, "_WORK", work)
        sizes.append(compile_circuit(model, X, epsilon=0.1, method="round", effort=1).n_gates)
    assert sizes[0] == compile_circuit(model, X, epsilon=0.1, effort=0).n_gates
    assert sizes[0] > sizes[1] > sizes[2]


def test_profiles_and_scores_gain(fitted):
    from sklearn_htmc import CircuitSizeScorer

    model, X, y = fitted
    rough, fine = (circuit_profile(model, X, [0.3, 0.1], effort=effort).n_gates for effort in (0, 1))
    assert (fine <= rough).all()
    assert (fine < rough).any()
    error = np.sqrt(np.mean((model.predict(X) - y) ** 2)) / np.std(y)
    scores = [CircuitSizeScorer(epsilon=1.2 * error + 0.1, effort=effort)(model, X, y) for effort in (0, 1)]
    assert scores[1] > scores[0] or scores[1] == scores[0] == 0.0


# --- limits ---------------------------------------------------------------------------------------


def test_constants_need_nothing():
    X, y = problem()
    for model in (DummyRegressor().fit(X, y), LinearRegression().fit(X, np.full(len(X), 3.0))):
        assert compile_circuit(model, X, epsilon=0.1, effort=3).n_gates == 0


def test_an_exact_circuit_stays_exact_where_there_is_no_room():
    X = np.arange(16.0)[:, None]
    tree = DecisionTreeRegressor(max_leaf_nodes=4).fit(X, np.repeat([0.0, 1.0, 2.0, 3.0], 4))
    circuit = compile_circuit(tree, X, epsilon=1e-7, effort=3)
    assert circuit.error == 0.0
    assert np.array_equal(simulate(circuit, X), tree.predict(X))


def test_one_row_one_gate_and_features_that_nobody_reads():
    assert compile_circuit(LinearRegression().fit([[1.0, 2.0]], [3.0]), [[1.0, 2.0]], epsilon=0.5).n_gates == 0
    X = np.array([[0.0, 0.0, 5.0], [0.0, 1.0, 6.0], [1.0, 0.0, 7.0], [1.0, 1.0, 8.0]])
    both = DecisionTreeRegressor().fit(X[:, :2], X[:, 0] * X[:, 1])
    assert compile_circuit(both, X[:, :2], epsilon=0.01).n_gates == 1
    wide = DecisionTreeRegressor(max_depth=1).fit(X, X[:, 0])
    assert compile_circuit(wide, X, epsilon=0.01).n_gates == 0


@pytest.mark.parametrize("effort", [-1, 4, True, 1.0, "much", None], ids=repr)
def test_other_efforts_are_refused(effort):
    X, y = problem(n_samples=30)
    with pytest.raises(ValueError, match=r'^effort must be "auto" or an integer from 0 to 3, got '):
        compile_circuit(Ridge().fit(X, y), X, epsilon=0.1, effort=effort)


def test_other_methods_are_refused():
    X, y = problem(n_samples=30)
    with pytest.raises(ValueError, match=r"^method must be one of auto, round, grow, got 'magic'\.$"):
        compile_circuit(Ridge().fit(X, y), X, epsilon=0.1, method="magic")


def test_efforts_may_be_integers_of_numpy():
    X, y = problem(n_samples=60)
    model = DecisionTreeRegressor(max_leaf_nodes=8).fit(X, y)
    same = [compile_circuit(model, X, epsilon=0.1, effort=effort).text() for effort in (1, np.int64(1))]
    assert same[0] == same[1]


def test_progress_is_shown_if_asked_for(capsys):
    X, y = problem()
    model = GradientBoostingRegressor(n_estimators=5).fit(X, y)
    compile_circuit(model, X, epsilon=0.1)
    assert capsys.readouterr() == ("", "")
    compile_circuit(model, X, epsilon=0.1, verbose=1)
    shown = capsys.readouterr().err
    assert "resynthesis" in shown
    assert "gates, error" in shown


def test_an_interrupt_leaves_the_smallest_circuit_so_far(monkeypatch):
    X, y = problem()
    model = GradientBoostingRegressor(n_estimators=5).fit(X, y)
    rounded = compile_circuit(model, X, epsilon=0.1, effort=0)
    searched = threading.Event()
    found = _compile.Refinement.found

    def interrupted(self, *args):
        searched.set()
        yield from found(self, *args)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_compile.Refinement, "found", interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.warns(UserWarning, match=r"^interrupted: the circuit is the smallest one found so far\.$"):
            circuit = compile_circuit(model, X, epsilon=0.1, effort=3)
        with pytest.raises(KeyboardInterrupt):
            circuit_profile_interrupted(model, X)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert searched.is_set()
    assert circuit.error <= 0.1
    assert circuit.n_gates <= rounded.n_gates


def circuit_profile_interrupted(model, X):
    """Searches of others, such as those of a score, are not cut short: the interrupt goes on."""
    _compile.search_circuit(model, X, None, epsilon=0.1, way=_compile.Way(effort=3))


def test_graphs_without_bits_or_outputs_are_left_alone(rng):
    graph = Graph((), (), (), ())
    assert put_together(graph).nodes == ()
