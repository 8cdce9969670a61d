"""Words of C: types, and expressions whose every operation is defined for an ``int`` of 16 bits and for longer ones.

An expression knows the bounds of its value. What is narrower than ``int`` is promoted to it, so operations whose
operands and result fit into 16 bits need no cast; all others are done in a type of known width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sklearn_htmc.circuit._graph import Node


class Kind(NamedTuple):
    """A type, and the integers that it holds wherever it exists.

    Attributes
    ----------
    name : str
        Of the type.
    low, high : int
        Bounds.
    """

    name: str
    low: int
    high: int

    @property
    def bits(self) -> int:
        """Bits of the type."""
        return (self.high - self.low).bit_length()

    @property
    def signed(self) -> bool:
        """Whether it has negative values."""
        return self.low < 0


def _signed(bits: int) -> Kind:
    return Kind(f"int{bits}_t", -(1 << bits - 1), (1 << bits - 1) - 1)


def _unsigned(bits: int) -> Kind:
    return Kind(f"uint{bits}_t", 0, (1 << bits) - 1)


BYTE = _unsigned(8)
INT = Kind("int", -(1 << 15), (1 << 15) - 1)  # what every int holds
UNSIGNED = (BYTE, *(_unsigned(bits) for bits in (16, 32, 64)))
_SHORT = UNSIGNED[1]
_PROMOTED = {"int", "int8_t", "uint8_t", "int16_t"}


@dataclass(frozen=True)
class Style:
    """Types of variables, and those in which is computed, the best first.

    Attributes
    ----------
    variables, computed : tuple of Kind
        For rising numbers of bits.
    """

    variables: tuple[Kind, ...]
    computed: tuple[Kind, ...]


_LONG = (_signed(32), _signed(64))
# Where both would do, words of 8 bits are unsigned, as they are cheaper to widen, and others signed, as their sums are.
_LEAST = (BYTE, _signed(8), _signed(16), _unsigned(16), _signed(32), _unsigned(32), _signed(64))
STYLES = {
    "least": Style(_LEAST, (INT, _unsigned(16), _signed(32), _unsigned(32), _signed(64))),
    "int32": Style(_LONG, _LONG),
}


def holding(kinds: Sequence[Kind], *bounds: int) -> Kind:
    """Return the first type that holds some integers."""
    low, high = min(bounds), max(bounds)
    return next(kind for kind in kinds if kind.low <= low and high <= kind.high)


_ANYTHING, _SUM, _PRODUCT, _ATOM = range(4)  # how tightly the parts of an expression hold together


class Value(NamedTuple):
    """An expression.

    Attributes
    ----------
    text : str
        What is written.
    low, high : int
        Bounds of the value; equal ones make it a constant.
    kind : Kind or None
        A type that holds the value and that the expression has where ``int`` has 16 bits; None if it depends.
    level : int
        How tightly its parts hold together.
    """

    text: str
    low: int
    high: int
    kind: Kind | None
    level: int = _ATOM

    def inside(self, level: int = _ATOM) -> str:
        """Return the text, in brackets where the place asks for more than it holds together."""
        return self.text if self.level >= level else f"({self.text})"

    def to(self, kind: Kind, level: int = _ATOM) -> str:
        """Return the text as an operand of a type that holds it."""
        if self.low == self.high >= 0:
            return literal(self.low, kind)
        if kind == self.kind or (kind is INT and self.kind is not None and self.kind.name in _PROMOTED):
            return self.inside(level)
        return f"({'int16_t' if kind is INT else kind.name}){self.inside()}"

    def stored(self, kind: Kind) -> str:
        """Return the text as it is assigned to a variable."""
        if self.kind is None or self.low == self.high:
            fits = self.low == self.high
        elif self.level == _ATOM:
            fits = kind.low <= self.kind.low and self.kind.high <= kind.high
        else:
            fits = kind == self.kind and kind != _SHORT  # that is an int where it has more bits
        return self.text if fits else f"({kind.name}){self.inside()}"


def literal(number: int, kind: Kind | None = None) -> str:
    """Return a constant; one without a suffix has a type that holds it, whatever the width of ``int``."""
    return f"{number}{'u' if kind is not None and not kind.signed and number >> 15 else ''}"


def constant(number: int) -> Value:
    """Return a constant as an expression."""
    return Value(str(number), number, number, None, _ATOM if number >= 0 else _ANYTHING)


def variable(number: int, node: Node, kind: Kind) -> Value:
    """Return the variable of a node."""
    return Value(f"n{number}", node.low, node.high, kind)


def _times(value: Value, factor: int, style: Style) -> Value:
    """Return the product with a positive constant."""
    if factor == 1:
        return value
    low, high = value.low * factor, value.high * factor
    kind = holding(style.computed, value.low, value.high, low, high, factor)
    return Value(f"{value.to(kind)} * {literal(factor, kind)}", low, high, kind, _PRODUCT)


def _plus(a: Value, b: Value, sign: int, style: Style) -> Value:
    """Return a sum, or with sign -1 a difference."""
    low, high = (a.low + b.low, a.high + b.high) if sign > 0 else (a.low - b.high, a.high - b.low)
    kind = holding(style.computed, a.low, a.high, b.low, b.high, low, high)
    text = f"{a.to(kind, _SUM)} {'+' if sign > 0 else '-'} {b.to(kind, _PRODUCT)}"
    return Value(text, low, high, kind, _SUM)


def weighted(terms: Iterable[tuple[Value, int]], number: int, style: Style) -> Value:
    """Return a sum of weighted words and a constant, by Horner's rule: every doubling is done once for all words."""
    places: dict[int, list[tuple[Value, int]]] = {}
    for value, weight in terms:
        place = (weight & -weight).bit_length() - 1
        places.setdefault(place, []).append((value, weight >> place))
    total, sign, last = None, 1, 0  # the sum so far is sign * total * 2**last
    for place in sorted(places, reverse=True):
        total, last = total and _times(total, 1 << last - place, style), place
        for value, weight in sorted(places[place], key=lambda term: term[1] < 0):
            term, of_term = _times(value, abs(weight), style), 1 if weight > 0 else -1
            if total is None:
                total, sign = term, of_term
            elif sign == of_term:
                total = _plus(total, term, 1, style)
            else:
                total, sign = _plus(*((total, term) if sign > 0 else (term, total)), -1, style), 1
    if total is None:
        return constant(number)
    total = _times(total, 1 << last, style)
    if sign < 0:
        return _plus(constant(number), total, -1, style)
    return _plus(total, constant(abs(number)), 1 if number > 0 else -1, style) if number else total


def added(total: Value, number: int, style: Style) -> str:
    """Return what is assigned to a variable to add a constant, where all sums stay within its bounds."""
    kind = holding(style.computed, total.low, total.high, abs(number))
    text = f"{total.to(kind)} {'+' if number > 0 else '-'} {literal(abs(number), kind)}"
    return Value(text, total.low, total.high, kind, _SUM).stored(total.kind or kind)


def between(value: Value, node: Node) -> Value:
    """Return a value between the bounds of a node."""
    text, inside = value.text, value.inside()
    if value.high > node.high:
        text = f"{inside} > {literal(node.high, value.kind)} ? {node.high} : {text}"
    if value.low < node.low:
        text = f"{inside} < {node.low} ? {node.low} : {text}"
    return value if text == value.text else Value(text, node.low, node.high, None, _ANYTHING)


def floor(value: Value, node: Node) -> Value:
    """Return the word of a node that drops the lowest places of a variable."""
    places = node.data[0]
    text = f"{value.text} >> {places}"
    if value.low < 0:
        # A right shift of a negative number is up to the compiler; that of -1 - a is not.
        all_out = value.kind is not None and places >= value.kind.bits - 1
        text = f"{value.text} < 0 ? " + ("-1 : 0" if all_out else f"-1 - ((-1 - {value.text}) >> {places}) : {text}")
    return Value(text, node.low, node.high, None, _ANYTHING)


def bit(value: Value, place: int, *, inverted: bool) -> str:
    """Return a place of a variable as a condition."""
    kind = value.kind or BYTE
    if place >= kind.bits - kind.signed:
        return f"{value.text} {'>=' if inverted else '<'} 0"
    text = f"(u{kind.name}){value.text}" if value.low < 0 else value.text
    text = f"{text} >> {place} & 1" if place else f"{text} & 1"
    return f"!({text})" if inverted else text


def some_places(value: Value, node: Node, places: Sequence[int], down: int) -> Value:
    """Return the places of a variable that are asked for, others as zeros, moved down by as many as are free.

    The last place of a signed word counts as its sign.
    """
    mask, top, kind = sum(1 << place for place in places), 1 << node.width - 1, value.kind or BYTE
    promoted = INT if kind.bits <= 16 else kind
    if not node.signed or not mask & top:
        cut = holding(UNSIGNED, mask)
        if cut.bits == kind.bits and not node.signed:
            cut, text, result = kind, value.text, promoted
        else:
            text, result = f"({cut.name}){value.text}", INT if cut is BYTE else cut
        text = f"{text} & {literal(mask, cut)}"
        return Value(f"({text}) >> {down}" if down else text, 0, mask >> down, result, _ANYTHING)
    missing = top - 1 & ~mask
    if not missing:
        return value
    cut = holding(UNSIGNED, missing)
    rest = f"({cut.name}){value.text} & {literal(missing, cut)}"
    rest = f"({rest})" if cut is BYTE else f"({cut.name[1:]})({rest})"
    return Value(f"{value.text} - {rest}", -top, mask - top, promoted, _SUM)
