"""Verilog: the text, what `verilator` and `iverilog` make of it, and what `yosys` does beside what we count."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest
from graphs import adder_chain, affine, codes_for, comparators, multiplication, network, random_graph, trees
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, ResNetNormRegressor
from sklearn_htmc.circuit import Builder, Format, Graph, Node, Op, compile_circuit, count_gates, to_verilog
from sklearn_htmc.circuit._simulate import words_at_outputs


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not found: install with apt-get")


# --- the text -------------------------------------------------------------------------------------


def small():
    build = Builder([Format(-80, 100, -2), Format(0, 7, 0), Format(0, 0, 0)])
    x, z = build.saturated_input(0), build.input(1)
    total = build.relu(build.subtract(z, x, 1, 0))
    bits = [build.at_most(total, 9), build.negation(build.at_most(z, 2))]
    return build.graph([build.floor(total, 2), build.join([*bits, build.disjunction(*bits)])], [0, 0])


def test_the_text_is_what_one_would_write():
    assert to_verilog(small(), "few") == (
        """\
module few (
    // verilator lint_off UNUSED
    input signed [7:0] x0,  // -80 .. 100 times 2^-2
    input [2:0] x1,  // 0 .. 7 times 2^0
    input x2,  // 0 .. 0 times 2^0
    output [4:0] y0,  // 0 .. 23 times 2^0
    output [2:0] y1  // 0 .. 7 times 2^0
);
    wire signed [7:0] n0 = x0;  // -128 .. 127
    wire n1_above = (~(~(n0[2] & (n0[0] | n0[1])) & ~(n0[3] | n0[4])) & (n0[5] & (n0[6] & ~n0[7])));
    wire n1_inside = ~(~(n0[4] & n0[5]) & (~n0[6] & n0[7]));
    wire signed [7:0] n1 = n1_inside ? (n1_above ? 8'sh64 : n0) : 8'shb0;  // -80 .. 100
    wire [2:0] n2 = x1;  // 0 .. 7
    wire n3_12 = (n2[0] ^ n1[1]);
    wire n3_16 = ~((n2[0] & ~n1[1]) | ~(n1[0] | n3_12));
    wire n3_17 = (n2[1] ^ n1[2]);
    wire n3_21 = ~((n2[1] & ~n1[2]) | ~(n3_16 | n3_17));
    wire n3_22 = (n2[2] ^ n1[3]);
    wire n3_26 = ~((n2[2] & ~n1[3]) | ~(n3_21 | n3_22));
    wire n3_28 = ~(n1[4] | n3_26);
    wire n3_30 = (~n1[5] & n3_28);
    wire signed [7:0] n3 = {~(n1[7] ^ (~n1[6] & n3_30)), ~(n1[6] ^ n3_30), ~(n1[5] ^ n3_28), (n1[4] ^ n3_26), (n3_21 ^ n3_22), (n3_16 ^ n3_17), (n1[0] ^ n3_12), n1[0]};  // -100 .. 94
    wire [6:0] n4 = n3[6:0] & {7{~n3[7]}};  // 0 .. 94
    wire n5 = (~(n4[3] & (n4[1] | n4[2])) & (~n4[4] & ~(n4[5] | n4[6])));  // 0 .. 1
    wire n6 = ~(n2[2] | (n2[0] & n2[1]));  // 0 .. 1
    wire n7 = ~n6;  // 0 .. 1
    wire [4:0] n8 = n4[6:2];  // 0 .. 23
    wire n9 = n5 | n7;  // 0 .. 1
    wire [2:0] n10 = {n9, n7, n5};  // 0 .. 7
    assign y0 = n8;
    assign y1 = n10;
    // verilator lint_on UNUSED
endmodule
"""  # noqa: E501
    )


def test_operators_are_for_tools_that_have_carry_chains():
    text = to_verilog(small(), adders="operator")
    assert "    wire signed [7:0] n3 = n3_a - n3_b;  // -100 .. 94\n" in text
    assert "    wire n5 = n4 <= 7'h9;  // 0 .. 1\n" in text
    assert "n3_c" not in text


@pytest.mark.parametrize("name", ["", "2x", "a b", "a-b", "x;", "é", "a\n", "$a", None, 3])
def test_illegal_names_are_refused(name):
    with pytest.raises(ValueError, match=f"^name must be a Verilog identifier, got {re.escape(repr(name))}; take"):
        to_verilog(small(), name)


@pytest.mark.parametrize(
    "name",
    ["module", "wire", "uwire", "logic", "bit", "int", "do", "priority", "unique0", "endclass", "shortint", "soft"],
)
def test_reserved_names_are_refused(name):
    with pytest.raises(ValueError, match=f"^name must not be a reserved word of Verilog, got '{name}'; take e.g."):
        to_verilog(small(), name)


@pytest.mark.parametrize("name", ["x0", "y12", "n3", "n3_a"])
def test_names_of_the_module_are_refused(name):
    with pytest.raises(
        ValueError, match=f"^name must not be one that Verilog or the generated code uses, got '{name}'"
    ):
        to_verilog(small(), name)


def test_other_adders_are_refused():
    with pytest.raises(ValueError, match=r"^adders must be one of ripple, operator, got 'fast'\.$"):
        to_verilog(small(), adders="fast")


# --- lint by verilator ----------------------------------------------------------------------------


def constants():
    build = Builder([Format(-3, 3, 0), Format(0, 0, 0)])
    numbers = [build.constant(value) for value in (0, 1, -1, -300)]
    words = [build.add(build.input(0), numbers[3]), build.subtract(numbers[1], build.input(0), 3, 1)]
    return build.graph([*numbers, *words, build.input(1)], [0] * 7)


def single_bits():
    build = Builder([Format(0, 1, 0), Format(-1, 0, 0), Format(-8, 7, 0)])
    a, b, word = (build.input(port) for port in range(3))
    bits = [build.conjunction(a, build.bit(word, 1)), build.difference(a, build.bit(word, 3)), build.add(a, b)]
    return build.graph([*bits, build.at_most(word, 2), build.floor(word, 3), build.negation(a), b], [0] * 7)


def places():
    """Words that shrink and grow: sums that cancel, sign bits alone, limits far outside and inside."""
    build = Builder([Format(-30, 90, 0), Format(0, 9, 0)])
    word, short = build.saturated_input(0), build.input(1)
    down = build.subtract(short, word, 6, 0)
    outputs = [build.floor(down, place) for place in (0, 1, 9)]
    outputs += [
        build.relu(down),
        build.clamp(down, -1, 1),
        build.clamp(down, 5, 2000),
        build.relu(build.floor(word, 6)),
    ]
    outputs += [build.sum([(word, -8), (short, 1), (short, 64)], -77), build.at_most(down, -1)]
    return build.graph(outputs, [0] * len(outputs))


def grown():
    rng = np.random.default_rng(5)
    X = rng.uniform(-1.0, 1.0, (200, 3))
    y = np.stack([X[:, 0] * X[:, 1] > 0.1, np.abs(X[:, 2])], axis=1)
    return CircuitRegressor(1e-3).fit(X, y.astype(float)).circuit_


LINTED = {
    "adders": lambda: adder_chain(0),
    "affine": lambda: affine(3),
    "network": lambda: network(4),
    "comparisons": lambda: comparators(7, 40),
    "trees": lambda: trees(9, 4, 3),
    "growth, two outputs": grown,
    "constants": constants,
    "single bits": single_bits,
    "places": places,
    "few": small,
} | {f"random {seed}": partial(random_graph, seed) for seed in range(4)}


@needs("verilator")
@pytest.mark.parametrize("adders", ["ripple", "operator"])
@pytest.mark.parametrize("name", LINTED)
def test_verilator_finds_nothing_to_warn_of(name, adders, tmp_path):
    (tmp_path / "model.v").write_text(to_verilog(LINTED[name](), adders=adders))
    command = ["verilator", "--lint-only", "-Wall", "--language", "1364-2001", "model.v"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# --- simulation by iverilog -----------------------------------------------------------------------

BENCH = """\
module bench;
    reg [{bits}:0] rows [0:{last}];
    reg [{bits}:0] row;
{wires}
    integer i;
    model device ({ports});
    initial begin
        $readmemb("rows.txt", rows);
        for (i = 0; i <= {last}; i = i + 1) begin
            row = rows[i];
            #1 $display("{formats}", {outputs});
        end
    end
endmodule
"""


def bench(graph, n_rows):
    """Return a test bench that reads one row of input bits per line and prints the outputs in binary."""
    wires, ports, start = [], [], 0
    for port, form in enumerate(graph.input_formats):
        n_bits = max(form.width, 1)
        ports.append(f".x{port}(row[{start + n_bits - 1}:{start}])")
        start += n_bits
    for port, form in enumerate(graph.output_formats):
        wires.append(f"    wire [{max(form.width, 1) - 1}:0] y{port};")
        ports.append(f".y{port}(y{port})")
    outputs = [f"y{port}" for port in range(len(graph.outputs))]
    return BENCH.format(
        bits=start - 1,
        last=n_rows - 1,
        wires="\n".join(wires),
        ports=", ".join(ports),
        formats=" ".join(["%b"] * len(outputs)),
        outputs=", ".join(outputs),
    )


def in_binary(code, form):
    return format(int(code) & (1 << form.width) - 1, f"0{max(form.width, 1)}b")


def simulated(graph, codes, folder, **options):
    """Return the integers at the output ports as iverilog computes them."""
    (folder / "model.v").write_text(to_verilog(graph, **options))
    (folder / "bench.v").write_text(bench(graph, len(codes[0])))
    rows = zip(*codes, strict=True)
    (folder / "rows.txt").write_text(
        "\n".join(
            "".join(reversed([in_binary(*pair) for pair in zip(row, graph.input_formats, strict=True)])) for row in rows
        )
    )
    command = ["iverilog", "-g2001", "-Wall", "-Wno-timescale", "-o", "bench", "bench.v", "model.v"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (compiled.returncode, compiled.stderr) == (0, "")
    out = subprocess.run(["vvp", "-n", "bench"], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    words = [line.split() for line in out.stdout.splitlines()]
    return [
        np.array([int(word, base=2) - (int(word[0]) << form.width if form.signed else 0) for word in column])
        for column, form in zip(zip(*words, strict=True), graph.output_formats, strict=True)
    ]


def assert_iverilog_agrees(graph, codes, folder, **options):
    found = simulated(graph, codes, folder, **options)
    for word, exact in zip(found, words_at_outputs(graph, codes), strict=True):
        assert np.array_equal(word, exact)


@needs("iverilog", "vvp")
@pytest.mark.parametrize("adders", ["ripple", "operator"])
@pytest.mark.parametrize("seed", range(4))
def test_iverilog_computes_the_same_integers(seed, adders, rng, tmp_path):
    graph = random_graph(seed)
    assert_iverilog_agrees(graph, codes_for(graph, rng), tmp_path, adders=adders)


@needs("iverilog", "vvp")
@pytest.mark.parametrize("adders", ["ripple", "operator"])
@pytest.mark.parametrize(
    "graph", [network(4), comparators(7, 40), trees(9, 4, 3), small(), constants(), single_bits(), places()]
)
def test_iverilog_computes_hand_made_circuits(graph, adders, rng, tmp_path):
    assert_iverilog_agrees(graph, codes_for(graph, rng), tmp_path, adders=adders)


@needs("iverilog", "vvp")
@pytest.mark.parametrize("adders", ["ripple", "operator"])
def test_ports_without_bits_and_words_of_62(adders, rng, tmp_path):
    build = Builder([Format(0, 0, 0), Format(-(1 << 30), (1 << 30) - 1, 0), Format(-1, 0, 0)])
    total = build.add(build.add(build.input(1), build.input(2), 29, 1), build.constant(-(1 << 59)))
    outputs = [
        total,
        build.constant(0),
        build.constant(-3),
        build.floor(total, 60),
        build.at_most(total, -5),
        build.input(2),
    ]
    graph = build.graph(outputs, [0] * len(outputs))
    assert graph.output_formats[0].width == 62
    assert_iverilog_agrees(graph, codes_for(graph, rng), tmp_path, adders=adders)


# --- the referee ----------------------------------------------------------------------------------

HAND_MADE = {
    "chain of adders": adder_chain(0),
    "multiplication": multiplication(1),
    "affine": affine(3),
    "network": network(4),
    "few comparisons": comparators(6, 5),
    "many comparisons": comparators(7, 40),
    "forest": trees(9, 4, 3),
    "boosting": trees(10, 8, 2, n_features=2, bits=6),
}
MODELS = {
    "LinearRegression": (LinearRegression(), 0.01),
    "MLPRegressor": (MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", max_iter=1000, random_state=0), 0.1),
    "ResNetNormRegressor": (
        ResNetNormRegressor(alpha=0.05, width=4, n_neurons=4, max_iter=20, random_state=0),
        0.05,
    ),
    "DecisionTreeRegressor": (DecisionTreeRegressor(max_leaf_nodes=16, random_state=0), 0.02),
    "GradientBoostingRegressor": (GradientBoostingRegressor(n_estimators=10, max_depth=2, random_state=0), 0.05),
    "RandomForestRegressor": (RandomForestRegressor(n_estimators=5, max_leaf_nodes=8, random_state=0), 0.05),
    "CircuitRegressor": (CircuitRegressor(3e-4, augment=False), 1e-10),  # its own circuit, as it is
}
SYNTHESIS = "read_verilog model.v; synth -flatten; abc -g AND,NAND,OR,NOR,XOR,XNOR,ANDNOT,ORNOT; stat"


def synthesised(graph, folder):
    """Return the two-input gates that yosys needs; inverters are not counted, as they are free by definition."""
    (folder / "model.v").write_text(to_verilog(graph))
    done = subprocess.run(["yosys", "-p", SYNTHESIS], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = done.stdout[done.stdout.rindex("Printing statistics") :]
    cells = {kind: int(number) for kind, number in re.findall(r"^ +\$_(\w+)_ +(\d+)$", report, flags=re.MULTILINE)}
    assert set(cells) <= {"AND", "NAND", "OR", "NOR", "XOR", "XNOR", "ANDNOT", "ORNOT", "NOT"}
    assert sum(cells.values()) == int(re.search(r"Number of cells: +(\d+)", report)[1])
    return sum(cells.values()) - cells.get("NOT", 0)


def assert_the_count_is_fair(graph, folder):
    """Yosys starts from our gates, so it must not need more; and not so few that ours would be a bad circuit."""
    reached = synthesised(graph, folder)
    assert reached <= count_gates(graph) <= 1.25 * reached


@needs("yosys")
@pytest.mark.parametrize("name", HAND_MADE)
def test_the_referee_agrees_on_hand_made_circuits(name, tmp_path):
    assert_the_count_is_fair(HAND_MADE[name], tmp_path)


@needs("yosys")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", MODELS)
def test_the_referee_agrees_on_models(name, ramps, tmp_path):
    model, epsilon = MODELS[name]
    X, y = ramps(150)
    assert_the_count_is_fair(compile_circuit(model.fit(X, y), X, epsilon=2.0 * epsilon, effort=1), tmp_path)


@needs("iverilog", "vvp")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", MODELS)
def test_iverilog_computes_what_resynthesis_leaves_of_models(name, ramps, rng, tmp_path):
    """On the rows of data and a thousand random words."""
    model, epsilon = MODELS[name]
    X, y = ramps(150)
    circuit = compile_circuit(model.fit(X, y), X, epsilon=4.0 * epsilon, effort=1)
    random, formats = codes_for(circuit, rng), circuit.input_formats
    codes = [np.append(form.encode(X[:, port]), random[port]) for port, form in enumerate(formats)]
    assert_iverilog_agrees(circuit, codes, tmp_path)


@needs("yosys")
def test_the_referee_finds_a_full_adder_of_five_gates(tmp_path):
    build = Builder([Format(0, 1, 0)] * 3)
    a, b, c = (build.input(port) for port in range(3))
    graph = build.graph([build.add(build.add(a, b), c)], [0])
    assert synthesised(graph, tmp_path) == count_gates(graph) == 5


@needs("yosys")
def test_what_never_varies_needs_no_gate(tmp_path):
    formats = (Format(-8, 7, 0),)
    nodes = (Node(Op.INPUT, (), (0,), -8, 7), Node(Op.FLOOR, (0,), (9,), -1, 0), Node(Op.CLAMP, (0,), (9, 11), 9, 9))
    graph = Graph(nodes, (1, 2), formats, (Format(-1, 0, 0), Format(9, 9, 0)))
    assert synthesised(graph, tmp_path) == count_gates(graph) == 0
