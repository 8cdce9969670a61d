"""Test error of the circuit against its gates, for model families of many sizes.

Every model is compiled at several values of epsilon with ``sklearn_htmc.circuit.compile_circuit`` on at most 2,000
training rows, and the finished integer circuit predicts the test rows. What a family offers at a number of gates is
the best of its circuits up to there. Ours are the networks on the ``path_`` of ``ResNetNormRegressor(max_edges=20)``
and those of the default fit; splines: ``DeepSplineRegressor`` with budgets of neurons; trees: LightGBM and XGBoost with
few small to many large trees, and a random forest.

Every model is written to the cache at once, so a run that was interrupted goes on where it stopped. ``--data`` is the
folder that ``quality.py`` describes.

    python benchmarks/pareto.py --data uci_datasets --sets concrete,airfoil --splits 0 --plot pareto.png
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers import MODELS, lasso, ours, scaled_mlp, splines
from quality import SETS, markdown_table, names_among, split_numbers, train_and_test
from sklearn.ensemble import RandomForestRegressor

from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit import compile_circuit, lower, simulate

EPSILONS = (0.15, 0.08, 0.05, 0.02)
LARGE = 2_500  # weights from which on circuits are made at one epsilon only, because they take long
ROWS = 2_000  # that circuits are compiled on
EDGES = (20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800)
TREES = ((5, 4), (10, 8), (20, 8), (50, 8), (50, 16), (100, 16), (100, 31), (200, 31), (350, 31), (500, 31))
MLPS = ((100,), (64, 64))
NEURONS = (4, 8, 16, 32)
FAMILIES = ("ours", "splines", "LightGBM", "XGBoost", "MLP", "forest", "lasso")
STYLES = {"ours": "o-", "splines": "P-", "LightGBM": "^--", "XGBoost": "v--", "MLP": "s:", "forest": "D:", "lasso": "x"}


def models(family: str, X: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield names and fitted models of one family."""
    if family == "ours":
        yield from sizes(X, y)
    elif family == "splines":
        *small, largest = NEURONS
        fitted = splines(max_neurons=largest).fit(X, y)
        yield from ((f"{n} neurons", splines(max_neurons=n, alpha=fitted.alpha_).fit(X, y)) for n in small)
        yield f"{largest} neurons", fitted
    elif family == "MLP":
        yield from ((str(hidden), scaled_mlp(*hidden).fit(X, y)) for hidden in MLPS)
    elif family == "forest":
        for trees, leaves in ((10, 50), (50, 100), (100, None)):
            forest = RandomForestRegressor(trees, max_leaf_nodes=leaves, random_state=0)
            yield f"{trees} trees", forest.fit(X, y)
    elif family == "lasso":
        yield "lasso", lasso().fit(X, y)
    elif MODELS[family.lower()].installed:
        for trees, leaves in TREES:
            yield f"{trees} x {leaves}", booster(family, trees, leaves).fit(X, y)


def sizes(X: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield the networks on the way to a small budget, and the default fit."""
    fitted = ours(max_edges=EDGES[0]).fit(X, y)
    path = fitted.path_
    for size in EDGES:
        if size >= path.n_edges.min():
            yield f"{size} edges", path.within(size)
    yield "default", ours(alpha=fitted.alpha_).fit(X, y)


def booster(family: str, trees: int, leaves: int) -> Any:
    """Return gradient boosting of a size, with a learning rate that suits the number of trees."""
    rate = min(0.5, 5 / trees + 0.04)
    if family == "LightGBM":
        from lightgbm import LGBMRegressor

        return LGBMRegressor(n_estimators=trees, num_leaves=leaves, learning_rate=rate, verbose=-1)
    from xgboost import XGBRegressor

    return XGBRegressor(n_estimators=trees, max_depth=max(2, round(np.log2(leaves))), learning_rate=rate)


def weights_of(model: Any) -> int:
    """Return the number of weights of a network, 0 for other models."""
    form = lower(model)
    if not isinstance(form, SparseNetwork):
        return 0
    return sum(
        block.inner.nnz + block.outer.nnz + (block.skip.nnz if block.skip is not None else 0) for block in form.blocks
    )


def circuits(family: str, rows: tuple[np.ndarray, ...]) -> Iterator[dict[str, Any]]:
    """Yield what was measured of every circuit of a family."""
    X, y, X_test, y_test = rows
    chosen = np.random.default_rng(0).permutation(len(X))[:ROWS]
    for name, model in models(family, X, y):
        for epsilon in EPSILONS if weights_of(model) < LARGE else (0.05,):
            start = time.perf_counter()
            try:
                circuit = compile_circuit(model, X[chosen], epsilon=epsilon, y=y[chosen])
            except ValueError as error:
                print(f"  {family} {name}, epsilon {epsilon}: {error}", flush=True)
                continue
            predicted = simulate(circuit, X_test)[:, 0]
            yield {
                "family": family,
                "model": name,
                "epsilon": epsilon,
                "gates": circuit.n_gates,
                "rmse": float(np.sqrt(np.mean((predicted - y_test) ** 2)) / y.std()),
                "seconds": time.perf_counter() - start,
            }


def measure(
    folder: Path, sets: list[str], splits: list[int], cache: Path, families: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the circuits of all sets, splits and families by ``set/split/family``, old ones from the cache."""
    results = json.loads(cache.read_text()) if cache.exists() else {}
    for data_set in sets:
        for split in splits:
            for family in families:
                key = f"{data_set}/{split}/{family}"
                if key in results:
                    continue
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    results[key] = list(circuits(family, train_and_test(folder, data_set, split)))
                cache.write_text(json.dumps(results, indent=1) + "\n")
                shown = ", ".join(f"{gates:,}: {rmse:.3f}" for gates, rmse in front(results[key]))
                print(f"{key:18} {time.perf_counter() - start:6.1f} s  {shown}", flush=True)
    return results


def front(found: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return gates and errors of the circuits that no smaller one of the same family beats."""
    kept: list[tuple[int, float]] = []
    for gates, rmse in sorted((circuit["gates"], circuit["rmse"]) for circuit in found):
        if not kept or rmse < kept[-1][1]:
            kept.append((gates, rmse))
    return kept


def gates_at(curve: list[tuple[int, float]], rmse: float) -> float:
    """Return the fewest gates with an error up to that; infinity if there is none."""
    return min((gates for gates, error in curve if error <= rmse), default=np.inf)


def ratios(results: dict[str, list[dict[str, Any]]], data_set: str, split: int, family: str) -> list[float]:
    """Our gates over those of a family, at the error of every circuit on its front."""
    mine = front(results[f"{data_set}/{split}/ours"])
    theirs = front(results.get(f"{data_set}/{split}/{family}", []))
    return [gates_at(mine, rmse) / max(1, gates) for gates, rmse in theirs]


def report(results: dict[str, list[dict[str, Any]]], sets: list[str], splits: list[int]) -> str:
    """Tables: gates at the best error of LightGBM and the MLPs; share of their circuits that ours beat."""
    rows = []
    for data_set in sets:
        row = [data_set]
        for family in ("LightGBM", "XGBoost", "MLP", "forest"):
            found = [ratio for split in splits for ratio in ratios(results, data_set, split, family)]
            best = [ratios(results, data_set, split, family)[-1] for split in splits] if found else []
            row += [
                f"{np.median(found):.2f}" if found else "",
                f"{np.exp(np.mean(np.log(best))):.2f}" if best else "",
            ]
        rows.append(row)
    head = [""]
    for family in ("LightGBM", "XGBoost", "MLP", "forest"):
        head += [f"{family}, median", "at its best"]
    text = "Our gates over those of a peer at the same test error of the circuit (infinite: we do not reach it).\n\n"
    text += markdown_table(head, rows) + "\n\nBest circuits of every family, gates: test RMSE / std y.\n\n"
    lines = []
    for data_set in sets:
        for family in FAMILIES:
            curve = front(results.get(f"{data_set}/{splits[0]}/{family}", []))
            lines.append([data_set, family, ", ".join(f"{gates:,}: {rmse:.3f}" for gates, rmse in curve)])
    return text + markdown_table(["set", "family", f"split {splits[0]}"], lines) + "\n"


def draw(results: dict[str, list[dict[str, Any]]], sets: list[str], split: int, file: Path) -> None:
    """Draw one panel per set."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    n_columns = min(5, len(sets))
    n_rows = -(-len(sets) // n_columns)
    fig, axes = plt.subplots(n_rows, n_columns, figsize=(3.1 * n_columns, 2.9 * n_rows), squeeze=False)
    for ax, data_set in zip(axes.flat, sets, strict=False):
        for number, family in enumerate(FAMILIES):
            curve = [(max(1, gates), rmse) for gates, rmse in front(results.get(f"{data_set}/{split}/{family}", []))]
            if curve:
                ax.plot(*zip(*curve, strict=True), STYLES[family], color=f"C{number}", markersize=3.5, label=family)
        ax.set(title=data_set, xscale="log", yscale="log", xlim=(50, None), ylim=(None, 1.1))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    for ax in axes.flat[len(sets) :]:
        ax.set_axis_off()
    fig.supxlabel("gates of the circuit")
    fig.supylabel("test RMSE of the circuit / std y")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(FAMILIES))
    fig.set_layout_engine("constrained")
    fig.savefig(file, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--sets", type=names_among(SETS, "set"), default=list(SETS))
    parser.add_argument("--splits", type=split_numbers, default=[0])
    parser.add_argument("--families", type=names_among(FAMILIES, "family"), default=list(FAMILIES))
    parser.add_argument("--cache", type=Path, default=Path("pareto.json"))
    parser.add_argument("--plot", type=Path, help="file for the picture")
    arguments = parser.parse_args()
    results = measure(arguments.data, arguments.sets, arguments.splits, arguments.cache, arguments.families)
    print(report(results, arguments.sets, arguments.splits))
    if arguments.plot:
        draw(results, arguments.sets, arguments.splits[0], arguments.plot)


if __name__ == "__main__":
    main()
