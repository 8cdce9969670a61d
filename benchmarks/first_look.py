"""The picture of the README: test error of circuits against their gates, beside peers, on two small problems.

Every fitted model is compiled by ``compile_circuit(model, X, epsilon=0.05, y=y)``, with its defaults and on the rows
of the fit, and the finished circuit predicts the test rows. ``CircuitRegressor`` is a circuit already: those on its
``path_`` are taken as they are. Of LightGBM and the perceptron there are several sizes, and one that a grid search over
five folds has chosen ("tuned"). No data are needed but those in ``examples/data``:

* Friedman's first function of five of ten features: 1,000 rows with noise of standard deviation 1 to fit, 10,000 rows
  without noise to test, so that the error says how well the *function* was found;
* the heating load of 768 buildings, a quarter of them test rows.

Results go into the cache family by family: a run that was interrupted goes on where it stopped. It takes about half an
hour of one core.

    python benchmarks/first_look.py --plot doc/images/first_look.png
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers import MODELS, lasso, ours, scaled_mlp
from quality import markdown_table, names_among
from sklearn.datasets import make_friedman1
from sklearn.model_selection import GridSearchCV, train_test_split

from sklearn_htmc import CircuitRegressor
from sklearn_htmc.circuit import compile_circuit, simulate

EPSILON = 0.05
EDGES = (12, 20, 30, 40)
TREES = ((10, 4), (30, 4), (100, 4), (300, 4), (300, 31))  # number, leaves of each
HIDDEN = ((8,), (32,), (64, 64))
TUNED = ", tuned"
STYLES = {
    "ResNetNormRegressor": ("o-", "C0"),
    "CircuitRegressor": ("s-", "C2"),
    "LightGBM": ("^--", "C1"),
    "MLP": ("D--", "C3"),
    "lasso": ("X", "0.3"),
}
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def friedman() -> Rows:
    """Return noisy rows to fit and rows without noise to test."""
    return *make_friedman1(1000, noise=1, random_state=0), *make_friedman1(10_000, noise=0, random_state=1)


def energy() -> Rows:
    """Return rows to fit and rows to test of the buildings of the demo."""
    file = Path(__file__).parents[1] / "examples" / "data" / "energy.csv"
    data = np.loadtxt(file, delimiter=",", skiprows=1)
    X, X_test, y, y_test = train_test_split(data[:, :-1], data[:, -1], random_state=0)
    return X, y, X_test, y_test


PROBLEMS: dict[str, tuple[str, Callable[[], Rows]]] = {
    "friedman": ("Friedman's function, 1,000 noisy rows", friedman),
    "energy": ("heating load of 768 buildings", energy),
}


# --- models of many sizes -------------------------------------------------------------------------


def networks(X: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield the networks on the way to forty edges, and the default fit."""
    fitted = ours(max_edges=EDGES[-1]).fit(X, y)
    yield from ((f"{size} edges", fitted.path_.within(size)) for size in EDGES[:-1])
    yield f"max_edges={EDGES[-1]}", fitted
    yield "default", ours().fit(X, y)


def lightgbm(X: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield boosted trees of several sizes, and those that a search chooses."""
    from lightgbm import LGBMRegressor

    for trees, leaves in TREES:
        yield f"{trees} x {leaves}", LGBMRegressor(n_estimators=trees, num_leaves=leaves, verbose=-1).fit(X, y)
    grid = {"n_estimators": [100, 300, 1000], "num_leaves": [4, 8, 31], "learning_rate": [0.03, 0.1]}
    yield searched(LGBMRegressor(verbose=-1), grid, X, y)


def perceptrons(X: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield multi-layer perceptrons of several sizes, and the one that a search over sizes and decay chooses."""
    yield from ((str(hidden), scaled_mlp(*hidden).fit(X, y)) for hidden in HIDDEN)
    prefix = "regressor__mlpregressor__"
    grid = {prefix + "hidden_layer_sizes": list(HIDDEN), prefix + "alpha": [1e-4, 1.0]}
    yield searched(scaled_mlp(32), grid, X, y)


def searched(model: Any, grid: dict[str, list[Any]], X: np.ndarray, y: np.ndarray) -> tuple[str, Any]:
    """Return what a grid search over five folds chooses, and its name."""
    search = GridSearchCV(model, grid, cv=5).fit(X, y)
    chosen = ", ".join(f"{name.rpartition('__')[2]}={value}" for name, value in search.best_params_.items())
    return chosen + TUNED, search.best_estimator_


def linear(X: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield the lasso."""
    yield "lasso", lasso().fit(X, y)


MAKERS = {
    "ResNetNormRegressor": networks,
    "LightGBM": lightgbm,
    "MLP": perceptrons,
    "lasso": linear,
}


# --- measuring ------------------------------------------------------------------------------------


def error(predicted: np.ndarray, y_test: np.ndarray) -> float:
    """Return the root mean square error in standard deviations of the test targets."""
    return float(np.sqrt(np.mean((np.ravel(predicted) - y_test) ** 2)) / np.std(y_test))


def measure(family: str, rows: Rows) -> Iterator[dict[str, Any]]:
    """Yield what was measured of every circuit of a family."""
    X, y, X_test, y_test = rows
    if family == "CircuitRegressor":
        path = CircuitRegressor().fit(X, y).path_
        for circuit in path.circuits:
            predicted = simulate(circuit, X_test)
            yield {"model": f"{circuit.n_gates} gates", "gates": circuit.n_gates, "error": error(predicted, y_test)}
        return
    for name, model in MAKERS[family](X, y):
        start = time.perf_counter()
        circuit = compile_circuit(model, X, epsilon=EPSILON, y=y)
        predicted = model.predict(X_test) if hasattr(model, "predict") else model(X_test)
        yield {
            "model": name,
            "gates": circuit.n_gates,
            "error": error(simulate(circuit, X_test), y_test),
            "model_error": error(predicted, y_test),
            "seconds": time.perf_counter() - start,
        }


def measure_all(cache: Path, problems: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the circuits by ``problem/family``, old ones from the cache."""
    results = json.loads(cache.read_text()) if cache.exists() else {}
    for problem in problems:
        _, make = PROBLEMS[problem]
        for family in STYLES:
            peer = MODELS.get(family.lower())
            if (key := f"{problem}/{family}") in results or (peer is not None and not peer.installed):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results[key] = list(measure(family, make()))
            cache.write_text(json.dumps(results, indent=1) + "\n")
            print(table({key: results[key]}), flush=True)
    return results


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Lay out models, gates, and R2 of circuit and model on the test rows."""
    rows = [
        [key, found["model"], f"{found['gates']:,}", r2(found["error"]), r2(found.get("model_error"))]
        for key, circuits in results.items()
        for found in circuits
    ]
    return markdown_table(["", "model", "gates", "R2 of the circuit", "R2 of the model"], rows)


def r2(relative_error: float | None) -> str:
    """Return the R2 that goes with an error in standard deviations."""
    return "" if relative_error is None else f"{1 - relative_error**2:.3f}"


# --- the picture ----------------------------------------------------------------------------------


def draw(results: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Draw one panel per problem."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    fig, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    for ax, (problem, (title, _)) in zip(axes, PROBLEMS.items(), strict=True):
        for family, (style, color) in STYLES.items():
            curve = front(results.get(f"{problem}/{family}", []))
            own = family.endswith("Regressor")
            ax.plot(*zip(*curve, strict=True), style, color=color, label=family, markersize=5, lw=2.2 if own else 1.2)
        for family in ("LightGBM", "MLP"):
            for found in results.get(f"{problem}/{family}", []):
                if found["model"].endswith(TUNED):
                    point = found["gates"], found["error"]
                    ax.plot(*point, "*", color=STYLES[family][1], markersize=14, markeredgecolor="k", zorder=5)
        ax.set(title=title, xscale="log", yscale="log", xlabel="gates of the circuit", xlim=(20, None))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("test error of the circuit / std y")
    handles, labels = axes[0].get_legend_handles_labels()
    handles += axes[0].plot([], [], "*", color="w", markeredgecolor="k", markersize=14)
    fig.legend(handles, [*labels, "tuned by grid search"], loc="outside upper center", ncols=4)
    fig.savefig(file, dpi=130)


def front(found: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return gates and errors of the circuits that no smaller one of the same family beats on the test rows."""
    kept: list[tuple[int, float]] = []
    for gates, value in sorted((circuit["gates"], circuit["error"]) for circuit in found):
        if not kept or value < kept[-1][1]:
            kept.append((gates, value))
    return kept


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("first_look.json"))
    parser.add_argument("--problems", type=names_among(PROBLEMS, "problem"), default=list(PROBLEMS), help="a,b")
    parser.add_argument("--plot", type=Path, help="file for the picture, which shows both problems")
    arguments = parser.parse_args()
    results = measure_all(arguments.cache, arguments.problems)
    print(table(results))
    if arguments.plot:
        draw(results, arguments.plot)


if __name__ == "__main__":
    main()
