"""Random problems through everything: fit, predict, compile, simulate, texts, files.

A finding is an exception other than a refusal that is documented, a warning other than ConvergenceWarning and that of a
strength which leaves nothing, a prediction
that is not finite, an error of a circuit above its epsilon or other than an independent measurement, and a copy that
differs. Every finding is printed with the seed that repeats it; the exit status is 1 if there is any.

    python benchmarks/fuzz.py --seconds 600
    python benchmarks/fuzz.py --seed 17 --cases 1
"""

from __future__ import annotations

import argparse
import math
import pickle
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, DeepSplineRegressor, ResNetNormRegressor
from sklearn_htmc.circuit import Circuit, Format, compile_circuit, simulate, to_c, to_verilog, verify

PEERS = (LinearRegression, DecisionTreeRegressor, RandomForestRegressor)
_KNOWN = ("alpha is ", "words of 24 bits or more", "a single value sets")  # begin warnings that are meant
_RELATIVE = 1e-6  # by which two measurements of an error may differ
_ROUNDING = 1e-12  # of the largest value: what a sum in floating point may lose
_CONSTANT = 1e-12  # relative spread below which a target counts as constant and its unit is 1
# What compile_circuit may say of a valid problem.
_REFUSALS = (
    "no circuit",
    "does not reach",
    "not finite",
    "must hold its values",
    "must be those that the circuit",
    "must have scale=1 and offset=0 for a circuit",
)


@dataclass
class Case:
    """A problem, a regressor and how to compile it."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    model: Any
    epsilon: float
    options: dict[str, Any]

    def __str__(self) -> str:
        """Say what is needed to recognise the problem."""
        return (
            f"{self.model}, X {self.X.dtype}{self.X.shape}, y {self.y.dtype}{self.y.shape}, "
            f"{'weights' if self.weights is not None else 'no weights'}, epsilon {self.epsilon:.3g}, {self.options}"
        )


@dataclass
class Report:
    """What was found, by seed."""

    findings: list[str] = field(default_factory=list)
    cases: int = 0
    refused: int = 0


# Problems


def _column(rng: np.random.Generator, n_rows: int) -> np.ndarray:
    kind = rng.integers(6)
    if kind == 0:
        return np.full(n_rows, rng.normal())
    if kind == 1:
        return rng.integers(-5, 6, size=n_rows).astype(float)
    if kind == 2:
        return rng.integers(2, size=n_rows).astype(float)
    if kind == 3:
        return rng.standard_t(2, size=n_rows)
    return rng.normal(size=n_rows) + (10.0 ** rng.integers(0, 6) if kind == 4 else 0.0)


def _scaled(rng: np.random.Generator, columns: np.ndarray, limit: int) -> np.ndarray:
    """Return columns in units of their own, one half of the time those of all columns are alike or one."""
    kind = rng.integers(4)
    exponents = rng.uniform(-limit, limit, size=columns.shape[1] if kind == 0 else 1)
    return columns * 10.0 ** (exponents if kind < 2 else 0.0)


def _typed(rng: np.random.Generator, columns: np.ndarray, wide: int) -> np.ndarray:
    kind = rng.choice(["float64", "float64", "float32", "int64", "bool"])
    if kind == "float64":
        return _scaled(rng, columns, wide)
    if kind == "float32":
        return _scaled(rng, columns, 30).astype(np.float32)
    return np.rint(7.0 * columns).astype(np.int64) if kind == "int64" else columns > 0


def _problem(rng: np.random.Generator, wide: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    n_rows = int(rng.choice([1, 2, 3, int(rng.integers(4, 201)), int(rng.integers(4, 201))]))
    columns = np.column_stack([_column(rng, n_rows) for _ in range(rng.integers(1, 9))])
    if rng.random() < 0.3:
        columns = columns[rng.integers(n_rows, size=n_rows)]  # rows twice
    if rng.random() < 0.3:
        columns[:, -1] = columns[:, 0]
    n_outputs = int(rng.choice([0, 0, 1, 2, 3]))
    slopes = rng.normal(size=(columns.shape[1], max(n_outputs, 1)))
    targets = np.abs(columns @ slopes) + rng.choice([0.0, 0.3, 3.0]) * rng.normal(size=(n_rows, max(n_outputs, 1)))
    if rng.random() < 0.15:
        targets[:, 0] = rng.normal()
    X, y = _typed(rng, columns, wide), _typed(rng, targets, 150)
    weights = None
    if rng.random() < 0.4:
        weights = rng.integers(0, 4, size=n_rows) * 10.0 ** rng.choice([0, 0, -20, 20])
        weights[rng.integers(n_rows)] = 1.0
    return X, (y if n_outputs else y[:, 0]), weights


def _model(rng: np.random.Generator) -> Any:
    kind, seed = rng.integers(6), int(rng.integers(100))
    alpha = [float(10.0 ** rng.uniform(-4, 1)), "auto"][int(rng.random() < 0.2)]
    shared = {"alpha": alpha, "max_iter": int(rng.integers(1, 9)), "random_state": seed}
    shared |= {"early_stopping": bool(rng.random() < 0.2), "extrapolation": str(rng.choice(["clip", "linear"]))}
    if kind == 0:
        sizes = {"n_blocks": int(rng.integers(1, 4)), "width": int(rng.integers(1, 9))}
        budget = int(rng.integers(1, 20)) if rng.random() < 0.2 else None
        return ResNetNormRegressor(**shared | sizes, n_neurons=int(rng.integers(1, 9)), max_edges=budget)
    if kind == 1:
        ranks = tuple(int(rank) for rank in rng.integers(1, 4, size=rng.integers(0, 3)))
        penalty = str(rng.choice(["path_norm", "multitask"]))
        return DeepSplineRegressor(**shared, ranks=ranks, n_neurons=int(rng.integers(1, 17)), penalty=penalty)
    if kind == 2:
        budget = int(rng.integers(1, 200)) if rng.random() < 0.4 else None
        return CircuitRegressor(alpha=alpha, max_gates=budget, augment=bool(rng.random() < 0.3))
    if kind == 3:
        return LinearRegression(fit_intercept=bool(rng.random() < 0.8))
    depth = int(rng.integers(1, 6))
    if kind == 4:
        return DecisionTreeRegressor(max_depth=depth, random_state=seed)
    return RandomForestRegressor(int(rng.integers(1, 5)), max_depth=depth, random_state=seed)


def make(seed: int) -> Case:
    """Return the case of a seed."""
    rng = np.random.default_rng(seed)
    model = _model(rng)
    # Trees of scikit-learn hold their features in single precision.
    X, y, weights = _problem(rng, wide=30 if isinstance(model, PEERS[1:]) else 150)
    options = {"effort": int(rng.choice([0, 0, 0, 1])), "method": str(rng.choice(["auto", "round", "grow"]))}
    epsilon = float(10.0 ** rng.uniform(-4, 0))
    return Case(X, y, weights, model, epsilon, options | _ports(rng, X.astype(np.float64), y.astype(np.float64)))


def _ports(rng: np.random.Generator, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return what is asked of the ports: nothing, or formats that cover the data, exactly or with some room."""
    if rng.random() < 0.6:
        return {}
    asked: dict[str, Any] = {"saturate_inputs": bool(rng.random() < 0.5)}
    if rng.random() < 0.7:
        chosen = np.flatnonzero(rng.random(X.shape[1]) < 0.7).tolist()
        asked["input_formats"] = {port: _format(rng, X[:, port], int(rng.integers(2, 25))) for port in chosen}
    if rng.random() < 0.5:
        columns = y.reshape(len(y), -1).T
        formats = [_format(rng, column, int(rng.integers(4, 25))) for column in columns]
        asked["output_format"] = formats[0] if len(formats) == 1 else [*formats[:-1], None]
    return asked


def _format(rng: np.random.Generator, column: np.ndarray, bits: int) -> Format:
    low, high = float(column.min()), float(column.max())
    room = (high - low) * rng.choice([0.0, 0.1, 3.0]) or abs(low) or 1.0
    low, high = low - room, high + room
    if rng.random() < 0.5:
        return Format.spanning(bits, low, high)
    exponent = math.frexp(max(abs(low), abs(high)))[1] - bits
    return Format.of_bits(bits + 1, exponent, signed=True)


# Measurements


def _sum(values: Any) -> float:
    return math.fsum(float(value) for value in values)


def _unit(values: np.ndarray) -> float:
    """Return the power of two above the largest size, 1 for zeros."""
    largest = float(np.abs(values).max())
    return math.ldexp(1.0, max(math.frexp(largest)[1], -1000)) if largest else 1.0


def _deviation(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the standard deviation of one column as a circuit counts it: 1 for constants."""
    unit = _unit(values)
    shrunk = values / unit
    mean = _sum(weights * shrunk)
    spread = math.sqrt(_sum(weights * np.square(shrunk - mean)))
    return spread * unit if spread > _CONSTANT * np.abs(shrunk).max() else 1.0


def measured(
    predicted: np.ndarray, reference: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Return the root mean square difference in units of the deviations of targets, and how exact that can be."""
    weights = weights / _sum(weights)
    squares, slack = 0.0, 0.0
    for one, other, target in zip(predicted.T, reference.T, targets.T, strict=True):
        spread = _deviation(target, weights)
        # A unit, a power of two, keeps squares in range; it divides exactly.
        unit = _unit(one - other)
        mean = math.sqrt(_sum(weights * np.square((one - other) / unit))) * (unit / spread)
        squares += mean * mean / len(targets.T)
        slack = max(slack, _ROUNDING * float(np.abs(other).max()) / spread)
    return math.sqrt(squares), slack


# Steps


@contextmanager
def _step(name: str, report: Report, seed: int, case: Case, refusals: Sequence[str] = ()) -> Iterator[None]:
    """Report what goes wrong inside, and end the case."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        found = [
            f"{w.category.__name__}: {w.message}"
            for w in caught
            if not issubclass(w.category, ConvergenceWarning) and not str(w.message).startswith(_KNOWN)
        ]
        if found:
            report.findings.append(f"seed {seed}: {name} warns: {sorted(set(found))}; {case}")
    except _EndError:
        raise
    except Exception as error:
        known = isinstance(error, ValueError | TypeError) and any(text in str(error) for text in refusals)
        if known:
            report.refused += 1
        else:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            report.findings.append(f"seed {seed}: {name} raises {type(error).__name__}: {error} ({where}); {case}")
        raise _EndError from error


class _EndError(Exception):
    """Nothing more can be done with a case."""


def _fit(case: Case, report: Report, seed: int) -> np.ndarray:
    """Fit and return predictions of shape (n_samples, n_outputs)."""
    model = case.model
    if isinstance(model, PEERS):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                predicted = model.fit(case.X, case.y, sample_weight=case.weights).predict(case.X)
            except (ValueError, np.linalg.LinAlgError) as error:  # not ours to judge
                report.refused += 1
                raise _EndError from error
        if not np.isfinite(predicted).all():
            raise _EndError
    else:
        with _step("fit", report, seed, case):
            model.fit(case.X, case.y, sample_weight=case.weights)
        with _step("predict", report, seed, case):
            predicted = model.predict(case.X)
        if not np.isfinite(predicted).all():
            report.findings.append(f"seed {seed}: predictions are not finite; {case}")
            raise _EndError
        if predicted.shape != case.y.shape:
            report.findings.append(f"seed {seed}: predictions have shape {predicted.shape}; {case}")
    # In single precision for features in single precision; circuits are compared with the function itself.
    exact = np.asarray(model.predict(case.X.astype(np.float64)), dtype=np.float64)
    return exact.reshape(len(case.X), -1)


def _check_error(circuit: Circuit, reference: np.ndarray, case: Case, report: Report, seed: int) -> None:
    targets = np.asarray(case.y, dtype=np.float64).reshape(len(case.X), -1)
    weights = np.ones(len(targets)) if case.weights is None else case.weights
    used = weights > 0
    simulated = simulate(circuit, case.X).reshape(reference.shape)
    found, slack = measured(simulated[used], reference[used], targets[used], weights[used])
    if not circuit.error <= case.epsilon:
        report.findings.append(f"seed {seed}: error {circuit.error!r} is above epsilon; {case}")
    if not abs(circuit.error - found) <= _RELATIVE * found + slack:
        report.findings.append(f"seed {seed}: error {circuit.error!r} is measured as {found!r}; {case}")


def _check_copies(circuit: Circuit, case: Case, report: Report, seed: int) -> None:
    expected = simulate(circuit, case.X)
    if not np.isfinite(expected).all():
        report.findings.append(f"seed {seed}: the circuit is not finite; {case}")
    with tempfile.TemporaryDirectory() as folder:
        circuit.save(Path(folder) / "circuit.json")
        loaded = Circuit.load(Path(folder) / "circuit.json")
    for name, again in (("loaded", loaded), ("unpickled", pickle.loads(pickle.dumps(circuit)))):
        if not np.array_equal(simulate(again, case.X), expected) or again.n_gates != circuit.n_gates:
            report.findings.append(f"seed {seed}: the {name} circuit differs; {case}")
    again = pickle.loads(pickle.dumps(case.model))
    if not np.array_equal(again.predict(case.X), case.model.predict(case.X)):
        report.findings.append(f"seed {seed}: the unpickled model differs; {case}")


def run(seed: int, report: Report) -> None:
    """Take one case through everything."""
    case = make(seed)
    report.cases += 1
    try:
        reference = _fit(case, report, seed)
        with _step("compile_circuit", report, seed, case, _REFUSALS):
            circuit = compile_circuit(
                case.model, case.X, epsilon=case.epsilon, y=case.y, sample_weight=case.weights, **case.options
            )
        with _step("verify", report, seed, case):
            verify(circuit)
        with _step("measurement", report, seed, case):
            _check_error(circuit, reference, case, report, seed)
        with _step("texts", report, seed, case):
            for text in (to_verilog(circuit), to_c(circuit), circuit.text(), repr(circuit)):
                if not text:
                    report.findings.append(f"seed {seed}: a text is empty; {case}")
        with _step("copies", report, seed, case):
            _check_copies(circuit, case, report, seed)
    except _EndError:
        pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cases for some time; return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="no case begins later")
    parser.add_argument("--seed", type=int, default=0, help="of the first case; those that follow count on")
    parser.add_argument("--cases", type=int, default=None, help="most cases")
    options = parser.parse_args(arguments)
    report, end, seed = Report(), time.monotonic() + options.seconds, options.seed
    while time.monotonic() < end and (options.cases is None or report.cases < options.cases):
        known, start = len(report.findings), time.monotonic()
        run(seed, report)
        for finding in report.findings[known:]:
            print(finding, flush=True)
        if time.monotonic() - start > 60.0:
            print(f"seed {seed}: took {time.monotonic() - start:.0f} s; {make(seed)}", flush=True)
        seed += 1
    print(f"{report.cases} cases from seed {options.seed}, {report.refused} refused, {len(report.findings)} findings")
    return int(bool(report.findings))


if __name__ == "__main__":
    raise SystemExit(main())
