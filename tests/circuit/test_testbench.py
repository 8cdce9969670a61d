"""Golden vectors and test benches: they pass on what they check, and find what is wrong with it."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from graphs import network, random_graph, trees
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor
from sklearn_htmc.circuit import Builder, Format, compile_circuit, encode, simulate_codes, to_testbench

FLAGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror", "-pedantic"]
TIMEOUT = 120


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not found: install with apt-get")


def done(*command, folder):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT)


def checked_by_iverilog(folder, name="model"):
    """Return the exit code of the test bench and what it says."""
    built = done(
        "iverilog", "-g2012", "-Wall", "-Wno-timescale", "-o", "bench", f"{name}.v", f"{name}_test.sv", folder=folder
    )
    assert (built.returncode, built.stderr) == (0, "")
    run = done("vvp", "-n", "bench", folder=folder)
    return run.returncode, run.stdout


def checked_by_gcc(folder, name="model"):
    built = done("gcc", *FLAGS, "-o", "program", f"{name}.c", f"{name}_test.c", folder=folder)
    assert (built.returncode, built.stderr) == (0, "")
    run = done("./program", folder=folder)
    return run.returncode, run.stdout


def checked_by_verilator(folder, name="model"):
    command = [
        "verilator",
        "--binary",
        "-O0",
        "-CFLAGS",
        "-O0",
        "--top-module",
        "testbench",
        f"{name}.v",
        f"{name}_test.sv",
    ]
    built = done(*command, folder=folder)
    assert built.returncode == 0, built.stderr
    run = done("./obj_dir/Vtestbench", folder=folder)
    return run.returncode, run.stdout


def some_rows(graph, rng, n_rows=20):
    return np.stack([rng.uniform(form.low, form.high, n_rows) * form.step for form in graph.input_formats], axis=1)


# --- they pass ------------------------------------------------------------------------------------

MODELS = {
    "linear": (LinearRegression(), 0.02),
    "MLP": (MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=1000, random_state=0), 0.2),
    "tree": (DecisionTreeRegressor(max_leaf_nodes=16, random_state=0), 0.04),
    "boosting": (GradientBoostingRegressor(n_estimators=10, max_depth=2, random_state=0), 0.1),
    "forest, two outputs": (RandomForestRegressor(n_estimators=3, max_leaf_nodes=8, random_state=0), 0.1),
    "grown": (CircuitRegressor(1e-3, augment=False), 1e-10),
}


@needs("iverilog", "vvp", "gcc")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", MODELS)
def test_models_pass_in_verilog_and_c(name, ramps, tmp_path):
    model, epsilon = MODELS[name]
    X, y = ramps(150)
    y = np.stack([y, y**2], axis=1) if "two" in name else y
    circuit = compile_circuit(model.fit(X, y), X, epsilon=epsilon, effort=1)
    for options in ({}, {"registers": 2}, {"registers": 4, "enable": "ce", "clock": "tick"}):
        to_testbench(circuit, X, directory=tmp_path, **options)
        assert checked_by_iverilog(tmp_path) == (0, "0 of 1150 rows differ\n")
    assert checked_by_gcc(tmp_path) == (0, "0 of 1150 rows differ\n")


@needs("iverilog", "vvp")
@pytest.mark.parametrize("options", [{}, {"registers": 1}, {"max_levels": 5, "enable": "go"}])
@pytest.mark.parametrize("seed", [2, 3, 6])
def test_random_graphs_pass(seed, options, rng, tmp_path):
    graph = random_graph(seed)
    to_testbench(graph, some_rows(graph, rng), "some_1", directory=tmp_path, **options)
    assert checked_by_iverilog(tmp_path, "some_1") == (0, "0 of 1020 rows differ\n")


# --- they find what is wrong ----------------------------------------------------------------------


def change(path, old, new):
    """Replace the first occurrence in a file."""
    text = path.read_text()
    assert re.search(old, text)
    path.write_text(re.sub(old, new, text, count=1))


def wrong_by_one(graph):
    """Return the same circuit but for the last constant, which is one more or less."""
    number, node = [pair for pair in enumerate(graph.nodes) if pair[1].op.value == "at_most"][-1]
    nodes = list(graph.nodes)
    nodes[number] = node._replace(data=(node.data[0] + 1,))
    return type(graph)(tuple(nodes), graph.outputs, graph.input_formats, graph.output_formats)


@needs("iverilog", "vvp", "gcc")
@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_that_is_off_by_one_is_found(seed, rng, tmp_path):
    graph = trees(seed, 3, 3)
    X = some_rows(graph, rng)
    files = to_testbench(graph, X, directory=tmp_path)
    wrong = to_testbench(wrong_by_one(graph), X)
    assert wrong["model_vectors.hex"] != files["model_vectors.hex"]
    for name in ("model.v", "model.c"):
        (tmp_path / name).write_text(wrong[name])
    for code, said in (checked_by_iverilog(tmp_path), checked_by_gcc(tmp_path)):
        assert code == 1
        assert 0 < int(re.search(r"(\d+) of 1020 rows differ\n", said)[1]) < 1020
        assert said.startswith("row ")


@needs("iverilog", "vvp")
def test_a_register_too_many_or_too_few_is_found(rng, tmp_path):
    graph = network(4)
    X = some_rows(graph, rng)
    for registers in (1, 3):
        to_testbench(graph, X, directory=tmp_path, registers=2)
        (tmp_path / "model.v").write_text(to_testbench(graph, X, registers=registers)["model.v"])
        assert checked_by_iverilog(tmp_path)[0] == 1


@needs("iverilog", "vvp")
@pytest.mark.parametrize("registers", [1, 3])
def test_an_enable_that_does_nothing_is_found(registers, rng, tmp_path):
    graph = network(4)
    to_testbench(graph, some_rows(graph, rng), directory=tmp_path, registers=registers, enable="go")
    assert checked_by_iverilog(tmp_path)[0] == 0
    text = (tmp_path / "model.v").read_text()
    (tmp_path / "model.v").write_text(text.replace("if (go) ", ""))
    code, said = checked_by_iverilog(tmp_path)
    assert code == 1
    assert "rows differ" in said


@needs("iverilog", "vvp")
def test_an_output_that_nothing_drives_is_found(rng, tmp_path):
    graph = network(4)
    to_testbench(graph, some_rows(graph, rng), directory=tmp_path)
    change(tmp_path / "model.v", r"assign y0 = .*;", "")
    assert checked_by_iverilog(tmp_path)[0] == 1


@needs("verilator", "make", "g++")
def test_the_exit_code_of_verilator_says_the_same(rng, tmp_path):
    graph = trees(1, 2, 2)
    X = some_rows(graph, rng)
    files = to_testbench(graph, X, directory=tmp_path, registers=2, enable="go")
    code, said = checked_by_verilator(tmp_path)
    assert code == 0
    assert said.startswith("0 of 1020 rows differ\n")
    # The vectors are read when the program runs.
    rows = files["model_vectors.hex"].splitlines()
    rows[500] = f"{int(rows[500], base=16) ^ 1 << 4 * len(rows[0]) - 8:0{len(rows[0])}x}"
    (tmp_path / "model_vectors.hex").write_text("\n".join(rows))
    run = done("./obj_dir/Vtestbench", folder=tmp_path)
    assert run.returncode != 0
    assert "rows differ" in run.stdout


# --- the vectors ----------------------------------------------------------------------------------


def vectors(files, graph):
    """Return the codes at inputs and outputs, read from the file."""
    formats = [*graph.input_formats, *graph.output_formats]
    rows = []
    for line in files["model_vectors.hex"].split():
        packed, row = int(line, base=16), []
        for form in formats:
            n_bits = max(form.width, 1)
            code = packed & (1 << n_bits) - 1
            row.append(code - (1 << n_bits if form.signed and code >> n_bits - 1 else 0))
            packed >>= n_bits
        assert packed == 0
        rows.append(row)
    codes = np.array(rows)
    return codes[:, : len(graph.input_formats)], codes[:, len(graph.input_formats) :]


@pytest.mark.parametrize("graph", [network(4), trees(9, 4, 3), random_graph(6)])
def test_vectors_are_exact_and_cover_the_words(graph, rng):
    X = some_rows(graph, rng)
    inputs, outputs = vectors(to_testbench(graph, X), graph)
    assert np.array_equal(inputs[:20], encode(graph, X))
    assert np.array_equal(outputs, simulate_codes(graph, inputs))
    random = inputs[20:]
    assert len(random) == 1000
    ends = np.array([form.word for form in graph.input_formats])
    for row in ends.T:
        assert (random == row).all(axis=1).any()  # all at once
    for port, (low, high) in enumerate(ends):
        assert (random[:, port].min(), random[:, port].max()) == (low, high)
        assert len(np.unique(random[:, port])) >= min(high - low + 1, 200) * 0.8


def test_files_are_those_that_are_returned(rng, tmp_path):
    graph = network(4)
    X = some_rows(graph, rng)
    files = to_testbench(graph, X, "m", directory=tmp_path / "new" / "folder", registers=1)
    assert sorted(files) == ["m.c", "m.h", "m.v", "m_test.c", "m_test.sv", "m_vectors.hex"]
    assert {path.name: path.read_text() for path in (tmp_path / "new" / "folder").iterdir()} == files
    assert files == to_testbench(graph, X, "m", registers=1)


def test_a_port_without_bits_has_one(tmp_path):
    build = Builder([Format(0, 0, 0), Format(-2, 1, 0)])
    graph = build.graph([build.constant(0), build.input(1)], [0, 0])
    inputs, outputs = vectors(to_testbench(graph, np.zeros((1, 2))), graph)
    assert not inputs[:, 0].any()
    assert np.array_equal(outputs[:, 1], inputs[:, 1])


def test_bad_arguments_are_refused():
    graph, X = network(4), np.zeros((2, 3))
    with pytest.raises(TypeError, match=r"^circuit must be what compile_circuit returns"):
        to_testbench("circuit", X)
    with pytest.raises(ValueError, match=r"^X must have at least one row\.$"):
        to_testbench(graph, X[:0])
    with pytest.raises(ValueError, match=r"^X must have shape"):
        to_testbench(graph, X[:, :2])
    with pytest.raises(ValueError, match=r"^name must not be one that Verilog or the generated code uses"):
        to_testbench(graph, X, "testbench")
    with pytest.raises(ValueError, match=r"^name must not be a reserved word of C, got 'double'"):
        to_testbench(graph, X, "double")
    with pytest.raises(ValueError, match=r"^enable must be None where there are no registers"):
        to_testbench(graph, X, enable="ce")


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "taken").write_text("kept")
    with pytest.raises(NotADirectoryError, match=r"^directory must be a folder, .*taken is a file\.$"):
        to_testbench(network(4), np.zeros((2, 3)), directory=tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "kept"
