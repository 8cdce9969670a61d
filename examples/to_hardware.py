"""From a fitted model to hardware: a pipelined module, its test bench and C, checked by the tools that are installed.

    python examples/to_hardware.py [folder]

writes the files into a folder (default: ``hardware``) and runs iverilog, verilator and a C compiler on them. Each of
them checks 1,500 rows; the script fails if one finds a difference.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import make_friedman1

from sklearn_htmc import ResNetNormRegressor
from sklearn_htmc.circuit import Format, compile_circuit, estimate_luts, simulate, to_testbench

STAGES = 3

# What measures the inputs: five converters of ten bits, and the largest value of each.
LARGEST = {"voltage": 3.3, "pressure": 5.0, "valve": 1.0, "load": 100.0, "temperature": 40.0}
CONVERTERS = {name: Format.spanning(10, 0.0, largest) for name, largest in LARGEST.items()}
OUTPUT = Format.of_bits(12, -6, signed=True)  # what takes the output: twelve bits, six of them behind the point

CHECKS = {
    "iverilog": "iverilog -g2012 -o model_test model.v model_test.sv && vvp -n model_test",
    "verilator": "verilator --binary --top-module testbench model.v model_test.sv && obj_dir/Vtestbench",
    "cc": "cc -std=c99 -Wall -Wextra -Wconversion -pedantic -Werror -o in_c model.c model_test.c && ./in_c",
}


def write(folder: Path) -> None:
    """Fit, compile and write the files."""
    table, y = make_friedman1(500, n_features=5, noise=0.5, random_state=0)
    X = pd.DataFrame(table * list(LARGEST.values()), columns=list(LARGEST))

    model = ResNetNormRegressor(0.01, max_edges=20, random_state=0).fit(X, y)
    circuit = compile_circuit(model, X, epsilon=0.05, y=y, input_formats=CONVERTERS, output_format=OUTPUT)
    error = np.sqrt(np.mean((simulate(circuit, X) - model.predict(X)) ** 2)) / np.std(y)
    luts = estimate_luts(circuit, k=4).n_luts
    print(f"{circuit.n_gates} gates, {circuit.depth} deep; {luts} look-up tables of 4 inputs")
    print(
        f"error to the model, ports included: {error:.3f} standard deviations of the target ({circuit.epsilon} allowed)"
    )

    files = to_testbench(circuit, X, directory=folder, registers=STAGES)
    print(f"{', '.join(sorted(files))} are in {folder}{'/' if folder.name else ''}")


def check(folder: Path) -> None:
    """Run the tools that are installed."""
    for tool, command in CHECKS.items():
        if shutil.which(tool) is None:
            print(f"{tool}: not installed, not run")
            continue
        done = subprocess.run(command, cwd=folder, shell=True, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{tool} found a difference or failed:\n{done.stdout}{done.stderr}")
        print(f"{tool}: no difference")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "hardware")
    write(target)
    check(target)
