"""A network as statements: sums of named quantities, one after the other, that people and Python can read."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Kind = Literal["clip", "new", "more", "neuron", "output"]
Terms = tuple[tuple[float, str], ...]

_ROUNDING = 1e-13  # of the largest value that a sum may have: a constant below it is nothing but rounding
_FUNCTIONS = frozenset({"clip", "relu"})


class BlockLike(Protocol):
    """What is read of a block: ``h -> skip @ h + outer @ relu(inner @ h + bias) + offset``."""

    @property
    def inner(self) -> Any: ...
    @property
    def bias(self) -> NDArray[np.float64]: ...
    @property
    def outer(self) -> Any: ...
    @property
    def skip(self) -> Any: ...
    @property
    def matrix(self) -> Any: ...
    @property
    def offset(self) -> NDArray[np.float64]: ...


class NetworkLike(Protocol):
    """What is read of a network."""

    @property
    def blocks(self) -> Sequence[BlockLike]: ...
    @property
    def input_range(self) -> NDArray[np.float64]: ...
    @property
    def clip(self) -> bool: ...


@dataclass(frozen=True)
class Statement:
    """One line of a network.

    Attributes
    ----------
    name : str
        What is assigned.
    kind : {"clip", "new", "more", "neuron", "output"}
        A feature is clipped; a coordinate is new, or gets more; a neuron; an output.
    terms : tuple of (float, str)
        Weights and names of what is added up, without zeros; of "clip": the range of the feature, with its name.
    constant : float
        Constant part of the sum.
    """

    name: str
    kind: Kind
    terms: Terms
    constant: float = 0.0

    def text(self, precision: int) -> str:
        """Return the line, with numbers of so many significant digits."""
        name = quoted(self.name)
        if self.kind == "clip":
            low, high = (f"{limit:.{precision}g}" for limit, _ in self.terms)
            return f"{name} = clip({name}, {low}, {high})"
        value = sum_text(self.terms, self.constant, precision)
        if self.kind == "neuron":
            value = f"relu({value})"
        return f"{name} {'+=' if self.kind == 'more' else '='} {value}"


def statements(network: NetworkLike, features: Sequence[str], targets: Sequence[str]) -> list[Statement]:
    """Return the lines of a network; coordinates are z1, z2, ... and neurons u1, u2, ..., through all blocks.

    Coordinates that are zero, and those that are the same as another quantity, get no line of their own, and constants
    that are nothing but rounding are left out.

    Parameters
    ----------
    network : SparseNetwork
        The network.
    features, targets : sequence of str
        Names of the features and of the outputs, all of them different.
    """
    taken = [*features, *targets]
    lines = _Lines(_prefix("z", taken), _prefix("u", taken), features, np.abs(network.input_range).max(axis=0))
    *before, last = network.blocks
    if network.clip:
        first = network.blocks[0]
        read = np.unique([*first.inner.tocoo().coords[1], *first.matrix.tocoo().coords[1]]).astype(int)
        for feature in read.tolist():
            limits = tuple((float(limit), features[feature]) for limit in network.input_range[:, feature])
            lines.found.append(Statement(features[feature], "clip", limits))
    for block in before:
        lines.through(block)
    lines.out(last, targets)
    return lines.found


def names_of_units(given: Sequence[Any] | None, n: int, default: Sequence[str], what: str) -> list[str]:
    """Return n different names.

    Raises
    ------
    ValueError
        If others are given.
    """
    if given is None:
        return list(default)
    names = [str(name) for name in given]
    if len(names) != n or len(set(names)) != n:
        raise ValueError(f"{what} must be {n} different names, got {names!r}.")
    return names


def targets_beside(features: Sequence[str], n_outputs: int) -> list[str]:
    """Return default names of outputs that no feature has."""
    stem = "y"
    while True:
        names = [stem] if n_outputs == 1 else [f"{stem}{output}" for output in range(n_outputs)]
        if not set(names) & set(features):
            return names
        stem += "_"


def quoted(name: str) -> str:
    """Return a name in backquotes if it is none in Python, as pandas does it."""
    plain = name.isidentifier() and not keyword.iskeyword(name) and name not in _FUNCTIONS
    return name if plain else "`" + name.replace("`", "'") + "`"


def sum_text(terms: Terms, constant: float, precision: int) -> str:
    """Return a sum as text, like ``0.31*age - bmi + 3``."""
    parts = list[tuple[str, str]]()
    for weight, name in terms:
        size = f"{abs(weight):.{precision}g}"
        parts.append(("-" if weight < 0 else "+", quoted(name) if size == "1" else f"{size}*{quoted(name)}"))
    if constant or not parts:
        parts.append(("-" if constant < 0 else "+", f"{abs(constant):.{precision}g}"))
    (sign, first), *others = parts
    return ("-" if sign == "-" else "") + first + "".join(f" {sign} {part}" for sign, part in others)


def _prefix(letter: str, taken: Sequence[str]) -> str:
    """Return a start of names that nobody else uses."""
    while any(re.fullmatch(re.escape(letter) + r"\d+", name) for name in taken):
        letter += "_"
    return letter


class _Lines:
    """Writes blocks as lines.

    Parameters
    ----------
    coordinate, neuron : str
        How their names begin.
    features : sequence of str
        Names of the features.
    reach : ndarray of shape (n_features,)
        Their largest sizes, as far as they are known.
    """

    def __init__(self, coordinate: str, neuron: str, features: Sequence[str], reach: NDArray[np.float64]) -> None:
        self.found: list[Statement] = []
        self._coordinate, self._neuron = coordinate, neuron
        self._stream = [*features]  # names of the coordinates; empty for those that are zero
        known = np.where(np.isfinite(reach), reach, np.nan)  # with NaN no constant is left out
        self._reach = dict(zip(features, known.tolist(), strict=True))
        self._own: set[str] = set()  # names that stand for one coordinate, to which more may be added
        self._n_neurons = 0

    def through(self, block: BlockLike) -> None:
        """Write a block that others follow."""
        neurons = self._neurons(block)
        outer = [_terms(block.outer, row, neurons) for row in range(block.offset.size)]
        offset = block.offset.tolist()
        if block.skip is not None:
            sums = [(*_terms(block.skip, row, self._stream), *terms) for row, terms in enumerate(outer)]
            self._stream = [self._new(terms, constant) for terms, constant in zip(sums, offset, strict=True)]
            return
        for row, (terms, constant) in enumerate(zip(outer, offset, strict=True)):
            if terms or constant:
                self._stream[row] = self._more(self._stream[row], terms, constant)

    def out(self, block: BlockLike, targets: Sequence[str]) -> None:
        """Write the last block."""
        neurons = self._neurons(block)
        for row, name in enumerate(targets):
            terms = (*_terms(block.matrix, row, self._stream), *_terms(block.outer, row, neurons))
            self._write(name, "output", terms, float(block.offset[row]))

    def _neurons(self, block: BlockLike) -> list[str]:
        names = list[str]()
        for row, bias in enumerate(block.bias.tolist()):
            self._n_neurons += 1
            names.append(f"{self._neuron}{self._n_neurons}")
            self._write(names[-1], "neuron", _terms(block.inner, row, self._stream), bias)
        return names

    def _more(self, old: str, terms: Terms, constant: float) -> str:
        """Add to a coordinate; one that shares the name of another quantity gets its own."""
        if old not in self._own:
            return self._new(((1.0, old), *terms) if old else terms, constant)
        self._write(old, "more", terms, constant)
        return old

    def _new(self, terms: Terms, constant: float) -> str:
        """Write a new coordinate, if it is not zero or another quantity that stays as it is."""
        if not terms and not constant:
            return ""
        if len(terms) == 1 and terms[0][0] == 1.0 and not constant and terms[0][1] not in self._own:
            return terms[0][1]
        name = f"{self._coordinate}{len(self._own) + 1}"
        self._own.add(name)
        self._write(name, "new", terms, constant)
        return name

    def _write(self, name: str, kind: Kind, terms: Terms, constant: float) -> None:
        size = sum(abs(weight) * self._reach[source] for weight, source in terms)
        size += self._reach[name] if kind == "more" else 0.0
        self._reach[name] = size + abs(constant)
        self.found.append(Statement(name, kind, terms, 0.0 if abs(constant) < _ROUNDING * size else constant))


def _terms(matrix: Any, row: int, names: Sequence[str]) -> Terms:
    """Return the nonzero weights of a row and what they multiply, without what is zero."""
    part = slice(*matrix.indptr[row : row + 2])
    pairs = sorted(zip(matrix.indices[part].tolist(), matrix.data[part].tolist(), strict=True))
    return tuple((weight, names[column]) for column, weight in pairs if weight and names[column])
