"""What "auto" stands for: rows of a batch, device, the strengths that are tried and who judges them; without torch."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sklearn_htmc._network import Floats
from sklearn_htmc._selection import chosen
from sklearn_htmc._table import Table

if TYPE_CHECKING:
    from sklearn_htmc._training.choice import Question

_N_FOLDS = 3
_HOLD_OUT_ROWS = 10_000  # above this one hold-out of a tenth judges, below three folds
_N_STRENGTHS = 6  # half decades that training ranks
_PER_HALF_DECADE = 2  # steps of a path
_BATCH_ROWS = 128
_LEAST_PASSES = 10  # where steps are bounded
DEFAULT_ALPHA = 0.01  # where there are too few rows to choose


def automatic_batch(batch_size: int | str, n_rows: int) -> int:
    """Return the rows of a batch for a parameter that may be "auto"."""
    if batch_size != "auto":
        return int(batch_size)
    return _BATCH_ROWS if n_rows <= _HOLD_OUT_ROWS else 2 * _BATCH_ROWS


def bounded_passes(max_iter: int, n_rows: int, batch_size: int, most_steps: int) -> int:
    """Return the passes that take so many steps at most, but some."""
    return min(max_iter, max(_LEAST_PASSES, most_steps // -(-n_rows // batch_size)))


def automatic_strengths(n_rows: int, n_between: int = 1) -> Floats:
    """Return the strengths that ``alpha="auto"`` tries: half decades, or parts of them, down from ``0.5 / sqrt(n)``.

    Alpha is a threshold on correlations, and a correlation with noise is about ``1 / sqrt(n)``.
    """
    largest = min(1.0, 0.5 / math.sqrt(n_rows))
    return np.asarray(
        largest * 10.0 ** (-0.5 * np.arange((_N_STRENGTHS - 1) * n_between + 1) / n_between), dtype=np.float64
    )


def tried_strengths(n_rows: int) -> Floats:
    """Return the strengths of a path; training ranks every second one."""
    return automatic_strengths(n_rows, _PER_HALF_DECADE)


def worthwhile_device(device: str, n_rows: int) -> str:
    """Resolve "auto": CUDA where there is one and the problem is large enough to gain by it."""
    if device != "auto":
        return device
    import torch

    return "cuda" if n_rows > _HOLD_OUT_ROWS and torch.cuda.is_available() else "cpu"


def too_few_to_choose(table: Table) -> bool:
    """Return whether there are too few rows for folds, or nothing to be learnt."""
    return table.n_groups < 2 * _N_FOLDS or not table.y.any()


def question_of(
    table: Table,
    random_state: np.random.RandomState,
    most_rows: int | None,
    selection: str,
    *,
    with_start: bool,
) -> tuple[Question, int]:
    """Return what decides on a strength, and how many rows take part.

    Parameters
    ----------
    table : Table
        All rows.
    random_state : RandomState
        Deals the rows to folds.
    most_rows : int or None
        Rows that may take part.
    selection : {"min", "one_se"}
        See `chosen`.
    with_start : bool
        See `choice.Question`.
    """
    from sklearn_htmc._training.choice import Question

    n_rows = judged_rows = len(table.X)
    if n_rows > _HOLD_OUT_ROWS:
        held_out = [table.folds(10, random_state) == 0]
    else:
        folds = table.folds(_N_FOLDS, random_state)
        held_out = [folds == fold for fold in range(_N_FOLDS)]
    weights = table.weights
    if most_rows is not None and n_rows > most_rows:
        judged_rows = most_rows
        sample = random_state.permutation(n_rows)[:judged_rows]
        weights = np.zeros(n_rows)
        weights[sample] = table.weights[sample]
    question = Question(
        tried_strengths(judged_rows),
        weights,
        held_out,
        int(random_state.randint(2**31 - 1)),
        _PER_HALF_DECADE,
        is_part=judged_rows < n_rows,
        with_start=with_start,
        rule=None if selection == "min" else partial(chosen, selection=selection),
    )
    return question, judged_rows
