"""Sums of trees as integer graphs: shared comparators, small integers in the leaves, and adders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sklearn_htmc.circuit._fixed_point import Floats, Format, Integers, roundest
from sklearn_htmc.circuit._graph import Builder, Graph
from sklearn_htmc.circuit._lower._forms import Tree, TreeEnsemble
from sklearn_htmc.circuit._quantise.branches import Part, Parts, bits_of
from sklearn_htmc.circuit._quantise.dispatch import Quantiser, quantiser
from sklearn_htmc.circuit._quantise.sample import Sample

Bits = NDArray[np.bool_]

_MAX_NODES = 1_000_000  # of all trees; a few GB
_PAIRS = 2**25  # of rows and trees whose leaf is kept
_PASS_PAIRS = 2**19  # that are looked at in one pass
_PROBE_PAIRS = 25_000  # that measure what the format of one feature does
_PASSES = 3  # of rounding through all trees
_ERROR_OF_STEP = 0.9  # error that leaves cause which are rounded to steps of one
_INPUT_SHARE = 0.5  # of the noise, for the inputs
_PRIOR = 20.0  # rows that a node counts for its children
_EXPONENTS = 40  # tried per feature


@quantiser.register
def _(form: TreeEnsemble, sample: Sample) -> Quantiser:
    """Return a function that makes a graph from a level of noise.

    Leaves become integers at one step. Thresholds become integers in the coarsest format of their feature that keeps
    nearly all rows on their side. Both cause errors that are piecewise constant functions of the features, so every
    tree can repair some of what the trees before it have broken; see `rounded_leaves`.
    """
    forest = Forest.of(form)
    keep = max(_PAIRS // max(len(form.trees), 1), 1)
    if len(sample.X) > keep:
        sample = sample.part(np.linspace(0, len(sample.X) - 1, keep).astype(np.intp))
    ports = Ports(forest, sample)
    exact = forest.leaves(ports.truth, len(sample.X))

    def make(noise: float) -> Graph:
        formats, codes = ports.choose(_INPUT_SHARE * noise)
        leaves = forest.leaves(lambda rows: ports.below(formats, codes, rows), len(sample.X))
        levels = np.log2(noise * sample.scale / _ERROR_OF_STEP)
        exponents = np.floor(levels).astype(int).tolist()
        # Steps are powers of two: between two of them, a share of the trees has the coarser one.
        coarse = np.floor(np.outer(np.arange(1, len(form.trees) + 1), levels - exponents))
        steps = np.ldexp(1.0, exponents + np.diff(coarse, axis=0, prepend=0.0).astype(int))
        offset, values = rounded_leaves(forest, exact, leaves, sample.weights, steps, np.ldexp(1.0, exponents))
        return graph_of(forest, formats, codes, offset, values, exponents)

    return make


# --- trees in one table ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Forest:
    """All nodes of an ensemble in one table, and the different comparisons that they make.

    Attributes
    ----------
    start : ndarray of shape (n_trees + 1,)
        First node of every tree, its root.
    left, right : ndarray of shape (n_nodes,)
        Children; a leaf is its own child.
    cut : ndarray of shape (n_nodes,)
        Comparison of a split, -1 for a leaf.
    value : ndarray of shape (n_nodes, n_outputs)
        Values of the leaves.
    offset : ndarray of shape (n_outputs,)
        Constant part.
    feature, threshold : ndarray of shape (n_cuts,)
        What the comparisons compare, sorted.
    n_features : int
        Number of raw features.
    """

    start: NDArray[np.intp]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    cut: NDArray[np.intp]
    value: Floats
    offset: Floats
    feature: NDArray[np.intp]
    threshold: Floats
    n_features: int

    @classmethod
    def of(cls, form: TreeEnsemble) -> Forest:
        """Collect the nodes of the trees.

        Raises
        ------
        ValueError
            If there are more than a million.
        """
        none = np.zeros(0, dtype=np.intp)
        trees = (Tree(none, np.zeros(0), none, none, np.zeros((0, form.n_outputs))), *form.trees)
        start = np.cumsum([len(tree.feature) for tree in trees])
        if start[-1] > _MAX_NODES:
            raise ValueError(
                f"the trees have {start[-1]:,} nodes together, and a circuit is made of at most {_MAX_NODES:,}; fit "
                "fewer or smaller trees."
            )
        feature, threshold, left, right = (
            np.concatenate([getattr(tree, name) for tree in trees])
            for name in ("feature", "threshold", "left", "right")
        )
        split = feature >= 0
        first = np.repeat(start[:-1], np.diff(start))
        numbers = np.arange(start[-1])
        cuts, which = np.unique(np.stack([feature[split], threshold[split]], axis=1), axis=0, return_inverse=True)
        cut = np.full(start[-1], -1)
        cut[split] = which.ravel()
        return cls(
            start=start,
            left=np.where(split, left + first, numbers),
            right=np.where(split, right + first, numbers),
            cut=cut,
            value=np.where(split[:, None], 0.0, np.concatenate([tree.value for tree in trees])),
            offset=form.offset,
            feature=cuts[:, 0].astype(np.intp),
            threshold=cuts[:, 1],
            n_features=form.n_features,
        )

    def leaves(self, below: Callable[[slice], Bits], n_rows: int) -> NDArray[np.int32]:
        """Return the leaf that rows reach in every tree, of shape (n_samples, n_trees).

        Parameters
        ----------
        below : callable
            Returns for a slice of rows what the comparisons say, of shape (n_samples, n_cuts).
        n_rows : int
            Number of rows.
        """
        out = np.empty((n_rows, len(self.start) - 1), dtype=np.int32)
        step = max(_PASS_PAIRS // max(out.shape[1], len(self.threshold), 1), 1)
        for at in range(0, n_rows, step):
            rows = slice(at, min(at + step, n_rows))
            out[rows] = self.reached(below(rows))
        return out

    def reached(self, below: Bits) -> NDArray[np.intp]:
        """Return the leaves for comparisons of shape (n_samples, n_cuts)."""
        n_rows, n_trees = len(below), len(self.start) - 1
        at = np.tile(self.start[:-1], n_rows)
        row = np.repeat(np.arange(n_rows), n_trees)
        open_ = np.flatnonzero(self.cut[at] >= 0)
        while len(open_):
            node = at[open_]
            node = np.where(below[row[open_], self.cut[node]], self.left[node], self.right[node])
            at[open_] = node
            open_ = open_[self.cut[node] >= 0]
        return at.reshape(n_rows, n_trees)

    @cached_property
    def paths(self) -> Paths:
        """The leaves of all trees, and the way up from each."""
        parent = np.full(len(self.cut), -1)
        split = np.flatnonzero(self.cut >= 0)
        parent[self.left[split]] = parent[self.right[split]] = split
        leaf = np.flatnonzero(self.cut < 0)
        length, at, open_ = np.zeros(len(leaf), dtype=np.intp), leaf, np.arange(len(leaf))
        while len(open_):
            length[open_] += 1
            at = parent[at]
            open_, at = open_[at >= 0], at[at >= 0]
        start = np.append(0, np.cumsum(length))
        node, at = np.empty(start[-1], dtype=np.intp), leaf
        for height, open_ in _heights(length):
            node[start[open_] + height] = at[open_]
            at = parent[at]
        return Paths(leaf, start, node, np.searchsorted(leaf, self.start))


@dataclass(frozen=True, eq=False)
class Paths:
    """The leaves of all trees and their ways to the roots, one behind the other.

    Attributes
    ----------
    leaf : ndarray of shape (n_leaves,)
        The leaves, tree by tree.
    start : ndarray of shape (n_leaves + 1,)
        Where the way of every leaf starts.
    node : ndarray
        Nodes of the ways, each from the leaf to the root.
    of_tree : ndarray of shape (n_trees + 1,)
        First leaf of every tree.
    """

    leaf: NDArray[np.intp]
    start: NDArray[np.intp]
    node: NDArray[np.intp]
    of_tree: NDArray[np.intp]


def _heights(length: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield every place on ways of some lengths, and the ways that go that far."""
    for height in range(length.max(initial=0)):
        yield height, np.flatnonzero(length > height)


# --- inputs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """One format of a feature.

    Attributes
    ----------
    form : Format
        The format.
    codes : ndarray
        For every comparison of the feature, the largest code that is below the threshold.
    error : float
        Error that this rounding of the feature causes by itself, in units of the scale.
    gates : int
        About how many gates the comparisons take.
    """

    form: Format
    codes: Integers
    error: float
    gates: int


class Ports:
    """Formats of the inputs, and what they do to the predictions.

    Parameters
    ----------
    forest : Forest
        The trees.
    sample : Sample
        Rows to measure on.
    """

    def __init__(self, forest: Forest, sample: Sample) -> None:
        self.forest, self.sample = forest, sample
        self.cuts = [np.flatnonzero(forest.feature == feature) for feature in range(forest.n_features)]
        self.used = [feature for feature, cuts in enumerate(self.cuts) if len(cuts)]
        self._ladders: dict[int, list[Choice]] = {feature: [] for feature in self.used}
        self._gaps = {feature: self._gap(feature) for feature in self.used}

    def truth(self, rows: slice | NDArray[np.intp]) -> Bits:
        """Return what the comparisons say of raw features."""
        return np.asarray(self.sample.X[rows][:, self.forest.feature] <= self.forest.threshold)

    def below(self, formats: Sequence[Format], codes: Integers, rows: slice) -> Bits:
        """Return what the comparisons say of rounded features."""
        out = np.empty((rows.stop - rows.start, len(codes)), dtype=np.bool_)
        for feature in self.used:
            words = formats[feature].encode(self.sample.X[rows, feature])
            out[:, self.cuts[feature]] = words[:, None] <= codes[self.cuts[feature]]
        return out

    def choose(self, allowed: float) -> tuple[list[Format], Integers]:
        """Return formats that together cause at most about the error allowed, and the codes of the thresholds.

        All features start coarse; the one whose refinement lowers the squared error most per gate goes next.
        """
        ladders = {feature: self._ladder(feature, 0.1 * allowed) for feature in self.used}
        at = dict.fromkeys(self.used, 0)
        while sum(ladders[feature][place].error ** 2 for feature, place in at.items()) > allowed**2:
            moves = [
                (_gain(ladders[feature][place], finer), feature, number)
                for feature, place in at.items()
                for number, finer in enumerate(ladders[feature][place + 1 :], start=place + 1)
            ]
            gain, feature, number = max(moves, default=(0.0, 0, 0))
            if gain <= 0:
                break
            at[feature] = number
        codes = np.zeros(len(self.forest.threshold), dtype=np.int64)
        formats = [self.sample.unread(feature) for feature in range(self.forest.n_features)]
        for feature, place in at.items():
            formats[feature] = ladders[feature][place].form
            codes[self.cuts[feature]] = ladders[feature][place].codes
        return formats, codes

    def _ladder(self, feature: int, enough: float) -> list[Choice]:
        """Return the formats of a feature from coarse to fine, up to one whose error is small enough."""
        ladder = self._ladders[feature]
        low, high = self.sample.input_range[:, feature]
        coarsest = math.frexp(high - low)[1] if high > low else math.frexp(low)[1]
        while len(ladder) < _EXPONENTS and (not ladder or ladder[-1].error > enough):
            form = self.sample.format(feature, coarsest - len(ladder))
            if ladder and form == ladder[-1].form:  # there is no finer one
                break
            codes = self._codes(feature, form)
            gates = 2 * (len(np.unique(codes)) + form.width)
            ladder.append(Choice(form, codes, self._error(feature, form, codes), gates))
        return ladder

    def _gap(self, feature: int) -> tuple[Floats, Floats]:
        """Return the values on the sample next to every threshold, on either side."""
        values = np.unique(self.sample.X[:, feature])
        place = np.searchsorted(values, self.forest.threshold[self.cuts[feature]], side="right")
        padded = np.concatenate([[-np.inf], values, [np.inf]])
        return padded[place], padded[place + 1]

    def _codes(self, feature: int, form: Format) -> Integers:
        """Return the largest codes below the thresholds, such that rows stay on their sides where they can.

        In the middle half of the codes that keep all rows on their sides the one with most ones at its end is taken:
        a comparison does not read them.
        """
        lower, upper = self._gaps[feature]
        threshold = np.ldexp(self.forest.threshold[self.cuts[feature]] - form.offset, -form.exponent)
        nearest = np.floor(np.clip(threshold, form.low - 1, form.high)).astype(np.int64)
        least = np.where(np.isinf(lower), form.low - 1, form.encode(lower))
        most = np.where(np.isinf(upper), form.high, form.encode(upper) - 1)
        codes = np.clip(nearest, np.minimum(least, most), np.maximum(least, most))
        first, last = codes - np.maximum(codes - least, 0) // 2, codes + np.maximum(most - codes, 0) // 2
        return roundest(first, last, codes)

    def _error(self, feature: int, form: Format, codes: Integers) -> float:
        forest, sample, cuts = self.forest, self.sample, self.cuts[feature]
        says = form.encode(sample.X[:, feature])[:, None] <= codes
        rows = np.flatnonzero((says != (sample.X[:, [feature]] <= forest.threshold[cuts])).any(axis=1))
        if not len(rows):
            return 0.0
        mass = sample.weights[rows].sum()
        probe = rows[:: -(-len(rows) * (len(forest.start) - 1) // _PROBE_PAIRS)]
        below = self.truth(probe)
        below[:, cuts] = says[probe]
        values = forest.offset + forest.value[forest.reached(below)].sum(axis=1)
        squares = np.mean(np.square((values - sample.values[probe]) / sample.scale), axis=1)
        return math.sqrt(mass * float(np.average(squares, weights=sample.weights[probe])))


def _gain(coarse: Choice, fine: Choice) -> float:
    return (coarse.error**2 - fine.error**2) / max(fine.gates - coarse.gates, 1)


# --- leaves ---------------------------------------------------------------------------------------


def rounded_leaves(
    forest: Forest,
    exact: NDArray[np.int32],
    leaves: NDArray[np.int32],
    weights: Floats,
    steps: Floats,
    unit: Floats,
) -> tuple[Integers, Integers]:
    """Round the values of leaves to multiples of a step, tree by tree, while every tree repairs what others broke.

    The error that the others make is averaged over the rows in a leaf before the leaf is rounded. Few rows in a leaf
    say little: a node believes its parent as much as it would believe 20 rows.

    Parameters
    ----------
    forest : Forest
        The trees.
    exact, leaves : ndarray of shape (n_samples, n_trees)
        Leaves that the rows reach with raw and with rounded features.
    weights : ndarray of shape (n_samples,)
        Weights of the rows, sum one.
    steps : ndarray of shape (n_trees, n_outputs)
        Steps of the trees.
    unit : ndarray of shape (n_outputs,)
        Steps of the outputs, of which those of the trees are multiples.

    Returns
    -------
    ndarray of shape (n_outputs,)
        Constant part in units.
    ndarray of shape (n_nodes, n_outputs)
        Values of the leaves in units.
    """
    averages = Averages(forest, leaves, weights)
    offset = np.rint(forest.offset / unit)
    values = np.zeros(forest.value.shape)
    error = np.tile(offset * unit - forest.offset, (len(weights), 1))
    for number in range(_PASSES):
        for tree, (first, last) in enumerate(itertools.pairwise(forest.paths.of_tree)):
            leaf, truth = leaves[:, tree], forest.value[exact[:, tree]]
            if number:
                error += truth - values[leaf]
            own = forest.paths.leaf[first:last]
            repair = averages.of(tree, leaf, weights[:, None] * (truth - forest.value[leaf] - error))
            values[own] = np.rint((forest.value[own] + repair) / steps[tree]) * steps[tree]
            error += values[leaf] - truth
    return offset.astype(np.int64), np.rint(values / unit).astype(np.int64)


class Averages:
    """Averages of amounts over the rows in the leaves, drawn towards those in the nodes above.

    With the weight w of the rows of a node and the prior weight p, the average of a node is (amount + p * average of
    the parent) / (w + p). In a leaf that is a sum over its way to the root, of the amounts of the nodes times factors
    that only depend on the weights.

    Parameters
    ----------
    forest : Forest
        The trees.
    leaves : ndarray of shape (n_samples, n_trees)
        Leaves that the rows reach.
    weights : ndarray of shape (n_samples,)
        Weights of the rows, sum one.
    """

    def __init__(self, forest: Forest, leaves: NDArray[np.int32], weights: Floats) -> None:
        self.paths, self.roots = forest.paths, forest.start
        start, node = self.paths.start, self.paths.node
        length, prior = np.diff(start), _PRIOR / len(weights)
        reached = np.zeros(len(forest.cut))
        for tree, (first, last) in enumerate(itertools.pairwise(forest.start)):
            reached[first:last] = np.bincount(leaves[:, tree] - first, weights, last - first)
        weight = np.bincount(node, np.repeat(reached[self.paths.leaf], length), len(reached)) + prior
        self._factor = np.empty(len(node))
        known = np.ones(len(length))  # share of the average that comes from above
        for height, open_ in _heights(length):
            place = start[open_] + height
            self._factor[place] = known[open_] / weight[node[place]]
            known[open_] *= prior / weight[node[place]]

    def of(self, tree: int, leaf: NDArray[np.int32], amounts: Floats) -> Floats:
        """Return the averages in the leaves of a tree.

        Parameters
        ----------
        tree : int
            Number of the tree.
        leaf : ndarray of shape (n_samples,)
            Leaves that the rows reach.
        amounts : ndarray of shape (n_samples, n_outputs)
            Weights times what is averaged.
        """
        root, stop = self.roots[tree : tree + 2]
        first, last = self.paths.of_tree[tree : tree + 2]
        start = self.paths.start[first : last + 1]
        node, factor = (flat[start[0] : start[-1]] for flat in (self.paths.node, self._factor))
        own, place = self.paths.leaf[first:last] - root, node - root
        averages = []
        for column in amounts.T:
            in_leaves = np.bincount(leaf - root, column, stop - root)[own]
            in_nodes = np.bincount(place, np.repeat(in_leaves, np.diff(start)), stop - root)
            averages.append(np.add.reduceat(factor * in_nodes[place], start[:-1] - start[0]))
        return np.stack(averages, axis=1)


# --- the graph ------------------------------------------------------------------------------------

Skeleton = list[tuple[int, int, int, int]]  # per node: number, comparison or -1, places of the children; root first


def _skeletons(forest: Forest, formats: Sequence[Format], codes: Integers) -> Iterator[Skeleton]:
    """Return every tree without the splits whose outcome follows from the splits above and from the format."""
    cut, left, right = forest.cut.tolist(), forest.left.tolist(), forest.right.tolist()
    feature, code = forest.feature.tolist(), codes.tolist()
    words = {port: form.word for port, form in enumerate(formats)}
    for root in forest.start[:-1].tolist():
        skeleton: list[list[int]] = []
        todo = [(root, words, -1, 0)]  # node, ranges of the codes, place of the parent, side
        while todo:
            node, ranges, parent, side = todo.pop()
            while cut[node] >= 0:
                port, limit = feature[cut[node]], code[cut[node]]
                low, high = ranges[port]
                if low <= limit < high:
                    break
                node = left[node] if high <= limit else right[node]
            if parent >= 0:
                skeleton[parent][side] = len(skeleton)
            if cut[node] >= 0:
                todo.append((right[node], {**ranges, port: (limit + 1, high)}, len(skeleton), 3))
                todo.append((left[node], {**ranges, port: (low, limit)}, len(skeleton), 2))
            skeleton.append([node, cut[node], 0, 0])
        yield [(a, b, c, d) for a, b, c, d in skeleton]


def _part(parts: Parts, skeleton: Skeleton, values: Sequence[int], least: int) -> Part:
    made: list[Part] = []
    for node, cut, left, right in reversed(skeleton):
        last = len(skeleton) - 1
        if cut < 0:
            made.append(parts.leaf(values[node] - least))
        else:
            made.append(parts.split(cut, made[last - left], made[last - right]))
    return made[-1]


def graph_of(
    forest: Forest,
    formats: Sequence[Format],
    codes: Integers,
    offset: Integers,
    values: Integers,
    exponents: Sequence[int],
) -> Graph:
    """Return the graph of a sum of trees with integers in their leaves.

    Parameters
    ----------
    forest : Forest
        The trees.
    formats : sequence of Format
        Formats of the inputs.
    codes : ndarray of shape (n_cuts,)
        A row goes left where its code is at most this.
    offset : ndarray of shape (n_outputs,)
        Constant part.
    values : ndarray of shape (n_nodes, n_outputs)
        Values of the leaves.
    exponents : sequence of int
        Binary exponents of the outputs.
    """
    build = Builder(formats)
    bits = [
        build.at_most(build.input(port), code)
        for port, code in zip(forest.feature.tolist(), codes.tolist(), strict=True)
    ]
    parts, columns = Parts(), values.T.tolist()
    constants: list[int] = offset.tolist()
    terms: list[list[tuple[int, int]]] = [[] for _ in constants]
    for skeleton in _skeletons(forest, formats, codes):
        for output, column in enumerate(columns):
            least = min(column[node] for node, cut, _, _ in skeleton if cut < 0)
            constants[output] += least
            part = _part(parts, skeleton, column, least)
            terms[output] += [(bit, 1 << place) for place, bit in enumerate(bits_of(build, bits, part))]
    outputs = [build.sum(of_output, constant) for of_output, constant in zip(terms, constants, strict=True)]
    return build.graph(outputs, exponents)
