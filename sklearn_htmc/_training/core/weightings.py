"""Where the weights of a norm come from: one object for both phases and the certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sklearn_htmc._training.core.architecture import Architecture, Parameters
from sklearn_htmc._training.core.objective import Rows, sensitivities


@dataclass(frozen=True, eq=False)
class Batch:
    """What weights are measured on in the first-order phase.

    Attributes
    ----------
    X, y, weights : Tensor
        Rows of every problem, and their weights with a trailing axis.
    reach : Tensor of shape (n_features,)
        Largest size of every feature.
    directions : Tensor of shape (n_directions, n_outputs)
        Directions whose squared derivatives add up to those of all outputs.
    """

    X: Tensor
    y: Tensor
    weights: Tensor
    reach: Tensor
    directions: Tensor


class Weighting(Protocol):
    """Weights ``omega`` of a norm ``sum_p omega_p |t_p|``."""

    @property
    def reads_rows(self) -> bool:
        """Whether weights are means over rows, which one pass gives together with the loss."""

    def over_rows(self, architecture: Architecture, parameters: Parameters, rows: Rows) -> Parameters:
        """Return the weights of one problem, float64."""

    def squares_on(self, architecture: Architecture, parameters: Parameters, batch: Batch, out: Parameters) -> None:
        """Write squared weights of all problems, as a batch shows them, into ``out``."""


@dataclass(frozen=True)
class Sensitivities:
    """``omega_p = || df/dt_p ||_P``: how far the function moves with the parameter (theory, section 1)."""

    reads_rows: bool = True

    def over_rows(self, architecture: Architecture, parameters: Parameters, rows: Rows) -> Parameters:
        """Return root mean squares over all rows and outputs."""
        return sensitivities(architecture, parameters, rows)

    def squares_on(self, architecture: Architecture, parameters: Parameters, batch: Batch, out: Parameters) -> None:
        """Add up squares over directions in the space of outputs."""
        total = torch.zeros_like(out.flat)
        for direction in batch.directions:
            probes = direction.expand_as(batch.y)
            architecture.sensitivity(parameters.views, batch.X, batch.weights, probes, out.views)
            total.add_(out.flat)
        out.flat.copy_(total)


@dataclass(frozen=True)
class PathBounds:
    """Sums over paths through absolute weights: no more data than the reach of the features, or none at all."""

    reads_rows: bool = False

    def over_rows(self, architecture: Architecture, parameters: Parameters, rows: Rows) -> Parameters:
        """Return the bounds over the range of the rows."""
        squares = parameters.zeros_like()
        architecture.path_bound(parameters.views, rows.reach.double(), squares.views)
        return squares.with_flat(squares.flat.sqrt())

    def squares_on(self, architecture: Architecture, parameters: Parameters, batch: Batch, out: Parameters) -> None:
        """Write the squared bounds."""
        architecture.path_bound(parameters.views, batch.reach, out.views)


SENSITIVITY, PATH = Sensitivities(), PathBounds()
WEIGHTINGS: dict[str, Weighting] = {"sensitivity": SENSITIVITY, "path": PATH}
