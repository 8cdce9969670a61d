"""More edges: those that violate the certificate, and new neurons where it is most violated.

An edge that is not there stays away if ``|E_P[r df/dt_p]| <= strength omega_p`` (theory, certificate); if not, taking
it in lowers the data term by about half the square of the excess. A neuron that is not there is an edge out of a unit
``relu(w . z + b)``: its violation is a correlation of the residual r with that unit, to be maximised over the neuron's
inputs z, which are features, stream coordinates and earlier neurons, and over w and b. The maximum is looked for from
many random starts with few inputs each, because inputs are edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sklearn_htmc._training.core.architecture import Arrays, Parameters
from sklearn_htmc._training.core.objective import Rows
from sklearn_htmc._training.residual.derivatives import Tape, forward, jacobian, matrices
from sklearn_htmc._training.residual.network import ResidualNetwork, network_of
from sklearn_htmc._training.second_order.gauss_newton import Point, Problem

_STARTS = 512  # random neurons per block
_REFINED = 48  # the best of them, whose weights are then improved
_ASCENT = (30, 0.08)  # steps and first step size of that
_INPUTS = (1, 1, 2, 2, 3, 4)  # numbers of inputs of the random neurons
_TAKEN = 3  # neurons that enter together
_ALIKE = 0.95  # correlation from which on two neurons are the same
_EQUAL = 0.9999  # correlation from which on two inputs are the same


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a neuron of one block may read.

    Attributes
    ----------
    values : Tensor of shape (n_samples, n_inputs)
        On the rows.
    sources : list of tuple
        ``("x", feature)``, ``("a", coordinate)`` or ``("h", block, neuron)``.
    """

    values: Tensor
    sources: list[tuple[str, int] | tuple[str, int, int]]


@dataclass(frozen=True, eq=False)
class _Neuron:
    """A neuron that may enter: where it sits, what it reads, what it would bring."""

    block: int
    weights: dict[tuple[str, int] | tuple[str, int, int], float]
    bias: float
    outer: Tensor  # (n_outputs,)
    activation: Tensor  # (n_samples,)
    score: float  # estimated fall of the objective less the price of the edges


def with_new_edges(problem: Problem, point: Point, price: float) -> tuple[ResidualNetwork, Parameters] | None:
    """Return the network with those edges between its units that promise to be worth their price, small, or None.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    point : Point
        Where.
    price : float
        What an edge has to lower the objective by.
    """
    network, parameters = point.network, point.parameters
    zero = (parameters.flat == 0) & (point.weights > 0)
    gradient = point.loss_gradient
    excess = ((gradient.abs() / point.weights).nan_to_num(0.0, 0.0, 0.0) - problem.strength).clamp(min=0.0)
    gain = torch.where(zero, 0.5 * excess.square(), 0.0)
    best = gain.argsort(descending=True)[: max(2, point.n_edges // 10)]
    best = best[gain[best] > price]
    if not len(best):
        return None
    trial = parameters.with_flat(parameters.flat.clone())
    trial.flat[best] = -0.5 * gradient[best] / point.weights[best].square() / math.sqrt(len(best))
    return network, trial


def with_new_neurons(
    point: Point, rows: Rows, price: float, generator: torch.Generator, room: ResidualNetwork
) -> tuple[ResidualNetwork, Parameters] | None:
    """Return the network with the neurons that correlate best with its residual, or None where none is worth it.

    Parameters
    ----------
    point : Point
        The network as it is, compacted.
    rows : Rows
        Rows to look at.
    price : float
        What an edge has to lower the objective by.
    generator : torch.Generator
        Draws the starts.
    room : ResidualNetwork
        The largest sizes allowed.
    """
    network, t = point.network, matrices(point.parameters)
    tape = forward(t, rows.X.double(), network.n_blocks)
    beyond = _Beyond.of(_explained(point, rows, tape), rows.y.double() - tape.outputs, rows.weights)
    found: list[_Neuron] = []
    for block in range(network.n_blocks):
        if network.neurons[block] < room.neurons[block]:
            found += _search(_inputs_of(tape, block), beyond, price, generator, block)
    chosen = _different(found)
    arrays = network.arrays(point.parameters.views)
    entered = [neuron for neuron in chosen if _enter(arrays, neuron, room)]
    return network_of(arrays, network.n_features) if entered else None


# --- the search -----------------------------------------------------------------------------------


def _explained(point: Point, rows: Rows, tape: Tape) -> Tensor:
    """Return what the network could fit by small changes of itself, of shape (n_samples, n_columns)."""
    if point.network.n_outputs == 1:
        return jacobian(point.network, point.parameters, rows)
    # What all outputs have in common.
    return torch.cat([torch.ones(len(rows.X), 1), tape.stream[-1].float(), *(h.float() for h in tape.neurons)], dim=1)


def _inputs_of(tape: Tape, block: int) -> _Inputs:
    """Return features, coordinates below the block and neurons of earlier blocks, each function once."""
    parts = [tape.X, tape.stream[block], *tape.neurons[:block]]
    sources: list[tuple[str, int] | tuple[str, int, int]] = [("x", j) for j in range(tape.X.shape[1])]
    sources += [("a", j) for j in range(tape.stream[block].shape[1])]
    sources += [("h", b, j) for b, h in enumerate(tape.neurons[:block]) for j in range(h.shape[1])]
    values = torch.cat(parts, dim=1)
    centred = values - values.mean(0)
    size = centred.norm(dim=0)
    centred = centred / torch.where(size > 0, size, 1.0)
    varies = size > 1e-6 * math.sqrt(len(values))
    repeats = ((centred.T @ centred).abs() > _EQUAL).triu(1)
    kept = (varies & ~repeats[varies].any(0)).nonzero().squeeze(1)
    return _Inputs(values[:, kept], [sources[j] for j in kept.tolist()])


@dataclass(frozen=True, eq=False)
class _Beyond:
    """Projection of functions on the rows to what the network cannot fit by itself.

    Attributes
    ----------
    root : Tensor of shape (n_samples, 1)
        Square roots of the weights of the rows, which multiply every function.
    Q : Tensor of shape (n_samples, n_columns)
        Orthonormal basis of what the network can fit.
    residual : Tensor of shape (n_samples, n_outputs)
        The projected residual.
    """

    root: Tensor
    Q: Tensor
    residual: Tensor

    @classmethod
    def of(cls, basis: Tensor, residual: Tensor, weights: Tensor) -> _Beyond:
        """Build the projection for the span of some functions of the rows, of shape (n_samples, n_columns)."""
        root = weights.double().sqrt().float()[:, None]
        columns = basis * root
        Q, R = torch.linalg.qr(columns / columns.norm(dim=0).clamp(min=1e-12))
        Q = Q[:, R.diagonal().abs() > 1e-3]
        return cls(root, Q, _less_projection(residual.float() * root, Q))

    def __call__(self, h: Tensor) -> Tensor:
        """Project functions that are multiplied by the roots, of shape (n_samples, n_functions)."""
        return _less_projection(h, self.Q)


def _less_projection(h: Tensor, Q: Tensor) -> Tensor:
    return torch.addmm(h, Q, Q.T @ h, alpha=-1.0)


@dataclass(frozen=True, eq=False)
class _Correlation:
    """The objective of the search: how much of the residual a neuron explains, beyond what the network can by itself.

    With ``h~`` the activation less its projection on what the network can fit, a neuron with free outgoing weights
    lowers the data term by ``1/2 ||E_P[r h~]||^2 / ||h~||_P^2``.

    Attributes
    ----------
    Z : Tensor of shape (n_samples, n_inputs)
        Standardised inputs.
    beyond : callable
        The projection.
    """

    Z: Tensor
    beyond: _Beyond

    def __call__(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return gain (n_neurons,), best outgoing weights (n_outputs, n_neurons) and the gradient of log gain."""
        before = torch.addmm(b, self.Z, W)
        h = before.relu().mul_(self.beyond.root)
        size = h.square().sum(0)
        h = self.beyond(h)
        left = h.square().sum(0)
        new = left > 1e-3 * size + 1e-9  # else rounding is all there is
        left = left.clamp(min=1e-9)
        c = self.beyond.residual.T @ h
        gain = torch.where(new, 0.5 * c.square().sum(0) / left, 0.0)
        slope = self.beyond.residual @ (c / left) - h * (2.0 * gain / left)
        slope = slope * self.beyond.root * (before > 0)
        gradient = torch.cat([self.Z.T @ slope, slope.sum(0, keepdim=True)]) / gain.clamp(min=1e-9)
        return gain, c / left, gradient


def _search(inputs: _Inputs, beyond: _Beyond, price: float, generator: torch.Generator, block: int) -> list[_Neuron]:
    """Return the neurons of one block that are worth their price."""
    weights = beyond.root[:, 0].double().square()
    center = weights @ inputs.values
    scale = (weights @ (inputs.values - center).square()).sqrt()
    Z = (inputs.values - center) / scale
    correlation = _Correlation(Z.float(), beyond)
    W, b, mask = _starts(correlation.Z, generator)
    gain, _, _ = correlation(W, b)
    top = (gain - price * mask.sum(0)).argsort(descending=True)[:_REFINED]
    W, b, mask = _ascend(correlation, W[:, top], b[top], mask[:, top])
    gain, outer, _ = correlation(W, b)
    n_edges = mask.sum(0) + 1 + len(outer)
    score = gain - price * n_edges
    W64, b64 = W.double(), b.double()
    found = []
    for k in (score > 0).nonzero().squeeze(1).tolist():
        used = mask[:, k].nonzero().squeeze(1)
        v = W64[used, k] / scale[used]
        found.append(
            _Neuron(
                block,
                {inputs.sources[j]: float(x) for j, x in zip(used.tolist(), v, strict=True)},
                float(b64[k] - v @ center[used]),
                outer[:, k].double(),
                (Z[:, used] @ W64[used, k] + b64[k]).relu(),
                float(score[k]),
            )
        )
    return found


def _starts(Z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return random weights with few inputs each, biases that put the kink at a row, and the mask of the inputs."""
    n, n_inputs = Z.shape
    n_used = torch.tensor(_INPUTS)[torch.randint(len(_INPUTS), (_STARTS,), generator=generator)]
    rank = torch.rand(n_inputs, _STARTS, generator=generator).argsort(0).argsort(0)
    mask = (rank < n_used).float()
    W = torch.randn(n_inputs, _STARTS, generator=generator) * mask
    W = W / W.norm(dim=0)
    rows = torch.randint(n, (_STARTS,), generator=generator)
    return W, -(Z[rows] * W.T).sum(1), mask


def _ascend(correlation: _Correlation, W: Tensor, b: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Improve weights and biases by Adam on the log of the gain; every other neuron takes in one more input."""
    n_steps, rate = _ASCENT
    mask = mask.clone()
    mean = square = torch.zeros(len(W) + 1, len(b))
    some = torch.arange(0, len(b), 2)
    for step in range(1, n_steps + 1):
        _, _, gradient = correlation(W, b)
        if step == n_steps // 3 and len(W) > 1:
            mask[(gradient[:-1].abs() * (mask == 0)).argmax(0)[some], some] = 1.0
        mean = mean.lerp(gradient, 0.1)
        square = square.lerp(gradient.square(), 0.01)
        move = mean / (1 - 0.9**step) / ((square / (1 - 0.99**step)).sqrt() + 1e-8)
        move = move * rate * 0.5 * (1 + math.cos(math.pi * step / n_steps))
        W, b = (W + move[:-1]) * mask, b + move[-1]
        size = W.norm(dim=0).clamp(min=1e-9)
        W, b = W / size, b / size
    return W, b, mask


def _different(neurons: list[_Neuron]) -> list[_Neuron]:
    """Return the best few that are not alike."""
    chosen: list[_Neuron] = []
    directions: list[Tensor] = []
    for neuron in sorted(neurons, key=lambda neuron: -neuron.score):
        h = neuron.activation - neuron.activation.mean()
        h = h / h.norm().clamp(min=1e-12)
        if all(abs(float(h @ other)) < _ALIKE for other in directions):
            chosen.append(neuron)
            directions.append(h)
        if len(chosen) == _TAKEN:
            break
    return chosen


# --- the entry ------------------------------------------------------------------------------------


def _enter(arrays: Arrays, neuron: _Neuron, room: ResidualNetwork) -> bool:
    """Write a neuron into the arrays of a network; return whether there was room."""
    block, n_outputs = neuron.block, arrays["c"].size
    if arrays[f"b{block}"].size >= room.neurons[block]:
        return False
    reads = [_coordinate(arrays, source, block) for source in neuron.weights]
    writes = [_output_coordinate(arrays, output, block) for output in range(n_outputs)]
    n_new = sum(j is None for j in reads) + sum(j is None for j in writes)
    if arrays["e"].size + n_new > room.width:
        return False
    v: dict[int, float] = {}
    u: dict[int, float] = {}
    for source, j, weight in zip(neuron.weights, reads, neuron.weights.values(), strict=True):
        if j is None:
            j = _add_coordinate(arrays)
            name, column = ("E", source[1]) if source[0] == "x" else (f"U{source[1]}", source[-1])
            arrays[name][j, column] = 1.0
        v[j] = v.get(j, 0.0) + weight / (arrays["E"][j, source[1]] if source[0] == "x" else 1.0)
    for output, j in enumerate(writes):
        if j is None:
            j = _add_coordinate(arrays)
            arrays["A"][output, j] = 1.0
        u[j] = float(neuron.outer[output]) / arrays["A"][output, j]
    balance = math.sqrt(max(map(abs, u.values()))) or 1.0  # as much on the way in as on the way out
    incoming, outgoing = np.zeros((1, arrays["e"].size)), np.zeros((arrays["e"].size, 1))
    incoming[0, list(v)] = np.array(list(v.values())) * balance
    outgoing[list(u), 0] = np.array(list(u.values())) / balance
    arrays[f"V{block}"] = np.vstack([arrays[f"V{block}"], incoming])
    arrays[f"b{block}"] = np.append(arrays[f"b{block}"], neuron.bias * balance)
    arrays[f"U{block}"] = np.hstack([arrays[f"U{block}"], outgoing])
    return True


def _coordinate(arrays: Arrays, source: tuple[str, int] | tuple[str, int, int], block: int) -> int | None:
    """Return the stream coordinate that carries a source and nothing else, or None."""
    if source[0] == "a":
        return source[1]
    if source[0] == "h":
        return None  # a coordinate that carried it alone would be the same function, and come first
    alone = (np.count_nonzero(arrays["E"], axis=1) == 1) & (arrays["E"][:, source[1]] != 0) & (arrays["e"] == 0)
    for earlier in range(block):
        alone &= ~arrays[f"U{earlier}"].any(axis=1)
    return int(np.flatnonzero(alone)[0]) if alone.any() else None


def _output_coordinate(arrays: Arrays, output: int, block: int) -> int | None:
    """Return the coordinate that leads to one output and that no later neuron reads, or None."""
    weight = np.abs(arrays["A"][output]) * (np.count_nonzero(arrays["A"], axis=0) == 1)
    for later in range(block + 1, sum(name[0] == "b" for name in arrays)):
        weight = weight * ~arrays[f"V{later}"].any(axis=0)
    return int(weight.argmax()) if weight.any() else None


def _add_coordinate(arrays: Arrays) -> int:
    """Append an empty stream coordinate and return its number."""
    for name, array in arrays.items():
        if name[0] in "EU":
            arrays[name] = np.vstack([array, np.zeros((1, array.shape[1]))])
        elif name[0] in "VA":
            arrays[name] = np.hstack([array, np.zeros((array.shape[0], 1))])
    arrays["e"] = np.append(arrays["e"], 0.0)
    return arrays["e"].size - 1
