"""Finds moves, by their exact effect on the squared error.

If flipping bit i changes the outputs by D_i, then putting another bit j in its place changes them by D_i on the rows on
which the two differ, so

    rise_ij = sum over rows of  w (2 e D_i + D_i^2) [b_i != b_j]

is the exact rise of the squared error for all pairs at once: one product of two matrices. Where an output is a sum, the
rise is a quadratic form in its weights, so that two terms can change together.

Bits that hardly vary on the rows cost nothing there, however much they count: the highest bits of a word, for one. So
every move is charged for a fiftieth of a row more on which it makes its average difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._graph import Node, Op
from sklearn_htmc.circuit._resynthesis.comparisons import clamp_gates, rounder_limits
from sklearn_htmc.circuit._resynthesis.moves import Gate, Limits, Move, Substitution, Terms
from sklearn_htmc.circuit._resynthesis.parts import BITS
from sklearn_htmc.circuit._resynthesis.prices import ADDER, Prices
from sklearn_htmc.circuit._resynthesis.state import State

_PARTNERS = 2  # terms that change together with one that goes
_BEST = 3  # other bits that are looked at for a bit
_UNSEEN = 0.02  # rows more on which a bit may be another one
_NEAREST = 8  # bits, and inverses, of which gates are made
_WORTH = 4.0  # gates that go with a bit for which another gate is looked for
_BLOCK = 1024  # bits that are scored together
_PRODUCTS = 40_000  # that take as long as the evaluation of a node
_POOL = 3_000  # bits that others may become
_ROWS = 1_200  # on which moves are looked for; they are checked on all


class Scoring:
    """Finds moves.

    Parameters
    ----------
    state : State
        The graph.
    prices : Prices
        Estimates of gates.
    weights : ndarray of shape (n_rows,)
        What a squared error on a row costs.
    price : float
        What a gate costs in the same unit.
    most_work : float
        Work of the state after which no more bits are looked at.
    gates : bool
        Whether new gates are looked for, which takes longest.
    """

    def __init__(
        self, state: State, prices: Prices, weights: Floats, price: float, *, most_work: float, gates: bool
    ) -> None:
        self.most_work, self.gates = most_work, gates
        self.state, self.prices, self.weights, self.price = state, prices, weights, price
        self.total = float(weights.sum())
        self.risk = _UNSEEN / len(weights)
        # Outputs whose constant follows the mean of the error.
        self.recentred = np.array([[state.nodes[number].op is Op.SUM] for number in state.graph.outputs])
        bits = [number for number, node in enumerate(state.nodes) if node.op in BITS]
        self.live = np.array([number for number in bits if not state.is_dead(number)], dtype=np.intp)
        self.pool = np.array(_spread(bits, state, _POOL), dtype=np.intp)
        self.rows = slice(None, None, -(-len(weights) // _ROWS))
        self.B = self._bits(self.pool)
        self.reviving = np.array([prices.reviving(number) for number in self.pool.tolist()])

    def _bits(self, numbers: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return bits on the rows on which moves are looked for, of shape (n_bits, n_rows)."""
        return np.array([self.state.word(number)[self.rows] for number in numbers.tolist()], dtype=np.float32)

    def rise(self, effect: Floats | None) -> float:
        """Return what a change of the outputs costs."""
        if effect is None:
            return 0.0
        moved = (effect * self.recentred) @ self.weights
        squares = self.weights @ (effect * (2.0 * self.state.errors + effect)).sum(axis=0)
        return float(squares - moved @ moved / self.total)

    def moves(self) -> list[Move]:
        """Return all moves that gain something, the best first."""
        found: list[Move] = [*self.substitutions(), *self.exchanges(), *self.limits()]
        return sorted(found, key=lambda move: -move.merit)

    # Bits.

    def substitutions(self) -> Iterator[Substitution | Gate]:
        """Yield what bits might become, the best few for each."""
        for start in range(0, len(self.live), _BLOCK):
            if self.state.work < self.most_work:
                yield from self._of_block(self.live[start : start + _BLOCK])

    def _of_block(self, block: NDArray[np.intp]) -> Iterator[Substitution | Gate]:
        own, errors = self._bits(block), self.state.errors[:, self.rows]
        weights = self.weights[self.rows] * (self.total / self.weights[self.rows].sum())
        G = np.zeros(own.shape, dtype=np.float32)
        D = np.zeros((len(errors), *own.shape), dtype=np.float32)
        risks = np.zeros(len(block))
        for row, number in enumerate(block.tolist()):
            effect = self.state.effect(self.state.following({number: self.state.flipped(number)}, live=True))
            if effect is not None:
                risks[row] = self.risk * float(self.weights @ np.square(effect).sum(axis=0))
                effect = effect[:, self.rows]
                G[row] = weights * (effect * (2.0 * errors + effect)).sum(axis=0)
                D[:, row] = weights * effect * self.recentred
        rises = self._where_different(own, G)
        for moved in D:  # the constants of the outputs take the mean back
            rises -= np.square(self._where_different(own, moved)) / np.float32(self.total)
        rises += risks[:, None].astype(np.float32)
        rises[:, 2:] += np.tile(self.price * self.reviving, 2)
        for row, (number, costs, risk) in enumerate(zip(block.tolist(), rises, risks.tolist(), strict=True)):
            yield from self._by_gates(number, costs[2:], own[row], [G[row], *D[:, row]], risk)
            for value in (0, 1):
                merit = self.price * self.prices.constant(number, value) - float(costs[value])
                if merit > 0:
                    yield Substitution(number, value, Op.CONSTANT, merit, risk)
            yield from self._by_others(number, costs[2:], risk)

    def _where_different(self, own: NDArray[np.float32], G: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return sums over the rows on which bits differ from 0, from 1, from other bits and from their inverses."""
        self.state.work += G.size * len(self.B) // _PRODUCTS
        zero, total = (G * own).sum(axis=1), G.sum(axis=1)
        copies = zero[:, None] + (G * (1.0 - 2.0 * own)) @ self.B.T
        return np.column_stack([zero, total - zero, copies, total[:, None] - copies])

    def _by_others(self, number: int, costs: NDArray[np.float32], risk: float) -> Iterator[Substitution]:
        n_before = int(np.searchsorted(self.pool, number))
        for op, of_op in ((Op.OR, costs[: len(self.pool)]), (Op.NOT, costs[len(self.pool) :])):
            of_op = of_op[:n_before]
            for best in np.argpartition(of_op, _BEST)[:_BEST].tolist() if n_before > _BEST else range(n_before):
                by = int(self.pool[best])
                merit = self.price * self.prices.dying(number, (by,)) - float(of_op[best])
                if merit > 0:
                    yield Substitution(number, by, op, merit, risk)

    def _by_gates(
        self,
        number: int,
        costs: NDArray[np.float32],
        own: NDArray[np.float32],
        changes: list[NDArray[np.float32]],
        risk: float,
    ) -> Iterator[Gate]:
        """Yield gates of one of the bits that come nearest, or its inverse, and any other bit."""
        n, n_pool = int(np.searchsorted(self.pool, number)), len(self.pool)
        if not self.gates or n < 2 * _NEAREST or self.prices.dying(number) < _WORTH:
            return
        nearest = [np.argpartition(of_op[:n], _NEAREST)[:_NEAREST] for of_op in (costs[:n_pool], costs[n_pool:])]
        first, inverted = np.concatenate(nearest), np.repeat([0, 1], _NEAREST)
        P, B = np.abs(self.B[first] - inverted[:, None].astype(np.float32)), self.B[:n]
        self.state.work += len(P) * B.size * len(changes) // _PRODUCTS
        squares = np.zeros((4, len(first), n), dtype=np.float32)
        for place, change in enumerate(changes):
            # Sums over the rows on which the new bit is another one, from those on which it is one.
            H = change * (1.0 - 2.0 * own)
            base, one, other, both = float(change @ own), (P @ H)[:, None], (B @ H)[None, :], (P * H) @ B.T
            parts = np.array(np.broadcast_arrays(both, one - both, one + other - both, H.sum() - other + both)) + base
            squares += parts if place == 0 else -np.square(parts) / np.float32(self.total)
        squares += np.float32(risk) + self.price * (self.reviving[first][:, None] + self.reviving[None, :n] + 1.0)
        for best in np.argpartition(squares, 2, axis=None)[:2].tolist():
            which, i, j = np.unravel_index(best, squares.shape)
            args = int(self.pool[first[i]]), int(self.pool[j])
            merit = self.price * self.prices.dying(number, args) - float(squares[which, i, j])
            if merit > 0 and args[0] != args[1]:
                op = Op.AND if which < 2 else Op.OR
                yield Gate(number, op, args, (int(inverted[i]), int(which) % 2), merit, risk)

    # Words that saturate.

    def limits(self) -> Iterator[Limits]:
        """Yield rounder limits of words: inwards by what the error allows, outwards by an eighth of the range at most.

        Outwards no row can tell: rows are encoded within the range that was seen in fit.
        """
        for number, node in enumerate(self.state.nodes):
            if node.op is not Op.CLAMP or self.state.is_dead(number):
                continue
            word, (lowest, highest) = self.state.nodes[node.args[0]], node.data
            now = clamp_gates(word, lowest, highest)
            for low, high in rounder_limits(lowest, highest, word):
                gates = now - clamp_gates(word, low, high)
                merit = self.price * gates
                if gates > 0:
                    value = np.clip(self.state.word(node.args[0]), low, high)
                    merit -= self.rise(self.state.effect(self.state.following({number: value}, live=True)))
                if merit > 0:
                    yield Limits(number, low, high, float(gates), merit)

    # Sums.

    def exchanges(self) -> Iterator[Terms]:
        """Yield terms of sums that go, come or change their weight, alone or two together.

        To first order a change of a sum moves the outputs by its gain; for outputs that is exact.
        """
        for number, node in enumerate(self.state.nodes):
            if node.op is Op.SUM and not self.state.is_dead(number):
                yield from self._of_sum(number, node)

    def _of_sum(self, number: int, node: Node) -> Iterator[Terms]:
        state = self.state
        is_output = number in state.places and not state.n_live_readers[number]
        gain = state.gain(number)
        of_slope = (self.weights * (gain * state.errors).sum(axis=0))[self.rows]
        of_curvature = (self.weights * np.square(gain).sum(axis=0))[self.rows]
        share = self.total / self.weights[self.rows].sum()
        of_slope, of_curvature = share * of_slope, share * of_curvature
        total = of_curvature.sum()
        if not total:
            return
        mean = (of_curvature / total).astype(np.float32)
        args, old = np.array(node.args, dtype=np.intp), np.array(node.data[1:], dtype=np.int64)
        parts = np.array([state.word(arg)[self.rows] for arg in node.args], dtype=np.float32)
        new = self.pool[~np.isin(self.pool, args) & (self.pool < number)] if is_output else self.pool[:0]
        if len(new):
            parts = np.concatenate([parts, self.B[np.searchsorted(self.pool, new)]])
        fees = self.price * (ADDER + self.reviving[np.searchsorted(self.pool, new)])
        means = parts @ mean
        parts -= means[:, None]  # the constant takes means back
        weighted = parts * of_curvature.astype(np.float32)
        slope = 2.0 * (parts @ of_slope.astype(np.float32)).astype(np.float64)
        curvature = (weighted * parts).sum(axis=1, dtype=np.float64) + self.risk * total
        saved = self.price * np.array([self.prices.term(arg) for arg in node.args])
        drop = old * (old * curvature[: len(old)] - slope[: len(old)])
        cross = 2.0 * (parts[: len(old)] @ weighted.T).astype(np.float64)
        alone = _Changes(slope[None], curvature, old, fees, saved)
        pairs = _Changes(slope - old[:, None] * cross, curvature, old, fees, saved)
        np.fill_diagonal(pairs.costs[:, : len(old)], np.inf)
        every = np.concatenate([args, new])
        for k in np.flatnonzero(saved > drop).tolist():
            yield self._terms(number, [(args[k], old[k], 0)], [means[k]], saved[k] - drop[k], total)
        for j in np.flatnonzero(alone.costs[0] < 0).tolist():
            weights = alone.weights(0, j)
            yield self._terms(number, [(every[j], *weights)], [means[j]], -alone.costs[0, j], total)
        merits = saved - drop - pairs.costs.T  # (n_parts, n_terms)
        for k in range(len(old)):
            for j in np.argpartition(-merits[:, k], min(_PARTNERS, len(merits) - 1))[:_PARTNERS].tolist():
                if merits[j, k] > max(0.0, saved[k] - drop[k]):
                    change = [(args[k], old[k], 0), (every[j], *pairs.weights(k, j))]
                    yield self._terms(number, change, [means[k], means[j]], merits[j, k], total)

    def _terms(
        self, number: int, changes: list[tuple[Any, ...]], means: list[float], merit: float, total: float
    ) -> Terms:
        weights = tuple((int(arg), int(old), int(new)) for arg, old, new in changes)
        constant = -sum((new - old) * mean for (_, old, new), mean in zip(weights, means, strict=True))
        risk = self.risk * total * sum((new - old) ** 2 for _, old, new in weights)
        return Terms(number, weights, round(constant), float(merit), float(risk))


class _Changes:
    """The best change of the weight of every part of a sum, and what it costs.

    Parameters
    ----------
    slope : ndarray of shape (n_cases, n_parts)
        Derivative of the squared error by the weight of every part, in several cases.
    curvature : ndarray of shape (n_parts,)
        Half the second derivative.
    old : ndarray of shape (n_terms,)
        Weights of the first parts; the others are not added yet.
    fees, saved : ndarray
        Costs of those not added yet, and what removing the others saves.

    Attributes
    ----------
    costs : ndarray of shape (n_cases, n_parts)
        The costs.
    """

    def __init__(self, slope: Floats, curvature: Floats, old: NDArray[np.int64], fees: Floats, saved: Floats) -> None:
        n = len(old)
        self._old = old
        self._changes = np.zeros(slope.shape)
        self.costs = np.full(slope.shape, np.inf)
        halved = np.where(np.abs(old) > 1, -old // 2, 0)
        for change, gained in ((-old, saved), (old, 0.0), (-2 * old, 0.0), (halved, 0.0)):
            cost = change * (slope[:, :n] + change * curvature[:n]) - gained
            better = (cost < self.costs[:, :n]) & (change != 0)
            self.costs[:, :n][better] = cost[better]
            self._changes[:, :n][better] = np.broadcast_to(change, cost.shape)[better]
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.nan_to_num(-slope[:, n:] / (2.0 * curvature[n:]), posinf=0.0, neginf=0.0)
        power = np.sign(wanted) * 2.0 ** np.rint(np.log2(np.clip(np.abs(wanted), 1.0, 2.0**50)))
        self._changes[:, n:] = power
        self.costs[:, n:] = np.where(power != 0, power * (slope[:, n:] + power * curvature[n:]) + fees, np.inf)

    def weights(self, case: int, part: int) -> tuple[int, int]:
        """Return the weight of a part before and after."""
        old = int(self._old[part]) if part < len(self._old) else 0
        return old, old + int(self._changes[case, part])


def _spread(bits: list[int], state: State, most: int) -> list[int]:
    """Return at most some bits: comparisons, and evenly spread others."""
    if len(bits) <= most:
        return bits
    compared = [number for number in bits if state.nodes[number].op is Op.AT_MOST][: most // 2]
    others = [number for number in bits if state.nodes[number].op is not Op.AT_MOST]
    chosen = np.linspace(0, len(others) - 1, most - len(compared)).astype(int)
    return sorted({*compared, *(others[place] for place in chosen.tolist())})
