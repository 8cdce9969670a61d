"""Verilog: the text, what `verilator` and `iverilog` make of it, and what `yosys` does beside what we count."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from graphs import adder_chain, affine, codes_for, comparators, multiplication, network, random_graph, trees
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, ResNetNormRegressor, __version__
from sklearn_htmc.circuit import (
    Builder,
    Circuit,
    Format,
    Graph,
    Node,
    Op,
    compile_circuit,
    count_gates,
    to_verilog,
    verify,
)
from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._simulate import words_at_outputs
from sklearn_htmc.circuit._verilog.structure import structure_of


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


def without_version(text):
    """Return a module without the line that says the version."""
    first, _, rest = text.partition("\n")
    assert first.startswith(f"// Written by sklearn-htmc {__version__}. ")
    return rest


def test_the_text_is_what_one_would_write():
    assert without_version(to_verilog(small(), "few")) == (
        """\
module few (
    input signed [7:0] x0,  // -80 .. 100 times 2^-2
    input [2:0] x1,  // 0 .. 7 times 2^0
    input x2,  // 0 .. 0 times 2^0
    output [4:0] y0,  // 0 .. 23 times 2^0
    output [2:0] y1  // 0 .. 7 times 2^0
);
    // n1, clamp: -80 .. 100
    wire n1_0 = ~(~(x0[2] & (x0[0] | x0[1])) & ~(x0[3] | x0[4])) & (x0[5] & (x0[6] & ~x0[7]));
    wire [7:0] n1_1 = n1_0 ? 8'h64 : x0;
    wire n1_2 = ~(x0[4] & x0[5]) & (~x0[6] & x0[7]);
    wire [7:0] n1 = n1_2 ? 8'hb0 : n1_1;
    // n3, subtract: -100 .. 94
    wire [7:0] n3 = {4'b0, x1, 1'b0} - n1;
    // n4, relu: 0 .. 94
    wire [6:0] n4 = n3[7] ? 7'b0 : n3[6:0];
    wire n5 = ~(n4[3] & (n4[1] | n4[2])) & (~n4[4] & ~(n4[5] | n4[6]));
    wire n6 = ~(x1[2] | (x1[0] & x1[1]));
    wire n9 = ~(~n5 & n6);
    assign y0 = n4[6:2];
    assign y1 = {n9, ~n6, n5};
    wire unused = &{1'b0, x2, n4[0]};
endmodule
"""
    )


def test_registers_hold_what_later_parts_read():
    build = Builder([Format(-8, 7, 0)] * 2)
    total = build.add(build.input(0), build.input(1))
    graph = build.graph([build.at_most(total, 2), build.input(1)], [0, 0])
    text = to_verilog(graph, "late", registers=1, clock="tick", enable="go")
    assert "Latency: 1 clock." in text.splitlines()[0]
    assert without_version(text) == (
        """\
module late (
    input tick,  // one result per clock; no reset
    input go,  // nothing moves while it is 0
    input signed [3:0] x0,  // -8 .. 7 times 2^0
    input signed [3:0] x1,  // -8 .. 7 times 2^0
    output y0,  // 0 .. 1 times 2^0
    output signed [3:0] y1  // -8 .. 7 times 2^0
);
    // n2, add: -16 .. 14
    wire [4:0] n2 = {x0[3], x0} + {x1[3], x1};
    wire n3_0 = ~(n2[0] & n2[1]) & ~(n2[2] | n2[3]);

    reg [3:0] r1_x1;
    reg r1_n2;
    reg r1_n3_0;
    always @(posedge tick) if (go) begin
        r1_x1 <= x1;
        r1_n2 <= n2[4];
        r1_n3_0 <= n3_0;
    end

    wire n3 = r1_n2 | r1_n3_0;
    assign y0 = n3;
    assign y1 = r1_x1;
endmodule
"""
    )


def test_comments_say_names_units_and_errors():
    build = Builder([Format(0, 1023, 0, 0.005, -0.5), Format(0, 7, -3)])
    graph = build.graph([build.add(build.input(0), build.input(1))], [-2])
    names = ("verilator lint_off ALL", "two\nlines*/é")
    circuit = Circuit(
        graph.nodes,
        graph.outputs,
        graph.input_formats,
        graph.output_formats,
        epsilon=0.05,
        error=0.0412,
        error_elsewhere=0.07,
        feature_names=names,
    )
    lines = to_verilog(circuit).splitlines()
    assert lines[0] == f"// Written by sklearn-htmc {__version__}. Combinational."
    said = "epsilon 0.05, error 0.0412, on other rows 0.07"
    assert lines[1] == f"// Difference from the model, in standard deviations of the target: {said}."
    assert lines[3] == '    input [9:0] x0,  // 0 .. 1023 times 0.005 minus 0.5, "verilator lint_off ALL"'
    assert lines[4] == r'    input [2:0] x1,  // 0 .. 7 times 2^-3, "two\nlines*/\u00e9"'
    assert lines[5] == "    output [10:0] y0  // 0 .. 1030 times 2^-2"


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


@pytest.mark.parametrize("what", ["clock", "enable"])
@pytest.mark.parametrize("name", ["x0", "n3_a", "r1_n3", "unused", "2x", "posedge", "logic", "a b", "", 3])
def test_names_of_ports_are_checked(what, name):
    with pytest.raises(ValueError, match=f"^{what} must (not )?be "):
        to_verilog(small(), registers=1, **{what: name})


def test_names_must_differ():
    with pytest.raises(ValueError, match=r"^clock must differ from name, got 'clk' for both\.$"):
        to_verilog(small(), "clk", registers=1)
    with pytest.raises(ValueError, match=r"^enable must differ from clock, got 'clk' for both\.$"):
        to_verilog(small(), registers=1, enable="clk")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"registers": -1}, ValueError, "registers must be at least 0, got -1"),
        ({"registers": 1.0}, TypeError, "registers must be an integer, got 1.0"),
        ({"registers": True}, TypeError, "registers must be an integer, got True"),
        ({"registers": np.True_}, TypeError, "registers must be an integer, got (np.)?True"),
        ({"registers": 2, "clock": None}, ValueError, "clock must be a Verilog identifier, got None"),
        ({"max_levels": 0}, ValueError, "max_levels must be at least 1, got 0"),
        ({"max_levels": "8"}, TypeError, "max_levels must be an integer, got '8'"),
        ({"max_levels": 8, "registers": 2}, ValueError, "registers must be 0 beside max_levels, got 2; give one"),
        ({"enable": "en"}, ValueError, "enable must be None where there are no registers, got 'en'; give registers"),
        ({"registers": 99}, ValueError, "registers must be at most 21 for this circuit, .* got 99"),
    ],
)
def test_bad_numbers_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        to_verilog(small(), **arguments)


def test_numbers_of_numpy_are_numbers():
    assert to_verilog(small(), registers=np.int64(3)) == to_verilog(small(), registers=3)
    assert to_verilog(small(), max_levels=np.uint8(4)) == to_verilog(small(), max_levels=4)


def test_as_many_registers_as_there_are_levels():
    """At one gate per part there is no part more; a circuit of wires has no part at all."""
    finest = to_verilog(small(), max_levels=1)
    assert latency_of(finest) == 21
    assert latency_of(to_verilog(small(), registers=21)) == 21
    assert "always" not in to_verilog(constants(), max_levels=40)
    build = Builder([Format(0, 7, 0)])
    with pytest.raises(ValueError, match=r"^registers must be at most 0 for this circuit"):
        to_verilog(build.graph([build.input(0)], [0]), registers=1)


# --- parts ----------------------------------------------------------------------------------------


def latency_of(text):
    found = re.search(r"Latency: (\d+) clocks?\.", text)
    return int(found[1]) if found else 0


def levels_of(text):
    """Return the levels of gates of the deepest part, read from a module: registers start again at 0.

    Sums count two levels per bit, and all their bits as late as the last.
    """
    levels = {}
    for line in text.splitlines():
        if found := re.match(r" +(?:wire|assign) (?:\[(\d+):0\] )?(\w+) = (.*);", line):
            levels[found[2]] = levels_of_value(found[3], levels)
            if re.search(r" [-+] ", found[3]):
                levels[found[2]] += 2 * int(found[1])
    return max(levels.values())


def levels_of_value(value, levels):
    condition, choice, word = value.rpartition(" ? ")
    if choice:
        return 1 + max(levels_of_value(part, levels) for part in (condition, word.partition(" : ")[2]))
    if "{" in value or re.search(r" [-+] ", value):
        return max((levels.get(name, 0) for name in re.findall(r"[a-z]\w*", value)), default=0)
    expression = ast.parse(re.sub(r"(\w+)'[bh](\w+)", r"0", value).replace(":", ","), mode="eval")
    return levels_of_gates(expression.body, levels)


def levels_of_gates(expression, levels):
    if isinstance(expression, ast.BinOp):
        return 1 + max(levels_of_gates(side, levels) for side in (expression.left, expression.right))
    if isinstance(expression, ast.UnaryOp):
        return levels_of_gates(expression.operand, levels)
    if isinstance(expression, ast.Subscript):
        return levels_of_gates(expression.value, levels)
    return levels.get(expression.id, 0) if isinstance(expression, ast.Name) else 0


@pytest.mark.parametrize("max_levels", range(1, 7))
@pytest.mark.parametrize("graph", [network(4), trees(9, 4, 3), random_graph(2)])
def test_no_part_is_deeper_than_asked_for(graph, max_levels):
    assert levels_of(to_verilog(graph, max_levels=max_levels)) <= max_levels


@pytest.mark.parametrize("graph", [network(4), trees(9, 4, 3), random_graph(2)])
def test_more_levels_need_no_more_registers(graph):
    """One part takes what the whole is deep; where a part may be deeper, there are no more of them."""
    found = [latency_of(to_verilog(graph, max_levels=levels)) for levels in (1, 2, 3, 5, 8, 13, 21, 34, 200)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10
    assert found[-1] == 0


@pytest.mark.parametrize("registers", [2, 4, 8])
@pytest.mark.parametrize("graph", [network(4), trees(9, 4, 3)])
def test_parts_are_balanced(graph, registers):
    """Parts share the levels; sums that are not cut may double them, and here their early bits wait for the last."""
    share = (latency_of(to_verilog(graph, max_levels=1)) + 1) / (registers + 1)
    text = to_verilog(graph, registers=registers)
    assert latency_of(text) == registers
    assert levels_of(text) <= 3 * (share + 3)


def test_a_sum_is_cut_inside_where_one_is_all_there_is():
    build = Builder([Format(0, (1 << 30) - 1, 0)] * 2)
    graph = build.graph([build.add(build.input(0), build.input(1))], [0])
    assert levels_of(to_verilog(graph)) == 60
    text = to_verilog(graph, registers=5)
    assert " + " in text
    assert levels_of(text) <= 20


@pytest.mark.parametrize("graph", [network(4), trees(9, 4, 3), random_graph(2), affine(3)])
@pytest.mark.parametrize("longest", [0, 4, 64])
def test_levels_of_sums_are_those_of_their_adders(graph, longest):
    """Every sum, written out in full adders behind its operands, ends at the levels foreseen or, simplified, before."""
    net = structure_of(graph, longest)
    pairs = []
    for box in [box for box in net.boxes.values() if box.op != "?"]:
        carry = negated = int(box.op == "-")
        for a, b, out in zip(box.a, box.b, box.out, strict=True):
            total, carry = net.sum_and_carry(a, b ^ negated, carry)
            pairs.append((net.level(total), net.level(out)))
    assert all(exact <= foreseen for exact, foreseen in pairs)
    assert sum(exact == foreseen for exact, foreseen in pairs) >= 0.9 * len(pairs)
    assert pairs or not longest


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
@pytest.mark.parametrize("name", LINTED)
def test_verilator_finds_nothing_to_warn_of(name, tmp_path):
    """In the module without registers, and in two with some, all in one file."""
    graph = LINTED[name]()
    most = latency_of(to_verilog(graph, max_levels=1))
    texts = [
        to_verilog(graph, f"m{registers}", registers=registers, enable="go" if registers == 4 else None)
        for registers in sorted({0, min(2, most), min(4, most)})
    ]
    (tmp_path / "models.v").write_text("\n".join(texts))
    assert "lint_off" not in (tmp_path / "models.v").read_text()
    allowed = ["-Wno-DECLFILENAME", "-Wno-MULTITOP"]  # one module per file is for those who want it
    command = ["verilator", "--lint-only", "-Wall", *allowed, "--language", "1364-2001", "models.v"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@needs("yosys")
def test_yosys_finds_nothing_to_complain_of(tmp_path):
    """No loops, no two drivers, nothing undriven, in all of them at once."""
    texts = [to_verilog(make(), f"m{number}") for number, make in enumerate(LINTED.values())]
    texts += [to_verilog(network(4), "m98", registers=4), to_verilog(trees(9, 4, 3), "m99", max_levels=7, enable="go")]
    (tmp_path / "models.v").write_text("\n".join(texts))
    script = "read_verilog models.v; hierarchy -check; proc; check -assert"
    done = subprocess.run(["yosys", "-p", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout


# --- simulation by iverilog -----------------------------------------------------------------------

BENCH = """\
module bench;
    reg [{bits}:0] rows [0:{last}];
    reg [{bits}:0] row;
{wires}
    integer i;
    reg tick;
    model device ({ports});
    initial begin
        $readmemb("rows.txt", rows);
        tick = 0;
        for (i = 0; i <= {last} + {waiting}; i = i + 1) begin
            row = rows[i <= {last} ? i : 0];
            #1 tick = 1;
            #1 tick = 0;
            if (i >= {waiting}) $display("{formats}", {outputs});
        end
    end
endmodule
"""


def bench(graph, n_rows, latency):
    """Return a test bench that reads one row of input bits per line and prints the outputs in binary."""
    wires, ports, start = [], [".clk(tick)"] if latency else [], 0
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
        waiting=max(latency - 1, 0),
        wires="\n".join(wires),
        ports=", ".join(ports),
        formats=" ".join(["%b"] * len(outputs)),
        outputs=", ".join(outputs),
    )


def in_binary(code, form):
    return format(int(code) & (1 << form.width) - 1, f"0{max(form.width, 1)}b")


def simulated(graph, codes, folder, **options):
    """Return the integers at the output ports as iverilog computes them."""
    text = to_verilog(graph, **options)
    (folder / "model.v").write_text(text)
    (folder / "bench.v").write_text(bench(graph, len(codes[0]), latency_of(text)))
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
@pytest.mark.parametrize("options", [{}, {"registers": 2}, {"max_levels": 7}])
@pytest.mark.parametrize("seed", range(4))
def test_iverilog_computes_the_same_integers(seed, options, rng, tmp_path):
    graph = random_graph(seed)
    assert_iverilog_agrees(graph, codes_for(graph, rng), tmp_path, **options)


@needs("iverilog", "vvp")
@pytest.mark.parametrize("options", [{}, {"registers": 4}, {"max_levels": 9}])
@pytest.mark.parametrize(
    "graph", [network(4), comparators(7, 40), trees(9, 4, 3), small(), single_bits(), places(), affine(3)]
)
def test_iverilog_computes_hand_made_circuits(graph, options, rng, tmp_path):
    options = (
        {"registers": min(options["registers"], latency_of(to_verilog(graph, max_levels=1)))}
        if ("registers" in options)
        else options
    )
    assert_iverilog_agrees(graph, codes_for(graph, rng), tmp_path, **options)


@needs("iverilog", "vvp")
def test_ports_wider_than_their_nodes(rng, tmp_path):
    build = Builder([Format(-3, 3, 0), Format(0, 5, 0)])
    graph = build.graph([build.input(0), build.add(build.input(0), build.input(1)), build.input(1)], [0, 0, 0])
    wide = replace(graph, output_formats=(Format(-100, 100, 0), Format(-1000, 30, 0), Format(-1, 200, 0)))
    verify(wide)
    assert_iverilog_agrees(wide, codes_for(wide, rng), tmp_path)


@needs("iverilog", "vvp")
@pytest.mark.parametrize("registers", [0, 3])
def test_ports_without_bits_and_words_of_62(registers, rng, tmp_path):
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
    assert_iverilog_agrees(graph, codes_for(graph, rng), tmp_path, registers=registers)


@needs("iverilog", "vvp")
@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("graph", [network(4), trees(9, 4, 3), places()])
def test_short_paths_are_those_that_are_counted(graph, registers, rng, tmp_path):
    plain = Circuit.of(graph, epsilon=0.1, error=0.1)
    circuit = replace(plain, objective="depth")
    assert levels_of(to_verilog(circuit)) <= circuit.depth <= plain.depth
    assert_iverilog_agrees(circuit, codes_for(circuit, rng), tmp_path, registers=registers)


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
SYNTHESIS = "synth -flatten; abc -g AND,NAND,OR,NOR,XOR,XNOR,ANDNOT,ORNOT; stat"
BOTH = f"read_verilog model.v; {SYNTHESIS}; design -reset; read_verilog gates.v; {SYNTHESIS}"


def in_gates(graph):
    """Return a module ``gates`` of the gates that we count, one assignment each."""
    net = Netlist.of(graph)
    ports = [f"input [{max(len(wires), 1) - 1}:0] x{port}" for port, wires in enumerate(net.inputs)]
    ports += [f"output [{max(len(wires), 1) - 1}:0] y{port}" for port, wires in enumerate(net.outputs)]
    names = {0: "1'b0"}
    for port, wires in enumerate(net.inputs):
        names |= {wire >> 1: f"x{port}[{place}]" for place, wire in enumerate(wires)}
    names |= {number: f"g{number}" for number in net.live()}

    def text(wire):
        return "~" * (wire & 1) + names[wire >> 1]

    lines = [f"module gates ({', '.join(ports)});"]
    for number in net.live():
        a, b = net.operands(number)
        lines.append(f"wire g{number} = {text(a)} {'^' if net.is_exclusive(number) else '&'} {text(b)};")
    for port, wires in enumerate(net.outputs):
        lines.append(f"assign y{port} = {{{', '.join(text(wire) for wire in reversed(wires or [0]))}}};")
    return "\n".join([*lines, "endmodule", ""])


def synthesised(graph, folder):
    """Return the two-input gates that yosys needs, from the module and from our gates; inverters are free."""
    (folder / "model.v").write_text(to_verilog(graph))
    (folder / "gates.v").write_text(in_gates(graph))
    done = subprocess.run(["yosys", "-p", BOTH], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    _, _, of_module, _, of_gates = done.stdout.split("Printing statistics")  # synth prints some, too
    return [gates_in(of_module), gates_in(of_gates)]


def gates_in(report):
    cells = {kind: int(number) for kind, number in re.findall(r"^ +\$_(\w+)_ +(\d+)$", report, flags=re.MULTILINE)}
    assert set(cells) <= {"AND", "NAND", "OR", "NOR", "XOR", "XNOR", "ANDNOT", "ORNOT", "NOT"}
    assert sum(cells.values()) == int(re.search(r"Number of cells: +(\d+)", report)[1])
    return sum(cells.values()) - cells.get("NOT", 0)


def assert_the_count_is_fair(graph, folder):
    """What yosys reaches from our gates or our module is no more, nor so little that ours would be a bad circuit."""
    reached = synthesised(graph, folder)
    assert min(reached) <= count_gates(graph) <= 1.25 * min(reached)
    assert reached[0] <= 1.1 * count_gates(graph)


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
    assert synthesised(graph, tmp_path) == [count_gates(graph), 5]


@needs("yosys")
def test_what_never_varies_needs_no_gate(tmp_path):
    formats = (Format(-8, 7, 0),)
    nodes = (Node(Op.INPUT, (), (0,), -8, 7), Node(Op.FLOOR, (0,), (9,), -1, 0), Node(Op.CLAMP, (0,), (9, 11), 9, 9))
    graph = Graph(nodes, (1, 2), formats, (Format(-1, 0, 0), Format(9, 9, 0)))
    assert synthesised(graph, tmp_path) == [count_gates(graph), 0]
