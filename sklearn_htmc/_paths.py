"""Paths over strengths, many at a time: which strengths, and on whose threads or machines. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from sklearn_htmc._network import Floats, RegularizationPath
from sklearn_htmc._progress import Progress
from sklearn_htmc._threads import one_thread_each

if TYPE_CHECKING:
    from sklearn_htmc._training.paths import Rows

_DECADES = 3.0  # of the strengths that are tried where only their number is given
_LARGEST = 1.0  # over the root of the number of rows: the largest of them
_PER_SHARD = 16  # paths that are trained as one tensor at most
_N_SHARDS = 2  # at least, where there are as many paths


def strengths_of(alphas: Any, n_rows: int) -> Floats:
    """Return the strengths to try, falling.

    Raises
    ------
    ValueError
        If some are not positive numbers, or none are given.
    """
    if isinstance(alphas, Integral):
        largest = min(1.0, _LARGEST / math.sqrt(n_rows))
        return np.asarray(largest * 10.0 ** (-_DECADES * np.linspace(0.0, 1.0, int(alphas))), dtype=np.float64)
    found = check_array(alphas, ensure_2d=False, dtype=np.float64, input_name="alphas")
    if found.ndim != 1 or not (found > 0).all():
        raise ValueError(f"alphas must be a number of strengths, or an array of positive ones, got {alphas!r}.")
    return np.unique(found)[::-1]


def in_shards(
    rows: list[Rows], strengths: list[float], options: dict[str, Any], n_jobs: int | None, progress: Progress
) -> list[RegularizationPath]:
    """Fit all paths, some at a time as one batch: on the threads of this process, or as joblib is told to."""
    from sklearn_htmc._training.paths import fit_paths, passes
    from sklearn_htmc._training.threads import Stop, in_threads

    n_workers = effective_n_jobs(n_jobs)
    n_shards = min(len(rows), max(_N_SHARDS, n_workers, -(-len(rows) // _PER_SHARD)))
    if options["device"] != "cpu":
        n_shards = 1
    parts = [part.tolist() for part in np.array_split(np.arange(len(rows)), n_shards)]
    shards = [[rows[number] for number in part] for part in parts]
    n_passes = sum(passes(strengths, options["settings"].max_iter, is_warm=options["is_warm"]))
    report = progress.start(len(rows) * n_passes)
    if n_workers > 1:
        found = Parallel(n_jobs=n_jobs, prefer="threads")(
            delayed(fit_paths)(shard, strengths, **options) for shard in shards
        )
        if report is not None:
            report(len(rows) * n_passes, math.nan, math.nan)
    else:

        def one_shard(shard: list[Rows], stop: Stop) -> list[RegularizationPath]:
            def watch(n_done: int, loss: float, edges: float) -> None:
                stop.check()
                if report is not None:
                    report(n_done, loss, edges)

            return fit_paths(shard, strengths, **options, report=watch)

        with one_thread_each() as n_threads:
            found = in_threads(one_shard, shards, n_threads)
    return [path for paths in found for path in paths]


def best_of(paths: Sequence[RegularizationPath]) -> RegularizationPath:
    """Return a path that has the entry with the least objective for every strength."""
    objectives = np.array([path.objective for path in paths])
    best: NDArray[np.intp] = np.argmin(np.where(np.isfinite(objectives), objectives, np.inf), axis=0)
    return RegularizationPath.joined([paths[number].entries([place]) for place, number in enumerate(best.tolist())])
