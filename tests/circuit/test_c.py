"""C: the text, and what `gcc` makes of it, with every warning an error."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from graphs import codes_for, network, random_graph, trees
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge

from sklearn_htmc import CircuitRegressor
from sklearn_htmc.circuit import Builder, Format, compile_circuit, to_c
from sklearn_htmc.circuit._simulate import words_at_outputs

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc not found")

FLAGS = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror", "-pedantic"]
UNDEFINED = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]

MAIN = """\
#include <inttypes.h>
#include <stdio.h>

void model(const int32_t *x, int64_t *y);

int main(void)
{{
    int32_t x[{n_inputs}];
    int64_t y[{n_outputs}];
    int i;
    for (;;) {{
        for (i = 0; i < {n_inputs}; i++)
            if (scanf("%" SCNd32, &x[i]) != 1) return 0;
        model(x, y);
        for (i = 0; i < {n_outputs}; i++) printf("%" PRId64 "\\n", y[i]);
    }}
}}
"""


def computed(graph, codes, folder, flags=()):
    """Return the integers at the output ports as the compiled function computes them."""
    (folder / "model.c").write_text(to_c(graph))
    (folder / "main.c").write_text(MAIN.format(n_inputs=len(graph.input_formats), n_outputs=len(graph.outputs)))
    command = ["gcc", *FLAGS, *flags, "-o", "model", "model.c", "main.c"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (compiled.returncode, compiled.stderr) == (0, "")
    rows = "\n".join(" ".join(map(str, row)) for row in zip(*(code.tolist() for code in codes), strict=True))
    done = subprocess.run(["./model"], cwd=folder, input=rows, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return np.array(done.stdout.split(), dtype=np.int64).reshape(-1, len(graph.outputs)).T


def assert_equal_words(found, expected):
    for word, exact in zip(found, expected, strict=True):
        assert np.array_equal(word, exact)


@needs_gcc
@pytest.mark.parametrize("graph", [*(random_graph(seed) for seed in range(6)), network(4), trees(9, 4, 3)])
def test_gcc_computes_the_same_integers(graph, rng, tmp_path):
    codes = codes_for(graph, rng)
    assert_equal_words(computed(graph, codes, tmp_path), words_at_outputs(graph, codes))


def wide():
    """Return a graph with words of 62 bits, ports as wide as they may be, and one without bits."""
    build = Builder([Format(-(1 << 31), (1 << 31) - 1, 0), Format(0, (1 << 31) - 1, 0), Format(0, 0, 0)])
    x, z = build.input(0), build.input(1)
    total = build.add(build.subtract(x, z, 28, 1), build.constant(-(1 << 58)))
    nodes = [total, build.floor(total, 45), build.floor(x, 62), build.relu(total), build.clamp(total, -(1 << 50), 7)]
    nodes += [build.at_most(total, -(1 << 40)), build.constant(-(1 << 61)), build.subtract(x, z), build.floor(z, 3)]
    return build.graph(nodes, [0] * len(nodes))


@needs_gcc
def test_wide_words_do_not_overflow(rng, tmp_path):
    codes = codes_for(wide(), rng)
    assert_equal_words(computed(wide(), codes, tmp_path), words_at_outputs(wide(), codes))


@needs_gcc
@pytest.mark.parametrize("graph", [random_graph(7), random_graph(8), wide()])
def test_nothing_is_undefined(graph, rng, tmp_path):
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    probe = subprocess.run(["gcc", *UNDEFINED, "empty.c"], cwd=tmp_path, capture_output=True, timeout=60)
    if probe.returncode:
        pytest.skip("gcc has no sanitizer for undefined behaviour here")
    codes = [rng.integers(-(1 << 31), 1 << 31, 1000) for _ in graph.input_formats]
    inside = [np.clip(code, *form.word) for code, form in zip(codes, graph.input_formats, strict=True)]
    assert_equal_words(computed(graph, codes, tmp_path, UNDEFINED), words_at_outputs(graph, inside))


@needs_gcc
def test_codes_beyond_the_word_saturate(tmp_path):
    build = Builder([Format(-3, 100, 0), Format(0, 7, 0)])
    graph = build.graph([build.input(0), build.input(1), build.saturated_input(0)], [0, 0, 0])
    codes = [np.array([-(1 << 31), -129, -128, 127, 128, (1 << 31) - 1]), np.array([-(1 << 31), -1, 0, 7, 8, 99])]
    found = computed(graph, codes, tmp_path)
    assert found[0].tolist() == [-128, -128, -128, 127, 127, 127]
    assert found[1].tolist() == [0, 0, 0, 7, 7, 7]
    assert found[2].tolist() == [-3, -3, -3, 100, 100, 100]


@needs_gcc
def test_a_constant_reads_no_input(tmp_path):
    build = Builder([Format(-3, 100, 0)])
    graph = build.graph([build.constant(-7)], [0])
    assert computed(graph, [np.arange(3)], tmp_path).tolist() == [[-7, -7, -7]]


def test_the_text_is_what_one_would_write():
    build = Builder([Format(-80, 100, -2), Format(0, 7, 0)])
    x, z = build.saturated_input(0), build.input(1)
    total = build.relu(build.subtract(z, x, 30, 0))
    bits = [build.at_most(total, 9), build.negation(build.at_most(z, 2))]
    graph = build.graph([build.floor(total, 2), build.join([*bits, build.disjunction(*bits)])], [0, -1])
    assert to_c(graph, "few") == (
        """\
#include <stdint.h>

static inline int64_t few_floor(int64_t a, int s)
{
    return a < 0 ? -1 - ((-1 - a) >> s) : a >> s;
}

/* x[0]: -80 .. 100 times 2^-2
   x[1]: 0 .. 7 times 2^0
   y[0]: 0 .. 1879048212 times 2^0
   y[1]: 0 .. 7 times 2^-1 */
void few(const int32_t *x, int64_t *y)
{
    const int32_t n0 = x[0] < -128 ? -128 : x[0] > 127 ? 127 : x[0];  /* -128 .. 127 */
    const int32_t n1 = n0 < -80 ? -80 : n0 > 100 ? 100 : n0;  /* -80 .. 100 */
    const int32_t n2 = x[1] < 0 ? 0 : x[1] > 7 ? 7 : x[1];  /* 0 .. 7 */
    const int64_t n3 = (int64_t)n2 * 1073741824 - (int64_t)n1;  /* -100 .. 7516192848 */
    const int64_t n4 = n3 < 0 ? 0 : n3;  /* 0 .. 7516192848 */
    const int32_t n5 = n4 <= 9;  /* 0 .. 1 */
    const int32_t n6 = n2 <= 2;  /* 0 .. 1 */
    const int32_t n7 = 1 - n6;  /* 0 .. 1 */
    const int32_t n8 = (int32_t)(few_floor(n4, 2));  /* 0 .. 1879048212 */
    const int32_t n9 = n5 | n7;  /* 0 .. 1 */
    const int32_t n10 = n5 + n7 * 2 + n9 * 4;  /* 0 .. 7 */
    y[0] = n8;
    y[1] = n10;
}
"""
    )


@pytest.mark.parametrize("name", ["", "2x", "a b", "_a", "x;", "é", "a\n", None, 3])
def test_illegal_names_are_refused(name):
    with pytest.raises(ValueError, match=f"^name must be a C identifier, got {re.escape(repr(name))}; take letters"):
        to_c(network(4), name)


@pytest.mark.parametrize("name", ["int", "main", "class", "restrict", "co_await", "alignas", "and_eq", "nullptr"])
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
    ],
)
def test_names_of_the_library_and_of_the_code_are_refused(name):
    message = f"^name must not be one that C or the generated code uses, got '{name}'; take e.g. 'model'"
    with pytest.raises(ValueError, match=message):
        to_c(network(4), name)


@pytest.mark.parametrize("name", ["model", "total", "isotonic", "integer", "x_0", "int32", "internal", "n", "floor_0"])
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ not found")
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


@needs_gcc
@pytest.mark.parametrize("model", [GradientBoostingRegressor(n_estimators=4), Ridge(), CircuitRegressor(1e-3)])
def test_gcc_computes_what_resynthesis_leaves_of_models(model, rng, tmp_path):
    X = rng.normal(size=(300, 4))
    circuit = compile_circuit(model.fit(X, np.abs(X[:, 0]) + X[:, 1] * X[:, 2]), X, epsilon=0.3)
    random, formats = codes_for(circuit, rng), circuit.input_formats
    codes = [np.append(form.encode(X[:, port]), random[port]) for port, form in enumerate(formats)]
    assert_equal_words(computed(circuit, codes, tmp_path), words_at_outputs(circuit, codes))
