"""Hand-over of circuits: every one in every cut and format, in two simulators of Verilog and two compilers.

Twelve circuits (``referees.py``), with formats that are chosen and with those of converters of ten bits, each without
registers and with two and four stages: the files of ``to_testbench`` are run with 1,000 rows of data and 1,000 random
words in iverilog, in verilator, with gcc (C99) and with g++, the compilers with all warnings as errors; the module is
linted by verilator and checked by yosys. Beside it stands the error of the circuit to its model, measured through the
ports with numpy alone.

    apt-get install iverilog verilator yosys gcc g++
    python benchmarks/handover.py --data uci_datasets --cache cache

The C program is the same for all stages and is run once.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from quality import markdown_table, train_and_test
from referees import MODELS, fitted, referee

from sklearn_htmc.circuit import Circuit, decode, encode, simulate_codes, to_testbench

STAGES = (0, 2, 4)
ROWS = 1000
STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-pedantic", "-Werror")
TOOLS = ("iverilog", "vvp", "verilator", "yosys", "gcc", "g++")


def passes(command: str, folder: Path) -> bool:
    """Return whether a command ends well; say what it says where it does not."""
    done = subprocess.run(command, cwd=folder, shell=True, capture_output=True, text=True)
    if done.returncode:
        print(f"{command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}", file=sys.stderr)
    return done.returncode == 0


def checks(stage: int) -> Iterator[tuple[str, str]]:
    """Yield what is done with the files of a circuit."""
    yield "lint", "verilator --lint-only -Wall -Werror-UNUSED model.v"
    yield "lint", "yosys -q -p 'read_verilog model.v; hierarchy -check -top model; proc; check -assert'"
    yield "iverilog", "iverilog -g2012 -Wall -o model_test model.v model_test.sv && vvp -n model_test"
    yield (
        "verilator",
        "verilator --binary -O0 --top-module testbench model.v model_test.sv && obj_dir/Vtestbench",
    )
    if stage == 0:
        strict = " ".join(STRICT)
        yield "gcc", f"gcc -std=c99 {strict} -o in_c model.c model_test.c && ./in_c"
        yield "g++", f"g++ -x c++ -std=c++11 {strict} -o in_cpp model.c model_test.c && ./in_cpp"


def error_through_ports(circuit: Circuit, predicted: np.ndarray, X: np.ndarray) -> float:
    """Return the error to the model, with the rounding of numpy at the ports."""
    columns = [
        np.clip(np.rint((x - form.offset) / form.step), form.low, form.high).astype(np.int64)
        for x, form in zip(X.T, circuit.input_formats, strict=True)
    ]
    codes = np.stack(columns, axis=1)
    if not np.array_equal(codes, encode(circuit, X)):
        raise SystemExit("the codes of numpy differ.")
    values = decode(circuit, simulate_codes(circuit, codes))
    predicted = predicted.reshape(values.shape)
    return float(np.sqrt(np.mean(np.square((values - predicted) / predicted.std(axis=0)))))


def main() -> None:
    """Check, print the table, and fail if anything did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the UCI sets")
    parser.add_argument("--cache", type=Path, required=True, help="folder for circuit files")
    parser.add_argument("--set", default="concrete", help="data set (default: concrete)")
    parser.add_argument("--models", default=";".join(MODELS), help="separated by semicolons")
    options = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} must be installed.")
    X, y, X_test, _ = train_and_test(options.data, options.set, 0)
    rows = np.concatenate([X, X_test])[:ROWS]
    table, failed = [], 0
    for name in options.models.split(";"):
        model = fitted(name, X, y)
        for given in (False, True):
            circuit = referee(options.cache, name, X, y, given=given)
            # A grown circuit is its own model; where ports are given, it was grown with them.
            predicted = model.predict(X) if name != "CircuitRegressor" else y
            error = error_through_ports(circuit, predicted, X)
            good = dict.fromkeys(("lint", "iverilog", "verilator", "gcc", "g++"), True)
            for stage in STAGES:
                with TemporaryDirectory() as folder:
                    to_testbench(circuit, rows, directory=folder, registers=stage)
                    for what, command in checks(stage):
                        good[what] &= passes(command, Path(folder))
            failed += list(good.values()).count(False) + (error > circuit.epsilon * (1.0 + 1e-9))
            said = ["equal" if fine else "DIFFERS" for fine in good.values()]
            said[0] = "clean" if good["lint"] else "WARNS"
            ports = "ten bits" if given else "chosen"
            table.append([name, ports, f"{circuit.n_gates:,}", f"{error:.4f}", f"{circuit.epsilon:.4g}", *said])
            print(" | ".join(table[-1]), flush=True)
    head = [
        "circuit",
        "ports",
        "gates",
        "error through the ports",
        "epsilon",
        "lint",
        "iverilog",
        "verilator",
        "gcc",
        "g++",
    ]
    print(markdown_table(head, table))
    if failed:
        raise SystemExit(f"{failed} checks failed.")


if __name__ == "__main__":
    main()
