"""Test error against the number of edges, from one fit per split, with peers of many sizes beside it.

``ResNetNormRegressor(max_edges=20)`` records the networks of all sizes up to 800 edges on its ``path_``; two more
fits with the alpha that it chose add 1,200 and 2,000 edges. Peers: multi-layer perceptrons of growing width by their
weights, LightGBM with growing numbers of trees by its leaves, and the lasso by its coefficients.

Every fit is written to the cache at once, so a run that was interrupted goes on where it stopped. ``--data`` is the
folder that ``quality.py`` describes.

    python benchmarks/sizes.py --data uci_datasets --sets concrete,airfoil --plot sizes.png
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from peers import MODELS, ours, scaled_mlp
from quality import SETS, markdown_table, names_among, split_numbers, train_and_test

SIZES = (20, 40, 60, 100, 150, 200, 300, 400, 600, 800, 1200, 2000)
WIDTHS = ((2,), (4,), (8,), (16,), (32,), (100,), (64, 64))
TREES = ((1, 8), (2, 16), (5, 31), (15, 31), (50, 31), (150, 31), (500, 31))  # number, leaves of each
PEERS = (("MLP", "C1s--", "weights"), ("LightGBM", "C2^:", "leaves"), ("lasso", "C3x", "coefficients"))  # and styles


def error(predicted: Any, y_test: np.ndarray, scale: float) -> float:
    """Root mean square error in units of the spread of the training targets."""
    return float(np.sqrt(np.mean((np.ravel(predicted) - y_test) ** 2)) / scale)


def our_curve(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """Errors at all sizes, seconds of the fit that recorded the path, and the largest error on it."""
    start = time.perf_counter()
    model = ours(max_edges=SIZES[0]).fit(X, y)
    seconds = time.perf_counter() - start
    path, scale = model.path_, y.std()
    networks = list(zip(path.n_edges.tolist(), path.loss.tolist(), path.networks, strict=True))
    for size in SIZES[-2:]:
        path = ours(alpha=model.alpha_, max_edges=size).fit(X, y).path_
        networks += zip(path.n_edges.tolist(), path.loss.tolist(), path.networks, strict=True)
    curve = []
    for size in SIZES:
        inside = [(loss, network) for n, loss, network in networks if n <= size]
        curve.append((size, error(min(inside, key=lambda item: item[0])[1](X_test), y_test, scale)))
    worst = max(error(network(X_test), y_test, scale) for n, _, network in networks if n)
    return {"ours": curve, "seconds": seconds, "alpha": model.alpha_, "worst": worst}


def peers(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """Errors of the peers at their sizes; only those that are installed."""
    curves: dict[str, Any] = {}
    for label, models in (
        ("MLP", [scaled_mlp(*hidden) for hidden in WIDTHS]),
        ("LightGBM", _boosters() if MODELS["lightgbm"].installed else []),
        ("lasso", [MODELS["lasso"].make()]),
    ):
        curve = []
        for model in models:
            fitted = model.fit(X, y)
            name = {"MLP": "mlp64", "LightGBM": "lightgbm", "lasso": "lasso"}[label]
            curve.append((MODELS[name].size(fitted), error(fitted.predict(X_test), y_test, y.std())))
        curves[label] = curve
    return curves


def _boosters() -> list[Any]:
    from lightgbm import LGBMRegressor

    return [
        LGBMRegressor(n_estimators=n, num_leaves=leaves, learning_rate=min(0.5, 5 / n + 0.04), verbose=-1)
        for n, leaves in TREES
    ]


def measure(folder: Path, sets: list[str], splits: list[int], cache: Path) -> dict[str, dict[str, Any]]:
    """Return the results of all sets and splits by ``set/split``, old ones from the cache."""
    results = json.loads(cache.read_text()) if cache.exists() else {}
    for data_set in sets:
        for split in splits:
            key = f"{data_set}/{split}"
            if key in results:
                continue
            rows = train_and_test(folder, data_set, split)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results[key] = our_curve(*rows) | {"peers": peers(*rows)}
            cache.write_text(json.dumps(results, indent=1) + "\n")
            shown = ", ".join(f"{size}: {rmse:.3f}" for size, rmse in results[key]["ours"])
            print(f"{key:12} {results[key]['seconds']:6.1f} s  {shown}", flush=True)
    return results


def mean_curve(results: list[dict[str, Any]], name: str) -> np.ndarray:
    """Mean over the splits of size and error, of shape (n_sizes, 2)."""
    return np.mean([r["ours"] if name == "ours" else r["peers"][name] for r in results], axis=0)


def report(results: dict[str, dict[str, Any]], sets: list[str], splits: list[int]) -> str:
    """The table: one row per set, one column per size; then seconds, and the worst network beside the lasso."""
    rows, rest = [], []
    for data_set in sets:
        found = [results[f"{data_set}/{split}"] for split in splits]
        rows.append([data_set, *(f"{rmse:.3f}" for _, rmse in mean_curve(found, "ours"))])
        excess = max(r["worst"] / r["peers"]["lasso"][0][1] for r in found)
        rest.append([data_set, f"{np.mean([r['seconds'] for r in found]):.0f}", f"{excess:.2f}"])
    head = ["", *(f"{size:,}" for size in SIZES)]
    return (
        markdown_table(head, rows)
        + "\n\n"
        + markdown_table(["", "seconds of the fit with the path", "largest RMSE on the path / lasso"], rest)
        + "\n"
    )


def draw(results: dict[str, dict[str, Any]], sets: list[str], splits: list[int], file: Path) -> None:
    """Draw one panel per set."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    n_columns = min(5, len(sets))
    n_rows = -(-len(sets) // n_columns)
    fig, axes = plt.subplots(n_rows, n_columns, figsize=(3.1 * n_columns, 2.8 * n_rows), squeeze=False)
    for ax, data_set in zip(axes.flat, sets, strict=False):
        found = [results[f"{data_set}/{split}"] for split in splits]
        ax.plot(*mean_curve(found, "ours").T, "o-", color="C0", markersize=3, label="ResNetNormRegressor, edges")
        for name, style, unit in PEERS:
            if found[0]["peers"][name]:
                ax.plot(*mean_curve(found, name).T, style, markersize=4, linewidth=1, label=f"{name}, {unit}")
        ax.set(title=data_set, xscale="log", yscale="log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    for ax in axes.flat[len(sets) :]:
        ax.set_axis_off()
    fig.supxlabel("size of the fitted model")
    fig.supylabel("test RMSE / std y")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=4)
    fig.set_layout_engine("constrained")
    fig.savefig(file, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--sets", type=names_among(SETS, "set"), default=list(SETS))
    parser.add_argument("--splits", type=split_numbers, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path, default=Path("sizes.json"))
    parser.add_argument("--plot", type=Path, help="file for the picture")
    arguments = parser.parse_args()
    results = measure(arguments.data, arguments.sets, arguments.splits, arguments.cache)
    print(report(results, arguments.sets, arguments.splits))
    if arguments.plot:
        draw(results, arguments.sets, arguments.splits, arguments.plot)


if __name__ == "__main__":
    main()
