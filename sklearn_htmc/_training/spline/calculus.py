"""Norm and derivatives of compositions of shallow networks for the second-order phase; see `calculus.Calculus`.

With ``g = df/dh^l`` the columns of the Jacobian are products: ``g_j rho_k`` for V_jk, ``g_j h_i`` for C_ji, ``g_j`` for
c_j, and for the hyperplanes ``(g.v_k) drho_k/dw_ki`` and ``(g.v_k) drho_k/db_k``, where

    drho_k/dw_ki = (1[w_k.h > b_k] - 1[w_ki > b_k]) h_i,
    drho_k/db_k  = 1[b_k < 0] - 1[w_k.h > b_k] + sum_i (1[w_ki > b_k] - 1[b_k < 0]) h_i.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.core.calculus import Gradients, Kinds, Value
from sklearn_htmc._training.core.objective import Rows, loss_and_gradient, mean_loss
from sklearn_htmc._training.spline.network import SplineNetwork

_CHUNK_ENTRIES = 4_000_000  # of the Jacobian held at a time
_EXACT = 200  # parameters; a damped step of more of them does not feel single precision


@dataclass(frozen=True)
class SplineCalculus:
    """Derivatives for the norms of compositions.

    Attributes
    ----------
    moving : bool
        Whether hyperplanes move; if not, the objective of a single shallow network is convex.
    """

    moving: bool = True

    def value(self, network: SplineNetwork, parameters: Parameters, rows: Rows) -> Value:
        """Return loss and norm."""
        loss = mean_loss(network, parameters, rows)
        return Value(loss, norm(network, parameters), torch.zeros_like(parameters.flat))

    def differentiate(self, network: SplineNetwork, parameters: Parameters, rows: Rows) -> Gradients:
        """Return loss and norm with their gradients."""
        loss, gradient = loss_and_gradient(network, parameters, rows)
        slope = norm_gradient(network, parameters)
        return Gradients(loss, norm(network, parameters), torch.zeros_like(parameters.flat), gradient.flat, slope.flat)

    def kinds(self, network: SplineNetwork, parameters: Parameters) -> Kinds:
        """Return the nonzero parameters that may move; entries of V, C and inner c stop at zero where they pay l1."""
        active = parameters.with_flat(parameters.flat != 0)
        penalised = parameters.with_flat(torch.ones_like(active.flat))
        for name in network.unpriced:
            penalised.views[name].fill_(False)
            active.views[name].fill_(self.moving)
        active.views["c"].fill_(True)
        for layer in range(network.n_layers):
            dead = ~parameters.views[f"V{layer}"][0].any(0)
            active.views[f"W{layer}"][0, dead] = False
            active.views[f"b{layer}"][0, dead] = False
            if network.penalty == "multitask":
                penalised.views[f"V{layer}"].fill_(False)
                active.views[f"V{layer}"][0, :, ~dead] = True
        return Kinds(active.flat, penalised.flat)

    def matrix(self, network: SplineNetwork, parameters: Parameters, rows: Rows, active: Tensor) -> Tensor:
        """Return the Gauss-Newton matrix of the data term."""
        n_active = int(active.sum())
        mark = parameters.with_flat(active)
        where = {name: view[0].nonzero(as_tuple=True) for name, view in mark.views.items()}
        total = torch.zeros(n_active, n_active, dtype=torch.float64 if n_active <= _EXACT else torch.float32)
        for X, _, w in rows.parts(max(64, _CHUNK_ENTRIES // max(1, n_active))):
            root = w.sqrt()[:, None]
            for slopes in output_slopes(network, parameters, X):
                J = _jacobian(network, parameters, slopes, where).mul_(root).to(total.dtype)
                total.addmm_(J.T, J)
        return total.double()

    def bending(self, network: SplineNetwork, parameters: Parameters, active: Tensor) -> Tensor | None:
        """Return ``||w|| (I - v v' / ||v||^2) / ||v||`` for neurons that are shared by outputs."""
        if network.penalty != "multitask" or network.n_layers > 1:
            return None
        position = torch.full_like(parameters.flat, -1, dtype=torch.long)
        position[active] = torch.arange(int(active.sum()))
        index = parameters.with_flat(position).views["V0"][0]  # (n_out, n_neurons)
        V, size = parameters.views["V0"][0], parameters.views["W0"][0].norm(dim=1)
        total = torch.zeros(int(active.sum()), int(active.sum()), dtype=torch.float64)
        for k in (index >= 0).all(0).nonzero().squeeze(1).tolist():
            length = V[:, k].norm().clamp(min=1e-12)
            u = V[:, k] / length
            total[index[:, k][:, None], index[:, k]] = size[k] / length * (torch.eye(len(u)) - torch.outer(u, u))
        return total


def norm(network: SplineNetwork, parameters: Parameters) -> float:
    """Return the sum over the layers of neurons and affine parts, the last constant left out."""
    total = 0.0
    for layer in range(network.n_layers):
        total += float((neuron_sizes(network, parameters, layer)).sum())
        total += float(parameters.views[f"C{layer}"].abs().sum())
        if layer < network.n_layers - 1:
            total += float(parameters.views[network.constant(layer)].abs().sum())
    return total


def neuron_sizes(network: SplineNetwork, parameters: Parameters, layer: int) -> Tensor:
    """Return what every neuron of a layer pays: ``||v_k||_1 ||w_k||_2``, or ``||v_k||_2 ||w_k||_2``."""
    V, W = parameters.views[f"V{layer}"][0], parameters.views[f"W{layer}"][0]
    order = 2 if network.penalty == "multitask" else 1
    sizes: Tensor = torch.linalg.vector_norm(V, order, dim=0) * W.norm(dim=1)
    return sizes


def norm_gradient(network: SplineNetwork, parameters: Parameters) -> Parameters:
    """Return the gradient of the norm in the orthant of the parameters."""
    out = parameters.with_flat(parameters.flat.sign())
    for layer in range(network.n_layers):
        V, W = parameters.views[f"V{layer}"][0], parameters.views[f"W{layer}"][0]
        size = W.norm(dim=1)
        if network.penalty == "multitask":
            length = V.norm(dim=0)
            out.views[f"V{layer}"][0] = V / length.clamp(min=1e-300) * size
        else:
            length = V.abs().sum(0)
            out.views[f"V{layer}"][0] = V.sign() * size
        out.views[f"W{layer}"][0] = W * (length / size.clamp(min=1e-300))[:, None]
        out.views[f"b{layer}"].zero_()
    out.views["c"].zero_()
    return out


@dataclass(frozen=True, eq=False)
class LayerSlopes:
    """One layer on some rows.

    Attributes
    ----------
    h : Tensor of shape (n_samples, width)
        What it reads.
    a : Tensor of shape (n_samples, n_neurons)
        Plain neurons.
    S, s : Tensor of shape (n_neurons, width) and (n_neurons,)
        Their affine interpolants.
    g : Tensor of shape (n_samples, n_out)
        Derivative of one output with respect to what it writes.
    """

    h: Tensor
    a: Tensor
    S: Tensor
    s: Tensor
    g: Tensor

    @property
    def reduced(self) -> Tensor:
        """Reduced neurons, of shape (n_samples, n_neurons)."""
        return self.a - self.s - self.h @ self.S.T


def output_slopes(network: SplineNetwork, parameters: Parameters, X: Tensor) -> Iterator[list[LayerSlopes]]:
    """Yield, for every output, the layers with its derivatives."""
    f, tape = network.forward(parameters.views, X[None])
    for output in range(network.n_outputs):
        g = torch.zeros_like(f[0])
        g[:, output] = 1.0
        yield backward(network, parameters, tape, g)


def backward(network: SplineNetwork, parameters: Parameters, tape: list[Tensor], g: Tensor) -> list[LayerSlopes]:
    """Return the layers with the derivatives of ``sum_j g_j f_j`` at every row."""
    layers = []
    for layer, slope, _ in network.slopes(parameters.views, tape, g[None]):
        h, a, S, s = (part[0] for part in tape[5 * layer : 5 * layer + 4])
        layers.append(LayerSlopes(h, a, S, s, slope[0]))
    return layers[::-1]


def _jacobian(
    network: SplineNetwork, parameters: Parameters, layers: list[LayerSlopes], where: dict[str, tuple[Tensor, ...]]
) -> Tensor:
    """Return the derivatives of one output with respect to the named entries, of shape (n_samples, n_entries)."""
    columns = []
    for layer, at in enumerate(layers):
        W, b, V = (parameters.views[f"{kind}{layer}"][0] for kind in "WbV")
        on, flow = (at.a > 0).to(at.h.dtype), at.g @ V
        corner = (b[:, None] < W).to(at.h.dtype) * network.skip
        origin = (b < 0).to(at.h.dtype) * network.skip
        k, i = where[f"W{layer}"]
        columns.append(flow[:, k] * at.h[:, i] * (on[:, k] - corner[k, i]))
        (k,) = where[f"b{layer}"]
        slope = origin[k] - on[:, k] + at.h @ corner[k].T - at.h.sum(1, keepdim=True) * origin[k]
        columns.append(flow[:, k] * slope)
        j, k = where[f"V{layer}"]
        columns.append(at.g[:, j] * at.reduced[:, k])
        j, i = where[f"C{layer}"]
        columns.append(at.g[:, j] * at.h[:, i])
        (j,) = where[network.constant(layer)]
        columns.append(at.g[:, j])
    return torch.cat(columns, dim=1)
