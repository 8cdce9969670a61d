"""Words at the inputs, and the comparisons of them that growth may use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sklearn_htmc.circuit._fixed_point import Floats, Format, Integers, roundest

_BITS = 10  # of a word over its range ...
_FINER = 21  # ... and more where neighbouring values would share a code
_APART = 0.98  # of the values, or of as many as there are comparisons, have codes of their own
_CUTS = 24  # comparisons per feature ...
_LEAST_CUTS = 3
_ALL_CUTS = 512  # ... and of all features, unless there are very many
_HIGH_BITS = 8  # of a word that growth may read


@dataclass(frozen=True, eq=False)
class Ports:
    """Formats of the features, and the constants that their codes are compared with.

    Attributes
    ----------
    formats : tuple of Format
        Of all features, read or not.
    cuts : tuple of tuple of int
        For every feature, codes c for which ``code > c`` is a candidate; none for a constant feature.
    """

    formats: tuple[Format, ...]
    cuts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, X: Floats, input_range: Floats, given: Mapping[int, Format] | None = None) -> Ports:
        """Choose formats in which different values differ, and constants that take few gates.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Distinct rows.
        input_range : ndarray of shape (2, n_features)
            What the words have to cover.
        given : mapping from int to Format, default=None
            Formats that are not chosen.
        """
        given = {} if given is None else given
        varying = max(int((np.ptp(X, axis=0) > 0).sum()), 1)
        most = int(np.clip(_ALL_CUTS // varying, _LEAST_CUTS, _CUTS))
        formats, cuts = list[Format](), list[tuple[int, ...]]()
        for feature, (column, limits) in enumerate(zip(X.T, input_range.T, strict=True)):
            form = given[feature] if feature in given else _format(column, limits, most)
            formats.append(form)
            cuts.append(_cuts(form.encode(column), most))
        return cls(tuple(formats), tuple(cuts))

    def codes(self, X: Floats) -> list[Integers]:
        """Return the integers at the ports, one array per feature."""
        return [form.encode(column) for form, column in zip(self.formats, X.T, strict=True)]

    def comparison_gates(self, feature: int, cut: int) -> float:
        """Return about how many gates a comparison takes: one per bit that it reads, less one.

        It does not read the ones at the end of its constant.
        """
        ones = ((cut + 1) & -(cut + 1)).bit_length() - 1 if cut != -1 else self.formats[feature].width
        return float(max(self.formats[feature].width - 1 - ones, 0))

    def high_bits(self, feature: int, codes: Integers) -> list[int]:
        """Return the places of the highest bits that vary."""
        if not self.cuts[feature]:
            return []
        differ = int(np.bitwise_or.reduce(codes ^ codes[0]))
        top = self.formats[feature].width if differ < 0 else differ.bit_length()
        return list(range(top - 1, max(top - 1 - _HIGH_BITS, -1), -1))


def _format(column: Floats, limits: Floats, n_cuts: int) -> Format:
    """Return the coarsest format with at least ten bits over the range in which values differ."""
    low, high = float(limits[0]), float(limits[1])
    if low == high:
        return Format.covering(low, high, math.frexp(abs(low))[1])
    values = np.unique(column)
    wanted = _APART * min(len(values), n_cuts)
    # The difference of the ends could overflow.
    exponent = math.frexp(high / 2.0 - low / 2.0)[1] + 1 - _BITS
    form = Format.covering(low, high, exponent)
    for finer in range(1, _FINER + 1):
        if len(np.unique(form.encode(values))) >= wanted:
            break
        form = Format.covering(low, high, exponent - finer)
    return form


def _cuts(codes: Integers, most: int) -> tuple[int, ...]:
    """Return constants between quantiles of the codes, each the one between its neighbours that ends in most ones."""
    distinct = np.unique(codes)
    if len(distinct) <= most + 1:
        first, last = distinct[:-1], distinct[1:] - 1
    else:
        # The middle thirds between quantiles: constants stay apart.
        places = np.linspace(0, len(codes) - 1, 3 * most + 4).astype(np.intp)
        ladder = np.sort(codes)[places]
        first, last = ladder[1:-2:3], np.maximum(ladder[2::3][: len(ladder[1:-2:3])] - 1, ladder[1:-2:3])
    found = np.unique(roundest(first, last, last))
    return tuple(found[(found >= distinct[0]) & (found < distinct[-1])].tolist())
