"""What the second-order phase needs to know of a network family: value, slope and curvature of its objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.core.objective import Rows


@dataclass(frozen=True, eq=False)
class Value:
    """Loss, norm and its weights.

    Attributes
    ----------
    loss, norm : float
        ``L(t)`` and ``R(t)``.
    weights : Tensor of shape (n_parameters,)
        What the norm charges for a unit of every parameter; zero for what is free.
    """

    loss: float
    norm: float
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Gradients(Value):
    """The same with first derivatives, in the orthant of the parameters.

    Attributes
    ----------
    gradient, norm_gradient : Tensor of shape (n_parameters,)
        Gradients of loss and norm.
    """

    gradient: Tensor
    norm_gradient: Tensor


@dataclass(frozen=True, eq=False)
class Kinds:
    """Which parameters take part in a step, and how.

    Attributes
    ----------
    active : Tensor of shape (n_parameters,)
        Those that may move.
    penalised : Tensor of shape (n_parameters,)
        Those that have an l1 price: a step ends where they reach zero.
    """

    active: Tensor
    penalised: Tensor


class Calculus(Protocol):
    """Derivatives of the objective of one problem for one family and norm."""

    def value(self, network: Any, parameters: Parameters, rows: Rows) -> Value:
        """Return loss and norm."""

    def differentiate(self, network: Any, parameters: Parameters, rows: Rows) -> Gradients:
        """Return loss and norm with their gradients."""

    def matrix(self, network: Any, parameters: Parameters, rows: Rows, active: Tensor) -> Tensor:
        """Return ``E_P[(df/dt)' (df/dt)]`` over the active parameters, of shape (n_active, n_active)."""

    def bending(self, network: Any, parameters: Parameters, active: Tensor) -> Tensor | None:
        """Return the second derivative of the norm over the active parameters; None where the norm is linear."""

    def kinds(self, network: Any, parameters: Parameters) -> Kinds:
        """Return which parameters may move and which of them stop at zero."""
