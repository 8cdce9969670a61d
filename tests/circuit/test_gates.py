"""Gates: the netlist computes what the graph does, and prices are those of doc/circuit.md."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import bits_of, codes_for, codes_of, comparators, random_graph, trees

from sklearn_htmc.circuit import Builder, Format, Graph, Node, Op, _gates, count_gates
from sklearn_htmc.circuit._gates import Netlist, greater_in_halves, greater_serially
from sklearn_htmc.circuit._simulate import words_at_outputs


def evaluated(graph, codes):
    """Return the integers at the output ports, from the gates."""
    n_rows = len(codes[0])
    net = Netlist.of(graph)
    wires = net.evaluate([bits_of(code, form) for code, form in zip(codes, graph.input_formats, strict=True)], n_rows)
    return [codes_of(word, form, n_rows) for word, form in zip(wires, graph.output_formats, strict=True)]


@pytest.mark.parametrize("graph", [*(random_graph(seed) for seed in range(12)), trees(3, 3, 3)])
def test_gates_compute_what_the_graph_does(graph, rng):
    codes = codes_for(graph, rng)
    for word, exact in zip(evaluated(graph, codes), words_at_outputs(graph, codes), strict=True):
        assert np.array_equal(word, exact)


def test_random_gates_are_simplified_without_changing_what_they_compute(rng):
    """All rules of the netlist, on wires that have much to do with each other."""
    for _ in range(200):
        net = Netlist()
        net.inputs = [net.word(3)]
        wires, values = [0, *net.inputs[0]], [0, 0b11110000, 0b11001100, 0b10101010]
        for _ in range(30):
            i, j, k = rng.integers(len(wires), size=3)
            a, b, c = (int(rng.integers(2)) for _ in range(3))
            x, y, z = values[i] ^ 255 * a, values[j] ^ 255 * b, values[k] ^ 255 * c
            inputs = wires[i] ^ a, wires[j] ^ b, wires[k] ^ c
            wires += [net.conjunction(*inputs[:2]), net.exclusive(*inputs[:2]), *net.sum_and_carry(*inputs)]
            values += [x & y, x ^ y, x ^ y ^ z, x & y | x & z | y & z]
        net.outputs = [wires]
        assert net.evaluate([values[1:4]], 8) == [values]


# --- prices ---------------------------------------------------------------------------------------


def gates(formats, make):
    build = Builder([Format(*form, 0) for form in formats])
    made = make(build, *(build.input(port) for port in range(len(formats))))
    made = made if isinstance(made, list) else [made]
    return count_gates(build.graph(made, [0] * len(made)))


@pytest.mark.parametrize("bits", [1, 2, 5, 12, 31])
def test_a_sum_costs_a_half_adder_and_full_adders(bits):
    word = (0, 2**bits - 1)
    assert gates([word, word], lambda build, x, z: build.add(x, z)) == 2 + 5 * (bits - 1)


def test_subtraction_costs_what_addition_costs():
    words = [(0, 255), (0, 255)]
    assert gates(words, lambda build, x, z: build.subtract(x, z)) == gates(words, lambda build, x, z: build.add(x, z))


def test_places_below_the_shift_of_the_other_operand_are_free():
    words = [(0, 255), (0, 255)]
    whole = gates(words, lambda build, x, z: build.add(x, z))
    assert gates(words, lambda build, x, z: build.add(x, z, 0, 8)) == 0
    # Five places meet: a half adder, four full adders, and the carry goes on through three.
    assert gates(words, lambda build, x, z: build.add(x, z, 0, 3)) == 2 + 4 * 5 + 3 * 2 < whole


def test_a_constant_operand_makes_half_adders():
    assert gates([(0, 255)], lambda build, x: build.add(x, build.constant(1))) == 14
    assert gates([(0, 255)], lambda build, x: build.add(x, build.constant(256))) == 0
    for constant in range(1, 256):
        assert gates([(0, 255)], lambda build, x, c=constant: build.add(x, build.constant(c))) <= 2 * 8


@pytest.mark.parametrize("n_bits", [1, 2, 3, 7, 31])
def test_a_heap_of_bits_costs_a_full_adder_for_every_bit_that_it_takes_away(n_bits):
    """Bits of weight one: ``n - ones(n)`` full adders where n is one less than a power of two, half adders else."""
    formats = [(0, 1)] * n_bits
    count = gates(formats, lambda build, *bits: build.sum([(bit, 1) for bit in bits]))
    width = n_bits.bit_length()
    if n_bits == 2**width - 1:
        assert count == 5 * (n_bits - width)
    assert 5 * (n_bits - width) <= count <= 5 * (n_bits - width) + 2 * width


def test_signs_and_one_constant_bit_beside_one_bit_cost_nothing():
    words = [(-8, 7), (0, 15)]
    assert gates(words, lambda build, x, z: build.sum([(z, 1), (x, -1)])) <= gates(
        words, lambda build, x, z: build.subtract(z, x)
    )
    assert gates([(0, 1)], lambda build, x: build.sum([(x, 1)], 1)) == 0
    assert gates([(0, 1)], lambda build, x: build.sum([(x, -4)], 77)) == 0


def test_narrow_signed_words_are_not_extended_through_wide_ones():
    words = [(-128, 127), (-1, 0), (-1, 0), (-2, 1)]

    def by_pairs(build, a, *others):
        for other in others:
            a = build.add(a, other)
        return a

    heap = gates(words, lambda build, *all_: build.sum([(word, 1) for word in all_]))
    assert heap < 0.8 * gates(words, by_pairs)


def test_a_heap_is_not_deeper_than_additions_one_after_the_other():
    build = Builder([Format(0, 255, 0)] * 16)
    ports = [build.input(port) for port in range(16)]
    chain = ports[0]
    for port in ports[1:]:
        chain = build.add(chain, port)
    deep, flat = (Netlist.of(build.graph([n], [0])) for n in (chain, build.sum([(port, 1) for port in ports])))
    assert flat.depth <= deep.depth
    assert len(flat.live()) <= len(deep.live())


def test_bits_of_words_are_wiring():
    assert gates([(-8, 7)], lambda build, x: [build.bit(x, place) for place in range(6)]) == 0


def test_all_gates_of_two_inputs_cost_one():
    bits = [(0, 1), (0, 1)]
    for make in (Builder.conjunction, Builder.disjunction, Builder.difference):
        for a in (False, True):
            for b in (False, True):

                def gate(build, x, z, make=make, a=a, b=b):
                    return make(build, build.negation(x) if a else x, build.negation(z) if b else z)

                assert gates(bits, gate) == 1


def test_adding_zero_costs_nothing_even_without_the_builder():
    formats = (Format(-128, 127, 0),)
    nodes = (
        Node(Op.INPUT, (), (0,), -128, 127),
        Node(Op.CONSTANT, (), (0,), 0, 0),
        Node(Op.ADD, (0, 1), (0, 5), -128, 127),
    )
    assert count_gates(Graph(nodes, (2,), formats, formats)) == 0


@pytest.mark.parametrize("bits", [2, 3, 8, 20])
def test_a_relu_costs_one_gate_less_than_bits(bits):
    assert gates([(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)], lambda build, x: build.relu(x)) == bits - 1


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [1, 3, 6])
def test_a_comparison_costs_less_than_one_gate_per_bit(bits, signed):
    low = -(1 << bits >> 1) if signed else 0
    costs = [
        gates([(low, low + 2**bits - 1)], lambda build, x, c=constant: build.at_most(x, c))
        for constant in range(low - 1, low + 2**bits + 1)
    ]
    assert max(costs) == bits - 1


@pytest.mark.parametrize("way", [greater_serially, greater_in_halves])
@pytest.mark.parametrize("signed", [False, True])
def test_both_ways_to_compare_are_right(way, signed):
    low = -8 if signed else 0
    words = np.arange(low, low + 16)
    for constant in range(low - 3, low + 19):
        net = Netlist()
        net.inputs = [net.word(4)]
        net.outputs = [[way(net, net.inputs[0], signed, constant)]]
        [[found]] = net.evaluate([bits_of(words, Format(low, low + 15, 0))], 16)
        assert [bool(found >> row & 1) for row in range(16)] == (words > constant).tolist()


def test_many_comparisons_of_one_word_share_gates():
    single = sum(count_gates(comparators(seed, 1)) for seed in range(100, 200))
    assert count_gates(comparators(7, 100)) < 0.6 * single


def test_saturation_where_the_word_cannot_exceed_the_format_is_free():
    build = Builder([Format(-128, 127, 0), Format(0, 255, 0)])
    assert count_gates(build.graph([build.saturated_input(0), build.saturated_input(1)], [0, 0])) == 0


def test_a_clamp_costs_its_comparisons_and_a_gate_per_bit_and_limit():
    # Above 200: x7 & x6 & (x5 | x4 | x3 & (x2 | x1 | x0)), then one gate for each of the eight bits.
    assert gates([(0, 255)], lambda build, x: build.clamp(x, 0, 200)) == 7 + 8


def test_inverters_shifts_constants_and_wiring_are_free():
    def wiring(build, x):
        bits = [build.at_most(x, 127), build.negation(build.at_most(x, 127))]
        return [build.floor(x, 3), build.join(bits), build.constant(77), build.add(x, build.constant(0), 4, 0)]

    assert gates([(0, 255)], wiring) == 0


def test_shared_nodes_count_once():
    def twice(build, x, z):
        total = build.add(x, z)
        return [total, build.add(total, build.constant(0), 3, 0), build.floor(total, 2)]

    words = [(-128, 127), (-128, 127)]
    assert gates(words, twice) == gates(words, lambda build, x, z: build.add(x, z))


def test_equal_gates_of_different_nodes_count_once():
    formats = (Format(0, 255, 0),) * 2
    ports = [Node(Op.INPUT, (), (port,), 0, 255) for port in range(2)]
    sums = [Node(Op.ADD, args, (0, 0), 0, 510) for args in ((0, 1), (1, 0), (0, 1))]
    graph = Graph((*ports, *sums), (2, 3, 4), formats, (Format(0, 510, 0),) * 3)
    assert count_gates(graph) == 37


def test_gates_that_no_output_needs_do_not_count():
    words = [(0, 255), (0, 255)]
    # The last carry alone does not need the eight exclusive ors that end a sum.
    assert gates(words, lambda build, x, z: build.floor(build.add(x, z), 8)) == 37 - 8


def test_depth_is_the_longest_path():
    build = Builder([Format(0, 1, 0)] * 4)
    a, b, c, d = (build.input(port) for port in range(4))
    graph = build.graph([build.conjunction(build.disjunction(build.conjunction(a, b), c), d), a], [0, 0])
    assert Netlist.of(graph).depth == 3
    assert Netlist.of(build.graph([a], [0])).depth == 0


def test_too_many_gates_are_refused(monkeypatch):
    monkeypatch.setattr(_gates, "MAX_GATES", 20)
    with pytest.raises(ValueError, match=r"^the circuit has more than 20 gates; make the model smaller or epsilon"):
        gates([(0, 255), (0, 255)], lambda build, x, z: build.add(x, z))
