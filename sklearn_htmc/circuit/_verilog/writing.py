"""A circuit as a Verilog module, a few lines per node, written so that synthesis starts from the counted gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._gates import (
    Netlist,
    Wires,
    Word,
    greater_serially,
    heap_of_adders,
    row_of_adders,
    ways_to_compare,
)
from sklearn_htmc.circuit._graph import Graph, Node, Op, needed, require_graph
from sklearn_htmc.circuit._names import check_verilog_name

Lines = list[str]


def to_verilog(circuit: Graph, name: str = "model", *, adders: str = "ripple") -> str:
    """Return a circuit as one combinational module in synthesizable Verilog-2001.

    The ports ``x0, x1, ...`` and ``y0, ...`` carry the integers of the input and output formats, in two's complement
    where a format is signed; a port without bits has one, which is not read or zero. All widths are explicit and no
    vector depends on itself: linting with ``verilator --lint-only -Wall`` finds nothing.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    name : str, default="model"
        Name of the module.
    adders : {"ripple", "operator"}, default="ripple"
        How sums and comparisons are written. With "ripple", in the gates that `count_gates` counts; with "operator",
        as ``+``, ``-`` and ``<=``: take it for FPGAs, whose tools make carry chains of these.

    Raises
    ------
    TypeError
        If circuit is none.
    ValueError
        If the name is not a Verilog identifier, is a reserved word of Verilog or SystemVerilog or a name that the
        module uses, or adders is not one of the two.

    Examples
    --------
    >>> from sklearn_htmc.circuit import Builder, Format, to_verilog
    >>> build = Builder([Format(0, 200, 0)])
    >>> print(to_verilog(build.graph([build.at_most(build.input(0), 63)], [0]), "late"), end="")
    module late (
        // verilator lint_off UNUSED
        input [7:0] x0,  // 0 .. 200 times 2^0
        output y0  // 0 .. 1 times 2^0
    );
        wire [7:0] n0 = x0;  // 0 .. 255
        wire n1 = ~(n0[6] | n0[7]);  // 0 .. 1
        assign y0 = n1;
        // verilator lint_on UNUSED
    endmodule
    """
    require_graph(circuit)
    check_verilog_name(name)
    if adders not in _ADDERS:
        raise ValueError(f"adders must be one of {', '.join(_ADDERS)}, got {adders!r}.")
    ports = [("input", f"x{port}", form) for port, form in enumerate(circuit.input_formats)]
    ports += [("output", f"y{port}", form) for port, form in enumerate(circuit.output_formats)]
    compared = _ADDERS[adders][1](circuit)
    # Bits that are dropped and features that are not read are meant to be.
    lines = [f"module {name} (", "    // verilator lint_off UNUSED", *_ports(ports), ");"]
    for number, node in needed(circuit):
        lines += [f"    {line}" for line in _node(circuit, number, node, adders, compared)]
    lines += [f"    assign y{port} = n{number};" for port, number in enumerate(circuit.outputs)]
    return "\n".join([*lines, "    // verilator lint_on UNUSED", "endmodule", ""])


def _ports(ports: Sequence[tuple[str, str, Format]]) -> Lines:
    lines = []
    for place, (way, name, form) in enumerate(ports, start=1):
        comma = "," if place < len(ports) else ""
        lines.append(f"    {way} {_type(form)}{name}{comma}  // {form}")
    return lines


def _type(word: Node | Format) -> str:
    """Return the sign and the range of a declaration; words of one bit have no range, and none are shorter."""
    return ("signed " if word.signed else "") + (f"[{word.width - 1}:0] " if word.width > 1 else "")


def _literal(value: int, like: Node) -> str:
    """Return a constant of the width and sign of a word."""
    bits = max(like.width, 1)
    return f"{bits}'{'s' if like.signed else ''}h{value & ((1 << bits) - 1):x}"


def _bit(name: str, word: Node, place: int) -> str:
    return f"{name}[{place}]" if word.width > 1 else name


def _places(name: str, word: Node, first: int, count: int) -> str:
    """Return some places of a word, lowest first, as an expression of that many bits.

    Places below the word are zero, those above it have its sign.
    """
    width, end = max(word.width, 1), first + count
    start, stop = min(max(first, 0), width), max(min(end, width), 0)
    parts = []
    above = end - max(stop, first, 0)
    if above > 0:
        sign = _bit(name, word, width - 1) if word.signed else "1'b0"
        parts.append(f"{{{above}{{{sign}}}}}" if above > 1 else sign)
    if stop - start == width:
        parts.append(name)
    elif stop > start:
        parts.append(f"{name}[{stop - 1}:{start}]" if stop - start > 1 else _bit(name, word, start))
    if first < 0:
        parts.append(f"{min(-first, count)}'b0")
    return parts[0] if len(parts) == 1 else f"{{{', '.join(parts)}}}"


# --- the operations -------------------------------------------------------------------------------

Argument = tuple[str, Node]
Write = Callable[[str, Node, Sequence[Argument]], Lines]


def _node(graph: Graph, number: int, node: Node, adders: str, compared: dict[int, Lines]) -> Lines:
    """Return the lines that declare a node."""
    name, args = f"n{number}", [(f"n{arg}", graph.nodes[arg]) for arg in node.args]
    if number in compared:
        *lines, value = compared[number]
    else:
        *lines, value = (_WRITE | _ADDERS[adders][0])[node.op](name, node, args)
    return [*lines, f"wire {_type(node)}{name} = {value};  // {node.low} .. {node.high}"]


def _in_gates(write: Callable[[Netlist, Node, Sequence[Word]], Wires]) -> Write:
    """Return what writes a sum in the gates of its adders."""

    def lines_of(name: str, node: Node, args: Sequence[Argument]) -> Lines:
        net = Netlist()
        words = [(_constant(arg) if arg.low == arg.high else net.word(arg.width), arg) for _, arg in args]
        net.inputs = [wires for wires, _ in words]
        net.outputs = [write(net, node, words)]
        lines, wires = _expressions(net, name, args)
        return [*lines, f"{{{', '.join(reversed(wires))}}}"]

    return lines_of


def _constant(word: Node) -> Wires:
    return [word.low >> place & 1 for place in range(word.width)]


def _operator_heap(name: str, node: Node, args: Sequence[Argument]) -> Lines:
    """Write a sum of many words with operators, each word as wide as the sum."""
    terms = [_literal(node.data[0], node)] if node.data[0] else []
    lines = []
    for place, (argument, weight) in enumerate(zip(args, node.data[1:], strict=True)):
        term = f"{name}_{place}"
        lines.append(_operand(term, node, argument, abs(weight).bit_length() - 1))
        terms.append(f"- {term}" if weight < 0 else f"+ {term}" if terms else term)
    return [*lines, " ".join(terms)]


def _operator(name: str, node: Node, args: Sequence[Argument]) -> Lines:
    names = (f"{name}_a", f"{name}_b")
    lines = [
        _operand(operand, node, argument, shift)
        for operand, argument, shift in zip(names, args, node.data, strict=True)
    ]
    return [*lines, f" {'-' if node.op is Op.SUBTRACT else '+'} ".join(names)]


def _operand(name: str, node: Node, argument: Argument, shift: int) -> str:
    """Declare a shifted word that is as wide as a sum."""
    return f"wire {_type(node)}{name} = {_places(*argument, -shift, max(node.width, 1))};"


def _relu(_: str, node: Node, args: Sequence[Argument]) -> Lines:
    text, arg = args[0]
    value = _places(text, arg, 0, node.width)
    return [f"{value} & {{{node.width}{{~{_bit(text, arg, arg.width - 1)}}}}}" if arg.signed else value]


def _clamp(name: str, node: Node, args: Sequence[Argument]) -> Lines:
    text, arg = args[0]
    lines, value = [], _places(text, arg, 0, node.width)
    if arg.high > node.high:
        lines.append(f"wire {name}_above = {_greater(text, arg, node.high)};")
        value = f"{name}_above ? {_literal(node.high, node)} : {value}"
    if arg.low < node.low:
        lines.append(f"wire {name}_inside = {_greater(text, arg, node.low - 1)};")
        value = f"{name}_inside ? ({value}) : {_literal(node.low, node)}"
    return [*lines, value]


_WRITE: dict[Op, Write] = {
    Op.INPUT: lambda _, node, __: [f"x{node.data[0]}"],
    Op.CONSTANT: lambda _, node, __: [_literal(node.data[0], node)],
    Op.ADD: _in_gates(row_of_adders),
    Op.SUBTRACT: _in_gates(row_of_adders),
    Op.SUM: _in_gates(heap_of_adders),
    Op.FLOOR: lambda _, node, args: [_places(*args[0], node.data[0], node.width)],
    Op.RELU: _relu,
    Op.CLAMP: _clamp,
    Op.AT_MOST: lambda _, node, args: [f"{args[0][0]} <= {_literal(node.data[0], args[0][1])}"],
    Op.BIT: lambda _, node, args: [_places(*args[0], node.data[0], 1)],
    Op.NOT: lambda _, __, args: [f"~{args[0][0]}"],
    Op.AND: lambda _, __, args: [f"{args[0][0]} & {args[1][0]}"],
    Op.OR: lambda _, __, args: [f"{args[0][0]} | {args[1][0]}"],
    Op.XOR: lambda _, __, args: [f"{args[0][0]} ^ {args[1][0]}"],
    Op.JOIN: lambda _, node, args: [f"{{{', '.join(text for text, _ in reversed(args[: node.width]))}}}"],
}


# --- comparisons with constants, gate by gate -----------------------------------------------------


def _greater(text: str, word: Node, constant: int) -> str:
    """Return the expression "word > constant", a chain from the lowest bit on."""
    net = Netlist()
    net.inputs = [net.word(word.width)]
    net.outputs = [[greater_serially(net, net.inputs[0], word.signed, constant)]]
    return _expressions(net, text, [(text, word)])[1][0]


def _comparisons(graph: Graph) -> dict[int, Lines]:
    """Return the lines that every comparison needs, its value last; shared gates come with the first reader."""
    texts: dict[int, Lines] = {}
    for arg, (greater, numbers) in ways_to_compare(graph).items():
        net, word = Netlist(), graph.nodes[arg]
        net.inputs = [net.word(word.width)]
        constants = [graph.nodes[number].data[0] for number in numbers]
        net.outputs = [[greater(net, net.inputs[0], word.signed, constant) ^ 1 for constant in constants]]
        lines, values = _expressions(net, f"n{arg}", [(f"n{arg}", word)])
        for number, value in zip(numbers, values, strict=True):
            texts[number] = [*lines, value]
            lines = []
    return texts


def _expressions(net: Netlist, name: str, words: Sequence[Argument]) -> tuple[Lines, list[str]]:
    """Return declarations of the gates that are read more than once, and the output wires as expressions."""
    texts = {0: ("1'b0", "1'b1")}
    for wires, (text, word) in zip(net.inputs, words, strict=True):
        for place, wire in enumerate(wires):
            if wire > 1:  # no constant
                texts[wire >> 1] = _bit(text, word, place), f"~{_bit(text, word, place)}"
    live = net.live()
    reads = Counter(wire >> 1 for number in live for wire in net.operands(number))
    reads.update(wire >> 1 for wire in net.outputs[0])
    lines = []
    for number in live:
        a, b = net.operands(number)
        if net.is_exclusive(number):
            texts[number] = f"({texts[a >> 1][0]} ^ {texts[b >> 1][0]})", f"~({texts[a >> 1][0]} ^ {texts[b >> 1][0]})"
        elif a & b & 1:
            texts[number] = f"~({texts[a >> 1][0]} | {texts[b >> 1][0]})", f"({texts[a >> 1][0]} | {texts[b >> 1][0]})"
        else:
            both = f"({texts[a >> 1][a & 1]} & {texts[b >> 1][b & 1]})"
            texts[number] = both, f"~{both}"
        if reads[number] > 1:
            lines.append(f"wire {name}_{number} = {texts[number][0]};")
            texts[number] = f"{name}_{number}", f"~{name}_{number}"
    return lines, [texts[wire >> 1][wire & 1] for wire in net.outputs[0]]


# How sums and how comparisons are written.
_ADDERS: dict[str, tuple[dict[Op, Write], Callable[[Graph], dict[int, Lines]]]] = {
    "ripple": ({}, _comparisons),
    "operator": ({Op.ADD: _operator, Op.SUBTRACT: _operator, Op.SUM: _operator_heap}, lambda _: {}),
}
