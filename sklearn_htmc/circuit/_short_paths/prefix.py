"""Carries before a deadline: the fewest gates that are found, in the fewest levels where there is no time to lose.

What a place does to a carry is a pair of wires: it generates one, or it propagates the one from below. So does a span
of places, and two neighbouring spans are one: "high generates, or high propagates and low generates". Every way to put
spans together is right; a chain from below has the fewest gates, halves have the fewest levels. Here deadlines decide:
spans are taken apart from the top, each into the two parts that are cheapest among those that are early enough.
Comparisons with constants are carries, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from sklearn_htmc.circuit._netlist import Gates, Wires

Span = tuple[int, int]  # its highest and its lowest place

_NEUTRAL = -1  # the level of a wire that makes a gate needless
LATE = 1 << 30  # a deadline that never comes


def added(net: Gates, a: Wires, b: Wires, carry: int, deadlines: Sequence[int] | None = None) -> Wires:
    """Add two rows of wires and a carry into the lowest place.

    Parameters
    ----------
    net : Gates
        Where gates are made.
    a, b : list of int
        Rows of equal length; the carry out of the highest place is lost.
    carry : int
        A wire.
    deadlines : sequence of int, default=None
        The level that each wire of the sum may have; None for as early as possible.
    """
    if not a:
        return []
    x, y, z = sorted((a[0], b[0], carry), key=net.level)
    lowest, first = net.sum_and_carry(x, y, z)
    propagate = [0] + [net.exclusive(x, y) for x, y in zip(a[1:], b[1:], strict=True)]
    generate = [first] + [net.conjunction(x, y) for x, y in zip(a[1:], b[1:], strict=True)]
    spans = Spans(net, generate[:-1], propagate[:-1])
    for place in range(len(a) - 1):
        # The exclusive or that ends a sum takes a level.
        spans.demand(place, None if deadlines is None else deadlines[place + 1] - 1)
    carries = spans.written()
    return [lowest, *(net.exclusive(propagate[place + 1], carry) for place, carry in enumerate(carries))]


def carry_out(net: Gates, a: Wires, b: Wires, carry: int, deadline: int | None = None) -> int:
    """Return the carry out of the highest place of a sum of two rows and a carry into the lowest place."""
    x, y, z = sorted((a[0], b[0], carry), key=net.level)
    generate = [net.sum_and_carry(x, y, z)[1]] + [net.conjunction(x, y) for x, y in zip(a[1:], b[1:], strict=True)]
    propagate = [0] + [net.exclusive(x, y) for x, y in zip(a[1:], b[1:], strict=True)]
    spans = Spans(net, generate, propagate)
    spans.demand(len(a) - 1, deadline)
    return spans.written()[0]


def greater_before(net: Gates, wires: Wires, signed: bool, constant: int, deadline: int | None = None) -> int:
    """Return "word > constant", before a deadline or as early as possible.

    The carry of "word + not constant": a place where the constant has a one propagates if the word has one, and a place
    where it has a zero generates if the word has one and propagates in any case.
    """
    if signed:
        wires, constant = [*wires[:-1], wires[-1] ^ 1], constant + (1 << (len(wires) - 1))
    if constant < 0 or constant >> len(wires):
        return int(constant < 0)
    if not wires:
        return 0
    ones = [constant >> place & 1 for place in range(len(wires))]
    generate = [0 if one else wire for one, wire in zip(ones, wires, strict=True)]
    propagate = [wire if one else 1 for one, wire in zip(ones, wires, strict=True)]
    spans = Spans(net, generate, propagate)
    spans.demand(len(wires) - 1, deadline)
    return spans.written()[-1]


class Spans:
    """Spans of places, the deadlines of those that are asked for, and how each is put together.

    Parameters
    ----------
    net : Gates
        Where gates are made.
    generate, propagate : list of int
        For every place the wire that says whether it makes a carry, and whether it hands one on. The lowest place has
        none to hand on.
    """

    def __init__(self, net: Gates, generate: Wires, propagate: Wires) -> None:
        self._net = net
        self._generate, self._propagate = generate, propagate
        self._asked: dict[bool, list[dict[int, int]]] = {
            kind: [{} for _ in generate] for kind in (True, False)
        }  # deadlines by kind (whether it is about generating), highest place and lowest place
        self._split: dict[tuple[bool, Span], int] = {}
        self._made: dict[tuple[bool, Span], int] = {}
        self._carries: list[int] = []
        self._earliest: dict[bool, list[list[int]]] = {}
        self._find_earliest()

    def demand(self, place: int, deadline: int | None) -> None:
        """Ask for the carry out of a place; None for as early as possible."""
        self._carries.append(place)
        self._ask(True, place, 0, self._earliest[True][place][0] if deadline is None else deadline)

    def written(self) -> Wires:
        """Return the carries that were asked for."""
        for high in range(len(self._generate) - 1, -1, -1):
            for generating in (True, False):
                asked = self._asked[generating][high]
                # Longer spans ask for shorter ones that end at the same place.
                for low in range(high):
                    if low in asked:
                        self._take_apart(generating, high, low, asked[low])
        return [self._wire(True, (place, 0)) for place in self._carries]

    def _find_earliest(self) -> None:
        """Find the least levels of all spans: of generating, ``earliest[True][high][low]``, and of propagating."""
        net = self._net
        n = len(self._generate)
        carry, through = [[0] * n for _ in range(n)], [[0] * n for _ in range(n)]
        self._earliest = {True: carry, False: through}
        for high in range(n):
            for low in range(high, -1, -1):
                if low == high:
                    carry[high][high] = net.level(self._generate[high]) if self._generate[high] else _NEUTRAL
                    through[high][high] = net.level(self._propagate[high]) if self._propagate[high] != 1 else _NEUTRAL
                    continue
                middles = range(low + 1, high + 1)
                carry[high][low] = min(self._level(True, high, middle, low) for middle in middles)
                if low:
                    through[high][low] = min(self._level(False, high, middle, low) for middle in middles)

    def _level(self, generating: bool, high: int, middle: int, low: int) -> int:
        """Return the earliest level of a span of two parts, of which the upper one begins at the middle."""
        carry, through = self._earliest[True], self._earliest[False]
        across = through[high][middle]
        below = (carry if generating else through)[middle - 1][low]
        both = (
            below if across == _NEUTRAL else across if not generating and below == _NEUTRAL else 1 + max(across, below)
        )
        if not generating:
            return both
        above = carry[high][middle]
        if below == _NEUTRAL:
            return above
        return both if above == _NEUTRAL else 1 + max(above, both)

    def _ask(self, generating: bool, high: int, low: int, deadline: int) -> None:
        asked = self._asked[generating][high]
        asked[low] = min(asked.get(low, LATE), deadline)

    def _take_apart(self, generating: bool, high: int, low: int, deadline: int) -> None:
        """Choose the parts of a span, and ask for them."""
        best, least = 0, (True, LATE, LATE)
        for middle in range(high, low, -1):
            level = self._level(generating, high, middle, low)
            late = level > deadline
            rank = late, level if late else 0, self._price(generating, high, middle, low)
            if rank < least:
                best, least = middle, rank
        self._split[generating, (high, low)] = best
        carry, through = self._earliest[True], self._earliest[False]
        if not generating:
            alone = _NEUTRAL in (through[high][best], through[best - 1][low])
            self._ask(False, high, best, deadline - (not alone))
            self._ask(False, best - 1, low, deadline - (not alone))
            return
        below = carry[best - 1][low]
        inner = deadline - (carry[high][best] != _NEUTRAL and below != _NEUTRAL)
        self._ask(True, high, best, inner)
        if below != _NEUTRAL:
            inner -= through[high][best] != _NEUTRAL
            self._ask(False, high, best, inner)
            self._ask(True, best - 1, low, inner)

    def _price(self, generating: bool, high: int, middle: int, low: int) -> int:
        """Return about how many gates the parts of a span take that nobody has asked for."""
        upper = 0 if middle == high else high - middle
        price = 0 if middle in self._asked[False][high] else upper
        if generating:
            price += 0 if middle in self._asked[True][high] else 2 * upper
        # Carries from the lowest place on are asked for anyway.
        lower = self._asked[generating][middle - 1]
        return price + (0 if low == 0 or low in lower else (1 + generating) * (middle - 1 - low))

    def _wire(self, generating: bool, span: Span) -> int:
        """Write a span."""
        high, low = span
        if high == low:
            return (self._generate if generating else self._propagate)[high]
        key = generating, span
        if key not in self._made:
            middle = self._split.get(key, high)
            across = self._wire(False, (high, middle))
            wire = self._net.conjunction(across, self._wire(generating, (middle - 1, low)))
            if generating:
                wire = self._net.conjunction(self._wire(True, (high, middle)) ^ 1, wire ^ 1) ^ 1
            self._made[key] = wire
        return self._made[key]
