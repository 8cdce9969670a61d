"""Gates that compute the same although they are made differently: found by simulation, merged only when proved.

Equal wires have equal values on random rows. Of two wires whose values agree, a window is looked at: the gates behind
them down to a dozen wires. If they agree for all values of these, they are equal, whatever the rest of the circuit
does.
"""

from __future__ import annotations

from random import Random

from sklearn_htmc.circuit._gates import Netlist

_N_ROWS = 4096  # random rows that tell wires apart
_MOST_LEAVES = 12  # of a window: its gates are evaluated in two to this power rows
_MOST_INNER = 100  # gates of a window


def without_equal_gates(net: Netlist) -> Netlist:
    """Return a netlist that computes the same, in which gates that provably compute the same are made once.

    Parameters
    ----------
    net : Netlist
        Stays as it is.
    """
    random = Random(0)
    made = Netlist()
    wires, values = {0: 0}, [0]  # wires of the new netlist by gates of the old one; values of the new ones on the rows
    classes: dict[int, list[int]] = {0: [0]}
    for word in net.inputs:
        made.inputs.append(made.word(len(word)))
        for old, new in zip(word, made.inputs[-1], strict=True):
            wires[old >> 1] = new
            values.append(random.getrandbits(_N_ROWS))
            classes.setdefault(*_class_of(values[-1], new))
    for number in net.live():
        a, b = (wires[wire >> 1] ^ wire & 1 for wire in net.operands(number))
        wire = made.exclusive(a, b) if net.is_exclusive(number) else made.conjunction(a, b)
        wires[number] = _merged(made, wire, values, classes)
    made.outputs = [[wires[wire >> 1] ^ wire & 1 for wire in word] for word in net.outputs]
    return made


def _class_of(value: int, wire: int) -> tuple[int, list[int]]:
    """Return what equal and inverse wires have in common, and a list with the wire or its inverse."""
    if value & 1:
        return value ^ (1 << _N_ROWS) - 1, [wire ^ 1]
    return value, [wire]


def _merged(net: Netlist, wire: int, values: list[int], classes: dict[int, list[int]]) -> int:
    """Return an earlier wire that equals one that was just made, itself if there is none."""
    if wire >> 1 < len(values):
        return wire
    number = wire >> 1
    a, b = net.operands(number)
    x, y = (values[operand >> 1] ^ -(operand & 1) for operand in (a, b))
    values.append((x ^ y if net.is_exclusive(number) else x & y) & (1 << _N_ROWS) - 1)
    key, [normal] = _class_of(values[-1], 2 * number)
    equal = classes.setdefault(key, [])
    # The first one is the simplest; the last one is the nearest, and most likely to have a common window.
    for other in dict.fromkeys(equal[-1:] + equal[:1]):
        if _agree(net, normal, other):
            return other ^ normal & 1 ^ wire & 1
    equal.append(normal)
    return wire


def _agree(net: Netlist, wire: int, other: int) -> bool:
    """Return whether two wires are proved to be equal by the gates in a window behind them."""
    leaves, inner = _window(net, {wire >> 1, other >> 1} - {0})
    n_rows = 1 << len(leaves)
    ones = (1 << n_rows) - 1
    values = {0: 0}
    for place, leaf in enumerate(leaves):
        # All combinations of the leaves: runs of 2^place zeros and as many ones.
        values[leaf] = ones // ((1 << (1 << place)) + 1) << (1 << place)
    for number in sorted(inner):
        a, b = net.operands(number)
        x, y = values[a >> 1] ^ -(a & 1), values[b >> 1] ^ -(b & 1)
        values[number] = (x ^ y if net.is_exclusive(number) else x & y) & ones
    return values[wire >> 1] == (values[other >> 1] ^ -((wire ^ other) & 1)) & ones


def _window(net: Netlist, leaves: set[int]) -> tuple[set[int], set[int]]:
    """Return the leaves and the inner gates of a window: always what adds fewest leaves moves inside."""
    inner: set[int] = set()
    operands: dict[int, set[int]] = {}
    while len(inner) < _MOST_INNER:
        best, fewest = 0, _MOST_LEAVES - len(leaves) + 2
        for leaf in leaves:
            if leaf not in operands:
                operands[leaf] = {wire >> 1 for wire in net.operands(leaf)} - {0}
            added = len(operands[leaf] - leaves)
            if operands[leaf] and (added < fewest or (added == fewest and leaf > best > 0)):
                best, fewest = leaf, added
        if not best:
            break
        leaves.remove(best)
        inner.add(best)
        leaves |= operands[best]
    return leaves, inner
