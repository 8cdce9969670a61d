"""The ends of a circuit: words of given formats in front of it and behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._graph import Builder, Graph, Op
from sklearn_htmc.circuit._resynthesis.copying import MAKE, Copy


@dataclass(frozen=True)
class Ends:
    """What is put behind circuits before they are measured and counted.

    Attributes
    ----------
    outputs : mapping from int to Format
        Given formats of output ports.
    places : sequence of int
        Binary exponents of the units that outputs are computed in, where the unit of a given port is its code.
    error : float
        Error that rounding to these formats causes by itself.
    """

    outputs: Mapping[int, Format] = field(default_factory=dict)
    places: Sequence[int] = ()
    error: float = 0.0

    def behind(self, graph: Graph) -> Graph:
        """Return a circuit whose outputs are rounded to their codes and saturate at the ends of their formats.

        The half that rounding adds goes into the constant of a sum where the output is one.
        """
        if not self.outputs:
            return graph
        copy = Copy(graph)
        for number in range(len(graph.nodes)):
            copy.make(number)
        ends, exponents = list[int](), list[int]()
        for port, number in enumerate(graph.outputs):
            node, exponent = copy.made[number], graph.output_formats[port].exponent
            if port in self.outputs:
                form, unit = self.outputs[port], -self.places[port]
                node = copy.build.clamp(_rounded(copy.build, node, unit - exponent), form.low, form.high)
                exponent = unit
            ends.append(node)
            exponents.append(exponent)
        return copy.build.graph(ends, exponents)


def _rounded(build: Builder, number: int, places: int) -> int:
    """Make a word without its lowest places, rounded; with more places if there are too few."""
    if places <= 0:
        return build.sum([(number, 1 << -places)])
    half, node = 1 << (places - 1), build.nodes[number]
    if node.op is Op.SUM:
        raised = build.sum(zip(node.args, node.data[1:], strict=True), node.data[0] + half)
    elif node.op in (Op.ADD, Op.SUBTRACT):
        sign = -1 if node.op is Op.SUBTRACT else 1
        first, second = node.data
        raised = build.sum([(node.args[0], 1 << first), (node.args[1], sign << second)], half)
    else:
        raised = build.sum([(number, 1)], half)
    return build.floor(raised, places)


def with_inputs(graph: Graph, formats: Mapping[int, Format]) -> Graph:
    """Return a circuit that reads the words of given formats; its own are those without some of their lowest bits."""
    if not formats:
        return graph
    own = graph.input_formats
    build = Builder([formats.get(port, form) for port, form in enumerate(own)])
    made = list[int]()
    for node in graph.nodes:
        args, data = [made[arg] for arg in node.args], node.data
        if node.op is Op.INPUT and node.data[0] in formats:
            (port,) = node.data
            made.append(build.floor(build.input(port), own[port].exponent))
            continue
        if args and build.nodes[args[0]].op is Op.FLOOR and node.op in (Op.AT_MOST, Op.BIT):
            # Of the whole word the comparison or the bit is the same, and the shorter one need not be made.
            floor = build.nodes[args[0]]
            (places,), args = floor.data, [floor.args[0]]
            (constant,) = data
            data = ((constant + 1 << places) - 1,) if node.op is Op.AT_MOST else (constant + places,)
        made.append(MAKE[node.op](build, args, data))
    exponents = [form.exponent for form in graph.output_formats]
    return build.graph([made[number] for number in graph.outputs], exponents)


def with_outputs(graph: Graph, formats: Mapping[int, Format]) -> Graph:
    """Return a circuit that says the given formats of its outputs."""
    ends = tuple(formats.get(port, form) for port, form in enumerate(graph.output_formats))
    return replace(graph, output_formats=ends)
