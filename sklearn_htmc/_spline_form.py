"""Networks of one input are continuous piecewise-linear functions: their exact knots, and the function as a spline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PPoly

from sklearn_htmc._network import Block, Floats, SparseNetwork

_SAME_KNOT = 1e-12  # distance, in units of the range of the knots
_SEEN = 1e-6  # of the size of a number: a step that rounding does not spoil
_NO_KINK = 1e-12  # change of slope, in units of the largest slope


@dataclass(frozen=True, eq=False)
class _Path:
    """A piecewise-linear curve through the units of a layer.

    Attributes
    ----------
    t : ndarray of shape (n_points,)
        Where its slope may change, rising.
    h : ndarray of shape (n_points, width)
        Values there.
    left, right : ndarray of shape (width,)
        Slopes before the first and behind the last point.
    """

    t: Floats
    h: Floats
    left: Floats
    right: Floats

    def at(self, t: Floats) -> Floats:
        """Return values at any points."""
        inside = np.array([np.interp(t, self.t, column) for column in self.h.T]).reshape(self.h.shape[1], len(t)).T
        before, behind = np.minimum(t - self.t[0], 0.0), np.maximum(t - self.t[-1], 0.0)
        values: Floats = inside + before[:, None] * self.left + behind[:, None] * self.right
        return values

    def through(self, block: Block) -> _Path:
        """Return the curve behind a block."""
        pre = self.h @ block.inner.T + block.bias  # (n_points, n_neurons)
        left, right = block.inner @ self.left, block.inner @ self.right
        t = _united(np.concatenate([self.t, *_zeros(self.t, pre, left, right)]))
        h = self.at(t)
        pre = h @ block.inner.T + block.bias
        active = np.maximum(pre, 0.0)
        out = h @ block.matrix.T + active @ block.outer.T + block.offset
        on_left = np.where(left != 0, left < 0, pre[0] > 0)
        on_right = np.where(right != 0, right > 0, pre[-1] > 0)
        return _Path(
            t,
            out,
            block.matrix @ self.left + block.outer @ (left * on_left),
            block.matrix @ self.right + block.outer @ (right * on_right),
        )


def as_splines(network: SparseNetwork) -> list[PPoly]:
    """Return one linear spline per output, equal to the network everywhere.

    Parameters
    ----------
    network : SparseNetwork
        Of one feature.

    Returns
    -------
    list of scipy.interpolate.PPoly
        Their first and last pieces extend to infinity. Breakpoints but the first and the last are knots.

    Raises
    ------
    ValueError
        If the network has several features.
    """
    if network.n_features != 1:
        raise ValueError(f"a spline has one input, and the network has {network.n_features} features.")
    network = network.uncentered()
    pieces = _pieces(network)
    return [_spline(network, *pieces, output) for output in range(network.n_outputs)]


def knots(network: SparseNetwork) -> Floats:
    """Return where the slope of any output of a network of one feature changes."""
    t, slopes = _pieces(network.uncentered())
    return t[_kinks(slopes).any(axis=1)]


def _pieces(network: SparseNetwork) -> tuple[Floats, Floats]:
    """Return possible knots t and the slopes of all pieces, of shape (len(t) + 1, n_outputs)."""
    low, high = network.input_range[:, 0]
    if network.clip and high > low:
        start = _Path(np.array([low, high]), np.array([[low], [high]]), np.zeros(1), np.zeros(1))
    else:
        slope = np.zeros(1) if network.clip else np.ones(1)
        start = _Path(np.array([low]), np.array([[low]]), slope, slope)
    path = start
    for block in network.blocks:
        path = path.through(block)
    t = path.t
    reach = _reach(network, t)
    middles = np.concatenate([[t[0] - reach], 0.5 * (t[1:] + t[:-1]), [t[-1] + reach]])
    return t, _slopes(network, middles)


def _reach(network: SparseNetwork, t: Floats) -> float:
    """Return how far outer points stand away from others: the extent of these and of the data, in their unit."""
    low, high = network.input_range[:, 0]
    extent = max(float(t[-1] - t[0]), float(high - low))
    size = float(np.abs(t).max())
    least = _SEEN * size  # a shorter way would be lost in rounding
    return max(extent, least) if extent or size else 1.0


def _slopes(network: SparseNetwork, x: Floats) -> Floats:
    """Return the derivatives of a network of one feature at points that are not knots."""
    h, slope = x[:, None], np.ones((len(x), 1))
    if network.clip:
        low, high = network.input_range
        slope = slope * ((h > low) & (h < high))
        h = np.clip(h, low, high)
    for block in network.blocks:
        pre = h @ block.inner.T + block.bias
        slope = slope @ block.matrix.T + ((slope @ block.inner.T) * (pre > 0)) @ block.outer.T
        h = h @ block.matrix.T + np.maximum(pre, 0.0) @ block.outer.T + block.offset
    return np.asarray(slope)


def _kinks(slopes: Floats) -> NDArray[np.bool_]:
    largest = np.abs(slopes).max(axis=0)
    return np.abs(np.diff(slopes, axis=0)) > _NO_KINK * largest


def _spline(network: SparseNetwork, t: Floats, slopes: Floats, output: int) -> PPoly:
    kink = _kinks(slopes)[:, output]
    slope, inner = slopes[np.append(True, kink), output], t[kink]
    if not inner.size:  # a line: one piece
        start = float(network(t[:1, None])[0, output])
        return PPoly(np.array([slope, [start]]), np.array([t[0], t[0] + _reach(network, t[:1])]))
    values = network(inner[:, None])[:, output]
    step = _reach(network, inner)
    breaks = np.concatenate([[inner[0] - step], inner, [inner[-1] + step]])
    starts = np.append(values[0] - slope[0] * (inner[0] - breaks[0]), values)
    return PPoly(np.array([slope, starts]), breaks)


def _zeros(t: Floats, pre: Floats, left: Floats, right: Floats) -> list[Floats]:
    """Return where neurons change sign: between the points, before the first and behind the last one."""
    a, b = pre[:-1], pre[1:]
    i, k = np.nonzero(a * b < 0)
    inside = t[i] + (t[i + 1] - t[i]) * (a[i, k] / (a[i, k] - b[i, k]))
    with np.errstate(divide="ignore", invalid="ignore"):
        before, behind = -pre[0] / left, -pre[-1] / right
    return [
        inside,
        t[0] + before[np.isfinite(before) & (before < 0)],
        t[-1] + behind[np.isfinite(behind) & (behind > 0)],
    ]


def _united(t: Floats) -> Floats:
    """Return sorted points without those that are the same."""
    t = np.unique(t)
    reach = max(t[-1] - t[0], np.abs(t).max())
    return t[np.append(True, np.diff(t) > _SAME_KNOT * reach)]
