"""The representation: ports and their integers, bounds, what `verify` refuses, text, files."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from graphs import MEANINGS, random_graph

from sklearn_htmc.circuit import Builder, Circuit, Format, Graph, Node, Op, simulate, to_verilog, verify
from sklearn_htmc.circuit import _gates as in_gates
from sklearn_htmc.circuit import _graph as in_graph
from sklearn_htmc.circuit import _simulate as in_numpy
from sklearn_htmc.circuit._fixed_point import width
from sklearn_htmc.circuit._simulate import words_at_outputs
from sklearn_htmc.circuit._verilog import structure as in_verilog

# --- tables keyed by operation --------------------------------------------------------------------

TABLES = {
    "bounds": in_graph.BOUNDS,
    "shapes": in_graph._SHAPES,
    "meanings": in_numpy.MEANINGS,
    "meanings for the tests": MEANINGS,
    # Ports are wired, and comparisons are made for all constants of a word together.
    "gates": in_gates._WRITE | dict.fromkeys([Op.INPUT, Op.AT_MOST]),
    "Verilog": in_verilog._WRITE | dict.fromkeys([Op.INPUT, Op.AT_MOST]),
}


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_every_operation(table):
    assert set(TABLES[table]) == set(Op)


def test_the_specification_names_every_operation():
    for op in Op:
        assert re.search(rf"^    {op.name} ", in_graph.__doc__, flags=re.MULTILINE), op


def test_random_graphs_have_every_operation():
    assert {node.op for seed in range(3) for node in random_graph(seed).nodes} == set(Op)


# --- formats --------------------------------------------------------------------------------------

FORMATS = [
    Format(-80, 200, -2),
    Format(0, 7, 3),
    Format(-8, -3, 0),
    Format(5, 5, 1),
    Format(0, 0, 0),
    Format(-1, 0, -9),
]


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_codes_survive_decoding_and_encoding(form):
    codes = np.arange(form.low, form.high + 1)
    assert np.array_equal(form.encode(form.decode(codes)), codes)


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_encoding_takes_the_nearest_code(form, rng):
    values = rng.uniform(form.low - 3, form.high + 3, 500) * form.step
    codes = np.arange(form.low, form.high + 1)
    nearest = np.abs(values[:, None] - form.decode(codes)).min(axis=1)
    assert np.array_equal(np.abs(values - form.decode(form.encode(values))), nearest)


def test_encoding_saturates_even_at_infinity():
    form = Format(-80, 200, -2)
    values = [-np.inf, -1e300, -20.2, 50.1, 1e300, np.inf]
    assert form.encode(values).tolist() == [-80, -80, -80, 200, 200, 200]


def test_ties_go_to_the_even_code():
    assert Format(-9, 9, -1).encode([0.25, 0.75, 1.25, -0.25, -0.75]).tolist() == [0, 2, 2, 0, -2]


def test_nan_has_no_code():
    with pytest.raises(ValueError, match=r"^a circuit has no code for NaN; impute missing values first\.$"):
        Format(0, 3, 0).encode([1.0, np.nan])


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match=r"^low must not exceed high, got 3 and 2\.$"):
        Format(3, 2, 0)


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_a_word_is_the_shortest_that_holds_the_range(form):
    def fits(n_bits):
        low = -(1 << n_bits >> 1) if form.low < 0 else 0
        return low <= form.low and form.high < low + (1 << n_bits)

    assert fits(form.width)
    assert form.width == 0 or not fits(form.width - 1)
    low, high = form.word
    assert (low, high - low + 1) == (-(1 << form.width >> 1) if form.signed else 0, 1 << form.width)


def test_a_format_covers_the_codes_that_values_are_rounded_to():
    assert Format.covering(-1.3, 2.7, -1) == Format(-3, 5, -1)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1e6), (-1e6, 3.0), (1e300, 1e300), (-(2.0**31), 0.0), (2.0**31 - 0.1, 2.0**31 - 0.1)]
)
def test_a_format_is_as_fine_as_31_bits_allow(low, high):
    form = Format.covering(low, high, -1060)
    assert form.width == 31
    finer = [round(value / 2.0 ** (form.exponent - 1)) for value in (low, high)]
    assert width(*finer) == 32


def test_a_sum_puts_equal_terms_together_and_folds_what_is_known(build):
    x, bits = build.input(1), [build.at_most(build.input(1), c) for c in (2, 4)]
    word = build.join([bits[0], build.negation(bits[1])])
    # x + 2 x + 4 (a + 2 (1 - b)) - 8 + 7 - x, as 2 x + 4 a - 8 b + 7
    total = build.sum([(x, 1), (x, 2), (word, 4), (build.constant(-4), 2), (x, -1)], 7)
    node = build.nodes[total]
    assert node.op is Op.SUM
    assert sorted(zip(node.args, node.data[1:], strict=True)) == sorted([(x, 2), (bits[0], 4), (bits[1], -8)])
    assert node.data[0] == 7
    assert build.sum([(x, 4), (x, -3)]) == x
    assert build.value(build.sum([(x, 1), (x, -1)], 5)) == 5


@pytest.mark.parametrize("number", [*range(-40, 41), 12345, -(1 << 40) + 7])
def test_signed_powers_are_few(number):
    powers = in_graph.signed_powers(number)
    assert sum(powers) == number
    assert all(abs(power).bit_count() == 1 for power in powers)
    assert len(powers) == f"{3 * abs(number) ^ abs(number):b}".count("1")  # digits of the non-adjacent form


# --- building -------------------------------------------------------------------------------------


@pytest.fixture
def build():
    return Builder([Format(-80, 100, -2), Format(0, 7, 0)])


def test_bounds_are_reached(build):
    x, z = build.saturated_input(0), build.input(1)
    nodes = [
        build.add(x, z, 1, 3),
        build.subtract(x, z, 0, 1),
        build.floor(x, 3),
        build.relu(x),
        build.clamp(x, -5, 9),
        build.at_most(x, 99),
        build.join([build.at_most(x, 3), build.at_most(z, 3)]),
    ]
    grid = np.meshgrid(np.arange(-80, 101), np.arange(8))
    out = words_at_outputs(build.graph(nodes, [0] * 7), [codes.ravel() for codes in grid])
    assert [(word.min(), word.max()) for word in out] == [build.nodes[number][-2:] for number in nodes]


def test_equal_nodes_are_made_once(build):
    x, z = build.input(0), build.input(1)
    assert build.add(x, z, 1, 0) == build.add(z, x, 0, 1)
    assert build.conjunction(build.at_most(x, 3), build.at_most(z, 3)) == build.conjunction(
        build.at_most(z, 3), build.at_most(x, 3)
    )
    assert build.floor(build.floor(x, 2), 3) == build.floor(x, 5)


def test_what_does_nothing_makes_no_node(build):
    x, zero = build.input(0), build.constant(0)
    bit = build.at_most(x, 3)
    assert x == build.add(x, zero) == build.subtract(x, zero) == build.floor(x, 0) == build.clamp(x, -128, 127)
    assert bit == build.negation(build.negation(bit)) == build.conjunction(bit, bit) == build.disjunction(bit, bit)
    assert build.relu(build.input(1)) == build.input(1)


def test_constants_are_folded(build):
    x = build.input(0)
    assert build.value(build.subtract(x, x, 2, 2)) == 0
    assert build.value(build.at_most(x, 127)) == 1
    assert build.value(build.clamp(x, 200, 300)) == 200
    assert build.value(build.add(build.constant(3), build.constant(-5), 1, 0)) == 1


def test_graphs_hold_only_what_the_outputs_need(build):
    build.relu(build.input(0))
    graph = build.graph([build.floor(build.input(1), 1)], [1])
    assert [node.op for node in graph.nodes] == [Op.INPUT, Op.FLOOR]
    assert len(graph.input_formats) == 2


# --- verification ---------------------------------------------------------------------------------

X = Node(Op.INPUT, (), (0,), -128, 127)
BIT = Node(Op.AT_MOST, (0,), (3,), 0, 1)
WIDE = Node(Op.CONSTANT, (), (1 << 60,), 1 << 60, 1 << 60)

MALFORMED = {
    "later": ([X, Node(Op.RELU, (1,), (), 0, 127)], r"n1 = relu uses a node that does not come before it\."),
    "negative": ([X, Node(Op.RELU, (-1,), (), 0, 127)], r"n1 = relu uses a node that does not come before it\."),
    "arguments": ([X, Node(Op.RELU, (0, 0), (), 0, 127)], r"n1 = relu has 2 arguments and 0 constants\."),
    "constants": ([X, Node(Op.ADD, (0, 0), (1,), 0, 127)], r"n1 = add has 2 arguments and 1 constants\."),
    "short join": ([X, BIT, Node(Op.JOIN, (1,), (), 0, 1)], r"n2 = join has 1 arguments and 0 constants\."),
    "words for bits": ([X, BIT, Node(Op.AND, (0, 1), (), 0, 1)], r"n2 = and needs bits\."),
    "negative shift": ([X, Node(Op.FLOOR, (0,), (-1,), -256, 254)], r"n1 = floor has shifts outside 0 \.\. 62\."),
    "long shift": ([X, Node(Op.ADD, (0, 0), (0, 63), 0, 0)], r"n1 = add has shifts outside 0 \.\. 62\."),
    "shifted out": ([X, Node(Op.ADD, (0, 0), (0, 55), 0, 0)], r"n1 = add shifts an argument to 63 bits, and words"),
    "limits": ([X, Node(Op.CLAMP, (0,), (5, 4), 4, 4)], r"n1 = clamp has limits in the wrong order\."),
    "limit": ([X, Node(Op.CLAMP, (0,), (0, 1 << 62), 0, 127)], r"n1 = clamp has constants of more than 62 bits\."),
    "threshold": ([X, Node(Op.AT_MOST, (0,), (1 << 62,), 1, 1)], r"n1 = at_most has constants of more than 62 bits\."),
    "weight": ([X, Node(Op.SUM, (0,), (0, 3), -384, 381)], r"n1 = sum has weights that are not powers of two\."),
    "no weight": ([X, Node(Op.SUM, (0,), (0, 0), 0, 0)], r"n1 = sum has weights that are not powers of two\."),
    "no terms": ([X, Node(Op.SUM, (), (0,), 0, 0)], r"n1 = sum has 0 arguments and 1 constants\."),
    "missing weight": ([X, Node(Op.SUM, (0, 0), (0, 1), 0, 0)], r"n1 = sum has 2 arguments and 2 constants\."),
    "parts": (
        [X, Node(Op.SUM, (0, 0), (0, 1 << 54, -(1 << 54)), 0, 0)],
        r"n1 = sum has parts of more than 62 bits\.",
    ),
    "place": ([X, Node(Op.BIT, (0,), (-1,), 0, 1)], r"n1 = bit has shifts outside 0 \.\. 62\."),
    "port": ([Node(Op.INPUT, (), (1,), 0, 1)], r"n0 = input reads port 1, which does not exist\."),
    "bounds": (
        [X, Node(Op.RELU, (0,), (), 0, 126)],
        r"n1 = relu has bounds 0 \.\. 126, and 0 \.\. 127 follow from its",
    ),
    "format is no bound": ([X._replace(low=-80, high=100)], r"n0 = input has bounds -80 \.\. 100, and -128 \.\. 127"),
    "long sum": (
        [WIDE, Node(Op.ADD, (0, 0), (1, 1), 1 << 62, 1 << 62)],
        r"n1 = add has 63 bits, and words have at most 62\.",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_nodes_are_refused(name):
    nodes, message = MALFORMED[name]
    last = nodes[-1]
    graph = Graph(tuple(nodes), (len(nodes) - 1,), (Format(-80, 100, 0),), (Format(last.low, last.high, 0),))
    with pytest.raises(ValueError, match=f"^{message}"):
        verify(graph)


@pytest.mark.parametrize(
    ("outputs", "formats", "message"),
    [
        ((1,), (Format(-128, 127, 0),), r"y0 is driven by n1, which does not exist\."),
        ((0,), (Format(-80, 100, 0),), r"the format of y0 does not hold the bounds of n0\."),
        ((0, 0), (Format(-128, 127, 0),), r"2 outputs have 1 formats\."),
    ],
)
def test_malformed_outputs_are_refused(outputs, formats, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        verify(Graph((X,), outputs, (Format(-80, 100, 0),), formats))


@pytest.mark.parametrize("seed", range(3))
def test_random_graphs_are_well_formed_and_any_wrong_bound_is_seen(seed, rng):
    graph = random_graph(seed)
    verify(graph)
    number = int(rng.integers(len(graph.nodes)))
    nodes = list(graph.nodes)
    nodes[number] = nodes[number]._replace(high=nodes[number].high + 1)
    with pytest.raises(ValueError, match=rf"^n{number} = {nodes[number].op.value} has bounds"):
        verify(Graph(tuple(nodes), graph.outputs, graph.input_formats, graph.output_formats))


# --- text and files -------------------------------------------------------------------------------


def small():
    build = Builder([Format(-80, 100, -2), Format(0, 7, 0)])
    x, z = build.saturated_input(0), build.input(1)
    total = build.add(x, build.relu(build.subtract(z, x, 1, 0)), 0, 1)
    bits = [build.at_most(total, 9), build.negation(build.at_most(z, 2))]
    return build.graph([build.floor(total, 2), build.join([*bits, build.conjunction(*bits)])], [0, 0])


def test_text_says_every_port_and_node():
    assert small().text() == (
        """\
x0: -80 .. 100 times 2^-2
x1: 0 .. 7 times 2^0
n0 = input 0  # -128 .. 127
n1 = clamp n0 -80 100  # -80 .. 100
n2 = input 1  # 0 .. 7
n3 = subtract n2 n1 1 0  # -100 .. 94
n4 = relu n3  # 0 .. 94
n5 = add n1 n4 0 1  # -80 .. 288
n6 = at_most n5 9  # 0 .. 1
n7 = at_most n2 2  # 0 .. 1
n8 = not n7  # 0 .. 1
n9 = floor n5 2  # -20 .. 72
n10 = and n6 n8  # 0 .. 1
n11 = join n6 n8 n10  # 0 .. 7
y0: n9, -20 .. 72 times 2^0
y1: n11, 0 .. 7 times 2^0"""
    )


def circuit_of(graph):
    return Circuit.of(graph, epsilon=0.1, error=0.0625, error_elsewhere=0.125)


@pytest.mark.parametrize("seed", range(3))
def test_files_and_pickles_keep_everything(seed, tmp_path):
    circuit = circuit_of(random_graph(seed))
    assert circuit.n_gates > 0  # cached values stay out of the pickle
    circuit.save(tmp_path / "circuit.json")
    for copy in (Circuit.load(tmp_path / "circuit.json"), pickle.loads(pickle.dumps(circuit))):
        assert copy.text() == circuit.text()
        assert (copy.n_gates, copy.depth, copy.epsilon, copy.error) == (circuit.n_gates, circuit.depth, 0.1, 0.0625)
        assert copy.error_elsewhere == 0.125
        assert (copy.input_formats, copy.output_formats) == (circuit.input_formats, circuit.output_formats)


NEW_KEYS = ("objective", "prediction_ndim", "package")


@pytest.mark.parametrize(
    ("version", "missing"), [(1, ("error_elsewhere", "feature_names")), (2, ("feature_names",)), (3, ())]
)
def test_files_of_old_versions_are_read(version, missing, content, tmp_path):
    content.update(version=version)
    for key in (*missing, *NEW_KEYS):
        del content[key]
    content["inputs"] = [entry[:3] for entry in content["inputs"]]
    content["outputs"] = [{key: entry[key] for key in ("node", "exponent")} for entry in content["outputs"]]
    (tmp_path / "old.json").write_text(json.dumps(content))
    old = Circuit.load(tmp_path / "old.json")
    assert old.text() == small().text()
    assert (old.objective, old.prediction_ndim) == ("gates", 2)
    assert np.isnan(old.error_elsewhere) == (version == 1)
    old = replace(old, error_elsewhere=np.nan)
    old.save(tmp_path / "new.json")  # NaN is no JSON
    assert json.loads((tmp_path / "new.json").read_text(), parse_constant=pytest.fail)["error_elsewhere"] is None


def test_the_repr_says_the_sizes():
    circuit = circuit_of(small())
    assert repr(circuit) == (
        f"Circuit(n_inputs=2, n_outputs=2, n_nodes=12, n_gates={circuit.n_gates}, depth={circuit.depth}, "
        "error=0.0625, error_elsewhere=0.125, epsilon=0.1)"
    )


@pytest.fixture
def content(tmp_path):
    circuit_of(small()).save(tmp_path / "circuit.json")
    return json.loads((tmp_path / "circuit.json").read_text())


CORRUPTIONS = {
    "version": (lambda content: content.update(version=5), "version 5 is not known, only versions 1, 2, 3, 4 are"),
    "missing": (lambda content: content.pop("nodes"), "'nodes' is missing"),
    "operation": (
        lambda content: content["nodes"][4].__setitem__(0, "sqrt"),
        "nodes[4][0] must be an operation, got 'sqrt'",
    ),
    "argument": (lambda content: content["nodes"][4].__setitem__(1, [9]), "n4 = relu uses a node that does not come"),
    "bound": (lambda content: content["nodes"][4].__setitem__(4, 93), "n4 = relu has bounds 0 .. 93"),
    "fraction": (
        lambda content: content["nodes"][1].__setitem__(2, [-80.5, 100]),
        "nodes[1][2][0] must be an integer, got -80.5",
    ),
    "text": (lambda content: content["inputs"][0].__setitem__(0, "-80"), "inputs[0][0] must be an integer, got '-80'"),
    "output": (lambda content: content["outputs"][0].update(node=12), "y0 is driven by n12, which does not exist"),
    "from the end": (lambda content: content["outputs"][0].update(node=-1), "y0 is driven by n-1, which does not"),
    "error": (lambda content: content.update(error=None), "error must be a finite number of at least 0, got None"),
    "negative": (lambda content: content.update(epsilon=-0.1), "epsilon must be a finite number of at least 0"),
    "NaN": (lambda content: content.update(epsilon=float("nan")), "NaN is no JSON number"),
    "infinity": (lambda content: content.update(error_elsewhere=float("inf")), "Infinity is no JSON number"),
    "above": (lambda content: content.update(error=0.2), "error is 0.2, and epsilon allows 0.1"),
    "truth": (lambda content: content["nodes"][0].__setitem__(2, [False]), "nodes[0][2][0] must be an integer, got F"),
    "true version": (lambda content: content.update(version=True), "version must be an integer, got True"),
    "unknown": (lambda content: content.update(colour=1), "'colour' is not a known key of the file"),
    "unknown below": (lambda content: content["outputs"][1].update(bits=0), "'bits' is not a known key of outputs[1]"),
    "exponent": (lambda content: content["inputs"][1].__setitem__(2, 10**30), "x1 has the exponent 1000000000"),
    "tiny step": (lambda content: content["outputs"][1].update(exponent=-1075), "y1 has the exponent -1075"),
    "wide port": (
        lambda content: content["inputs"].append([0, 1 << 63, 0, 1.0, 0.0]),
        "x2 has 64 bits, and words have at",
    ),
    "no outputs": (lambda content: content.update(outputs=[]), "the graph has no outputs"),
    "huge": (lambda content: content.update(epsilon=10**400), "the integer 10000000... has 401 digits"),
    "long join": (lambda content: content["nodes"][11].__setitem__(1, [6] * 1_000_000), "n11 = join has 1000000 arg"),
    "short node": (lambda content: content["nodes"][2].pop(), "nodes[2] must have 5 entries, got 4"),
    "short format": (lambda content: content["inputs"][1].pop(), "inputs[1] must have 5 entries, got 4"),
    "scale": (lambda content: content["inputs"][1].__setitem__(3, 0), "scale must be positive and finite, got 0.0"),
    "offset": (lambda content: content["inputs"][1].__setitem__(4, "1"), "inputs[1][4] must be a finite number, got"),
    "narrow": (lambda content: content["outputs"][1].update(high=6), "the format of y1 does not hold the bounds of"),
    "objective": (lambda content: content.update(objective="area"), "objective must be one of gates, depth, got"),
    "flat": (lambda content: content.update(prediction_ndim=1), "prediction_ndim must be one of 2, got 1"),
    "no list": (lambda content: content.update(nodes={}), "nodes must be a list, got {}"),
    "range": (
        lambda content: content["inputs"].__setitem__(0, [1, 0, 0, 1, 0]),
        "low must not exceed high, got 1 and 0.",
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_files_are_refused(name, content, tmp_path):
    corrupt, reason = CORRUPTIONS[name]
    corrupt(content)
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"bad\.json does not hold a circuit: {re.escape(reason)}"):
        Circuit.load(tmp_path / "bad.json")


@pytest.mark.parametrize("text", ["", "[1, 2]", "null", '{"version": 1', "\x00", "[" * 100_000])
def test_files_of_something_else_are_refused(text, tmp_path):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json does not hold a circuit: "):
        Circuit.load(tmp_path / "bad.json")


def test_keys_that_appear_twice_are_refused(content, tmp_path):
    (tmp_path / "bad.json").write_text(json.dumps(content)[:-1] + ', "error": 0.0}')
    with pytest.raises(ValueError, match=r"the key 'error' appears twice\.$"):
        Circuit.load(tmp_path / "bad.json")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "bad.json").write_bytes(b'{"version": \xff}')
    with pytest.raises(ValueError, match=r"bad\.json does not hold a circuit: 'utf-8' codec can't decode byte 0xff"):
        Circuit.load(tmp_path / "bad.json")


STRANGE = [None, True, -1, 0, 1, 63, 1.0, 10**30, -(10**400), 1e308, float("nan"), "1", "\ud800", [], {}, [[0]], "sum"]


def mutate(value, rng):
    """Change one random place of a JSON value, the outer ones seldom."""
    if not isinstance(value, (list, dict)) or not value or rng.random() < 0.02:
        return STRANGE[rng.integers(len(STRANGE))] if rng.random() < 0.6 else int(rng.integers(-99, 99))
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = keys[int(rng.integers(len(keys)))]
    what = rng.random()
    if what < 0.05:
        del value[key]
    elif what < 0.1 and isinstance(value, list):
        value.append(value[key])
    else:
        value[key] = mutate(value[key], rng)
    return value


@pytest.mark.filterwarnings("error")
def test_a_changed_file_is_refused_or_holds_a_circuit(content, rng, tmp_path):
    text, path = json.dumps(content), tmp_path / "changed.json"
    for _ in range(1000):
        changed = json.dumps(mutate(json.loads(text), rng))
        path.write_text(changed[: int(rng.integers(len(changed)))] if rng.random() < 0.1 else changed)
        try:
            circuit = Circuit.load(path)
        except ValueError:
            continue
        X = rng.normal(0.0, 50.0, (3, len(circuit.input_formats)))
        assert np.isfinite(simulate(circuit, X)).all()
        assert to_verilog(circuit).endswith("endmodule\n")
        assert circuit.n_gates >= 0


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Circuit.load(tmp_path / "none.json")
