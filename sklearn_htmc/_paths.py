"""Paths over strengths, many at a time: which strengths, and on whose threads or machines. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import ThreadingBackend, get_active_backend
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from sklearn_htmc._network import Floats, RegularizationPath
from sklearn_htmc._progress import Progress
from sklearn_htmc._threads import one_thread_each

if TYPE_CHECKING:
    from sklearn_htmc._training.core.problems import Report
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
    wrong = ValueError(f"alphas must be a positive number of strengths, or an array of positive ones, got {alphas!r}.")
    if isinstance(alphas, Integral) and not isinstance(alphas, bool):
        if alphas < 1:
            raise wrong
        largest = min(1.0, _LARGEST / math.sqrt(n_rows))
        return np.asarray(largest * 10.0 ** (-_DECADES * np.linspace(0.0, 1.0, int(alphas))), dtype=np.float64)
    if np.ndim(alphas) != 1:
        raise wrong
    found = check_array(alphas, ensure_2d=False, dtype=np.float64, input_name="alphas")
    if not (found > 0).all():
        raise wrong
    return np.unique(found)[::-1]


def in_shards(
    rows: list[Rows], strengths: list[float], options: dict[str, Any], n_jobs: int | None, progress: Progress
) -> list[RegularizationPath]:
    """Fit all paths, some at a time as one batch: on the threads of this process, or as joblib is told to."""
    from sklearn_htmc._training.core.threads import Stop, in_threads

    n_workers = effective_n_jobs(n_jobs)
    shards = _shards(rows, n_workers, on_cpu=options["device"] == "cpu")
    report = progress.start(sum(n_passes(part, strengths, options) for part in rows))
    if n_workers > 1 and not _in_this_process():
        found = Parallel(n_jobs=n_jobs)(
            delayed(_one_shard)([rows[number] for number in shard], strengths, options, (place, len(shards), n_workers))
            for place, shard in enumerate(shards)
        )
        progress.deadline.note(phase for _, refused in found for phase in refused)
    else:

        def one_shard(place: int, stop: Stop) -> tuple[list[RegularizationPath], tuple[str, ...]]:
            part, turn = [rows[number] for number in shards[place]], (place, len(shards), n_at_once)
            return _one_shard(part, strengths, options, turn, stop.watch(report))

        with one_thread_each() as n_threads:
            n_at_once = n_workers if n_workers > 1 else n_threads
            found = in_threads(one_shard, range(len(shards)), n_at_once)
    progress.complete()
    pairs = zip(
        [number for shard in shards for number in shard], [path for paths, _ in found for path in paths], strict=True
    )
    return [path for _, path in sorted(pairs, key=lambda pair: pair[0])]


def _one_shard(
    rows: list[Rows],
    strengths: list[float],
    options: dict[str, Any],
    turn: tuple[int, int, int],
    report: Report | None = None,
) -> tuple[list[RegularizationPath], tuple[str, ...]]:
    """Fit the paths of one shard, within its turn of the time; return what was cut short as well."""
    from sklearn_htmc._training.paths import fit_paths

    deadline = options["settings"].deadline
    settings = replace(options["settings"], deadline=deadline.turn(*turn))
    return fit_paths(rows, strengths, **options | {"settings": settings}, report=report), deadline.refused


def _in_this_process() -> bool:
    """Whether nobody has told joblib to use processes or a cluster: our own threads end when a fit is interrupted."""
    backend, _ = get_active_backend(prefer="threads")
    return type(backend) is ThreadingBackend


def _shards(rows: list[Rows], n_workers: int, *, on_cpu: bool) -> list[list[int]]:
    """Return the numbers of the paths that are trained together: all of them are to be finished, or ranked."""
    found = list[list[int]]()
    for is_brief in (True, False):
        alike = [number for number, part in enumerate(rows) if part.is_brief == is_brief]
        n_shards = max(_N_SHARDS, n_workers, -(-len(alike) // _PER_SHARD)) if on_cpu else 1
        found += [part.tolist() for part in np.array_split(alike, min(n_shards, max(1, len(alike)))) if len(part)]
    return found


def n_passes(rows: Rows, strengths: Sequence[float], options: dict[str, Any]) -> int:
    """Return the passes that a path takes."""
    from sklearn_htmc._training.paths import passes

    settings, is_warm = options["settings"], options["is_warm"]
    return sum(passes(strengths, settings.max_iter, is_warm=is_warm, is_brief=rows.is_brief))


def best_of(paths: Sequence[RegularizationPath]) -> RegularizationPath:
    """Return a path that has the entry with the least objective for every strength."""
    objectives = np.array([path.objective for path in paths])
    best: NDArray[np.intp] = np.argmin(np.where(np.isfinite(objectives), objectives, np.inf), axis=0)
    return RegularizationPath.joined([paths[number].entries([place]) for place, number in enumerate(best.tolist())])
