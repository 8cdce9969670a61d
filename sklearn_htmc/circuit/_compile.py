"""The pipeline: lower, quantise, verify, measure; the coarsest circuit whose measured error is allowed wins."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length
from threadpoolctl import threadpool_limits

from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit._circuit import Circuit
from sklearn_htmc.circuit._fixed_point import INPUT_BITS, Floats, Format
from sklearn_htmc.circuit._graph import Builder, Graph, fits, verify
from sklearn_htmc.circuit._lower import lower
from sklearn_htmc.circuit._lower._dispatch import Form
from sklearn_htmc.circuit._quantise.dispatch import Quantiser, quantiser
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._simulate import simulate

_SMALL = 400  # nodes of a circuit for which less noise is tried, too
_LESS = (0.7, 0.5, 0.25)
_TINY = 100  # nodes of a network whose levels are on a ladder
_LADDER = 4  # levels per power of two ...
_WINDOW = (0.35, 2.0)  # ... around the one that the allowed error asks for
_STEPS = 7  # circuits that are made and measured
_CLOSE = 0.99  # of the allowed error: near enough to stop, less ...
_PATIENCE = 0.02  # ... this for every circuit that was made
_RESOLVED = 1.02  # bracket of the noise that is narrow enough
_MOST_STEPS = 40  # circuits that are made where none is good
_CONSTANT = 1e-12  # relative spread below which outputs count as constant
_CONSTANT_BITS = (4, 8, 16, 30, 53)  # of a circuit that reads nothing
_LEAST = 2.0**-30  # times the allowed error: noise at which to give up
_FINEST = 2.0**-48  # times the largest output: the same, because doubles are no finer
_LONG = 24  # bits of an input that say that the feature is far from zero or has outliers
_NAMED = 5  # features in a text


def compile_circuit(model: Any, X: Any, *, epsilon: float, y: Any = None, sample_weight: Any = None) -> Circuit:
    """Return a small integer circuit that agrees with a fitted regressor within epsilon.

    Precision goes where the output is sensitive, weights become few-digit numbers one at a time while the others
    compensate, and the finished integer circuit is simulated bit for bit: what is promised is a measured error.

    Parameters
    ----------
    model : SparseNetwork, one of our regressors, or a supported fitted scikit-learn regressor
        See `lower` for the families.
    X : array-like of shape (n_samples, n_features)
        Rows on which circuit and model are compared; training rows, as a rule.
    epsilon : float
        Largest root mean square difference between circuit and model on X, as a fraction of the standard deviation of
        y. Positive. Several outputs have it together: squared differences, each in units of the standard deviation of
        its own output, are averaged over rows and outputs. One output may be above epsilon where others are below.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets; only their standard deviation is used. None takes the predictions of the model. Where it is zero, the
        unit is 1.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows in the root mean square and the standard deviation.

    Returns
    -------
    Circuit
        With ``error <= epsilon``.

    Raises
    ------
    TypeError
        If the model is of a type that is not supported; the text lists what is.
    ValueError
        If epsilon is not a positive, finite number, X does not fit the model or holds NaN, or no circuit reaches
        epsilon; the text says the best error and what can be done.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    See Also
    --------
    count_gates, simulate, to_verilog, to_c

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from sklearn_htmc.circuit import compile_circuit
    >>> X = np.linspace(0.0, 1.0, 50)[:, None]
    >>> tree = DecisionTreeRegressor(max_leaf_nodes=4).fit(X, np.sin(6.0 * X[:, 0]))
    >>> circuit = compile_circuit(tree, X, epsilon=0.05)
    >>> bool(circuit.error <= 0.05)
    True
    """
    search = search_circuit(model, X, y, epsilon=epsilon, sample_weight=sample_weight)
    if search.circuit is None:
        raise ValueError(
            f"no circuit within epsilon={epsilon:g} was found; the best error reached is {search.error:.3g}; "
            f"{_remedy(search.formats)}."
        )
    return search.circuit


@dataclass(frozen=True, eq=False)
class Search:
    """What a search for the smallest circuit ended with.

    Attributes
    ----------
    circuit : Circuit or None
        The circuit with the fewest gates whose error is allowed; None if there is none.
    error : float
        Its error, or the least error reached.
    formats : tuple of Format
        Formats of the inputs of the last circuit that was made.
    """

    circuit: Circuit | None
    error: float
    formats: tuple[Format, ...] = ()


def search_circuit(
    model: Any, X: Any, y: Any, *, epsilon: float, sample_weight: Any = None, to_targets: bool = False
) -> Search:
    """Lower a model and look for its smallest circuit within epsilon.

    Parameters
    ----------
    model, X, y, epsilon, sample_weight
        As in `compile_circuit`.
    to_targets : bool, default=False
        Whether the error is that of the circuit to y, instead of that to the model. What the model leaves of epsilon
        is then what rounding may spend, and a model that misses epsilon has no circuit.
    """
    epsilon = _positive(epsilon, "epsilon")
    if to_targets and y is None:
        raise _without_targets()
    form = lower(model)
    sample, targets = _sampled(form, X, y, sample_weight)
    reference = targets if to_targets and targets is not None else sample.values
    # The matrices are small: threads cost more than they give, and could change the last bit of a sum.
    with threadpool_limits(1, user_api="blas"):
        return _smallest(form, sample, epsilon, reference)


def _remedy(formats: tuple[Format, ...]) -> str:
    """Return what can be done where no circuit reaches epsilon."""
    long = [f"x{port}" for port, form in enumerate(formats) if form.width >= _LONG]
    if not long:
        return "take a larger epsilon"
    named = ", ".join(long[:_NAMED]) + (f" and {len(long) - _NAMED} more" if len(long) > _NAMED else "")
    return (
        f"{named} use up the {INPUT_BITS} bits of an input: centre or rescale such features before the fit, or take a "
        "larger epsilon"
    )


def _positive(value: Any, name: str) -> float:
    """Return a positive number or raise ValueError."""
    is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool)
    if not is_number or not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be a positive, finite number, got {value!r}.")
    return float(value)


# --- rows -----------------------------------------------------------------------------------------


def _sampled(form: Form, X: Any, y: Any, sample_weight: Any) -> tuple[Sample, Floats | None]:
    """Return the rows to compare on, and their targets if there are any."""
    X, targets, weights = _rows(X, y, sample_weight, form.n_features, form.n_outputs)
    values = form(X)
    if not np.isfinite(values).all():
        raise ValueError("the model predicts numbers that are not finite on X; no circuit can follow them.")
    scale = _spread(values if targets is None else targets, weights)
    return Sample(X, weights, values, scale, _reach(form, X)), targets


def error_to_targets(circuit: Circuit, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Return the root mean square difference between a circuit and targets in units of their standard deviation."""
    X, targets, weights = _rows(X, y, sample_weight, len(circuit.input_formats), len(circuit.outputs))
    if targets is None:
        raise _without_targets()
    predicted = simulate(circuit, X)
    return Sample(X, weights, predicted, _spread(targets, weights), X[:2]).error(predicted, targets)


def _without_targets() -> ValueError:
    return ValueError("y must be given where circuits are compared with the targets, got None.")


def _rows(X: Any, y: Any, sample_weight: Any, n_features: int, n_outputs: int) -> tuple[Floats, Floats | None, Floats]:
    """Return validated features, targets and weights in canonical form."""
    X = check_array(X, accept_sparse="csr", dtype=np.float64, input_name="X")
    X = X.toarray() if issparse(X) else X
    if X.shape[1] != n_features:
        raise ValueError(f"X has {X.shape[1]} features, and the model was fitted with {n_features}.")
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("sample_weight must not be zero for all rows; give at least one row a positive weight.")
    table = X if y is None else np.hstack([X, _targets(y, X, n_outputs)])
    table, weights = _canonical(table, weights)
    targets = None if y is None else table[:, n_features:]
    return np.ascontiguousarray(table[:, :n_features]), targets, weights / weights.sum()


def _targets(y: Any, X: Floats, n_outputs: int) -> Floats:
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    check_consistent_length(X, y)
    targets: Floats = y.reshape(len(y), -1)
    if targets.shape[1] != n_outputs:
        raise ValueError(f"y has {targets.shape[1]} outputs, and the model has {n_outputs}.")
    return targets


def _canonical(table: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the different rows, sorted, with the sums of their weights: a weight of two is the same as two rows."""
    used = weights > 0
    table, weights = table[used] + 0.0, weights[used]  # no -0.0
    order = np.lexsort([weights, *table.T[::-1]])
    table, weights = table[order], weights[order]
    first = np.flatnonzero(np.append(True, (table[1:] != table[:-1]).any(axis=1)))
    return table[first], np.add.reduceat(weights, first)


def _spread(of: Floats, weights: Floats) -> Floats:
    """Return the standard deviations, 1 for constants."""
    spread = np.sqrt(weights @ np.square(of - weights @ of))
    return np.where(spread > _CONSTANT * np.abs(of).max(axis=0), spread, 1.0)


def _reach(form: Form, X: Floats) -> Floats:
    """Return the range in which inputs are represented: the one seen in fit where the model knows it."""
    reach = np.array([X.min(axis=0), X.max(axis=0)])
    if isinstance(form, SparseNetwork):
        reach = np.where(np.isfinite(form.input_range), form.input_range, reach)
    return reach


# --- search ---------------------------------------------------------------------------------------


def _smallest(form: Form, sample: Sample, tolerance: float, reference: Floats) -> Search:
    """Make circuits with more and less noise and return the smallest one whose measured error is allowed.

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
    """
    base = sample.error(sample.values, reference)
    if base > tolerance:
        return Search(None, base)
    tries = _Tries(sample, reference, tolerance)
    if tries.error <= tolerance:
        for bits in _CONSTANT_BITS:
            tries.measure(_constant_graph(sample, tries.mean, bits))
            if tries.best is not None:
                return tries.search()
    make = quantiser(form, sample)
    start = max(_excess(tolerance, base), 2.0 * tries.least_noise)
    n_tiny = _TINY if isinstance(form, SparseNetwork) else 0
    good = _most_noise(make, tries, start, base, n_tiny)
    if tries.n_nodes < _SMALL:
        # Coarse rounding may go wrong and need repair: a little less noise is sometimes cheaper.
        for noise in _ladder(start) if tries.n_nodes < n_tiny else [share * good for share in _LESS]:
            tries.measure(make(noise))
    return tries.search()


def _ladder(start: float) -> list[float]:
    """Return levels around the first one, from a ladder that all allowed errors share.

    On so few levels that the size jumps from one to the next, neighbouring errors find the same circuits.
    """
    first, last = (_LADDER * math.log2(share * start) for share in _WINDOW)
    return [2.0 ** (rung / _LADDER) for rung in range(math.ceil(first), math.floor(last) + 1)]


class _Tries:
    """Measures circuits and keeps the smallest one whose error is allowed.

    Parameters
    ----------
    sample, tolerance, reference
        As in `_smallest`.

    Attributes
    ----------
    best : Circuit or None
        The smallest one.
    mean : ndarray of shape (n_outputs,)
        Of the reference.
    error : float
        The least error measured, at first that of the mean.
    formats : tuple of Format
        Formats of the inputs of the last circuit.
    """

    def __init__(self, sample: Sample, reference: Floats, tolerance: float) -> None:
        self.sample, self.reference, self.tolerance = sample, reference, tolerance
        self.best: Circuit | None = None
        self.mean = np.where(np.ptp(reference, axis=0) > 0, sample.weights @ reference, reference[0])
        self.error, self.formats = sample.error(self.mean, reference), tuple[Format, ...]()

    def measure(self, graph: Graph) -> float | None:
        """Return the error of a graph, None if its words are too long to be computed."""
        if not fits(graph):
            return None
        error = self.sample.error(simulate(graph, self.sample.X), self.reference)
        self.error, self.formats = min(error, self.error), graph.input_formats
        if error <= self.tolerance:
            circuit = Circuit.of(graph, epsilon=self.tolerance, error=error)
            if self.best is None or circuit.n_gates < self.best.n_gates:
                self.best = circuit
        return error

    @property
    def least_noise(self) -> float:
        """Level below which there is nothing to be found."""
        largest = np.max(np.abs(self.reference) / self.sample.scale, initial=1.0)
        return float(max(_LEAST * self.tolerance, _FINEST * largest))

    @property
    def n_nodes(self) -> float:
        """Nodes of the smallest circuit, infinite if there is none."""
        return math.inf if self.best is None else len(self.best.nodes)

    def search(self) -> Search:
        """Return the result."""
        if self.best is None:
            return Search(None, self.error, self.formats)
        verify(self.best)
        return Search(self.best, self.best.error, self.formats)


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


def _most_noise(make: Quantiser, tries: _Tries, start: float, base: float, n_tiny: int) -> float:
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
