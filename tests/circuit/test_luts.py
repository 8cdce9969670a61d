"""Look-up tables: the mapping computes what the gates do, is as shallow as any, and about as small as that of yosys."""

from __future__ import annotations

import itertools
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from graphs import adder_chain, affine, comparators, multiplication, network, random_graph, trees

from sklearn_htmc.circuit import Builder, Format, LutEstimate, count_gates, estimate_luts
from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._luts import mapped
from sklearn_htmc.circuit._sweeping import without_equal_gates

N_ROWS = 300


def random_net(rng, n_inputs=6, n_gates=40):
    net = Netlist()
    net.inputs = [net.word(n_inputs)]
    wires = list(net.inputs[0])
    while len(wires) < n_inputs + n_gates:
        a, b = (int(wires[-int(i)]) ^ int(rng.integers(2)) for i in rng.integers(1, min(len(wires), 15) + 1, 2))
        wires.append(net.exclusive(a, b) if rng.random() < 0.3 else net.conjunction(a, b))
    net.outputs = [wires[-4:], [wires[-1] ^ 1, 0, 1, wires[0], wires[1] ^ 1]]
    return net


def table(net, wire, leaves):
    """Return a wire as a function of leaves: values for all of theirs; fails where the leaves are no cut."""
    values = {0: 0} | {
        leaf: sum(1 << row for row in range(1 << len(leaves)) if row >> place & 1) for place, leaf in enumerate(leaves)
    }
    ones = (1 << (1 << len(leaves))) - 1

    def value(number):
        if number not in values:
            a, b = net.operands(number)
            assert a, "the table depends on an input that it does not read"
            x, y = value(a >> 1) ^ -(a & 1), value(b >> 1) ^ -(b & 1)
            values[number] = (x ^ y if net.is_exclusive(number) else x & y) & ones
        return values[number]

    return (value(wire >> 1) ^ -(wire & 1)) & ones


def evaluated(net, tables, inputs):
    """Return the output words from tables alone, one row at a time; inner wires are never inverted between tables."""
    functions = {wire: table(net, wire, leaves) for wire, leaves in tables.items()}
    out = []
    for row in range(N_ROWS):
        values = {0: 0, 1: 1}
        for word, wires in zip(inputs, net.inputs, strict=True):
            values |= {wire: value >> row & 1 for value, wire in zip(word, wires, strict=True)}
        for wire in sorted(tables, key=lambda wire: wire >> 1):
            place = sum(values[2 * leaf] << i for i, leaf in enumerate(tables[wire]))
            values[wire] = functions[wire] >> place & 1
        out.append(
            [[values[wire] if wire in values else 1 - values[wire ^ 1] for wire in word] for word in net.outputs]
        )
    return out


def assert_tables_compute_the_gates(net, k, rng):
    tables, levels = mapped(net, k)
    assert all(len(leaves) <= k for leaves in tables.values())
    inputs = [[int.from_bytes(rng.bytes(40), "big") % (1 << N_ROWS) for _ in wires] for wires in net.inputs]
    exact = net.evaluate(inputs, N_ROWS)
    found = evaluated(net, tables, inputs)
    assert found == [[[value >> row & 1 for value in word] for word in exact] for row in range(N_ROWS)]
    depths = {}
    for wire in sorted(tables, key=lambda wire: wire >> 1):
        depths[wire] = 1 + max(depths.get(2 * leaf, 0) for leaf in tables[wire])
    # An output that is the inverse of a table's is another table where both are read, else the table is inverted.
    assert levels == max((depths.get(w, depths.get(w ^ 1, 0)) for word in net.outputs for w in word), default=0)


@pytest.mark.parametrize("k", range(3, 9))
def test_tables_compute_what_the_gates_do(k, rng):
    for _ in range(8):
        assert_tables_compute_the_gates(random_net(rng), k, rng)
    assert_tables_compute_the_gates(Netlist.of(random_graph(k)), k, rng)


def least_levels(net, k):
    """Return the least number of levels of all mappings, by the cuts of every gate, all of them."""
    cuts, depths = {}, {}
    for wires in net.inputs:
        for wire in wires:
            cuts[wire >> 1], depths[wire >> 1] = {frozenset([wire >> 1])}, 0
    for number in net.live():
        a, b = (wire >> 1 for wire in net.operands(number))
        own = {x | y for x, y in itertools.product(cuts[a], cuts[b]) if len(x | y) <= k}
        depths[number] = 1 + min(max(depths[leaf] for leaf in cut) for cut in own)
        cuts[number] = own | {frozenset([number])}
    return max(depths.get(wire >> 1, 0) for word in net.outputs for wire in word)


@pytest.mark.parametrize("k", [3, 4, 6])
def test_levels_are_the_least_of_all_mappings(k, rng):
    nets = [random_net(rng, n_inputs=12, n_gates=45) for _ in range(12)]
    nets += [Netlist.of(graph) for graph in (adder_chain(1), comparators(2, 4), trees(3, 2, 3))] if k < 6 else []
    for net in nets:
        net.outputs = net.outputs[:1]  # without inverters behind inputs
        assert mapped(net, k)[1] == least_levels(net, k)


@pytest.mark.parametrize("k", range(3, 9))
@pytest.mark.parametrize("n_inputs", [2, 8, 9, 30])
def test_a_conjunction_of_n_bits_takes_a_table_for_every_k_less_one_of_them(n_inputs, k):
    build = Builder([Format(0, 1, 0)] * n_inputs)
    bit = build.input(0)
    for port in range(1, n_inputs):
        bit = build.conjunction(bit, build.input(port))
    n_tables = math.ceil((n_inputs - 1) / (k - 1))
    assert estimate_luts(build.graph([bit], [0]), k) == LutEstimate(n_tables, n_tables, k)


def test_a_function_of_k_bits_is_one_table(rng):
    for k in range(3, 9):
        for _ in range(5):
            net = random_net(rng, n_inputs=k)
            net.outputs = [net.outputs[0][-1:]]
            assert mapped(net, k)[1] <= 1
            assert len(mapped(net, k)[0]) <= 1


def circuits():
    return [adder_chain(1), multiplication(2), affine(3), network(4), comparators(5, 20), trees(6, 3, 4)]


def test_larger_tables_are_not_more():
    for graph in circuits():
        counts = [estimate_luts(graph, k) for k in range(3, 9)]
        assert all(a.n_luts >= b.n_luts and a.levels >= b.levels for a, b in itertools.pairwise(counts))
        assert counts[0].n_luts <= count_gates(graph)


def test_wires_are_free_and_inverters_behind_inputs_are_not():
    build = Builder([Format(0, 1, 0)] * 3)
    a, b, c = (build.input(port) for port in range(3))
    both = build.conjunction(a, b)

    def tables(*outputs):
        return estimate_luts(build.graph(list(outputs), [0] * len(outputs))).n_luts

    assert tables(a, build.constant(1), build.constant(0), a) == 0
    assert tables(build.negation(a)) == tables(build.negation(a), build.negation(a), c) == 1
    assert tables(both) == tables(build.negation(both)) == tables(both, both) == 1
    assert tables(both, build.negation(both)) == 2


@pytest.mark.parametrize("k", [2, 9, 4.0, True, "6", None])
def test_other_tables_are_refused(k):
    with pytest.raises(ValueError, match=r"^k must be an integer from 3 to 8, got"):
        estimate_luts(comparators(1, 1), k)


def test_what_is_no_circuit_is_refused():
    with pytest.raises(TypeError, match="circuit"):
        estimate_luts("ridge")


# --- equal gates ----------------------------------------------------------------------------------


def test_equal_gates_are_found_and_nothing_changes(rng):
    for _ in range(30):
        net = random_net(rng, n_inputs=5)
        inputs = [[int.from_bytes(rng.bytes(4), "big") for _ in wires] for wires in net.inputs]
        swept = without_equal_gates(net)
        assert swept.evaluate(inputs, 32) == net.evaluate(inputs, 32)
        assert len(swept.live()) <= len(net.live())
        # Of five inputs a window sees all: no two wires that are left are equal or inverse.
        rows = [[sum(1 << row for row in range(32) if row >> place & 1) for place in range(5)]]
        swept.outputs = [[2 * number for number in swept.live()]]
        values = swept.evaluate(rows, 32)[0]
        assert len({min(value, value ^ (1 << 32) - 1) for value in values}) == len(values)


def test_what_is_written_in_two_ways_is_one():
    build = Builder([Format(0, 1, 0)] * 3)
    a, b, c = (build.input(port) for port in range(3))
    one = build.disjunction(build.conjunction(a, b), build.conjunction(a, c))
    other = build.conjunction(a, build.disjunction(b, c))
    graph = build.graph([build.difference(one, other)], [0])
    assert count_gates(graph) > 0
    assert estimate_luts(graph).n_luts == 0


def test_wires_that_agree_on_most_rows_stay_apart():
    """Random rows never show that a conjunction of forty bits is not constant; the proof fails, so it stays."""
    build = Builder([Format(0, (1 << 40) - 1, 0)])
    assert estimate_luts(build.graph([build.at_most(build.input(0), (1 << 40) - 2)], [0])).n_luts == 8


# --- yosys ----------------------------------------------------------------------------------------


def in_verilog(net):
    """Return a module of single gates."""

    def text(wire):
        return ("1'b1" if wire else "1'b0") if wire <= 1 else f"{'~' * (wire & 1)}w{wire >> 1}"

    ports = [f"input w{wire >> 1}" for word in net.inputs for wire in word]
    outputs = [wire for word in net.outputs for wire in word]
    lines = [f"module m({', '.join([*ports, *(f'output y{place}' for place in range(len(outputs)))])});"]
    for number in net.live():
        a, b = map(text, net.operands(number))
        lines.append(f"wire w{number} = {a} {'^' if net.is_exclusive(number) else '&'} {b};")
    lines += [f"assign y{place} = {text(wire)};" for place, wire in enumerate(outputs)]
    return "\n".join([*lines, "endmodule"])


def tables_of_yosys(net, k, folder):
    (folder / "m.v").write_text(in_verilog(net))
    script = f"read_verilog m.v; hierarchy -top m; proc; opt; techmap; opt; abc -lut {k}; stat"
    done = subprocess.run(["yosys", "-p", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(re.findall(r"\$lut +(\d+)", done.stdout)[-1])


@pytest.mark.skipif(shutil.which("yosys") is None, reason="yosys not found: install with apt-get")
@pytest.mark.parametrize("k", [4, 6])
def test_yosys_needs_about_as_many_tables(k, tmp_path):
    ratios = [estimate_luts(graph, k).n_luts / tables_of_yosys(Netlist.of(graph), k, tmp_path) for graph in circuits()]
    assert 0.85 <= min(ratios) <= max(ratios) <= 1.15
    assert 0.93 <= np.exp(np.mean(np.log(ratios))) <= 1.07
