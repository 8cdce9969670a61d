"""Flash, memory and cycles of circuits in C on an 8-bit microcontroller.

About twelve circuits of all families, made once and kept in ``--cache``, are written with `to_c`, compiled with avr-gcc
and run in the simulator simavr: on test rows and on random words at the ports. Every output is compared with the
simulation of the circuit. On Debian: ``apt install gcc-avr avr-libc simavr``.

    python benchmarks/microcontroller.py --data uci_datasets --cache cache

A way is a name with keyword arguments of ``to_c``. Another version of the package is measured by running this script
with that version on the path, the same cache and, say, ``--ways '{"before": {}}'``; the older version comes first, since
circuit files are read by later versions only. Then ``--compared before,least`` makes the table.

Flash is what the linked program grows by, helpers of the compiler included; memory is static memory and the stack of
the function, both without the caller's rows. Cycles are those of a call, counted by a timer of the simulated device.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import ours, scaled_mlp, splines
from quality import markdown_table, train_and_test
from resynthesis import lightgbm
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor
from sklearn_htmc.circuit import Circuit, compile_circuit, to_c
from sklearn_htmc.circuit._simulate import simulate_codes

LEVELS = ("-Os", "-O2")
EPSILON = 0.05
ROWS = 100  # of the test set, and as many random words
PART = 50  # rows of one program, which the flash of the device holds
WAYS: dict[str, dict[str, Any]] = {"least": {}}

MODELS: dict[str, Callable[[], Any]] = {
    "ridge": Ridge,
    "network, 30 edges": lambda: ours(alpha=0.001, max_edges=30),
    "network, 100 edges": lambda: ours(alpha=0.001, max_edges=100),
    "spline": lambda: splines(alpha=0.001, max_neurons=16),
    "MLP (16,)": lambda: scaled_mlp(16),
    "tree": lambda: DecisionTreeRegressor(min_samples_leaf=5, random_state=0),
    "forest": lambda: RandomForestRegressor(10, min_samples_leaf=3, random_state=0),
    "histograms": lambda: HistGradientBoostingRegressor(max_iter=50, random_state=0),
    "LightGBM 20 x 8": lambda: lightgbm(n_estimators=20, num_leaves=8, learning_rate=0.29),
    "CircuitRegressor": lambda: CircuitRegressor(1e-3),
    "two outputs": lambda: ours(alpha=0.001, max_edges=60),
    "pipeline": lambda: make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=30, random_state=0)),
}

PROGRAM = """\
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/sleep.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void model(const {x} *x, {y} *y);

static const {x} inputs[] PROGMEM = {{{inputs}}};
static const {y} expected[] PROGMEM = {{{expected}}};
static volatile uint32_t turns;

ISR(TIMER1_OVF_vect) {{ turns++; }}

static void say(uint32_t number)
{{
    char text[12];
    const char *c = ultoa(number, text, 10);
    for (; *c; c++) {{ UDR0 = *c; while (!(UCSR0A & (1 << UDRE0))); }}
    UDR0 = '\\n';
}}

int main(void)
{{
    uint32_t total = 0, most = 0, wrong = 0, spent;
    uint16_t row;
    UCSR0B = 1 << TXEN0;
    TIMSK1 = 1 << TOIE1;
    for (row = 0; row < {n_rows}; row++) {{
        {x} x[{n_inputs}];
        {y} y[{n_outputs}], right[{n_outputs}];
        memcpy_P(x, inputs + (uint16_t)(row * {n_inputs}), sizeof x);
        memcpy_P(right, expected + (uint16_t)(row * {n_outputs}), sizeof right);
        turns = 0;
        TCNT1 = 0;
        sei();
        TCCR1B = 1;
        model(x, y);
        cli();
        spent = TCNT1;
        if ((TIFR1 & (1 << TOV1)) && spent < 0x8000) turns++;
        TIFR1 = 1 << TOV1;
        TCCR1B = 0;
        spent += turns << 16;
        total += spent;
        most = spent > most ? spent : most;
        wrong += memcmp(y, right, sizeof y) != 0;
    }}
    say(total);
    say(most);
    say(wrong);
    sleep_enable();
    sleep_cpu();
    return 0;
}}
"""

# What is linked for the size: with the function and without it.
CALLER = """\
#include <stdint.h>
void model(const {x} *x, {y} *y);
{x} x[{n_inputs}];
{y} y[{n_outputs}];
int main(void) {{ for (;;) model(x, y); }}
"""
NOTHING = (
    "#include <stdint.h>\nvoid model(const {x} *x, {y} *y);\nvoid model(const {x} *x, {y} *y) {{ (void)x; (void)y; }}\n"
)


def circuit_of(arguments: argparse.Namespace, name: str) -> tuple[Circuit, np.ndarray]:
    """Return the circuit of a model, compiled once, and test rows."""
    X, y, X_test, _ = train_and_test(arguments.data, "concrete", 0)
    path = arguments.cache / f"{name}.json"
    if not path.exists():
        model = MODELS[name]()
        if name == "two outputs":
            y = np.column_stack([y, X[:, 0] * y])
        model.fit(X, y)
        circuit = model.circuit_ if name == "CircuitRegressor" else compile_circuit(model, X, epsilon=EPSILON, y=y)
        circuit.save(path)
        print(f"{name}: {circuit.n_gates} gates", flush=True)
    return Circuit.load(path), X_test


def codes_of(circuit: Circuit, X: np.ndarray) -> np.ndarray:
    """Return codes of the input ports: of rows, then random words; shape (n_rows, n_inputs)."""
    rng = np.random.default_rng(0)
    columns = []
    for port, form in enumerate(circuit.input_formats):
        columns.append(np.append(form.encode(X[:ROWS, port]), rng.integers(*form.word, size=ROWS, endpoint=True)))
    return np.column_stack(columns)


def simulated(circuit: Circuit, codes: np.ndarray) -> np.ndarray:
    """Return the right integers; before version 0.2 codes came as a list of columns."""
    try:
        return np.asarray(simulate_codes(circuit, codes))
    except (TypeError, ValueError):
        return np.column_stack(simulate_codes(circuit, list(codes.T)))


def run(command: list[str], folder: Path) -> str:
    """Run a command and return what it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout + done.stderr


def flash_and_memory(folder: Path, mcu: str, level: str, names: dict[str, Any]) -> tuple[int, int]:
    """Return bytes that a program grows by, and static memory with the stack of the functions."""
    (folder / "caller.c").write_text(CALLER.format(**names))
    (folder / "nothing.c").write_text(NOTHING.format(**names))
    sizes = []
    for source in ("nothing.c", "model.c"):
        flags = [f"-mmcu={mcu}", level, "-std=c99", "-fstack-usage", "-ffunction-sections", "-Wl,--gc-sections"]
        run(["avr-gcc", *flags, "-o", "size.elf", "caller.c", source], folder)
        text, data, bss = run(["avr-size", "size.elf"], folder).splitlines()[1].split()[:3]
        sizes.append((int(text) + int(data), int(data) + int(bss)))
    frames = (folder / "model.su").read_text().splitlines()
    stack = sum(int(line.split("\t")[1]) for line in frames)
    return sizes[1][0] - sizes[0][0], sizes[1][1] - sizes[0][1] + stack


# Skips of a short instruction that simavr 1.6 takes for a long one, and so skips two.
_SKIP = re.compile(r"^(\s+(?:sbrc|sbrs|cpse|sbic|sbis)\s.*\n)(?=\s+(?:adiw|sbiw)\s+\w+,\s*(\d+)\s)", re.MULTILINE)


def compile_for_simulator(folder: Path, mcu: str, level: str) -> None:
    """Compile and link, with jumps around the instructions that the simulator does not skip right: a cycle more."""
    flags = [f"-mmcu={mcu}", level, "-std=c99", "-Wall", "-Wextra", "-Wno-overflow"]
    for name in ("main", "model"):
        run(["avr-gcc", *flags, "-S", f"{name}.c"], folder)
        text = (folder / f"{name}.s").read_text()
        (folder / f"{name}.s").write_text(
            _SKIP.sub(lambda found: found[1] + "\trjmp .+2\n\trjmp .+2\n" * (int(found[2]) % 16 >= 12), text)
        )
    run(["avr-gcc", f"-mmcu={mcu}", "-o", "program.elf", "main.s", "model.s"], folder)


def measured(circuit: Circuit, codes: np.ndarray, source: str, mcu: str, level: str) -> dict[str, float]:
    """Compile a function, run it on the simulated device and compare all outputs."""
    right = simulated(circuit, codes)
    types = re.search(r"void model\(const (\w+) \*x, (\w+) \*y\)", source)
    names = {"x": types[1], "y": types[2], "n_inputs": codes.shape[1], "n_outputs": right.shape[1]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.c").write_text(source)
        flash, memory = flash_and_memory(folder, mcu, level, names)
        n_cases = cycles = most = wrong = 0
        for part in range(0, len(codes), PART):
            inputs, expected = codes[part : part + PART], right[part : part + PART]
            texts = {
                "inputs": ", ".join(map(str, inputs.ravel())),
                "expected": ", ".join(f"{n}LL" for n in expected.ravel()),
                "n_rows": len(inputs),
            }
            (folder / "main.c").write_text(PROGRAM.format(**names, **texts))
            compile_for_simulator(folder, mcu, level)
            said = run(["simavr", "-m", mcu, "-f", "16000000", "program.elf"], folder)
            found = [int(n) for n in re.findall(r"^\D*(\d+)\.", re.sub(r"\x1b\[\d+m", "", said), re.MULTILINE)]
            if len(found) != 3:
                raise SystemExit(f"the simulator said:\n{said}")
            n_cases, cycles, most, wrong = (
                n_cases + len(inputs),
                cycles + found[0],
                max(most, found[1]),
                wrong + found[2],
            )
    return {"flash": flash, "memory": memory, "cycles": cycles / n_cases, "most": most, "wrong": wrong, "rows": n_cases}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--cache", type=Path, required=True, help="folder for circuits and results")
    parser.add_argument("--models", type=lambda text: text.split(";"), default=list(MODELS), help="separated by ;")
    parser.add_argument("--mcu", default="atmega2560")
    parser.add_argument("--levels", type=lambda text: [f"-{level}" for level in text.split(",")], default=list(LEVELS))
    parser.add_argument("--ways", type=json.loads, default=WAYS, help="JSON: names and arguments of to_c")
    parser.add_argument("--compared", type=lambda text: text.split(","), default=None, help="ways in the table")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    for name in arguments.models:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            circuit, X = circuit_of(arguments, name)
        for way, options in arguments.ways.items():
            for level in arguments.levels:
                path = arguments.cache / f"{name}-{way}{level}.json"
                if not path.exists():
                    source = to_c(circuit, **options)
                    found = measured(circuit, codes_of(circuit, X), source, arguments.mcu, level)
                    path.write_text(json.dumps(found))
                    print(f"{name}, {way}, {level}: {found}", flush=True)
    print(report(arguments))


def report(arguments: argparse.Namespace) -> str:
    """Return one table per level: bytes of flash and memory and cycles of every way."""
    ways = arguments.compared or list(arguments.ways)
    text = []
    for level in arguments.levels:
        rows = []
        for name in arguments.models:
            found = [json.loads((arguments.cache / f"{name}-{way}{level}.json").read_text()) for way in ways]
            gates = Circuit.load(arguments.cache / f"{name}.json").n_gates
            cells = [f"{each['flash']:,}, {each['memory']:,}, {each['cycles']:,.0f}" for each in found]
            wrong = sum(each["wrong"] for each in found)
            rows.append([name, f"{gates:,}", *cells, f"{wrong} of {sum(each['rows'] for each in found):,}"])
        text.append(markdown_table([f"{level}: flash, memory, cycles", "gates", *ways, "wrong"], rows))
    return "\n\n".join(text)


if __name__ == "__main__":
    main()
