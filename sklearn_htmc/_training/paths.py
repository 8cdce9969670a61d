"""Paths over strengths: every problem goes from the smallest strength up, from network to network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sklearn_htmc._network import Floats, RegularizationPath
from sklearn_htmc._threads import one_thread_each
from sklearn_htmc._training.core.architecture import Architecture, Parameters
from sklearn_htmc._training.core.deadline import STRENGTHS, Deadline
from sklearn_htmc._training.core.objective import mean_loss
from sklearn_htmc._training.core.problems import Problems, Report, Settings
from sklearn_htmc._training.core.task import Begun, End, Family, Finished, Network, Task, weighted_rows
from sklearn_htmc._training.first_order.loop import train
from sklearn_htmc._training.fit import as_path, first_order_share

_SHARE = 0.5  # of the passes of a first network, for a strength that is ten times larger
_LEAST_PASSES = 20
_TRIAL = 0.2  # of the time, for the trial that says whether the optimum is followed
_BRIEF = 0.6  # of the passes where networks are only to be ranked


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one path, in units of its own.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        Standardised features.
    y : ndarray of shape (n_samples, n_outputs)
        Standardised targets.
    weights : ndarray of shape (n_samples,)
        Weights to train with.
    held_out : ndarray of shape (n_samples,) or None
        Weights with which early stopping judges.
    seed : int
        Seed of initial weights and row order.
    is_brief : bool
        Whether networks are only to be ranked; see `problems.Settings`.
    """

    X: Floats
    y: Floats
    weights: Floats
    held_out: Floats | None
    seed: int
    is_brief: bool


def fit_paths(
    rows: Sequence[Rows],
    strengths: Sequence[float],
    *,
    family: Family,
    settings: Settings,
    is_warm: bool,
    device: str = "cpu",
    report: Report | None = None,
) -> list[RegularizationPath]:
    """Fit a path to each of some sets of rows, side by side.

    Parameters
    ----------
    rows : sequence of Rows
        Rows of every path; `is_brief` is the same for all.
    strengths : sequence of float
        Rising strengths.
    family : Family
        The networks.
    settings : Settings
        Settings of the first-order phase.
    is_warm : bool
        Whether the first-order phase of a strength goes on from where that of the strength before it has ended, in
        fewer passes; else all start from the random weights of their seeds.
    device : str
        Torch device of the first-order phase.
    report : callable or None
        See `loop.train`.

    Returns
    -------
    list of RegularizationPath
        One per set of rows, with one entry per strength; only the smallest ones where there is no time for all.
    """
    found: dict[int, list[Finished]] = {}
    with one_thread_each():
        if is_warm and settings.patience is None:
            for number, part in enumerate(rows):
                n_left = len(rows) - len(found)  # those that are to be trained among them
                some = replace(settings, deadline=settings.deadline.part(1.0 / n_left))
                items = _followed(part, strengths, family, some, report or _nobody)
                if items is not None:
                    found[number] = items
        left = [number for number in range(len(rows)) if number not in found]
        if left:
            unfollowed = [rows[number] for number in left]
            trained = _trained(unfollowed, strengths, family, settings, is_warm=is_warm, device=device, report=report)
            found.update(zip(left, trained, strict=True))
    return [as_path(strengths[: len(items)], items) for _, items in sorted(found.items())]


def _followed(
    rows: Rows, strengths: Sequence[float], family: Family, settings: Settings, watch: Report
) -> list[Finished] | None:
    """Follow the optimum along falling strengths; None where it cannot be followed, or training may be better.

    Which of them is better, a trial at the middle strength says.
    """
    middle = float(strengths[len(strengths) // 2])
    own = weighted_rows(rows.X, rows.y, rows.weights)
    falling = [float(strength) for strength in reversed(strengths)]
    deadline = settings.deadline
    brief = replace(settings, deadline=deadline.part(_TRIAL))
    networks = family.path(own, falling, rows.seed, End(watch, 1, deadline))
    if networks is None or family.begun(Task(own, None, middle, rows.seed), brief, watch) is None:
        return None
    found: list[Finished] = []

    def finish(task: Task, network: Network, curve: Floats) -> Finished:
        if rows.is_brief:
            return family.measured(task, network, known, curve)
        end = End(watch, 1, deadline.turn(len(found), len(strengths)))
        return family.finished(task, network, known, curve, end)

    known = replace(settings, trial=False)
    for strength, network in zip(falling, networks, strict=True):
        curve = np.array([mean_loss(*network, own)])
        found.append(finish(Task(own, None, strength, rows.seed), network, curve))
    return found[::-1]


def _trained(
    rows: Sequence[Rows],
    strengths: Sequence[float],
    family: Family,
    settings: Settings,
    *,
    is_warm: bool,
    device: str,
    report: Report | None,
) -> list[list[Finished]]:
    """Train all paths as one batch."""
    X, y = np.concatenate([part.X for part in rows]), np.concatenate([part.y for part in rows])
    held_out = None
    if settings.patience is not None:
        held_out = _blocks([part.weights if part.held_out is None else part.held_out for part in rows])
    problems = Problems(
        (float(strengths[0]),) * len(rows),
        tuple(part.seed for part in rows),
        _blocks([part.weights for part in rows]),
        held_out,
    )
    plan = passes(strengths, settings.max_iter, is_warm=is_warm, is_brief=rows[0].is_brief)
    steps = Steps(tuple(strengths), tuple(plan), is_warm)
    found: list[list[Finished]] = [[] for _ in rows]
    for stage in walk(X, y, problems, steps, family=family, settings=settings, device=device, report=report):
        for number, (part, items, begun) in enumerate(zip(rows, found, stage.ends, strict=True)):
            task, own = Task.of(stage.problems, number, X, y), replace(settings, is_brief=part.is_brief)
            end = End(report or _nobody, 1, stage.time.turn(number, len(rows)))
            items.append(family.finished(task, begun.network, own, begun.curve, end))
    return found


@dataclass(frozen=True)
class Steps:
    """The strengths of a path in the order in which it is walked.

    Attributes
    ----------
    strengths : tuple of float
        Rising.
    n_passes : tuple of int
        Passes of every strength.
    is_warm : bool
        Whether a strength goes on from where the one before it has ended.
    """

    strengths: tuple[float, ...]
    n_passes: tuple[int, ...]
    is_warm: bool = True


@dataclass(frozen=True, eq=False)
class Stage:
    """Where a walk has come to.

    Attributes
    ----------
    problems : Problems
        The problems at the strength.
    ends : list of Begun
        What the first-order phase has ended with, for every problem.
    time : Deadline
        Until when all of them are to be finished.
    """

    problems: Problems
    ends: list[Begun]
    time: Deadline


def walk(
    X: Floats,
    y: Floats,
    problems: Problems,
    steps: Steps,
    *,
    family: Family,
    settings: Settings,
    device: str = "cpu",
    report: Report | None = None,
) -> Iterator[Stage]:
    """Train a batch at one strength after the other, and yield after each; it ends early if there is no time for more.

    Parameters
    ----------
    X, y
        See `fit.fit_problems`.
    problems : Problems
        Seeds and weights; the strengths are those of the steps.
    steps : Steps
        Strengths and passes.
    family, settings, device, report
        See `fit.fit_problems`.
    """
    architecture, deadline = family.trained, settings.deadline
    X32, y32 = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in (X, y))
    n_rows = int(max(np.count_nonzero(problems.sample_weights, axis=1)))
    start: Parameters | None = None
    for place, (strength, n_passes) in enumerate(zip(steps.strengths, steps.n_passes, strict=True)):
        if place and not deadline.allows(STRENGTHS):
            return
        time = deadline.part(n_passes / sum(steps.n_passes[place:]))
        now = replace(problems, strengths=(float(strength),) * len(problems))
        some = replace(settings, max_iter=n_passes, deadline=time.part(first_order_share(settings)))
        trained = train(architecture, X32, y32, now, some, n_rows=n_rows, initial=start, report=report)
        views = trained.parameters.views
        ends = [Begun(architecture.compact(views, number), curve) for number, curve in enumerate(trained.curves)]
        yield Stage(now, ends, time)
        start = _start(architecture, trained.parameters, now) if steps.is_warm else None


def passes(strengths: Sequence[float], max_iter: int, *, is_warm: bool, is_brief: bool = False) -> list[int]:
    """Return the passes of every strength: all for the first, then in proportion to the step, of its logarithm."""
    max_iter = max(1, math.ceil(_BRIEF * max_iter)) if is_brief else max_iter
    if not is_warm:
        return [max_iter] * len(strengths)
    steps = np.diff(np.log10(strengths))
    more = [min(max_iter, max(_LEAST_PASSES, math.ceil(_SHARE * max_iter * step))) for step in steps.tolist()]
    return [max_iter, *more]


def _blocks(weights: Sequence[Floats]) -> Floats:
    """Return weights of the rows of all parts, zero outside the own one, of shape (n_parts, n_samples)."""
    ends = np.cumsum([0, *(len(part) for part in weights)])
    found = np.zeros((len(weights), int(ends[-1])))
    for row, part, first in zip(found, weights, ends.tolist(), strict=False):
        row[first : first + len(part)] = part
    return found


def _start(architecture: Architecture, parameters: Parameters, problems: Problems) -> Parameters:
    """Return where the next strength starts: random weights for what has diverged."""
    for number, seed in enumerate(problems.seeds):
        if all(bool(torch.isfinite(view[number]).all()) for view in parameters.views.values()):
            continue
        fresh = architecture.initial([seed])
        for name, view in parameters.views.items():
            view[number].copy_(fresh.views[name][0])
    return parameters


def _nobody(n_done: int, loss: float, edges: float) -> None:
    """Take a report that nobody wants."""
