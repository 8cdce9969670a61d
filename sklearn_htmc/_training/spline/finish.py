"""From the end of the first-order phase to the finished composition of shallow networks, for one problem.

Two networks start: the trained one, and the best one with all neurons in the first layer, which is a lasso over neurons
(`spline_shallow`) and for a single shallow network the end. Training on its own may leave neurons in a layer where they
cost more than elsewhere, up to a half of the objective. With equally many neurons the better one goes on: all
weights and hyperplanes move, and neurons of all layers come in, up to twice as many as there were at the start.

A budget of neurons is spent by growing from a linear function, or by removing neurons from the best network: the first
is nearly always better; the second is tried where there are few to remove.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sklearn_htmc._network import Floats
from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.core.deadline import MISSING, SECOND_ORDER
from sklearn_htmc._training.core.objective import Rows, mean_loss
from sklearn_htmc._training.core.problems import Problems, Report, Settings
from sklearn_htmc._training.core.task import Begun, End, Finished, Network, Task, described
from sklearn_htmc._training.first_order.loop import train
from sklearn_htmc._training.second_order.gauss_newton import Problem, descend
from sklearn_htmc._training.spline.calculus import SplineCalculus
from sklearn_htmc._training.spline.certificate import certify
from sklearn_htmc._training.spline.network import SplineNetwork
from sklearn_htmc._training.spline.neurons import (
    GLANCE,
    fewer_neurons,
    with_violations,
    without_negligible,
    without_useless,
)
from sklearn_htmc._training.spline.shallow import Bounds, Lift, constant, solved, solved_path

_MINIMISING, _BEFORE_BUDGET, _GROWING, _TRAINING = 0.8, 0.3, 0.6, 0.6  # shares of the time that is left, where short
_RIVAL = 1.5  # objective of a trained network, relative to one layer as large, up to which it goes on
_TRIAL_ROWS = 4_000  # of the training that says whether more of it can win, at most ...
_TRIAL_PASSES, _TRIAL_STEPS = 100, 1_200  # ... and passes, more where they are fewer steps
_FEW_PARAMETERS, _FEW_ROUNDS = 500, 3  # up to which one layer moves its hyperplanes, and for how long
_LAST_WORTH, _LAST_ROUNDS = 1e-3, 15  # relative fall of the objective in a round of the last lasso, and rounds
_LASSO_ROUNDS = 100
_LASSO_ROWS = 12_000  # on which the neurons of one layer are looked for, at most
_LASSO_WORTH, _TRIAL_WORTH = 5e-3, 2e-2  # relative fall in a round of the lasso, to go on, and in a trial
_REGROWTH = 2  # times the neurons at the start, at most at the end
_WORTH = 3e-3  # relative fall of the objective in a round of a composition, to go on
_STEPS = 10  # Gauss-Newton steps of a round ...
_ROUND_ROWS, _STEP_ROWS = 100_000, 400_000  # rows times rounds, and times steps at the end, at most
_FALL = 1e-6  # ... which ends where the objective falls by less, relative
_PARAMETERS = 1_000  # that move in a step, at most
_PER_ROW = 3  # with more of them than that the data do not say where to go
_PATIENCE = 3  # neurons in a row that help nothing, after which growth ends
_NEARLY = 2.0  # times the budget, up to which removing neurons may be better than growing
_ROUND = 0.1  # share of the neurons that come or go in one round of growing or shrinking
_ROUNDS = 1_000  # of descent and entry: the family says how many
_GROWTH = 4  # times as many rounds for growing


@dataclass(frozen=True, eq=False)
class _Search:
    """One problem on its way.

    Attributes
    ----------
    judge : Problem
        What is minimised.
    generator : torch.Generator
        Draws the starts of searches for neurons.
    end : End
        Whom to tell.
    """

    judge: Problem
    generator: torch.Generator
    end: End

    def on(self, n_rows: int) -> _Search:
        """Return the problem on that many rows where there are more."""
        rows = self.judge.rows.thinned(n_rows)
        return self if rows is self.judge.rows else replace(self, judge=replace(self.judge, rows=rows))

    def within(self, share: float) -> _Search:
        """Return the problem with a share of the time that is left."""
        deadline = self.end.deadline.part(share)
        return replace(self, judge=replace(self.judge, deadline=deadline), end=replace(self.end, deadline=deadline))

    def value(self, network: Network) -> float:
        """Return the objective, infinite where it is not finite."""
        found = self.judge.objective(*network)
        return found if np.isfinite(found) else np.inf


@dataclass(frozen=True)
class SplineFamily:
    """Compositions of shallow networks.

    Attributes
    ----------
    architecture : SplineNetwork
        Sizes of the first-order phase.
    max_neurons : int or None
        Budget of neurons of all layers.
    rounds : int
        Rounds of descent and entry, at most; growing has more.
    wide : int
        Inner coordinates at the start of training, at least.
    """

    architecture: SplineNetwork
    max_neurons: int | None = None
    rounds: int = 12
    wide: int = 8

    @property
    def trained(self) -> SplineNetwork:
        """Sizes of the first-order phase: few coordinates are found best among some more."""
        widths, ranks = self.architecture.widths, self.architecture.widths[1:-1]
        wide = tuple(max(rank, self.wide) for rank in ranks)
        return replace(self.architecture, widths=(widths[0], *wide, widths[-1]), ranks=ranks)

    def path(self, rows: Rows, strengths: Sequence[float], seed: int, end: End) -> Iterator[Network] | None:
        """Yield networks with all neurons in the first layer; see `task.Family`."""
        if not Lift(self.architecture).is_possible:
            return None
        limit = self._limit if self.max_neurons is None else self.max_neurons
        limited = None if self._is_lasso and self._has_one_input and self.max_neurons is None else limit
        worth = 0.0 if limited is None else _LASSO_WORTH
        mean = self.architecture.of(constant(self.architecture, rows))
        generator = torch.Generator().manual_seed(seed)
        return solved_path(self.architecture, mean, rows, strengths, generator, end, Bounds(limited, worth))

    def begun(self, task: Task, settings: Settings, watch: Report) -> Begun | None:
        """Compare a short training with one layer as large: None where training is better; see `task.Family`."""
        mean = self.architecture.of(constant(self.architecture, task.rows))
        if self._is_lasso:
            return Begun(mean, np.array([mean_loss(*mean, task.rows)]))
        if not Lift(self.architecture).is_possible:
            return None
        rows = task.rows.thinned(_TRIAL_ROWS)
        trial = self._trials(rows, [task.strength], task.seed, settings, watch)[0]
        generator = torch.Generator().manual_seed(task.seed)
        end = End(watch, 1, settings.deadline)
        search = _Search(Problem(rows, task.strength, SplineCalculus(), end.deadline), generator, end)
        start = trial.network
        equal = self._solved(search, start, self._fair(search, start), _TRIAL_WORTH)
        is_all = rows is task.rows and len(trial.curve) == settings.max_iter
        is_open = is_all or rows is not task.rows  # what comes after may be far better
        if search.value(start) >= (_RIVAL if is_open else 1.0) * search.value(equal):
            return Begun(equal, trial.curve)
        return trial if is_all else None

    def trials(
        self, rows: Rows, strengths: Sequence[float], seed: int, settings: Settings, watch: Report
    ) -> list[Begun] | None:
        """Train shortly; see `task.Family`."""
        return None if self._is_lasso else self._trials(rows, strengths, seed, settings, watch)

    def _trials(
        self, rows: Rows, strengths: Sequence[float], seed: int, settings: Settings, watch: Report
    ) -> list[Begun]:
        """Train with some strengths, on a part of the rows where they are many."""
        rows, n = rows.thinned(_TRIAL_ROWS), len(strengths)
        n_steps = max(settings.min_steps, -(-len(rows.X) // settings.batch_size))  # of a pass
        n_passes = max(_TRIAL_PASSES, -(-_TRIAL_STEPS // n_steps))
        time = settings.deadline.part(_TRAINING)
        short = replace(settings, max_iter=min(n_passes, settings.max_iter), deadline=time)
        problems = Problems(tuple(strengths), (seed,) * n, np.tile(rows.weights.numpy(), (n, 1)))
        X, y = rows.X.float(), rows.y.float()
        trained = train(self.trained, X, y, problems, short, n_rows=len(X), report=watch)
        ends = [self.trained.compact(trained.parameters.views, problem) for problem in range(n)]
        return [Begun(self._start(end, rows), curve) for end, curve in zip(ends, trained.curves, strict=True)]

    def finished(self, task: Task, trained: Network, settings: Settings, curve: Floats, end: End) -> Finished:
        """Finish one problem; see `task.Family`."""
        rows, generator = task.rows, torch.Generator().manual_seed(task.seed)
        search = _Search(Problem(rows, task.strength, SplineCalculus(), end.deadline), generator, end)
        mean = self.architecture.of(constant(self.architecture, rows))
        start = self._start(trained, rows)
        first = search.within(_MINIMISING if self.max_neurons is None else _BEFORE_BUDGET)
        minimised = self._minimised(first, start, known=not settings.trial) if settings.polish else start
        candidates = [minimised, start, mean]
        best = min(candidates, key=search.value)
        if not self._fits(best):
            candidates = [c for c in candidates if self._fits(c)]
            if settings.polish:
                candidates.append(self._grown(search.within(_GROWING)))
                if sum(best[0].neurons) <= _NEARLY * (self.max_neurons or 0):
                    candidates.append(self._shrunk(search, best))
            best = min(candidates, key=search.value)
        best = without_idle(*best, rows)
        looks = settings.polish and end.deadline.allows(MISSING)
        other = torch.Generator().manual_seed(task.seed + 1) if looks else None
        return described(task, *best, certify(*best, rows, task.strength, other), curve)

    def measured(self, task: Task, trained: Network, settings: Settings, curve: Floats) -> Finished:
        """Measure a network as it is."""
        return described(task, *trained, certify(*trained, task.rows, task.strength, None), curve)

    def _start(self, trained: Network, rows: Rows) -> Network:
        """Return what training has ended with, without what does nothing."""
        if not np.isfinite(mean_loss(*trained, rows)):  # it has diverged
            return self.architecture.of(constant(self.architecture, rows))
        if self._is_one_layer(trained):
            return trained
        network, parameters = trained[0].narrowed(trained[1], rows.X, rows.weights)
        return without_negligible(network, parameters, rows)

    def _is_one_layer(self, network: Network) -> bool:
        """Whether all neurons are in the first layer, and the sizes those at the end."""
        return network[0].widths == self.architecture.widths and not any(network[0].neurons[1:])

    def _fits(self, candidate: Network) -> bool:
        return self.max_neurons is None or sum(candidate[0].neurons) <= self.max_neurons

    @property
    def _limit(self) -> int:
        """Neurons of a composition before the budget, at most."""
        return _REGROWTH * sum(self.architecture.neurons)

    def _fair(self, search: _Search, network: Network) -> int:
        """Return with how many neurons one layer is compared with a network: as many as that, or as rows can place."""
        n_rows, n_features = search.judge.rows.X.shape
        n_neurons: int = sum(network[0].neurons)
        return max(n_neurons, min(self._limit, n_rows // (n_features + 1)))

    @property
    def _has_one_input(self) -> bool:
        """Whether a single shallow network is solved in milliseconds."""
        return self.architecture.widths[0] == 1

    @property
    def _is_lasso(self) -> bool:
        return self.architecture.n_layers == 1

    def _minimised(self, search: _Search, start: Network, *, known: bool) -> Network:
        """Minimise the objective, from the trained network or with all neurons in the first layer.

        It is known that training is better where held-out rows have said so.
        """
        if self._is_lasso:
            rough = self._solved(search, start, None)
            return self._solved(search, rough, None, 0.0) if self._fits(rough) else rough
        if not Lift(self.architecture).is_possible:
            return self._improved(search, start)
        if self._is_one_layer(start):
            some = search.on(_LASSO_ROWS)
            found = self._solved(some, start, self._limit, _LAST_WORTH, _LAST_ROUNDS)
            if some is not search:  # the neurons stay, the weights are those of all rows
                found = self._solved(search, found, found[0].neurons[0], _LAST_WORTH, _FEW_ROUNDS)
            return self._improved(search, found, _FEW_ROUNDS) if _moves(search.judge, found) else found
        some = search.on(_TRIAL_ROWS)
        equal = self._solved(some, start, self._fair(search, start))
        if some.value(start) <= _RIVAL * some.value(equal):
            improved = self._improved(search, start)
            if known or some.value(start) <= some.value(equal):
                return improved
            equal = self._solved(some, improved, self._fair(search, improved))
            if some.value(improved) <= some.value(equal):
                return improved
        return self._improved(search, self._solved(search.on(_LASSO_ROWS), equal, self._limit))

    def _solved(
        self,
        search: _Search,
        start: Network,
        limit: int | None,
        worth: float = _LASSO_WORTH,
        rounds: int = _LASSO_ROUNDS,
    ) -> Network:
        """Return the best network with all neurons in the first layer."""
        bounds = Bounds(limit, worth, rounds)
        return solved(self.architecture, start, search.judge, search.generator, search.end, bounds)

    def _improved(self, search: _Search, start: Network, max_rounds: int = _ROUNDS) -> Network:
        """Descend and take neurons in until neither helps, or for as long as it is worth it."""
        judge, point = search.judge, search.judge.at(*start)
        before = point.objective
        for _ in range(min(self.rounds, max_rounds, max(1, _ROUND_ROWS // len(judge.rows.X)))):
            problem = _movable(judge, point.network, point.parameters)
            if problem is None:
                break
            following = descend(problem, point.network, point.parameters, max_steps=_STEPS, tol=_FALL)
            search.end.watch(0, following.loss, following.n_edges)
            if not search.end.deadline.allows(SECOND_ORDER):
                point = following
                break
            converged = before - following.objective <= _WORTH * following.objective
            before, point = following.objective, following
            if self.architecture.penalty == "multitask":
                point = without_useless(problem, point)
            if converged:
                break
            point = problem.at(*point.compacted())
            room = self._limit - sum(point.network.neurons)
            grown = with_violations(problem, point, search.generator, room=room)
            if grown is not None and problem.objective(*grown) <= 2.0 * point.objective:
                point = problem.at(*grown)
        problem = _movable(judge, *point.compacted())
        if problem is not None:
            n_steps = min(2 * _STEPS, max(1, _STEP_ROWS // len(judge.rows.X)))
            point = descend(problem, *point.compacted(), max_steps=n_steps, tol=_FALL)
            if self.architecture.penalty == "multitask":
                point = without_useless(problem, point)
        return point.compacted()

    def _grown(self, search: _Search) -> Network:
        """Take neurons in a few at a time, from a linear function on, until the budget is spent."""
        judge, limit = search.judge, self.max_neurons or 0
        start = self.architecture.of(constant(self.architecture, judge.rows))
        if Lift(self.architecture).is_possible:
            start = self._solved(search, start, 0)
        point, failures = judge.at(*start), 0
        for _ in range(min(2 * limit, _GROWTH * self.rounds)):
            n_neurons = sum(point.network.neurons)
            room = min(max(1, int(_ROUND * n_neurons)), limit - n_neurons)
            if not search.end.deadline.allows(SECOND_ORDER):
                break
            grown = with_violations(judge, point, search.generator, GLANCE, room=room)
            trial = point.compacted() if grown is None else grown
            problem = _movable(judge, *trial)
            if problem is None:
                break
            following = descend(problem, *trial, max_steps=2 * _STEPS, tol=_FALL)
            failures = 0 if following.objective < (1.0 - _FALL) * point.objective else failures + 1
            if failures == _PATIENCE:
                break
            if following.objective < point.objective:
                point = judge.at(*following.compacted())
            search.end.watch(0, point.loss, point.n_edges)
        return point.compacted()

    def _shrunk(self, search: _Search, start: Network) -> Network:
        """Remove neurons, a few at a time, the others compensating, until the budget is met."""
        judge, point = search.judge, search.judge.at(*start)
        while not self._fits((point.network, point.parameters)):
            n_neurons, budget = sum(point.network.neurons), self.max_neurons or 0
            in_time = search.end.deadline.allows(SECOND_ORDER)
            n_gone = min(max(1, int(_ROUND * n_neurons)), n_neurons - budget) if in_time else n_neurons - budget
            problem = _movable(judge, *point.compacted())
            smaller = fewer_neurons(judge if problem is None else problem, point, n_gone, exact=problem is not None)
            if problem is not None:
                smaller = descend(problem, *smaller.compacted(), max_steps=_STEPS, tol=1e-5)
            point = judge.at(*smaller.compacted())
            search.end.watch(0, point.loss, point.n_edges)
        return point.compacted()


def _moves(judge: Problem, network: Network) -> bool:
    """Return whether the hyperplanes of a network with all neurons in one layer move fast."""
    return int(SplineCalculus().kinds(*network).active.sum()) <= min(_FEW_PARAMETERS, _PER_ROW * len(judge.rows.X))


def _movable(judge: Problem, network: SplineNetwork, parameters: Parameters) -> Problem | None:
    """Return the problem with the parameters that may move in a network of this size; None where it is too large."""
    for moving in (True, False):
        calculus = SplineCalculus(moving)
        n_moving = int(calculus.kinds(network, parameters).active.sum())
        if n_moving <= min(_PARAMETERS, _PER_ROW * len(judge.rows.X)):
            return replace(judge, calculus=calculus)
    return None


def without_idle(network: SplineNetwork, parameters: Parameters, rows: Rows) -> Network:
    """Zero the weights of features that are constant: only the norm feels them, and its slope never ends at zero."""
    idle = ~rows.X.any(0)
    if not bool(idle.any()):
        return network, parameters
    trial = parameters.with_flat(parameters.flat.clone())
    for name in ("W0", "C0"):
        trial.views[name][..., idle] = 0.0
    return network.compact(trial.views, 0)
