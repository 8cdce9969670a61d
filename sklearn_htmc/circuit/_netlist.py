"""Two-input gates and the wires between them: equal gates are made once, constants propagate, dead ones do not count.

A wire is an integer, twice the number of its gate plus one if it is inverted; 0 and 1 are the constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Wires = list[int]

_SHIFT = 26  # bits of a wire
_MASK = (1 << _SHIFT) - 1


class Gates:
    """Two-input gates in topological order.

    Attributes
    ----------
    outputs : list of list of int
        Wires of every output word, lowest bit first.
    inputs : list of list of int
        Wires of every input port.
    """

    def __init__(self) -> None:
        # A gate is one integer, for speed: its two wires, negated where it is an exclusive or; 0 for inputs.
        self._gates: list[int] = [0]
        self._known: dict[int, int] = {}
        self._levels: list[int] = []
        self.inputs: list[Wires] = []
        self.outputs: list[Wires] = []

    def word(self, width: int) -> Wires:
        """Return new wires that no gate drives."""
        first = len(self._gates)
        self._gates += [0] * width
        return [2 * number for number in range(first, first + width)]

    def conjunction(self, a: int, b: int) -> int:
        """Return the wire "a and b"."""
        if a > b:
            a, b = b, a
        if a <= 1:
            return b if a else 0
        if a ^ b <= 1:
            return a if a == b else 0
        if self._gates[a >> 1] > 0 or self._gates[b >> 1] > 0:
            simpler = self._simplified(a, b)
            if simpler is not None:
                return simpler
        return self._gate(a << _SHIFT | b)

    def exclusive(self, a: int, b: int) -> int:
        """Return the wire "a or b, but not both"."""
        inverted = (a ^ b) & 1
        a, b = (a & ~1, b & ~1) if a < b else (b & ~1, a & ~1)
        if a == b:
            return inverted
        if a == 0:
            return b ^ inverted
        return self._gate(-(a << _SHIFT | b)) ^ inverted

    def sum_and_carry(self, a: int, b: int, carry: int) -> tuple[int, int]:
        """Return the two wires of a full adder."""
        half = self.exclusive(a, b)
        if carry <= 1:
            return half ^ carry, self.conjunction(a ^ carry, b ^ carry) ^ carry
        generated = self.conjunction(a, b)
        total = self.exclusive(half, carry)
        if a > 1 and b > 1 and generated > 1 and half > 1 and half ^ carry > 1:
            # Most gates are made here, and they hardly ever simplify.
            propagated = self._gate(half << _SHIFT | carry if half < carry else carry << _SHIFT | half)
            if generated < propagated:
                return total, self._gate((generated ^ 1) << _SHIFT | propagated ^ 1) ^ 1
        else:
            propagated = self.conjunction(half, carry)
        return total, self.conjunction(generated ^ 1, propagated ^ 1) ^ 1

    def _simplified(self, a: int, b: int) -> int | None:
        """Return a simpler wire for "a and b" if what their gates read allows one."""
        key = self._gates[a >> 1]
        x, y = (key >> _SHIFT, key & _MASK) if key > 0 else (0, 0)
        key = self._gates[b >> 1]
        u, v = (key >> _SHIFT, key & _MASK) if key > 0 else (0, 0)
        if u and (a ^ u <= 1 or a ^ v <= 1):
            return self._absorbed(a, b, u, v)
        if x and (b ^ x <= 1 or b ^ y <= 1):
            return self._absorbed(b, a, x, y)
        if x and u and (x ^ 1 in (u, v) or y ^ 1 in (u, v)):
            return self._excluded(a, b, (x, y), (u, v))
        return None

    def _absorbed(self, a: int, b: int, x: int, y: int) -> int:
        """Return "a and b" where b is "x and y" or its inverse, and one of the two is a or its inverse."""
        if a ^ 1 in (x, y):
            return a if b & 1 else 0  # a and not (not a and y) is a
        return self.conjunction(a, (y if a == x else x) ^ 1) if b & 1 else b

    def _excluded(self, a: int, b: int, of_a: tuple[int, int], of_b: tuple[int, int]) -> int | None:
        """Return "a and b" where one gate reads the inverse of what the other one reads."""
        if not (a | b) & 1:
            return 0
        if a & 1 and b & 1:
            for x, y in (of_a, of_a[::-1]):
                if x ^ 1 in of_b and y in of_b:
                    return y ^ 1  # neither (x and y) nor (not x and y) is not y
            return None
        return b if a & 1 else a  # x and y and not (not x and z) is x and y

    def _gate(self, key: int) -> int:
        wire = self._known.get(key)
        if wire is None:
            wire = self._known[key] = 2 * len(self._gates)
            self._gates.append(key)
        return wire

    def cost(self, write: Callable[[], int]) -> int:
        """Return how many gates some more writing would make, and take them back."""
        before = self.size
        write()
        made = self.size - before
        self.forget(before)
        return made

    @property
    def size(self) -> int:
        """Gates and inputs that were made, one more for the constants."""
        return len(self._gates)

    def forget(self, size: int) -> None:
        """Take back all gates that were made since there were fewer."""
        for key in self._gates[size:]:
            del self._known[key]
        del self._gates[size:], self._levels[size:]

    def refuse_more_than(self, most: int) -> None:
        """Raise ValueError if there are more gates."""
        if len(self._gates) > most:
            raise ValueError(f"the circuit has more than {most:,} gates; make the model smaller or epsilon larger.")

    def operands(self, number: int) -> tuple[int, int]:
        """Return the wires that a gate reads; two times zero for an input."""
        key = abs(self._gates[number])
        return key >> _SHIFT, key & _MASK

    def is_exclusive(self, number: int) -> bool:
        """Return whether a gate is an exclusive or; else it is an "and"."""
        return self._gates[number] < 0

    def level(self, wire: int) -> int:
        """Return the number of gates on the longest path to a wire."""
        levels = self._levels
        for key in self._gates[len(levels) :]:
            key = abs(key)
            levels.append(1 + max(levels[key >> _SHIFT + 1], levels[(key & _MASK) >> 1]) if key else 0)
        return levels[wire >> 1]

    def live(self) -> list[int]:
        """Return the numbers of the gates that the outputs depend on, operands first."""
        gates = self._gates
        wanted = bytearray(len(gates))
        for wire in (wire for word in self.outputs for wire in word):
            wanted[wire >> 1] = 1
        for number in range(len(gates) - 1, 0, -1):
            if wanted[number]:
                key = abs(gates[number])
                wanted[key >> _SHIFT + 1] = wanted[(key & _MASK) >> 1] = 1
        return [number for number in range(1, len(wanted)) if wanted[number] and gates[number]]

    @property
    def depth(self) -> int:
        """Gates on the longest path from an input to an output."""
        return max((self.level(wire) for word in self.outputs for wire in word), default=0)

    def evaluate(self, inputs: Sequence[Sequence[int]], n_rows: int) -> list[list[int]]:
        """Evaluate all gates; an integer of ``n_rows`` bits is one wire in as many rows.

        Parameters
        ----------
        inputs : sequence of sequence of int
            Values of the wires of every input port.
        n_rows : int
            Number of rows.

        Returns
        -------
        list of list of int
            Values of the wires of every output word.
        """
        ones = (1 << n_rows) - 1
        values = [0] * len(self._gates)
        for word, wires in zip(inputs, self.inputs, strict=True):
            for value, wire in zip(word, wires, strict=True):
                values[wire >> 1] = value
        for number in self.live():
            a, b = self.operands(number)
            x, y = values[a >> 1] ^ -(a & 1), values[b >> 1] ^ -(b & 1)
            values[number] = (x & y if self._gates[number] > 0 else x ^ y) & ones
        return [[(values[wire >> 1] ^ -(wire & 1)) & ones for wire in word] for word in self.outputs]


Addend = tuple[Wires, bool, int]  # wires, whether they are in two's complement, and a weight: a signed power of two


def columns_of(addends: Iterable[Addend], constant: int, width: int) -> tuple[list[Wires], int]:
    """Return the bits of some words by place, at least as many places as asked for, and the constant beside them.

    A bit that counts negatively is its inverse less one, so signs only change the constant.
    """
    columns = [Wires() for _ in range(width)]
    for wires, signed, weight in addends:
        last, first = len(wires) - 1, abs(weight).bit_length() - 1
        columns += [Wires() for _ in range(first + last + 1 - len(columns))]
        for place, wire in enumerate(wires):
            negative = (weight < 0) != (signed and place == last)
            constant -= negative << first + place
            columns[first + place].append(wire ^ negative)
    return columns, constant
