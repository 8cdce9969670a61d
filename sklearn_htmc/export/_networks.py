"""A sparse network as dense ONNX operators, in the order in which `SparseNetwork` computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc._network import Block, Floats, SparseNetwork
from sklearn_htmc.export._emitter import Emitter, Value


def write_network(emit: Emitter, network: SparseNetwork, X: str, dtype: np.dtype[Any]) -> str:
    """Write a network of the tensor ``X`` of shape (n_samples, n_features); return that of the targets.

    Raises
    ------
    ValueError
        If a number of the network is beyond the range of the type.
    """
    h: Value = X
    if network.clip:
        low, high = (_as_type(limits, dtype) for limits in network.input_range)
        h = emit("Min", emit("Max", h, low), high)
    for block in network.blocks:
        h = _block(emit, block, h, dtype)
    if isinstance(h, str):
        return h
    # A constant does not know the number of rows.
    n_rows = emit("Gather", emit("Shape", X), np.array([0]))
    return emit("Expand", _as_type(h, dtype), emit("Concat", n_rows, np.array([h.size]), axis=0))


def _block(emit: Emitter, block: Block, h: Value, dtype: np.dtype[Any]) -> Value:
    """Write a block; values that depend on no feature stay numbers, so that no matrix is empty."""
    if not isinstance(h, str):
        return _constant(block, h)
    linear, neurons = block.matrix, np.flatnonzero(np.diff(block.inner.indptr))
    if not linear.nnz and not neurons.size:
        return _constant(block, np.zeros(linear.shape[1]))
    terms = [h] if block.skip is None else [_product(emit, h, linear, dtype)] if linear.nnz else []
    if block.n_neurons:
        drive = emit("Add", _product(emit, h, block.inner, dtype), _as_type(block.bias, dtype))
        terms.append(_product(emit, emit("Relu", drive), block.outer, dtype))
    if np.any(block.offset):
        terms.append(_as_type(block.offset, dtype))
    total = terms[0]
    for term in terms[1:]:
        total = emit("Add", total, term)
    return total


def _constant(block: Block, h: Floats) -> Floats:
    out: Floats = block(h[None])[0]
    return out


def _product(emit: Emitter, h: str, matrix: Any, dtype: np.dtype[Any]) -> Any:
    return emit("MatMul", h, _as_type(matrix.toarray().T, dtype))


def _as_type(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers in another precision; raise ValueError for what is infinite or zero there."""
    with np.errstate(over="ignore", under="ignore"):
        converted = array.astype(dtype)
    if not np.array_equal(np.isinf(array), np.isinf(converted)) or np.any((converted == 0) & (array != 0)):
        raise ValueError(
            f"dtype must be 'float64' for this network, got {dtype.name!r}, which cannot hold all of its numbers; or "
            "fit to features and targets in other units."
        )
    return converted
