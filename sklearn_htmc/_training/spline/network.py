"""Compositions of shallow ReLU networks with linear parts, batched over problems (Parhi and Nowak 2021).

    h^l = V^l rho(h^(l-1)) + C^l h^(l-1) + c^l,   l = 1..L,   h^0 = x,   f = h^L

The neurons are *reduced*: each is a ReLU less its affine interpolant at 0, e_1, ..., e_d,

    rho_k(h) = relu(w_k.h - b_k) - s_k - S_k.h,   s_k = relu(-b_k),   S_kj = relu(w_kj - b_k) - s_k,

so that C and c are ``f_l(e_j) - f_l(0)`` and ``f_l(0)``, the coordinates in which the affine part pays. A reduced
neuron is the same for (w, b) and (-w, -b). Without skip connections neurons are plain and C is zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from sklearn_htmc._network import Block, Floats, SparseNetwork
from sklearn_htmc._training.core.architecture import Arrays, Parameters, Views, through_relu

_SAME = 1e-9  # distance of two hyperplanes that are one
_FLAT = 1e-6  # spread of a coordinate relative to the widest that is rounding
_N_STAGES = 4  # in which inner coordinates become fewer


@dataclass(frozen=True)
class SplineNetwork:
    """Sizes of the composition.

    Attributes
    ----------
    widths : tuple of int
        Features, ranks, outputs: ``d_0, ..., d_L``.
    neurons : tuple of int
        Neurons of every shallow network.
    penalty : {"path_norm", "weight_decay", "multitask"}
        How neurons pay.
    skip : bool
        Whether there are linear parts.
    ranks : tuple of int or None
        Inner widths that training ends with, where it starts with more.
    """

    widths: tuple[int, ...]
    neurons: tuple[int, ...]
    penalty: str = "path_norm"
    skip: bool = True
    ranks: tuple[int, ...] | None = None

    @property
    def n_layers(self) -> int:
        """Number of shallow networks."""
        return len(self.neurons)

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.widths[-1]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters; the free constant of the last layer is called ``c``."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (n_neurons, (n_in, n_out)) in enumerate(zip(self.neurons, pairwise(self.widths), strict=True)):
            shapes[f"W{layer}"] = (n_neurons, n_in)
            shapes[f"b{layer}"] = (n_neurons,)
            shapes[f"V{layer}"] = (n_out, n_neurons)
            shapes[f"C{layer}"] = (n_out, n_in)
            shapes[self.constant(layer)] = (n_out,)
        return shapes

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Names of the parameters that are not removed for being small: hyperplanes and the free constant."""
        return (*(f"{kind}{layer}" for layer in range(self.n_layers) for kind in "Wb"), "c")

    @property
    def outgoing(self) -> tuple[str, ...]:
        """Names of the matrices that lead to the outputs of the shallow networks."""
        return tuple(f"{kind}{layer}" for layer in range(self.n_layers) for kind in "VC")

    @property
    def readout(self) -> tuple[str, ...]:
        """Names of the matrices of the last layer."""
        return f"V{self.n_layers - 1}", f"C{self.n_layers - 1}"

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Inner widths on the way from those of the start to the ranks."""
        inner = self.widths[1:-1]
        if self.ranks is None or self.ranks == inner:
            return ()
        pairs = tuple(zip(inner, self.ranks, strict=True))
        shares = [(stage + 1) / _N_STAGES for stage in range(_N_STAGES)]
        return tuple(tuple(round(wide ** (1.0 - t) * narrow**t) for wide, narrow in pairs) for t in shares)

    def constant(self, layer: int) -> str:
        """Return the name of the constant of a layer."""
        return "c" if layer == self.n_layers - 1 else f"c{layer}"

    def initial(self, seeds: list[int]) -> Parameters:
        """Return random initial parameters, problem ``i`` from ``seeds[i]`` alone.

        Inner coordinates start with about unit variance, most of it linear, and the output starts small.
        """
        parameters = Parameters.zeros(self.shapes, len(seeds))
        for problem, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            one = {name: view[problem] for name, view in parameters.views.items()}
            for layer, n_neurons in enumerate(self.neurons):
                last = layer == self.n_layers - 1
                one[f"W{layer}"].normal_(generator=generator)
                one[f"b{layer}"].normal_(generator=generator)
                one[f"V{layer}"].normal_(0.0, 0.5 / math.sqrt(max(1, n_neurons)), generator=generator)
                if self.skip:
                    scale = (0.3 if last else 1.0) / math.sqrt(self.widths[layer])
                    one[f"C{layer}"].normal_(0.0, scale, generator=generator)
        for layer in range(self.n_layers):
            self._normalise(parameters.views, layer)
        return parameters

    # Evaluation.

    def interpolants(self, parameters: Views, layer: int) -> tuple[Tensor, Tensor]:
        """Return ``S`` of shape (n_problems, n_neurons, width) and ``s`` of shape (n_problems, n_neurons)."""
        W, b = parameters[f"W{layer}"], parameters[f"b{layer}"]
        if not self.skip:
            return torch.zeros_like(W), torch.zeros_like(b)
        s = (-b).relu()
        return (W - b.unsqueeze(2)).relu() - s.unsqueeze(2), s

    def affine(self, parameters: Views, layer: int) -> tuple[Tensor, Tensor]:
        """Return matrix and constant of the affine part that goes with plain neurons."""
        S, s = self.interpolants(parameters, layer)
        V = parameters[f"V{layer}"]
        constant = parameters[self.constant(layer)] - torch.bmm(V, s.unsqueeze(2)).squeeze(2)
        return parameters[f"C{layer}"] - torch.bmm(V, S), constant

    def reduced(self, parameters: Views, X: Tensor) -> Tensor:
        """Return the reduced neurons of the first layer of one problem, of shape (n_samples, n_neurons)."""
        S, s = (part[0] for part in self.interpolants(parameters, 0))
        a = (X @ parameters["W0"][0].T - parameters["b0"][0]).relu_()
        return a.sub_(s).sub_(X @ S.T)

    def forward(self, parameters: Views, X: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return outputs and the tape: per layer its input h, the plain neurons a, ``S``, ``s`` and the affine matrix.

        Parameters
        ----------
        parameters : dict of Tensor
            Views of the parameters.
        X : Tensor of shape (n_problems, n_samples, n_features)
            Standardised features.
        """
        h, tape = X, []
        for layer in range(self.n_layers):
            S, s = self.interpolants(parameters, layer)
            V = parameters[f"V{layer}"]
            matrix = torch.baddbmm(parameters[f"C{layer}"], V, S, alpha=-1.0)
            constant = torch.baddbmm(parameters[self.constant(layer)].unsqueeze(2), V, s.unsqueeze(2), alpha=-1.0)
            a = torch.bmm(h, parameters[f"W{layer}"].mT).sub_(parameters[f"b{layer}"].unsqueeze(1)).relu_()
            tape += [h, a, S, s, matrix]
            h = torch.baddbmm(torch.bmm(h, matrix.mT), a, V.mT).add_(constant.mT)
        return h, tape

    def slopes(self, parameters: Views, tape: list[Tensor], g: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the derivatives of ``sum_j g_j f_j``, from the last layer to the first.

        Parameters
        ----------
        parameters : dict of Tensor
            Views of the parameters.
        tape : list of Tensor
            What `forward` returned.
        g : Tensor of shape (n_problems, n_samples, n_outputs)
            Multiples of the outputs, row by row.

        Yields
        ------
        layer : int
            The layer.
        g : Tensor of shape (n_problems, n_samples, n_out)
            Derivatives with respect to what it writes.
        z : Tensor of shape (n_problems, n_samples, n_neurons)
            Derivatives with respect to what its neurons take the positive part of.
        """
        for layer in reversed(range(self.n_layers)):
            a, matrix = tape[5 * layer + 1], tape[5 * layer + 4]
            z = through_relu(torch.bmm(g, parameters[f"V{layer}"]), a)
            yield layer, g, z
            if layer:
                g = torch.baddbmm(torch.bmm(z, parameters[f"W{layer}"]), g, matrix)

    def gradient(self, parameters: Views, X: Tensor, residual: Tensor, tape: list[Tensor], out: Views) -> None:
        """Write ``sum_i residual_i df(x_i)/dt`` into ``out`` (back-propagation).

        Parameters
        ----------
        parameters, out : dict of Tensor
            Views of the parameters and of the gradient.
        X : Tensor of shape (n_problems, n_samples, n_features)
            The rows that `forward` saw.
        residual : Tensor of shape (n_problems, n_samples, n_outputs)
            Derivative of the loss at the outputs.
        tape : list of Tensor
            What `forward` returned.
        """
        for layer, g, z in self.slopes(parameters, tape, residual):
            h, a, S, s, _ = tape[5 * layer : 5 * layer + 5]
            W, b, V = (parameters[f"{kind}{layer}"] for kind in "WbV")
            dC = torch.bmm(g.mT, h)
            dc = g.sum(1)
            torch.bmm(g.mT, a, out=out[f"V{layer}"])
            torch.bmm(z.mT, h, out=out[f"W{layer}"])
            torch.sum(z, 1, out=out[f"b{layer}"]).neg_()
            out[f"C{layer}"].zero_()
            out[self.constant(layer)].copy_(dc)
            if self.skip:
                out[f"C{layer}"].copy_(dC)
                out[f"V{layer}"].sub_(torch.bmm(dC, S.mT)).sub_(dc.unsqueeze(2) * s.unsqueeze(1))
                at_S, at_s = torch.bmm(V.mT, dC), torch.bmm(V.mT, dc.unsqueeze(2)).squeeze(2)
                at_S_on = at_S * (b.unsqueeze(2) < W)
                out[f"W{layer}"].sub_(at_S_on)
                out[f"b{layer}"].add_(at_S_on.sum(2)).add_((at_s - at_S.sum(2)) * (b < 0))

    # The norm.

    def sensitivity(self, parameters: Views, X: Tensor, weights: Tensor, probes: Tensor, out: Views) -> None:
        """Write the squared weights of the norm into ``out``; they do not depend on data."""
        self.path_bound(parameters, X.new_zeros(X.shape[2]), out)

    def path_bound(self, parameters: Views, reach: Tensor, out: Views) -> None:
        """Write squared l1 weights whose penalty has, at the parameters, value and slope of the norm.

        The path norm has constant weights, because hyperplanes are normalised. The others are reweighted: weight decay
        charges ``||v_k||_1`` for an entry of v_k and ``|w_ki|`` for one of w_k, the multi-task norm
        ``|v_jk| / ||v_k||``.
        """
        for name, view in out.items():
            view.fill_(0.0 if name in self.unpriced else 1.0)
        for layer in range(self.n_layers):
            V = parameters[f"V{layer}"]
            if self.penalty == "weight_decay":
                out[f"V{layer}"].copy_(V.abs().sum(1, keepdim=True).square().expand_as(V))
                out[f"W{layer}"].copy_(parameters[f"W{layer}"].square())
            elif self.penalty == "multitask":
                size = V.square().sum(1, keepdim=True)
                share = V.square() / size.clamp(min=1e-30)
                out[f"V{layer}"].copy_(torch.where(size > 0, share, 1.0 / V.shape[1]))

    def tangent(self, parameters: Views, gradient: Views) -> None:
        """Project the gradients of normalised weights to the sphere, in place."""
        if self.penalty == "weight_decay":
            return
        for layer in range(self.n_layers):
            W, dW = parameters[f"W{layer}"], gradient[f"W{layer}"]
            dW.sub_((W * dW).sum(2, keepdim=True) * W)

    def retract(self, parameters: Views) -> None:
        """Put the weights of the neurons back on the sphere, in place.

        Outgoing weights and offsets stay: taking over the length would make them grow with every step, because a
        tangent leads away from the sphere.
        """
        if self.penalty == "weight_decay":
            return
        for layer in range(self.n_layers):
            W = parameters[f"W{layer}"]
            size = W.norm(dim=2, keepdim=True)
            W.div_(torch.where(size > 0, size, 1.0))

    def _normalise(self, parameters: Views, layer: int) -> None:
        """Put the weights of the neurons of a layer on the sphere, in place; the function stays."""
        W, b, V = (parameters[f"{kind}{layer}"] for kind in "WbV")
        size = W.norm(dim=2)
        size = torch.where(size > _SAME, size, 1.0)
        W.div_(size.unsqueeze(2))
        b.div_(size)
        V.mul_(size.unsqueeze(1))

    def is_constant(self, parameters: Views) -> Tensor:
        """Return which problems have a last layer of zeros."""
        last = self.n_layers - 1
        return ~(parameters[f"V{last}"].flatten(1).any(1) | parameters[f"C{last}"].flatten(1).any(1))

    # Fewer coordinates.

    def condense(self, ranks: tuple[int, ...], parameters: Views, squares: Views, X: Tensor, weights: Tensor) -> None:
        """Project the inner coordinates to the most important few, in place; the others become zero.

        With the mean m and the covariance S of the coordinates h of a layer, and ``G = E[dh f dh f']`` for the
        derivatives of the outputs, the new coordinates are ``u = U' S^(-1/2) (h - m)``, where U are the leading
        eigenvectors of ``S^(1/2) G S^(1/2)``: to first order what is lost is the sum of the other eigenvalues.

        Parameters
        ----------
        ranks : tuple of int
            Coordinates that stay.
        parameters, squares : dict of Tensor
            Views of the parameters, and of running means of their squared gradients, which are averaged.
        X, weights : Tensor of shape (n_problems, n_samples, n_features) and (n_problems, n_samples, 1)
            Rows.
        """
        for layer, rank in enumerate(ranks):
            f, tape = self.forward(parameters, X)
            h = tape[5 * (layer + 1)].double()
            share = (weights / weights.sum(1, keepdim=True)).double()
            mean = (share * h).sum(1, keepdim=True)
            h = h - mean
            covariance = torch.bmm(h.mT, share * h)
            G = torch.zeros_like(covariance)
            for output in range(self.n_outputs):
                one = torch.zeros_like(f)
                one[:, :, output] = 1.0
                g = next(g for at, g, _ in self.slopes(parameters, tape, one) if at == layer).double()
                G += torch.bmm(g.mT, share * g)
            eigenvalues, vectors = torch.linalg.eigh(covariance)
            root = eigenvalues.clamp(min=0.0).sqrt()
            cut = root > _FLAT * root[:, -1:]
            inverse = torch.where(cut, 1.0 / torch.where(cut, root, 1.0), 0.0)
            there, back = (vectors * d.unsqueeze(1) @ vectors.mT for d in (root, inverse))
            U = torch.linalg.eigh(there @ G @ there).eigenvectors.flip(2)[:, :, :rank]
            self._change_basis(layer, U.mT @ back, there @ U, mean.squeeze(1), parameters)
            for name, axis in ((f"V{layer}", 1), (f"C{layer}", 1), (f"W{layer + 1}", 2), (f"C{layer + 1}", 2)):
                squares[name].copy_(squares[name].mean(axis, keepdim=True).expand_as(squares[name]))
            squares[f"c{layer}"].copy_(squares[f"c{layer}"].mean(1, keepdim=True).expand_as(squares[f"c{layer}"]))

    def _change_basis(self, layer: int, A: Tensor, B: Tensor, mean: Tensor, parameters: Views) -> None:
        """Let ``u = A (h - mean)`` take the place of the outputs h of a layer, and ``B u + mean`` be what is read."""
        here, there = layer, layer + 1
        names = [f"{kind}{there}" for kind in "WbVC"] + [self.constant(there), f"V{here}", f"C{here}", f"c{here}"]
        p = {name: parameters[name].double() for name in names}
        rank, n = A.shape[1], A.shape[2]
        matrix, constant = self.affine(p, there)
        W, b, V = (p[f"{kind}{there}"] for kind in "WbV")
        b = b - (W @ mean.unsqueeze(2)).squeeze(2)
        constant = constant + (matrix @ mean.unsqueeze(2)).squeeze(2)
        W, matrix = W @ B, matrix @ B
        pad = (0, n - rank)
        new = {
            f"W{there}": torch.nn.functional.pad(W, pad),
            f"b{there}": b,
            f"V{there}": V.clone(),
            f"C{there}": torch.nn.functional.pad(matrix, pad),
            self.constant(there): constant,
            f"V{here}": torch.nn.functional.pad((A @ p[f"V{here}"]).mT, pad).mT,
            f"C{here}": torch.nn.functional.pad((A @ p[f"C{here}"]).mT, pad).mT,
            f"c{here}": torch.nn.functional.pad((A @ (p[f"c{here}"] - mean).unsqueeze(2)).squeeze(2), pad),
        }
        self._normalise(new, there)
        V = new[f"V{there}"]
        S, s = self.interpolants(new, there)
        new[f"C{there}"] = (new[f"C{there}"] + V @ S) * (torch.arange(n, device=V.device) < rank)
        new[self.constant(there)] = constant + (V @ s.unsqueeze(2)).squeeze(2)
        for name, value in new.items():
            parameters[name].copy_(value)

    # One problem on its own.

    def arrays(self, parameters: Views, problem: int = 0) -> Arrays:
        """Return one problem as float64 arrays by name."""
        return {name: view[problem].double().cpu().numpy() for name, view in parameters.items()}

    def compact(self, parameters: Views, problem: int) -> tuple[SplineNetwork, Parameters]:
        """Return one problem as a smaller network of the same function and its float64 parameters; see `merged`."""
        arrays = merged(self.arrays(parameters, problem), self)
        return self.of(arrays)

    def of(self, arrays: Arrays) -> tuple[SplineNetwork, Parameters]:
        """Return sizes and float64 parameters of the arrays of one problem."""
        network = replace(self, neurons=tuple(arrays[f"b{layer}"].size for layer in range(self.n_layers)))
        return network, network.embed(arrays, Parameters.zeros(network.shapes, 1, dtype=torch.float64))

    def narrowed(self, parameters: Parameters, X: Tensor, weights: Tensor) -> tuple[SplineNetwork, Parameters]:
        """Return one problem with no more inner coordinates than the ranks.

        Parameters
        ----------
        parameters : Parameters
            One problem.
        X, weights : Tensor of shape (n_samples, n_features) and (n_samples,)
            Rows, which say what is important where training has not come to it.
        """
        ranks = self.widths[1:-1] if self.ranks is None else self.ranks
        narrow = replace(self, widths=(self.widths[0], *ranks, self.widths[-1]), ranks=None)
        if any(
            bool(parameters.views[f"C{layer + 1}"][..., rank:].any())
            or bool(parameters.views[f"W{layer + 1}"][..., rank:].any())
            for layer, rank in enumerate(ranks)
        ):
            parameters = parameters.with_flat(parameters.flat.clone())
            self.condense(ranks, parameters.views, parameters.zeros_like().views, X[None], weights[None, :, None])
        corners = {name: tuple(slice(0, size) for size in shape) for name, shape in narrow.shapes.items()}
        arrays = {name: array[corners[name]] for name, array in self.arrays(parameters.views).items()}
        return narrow.of(arrays)

    def embed(self, arrays: Arrays, into: Parameters, problem: int = 0) -> Parameters:
        """Write the arrays of a network that is not larger into the leading units of ``into``; return ``into``."""
        for name, array in arrays.items():
            corner = tuple(slice(0, size) for size in array.shape)
            if name.startswith("W"):
                into.views[name][problem][: len(array)] = 0.0
            into.views[name][problem][corner] = torch.as_tensor(array, dtype=into.flat.dtype)
        return into

    def to_network(self, parameters: Views, problem: int, input_range: Floats) -> SparseNetwork:
        """Return one problem in standardised units, with plain neurons."""
        network, compacted = self.compact(parameters, problem)
        arrays = network.arrays(compacted.views)
        blocks = []
        for layer in range(self.n_layers):
            matrix, constant = (part[0].numpy() for part in network.affine(compacted.views, layer))
            W, b, V = (arrays[f"{kind}{layer}"] for kind in "WbV")
            blocks.append(Block(csr_array(W), -b, csr_array(V), csr_array(matrix), constant))
        return SparseNetwork(tuple(blocks), input_range, clip=False)

    def arrays_of(self, network: SparseNetwork) -> Arrays | None:
        """Return a network in standardised units as arrays by name, or None where it does not fit."""
        widths = (network.n_features, *(block.offset.size for block in network.blocks))
        room = all(block.n_neurons <= n for block, n in zip(network.blocks, self.neurons, strict=False))
        if widths != self.widths or not room:
            return None
        arrays: Arrays = {}
        for layer, block in enumerate(network.blocks):
            arrays[f"W{layer}"], arrays[f"b{layer}"] = block.inner.toarray(), -block.bias
            arrays[f"V{layer}"], arrays[f"C{layer}"] = block.outer.toarray(), block.matrix.toarray()
            arrays[self.constant(layer)] = block.offset
        plain, parameters = self.of(arrays)
        for layer in range(self.n_layers):
            S, s = (part[0].numpy() for part in plain.interpolants(parameters.views, layer))
            arrays[f"C{layer}"] = arrays[f"C{layer}"] + arrays[f"V{layer}"] @ S
            arrays[self.constant(layer)] = arrays[self.constant(layer)] + arrays[f"V{layer}"] @ s
        return arrays


def merged(arrays: Arrays, network: SplineNetwork) -> Arrays:
    """Return the same function with unit weights, without dead neurons and with coincident ones in one.

    Neurons coincide if their hyperplanes do: reduced neurons do not depend on the sign of (w, b). Coordinates of inner
    layers that nobody reads, or that are zero, lose their edges.

    Parameters
    ----------
    arrays : dict of ndarray
        Parameters of one problem by name; not changed.
    network : SplineNetwork
        The family.
    """
    out = {name: array.copy() for name, array in arrays.items()}
    _cut_unused(out, network)
    for layer in range(network.n_layers):
        W, b, V = (out[f"{kind}{layer}"] for kind in "WbV")
        size = np.linalg.norm(W, axis=1)
        constant = size == 0
        if constant.any():  # they add a constant; without skip connections at least
            plain = np.maximum(-b[constant], 0.0) * (not network.skip)
            out[network.constant(layer)] += V[:, constant] @ plain
        alive = ~constant & V.any(axis=0)
        W, b, V = W[alive] / size[alive, None], b[alive] / size[alive], V[:, alive] * size[alive]
        if network.skip:
            first = W[np.arange(len(W)), (W != 0).argmax(axis=1)] if len(W) else np.zeros(0)
            W, b = W * np.sign(first)[:, None], b * np.sign(first)
        W, b, V = _united(W, b, V)
        out[f"W{layer}"], out[f"b{layer}"], out[f"V{layer}"] = W, b, V
    return out


def _united(W: Floats, b: Floats, V: Floats) -> tuple[Floats, Floats, Floats]:
    """Add up the outgoing weights of equal hyperplanes."""
    planes = np.column_stack([W, b])
    order = np.lexsort(planes.T[::-1])
    planes, V = planes[order], V[:, order]
    if len(planes) < 2:
        return W[order], b[order], V
    new = np.append(True, np.abs(np.diff(planes, axis=0)).max(axis=1) > _SAME * (1.0 + np.abs(b[order][1:])))
    starts = np.flatnonzero(new)
    V = np.add.reduceat(V, starts, axis=1)
    kept = V.any(axis=0)
    return planes[starts, :-1][kept], planes[starts, -1][kept], V[:, kept]


def _cut_unused(arrays: Arrays, network: SplineNetwork) -> None:
    """Zero the edges of inner coordinates that nobody reads or that are zero."""
    for layer in reversed(range(1, network.n_layers)):
        living = arrays[f"V{layer}"].any(axis=0)
        unread = ~(arrays[f"W{layer}"][living].any(axis=0) | arrays[f"C{layer}"].any(axis=0))
        for name in (f"V{layer - 1}", f"C{layer - 1}", network.constant(layer - 1)):
            arrays[name][unread] = 0.0
    for layer in range(network.n_layers - 1):
        V, C, c = (arrays[name] for name in (f"V{layer}", f"C{layer}", network.constant(layer)))
        zero = ~(V.any(axis=1) | C.any(axis=1) | (c != 0))
        arrays[f"W{layer + 1}"][:, zero] = 0.0
        arrays[f"C{layer + 1}"][:, zero] = 0.0
