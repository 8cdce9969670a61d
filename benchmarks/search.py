"""What a search over alpha costs, and what it finds: ratios within one run.

Parts:
  time   alphas x 5 folds and a refit: our paths, GridSearchCV over our plain estimator, over a perceptron
  auto   test error of alpha="auto" over that of the best fixed alpha of a half-decade grid, and its time

``--data`` is the folder that ``quality.py`` describes.

    python benchmarks/search.py --data uci_datasets --sets concrete,yacht --splits 0-2 --parts time,auto
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers import available_cores, ours, scaled_mlp
from quality import SETS, markdown_table, names_among, split_numbers, train_and_test
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_htmc import ResNetNormRegressorCV

ALPHAS = 10.0 ** np.linspace(-4.0, -1.5, 9)
HALF_DECADES = 10.0 ** -np.arange(1.5, 4.5, 0.5)
FOLDS = KFold(5, shuffle=True, random_state=0)


def timed(fit: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a fit returns, and its seconds."""
    start = time.perf_counter()
    model = fit()
    return model, time.perf_counter() - start


def error(model: Any, data: tuple[np.ndarray, ...]) -> float:
    """Return the test error in standard deviations of the training targets."""
    _, y, X_test, y_test = data
    return float(np.sqrt(np.mean((model.predict(X_test) - y_test) ** 2)) / y.std())


def times(data: tuple[np.ndarray, ...]) -> Iterator[tuple[str, float, float]]:
    """Yield name, seconds and test error of every way to search."""
    X, y, *_ = data
    mlp = scaled_mlp(64, 64)
    grid = {f"{'__'.join(_path_to_alpha(mlp))}": np.logspace(-5, 1, len(ALPHAS))}
    ways = {
        "paths": lambda: ResNetNormRegressorCV(ALPHAS, cv=FOLDS, random_state=0).fit(X, y),
        "grid, ours": lambda: GridSearchCV(
            ours(), {"alpha": ALPHAS}, cv=FOLDS, n_jobs=available_cores(), scoring="neg_mean_squared_error"
        ).fit(X, y),
        "grid, MLP": lambda: GridSearchCV(
            mlp, grid, cv=FOLDS, n_jobs=available_cores(), scoring="neg_mean_squared_error"
        ).fit(X, y),
    }
    for name, way in ways.items():
        model, seconds = timed(way)
        yield name, seconds, error(model, data)


def _path_to_alpha(model: Any) -> list[str]:
    """Return the name of the regularisation strength inside a pipeline."""
    names = [name for name in model.get_params() if name.endswith("alpha")]
    return [min(names, key=len)]


def automatic(data: tuple[np.ndarray, ...]) -> tuple[float, float, float]:
    """Return the test errors of "auto" and of the best fixed alpha, and seconds of "auto"."""
    X, y, *_ = data
    model, seconds = timed(lambda: ours().fit(X, y))
    fixed = [error(ours(alpha=alpha).fit(X, y), data) for alpha in HALF_DECADES]
    return error(model, data), min(fixed), seconds


def geometric_mean(values: list[float]) -> float:
    """Return the geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def report_times(folder: Path, names: list[str], splits: list[int]) -> None:
    """Print seconds and errors of the ways to search, and their ratios to ours."""
    rows = []
    for name in names:
        found: dict[str, list[tuple[float, float]]] = {}
        for split in splits:
            for way, seconds, off in times(train_and_test(folder, name, split)):
                found.setdefault(way, []).append((seconds, off))
                print(f"{name}/{split}  {way:<12} {seconds:7.1f} s  error {off:.3f}", flush=True)
        means = {way: np.mean(values, axis=0) for way, values in found.items()}
        own = means["paths"]
        rows.append([name, *(f"{seconds / own[0]:.1f}, {off / own[1]:.2f}" for seconds, off in means.values())])
    print(markdown_table(["time and error over those of the paths", *found], rows))


def report_automatic(folder: Path, names: list[str], splits: list[int]) -> None:
    """Print what "auto" loses."""
    rows, ratios = [], []
    for name in names:
        found = []
        for split in splits:
            found.append(automatic(train_and_test(folder, name, split)))
            print(f"{name}/{split}  auto {found[-1][0]:.3f}  best {found[-1][1]:.3f}  {found[-1][2]:.1f} s", flush=True)
        auto, best, seconds = np.mean(found, axis=0)
        ratios.append(auto / best)
        rows.append([name, f"{auto:.3f}", f"{best:.3f}", f"{auto / best:.3f}", f"{seconds:.1f}"])
    rows.append(["geometric mean", "", "", f"{geometric_mean(ratios):.3f}", ""])
    print(markdown_table(["set", "auto", "best fixed alpha", "ratio", "seconds"], rows))


PARTS = {"time": report_times, "auto": report_automatic}


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--sets", type=names_among(SETS, "set"), default=list(SETS), help="comma-separated")
    parser.add_argument("--splits", type=split_numbers, default=[0], help="like 0 or 0-2")
    parser.add_argument("--parts", type=names_among(PARTS, "part"), default=list(PARTS), help="comma-separated")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for part in options.parts:
        PARTS[part](options.data, options.sets, options.splits)


if __name__ == "__main__":
    main()
