"""Networks: weights become few-digit numbers one at a time while the others compensate; words get the places they need.

The change of the function to first order is ``J dt`` with the Jacobian J over the parameters on the sample. With H =
``J'J`` and ``H^-1 = U'U`` (U upper triangular) rounding parameter p by ``d`` adds ``(d / U_pp)^2`` to the squared
error once those that come after it in the order move by ``-d U_(p,:) / U_pp`` (optimal brain surgeon, as in theory,
section 4). A digit costs an adder, so the number of digits of a weight is the one that minimises

    (d / U_pp)^2 + price * gates,

and the price of a gate is what the level of noise demands. Equal contributions to the error mean that the last place
of unit v is proportional to ``1 / ||g_v||``, where g_v is the derivative of the output at the unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lapack, solve

from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit._fixed_point import Floats, Format
from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._quantise.digits import Digits, nearest_power, rounded
from sklearn_htmc.circuit._quantise.dispatch import Quantiser, quantiser
from sklearn_htmc.circuit._quantise.sample import Sample
from sklearn_htmc.circuit._quantise.sums import network_graph
from sklearn_htmc.circuit._quantise.units import Units, rescaled, units_of

_ROWS = 4_000  # rows of the Jacobian
_RIDGE = 1e-6  # times the mean diagonal of H
_FULL = 2_500  # weights up to which all compensate for all
_OF_ROW = 256  # above that, weights of one row that compensate for each other
_OF_WORDS = 0.35  # share of the squared noise that goes to the rounding of words
_ADDER = 5.0  # gates per bit
_PARTS = 10  # times the network is linearised while its weights are rounded, if all goes well
_SMALLEST = 2  # weights of a part
_TRUSTED = 2.0  # times the squared error that was foreseen
_HARMLESS = 0.3  # of the squared noise
_LEAST_PRICE = 1e-4  # of a digit, relative
_MOST_TRIES = 60  # linearisations in all
_EFFORT = 3e10  # bounds linearisations times the cube of the number of weights
_MOST_STEPS = 5  # of them after one part
_DAMPINGS = (0.0, 1e-3, 1e-1)  # of corrections, relative to the diagonal
_TRIES = 5  # prices that are tried
_FEW = 250  # weights for which a good guess of the price saves no time
_LOG_PRICE = -12.0  # binary logarithm of the first price of a gate, relative to the squared noise
_SETTLED = 0.1  # binary logarithm of a squared error that is near enough

Edge = tuple[int, int]  # row and term


@quantiser.register
def _(form: SparseNetwork, sample: Sample) -> Quantiser:
    return NetworkQuantiser.of(form, sample)


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Values and slopes of all units on the sample.

    Attributes
    ----------
    values : ndarray of shape (n_units, n_samples)
        Values behind the ReLU.
    slopes : ndarray of shape (n_outputs, n_units, n_samples)
        Derivatives of the outputs before the ReLU; squared and summed over outputs and samples they are the squared
        error per squared unit.
    """

    values: Floats
    slopes: Floats

    @classmethod
    def at(cls, units: Units, sample: Sample) -> Derivatives:
        """Evaluate a network."""
        values = units.evaluate(saturated(sample))
        root = np.sqrt(sample.weights / len(units.outputs))
        slopes = [units.slopes(values, j) * root / sample.scale[j] for j in range(len(units.outputs))]
        return cls(values, np.array(slopes))

    @property
    def sensitivity(self) -> Floats:
        """Root mean square derivative at every unit, of shape (n_units,)."""
        squares: Floats = np.square(self.slopes).sum(axis=(0, 2))
        return np.sqrt(squares)

    def weight_columns(self, units: Units, edges: Sequence[Edge]) -> Floats:
        """Return the Jacobian of some weights, of shape (n_edges, n_outputs * n_samples)."""
        n_outputs, _, n_samples = self.slopes.shape
        if not edges:
            return np.zeros((0, n_outputs * n_samples))
        rows = np.array([r for r, _ in edges])
        sources = np.array([units.rows[r].sources[k] for r, k in edges])
        columns = self.values[sources][:, None, :] * self.slopes[:, units.n_features + rows].swapaxes(0, 1)
        return np.asarray(columns.reshape(len(edges), n_outputs * n_samples))

    def bias_columns(self, units: Units) -> Floats:
        """Return the Jacobian of all biases, of shape (n_rows, n_outputs * n_samples)."""
        columns: Floats = self.slopes[:, units.n_features :].swapaxes(0, 1)
        return columns.reshape(len(units.rows), columns.shape[1] * columns.shape[2])


def saturated(sample: Sample) -> Floats:
    """Return the features within the range that inputs represent."""
    return np.clip(sample.X, sample.input_range[0], sample.input_range[1])


def thinned(sample: Sample) -> Sample:
    """Return all rows or evenly spread ones where there are many."""
    if len(sample.X) <= _ROWS:
        return sample
    return sample.part(np.linspace(0, len(sample.X) - 1, _ROWS).astype(np.intp))


@dataclass(frozen=True, eq=False)
class Block:
    """Weights that compensate for each other, in the order in which they are rounded, and biases at the end.

    Attributes
    ----------
    edges : list of tuple
        Row and term of every weight.
    n_biases : int
        The biases of all rows, or none.
    H : ndarray of shape (n_edges + n_biases, n_edges + n_biases)
        ``J'J`` with a small ridge.
    U : ndarray of shape (n_edges + n_biases, n_edges + n_biases)
        Upper triangular, ``U'U`` is the inverse of H.
    slope : ndarray of shape (n_edges + n_biases,)
        ``J'r`` with the difference r from the model.
    """

    edges: list[Edge]
    n_biases: int
    H: Floats
    U: Floats
    slope: Floats

    @classmethod
    def at(
        cls,
        units: Units,
        sample: Sample,
        edges: list[Edge],
        *,
        biases: bool,
        derivatives: Derivatives | None = None,
    ) -> Block:
        """Linearise the network at its present weights, where the derivatives may be known."""
        derivatives = Derivatives.at(units, sample) if derivatives is None else derivatives
        J = derivatives.weight_columns(units, edges)
        if biases:
            J = np.concatenate([J, derivatives.bias_columns(units)])
        H = J @ J.T
        H[np.diag_indices_from(H)] += _RIDGE * max(np.trace(H) / len(H), 1e-300)
        difference = (derivatives.values[units.outputs].T - sample.values) / sample.scale
        root = np.sqrt(sample.weights / len(units.outputs))
        return cls(edges, len(J) - len(edges), H, _factor_of_inverse(H), J @ (difference * root[:, None]).T.ravel())

    def step(self, damping: float) -> Floats:
        """Return the damped change of all parameters that makes up for the difference to first order."""
        if not damping:
            return np.asarray(-(self.U.T @ (self.U @ self.slope)))
        return np.asarray(solve(self.H + np.diag(damping * self.H.diagonal()), -self.slope, assume_a="pos"))


def _factor_of_inverse(H: Floats) -> Floats:
    """Return the upper triangular U with ``U'U`` the inverse of a positive definite matrix."""
    # With the order reversed the Cholesky factor of H gives that of the inverse without squaring anything.
    lower, _ = lapack.dpotrf(H[::-1, ::-1], lower=1)
    inverse, _ = lapack.dtrtri(np.tril(lower), lower=1)
    return np.ascontiguousarray(np.tril(inverse)[::-1, ::-1])


@dataclass(frozen=True, eq=False)
class State:
    """A network on the way: weights that are rounded have digits."""

    units: Units
    digits: list[list[Digits]]

    @classmethod
    def of(cls, units: Units) -> State:
        """Start with the weights that are exact."""
        digits: list[list[Digits]] = [
            [(nearest_power(w),) if e else () for w, e in zip(row.weights, row.exact, strict=True)]
            for row in units.rows
        ]
        return cls(units, digits)

    def moved(self, edges: Sequence[Edge], weights: Floats, biases: Floats | None = None) -> State:
        """Return the network with other weights, and biases if they are given."""
        rows = list(self.units.rows)
        changed = {r: rows[r].weights.copy() for r, _ in edges}
        for (r, k), weight in zip(edges, weights, strict=True):
            changed[r][k] = weight
        for r in changed if biases is None else range(len(rows)):
            row = rows[r]
            rows[r] = row.with_values(changed.get(r, row.weights), row.bias if biases is None else float(biases[r]))
        return replace(self, units=replace(self.units, rows=rows))

    def corrected(self, block: Block, sample: Sample) -> State:
        """Return the network after a damped Gauss-Newton step; the same if no damping helps."""
        n_edges = len(block.edges)
        weights = np.array([self.units.rows[r].weights[k] for r, k in block.edges])
        biases = np.array([row.bias for row in self.units.rows])
        error = _error(self.units, sample)
        for damping in _DAMPINGS:
            step = block.step(damping)
            trial = self.moved(block.edges, weights + step[:n_edges], biases + step[n_edges:])
            if _error(trial.units, sample) < error:
                return trial
        return self

    def rounded(self, block: Block, n_rounded: int, adders: Sequence[Floats]) -> tuple[State, float]:
        """Round the first weights of a block, the others compensate; return the squared error to first order, too.

        Parameters
        ----------
        block : Block
            Linearised at this network.
        n_rounded : int
            How many weights.
        adders : sequence of ndarray
            What a digit of every weight of every row costs, in units of squared error.
        """
        t = np.array([self.units.rows[r].weights[k] for r, k in block.edges])
        if block.n_biases:
            t = np.append(t, [row.bias for row in self.units.rows])
        digits = [list(row) for row in self.digits]
        diagonal, error = 1.0 / block.U.diagonal(), 0.0
        for p, (r, k) in enumerate(block.edges[:n_rounded]):
            own = float(diagonal[p])
            value, digits[r][k] = rounded(float(t[p]), own * own, float(adders[r][k]))
            change = (t[p] - value) * own
            error += change * change
            t[p + 1 :] -= change * block.U[p, p + 1 :]
            t[p] = value
        n_edges = len(block.edges)
        moved = self.moved(block.edges, t[:n_edges], t[n_edges:] if block.n_biases else None)
        return replace(moved, digits=digits), error


def _error(units: Units, sample: Sample) -> float:
    return sample.error(units.evaluate(saturated(sample))[units.outputs].T)


@dataclass(eq=False)
class NetworkQuantiser:
    """Makes graphs of a network; see the module.

    Attributes
    ----------
    start : State
        The network with its exact weights.
    sample : Sample
        Rows.
    order : list of tuple
        Row and term of the weights, the most important first.
    blocks : list of Block
        The network linearised at the start.
    widths : list of ndarray
        Bits of the products with every weight if the last place were worth one.
    log_price : float
        Binary logarithm of the price of a gate relative to the squared noise; a guess for the next level.
    """

    start: State
    sample: Sample
    order: list[Edge]
    blocks: list[Block]
    widths: list[Floats]
    log_price: float = _LOG_PRICE

    @classmethod
    def of(cls, form: SparseNetwork, sample: Sample) -> NetworkQuantiser:
        """Do what does not depend on the noise."""
        sample = thinned(sample)
        units = units_of(form)
        units = rescaled(units, _importance(units, Derivatives.at(units, sample)))
        derivatives = Derivatives.at(units, sample)
        importance = _importance(units, derivatives)
        order = [(r, int(k)) for r, row in enumerate(units.rows) for k in np.flatnonzero(~row.exact)]
        order.sort(key=lambda edge: (-importance[edge[0]][edge[1]], edge))
        parts = [order] if len(order) <= _FULL else _parts(order)
        blocks = [Block.at(units, sample, part, biases=len(parts) == 1, derivatives=derivatives) for part in parts]
        reach = np.abs(derivatives.values).max(axis=1)
        widths = [
            np.log2(np.maximum(np.abs(row.weights) * reach[row.sources] * g, 1e-300))
            for row, g in zip(units.rows, derivatives.sensitivity[units.n_features :], strict=True)
        ]
        return cls(State.of(units), sample, order, blocks, widths)

    def __call__(self, noise: float) -> Graph:
        """Make a graph whose error is about the noise."""
        adders = self._adders(noise)
        if len(self.blocks) == 1:
            state = self._in_parts(adders, noise)
        else:
            state = self.start
            for block in self.blocks:
                state, _ = state.rounded(block, len(block.edges), adders)
        for _ in range(2):
            state = state.corrected(Block.at(state.units, self.sample, [], biases=True), self.sample)
        return _graph(state.units, state.digits, self.sample, noise)

    def _in_parts(self, adders: Sequence[Floats], noise: float) -> State:
        """Round all weights, part by part, each linearised anew.

        Where the error comes out larger than foreseen, fewer weights are rounded at once, and then to more digits: a
        neuron that dies on the way cannot be compensated for by anything.
        """
        state, block, foreseen, tries = self.start, self.blocks[0], 0.0, 0
        size, price, most = math.ceil(len(self.order) / _PARTS), 1.0, self._most_tries()
        while block.edges:
            trial, squared = state.rounded(block, size, [price * of_row for of_row in adders])
            allowed = max(_TRUSTED * (foreseen + squared), _HARMLESS * noise**2)
            trial, following, n_steps = self._repaired(trial, block.edges[size:], allowed)
            tries += n_steps
            if tries < most and price > _LEAST_PRICE and _error(trial.units, self.sample) ** 2 > allowed:
                size, price = (max(_SMALLEST, size // 3), price) if size > _SMALLEST else (size, price / 16.0)
                continue
            state, block, foreseen = trial, following, foreseen + squared
            price = min(1.0, 4.0 * price)
            if tries >= most:  # the rest at once
                size = len(block.edges)
        return state

    def _most_tries(self) -> int:
        """Return how many linearisations the number of weights allows."""
        return max(_PARTS // 2, min(_MOST_TRIES, int(_EFFORT / max(1, len(self.order)) ** 3)))

    def _repaired(self, state: State, edges: list[Edge], allowed: float) -> tuple[State, Block, int]:
        """Correct by some weights and all biases until the squared error is allowed; return the last linearisation."""
        n_steps = 0
        while True:
            n_steps += 1
            block = Block.at(state.units, self.sample, edges, biases=True)
            corrected = state.corrected(block, self.sample)
            good = _error(corrected.units, self.sample) ** 2 <= allowed
            if good or corrected is state or n_steps == _MOST_STEPS:
                return corrected, block, n_steps
            state = corrected

    def _adders(self, noise: float) -> list[Floats]:
        """Return the cost of a digit of every weight for which the error to first order is that allowed."""
        n_terms = max(1, sum(len(row.weights) for row in self.start.units.rows))
        place = math.log2(math.sqrt(_OF_WORDS * 12.0 / (1.5 * n_terms)) * noise)
        gates = [_ADDER * np.maximum(1.0, width - place) * noise**2 for width in self.widths]
        aim = math.log2((1.0 - _OF_WORDS) * noise**2)

        def excess(log_price: float) -> float:
            adders = [2.0**log_price * of_row for of_row in gates]
            total = sum(self.start.rounded(block, len(block.edges), adders)[1] for block in self.blocks)
            return math.log2(max(total, 1e-300)) - aim

        if len(self.order) < _FEW:  # equal levels give equal circuits, whatever came before
            self.log_price = _LOG_PRICE
        for _ in range(_TRIES):
            above = excess(self.log_price)
            if abs(above) < _SETTLED:
                break
            self.log_price -= min(3.0, max(-3.0, above))  # the error is about proportional to the price
        return [2.0**self.log_price * of_row for of_row in gates]


def _importance(units: Units, derivatives: Derivatives) -> list[Floats]:
    """Return ``omega_p |t_p|`` of every weight."""
    importance = []
    for r, row in enumerate(units.rows):
        columns = derivatives.weight_columns(units, [(r, k) for k in range(len(row.weights))])
        importance.append(np.abs(row.weights) * np.linalg.norm(columns, axis=1))
    return importance


def _parts(order: list[Edge]) -> list[list[Edge]]:
    """Return weights of a row that compensate for each other, where all weights are too many."""
    rows: dict[int, list[Edge]] = {}
    for edge in order:
        rows.setdefault(edge[0], []).append(edge)
    return [row[start : start + _OF_ROW] for row in rows.values() for start in range(0, len(row), _OF_ROW)]


# --- words ----------------------------------------------------------------------------------------


def _graph(units: Units, digits: Sequence[Sequence[Digits]], sample: Sample, noise: float) -> Graph:
    """Return the integer graph; every unit gets the places that its sensitivity asks for."""
    n_terms = max(1, sum(len(of_term) for row in digits for of_term in row))
    step = math.sqrt(_OF_WORDS * 12.0 / n_terms) * noise
    sensitivity = Derivatives.at(units, sample).sensitivity
    exponents = _exponents(units, sensitivity, step)
    formats = [_input_format(sample, j, 2.0 ** exponents[j] / math.sqrt(12.0)) for j in range(units.n_features)]
    limits = [sample.limits(feature, form) for feature, form in enumerate(formats)]
    return network_graph(units.n_features, units.rows, units.outputs, digits, exponents, formats, limits)


def _exponents(units: Units, sensitivity: Floats, step: float) -> list[float]:
    """Return the exponents of the last places of all units; infinity for what nobody reads.

    A neuron that is off on all rows has no sensitivity: it gets the places that those who read it can tell apart.
    """
    exponents = [math.inf] * len(sensitivity)
    for number in range(len(sensitivity) - 1, -1, -1):
        if sensitivity[number] > 0:
            exponents[number] = float(math.floor(math.log2(step / sensitivity[number])))
        if number >= units.n_features:
            row = units.rows[number - units.n_features]
            for source, weight in zip(row.sources, row.weights, strict=True):
                if weight and sensitivity[source] == 0:
                    place = exponents[number] - math.ceil(math.log2(abs(weight)))
                    exponents[source] = min(exponents[source], place)
    return exponents


def _input_format(sample: Sample, feature: int, allowed: float) -> Format:
    """Return the coarsest format of a feature whose root mean square rounding error is no more than allowed.

    Where that takes too many bits, return the finest format that there is.
    """
    if math.isinf(allowed):
        return sample.unread(feature)
    low, high = sample.input_range[:, feature]
    values = np.clip(sample.X[:, feature], low, high)
    exponent = math.ceil(math.log2(max(high - low, abs(high), abs(low), 1e-300))) + 1
    while True:
        form = sample.format(feature, exponent)
        apart = form.decode(form.encode(values)) - values
        if form.exponent > exponent or math.sqrt(sample.weights @ np.square(apart)) <= allowed:
            return form
        exponent -= 1
