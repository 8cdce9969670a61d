"""A compiled circuit: a graph with what was measured of it, saved and loaded as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._graph import Graph, node_rows, nodes_of, verify

_VERSION = 2  # of the file format
_KNOWN = (1, 2)  # the first one has no sums of more than two words, no BIT, no XOR and no error elsewhere


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
    error_elsewhere : float
        The same difference, always from the model, on rows near those at hand that no search has seen: every row has
        some entries of other rows. NaN where it was not measured.
    n_gates : int
        Two-input gates; see `count_gates`.
    depth : int
        Gates on the longest path.
    """

    epsilon: float
    error: float
    error_elsewhere: float = math.nan

    @classmethod
    def of(cls, graph: Graph, *, epsilon: float, error: float, error_elsewhere: float = math.nan) -> Circuit:
        """Return a graph with its measured errors."""
        return cls(
            graph.nodes,
            graph.outputs,
            graph.input_formats,
            graph.output_formats,
            epsilon=epsilon,
            error=error,
            error_elsewhere=error_elsewhere,
        )

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
            f"n_gates={self.n_gates}, depth={self.depth}, error={self.error:.3g}, "
            f"error_elsewhere={self.error_elsewhere:.3g}, epsilon={self.epsilon:g})"
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the circuit to a JSON file."""
        content = {
            "version": _VERSION,
            "epsilon": self.epsilon,
            "error": self.error,
            "error_elsewhere": None if math.isnan(self.error_elsewhere) else self.error_elsewhere,
            "inputs": [[form.low, form.high, form.exponent] for form in self.input_formats],
            "outputs": [
                {"node": number, "exponent": form.exponent}
                for number, form in zip(self.outputs, self.output_formats, strict=True)
            ],
            "nodes": node_rows(self.nodes),
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
            if content["version"] not in _KNOWN:
                known = " and ".join(map(str, _KNOWN))
                raise ValueError(f"version {content['version']} is not known, only {known} are")
            circuit = cls._read(content)
            verify(circuit)
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise ValueError(f"{path} does not hold a circuit: {reason}.") from error
        return circuit

    @classmethod
    def _read(cls, content: dict[str, Any]) -> Circuit:
        nodes = nodes_of(content["nodes"])
        numbers = tuple(index(output["node"]) for output in content["outputs"])
        exponents = [index(output["exponent"]) for output in content["outputs"]]
        formats = (
            Format(nodes[number].low, nodes[number].high, exponent)
            for number, exponent in zip(numbers, exponents, strict=True)
        )
        inputs = tuple(Format(*map(index, form)) for form in content["inputs"])
        elsewhere = content.get("error_elsewhere")
        return cls(
            nodes,
            numbers,
            inputs,
            tuple(formats),
            epsilon=float(content["epsilon"]),
            error=float(content["error"]),
            error_elsewhere=math.nan if elsewhere is None else float(elsewhere),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached values out of pickles."""
        return {key: value for key, value in super().__getstate__().items() if key != "_counted"}
