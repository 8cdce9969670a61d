"""The first-order phase on one batch of problems: proximal Adam, dense-to-sparse removal, per-problem stopping.

The weights of the penalty follow the parameters slowly: every few steps they are measured on the batch at hand and
averaged.

A self-consistent point feels each edge's marginal weight only, while the objective counts a path once for every edge
on it. Many points are self-consistent, and those reached under more pressure have lower objectives: so the penalty is
doubled for most of the phase and goes back to its strength at the end.

Zeros do not come from the proximal step alone (a decaying step size leaves 60 to 90 % of the edges small but not
zero), so from half-time on the edges whose joint importance is negligible are removed for good and the rest trains on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sklearn_htmc._network import Floats
from sklearn_htmc._training.core.architecture import Architecture, Parameters
from sklearn_htmc._training.core.problems import Problems, Report, Settings
from sklearn_htmc._training.core.weightings import Batch, Weighting
from sklearn_htmc._training.first_order.batches import Batches
from sklearn_htmc._training.first_order.pace import Pace
from sklearn_htmc._training.first_order.proximal_adam import AdamState, StepSizes, proximal_adam_step

_RATE = 0.01
_WARM_UP = 0.03  # share of the steps in which the step size grows
_RAMP = 0.3  # share of the steps in which the penalty grows to _PRESSURE times its strength
_PRESSURE = 2.0
_RELEASE = (0.75, 0.9)  # shares of the steps between which it goes back to its strength
_REMOVALS = (0.5, 0.6, 0.7, 0.8, 0.9)  # when edges are removed, in shares of the passes
_CONDENSED = (0.3, 0.6)  # shares of the passes between which inner coordinates become fewer
_CONDENSED_ROWS = 2_000  # that say which are important
_NEGLIGIBLE = 0.02  # root mean square of what one removal may change, relative to that of the residual
_START_EDGES = 800  # left to the second-order phase where the budget is smaller
_REFRESH = 10  # steps between two measurements of the penalty weights
_MEMORY = 0.9  # of their running mean
_DIRECTIONS = 8  # in the space of outputs, at most, for one measurement
_JUDGED_ROWS = 65_536  # at a time
_CHECK = 5  # passes between two looks at whether a problem has ended


@dataclass(frozen=True, eq=False)
class Memory:
    """What the optimiser remembers of one problem between two calls, beside the network itself: a few numbers.

    Attributes
    ----------
    squares : dict of str to float
        Mean of the running mean of the squared gradient, for every matrix.
    n_steps : int
        Steps done.
    """

    squares: dict[str, float]
    n_steps: int


@dataclass(frozen=True, eq=False)
class Trained:
    """Result of the first-order phase: parameters of all problems, the mean loss of every pass of each, and the memory.

    The memory is there for a single problem that ran to the end.
    """

    parameters: Parameters
    curves: list[Floats]
    memory: Memory | None


@dataclass(eq=False)
class _Workspace:
    """The tensors that a step reads and writes in place; none is replaced while it lives, so a step can be captured."""

    architecture: Architecture
    batches: Batches
    weighting: Weighting
    strengths: Tensor  # (n_problems,)
    parameters: Parameters
    adam: AdamState
    squares: Parameters  # running mean of squared sensitivities
    removed: Parameters  # 1.0 where an edge is removed for good
    sizes: StepSizes
    scratch: Parameters = field(init=False)
    penalty: Tensor = field(init=False)
    spread: Tensor = field(init=False)
    positions: Tensor = field(init=False)
    loss: Tensor = field(init=False)
    reach: Tensor = field(init=False)
    share: Tensor = field(init=False)
    directions: Tensor = field(init=False)

    def __post_init__(self) -> None:
        flat = self.parameters.flat
        self.scratch = self.parameters.zeros_like()
        self.penalty = torch.zeros_like(flat)
        self.spread = self.parameters.spread(self.strengths)
        shape = (self.parameters.n_problems, self.batches.size)
        self.positions = torch.zeros(shape, dtype=torch.int64, device=flat.device)
        self.loss = torch.zeros(shape[0], device=flat.device)
        self.reach = torch.maximum(self.batches.X.amax(0), -self.batches.X.amin(0))
        self.share = torch.ones((), device=flat.device)
        self.directions = _directions(self.batches.y.shape[1]).to(flat.device)

    def refresh(self) -> None:
        """Measure the penalty weights on the batch at hand and average them."""
        X, y, weights = self.batches.take(self.positions)
        batch = Batch(X, y, weights, self.reach, self.directions)
        self.weighting.squares_on(self.architecture, self.parameters, batch, self.scratch)
        self.squares.flat.add_((self.scratch.flat - self.squares.flat).mul_(self.share))
        torch.mul(self.squares.flat.sqrt(), self.spread, out=self.penalty)
        self.penalty.masked_fill_(self.removed.flat > 0, math.inf)

    def step(self) -> None:
        """Take one step on the batch at hand."""
        X, y, weights = self.batches.take(self.positions)
        f, tape = self.architecture.forward(self.parameters.views, X)
        residual = f.sub_(y)
        weighted = residual * weights
        self.loss.add_((weighted * residual).sum((1, 2)), alpha=0.5 / self.batches.n_steps)
        self.architecture.gradient(self.parameters.views, X, weighted, tape, self.scratch.views)
        self.architecture.tangent(self.parameters.views, self.scratch.views)
        proximal_adam_step(self.adam, self.scratch.flat, self.penalty, self.sizes)
        self.architecture.retract(self.parameters.views)

    def importance(self) -> Tensor:
        """Return ``(omega_p t_p)^2`` of shape (n_problems, n_parameters); infinite for what stays."""
        squares = self.parameters.with_flat(self.squares.flat * self.parameters.flat.square())
        for name in self.architecture.unpriced:
            squares.views[name].fill_(math.inf)
        return squares.rows()

    def select(self, problems: list[int]) -> _Workspace:
        """Return a workspace of some of the problems."""
        index = torch.tensor(problems, device=self.strengths.device)
        parameters = self.parameters.select(index)
        mean = self.parameters.with_flat(self.adam.mean).select(index).flat
        square = self.parameters.with_flat(self.adam.square).select(index).flat
        chosen = _Workspace(
            self.architecture,
            self.batches.select(problems),
            self.weighting,
            self.strengths[index],
            parameters,
            AdamState(parameters.flat, mean, square),
            self.squares.select(index),
            self.removed.select(index),
            self.sizes,
        )
        chosen.penalty.copy_(self.parameters.with_flat(self.penalty).select(index).flat)
        chosen.share.copy_(self.share)
        return chosen


def train(
    architecture: Architecture,
    X: Tensor,
    y: Tensor,
    problems: Problems,
    settings: Settings,
    *,
    n_rows: int,
    initial: Parameters | None = None,
    memory: Memory | None = None,
    report: Report | None = None,
) -> Trained:
    """Train one batch of problems.

    Parameters
    ----------
    architecture : Architecture
        The network family.
    X, y : Tensor
        All rows, float32, on the device of the training.
    problems : Problems
        The problems.
    settings : Settings
        The settings.
    n_rows : int
        Largest number of rows of a problem of the whole call.
    initial : Parameters or None
        Where to start; None draws random parameters from the seeds.
    memory : Memory or None
        What an earlier call on a single problem remembers beside the network, which is ``initial``.
    report : callable or None
        Called after every pass with the number of problem passes done, the mean loss and the mean number of edges.
    """
    start = architecture.initial(list(problems.seeds)) if initial is None else initial
    parameters = start.to(torch.float32, X.device)
    work = _Workspace(
        architecture=architecture,
        batches=Batches.build(
            X,
            y,
            problems.sample_weights,
            size=settings.batch_size,
            n_rows=n_rows,
            min_steps=settings.min_steps,
        ),
        weighting=settings.weighting,
        strengths=torch.tensor(problems.strengths, dtype=torch.float32, device=X.device),
        parameters=parameters,
        adam=AdamState.start(parameters.flat),
        squares=parameters.zeros_like(),
        removed=parameters.zeros_like(),
        sizes=StepSizes.on(X.device),
    )
    loop = _Loop(work, problems, settings, report)
    if memory is not None:
        loop.recall(memory)
    return loop.run()


class _Loop:
    """The loop over passes; holds what outlives a change of the set of running problems."""

    def __init__(self, work: _Workspace, problems: Problems, settings: Settings, report: Report | None) -> None:
        self.work = work
        self.settings = settings
        self.report = report
        self.running = list(range(len(problems)))
        self.generators = [torch.Generator().manual_seed(seed) for seed in problems.seeds]
        self.final = work.parameters.to(torch.float32)
        self.curves: list[list[float]] = [[] for _ in problems.seeds]
        self.judge = _Judge(work, problems, settings) if settings.patience is not None else None
        self.n_steps = self.n_before = 0  # of this call and of those before it
        self.pace = Pace(settings.max_iter * work.batches.n_steps, settings.deadline)
        self.reached: float = 0  # passes of the schedule after which all that was due is done

    def run(self) -> Trained:
        """Train until every problem has ended."""
        step, refresh = _captured(self.work)
        while not self.pace.is_over:
            self._one_pass(step, refresh)
            if len(self.curves[self.running[0]]) % _CHECK == 0 and self.settings.rate is None and self._end_some():
                if not self.running:
                    break
                step, refresh = _captured(self.work)
        if self.judge is not None and self.pace.is_hurried and self.running:
            self.judge.look(self.work, self.running)
        self._keep(list(range(len(self.running))))
        return Trained(self.final, [np.array(curve) for curve in self.curves], self._memory())

    def recall(self, memory: Memory) -> None:
        """Go on from an earlier call."""
        for name, view in self.work.parameters.with_flat(self.work.adam.square).views.items():
            view.fill_(memory.squares[name])
        self.n_before = memory.n_steps

    def _memory(self) -> Memory | None:
        if len(self.curves) != 1 or not self.running:
            return None
        squares = self.work.parameters.with_flat(self.work.adam.square).views
        means = {name: float(view.mean()) if view.numel() else 0.0 for name, view in squares.items()}
        return Memory(means, self.n_before + self.n_steps)

    def _removals(self) -> list[int]:
        if self.settings.rate is not None:
            return []
        return [max(1, round(share * self.settings.max_iter)) for share in _REMOVALS]

    def _condensations(self) -> list[int]:
        n_stages = len(self.work.architecture.stages)
        if self.settings.rate is not None or not n_stages:
            return []
        shares = np.linspace(*_CONDENSED, n_stages)
        return [max(1, round(share * self.settings.max_iter)) for share in shares]

    def _one_pass(self, step: Callable[[], None], refresh: Callable[[], None]) -> None:
        work, size = self.work, self.work.batches.size
        order = work.batches.order([self.generators[p] for p in self.running]).to(work.positions.device)
        pace, n_taken = self.pace, 0
        work.loss.zero_()
        for part in range(work.batches.n_steps):
            schedule = _schedule(pace.done, pace.total, self.settings.rate)
            work.sizes.set(self.n_steps + 1, self.n_before, *schedule)
            work.positions.copy_(order[:, part * size : (part + 1) * size])
            if self.n_steps % _REFRESH == 0:
                refresh()
                work.share.fill_(1.0 - _MEMORY)
            step()
            self.n_steps += 1
            n_taken += 1
            pace.advance()
            if pace.is_over:
                break
            if pace.is_hurried:
                self._do_what_is_due(n_taken / work.batches.n_steps)
        self._do_what_is_due(n_taken / work.batches.n_steps)
        loss = work.loss.cpu().numpy().astype(np.float64) * (work.batches.n_steps / n_taken)
        for problem, value in zip(self.running, loss, strict=True):
            self.curves[problem].append(float(value))
        if self.report is not None:
            edges = int(torch.count_nonzero(work.parameters.flat)) / len(self.running)
            self.report(len(self.running), float(loss.mean()), edges)

    def _do_what_is_due(self, share: float) -> None:
        """Condense coordinates and remove edges as scheduled; the loss was summed over a share of a pass."""
        before, self.reached = self.reached, self.pace.done / self.work.batches.n_steps
        stages, removals = self._condensations(), self._removals()
        for number in sorted({n for n in stages if before < n <= self.reached}):
            _condense(self.work, stages.index(number))
            if self.judge is not None:
                self.judge.forget()
        due = [n for n in removals if before < n <= self.reached]
        if due:
            left = len(_REMOVALS) - removals.index(due[-1])
            _remove(self.work, self.settings, left, self.work.loss / share, self.pace.hurry)

    def _end_some(self) -> bool:
        """Take out the problems that have ended; return whether there were any."""
        work, n_pass = self.work, self.reached
        flat_network = work.architecture.is_constant(work.parameters.views)
        finite = torch.isfinite(work.loss)
        ended = ~finite | (flat_network & (n_pass > (_RAMP + _WARM_UP) * self.settings.max_iter))
        if self.judge is not None:
            waited = self.judge.look(work, self.running)
            if n_pass > max(self._condensations(), default=0):  # before that nothing is final
                ended |= waited
        flags = ended.tolist()
        if not any(flags):
            return False
        self._keep([i for i, flag in enumerate(flags) if flag])
        staying = [i for i, flag in enumerate(flags) if not flag]
        self.running = [self.running[i] for i in staying]
        if staying:
            self.work = work.select(staying)
        return True

    def _keep(self, positions: list[int]) -> None:
        """Copy the parameters of running problems into the result; the best ones seen where somebody judged."""
        source = self.work.parameters if self.judge is None else self.judge.best
        for position in positions:
            problem = self.running[position]
            for name, view in source.views.items():
                origin = position if self.judge is None else problem
                self.final.views[name][problem].copy_(view[origin])


class _Judge:
    """Keeps the parameters with the best validation loss and says which problems have stopped getting better."""

    def __init__(self, work: _Workspace, problems: Problems, settings: Settings) -> None:
        weights = problems.validation_weights
        if weights is None:
            raise ValueError("early stopping needs validation weights, got None.")
        self.weights = torch.as_tensor(weights, dtype=torch.float32, device=work.positions.device)
        self.best = work.parameters.to(torch.float32)
        self.best_loss = torch.full((len(problems),), math.inf, device=work.positions.device)
        self.waited = torch.zeros(len(problems), device=work.positions.device)
        self.patience = settings.patience or 0

    def forget(self) -> None:
        """Start anew with networks that have become smaller."""
        self.best_loss.fill_(math.inf)
        self.waited.zero_()

    def look(self, work: _Workspace, running: list[int]) -> Tensor:
        """Evaluate the running problems and return which of them have waited long enough."""
        for position, problem in enumerate(running):
            loss = self._loss(work, position, self.weights[problem])
            if loss < self.best_loss[problem]:
                self.best_loss[problem] = loss
                self.waited[problem] = 0
                for name, view in self.best.views.items():
                    view[problem].copy_(work.parameters.views[name][position])
            else:
                self.waited[problem] += _CHECK
        return self.waited[running] >= self.patience

    def _loss(self, work: _Workspace, position: int, weights: Tensor) -> Tensor:
        rows = weights.nonzero().squeeze(1)
        one = {name: view[position : position + 1] for name, view in work.parameters.views.items()}
        total = torch.zeros((), device=rows.device)
        for part in torch.split(rows, _JUDGED_ROWS):
            f, _ = work.architecture.forward(one, work.batches.X[part][None])
            residual = f[0] - work.batches.y[part]
            total += (residual.square() * weights[part, None]).sum()
        return total


def _directions(n_outputs: int) -> Tensor:
    """Return directions whose squared derivatives add up to those of all outputs, for many of them in the mean."""
    if n_outputs <= _DIRECTIONS:
        return torch.eye(n_outputs)
    signs = torch.randint(2, (_DIRECTIONS, n_outputs), generator=torch.Generator().manual_seed(0))
    return (2.0 * signs - 1.0) / math.sqrt(_DIRECTIONS)


def _schedule(step: float, total: int, rate: float | None) -> tuple[float, float]:
    """Return step size and multiple of the penalty: warm-up then half a cosine; up, level and down to one."""
    if rate is not None:
        return rate, 1.0
    warm = min(1.0, (step + 1) / (1.0 + _WARM_UP * total))
    done = step / total
    released = min(1.0, max(0.0, (done - _RELEASE[0]) / (_RELEASE[1] - _RELEASE[0])))
    pressure = min(1.0, done / _RAMP) * (_PRESSURE + (1.0 - _PRESSURE) * released)
    return _RATE * warm * 0.5 * (1.0 + math.cos(math.pi * done)), pressure


def _remove(work: _Workspace, settings: Settings, left: int, loss: Tensor, hurry: float) -> None:
    """Remove the edges whose joint importance is negligible, and more where a budget asks for it, or a lack of time.

    In too few steps edges do not become small, so part of the way to the size that the second-order phase can take is
    gone at once.
    """
    importance, order = work.importance().sort(dim=1)
    kill = importance.cumsum(1) <= _NEGLIGIBLE**2 * 2.0 * loss.unsqueeze(1)
    share = 1.0 if settings.max_edges is not None else min(1.0, 2.0 * hurry)
    if share:
        # Geometric way down; the second-order phase goes the rest. The constant c sorts last and stays.
        n_parameters = order.shape[1]
        alive = (work.parameters.rows() != 0).sum(1, keepdim=True).double()
        goal = max(settings.max_edges or 0, _START_EDGES)
        target = (alive.log() * (1 - share / left) + math.log(goal) * share / left).exp().floor()
        n_kept = torch.minimum(target, alive) + work.parameters.views["c"].shape[1]
        kill |= torch.arange(n_parameters, device=order.device) < n_parameters - n_kept
    rows = work.removed.rows().scatter(1, order, kill.float().maximum(work.removed.rows().gather(1, order)))
    work.removed.fill_rows(rows)
    gone = work.removed.flat > 0
    work.penalty.masked_fill_(gone, math.inf)
    work.parameters.flat.masked_fill_(gone, 0.0)


def _condense(work: _Workspace, stage: int) -> None:
    """Bring inner coordinates down to fewer."""
    n = min(work.batches.rows.shape[1], _CONDENSED_ROWS)
    rows = work.batches.rows[:, :n]
    squares = work.parameters.with_flat(work.adam.square)
    work.architecture.condense(
        work.architecture.stages[stage],
        work.parameters.views,
        squares.views,
        work.batches.X[rows],
        work.batches.weights[:, :n].unsqueeze(2),
    )
    work.adam.mean.zero_()


def _captured(work: _Workspace) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return the step and the refresh, on CUDA as captured graphs, so that a step is one launch."""
    if work.positions.device.type != "cuda":
        return work.step, work.refresh
    return _graph(work, work.step), _graph(work, work.refresh)


def _graph(work: _Workspace, function: Callable[[], None]) -> Callable[[], None]:
    """Capture a function of the workspace; what the warm-up changes is put back."""
    changed = [
        work.parameters.flat,
        work.adam.mean,
        work.adam.square,
        work.squares.flat,
        work.penalty,
        work.loss,
    ]
    saved = [tensor.clone() for tensor in changed]
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    for tensor, value in zip(changed, saved, strict=True):
        tensor.copy_(value)
    return graph.replay
