"""Rows that circuits and models are compared on: validated, in canonical order, with the model's own word on them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit._circuit import Circuit
from sklearn_htmc.circuit._ends import Ends, with_inputs, with_outputs
from sklearn_htmc.circuit._fixed_point import Floats, Format
from sklearn_htmc.circuit._frames import names_of, names_of_fit, numbers, require_names
from sklearn_htmc.circuit._given import Asked, Fixed, Given
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._lower import lower
from sklearn_htmc.circuit._lower._forms import Form, Wired, shifted, shifted_ports
from sklearn_htmc.circuit._lower.compose import between_ports
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._simulate import simulated

NOTHING_ASKED, NOTHING_GIVEN, NOTHING_BEHIND = Asked(), Given(), Ends()
_CONSTANT = 1e-12  # relative spread below which outputs count as constant
_FAR = 64  # binary exponent of the size of features from which on they are measured in units of it
_SAME = 1e-3  # of the spread, and ...
_SINGLE = 1e-5  # ... of the largest value: models that compute with float32 may be so far from the lowered function


@dataclass(frozen=True, eq=False)
class Task:
    """What a circuit is to follow, with outputs in units of the power of two below their standard deviation.

    Features that are very large or very small have such units, too.

    Attributes
    ----------
    form : SparseNetwork, TreeEnsemble or Wired
        The function of a model in these units: no square of a value overflows or vanishes.
    sample : Sample
        Rows, and what the function says on them.
    targets : ndarray of shape (n_samples, n_outputs) or None
        Targets on the rows.
    inputs, outputs : list of int
        Binary exponents of the units of features and outputs.
    prediction_ndim : int
        Dimensions of what the model predicts.
    given : Given
        What users ask of the ports.
    ends : Ends
        What is put behind circuits for that.
    """

    form: Form
    sample: Sample
    targets: Floats | None
    inputs: list[int]
    outputs: list[int]
    prediction_ndim: int = 2
    given: Given = NOTHING_GIVEN
    ends: Ends = NOTHING_BEHIND

    @classmethod
    def of(cls, model: Any, X: Any, y: Any, sample_weight: Any, asked: Asked = NOTHING_ASKED) -> Task:
        """Lower a model, and bring the rows to compare on in order."""
        form = lower(model)
        names = names_of_fit(model)
        require_names(names, X)
        given = asked.checked(names_of(X) if names is None else names, form.n_features, form.n_outputs)
        rows, targets, weights = _rows(X, y, sample_weight, form.n_features, form.n_outputs)
        given.require_inputs(rows)
        values = form(rows)
        if not np.isfinite(values).all():
            raise ValueError("the model predicts numbers that are not finite on X; no circuit can follow them.")
        given.require_outputs(values)
        ndim = _require_same(model, form, X, _spread(values, weights))
        scale = _spread(values if targets is None else targets, weights)
        reach = _reach(form, rows)
        form = between_ports(form, given)
        # From here on, the unit of a given port is its code.
        if not isinstance(form, Wired):
            rows, reach = given.encoded(rows), given.encoded(reach)
        steps, offsets = given.output_scaling(form.n_outputs)
        values, scale = (values - offsets) / steps, scale / steps
        targets = None if targets is None else (targets - offsets) / steps
        outputs = np.frexp(scale)[1] - 1
        inputs = np.frexp(np.abs(reach).max(axis=0))[1]
        inputs = np.where(np.abs(inputs) > _FAR, inputs, 0)
        units = inputs.tolist(), outputs.tolist()
        values, scale = np.ldexp(values, -outputs), np.ldexp(scale, -outputs)
        fixed = Fixed(unsaturated=given.unsaturated) if isinstance(form, Wired) else given.fixed
        sample = Sample(np.ldexp(rows, -inputs), weights, values, scale, np.ldexp(reach, -inputs), fixed)
        targets = None if targets is None else np.ldexp(targets, -outputs)
        ends = Ends(given.outputs, units[1], _rounding_error(given, sample, units[1]))
        return cls(shifted(form, *units), sample, targets, *units, ndim, given, ends)

    def in_raw_units(self, circuit: Circuit) -> Circuit:
        """Return a circuit of these units in those of the model, between the ports that are given."""
        graph: Graph = shifted_ports(circuit, self.inputs, self.outputs)
        inputs = {} if isinstance(self.form, Wired) else self.given.inputs
        graph = with_outputs(with_inputs(graph, inputs), self.given.outputs)
        return replace(
            circuit,
            nodes=graph.nodes,
            outputs=graph.outputs,
            input_formats=graph.input_formats,
            output_formats=graph.output_formats,
            prediction_ndim=self.prediction_ndim,
        )


def _rounding_error(given: Given, sample: Sample, outputs: Sequence[int]) -> float:
    """Return the error that rounding to given formats of outputs causes by itself."""
    rounded = sample.values.copy()
    for port, form in given.outputs.items():
        word = Format(form.low, form.high, -outputs[port])
        rounded[:, port] = word.decode(word.encode(rounded[:, port]))
    return sample.error(rounded)


def error_to_targets(circuit: Circuit, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Return the root mean square difference between a circuit and targets in units of their standard deviation."""
    X, targets, weights = _rows(X, y, sample_weight, len(circuit.input_formats), len(circuit.outputs))
    if targets is None:
        raise without_targets()
    predicted = simulated(circuit, X)
    return Sample(X, weights, predicted, _spread(targets, weights), X[:2]).error(predicted, targets)


def _require_same(model: Any, form: Form, X: Any, spread: Floats) -> int:
    """Return the dimensions of what predict of a model returns; refuse one whose predict is another function."""
    if model is form or not callable(getattr(model, "predict", None)):
        return int(getattr(model, "prediction_ndim", 2))
    checked = numbers(X, "X")
    values = form(checked)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*feature names")  # arrays are welcome
        said = model.predict(checked if names_of(X) is None else X)
    ndim = np.ndim(said)
    said = np.asarray(said, dtype=np.float64).reshape(values.shape)
    apart = np.abs(said - values)
    allowed = _SAME * spread + _SINGLE * np.abs(values).max(axis=0)
    if not (apart <= allowed).all():
        row, output = np.unravel_index(int(np.nanargmax(apart / allowed)), apart.shape)
        raise ValueError(
            f"predict of this {type(model).__name__} must be the function of its fitted parameters, and in row {row} "
            f"it returns {said[row, output]:g} where they give {values[row, output]:g}; where a subclass or a setting "
            "changes predict, register the type with sklearn_htmc.circuit.lower."
        )
    return ndim


def without_targets() -> ValueError:
    return ValueError("y must be given where circuits are compared with the targets, got None.")


def _rows(X: Any, y: Any, sample_weight: Any, n_features: int, n_outputs: int) -> tuple[Floats, Floats | None, Floats]:
    """Return validated features, targets and weights in canonical form."""
    X = numbers(X, "X")
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
    y = numbers(y, "y", ensure_2d=False)
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
    unit = np.ldexp(0.5, np.frexp(np.abs(of).max(axis=0))[1])  # no square overflows, and none vanishes
    shrunk = of / unit
    spread = np.sqrt(weights @ np.square(shrunk - weights @ shrunk))
    return np.where(spread > _CONSTANT * np.abs(shrunk).max(axis=0), spread * unit, 1.0)


def _reach(form: Form, X: Floats) -> Floats:
    """Return the range in which inputs are represented: the one seen in fit where the model knows it."""
    reach = np.array([X.min(axis=0), X.max(axis=0)])
    if isinstance(form, SparseNetwork):
        reach = np.where(np.isfinite(form.input_range), form.input_range, reach)
    return reach
