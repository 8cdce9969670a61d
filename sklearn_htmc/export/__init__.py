"""Fitted networks and circuits in the formats of other runtimes."""

from sklearn_htmc.export._onnx import to_onnx

__all__ = ["to_onnx"]
