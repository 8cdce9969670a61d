"""What the second-order phase needs to know of one problem at one point, from one pass over the rows.

Loss, sensitivities, both gradients and the Jacobian all consist of the same two families of numbers: the activation
``a_u(x)`` at the source of an edge and the derivative ``g_v(x)`` of an output at its target. With squared
sensitivities ``S_p = E_P[sum_j a_u^2 g_vj^2]`` the norm is ``sum_p sqrt(S_p) |t_p|``, and its gradient

    omega_p sign(t_p) + d/dt_p sum_s share_s S_s,    share_s = |t_s| / (2 omega_s) held fixed,

needs the adjoints of both families: those of the derivatives run up the network, those of the activations down.

Everything is a sum over rows: parts of it are computed in the type of the rows, some rows at a time, and added up and
returned in float64. No array with more than a chunk of rows is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_htmc._training.core.architecture import Parameters, through_relu
from sklearn_htmc._training.core.calculus import Gradients, Kinds, Value
from sklearn_htmc._training.core.objective import Rows
from sklearn_htmc._training.core.penalties import WeightedL1
from sklearn_htmc._training.core.weightings import Weighting
from sklearn_htmc._training.residual.network import ResidualNetwork

Matrices = dict[str, Tensor]  # one problem by name, without the problem axis
_CHUNK_ENTRIES = 4_000_000  # of the Jacobian held at a time


@dataclass(frozen=True)
class ResidualCalculus:
    """Derivatives for residual networks and the ResNet norm.

    Attributes
    ----------
    weighting : Weighting
        Weights of the norm.
    """

    weighting: Weighting

    def value(self, network: ResidualNetwork, parameters: Parameters, rows: Rows) -> Value:
        """Return loss and norm."""
        return value(network, parameters, rows, self.weighting)

    def differentiate(self, network: ResidualNetwork, parameters: Parameters, rows: Rows) -> Gradients:
        """Return loss and norm with their gradients."""
        return differentiate(network, parameters, rows, self.weighting)

    def matrix(self, network: ResidualNetwork, parameters: Parameters, rows: Rows, active: Tensor) -> Tensor:
        """Return the Gauss-Newton matrix of the data term."""
        return gauss_newton_matrix(network, parameters, rows, active)

    def bending(self, network: ResidualNetwork, parameters: Parameters, active: Tensor) -> Tensor | None:
        """Return None: the curvature of the ResNet norm is left to the damping."""
        return None

    def kinds(self, network: ResidualNetwork, parameters: Parameters) -> Kinds:
        """Return the nonzero edges, which stop at zero, and the free constant, which does not."""
        free = parameters.with_flat(torch.zeros_like(parameters.flat, dtype=torch.bool))
        free.views["c"].fill_(True)
        return Kinds((parameters.flat != 0) | free.flat, ~free.flat)


class Tape(NamedTuple):
    """Activations of some rows: features, stream ``a^0 .. a^L``, neurons ``h^1 .. h^L``, outputs; (n_rows, ...)."""

    X: Tensor
    stream: list[Tensor]
    neurons: list[Tensor]
    outputs: Tensor


class Slopes(NamedTuple):
    """Derivatives of one output at the stream and at the neurons, aligned with the tape."""

    stream: list[Tensor]
    neurons: list[Tensor]


def matrices(parameters: Parameters) -> Matrices:
    """Return the only problem by name."""
    return {name: view[0] for name, view in parameters.views.items()}


def forward(t: Matrices, X: Tensor, n_blocks: int) -> Tape:
    """Evaluate the network on rows."""
    a = torch.addmm(t["e"], X, t["E"].T)
    stream, neurons = [a], []
    for block in range(n_blocks):
        h = torch.addmm(t[f"b{block}"], a, t[f"V{block}"].T).relu_()
        a = torch.addmm(a, h, t[f"U{block}"].T)
        neurons.append(h)
        stream.append(a)
    return Tape(X, stream, neurons, torch.addmm(t["c"], a, t["A"].T))


def backward(t: Matrices, tape: Tape, output: int) -> Slopes:
    """Differentiate one output with respect to every unit."""
    g = t["A"][output].repeat(len(tape.X), 1)
    stream, neurons = [g], []
    for block in reversed(range(len(tape.neurons))):
        z = through_relu(g @ t[f"U{block}"], tape.neurons[block])
        g = torch.addmm(g, z, t[f"V{block}"])
        neurons.append(z)
        stream.append(g)
    return Slopes(stream[::-1], neurons[::-1])


def value(network: ResidualNetwork, parameters: Parameters, rows: Rows, weighting: Weighting) -> Value:
    """Return loss and norm; the arguments are those of `differentiate`."""
    parameters = _in_type_of(rows, parameters)
    t = matrices(parameters)
    loss, squares = 0.0, _Sum(parameters)
    for tape, y, w in _tapes(network, t, rows):
        loss += _loss(tape, y, w)
        if weighting.reads_rows:
            for output in range(network.n_outputs):
                _add_squares(squares.part, tape, backward(t, tape, output), w, output)
            squares.add()
    return _valued(network, parameters, rows, weighting, loss, squares)


def differentiate(network: ResidualNetwork, parameters: Parameters, rows: Rows, weighting: Weighting) -> Gradients:
    """Return loss and norm with their gradients.

    Parameters
    ----------
    network : ResidualNetwork
        The network.
    parameters : Parameters
        Float64 parameters of one problem.
    rows : Rows
        Rows.
    weighting : Weighting
        Weights of the norm.
    """
    parameters = _in_type_of(rows, parameters)
    t = matrices(parameters)
    tapes: Sequence[tuple[Tape, Tensor, Tensor]] | None = None
    if len(rows.X) <= rows.chunk_size:
        tapes = list(_tapes(network, t, rows))  # small enough to be kept for the second round
    loss, squares, gradient = 0.0, _Sum(parameters), _Sum(parameters)
    for tape, y, w in tapes or _tapes(network, t, rows):
        loss += _loss(tape, y, w)
        for output in range(network.n_outputs):
            slopes = backward(t, tape, output)
            residual = w * (tape.outputs[:, output] - y[:, output])
            _add_gradient(gradient.part, tape, slopes, residual, output)
            if weighting.reads_rows:
                _add_squares(squares.part, tape, slopes, w, output)
        squares.add()
        gradient.add()
    at = _valued(network, parameters, rows, weighting, loss, squares)
    if not weighting.reads_rows:
        slope = _path_gradient(network, parameters, rows)
    else:
        weights = at.weights.to(parameters.flat.dtype)
        share = matrices(parameters.with_flat((0.5 * parameters.flat.abs() / weights).nan_to_num(0.0, 0.0, 0.0)))
        total = _Sum(parameters)
        for tape, _, w in tapes or _tapes(network, t, rows):
            for output in range(network.n_outputs):
                _add_adjoint(total.part, t, share, tape, backward(t, tape, output), w[:, None], output)
            total.add()
        slope = total.whole.flat.to(weights.dtype).addcmul_(weights, parameters.flat.sign())
    return Gradients(at.loss, at.norm, at.weights, gradient.whole.flat, slope.double())


def gauss_newton_matrix(network: ResidualNetwork, parameters: Parameters, rows: Rows, active: Tensor) -> Tensor:
    """Return ``E_P[(df/dt)' (df/dt)]`` over the active parameters, of shape (n_active, n_active).

    Chunks of rows are multiplied in float32, which a damped step does not feel, and added up in float64.
    """
    parameters = _in_type_of(rows, parameters)
    n_active = int(active.sum())
    total = torch.zeros(n_active, n_active, dtype=torch.float64)
    where = _entries(matrices(parameters.with_flat(active)))
    t = matrices(parameters)
    for X, _, w in rows.parts(max(64, _CHUNK_ENTRIES // max(1, n_active))):
        tape, root = forward(t, X, network.n_blocks), w.sqrt().float()
        part = torch.zeros(n_active, n_active, dtype=torch.float32)
        for output in range(network.n_outputs):
            J = _jacobian(tape, backward(t, tape, output), where, output).mul_(root[:, None])
            part.addmm_(J.T, J)
        total += part
    return total


def jacobian(network: ResidualNetwork, parameters: Parameters, rows: Rows) -> Tensor:
    """Return the derivatives of the only output with respect to the nonzero parameters and the free constant.

    Of shape (n_samples, n_active), in float32.
    """
    t = matrices(_in_type_of(rows, parameters))
    where = _entries(t | {"c": torch.ones_like(t["c"])})
    tape = forward(t, rows.X, network.n_blocks)
    return _jacobian(tape, backward(t, tape, 0), where, 0)


def _entries(t: Matrices) -> dict[str, tuple[Tensor, ...]]:
    """Return the indices of the nonzero entries by name."""
    return {name: matrix.nonzero(as_tuple=True) for name, matrix in t.items()}


def _in_type_of(rows: Rows, parameters: Parameters) -> Parameters:
    return parameters if parameters.flat.dtype == rows.X.dtype else parameters.to(rows.X.dtype)


def _jacobian(tape: Tape, slopes: Slopes, where: dict[str, tuple[Tensor, ...]], output: int) -> Tensor:
    """Return the derivatives of one output with respect to the named entries, of shape (n_rows, n_entries)."""
    probe = torch.zeros(len(tape.X), tape.outputs.shape[1])
    probe[:, output] = 1.0
    factors = {name: (target, source) for name, target, source in _edges(tape, slopes)}
    factors |= {"A": (probe, tape.stream[-1]), "c": (probe, None)}
    columns = []
    for name, index in where.items():
        target, source = factors[name]
        column = target.float()[:, index[0]]
        columns.append(column if source is None else column.mul_(source.float()[:, index[1]]))
    return torch.cat(columns, dim=1)


def _edges(tape: Tape, slopes: Slopes) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Yield name, derivative at the targets and activation of the sources of all matrices below the readout."""
    yield "E", slopes.stream[0], tape.X
    yield "e", slopes.stream[0], None
    for block, h in enumerate(tape.neurons):
        yield f"V{block}", slopes.neurons[block], tape.stream[block]
        yield f"b{block}", slopes.neurons[block], None
        yield f"U{block}", slopes.stream[block + 1], h


class _Sum:
    """Sum of arrays of the shape of the parameters, of which that of a chunk of rows is in the type of the rows."""

    def __init__(self, parameters: Parameters) -> None:
        self.part = parameters.zeros_like()
        self.whole = self.part.to(torch.float64)

    def add(self) -> None:
        """Add the part, and start the next one."""
        self.whole.flat.add_(self.part.flat)
        self.part.flat.zero_()


def _tapes(network: ResidualNetwork, t: Matrices, rows: Rows) -> Iterator[tuple[Tape, Tensor, Tensor]]:
    for X, y, w in rows.parts(rows.chunk_size):
        yield forward(t, X, network.n_blocks), y, w


def _loss(tape: Tape, y: Tensor, w: Tensor) -> float:
    return 0.5 * float((tape.outputs - y).square().sum(1).double() @ w.double())


def _valued(
    network: ResidualNetwork, parameters: Parameters, rows: Rows, weighting: Weighting, loss: float, squares: _Sum
) -> Value:
    if not weighting.reads_rows:
        network.path_bound(parameters.views, rows.reach, squares.part.views)
        squares.add()
    weights = squares.whole.flat.sqrt()
    return Value(loss, float(WeightedL1(weights).value(parameters.flat)), weights)


def _add_gradient(total: Parameters, tape: Tape, slopes: Slopes, residual: Tensor, output: int) -> None:
    """Add ``sum_i residual_i df(x_i)/dt``."""
    for name, target, source in _edges(tape, slopes):
        if source is None:
            total.views[name][0].addmv_(target.T, residual)
        else:
            total.views[name][0].addmm_((target * residual[:, None]).T, source)
    total.views["A"][0, output] += residual @ tape.stream[-1]
    total.views["c"][0, output] += residual.sum()


def _add_squares(total: Parameters, tape: Tape, slopes: Slopes, w: Tensor, output: int) -> None:
    """Add the squared sensitivities of one output."""
    for name, target, source in _edges(tape, slopes):
        if source is None:
            total.views[name][0].addmv_(target.square().T, w)
        else:
            total.views[name][0].addmm_((target.square() * w[:, None]).T, source.square())
    total.views["A"][0, output] += w @ tape.stream[-1].square()


def _add_adjoint(
    total: Parameters, t: Matrices, share: Matrices, tape: Tape, slopes: Slopes, w: Tensor, output: int
) -> None:
    """Add the gradient of ``sum_s share_s S_s`` for one output; ``w`` is of shape (n_rows, 1)."""
    out, n_blocks = matrices(total), len(tape.neurons)
    h, a, z, g = tape.neurons, tape.stream, slopes.neurons, slopes.stream
    up = 2.0 * w * g[0] * torch.addmm(share["e"], tape.X.square(), share["E"].T)  # adjoint of g
    for block in range(n_blocks):
        V, U = f"V{block}", f"U{block}"
        out[V].addmm_(z[block].T, up)
        at_neurons = 2.0 * w * z[block] * torch.addmm(share[f"b{block}"], a[block].square(), share[V].T)
        at_neurons = through_relu(at_neurons.addmm_(up, t[V].T), h[block])
        out[U].addmm_(g[block + 1].T, at_neurons)
        up = torch.addmm(up, at_neurons, t[U].T).addcmul_(w * g[block + 1], h[block].square() @ share[U].T, value=2.0)
    out["A"][output] += up.sum(0)
    down = 2.0 * w * a[-1] * share["A"][output]  # adjoint of a
    for block in reversed(range(n_blocks)):
        V, U = f"V{block}", f"U{block}"
        out[U].addmm_(down.T, h[block])
        at_neurons = 2.0 * w * h[block] * (g[block + 1].square() @ share[U])
        at_neurons = through_relu(at_neurons.addmm_(down, t[U]), h[block])
        out[V].addmm_(at_neurons.T, a[block])
        out[f"b{block}"] += at_neurons.sum(0)
        down = torch.addmm(down, at_neurons, t[V]).addcmul_(w * a[block], z[block].square() @ share[V], value=2.0)
    out["E"].addmm_(down.T, tape.X)
    out["e"] += down.sum(0)


def _path_gradient(network: ResidualNetwork, parameters: Parameters, rows: Rows) -> Tensor:
    flat = parameters.flat.detach().clone().requires_grad_(True)
    norm = network.path_norm(parameters.with_flat(flat).views, rows.reach)
    (gradient,) = torch.autograd.grad(norm, flat)
    return gradient
