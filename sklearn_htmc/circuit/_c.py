"""A circuit as a C function: one line per node, plain integer arithmetic with no behaviour left to the compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sklearn_htmc.circuit._fixed_point import width
from sklearn_htmc.circuit._graph import Graph, Node, Op, largest_part, needed, require_graph
from sklearn_htmc.circuit._names import check_c_name

_SHORT = 31  # bits of words that are computed in int32_t
_PORT = 31  # bits of an int32_t beside its sign


def to_c(circuit: Graph, name: str = "model") -> str:
    """Return a circuit as a C99 function ``void model(const int32_t *x, int64_t *y)``.

    It reads one code per feature and writes one per output. Input codes are integers of the input formats: real values
    divided by the step, rounded. Codes that do not fit into the word of their port are saturated at its ends, so that
    the function is defined for every argument; for codes that fit it computes what `simulate` and the Verilog compute.
    Only ``stdint.h`` is included. No operation overflows, no negative number is shifted.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    name : str, default="model"
        Name of the function.

    Raises
    ------
    TypeError
        If circuit is none.
    ValueError
        If the name is not a C identifier, or one that C, C++, their library or the function itself uses, or a port
        does not fit into ``int32_t``.

    Examples
    --------
    >>> from sklearn_htmc.circuit import Builder, Format, to_c
    >>> build = Builder([Format(0, 200, 0)])
    >>> print(to_c(build.graph([build.at_most(build.input(0), 63)], [0]), "late"), end="")
    #include <stdint.h>
    <BLANKLINE>
    /* x[0]: 0 .. 200 times 2^0
       y[0]: 0 .. 1 times 2^0 */
    void late(const int32_t *x, int64_t *y)
    {
        const int32_t n0 = x[0] < 0 ? 0 : x[0] > 255 ? 255 : x[0];  /* 0 .. 255 */
        const int32_t n1 = n0 <= 63;  /* 0 .. 1 */
        y[0] = n1;
    }
    """
    require_graph(circuit)
    check_c_name(name)
    for port, form in enumerate(circuit.input_formats):
        if form.width - form.signed > _PORT:
            raise ValueError(f"x{port} must fit into int32_t, got {form.width} bits; make its format coarser.")
    nodes = needed(circuit)
    lines = ["#include <stdint.h>", ""]
    if any(node.op in (Op.FLOOR, Op.BIT) for _, node in nodes):
        lines += _floor_function(name)
    lines += [*_comment(circuit), f"void {name}(const int32_t *x, int64_t *y)", "{"]
    if not any(node.op is Op.INPUT for _, node in nodes):
        lines.append("    (void)x;")
    if not circuit.outputs:
        lines.append("    (void)y;")
    lines += [_line(name, circuit, number, node) for number, node in nodes]
    lines += [f"    y[{port}] = n{number};" for port, number in enumerate(circuit.outputs)]
    return "\n".join([*lines, "}", ""])


def _comment(circuit: Graph) -> list[str]:
    ports = [f"x[{port}]: {form}" for port, form in enumerate(circuit.input_formats)]
    ports += [f"y[{port}]: {form}" for port, form in enumerate(circuit.output_formats)]
    return ("/* " + "\n   ".join(ports or ["no ports"]) + " */").split("\n")


def _floor_function(name: str) -> list[str]:
    # A right shift of a negative number is up to the compiler; that of -1 - a is not.
    return [
        f"static inline int64_t {name}_floor(int64_t a, int s)",
        "{",
        "    return a < 0 ? -1 - ((-1 - a) >> s) : a >> s;",
        "}",
        "",
    ]


def _line(name: str, circuit: Graph, number: int, node: Node) -> str:
    args = [(f"n{arg}", circuit.nodes[arg]) for arg in node.args]
    kind, value = "int32_t" if node.width <= _SHORT else "int64_t", _WRITE[node.op](name, node, args)
    if node.width <= _SHORT and _is_wide(node, args):
        value = f"(int32_t)({value})"
    return f"    const {kind} n{number} = {value};  /* {node.low} .. {node.high} */"


Argument = tuple[str, Node]


def _is_wide(node: Node, args: Sequence[Argument]) -> bool:
    """Return whether the value of a node is computed in int64_t."""
    words = [arg for _, arg in args]
    if node.op in (Op.ADD, Op.SUBTRACT, Op.JOIN):
        shifts = range(len(words)) if node.op is Op.JOIN else node.data
        longest = max(width(arg.low, arg.high) + shift for arg, shift in zip(words, shifts, strict=True))
        return max(longest, node.width) > _SHORT
    if node.op is Op.SUM:
        return largest_part(node, words).bit_length() > _SHORT
    if node.op in (Op.FLOOR, Op.BIT):
        return True  # the function returns it
    return node.op is not Op.AT_MOST and any(arg.width > _SHORT for arg in words)


def _times(argument: Argument, shift: int, *, wide: bool) -> str:
    text, node = argument
    text = f"(int64_t){text}" if wide and node.width <= _SHORT else text
    return f"{text} * {1 << shift}" if shift else text


def _combined(sign: str, node: Node, args: Sequence[Argument], shifts: Sequence[int]) -> str:
    """Return a sum of shifted words, in int64_t where one of them or the sum needs it."""
    wide = _is_wide(node, args)
    return f" {sign} ".join(_times(arg, shift, wide=wide) for arg, shift in zip(args, shifts, strict=True))


def _sum(_: str, node: Node, args: Sequence[Argument]) -> str:
    """Return a sum of words with weights, those of one weight together; no order of adding can overflow."""
    constant, *weights = node.data
    wide = _is_wide(node, args)
    groups: dict[int, list[str]] = {}
    for (text, arg), weight in zip(args, weights, strict=True):
        groups.setdefault(weight, []).append(f"(int64_t){text}" if wide and arg.width <= _SHORT else text)
    parts = [str(constant)] if constant else []
    for weight, texts in groups.items():
        terms = " + ".join(texts) if abs(weight) == 1 else f"{_bracketed(texts)} * {abs(weight)}"
        parts.append(f"- {_bracketed(texts) if abs(weight) == 1 else terms}" if weight < 0 else f"+ {terms}")
    return " ".join(parts).removeprefix("+ ")


def _bracketed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"({' + '.join(texts)})"


def _saturated(text: str, low: int | None, high: int | None) -> str:
    """Return a word between limits, which None leaves open."""
    value = text if high is None else f"{text} > {high} ? {high} : {text}"
    return value if low is None else f"{text} < {low} ? {low} : {value}"


def _input(_: str, node: Node, __: Sequence[Argument]) -> str:
    # Comparisons that are always false are warned of.
    least, most = -(1 << _PORT), (1 << _PORT) - 1
    return _saturated(
        f"x[{node.data[0]}]", node.low if node.low > least else None, node.high if node.high < most else None
    )


def _clamp(_: str, node: Node, args: Sequence[Argument]) -> str:
    text, arg = args[0]
    return _saturated(text, node.low if arg.low < node.low else None, node.high if arg.high > node.high else None)


_WRITE: dict[Op, Callable[[str, Node, Sequence[Argument]], str]] = {
    Op.INPUT: _input,
    Op.CONSTANT: lambda _, node, __: str(node.data[0]),
    Op.ADD: lambda _, node, args: _combined("+", node, args, node.data),
    Op.SUBTRACT: lambda _, node, args: _combined("-", node, args, node.data),
    Op.SUM: _sum,
    Op.FLOOR: lambda name, node, args: f"{name}_floor({args[0][0]}, {node.data[0]})",
    Op.RELU: lambda _, __, args: _saturated(args[0][0], 0, None),
    Op.CLAMP: _clamp,
    Op.AT_MOST: lambda _, node, args: f"{args[0][0]} <= {node.data[0]}",
    Op.BIT: lambda name, node, args: f"{name}_floor({args[0][0]}, {node.data[0]}) & 1",
    Op.NOT: lambda _, __, args: f"1 - {args[0][0]}",
    Op.AND: lambda _, __, args: f"{args[0][0]} & {args[1][0]}",
    Op.OR: lambda _, __, args: f"{args[0][0]} | {args[1][0]}",
    Op.XOR: lambda _, __, args: f"{args[0][0]} ^ {args[1][0]}",
    Op.JOIN: lambda _, node, args: _combined("+", node, args, range(len(args))),
}
