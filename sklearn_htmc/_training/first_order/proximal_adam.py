"""First-order phase: one step of Adam with the proximal operator in Adam's own metric.

Assumptions: the gradient is a stochastic gradient of the data term alone; the penalty is a weighted l1 norm. With the
diagonal metric ``D = diag(sqrt(v) + eps)`` of Adam (Kingma and Ba 2015) the step is

    t <- prox_D( t - rate D^-1 m ),   prox_D: soft-threshold of entry p at  rate * weights_p / D_p

which is the exact proximal step of ``rate * penalty`` in the norm of ``D``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sklearn_htmc._training.core.penalties import soft_threshold_

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
    scratch: tuple[Tensor, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Allocate the memory of a step."""
        object.__setattr__(self, "scratch", (torch.empty_like(self.parameters), torch.empty_like(self.parameters)))

    @classmethod
    def start(cls, parameters: Tensor) -> AdamState:
        """Return the state before the first step."""
        return cls(parameters, torch.zeros_like(parameters), torch.zeros_like(parameters))


@dataclass(frozen=True, eq=False)
class StepSizes:
    """Zero-dimensional tensors, so that a captured CUDA graph reads new values at every replay.

    Attributes
    ----------
    slope, floor : Tensor
        ``D / (rate * correction of the mean) = slope * sqrt(square) + floor``.
    pressure : Tensor
        Multiple of the penalty that is switched on, over the correction of the mean.
    """

    slope: Tensor
    floor: Tensor
    pressure: Tensor

    @classmethod
    def on(cls, device: torch.device) -> StepSizes:
        """Return zeros on a device."""
        return cls(*(torch.zeros((), device=device) for _ in range(3)))

    def set(self, step: int, before: int, rate: float, pressure: float) -> None:
        """Write the values for the step number ``step``, which counts from one, with a positive step size.

        The squares remember ``before`` steps more, of earlier calls.

        The corrections undo the bias of the running means towards their start at zero.
        """
        mean_correction = 1.0 / (1.0 - _MOMENTUM**step)
        self.slope.fill_((1.0 - _MEMORY ** (before + step)) ** -0.5 / (rate * mean_correction))
        self.floor.fill_(_EPSILON / (rate * mean_correction))
        self.pressure.fill_(pressure / mean_correction)


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
    metric, scratch = state.scratch
    state.mean.lerp_(gradient, 1.0 - _MOMENTUM)
    state.square.mul_(_MEMORY).addcmul_(gradient, gradient, value=1.0 - _MEMORY)
    torch.sqrt(state.square, out=metric).mul_(sizes.slope).add_(sizes.floor)
    state.parameters.addcdiv_(state.mean, metric, value=-1.0)
    threshold = torch.div(penalty, metric, out=metric).mul_(sizes.pressure)
    soft_threshold_(state.parameters, threshold, scratch)
