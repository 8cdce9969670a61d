"""Writes an ONNX graph operator by operator; onnx is imported with the first one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = str | NDArray[Any]  # the name of a tensor, or a constant

OPSET = 13  # of the year 2020: the first one in which all that is written here has its present form
IR_VERSION = 7  # the one of that opset


class Emitter:
    """Operators in the order in which they are written, and the constants that they read.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
        The operators.
    constants : list of onnx.TensorProto
        Constants, equal ones once.
    """

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._make_node: Any = helper.make_node
        self._make_tensor: Any = numpy_helper.from_array
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, op: str, *inputs: Value, **attributes: Any) -> str:
        """Write an operator and return the name of its result."""
        name = f"t{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        # Operators have names, too: onnxruntime 1.18 makes others of them and needs those to differ.
        self.nodes.append(self._make_node(op, names, [name], f"{op}_{name}", **attributes))
        return name

    def cast(self, value: Value, dtype: Any) -> str:
        """Convert a tensor to a type of numpy."""
        from onnx import helper

        return self("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _constant(self, array: NDArray[Any]) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"c{len(self.constants)}"
            self.constants.append(self._make_tensor(np.ascontiguousarray(array), self._known[key]))
        return self._known[key]
