"""A compiled circuit: a graph with what was measured of it, saved and loaded as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property
from os import PathLike
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from sklearn_htmc._version import __version__
from sklearn_htmc.circuit import _reading as reading
from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._gates import Netlist
from sklearn_htmc.circuit._graph import Graph, Node, Op, node_rows, verify

_VERSION = 4  # of the file format
_FIRST = ("version", "epsilon", "error", "inputs", "outputs", "nodes")
_KEYS = {
    1: _FIRST,
    2: (*_FIRST, "error_elsewhere"),
    3: (*_FIRST, "error_elsewhere", "feature_names"),
    4: (*_FIRST, "error_elsewhere", "feature_names", "objective", "prediction_ndim", "package"),
}  # of the versions that can be read
_OPS = {op.value: op for op in Op}
_FORMAT = tuple(field.name for field in fields(Format))
OBJECTIVES = ("gates", "depth")


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
    feature_names : tuple of str or None
        Names of the input ports, where the model was fitted to a frame: `simulate` refuses frames with other columns.
    objective : {"gates", "depth"}
        What the words are written for: few gates, or short paths.
    prediction_ndim : {1, 2}
        Dimensions of what `predict` of the model returns, and so does `simulate`.
    n_gates : int
        Two-input gates; see `count_gates`.
    depth : int
        Gates on the longest path.
    """

    epsilon: float
    error: float
    error_elsewhere: float = math.nan
    feature_names: tuple[str, ...] | None = None
    objective: str = "gates"
    prediction_ndim: int = 2

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
            "inputs": [list(astuple(form)) for form in self.input_formats],
            "outputs": [
                {"node": number} | asdict(form) for number, form in zip(self.outputs, self.output_formats, strict=True)
            ],
            "feature_names": None if self.feature_names is None else list(self.feature_names),
            "objective": self.objective,
            "prediction_ndim": self.prediction_ndim,
            "package": __version__,
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
            circuit = cls._read(reading.read(Path(path)))
            verify(circuit)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} does not hold a circuit: {str(error).rstrip('.')}.") from error
        return circuit

    @classmethod
    def _read(cls, content: Any) -> Circuit:
        _check_version(content)
        version = content["version"]
        reading.keys(content, "the file", _KEYS[version])
        nodes = tuple(_node(entry, f"nodes[{i}]") for i, entry in enumerate(reading.items(content["nodes"], "nodes")))
        inputs = reading.items(content["inputs"], "inputs")
        outputs = [
            _output(entry, i, nodes, version) for i, entry in enumerate(reading.items(content["outputs"], "outputs"))
        ]
        epsilon, error = (reading.number(content[key], key) for key in ("epsilon", "error"))
        if error > epsilon:
            raise ValueError(f"error is {error:g}, and epsilon allows {epsilon:g}")
        elsewhere = content.get("error_elsewhere")
        return cls(
            nodes,
            tuple(number for number, _ in outputs),
            tuple(_format(form, f"inputs[{i}]", version) for i, form in enumerate(inputs)),
            tuple(form for _, form in outputs),
            epsilon=epsilon,
            error=error,
            error_elsewhere=math.nan if elsewhere is None else reading.number(elsewhere, "error_elsewhere"),
            feature_names=_names(content.get("feature_names"), len(inputs)),
            objective=_one_of(content.get("objective", "gates"), "objective", OBJECTIVES),
            prediction_ndim=_one_of(content.get("prediction_ndim", 2), "prediction_ndim", (1, 2)[len(outputs) > 1 :]),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached values out of pickles."""
        return {key: value for key, value in super().__getstate__().items() if key != "_counted"}


def _check_version(content: Any) -> None:
    """Refuse files of other versions first, as their keys may be others."""
    if type(content) is not dict or "version" not in content:
        raise ValueError("'version' is missing in the file")
    if reading.integer(content["version"], "version") not in _KEYS:
        raise ValueError(f"version {content['version']} is not known, only versions {', '.join(map(str, _KEYS))} are")


def _names(names: Any, n_inputs: int) -> tuple[str, ...] | None:
    """Return the names of the input ports."""
    if names is None:
        return None
    found = reading.items(names, "feature_names")
    if len(found) != n_inputs or not all(isinstance(name, str) for name in found):
        raise ValueError(f"feature_names must be {n_inputs} texts, one per input, or null")
    return tuple(found)


def _node(entry: Any, place: str) -> Node:
    op, args, data, low, high = reading.items(entry, place, 5)
    if type(op) is not str or op not in _OPS:
        raise ValueError(f"{place}[0] must be an operation, got {brief(op)}")
    return Node(
        _OPS[op],
        reading.integers(args, f"{place}[1]"),
        reading.integers(data, f"{place}[2]"),
        reading.integer(low, f"{place}[3]"),
        reading.integer(high, f"{place}[4]"),
    )


def _format(entry: Any, place: str, version: int) -> Format:
    """Return the format of an input port; those of old files have no scale and no offset."""
    if version < _VERSION:
        return Format(*reading.integers(entry, place, 3))
    *codes, scale, offset = reading.items(entry, place, len(_FORMAT))
    low, high, exponent = reading.integers(codes, place)
    return Format(low, high, exponent, reading.number(scale, f"{place}[3]"), reading.real(offset, f"{place}[4]"))


def _output(entry: Any, port: int, nodes: Sequence[Node], version: int) -> tuple[int, Format]:
    place = f"outputs[{port}]"
    reading.keys(entry, place, ("node", "exponent") if version < _VERSION else ("node", *_FORMAT))
    number = reading.integer(entry["node"], f"{place}.node")
    if not 0 <= number < len(nodes):
        raise ValueError(f"y{port} is driven by n{number}, which does not exist")
    if version < _VERSION:
        node, exponent = nodes[number], reading.integer(entry["exponent"], f"{place}.exponent")
        return number, Format(node.low, node.high, exponent)
    return number, _format([entry[key] for key in _FORMAT], place, version)


def _one_of(value: Any, place: str, known: Sequence[Any]) -> Any:
    if type(value) is not type(known[0]) or value not in known:
        raise ValueError(f"{place} must be one of {', '.join(map(str, known))}, got {brief(value)}")
    return value
