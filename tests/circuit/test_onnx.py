"""ONNX models of circuits: exactly what is simulated, operation by operation, in another runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from graphs import (
    adder_chain,
    affine,
    codes_for,
    comparators,
    multiplication,
    network,
    oracle_codes,
    random_graph,
    trees,
)

from sklearn_htmc.circuit import Builder, Format, Graph, Op, simulate, verify
from sklearn_htmc.circuit._graph import needed
from sklearn_htmc.export import to_onnx

GRAPHS = [*(random_graph(seed) for seed in range(14)), adder_chain(0), affine(1), comparators(2, 9), multiplication(3)]
GRAPHS += [network(4), trees(5, 4, 3)]


def computed(graph, X, dtype="float64"):
    model = to_onnx(graph, dtype=dtype)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"X": np.asarray(X, dtype=dtype)})[0]


def decoded(codes, formats):
    """Return the values of integers at ports as the columns of a table."""
    return np.column_stack([form.decode(code) for code, form in zip(codes, formats, strict=True)])


def test_the_graphs_have_all_operations():
    assert {node.op for graph in GRAPHS for _, node in needed(graph)} == set(Op)


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_integers_are_those_of_the_oracle(graph, rng):
    codes = [np.clip(c, f.low, f.high) for c, f in zip(codes_for(graph, rng, 300), graph.input_formats, strict=True)]
    expected = decoded(oracle_codes(graph, codes), graph.output_formats)
    assert np.array_equal(computed(graph, decoded(codes, graph.input_formats)), expected)


def wide():
    """Return a graph with words of 62 bits, the longest shifts and sums, and ports beyond the digits of doubles."""
    word = 1 << 31
    build = Builder([Format(-word, word - 1, 0), Format(0, word - 1, 0), Format(-(1 << 60), 1 << 60, -3)])
    x, z, long = (build.input(port) for port in range(3))
    total = build.add(build.subtract(x, z, 28, 1), build.constant(-(1 << 58)))
    nodes = [total, build.floor(total, 45), build.floor(x, 62), build.relu(total), build.clamp(total, -(1 << 50), 7)]
    nodes += [build.at_most(total, -(1 << 40)), build.constant(-(1 << 61)), build.subtract(x, z), build.floor(z, 3)]
    nodes += [build.bit(total, place) for place in (0, 1, 45, 60, 61, 62)]
    nodes += [build.floor(total, 61), build.floor(long, 60), build.bit(long, 59), build.saturated_input(2)]
    nodes += [build.sum([(x, 1 << 20), (z, -2), (x, -1)], 1 << 59), build.at_most(long, (1 << 60) - 1)]
    return build.graph(nodes, [0] * len(nodes))


def test_the_widest_words_are_exact(rng):
    graph = wide()
    X = decoded(codes_for(graph, rng), graph.input_formats)
    assert np.array_equal(computed(graph, X), simulate(graph, X))


@pytest.mark.parametrize("exponent", [-1070, -1022, -1001, -1000, -3, 0, 4, 999, 1001, 1014])
def test_features_are_rounded_and_saturated_as_in_the_simulation(exponent, rng):
    build = Builder([Format(-100, 37, exponent), Format(0, 200, -exponent if exponent >= 0 else min(-exponent, 1016))])
    nodes = [build.input(0), build.saturated_input(1), build.add(build.input(0), build.input(1), 1, 0)]
    graph = build.graph(nodes, [exponent, -exponent // 2, 0])
    halves = np.arange(-250, 250) / 2.0
    near = np.concatenate([halves, np.nextafter(halves, np.inf), np.nextafter(halves, -np.inf), rng.normal(size=300)])
    with np.errstate(over="ignore"):
        columns = [np.ldexp(near, form.exponent) for form in graph.input_formats]
    ends = np.array([np.inf, -np.inf, 1.7e308, -1.7e308, 5e-324, -5e-324, 0.0, -0.0])
    X = np.column_stack([np.concatenate([column, ends]) for column in columns])
    assert np.array_equal(computed(graph, X), simulate(graph, X))


def test_ports_with_units_convert_as_the_simulation_does(rng):
    """Scales that are no powers of two, offsets, extreme steps, plain ports between them; outputs wider than nodes."""
    forms = [
        Format(0, 1023, 0, scale=0.0048, offset=-1.5),
        Format(-100, 100, -3),
        Format(-2048, 2047, -4, scale=1 / 3, offset=1e3),
        Format(0, 255, -900, scale=7.1e250),
        Format(0, 255, 0, offset=20.0),
    ]
    build = Builder(forms)
    words = [build.saturated_input(port) for port in range(len(forms))]
    nodes = [*words, build.sum([(words[0], 1), (words[2], -4)], 7)]
    outputs = [
        Format(-(1 << 20), 1 << 20, -e, scale=s, offset=o)
        for e, s, o in [(0, 1, 0), (1, 0.1, 5), (2, 3, -0.1), (3, 1, 2), (4, 0.7, 0), (5, 1e-9, 1e5)]
    ]
    graph = build.graph(nodes, [0] * len(nodes))
    graph = Graph(graph.nodes, graph.outputs, graph.input_formats, tuple(outputs))
    verify(graph)
    halves = np.arange(-40, 1100) / 2.0
    columns = [form.offset + form.scale * np.ldexp(halves, form.exponent) for form in forms]
    X = np.column_stack(columns)
    X = np.vstack([X, np.nextafter(X, np.inf), np.nextafter(X, -np.inf), rng.permuted(X, axis=0)])
    assert np.array_equal(computed(graph, X), simulate(graph, X))


def test_constants_read_no_port_and_count_the_rows():
    build = Builder([Format(-3, 100, 0)])
    graph = build.graph([build.constant(-7), build.constant(5)], [0, -1])
    assert computed(graph, np.ones((3, 1))).tolist() == [[-7.0, 2.5]] * 3
    assert computed(graph, np.ones((0, 1))).shape == (0, 2)


@pytest.mark.parametrize("n_rows", [0, 1])
def test_one_row_and_no_row(n_rows):
    X = np.zeros((n_rows, 4))
    for graph in GRAPHS[:4]:
        assert np.array_equal(computed(graph, X), simulate(graph, X))


def test_rows_with_nan_give_nan():
    X = np.array([[1.0, 2.0, np.nan, 0.0], [1.0, 2.0, 3.0, 0.0]])
    found = computed(GRAPHS[0], X)
    assert np.isnan(found[0]).all()
    assert np.array_equal(found[1:], simulate(GRAPHS[0], X[1:]))


def test_single_precision_rounds_targets_and_nothing_else(rng):
    for graph in (*GRAPHS[:4], wide()):
        X = rng.normal(size=(200, len(graph.input_formats)), scale=60.0).astype(np.float32)
        found = computed(graph, X, "float32")
        assert found.dtype == np.float32
        assert np.array_equal(found, simulate(graph, X).astype(np.float32))


def test_the_number_of_operators_follows_the_depth_not_the_nodes():
    small, large = trees(1, 4, 4), trees(1, 60, 4)
    assert len(large.nodes) > 8 * len(small.nodes) > 1000
    sizes = [len(to_onnx(graph).graph.node) for graph in (small, large)]
    assert sizes[1] < len(large.nodes) / 4
