"""Test error of the circuit against its gates, for model families of many sizes.

Ours are the circuits on the ``path_`` of ``CircuitRegressor``, grown on the targets or with a teacher. At a number of
gates the one with the least *held-out* error up to there counts, so no choice is made on test rows. Networks are those
on the ``path_`` of ``ResNetNormRegressor(max_edges=20)`` and of the default fit; splines: ``DeepSplineRegressor`` with
budgets of neurons; trees: LightGBM and XGBoost with few small to many large trees, and a random forest. Of every model
of these families ``sklearn_htmc.circuit.compile_circuit`` makes circuits at several values of epsilon on at most 2,000
training rows, with ``method="round", effort=0``, and those of a family with "resynthesised" in its name with the
default effort; the finished integer circuit predicts the test rows, and at a number of gates the best of them *on test
rows* counts, which favours them.

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

from sklearn_htmc import CircuitRegressor
from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit import compile_circuit, lower, simulate

EPSILONS = (0.15, 0.08, 0.05, 0.02)
LARGE = 2_500  # weights from which on circuits are made at one epsilon only, because they take long
ROWS = 2_000  # that circuits are compiled on
LEAST = 50  # gates of circuits that ours are compared with
EDGES = (20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800)
TREES = ((5, 4), (10, 8), (20, 8), (50, 8), (50, 16), (100, 16), (100, 31), (200, 31), (350, 31), (500, 31))
MLPS = ((100,), (64, 64))
NEURONS = (4, 8, 16, 32)
RESYNTHESISED = ", resynthesised"
STYLES = {
    "grown": "o-",
    "taught": "*-",
    "network" + RESYNTHESISED: "P-",
    "splines": "p-",
    "LightGBM": "^--",
    "LightGBM" + RESYNTHESISED: "v--",
    "XGBoost": "<--",
    "MLP": "s:",
    "forest": "D:",
    "lasso": "x",
}
FAMILIES = tuple(STYLES)
PEERS = ("LightGBM", "LightGBM" + RESYNTHESISED, "MLP", "forest")
OWN = ("grown", "taught")  # whose circuits are not compiled


def models(family: str, X: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield names and fitted models of one family."""
    if family == "network":
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
    if family in OWN:
        yield from paths(family, rows)
        return
    options = {} if family.endswith(RESYNTHESISED) else {"method": "round", "effort": 0}
    chosen = np.random.default_rng(0).permutation(len(X))[:ROWS]
    for name, model in models(family.removesuffix(RESYNTHESISED), X, y):
        for epsilon in EPSILONS if weights_of(model) < LARGE else (0.05,):
            start = time.perf_counter()
            try:
                circuit = compile_circuit(model, X[chosen], epsilon=epsilon, y=y[chosen], **options)
            except ValueError as error:
                print(f"  {family} {name}, epsilon {epsilon}: {error}", flush=True)
                continue
            predicted = simulate(circuit, X_test)
            yield {
                "family": family,
                "model": name,
                "epsilon": epsilon,
                "gates": circuit.n_gates,
                "rmse": float(np.sqrt(np.mean((predicted - y_test) ** 2)) / y.std()),
                "seconds": time.perf_counter() - start,
            }


def paths(family: str, rows: tuple[np.ndarray, ...]) -> Iterator[dict[str, Any]]:
    """Yield what was measured of the circuits on the path of a fit."""
    X, y, X_test, y_test = rows
    start = time.perf_counter()
    path = CircuitRegressor(teacher="auto" if family == "taught" else None).fit(X, y).path_
    seconds = time.perf_counter() - start
    for circuit, validation_loss in zip(path.circuits, path.validation_loss.tolist(), strict=True):
        predicted = simulate(circuit, X_test)
        yield {
            "family": family,
            "gates": circuit.n_gates,
            "rmse": float(np.sqrt(np.mean((predicted - y_test) ** 2)) / y.std()),
            "validation": validation_loss,
            "seconds": seconds,
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
    """Return gates and errors of the circuits that no smaller one of the same family beats.

    Circuits with held-out errors are judged by these, others by their test errors.
    """
    kept, least = list[tuple[int, float]](), np.inf
    for circuit in sorted(found, key=lambda circuit: (circuit["gates"], circuit["rmse"])):
        judged = circuit.get("validation", circuit["rmse"])
        if judged < least:
            least = judged
            kept.append((circuit["gates"], circuit["rmse"]))
    return kept


def gates_at(curve: list[tuple[int, float]], rmse: float) -> float:
    """Return the fewest gates with an error up to that; infinity if there is none."""
    return min((gates for gates, error in curve if error <= rmse), default=np.inf)


def ratios(results: dict[str, list[dict[str, Any]]], key: str, mine: str, family: str) -> list[float]:
    """Return our gates over those of a family, at the error of every circuit of 50 gates and more on its front."""
    own = front(results.get(f"{key}/{mine}", []))
    theirs = front(results.get(f"{key}/{family}", []))
    return [gates_at(own, rmse) / gates for gates, rmse in theirs if gates >= LEAST]


def report(results: dict[str, list[dict[str, Any]]], sets: list[str], splits: list[int]) -> str:
    """Tables: our gates over those of peers at their errors; circuits on the fronts."""
    keys = {data_set: [f"{data_set}/{split}" for split in splits] for data_set in sets}
    text = "Our gates over those of a peer at the same test error (inf: not reached): median; at its best error.\n\n"
    rows = []
    for data_set in sets:
        for mine in OWN:
            row = [data_set, mine]
            for family in PEERS:
                found = [ratios(results, key, mine, family) for key in keys[data_set]]
                medians = [float(np.median(of_split)) for of_split in found if of_split]
                best = [of_split[-1] for of_split in found if of_split]
                row.append(f"{np.mean(medians):.2f}; {np.mean(best):.2f}" if medians else "")
            rows.append(row)
    text += markdown_table(["", "", *PEERS], rows) + "\n\nCircuits on the fronts, gates: test RMSE / std y.\n\n"
    lines = []
    for data_set in sets:
        for family in FAMILIES:
            curve = front(results.get(f"{data_set}/{splits[0]}/{family}", []))
            if curve:
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
                ax.plot(*zip(*curve, strict=True), STYLES[family], color=f"C{number}", markersize=4, label=family)
        ax.set(title=data_set, xscale="log", yscale="log", xlim=(50, None), ylim=(None, 1.1))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    for ax in axes.flat[len(sets) :]:
        ax.set_axis_off()
    fig.supxlabel("gates of the circuit")
    fig.supylabel("test RMSE of the circuit / std y")
    shown = dict(reversed(pair) for ax in axes.flat for pair in zip(*ax.get_legend_handles_labels(), strict=True))
    labels, handles = list(shown), list(shown.values())
    fig.legend(handles, labels, loc="outside upper center", ncols=5)
    fig.set_layout_engine("constrained")
    fig.savefig(file, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--sets", type=names_among(SETS, "set"), default=list(SETS))
    parser.add_argument("--splits", type=split_numbers, default=[0])
    parser.add_argument("--families", type=lambda text: text.split(";"), default=list(FAMILIES), help="a;b;c")
    parser.add_argument("--cache", type=Path, default=Path("pareto.json"))
    parser.add_argument("--plot", type=Path, help="file for the picture")
    arguments = parser.parse_args()
    results = measure(arguments.data, arguments.sets, arguments.splits, arguments.cache, arguments.families)
    print(report(results, arguments.sets, arguments.splits))
    if arguments.plot:
        draw(results, arguments.sets, arguments.splits[0], arguments.plot)


if __name__ == "__main__":
    main()
