"""Exchanges what terms read: a term was the best one when it came, and others have come since.

The weights of a term stay, and so does one side of its conjunction; the other side may become any bit of an input.
"""

from __future__ import annotations

import numpy as np

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._grow.candidates import FEE, Candidates
from sklearn_htmc.circuit._grow.pool import Both, Pool, Singles
from sklearn_htmc.circuit._grow.terms import Terms

_LEAST_GAIN = 1e-12


class Swaps:
    """Finds what a term should rather read.

    Parameters
    ----------
    pool : Pool
        The bits.
    terms : Terms
        The sum.
    candidates : Candidates
        Says which rows to look at, and how many there must be on either side of a bit.
    """

    def __init__(self, pool: Pool, terms: Terms, candidates: Candidates) -> None:
        self.pool, self.terms, self.candidates = pool, terms, candidates

    def once(self, price: float) -> int:
        """Look at every term once, and return how many read something else now."""
        rows = self.candidates.next_part()
        inputs = self.pool.columns[: self.pool.n_first, rows].astype(np.float32)
        return sum(self._is_swapped(place, price, rows, inputs) for place in range(len(self.terms)))

    def _is_swapped(self, place: int, price: float, rows: slice, inputs: Singles) -> bool:
        pool, terms = self.pool, self.terms
        bit, sizes, column = terms.bits[place], terms.sizes[place], terms.column(place)
        without = terms.residual + sizes[:, None] * column
        pool.read(bit, -1)
        now = terms.worth(without, column, sizes) - price * pool.cost(bit)
        found = self._best(bit, sizes, without, price, rows, inputs)
        # What is best on some rows is checked on all.
        centred = terms.centred(pool.column(found))
        gain = terms.worth(without, centred, sizes) - price * pool.cost(found) - now
        # Two terms that read the same would share a weight, and the ridge would see two small ones.
        is_better = gain > _LEAST_GAIN and pool.number(found) not in terms.bits
        if is_better:
            bit = pool.conjunction(found) if isinstance(found, Both) else found
            terms.replace(place, bit)
        pool.read(bit, 1)
        return is_better

    def _best(self, bit: int, sizes: Floats, without: Floats, price: float, rows: slice, inputs: Singles) -> int | Both:
        """Return what a term with some weights should read, for a residual without it.

        A term that reads a conjunction keeps one side of it.
        """
        pool, terms = self.pool, self.terms
        share = terms.weights[rows] / terms.weights[rows].sum()
        residual = without[:, rows]
        weighted = (sizes * terms.importance) @ ((residual - (residual @ share)[:, None]) * share)
        fees = np.array(pool.costs_of_inputs(), dtype=np.float32)
        kept = self._kept(bit)
        sides = np.ones((max(len(kept), 1), len(share)))
        for side, (end, inverted) in zip(sides, kept, strict=False):
            side[:] = pool.columns[end, rows] ^ inverted
        of_sides = np.concatenate([sides * share, sides * weighted]).astype(np.float32)
        means, slopes = np.split(inputs @ of_sides.T, 2, axis=1)  # (n_inputs, n_sides) both
        if kept:
            # The other polarity is what is left of the side.
            whole = np.split(of_sides.sum(axis=1), 2)
            means, slopes = np.stack([means, whole[0] - means]), np.stack([slopes, whole[1] - slopes])
            of_kept = np.array([pool.cost(end) for end, _ in kept], dtype=np.float32)
            low = np.array(pool.is_low[: pool.n_first], dtype=np.float32)
            fees = (fees + FEE * low)[:, None] + of_kept + np.float32(1.0)
        else:
            fees = fees[:, None]
        curvature = np.float32(terms.importance @ np.square(sizes))
        worth = 2.0 * slopes - curvature * self.candidates.variance(means) - np.float32(price) * fees
        best = int(worth.argmax())
        if worth.flat[best] == -np.inf:
            return bit
        place = [int(number) for number in np.unravel_index(best, worth.shape)]
        if not kept:
            return place[0]
        return Both.ordered(*kept[place[2]], place[1], bool(place[0]))

    def _kept(self, bit: int) -> list[tuple[int, bool]]:
        """Return the sides of a conjunction, with their polarities, that are kept in turn."""
        definition = self.pool.definitions[bit]
        if not isinstance(definition, Both):
            return []
        first, second = zip((definition.first, definition.second), definition.inverted, strict=True)
        return [side for side, other in ((first, second[0]), (second, first[0])) if other < self.pool.n_first]
