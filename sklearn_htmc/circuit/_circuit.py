"""A compiled circuit: a graph with what was measured of it, saved and loaded as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._graph import Graph, Node, Op, verify

_VERSION = 1  # of the file format


@dataclass(frozen=True, eq=False, repr=False)
class Circuit(Graph):
    """A verified integer circuit of a fitted model.

    Attributes
    ----------
    nodes : tuple of Node
        Operations on integers, arguments first.
    outputs : tuple of int
        The nodes that drive the output ports.
    input_formats, output_formats : tuple of Format
        Fixed-point formats of the ports. Inputs saturate at the ends of their range.
    epsilon : float
        What the error was allowed to be.
    error : float
        Root mean square difference between circuit and model on the rows it was compiled for, measured by
        simulation, as a fraction of the standard deviation of the target.
    n_gates : int
        Two-input gates; see `count_gates`.
    depth : int
        Gates on the longest path.
    """

    epsilon: float
    error: float

    @classmethod
    def of(cls, graph: Graph, *, epsilon: float, error: float) -> Circuit:
        """Return a graph with its measured error."""
        return cls(graph.nodes, graph.outputs, graph.input_formats, graph.output_formats, epsilon=epsilon, error=error)

    @cached_property
    def _counted(self) -> tuple[int, int]:
        netlist = Netlist.of(self)
        return len(netlist.live()), netlist.depth

    @property
    def n_gates(self) -> int:
        """Two-input gates."""
        return self._counted[0]

    @property
    def depth(self) -> int:
        """Gates on the longest path from an input to an output."""
        return self._counted[1]

    def __repr__(self) -> str:
        """Say the sizes; `text` says every node."""
        return (
            f"Circuit(n_inputs={len(self.input_formats)}, n_outputs={len(self.outputs)}, n_nodes={len(self.nodes)}, "
            f"n_gates={self.n_gates}, depth={self.depth}, error={self.error:.3g}, epsilon={self.epsilon:g})"
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the circuit to a JSON file."""
        content = {
            "version": _VERSION,
            "epsilon": self.epsilon,
            "error": self.error,
            "inputs": [[form.low, form.high, form.exponent] for form in self.input_formats],
            "outputs": [
                {"node": number, "exponent": form.exponent}
                for number, form in zip(self.outputs, self.output_formats, strict=True)
            ],
            "nodes": [[node.op.value, list(node.args), list(node.data), node.low, node.high] for node in self.nodes],
        }
        Path(path).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Circuit:
        """Read a circuit from a JSON file and verify it.

        Raises
        ------
        ValueError
            If the file does not hold a circuit, or one that is not well formed.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["version"] != _VERSION:
                raise ValueError(f"version {content['version']} is not known, only {_VERSION} is")
            circuit = cls._read(content)
            verify(circuit)
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise ValueError(f"{path} does not hold a circuit: {reason}.") from error
        return circuit

    @classmethod
    def _read(cls, content: dict[str, Any]) -> Circuit:
        nodes = tuple(
            Node(Op(op), tuple(map(index, args)), tuple(map(index, data)), index(low), index(high))
            for op, args, data, low, high in content["nodes"]
        )
        numbers = tuple(index(output["node"]) for output in content["outputs"])
        exponents = [index(output["exponent"]) for output in content["outputs"]]
        formats = (
            Format(nodes[number].low, nodes[number].high, exponent)
            for number, exponent in zip(numbers, exponents, strict=True)
        )
        inputs = tuple(Format(*map(index, form)) for form in content["inputs"])
        return cls(
            nodes, numbers, inputs, tuple(formats), epsilon=float(content["epsilon"]), error=float(content["error"])
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached values out of pickles."""
        return {key: value for key, value in self.__dict__.items() if key != "_counted"}
