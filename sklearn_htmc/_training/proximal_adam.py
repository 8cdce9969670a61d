"""First-order phase: one step of Adam with the proximal operator in Adam's own metric.

Assumptions: the gradient is a stochastic gradient of the data term alone; the penalty is a weighted l1 norm. With the
diagonal metric ``D = diag(sqrt(v) + eps)`` of Adam (Kingma and Ba 2015) the step is

    t <- prox_D( t - rate D^-1 m ),   prox_D: soft-threshold of entry p at  rate * weights_p / D_p

which is the exact proximal step of ``rate * penalty`` in the norm of ``D``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_htmc._training.penalties import WeightedL1

_MOMENTUM = 0.9
_MEMORY = 0.99
_EPSILON = 1e-8


@dataclass(frozen=True, eq=False)
class AdamState:
    """Flat tensors, all of one shape, that a step updates in place.

    Attributes
    ----------
    parameters : Tensor
        What is trained.
    mean, square : Tensor
        Running means of the gradient and of its square.
    """

    parameters: Tensor
    mean: Tensor
    square: Tensor

    @classmethod
    def start(cls, parameters: Tensor) -> AdamState:
        """Return the state before the first step."""
        return cls(parameters, torch.zeros_like(parameters), torch.zeros_like(parameters))


@dataclass(frozen=True, eq=False)
class StepSizes:
    """Zero-dimensional tensors, so that a captured CUDA graph reads new values at every replay.

    Attributes
    ----------
    rate : Tensor
        Step size.
    pressure : Tensor
        Multiple of the penalty that is switched on.
    mean_correction, square_correction : Tensor
        Factors that undo the bias of the running means towards their start at zero.
    """

    rate: Tensor
    pressure: Tensor
    mean_correction: Tensor
    square_correction: Tensor

    @classmethod
    def on(cls, device: torch.device) -> StepSizes:
        """Return zeros on a device."""
        return cls(*(torch.zeros((), device=device) for _ in range(4)))

    def set(self, step: int, rate: float, pressure: float) -> None:
        """Write the values for the step number ``step``, which counts from one."""
        self.rate.fill_(rate)
        self.pressure.fill_(pressure)
        self.mean_correction.fill_(1.0 / (1.0 - _MOMENTUM**step))
        self.square_correction.fill_((1.0 - _MEMORY**step) ** -0.5)


def proximal_adam_step(state: AdamState, gradient: Tensor, penalty: Tensor, sizes: StepSizes) -> None:
    """Take one step in place.

    Parameters
    ----------
    state : AdamState
        Updated in place.
    gradient : Tensor
        Stochastic gradient of the data term.
    penalty : Tensor
        Weight of ``|t_p|`` in the objective, strength included. Infinity keeps a removed edge at zero.
    sizes : StepSizes
        Step size and corrections.
    """
    state.mean.lerp_(gradient, 1.0 - _MOMENTUM)
    state.square.mul_(_MEMORY).addcmul_(gradient, gradient, value=1.0 - _MEMORY)
    metric = state.square.sqrt().mul_(sizes.square_correction).add_(_EPSILON)
    move = torch.div(state.mean, metric).mul_(sizes.rate * sizes.mean_correction)
    state.parameters.sub_(move)
    threshold = torch.div(penalty, metric, out=metric)
    state.parameters.copy_(WeightedL1(threshold).prox(state.parameters, sizes.rate * sizes.pressure))
