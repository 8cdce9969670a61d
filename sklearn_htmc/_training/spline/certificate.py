"""Whether a composition is a minimum: entries that are there and that are not, and neurons that are not.

The solver does not judge itself: nothing here is used by it.
"""

from __future__ import annotations

import numpy as np
import torch

from sklearn_htmc._network import Floats
from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.core.certificate import Certificate
from sklearn_htmc._training.core.objective import Rows, loss_and_gradient
from sklearn_htmc._training.spline.calculus import neuron_sizes, norm, norm_gradient
from sklearn_htmc._training.spline.network import SplineNetwork
from sklearn_htmc._training.spline.neurons import searched

_EFFORT = 4  # of the search where the objective is convex and the certificate global


def certify(
    network: SplineNetwork, parameters: Parameters, rows: Rows, strength: float, generator: torch.Generator | None
) -> Certificate:
    """Measure one problem: entries that are there and that are not, and, with a generator, neurons that are not.

    Parameters
    ----------
    network, parameters : SplineNetwork, Parameters
        The compacted network and its float64 parameters.
    rows : Rows
        Float64 rows.
    strength : float
        Penalty strength.
    generator : torch.Generator or None
        Draws the starts of the search over all neurons; None leaves it out.
    """
    loss, gradient = loss_and_gradient(network, parameters, rows)
    size, slope = norm(network, parameters), norm_gradient(network, parameters)
    violations = [gradient.views["c"].abs().flatten()]
    for layer in range(network.n_layers):
        shared = network.penalty == "multitask"
        for name in (f"V{layer}", f"C{layer}", network.constant(layer)):
            if name == "c" or (name[0] == "C" and not network.skip) or not parameters.views[name].numel():
                continue
            t, g = parameters.views[name][0], gradient.views[name][0]
            violation = torch.where(
                t != 0, (g + strength * slope.views[name][0]).abs(), (g.abs() - strength).clamp(min=0)
            )
            if shared and name[0] == "V":
                violation = (g + strength * slope.views[name][0]).norm(dim=0)
            violations.append(violation.flatten())
    together = torch.cat(violations)
    worst, typical = float(together.max()), float(together.mean()) / strength
    if generator is not None:
        for _, found in searched(network, parameters, rows, generator, _EFFORT if network.n_layers == 1 else 1):
            worst = max(worst, float(found.size.max()) - strength)
    importance = _feature_norms(network, parameters)
    return Certificate(loss, size, loss + strength * size, worst, typical, gradient, slope, importance)


def _feature_norms(network: SplineNetwork, parameters: Parameters) -> Floats:
    """Return the part of the norm of the first layer that reads each feature; ``||w|| = sum_i w_i^2 / ||w||``."""
    W = parameters.views["W0"][0]
    share = W.square() / W.square().sum(1, keepdim=True).clamp(min=1e-300)
    total = neuron_sizes(network, parameters, 0) @ share + parameters.views["C0"][0].abs().sum(0)
    return np.asarray(total.numpy())
