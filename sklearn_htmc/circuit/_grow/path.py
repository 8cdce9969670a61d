"""The path of circuits that growth leaves, and how far down it held-out rows say to go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sklearn_htmc.circuit._circuit import Circuit
from sklearn_htmc.circuit._fixed_point import Floats, Integers
from sklearn_htmc.circuit._grow.growth import Growth, Level, graph_of, prices_down_to, values_of
from sklearn_htmc.circuit._grow.pool import Both, Definition
from sklearn_htmc.circuit._grow.ports import Ports

_SMALLEST = 1e-7  # price of a gate at which a search for the best one ends
_COARSER = 0.5  # between the prices at which held-out rows are looked at
_TIMES, _MORE = 1.5, 100.0  # the gates of the best level, and gates: beyond that, none is expected to be better
_AS_GOOD = 0.6  # over the root of the number of rows: share of the least loss that a smaller circuit may add
_MOST_GATES = 20_000  # about, after which growth ends
_PERFECT = 1e-12  # loss after which growth ends

Report = Callable[[Level], None]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to grow on, or to measure on.

    Attributes
    ----------
    codes : list of ndarray of shape (n_rows,)
        Integers at the input ports.
    values : ndarray of shape (n_rows, n_outputs)
        What the outputs should be.
    weights : ndarray of shape (n_rows,)
        Positive, sum one.
    """

    codes: list[Integers]
    values: Floats
    weights: Floats

    def grown(self, ports: Ports, importance: Floats) -> Growth:
        """Return a growth that has not begun."""
        return Growth(ports, self.codes, self.values, self.weights, importance)

    def loss(self, predicted: Floats, importance: Floats) -> float:
        """Return the weighted mean square error."""
        return float(importance @ (self.weights @ np.square(predicted - self.values)))


@dataclass(frozen=True, eq=False)
class Validation:
    """Held-out errors along a path.

    Attributes
    ----------
    prices : ndarray of shape (n_levels,)
        Prices of a gate, falling.
    losses : ndarray of shape (n_levels,)
        Mean held-out squared error at every level.
    n_rows : int
        Number of rows that were held out.
    grown : tuple of (list of Level, sequence of Definition)
        The sums of every fold, level by level, and the pool that they refer to.
    """

    prices: Floats
    losses: Floats
    n_rows: int
    grown: tuple[tuple[list[Level], Sequence[Definition]], ...]

    @property
    def best(self) -> int:
        """The first level that is hardly worse than the best one."""
        as_good = 1.0 + _AS_GOOD / np.sqrt(self.n_rows)
        return int(np.flatnonzero(self.losses <= as_good * self.losses.min())[0])

    @property
    def price(self) -> float:
        """Price of a gate at that level."""
        return float(self.prices[self.best])

    def at(self, prices: Floats) -> Floats:
        """Return held-out errors at some prices, between those that were measured; NaN below the lowest of them."""
        known = np.log(self.prices[::-1])
        return np.interp(np.log(prices), known, self.losses[::-1], left=np.nan)

    def mean(self, codes: list[Integers]) -> Floats:
        """Return the mean of the last sums of all folds on any rows, of shape (n_rows, n_outputs)."""
        found = [values_of(levels[-1], definitions, codes) for levels, definitions in self.grown]
        return np.asarray(np.mean(found, axis=0))


def validated(
    ports: Ports,
    folds: Sequence[tuple[Rows, Rows]],
    importance: Floats,
    *,
    last: float | None = None,
    factor: float = _COARSER,
    most: float = _MOST_GATES,
    report: Report | None = None,
) -> Validation:
    """Grow on rows of several folds, side by side, until the rows that each leaves out are predicted no better.

    Parameters
    ----------
    ports : Ports
        Formats and comparisons.
    folds : sequence of (Rows, Rows)
        Rows to grow on and rows that are held out; the weights of these sum to the weight of the fold.
    importance : ndarray of shape (n_outputs,)
        What a squared error of every output counts.
    last : float, default=None
        Price at which to end; None ends where larger circuits are no better.
    factor : float, default=0.5
        Between the prices.
    most : float, default=20_000
        Gates beyond which growth ends.
    report : callable, default=None
        Told of every level.
    """
    growths = [inside.grown(ports, importance) for inside, _ in folds]
    prices, losses = list[float](), list[float]()
    share = sum(float(outside.weights.sum()) for _, outside in folds)
    least, enough = np.inf, np.inf
    found = [list[Level]() for _ in folds]
    for price in prices_down_to(_SMALLEST if last is None else last, factor):
        loss, gates, going = 0.0, 0.0, False
        for grown, growth, (_, outside) in zip(found, growths, folds, strict=True):
            level = growth.level(price)
            grown.append(level)
            predicted = values_of(level, growth.pool.definitions, outside.codes)
            loss += outside.loss(predicted, importance) / share
            gates += level.gates / len(folds)
            going |= level.loss > _PERFECT and level.gates < most
            if report is not None:
                report(level)
        prices.append(price)
        losses.append(loss)
        if loss < least:
            least, enough = loss, _TIMES * gates + _MORE
        if not going or (last is None and gates > enough):
            break
    n_rows = sum(len(outside.weights) for _, outside in folds)
    pools = (growth.pool.definitions for growth in growths)
    return Validation(np.array(prices), np.array(losses), n_rows, tuple(zip(found, pools, strict=True)))


def levels(growth: Growth, prices: Sequence[float]) -> Iterator[Level]:
    """Yield the levels at falling prices, until one is perfect or large."""
    for price in prices:
        level = growth.level(price)
        yield level
        if level.loss <= _PERFECT or level.gates >= _MOST_GATES:
            return


@dataclass(frozen=True, eq=False)
class CircuitPath:
    """Circuits of all sizes, from the constant upwards; each was grown on from the one before.

    Attributes
    ----------
    alphas : ndarray of shape (n_circuits,)
        Prices of a gate, falling.
    n_gates : ndarray of shape (n_circuits,)
        Two-input gates.
    loss : ndarray of shape (n_circuits,)
        Weighted mean square error on what was grown on, in units of the variance: the rows, and perturbed rows with
        labels where there are any.
    validation_loss : ndarray of shape (n_circuits,)
        Mean of the same on rows that were held out from growth on parts of the rows, at the price that this one
        corresponds to; NaN where there was none.
    circuits : tuple of Circuit
        The circuits, without resynthesis; written anew at every access.
    """

    validation_loss: Floats
    _levels: tuple[Level, ...]
    _definitions: tuple[Definition, ...]
    _ports: Ports
    _center: Floats
    _places: tuple[int, ...]
    _feature_names: tuple[str, ...] | None = None
    _prediction_ndim: int = 2

    @classmethod
    def of(
        cls,
        levels: Sequence[Level],
        definitions: Sequence[Definition],
        ports: Ports,
        center: Floats,
        places: Sequence[int],
        validation: Validation | None,
        ratio: float = 1.0,
    ) -> CircuitPath:
        """Collect levels; those that changed nothing are left out.

        Parameters
        ----------
        levels : sequence of Level
            In the order of growth.
        definitions : sequence of Definition
            The pool that they refer to.
        ports : Ports
            Formats of the inputs.
        center : ndarray of shape (n_outputs,)
            What is added to the outputs, in units of the sums.
        places : sequence of int
            Binary exponents of the units of the sums.
        validation : Validation or None
            Held-out errors.
        ratio : float
            Price of a gate in this growth where it was one in that of the folds.
        """
        prices = np.array([level.price for level in levels])
        held_out = np.full(len(levels), np.nan) if validation is None else validation.at(prices / ratio)
        new = [place for place, level in enumerate(levels) if place == 0 or not _same(level, levels[place - 1])]
        kept, renumbered = _compacted([levels[place] for place in new], definitions)
        return cls(held_out[new], renumbered, kept, ports, center, tuple(places))

    def __len__(self) -> int:
        return len(self._levels)

    def circuit(self, number: int) -> Circuit:
        """Return one of the circuits."""
        level = self._levels[number]
        graph = graph_of(level, self._definitions, self._ports, self._center, self._places)
        error = float(np.sqrt(level.loss))
        circuit = Circuit.of(graph, epsilon=error, error=error)
        return replace(circuit, feature_names=self._feature_names, prediction_ndim=self._prediction_ndim)

    @property
    def circuits(self) -> tuple[Circuit, ...]:
        """The circuits, without resynthesis."""
        return tuple(self.circuit(number) for number in range(len(self)))

    @property
    def alphas(self) -> Floats:
        """Prices of a gate."""
        return np.array([level.price for level in self._levels])

    @property
    def loss(self) -> Floats:
        """Weighted mean square errors on the rows of growth."""
        return np.array([level.loss for level in self._levels])

    @cached_property
    def n_gates(self) -> np.ndarray:
        """Two-input gates."""
        return np.array([circuit.n_gates for circuit in self.circuits])

    def within(self, max_gates: float) -> Circuit:
        """Return the circuit with the least loss of at most so many gates.

        Raises
        ------
        ValueError
            If there is none, because ``max_gates`` is negative or no number.
        """
        fits = np.flatnonzero(self.n_gates <= max_gates)
        if not len(fits):
            raise ValueError(f"max_gates must be at least {self.n_gates.min()}, the smallest size, got {max_gates!r}.")
        return self.circuit(int(fits[self.loss[fits].argmin()]))

    def __repr__(self) -> str:
        return f"CircuitPath(n_circuits={len(self)}, n_gates={self.n_gates.tolist()})"


def _same(level: Level, other: Level) -> bool:
    """Return whether two levels have the same terms."""
    return np.array_equal(level.bits, other.bits) and np.array_equal(level.sizes, other.sizes)


def _compacted(
    levels: Sequence[Level], definitions: Sequence[Definition]
) -> tuple[tuple[Definition, ...], tuple[Level, ...]]:
    """Return the definitions that levels need, and the levels with the new numbers."""
    wanted = np.zeros(len(definitions), dtype=np.bool_)
    for level in levels:
        wanted[level.bits] = True
    for number in range(len(definitions) - 1, -1, -1):
        definition = definitions[number]
        if wanted[number] and isinstance(definition, Both):
            wanted[[definition.first, definition.second]] = True
    new = np.cumsum(wanted) - 1
    kept = [
        Both(int(new[bit.first]), int(new[bit.second]), bit.inverted) if isinstance(bit, Both) else bit
        for bit in (definitions[number] for number in np.flatnonzero(wanted).tolist())
    ]
    return tuple(kept), tuple(
        Level(level.price, new[level.bits], level.sizes, level.constants, level.loss, level.gates) for level in levels
    )
