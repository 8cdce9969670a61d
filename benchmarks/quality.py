"""Accuracy and size on ten UCI regression sets, side by side with peers.

Every model gets the same rows and has one setting for all sets (``peers.py``). Reported are the test RMSE
divided by the standard deviation of the training targets, the size of the fitted model and the
seconds of ``fit``, each a mean over the splits, then ratios of errors over the sets: median, geometric
mean with and without the sets on which networks are furthest ahead, and extremes.

Each result is written to the cache as soon as it is there: a run that was interrupted goes on where
it stopped, and peers are fitted once. After a change of our own code, say ``--refit ours,ours400``
(and if that run is interrupted, go on without it).

Seconds depend on the threads of each library and on what else the machine does: see ``peers.py``.

The data are not part of this repository. ``--data`` is a folder that holds, for each set,
``NAME/data.csv.gz`` (numbers only, the last column is y) and ``NAME/test_mask.csv.gz`` (one column
per split, 1 marks a test row); the folder ``uci_datasets`` of
https://github.com/treforevans/uci_datasets is laid out that way.

    python benchmarks/quality.py --data uci_datasets --sets yacht,autompg --splits 0
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from peers import MODELS, Model, available_cores
from sklearn.exceptions import ConvergenceWarning

SETS = (
    "yacht",
    "autompg",
    "energy",
    "concrete",
    "airfoil",
    "wine",
    "pol",
    "bike",
    "kin40k",
    "protein",
)
OURS = ("ours", "ours400", "splines")
MLPS = ("mlp100", "mlp64")
PEERS = {
    "LightGBM": ("lightgbm",),
    "XGBoost": ("xgboost",),
    "the better of both": ("lightgbm", "xgboost"),
    "the better MLP": MLPS,
}
SMOOTH = ("kin40k", "pol")  # hardly any noise: networks of all kinds are far ahead of trees, and dominate means
COUNTED = "sklearn_htmc"  # whose convergence warnings are reported


@dataclass(frozen=True)
class Result:
    """What one fit gave on one split of one set."""

    rmse: float  # on the test rows, divided by the standard deviation of the training y
    size: int
    seconds: float
    warned: int  # convergence warnings of the fit
    library: str
    cores: int


Key = tuple[str, int, str]  # set, split, model
Results = dict[Key, Result]


@dataclass(frozen=True)
class Summary:
    """Means over the splits of one model on one set."""

    rmse: float
    size: float
    seconds: float
    warned: int  # sum over the splits


class Cache:
    """Results in one JSON file, rewritten whole after every fit."""

    def __init__(self, path: Path):
        self.path = path
        stored = json.loads(path.read_text()) if path.exists() else {}
        self.results: Results = {_key(name): Result(**entry) for name, entry in stored.items()}

    def store(self, key: Key, result: Result) -> None:
        self.results[key] = result
        stored = {"/".join(map(str, k)): asdict(r) for k, r in self.results.items()}
        # An interrupt while writing must not cost the results of hours.
        unfinished = self.path.with_name(self.path.name + ".part")
        unfinished.write_text(json.dumps(stored, indent=1) + "\n")
        unfinished.replace(self.path)


def _key(name: str) -> Key:
    data_set, split, model = name.split("/")
    return data_set, int(split), model


# --- data -----------------------------------------------------------------------------------------


def missing_files(folder: Path, sets: Iterable[str]) -> list[Path]:
    """Files that the run would need and that are not there."""
    names = ("data.csv.gz", "test_mask.csv.gz")
    files = [folder / data_set / name for data_set in sets for name in names]
    return [file for file in files if not file.is_file()]


@lru_cache(maxsize=1)
def load(folder: Path, data_set: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the set with y as the last column, and its test masks of shape (rows, splits)."""
    data = np.loadtxt(folder / data_set / "data.csv.gz", delimiter=",", ndmin=2)
    masks = np.loadtxt(folder / data_set / "test_mask.csv.gz", delimiter=",", ndmin=2)
    return data, masks.astype(bool)


def train_and_test(folder: Path, data_set: str, split: int) -> tuple[np.ndarray, ...]:
    """Return X, y, X_test and y_test of one split."""
    data, masks = load(folder, data_set)
    if split >= masks.shape[1]:
        raise SystemExit(f"{data_set} has splits 0 to {masks.shape[1] - 1}, got {split}.")
    test = masks[:, split]
    return data[~test, :-1], data[~test, -1], data[test, :-1], data[test, -1]


# --- one fit --------------------------------------------------------------------------------------


def measure(model: Model, X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> Result:
    """Fit `model` on (X, y), timed, and test it on the other rows."""
    estimator = model.make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        estimator.fit(X, y)
        seconds = time.perf_counter() - start
        errors = np.ravel(estimator.predict(X_test)) - y_test
    return Result(
        rmse=float(np.sqrt(np.mean(errors**2)) / np.std(y)),
        size=model.size(estimator),
        seconds=seconds,
        warned=count_convergence(caught),
        library=model.library,
        cores=available_cores(),
    )


def count_convergence(caught: list[warnings.WarningMessage]) -> int:
    """Count the convergence warnings and pass on the others."""
    others = [w for w in caught if not issubclass(w.category, ConvergenceWarning)]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return len(caught) - len(others)


def warm_up(models: Iterable[str]) -> None:
    """Fit each model once on a few rows: the first fit pays for imports."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    for name in models:
        measure(MODELS[name], X, X.sum(axis=1), X, X.sum(axis=1))


def run(folder: Path, sets: list[str], splits: list[int], models: list[str], cache: Cache) -> Iterator[str]:
    """Fit whatever the cache lacks; yields each set when it is complete."""
    keys = [(s, split, model) for s in sets for split in splits for model in models]
    if missing := [key for key in keys if key not in cache.results]:
        warm_up({model for _, _, model in missing})
    for data_set in sets:
        for key in (k for k in missing if k[0] == data_set):
            result = measure(MODELS[key[2]], *train_and_test(folder, *key[:2]))
            cache.store(key, result)
            print(_progress(key, result), flush=True)
        yield data_set


def _progress(key: Key, result: Result) -> str:
    data_set, split, name = key
    size = f"{result.size} {MODELS[name].unit}"
    note = ", not converged" if result.warned and MODELS[name].package == COUNTED else ""
    return (
        f"  {data_set:8} split {split}  {MODELS[name].title:20} RMSE {result.rmse:.4f}  "
        f"{size:>20}  {result.seconds:7.2f} s{note}"
    )


# --- the report -----------------------------------------------------------------------------------


def summarise(results: Results, splits: Iterable[int]) -> dict[tuple[str, str], Summary]:
    """Means over `splits`, for each set and model that has them all."""
    pairs = dict.fromkeys((data_set, model) for data_set, _, model in results)
    summaries = {}
    for data_set, model in pairs:
        found = [results.get((data_set, split, model)) for split in splits]
        if None not in found:
            summaries[data_set, model] = _mean(found)
    return summaries


def _mean(found: list[Result]) -> Summary:
    rmse, size, seconds = np.mean([(r.rmse, r.size, r.seconds) for r in found], axis=0)
    return Summary(float(rmse), float(size), float(seconds), sum(r.warned for r in found))


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Lay out a table that reads well as text too; all columns but the first are numbers."""
    cells = [head, *rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[c.rjust(w) for c, w in zip(row, widths, strict=True)] for row in [head, rule, *rows]]
    for line in lines:
        line[0] = line[0].strip().ljust(widths[0])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def set_table(data_set: str, models: Iterable[str], summaries: dict) -> str:
    """One row per model: RMSE, size, seconds and our convergence warnings."""
    rows = []
    for name in models:
        model, summary = MODELS[name], summaries[data_set, name]
        warned = str(summary.warned) if model.package == COUNTED else ""
        size = f"{summary.size:,.0f} {model.unit}"
        rows.append([model.title, f"{summary.rmse:.4f}", size, f"{summary.seconds:.2f}", warned])
    return markdown_table([data_set, "RMSE / std y", "size", "seconds", "warnings"], rows)


def overview(field: str, form: str, sets: list[str], models: list[str], summaries: dict) -> str:
    """One row per set, one column per model: one field of the summaries."""
    rows = [[s, *(form.format(getattr(summaries[s, model], field)) for model in models)] for s in sets]
    return markdown_table(["", *(MODELS[model].title for model in models)], rows)


def ratios(model: str, peers: tuple[str, ...], sets: list[str], summaries: dict) -> dict:
    """RMSE of `model` over that of the best of `peers`, for each set that has them all.

    Which peer is the best is decided on the test rows, for each set: in the peers' favour.
    """
    complete = [s for s in sets if all((s, m) in summaries for m in (model, *peers))]
    return {s: summaries[s, model].rmse / min(summaries[s, peer].rmse for peer in peers) for s in complete}


def geometric_mean(values: Iterable[float]) -> float:
    """Mean in the logarithm, so that halving and doubling cancel."""
    return float(np.exp(np.mean(np.log(list(values)))))


def aggregates(sets: list[str], summaries: dict) -> str:
    """Compare our models with peers over the sets; empty if there is nothing to compare."""
    rows = []
    for mine in OURS:
        for label, peers in PEERS.items():
            if found := ratios(mine, peers, sets, summaries):
                rows.append([MODELS[mine].title, label, *_spread(found)])
    head = [
        "RMSE of",
        "over that of",
        "median",
        "geometric mean",
        f"without {' and '.join(SMOOTH)}",
        "least",
        "largest",
    ]
    return markdown_table([*head, "sets"], rows) if rows else ""


def _spread(found: dict[str, float]) -> list[str]:
    """Return cells: median, geometric means, extremes and number of some ratios by set."""
    values = list(found.values())
    others = [ratio for data_set, ratio in found.items() if data_set not in SMOOTH]
    means = geometric_mean(values), geometric_mean(others) if others else np.nan
    numbers = (float(np.median(values)), *means, min(values), max(values))
    return [*(f"{number:.2f}" for number in numbers), str(len(values))]


def provenance(results: Results, sets: list[str], splits: list[int], models: list[str]) -> str:
    """Versions and cores that gave the results shown, some of which may be old."""
    shown = [results[s, split, m] for s in sets for split in splits for m in models]
    libraries = ", ".join(sorted({r.library for r in shown}))
    cores = " or ".join(sorted({"1 core" if r.cores == 1 else f"{r.cores} cores" for r in shown}))
    return (
        f"Means over splits {', '.join(map(str, splits))}. Measured with {libraries}; each model "
        f"on its default number of threads, on {cores}. One setting for all sets; "
        "seconds are those of one `fit`."
    )


def report(results: Results, sets: list[str], splits: list[int], models: list[str]) -> str:
    """Everything that was measured, as Markdown."""
    summaries = summarise(results, splits)
    shown = (sets, models, summaries)
    units = "; ".join(f"{MODELS[model].title}: {MODELS[model].unit}" for model in models)
    parts = [
        provenance(results, sets, splits, models),
        "Test RMSE / standard deviation of the training y:",
        overview("rmse", "{:.4f}", *shown),
        f"Size ({units}; biases of the MLPs are not counted):",
        overview("size", "{:,.0f}", *shown),
        "Seconds:",
        overview("seconds", "{:.2f}", *shown),
    ]
    if own := [model for model in models if MODELS[model].package == COUNTED]:
        parts += [
            f"Fits that warned they had not converged, of {len(splits)}:",
            overview("warned", "{}", sets, own, summaries),
        ]
    if compared := aggregates(sets, summaries):
        parts += ["Aggregates over the sets:", compared]
    return "\n\n".join(parts) + "\n"


# --- command line ---------------------------------------------------------------------------------


def names_among(known: Iterable[str], what: str):
    """Parser of a comma-separated list of known names."""
    known = tuple(known)

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown {what} {', '.join(unknown)}: choose from {', '.join(known)}")
        return list(dict.fromkeys(names))

    return parse


def split_numbers(text: str) -> list[int]:
    """Parse "0-2" or "0,3,5-7"."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            raise argparse.ArgumentTypeError(f"splits are written like 0-2 or 0,3, got {text!r}")
        numbers.update(range(int(first), int(last or first) + 1))
    return sorted(numbers)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    text, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=text, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sets, models = names_among(SETS, "set"), names_among(MODELS, "model")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--sets", type=sets, default=list(SETS), help="a,b (default: all ten)")
    parser.add_argument("--splits", type=split_numbers, default="0-2", help="default: 0-2")
    parser.add_argument("--models", type=models, default=list(MODELS), help=f"default: {','.join(MODELS)}")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("quality.json"),
        help="results kept between runs (default: quality.json in the current folder)",
    )
    parser.add_argument("--refit", type=models, default=[], help="models to fit even if cached")
    parser.add_argument("--out", type=Path, help="Markdown file for the report")
    return parser.parse_args(arguments)


def check_data(folder: Path, sets: list[str]) -> None:
    """Stop with a sentence if the folder does not hold the sets."""
    if missing := missing_files(folder, sets):
        raise SystemExit(
            f"--data must hold NAME/data.csv.gz and NAME/test_mask.csv.gz for every set; "
            f"{missing[0]} is missing ({len(missing)} files in all). "
            "Run with --help to see where the data come from, or name fewer sets with --sets."
        )


def installed(models: list[str]) -> list[str]:
    """Return the models that can run here, with a note for each other one."""
    for name in models:
        if not MODELS[name].installed:
            package = MODELS[name].distribution
            print(f"note: {name} is skipped, {package} is not installed.", file=sys.stderr)
    if usable := [name for name in models if MODELS[name].installed]:
        return usable
    raise SystemExit("None of the models can run: install their packages first.")


def open_cache(path: Path, refit: list[str]) -> Cache:
    """Read the cache; results of the models in `refit` are forgotten."""
    try:
        cache = Cache(path)
    except (ValueError, TypeError) as error:
        raise SystemExit(f"{path} is not a cache of this script ({error}): move it away.") from None
    cache.results = {key: r for key, r in cache.results.items() if key[2] not in refit}
    return cache


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    check_data(options.data, options.sets)
    models = installed(options.models)
    cache = open_cache(options.cache, options.refit)
    for data_set in run(options.data, options.sets, options.splits, models, cache):
        summaries = summarise(cache.results, options.splits)
        print("\n" + set_table(data_set, models, summaries) + "\n", flush=True)
    text = report(cache.results, options.sets, options.splits, models)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
