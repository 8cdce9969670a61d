"""Ports that are given: what users say about formats, checked, and what it means while a circuit is made.

A given input port carries the codes of a converter. While a circuit is made, codes are what the model reads: it is
composed with the unit conversion of the port, and the rows are encoded. A coarser word is the given one without its
lowest bits: dropping s of them is wiring, and what is left, ``floor(code / 2^s)``, stands for the middle of its
``2^s`` codes. So no gate rounds anything; thresholds and biases take in the half step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from sklearn_htmc.circuit._fixed_point import Floats, Format
from sklearn_htmc.circuit._frames import listed
from sklearn_htmc.circuit._graph import MAX_BITS, exponents_of

_PORT_BITS = 31  # that a given port may have; a circuit computes with longer words


def dropped(form: Format, places: int) -> Format:
    """Return the format of a word without its lowest bits, in units of its codes.

    All integers of the word are covered, and every code of the result stands for the middle of those that it stems
    from.
    """
    low, high = form.word
    return Format(low >> places, high >> places, places, offset=(2.0**places - 1.0) / 2.0)


@dataclass(frozen=True)
class Fixed:
    """What is fixed about the input ports of a circuit that is being made.

    Attributes
    ----------
    words : mapping from int to Format
        Given ports, with codes as their unit.
    unsaturated : frozenset of int
        Features that are not saturated at the ends of their range.
    """

    words: Mapping[int, Format] = field(default_factory=dict)
    unsaturated: frozenset[int] = frozenset()

    def format(self, feature: int, smallest: float, largest: float, exponent: int) -> Format:
        """Return the format with some last place, or the finest one that there is."""
        if feature in self.words:
            return dropped(self.words[feature], max(exponent, 0))
        return Format.covering(smallest, largest, exponent)

    def limits(self, feature: int, form: Format, reach: Floats) -> tuple[int, int]:
        """Return the codes at which a feature saturates."""
        if feature in self.unsaturated:
            return form.word
        low, high = form.encode(reach).tolist()
        return low, high


@dataclass(frozen=True)
class Given:
    """What users ask of the ports of a circuit.

    Attributes
    ----------
    inputs : mapping from int to Format
        Formats of some input ports.
    outputs : mapping from int to Format
        Formats of some output ports.
    unsaturated : frozenset of int
        Features that are not saturated at the ends of their range.
    names : tuple of str
        Names of the features, for texts.
    """

    inputs: Mapping[int, Format] = field(default_factory=dict)
    outputs: Mapping[int, Format] = field(default_factory=dict)
    unsaturated: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()

    @property
    def fixed(self) -> Fixed:
        """What holds while a circuit is made."""
        return Fixed({port: Format(*form.word, 0) for port, form in self.inputs.items()}, self.unsaturated)

    def scaling(self, n_features: int) -> tuple[Floats, Floats]:
        """Return step and offset of every feature; those that are not given have one and zero."""
        return _steps(self.inputs, n_features)

    def output_scaling(self, n_outputs: int) -> tuple[Floats, Floats]:
        """Return the same of the outputs."""
        return _steps(self.outputs, n_outputs)

    def encoded(self, X: Floats) -> Floats:
        """Return features with the codes of given ports in place of their values."""
        out = X.copy()
        for port, form in self.inputs.items():
            out[:, port] = form.encode(X[:, port])
        return out

    def require_inputs(self, X: Floats) -> None:
        """Refuse formats that do not hold the values of their features."""
        for port, form in self.inputs.items():
            _require_range(f"the format of {self.names[port]}", form, X[:, port], "widen the format or clip the column")

    def require_outputs(self, values: Floats) -> None:
        """Refuse formats that do not hold what the model predicts."""
        for port, form in self.outputs.items():
            _require_range(
                f"the format of output {port}", form, values[:, port], "widen the format or clip the targets"
            )


def _steps(formats: Mapping[int, Format], n_ports: int) -> tuple[Floats, Floats]:
    steps, offsets = np.ones(n_ports), np.zeros(n_ports)
    for port, form in formats.items():
        steps[port], offsets[port] = form.step, form.offset
    return steps, offsets


def _require_range(what: str, form: Format, values: Floats, remedy: str) -> None:
    low, high = form.decode([form.low, form.high]).tolist()
    # Converters that cut off instead of rounding reach a step further.
    outside = (values < low - form.step) | (values > high + form.step)
    if outside.any():
        raise ValueError(
            f"{what} must hold its values, and it ends at {low:g} and {high:g}: {int(outside.sum())} of {len(values)} "
            f"different rows, which go from {values.min():g} to {values.max():g}, would saturate; {remedy}."
        )


# --- what users say -------------------------------------------------------------------------------


class Asked(NamedTuple):
    """What users say about ports; see `compile_circuit`.

    Attributes
    ----------
    input_formats : mapping from int or str to Format, or None
        Formats of some features.
    output_format : Format, sequence of (Format or None), or None
        Formats of outputs.
    saturate_inputs : bool or sequence of (int or str)
        Features that are saturated.
    """

    input_formats: Any = None
    output_format: Any = None
    saturate_inputs: Any = True

    def checked(self, names: Sequence[str] | None, n_features: int, n_outputs: int) -> Given:
        """Return what is asked of the ports of a circuit.

        Raises
        ------
        TypeError, ValueError
            For features that do not exist or are named twice, and for what is no format.
        """
        inputs = formats_of_features(self.input_formats, names, n_features)
        outputs = _formats_of_outputs(self.output_format, n_outputs)
        unsaturated = frozenset(range(n_features)) - _saturated(self.saturate_inputs, names, n_features)
        return Given(inputs, outputs, unsaturated, shown(names, n_features))


def shown(names: Sequence[str] | None, n_features: int) -> tuple[str, ...]:
    """Return what features are called in texts."""
    return tuple(f"x{port}" for port in range(n_features)) if names is None else tuple(repr(name) for name in names)


def formats_of_features(formats: Any, names: Sequence[str] | None, n_features: int) -> dict[int, Format]:
    """Return formats by number of the feature."""
    if formats is None:
        return {}
    if not isinstance(formats, Mapping):
        raise TypeError(f"input_formats must be a mapping from features to formats, got a {type(formats).__name__}.")
    numbers = _numbers(formats, "input_formats", names, n_features)
    for key, form in formats.items():
        _require_format("input_formats", form, _PORT_BITS, f" for {key!r}")
    return dict(zip(numbers, formats.values(), strict=True))


def _require_format(what: str, form: Any, n_bits: int, where: str = "") -> None:
    if not isinstance(form, Format):
        raise ValueError(f"{what} must hold Format objects, got {form!r}{where}.")
    if form.width > n_bits:
        raise ValueError(f"{what} must have at most {n_bits} bits, got {form.width}{where}.")
    least, most = exponents_of(form)
    if not least <= form.exponent <= most:
        raise ValueError(f"{what} must have exponents in {least} .. {most}, got {form.exponent}{where}.")


def _saturated(given: Any, names: Sequence[str] | None, n_features: int) -> frozenset[int]:
    if isinstance(given, bool | np.bool_):
        return frozenset(range(n_features) if given else ())
    if isinstance(given, str | bytes | Mapping) or not np.iterable(given):
        raise TypeError(f"saturate_inputs must be True, False or a list of features, got {given!r}.")
    return frozenset(_numbers(list(given), "saturate_inputs", names, n_features))


def _numbers(keys: Any, what: str, names: Sequence[str] | None, n_features: int) -> list[int]:
    """Return the numbers of features that are named by number or name, each once."""
    known = {} if names is None else {name: number for number, name in enumerate(names)}
    numbers = list[int]()
    for key in keys:
        number = known.get(key, key) if isinstance(key, str) else key
        is_number = isinstance(number, Integral) and not isinstance(number, bool | np.bool_)
        if not is_number or not 0 <= int(number) < n_features:
            known_names = (
                f"; names are {listed([repr(name) for name in known])}" if known else ", and this model knows no names"
            )
            raise ValueError(
                f"{what} must name features, by number below {n_features} or by name, got {key!r}{known_names}."
            )
        if int(number) in numbers:
            raise ValueError(f"{what} must name every feature once, and {key!r} is there twice, by number and by name.")
        numbers.append(int(number))
    return numbers


def _formats_of_outputs(given: Any, n_outputs: int) -> dict[int, Format]:
    if given is None:
        return {}
    formats = [given] * n_outputs if isinstance(given, Format) else given
    if isinstance(formats, str) or not isinstance(formats, Sequence):
        raise TypeError(f"output_format must be a Format or a list of them, got {given!r}.")
    if len(formats) != n_outputs:
        raise ValueError(f"output_format must have one entry per output, {n_outputs}, got {len(formats)}.")
    for form in formats:
        if form is not None:
            _require_format("output_format", form, MAX_BITS - 1)
    return {port: form for port, form in enumerate(formats) if form is not None}
