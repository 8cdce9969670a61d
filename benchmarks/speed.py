"""Times of ResNetNormRegressor as ratios to peers within one run, each beside its target.

Seconds differ from machine to machine, and from minute to minute on a shared one. What is compared
is therefore timed in turn, again and again, and the median is reported; most targets are ratios.
The data are made here. Every model runs with its default number of threads; on a machine that does
other work at the same time, pin the run to one core (see ``peers.py``).

Parts, for --only:
  fit      1,000 rows: fit with a fixed and with an automatic alpha, over a fit of an MLP
  batch    45 problems fitted as one batch, over the same 45 fitted one after the other
  scaling  growth of the fit time from 4,000 to 36,000 rows, as an exponent
  predict  a network of some 400 edges against an MLP: one row, and 100,000 rows
  circuits compilation of a network and of 500 trees, and simulation
  compile  seconds of every stage of compiling two large networks
  grown    CircuitRegressor: default fits of 1,000, 4,000, 8,000 and 40,000 rows, memory, prediction of a million rows
  splines  DeepSplineRegressor: default fits of 1,000 rows, two passes over wide, tall and several-target tables, parts
  large    a default fit on 40,000 rows: seconds and peak memory, in a process of its own
  rows     fits of 36,000 rows with fixed alphas: seconds of the processor
  memmap   three passes over 500,000 and 2,000,000 rows of a file: peak memory, growth of the time, partial_fit

    python benchmarks/speed.py --only fit,predict
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from peers import MODELS, available_cores, lightgbm, mlp, ours
from peers import splines as spline_model
from sklearn.datasets import make_friedman1
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from sklearn_htmc import CircuitRegressor

FIXED = 1e-3  # the alpha of every fit that does not choose its own
SIZES = (4_000, 12_000, 36_000)  # rows, for the growth of the fit time


@dataclass(frozen=True)
class Measurement:
    """One line of the report."""

    what: str
    value: float
    target: float
    unit: str = "x"  # of both numbers; "x" is a ratio
    note: str = ""
    at_least: bool = False  # the target is a lower bound rather than an upper one

    @property
    def verdict(self) -> str:
        met = self.value >= self.target if self.at_least else self.value <= self.target
        return "ok" if met else "missed"

    def cells(self) -> list[str]:
        bound = ">=" if self.at_least else "<="
        unit = self.unit if self.unit == "x" else f" {self.unit}".rstrip()
        measured, target = f"{self.value:.3g}{unit}", f"{bound} {self.target:g}{unit}"
        return [self.what, measured, target, self.verdict, self.note]


# --- data: inputs and targets of order one, so that the MLP needs no scaler -----------------------


def friedman(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Friedman's first function of 5 of 10 features, with noise of about a fifth of its spread."""
    X, y = make_friedman1(n_rows, n_features=10, noise=1.0, random_state=seed)
    return X * np.sqrt(12) - np.sqrt(3), _standardised(y)


def smooth(n_rows: int, seed: int, n_features: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Smooth function of 8 normal features, a sum of 12 random waves, with a tenth of noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_features))
    directions = rng.normal(size=(n_features, 12)) / np.sqrt(n_features)
    waves = np.sin(1.5 * X @ directions + rng.uniform(0, 2 * np.pi, 12))
    y = _standardised(waves @ rng.normal(size=12))
    return X, _standardised(y + 0.1 * rng.normal(size=n_rows))


def _standardised(y: np.ndarray) -> np.ndarray:
    return (y - y.mean()) / y.std()


DATA = {"friedman1": friedman, "smooth function": smooth}


# --- timing ---------------------------------------------------------------------------------------


def seconds(call: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(calls: Sequence[Callable[[], Any]], repeats: int) -> np.ndarray:
    """Seconds of every call, timed in turn so that a slow minute hits all: (repeats, calls)."""
    return np.array([[seconds(call) for call in calls] for _ in range(repeats)])


def warm_up() -> None:
    """Fit and predict once on a few rows: the first fit pays for imports."""
    X, y = smooth(60, seed=0)
    for model in (ours(alpha=FIXED), mlp(4)):
        model.fit(X, y).predict(X)


def show(seconds_each: float) -> str:
    """Seconds with a readable unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds_each >= size:
            return f"{seconds_each / size:.3g} {unit}"
    return f"{seconds_each / 1e-6:.3g} us"


# --- the parts ------------------------------------------------------------------------------------


def fit(repeats: int) -> Iterator[Measurement]:
    """Fits on 1,000 rows over the fit of an MLP, which ends when its own rule says so."""
    for name, make in DATA.items():
        times = np.array([_fit_seconds(*make(1_000, seed), seed) for seed in range(repeats)])
        fixed, auto, peer = times.T
        for what, ratio, target, own in (
            (f"alpha={FIXED:g}", fixed / peer, 3.0, fixed),
            ('alpha="auto"', auto / peer, 6.0, auto),
        ):
            yield Measurement(
                f"fit, {what}, 1,000 rows of {name} / MLP (64, 64)",
                float(np.median(ratio)),
                target,
                note=f"{show(np.median(own))} / {show(np.median(peer))}",
            )


def _fit_seconds(X: np.ndarray, y: np.ndarray, seed: int) -> list[float]:
    """Seconds of a fixed and an automatic alpha and of the MLP, on the same data."""
    models = (
        ours(alpha=FIXED, random_state=seed),
        ours(random_state=seed),
        mlp(64, 64, random_state=seed),
    )
    return [seconds(partial(model.fit, X, y)) for model in models]


def batch(repeats: int) -> Iterator[Measurement]:
    """45 problems as one batch against 45 fits, both on one core, as in the search for alpha: first order only."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=stay_on_one_core) as pool:
        together, separate = np.array(pool.submit(batch_versus_separate, repeats).result()).T
    yield Measurement(
        "45 separate fits / the same as one batch, on one core",
        float(np.median(separate / together)),
        3.0,
        note=f"{show(np.median(separate))} / {show(np.median(together))}",
        at_least=True,
    )


def stay_on_one_core() -> None:
    """Give up all cores but one, for good: what batching saves is not what a second core saves."""
    threadpool_limits(1)  # the libraries that are loaded already
    if hasattr(os, "sched_setaffinity"):  # and those that will be: Linux only
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def batch_versus_separate(repeats: int) -> list[tuple[float, float]]:
    """Seconds of 45 problems (15 strengths x 3 folds) as one batch and one by one, per repeat.

    Runs in a process of its own that stays on one core.
    """
    from sklearn_htmc._training.core.problems import Problems, Settings
    from sklearn_htmc._training.fit import fit_problems
    from sklearn_htmc._training.residual.finish import ResidualFamily
    from sklearn_htmc._training.residual.network import ResidualNetwork

    stay_on_one_core()
    X, y = make_friedman1(n_samples=1000, noise=1.0, random_state=0)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), ((y - y.mean()) / y.std())[:, None]
    fold = np.arange(1000) % 3
    strengths = np.geomspace(1e-4, 0.03, 15)
    weights = np.array([fold != f for _ in strengths for f in range(3)], dtype=float)
    together = Problems(tuple(np.repeat(strengths, 3)), (0,) * 45, weights)
    architecture, settings = ResidualNetwork(10, 1, 32, (64, 64)), Settings(60, 128, polish=False)

    def fit(problems: Problems) -> float:
        start = time.perf_counter()
        fit_problems(X, y, problems, family=ResidualFamily(architecture), settings=settings)
        return time.perf_counter() - start

    fit(together.part(0, 1))  # what happens once only
    return [(fit(together), sum(fit(together.part(i, i + 1)) for i in range(45))) for _ in range(repeats)]


def scaling(repeats: int) -> Iterator[Measurement]:
    """Exponent of the fit time in the number of rows, by a line through the logarithms."""
    for what, parameters in (
        (f"alpha={FIXED:g}", {"alpha": FIXED}),
        ('alpha="auto"', {}),
    ):
        calls = [_fit_of(n_rows, parameters) for n_rows in SIZES]
        medians = np.median(in_turn(calls, repeats), axis=0)
        sizes = f"{SIZES[0]:,} to {SIZES[-1]:,} rows"
        yield Measurement(
            f"growth of the fit time, {what}, {sizes}, exponent",
            float(np.polyfit(np.log(SIZES), np.log(medians), 1)[0]),
            1.1,
            unit="",
            note=", ".join(show(median) for median in medians),
        )


def _fit_of(n_rows: int, parameters: dict[str, Any]) -> Callable[[], Any]:
    X, y = smooth(n_rows, seed=0)
    return lambda: ours(**parameters).fit(X, y)


def predict(repeats: int) -> Iterator[Measurement]:
    """Calls of predict on one row and on 100,000, over those of an MLP on the same rows."""
    X, y = smooth(2_000, seed=0)
    # A small alpha, so that the budget and not the penalty decides how many edges stay.
    small = ours(alpha=1e-4, max_edges=400).fit(X, y)
    peer = mlp(64, 64).fit(X, y)
    for n_rows, calls in ((1, 300 * repeats), (100_000, 5 * repeats)):
        rows = np.random.default_rng(1).normal(size=(n_rows, X.shape[1]))
        times = in_turn([partial(model.predict, rows) for model in (small, peer)], calls)
        own, other = np.median(times[calls // 10 :], axis=0)  # the first ones warm up
        yield Measurement(
            f"predict, {n_rows:,} row{'s' * (n_rows > 1)}, {small.n_edges_} edges / MLP (64, 64)",
            own / other,
            1.0,
            note=f"{show(own)} / {show(other)}",
        )


def large(repeats: int) -> Iterator[Measurement]:
    """A default fit on 40,000 rows of 8 features, each time in a fresh process."""
    runs = []
    for _ in range(repeats):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            runs.append(pool.submit(_large_fit).result())
    took, peak = np.median(runs, axis=0)
    yield Measurement("default fit, 40,000 rows x 8 features", float(took), 180.0, "s")
    yield Measurement("its peak memory, the interpreter included", float(peak), 1.5, "GB")


def _large_fit() -> tuple[float, float]:
    """Seconds, imports included, and peak memory in GB."""
    X, y = smooth(40_000, seed=0)
    took = seconds(lambda: ours().fit(X, y))
    return took, peak_memory() / 1e9


def rows(repeats: int) -> Iterator[Measurement]:
    """Fits of 36,000 rows with alphas that end above and below the number of edges that the second phase takes."""
    X, y = smooth(36_000, seed=0)
    for alpha in (1e-3, 3e-3, 1e-2):
        took = [processor_seconds(lambda alpha=alpha: ours(alpha=alpha).fit(X, y)) for _ in range(repeats)]
        yield Measurement(f"fit, alpha={alpha:g}, 36,000 rows x 8, of one core", float(np.median(took)), 20.0, "s")


def processor_seconds(call: Callable[[], Any]) -> float:
    """Time one call by what the processor has done for this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


MAPPED_ROWS = (500_000, 2_000_000)


def memmap(repeats: int) -> Iterator[Measurement]:
    """Fits of files of ten single features that are mapped into memory, each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        for n_rows in MAPPED_ROWS:
            write_rows(Path(folder), n_rows)
        for what, target in (("fit", 1.1), ("partial_fit", 1.1)):
            runs = []
            for _ in range(repeats):
                for n_rows in MAPPED_ROWS:
                    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                        runs.append(pool.submit(_mapped_fit, folder, n_rows, what).result())
            took, peak = np.median(np.reshape(runs, (repeats, len(MAPPED_ROWS), 2)), axis=0).T
            name = "max_iter=3" if what == "fit" else "one pass"
            sizes = f"{MAPPED_ROWS[0]:,} to {MAPPED_ROWS[-1]:,} mapped rows x 10"
            growth = float(np.polyfit(np.log(MAPPED_ROWS), np.log(took), 1)[0])
            note = ", ".join(show(each) for each in took) + " of one core"
            yield Measurement(f"{what}, {name}, {sizes}, exponent", growth, target, "", note)
            yield Measurement("its peak memory, the interpreter included", float(peak[-1]), 1.5, "GB")


def write_rows(folder: Path, n_rows: int, part: int = 100_000) -> None:
    """Write single features and targets, some rows at a time."""
    X = np.lib.format.open_memmap(folder / f"X{n_rows}.npy", "w+", np.float32, (n_rows, 10))
    y = np.lib.format.open_memmap(folder / f"y{n_rows}.npy", "w+", np.float32, (n_rows,))
    for start in range(0, n_rows, part):
        X[start : start + part], y[start : start + part] = friedman(min(part, n_rows - start), seed=start)


def _mapped_fit(folder: str, n_rows: int, what: str) -> tuple[float, float]:
    """Seconds of the processor, and peak memory in GB."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = (np.load(Path(folder) / f"{name}{n_rows}.npy", mmap_mode="r") for name in ("X", "y"))
    model = ours(alpha=1e-2, max_iter=3)
    took = processor_seconds(lambda: getattr(model, what)(X, y))
    return took, peak_memory() / 1e9


def circuits(repeats: int) -> Iterator[Measurement]:
    """Compilation of a network of 400 edges and of 500 trees on 1,000 rows, and simulation."""
    from sklearn_htmc.circuit import compile_circuit, simulate

    X, y = make_friedman1(n_samples=1000, noise=1.0, random_state=0)
    network = ours(alpha=1e-4, max_edges=400).fit(X, y)
    models: list[tuple[str, Any, float]] = [(f"a network of {network.n_edges_} edges", network, 2.0)]
    if MODELS["lightgbm"].installed:
        models.append(("LightGBM, 500 x 31 leaves", lightgbm().fit(X, y), 10.0))
    for name, model, limit in models:
        times = [seconds(lambda model=model: compile_circuit(model, X, epsilon=0.05, y=y)) for _ in range(repeats)]
        yield Measurement(f"compile_circuit, {name}, 1,000 rows", float(np.median(times)), limit, "s")
    circuit = compile_circuit(network, X, epsilon=0.05, y=y)
    rows = np.random.default_rng(0).uniform(size=(100_000, X.shape[1]))
    took = np.median([seconds(lambda: simulate(circuit, rows)) for _ in range(repeats)])
    rate = len(circuit.nodes) * len(rows) / took / 1e6
    yield Measurement("simulate, million nodes times rows per second", float(rate), 10.0, unit="", at_least=True)


STAGES = {  # where stages of compiling are looked up when they are called
    "rounding": ("sklearn_htmc.circuit._compile", "_rounding"),
    "sharing, within rounding": ("sklearn_htmc.circuit._quantise.sums", "shared"),
    "growth": ("sklearn_htmc.circuit._compile", "_grown"),
    "growth and search": ("sklearn_htmc.circuit._compile", "_shrink"),
}


def compiling(repeats: int) -> Iterator[Measurement]:
    """Stages of compiling a dense network of 4,212 edges at a fine epsilon, and an MLP with layers of 64 neurons."""
    from sklearn_htmc.circuit import compile_circuit

    X, y = friedman(1_000, seed=0)
    cases = [("dense network", dense_network(X), 1e-3, 60.0), ("MLP (64, 64)", mlp(64, 64).fit(X, y), 0.1, 60.0)]
    for name, model, epsilon, target in cases:
        runs = []
        for _ in range(repeats):
            with timed_stages() as took:
                took["in all"] = seconds(partial(compile_circuit, model, X, epsilon=epsilon))
            runs.append(took)
        for stage in (*STAGES, "in all"):
            took_each = float(np.median([took[stage] for took in runs]))
            yield Measurement(f"compile {name}, epsilon {epsilon:g}: {stage}", took_each, target, "s")


def dense_network(X: np.ndarray, width: int = 26, n_neurons: int = 15, n_blocks: int = 5) -> Any:
    """Return a random residual network with two outputs in which every weight is there."""
    from scipy.sparse import csr_array

    from sklearn_htmc._network import Block, SparseNetwork

    rng = np.random.default_rng(0)

    def dense(n_rows: int, n_columns: int) -> Any:
        return csr_array(rng.normal(size=(n_rows, n_columns)) / np.sqrt(n_columns))

    def affine(n_rows: int, n_columns: int) -> Block:
        none = csr_array((0, n_columns)), np.zeros(0), csr_array((n_rows, 0))
        return Block(*none, dense(n_rows, n_columns), rng.normal(scale=0.1, size=n_rows))

    def block() -> Block:
        offset = rng.normal(scale=0.1, size=width)
        return Block(dense(n_neurons, width), rng.normal(size=n_neurons), dense(width, n_neurons), None, offset)

    blocks = (affine(width, X.shape[1]), *(block() for _ in range(n_blocks)), affine(2, width))
    return SparseNetwork(blocks, np.array([X.min(axis=0), X.max(axis=0)]), True)


@contextmanager
def timed_stages() -> Iterator[dict[str, float]]:
    """Sum up the seconds of the stages of compiling while this is entered."""
    took = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args)
            finally:
                took[stage] += time.perf_counter() - start

        return run

    with ExitStack() as stack:
        for stage, (module, name) in STAGES.items():
            call = getattr(import_module(module), name)
            stack.enter_context(mock.patch(f"{module}.{name}", timed(stage, call)))
        yield took


def grown(repeats: int) -> Iterator[Measurement]:
    """Default fits of CircuitRegressor, growth of their time at a fixed price, and prediction."""
    for name, make in DATA.items():
        X, y = make(1000, seed=0)
        times = [seconds(lambda X=X, y=y: CircuitRegressor().fit(X, y)) for _ in range(repeats)]
        yield Measurement(f"CircuitRegressor, default fit, 1,000 rows, {name}", float(np.median(times)), 5.0, "s")
    small, large = (
        seconds(lambda n=n_rows: CircuitRegressor(1e-4, augment=False).fit(*smooth(n, seed=0)))
        for n_rows in (8_000, 32_000)
    )
    yield Measurement(
        "CircuitRegressor(1e-4, augment=False), 8,000 to 32,000 rows, exponent",
        float(np.log2(large / small) / 2),
        1.1,
        "",
    )
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        took, peak = pool.submit(_large_grown_fit).result()
    yield Measurement("CircuitRegressor, default fit, 40,000 rows x 8 features", took, 60.0, "s")
    yield Measurement("its peak memory, the interpreter included", peak, 1.0, "GB")
    model = CircuitRegressor(max_gates=500).fit(*friedman(1000, seed=0))
    rows, _ = friedman(1_000_000, seed=1)
    took = seconds(lambda: model.predict(rows))
    yield Measurement(f"CircuitRegressor, {model.n_gates_} gates, predict a million rows", took, 10.0, "s")


def _large_grown_fit() -> tuple[float, float]:
    """Seconds, and peak memory in GB."""
    X, y = smooth(40_000, seed=0)
    took = seconds(lambda: CircuitRegressor().fit(X, y))
    return took, peak_memory() / 1e9


def splines(repeats: int) -> Iterator[Measurement]:
    """Fits of DeepSplineRegressor, and what its parts cost on 1,000 rows: training, the path of lassos, a search."""
    for name, make in DATA.items():
        X, y = make(1_000, seed=0)
        times = [seconds(lambda X=X, y=y: spline_model().fit(X, y)) for _ in range(repeats)]
        yield Measurement(f"DeepSplineRegressor, default fit, 1,000 rows, {name}", float(np.median(times)), 3.0, "s")
    for n_rows, n_features, limit in ((500, 2_000, 30.0), (200_000, 20, 60.0)):
        X, y = smooth(n_rows, seed=0, n_features=n_features)
        took = seconds(lambda X=X, y=y: spline_model(max_iter=2).fit(X, y))
        yield Measurement(f"DeepSplineRegressor(max_iter=2), {n_rows:,} x {n_features:,}", took, limit, "s")
    X, y = smooth(150, seed=0, n_features=3)
    took = seconds(lambda: ours(max_iter=5).fit(X, np.column_stack([y, y**2, X[:, :2]])))
    yield Measurement("ResNetNormRegressor(max_iter=5), 150 x 3, 4 targets", took, 10.0, "s")
    X, y = smooth(1_000, seed=0)
    for what, parameters in (
        ("one layer, worth of the last round 0", {"ranks": (), "alpha": 0.01}),
        ("two layers, a trial and the last lasso", {"alpha": 0.01}),
        ("two layers, all passes", {"alpha": 0.01, "early_stopping": True, "n_iter_no_change": 1_000}),
    ):
        took = seconds(lambda parameters=parameters: spline_model(**parameters).fit(X, y))
        yield Measurement(f"DeepSplineRegressor, 1,000 rows, {what}", took, 15.0, "s")


def peak_memory() -> int:
    """Most bytes that this process has held in memory."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux getrusage also counts what the parent held when it started this process.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # Unix only

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


PARTS: dict[str, tuple[Callable[[int], Iterator[Measurement]], int]] = {
    "fit": (fit, 5),  # and how often to repeat
    "batch": (batch, 3),
    "scaling": (scaling, 1),
    "predict": (predict, 5),
    "circuits": (circuits, 3),
    "compile": (compiling, 1),
    "grown": (grown, 3),
    "splines": (splines, 1),
    "large": (large, 1),
    "rows": (rows, 1),
    "memmap": (memmap, 1),
}


# --- command line ---------------------------------------------------------------------------------


def part_names(text: str) -> list[str]:
    """Parse a comma-separated list of parts."""
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"unknown part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    return list(dict.fromkeys(names))


def positive(text: str) -> int:
    """Parse a number of repeats."""
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    text, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=text, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ",".join(PARTS)
    parser.add_argument("--only", type=part_names, default=list(PARTS), help=f"default: {every}")
    counts = ", ".join(f"{name} {repeats}" for name, (_, repeats) in PARTS.items())
    parser.add_argument("--repeats", type=positive, help=f"for each part (default: {counts})")
    parser.add_argument("--out", type=Path, help="Markdown file for the report")
    return parser.parse_args(arguments)


def measure(parts: list[str], repeats: int | None) -> Iterator[Measurement]:
    """Run the parts; a part that cannot run yet says so and the next one follows."""
    for name in parts:
        part, default = PARTS[name]
        try:
            yield from part(repeats or default)
        except NotImplementedError as error:
            print(f"note: {name} is skipped, {error}.", file=sys.stderr)


def markdown(measurements: list[Measurement]) -> str:
    """Everything that was measured, as one table."""
    head = ["", "measured", "target", "", "medians"]
    rows = [head, ["---", "---:", "---:", "---", "---"], *(m.cells() for m in measurements)]
    python = f"Python {platform.python_version()}"
    machine = f"{available_cores()} of {os.cpu_count()} cores, {platform.machine()}, {python}."
    return "\n".join([f"Measured on {machine}", "", *(f"| {' | '.join(row)} |" for row in rows)])


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if find_spec("sklearn_htmc") is None:
        raise SystemExit("sklearn-htmc is not installed here: run pip install -e . first.")
    # The MLP may stop at max_iter and a sparse network short of tol: here only time counts.
    warnings.simplefilter("ignore", ConvergenceWarning)
    if set(options.only) - {"batch", "large", "memmap"}:
        warm_up()
    measurements = []
    for measurement in measure(options.only, options.repeats):
        measurements.append(measurement)
        what, measured, target, verdict, note = measurement.cells()
        print(f"{what:64} {measured:>9} {target:>9}  {verdict:6}  {note}", flush=True)
    if options.out:
        options.out.write_text(markdown(measurements) + "\n")


if __name__ == "__main__":
    main()
