"""A network as an acyclic graph of named units: its statements, with a unit for every state of a coordinate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sklearn_htmc._formulas import Statement, statements
from sklearn_htmc._network import Floats, SparseNetwork

Kind = Literal["feature", "coordinate", "neuron", "output"]
_KINDS: dict[str, Kind] = {"new": "coordinate", "more": "coordinate", "neuron": "neuron", "output": "output"}


@dataclass(frozen=True)
class Unit:
    """A quantity that is computed once.

    Attributes
    ----------
    name : str
        What it is called; two states of a coordinate have the same name.
    kind : {"feature", "coordinate", "neuron", "output"}
        What it is.
    terms : tuple of (float, int)
        Weights and numbers of the units that are added up.
    constant : float
        Added to them.
    before : int or None
        The earlier state of a coordinate, which is added, too.
    feature : int or None
        The number of a feature.
    """

    name: str
    kind: Kind
    terms: tuple[tuple[float, int], ...] = ()
    constant: float = 0.0
    before: int | None = None
    feature: int | None = None

    @property
    def sources(self) -> list[tuple[float, int]]:
        """Weights and numbers of all units that are read."""
        return [*self.terms, *([] if self.before is None else [(1.0, self.before)])]


@dataclass(frozen=True, eq=False)
class Unrolled:
    """The units of a network, in the order in which they are computed.

    Attributes
    ----------
    network : SparseNetwork
        The network.
    units : tuple of Unit
        The features that are read come first, the outputs last.
    """

    network: SparseNetwork
    units: tuple[Unit, ...]

    @classmethod
    def of(cls, network: SparseNetwork, features: Sequence[str], targets: Sequence[str]) -> Unrolled:
        """Take a network apart."""
        lines = [line for line in statements(network, features, targets) if line.kind != "clip"]
        read = {name for line in lines for _, name in line.terms}
        units = [Unit(name, "feature", feature=number) for number, name in enumerate(features) if name in read]
        now = {unit.name: number for number, unit in enumerate(units)}
        for line in lines:
            units.append(_unit(line, now))
            if line.kind != "output":  # nobody reads an output
                now[line.name] = len(units) - 1
        return cls(network, tuple(units))

    def numbers(self, kind: Kind) -> list[int]:
        """Return the numbers of the units of a kind."""
        return [number for number, unit in enumerate(self.units) if unit.kind == kind]

    def edges(self) -> Iterator[tuple[int, int, float]]:
        """Yield source, target and weight of every edge; from state to state of a coordinate there is none."""
        for number, unit in enumerate(self.units):
            yield from ((source, number, weight) for weight, source in unit.terms)

    def values(self, X: Floats, *, without: int | None = None) -> list[Floats]:
        """Return the values of all units on rows; one unit may be held at zero."""
        if self.network.clip:
            X = np.clip(X, *self.network.input_range)
        found = list[Floats]()
        for number, unit in enumerate(self.units):
            if unit.feature is not None:
                value = X[:, unit.feature]
            else:
                value = np.full(len(X), unit.constant)
                for weight, source in unit.sources:
                    value = value + weight * found[source]
            if unit.kind == "neuron":
                value = np.maximum(value, 0.0)
            found.append(np.zeros(len(X)) if number == without else value)
        return found

    def slopes(self, values: Sequence[Floats], output: int) -> list[Floats]:
        """Return the derivatives of an output with respect to all units on rows."""
        slopes = [np.zeros(len(value)) for value in values]
        slopes[self.numbers("output")[output]] += 1.0
        for number in range(len(self.units) - 1, -1, -1):
            unit, slope = self.units[number], slopes[number]
            if unit.kind == "neuron":
                slope = slope * (values[number] > 0)
            for weight, source in unit.sources:
                slopes[source] += weight * slope
        return slopes

    def direct_slope(self, number: int, output: int) -> float:
        """Return the derivative of an output with respect to a unit along the ways that no other neuron is on."""
        slopes = [0.0] * len(self.units)
        slopes[self.numbers("output")[output]] = 1.0
        for later in range(len(self.units) - 1, number, -1):
            unit = self.units[later]
            if unit.kind != "neuron":
                for weight, source in unit.sources:
                    slopes[source] += weight * slopes[later]
        return slopes[number]

    def effects(self, X: Floats) -> tuple[Floats, Floats]:
        """Return how much of the outputs passes through every edge, and through every state of a coordinate.

        That is the root mean square, over rows and outputs, of weight times deviation of the source from its mean times
        slope of the output, in units of the standard deviation of the output.

        Returns
        -------
        edges : ndarray of shape (n_edges,)
            In the order of `edges`.
        states : ndarray of shape (n_units,)
            From the earlier state of a unit to it; zero where there is none.
        """
        values = self.values(X)
        off = [value - value.mean() for value in values]
        edges, states = list(self.edges()), np.zeros(len(self.units))
        squares = np.zeros(len(edges))
        for output, number in enumerate(self.numbers("output")):
            slopes = self.slopes(values, output)
            slopes = [
                slope * (value > 0) if unit.kind == "neuron" else slope
                for unit, slope, value in zip(self.units, slopes, values, strict=True)
            ]
            variance = float(values[number].var()) or 1.0
            squares += [np.mean((w * off[source] * slopes[target]) ** 2) / variance for source, target, w in edges]
            for target, unit in enumerate(self.units):
                if unit.before is not None:
                    states[target] += np.mean((off[unit.before] * slopes[target]) ** 2) / variance
        return np.sqrt(squares), np.sqrt(states)

    def input_of(self, number: int) -> tuple[dict[int, float], float]:
        """Return the sum that a unit computes in terms of features and earlier neurons: weights, and a constant."""
        weights, constant = {number: 1.0}, 0.0
        for later in range(number, -1, -1):
            unit = self.units[later]
            if later in weights and (later == number or unit.kind == "coordinate"):
                weight = weights.pop(later)
                constant += weight * unit.constant
                for factor, source in unit.sources:
                    weights[source] = weights.get(source, 0.0) + weight * factor
        return {source: weights[source] for source in sorted(weights) if weights[source]}, constant


def _unit(line: Statement, now: dict[str, int]) -> Unit:
    terms = tuple((weight, now[name]) for weight, name in line.terms)
    before = now[line.name] if line.kind == "more" else None
    return Unit(line.name, _KINDS[line.kind], terms, line.constant, before)
