"""Graphs made again, node by node, with other definitions of some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._graph import Builder, Graph, Node, Op

# How a builder makes a node again.
MAKE: dict[Op, Callable[[Builder, Sequence[int], tuple[int, ...]], int]] = {
    Op.INPUT: lambda build, _, data: build.input(*data),
    Op.CONSTANT: lambda build, _, data: build.constant(*data),
    Op.ADD: lambda build, args, data: build.add(*args, *data),
    Op.SUBTRACT: lambda build, args, data: build.subtract(*args, *data),
    Op.SUM: lambda build, args, data: build.sum(zip(args, data[1:], strict=True), data[0]),
    Op.FLOOR: lambda build, args, data: build.floor(*args, *data),
    Op.RELU: lambda build, args, _: build.relu(*args),
    Op.CLAMP: lambda build, args, data: build.clamp(*args, *data),
    Op.AT_MOST: lambda build, args, data: build.at_most(*args, *data),
    Op.BIT: lambda build, args, data: build.bit(*args, *data),
    Op.NOT: lambda build, args, _: build.negation(*args),
    Op.AND: lambda build, args, _: build.conjunction(*args),
    Op.OR: lambda build, args, _: build.disjunction(*args),
    Op.XOR: lambda build, args, _: build.difference(*args),
    Op.JOIN: lambda build, args, _: build.join(args),
}


class Copy:
    """Makes the nodes of a graph again in a builder.

    Attributes
    ----------
    build : Builder
        The builder.
    made : dict of int to int
        New numbers of nodes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.build = graph, Builder(graph.input_formats)
        self.made: dict[int, int] = {}

    def make(self, number: int, node: Node | None = None) -> int:
        """Make a node whose arguments have been made, or another definition of it."""
        node = self.graph.nodes[number] if node is None else node
        args = [self.made[arg] for arg in node.args]
        if node.op in (Op.AND, Op.OR) and node.data:
            args = [
                self.build.negation(arg) if inverted else arg for arg, inverted in zip(args, node.data, strict=True)
            ]
        self.made[number] = MAKE[node.op](self.build, args, node.data)
        return self.made[number]

    def unpruned(self) -> Graph:
        """Return the graph of all nodes that have been made."""
        nodes, outputs = tuple(self.build.nodes), tuple(self.made[number] for number in self.graph.outputs)
        exponents = (form.exponent for form in self.graph.output_formats)
        ends = zip(outputs, exponents, strict=True)
        formats = tuple(Format(nodes[number].low, nodes[number].high, exponent) for number, exponent in ends)
        return Graph(nodes, outputs, self.graph.input_formats, formats)

    def pruned(self) -> Graph:
        """Return the graph of what the outputs need."""
        exponents = [form.exponent for form in self.graph.output_formats]
        return self.build.graph([self.made[number] for number in self.graph.outputs], exponents)
