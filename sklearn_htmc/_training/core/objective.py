"""The data term ``L(t) = 1/2 E_P || y - f_t(x) ||^2``: value, gradient and sensitivities over all rows. No penalty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_htmc._training.core.architecture import Architecture, Parameters

_ROWS = 8192  # rows per chunk of a full pass; bounds the memory


@dataclass(frozen=True, eq=False)
class Rows:
    """Standardised rows and their weights in one problem.

    Attributes
    ----------
    X : Tensor of shape (n_samples, n_features)
        Features, in double or single precision.
    y : Tensor of shape (n_samples, n_outputs)
        Targets, of the type of `X`.
    weights : Tensor of shape (n_samples,)
        Non-negative, sum to one.
    """

    X: Tensor
    y: Tensor
    weights: Tensor

    @property
    def chunk_size(self) -> int:
        """Rows of a chunk of a full pass."""
        return _ROWS

    def parts(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield ``X, y, weights`` of consecutive rows, all of the type of `X`."""
        for start in range(0, len(self.X), size):
            part = slice(start, start + size)
            yield self.X[part], self.y[part], self.weights[part].to(self.X.dtype)

    @property
    def reach(self) -> Tensor:
        """Largest absolute value of every feature, of shape (n_features,)."""
        return torch.maximum(self.X.amax(0), -self.X.amin(0))

    def thinned(self, n_rows: int) -> Rows:
        """Return all rows, or that many evenly spread ones where there are more."""
        if len(self.X) <= n_rows:
            return self
        chosen = torch.linspace(0, len(self.X) - 1, n_rows).long()
        weights = self.weights[chosen]
        return Rows(self.X[chosen], self.y[chosen], weights / weights.sum())

    def single(self) -> Rows:
        """Return the rows in single precision."""
        return Rows(self.X.float(), self.y.float(), self.weights.float())

    def chunks(self, size: int = _ROWS) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield double ``X, y, weights`` with a leading problem axis, ``weights`` with a trailing one of length one."""
        for start in range(0, len(self.X), size):
            part = slice(start, start + size)
            yield self.X[part][None].double(), self.y[part][None].double(), self.weights[part][None, :, None].double()


def mean_loss(architecture: Architecture, parameters: Parameters, rows: Rows) -> float:
    """Return the data term of the only problem in ``parameters``."""
    total = 0.0
    for X, y, weights in rows.chunks():
        f, _ = architecture.forward(parameters.views, X)
        total += 0.5 * float(((f - y).square() * weights).sum())
    return total


def mean_squares(architecture: Architecture, parameters: Parameters, rows: Rows) -> Tensor:
    """Return the mean squared error of every output of the only problem, of shape (n_outputs,)."""
    total = torch.zeros(architecture.n_outputs, dtype=torch.float64)
    for X, y, weights in rows.chunks():
        f, _ = architecture.forward(parameters.views, X)
        total += ((f - y).square() * weights).sum((0, 1))
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
