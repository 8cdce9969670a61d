"""The neuron that is missed most: where the certificate of a shallow network is violated (theory, deep splines).

A neuron (w, b) with ``||w|| = 1`` stays out of an optimum if ``|E_P[g rho_(w,b)(h)]| <= strength``, where g is the
derivative of the data term at the output of the shallow network and h its input. A reduced neuron is a ReLU less its
affine interpolant at 0, e_1, ..., e_d; so with mass ``-(m - sum_j m_j)`` at 0 and ``-m_j`` at e_j, for the moments
``m = E_P[g]`` and ``m_j = E_P[g h_j]``, the correlation is that of plain ReLUs with a measure on n + d + 1 points:

    E_P[g rho_(w,b)] = sum_i q_i relu(w.x_i - b).

For fixed w this is piecewise linear in b with kinks at the ``w.x_i``: sorting finds its maximum exactly. For a fixed
pattern and the kink at x_k it is linear in w, and moving w towards that gradient climbs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_STARTS = 512  # random directions
_POINTS = 1_000  # on which they climb
_MANY = 4_000  # on which the best of them do, at most
_CLIMBERS = 64  # the best of them, which go on
_FAR, _CLOSE = (0.3, 15), (0.05, 6)  # first length and number of steps of both climbs
_LAST, _STEPS = 24, 3  # the best of all, which climb from kink to kink, and their steps
_MOVES = (1.0, 0.4, 0.15, 0.05, 0.01)  # shares of the way to the gradient that are tried in a step
_COLUMNS = 4_000_000  # entries sorted at a time
_INPUTS = (1, 2, 3)  # numbers of inputs of two thirds of the random directions; the others read all


@dataclass(frozen=True, eq=False)
class Neurons:
    """Hyperplanes and what they correlate with.

    Attributes
    ----------
    W : Tensor of shape (n_neurons, width)
        Unit normals.
    b : Tensor of shape (n_neurons,)
        Offsets.
    correlation : Tensor of shape (n_neurons, n_outputs)
        ``E_P[g rho]``.
    size : Tensor of shape (n_neurons,)
        What is compared with the strength: the largest entry of a row, or its length where outputs share neurons.
    """

    W: Tensor
    b: Tensor
    correlation: Tensor
    size: Tensor

    def at(self, index: Tensor) -> Neurons:
        """Return some of the neurons."""
        return Neurons(self.W[index], self.b[index], self.correlation[index], self.size[index])

    def and_(self, other: Neurons) -> Neurons:
        """Return both."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("W", "b", "correlation", "size"))
        return Neurons(*(torch.cat(pair) for pair in pairs))


@dataclass(frozen=True, eq=False)
class Measure:
    """Points and masses that hold all that neurons can correlate with.

    The points are the inputs of the rows and, where neurons are reduced, 0 and the unit vectors, which are not stored:
    there may be thousands.

    Attributes
    ----------
    h : Tensor of shape (n_samples, width)
        Inputs of the rows.
    mass : Tensor of shape (n_points, n_outputs)
        Masses of all points.
    shared : bool
        Whether a neuron pays for the length of its outgoing weights, not for their sum.
    """

    h: Tensor
    mass: Tensor
    shared: bool

    @classmethod
    def of(cls, h: Tensor, g: Tensor, *, reduced: bool, shared: bool) -> Measure:
        """Build the measure.

        Parameters
        ----------
        h : Tensor of shape (n_samples, width)
            Inputs.
        g : Tensor of shape (n_samples, n_outputs)
            Derivatives of the data term, weights of the rows included.
        reduced : bool
            Whether neurons are reduced.
        shared : bool
            See the attribute.
        """
        if not reduced:
            return cls(h, g, shared)
        slopes = h.T @ g  # (width, n_outputs)
        origin = slopes.sum(0) - g.sum(0)
        return cls(h, torch.cat([g, origin[None], -slopes]), shared)

    @property
    def is_reduced(self) -> bool:
        """Whether neurons are reduced."""
        return len(self.mass) > len(self.h)

    def thinned(self, n_rows: int) -> Measure:
        """Return every so many of the rows, with as much more mass."""
        every = -(-len(self.h) // n_rows)
        if every == 1:
            return self
        g = self.mass[: len(self.h) : every] * every
        return Measure.of(self.h[::every], g, reduced=self.is_reduced, shared=self.shared)

    def projected(self, W: Tensor) -> Tensor:
        """Return ``w.x`` for all normals and points, of shape (n_neurons, n_points)."""
        z = W @ self.h.T
        return torch.cat([z, torch.zeros_like(W[:, :1]), W], dim=1) if self.is_reduced else z

    def moments(self, mass: Tensor) -> Tensor:
        """Return ``sum_i m_i x_i`` for masses of shape (n_neurons, n_points)."""
        n = len(self.h)
        total = mass[:, :n] @ self.h
        return total.add_(mass[:, n + 1 :]) if self.is_reduced else total

    def points_at(self, index: Tensor) -> Tensor:
        """Return points by their numbers."""
        one = torch.zeros(len(index), len(self.mass), dtype=self.h.dtype)
        return self.moments(one.scatter_(1, index[:, None], 1.0))

    def best_offsets(self, W: Tensor) -> Neurons:
        """Return, for every unit normal, the offset with the largest correlation."""
        n = max(1, _COLUMNS // (len(self.mass) * self.mass.shape[1]))
        parts = [self._best_offsets(part) for part in torch.split(W, n)]
        found = parts[0]
        for part in parts[1:]:
            found = found.and_(part)
        return found

    def _best_offsets(self, W: Tensor) -> Neurons:
        z = self.projected(W)  # (n_neurons, n_points)
        order = torch.as_tensor(np.argsort(z.neg().numpy(), axis=1))  # faster than the sort of torch by half
        z = z.gather(1, order)
        mass = self.mass.T.contiguous()[:, order]  # (n_outputs, n_neurons, n_points): sums run along the memory
        correlation = (mass * z).cumsum(2).sub_(mass.cumsum(2).mul_(z))
        size = self.size_of(correlation)
        best = size.argmax(1)
        k = torch.arange(len(W))
        return Neurons(W, z[k, best], correlation[:, k, best].T, size[k, best])

    def size_of(self, correlation: Tensor) -> Tensor:
        """Return what is compared with the strength, for outputs along the first axis."""
        if len(correlation) == 1:
            return correlation[0].abs()
        return correlation.square().sum(0).sqrt() if self.shared else correlation.abs().amax(0)

    def correlation(self, W: Tensor, b: Tensor) -> Neurons:
        """Return the neurons with their correlations."""
        correlation = (self.projected(W) - b[:, None]).relu() @ self.mass
        return Neurons(W, b, correlation, self.size_of(correlation.T))

    def _directions(self, correlation: Tensor) -> Tensor:
        """Return unit vectors over the outputs along which the sizes are measured."""
        if correlation.shape[1] == 1:
            return correlation.sign()
        if self.shared:
            return torch.nn.functional.normalize(correlation, dim=1, eps=1e-30)
        k = correlation.abs().argmax(1, keepdim=True)
        return torch.zeros_like(correlation).scatter_(1, k, correlation.gather(1, k).sign())

    def ascended(self, neurons: Neurons, first: float, n_steps: int) -> Neurons:
        """Move normals and offsets together along the gradient, by steps that fall from ``first`` to zero.

        Kinks are crossed without ado, in single precision; at the end the best offset of every normal is found exactly.
        """
        rows = torch.cat([self.h, torch.full_like(self.h[:, :1], -1.0)], dim=1).float()  # (n_samples, width + 1)
        n, mass = len(rows), self.mass.float()
        planes = torch.cat([neurons.W, neurons.b[:, None]], dim=1).float()  # (n_neurons, width + 1)
        for step in range(n_steps):
            on = (planes @ rows.T > 0).float()
            # What a neuron correlates with is linear in its plane for a fixed pattern: these are the coefficients.
            slopes = torch.stack([on @ (rows * m[:, None]) for m in mass[:n].T], dim=1)  # (n_neurons, n_outputs, .)
            if self.is_reduced:
                corners = (planes[:, :-1] > planes[:, -1:]).float()[:, None] * mass[n + 1 :].T
                slopes[:, :, :-1] += corners
                slopes[:, :, -1] -= (planes[:, -1:] < 0) * mass[n] + corners.sum(2)
            u = self._directions((slopes @ planes[:, :, None])[:, :, 0])
            slope = (u[:, None] @ slopes)[:, 0]
            rate = first * 0.5 * (1.0 + math.cos(math.pi * step / n_steps))
            planes += slope * (rate / slope.norm(dim=1, keepdim=True).clamp(min=1e-30))
            planes /= planes[:, :-1].norm(dim=1, keepdim=True).clamp(min=1e-30)
        W = planes[:, :-1]
        W = W.to(neurons.W.dtype)
        found = self.best_offsets(W / W.norm(dim=1, keepdim=True).clamp(min=1e-300))
        better = found.size > neurons.size
        for name in ("W", "b", "correlation", "size"):
            getattr(found, name)[~better] = getattr(neurons, name)[~better]
        return found

    def uphill(self, neurons: Neurons) -> Tensor:
        """Return the unit normals that would be best if no point changed sides and the kink stayed on its point."""
        u = self._directions(neurons.correlation)
        z = self.projected(neurons.W) - neurons.b[:, None]
        mass = (z > 0) * (u @ self.mass.T)  # (n_neurons, n_points)
        gradient = self.moments(mass) - mass.sum(1, keepdim=True) * self.points_at(z.abs().argmin(1))
        return torch.nn.functional.normalize(gradient, dim=1, eps=1e-30)

    def climbed(self, neurons: Neurons, n_steps: int = _STEPS) -> Neurons:
        """Improve all neurons by steps that are taken only where they help."""
        shares = torch.tensor(_MOVES, dtype=neurons.W.dtype)[:, None, None]
        climbing = torch.arange(len(neurons.b))
        for _ in range(n_steps):
            if not len(climbing):
                break
            now = neurons.at(climbing)
            W = (1.0 - shares) * now.W + shares * self.uphill(now)  # (n_moves, n_climbing, width)
            W = W / W.norm(dim=2, keepdim=True).clamp(min=1e-300)
            found = self.best_offsets(W.flatten(0, 1))
            best = found.size.view(len(_MOVES), -1).argmax(0)
            found = found.at(best * len(climbing) + torch.arange(len(climbing)))
            better = found.size > now.size * (1.0 + 1e-6)
            for name in ("W", "b", "correlation", "size"):
                getattr(neurons, name)[climbing[better]] = getattr(found, name)[better]
            climbing = climbing[better]
        return neurons


def most_violated(
    measure: Measure, generator: torch.Generator, known: tuple[Tensor, Tensor], effort: float = 1.0
) -> Neurons:
    """Return neurons with locally largest correlations, the largest first.

    Random directions climb on a part of the points; the best of them, and the neurons at hand, go on on all, or on
    4,000 of them where there are more: then the largest 64 are measured on all, and returned.

    Parameters
    ----------
    measure : Measure
        What to correlate with.
    generator : torch.Generator
        Draws the random directions.
    known : tuple of Tensor
        Unit normals and offsets of neurons to climb from as well.
    effort : float
        Multiple of the usual number of starts and climbers.
    """
    width = measure.h.shape[1]
    if width == 1:  # one direction, and all kinks are seen at once
        return _all_offsets(measure)
    some, many = measure.thinned(_POINTS), measure.thinned(_MANY)
    n_starts, n_climbers, n_last = (int(effort * n) for n in (_STARTS, _CLIMBERS, _LAST))
    found = some.best_offsets(_directions(n_starts, width, generator, measure.h.dtype))
    found = some.ascended(found.at(found.size.argsort(descending=True)[:n_climbers]), *_FAR)
    found = many.best_offsets(found.W[found.size.argsort(descending=True)[:_CLIMBERS]])
    found = many.ascended(found.and_(many.correlation(*known)), *_CLOSE)
    top = found.size.argsort(descending=True)
    n_last = min(n_last, _LAST)
    found = many.climbed(found.at(top[:n_last])).and_(found.at(top[n_last:]))
    if many is not measure:
        found = found.at(found.size.argsort(descending=True)[:_CLIMBERS])
        found = measure.correlation(found.W, found.b).and_(measure.best_offsets(found.W[:n_last]))
    return found.at(found.size.argsort(descending=True))


def _all_offsets(measure: Measure) -> Neurons:
    """Return all neurons of one input, one per point, the largest correlation first."""
    one = torch.ones(1, 1, dtype=measure.h.dtype)
    b = torch.unique(measure.projected(one))
    found = measure.correlation(one.expand(len(b), 1), b)
    peak = torch.ones(len(b), dtype=torch.bool)
    peak[1:] &= found.size[1:] >= found.size[:-1]
    peak[:-1] &= found.size[:-1] >= found.size[1:]
    found = found.at(peak.nonzero().squeeze(1))
    return found.at(found.size.argsort(descending=True))


def _directions(n: int, width: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Return unit vectors, most of them with few nonzero entries."""
    W = torch.randn(n, width, generator=generator, dtype=torch.float64).to(dtype)
    counts = torch.tensor([*_INPUTS, width, width]).clamp(max=width)
    n_used = counts[torch.randint(len(counts), (n,), generator=generator)]
    rank = torch.rand(n, width, generator=generator).argsort(1).argsort(1)
    W = W * (rank < n_used[:, None])
    return torch.nn.functional.normalize(W, dim=1, eps=1e-30)
