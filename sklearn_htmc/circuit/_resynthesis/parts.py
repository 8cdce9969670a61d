"""A graph in the form in which it is changed: sums of single bits, and beside them bits that nobody reads yet.

Inputs and their comparisons come first and the outputs last, so that every bit may become any comparison and an output
may read every bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats
from sklearn_htmc.circuit._graph import Builder, Graph, Node, Op
from sklearn_htmc.circuit._resynthesis.comparisons import Comparators
from sklearn_htmc.circuit._resynthesis.copying import Copy

BITS = (Op.AT_MOST, Op.AND, Op.OR, Op.XOR, Op.BIT)  # operations whose values are bits and that are not only wiring

Pair = tuple[int, int, bool, bool]  # two bits, and whether each is inverted


def taken_apart(
    graph: Graph, compared: Iterable[tuple[int, Comparators]], pairs: Sequence[Pair]
) -> tuple[Graph, dict[int, float]]:
    """Return a graph with sums of bits, and candidates: rounder comparisons and some conjunctions.

    Parameters
    ----------
    graph : Graph
        The graph.
    compared : iterable of (int, Comparators)
        Words that are compared.
    pairs : sequence of Pair
        Bits whose conjunctions are candidates.

    Returns
    -------
    Graph
        With nodes that no output depends on.
    dict of int to float
        Prices of the new comparisons.
    """
    copy = Copy(graph)
    for number, node in enumerate(graph.nodes):
        if node.op is Op.INPUT or (node.op is Op.AT_MOST and graph.nodes[node.args[0]].op is Op.INPUT):
            copy.make(number)
    prices = _new_comparisons(copy, compared)
    read = {arg for node in graph.nodes for arg in node.args}
    inside = [number for number in range(len(graph.nodes)) if number in read or number not in graph.outputs]
    for number in inside:
        _make_of_bits(copy, number)
    for a, b, *inverted in pairs:
        ends = zip((a, b), inverted, strict=True)
        copy.build.conjunction(*(copy.build.negation(copy.made[x]) if i else copy.made[x] for x, i in ends))
    for number in graph.outputs:
        _make_of_bits(copy, number)
    return copy.unpruned(), prices


def _new_comparisons(copy: Copy, compared: Iterable[tuple[int, Comparators]]) -> dict[int, float]:
    """Make rounder comparisons of inputs; return their prices."""
    build, prices = copy.build, dict[int, float]()
    for arg, of_word in compared:
        if copy.graph.nodes[arg].op is Op.INPUT:
            for constant in of_word.rounder():
                n_known = len(build.nodes)
                number = build.at_most(copy.made[arg], constant)
                if number == n_known and build.value(number) is None:
                    prices[number] = of_word.price(constant)
    return prices


def _make_of_bits(copy: Copy, number: int) -> None:
    """Make a node unless it has been made, a sum with the bits of its terms."""
    node = copy.graph.nodes[number]
    if number in copy.made:
        return
    if node.op is not Op.SUM:
        copy.make(number)
        return
    terms: list[tuple[int, int]] = []
    for arg, weight in zip(node.args, node.data[1:], strict=True):
        terms += [(bit, sign * weight << place) for place, (bit, sign) in enumerate(_bits(copy.build, copy.made[arg]))]
    copy.made[number] = copy.build.sum(terms, node.data[0])


def _bits(build: Builder, number: int) -> list[tuple[int, int]]:
    """Return the bits of a word and how they count."""
    node = build.nodes[number]
    if node.low == node.high or (node.low >= 0 and node.high <= 1):
        return [(number, 1)]
    signs = [1] * (node.width - 1) + [-1 if node.signed else 1]
    if node.op is Op.FLOOR:
        return [(build.bit(node.args[0], node.data[0] + place), sign) for place, sign in enumerate(signs)]
    return [(build.bit(number, place), sign) for place, sign in enumerate(signs)]


def put_together(graph: Graph) -> Graph:
    """Return a graph in which bits of a word that are added with the weights of their places are the word again."""
    copy = Copy(graph)
    for number, node in enumerate(graph.nodes):
        if node.op is Op.SUM:
            terms = [(copy.made[arg], weight) for arg, weight in zip(node.args, node.data[1:], strict=True)]
            words, constant = _words(copy.build, terms)
            copy.made[number] = copy.build.sum(words, node.data[0] + constant)
        else:
            copy.make(number)
    return copy.pruned()


def _words(build: Builder, terms: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], int]:
    """Return terms with words in place of bits that go down from the top of one, each with half the weight.

    What the constant of the sum has to make up for comes second: bits of a word that never vary are no terms.
    """
    left, words, constant = set(terms), list[tuple[int, int]](), 0
    for bit, weight in terms:
        node = build.nodes[bit]
        if node.op is not Op.BIT or node.data[0] != _top(build.nodes[node.args[0]]):
            continue
        run = _run(build, bit, weight, left)
        last = node.data[0] + 1 - len(run)
        if len(run) > 1 or last == 0:
            left.difference_update(run)
            sign = _sign(build, bit)
            of_word = run[-1][1] if len(run) > 1 else sign * weight
            words.append((build.floor(node.args[0], last), of_word))
            if sign > 0:
                known = build.nodes[node.args[0]].low >> node.data[0] + 1 << len(run)
                constant -= known * of_word
    return [*sorted(left), *words], constant


def _top(word: Node) -> int:
    """Return the place of the highest bit of a word that varies."""
    return word.width - 1 if word.low < 0 <= word.high else (word.low ^ word.high).bit_length() - 1


def _sign(build: Builder, bit: int) -> int:
    """Return how the highest bit of a word that varies counts: negatively if it is the sign."""
    word = build.nodes[build.nodes[bit].args[0]]
    return -1 if word.low < 0 <= word.high else 1


def _run(build: Builder, top: int, weight: int, among: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the bits of a word and their weights from its top down to where they are not added any more."""
    (arg,), (place,) = build.nodes[top].args, build.nodes[top].data
    size, sign = abs(weight), _sign(build, top) * (1 if weight > 0 else -1)
    run = [(top, weight)]
    while len(run) <= place and size >> len(run):
        term = build.bit(arg, place - len(run)), sign * (size >> len(run))
        if term not in among:
            break
        run.append(term)
    return run


def conjunctions(
    B: NDArray[np.float32], residual: Floats, weights: Floats, most: int
) -> Iterator[tuple[int, int, tuple[bool, bool]]]:
    """Yield pairs of bits and polarities whose conjunctions say most of a residual.

    With ``p' diag(w r) q`` and ``p' diag(w) q`` for all pairs, the sums over all four conjunctions follow. The score is
    the fall of the squared error of the best multiple.

    Parameters
    ----------
    B : ndarray of shape (n_bits, n_rows)
        Bits as 0 and 1.
    residual, weights : ndarray of shape (n_rows,)
        What is to be explained, and weights of the rows.
    most : int
        How many.
    """
    parts: list[list[Any]] = []
    # Errors are in units of a tolerance, which may be next to nothing; a power of two changes no rank.
    residual = np.ldexp(residual, -int(np.frexp(np.abs(residual).max(initial=0.0))[1]))
    for of_rows in (weights * residual, weights):
        both = (B * of_rows.astype(np.float32)) @ B.T
        one, total = both.diagonal(), of_rows.sum()
        # Both; the first one and not the second; the second one and not the first; neither.
        parts.append([both, one[:, None] - both, one[None, :] - both, both - one[:, None] - one[None, :] + total])
    score = np.array([np.triu(r * r / np.maximum(n, 1e-3 * weights.sum()), 1) for r, n in zip(*parts, strict=True)])
    best = np.sort(np.argpartition(-score, min(most, score.size - 1), axis=None)[:most])
    polarities = list(itertools.product((False, True), repeat=2))
    for which, i, j in zip(*np.unravel_index(best, score.shape), strict=True):
        if score[which, i, j] > 0:
            yield int(i), int(j), polarities[which]
