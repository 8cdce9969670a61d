"""Which of several strengths has the least held-out error.

A family whose optimum can be followed along falling strengths is: one path per fold, each network from the one before,
which ends where the held-out error has risen. Where a short training at the strength found, or a weaker one, has a
smaller held-out error, or there is no such path, strengths are ranked by training: strengths x folds, one batch of
problems. They always are where a fit has many more rows than those that choose: training gains most by more rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc._network import Floats
from sklearn_htmc._threads import one_thread_each
from sklearn_htmc._training.core.deadline import SEARCH
from sklearn_htmc._training.core.problems import Problems, Report, Settings
from sklearn_htmc._training.core.task import Begun, End, Family, Network, Task
from sklearn_htmc._training.core.threads import Stop, in_threads
from sklearn_htmc._training.fit import begun_with, fit_problems

_SAME = 1.02  # held-out losses that differ by less are the same; where one has risen by more, a path ends ...
_PATIENCE = 2  # ... as it does after so many strengths in a row without a better one
_UNFINISHED = 2.0  # times the held-out loss of the path: training on a part of the rows improves by that on all
_WEAKER = 2  # steps of training between the best strength of a path and the weaker one that is tried as well
_PATHS, _TRIALS = 0.4, 0.3  # shares of what is left of a time for paths, and for short trainings
_ALL_FOLDS = 500  # rows up to which there is a path for every fold; above, one fold says the same


@dataclass(frozen=True, eq=False)
class Choice:
    """The best strength.

    Attributes
    ----------
    index : int
        Its number.
    begun : Begun or None
        Where a fit with it starts; None where it is to be trained.
    spare : Begun or None
        Where it may start if there is no time for training.
    """

    index: int
    begun: Begun | None = None
    spare: Begun | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """Which strength, judged by which rows.

    Attributes
    ----------
    strengths : ndarray of shape (n_strengths,)
        Falling.
    weights : ndarray of shape (n_samples,)
        Weights of the rows, zero for those that take no part.
    held_out : sequence of ndarray of shape (n_samples,)
        Which rows every fold holds out.
    seed : int
        Seed of all problems.
    coarse : int
        Training ranks every so many of the strengths ...
    share : int
        ... with the passes of a fit over this.
    is_part : bool
        Whether a fit has many more rows than those with weight here.
    """

    strengths: Floats
    weights: Floats
    held_out: Sequence[NDArray[np.bool_]]
    seed: int
    coarse: int = 1
    share: int = 2
    is_part: bool = False

    @property
    def shares(self) -> Floats:
        """Shares of the folds in the weight of all that is held out."""
        weights = np.array([self.weights[out].sum() for out in self.held_out])
        return np.asarray(weights / weights.sum())

    def problems(self) -> Problems:
        """Return the strengths that training ranks times the folds."""
        ranked, held_out = self.strengths[:: self.coarse], self.held_out
        return Problems(
            tuple(float(s) for s in ranked for _ in held_out),
            (self.seed,) * (len(ranked) * len(held_out)),
            np.array([self.weights * ~out for _ in ranked for out in held_out]),
            np.array([self.weights * out for _ in ranked for out in held_out]),
        )


def choose(
    X: Floats,
    y: Floats,
    question: Question,
    *,
    family: Family,
    settings: Settings,
    device: str = "cpu",
    report: Report | None = None,
) -> Choice:
    """Choose a strength.

    Parameters
    ----------
    X, y
        See `fit.fit_problems`.
    question : Question
        Strengths, and who judges.
    family, settings, device, report
        See `fit.fit_problems`.
    """
    problems, shares, strengths = question.problems(), question.shares, question.strengths
    tasks = [Task.of(problems, fold, X, y) for fold in range(len(shares))]

    def one_path(fold: int, stop: Stop) -> list[tuple[float, Network]]:
        watch, task, own = stop.watch(report), tasks[fold], time.turn(fold, n_paths, n_threads)
        path = family.path(task.rows, [float(s) for s in strengths], task.seed, End(watch, 1, own))
        found: list[tuple[float, Network]] = []
        for network in path or ():
            found.append((task.judged(*network), network))
            losses = np.array([loss for loss, _ in found])
            if losses[-1] > _SAME * losses.min() or len(losses) - 1 - _best(losses) == _PATIENCE:
                break
            if len(found) < len(strengths) and not own.allows(SEARCH):
                break
        return found

    followed, bound, deadline = None, np.inf, settings.deadline
    n_paths, time = len(tasks) if len(tasks[0].rows.X) <= _ALL_FOLDS else 1, deadline.part(_PATHS)
    with one_thread_each() as n_threads:
        paths = in_threads(one_path, range(n_paths), n_threads)
        n_common = min(len(path) for path in paths)
        if n_common:
            losses = np.array([[loss for loss, _ in path[:n_common]] for path in paths]).T @ shares[: len(paths)]
            index = _best(losses)
            (loss, network), task = paths[0][index], tasks[0]
            followed = Choice(index, Begun(network, np.array([task.judged(*network)])))
            bound = _UNFINISHED * loss
            if not question.is_part:
                # Layers that share the work want weaker strengths than one.
                tried = [
                    float(s) for s in strengths[[index, min(index + _WEAKER * question.coarse, len(strengths) - 1)]]
                ]
                brief = replace(settings, deadline=deadline.part(_TRIALS))
                trials = family.trials(task.rows, tried, task.seed, brief, report or (lambda *_: None)) or []
                if not any(task.judged(*trial.network) < loss for trial in trials):
                    curve = trials[0].curve if trials else np.array([loss])
                    return Choice(index, Begun(network, curve))
                bound = np.inf
    if followed is not None and not deadline.allows(SEARCH):
        return followed
    settings = replace(settings, max_iter=max(1, settings.max_iter // question.share), max_edges=None, polish=False)
    path = fit_problems(X, y, problems, family=family, settings=settings, device=device, report=report)
    losses = path.validation_loss.reshape(-1, len(shares)) @ shares
    if followed is not None and not np.nanmin(losses) < bound:
        return followed
    best = int(np.nanargmin(losses))
    spare = begun_with(path.networks[best * len(shares)], family) if deadline.is_limited else None
    return Choice(question.coarse * best, spare=spare)


def _best(losses: Floats) -> int:
    """Return the strongest of those that are as good as the best one."""
    return int((losses <= _SAME * losses.min()).argmax())
