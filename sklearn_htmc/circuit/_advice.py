"""What ports say about features: texts for errors and warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sklearn_htmc.circuit._circuit import Circuit
from sklearn_htmc.circuit._fixed_point import INPUT_BITS, Floats, Format
from sklearn_htmc.circuit._frames import listed
from sklearn_htmc.circuit._graph import Op
from sklearn_htmc.circuit._rounding import Rounding
from sklearn_htmc.circuit._rows import Task

_LONG = 24  # bits of an input that say that the feature is far from zero or has outliers
_FAR = 16.0  # times the range of the other values: what one value makes of it
_FEW = 10  # different values, below which none is an outlier


def remedy(task: Task, rounding: Rounding) -> str:
    """Return what can be done where no circuit reaches epsilon."""
    tries = rounding.tries
    if task.given.outputs and task.ends.error > tries.tolerance:
        return f"rounding to output_format alone leaves an error of {task.ends.error:.3g}: take a finer format"
    if task.given.inputs and rounding.base > tries.inner and task.sample.error(task.form(task.sample.X)) > 0:
        return f"the model on the codes of input_formats has an error of {rounding.base:.3g}: take finer formats"
    return finer(tries.formats, task.given.names)


def finer(formats: Sequence[Format], names: Sequence[str]) -> str:
    """Return what can be done where numbers are too coarse with some formats of the inputs."""
    long = [name for name, form in zip(names, formats, strict=False) if form.width >= _LONG]
    if not long:
        return "take a larger epsilon"
    return (
        f"{listed(long)} use up the {INPUT_BITS} bits of an input: centre or rescale such features before the fit, "
        "give input_formats with an offset, or take a larger epsilon"
    )


def advice(task: Task, circuit: Circuit) -> list[str]:
    """Return texts about ports that were chosen and are longer than they could be."""
    read = {node.data[0] for node in circuit.nodes if node.op is Op.INPUT} - task.given.inputs.keys()
    names = task.given.names
    outliers = [port for port in sorted(read) if _has_outlier(task.sample.X[:, port])]
    long = [port for port in sorted(read) if circuit.input_formats[port].width >= _LONG and port not in outliers]
    texts = []
    if outliers:
        texts.append(
            f"a single value sets the range of {listed([names[port] for port in outliers])} and makes words long; "
            "clip such features before the fit, or give input_formats."
        )
    if long:
        texts.append(
            f"words of {_LONG} bits or more are needed for {listed([names[port] for port in long])}; centre or clip "
            "features that are far from zero for what they vary or have outliers, give input_formats, or take a larger "
            "epsilon."
        )
    return texts


def _has_outlier(column: Floats) -> bool:
    """Return whether one value makes the range many times that of the others."""
    values = np.unique(column)
    if len(values) < _FEW:
        return False
    halves = values / 2.0  # the difference of the ends could overflow
    without = min(halves[-2] - halves[0], halves[-1] - halves[1])
    return bool(halves[-1] - halves[0] > _FAR * without) and math.isfinite(without)
