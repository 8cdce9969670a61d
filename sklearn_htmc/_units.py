"""Networks in raw units: the scalings of a table become part of the first and the last block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from sklearn_htmc._network import Block, Floats, SparseNetwork
from sklearn_htmc._table import Scaling

SINGLE = (1e-30, 1e30)  # sizes of numbers that float32 holds with all its digits, and parts and multiples of them
_HUGE = np.finfo(float).max / 4
_ROUNDING = 8 * np.finfo(float).eps


def in_units(
    network: SparseNetwork,
    features: Scaling,
    targets: Scaling,
    *,
    input_range: Floats,
    clip: bool,
    single: bool = False,
) -> SparseNetwork:
    """Return a network of standardised units in raw ones: the scalings become part of the first and the last block.

    Their centers become that of the network, so that no parameter comes or goes. With ``single``, weights are those of
    single precision: that takes half the room.
    """
    first, *rest = network.blocks
    *rest, last = [_after_scaling(first, features), *rest]
    center = features.center if network.center is None else _sum(features.center, features.scale * network.center)
    blocks = (*rest, _before_scaling(last, targets))
    if single:
        blocks = tuple(
            replace(
                b, inner=_rounded(b.inner), outer=_rounded(b.outer), skip=None if b.skip is None else _rounded(b.skip)
            )
            for b in blocks
        )
    # A difference of two of the largest numbers would not be one.
    is_huge = np.abs(input_range).max(axis=0) > _HUGE
    if is_huge.any():
        blocks = (
            SparseNetwork(blocks, input_range, clip=clip, center=np.where(is_huge, center, 0.0)).uncentered().blocks
        )
        center = np.where(is_huge, 0.0, center)
    return SparseNetwork(blocks, input_range, clip=clip, center=center if center.any() else None)


def _sum(a: Floats, b: Floats) -> Floats:
    """Return the sum; what is left by rounding of two that cancel is zero."""
    total = a + b
    return np.where(np.abs(total) > _ROUNDING * np.abs(a), total, 0.0)


def _rounded(matrix: csr_array) -> csr_array:
    """Return a matrix rounded to single precision, where its entries have sizes that allow it."""
    size = np.abs(matrix.data)
    if not size.size or size.max() > SINGLE[1] or size.min() < SINGLE[0]:
        return matrix
    return csr_array((matrix.data.astype(np.float32).astype(np.float64), matrix.indices, matrix.indptr), matrix.shape)


def _after_scaling(block: Block, scaling: Scaling) -> Block:
    """Return the block of what a scaling returns, but for its center."""
    scale = _diagonal(1.0 / scaling.scale)
    return replace(block, inner=csr_array(block.inner @ scale), skip=csr_array(block.matrix @ scale))


def _before_scaling(block: Block, scaling: Scaling) -> Block:
    """Return the block followed by the inverse of a scaling."""
    scale = _diagonal(scaling.scale)
    outer, skip = csr_array(scale @ block.outer), csr_array(scale @ block.matrix)
    return Block(block.inner, block.bias, outer, skip, block.offset * scaling.scale + scaling.center)


def _diagonal(values: Floats) -> csr_array:
    n = values.size
    return csr_array((values, np.arange(n), np.arange(n + 1)), shape=(n, n))
