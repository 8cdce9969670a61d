"""The search for the coarsest rounded circuit whose measured error is allowed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit._circuit import Circuit
from sklearn_htmc.circuit._ends import Ends
from sklearn_htmc.circuit._fixed_point import Floats, Format
from sklearn_htmc.circuit._graph import Builder, Graph, Op, fits
from sklearn_htmc.circuit._lower._forms import Form
from sklearn_htmc.circuit._quantise.dispatch import Quantiser, quantiser
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._simulate import simulated

_SMALL = 400  # nodes of a circuit for which less noise is tried, too
_LESS = (0.7, 0.5, 0.25)
_TINY = 100  # nodes of a network whose levels are on a ladder
_LADDER = 4  # levels per power of two ...
_WINDOW = (0.35, 2.0)  # ... around the one that the allowed error asks for
_RUNGS = 8  # levels per power of two from which searches for small circuits start
_STEPS = 7  # circuits that are made and measured
_CLOSE = 0.99  # of the allowed error: near enough to stop, less ...
_PATIENCE = 0.02  # ... this for every circuit that was made
_RESOLVED = 1.02  # bracket of the noise that is narrow enough
_MOST_STEPS = 40  # circuits that are made where none is good
_CONSTANT_BITS = (4, 8, 16, 30, 53)  # of a circuit that reads nothing
_LEAST = 2.0**-30  # times the allowed error: noise at which to give up
_FINEST = 2.0**-48  # times the largest output: the same, because doubles are no finer


@dataclass(frozen=True, eq=False)
class Rounding:
    """What a search for the coarsest numbers ended with.

    Attributes
    ----------
    tries : Tries
        The circuits, of which the smallest is kept.
    base : float
        Error of the model itself, on the codes of ports that are given.
    make : callable or None
        Makes a graph from a level of noise; None where none was needed.
    good : float
        The most noise that is allowed.
    start : float
        The level that the error allowed asks for.
    """

    tries: Tries
    base: float
    make: Quantiser | None = None
    good: float = 0.0
    start: float = 0.0

    def levels(self) -> list[float]:
        """Return levels from a common ladder, up to the one that the error allowed asks for and down to its half."""
        last = math.floor(_RUNGS * math.log2(self.start))
        return [2.0 ** (rung / _RUNGS) for rung in range(last, last - _RUNGS, -1)]


Report = Callable[[Circuit | None, float], None]


def silent(_: Circuit | None, __: float) -> None:
    """Say nothing."""


NOTHING = Ends()


def rounded(
    form: Form, sample: Sample, tolerance: float, reference: Floats, report: Report = silent, ends: Ends = NOTHING
) -> Rounding:
    """Make circuits with more and less noise and keep the smallest one whose measured error is allowed.

    Parameters
    ----------
    form : SparseNetwork or TreeEnsemble
        The exact function.
    sample : Sample
        Rows to measure on.
    tolerance : float
        Error allowed.
    reference : ndarray of shape (n_samples, n_outputs)
        What the error is measured from: the values of the model, or the targets.
    report : callable
        Told of every circuit that was measured: the smallest one so far, and the last error.
    ends : Ends
        What is put behind circuits.
    """
    found = unrounded(form, sample, tolerance, reference, report, ends)
    base, tries = found.base, found.tries
    if base > tries.inner or tries.best is not None:
        return found
    make = quantiser(form, sample)
    start = max(_excess(tries.inner, base), 2.0 * tries.least_noise)
    n_tiny = _TINY if isinstance(form, SparseNetwork) else 0
    good = _most_noise(make, tries, start, math.hypot(base, ends.error), n_tiny)
    if tries.n_nodes < _SMALL:
        # Coarse rounding may go wrong and need repair: a little less noise is sometimes cheaper.
        for noise in _ladder(start) if tries.n_nodes < n_tiny else [share * good for share in _LESS]:
            tries.measure(make(noise))
    return Rounding(tries, base, make, good, start)


def unrounded(
    form: Form, sample: Sample, tolerance: float, reference: Floats, report: Report = silent, ends: Ends = NOTHING
) -> Rounding:
    """Return what is known before numbers are rounded: the error of the model, and a constant where that is enough.

    Parameters
    ----------
    form, sample, tolerance, reference, report, ends
        As in `rounded`.
    """
    # Where ports are given, what the model says of their codes is not what it says of the rows.
    base = sample.error(form(sample.X) if sample.fixed.words else sample.values, reference)
    tries = Tries(sample, reference, tolerance, report, ends)
    if base > tries.inner:
        tries.error = math.hypot(base, ends.error)
    elif tries.error <= tolerance:
        for bits in _CONSTANT_BITS:
            tries.measure(_constant_graph(sample, tries.mean, bits))
            if tries.best is not None:
                break
    return Rounding(tries, base)


def _ladder(start: float) -> list[float]:
    """Return levels around the first one, from a ladder that all allowed errors share.

    On so few levels that the size jumps from one to the next, neighbouring errors find the same circuits.
    """
    first, last = (_LADDER * math.log2(share * start) for share in _WINDOW)
    return [2.0 ** (rung / _LADDER) for rung in range(math.ceil(first), math.floor(last) + 1)]


class Tries:
    """Measures circuits and keeps the smallest one whose error is allowed.

    Parameters
    ----------
    sample, tolerance, reference, report, ends
        As in `rounded`.

    Attributes
    ----------
    best : Circuit or None
        The smallest one.
    start : Graph or None
        The same without what is put behind it, from where searches start.
    inner : float
        Error that is left to the circuit by what is put behind it.
    mean : ndarray of shape (n_outputs,)
        Of the reference.
    error : float
        The least error measured, at first that of the mean.
    formats : tuple of Format
        Formats of the inputs of the last circuit.
    """

    def __init__(
        self, sample: Sample, reference: Floats, tolerance: float, report: Report = silent, ends: Ends = NOTHING
    ) -> None:
        self.sample, self.reference, self.tolerance, self.report = sample, reference, tolerance, report
        self.ends, self.inner = ends, math.sqrt(max(tolerance - ends.error, 0.0)) * math.sqrt(tolerance + ends.error)
        self.best: Circuit | None = None
        self.start: Graph | None = None
        self.mean = np.where(np.ptp(reference, axis=0) > 0, sample.weights @ reference, reference[0])
        self.error, self.formats = sample.error(self.mean, reference), tuple[Format, ...]()

    def measure(self, graph: Graph) -> float | None:
        """Return the error of a graph, None if its words are too long to be computed."""
        whole = self.ends.behind(graph)
        if not fits(whole):
            return None
        error = self._measured(whole)
        self.error, self.formats = min(error, self.error), graph.input_formats
        if error <= self.tolerance:
            circuit = Circuit.of(whole, epsilon=self.tolerance, error=error)
            if self.best is None or circuit.n_gates < self.best.n_gates:
                self.best, self.start = circuit, graph
        self.report(self.best, error)
        return error

    def error_of(self, graph: Graph) -> float:
        """Return the error of a graph whose words are short enough."""
        return self._measured(self.ends.behind(graph))

    def _measured(self, whole: Graph) -> float:
        return self.sample.error(simulated(whole, self.sample.X), self.reference)

    @property
    def best_gates(self) -> float:
        """Gates of the smallest circuit; infinite if there is none."""
        return math.inf if self.best is None else self.best.n_gates

    @property
    def least_noise(self) -> float:
        """Level below which there is nothing to be found."""
        largest = np.max(np.abs(self.reference) / self.sample.scale, initial=1.0)
        return float(max(_LEAST * self.tolerance, _FINEST * largest))

    @property
    def n_nodes(self) -> float:
        """Nodes of the smallest circuit, a sum counting as its additions; infinite if there is none."""
        if self.best is None:
            return math.inf
        return sum(max(len(node.args), 1) if node.op is Op.SUM else 1 for node in self.best.nodes)


def _constant_graph(sample: Sample, mean: Floats, bits: int) -> Graph:
    """Return the graph of the mean, with some significant bits."""
    exponents = (np.frexp(mean)[1] - bits).tolist()
    build = Builder([sample.unread(feature) for feature in range(sample.X.shape[1])])
    codes = [round(math.ldexp(value, -place)) for value, place in zip(mean.tolist(), exponents, strict=True)]
    return build.graph([build.constant(code) for code in codes], exponents)


@dataclass
class _Bracket:
    """Levels of noise that are known to do or not.

    Attributes
    ----------
    good, bad : float
        The largest level with an error that is allowed, and the smallest with one that is not.
    fine : float
        The largest level with numbers that are too long.
    """

    good: float = 0.0
    bad: float = math.inf
    fine: float = 0.0

    @property
    def closed(self) -> bool:
        """Whether there is nothing left to look for."""
        least = max(self.good, self.fine)
        return least > 0 and self.bad < least * _RESOLVED

    def narrow(self, noise: float, *, allowed: bool) -> None:
        """Take note of a level."""
        if allowed:
            self.good = max(self.good, noise)
        else:
            self.bad = min(self.bad, noise)

    def coarser(self, noise: float, step: int) -> float:
        """Return the level after one with too long numbers."""
        self.fine = max(self.fine, noise)
        return math.sqrt(self.fine * self.bad) if self.bad < math.inf else noise * 1.1 ** (step * step)

    def next_level(self, noise: float, ratio: float, step: int) -> float:
        """Return the level at which the error should be the one allowed; ``ratio`` is that to it."""
        guess = noise * min(4.0, max(0.1, 0.98 / max(ratio, 1e-3)))
        if not self.good:
            guess = min(guess, 0.95 ** (step * step) * noise)  # ever faster down where the error does not follow
            return guess if guess > self.fine else math.sqrt(self.fine * self.bad)
        if math.isinf(self.bad):
            return max(guess, 1.1 * noise)
        span = math.log(self.bad / self.good)
        return min(max(guess, self.good * math.exp(0.2 * span)), self.good * math.exp(0.8 * span))


def _most_noise(make: Quantiser, tries: Tries, start: float, base: float, n_tiny: int) -> float:
    """Look for the most noise that is allowed, from some level on; not closely for a circuit below ``n_tiny`` nodes."""
    tolerance, bracket, noise = tries.tolerance, _Bracket(), start
    for step in itertools.count(1):
        error = tries.measure(make(noise))
        if error is None:
            noise = bracket.coarser(noise, step)
        else:
            bracket.narrow(noise, allowed=error <= tolerance)
            # The longer it takes, the less is asked for: the last percents of the error are worth a percent of gates.
            close = (_CLOSE - _PATIENCE * step) * tolerance < error <= tolerance
            if close or (tries.n_nodes < n_tiny and noise >= _WINDOW[0] * start):
                break
            noise = bracket.next_level(noise, _excess(error, base) / start, step)
        if bracket.closed or noise < tries.least_noise or step >= (_STEPS if bracket.good else _MOST_STEPS):
            break
    return bracket.good


def _excess(error: float, base: float) -> float:
    """Return the part of an error that rounding adds to what the model leaves."""
    if not base:
        return error
    return math.sqrt(max(error - base, 0.0)) * math.sqrt(error + base)  # their product could overflow
