"""What a network family must offer to the core, and the flat tensor its parameters live in.

Axis 0 of everything is the *problem*: one (strength, seed, sample weights) triple. The parameters of a batch of
problems are one flat tensor, so that an update is a handful of fused operations; inside it every matrix of the
network is one contiguous stretch ``(n_problems, *shape)``, because batched products are a third slower on strided ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sklearn_htmc._network import Floats, SparseNetwork

Arrays = dict[str, Floats]  # parameters of one problem by name
Shapes = Mapping[str, tuple[int, ...]]
Views = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Parameters:
    """Parameters (or gradients, or weights) of a batch of problems: one flat tensor and views into it.

    Attributes
    ----------
    flat : Tensor of shape (n_problems * n_parameters,)
        All numbers.
    views : dict of str to Tensor of shape (n_problems, *shape)
        The matrices and vectors by name; each is a contiguous part of ``flat``.
    """

    flat: Tensor
    views: Views

    @classmethod
    def zeros(
        cls,
        shapes: Shapes,
        n_problems: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Parameters:
        """Return all-zero parameters."""
        size = sum(math.prod(shape) for shape in shapes.values())
        return cls.of(torch.zeros(n_problems * size, dtype=dtype, device=device), shapes, n_problems)

    @classmethod
    def of(cls, flat: Tensor, shapes: Shapes, n_problems: int) -> Parameters:
        """Wrap an existing flat tensor."""
        views, start = {}, 0
        for name, shape in shapes.items():
            stop = start + n_problems * math.prod(shape)
            views[name] = flat[start:stop].view(n_problems, *shape)
            start = stop
        return cls(flat, views)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every view without the problem axis."""
        return {name: tuple(view.shape[1:]) for name, view in self.views.items()}

    @property
    def n_problems(self) -> int:
        """Length of the problem axis."""
        return next(iter(self.views.values())).shape[0]

    def zeros_like(self) -> Parameters:
        """Return all-zero parameters of the same layout, type and device."""
        return self.with_flat(torch.zeros_like(self.flat))

    def with_flat(self, flat: Tensor) -> Parameters:
        """Return the same layout over another flat tensor."""
        return Parameters.of(flat, self.shapes, self.n_problems)

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Parameters:
        """Return a copy of another type, perhaps on another device."""
        return self.with_flat(self.flat.to(dtype=dtype, device=device, copy=True))

    def rows(self) -> Tensor:
        """Return a copy of shape (n_problems, n_parameters), in the order of the names."""
        return torch.cat([view.flatten(1) for view in self.views.values()], dim=1)

    def fill_rows(self, rows: Tensor) -> None:
        """Write what `rows` returned, changed perhaps, back."""
        start = 0
        for view in self.views.values():
            size = math.prod(view.shape[1:])
            view.copy_(rows[:, start : start + size].view_as(view))
            start += size

    def spread(self, values: Tensor) -> Tensor:
        """Repeat one value per problem, of shape (n_problems,), over all its parameters; flat like `flat`."""
        return torch.cat([values.repeat_interleave(math.prod(view.shape[1:])) for view in self.views.values()])

    def select(self, problems: Tensor) -> Parameters:
        """Return a copy that holds the named problems only."""
        flat = torch.cat([view[problems].flatten() for view in self.views.values()])
        return Parameters.of(flat, self.shapes, len(problems))


class Architecture(Protocol):
    """A batched network family. Arrays are (n_problems, n_samples, ...) unless said otherwise."""

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters; the free output constant is called ``c``."""

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Names of the parameters that are not removed for being small; ``c`` is one of them."""

    @property
    def outgoing(self) -> tuple[str, ...]:
        """Names of the matrices that lead out of units: where all of them are zero the function is constant."""

    @property
    def readout(self) -> tuple[str, ...]:
        """Names of the matrices of which the outputs, less ``c``, are linear functions."""

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Inner widths that training brings the network down to, one after the other."""

    def initial(self, seeds: list[int]) -> Parameters:
        """Return random initial parameters, problem ``i`` from ``seeds[i]`` alone."""

    def forward(self, parameters: Views, X: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return outputs and whatever the backward pass needs."""

    def gradient(self, parameters: Views, X: Tensor, residual: Tensor, tape: list[Tensor], out: Views) -> None:
        """Write ``sum_i residual_i df(x_i)/dt`` into ``out``."""

    def sensitivity(self, parameters: Views, X: Tensor, weights: Tensor, probes: Tensor, out: Views) -> None:
        """Write the squared sensitivities into ``out``; see `residual.ResidualNetwork.sensitivity`."""

    def path_bound(self, parameters: Views, reach: Tensor, out: Views) -> None:
        """Write squared weights of the norm that do not depend on data, beyond the range of the features, into ``out``.

        For residual networks they bound the squared sensitivities.
        """

    def tangent(self, parameters: Views, gradient: Views) -> None:
        """Project a gradient, in place, to the directions in which the parameters may move."""

    def retract(self, parameters: Views) -> None:
        """Put parameters that have moved, in place, back to where the family is normalised."""

    def condense(self, ranks: tuple[int, ...], parameters: Views, squares: Views, X: Tensor, weights: Tensor) -> None:
        """Bring inner widths down in place; see `spline.SplineNetwork.condense`."""

    def is_constant(self, parameters: Views) -> Tensor:
        """Return which problems have a constant function, of shape (n_problems,)."""

    def compact(self, parameters: Views, problem: int) -> tuple[Architecture, Parameters]:
        """Return one problem as a smaller network of the same function and its float64 parameters."""

    def embed(self, arrays: Arrays, into: Parameters, problem: int = 0) -> Parameters:
        """Write the arrays of a network that is not larger into the leading units of ``into``; return ``into``."""

    def arrays_of(self, network: SparseNetwork) -> Arrays | None:
        """Return a network in standardised units as arrays by name, or None where it does not fit."""

    def to_network(self, parameters: Views, problem: int, input_range: Floats) -> SparseNetwork:
        """Return one problem as a compacted network in standardised units."""


def through_relu(gradient: Tensor, output: Tensor) -> Tensor:
    """Zero the gradient where the ReLU is off."""
    return torch.ops.aten.threshold_backward(gradient, output, 0)  # type: ignore[no-any-return]
