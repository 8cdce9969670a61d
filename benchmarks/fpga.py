"""Logic cells and clock of circuits on a small FPGA, an iCE40 HX8K, with free tools.

Needs yosys, nextpnr-ice40 and the chip database of icestorm: ``apt-get install yosys nextpnr-ice40 fpga-icestorm``.
The twelve circuits of ``referees.py`` are made once and kept as circuit files. A way is a name with
keyword arguments of ``to_verilog``. Another version of the package is measured by running this script with that version
on the path, the same ``--cache`` and its ``--ways``, say ``'{"ripple": {}, "operator": {"adders": "operator"}}'``; take
the older one first, as circuit files can be read by newer versions only. ``--shown ripple,operator,plain`` says which
ways are in the table, by default those of this run.

Cells are those of the module alone, packed: look-up tables, carries and flip-flops. For the clock the module stands
between flip-flops at all of its ports; it is the median over seeds of placement of what nextpnr finds.

    python benchmarks/fpga.py --data uci_datasets --cache cache
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from quality import markdown_table, train_and_test
from referees import MODELS, referee

from sklearn_htmc.circuit import Circuit, to_verilog

TOOLS = ("yosys", "nextpnr-ice40")
WAYS = {f"registers={n}": {"registers": n} for n in (0, 2, 4)}


# --- tools ----------------------------------------------------------------------------------------


def run(*command: str, folder: Path) -> str:
    """Run a tool and return what it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def synthesise(folder: Path, top: str) -> None:
    """Map ``design.v`` to the cells of the chip."""
    run("yosys", "-q", "-p", f"read_verilog design.v; synth_ice40 -top {top} -json design.json", folder=folder)


def place(folder: Path, *options: str) -> str:
    """Pack, and without the option that ends there place and route."""
    chip = ("--hx8k", "--package", "ct256", "--pcf-allow-unconstrained")
    return run("nextpnr-ice40", *chip, "--json", "design.json", *options, folder=folder)


def cells(text: str, folder: Path) -> int:
    """Return the logic cells of a module named ``model``."""
    (folder / "design.v").write_text(text)
    synthesise(folder, "model")
    packed = place(folder, "--pack-only")
    return sum(map(int, re.findall(r"(\d+) LCs used as (?:LUT4 only|LUT4 and DFF|DFF only|CARRY only)", packed)))


def megahertz(text: str, circuit: Circuit, folder: Path, n_seeds: int) -> float:
    """Return the clock of a module between flip-flops."""
    (folder / "design.v").write_text(text + between_flip_flops(circuit, clocked="input clk," in text))
    synthesise(folder, "top")
    found = []
    for seed in range(1, n_seeds + 1):
        routed = place(folder, "--timing-allow-fail", "--freq", "200", "--seed", str(seed))
        found.append(float(re.findall(r"Max frequency for clock[^:]*: ([\d.]+) MHz", routed)[-1]))
    return statistics.median(found)


def between_flip_flops(circuit: Circuit, *, clocked: bool) -> str:
    """Return a module with flip-flops at all ports of ``model``."""
    ports, body, connected = ["input clk"], [], [".clk(clk)"] if clocked else []
    for letter, formats in (("x", circuit.input_formats), ("y", circuit.output_formats)):
        for port, form in enumerate(formats):
            name, bits = f"{letter}{port}", f"[{max(form.width, 1) - 1}:0]"
            connected.append(f".{name}(inner_{name})")
            if letter == "x":
                ports.append(f"input {bits} {name}")
                body.append(f"reg {bits} inner_{name}; always @(posedge clk) inner_{name} <= {name};")
            else:
                ports.append(f"output reg {bits} {name}")
                body.append(f"wire {bits} inner_{name}; always @(posedge clk) {name} <= inner_{name};")
    lines = [f"module top ({', '.join(ports)});", *body, f"model device ({', '.join(connected)});", "endmodule", ""]
    return "\n".join(lines)


# --- the table ------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> None:
    """Measure what is not in the cache yet."""
    X, y, _, _ = train_and_test(arguments.data, arguments.set, 0)
    for name in arguments.models:
        circuit = referee(arguments.cache, name, X, y)
        for way, options in arguments.ways.items():
            path = arguments.cache / f"{name}-{way}.json"
            if path.exists():
                continue
            text = to_verilog(circuit, **options)
            with TemporaryDirectory() as folder:
                found = {"gates": circuit.n_gates, "depth": circuit.depth, "cells": cells(text, Path(folder))}
                found["MHz"] = megahertz(text, circuit, Path(folder), arguments.seeds)
            path.write_text(json.dumps(found))
            print(f"{name}, {way}: {found}", flush=True)


def report(arguments: argparse.Namespace) -> str:
    """Return one row per circuit: gates, levels, and cells and clock of every way."""
    rows = []
    for name in arguments.models:
        found = []
        for way in arguments.shown:
            path = arguments.cache / f"{name}-{way}.json"
            found.append(json.loads(path.read_text()) if path.exists() else None)
        known = next((one for one in found if one), {"gates": 0, "depth": 0})
        cells_and_clock = [f"{one['cells']:,}, {one['MHz']:.0f}" if one else "" for one in found]
        rows.append([name, f"{known['gates']:,}", str(known["depth"]), *cells_and_clock])
    return markdown_table(["cells, MHz", "gates", "levels", *arguments.shown], rows)


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for circuits and results")
    parser.add_argument("--set", default="concrete")
    parser.add_argument("--models", type=lambda text: text.split(";"), default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3, help="seeds of placement per clock (default: 3)")
    parser.add_argument("--ways", type=json.loads, default=WAYS, help="JSON: names and arguments of to_verilog")
    parser.add_argument("--shown", type=lambda text: text.split(","), default=None, help="ways in the table")
    arguments = parser.parse_args()
    arguments.shown = arguments.shown or list(arguments.ways)
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise SystemExit(f"{' and '.join(missing)} not found: apt-get install yosys nextpnr-ice40 fpga-icestorm")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    measure(arguments)
    print(report(arguments))


if __name__ == "__main__":
    main()
