"""A network along one feature, the others fixed: exact piecewise linear functions of one row or of many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sklearn_htmc._network import Floats, SparseNetwork


class _Dense(NamedTuple):
    """A block with dense matrices, transposed: for a few points that is faster."""

    inner: Floats
    bias: Floats
    outer: Floats
    skip: Floats
    offset: Floats


def curves_along(
    network: SparseNetwork, rows: Floats, feature: int, output: int, ends: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Return an output as a function of one feature, for all rows.

    Parameters
    ----------
    network : SparseNetwork
        The network.
    rows : ndarray of shape (n_rows, n_features)
        Values of the other features.
    feature, output : int
        Numbers of the feature and of the output.
    ends : tuple of float
        First and last value of the feature.

    Returns
    -------
    grid : ndarray of shape (n_points,)
        The ends and all kinks of all functions between them, rising.
    values : ndarray of shape (n_rows, n_points)
        The functions there; between two points all of them are linear.
    """
    blocks = [
        _Dense(b.inner.toarray().T, b.bias, b.outer.toarray().T, b.matrix.toarray().T, b.offset) for b in network.blocks
    ]
    found = [_curve(network, blocks, row, feature, ends) for row in rows]
    grid = np.unique(np.concatenate([t for t, _ in found]))
    return grid, np.array([np.interp(grid, t, h[:, output]) for t, h in found])


def _curve(
    network: SparseNetwork, blocks: list[_Dense], row: Floats, feature: int, ends: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Return the kinks of the function of one row, with the ends, and the outputs there."""
    limits = network.input_range[:, feature] if network.clip else np.zeros(0)
    t = np.unique([*ends, *limits[(limits > ends[0]) & (limits < ends[1])]])
    h = np.repeat(row[None, :], len(t), axis=0)
    h[:, feature] = t
    if network.clip:
        h = np.clip(h, *network.input_range)
    for block in blocks:
        pre = h @ block.inner + block.bias
        kinks = _zeros(t, pre)
        if kinks.size:
            finer = np.unique(np.concatenate([t, kinks]))
            h = np.column_stack([np.interp(finer, t, column) for column in h.T])
            t, pre = finer, h @ block.inner + block.bias
        h = h @ block.skip + np.maximum(pre, 0.0) @ block.outer + block.offset
    return t, h


def _zeros(t: Floats, pre: Floats) -> Floats:
    """Return where neurons change sign between points."""
    before, behind = pre[:-1], pre[1:]
    piece, neuron = np.nonzero(before * behind < 0)
    share = before[piece, neuron] / (before[piece, neuron] - behind[piece, neuron])
    return np.asarray(t[piece] + (t[piece + 1] - t[piece]) * share)
