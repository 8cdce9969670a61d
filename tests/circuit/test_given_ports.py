"""Ports that are given: their codes are the interface, their rounding is in the error, their gates are counted."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from graphs import codes_for, oracle_codes, random_graph
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, CircuitSizeScorer
from sklearn_htmc.circuit import (
    Builder,
    Circuit,
    Format,
    compile_circuit,
    count_gates,
    decode,
    encode,
    simulate,
    simulate_codes,
    verify,
)
from sklearn_htmc.circuit._ends import Ends, with_inputs
from sklearn_htmc.circuit._given import dropped
from sklearn_htmc.circuit._simulate import words_at_outputs

NAMES = ["age", "ash", "slag"]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    X = rng.uniform([0.0, -3.0, 40.0], [5.0, 3.0, 90.0], size=(300, 3))
    y = 2.0 * X[:, 0] + X[:, 1] ** 2 - 0.1 * np.maximum(X[:, 2] - 60.0, 0.0)
    return X, y, pd.DataFrame(X, columns=NAMES)


# A converter of twelve bits, a signed word with a plain step, and one with a step that is no power of two.
CONVERTERS = {
    "age": Format.spanning(12, -0.5, 5.5),
    "ash": Format.of_bits(12, -9, signed=True),
    "slag": Format.of_bits(13, scale=0.0123, offset=-7.0),
}
PORTS = {
    "inputs": {"input_formats": CONVERTERS},
    "one input": {"input_formats": {1: CONVERTERS["ash"]}},
    "output": {"output_format": Format.of_bits(12, scale=0.01, offset=-10.0)},
    "all": {"input_formats": CONVERTERS, "output_format": Format.of_bits(9, -4, signed=True)},
    "unsaturated": {"input_formats": CONVERTERS, "saturate_inputs": False},
}
MODELS = {
    "line": LinearRegression(),
    "pipeline": make_pipeline(StandardScaler(), Ridge()),
    "tree": DecisionTreeRegressor(max_leaf_nodes=6, random_state=0),
    "boosting": GradientBoostingRegressor(n_estimators=6, max_depth=2, random_state=0),
}


def codes_by_hand(X, formats):
    """Round to the nearest code with numpy's own rounding; saturate."""
    columns = [
        np.minimum(np.maximum(np.rint((x - form.offset) / form.scale / 2.0**form.exponent), form.low), form.high)
        for x, form in zip(X.T, formats, strict=True)
    ]
    return [column.astype(np.int64) for column in columns]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ports", PORTS)
def test_the_error_is_measured_through_the_ports(name, ports, rows):
    _, y, frame = rows
    model = clone(MODELS[name]).fit(frame, y)
    circuit = compile_circuit(model, frame, epsilon=0.1, y=y, effort=0, **PORTS[ports])
    verify(circuit)
    codes = codes_by_hand(frame.to_numpy(), circuit.input_formats)
    (out,) = oracle_codes(circuit, codes)
    (form,) = circuit.output_formats
    values = out * form.scale * 2.0**form.exponent + form.offset
    error = np.sqrt(np.mean((values - model.predict(frame)) ** 2)) / np.std(y)
    assert circuit.error == pytest.approx(error, rel=1e-9)
    assert error <= 0.1
    assert_array_equal(np.stack(codes, axis=1), encode(circuit, frame))
    assert_array_equal(simulate(circuit, frame), decode(circuit, out[:, None])[:, 0])
    wanted = {
        NAMES[key] if isinstance(key, int) else key: f for key, f in PORTS[ports].get("input_formats", {}).items()
    }
    assert wanted.items() <= dict(zip(NAMES, circuit.input_formats, strict=True)).items()
    assert circuit.output_formats[0] == PORTS[ports].get("output_format", circuit.output_formats[0])
    assert circuit.n_gates == count_gates(circuit) > 0


def test_resynthesis_and_growth_keep_the_ports(rows):
    _, y, frame = rows
    model = MODELS["pipeline"].fit(frame, y)
    rounded = compile_circuit(model, frame, epsilon=0.1, y=y, effort=0, **PORTS["all"])
    smaller = compile_circuit(model, frame, epsilon=0.1, y=y, effort=1, method="round", **PORTS["all"])
    grown = compile_circuit(model, frame, epsilon=0.4, y=y, effort=1, method="grow", **PORTS["all"])
    assert smaller.n_gates < rounded.n_gates
    for circuit in (smaller, grown):
        assert circuit.input_formats == tuple(CONVERTERS.values())
        assert circuit.output_formats == (PORTS["all"]["output_format"],)
        error = np.sqrt(np.mean((simulate(circuit, frame) - model.predict(frame)) ** 2)) / np.std(y)
        assert circuit.error == pytest.approx(error, rel=1e-9)
        assert error <= circuit.epsilon


def test_files_keep_units(rows, tmp_path):
    _, y, frame = rows
    circuit = compile_circuit(MODELS["line"].fit(frame, y), frame, epsilon=0.1, effort=0, **PORTS["all"])
    circuit.save(tmp_path / "circuit.json")
    copy = Circuit.load(tmp_path / "circuit.json")
    assert (copy.input_formats, copy.output_formats) == (circuit.input_formats, circuit.output_formats)
    assert_array_equal(simulate(copy, frame), simulate(circuit, frame))


# --- laws of the parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Format(0, 1000, 0), Format(-37, 90, 0), Format(3, 5, 0)])
@pytest.mark.parametrize("places", [0, 1, 3, 6])
def test_a_word_without_low_bits_is_the_nearest_middle(form, places):
    low, high = form.word
    codes = np.arange(low, high + 1)
    coarse = dropped(form, places)
    assert_array_equal(coarse.encode(codes), codes >> places)
    for code in np.unique(codes >> places):
        assert coarse.decode(code) == np.mean(np.arange(code << places, (code + 1) << places))


@pytest.mark.parametrize("seed", range(4))
def test_circuits_on_given_words_compute_what_those_on_shorter_ones_do(seed, rng):
    graph = random_graph(seed)
    given, short = {}, list(graph.input_formats)
    for port, places in ((0, 0), (1, 3), (3, 1)):
        low, high = short[port].word
        given[port] = Format(low << places, (high + 1 << places) - 1, 0)
        short[port] = dropped(given[port], places)
    virtual = type(graph)(graph.nodes, graph.outputs, tuple(short), graph.output_formats)
    real = with_inputs(virtual, given)
    verify(real)
    assert [real.input_formats[port] for port in given] == list(given.values())
    codes = codes_for(real, rng, 300)
    coarse = [code >> (short[port].exponent if port in given else 0) for port, code in enumerate(codes)]
    for word, exact in zip(oracle_codes(real, codes), oracle_codes(graph, coarse), strict=True):
        assert_array_equal(word, exact)
    assert count_gates(real) <= count_gates(graph)  # dropping bits is wiring


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("places", [-2, 0, 1, 5])
def test_outputs_are_rounded_and_saturated(seed, places, rng):
    graph = random_graph(seed)
    graph = type(graph)(
        graph.nodes,
        graph.outputs,
        graph.input_formats,
        tuple(Format(form.low, form.high, -places) for form in graph.output_formats),
    )
    form = Format(-20, 100, 7)
    whole = Ends({0: form}, [0] * len(graph.outputs)).behind(graph)
    verify(whole)
    codes = codes_for(graph, rng, 300)
    rounded, *others = oracle_codes(whole, codes)
    first, *expected = oracle_codes(graph, codes)
    exact = np.floor(first.astype(np.float64) / 2.0**places + 0.5)
    assert_array_equal(rounded, np.clip(exact, form.low, form.high))
    for word, same in zip(others, expected, strict=True):
        assert_array_equal(word, same)


def test_rounding_a_sum_costs_no_second_adder():
    build = Builder([Format(0, 255, 0)] * 3)
    total = build.sum([(build.input(0), 1), (build.input(1), 1), (build.input(2), 1)], 5)
    graph = build.graph([total], [-3])
    whole = Ends({0: Format(0, 127, 0)}, [0]).behind(graph)
    assert sum(node.op.value == "sum" for node in whole.nodes) == 1
    assert count_gates(whole) <= count_gates(graph) + 3  # the constant has one bit more; nothing saturates


# --- saturation -----------------------------------------------------------------------------------


def test_saturation_can_be_left_out(rows):
    X, y, frame = rows
    model = LinearRegression().fit(X, y)
    formats = {"age": Format.of_bits(10, -5), "ash": Format.of_bits(10, -6, signed=True), "slag": Format.of_bits(8)}
    far = np.array([[31.0, -8.0, 255.0], [31.0, 0.0, 60.0]])
    ends = np.clip(far, X.min(axis=0), X.max(axis=0))
    circuits = {
        key: compile_circuit(
            model, frame, epsilon=0.02, y=y, effort=0, input_formats=formats, saturate_inputs=saturated
        )
        for key, saturated in {"all": True, "none": False, "age": ["age"], "number": [0]}.items()
    }
    half = np.column_stack([ends[:, 0], far[:, 1:]])
    for key, seen in {"all": ends, "none": far, "age": half}.items():  # far away rounded weights count more
        assert_allclose(simulate(circuits[key], far), model.predict(seen), rtol=0.05, atol=0.2 * np.std(y))
    assert circuits["age"].text() == circuits["number"].text()
    assert {key: circuit.text().count("clamp") for key, circuit in circuits.items()} == {
        "all": 3,
        "none": 0,
        "age": 1,
        "number": 1,
    }


def test_chosen_formats_need_not_saturate_either(rows):
    _, y, frame = rows
    model = LinearRegression().fit(frame, y)
    circuit = compile_circuit(model, frame, epsilon=0.05, y=y, effort=0, saturate_inputs=False)
    assert "clamp" not in circuit.text()
    assert "clamp" in compile_circuit(model, frame, epsilon=0.05, y=y, effort=0).text()


# --- estimators -----------------------------------------------------------------------------------


def test_a_circuit_grows_on_given_words(rows):
    X, y, frame = rows
    model = CircuitRegressor(1e-3, augment=False, input_formats=CONVERTERS).fit(frame, y)
    circuit = model.circuit_
    assert circuit.input_formats == tuple(CONVERTERS.values())
    codes = codes_by_hand(X, circuit.input_formats)
    assert_array_equal(decode(circuit, np.stack(oracle_codes(circuit, codes), axis=1))[:, 0], model.predict(frame))
    # Thresholds are said in the unit of the feature.
    for rule in model.rules_:
        for low, name, high in re.findall(r"^(?:(\S+) < )?(\w+) <= (\S+)$", rule.condition):
            column = frame[name]
            holds = (column <= float(high)) & (column > float(low or -np.inf))
            assert holds.mean() == pytest.approx(rule.share, abs=0.02)
    same = compile_circuit(model, frame, epsilon=0.1, input_formats=CONVERTERS, effort=0)
    assert same.error == 0.0
    with pytest.raises(
        ValueError, match=r"^input_formats must be those that the circuit was grown with, and 'age' has"
    ):
        compile_circuit(model, frame, epsilon=0.1, input_formats={"age": Format.of_bits(11, -8)})
    with pytest.raises(ValueError, match=r"^output_format must have scale=1 and offset=0 for a circuit"):
        compile_circuit(model, frame, epsilon=0.1, output_format=Format.of_bits(11, -5, scale=1.1, offset=-9.0))
    rounded = compile_circuit(model, frame, epsilon=0.1, output_format=Format.of_bits(8, -2, signed=True), effort=0)
    assert_array_equal(simulate(rounded, frame), np.floor(4.0 * model.predict(frame) + 0.5) / 4.0)


def test_the_scorer_counts_ports(rows):
    _, y, frame = rows
    plain = CircuitSizeScorer(LinearRegression(), epsilon=0.05, target="prediction", effort=0)
    given = CircuitSizeScorer(LinearRegression(), epsilon=0.05, target="prediction", effort=0, **PORTS["all"])
    model = clone(given).fit(frame, y)
    assert model.circuit_.input_formats == tuple(CONVERTERS.values())
    assert model.circuit_.output_formats == (PORTS["all"]["output_format"],)
    assert given(model.estimator_, frame, y) == -model.circuit_.n_gates == model.score(frame, y)
    assert given(model.estimator_, frame, y) != plain(model.estimator_, frame, y)
    loose = clone(given).set_params(saturate_inputs=False).fit(frame, y)
    assert loose.circuit_.n_gates < model.circuit_.n_gates


# --- what is refused, and what is said ------------------------------------------------------------

WRONG = {
    "unknown": (
        {"input_formats": {"fly": Format(0, 1, 0)}},
        ValueError,
        "must name features, .* got 'fly'; names are 'a",
    ),
    "number": ({"input_formats": {3: Format(0, 1, 0)}}, ValueError, "by number below 3 or by name, got 3"),
    "truth": ({"input_formats": {True: Format(0, 1, 0)}}, ValueError, "by number below 3 or by name, got True"),
    "twice": (
        {"input_formats": {"ash": CONVERTERS["ash"], 1: CONVERTERS["ash"]}},
        ValueError,
        "once, and 1 is there tw",
    ),
    "no format": ({"input_formats": {"ash": 12}}, ValueError, "must hold Format objects, got 12 for 'ash'"),
    "no mapping": ({"input_formats": [CONVERTERS["ash"]]}, TypeError, "must be a mapping .* got a list"),
    "long": ({"input_formats": {"ash": Format.of_bits(32)}}, ValueError, "at most 31 bits, got 32 for 'ash'"),
    "exponent": (
        {"input_formats": {"ash": Format(-9, 9, 5000)}},
        ValueError,
        r"input_formats must have exponents in -1074 \.\. 1019, got 5000 for 'ash'",
    ),
    "output exponent": (
        {"output_format": Format(-9, 9, -5000, scale=2.0**900)},
        ValueError,
        r"output_format must have exponents in -1974 \.\. 119, got -5000\.",
    ),
    "range": (
        {"input_formats": {"age": Format.of_bits(2)}},
        ValueError,
        r"format of 'age' must hold its values, and it ends at 0 and 3: \d+ of 300 different rows, .* would satur",
    ),
    "coarse": (
        {"input_formats": {"slag": Format(0, 9, 5)}},
        ValueError,
        "on the codes of input_formats has an error of",
    ),
    "output range": ({"output_format": Format.of_bits(3)}, ValueError, "the format of output 0 must hold its values"),
    "output coarse": (
        {"output_format": Format(-9, 9, 2)},
        ValueError,
        "rounding to output_format alone leaves an error",
    ),
    "outputs": ({"output_format": [None, None]}, ValueError, "one entry per output, 1, got 2"),
    "output text": ({"output_format": "int8"}, TypeError, "must be a Format or a list of them, got 'int8'"),
    "output entry": ({"output_format": [8]}, ValueError, "must hold Format objects, got 8"),
    "saturated": ({"saturate_inputs": ["age", "fly"]}, ValueError, "saturate_inputs must name features, .* got 'fly'"),
    "saturated number": (
        {"saturate_inputs": np.array(1)},
        TypeError,
        r"must be True, False or a list of features, got a",
    ),
    "saturated text": ({"saturate_inputs": "age"}, TypeError, "must be True, False or a list of features, got 'age'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ports_are_refused(name, rows):
    _, y, frame = rows
    ports, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        compile_circuit(LinearRegression().fit(frame, y), frame, epsilon=0.02, y=y, effort=0, **ports)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Format(0, 1.5, 0), r"^high must be an integer, got 1\.5\.$"),
        (lambda: Format(0, True, 0), r"^high must be an integer, got True\.$"),
        (lambda: Format(2, 1, 0), r"^low must not exceed high, got 2 and 1\.$"),
        (lambda: Format(0, 1, 0, scale=-1.0), r"^scale must be positive and finite, got -1\.0; where a sensor falls"),
        (lambda: Format(0, 1, 0, offset=np.inf), r"^offset must be finite, got inf\.$"),
        (lambda: Format.of_bits(0), r"^bits must be a positive integer, got 0\.$"),
        (lambda: Format.spanning(8, 1.0, 1.0), r"^smallest must be less than largest, .* got 1\.0 and 1\.0\.$"),
        (
            lambda: Format.spanning(8, 0.0, np.inf),
            r"^smallest must be less than largest, both finite, got 0\.0 and inf",
        ),
        (lambda: Format.spanning(8, 0.0, "5 V"), r"^largest must be a real number, got '5 V'\.$"),
        (lambda: Format(0, 1, 0, scale=None), r"^scale must be a real number, got None\.$"),
        (lambda: Format(0, 1, 0, offset="x"), r"^offset must be a real number, got 'x'\.$"),
    ],
)
def test_what_is_no_format_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_long_words_and_outliers_are_warned_of(rows):
    X, y, _ = rows
    far, outlier = X.copy(), X.copy()
    far[:, 0] += 1e7
    outlier[7, 1] = 1e4
    weights = np.ones(len(y))
    weights[7] = 0.0
    for table, message in (
        (far, r"^words of 24 bits or more are needed for x0; centre"),
        (outlier, r"^a single value sets the range of x1"),
    ):
        model = LinearRegression().fit(table, y, weights)
        with pytest.warns(UserWarning, match=message):
            compile_circuit(model, table, epsilon=0.05, y=y, effort=0)
    with warnings.catch_warnings():  # given formats are meant
        warnings.simplefilter("error")
        compile_circuit(model, outlier, epsilon=0.05, y=y, effort=0, input_formats={1: Format(-9000, 11000, 0)})


# --- codes ----------------------------------------------------------------------------------------


def test_codes_in_and_out_are_checked():
    graph = random_graph(0)
    form = graph.input_formats[2]
    codes = np.tile([f.low for f in graph.input_formats], (3, 1))
    assert simulate_codes(graph, codes).shape == (3, len(graph.outputs))
    assert_array_equal(simulate_codes(graph, codes).T, words_at_outputs(graph, list(codes.T)))
    with pytest.raises(ValueError, match=r"^codes must be integers, got float64; encode\(circuit, X\)"):
        simulate_codes(graph, codes / 1.0)
    codes[1, 2] = form.word[1] + 1
    with pytest.raises(ValueError, match=rf"^codes of x2 must fit into its word, .*, got {form.word[1] + 1}\.$"):
        simulate_codes(graph, codes)
    with pytest.raises(ValueError, match=r"^codes must have shape \(n_samples, 4\), got \(3, 2\)"):
        simulate_codes(graph, codes[:, :2])
    with pytest.raises(ValueError, match=r"^codes must have shape \(n_samples, 10\), got \(3,\)"):
        decode(graph, codes[:, 0])
    with pytest.raises(ValueError, match=r"^codes must be integers, got float64; simulate_codes"):
        decode(graph, np.full((1, 10), 0.5))
    with pytest.raises(ValueError, match=r"^X must hold real numbers, got complex ones\.$"):
        encode(graph, codes * 1j)


def test_a_circuit_that_is_compiled_again_knows_its_columns_and_its_shape(rows):
    _, y, frame = rows
    circuit = compile_circuit(LinearRegression().fit(frame, y), frame, epsilon=0.05, y=y, effort=0)
    coarser = compile_circuit(circuit, frame, epsilon=0.2, y=y, effort=0)
    assert coarser.feature_names == circuit.feature_names == tuple(frame.columns)
    assert simulate(coarser, frame).ndim == 1
    with pytest.raises(ValueError, match=r"^X must have the columns .*, in the order of the fit"):
        compile_circuit(circuit, frame[frame.columns[::-1]], epsilon=0.2, y=y, effort=0)


def test_frames_of_codes_have_the_columns_of_the_fit(rows):
    _, y, frame = rows
    circuit = compile_circuit(LinearRegression().fit(frame, y), frame, epsilon=0.05, y=y, effort=0)
    codes = pd.DataFrame(encode(circuit, frame), columns=frame.columns)
    assert_array_equal(simulate_codes(circuit, codes), simulate_codes(circuit, codes.to_numpy()))
    with pytest.raises(ValueError, match=r"^codes must have the columns .*, in the order of the fit, got 's"):
        simulate_codes(circuit, codes[codes.columns[::-1]])


@pytest.mark.parametrize(("shape", "ndim"), [((-1,), 1), ((-1, 1), 2)])
def test_simulation_has_the_shape_of_predict(shape, ndim, rows):
    _, y, frame = rows
    model = LinearRegression().fit(frame, y.reshape(shape))
    circuit = compile_circuit(model, frame, epsilon=0.1, effort=0)
    assert simulate(circuit, frame).shape == model.predict(frame).shape
    assert circuit.prediction_ndim == ndim
