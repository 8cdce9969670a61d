"""`quantiser`: how the forms become integer graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

from sklearn_htmc.circuit._graph import Graph
from sklearn_htmc.circuit._lower._forms import Wired
from sklearn_htmc.circuit._quantise.sample import Sample

Quantiser = Callable[[float], Graph]


@singledispatch
def quantiser(form: Any, sample: Sample) -> Quantiser:
    """Return a function that makes a graph from a level of noise.

    The level is the error to aim at, in units of the scale of the sample. It is a knob, not a promise: who turns it
    measures the error of the graph. Less noise never makes a worse circuit by more than chance.
    """
    raise NotImplementedError(f"no quantiser for a {type(form).__name__}.")


@quantiser.register
def _(form: Wired, _: Sample) -> Quantiser:
    """Return the circuit itself, whatever the noise: there is nothing to round."""
    return lambda _: form.graph
