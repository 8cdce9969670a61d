"""The residual ReLU network, batched over problems: forward, backward, sensitivities, compaction (theory, section 2).

    a^0 = E x + e
    a^l = a^(l-1) + U^l relu(V^l a^(l-1) + b^l),   l = 1..L
    f   = A a^L + c

The backward pass is written out by hand: it is a dozen batched products, and the sensitivities need the same
activations and derivatives, only squared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from sklearn_htmc._network import Block, Floats, SparseNetwork
from sklearn_htmc._training.core.architecture import Arrays, Parameters, Views, through_relu


@dataclass(frozen=True)
class ResidualNetwork:
    """Sizes of the network: blocks of ``neurons[0], neurons[1], ...`` neurons on a stream of ``width`` coordinates."""

    n_features: int
    n_outputs: int
    width: int
    neurons: tuple[int, ...]

    @property
    def n_blocks(self) -> int:
        """Number of residual blocks."""
        return len(self.neurons)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        blocks: dict[str, tuple[int, ...]] = {}
        for block, n_neurons in enumerate(self.neurons):
            blocks[f"V{block}"] = (n_neurons, self.width)
            blocks[f"b{block}"] = (n_neurons,)
            blocks[f"U{block}"] = (self.width, n_neurons)
        return {
            "E": (self.width, self.n_features),
            "e": (self.width,),
            **blocks,
            "A": (self.n_outputs, self.width),
            "c": (self.n_outputs,),
        }

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Name of the free output constant."""
        return ("c",)

    @property
    def outgoing(self) -> tuple[str, ...]:
        """Names of the matrices that lead out of neurons, and of the readout."""
        return (*(f"U{block}" for block in range(self.n_blocks)), "A")

    @property
    def readout(self) -> tuple[str, ...]:
        """Name of the matrix in front of the outputs."""
        return ("A",)

    def initial(self, seeds: list[int]) -> Parameters:
        """Return random initial parameters, problem ``i`` from ``seeds[i]`` alone.

        The stream starts with unit variance, blocks add a little to it, and the output starts small. Nothing starts
        at zero but `e` and `c`: a block with U = 0 and V = 0 has zero gradient and could never grow.
        """
        parameters = Parameters.zeros(self.shapes, len(seeds))
        scales = {"E": 1 / math.sqrt(self.n_features), "A": 0.3 / math.sqrt(self.width)}
        for block, n_neurons in enumerate(self.neurons):
            scales[f"V{block}"] = 1 / math.sqrt(self.width)
            scales[f"b{block}"] = 0.5
            scales[f"U{block}"] = 0.3 / math.sqrt(n_neurons)
        for problem, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            for name, scale in scales.items():
                parameters.views[name][problem].normal_(0.0, scale, generator=generator)
        return parameters

    def forward(self, parameters: Views, X: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return outputs and the tape ``[a^0, h^1, a^1, ..., h^L, a^L]``.

        Parameters
        ----------
        parameters : dict of Tensor
            Views of the parameters.
        X : Tensor of shape (n_problems, n_samples, n_features)
            Standardised features.
        """
        a = torch.bmm(X, parameters["E"].mT).add_(parameters["e"].unsqueeze(1))
        tape = [a]
        for block in range(self.n_blocks):
            h = torch.bmm(a, parameters[f"V{block}"].mT).add_(parameters[f"b{block}"].unsqueeze(1)).relu_()
            a = torch.bmm(h, parameters[f"U{block}"].mT).add_(a)
            tape += [h, a]
        return torch.bmm(a, parameters["A"].mT).add_(parameters["c"].unsqueeze(1)), tape

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
        torch.bmm(residual.mT, tape[-1], out=out["A"])
        torch.sum(residual, 1, out=out["c"])
        g = torch.bmm(residual, parameters["A"])  # derivative at the stream
        for block in reversed(range(self.n_blocks)):
            h, a = tape[2 * block + 1], tape[2 * block]
            torch.bmm(g.mT, h, out=out[f"U{block}"])
            z = through_relu(torch.bmm(g, parameters[f"U{block}"]), h)
            torch.bmm(z.mT, a, out=out[f"V{block}"])
            torch.sum(z, 1, out=out[f"b{block}"])
            g = torch.bmm(z, parameters[f"V{block}"]).add_(g)
        torch.bmm(g.mT, X, out=out["E"])
        torch.sum(g, 1, out=out["e"])

    def sensitivity(self, parameters: Views, X: Tensor, weights: Tensor, probes: Tensor, out: Views) -> None:
        """Write ``omega_p^2 = E_P[a_u(x)^2 g_v(x)^2]`` into ``out``; the free constant ``c`` gets zero.

        The derivative at a unit is taken in the direction of ``probes``: with one output and probes of one it is
        exact, with several outputs and random signs the square is an unbiased estimate of the sum over outputs.

        Parameters
        ----------
        parameters, out : dict of Tensor
            Views of the parameters and of the result.
        X : Tensor of shape (n_problems, n_samples, n_features)
            Rows to average over.
        weights : Tensor of shape (n_problems, n_samples, 1)
            Their weights, which sum to one in every problem.
        probes : Tensor of shape (n_problems, n_samples, n_outputs)
            Directions in the space of outputs.
        """
        _, tape = self.forward(parameters, X)
        squares = [t.square() for t in tape]
        torch.bmm((probes.square() * weights).mT, squares[-1], out=out["A"])
        out["c"].zero_()
        g = torch.bmm(probes, parameters["A"])
        for block in reversed(range(self.n_blocks)):
            torch.bmm((g.square() * weights).mT, squares[2 * block + 1], out=out[f"U{block}"])
            z = through_relu(torch.bmm(g, parameters[f"U{block}"]), tape[2 * block + 1])
            weighted = z.square() * weights
            torch.bmm(weighted.mT, squares[2 * block], out=out[f"V{block}"])
            torch.sum(weighted, 1, out=out[f"b{block}"])
            g = torch.bmm(z, parameters[f"V{block}"]).add_(g)
        weighted = g.square() * weights
        torch.bmm(weighted.mT, X.square(), out=out["E"])
        torch.sum(weighted, 1, out=out["e"])

    def path_norm(self, parameters: Views, reach: Tensor) -> Tensor:
        """Return the norm of one problem with path weights, differentiably: every path counts once for each of its
        edges.

        Parameters
        ----------
        parameters : dict of Tensor
            Views of the parameters of one problem.
        reach : Tensor of shape (n_features,)
            Largest absolute standardised value of every feature.
        """
        size = {name: view[0].abs() for name, view in parameters.items()}
        start = size["E"] @ reach + size["e"]
        tape = [start]
        for block in range(self.n_blocks):
            h = size[f"V{block}"] @ tape[-1] + size[f"b{block}"]
            tape += [h, tape[-1] + size[f"U{block}"] @ h]
        g = size["A"].sum(0)
        norm = g @ tape[-1]  # flow through the readout; every layer of edges below adds what flows through it
        for block in reversed(range(self.n_blocks)):
            z = g @ size[f"U{block}"]
            norm = norm + 2.0 * (z @ tape[2 * block + 1])  # into and out of the neurons of the block
            g = g + z @ size[f"V{block}"]
        return norm + g @ start

    def path_bound(self, parameters: Views, reach: Tensor, out: Views) -> None:
        """Write the squared path weights ``(abar_u gbar_v)^2`` into ``out``: sums of absolute values over paths.

        Parameters
        ----------
        parameters, out : dict of Tensor
            Views of the parameters and of the result.
        reach : Tensor of shape (n_features,)
            Largest absolute standardised value of every feature.
        """
        size = {name: view.abs() for name, view in parameters.items()}
        x = reach.expand(size["E"].shape[0], -1).unsqueeze(2)  # (n_problems, n_features, 1)
        a = size["E"] @ x + size["e"].unsqueeze(2)
        forward = [a]
        for block in range(self.n_blocks):
            h = size[f"V{block}"] @ a + size[f"b{block}"].unsqueeze(2)
            a = a + size[f"U{block}"] @ h
            forward += [h, a]
        g = size["A"].sum(1, keepdim=True)  # (n_problems, 1, width)
        out["A"].copy_(a.mT.square().expand_as(out["A"]))
        out["c"].zero_()
        for block in reversed(range(self.n_blocks)):
            out[f"U{block}"].copy_((g.mT * forward[2 * block + 1].mT).square())
            z = g @ size[f"U{block}"]
            out[f"V{block}"].copy_((z.mT * forward[2 * block].mT).square())
            out[f"b{block}"].copy_(z.squeeze(1).square())
            g = g + z @ size[f"V{block}"]
        out["E"].copy_((g.mT * x.mT).square())
        out["e"].copy_(g.squeeze(1).square())

    def tangent(self, parameters: Views, gradient: Views) -> None:
        """Leave a gradient as it is: the parameters may move anywhere."""

    def retract(self, parameters: Views) -> None:
        """Leave parameters where they are: the norm does not depend on how units are scaled."""

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Inner widths stay as they are."""
        return ()

    def condense(self, ranks: tuple[int, ...], parameters: Views, squares: Views, X: Tensor, weights: Tensor) -> None:
        """Never called: there are no stages."""

    def is_constant(self, parameters: Views) -> Tensor:
        """Return which problems have a readout of zeros."""
        return ~parameters["A"].flatten(1).any(1)

    def rescalings(self, parameters: Parameters) -> Tensor:
        """Return the directions in which one problem moves without changing its function.

        A neuron or stream coordinate may have all that enters it grow by a factor and all that leaves it shrink by it
        (theory, law of rescaling): the direction is ``t`` on the one side and ``-t`` on the other.

        Parameters
        ----------
        parameters : Parameters
            Parameters of one problem.

        Returns
        -------
        Tensor of shape (n_units, n_parameters)
            One direction per stream coordinate and neuron.
        """
        coordinate = {"E": 0, "e": 0, "A": 1}  # the axis along which a coordinate has its row or column
        sign = {"E": 1.0, "e": 1.0, "A": -1.0}
        for block in range(self.n_blocks):
            coordinate |= {f"U{block}": 0, f"V{block}": 1}
            sign |= {f"U{block}": 1.0, f"V{block}": -1.0}
        units = [_along(parameters, coordinate, sign, self.width)]
        for block, n_neurons in enumerate(self.neurons):
            axes = {f"V{block}": 0, f"b{block}": 0, f"U{block}": 1}
            signs = {f"V{block}": 1.0, f"b{block}": 1.0, f"U{block}": -1.0}
            units.append(_along(parameters, axes, signs, n_neurons))
        return torch.cat(units)

    def compact(self, parameters: Views, problem: int) -> tuple[ResidualNetwork, Parameters]:
        """Return one problem as a smaller network of the same function and its float64 parameters; see `compacted`."""
        arrays = compacted(self.arrays(parameters, problem))
        return network_of(arrays, self.n_features)

    def arrays_of(self, network: SparseNetwork) -> Arrays | None:
        """Return a network in standardised units as arrays by name, or None where it does not fit."""
        arrays, shapes = arrays_of_network(network, max(self.n_blocks, len(network.blocks) - 2)), self.shapes
        fits = all(
            name in shapes and all(a <= b for a, b in zip(array.shape, shapes[name], strict=True))
            for name, array in arrays.items()
        )
        return arrays if fits else None

    def embed(self, arrays: Arrays, into: Parameters, problem: int = 0) -> Parameters:
        """Write the arrays of a network that is not larger into the leading units of ``into``; return ``into``."""
        for name, array in arrays.items():
            corner = tuple(slice(0, size) for size in array.shape)
            into.views[name][problem][corner] = torch.as_tensor(array, dtype=into.flat.dtype)
        return into

    def to_network(self, parameters: Views, problem: int, input_range: Floats) -> SparseNetwork:
        """Return one problem as a compacted network in standardised units; see `compacted`."""
        return as_network(compacted(self.arrays(parameters, problem)), input_range)

    def arrays(self, parameters: Views, problem: int = 0) -> Arrays:
        """Return one problem as float64 arrays by name."""
        return {name: view[problem].double().cpu().numpy() for name, view in parameters.items()}


def as_network(arrays: Arrays, input_range: Floats) -> SparseNetwork:
    """Write the arrays of one problem as blocks."""
    width = arrays["e"].size
    blocks = [Block.affine(csr_array(arrays["E"]), arrays["e"])]
    blocks += [
        Block(
            csr_array(arrays[f"V{i}"]),
            arrays[f"b{i}"],
            csr_array(arrays[f"U{i}"]),
            None,
            np.zeros(width),
        )
        for i in range(_depth(arrays))
        if arrays[f"b{i}"].size
    ]
    blocks.append(Block.affine(csr_array(arrays["A"]), arrays["c"]))
    return SparseNetwork(tuple(blocks), input_range, clip=False)


def network_of(arrays: Arrays, n_features: int, n_blocks: int = 0) -> tuple[ResidualNetwork, Parameters]:
    """Return sizes and float64 parameters of the arrays of one problem; blocks that are missing are empty."""
    arrays = arrays | empty_blocks(range(_depth(arrays), n_blocks), arrays["e"].size)
    neurons = tuple(arrays[f"b{block}"].size for block in range(_depth(arrays)))
    network = ResidualNetwork(n_features, arrays["c"].size, arrays["e"].size, neurons)
    return network, network.embed(arrays, Parameters.zeros(network.shapes, 1, dtype=torch.float64))


def empty_blocks(blocks: Iterable[int], width: int) -> Arrays:
    """Return the arrays of blocks without neurons."""
    arrays: Arrays = {}
    for block in blocks:
        arrays |= {f"V{block}": np.zeros((0, width)), f"b{block}": np.zeros(0), f"U{block}": np.zeros((width, 0))}
    return arrays


def arrays_of_network(network: SparseNetwork, n_blocks: int) -> Arrays:
    """Return the arrays of a network without clipping, in its own units; missing blocks get no neurons."""
    first, *middle, last = network.blocks
    width = first.offset.size
    arrays = {"E": first.matrix.toarray(), "e": first.offset}
    for i, block in enumerate(middle):
        arrays |= {f"V{i}": block.inner.toarray(), f"b{i}": block.bias, f"U{i}": block.outer.toarray()}
    arrays |= empty_blocks(range(len(middle), n_blocks), width)
    return arrays | {"A": last.matrix.toarray(), "c": last.offset}


def n_edges(arrays: Arrays) -> int:
    """Return the number of nonzero parameters, the free output constant not counted."""
    return sum(int(np.count_nonzero(array)) for name, array in arrays.items() if name != "c")


def compacted(arrays: Arrays) -> Arrays:
    """Return the same function with dead neurons, unused stream coordinates and constants folded away.

    A unit is alive if it varies with the input and the output depends on it. Units that do not vary are constants:
    what they add is moved into the biases of those who read them and into ``c``.

    Parameters
    ----------
    arrays : dict of ndarray
        Parameters of one problem by name; not changed.

    Returns
    -------
    dict of ndarray
        Parameters with fewer neurons per block and fewer stream coordinates.
    """
    out = {name: array.copy() for name, array in arrays.items()}
    while True:
        before = sum(np.count_nonzero(array) for name, array in out.items() if name[0] in "EVUA")
        _fold_constants(out)
        _drop_unread(out)
        if sum(np.count_nonzero(array) for name, array in out.items() if name[0] in "EVUA") == before:
            return _sliced(out)


def _depth(arrays: Arrays) -> int:
    return sum(name.startswith("b") for name in arrays)


def _fold_constants(arrays: Arrays) -> None:
    """Forward sweep: move constant stream coordinates and constant neurons into biases and ``c``."""
    varies = arrays["E"].any(axis=1)
    constant = np.where(varies, 0.0, arrays["e"])  # the part of the stream that is carried beside it
    arrays["e"] = np.where(varies, arrays["e"], 0.0)
    for block in range(_depth(arrays)):
        V, b, U = arrays[f"V{block}"], arrays[f"b{block}"], arrays[f"U{block}"]
        b += V @ constant
        V[:, ~varies] = 0.0
        alive = V.any(axis=1)
        constant = constant + U[:, ~alive] @ np.maximum(b[~alive], 0.0)
        U[:, ~alive] = 0.0
        b[~alive] = 0.0
        varies = varies | U.any(axis=1)
    arrays["c"] += arrays["A"] @ constant
    arrays["A"][:, ~varies] = 0.0


def _drop_unread(arrays: Arrays) -> None:
    """Backward sweep: cut the edges into units that the output does not depend on."""
    read = arrays["A"].any(axis=0)
    for block in reversed(range(_depth(arrays))):
        V, b, U = arrays[f"V{block}"], arrays[f"b{block}"], arrays[f"U{block}"]
        U[~read] = 0.0
        dead = ~U.any(axis=0)
        V[dead] = 0.0
        b[dead] = 0.0
        read = read | V.any(axis=0)
    arrays["E"][~read] = 0.0
    arrays["e"][~read] = 0.0


def _sliced(arrays: Arrays) -> Arrays:
    """Leave out rows and columns of units without edges."""
    stream = arrays["E"].any(axis=1) | arrays["A"].any(axis=0)
    for block in range(_depth(arrays)):
        stream |= arrays[f"U{block}"].any(axis=1) | arrays[f"V{block}"].any(axis=0)
    out = {
        "E": arrays["E"][stream],
        "e": arrays["e"][stream],
        "A": arrays["A"][:, stream],
        "c": arrays["c"],
    }
    for block in range(_depth(arrays)):
        neurons = arrays[f"U{block}"].any(axis=0)
        out[f"V{block}"] = arrays[f"V{block}"][np.ix_(neurons, stream)]
        out[f"b{block}"] = arrays[f"b{block}"][neurons]
        out[f"U{block}"] = arrays[f"U{block}"][np.ix_(stream, neurons)]
    return out


def _along(parameters: Parameters, axes: dict[str, int], signs: dict[str, float], n_units: int) -> Tensor:
    """Return one row per unit with the signed parameters of its rows and columns, zero elsewhere."""
    rows = []
    for name, view in parameters.views.items():
        array = view[0]
        part = array.new_zeros(n_units, *array.shape)
        if name in axes and n_units:
            unit = torch.arange(n_units)
            of_unit = part.movedim(axes[name] + 1, 1)  # (n_units, n_units, ...): the axis of the unit next to it
            of_unit[unit, unit] = signs[name] * array.movedim(axes[name], 0)
        rows.append(part.flatten(1))
    return torch.cat(rows, dim=1)
