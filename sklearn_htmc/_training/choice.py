"""Which of several strengths has the least held-out error.

A family whose optimum can be followed along falling strengths is: one path per fold, each network from the one before,
which ends where the held-out error has risen. Where a short training at the strength found, or a weaker one, has a
smaller held-out error, or there is no such path, folds are trained along rising strengths, all as one batch, and a
network of all rows goes the same way up to the strength that is best. They always are where a fit has many more rows
than those that choose: training gains most by more rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc._network import Floats
from sklearn_htmc._threads import one_thread_each
from sklearn_htmc._training.core.deadline import SEARCH, Deadline
from sklearn_htmc._training.core.problems import Problems, Report, Settings
from sklearn_htmc._training.core.task import Begun, End, Family, Network, Task
from sklearn_htmc._training.core.threads import Stop, in_threads
from sklearn_htmc._training.paths import Stage, Steps, passes, walk

_SAME = 1.02  # held-out losses that differ by less are the same; where one has risen by more, a path ends ...
_PATIENCE = 2  # ... as it does after so many strengths in a row without a better one
_UNFINISHED = 2.0  # times the held-out loss of the path: training on a part of the rows improves by that on all
_WEAKER = 2  # steps of training between the best strength of a path and the weaker one that is tried as well
_PATHS, _TRIALS = 0.4, 0.3  # shares of what is left of a time for paths, and for short trainings
_RANKING = 0.5  # of what is left then, where a network of all rows is trained as well
_ALL_FOLDS = 500  # rows up to which there is a path for every fold; above, one fold says the same
_N_SHARDS = 2  # batches of folds, at most: of a size that does not depend on the machine


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
        Training ranks every so many of the strengths.
    is_part : bool
        Whether a fit has many more rows than those with weight here.
    with_start : bool
        Whether a fit may start where the choice has ended: it is of these rows, has no budget and no other start.
    """

    strengths: Floats
    weights: Floats
    held_out: Sequence[NDArray[np.bool_]]
    seed: int
    coarse: int = 1
    is_part: bool = False
    with_start: bool = True

    @property
    def shares(self) -> Floats:
        """Shares of the folds in the weight of all that is held out."""
        weights = np.array([self.weights[out].sum() for out in self.held_out])
        return np.asarray(weights / weights.sum())

    def problems(self) -> Problems:
        """Return the folds; their strength is the largest one."""
        n_folds = len(self.held_out)
        return Problems(
            (float(self.strengths[0]),) * n_folds,
            (self.seed,) * n_folds,
            np.array([self.weights * ~out for out in self.held_out]),
            np.array([self.weights * out for out in self.held_out]),
        )

    def steps(self, settings: Settings, index: int = 0, *, is_brief: bool) -> Steps:
        """Return how training goes up to the strength of that number among those that it ranks."""
        rising = tuple(float(s) for s in self.strengths[:: self.coarse][index:][::-1])
        return Steps(rising, tuple(passes(rising, settings.max_iter, is_warm=True, is_brief=is_brief)))

    def n_passes(self, settings: Settings) -> int:
        """Return the passes of all that training does, at most."""
        folds, whole = self.steps(settings, is_brief=True), self.steps(settings, is_brief=False)
        return len(self.held_out) * sum(folds.n_passes) + self.trains_whole * sum(whole.n_passes)

    @property
    def trains_whole(self) -> bool:
        """Whether a network of all rows is trained up to the strength found."""
        return self.with_start and not self.is_part


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
    core = _Training(X, y, question, family, settings, device, report)
    losses, spares = core.ranked()
    losses = losses @ shares
    if followed is not None and not losses.min() < bound:
        return followed
    index = int(losses.argmin())
    return Choice(question.coarse * index, core.walked(index) if question.trains_whole else None, spares[index])


@dataclass(frozen=True, eq=False)
class _Training:
    """Ranking by training; see `choose`."""

    X: Floats
    y: Floats
    question: Question
    family: Family
    settings: Settings
    device: str
    report: Report | None

    def ranked(self) -> tuple[Floats, list[Begun | None]]:
        """Return held-out losses of shape (n_ranked, n_folds), for falling strengths, and the networks of one fold.

        A loss that there was no time for is infinite.
        """
        folds, time = self.question.problems(), self.settings.deadline
        if self.question.trains_whole:
            time = time.part(_RANKING)
        steps = self.question.steps(self.settings, is_brief=True)

        def one_shard(shard: NDArray[np.intp], stop: Stop) -> tuple[list[list[float]], list[Begun]]:
            part = folds.part(shard.tolist())
            tasks = [Task.of(part, number, self.X, self.y) for number in range(len(part))]
            losses, firsts = list[list[float]](), list[Begun]()
            for stage in self._walk(part, steps, time, stop.watch(self.report)):
                losses.append([task.judged(*end.network) for task, end in zip(tasks, stage.ends, strict=True)])
                firsts.append(stage.ends[0])
            return losses, firsts

        n_shards = 1 if self.device != "cpu" else min(_N_SHARDS, len(folds))
        with one_thread_each() as n_threads:
            found = in_threads(one_shard, np.array_split(np.arange(len(folds)), n_shards), n_threads)
        n, n_common = len(steps.strengths), min(len(losses) for losses, _ in found)
        judged = np.concatenate([np.array(losses[:n_common]) for losses, _ in found], axis=1)
        losses = np.full((n, len(folds)), np.inf)
        losses[n - n_common :] = np.where(np.isfinite(judged), judged, np.inf)[::-1]
        return losses, [None] * (n - n_common) + found[0][1][:n_common][::-1]

    def walked(self, index: int) -> Begun:
        """Return where training with all rows ends that goes up to a strength."""
        question = self.question
        problem = Problems((0.0,), (question.seed,), question.weights[None])
        steps = question.steps(self.settings, index, is_brief=False)
        with one_thread_each():
            *_, last = self._walk(problem, steps, self.settings.deadline, self.report)
        return last.ends[0]

    def _walk(self, problems: Problems, steps: Steps, time: Deadline, report: Report | None) -> Iterator[Stage]:
        # Nothing is finished here, so training has all of the time.
        settings = replace(self.settings, patience=None, max_edges=None, polish=False, deadline=time)
        return walk(
            self.X,
            self.y,
            problems,
            steps,
            family=self.family,
            settings=settings,
            device=self.device,
            report=report,
        )


def _best(losses: Floats) -> int:
    """Return the strongest of those that are as good as the best one."""
    return int((losses <= _SAME * losses.min()).argmax())
