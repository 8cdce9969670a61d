"""Evaluation of a graph, bit for bit, for many rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from sklearn_htmc.circuit._fixed_point import Floats, Integers
from sklearn_htmc.circuit._frames import as_numbers, require_names
from sklearn_htmc.circuit._graph import Graph, Op, require_graph

_ROWS = 4096  # of one pass; their words stay in the cache of one core

Words = NDArray[Any]  # int64 words, or bits as bool


def _integers(word: Words) -> Words:
    return word.astype(np.int64) if word.dtype == np.bool_ else word


def _shifted(word: Words, shift: int) -> Words:
    word = _integers(word)
    return word << shift if shift else word


def _join(bits: Sequence[Words]) -> Words:
    total = bits[0].astype(np.int64)
    for place, bit in enumerate(bits[1:], start=1):
        total |= bit.astype(np.int64) << place
    return total


def _sum(words: Sequence[Words], data: tuple[int, ...]) -> Words:
    total: Words = np.full(np.broadcast_shapes(*map(np.shape, words)), data[0], dtype=np.int64)
    for word, weight in zip(words, data[1:], strict=True):
        if abs(weight) == 1:
            (np.add if weight > 0 else np.subtract)(total, word, out=total)
        else:
            total += _integers(word) * weight
    return total


# What every operation does to the words of its arguments.
MEANINGS: dict[Op, Callable[[Sequence[Words], tuple[int, ...]], Words]] = {
    Op.ADD: lambda a, d: _shifted(a[0], d[0]) + _shifted(a[1], d[1]),
    Op.SUBTRACT: lambda a, d: _shifted(a[0], d[0]) - _shifted(a[1], d[1]),
    Op.SUM: _sum,
    Op.FLOOR: lambda a, d: _integers(a[0]) >> d[0],
    Op.RELU: lambda a, _: np.maximum(a[0], 0),
    Op.CLAMP: lambda a, d: np.clip(a[0], d[0], d[1]),
    Op.AT_MOST: lambda a, d: a[0] <= d[0],
    Op.BIT: lambda a, d: (_integers(a[0]) >> d[0] & 1) != 0,
    Op.NOT: lambda a, _: a[0] == 0,
    Op.AND: lambda a, _: a[0] & a[1],
    Op.OR: lambda a, _: a[0] | a[1],
    Op.XOR: lambda a, _: a[0] != a[1],
    Op.JOIN: lambda a, _: _join(a),
    Op.INPUT: lambda a, _: a[0],
    Op.CONSTANT: lambda _, d: np.int64(d[0]),  # type: ignore[dict-item, return-value]
}


def simulate(circuit: Graph, X: Any) -> Floats:
    """Evaluate a circuit on raw features, bit for bit what the hardware computes.

    Every feature is rounded to the nearest code of its input format and saturated at the ends of its range:
    ``decode(circuit, simulate_codes(circuit, encode(circuit, X)))``.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Raw features; no NaN.

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Raw targets, in the shape that `predict` of the model has: the integers at the output ports in the units of
        their formats. Graphs that come from no model have two dimensions.

    Raises
    ------
    TypeError
        If circuit is none.
    ValueError
        If X has another number of features, holds NaN, or is a frame with other columns than that of the fit.

    See Also
    --------
    simulate_codes, encode, decode

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn_htmc.circuit import compile_circuit, simulate
    >>> X = np.linspace(0.0, 1.0, 50)[:, None]
    >>> model = LinearRegression().fit(X, 3.0 * X[:, 0] + 1.0)
    >>> circuit = compile_circuit(model, X, epsilon=0.01)
    >>> bool(np.abs(simulate(circuit, X) - model.predict(X)).max() < 0.05)
    True
    """
    values = simulated(circuit, X)
    return values[:, 0] if getattr(circuit, "prediction_ndim", 2) == 1 else values


def encode(circuit: Graph, X: Any) -> Integers:
    """Return the codes of raw features at the input ports.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Raw features; no NaN.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        The nearest codes, ties to even, saturated at the ends of the formats.

    Raises
    ------
    TypeError, ValueError
        As `simulate`.

    Examples
    --------
    >>> from sklearn_htmc.circuit import Builder, Format, decode, encode, simulate_codes
    >>> build = Builder([Format(0, 1023, 0, scale=0.5, offset=-40.0)])
    >>> graph = build.graph([build.floor(build.input(0), 1)], [0])
    >>> codes = encode(graph, [[21.3], [-100.0]])
    >>> codes
    array([[123],
           [  0]])
    >>> decode(graph, simulate_codes(graph, codes))
    array([[61.],
           [ 0.]])
    """
    columns = _encoded(circuit, X)
    return np.stack(columns, axis=1) if columns else np.zeros((len(X), 0), dtype=np.int64)


def simulate_codes(circuit: Graph, codes: Any) -> Integers:
    """Return the integers at the output ports for integers at the input ports.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    codes : array-like of shape (n_samples, n_features)
        Integers, any that fit into the words of the ports: also those outside the ranges of the formats.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs)
        Integers.

    Raises
    ------
    TypeError
        If circuit is none.
    ValueError
        If codes are no integers, have another shape, are a frame with other columns than that of the fit, or one does
        not fit into the word of its port.

    See Also
    --------
    encode, decode
    """
    require_graph(circuit)
    require_names(getattr(circuit, "feature_names", None), codes, "codes")
    given = _columns(circuit, np.asarray(codes), "codes")
    if given.dtype.kind not in "iu":
        raise ValueError(f"codes must be integers, got {given.dtype}; encode(circuit, X) makes codes of features.")
    for port, (form, column) in enumerate(zip(circuit.input_formats, given.T, strict=True)):
        low, high = form.word
        if len(column) and (column.min() < low or column.max() > high):
            wrong = column[(column < low) | (column > high)][0]
            raise ValueError(f"codes of x{port} must fit into its word, {low} .. {high}, got {wrong}.")
    return np.stack(words_at_outputs(circuit, list(given.T), len(given)), axis=1)


def decode(circuit: Graph, codes: Any) -> Floats:
    """Return the values of integers at the output ports.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    codes : array-like of shape (n_samples, n_outputs)
        Integers.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs)
        Raw targets.

    Raises
    ------
    TypeError
        If circuit is none.
    ValueError
        If codes are no integers or have another shape.

    See Also
    --------
    encode, simulate_codes
    """
    require_graph(circuit)
    codes, n_ports = np.asarray(codes), len(circuit.output_formats)
    if codes.ndim != 2 or codes.shape[1] != n_ports:
        raise ValueError(f"codes must have shape (n_samples, {n_ports}), got {codes.shape}.")
    if codes.dtype.kind not in "iu":
        raise ValueError(f"codes must be integers, got {codes.dtype}; simulate_codes returns those of outputs.")
    return np.stack([form.decode(word) for form, word in zip(circuit.output_formats, codes.T, strict=True)], axis=1)


def simulated(circuit: Graph, X: Any) -> Floats:
    """Return what `simulate` does, always of shape (n_samples, n_outputs)."""
    columns = _encoded(circuit, X)
    out = words_at_outputs(circuit, columns, len(columns[0]) if columns else 0)
    return np.stack([form.decode(word) for form, word in zip(circuit.output_formats, out, strict=True)], axis=1)


def _encoded(circuit: Graph, X: Any) -> list[Integers]:
    require_graph(circuit)
    require_names(getattr(circuit, "feature_names", None), X)
    X = _columns(circuit, X.toarray() if issparse(X) else as_numbers(X), "X")
    return [form.encode(X[:, port]) for port, form in enumerate(circuit.input_formats)]


def _columns(circuit: Graph, array: NDArray[Any], name: str) -> NDArray[Any]:
    n_ports = len(circuit.input_formats)
    if array.ndim != 2 or array.shape[1] != n_ports:
        raise ValueError(
            f"{name} must have shape (n_samples, {n_ports}), got {array.shape}; give the features seen in fit."
        )
    return array


def words_at_outputs(graph: Graph, codes: Sequence[Integers], n_rows: int | None = None) -> list[Integers]:
    """Evaluate a graph on integers at its ports, one array per port, and return one array per output."""
    if n_rows is None:
        n_rows = len(codes[0]) if codes else 0
    out = [np.empty(n_rows, dtype=np.int64) for _ in graph.outputs]
    last = _last_uses(graph)
    for start in range(0, n_rows, _ROWS):
        part = slice(start, start + _ROWS)
        parts = [np.asarray(code[part], dtype=np.int64) for code in codes]
        for column, word in zip(out, _evaluate(graph, parts, last), strict=True):
            column[part] = word
    return out


def _evaluate(graph: Graph, codes: Sequence[Integers], last: Sequence[Sequence[int]]) -> list[Words]:
    words: list[Any] = [None] * len(graph.nodes)
    for number, (op, args, data, _, _) in enumerate(graph.nodes):
        arguments = [codes[data[0]]] if op is Op.INPUT else [words[arg] for arg in args]
        words[number] = MEANINGS[op](arguments, data)
        for done in last[number]:
            words[done] = None
    return [words[number] for number in graph.outputs]


def _last_uses(graph: Graph) -> list[list[int]]:
    """Return for every node which words nobody reads after it."""
    last = {arg: number for number, node in enumerate(graph.nodes) for arg in node.args}
    for number in graph.outputs:
        last.pop(number, None)
    done: list[list[int]] = [[] for _ in graph.nodes]
    for arg, number in last.items():
        done[number].append(arg)
    return done
