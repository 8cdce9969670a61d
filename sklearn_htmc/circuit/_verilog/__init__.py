"""A circuit as a Verilog module: gates and word-wide sums, cut by ranks of flip-flops where that is asked for."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from sklearn_htmc.circuit._graph import Graph, require_graph
from sklearn_htmc.circuit._names import check_verilog_names
from sklearn_htmc.circuit._verilog.stages import balanced, within
from sklearn_htmc.circuit._verilog.writing import Writer


def to_verilog(
    circuit: Graph,
    name: str = "model",
    *,
    registers: int = 0,
    max_levels: int | None = None,
    clock: str = "clk",
    enable: str | None = None,
) -> str:
    """Return a circuit as one module in synthesizable Verilog-2001.

    The ports ``x0, x1, ...`` and ``y0, ...`` carry the integers of the input and output formats, in two's complement
    where a format is signed; a port without bits has one, which is not read or zero. Comments beside them say units and
    names. Sums of words are ``+`` and ``-``, sums of many bits a few of these, comparisons are gates. All widths are
    explicit and no vector depends on itself: ``verilator --lint-only -Wall``, ``iverilog -Wall`` and the `check` of
    yosys find nothing.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    name : str, default="model"
        Name of the module.
    registers : int, default=0
        Ranks of flip-flops that cut the module into one part more. Results come so many clocks after their inputs,
        one per clock. The cuts make the deepest part as shallow as possible, in levels of two-input gates, at places
        where few bits cross; a sum is cut inside only where that more than halves the deepest part. There is no reset,
        as nothing is fed back: after as many clocks as there are ranks, all that was there before has left.
    max_levels : int, default=None
        In place of `registers`: as many ranks as are needed for no part to be deeper than this, sums cut inside where
        they are longer.
    clock : str, default="clk"
        Name of the clock, of which the rising edge counts. Modules without registers have none.
    enable : str, default=None
        Name of a port that lets the registers move where it is one; None for no such port.

    Raises
    ------
    TypeError
        If circuit is none, or registers or max_levels is no integer.
    ValueError
        If a name is not a Verilog identifier, a reserved word of Verilog or SystemVerilog, one that the module uses or
        given twice; if registers is negative or cuts into more parts than there are levels, if max_levels is less than
        1 or given beside registers, or if there is an enable but nothing to move.

    Examples
    --------
    >>> from sklearn_htmc.circuit import Builder, Format, to_verilog
    >>> build = Builder([Format(0, 200, 0), Format(0, 15, -1)])
    >>> total = build.add(build.input(0), build.input(1))
    >>> text = to_verilog(build.graph([build.at_most(total, 63)], [0]), "late")
    >>> print(text.partition("\\n")[2], end="")  # all but a line that says the version
    module late (
        input [7:0] x0,  // 0 .. 200 times 2^0
        input [3:0] x1,  // 0 .. 15 times 2^-1
        output y0  // 0 .. 1 times 2^0
    );
        // n2, add: 0 .. 270
        wire [8:0] n2 = {1'b0, x0} + {5'b0, x1};
        wire n3 = ~n2[6] & ~(n2[7] | n2[8]);
        assign y0 = n3;
        wire unused = &{1'b0, n2[5:0]};
    endmodule
    """
    return module(circuit, name, registers=registers, max_levels=max_levels, clock=clock, enable=enable)[0]


def module(
    circuit: Graph,
    name: str,
    *,
    registers: int,
    max_levels: int | None,
    clock: str,
    enable: str | None,
) -> tuple[str, int]:
    """Return a module and its latency in clocks."""
    require_graph(circuit)
    check_verilog_names(name, clock, enable)
    registers = _number("registers", registers, 0)
    if max_levels is None:
        if enable is not None and not registers:
            raise ValueError(f"enable must be None where there are no registers, got {enable!r}; give registers.")
        stages = balanced(circuit, registers)
    else:
        max_levels = _number("max_levels", max_levels, 1)
        if registers:
            raise ValueError(f"registers must be 0 beside max_levels, got {registers}; give one of the two.")
        stages = within(circuit, max_levels)
    return Writer(circuit, stages, name, clock, enable).text(), stages.latency


def _number(what: str, number: Any, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise TypeError(f"{what} must be an integer, got {number!r}.")
    if number < least:
        raise ValueError(f"{what} must be at least {least}, got {number}.")
    return int(number)
