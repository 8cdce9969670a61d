"""Short paths: the same integers in fewer levels, carries before their deadlines, and few more gates."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from graphs import (
    adder_chain,
    affine,
    bits_of,
    codes_for,
    codes_of,
    comparators,
    multiplication,
    network,
    oracle_codes,
    random_graph,
    trees,
)
from sklearn.linear_model import LinearRegression

from sklearn_htmc.circuit import Builder, Circuit, Format, compile_circuit, count_gates, simulate, simulate_codes
from sklearn_htmc.circuit._carry_save import rows_of
from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._prefix import LATE, added, carry_out, greater_before
from sklearn_htmc.circuit._together import Plan

KINDS = {
    "chain": adder_chain(1),
    "product": multiplication(2),
    "affine": affine(3),
    "network": network(4),
    "comparators": comparators(5, 20),
    "trees": trees(6, 3, 4),
}


def of_depth(graph):
    fields = (graph.nodes, graph.outputs, graph.input_formats, graph.output_formats)
    return Circuit(*fields, epsilon=1.0, error=0.0, objective="depth")


def assert_the_same_in_fewer_levels(graph, rng, n_rows=300):
    codes = codes_for(graph, rng, n_rows)
    net, few = Netlist.of(of_depth(graph)), Netlist.of(graph)
    inputs = [bits_of(code, form) for code, form in zip(codes, graph.input_formats, strict=True)]
    words = net.evaluate(inputs, len(codes[0]))
    exact = oracle_codes(graph, codes)
    for word, form, expected in zip(words, graph.output_formats, exact, strict=True):
        assert np.array_equal(codes_of(word, form, len(expected)), expected)
    assert net.depth <= few.depth
    return net, few


# --- graphs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs_compute_the_same_integers(seed, rng):
    assert_the_same_in_fewer_levels(random_graph(seed), rng)


@pytest.mark.parametrize("name", KINDS)
def test_circuits_are_shorter_and_hardly_larger(name, rng):
    net, few = assert_the_same_in_fewer_levels(KINDS[name], rng)
    assert len(net.live()) <= 1.5 * len(few.live())
    if name != "comparators":
        assert net.depth <= 0.8 * few.depth


@pytest.mark.parametrize("n_bits", [2, 3, 8, 16, 31, 62])
def test_an_adder_has_logarithmic_depth(n_bits):
    build = Builder([Format(0, 2 ** (n_bits - 1) - 1, 0)] * 2)
    for operation in (build.add, build.subtract):
        graph = build.graph([operation(build.input(0), build.input(1))], [0])
        assert Netlist.of(of_depth(graph)).depth <= 2 + 2 * math.ceil(math.log2(n_bits))


@pytest.mark.parametrize("n_words", [3, 8, 30])
def test_a_sum_of_words_has_logarithmic_depth_in_their_number_and_bits(n_words):
    build = Builder([Format(-128, 127, 0)] * n_words)
    graph = build.graph([build.sum([(build.input(port), (-1) ** port) for port in range(n_words)])], [0])
    rows = 3 * math.ceil(math.log(n_words / 2, 1.5))
    assert Netlist.of(of_depth(graph)).depth <= rows + 4 + 2 * math.ceil(math.log2(8 + math.log2(n_words)))


@pytest.mark.parametrize("constant", [0, 1, 0b1010101010101010101010101010101, 2**31 - 2, 2**31, 1234567890])
def test_a_comparison_has_logarithmic_depth(constant):
    build = Builder([Format(0, 2**32 - 1, 0)])
    graph = build.graph([build.at_most(build.input(0), constant)], [0])
    assert Netlist.of(of_depth(graph)).depth <= 2 * 5


@pytest.mark.parametrize("operation", ["conjunction", "disjunction", "difference"])
def test_chains_of_bits_become_trees_with_short_ways_for_late_bits(operation):
    build = Builder([Format(0, 1, 0)] * 33)
    make = getattr(build, operation)
    bits = [build.input(port) for port in range(33)]
    late = bits[0]
    for bit in bits[1:17]:
        late = build.conjunction(build.disjunction(late, bit), bits[32])  # no chain of one operation
    depth = Netlist.of(of_depth(build.graph([late], [0]))).depth
    total = late
    for bit in bits[17:]:
        total = build.negation(make(total, bit)) if operation == "difference" else make(total, bit)
    found = Netlist.of(of_depth(build.graph([total], [0])))
    assert found.depth <= depth + 1
    assert len(found.live()) <= count_gates(build.graph([total], [0]))


def test_inverters_between_and_and_or_are_looked_through(rng):
    """A chain of "not (a and not (b or ...))" is one conjunction or one disjunction after the other."""
    build = Builder([Format(0, 1, 0)] * 8)
    total = build.input(0)
    for port in range(1, 8):
        inverted = build.negation(total)
        total = build.negation(build.conjunction(inverted, build.input(port)))
        total = build.negation(build.disjunction(build.negation(total), build.negation(build.input(port - 1))))
    graph = build.graph([total], [0])
    assert_the_same_in_fewer_levels(graph, rng)


def test_sums_of_floors_of_sums_do_not_wait_for_carries(rng):
    """Five sums one after the other, each read twice: their depth is not that of five adders."""
    build = Builder([Format(-2000, 2000, 0)] * 7)
    total, seen = build.input(0), []
    for port in range(1, 6):
        total = build.sum([(build.floor(total, 2) if port > 1 else total, 1), (build.input(port), -1)], 5)
        seen.append(total)
    outputs = [total, *(build.relu(word) for word in seen)]
    graph = build.graph(outputs, [0] * len(outputs))
    net, _ = assert_the_same_in_fewer_levels(graph, rng)
    one = build.graph([seen[0]], [0])
    assert net.depth <= 0.6 * 5 * Netlist.of(of_depth(one)).depth


def test_single_bits_of_a_sum_are_recognised_as_its_high_part():
    build = Builder([Format(-100, 100, 0), Format(0, 50, 0)])
    total = build.sum([(build.input(0), 1), (build.input(1), 2)])
    width = build.nodes[total].width
    bits = [(build.bit(total, place), 3 << place) for place in range(2, width - 1)]
    powers = [(bit, power) for bit, weight in bits for power in (weight // 3, 2 * weight // 3)]
    powers += [(build.bit(total, width), -(1 << width - 1)), (build.bit(total, width - 1), -(2 << width - 1))]
    low = build.bit(total, 0)
    outer = build.sum([*powers, (low, 8), (build.input(1), 1)])
    graph = build.graph([outer, total], [0, 0])
    plan = Plan(graph)
    [reading] = plan.readings(plan.terms(graph.outputs[0])[0])
    assert (reading.source, reading.shift, reading.factor) == (graph.outputs[1], 2, 12)
    assert reading.left == ((0, 8),)


# --- carries --------------------------------------------------------------------------------------


def numbers_of(values, n_rows):
    return [sum((value >> row & 1) << place for place, value in enumerate(values)) for row in range(n_rows)]


@pytest.mark.parametrize("n_bits", [1, 2, 7, 20])
def test_rows_are_added_before_any_deadlines_that_can_be_met(n_bits, rng):
    for trial in range(12):
        net = Netlist()
        net.inputs = [net.word(n_bits), net.word(n_bits), net.word(1)]
        a, b = ([wire if rng.random() < 0.9 else int(rng.integers(2)) for wire in word] for word in net.inputs[:2])
        carry = net.inputs[2][0] if trial % 2 else int(rng.integers(2))
        earliest = [net.level(wire) for wire in added(net, a, b, carry)]
        slack = [int(level + rng.integers(0, 2 * n_bits)) for level in earliest]
        total = added(net, a, b, carry, slack)
        assert all(net.level(wire) <= limit for wire, limit in zip(total, slack, strict=True))
        out = carry_out(net, a, b, carry, None)
        net.outputs = [a, b, [carry], [*total, out]]
        inputs = [[int.from_bytes(rng.bytes(8), "big") for _ in word] for word in net.inputs]
        x, y, z, found = (numbers_of(word, 64) for word in net.evaluate(inputs, 64))
        assert found == [i + j + k for i, j, k in zip(x, y, z, strict=True)]


def test_without_haste_an_adder_is_a_chain():
    for n_bits in (2, 9, 30):
        net = Netlist()
        net.inputs = [net.word(n_bits), net.word(n_bits)]
        net.outputs = [added(net, *net.inputs, 0, [LATE] * n_bits)]
        build = Builder([Format(0, 2**n_bits - 1, 0)] * 2)
        ripple = count_gates(build.graph([build.add(build.input(0), build.input(1))], [0]))
        assert len(net.live()) <= ripple


def test_more_time_never_takes_many_more_gates():
    sizes = []
    for deadline in range(10, 70, 4):
        net = Netlist()
        net.inputs = [net.word(32), net.word(32)]
        net.outputs = [added(net, *net.inputs, 0, [deadline] * 32)]
        assert net.depth <= max(deadline, 12)
        sizes.append(len(net.live()))
    assert sizes[0] > 1.3 * sizes[-1]
    assert all(later <= 1.05 * earlier for earlier, later in itertools.pairwise(sizes))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("deadline", [None, 3, LATE])
def test_comparisons_before_a_deadline_are_right(signed, deadline):
    low = -8 if signed else 0
    words = np.arange(low, low + 16)
    for constant in range(low - 3, low + 19):
        net = Netlist()
        net.inputs = [net.word(4)]
        net.outputs = [[greater_before(net, net.inputs[0], signed, constant, deadline)]]
        [[found]] = net.evaluate([bits_of(words, Format(low, low + 15, 0))], 16)
        assert [bool(found >> row & 1) for row in range(16)] == (words > constant).tolist()


def test_rows_of_a_sum_are_the_sum_and_so_are_their_high_parts(rng):
    for _ in range(30):
        net = Netlist()
        formats = [Format(*sorted(int(i) for i in rng.integers(-90, 90, 2)), 0) for _ in range(int(rng.integers(1, 6)))]
        formats = [form for form in formats if form.width]
        net.inputs = [net.word(form.width) for form in formats]
        weights = [int(rng.choice([-1, 1])) << int(rng.integers(4)) for _ in formats]
        constant = int(rng.integers(-300, 300))
        addends = [(word, f.signed, w) for word, f, w in zip(net.inputs, formats, weights, strict=True)]
        rows = rows_of(net, addends, constant, 14)
        place = int(rng.integers(14))
        above, offset = rows.above(place, rows.carry_into(net, place, None), 2)
        net.outputs = [rows.a, rows.b, [rows.carry], *(wires for wires, _, _ in above)]
        codes = [rng.integers(*form.word, 64, endpoint=True) for form in formats]
        inputs = [bits_of(code, form) for code, form in zip(codes, formats, strict=True)]
        a, b, c, *parts = (numbers_of(word, 64) for word in net.evaluate(inputs, 64))
        exact = constant + sum(w * code for w, code in zip(weights, codes, strict=True)) + np.zeros(64, dtype=int)
        assert np.array_equal(np.add(a, b) + (np.array(c) << rows.first) + rows.constant, exact)
        high = sum(weight * np.array(part) for (_, _, weight), part in zip(above, parts, strict=True)) + offset
        assert np.array_equal(high, 2 * (exact >> place))


# --- the parameter --------------------------------------------------------------------------------


def test_the_objective_changes_gates_and_depth_but_no_value(rng, tmp_path):
    X = rng.normal(size=(200, 4))
    model = LinearRegression().fit(X, X @ [1.0, -0.7, 0.4, 2.3])
    few, short = (compile_circuit(model, X, epsilon=0.05, objective=name) for name in ("gates", "depth"))
    assert (few.objective, short.objective) == ("gates", "depth")
    assert few.nodes == short.nodes
    assert short.depth < few.depth
    assert few.n_gates <= short.n_gates == count_gates(short)
    assert np.array_equal(simulate(few, X), simulate(short, X))
    short.save(tmp_path / "short.json")
    loaded = Circuit.load(tmp_path / "short.json")
    assert (loaded.n_gates, loaded.depth) == (short.n_gates, short.depth)
    assert replace(loaded, objective="gates").n_gates == few.n_gates
    codes = np.stack(codes_for(few, rng, 50), axis=1)
    assert np.array_equal(simulate_codes(few, codes), simulate_codes(short, codes))


def test_other_objectives_are_refused(rng):
    X = rng.normal(size=(20, 2))
    with pytest.raises(ValueError, match=r"^objective must be one of gates, depth, got 'speed'\.$"):
        compile_circuit(LinearRegression().fit(X, X[:, 0]), X, epsilon=0.1, objective="speed")
