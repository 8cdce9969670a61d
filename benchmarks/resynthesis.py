"""Gates before and after resynthesis, for every family of models that circuits are made of.

Every model is fitted once and kept, then compiled at three values of epsilon in each way that is asked for. A way is a
name with keyword arguments of ``compile_circuit``. Another version of the package is measured by running this script
with that version on the path, the same ``--cache`` and, say, ``--ways '{"before": {}}'``; then
``--compared before,resynthesis`` compares the two. ``--families`` are separated by semicolons, as some have commas.
What is compared: gates, the error on the training rows, the difference from the model on rows that no search has seen
(the test rows, and test rows whose entries are exchanged), and the error to y on the test rows.

    python benchmarks/resynthesis.py --data uci_datasets --cache cache --sets concrete,airfoil --splits 0,1,2
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from peers import ours, scaled_mlp, splines
from quality import markdown_table, split_numbers, train_and_test
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

from sklearn_htmc.circuit import compile_circuit, simulate

EPSILONS = (0.3, 0.1, 0.05)
EXCHANGED = 0.1  # share of the entries of perturbed rows
WAYS = {"rounding": {"method": "round", "effort": 0}, "resynthesis": {}}


def lightgbm(**parameters: Any) -> Any:
    """Return a LightGBM regressor."""
    from lightgbm import LGBMRegressor

    return LGBMRegressor(verbose=-1, n_jobs=1, **parameters)


def xgboost(**parameters: Any) -> Any:
    """Return an XGBoost regressor."""
    from xgboost import XGBRegressor

    return XGBRegressor(n_jobs=1, **parameters)


FAMILIES: dict[str, Callable[[], Any]] = {
    "ridge": lambda: make_pipeline(StandardScaler(), Ridge()),
    "tree": lambda: DecisionTreeRegressor(min_samples_leaf=5, random_state=0),
    "extra tree": lambda: ExtraTreeRegressor(min_samples_leaf=5, random_state=0),
    "forest": lambda: RandomForestRegressor(10, min_samples_leaf=3, random_state=0),
    "extra trees": lambda: ExtraTreesRegressor(10, min_samples_leaf=3, random_state=0),
    "boosting": lambda: GradientBoostingRegressor(random_state=0),
    "histograms": lambda: HistGradientBoostingRegressor(max_iter=50, random_state=0),
    "LightGBM 20 x 8": lambda: lightgbm(n_estimators=20, num_leaves=8, learning_rate=0.29),
    "LightGBM 100 x 8": lambda: lightgbm(n_estimators=100, num_leaves=8, learning_rate=0.1),
    "LightGBM 200 x 31": lambda: lightgbm(n_estimators=200, num_leaves=31, learning_rate=0.065),
    "XGBoost": lambda: xgboost(n_estimators=100, max_depth=4, learning_rate=0.1),
    "MLP (16,)": lambda: scaled_mlp(16),
    "network, 100 edges": lambda: ours(alpha=0.001, max_edges=100),
    "network": lambda: ours(alpha=0.001),
    "spline": lambda: splines(alpha=0.001, max_neurons=16),
}


def fitted(folder: Path, family: str, place: tuple[str, int], X: np.ndarray, y: np.ndarray) -> Any:
    """Return the model of a family, fitted once."""
    path = folder / f"{place[0]}-{place[1]}-{family}.joblib"
    if not path.exists():
        joblib.dump(FAMILIES[family]().fit(X, y), path)
    return joblib.load(path)


def perturbed(X: np.ndarray, seed: int = 12345) -> np.ndarray:
    """Return rows some entries of which come from other rows."""
    rng = np.random.default_rng(seed)
    other = np.take_along_axis(X, rng.integers(len(X), size=X.shape), axis=0)
    return np.where(rng.random(X.shape) < EXCHANGED, other, X)


def measured(model: Any, rows: tuple[np.ndarray, ...], epsilon: float, options: dict[str, Any]) -> dict[str, float]:
    """Compile a model and return what is compared."""
    X, y, X_test, y_test = rows
    start = time.process_time()
    circuit = compile_circuit(model, X, epsilon=epsilon, y=y, **options)
    seconds = time.process_time() - start

    def difference(X: np.ndarray, y: np.ndarray | None = None) -> float:
        reference = model.predict(X) if y is None else y
        return float(np.sqrt(np.mean((simulate(circuit, X) - reference) ** 2)) / np.std(rows[1]))

    return {
        "gates": circuit.n_gates,
        "error": circuit.error,
        "test rows": difference(X_test),
        "perturbed": difference(perturbed(X_test)),
        "to y": difference(X_test, y_test),
        "seconds": seconds,
    }


def run(arguments: argparse.Namespace) -> None:
    """Measure what is not in the cache yet."""
    for name in arguments.sets:
        for split in arguments.splits:
            rows = train_and_test(arguments.data, name, split)
            for family in arguments.families:
                model = fitted(arguments.cache, family, (name, split), rows[0], rows[1])
                for way, options in arguments.ways.items():
                    for epsilon in EPSILONS:
                        path = arguments.cache / f"{name}-{split}-{family}-{epsilon}-{way}.json"
                        if path.exists():
                            continue
                        found = measured(model, rows, epsilon, options)
                        path.write_text(json.dumps(found))
                        print(f"{name} {split}, {family}, {epsilon}, {way}: {found}", flush=True)


def read(arguments: argparse.Namespace, way: str, family: str, epsilon: float, what: str) -> np.ndarray:
    """Return one number of all sets and splits, NaN where it was not measured."""
    paths = [
        arguments.cache / f"{name}-{split}-{family}-{epsilon}-{way}.json"
        for name in arguments.sets
        for split in arguments.splits
    ]
    return np.array([json.loads(path.read_text())[what] if path.exists() else np.nan for path in paths])


def report(arguments: argparse.Namespace) -> str:
    """Return tables of ratios to the first way."""
    first = next(iter(arguments.compared))
    text = []
    for way in arguments.compared[1:]:
        rows, ratios = [], {epsilon: [] for epsilon in EPSILONS}
        for family in arguments.families:
            cells = [family]
            for epsilon in EPSILONS:
                before, after = (read(arguments, name, family, epsilon, "gates") for name in (first, way))
                both = np.isfinite(before) & np.isfinite(after)
                ratio = np.maximum(after[both], 1) / np.maximum(before[both], 1)
                ratios[epsilon] += ratio.tolist()
                cells.append(
                    f"{np.nanmean(before[both]):,.0f} to {np.nanmean(after[both]):,.0f}, {np.median(ratio):.2f}"
                )
            rows.append(cells)
        text.append(markdown_table([f"{way} against {first}", *map(str, EPSILONS)], rows))
        for epsilon in EPSILONS:
            text.append(
                f"epsilon {epsilon}: median {np.median(ratios[epsilon]):.3f}, largest {max(ratios[epsilon]):.3f}; "
                + "; ".join(f"{what} {_mean_ratio(arguments, first, way, epsilon, what)}" for what in _OTHERS)
            )
        everything = [ratio for of_epsilon in ratios.values() for ratio in of_epsilon]
        text.append(f"all: median {np.median(everything):.3f}, largest {max(everything):.3f}")
    return "\n".join(text)


_OTHERS = ("error", "test rows", "perturbed", "to y", "seconds")


def _mean_ratio(arguments: argparse.Namespace, first: str, way: str, epsilon: float, what: str) -> str:
    pairs = np.array(
        [[read(arguments, name, family, epsilon, what) for name in (first, way)] for family in arguments.families]
    )
    ratio = pairs[:, 1] / np.maximum(pairs[:, 0], 1e-12)
    return f"mean {np.nanmean(ratio):.3f} (largest {np.nanmax(ratio):.2f})"


def main() -> None:
    """Measure, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--sets", type=lambda text: text.split(","), default=["concrete", "airfoil"])
    parser.add_argument("--splits", type=split_numbers, default=[0, 1, 2])
    parser.add_argument("--families", type=lambda text: text.split(";"), default=list(FAMILIES))
    parser.add_argument("--ways", type=json.loads, default=WAYS, help="JSON: names and arguments of compile_circuit")
    parser.add_argument("--compared", type=lambda text: text.split(","), default=None, help="ways in the tables")
    arguments = parser.parse_args()
    arguments.compared = arguments.compared or list(arguments.ways)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(arguments)
    if len(arguments.compared) > 1:
        print(report(arguments))


if __name__ == "__main__":
    main()
