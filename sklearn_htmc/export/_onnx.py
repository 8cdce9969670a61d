"""`to_onnx`: a fitted network or a circuit as an ONNX model."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_htmc._network import SparseNetwork
from sklearn_htmc.circuit import Graph, TreeEnsemble, lower
from sklearn_htmc.circuit._frames import names_of_fit
from sklearn_htmc.export._circuits import write_circuit
from sklearn_htmc.export._emitter import IR_VERSION, OPSET, Emitter
from sklearn_htmc.export._networks import write_network

if TYPE_CHECKING:
    from onnx import ModelProto

_TYPES = ("float64", "float32")


def to_onnx(model: Any, *, dtype: Any = "float64") -> ModelProto:
    """Return a fitted regressor, its network or a circuit as an ONNX model.

    The input ``X`` holds raw features of shape (n_samples, n_features), the output ``y`` raw targets of shape
    (n_samples, n_outputs), also where ``predict`` returns one dimension. Rows with NaN, which ``predict`` refuses, give
    NaN.

    A network becomes matrix products in the given precision and in the order in which ``predict`` computes, so the two
    differ by rounding. A circuit becomes operators on 64-bit integers, quantisation of the features included, and gives
    what `sklearn_htmc.circuit.simulate` gives, bit for bit.

    Parameters
    ----------
    model : estimator, SparseNetwork or Circuit
        One of our fitted regressors, its ``network_`` or ``circuit_``, what `sklearn_htmc.circuit.compile_circuit`
        returned, or any model that `sklearn_htmc.circuit.lower` makes a network of: linear models, perceptrons,
        pipelines of affine scalers.
    dtype : {"float64", "float32"}, default="float64"
        Type of ``X`` and ``y``, and of the arithmetic of networks. Circuits compute with integers; with "float32" their
        targets are rounded to single precision in the end.

    Returns
    -------
    onnx.ModelProto
        A checked model of opset 13, for ``onnx.save`` or ``onnxruntime.InferenceSession(model.SerializeToString())``.
        Names of features, where the fit knew them, are in its ``metadata_props`` as a JSON list, ``feature_names``.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    TypeError
        If the model is none of the above; sums of trees must be compiled first.
    ValueError
        If dtype is none of the above, or cannot hold the numbers of the network.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    Notes
    -----
    All rows of a call are in memory at once, for a circuit with the words of one or two depths: give a million rows in
    parts.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn_htmc.circuit import compile_circuit
    >>> from sklearn_htmc.export import to_onnx
    >>> X = [[0.0], [1.0], [2.0]]
    >>> model = LinearRegression().fit(X, [1.0, 3.0, 5.0])
    >>> [node.op_type for node in to_onnx(model).graph.node][:2]
    ['MatMul', 'Add']
    >>> onnx_model = to_onnx(compile_circuit(model, X, epsilon=0.01))
    >>> [tensor.name for tensor in [*onnx_model.graph.input, *onnx_model.graph.output]]
    ['X', 'y']
    """
    kind = _checked_type(dtype)
    function = _function_of(model)
    try:
        emit = Emitter()
    except ImportError as error:
        raise ImportError('to_onnx needs the package onnx: pip install "sklearn-htmc[onnx]".') from error
    if isinstance(function, SparseNetwork):
        y = write_network(emit, function, "X", kind)
        n_features, n_outputs = function.n_features, function.n_outputs
    else:
        X = "X" if kind == np.float64 else emit.cast("X", np.float64)
        y = write_circuit(emit, function, X)
        y = y if kind == np.float64 else emit.cast(y, kind)
        n_features, n_outputs = len(function.input_formats), len(function.outputs)
    _write_output(emit, y, kind)
    names = getattr(function, "feature_names", None) or names_of_fit(model)
    return _model(emit, (n_features, n_outputs), kind, names)


def _checked_type(dtype: Any) -> np.dtype[Any]:
    for kind in map(np.dtype, _TYPES):
        with suppress(TypeError):  # of what is no type at all
            if kind == dtype:
                return kind
    raise ValueError(f"dtype must be one of {', '.join(_TYPES)}, got {dtype!r}.")


def _function_of(model: Any) -> SparseNetwork | Graph:
    """Return the network or the circuit of a model."""
    if isinstance(model, Graph):
        return model
    try:
        form = lower(model)
    except TypeError as error:
        raise TypeError(
            "model must be a fitted regressor of sklearn_htmc, a network, a circuit, or what lower makes a network of, "
            f"got a {type(model).__name__}: {error}"
        ) from error
    if isinstance(form, TreeEnsemble):
        raise TypeError(
            f"model must be a network or a circuit, and a {type(model).__name__} is a sum of trees; export its "
            "circuit, to_onnx(compile_circuit(model, X, epsilon=...))."
        )
    return form if isinstance(form, SparseNetwork) else form.graph


def _write_output(emit: Emitter, y: str, kind: np.dtype[Any]) -> None:
    """Write the output: NaN for rows with NaN."""
    missing = emit.cast(emit("IsNaN", "X"), np.int32)
    missing = emit.cast(emit("ReduceMax", missing, axes=[1], keepdims=1), np.bool_)
    emit("Where", missing, np.array(np.nan, dtype=kind), y)
    emit.nodes[-1].output[0] = "y"


def _model(emit: Emitter, sizes: tuple[int, int], kind: np.dtype[Any], names: tuple[str, ...] | None) -> ModelProto:
    from onnx import checker, helper

    element = helper.np_dtype_to_tensor_dtype(kind)
    X, y = (
        helper.make_tensor_value_info(name, element, ["n_samples", n])
        for name, n in zip(("X", "y"), sizes, strict=True)
    )
    model = helper.make_model(
        helper.make_graph(emit.nodes, "sklearn_htmc", [X], [y], emit.constants),
        producer_name="sklearn-htmc",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    if names is not None:
        helper.set_model_props(model, {"feature_names": json.dumps(list(names))})
    checker.check_model(model, full_check=True)
    return model
