"""Penalties: value, proximal operator, distance to the subdifferential. No data, no step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Penalty(Protocol):
    """A convex function of the parameters, flat or of any shape."""

    def value(self, parameters: Tensor) -> Tensor:
        """Return the value, summed over the last axis."""

    def prox(self, parameters: Tensor, step: Tensor | float) -> Tensor:
        """Return ``argmin_z 1/2 ||z - parameters||^2 + step * value(z)``; ``step`` may differ by entry."""

    def distance(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Return the distance of ``-gradient`` to the subdifferential, per entry."""


@dataclass(frozen=True, eq=False)
class WeightedL1:
    """``sum_p weights_p |t_p|`` with frozen non-negative weights.

    Attributes
    ----------
    weights : Tensor
        One weight per parameter. The ResNet norm has the sensitivities here, times the strength where a strength is
        meant.
    """

    weights: Tensor

    def value(self, parameters: Tensor) -> Tensor:
        """Return ``sum_p weights_p |t_p|`` over the last axis."""
        return (self.weights * parameters.abs()).sum(-1)

    def prox(self, parameters: Tensor, step: Tensor | float) -> Tensor:
        """Return the soft-threshold of every entry at ``step * weights``."""
        return soft_threshold_(parameters.clone(), step * self.weights, torch.empty_like(parameters))

    def distance(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Return ``|g + w sign(t)|`` where ``t`` is not zero, else how much ``|g|`` exceeds ``w``."""
        active = (gradient + self.weights * parameters.sign()).abs()
        return torch.where(parameters != 0, active, (gradient.abs() - self.weights).clamp(min=0.0))


def soft_threshold_(parameters: Tensor, threshold: Tensor, scratch: Tensor) -> Tensor:
    """Move every entry towards zero by its threshold, in place: ``t - clip(t, -threshold, threshold)``.

    Parameters
    ----------
    parameters : Tensor
        Changed and returned.
    threshold : Tensor
        Non-negative, of the same shape; infinity gives an exact zero.
    scratch : Tensor
        Memory of the same shape; on large tensors a new one costs as much as the arithmetic.
    """
    torch.neg(threshold, out=scratch)
    torch.clamp(parameters, scratch, threshold, out=scratch)
    return parameters.sub_(scratch)
