"""Files that check a circuit where it is used: golden vectors, and test benches in Verilog and C that read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_htmc.circuit._c import port_kinds, to_c
from sklearn_htmc.circuit._fixed_point import Format, Integers
from sklearn_htmc.circuit._graph import Graph, Op, needed, require_graph
from sklearn_htmc.circuit._simulate import encode, simulate_codes
from sklearn_htmc.circuit._verilog import module

_RANDOM = 1000  # rows of random words
_AT_EDGES = 0.5  # of their entries
_SHOWN = 5  # differences that are printed one by one


def to_testbench(
    circuit: Graph,
    X: Any,
    name: str = "model",
    *,
    directory: str | PathLike[str] | None = None,
    registers: int = 0,
    max_levels: int | None = None,
    clock: str = "clk",
    enable: str | None = None,
    word: str = "least",
) -> dict[str, str]:
    """Return a circuit in Verilog and C with programs that check both against `simulate_codes`.

    The golden vectors are the codes of `X`, and a thousand random rows that cover the whole words of the ports, ends,
    corners and both sides of thresholds included; they are always the same for the same circuit and `X`. The programs
    print how many of them differ, and their exit code is zero only if none does. With an enable, the test bench also
    stops the clock now and then and checks that nothing moves.

    ======================  ==================================================================================
    file                    content
    ======================  ==================================================================================
    ``model.v``             the module, as of `to_verilog`
    ``model_test.sv``       its test bench, which reads ``model_vectors.hex`` from where it is started
    ``model_vectors.hex``   a row per line: the outputs, then the inputs, the last port first
    ``model.c``             the function, as of `to_c`
    ``model.h``             its header
    ``model_test.c``        a program with the same vectors
    ======================  ==================================================================================

    With the tools of most Linux distributions, where the files are::

        iverilog -g2012 -o model_test model.v model_test.sv && vvp -n model_test
        verilator --binary --top-module testbench model.v model_test.sv && obj_dir/Vtestbench
        cc -o model_c_test model.c model_test.c && ./model_c_test

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Raw features, at least one row; no NaN.
    name : str, default="model"
        Name of the module, of the function and of the files.
    directory : path-like, default=None
        Folder that the files are written to, which is made if it is not there; None writes nothing.
    registers, max_levels, clock, enable
        As of `to_verilog`.
    word : {"least", "int32"}, default="least"
        As of `to_c`.

    Returns
    -------
    dict of str to str
        Contents by the name of the file.

    Raises
    ------
    TypeError
        If circuit is none, or registers or max_levels is no integer.
    ValueError
        For what `to_verilog`, `to_c` and `encode` refuse, or no rows.
    OSError
        If the files cannot be written, as `NotADirectoryError` if directory is a file.

    See Also
    --------
    to_verilog, to_c, simulate_codes

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc.circuit import Builder, Format, to_testbench
    >>> build = Builder([Format(0, 200, 0)])
    >>> circuit = build.graph([build.at_most(build.input(0), 63)], [0])
    >>> files = to_testbench(circuit, np.array([[63.0], [64.0]]), "late")
    >>> sorted(files)
    ['late.c', 'late.h', 'late.v', 'late_test.c', 'late_test.sv', 'late_vectors.hex']
    >>> files["late_vectors.hex"].split()[:2]  # one bit and eight: 1 for 63, 0 for 64
    ['13f', '040']
    """
    require_graph(circuit)
    verilog, latency = module(circuit, name, registers=registers, max_levels=max_levels, clock=clock, enable=enable)
    source = to_c(circuit, name, word=word)
    inputs = _rows(circuit, X)
    outputs = simulate_codes(circuit, inputs)
    bench = _Bench(circuit, name, len(inputs), latency, clock if latency else None, enable if latency else None)
    files = {
        f"{name}.v": verilog,
        f"{name}_test.sv": bench.text(),
        f"{name}_vectors.hex": _hex_lines(circuit, inputs, outputs),
        f"{name}.c": source,
        f"{name}.h": to_c(circuit, name, word=word, header=True),
        f"{name}_test.c": _c_program(circuit, name, word, inputs, outputs),
    }
    if directory is not None:
        folder = Path(directory)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"directory must be a folder, or not be there yet, and {folder} is a file.")
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(content, encoding="utf-8")
    return files


# --- vectors --------------------------------------------------------------------------------------


def _rows(circuit: Graph, X: Any) -> Integers:
    """Return codes of shape (n_rows, n_inputs): those of X, the corners of the words, and random ones."""
    codes = encode(circuit, X)
    if not len(codes):
        raise ValueError("X must have at least one row.")
    rng = np.random.default_rng(0)
    words = np.array([form.word for form in circuit.input_formats], dtype=np.int64).reshape(-1, 2)
    random = rng.integers(words[:, 0], words[:, 1], size=(_RANDOM, len(words)), endpoint=True)
    chosen = np.stack([rng.choice(edges, _RANDOM) for edges in _edges(circuit)], axis=1) if len(words) else random
    random = np.where(rng.random(random.shape) < _AT_EDGES, chosen, random)
    random[0], random[1] = words[:, 0], words[:, 1]
    for port in range(min(len(words), (_RANDOM - 2) // 2)):  # each end of every port, whatever the others are
        random[2 + 2 * port, port], random[3 + 2 * port, port] = words[port]
    return np.concatenate([codes, random])


def _edges(circuit: Graph) -> list[Integers]:
    """Return for every port where something changes: ends of word and range, and both sides of thresholds."""
    edges = [{*form.word, form.low, form.high} for form in circuit.input_formats]
    for _, node in needed(circuit):
        if node.op is Op.AT_MOST and circuit.nodes[node.args[0]].op is Op.INPUT:
            (port,) = circuit.nodes[node.args[0]].data
            edges[port] |= {node.data[0], node.data[0] + 1}
    return [np.array(sorted(codes), dtype=np.int64) for codes in edges]


def _widths(formats: Sequence[Format]) -> list[int]:
    return [max(form.width, 1) for form in formats]


def _hex_lines(circuit: Graph, inputs: Integers, outputs: Integers) -> str:
    """Return one number in base 16 per row: the bits of all ports, those of x0 lowest."""
    widths = [*_widths(circuit.input_formats), *_widths(circuit.output_formats)]
    digits = -(-sum(widths) // 4)
    lines = []
    for row in np.concatenate([inputs, outputs], axis=1).tolist():
        packed = 0
        for code, width in zip(reversed(row), reversed(widths), strict=True):
            packed = packed << width | code & ((1 << width) - 1)
        lines.append(f"{packed:0{digits}x}")
    return "\n".join([*lines, ""])


# --- Verilog --------------------------------------------------------------------------------------


class _Bench:
    """Writes the test bench of a module.

    With a latency of n clocks, the results of the row that was there before an edge are there after n - 1 more.
    """

    def __init__(
        self, circuit: Graph, name: str, n_rows: int, latency: int, clock: str | None, enable: str | None
    ) -> None:
        self.name, self.n_rows, self.latency, self.clock, self.enable = name, n_rows, latency, clock, enable
        self.inputs = _widths(circuit.input_formats)
        self.outputs = _widths(circuit.output_formats)

    def text(self) -> str:
        """Return the test bench."""
        n_in, n_out = sum(self.inputs), sum(self.outputs)
        late = max(self.latency - 1, 0)
        lines = [
            f"// Checks {self.name} against {self.n_rows} rows of {self.name}_vectors.hex.",
            "module testbench;",
            f"    reg [{n_in + n_out - 1}:0] vectors [0:{self.n_rows - 1}];",
            f"    reg [{n_in - 1}:0] inputs;",
            f"    reg [{n_out - 1}:0] expected;",
            f"    wire [{n_out - 1}:0] found;",
            *(f"    reg {signal};" for signal in self._signals()),
            "    integer row;",
            "    integer differences;",
            "",
            f"    {self.name} device (",
            ",\n".join(f"        .{port}({wire})" for port, wire in self._connections()),
            "    );",
            "",
            "    task check;",
            "        if (found !== expected) begin",
            "            differences = differences + 1;",
            f"            if (differences <= {_SHOWN})",
            f'                $display("row %0d: found %h, expected %h", row - {late}, found, expected);',
            "        end",
            "    endtask",
            "",
            "    initial begin",
            f'        $readmemh("{self.name}_vectors.hex", vectors);',
            "        differences = 0;",
            *(f"        {signal} = 1'b0;" for signal in self._signals()),
            f"        for (row = 0; row < {self.n_rows + late}; row = row + 1) begin",
            *(f"            {line}" for line in self._step(n_in, n_out, late)),
            "        end",
            f'        $display("%0d of {self.n_rows} rows differ", differences);',
            "        if (differences != 0) $fatal(1);",
            "        $finish;",
            "    end",
            "endmodule",
            "",
        ]
        return "\n".join(lines)

    def _signals(self) -> list[str]:
        return [*(["clock"] if self.clock else []), *(["enable"] if self.enable else [])]

    def _connections(self) -> Iterator[tuple[str, str]]:
        if self.clock:
            yield self.clock, "clock"
        if self.enable:
            yield self.enable, "enable"
        for letter, widths, word in (("x", self.inputs, "inputs"), ("y", self.outputs, "found")):
            start = 0
            for port, width in enumerate(widths):
                yield f"{letter}{port}", f"{word}[{start + width - 1}:{start}]"
                start += width

    def _step(self, n_in: int, n_out: int, late: int) -> list[str]:
        last, outputs = self.n_rows - 1, f"[{n_in + n_out - 1}:{n_in}]"
        read = f"inputs = vectors[row < {last} ? row : {last}][{n_in - 1}:0];"
        if not self.clock:
            return [read, f"expected = vectors[row]{outputs};", "#1 check;"]
        edge = ["#1 clock = 1'b1;", "#1 clock = 1'b0;"]
        # Clocks without enable come after every third row, with other inputs: nothing may move.
        enabled = ["enable = 1'b1;"] if self.enable else []
        idle = ["if (row % 3 == 0) begin", "    enable = 1'b0;", "    inputs = ~inputs;"]
        idle += [f"    {line}" for line in [*edge, f"if (row >= {late}) check;"]] + ["end"]
        return [
            read,
            *enabled,
            *edge,
            f"if (row >= {late}) begin",
            f"    expected = vectors[row - {late}]{outputs};",
            "    check;",
            "end",
            *(idle if self.enable else []),
        ]


# --- C --------------------------------------------------------------------------------------------


def _c_program(circuit: Graph, name: str, word: str, inputs: Integers, outputs: Integers) -> str:
    """Return a program that calls a function on all rows."""
    of_x, of_y = (kind.name for kind in port_kinds(circuit, word))
    n_rows, n_in, n_out = len(inputs), max(inputs.shape[1], 1), outputs.shape[1]
    return f"""\
/* Checks {name} against {n_rows} rows. */
#include <stdint.h>
#include <stdio.h>
#include "{name}.h"

static const {of_x} inputs[{n_rows}][{n_in}] = {{
{_c_rows(inputs)}
}};

static const {of_y} outputs[{n_rows}][{n_out}] = {{
{_c_rows(outputs)}
}};

int main(void)
{{
    {of_y} found[{n_out}];
    int row, port, differences = 0;
    for (row = 0; row < {n_rows}; row++) {{
        int same = 1;
        {name}(inputs[row], found);
        for (port = 0; port < {n_out}; port++)
            same = same && found[port] == outputs[row][port];
        if (!same && ++differences <= {_SHOWN})
            printf("row %d: found something else\\n", row);
    }}
    printf("%d of {n_rows} rows differ\\n", differences);
    return differences != 0;
}}
"""


def _c_rows(codes: Integers) -> str:
    rows = codes.tolist() if codes.shape[1] else [[0]] * len(codes)
    return ",\n".join(f"    {{{', '.join(map(str, row))}}}" for row in rows)
