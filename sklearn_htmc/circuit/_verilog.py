"""A circuit as a Verilog module, a few lines per node, written so that synthesis starts from the counted gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._gates import Netlist, greater_serially, heap_of_adders, ways_to_compare
from sklearn_htmc.circuit._graph import Graph, Node, Op, needed, require_graph
from sklearn_htmc.circuit._names import check_verilog_name

Lines = list[str]


def to_verilog(circuit: Graph, name: str = "model", *, adders: str = "ripple") -> str:
    """Return a circuit as one combinational module in synthesizable Verilog-2001.

    The ports ``x0, x1, ...`` and ``y0, ...`` carry the integers of the input and output formats, in two's complement
    where a format is signed; a port without bits has one, which is not read or zero.

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
        input [7:0] x0,  // 0 .. 200 times 2^0
        output y0  // 0 .. 1 times 2^0
    );
        wire [7:0] n0 = x0;  // 0 .. 255
        wire n1 = ~(n0[6] | n0[7]);  // 0 .. 1
        assign y0 = n1;
    endmodule
    """
    require_graph(circuit)
    check_verilog_name(name)
    if adders not in _ADDERS:
        raise ValueError(f"adders must be one of {', '.join(_ADDERS)}, got {adders!r}.")
    ports = [("input", f"x{port}", form) for port, form in enumerate(circuit.input_formats)]
    ports += [("output", f"y{port}", form) for port, form in enumerate(circuit.output_formats)]
    compared = _ADDERS[adders][1](circuit)
    lines = [f"module {name} (", *_ports(ports), ");"]
    for number, node in needed(circuit):
        lines += [f"    {line}" for line in _node(circuit, number, node, adders, compared)]
    lines += [f"    assign y{port} = n{number};" for port, number in enumerate(circuit.outputs)]
    return "\n".join([*lines, "endmodule", ""])


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


# --- the operations -------------------------------------------------------------------------------

Argument = tuple[str, Node]


def _node(graph: Graph, number: int, node: Node, adders: str, compared: dict[int, Lines]) -> Lines:
    """Return the lines that declare a node."""
    name, args = f"n{number}", [(f"n{arg}", graph.nodes[arg]) for arg in node.args]
    if number in compared:
        *lines, value = compared[number]
    else:
        *lines, value = (_WRITE | _ADDERS[adders][0])[node.op](name, node, args)
    return [*lines, f"wire {_type(node)}{name} = {value};  // {node.low} .. {node.high}"]


def _operands(name: str, node: Node, args: Sequence[Argument], complement: str = "") -> str:
    """Declare the operands of a sum, as wide as it: in one expression signed and unsigned words would not mix."""
    a, b = (f"({text} <<< {shift})" if shift else text for (text, _), shift in zip(args, node.data, strict=True))
    return f"wire {_type(node)}{name}_a = {a}, {name}_b = {complement}{b};"


def _ripple(name: str, node: Node, args: Sequence[Argument]) -> Lines:
    """Write a sum as a row of full adders: the halves without carry, and all the carries."""
    negated = node.op is Op.SUBTRACT
    carries = f"{name}_c[{node.width - 1}:0]"
    return [
        _operands(name, node, args, "~" if negated else ""),
        f"wire {_type(node)}{name}_h = {name}_a ^ {name}_b;",
        f"wire [{node.width}:0] {name}_c;",
        f"assign {name}_c = {{{name}_a & {name}_b | {name}_h & {carries}, 1'b{int(negated)}}};",
        f"{name}_h ^ {carries}",
    ]


def _heap(name: str, node: Node, args: Sequence[Argument]) -> Lines:
    """Write a sum of many words in the gates of its heap of adders."""
    net = Netlist()
    net.inputs = [net.word(arg.width) for _, arg in args]
    net.outputs = [heap_of_adders(net, node, [(wires, arg) for wires, (_, arg) in zip(net.inputs, args, strict=True)])]
    lines, wires = _expressions(net, name, args)
    return [*lines, f"{{{', '.join(reversed(wires))}}}"]


def _operator_heap(name: str, node: Node, args: Sequence[Argument]) -> Lines:
    """Write a sum of many words with operators, each word as wide as the sum."""
    terms = [_literal(node.data[0], node)] if node.data[0] else []
    lines = []
    for place, ((text, _), weight) in enumerate(zip(args, node.data[1:], strict=True)):
        lines.append(f"wire {_type(node)}{name}_{place} = {text};")
        shift = abs(weight).bit_length() - 1
        term = f"({name}_{place} <<< {shift})" if shift else f"{name}_{place}"
        terms.append(f"- {term}" if weight < 0 else f"+ {term}" if terms else term)
    return [*lines, " ".join(terms)]


def _operator(name: str, node: Node, args: Sequence[Argument]) -> Lines:
    return [_operands(name, node, args), f"{name}_a {'-' if node.op is Op.SUBTRACT else '+'} {name}_b"]


def _relu(_: str, node: Node, args: Sequence[Argument]) -> Lines:
    text, arg = args[0]
    return [f"{text} & {{{node.width}{{~{_bit(text, arg, arg.width - 1)}}}}}" if arg.signed else text]


def _clamp(name: str, node: Node, args: Sequence[Argument]) -> Lines:
    text, arg = args[0]
    lines, value = [], text
    if arg.high > node.high:
        lines.append(f"wire {name}_above = {_greater(text, arg, node.high)};")
        value = f"{name}_above ? {_literal(node.high, arg)} : {value}"
    if arg.low < node.low:
        lines.append(f"wire {name}_inside = {_greater(text, arg, node.low - 1)};")
        value = f"{name}_inside ? ({value}) : {_literal(node.low, arg)}"
    return [*lines, value]


Write = Callable[[str, Node, Sequence[Argument]], Lines]

_WRITE: dict[Op, Write] = {
    Op.INPUT: lambda _, node, __: [f"x{node.data[0]}"],
    Op.CONSTANT: lambda _, node, __: [_literal(node.data[0], node)],
    Op.ADD: _ripple,
    Op.SUBTRACT: _ripple,
    Op.SUM: _heap,
    Op.FLOOR: lambda _, node, args: [f"{args[0][0]} >>> {node.data[0]}"],
    Op.RELU: _relu,
    Op.CLAMP: _clamp,
    Op.AT_MOST: lambda _, node, args: [f"{args[0][0]} <= {_literal(node.data[0], args[0][1])}"],
    Op.BIT: lambda _, node, args: [_bit(*args[0], min(node.data[0], args[0][1].width - 1))],
    Op.NOT: lambda _, __, args: [f"~{args[0][0]}"],
    Op.AND: lambda _, __, args: [f"{args[0][0]} & {args[1][0]}"],
    Op.OR: lambda _, __, args: [f"{args[0][0]} | {args[1][0]}"],
    Op.XOR: lambda _, __, args: [f"{args[0][0]} ^ {args[1][0]}"],
    Op.JOIN: lambda _, __, args: [f"{{{', '.join(text for text, _ in reversed(args))}}}"],
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
