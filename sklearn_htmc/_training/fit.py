"""A batch of problems in, a regularisation path out.

Folds are 0/1 sample weights, restarts are seeds, a path is strengths: one fit, a path, a cross-validated path are
the same call with a different batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_htmc._network import Floats, RegularizationPath
from sklearn_htmc._threads import one_thread_each
from sklearn_htmc._training.core.architecture import Architecture, Arrays, Parameters
from sklearn_htmc._training.core.problems import Problems, Report, Settings
from sklearn_htmc._training.core.task import Begun, End, Family, Finished, Task
from sklearn_htmc._training.core.threads import Stop, in_threads
from sklearn_htmc._training.first_order.loop import Memory, train

_SMALL = 0.1  # root mean square of a random function at the start of an online fit
_FIRST_ORDER = 0.7  # share of the time where it is short ...
_FIRST_OF_BUDGET, _SMALL_BUDGET = (0.25, 0.5), 250  # ... for budgets of edges below and above this
_BEGINNING = 0.3  # share of that for what says that training is in vain
_SMALL_ROWS = 8192  # that tell it
_CHUNK = 16  # problems that train as one tensor; more of them gain nothing on a CPU


def fit_problems(
    X: Floats,
    y: Floats,
    problems: Problems,
    *,
    family: Family,
    settings: Settings,
    initial: Arrays | None = None,
    begun: Begun | None = None,
    device: str = "cpu",
    report: Report | None = None,
) -> RegularizationPath:
    """Fit all problems.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Standardised features.
    y : ndarray of shape (n_samples, n_outputs)
        Standardised targets.
    problems : Problems
        Strengths, seeds and weights.
    family : Family
        The networks.
    settings : Settings
        Settings of the first-order phase.
    initial : dict of ndarray or None
        A network to start all problems from; None starts from random weights.
    begun : Begun or None
        What takes the place of training.
    device : str
        Torch device of the first-order phase; the rest runs on the CPU.
    report : callable or None
        See `loop.train`.

    Returns
    -------
    RegularizationPath
        One entry per problem.
    """
    architecture = family.trained
    n_rows = int(max(np.count_nonzero(problems.sample_weights, axis=1)))
    X32, y32 = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in (X, y))
    may_try = settings.trial and settings.polish and settings.patience is None and initial is None

    chunks = _chunks(len(problems), X32.device.type)

    def one_chunk(place: int, stop: Stop) -> list[Finished]:
        watch, deadline = stop.watch(report), settings.deadline.turn(place, len(chunks), n_threads)
        part = problems.part(range(*chunks[place]))
        tasks = [Task.of(part, problem, X, y) for problem in range(len(part))]
        first = replace(settings, deadline=deadline.part(first_order_share(settings)))
        brief = replace(first, deadline=first.deadline.part(_BEGINNING))
        starts = [begun or (family.begun(task, brief, watch) if may_try else None) for task in tasks]
        untrained = [problem for problem, start in enumerate(starts) if start is None]
        if untrained:
            left = part.part(untrained)
            start = None if initial is None else _resume(architecture, left, initial)
            trained = train(architecture, X32, y32, left, first, n_rows=n_rows, initial=start, report=watch)
            for number, problem in enumerate(untrained):
                network = architecture.compact(trained.parameters.views, number)
                starts[problem] = Begun(network, trained.curves[number])
        n = n_threads if len(problems) == 1 else 1
        return [
            family.finished(task, start.network, settings, start.curve, End(watch, n, deadline.turn(k, len(tasks))))
            for k, (task, start) in enumerate(zip(tasks, starts, strict=True))
            if start is not None
        ]

    with one_thread_each() as n_threads:
        parts = in_threads(one_chunk, range(len(chunks)), n_threads)
    return as_path(problems.strengths, [item for part in parts for item in part])


def fit_more(
    X: Floats,
    y: Floats,
    problems: Problems,
    *,
    family: Family,
    settings: Settings,
    initial: Arrays | None,
    memory: Memory | None,
    share: float,
    idle: NDArray[np.bool_],
    device: str = "cpu",
) -> tuple[RegularizationPath, Memory | None]:
    """Train a single problem on with new rows.

    Parameters
    ----------
    X, y, problems, family, settings, initial, device
        See `fit_problems`.
    memory : Memory or None
        What the optimiser remembers.
    share : float
        Share of the new rows in the weight of all rows, with which the free constant follows their residuals: with
        the other parameters held it is then the best one for all rows.
    idle : ndarray of shape (n_features,)
        Features that have been constant so far: nothing may depend on them.

    The result is measured on the new rows, and no simpler model takes its place: they are only a part of the data.
    """
    architecture = family.architecture
    with one_thread_each():
        X32, y32 = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in (X, y))
        start = architecture.initial(list(problems.seeds))
        if initial is not None:
            start = _resume(architecture, problems, initial)
        if initial is None or _is_constant(architecture, initial):
            _start_small(architecture, start, X32)
        trained = train(architecture, X32, y32, problems, settings, n_rows=len(X), initial=start, memory=memory)
        for name in ("E", "W0", "C0"):
            if name in architecture.shapes:
                trained.parameters.views[name][..., torch.as_tensor(idle)] = 0.0
        network, parameters = architecture.compact(trained.parameters.views, 0)
        task = Task.of(problems, 0, X, y)
        off = torch.zeros_like(parameters.views["c"][0])
        for X64, y64, w in task.rows.chunks():
            f, _ = network.forward(parameters.views, X64)
            off += w[0, :, 0] @ (y64[0] - f[0])
        parameters.views["c"][0] += share * off
        item = family.measured(task, (network, parameters), settings, trained.curves[0])
    return as_path(problems.strengths, [item]), trained.memory


def _chunks(n_problems: int, device_type: str) -> list[tuple[int, int]]:
    """Cut a batch into an even number of nearly equal chunks; a GPU takes all problems at once."""
    n_chunks = 1 if device_type != "cpu" else min(n_problems, 2 * -(-n_problems // (2 * _CHUNK)))
    ends = np.linspace(0, n_problems, n_chunks + 1).round().astype(int)
    return [(int(a), int(b)) for a, b in pairwise(ends)]


def _resume(architecture: Architecture, problems: Problems, initial: Arrays) -> Parameters:
    """Return random parameters whose leading units are a given network; the others do not reach the output yet.

    A constant says nothing about where to go: then they do.
    """
    parameters = architecture.initial(list(problems.seeds))
    if _is_constant(architecture, initial):
        parameters.views["c"].copy_(torch.as_tensor(initial["c"]))
        return parameters
    for name in architecture.outgoing:
        parameters.views[name].zero_()
    for problem in range(len(problems)):
        architecture.embed(initial, parameters, problem)
    return parameters


def _is_constant(architecture: Architecture, initial: Arrays) -> bool:
    return not any(initial[name].any() for name in architecture.outgoing if name in initial)


def _start_small(architecture: Architecture, start: Parameters, X: Tensor) -> None:
    """Shrink the random function, in place: a call that only takes a few steps shall not end far below the mean."""
    some = X[:: -(-len(X) // _SMALL_ROWS)]
    f, _ = architecture.forward(start.views, some[None].cpu())
    size = float((f - start.views["c"].unsqueeze(1)).square().mean().sqrt())
    if size > _SMALL:
        for name in architecture.readout:
            start.views[name].mul_(_SMALL / size)


def first_order_share(settings: Settings) -> float:
    """Return the share of the time that the first-order phase gets where it is short: small networks grow later."""
    if not settings.polish:
        return 1.0
    if settings.max_edges is None:
        return _FIRST_ORDER
    return _FIRST_OF_BUDGET[settings.max_edges >= _SMALL_BUDGET]


def as_path(strengths: Sequence[float], items: Sequence[Finished]) -> RegularizationPath:
    """Collect what fits ended with."""
    certificates = [item.certificate for item in items]
    return RegularizationPath(
        strengths=np.array(strengths),
        networks=tuple(item.network for item in items),
        objective=np.array([c.objective for c in certificates]),
        loss=np.array([c.loss for c in certificates]),
        norm=np.array([c.norm for c in certificates]),
        stationarity=np.array([c.stationarity for c in certificates]),
        typical_violation=np.array([c.typical for c in certificates]),
        n_edges=np.array([item.n_edges for item in items], dtype=np.int64),
        validation_loss=np.array([item.validation_loss for item in items]),
        loss_curves=tuple(item.curve for item in items),
        feature_norms=np.array([c.feature_norms for c in certificates]),
        sizes=tuple(item.sizes for item in items),
    )
