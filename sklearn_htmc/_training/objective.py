"""The data term ``L(t) = 1/2 E_P || y - f_t(x) ||^2``: value, gradient and sensitivities over all rows. No penalty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_htmc._training.architecture import Architecture, Parameters
from sklearn_htmc._training.residual import ResidualNetwork

_ROWS = 8192  # rows per chunk of a full pass; bounds the memory


@dataclass(frozen=True, eq=False)
class Rows:
    """Standardised rows and their weights in one problem.

    Attributes
    ----------
    X : Tensor of shape (n_samples, n_features)
        Features.
    y : Tensor of shape (n_samples, n_outputs)
        Targets.
    weights : Tensor of shape (n_samples,)
        Non-negative, sum to one.
    """

    X: Tensor
    y: Tensor
    weights: Tensor

    def chunks(self, size: int = _ROWS) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield ``X, y, weights`` with a leading problem axis, ``weights`` with a trailing one of length one."""
        for start in range(0, len(self.X), size):
            part = slice(start, start + size)
            yield self.X[part][None], self.y[part][None], self.weights[part][None, :, None]


def mean_loss(architecture: Architecture, parameters: Parameters, rows: Rows) -> float:
    """Return the data term of the only problem in ``parameters``."""
    total = 0.0
    for X, y, weights in rows.chunks():
        f, _ = architecture.forward(parameters.views, X)
        total += 0.5 * float(((f - y).square() * weights).sum())
    return total


def loss_and_gradient(architecture: Architecture, parameters: Parameters, rows: Rows) -> tuple[float, Parameters]:
    """Return data term and gradient of the only problem in ``parameters``."""
    total, gradient, part = 0.0, parameters.zeros_like(), parameters.zeros_like()
    for X, y, weights in rows.chunks():
        f, tape = architecture.forward(parameters.views, X)
        r = f - y
        total += 0.5 * float((r.square() * weights).sum())
        architecture.gradient(parameters.views, X, r * weights, tape, part.views)
        gradient.flat.add_(part.flat)
    return total, gradient


def sensitivities(architecture: Architecture, parameters: Parameters, rows: Rows) -> Parameters:
    """Return ``omega_p = || df/dt_p ||_P`` over all rows and outputs, of the only problem."""
    squares, part = parameters.zeros_like(), parameters.zeros_like()
    for X, y, weights in rows.chunks():
        for output in range(architecture.n_outputs):
            probes = torch.zeros_like(y)
            probes[..., output] = 1.0
            architecture.sensitivity(parameters.views, X, weights, probes, part.views)
            squares.flat.add_(part.flat)
    return squares.with_flat(squares.flat.sqrt())


def penalty_weights(architecture: Architecture, parameters: Parameters, rows: Rows, weighting: str) -> Parameters:
    """Return ``omega``: sensitivities over all rows, or the path bound over the range of the rows."""
    if weighting == "sensitivity":
        return sensitivities(architecture, parameters, rows)
    squares = parameters.zeros_like()
    architecture.path_bound(parameters.views, rows.X.abs().amax(0), squares.views)
    return squares.with_flat(squares.flat.sqrt())


def norm_gradient(
    network: ResidualNetwork, parameters: Parameters, rows: Rows, weights: Parameters, weighting: str
) -> Tensor:
    """Return the gradient of the norm of one problem, in which the weights depend on the parameters.

    With squared sensitivities ``S_p``, ``d sum_p sqrt(S_p) |t_p| = sum_p omega_p sign(t_p) dt_p + |t_p| dS_p / (2
    omega_p)``, and the second term is a sum over rows, so chunks of them bound the memory.

    Parameters
    ----------
    network : ResidualNetwork
        The network.
    parameters : Parameters
        Parameters of one problem.
    rows : Rows
        Rows.
    weights : Parameters
        ``omega`` at the parameters.
    weighting : {"sensitivity", "path"}
        Weights of the norm.

    Returns
    -------
    Tensor of shape (n_parameters,)
        The gradient in the orthant of the parameters.
    """
    flat = parameters.flat.detach().clone().requires_grad_(True)
    views = parameters.with_flat(flat).views
    if weighting == "path":
        (gradient,) = torch.autograd.grad(network.path_norm(views, rows.X.abs().amax(0)), flat)
        return gradient
    share = weights.with_flat((0.5 * parameters.flat.abs() / weights.flat).nan_to_num(0.0, 0.0, 0.0))
    total = weights.flat * parameters.flat.sign()
    for X, _, w in rows.chunks(_ROWS // 2):
        squares = network.squared_sensitivities(views, X[0], w[0, :, 0])
        weighted = torch.stack([(share.views[name][0] * square).sum() for name, square in squares.items()])
        (part,) = torch.autograd.grad(weighted.sum(), flat)
        total += part
    return total
