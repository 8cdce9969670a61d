"""Circuits as tables that people can read: one line per term of the sums at the outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np

from sklearn_htmc.circuit._fixed_point import Floats, Format
from sklearn_htmc.circuit._gates import count_gates
from sklearn_htmc.circuit._graph import Builder, Graph, Node, Op
from sklearn_htmc.circuit._simulate import simulated

_DIGITS = 6  # of numbers in conditions
_SHOWN = 60  # rules that are printed
_WIDEST = 100  # characters of a condition that is printed
_ROWS = 8_192  # whose values are in memory at once


class Rule(NamedTuple):
    """One term of a sum.

    Attributes
    ----------
    output : int
        Number of the output.
    weight : float
        What is added to the output, in its units, where the condition holds, or per unit of a word.
    condition : str
        In raw units of the features.
    share : float
        Share of the rows on which the condition holds; the mean of a word.
    gates : int
        Gates that go if the term goes.
    """

    output: int
    weight: float
    condition: str
    share: float
    gates: int


@dataclass(frozen=True)
class Rules(Sequence[Rule]):
    """A circuit as rules: every output is a constant and the weights of all rules whose conditions hold.

    Attributes
    ----------
    constants : tuple of float
        Of the outputs, in their units.
    rules : tuple of Rule
        The terms, the one that moves its output most first.
    """

    constants: tuple[float, ...]
    rules: tuple[Rule, ...]

    @overload
    def __getitem__(self, place: int) -> Rule: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Rule, ...]: ...
    def __getitem__(self, place: int | slice) -> Rule | tuple[Rule, ...]:
        """Return one rule or some."""
        return self.rules[place]

    def __len__(self) -> int:
        """Return the number of rules."""
        return len(self.rules)

    def __str__(self) -> str:
        """Return the table."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for output, constant in enumerate(self.constants):
            name = "y" if len(self.constants) == 1 else f"y{output}"
            of_output = [rule for rule in self.rules if rule.output == output]
            yield f"{name} = {constant:.6g}" + (" + the weights of all rules that hold:" if of_output else "")
            if not of_output:
                continue
            yield f"{'weight':>12} {'share':>6} {'gates':>6}  condition"
            for rule in of_output[:_SHOWN]:
                text = rule.condition
                text = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 4]} ..."
                yield f"{rule.weight:>+12.5g} {rule.share:>6.1%} {rule.gates:>6}  {text}"
            if len(of_output) > _SHOWN:
                yield f"... and {len(of_output) - _SHOWN} more"


class Term(NamedTuple):
    """A node that is added to an output.

    Attributes
    ----------
    output : int
        Number of the output.
    node : int
        Number of the node.
    weight : float
        In units of the output.
    """

    output: int
    node: int
    weight: float


def terms_of(graph: Graph) -> tuple[list[float], list[Term]]:
    """Return the constants of the outputs and their terms."""
    constants, terms = list[float](), list[Term]()
    for output, (number, form) in enumerate(zip(graph.outputs, graph.output_formats, strict=True)):
        node = graph.nodes[number]
        if node.op is Op.SUM:
            constants.append(math.ldexp(node.data[0], form.exponent))
            pairs = zip(node.args, node.data[1:], strict=True)
            terms += [Term(output, arg, math.ldexp(weight, form.exponent)) for arg, weight in pairs]
        elif node.low == node.high:
            constants.append(math.ldexp(node.low, form.exponent))
        else:
            constants.append(0.0)
            terms.append(Term(output, number, form.step))
    return constants, terms


def moments_of_terms(graph: Graph, terms: Sequence[Term], X: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the weighted means and variances of the nodes of terms over rows, of shape (n_terms,) both."""
    if not terms:
        return np.zeros(0), np.zeros(0)
    numbers = tuple(term.node for term in terms)
    formats = tuple(Format(graph.nodes[number].low, graph.nodes[number].high, 0) for number in numbers)
    nodes = Graph(graph.nodes, numbers, graph.input_formats, formats)
    parts = [slice(first, first + _ROWS) for first in range(0, len(X), _ROWS)]
    mean: Floats = np.zeros(len(terms))
    for part in parts:
        mean += weights[part] @ simulated(nodes, X[part])
    variance: Floats = np.zeros(len(terms))
    for part in parts:
        variance += weights[part] @ np.square(simulated(nodes, X[part]) - mean)
    return mean, variance


def importances(graph: Graph, terms: Sequence[Term], variances: Floats) -> Floats:
    """Return the share of every feature in the variances of the terms, of shape (n_features,).

    A term counts for the features that it reads in equal parts.

    Parameters
    ----------
    graph : Graph
        The graph.
    terms : sequence of Term
        Of the graph.
    variances : ndarray of shape (n_terms,)
        Of the nodes of the terms.
    """
    found = np.zeros(len(graph.input_formats))
    unit = max((abs(term.weight) for term in terms), default=1.0)
    read = _Features(graph)
    for term, variance in zip(terms, variances.tolist(), strict=True):
        features = sorted(read.of(term.node))
        found[features] += variance * (term.weight / unit) ** 2 / max(len(features), 1)
    return found / (found.sum() or 1.0)


class _Features:
    """The features that nodes read.

    Parameters
    ----------
    graph : Graph
        The nodes.
    """

    def __init__(self, graph: Graph) -> None:
        self._of: list[frozenset[int]] = []
        for node in graph.nodes:
            own = frozenset(node.data[:1]) if node.op is Op.INPUT else frozenset[int]()
            self._of.append(own.union(*(self._of[arg] for arg in node.args)))

    def of(self, number: int) -> frozenset[int]:
        """Return the features that a node depends on."""
        return self._of[number]


def rules_of(graph: Graph, names: Sequence[str] | None, shares: Floats) -> Rules:
    """Return a circuit as a table.

    Parameters
    ----------
    graph : Graph
        The circuit.
    names : sequence of str or None
        Names of the features; None calls them x0, x1, ...
    shares : ndarray of shape (n_terms,)
        Means of the terms, in the order of `terms_of`.
    """
    constants, terms = terms_of(graph)
    reader = _Reader(graph, [f"x{port}" for port in range(len(graph.input_formats))] if names is None else names)
    total = count_gates(graph)
    found = [
        Rule(term.output, term.weight, reader.text(term.node), float(share), total - count_gates(_without(graph, term)))
        for term, share in zip(terms, shares, strict=True)
    ]
    return Rules(tuple(constants), tuple(sorted(found, key=lambda rule: (rule.output, -_moved(rule)))))


def _moved(rule: Rule) -> float:
    """Return the standard deviation that a bit gives to its output."""
    return abs(rule.weight) * math.sqrt(max(rule.share * (1.0 - rule.share), 0.0))


def _without(graph: Graph, term: Term) -> Graph:
    """Return a graph without one term of an output."""
    number = graph.outputs[term.output]
    node = graph.nodes[number]
    build = Builder(graph.input_formats)
    build.nodes = list(graph.nodes)
    if node.op is Op.SUM:
        weight = round(math.ldexp(term.weight, -graph.output_formats[term.output].exponent))
        pairs = list(zip(node.args, node.data[1:], strict=True))
        pairs.remove((term.node, weight))
        replaced = build.sum(pairs, node.data[0])
    else:
        replaced = build.constant(0)
    outputs = [replaced if place == term.output else old for place, old in enumerate(graph.outputs)]
    return build.graph(outputs, [form.exponent for form in graph.output_formats])


@dataclass(frozen=True)
class _Interval:
    """Codes of a feature from ``low`` to ``high``."""

    port: int
    low: float = -math.inf
    high: float = math.inf

    def both(self, other: _Interval) -> _Interval:
        return replace(self, low=max(self.low, other.low), high=min(self.high, other.high))


class _Reader:
    """Says in words what nodes are.

    Parameters
    ----------
    graph : Graph
        The nodes.
    names : sequence of str
        Names of the features.
    """

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        self.graph, self.names = graph, names

    @cached_property
    def _known(self) -> dict[tuple[int, bool], str]:
        return {}

    def text(self, number: int, *, inverted: bool = False) -> str:
        """Return the condition of a bit, or what a word is."""
        key = number, inverted
        if key not in self._known:
            self._known[key] = self._said(number, inverted=inverted)
        return self._known[key]

    def _said(self, number: int, *, inverted: bool) -> str:
        node = self.graph.nodes[number]
        if node.op is Op.NOT:
            return self.text(node.args[0], inverted=not inverted)
        interval = self._interval(number, inverted=inverted)
        if interval is not None:
            return self._bounds(interval)
        if node.op in (Op.AND, Op.OR):
            # By De Morgan an inverted disjunction is a conjunction of what is inverted.
            if (node.op is Op.AND) != inverted:
                return self._all(number, inverted=inverted)
            return " or ".join(self._inside(arg, inverted=inverted) for arg in node.args)
        if node.op is Op.XOR:
            a, b = (self._inside(arg) for arg in node.args)
            return f"{a} {'is the same as' if inverted else 'differs from'} {b}"
        text = self._word(node)
        return f"not {text}" if inverted else text

    def _inside(self, number: int, *, inverted: bool = False) -> str:
        text = self.text(number, inverted=inverted)
        return (
            f"({text})" if any(word in text for word in (" and ", " or ", " differs from ", " is the same")) else text
        )

    def _all(self, number: int, *, inverted: bool) -> str:
        """Return a conjunction, with one interval per feature."""
        intervals, others = dict[int, _Interval](), list[str]()
        todo = [(number, inverted)]
        while todo:
            part, upside_down = todo.pop()
            node = self.graph.nodes[part]
            interval = self._interval(part, inverted=upside_down)
            if node.op is Op.NOT:
                todo.append((node.args[0], not upside_down))
            elif node.op in (Op.AND, Op.OR) and (node.op is Op.AND) != upside_down:
                todo += [(arg, upside_down) for arg in reversed(node.args)]
            elif interval is not None:
                known = intervals.get(interval.port)
                intervals[interval.port] = interval if known is None else known.both(interval)
            else:
                others.append(self._inside(part, inverted=upside_down))
        return " and ".join([*(self._bounds(intervals[port]) for port in sorted(intervals)), *others])

    def _interval(self, number: int, *, inverted: bool) -> _Interval | None:
        """Return a comparison of a feature as codes, None for other nodes."""
        node = self.graph.nodes[number]
        if not node.args or self.graph.nodes[node.args[0]].op is not Op.INPUT:
            return None
        port = self.graph.nodes[node.args[0]].data[0]
        if node.op is Op.AT_MOST:
            cut, upwards = node.data[0], inverted
            return _Interval(port, low=cut + 0.5) if upwards else _Interval(port, high=cut + 0.5)
        return self._step(port, node.data[0], inverted=inverted) if node.op is Op.BIT else None

    def _step(self, port: int, place: int, *, inverted: bool) -> _Interval | None:
        """Return where a bit of a feature is one, or zero, if that is one interval of the codes that are met."""
        form = self.graph.input_formats[port]
        first, last = form.low >> place, form.high >> place
        if last - first > 2:
            return None
        ones = [k for k in range(first, last + 1) if (k & 1) != inverted]
        if len(ones) != 1:
            return None
        low = (ones[0] << place) - 0.5 if ones[0] > first else -math.inf
        high = (ones[0] + 1 << place) - 0.5 if ones[0] < last else math.inf
        return _Interval(port, low, high)

    def _bounds(self, interval: _Interval) -> str:
        name, form = self.names[interval.port], self.graph.input_formats[interval.port]
        low, high = (f"{bound * form.step + form.offset:.{_DIGITS}g}" for bound in (interval.low, interval.high))
        if math.isinf(interval.low):
            return f"{name} <= {high}"
        return f"{name} > {low}" if math.isinf(interval.high) else f"{low} < {name} <= {high}"

    def _word(self, node: Node) -> str:
        """Return what a bit of a feature, a word or anything else is."""
        args = [self._named(arg) for arg in node.args]
        if node.op is Op.INPUT:
            form = self.graph.input_formats[node.data[0]]
            return f"{self._named(self.graph.nodes.index(node))} / {form.step:g}"
        if node.op in (Op.BIT, Op.FLOOR):
            (arg,) = node.args
            inner = self.graph.nodes[arg]
            step = self.graph.input_formats[inner.data[0]].step if inner.op is Op.INPUT else 1.0
            size = math.ldexp(step, node.data[0])
            if node.op is Op.FLOOR:
                return f"floor({args[0]} / {size:.{_DIGITS}g})"
            return f"{args[0]} modulo {2 * size:.{_DIGITS}g} >= {size:.{_DIGITS}g}"
        if node.op is Op.AT_MOST:
            return f"{args[0]} <= {node.data[0]}"
        return f"{node.op.value}({', '.join([*args, *map(str, node.data)])})"

    def _named(self, number: int) -> str:
        """Return a feature by its name, from the value of code 0 on; another node by what it is."""
        node = self.graph.nodes[number]
        if node.op is not Op.INPUT:
            return self._inside(number)
        name, offset = self.names[node.data[0]], self.graph.input_formats[node.data[0]].offset
        return f"({name} {'-' if offset > 0 else '+'} {abs(offset):.{_DIGITS}g})" if offset else name
