"""Look-up tables and depth of the twelve circuits of ``referees.py``, beside what yosys makes of them.

For tables of four and of six inputs: the estimate without synthesis, the tables that yosys needs when it starts from
the counted gates (written one gate a line), and those that it needs for the module that ``to_verilog`` writes, in which
sums are ``+`` and become adders of the tool. Then gates and depth with ``objective="depth"`` beside those of the same
circuit with ``objective="gates"``.

    apt-get install yosys
    python benchmarks/luts.py --data uci_datasets --cache cache
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from quality import markdown_table, train_and_test
from referees import MODELS, referee

from sklearn_htmc.circuit import Circuit, estimate_luts, to_verilog
from sklearn_htmc.circuit._gates import Netlist

SIZES = (4, 6)
PATIENCE = 120  # seconds
TOO_LONG = 124  # what `timeout` returns


def one_gate_a_line(circuit: Circuit) -> str:
    """Return a module of the gates that are counted."""
    net = Netlist.of(circuit)

    def text(wire: int) -> str:
        return f"1'b{wire}" if wire <= 1 else f"{'~' * (wire & 1)}w{wire >> 1}"

    ports = [f"input w{wire >> 1}" for word in net.inputs for wire in word]
    outputs = [wire for word in net.outputs for wire in word]
    ports += [f"output y{place}" for place in range(len(outputs))]
    lines = [f"module model({', '.join(ports)});"]
    for number in net.live():
        a, b = map(text, net.operands(number))
        lines.append(f"wire w{number} = {a} {'^' if net.is_exclusive(number) else '&'} {b};")
    lines += [f"assign y{place} = {text(wire)};" for place, wire in enumerate(outputs)]
    return "\n".join([*lines, "endmodule"])


def by_yosys(module: str, k: int) -> tuple[int, int] | None:
    """Return the tables that yosys needs, and their levels; None if it takes too long."""
    script = f"read_verilog m.v; hierarchy -top model; proc; opt; techmap; opt; abc -lut {k}; stat; ltp -noff"
    with TemporaryDirectory() as folder:
        (Path(folder) / "m.v").write_text(module)
        # Where it looks for equal gates, proofs may not end; `timeout` ends the children, too.
        command = ["timeout", str(PATIENCE), "yosys", "-p", script]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode == TOO_LONG:
        return None
    done.check_returncode()
    tables = re.findall(r"\$lut +(\d+)", done.stdout)[-1]
    levels = re.findall(r"Longest topological path in .*\(length=(\d+)\)", done.stdout)[-1]
    return int(tables), int(levels)


def report_tables(circuits: dict[str, Circuit]) -> None:
    """Print the tables of the estimates."""
    for k in SIZES:
        rows, ratios = [], []
        for name, circuit in circuits.items():
            start = time.process_time()
            found = estimate_luts(circuit, k)
            seconds = time.process_time() - start
            referees = [by_yosys(module, k) for module in (one_gate_a_line(circuit), to_verilog(circuit))]
            cells = [f"{circuit.n_gates:,}", f"{found.n_luts:,}, {found.levels}", f"{seconds:.1f}"]
            for tables in referees:
                ratio = found.n_luts / tables[0] if tables is not None else np.nan
                cells += ["-", "-"] if tables is None else [f"{tables[0]:,}, {tables[1]}", f"{ratio:.2f}"]
            if referees[0] is not None:
                ratios.append(found.n_luts / referees[0][0])
            rows.append([name, *cells])
            print(f"{name}: {'; '.join(cells)}", file=sys.stderr, flush=True)
        head = [f"k = {k}", "gates", "estimate, levels", "seconds", "yosys, gates", "ratio", "yosys, module", "ratio"]
        print(markdown_table(head, rows))
        mean = np.exp(np.mean(np.log(ratios)))
        print(f"ratios {min(ratios):.2f} to {max(ratios):.2f}, geometric mean {mean:.2f}\n", flush=True)


def report_depth(circuits: dict[str, Circuit]) -> None:
    """Print the table of both objectives."""
    rows, ratios = [], []
    for name, few in circuits.items():
        short = replace(few, objective="depth")
        ratios.append((short.n_gates / few.n_gates, short.depth / few.depth))
        cells = [f"{few.n_gates:,}", f"{short.n_gates:,}", f"{few.depth}", f"{short.depth}"]
        tables = [(found.n_luts, found.levels) for found in map(estimate_luts, (few, short))]
        rows.append([name, *cells, *(f"{count:,}, {levels}" for count, levels in tables)])
    head = ["", "gates", "short", "depth", "short", "tables of 6, levels", "short"]
    print(markdown_table(head, rows))
    means = np.exp(np.mean(np.log(ratios), axis=0))
    print(f"gates times {means[0]:.2f}, at most {max(ratios)[0]:.2f}; depth times {means[1]:.2f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the circuits")
    parser.add_argument("--set", default="concrete")
    parser.add_argument("--only", choices=["tables", "depth"], help="one of the two parts")
    arguments = parser.parse_args()
    X, y, _, _ = train_and_test(arguments.data, arguments.set, 0)
    circuits = {name: referee(arguments.cache, name, X, y) for name in MODELS}
    if arguments.only != "depth":
        report_tables(circuits)
    if arguments.only != "tables":
        report_depth(circuits)


if __name__ == "__main__":
    main()
