"""C: the text, what the standard makes of it, and what `gcc` and `g++` make of it, with every warning an error."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
from c_machine import Machine, Undefined
from graphs import affine, codes_for, comparators, network, random_graph, trees
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, __version__
from sklearn_htmc.circuit import (
    Builder,
    Circuit,
    Format,
    Graph,
    Op,
    compile_circuit,
    simulate,
    simulate_codes,
    to_c,
    verify,
)
from sklearn_htmc.circuit._c.branches import Paths, bounds_of, steps_of
from sklearn_htmc.circuit._graph import needed

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror", "-pedantic"]
COMPILERS = {"C": ["gcc", "-std=c99"], "C++": ["g++", "-x", "c++", "-std=c++11"]}
UNDEFINED = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
WORDS = ("least", "int32")
needs = {
    language: pytest.mark.skipif(shutil.which(command[0]) is None, reason=f"{command[0]} not found")
    for language, command in COMPILERS.items()
}


def wide():
    """Return a graph with words of 62 bits, ports as wide as they may be, and one without bits."""
    build = Builder([Format(-(1 << 31), (1 << 31) - 1, 0), Format(0, (1 << 31) - 1, 0), Format(0, 0, 0)])
    x, z = build.input(0), build.input(1)
    total = build.add(build.subtract(x, z, 28, 1), build.constant(-(1 << 58)))
    nodes = [total, build.floor(total, 45), build.floor(x, 62), build.relu(total), build.clamp(total, -(1 << 50), 7)]
    nodes += [build.at_most(total, -(1 << 40)), build.constant(-(1 << 61)), build.subtract(x, z), build.floor(z, 3)]
    nodes += [build.sum([(build.bit(total, place), 1 << place) for place in range(40, 50)], -(1 << 55))]
    return build.graph(nodes, [0] * len(nodes))


def edges():
    """Return a graph of words at the ends of 8, 16 and 32 bits, and of sums that pass them on the way."""
    build = Builder([Format(0, (1 << bits) - 1, 0) for bits in (8, 15, 16)] + [Format(-(1 << 15), (1 << 15) - 1, 0)])
    byte, short, full, signed = (build.input(port) for port in range(4))
    bits = [build.at_most(full, 40_000), build.at_most(signed, -(1 << 15)), build.bit(full, 15), build.bit(signed, 20)]
    nodes = [
        build.add(full, byte),
        build.subtract(byte, full),
        build.add(short, bits[0]),
        build.sum([(byte, 128), (short, 1)], -1),
        build.sum([(bits[0], 1 << 15), (bits[2], -(1 << 14)), (bits[1], 1)], 5),
        build.sum([(bit, 1 << 14) for bit in bits] + [(short, -1)]),
        build.sum([(build.bit(signed, place), -2 << place) for place in (3, 4, 7, 9)], 100),
        build.sum([(build.bit(signed, 15), -3 << 15), *((build.bit(signed, place), 3 << place) for place in (13, 14))]),
        build.sum([(build.bit(full, place), 1 << place - 5) for place in range(5, 16)], -32_768),
        build.join([build.bit(full, place) for place in range(16)]),
        build.subtract(build.constant(0), signed),
        build.floor(signed, 15),
        build.floor(build.add(full, full, 0, 15), 16),
        build.clamp(full, 32_768, 65_000),
        build.relu(build.constant(3)),
        *bits,
    ]
    return build.graph(nodes, [0] * len(nodes))


GRAPHS = [
    *(random_graph(seed) for seed in [*range(12), 108]),  # the last one compares a bit with itself
    network(4),
    trees(9, 4, 3),
    affine(1),
    comparators(2, 9),
    wide(),
    edges(),
]


def codes_of(graph, seed=0, n_rows=60):
    """Return codes for the input ports of shape (n_rows, n_inputs): ends of words and any others."""
    rng = np.random.default_rng(seed)
    columns = codes_for(graph, rng, 300)
    return np.column_stack(columns)[rng.permutation(len(columns[0]))[:n_rows]]


# --- the standard -----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("int_bits", [16, 32, 64])
def test_nothing_depends_on_the_width_of_int(word, int_bits):
    """A machine that refuses whatever the standard leaves open computes the integers of the simulation."""
    for graph in GRAPHS:
        machine, codes = Machine(to_c(graph, word=word), int_bits), codes_of(graph, n_rows=30)
        assert [machine.run(row) for row in codes] == simulate_codes(graph, codes).tolist()


@pytest.mark.parametrize(
    ("expression", "int_bits"),
    [
        ("x[0] * 200", 16),
        ("(uint16_t)x[0] - 256", 16),
        ("-x[0] >> 1", 32),
        ("x[0] << 16", 16),
        ("(int8_t)x[0]", 32),
        ("x[0] * 40000000", 32),
    ],
)
def test_the_machine_finds_what_is_undefined(expression, int_bits):
    text = f"void f(const uint8_t *x, int32_t *y)\n{{\n    y[0] = {expression};\n}}\n"
    with pytest.raises(Undefined):
        Machine(text, int_bits).run([255])
    assert Machine(text.replace(expression, "x[0] * 100"), int_bits).run([255]) == [25_500]


# --- compilers --------------------------------------------------------------------------------------


def built(folder, language, source, *flags):
    """Return a library made of a text."""
    (folder / "model.c").write_text(source)
    command = [*COMPILERS[language], *WARNINGS, *flags, "-O1", "-shared", "-fPIC", "-o", "model.so", "model.c"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return ctypes.CDLL(str(folder / "model.so"))


def types(source, name):
    return re.search(rf"void {name}\(const (\w+) \*x, (\w+) \*y\)", source).groups()


def array(kind, numbers):
    return np.ascontiguousarray(numbers, dtype=kind.removesuffix("_t")).ctypes


def outputs(library, source, name, codes, n_outputs):
    """Return what a loop over rows of a library computes."""
    element, result = types(source, name)
    y = np.zeros((len(codes), n_outputs), dtype=result.removesuffix("_t"))
    getattr(library, f"{name}_batch")(
        array(element, codes).data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(codes))
    )
    return y.astype(np.int64)


@pytest.mark.parametrize("language", [pytest.param(language, marks=mark) for language, mark in needs.items()])
def test_compilers_compute_the_same_integers(language, tmp_path):
    """All graphs in both words, in one file without a warning, also for codes beyond the words of ports."""
    texts = {
        f"m{number}_{word}": to_c(graph, f"m{number}_{word}", word=word, batch=True)
        for word in WORDS
        for number, graph in enumerate(GRAPHS)
    }
    library = built(tmp_path, language, "\n".join(texts.values()))
    for name, source in texts.items():
        graph = GRAPHS[int(name[1:].partition("_")[0])]
        codes = codes_of(graph)
        limits = np.iinfo(types(source, name)[0].removesuffix("_t"))
        beyond = np.random.default_rng(1).integers(limits.min, limits.max, codes.shape, endpoint=True)
        inside = np.clip(beyond, *np.array([form.word for form in graph.input_formats]).T)
        found = outputs(library, source, name, np.vstack([codes, beyond]), len(graph.outputs))
        assert np.array_equal(found, simulate_codes(graph, np.vstack([codes, inside])))


@needs["C"]
def test_nothing_is_undefined_for_a_sanitizer(tmp_path):
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    if subprocess.run(["gcc", *UNDEFINED, "empty.c"], cwd=tmp_path, capture_output=True, timeout=60).returncode:
        pytest.skip("gcc has no sanitizer for undefined behaviour here")
    parts, calls = [], []
    for number, graph in enumerate([random_graph(7), wide(), edges()]):
        name, codes, n_outputs = f"m{number}", codes_of(graph), len(graph.outputs)
        source = to_c(graph, name, batch=True, floats=True)
        element, result = types(source, name)
        parts += [source, f"static const {element} x{number}[] = {{{', '.join(map(str, codes.ravel()))}}};"]
        parts.append(f"static {result} y{number}[{n_outputs * len(codes)}];")
        calls.append(f"{name}_batch(x{number}, y{number}, {len(codes)});")
        for extreme in ("-1e300", "1e300", "0.5"):
            reals = f"(double[]){{{', '.join([extreme] * codes.shape[1])}}}"
            calls.append(f"{name}_float({reals}, (double[{n_outputs}]){{0}});")
    main = ["int main(void)", "{", *calls, "return 0;", "}"]
    (tmp_path / "model.c").write_text("\n".join([*parts, *main]))
    command = ["gcc", "-std=c99", *UNDEFINED, "-o", "model", "model.c"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120).returncode == 0
    done = subprocess.run(["./model"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "model",
    [
        Ridge(),
        CircuitRegressor(1e-3),
        DecisionTreeRegressor(max_leaf_nodes=40),
        GradientBoostingRegressor(n_estimators=4),
        RandomForestRegressor(3, max_leaf_nodes=12),
    ],
)
def test_models_of_all_families_stay_what_they_are(model, rng):
    X = rng.normal(size=(300, 4))
    circuit = compile_circuit(model.fit(X, np.abs(X[:, 0]) + X[:, 1] * X[:, 2]), X, epsilon=0.2, effort=0)
    codes = codes_of(circuit)
    for word in WORDS:
        machine = Machine(to_c(circuit, word=word), 16)
        assert [machine.run(row) for row in codes] == simulate_codes(circuit, codes).tolist()


# --- types ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formats", "out", "least", "int32"),
    [
        ([(0, 200), (0, 9)], (0, 255), ("uint8_t", "uint8_t"), ("int32_t", "int32_t")),
        ([(-1, 100), (0, 127)], (-1, 127), ("int8_t", "int8_t"), ("int32_t", "int32_t")),
        ([(0, 1023), (0, 65_535)], (0, 256), ("uint16_t", "int16_t"), ("int32_t", "int32_t")),
        ([(-1, 3), (0, 255)], (0, 32_768), ("int16_t", "uint16_t"), ("int32_t", "int32_t")),
        ([(0, 65_536), (0, 3)], (-1, 40_000), ("uint32_t", "int32_t"), ("int32_t", "int32_t")),
        ([(-1, 0), (0, 65_535)], (0, (1 << 32) - 1), ("int32_t", "uint32_t"), ("int32_t", "int64_t")),
        ([(0, 1), (0, 0)], (0, 1 << 32), ("uint8_t", "int64_t"), ("int32_t", "int64_t")),
    ],
)
def test_ports_have_the_narrowest_common_type(formats, out, least, int32):
    """That of the formats, which may hold more than their nodes do."""
    build = Builder([Format(*form, 0) for form in formats])
    graph = build.graph([build.at_most(build.input(0), 0)], [0])
    graph = Graph(graph.nodes, graph.outputs, graph.input_formats, (Format(*out, 0),))
    verify(graph)
    assert types(to_c(graph), "model") == least
    assert types(to_c(graph, word="int32"), "model") == int32


@pytest.mark.parametrize("word", WORDS)
def test_codes_beyond_the_word_saturate(word):
    """Also where a comparison or a clamp makes that superfluous, and an input is read as it is."""
    build = Builder([Format(-3, 100, 0), Format(0, 700, 0), Format(0, 5, 0)])
    x, z, u = (build.input(port) for port in range(3))
    nodes = [
        x,
        build.floor(z, 1),
        build.saturated_input(2),
        build.at_most(u, 6),
        build.relu(u),
        build.saturated_input(0),
    ]
    graph = build.graph(nodes, [0] * len(nodes))
    codes = [[-300, 0, -8], [-129, 1023, 8], [127, 1024, 7], [128, 30_000, 6], [-32_768, -32_768, 300]]
    inside = np.clip(codes, *np.array([form.word for form in graph.input_formats]).T)
    machine = Machine(to_c(graph, word=word), 16)
    assert [machine.run(row) for row in codes] == simulate_codes(graph, inside).tolist()


def test_deep_graphs_and_long_conditions():
    """Chains of thousands of nodes are written without recursion, and brackets stay within the limits of compilers."""
    build = Builder([Format(0, 255, 0)] * 2)
    x, z = build.input(0), build.input(1)
    total, bit = x, build.at_most(z, 7)
    for place in range(1500):
        total = build.relu(build.subtract(build.constant(200), total))
        bit = (build.disjunction, build.conjunction, build.difference)[place % 3](bit, build.at_most(z, place % 250))
    graph = build.graph([total, bit], [0, 0])
    text, codes = to_c(graph), codes_of(graph, n_rows=20)
    assert max(max(accumulate((c == "(") - (c == ")") for c in line), default=0) for line in text.split("\n")) < 30
    machine = Machine(text, 16)
    assert [machine.run(row) for row in codes] == simulate_codes(graph, codes).tolist()


# --- branches ---------------------------------------------------------------------------------------


def bits_of_tree(depth=4, n_features=4):
    """Return the nodes of a tree written in the paths to its leaves, and the paths."""
    build = Builder([Format(0, 255, 0)] * n_features)
    paths = [None]
    for level in range(depth):
        deeper = []
        for number, path in enumerate(paths):
            side = build.at_most(build.input(level % n_features), 17 * level + 29 * number % 200 + 3)
            for bit in (side, build.negation(side)):
                deeper.append(bit if path is None else build.conjunction(path, bit))
        paths = deeper
    return build, paths


def test_a_tree_becomes_nested_branches():
    """Every leaf adds its value once, under as many questions as the tree asks; bounds are those of the leaves."""
    build, leaves = bits_of_tree()
    values = [int(value) for value in np.random.default_rng(0).integers(-90, 90, len(leaves))]
    places = []
    for place in range(8):  # as trees are written: a bit of the value is the or of paths
        ones = build.constant(0)
        for path, value in zip(leaves, values, strict=True):
            if (value + 90) >> place & 1:
                ones = build.disjunction(ones, path)
        places.append(ones)
    graph = build.graph([build.sum([(bit, 1 << place) for place, bit in enumerate(places)], -90)], [0])
    text = to_c(graph)
    assert not re.search(r"&&|\|\|", text)
    assert len(re.findall(r"if \(", text)) <= 15
    assert types(text, "model")[1] == "int16_t"  # the port follows interval arithmetic
    nodes = dict(needed(graph))
    total = nodes[graph.outputs[0]]
    terms = [(path, w) for arg, w in zip(total.args, total.data[1:], strict=True) for path in Paths(nodes, 2).of(arg)]
    low, high, least, most = bounds_of(steps_of(terms), -90, -90)
    assert (low, high) == (min(values), max(values))
    assert least >= -90
    assert most <= max(values)


def test_paths_exclude_each_other_and_say_what_the_bit_says():
    for seed in range(20):
        graph = random_graph(seed)
        nodes = dict(needed(graph))
        bits = [number for number, node in nodes.items() if node.op in (Op.AND, Op.OR)]
        literals = sorted(
            {bit for number in bits for spread in (2, 9) for path in Paths(nodes, spread).of(number) for bit, _ in path}
        )
        shown = Graph(
            graph.nodes, (*bits, *literals), graph.input_formats, tuple(Format(0, 1, 0) for _ in (*bits, *literals))
        )
        if not bits:
            continue
        table = simulate_codes(shown, codes_of(graph)).astype(bool)
        columns = dict(zip((*bits, *literals), table.T, strict=True))
        for spread in (2, 9):
            paths = Paths(nodes, spread)
            for number in bits:
                hold = [np.all([columns[bit] == one for bit, one in path], axis=0) for path in paths.of(number)]
                assert np.array_equal(np.sum(hold, axis=0) if hold else np.zeros(len(table)), columns[number])


def tangled(n_nodes=300, n_ports=12):
    """Return a sum of conjunctions of earlier conjunctions, inverted half of the time: paths that multiply."""
    rng = np.random.default_rng(1)
    build = Builder([Format(0, 255, 0)] * n_ports)
    cuts = zip(rng.integers(n_ports, size=40).tolist(), rng.integers(20, 230, size=40).tolist(), strict=True)
    bits = [build.at_most(build.input(port), cut) for port, cut in cuts]
    for _ in range(n_nodes):
        a, b = (bits[max(int(k), 0)] for k in len(bits) - 1 - rng.integers(0, min(len(bits), 60), size=2))
        a = build.negation(a) if rng.random() < 0.5 else a
        b = build.negation(b) if rng.random() < 0.5 else b
        bits.append(build.conjunction(a, b))
    return build.graph([build.sum([(bit, 1) for bit in bits[-60:]])], [0])


def test_paths_that_multiply_are_given_up(monkeypatch):
    graph, calls = tangled(), []
    excluded = Paths._excluded
    monkeypatch.setattr(Paths, "_excluded", lambda paths, p, q: calls.append(1) or excluded(paths, p, q))
    machine, codes = Machine(to_c(graph), 16), codes_of(graph, n_rows=20)
    assert 0 < len(calls) < 300_000
    assert [machine.run(row) for row in codes] == simulate_codes(graph, codes).tolist()


# --- floats, batches and headers --------------------------------------------------------------------


def with_units():
    """Return a graph with ports of all kinds of units, and features that exercise them."""
    forms = [Format(0, 1023, 0, scale=0.0048, offset=-1.5), Format(-90, 100, -3), Format(-7, 2047, 2, scale=1 / 3)]
    build = Builder(forms)
    words = [build.saturated_input(port) for port in range(3)]
    graph = build.graph([build.sum([(words[0], 4), (words[2], -1)], 3), words[1]], [0, 0])
    wider = (Format(-(1 << 20), 1 << 20, -2, scale=0.7), Format(-90, 100, -3))
    graph = Graph(graph.nodes, graph.outputs, graph.input_formats, wider)
    halves = np.arange(-200, 2300) / 2.0
    X = np.column_stack([form.offset + form.step * halves for form in forms])
    X = np.vstack(
        [X, np.nextafter(X, np.inf), np.nextafter(X, -np.inf), np.full((1, 3), np.inf), np.full((1, 3), -np.inf)]
    )
    return graph, np.random.default_rng(0).permuted(X, axis=0)


MAIN = """\
#include <stdio.h>
#include "model.h"
#include "model.h"

int main(void)
{{
    static double x[3], y[2];
    static {element} codes[6] = {{1, 2, 3, 4, 5, 6}};
    static {result} words[4];
    model_batch(codes, words, 2);
    printf("%ld %ld %ld %ld\\n", (long)words[0], (long)words[1], (long)words[2], (long)words[3]);
    while (scanf("%lf %lf %lf", &x[0], &x[1], &x[2]) == 3) {{
        model_float(x, y);
        printf("%.17g %.17g\\n", y[0], y[1]);
        model_float_batch(x, y, 1);
        printf("%.17g %.17g\\n", y[0], y[1]);
    }}
    return MODEL_X0_STEP == 0.0048 && MODEL_X0_OFFSET == -1.5 && MODEL_Y0_OFFSET == 0.0 ? 0 : 1;
}}
"""


@pytest.mark.parametrize("word", WORDS)
@needs["C"]
@needs["C++"]
def test_floats_are_what_is_simulated(word, tmp_path):
    """A source in C, used through its header from C++; rows with NaN give NaN."""
    graph, X = with_units()
    X = np.vstack([X, [[np.nan, 1.0, 2.0], [1.0, 2.0, np.nan]]])
    options = {"word": word, "floats": True, "batch": True}
    (tmp_path / "model.c").write_text(to_c(graph, **options))
    (tmp_path / "model.h").write_text(to_c(graph, header=True, **options))
    element, result = types(to_c(graph, **options), "model")
    (tmp_path / "main.cpp").write_text(MAIN.format(element=element, result=result))
    for command in (["gcc", "-std=c99", "-c", "model.c"], ["g++", "-std=c++11", "-o", "main", "main.cpp", "model.o"]):
        done = subprocess.run([*command, *WARNINGS], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    rows = "\n".join(" ".join(map(repr, row)) for row in X.tolist())
    done = subprocess.run(["./main"], cwd=tmp_path, input=rows, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    first, *lines = done.stdout.strip().split("\n")
    assert [int(code) for code in first.split()] == simulate_codes(graph, [[1, 2, 3], [4, 5, 6]]).ravel().tolist()
    found = np.array([line.split() for line in lines], dtype=float)
    expected = np.vstack([simulate(graph, X[:-2]), np.full((2, 2), np.nan)])
    assert np.array_equal(found, np.repeat(expected, 2, axis=0), equal_nan=True)


def test_a_header_declares_what_the_source_defines():
    graph = with_units()[0]
    for options in ({}, {"batch": True}, {"floats": True}, {"floats": True, "batch": True, "word": "int32"}):
        source, header = to_c(graph, **options), to_c(graph, header=True, **options)
        defined = re.findall(r"^(void \w+\(.*\))$", source, re.MULTILINE)
        assert re.findall(r"^(void \w+\(.*\));$", header, re.MULTILINE) == defined
        assert len(defined) == (1 + options.get("floats", 0)) * (1 + options.get("batch", 0))
        assert re.findall(r"^#define MODEL_[XY].*", header, re.MULTILINE) == re.findall(
            r"^#define .*", source, re.MULTILINE
        )
        for text in (source, header):
            assert ("stddef.h" in text) == options.get("batch", False)


# --- text -------------------------------------------------------------------------------------------


def test_a_constant_reads_no_input():
    build = Builder([Format(-3, 100, 0)])
    text = to_c(build.graph([build.constant(-7)], [0]))
    assert "    (void)x;\n    y[0] = -7;\n" in text
    assert Machine(text, 16).run([5]) == [-7]


def test_the_text_is_what_one_would_write():
    build = Builder([Format(-80, 100, -2), Format(0, 7, 0, scale=0.3, offset=-1.0)])
    x, z = build.saturated_input(0), build.input(1)
    total = build.relu(build.subtract(z, x, 30, 0))
    bits = [build.at_most(total, 9), build.negation(build.at_most(z, 2))]
    nodes = [build.floor(total, 2), build.sum([(build.disjunction(*bits), 24), (z, -2), (x, -4), (bits[0], 1)], 5)]
    graph = build.graph(nodes, [0, -1])
    circuit = Circuit.of(graph, epsilon=0.05, error=0.0321, error_elsewhere=0.04321)
    circuit = replace(circuit, feature_names=("cement */ [kg]", "w\n"))
    assert (
        to_c(circuit, "few")
        == f"""\
/* Made by sklearn-htmc {__version__}.
   Error 0.0321 on the rows it was made for, 0.0432 on other rows, where epsilon allows 0.05;
   root mean square, as a fraction of the standard deviation of the target.
   x[0]: cement * / [kg], -80 .. 100 times 2^-2
   x[1]: w\\n, 0 .. 7 times 0.3 minus 1.0
   y[0]: 0 .. 1879048212 times 2^0
   y[1]: -417 .. 358 times 2^-1 */
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

void few(const int8_t *x, int32_t *y)
{{
    const uint8_t n2 = (uint8_t)(x[1] < 0 ? 0 : x[1] > 7 ? 7 : x[1]);  /* 0 .. 7 */
    const int8_t n0 = x[0];
    const int8_t n1 = (int8_t)(n0 < -80 ? -80 : n0 > 100 ? 100 : n0);  /* -80 .. 100 */
    const int64_t n3 = (int64_t)n2 * 1073741824 - (int64_t)n1;  /* -100 .. 7516192848 */
    const int64_t n4 = (int64_t)(n3 < 0 ? 0 : n3);  /* 0 .. 7516192848 */
    const int32_t n8 = (int32_t)(n4 >> 2);  /* 0 .. 1879048212 */
    int16_t n10 = (int16_t)(5 - (n1 * 2 + n2) * 2);  /* -417 .. 358 */
    if (n4 <= 9) {{
        n10 = (int16_t)(n10 + 25);
    }} else {{
        if (n2 > 2) n10 = (int16_t)(n10 + 24);
    }}
    y[0] = n8;
    y[1] = n10;
}}

#ifdef __cplusplus
}}
#endif
"""
    )


@pytest.mark.parametrize("word", ["", "int16", None, 8, ["least"]])
def test_other_words_are_refused(word):
    with pytest.raises(ValueError, match=rf"^word must be one of least, int32, got {re.escape(repr(word))}\.$"):
        to_c(network(4), word=word)


@pytest.mark.parametrize("flag", ["floats", "batch", "header"])
def test_flags_are_true_or_false(flag):
    assert to_c(network(4), **{flag: np.True_}) == to_c(network(4), **{flag: True})
    for wrong in (None, "yes", 1):
        with pytest.raises(TypeError, match=rf"^{flag} must be True or False, got {wrong!r}\.$"):
            to_c(network(4), **{flag: wrong})


@pytest.mark.parametrize("name", ["", "2x", "a b", "_a", "x;", "é", "a\n", None, 3])
def test_illegal_names_are_refused(name):
    with pytest.raises(ValueError, match=f"^name must be a C identifier, got {re.escape(repr(name))}; take letters"):
        to_c(network(4), name)


@pytest.mark.parametrize(
    "name", ["int", "main", "class", "restrict", "co_await", "alignas", "and_eq", "nullptr", "contract_assert"]
)
def test_reserved_names_are_refused(name):
    with pytest.raises(ValueError, match=f"^name must not be a reserved word of C, got '{name}'; take e.g. '{name}_0'"):
        to_c(network(4), name)


@pytest.mark.parametrize(
    "name",
    [
        "int32_t",
        "uint_least8_t",
        "intptr_t",
        "INT64_MAX",
        "UINT32_C",
        "SIZE_MAX",
        "abs",
        "absf",
        "sinl",
        "y0",
        "memcpy",
        "printf",
        "NULL",
        "x",
        "y",
        "n12",
        "a__b",
        "rows",
        "codes",
        "inputs",
        "found",
        "row",
        "differences",
        "stdc_bit_width",
        "nullptr_t",
        "int_fast16_t",
    ],
)
def test_names_of_the_library_and_of_the_code_are_refused(name):
    message = f"^name must not be one that C or the generated code uses, got '{name}'; take e.g. 'model'"
    with pytest.raises(ValueError, match=message):
        to_c(network(4), name)


@pytest.mark.parametrize("name", ["model", "total", "isotonic", "integer", "x_0", "int32", "internal", "n", "floor_0"])
@needs["C++"]
def test_other_names_are_fine_in_both_languages(name, tmp_path):
    (tmp_path / "model.c").write_text(to_c(random_graph(7), name))
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror", "-pedantic", "-c"]
    for command in (["gcc", "-std=c99"], ["g++", "-x", "c++", "-std=c++17"]):
        done = subprocess.run(
            [*command, *warnings, "model.c"], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("form", "bits"), [(Format(-(1 << 31) - 1, 0, 0), 33), (Format(0, 1 << 31, 0), 32)])
def test_ports_beyond_32_bits_are_refused(form, bits):
    build = Builder([form])
    with pytest.raises(ValueError, match=rf"^x0 must fit into int32_t, got {bits} bits; make its format coarser\.$"):
        to_c(build.graph([build.input(0)], [0]))
