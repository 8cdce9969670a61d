"""Which of several strengths has the least held-out error.

A family whose optimum can be followed along falling strengths is: one path per fold, each network from the one before,
which ends where the held-out error has risen. Where a short training at the strength found, or a weaker one, has a
smaller held-out error, or there is no such path, folds are trained along rising strengths, all as one batch, and a
network of all rows goes the same way up to the strength that is best. They always are where a fit has many more rows
than those that choose: training gains most by more rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

Rule = Callable[[Floats, Floats], int]  # see `Question`


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the held-out rows of a fold say of a network.

    Attributes
    ----------
    loss : float
        Half the mean of squares, summed over outputs; infinite for a network that has diverged.
    squares : ndarray of shape (n_outputs,)
        Mean squared error of every output; infinite as well then.
    n_edges : int
        Edges of the network.
    """

    loss: float
    squares: Floats
    n_edges: int

    @classmethod
    def of(cls, task: Task, network: Network) -> Verdict:
        """Judge a network."""
        squares = task.judged_squares(*network)
        if not np.isfinite(squares).all():
            squares = np.full_like(squares, np.inf)
        return cls(0.5 * float(squares.sum()), squares, task.exported(*network).n_edges)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Held-out errors of the strengths that there was time for.

    Attributes
    ----------
    numbers : ndarray of shape (n_ranked,)
        Of these strengths among all, rising: the strengths fall.
    losses : ndarray of shape (n_ranked, n_folds)
        See `Verdict`.
    squares : ndarray of shape (n_ranked, n_folds, n_outputs)
        See `Verdict`.
    n_edges : ndarray of shape (n_ranked, n_folds)
        See `Verdict`.
    shares : ndarray of shape (n_folds,)
        Shares of the folds in the weight of what they hold out, sum one.
    """

    numbers: NDArray[np.intp]
    losses: Floats
    squares: Floats
    n_edges: NDArray[np.intp]
    shares: Floats

    @classmethod
    def of(cls, numbers: NDArray[np.intp], folds: Sequence[Sequence[Verdict]], shares: Floats) -> Ranking:
        """Collect the verdicts of every fold, for falling strengths."""
        rows = list(zip(*folds, strict=True))
        losses = np.array([[verdict.loss for verdict in row] for row in rows])
        squares = np.array([[verdict.squares for verdict in row] for row in rows])
        n_edges = np.array([[verdict.n_edges for verdict in row] for row in rows], dtype=np.intp)
        return cls(numbers, losses, squares, n_edges, shares)

    @property
    def means(self) -> Floats:
        """Mean losses over the folds, of shape (n_ranked,)."""
        return np.asarray(self.losses @ self.shares)

    def preferred(self, best: int, rule: Rule | None) -> int:
        """Return the place of the best strength, or of a larger one that a rule prefers."""
        return best if rule is None else min(best, rule(self.losses, self.shares))


@dataclass(frozen=True, eq=False)
class Choice:
    """The best strength.

    Attributes
    ----------
    index : int
        Its number.
    ranking : Ranking
        What it was chosen by.
    begun : Begun or None
        Where a fit with it starts; None where it is to be trained.
    spare : Begun or None
        Where it may start if there is no time for training.
    """

    index: int
    ranking: Ranking
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
    rule : callable or None
        Takes losses of shape (n_ranked, n_folds), for falling strengths, and the shares of the folds, and returns which
        strength to take, if it is larger than the best one; None takes the best one.
    """

    strengths: Floats
    weights: Floats
    held_out: Sequence[NDArray[np.bool_]]
    seed: int
    coarse: int = 1
    is_part: bool = False
    with_start: bool = True
    rule: Rule | None = None

    def shares(self, n_folds: int) -> Floats:
        """Return the shares of the first folds in the weight of all that they hold out."""
        weights = np.array([self.weights[out].sum() for out in self.held_out[:n_folds]])
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
    problems = question.problems()
    tasks = [Task.of(problems, fold, X, y) for fold in range(len(problems))]
    followed, bound, deadline = None, np.inf, settings.deadline
    found = _followed(tasks, question, family, deadline, report)
    if found is not None:
        ranking, networks = found
        best = _best(ranking.means)
        index, loss = ranking.preferred(best, question.rule), float(ranking.losses[best, 0])
        begun = Begun(networks[index], ranking.losses[index, :1])
        followed, bound = Choice(index, ranking, begun), _UNFINISHED * loss
        if not question.is_part:
            # Layers that share the work want weaker strengths than one.
            weaker = min(best + _WEAKER * question.coarse, len(question.strengths) - 1)
            tried = [float(s) for s in question.strengths[[best, weaker]]]
            brief = replace(settings, deadline=deadline.part(_TRIALS))
            trials = family.trials(tasks[0].rows, tried, tasks[0].seed, brief, report or (lambda *_: None)) or []
            if not any(tasks[0].judged(*trial.network) < loss for trial in trials):
                curve = trials[0].curve if trials else begun.curve
                return replace(followed, begun=replace(begun, curve=curve))
            bound = np.inf
    if followed is not None and not deadline.allows(SEARCH):
        return followed
    core = _Training(X, y, question, family, settings, device, report)
    ranking, spares = core.ranked()
    if followed is not None and not ranking.means.min() < bound:
        return followed
    place = ranking.preferred(int(ranking.means.argmin()), question.rule)
    index = int(ranking.numbers[place])
    walked = core.walked(index // question.coarse) if question.trains_whole else None
    return Choice(index, ranking, walked, spares[place])


def _followed(
    tasks: Sequence[Task], question: Question, family: Family, deadline: Deadline, report: Report | None
) -> tuple[Ranking, list[Network]] | None:
    """Return what the held-out rows say along paths, and the networks of one fold; None where there is no path."""
    strengths = [float(s) for s in question.strengths]

    def one_path(fold: int, stop: Stop) -> list[tuple[Network, Verdict]]:
        watch, task, own = stop.watch(report), tasks[fold], time.turn(fold, n_paths, n_threads)
        path = family.path(task.rows, strengths, task.seed, End(watch, 1, own))
        found: list[tuple[Network, Verdict]] = []
        for network in path or ():
            found.append((network, Verdict.of(task, network)))
            losses = np.array([verdict.loss for _, verdict in found])
            if losses[-1] > _SAME * losses.min() or len(losses) - 1 - _best(losses) == _PATIENCE:
                break
            if len(found) < len(strengths) and not own.allows(SEARCH):
                break
        return found

    n_paths, time = len(tasks) if len(tasks[0].rows.X) <= _ALL_FOLDS else 1, deadline.part(_PATHS)
    with one_thread_each() as n_threads:
        paths = in_threads(one_path, range(n_paths), n_threads)
    n_common = min(len(path) for path in paths)
    if not n_common:
        return None
    verdicts = [[verdict for _, verdict in path[:n_common]] for path in paths]
    networks = [network for network, _ in paths[0][:n_common]]
    return Ranking.of(np.arange(n_common), verdicts, question.shares(n_paths)), networks


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

    def ranked(self) -> tuple[Ranking, list[Begun]]:
        """Return what the held-out rows say of strengths up to the last one with time, and the networks of one fold."""
        question, folds, time = self.question, self.question.problems(), self.settings.deadline
        if question.trains_whole:
            time = time.part(_RANKING)
        steps = question.steps(self.settings, is_brief=True)

        def one_shard(shard: NDArray[np.intp], stop: Stop) -> tuple[list[list[Verdict]], list[Begun]]:
            part = folds.part(shard.tolist())
            tasks = [Task.of(part, number, self.X, self.y) for number in range(len(part))]
            verdicts, firsts = list[list[Verdict]](), list[Begun]()
            for stage in self._walk(part, steps, time, stop.watch(self.report)):
                verdicts.append([Verdict.of(task, end.network) for task, end in zip(tasks, stage.ends, strict=True)])
                firsts.append(stage.ends[0])
            return verdicts, firsts

        n_shards = 1 if self.device != "cpu" else min(_N_SHARDS, len(folds))
        with one_thread_each() as n_threads:
            found = in_threads(one_shard, np.array_split(np.arange(len(folds)), n_shards), n_threads)
        n, n_common = len(steps.strengths), min(len(stages) for stages, _ in found)
        falling = slice(n_common - 1, None, -1)
        verdicts = [fold[falling] for stages, _ in found for fold in zip(*stages, strict=True)]
        numbers = question.coarse * np.arange(n - n_common, n)
        return Ranking.of(numbers, verdicts, question.shares(len(folds))), found[0][1][falling]

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
