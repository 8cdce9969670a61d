"""Flash, memory and cycles of circuits in C on an 8-bit microcontroller.

Twelve circuits (``referees.py``) are written with `to_c`, compiled with avr-gcc and run in the simulator simavr: on
test rows and on random words at the ports. Every output is compared with the simulation of the circuit. On Debian:

    apt-get install gcc-avr avr-libc simavr
    python benchmarks/microcontroller.py --data uci_datasets --cache cache

An older `to_c`, taken out of the history, is measured beside the present one on the same circuits:

    git show 037efbf:sklearn_htmc/circuit/_c.py > before.py
    python benchmarks/microcontroller.py --data uci_datasets --cache cache --before before.py

Flash is what the linked program grows by, helpers of the compiler included; memory is static memory and the stack of
the function, both without the caller's rows. Cycles are those of a call, counted by a timer of the simulated device,
the mean over all rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from quality import markdown_table, train_and_test
from referees import MODELS, referee

from sklearn_htmc.circuit import Circuit, Graph, simulate_codes, to_c

ROWS = 100  # of the test set, and as many random words
PART = 50  # rows of one program, which the flash of the device holds
TOOLS = ("avr-gcc", "avr-size", "simavr")

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


def codes_of(circuit: Circuit, X: np.ndarray) -> np.ndarray:
    """Return codes of the input ports: of rows, then random words; shape (n_rows, n_inputs)."""
    rng = np.random.default_rng(0)
    columns = []
    for port, form in enumerate(circuit.input_formats):
        columns.append(np.append(form.encode(X[:ROWS, port]), rng.integers(*form.word, size=ROWS, endpoint=True)))
    return np.column_stack(columns)


def run(command: list[str], folder: Path) -> str:
    """Run a command and return what it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout + done.stderr


def flash_and_memory(folder: Path, mcu: str, level: str, names: dict[str, object]) -> tuple[int, int]:
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


def measured(circuit: Circuit, codes: np.ndarray, source: str, mcu: str, level: str) -> str:
    """Compile a function, run it on the simulated device, compare all outputs, and return flash, memory and cycles."""
    right = simulate_codes(circuit, codes)
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
    if wrong:
        raise SystemExit(f"{wrong} of {n_cases} rows differ.")
    return f"{flash:,} | {memory:,} | {cycles / n_cases:,.0f} | {most:,}"


def writer(path: Path) -> Callable[[Graph], str]:
    """Return the `to_c` of a file."""
    spec = importlib.util.spec_from_file_location("before", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.to_c


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the UCI sets")
    parser.add_argument("--cache", type=Path, required=True, help="folder for circuit files")
    parser.add_argument("--set", default="concrete", help="data set (default: concrete)")
    parser.add_argument("--models", default=";".join(MODELS), help="separated by semicolons")
    parser.add_argument("--mcu", default="atmega2560", help="device (default: atmega2560)")
    parser.add_argument("--levels", default="-Os,-O2", type=lambda text: text.split(","), help="of optimisation")
    parser.add_argument("--given", action="store_true", help="ports of ten bits instead of those that are chosen")
    parser.add_argument("--before", type=Path, help="file with another to_c")
    arguments = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"{', '.join(missing)} must be installed.")
    writers = ({"before": writer(arguments.before)} if arguments.before else {}) | {"now": to_c}
    X, y, X_test, _ = train_and_test(arguments.data, arguments.set, 0)
    rows = []
    for name in arguments.models.split(";"):
        circuit = referee(arguments.cache, name, X, y, given=arguments.given)
        codes = codes_of(circuit, X_test)
        for level in arguments.levels:
            for way, write in writers.items():
                found = measured(circuit, codes, write(circuit), arguments.mcu, level)
                rows.append([name, f"{circuit.n_gates:,}", level, way, *found.split(" | ")])
                print(" | ".join(rows[-1]), flush=True)
    print(markdown_table(["circuit", "gates", "", "to_c", "flash", "memory", "cycles", "at most"], rows))


if __name__ == "__main__":
    main()
