"""The pipeline: lower, quantise, verify, measure; the coarsest circuit whose measured error is allowed wins."""

from __future__ import annotations

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
from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._graph import Graph, verify
from sklearn_htmc.circuit._lower import lower
from sklearn_htmc.circuit._lower._dispatch import Form
from sklearn_htmc.circuit._quantise.dispatch import Quantiser, quantiser
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._simulate import simulate

_SMALL = 400  # nodes of a circuit for which less noise is tried, too
_LESS = (0.7, 0.5, 0.25)
_STEPS = 7  # circuits that are made and measured
_CLOSE = 0.99  # of the allowed error: near enough to stop, less ...
_PATIENCE = 0.02  # ... this for every circuit that was made
_RESOLVED = 1.02  # bracket of the noise that is narrow enough
_CONSTANT = 1e-12  # relative spread below which outputs count as constant
_LEAST = 2.0**-30  # times the allowed error: noise at which to give up


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
        y. Positive.
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
        If epsilon is not positive, X does not fit the model or holds NaN, or no circuit reaches epsilon; the text
        says the best error.
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
            f"no circuit within epsilon={epsilon:g} was found; the best error reached is {search.error:.3g}."
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
    """

    circuit: Circuit | None
    error: float


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


def _positive(value: Any, name: str) -> float:
    """Return a positive number or raise ValueError."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be positive, got {value!r}.")
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
    make = quantiser(form, sample)
    noise = max(_excess(tolerance, base), 2 * _LEAST * tolerance)
    good, bad = 0.0, math.inf  # levels of noise that are known to do or not
    best, least, step = None, math.inf, 0

    def tried(noise: float) -> float:
        nonlocal best, least
        graph = _made(make, noise, needed=best is None)
        error = math.inf if graph is None else sample.error(simulate(graph, sample.X), reference)
        least = min(least, error)
        if graph is not None and error <= tolerance:
            circuit = Circuit.of(graph, epsilon=tolerance, error=error)
            best = circuit if best is None or circuit.n_gates < best.n_gates else best
        return error

    while noise > _LEAST * tolerance and (step < _STEPS or not good):
        step += 1
        error = tried(noise)
        if error <= tolerance:
            good = max(good, noise)
        else:
            bad = min(bad, noise)
        # The longer it takes, the less is asked for: the last few percent of the error are worth a percent of gates.
        close = _CLOSE - _PATIENCE * step
        if close * tolerance < error <= tolerance or (good and bad < good * _RESOLVED):
            break
        noise = _next_level(noise, _excess(error, base) / max(_excess(tolerance, base), 1e-300), good, bad, step)
    if best is None:
        return Search(None, least)
    if len(best.nodes) < _SMALL:
        # Coarse rounding may go wrong and need repair: a little less noise is sometimes cheaper.
        for share in _LESS:
            tried(share * good)
    verify(best)
    return Search(best, best.error)


def _made(make: Quantiser, noise: float, *, needed: bool) -> Graph | None:
    """Return a graph, or None if an input needs too many bits and a circuit is at hand already."""
    try:
        return make(noise)
    except ValueError:
        if needed:
            raise
        return None


def _excess(error: float, base: float) -> float:
    """Return the part of an error that rounding adds to what the model leaves."""
    return math.sqrt(max(error**2 - base**2, 0.0))


def _next_level(noise: float, ratio: float, good: float, bad: float, step: int) -> float:
    """Return the level at which the error should be the one allowed, inside the bracket; ``ratio`` is that to it."""
    guess = noise * min(4.0, max(0.1, 0.98 / max(ratio, 1e-3)))
    if not good:
        return min(guess, 0.95 ** (step * step) * noise)  # ever faster down where the error does not follow
    if math.isinf(bad):
        return max(guess, 1.1 * noise)
    span = math.log(bad / good)
    return min(max(guess, good * math.exp(0.2 * span)), good * math.exp(0.8 * span))
