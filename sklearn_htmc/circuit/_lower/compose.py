"""Pipelines and transformed targets of affine scalers: they become part of the regressor between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from sklearn_htmc._network import Block, SparseNetwork
from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._given import Given
from sklearn_htmc.circuit._lower._dispatch import lower
from sklearn_htmc.circuit._lower._forms import Form, TreeEnsemble, Wired, shifted_ports


@dataclass(frozen=True, eq=False)
class Scaler:
    """The map ``x -> (x - center) / divisor * factor + shift`` of each feature, in this order of operations.

    The order is that of scikit-learn, so `forward` rounds as its scalers do. Slopes are positive.

    Attributes
    ----------
    center, divisor, factor, shift : ndarray of shape (n_features,) or ()
        Numbers of the features; divisor and factor are positive.
    """

    center: Floats
    divisor: Floats
    factor: Floats
    shift: Floats

    @classmethod
    def of(cls, *, center: Any = None, divisor: Any = None, factor: Any = None, shift: Any = None) -> Scaler:
        """Return a scaler; what is None does nothing."""
        neutral = ((center, 0.0), (divisor, 1.0), (factor, 1.0), (shift, 0.0))
        return cls(*(np.asarray(nothing if value is None else value, dtype=np.float64) for value, nothing in neutral))

    def at(self, feature: NDArray[np.intp]) -> Scaler:
        """Return the maps of some of the features, with repetitions."""
        parts = (self.center, self.divisor, self.factor, self.shift)
        return Scaler(*(part[feature] if part.ndim else part for part in parts))

    @property
    def slope(self) -> Floats:
        """What the values are multiplied by."""
        return self.factor / self.divisor

    def forward(self, values: Floats) -> Floats:
        """Apply the map."""
        scaled: Floats = (values - self.center) / self.divisor * self.factor + self.shift
        return scaled

    def inverse(self, values: Floats) -> Floats:
        """Apply the inverse map."""
        raw: Floats = (values - self.shift) / self.factor * self.divisor + self.center
        return raw


# --- scalers --------------------------------------------------------------------------------------


@singledispatch
def scalers(step: Any) -> tuple[Scaler, ...]:
    """Return the affine maps that a fitted transformer is made of, the first one first; raise TypeError otherwise."""
    raise TypeError(
        f"a circuit can take in StandardScaler, MinMaxScaler, MaxAbsScaler and RobustScaler, got {step!r}; put other "
        "transformers in front of the circuit, that is, compile the regressor alone on transformed features."
    )


@scalers.register
def _(step: StandardScaler) -> tuple[Scaler, ...]:
    check_is_fitted(step)
    return (Scaler.of(center=step.mean_ if step.with_mean else None, divisor=step.scale_ if step.with_std else None),)


@scalers.register
def _(step: RobustScaler) -> tuple[Scaler, ...]:
    check_is_fitted(step)
    center = step.center_ if step.with_centering else None
    return (Scaler.of(center=center, divisor=step.scale_ if step.with_scaling else None),)


@scalers.register
def _(step: MinMaxScaler) -> tuple[Scaler, ...]:
    check_is_fitted(step)
    _refuse_clipping(step)
    return (Scaler.of(factor=step.scale_, shift=step.min_),)


@scalers.register
def _(step: MaxAbsScaler) -> tuple[Scaler, ...]:
    check_is_fitted(step)
    _refuse_clipping(step)
    return (Scaler.of(divisor=step.scale_),)


def _refuse_clipping(step: Any) -> None:
    # The parameter of MaxAbsScaler is younger than the oldest supported scikit-learn.
    if getattr(step, "clip", False):
        raise TypeError(f"a scaler in a circuit must not clip, got {step!r}; fit with clip=False.")


@scalers.register
def _(step: FunctionTransformer) -> tuple[Scaler, ...]:
    if step.func is not None or step.inverse_func is not None:
        raise TypeError(f"a function in a circuit must be the identity, func=None, got {step!r}.")
    return ()


@scalers.register(type(None))
def _(_: None) -> tuple[Scaler, ...]:
    return ()


@scalers.register
def _(_: str) -> tuple[Scaler, ...]:  # "passthrough", the only text that a pipeline accepts
    return ()


@scalers.register
def _(step: Pipeline) -> tuple[Scaler, ...]:
    return tuple(_named(step.steps))


# --- before and after a form ----------------------------------------------------------------------

_OF_RAW = (
    "a circuit that is a model itself, as that of a CircuitRegressor, cannot take in scalers; leave them out: it does "
    "not depend on the scale of features and targets."
)


@lower.register
def _(model: Pipeline) -> Form:
    *before, (_, last) = model.steps
    if last is None or last == "passthrough":
        raise TypeError(f"the last step of a pipeline must be a regressor, got {last!r}.")
    return _after(_named(before), lower(last))


def _named(steps: list[tuple[str, Any]]) -> list[Scaler]:
    """Return the scalers of the steps of a pipeline; an error says which step it comes from."""
    found: list[Scaler] = []
    for name, step in steps:
        try:
            found += scalers(step)
        except TypeError as error:
            raise TypeError(f"step {name!r}: {error}") from error
    return found


@lower.register
def _(model: TransformedTargetRegressor) -> Form:
    check_is_fitted(model)
    try:
        found = scalers(model.transformer_)
    except TypeError as error:
        raise TypeError(f"transformer of the target: {error}") from error
    form = lower(model.regressor_)
    for scaler in reversed(found):
        form = _undone(form, scaler)
    return form


def _after(found: list[Scaler], form: Form) -> Form:
    """Return ``x -> form(scalers(x))``."""
    if isinstance(form, SparseNetwork):
        for scaler in reversed(found):
            form = _network_after(scaler, form)
        return form
    if isinstance(form, Wired):
        if found:
            raise TypeError(_OF_RAW)
        return form
    return _trees_after(found, form) if found else form


def _network_after(scaler: Scaler, network: SparseNetwork) -> SparseNetwork:
    """Fold a scaler into the first block; slopes are positive, so clipping may as well come first."""
    first, *others = network.blocks
    slope = diags_array(np.broadcast_to(scaler.slope, network.n_features))
    # h -> slope h + start
    start = np.broadcast_to(scaler.shift - scaler.center * scaler.slope, network.n_features)
    scaled = Block(
        inner=csr_array(first.inner @ slope),
        bias=first.bias + first.inner @ start,
        outer=first.outer,
        skip=csr_array(first.matrix @ slope),
        offset=first.offset + first.matrix @ start,
    )
    return SparseNetwork((scaled, *others), scaler.inverse(network.input_range), clip=network.clip)


def _undone(form: Form, scaler: Scaler) -> Form:
    """Return ``x -> inverse of scaler(form(x))``."""
    gain = 1.0 / scaler.slope
    if isinstance(form, Wired):
        raise TypeError(_OF_RAW)
    if isinstance(form, TreeEnsemble):
        trees = tuple(replace(tree, value=tree.value * gain) for tree in form.trees)
        return replace(form, trees=trees, offset=scaler.inverse(form.offset))
    *others, last = form.blocks
    diagonal = diags_array(np.broadcast_to(gain, form.n_outputs))
    scaled = Block(
        inner=last.inner,
        bias=last.bias,
        outer=csr_array(diagonal @ last.outer),
        skip=csr_array(diagonal @ last.matrix),
        offset=scaler.inverse(last.offset),
    )
    return replace(form, blocks=(*others, scaled))


def between_ports(form: Form, given: Given) -> Form:
    """Return a function of the codes of given input ports, with given outputs in units of their codes.

    Raises
    ------
    ValueError
        Where the function is a circuit that has other ports.
    """
    if isinstance(form, Wired):
        return _wired_between(form, given)
    if given.inputs:
        steps, offsets = given.scaling(form.n_features)
        form = _after([Scaler.of(factor=steps, shift=offsets)], form)
    if given.outputs:
        steps, offsets = given.output_scaling(form.n_outputs)
        form = _undone(form, Scaler.of(factor=steps, shift=offsets))
    return form


def _wired_between(form: Wired, given: Given) -> Wired:
    for port, wanted in given.inputs.items():
        if wanted != form.graph.input_formats[port]:
            raise ValueError(
                f"input_formats must be those that the circuit was grown with, and {given.names[port]} has "
                f"{form.graph.input_formats[port]!r}; fit CircuitRegressor(input_formats=...) with them."
            )
    for port, wanted in given.outputs.items():
        if not wanted.is_plain:
            raise ValueError(
                f"output_format must have scale=1 and offset=0 for a circuit, got {wanted!r} for output {port}; "
                "scale the targets before the fit."
            )
    places = [-given.outputs[port].exponent if port in given.outputs else 0 for port in range(form.n_outputs)]
    return Wired(shifted_ports(form.graph, [0] * form.n_features, places))


# --- thresholds -----------------------------------------------------------------------------------


def _trees_after(found: list[Scaler], form: TreeEnsemble) -> TreeEnsemble:
    """Give every split the threshold on the raw feature that decides as the one on the scaled feature does."""
    if not form.trees:
        return form
    feature = np.maximum(np.concatenate([tree.feature for tree in form.trees]), 0)  # of leaves it does not matter
    parts = [scaler.at(feature) for scaler in found]

    def scaled(values: Floats) -> Floats:
        for part in parts:
            values = part.forward(values)
        return values

    thresholds = _last_at_most(scaled, np.concatenate([tree.threshold for tree in form.trees]))
    ends = np.cumsum([tree.threshold.size for tree in form.trees])[:-1]
    pairs = zip(form.trees, np.split(thresholds, ends), strict=True)
    return replace(form, trees=tuple(replace(tree, threshold=threshold) for tree, threshold in pairs))


def _last_at_most(rising: Callable[[Floats], Floats], limits: Floats) -> Floats:
    """Return for each entry the largest float64 at which a rising function is at most a limit.

    Bisection over the float64 numbers themselves, so the rounding of the function is taken into account and every x is
    on the right side: there is no tolerance.
    """
    low = np.full(limits.shape, _ordinal(np.array(-np.inf)))
    high = np.full(limits.shape, _ordinal(np.array(np.inf)))
    with np.errstate(over="ignore"):
        for _ in range(64):
            middle = low // 2 + high // 2 + (low & high & 1)  # the sum itself would overflow
            at_most = (middle == low) | (rising(_float(middle)) <= limits)
            low, high = np.where(at_most, middle, low), np.where(at_most, high, middle)
        always = rising(np.full(limits.shape, np.finfo(np.float64).max)) <= limits
    return np.where(always, np.inf, _float(low))


def _ordinal(values: Floats) -> NDArray[np.int64]:
    """Number the float64 numbers in their order; those of 0.0 and -0.0 are 0 and -1."""
    bits = np.asarray(values, dtype=np.float64).view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits - 1, bits)


def _float(ordinals: NDArray[np.int64]) -> Floats:
    bits = np.where(ordinals < 0, np.int64(-(2**63)) - ordinals - 1, ordinals)
    return bits.view(np.float64)
