"""The statements of a function in C: narrow words, bits where they are read, and branches where they are added."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from sklearn_htmc.circuit._c.branches import (
    Add,
    Conjunction,
    Literal,
    Paths,
    Step,
    bits_asked,
    bounds_of,
    steps_of,
)
from sklearn_htmc.circuit._c.words import (
    Kind,
    Style,
    Value,
    added,
    between,
    bit,
    constant,
    floor,
    holding,
    literal,
    some_places,
    variable,
    weighted,
)
from sklearn_htmc.circuit._graph import Graph, Node, Op, needed

_LOGIC = {Op.NOT, Op.AND, Op.OR, Op.XOR}
_BITS = _LOGIC | {Op.AT_MOST, Op.BIT}
_SUMS = {Op.SUM, Op.JOIN, Op.ADD, Op.SUBTRACT}
_CHEAP = {Op.AT_MOST, Op.BIT, Op.NOT}  # to ask again costs less than to remember
_DEEPEST, _LONGEST = 12, 40  # brackets inside each other, and comparisons, of a condition
_FEWEST = 3  # places of a word that are added at once
_SPREADS = (0, 2, 9)  # how far bits are taken apart into the paths that lead to them; see `Paths`

Lines = list[str]


class Body(NamedTuple):
    """What a function does.

    Attributes
    ----------
    lines : list of str
        Statements.
    outputs : list of Value
        What they leave for the outputs.
    reads : bool
        Whether an input is read.
    """

    lines: Lines
    outputs: list[Value]
    reads: bool


def body_of(graph: Graph, style: Style, element: Kind) -> Body:
    """Return the shortest of some bodies.

    Parameters
    ----------
    graph : Graph
        The circuit.
    style : Style
        Types of variables.
    element : Kind
        Type of the codes at the input ports.
    """
    nodes = dict(needed(graph))
    found = (_Writer(graph, nodes, style, element, spread).run() for spread in _SPREADS)
    return min(found, key=_length)


def _length(body: Body) -> int:
    """Return about how many bytes a small processor needs."""
    text = "\n".join(body.lines)
    asked, compared = len(re.findall(r"if \(|&&|\|\|", text)), len(re.findall(r" (<=?|>=?|!=|==) ", text))
    return 4 * asked + 3 * compared + 4 * text.count(" = ")


class _Writer:
    """Writes nodes in the order in which they are needed, so that few variables are alive at once.

    Bits that are cheap or read once are written where they are read; other nodes are variables.
    """

    def __init__(self, graph: Graph, nodes: dict[int, Node], style: Style, element: Kind, spread: int) -> None:
        self._nodes, self._style, self._element = nodes, style, element
        self._outputs = graph.outputs
        self._paths = Paths(nodes, spread)
        self._variables: dict[int, Value] = {}
        self._lines: Lines = []
        self._open = self._unsaturated()
        self._inline = self._written_inline()

    def run(self) -> Body:
        """Write everything; nodes are written by generators that yield what must come before, as graphs can be deep."""
        todo: list[Iterator[int]] = [iter(self._outputs)]
        while todo:
            number = next(todo[-1], None)
            if number is None:
                todo.pop()
            elif number not in self._variables and not self._is(number, Op.CONSTANT):
                todo.append(self._written(number))
        reads = any(self._is(number, Op.INPUT) for number in self._variables)
        return Body(self._lines, [self._value(number) for number in self._outputs], reads)

    def _is(self, number: int, op: Op) -> bool:
        return self._nodes[number].op is op

    # --- which nodes are no variables ---

    def _unsaturated(self) -> set[int]:
        """Return the inputs that need not be saturated at the ends of their word: no reader can tell the difference."""
        found = {number for number in self._nodes if self._is(number, Op.INPUT)}
        for node in self._nodes.values():
            if node.op not in (Op.AT_MOST, Op.CLAMP, Op.RELU):
                found.difference_update(node.args)
        return found.difference(self._outputs)

    def _written_inline(self) -> set[int]:
        """Return the bits that are written where they are read."""
        reads = Counter(arg for node in self._nodes.values() for arg in set(node.args))
        as_word = set(self._outputs)
        for node in self._nodes.values():
            if node.op not in _LOGIC | _SUMS:
                as_word.update(node.args)
        depth, length, found = dict[int, int](), dict[int, int](), set[int]()
        for number, node in self._nodes.items():
            if node.op in _BITS and number not in as_word and (node.op in _CHEAP or reads[number] == 1):
                inner = [arg for arg in node.args if arg in found]
                deep, long = 1 + max((depth[arg] for arg in inner), default=0), 1 + sum(length[arg] for arg in inner)
                if deep <= _DEEPEST and long <= _LONGEST:
                    found.add(number)
                    depth[number], length[number] = deep, long
        return found

    # --- words ---

    def _value(self, number: int) -> Value:
        """Return what stands for a node that has been written, or for a constant."""
        node = self._nodes[number]
        return constant(node.low) if node.op is Op.CONSTANT else self._variables[number]

    def _declare(self, number: int, value: Value, kind: Kind, *, const: bool = True) -> None:
        node = self._nodes[number]
        self._variables[number] = variable(number, node, kind)
        remark = "" if (node.low, node.high) == (0, 1) else f"  /* {node.low} .. {node.high} */"
        self._lines.append(f"{'const ' * const}{kind.name} n{number} = {value.stored(kind)};{remark}")

    def _written(self, number: int) -> Iterator[int]:
        """Write a variable; yield what must be written before."""
        node = self._nodes[number]
        if node.op in _SUMS:
            yield from self._sum(number, node)
            return
        if node.op is Op.INPUT:
            self._input(number, node)
            return
        yield from self._asked(number)
        kind = holding(self._style.variables, node.low, node.high)
        if node.op in _BITS:
            value = Value(self._logic(number), 0, 1, None if node.op is Op.BIT else kind, 0)
        else:
            value = (floor if node.op is Op.FLOOR else between)(self._value(node.args[0]), node)
        self._declare(number, value, kind)

    def _input(self, number: int, node: Node) -> None:
        code = Value(f"x[{node.data[0]}]", self._element.low, self._element.high, self._element)
        if number in self._open:
            self._lines.append(f"const {self._element.name} n{number} = {code.text};")
            self._variables[number] = code._replace(text=f"n{number}")
        else:
            self._declare(number, between(code, node), holding(self._style.variables, node.low, node.high))

    # --- sums ---

    def _sum(self, number: int, node: Node) -> Iterator[int]:
        """Write a sum: words, places of words and the constant at once, then what bits add."""
        start, weights = _weights(node)
        places = self._places(weights)
        words, terms = dict[int, int](), list[tuple[Conjunction, int]]()
        for arg, weight in weights.items():
            while self._is(arg, Op.NOT):
                start, weight, arg = start + weight, -weight, self._nodes[arg].args[0]
            of_arg = self._nodes[arg]
            if of_arg.op is Op.CONSTANT:
                start += weight * of_arg.low
            elif (of_arg.low, of_arg.high) == (0, 1):
                terms += [(path, weight) for path in self._paths.of(arg)]
            elif weight:
                words[arg] = weight
        steps = steps_of(terms)
        yield from words
        yield from places
        parts = [(self._value(arg), weight) for arg, weight in words.items()]
        for word, classes in places.items():
            value, of_word = self._value(word), self._nodes[word]
            parts += [(some_places(value, of_word, at, down), weight) for at, down, weight in classes]
        total = weighted(parts, start, self._style)
        bounds = bounds_of(steps, total.low, total.high)
        kind = holding(self._style.variables, bounds.least, bounds.most, node.low, node.high)
        yield from self._asked_by(steps[:1])
        self._declare(number, total, kind, const=not steps)
        on_the_way = Value(f"n{number}", bounds.least, bounds.most, kind)
        for step in steps:
            yield from self._asked_by([step])
            self._lines += self._branches([step], on_the_way)

    def _places(self, weights: Counter[int]) -> dict[int, list[tuple[list[int], int, int]]]:
        """Take places of words out of a sum: those that are added with the weights that they have in the word.

        Returns
        -------
        dict of int to list
            For words, which places, by how many the word is moved down, and the weight of what is left.
        """
        classes: dict[tuple[int, int, int], dict[int, int]] = {}
        for arg, weight in weights.items():
            if weight and self._is(arg, Op.BIT):
                (word,), (place,) = self._nodes[arg].args, self._nodes[arg].data
                at, natural = _natural(self._nodes[word], place)
                power = weight & -weight
                shift = power.bit_length() - 1 - at
                if natural > 0 or shift >= 0:  # only what is not negative is moved down
                    classes.setdefault((word, weight // power * natural, shift), {}).setdefault(at, arg)
        found: dict[int, list[tuple[list[int], int, int]]] = {}
        for (word, factor, shift), bits in classes.items():
            if len(bits) >= _FEWEST:
                found.setdefault(word, []).append((sorted(bits), max(-shift, 0), factor << max(shift, 0)))
                for arg in bits.values():
                    del weights[arg]
        return found

    def _branches(self, steps: Sequence[Step], total: Value) -> Lines:
        lines = Lines()
        for step in steps:
            if isinstance(step, Add):
                asked = f"if ({self._all(step.literals)}) " if step.literals else ""
                lines.append(f"{asked}{total.text} = {added(total, step.weight, self._style)};")
                continue
            sides = [(self._branches(side, total), one) for side, one in ((step.yes, True), (step.no, False)) if side]
            lines.append(f"if ({self._condition(step.bit, one=sides[0][1])}) {{")
            for place, (side, _) in enumerate(sides):
                lines += ["} else {"] * place + [f"    {line}" for line in side]
            lines.append("}")
        return lines

    # --- bits ---

    def _asked_by(self, steps: Sequence[Step]) -> Iterator[int]:
        for number in bits_asked(steps):
            if number in self._inline:
                yield from self._asked(number)
            else:
                yield number

    def _asked(self, number: int) -> Iterator[int]:
        """Yield the variables that the expression of a node reads."""
        todo = list(reversed(self._read(number)))
        while todo:
            arg = todo.pop()
            if arg in self._inline:
                todo += reversed(self._read(arg))
            else:
                yield arg

    def _read(self, number: int) -> tuple[int, ...]:
        """Return the arguments of a node, unless it is a bit that is compared with itself."""
        node = self._nodes[number]
        return () if node.op is Op.XOR and self._are_one(*node.args) else node.args

    def _are_one(self, a: int, b: int) -> bool:
        return self._nodes[a] == self._nodes[b]

    def _all(self, literals: Sequence[Literal]) -> str:
        if len(literals) == 1:
            return self._condition(literals[0][0], one=literals[0][1])
        return _joined("&&", [self._nested(number, one=one) for number, one in literals])

    def _condition(self, number: int, *, one: bool = True) -> str:
        """Return the condition that a bit is one, or zero."""
        if number in self._inline:
            return self._logic(number, one=one)
        return ("" if one else "!") + self._value(number).text

    def _nested(self, number: int, *, one: bool = True) -> str:
        text = self._condition(number, one=one)
        return text if _is_closed(text) else f"({text})"

    def _logic(self, number: int, *, one: bool = True) -> str:
        """Return the condition that the operation of a bit gives one, or zero."""
        node = self._nodes[number]
        if node.op is Op.NOT:
            return self._condition(node.args[0], one=not one)
        if node.op is Op.AT_MOST:
            value = self._value(node.args[0])
            return f"{value.text} {'<=' if one else '>'} {literal(node.data[0], value.kind)}"
        if node.op is Op.BIT:
            return bit(self._value(node.args[0]), node.data[0], inverted=not one)
        if node.op is Op.XOR:
            return self._different(*node.args, one=one)
        return _joined("&&" if (node.op is Op.AND) == one else "||", self._operands(number, one=one))

    def _different(self, a: int, b: int, *, one: bool) -> str:
        # A bit that is inverted stands second, lest it looks as if the comparison were.
        first, second = ("", "") if self._are_one(a, b) else (self._number(arg) for arg in (a, b))
        if first == second:  # compilers warn of that
            return "0" if one else "1"
        first = f"({first})" if first.startswith("!") else first
        return f"{first} {'!=' if one else '=='} {second}"

    def _number(self, number: int) -> str:
        """Return a bit as something that is compared: a place of a word may be unsigned, and others are not."""
        text = self._nested(number)
        return f"({text} != 0)" if " & 1)" in text and text.startswith("(") and self._is(number, Op.BIT) else text

    def _operands(self, number: int, *, one: bool) -> list[str]:
        """Return the operands of a conjunction or a disjunction, and those of such operands."""
        is_and, todo, found = self._is(number, Op.AND) == one, [(number, one)], Lines()
        while todo:
            at, wanted = todo.pop()
            node = self._nodes[at]
            inner = at == number or at in self._inline
            if inner and node.op is Op.NOT:
                todo.append((node.args[0], not wanted))
            elif inner and node.op in (Op.AND, Op.OR) and ((node.op is Op.AND) == wanted) == is_and:
                todo += [(arg, wanted) for arg in reversed(node.args)]
            else:
                found.append(self._nested(at, one=wanted))
        return list(dict.fromkeys(found))


def _is_closed(text: str) -> bool:
    """Return whether a condition can stand beside an operator: a name or a bracket, inverted or not."""
    if " " not in text:
        return True
    depth = list(accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in text.removeprefix("!")))
    return depth[0] == 1 and 0 not in depth[:-1]


def _joined(operator: str, texts: Sequence[str]) -> str:
    """Return texts with an operator between them, short ones first, since the rest is often not asked any more."""
    return f" {operator} ".join(sorted(texts, key=lambda text: text.count(" ")))


def _natural(word: Node, place: int) -> tuple[int, int]:
    """Return the place of a word that a bit repeats, and the sign with which it counts."""
    if word.signed and place >= word.width - 1:
        return word.width - 1, -1
    return place, 1


def _weights(node: Node) -> tuple[int, Counter[int]]:
    """Return the constant of a sum and the weight of every argument."""
    start, powers = 0, node.data
    if node.op is Op.SUM:
        start, powers = node.data[0], node.data[1:]
    elif node.op is Op.JOIN:
        powers = tuple(1 << place for place in range(len(node.args)))
    else:
        powers = (1 << node.data[0], (1 if node.op is Op.ADD else -1) << node.data[1])
    weights: Counter[int] = Counter()
    for arg, power in zip(node.args, powers, strict=True):
        weights[arg] += power
    return start, weights
