"""Stages as the text of a module."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from sklearn_htmc._version import __version__
from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._gates import Wires
from sklearn_htmc.circuit._graph import Graph, Op
from sklearn_htmc.circuit._verilog.stages import Item, Stages
from sklearn_htmc.circuit._verilog.structure import Box

Lines = list[str]

_NESTED = 6  # levels of gates in one expression
_WORDS = {Op.ADD, Op.SUBTRACT, Op.SUM, Op.RELU, Op.CLAMP}  # operations that have a line of comment
_LINE = 116  # characters
_MEASURED = ("epsilon", "error", "error_elsewhere")  # attributes that circuits have and graphs have not


class _Place(NamedTuple):
    """Where a wire is found in its own stage: a bit of a declared word; ``inverted`` if it stands for the inverse."""

    name: str
    place: int
    inverted: bool = False


class Writer:
    """Writes a module.

    Parameters
    ----------
    graph : Graph
        What is written.
    stages : Stages
        Its gates and boxes, in parts.
    name : str
        Name of the module.
    clock : str
        Name of the clock.
    enable : str or None
        Name of the clock enable.
    """

    def __init__(self, graph: Graph, stages: Stages, name: str, clock: str, enable: str | None) -> None:
        self.graph, self.stages, self.name = graph, stages, name
        self.clock = clock if stages.latency else None
        self.enable = enable if stages.latency else None
        self.net = stages.net
        self.places: dict[int, _Place] = {}
        self.widths: dict[str, int] = {}  # of declared words
        self.used: dict[str, set[int]] = defaultdict(set)  # places that are read
        self.held: dict[tuple[str, int], tuple[int, int]] = {}  # first and last place of the register of a word
        self.nested: set[int] = set()  # gates that are written where they are read
        self._name_everything()
        self._hold()

    def text(self) -> str:
        """Return the module."""
        body: Lines = []
        items = [item for item in self.stages.items if item.number not in self.nested]
        for stage in range(self.stages.latency + 1):
            body += self._registers(stage)
            body += self._stage(stage, items)
        for port, (wires, form) in enumerate(zip(self.net.outputs, self.graph.output_formats, strict=True)):
            word = self._word(wires, self.stages.latency) if form.width else "1'b0"
            body.append(f"assign y{port} = {word};")
        body += self._unused()
        return "\n".join([*self._head(), *(f"    {line}" if line else "" for line in body), "endmodule", ""])

    # --- names ------------------------------------------------------------------------------------

    def _name_everything(self) -> None:
        for port, (wires, form) in enumerate(zip(self.net.inputs, self.graph.input_formats, strict=True)):
            self._declare(f"x{port}", wires or [0], form.width)
        self._nest()
        counts = Counter[int]()
        for item in self.stages.items:
            if item.number in self.nested:
                continue
            owner = self.net.owners[item.number]
            last = next(iter(self.net.words[owner][-1:]), 0)
            if last >> 1 in item.numbers:
                name, inverted = f"n{owner}", bool(last & 1) and item.box is None
            else:
                name, inverted = f"n{owner}_{counts[owner]}", False
                counts[owner] += 1
            self._declare(name, [2 * number for number in item.numbers], len(item.numbers), inverted)

    def _declare(self, name: str, wires: Wires, width: int, inverted: bool = False) -> None:
        self.widths[name] = width
        for place, wire in enumerate(wires[:width]):
            self.places[wire >> 1] = _Place(name, place, inverted)

    def _nest(self) -> None:
        """Find the gates that are read once, by a gate of their own stage, and not too deep in an expression."""
        readers: dict[int, list[Item | None]] = defaultdict(list)
        for item in self.stages.items:
            for number in item.reads:
                readers[number].append(item)
        for word in self.net.outputs:
            for wire in word:
                readers[wire >> 1].append(None)
        words = {wire >> 1 for node in self.net.words.values() if len(node) == 1 for wire in node}
        height: dict[int, int] = {}
        stage = self.stages.stage
        for item in self.stages.items:
            if item.box is not None:
                continue
            inside = [height[number] for number in item.reads if number in self.nested]
            height[item.number] = 1 + max(inside, default=0)
            (reader, *others) = readers[item.number]
            if (
                others
                or reader is None
                or reader.box is not None
                or stage[reader.number] != stage[item.number]
                or height[item.number] >= _NESTED
                or item.number in words
            ):
                continue
            self.nested.add(item.number)

    def _hold(self) -> None:
        """Find what every rank of registers holds."""
        stage = self.stages.stage
        until: dict[int, int] = {}
        for item in self.stages.items:
            for number in item.reads:
                until[number] = max(until.get(number, 0), stage[item.number])
        for word in self.net.outputs:
            until |= {wire >> 1: self.stages.latency for wire in word if wire > 1}
        for number, last in until.items():
            if number in self.places:
                name, place, _ = self.places[number]
                for rank in range(stage[number] + 1, last + 1):
                    low, high = self.held.get((name, rank), (place, place))
                    self.held[name, rank] = min(low, place), max(high, place)

    # --- expressions ------------------------------------------------------------------------------

    def _bits(self, wires: Iterable[int], stage: int) -> Iterator[tuple[str, int, bool]]:
        """Yield the declared word, the place and whether it is inverted for every wire; constants have no word."""
        for wire in wires:
            if wire <= 1:
                yield "", wire, False
                continue
            number = wire >> 1
            name, place, inverted = self.places[number]
            if stage > self.stages.stage[number]:
                place -= self.held[name, stage][0]
                name = f"r{stage}_{name}"
            self.used[name].add(place)
            yield name, place, inverted != bool(wire & 1)

    def _width(self, name: str) -> int:
        """Return the bits of a declared word."""
        if name in self.widths:
            return self.widths[name]
        rank, _, held = name.partition("_")
        low, high = self.held[held, int(rank[1:])]
        return high - low + 1

    def _slice(self, name: str, first: int, last: int) -> str:
        if last - first + 1 == self._width(name):
            return name
        return f"{name}[{last}:{first}]" if last > first else f"{name}[{first}]"

    def _word(self, wires: Wires, stage: int) -> str:
        """Return wires, lowest first, as a word."""
        parts: list[str] = []
        bits = list(self._bits(wires, stage))
        start = 0
        while start < len(bits):
            name, first, inverted = bits[start]
            stop = start + 1
            if not name:
                while stop < len(bits) and not bits[stop][0]:
                    stop += 1
                value = sum(bit << place for place, (_, bit, _) in enumerate(bits[start:stop]))
                parts.append(f"{stop - start}'h{value:x}" if value > 1 else f"{stop - start}'b{value}")
            else:
                while stop < len(bits) and bits[stop] == (name, first, inverted):
                    stop += 1
                times = stop - start
                while times == 1 and stop < len(bits) and bits[stop] == (name, first + stop - start, inverted):
                    stop += 1
                text = "~" * inverted + self._slice(name, first, first if times > 1 else first + stop - start - 1)
                parts.append(f"{{{times}{{{text}}}}}" if times > 1 else text)
            start = stop
        return parts[0] if len(parts) == 1 else f"{{{', '.join(reversed(parts))}}}"

    def _operand(self, wire: int, stage: int) -> str:
        """Return a wire as an operand of a gate."""
        if wire >> 1 not in self.nested:
            return self._word([wire], stage)
        return self._gate(wire, stage, nested=True)

    def _gate(self, wire: int, stage: int, *, nested: bool = False) -> str:
        """Return a gate, or its inverse, as an expression."""
        number, inverted = wire >> 1, wire & 1
        a, b = self.net.operands(number)
        if self.net.is_exclusive(number):
            operator = "^"
        elif a & b & 1:
            operator, a, b, inverted = "|", a ^ 1, b ^ 1, inverted ^ 1
        else:
            operator = "&"
        text = f"{self._operand(a, stage)} {operator} {self._operand(b, stage)}"
        if inverted:
            return f"~({text})"
        return f"({text})" if nested else text

    def _box(self, box: Box, stage: int) -> str:
        a, b = self._word(box.a, stage), self._word(box.b, stage)
        return f"{a} ? {b} : {self._word(box.c, stage)}" if box.op == "?" else f"{a} {box.op} {b}"

    # --- lines ------------------------------------------------------------------------------------

    def _head(self) -> Lines:
        ports = [f"input {name}" for name in (self.clock, self.enable) if name is not None]
        comments = ["one result per clock; no reset", "nothing moves while it is 0"][: len(ports)]
        names = getattr(self.graph, "feature_names", None) or ()
        for port, form in enumerate(self.graph.input_formats):
            ports.append(f"input {_type(form)}x{port}")
            # Quoted, a name cannot be taken for a directive of some tool.
            comments.append(f"{form}" + (f", {json.dumps(names[port])}" if names else ""))
        for port, form in enumerate(self.graph.output_formats):
            ports.append(f"output {_type(form)}y{port}")
            comments.append(str(form))
        commas = [","] * (len(ports) - 1) + [""]
        lines = [f"    {port}{comma}  // {note}" for port, comma, note in zip(ports, commas, comments, strict=True)]
        return [*self._about(), f"module {self.name} (", *lines, ");"]

    def _about(self) -> Lines:
        latency = self.stages.latency
        when = f"Latency: {latency} clock{'s' * (latency > 1)}." if latency else "Combinational."
        lines = [f"// Written by sklearn-htmc {__version__}. {when}"]
        epsilon, error, elsewhere = (getattr(self.graph, key, math.nan) for key in _MEASURED)
        if not math.isnan(error):
            said = f"epsilon {epsilon:g}, error {error:.3g}"
            said += "" if math.isnan(elsewhere) else f", on other rows {elsewhere:.3g}"
            lines.append(f"// Difference from the model, in standard deviations of the target: {said}.")
        return lines

    def _registers(self, rank: int) -> Lines:
        """Declare and load a rank of flip-flops."""
        held = [(name, *ends) for (name, at), ends in self.held.items() if at == rank]
        if not held:
            return []
        declared, loaded = [], []
        for name, low, high in held:
            declared.append(f"reg {_range(high - low + 1)}r{rank}_{name};")
            if rank > 1 and (name, rank - 1) in self.held:
                first = self.held[name, rank - 1][0]
                source, low, high = f"r{rank - 1}_{name}", low - first, high - first
            else:
                source = name
            self.used[source].update(range(low, high + 1))
            loaded.append(f"    r{rank}_{name} <= {self._slice(source, low, high)};")
        when = f"always @(posedge {self.clock}) " + (f"if ({self.enable}) begin" if self.enable else "begin")
        return ["", *declared, when, *loaded, "end", ""]

    def _stage(self, stage: int, items: Sequence[Item]) -> Lines:
        own = [item for item in items if self.stages.stage[item.number] == stage]
        lines: Lines = []
        for owner, group in groupby(own, key=lambda item: self.net.owners[item.number]):
            node = self.graph.nodes[owner]
            if node.op in _WORDS:
                lines.append(f"// n{owner}, {node.op.value}: {node.low} .. {node.high}")
            for item in group:
                name, _, inverted = self.places[item.number]
                if item.box is None:
                    value = self._gate(2 * item.number + inverted, stage)
                else:
                    value = self._box(item.box, stage)
                lines.append(f"wire {_range(len(item.numbers))}{name} = {value};")
        return lines

    def _unused(self) -> Lines:
        """Read what nothing else reads, the usual way to tell linters that it is meant to be."""
        names = list(self.widths) + [f"r{rank}_{name}" for name, rank in self.held]
        parts = []
        for name in names:
            width = max(self._width(name), 1)
            free = [place for place in range(width) if place not in self.used[name]]
            for _, run in groupby(enumerate(free), key=lambda pair: pair[1] - pair[0]):
                places = [place for _, place in run]
                parts.append(name if len(places) == width else self._slice(name, places[0], places[-1]))
        if not parts:
            return []
        lines, line = [], "wire unused = &{1'b0"
        for part in parts:
            if len(line) + len(part) > _LINE:
                lines.append(f"{line},")
                line = f"    {part}"
            else:
                line += f", {part}"
        return [*lines, f"{line}}};"]


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _type(form: Format) -> str:
    """Return sign and range of a port; words of one bit have no range, and none are shorter."""
    return ("signed " if form.signed else "") + _range(form.width)
