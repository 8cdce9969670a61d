"""A machine for the C that is written: any width of ``int``, and an error for whatever the standard leaves open.

Overflow of signed integers, conversions to signed types that do not hold the value, shifts of negative numbers or by
too many places, and negative numbers that become unsigned in an operation are all refused; so are unsigned integers
that wrap, which is defined but never meant. It shares nothing with the package.
"""

from __future__ import annotations

import operator
import re

LEVELS = [["||"], ["&&"], ["|"], ["^"], ["&"], ["==", "!="], ["<", "<=", ">", ">="], ["<<", ">>"], ["+", "-"], ["*"]]
COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "&": operator.and_, "|": operator.or_}


class Undefined(Exception):
    """The standard does not say what happens."""


class Machine:
    """Runs the function of a text.

    Values are (integer, bits, signed).
    """

    def __init__(self, text, int_bits):
        self.int = int_bits
        head = re.search(r"^void \w+\(const (\w+) \*x, (\w+) \*y\)\n\{\n(.*?)\n\}$", text, re.MULTILINE | re.DOTALL)
        self.element, self.result = self.type(head[1]), self.type(head[2])
        lines = re.sub(r"/\*.*?\*/", "", head[3]).split("\n")
        self.block, rest = self.parsed([line.strip() for line in lines])
        assert not rest

    @staticmethod
    def type(name):
        signed, bits = re.fullmatch(r"(u?)int(\d+)_t", name).groups()
        return int(bits), not signed

    # --- statements ---

    def parsed(self, lines):
        block = []
        while lines and not lines[0].startswith("}"):
            line, lines = lines[0], lines[1:]
            if line.startswith("if (") and line.endswith("{"):
                yes, lines = self.parsed(lines)
                no = []
                if lines[0] == "} else {":
                    no, lines = self.parsed(lines[1:])
                assert lines[0] == "}"
                block.append(("if", self.expression(line[3:-1]), yes, no))
                lines = lines[1:]
            elif line.startswith("if ("):
                tree, rest = self.ternary(self.tokens(line[3:]))
                block.append(("if", tree, [self.statement(rest)], []))
            elif not line.startswith("(void)"):
                block.append(self.statement(self.tokens(line)))
        return block, lines

    def statement(self, tokens):
        if tokens[0] == "const":
            tokens = tokens[1:]
        kind = None
        if tokens[0].endswith("_t"):
            kind, tokens = self.type(tokens[0]), tokens[1:]
        place = "".join(tokens[: tokens.index("=")])
        tree, rest = self.ternary(tokens[tokens.index("=") + 1 :])
        assert rest == [";"]
        return "set", place, kind, tree

    @staticmethod
    def tokens(text):
        found = re.findall(r"\d+u?|[A-Za-z_]\w*|\|\||&&|<=|>=|==|!=|<<|>>|[-+*&|^<>()\[\]?:!=;]", text)
        assert "".join(found) == re.sub(r"\s", "", text).replace("\t", ""), text
        return found

    # --- expressions ---

    def expression(self, text):
        tree, rest = self.ternary(self.tokens(text))
        assert not rest
        return tree

    def ternary(self, tokens):
        test, tokens = self.binary(tokens, 0)
        if tokens and tokens[0] == "?":
            yes, tokens = self.ternary(tokens[1:])
            assert tokens[0] == ":"
            no, tokens = self.ternary(tokens[1:])
            return ("?", test, yes, no), tokens
        return test, tokens

    def binary(self, tokens, level):
        if level == len(LEVELS):
            return self.unary(tokens)
        left, tokens = self.binary(tokens, level + 1)
        while tokens and tokens[0] in LEVELS[level]:
            right, rest = self.binary(tokens[1:], level + 1)
            left, tokens = (tokens[0], left, right), rest
        return left, tokens

    def unary(self, tokens):
        first = tokens[0]
        if first in "-!":
            inner, rest = self.unary(tokens[1:])
            return (f"unary {first}", inner), rest
        if first == "(" and tokens[1].endswith("_t"):
            inner, rest = self.unary(tokens[3:])
            return ("cast", self.type(tokens[1]), inner), rest
        if first == "(":
            inner, rest = self.ternary(tokens[1:])
            assert rest[0] == ")"
            return inner, rest[1:]
        if first == "x":
            return ("name", "".join(tokens[:4])), tokens[4:]
        return ("number" if first[0].isdigit() else "name", first), tokens[1:]

    # --- running ---

    def run(self, codes):
        self.memory = {f"x[{port}]": (int(code), *self.element) for port, code in enumerate(codes)}
        self.do(self.block)
        ports = sum(name.startswith("y[") for name in self.memory)
        return [self.memory[f"y[{port}]"][0] for port in range(ports)]

    def do(self, block):
        for what, *parts in block:
            if what == "if":
                test, yes, no = parts
                self.do(yes if self.value(test)[0] else no)
            else:
                place, kind, tree = parts
                kind = kind or (self.result if place.startswith("y[") else self.memory[place][1:])
                self.memory[place] = self.converted(self.value(tree), kind)

    def converted(self, value, kind):
        number, (bits, signed) = value[0], kind
        if signed and not -(1 << bits - 1) <= number < 1 << bits - 1:
            raise Undefined(f"{number} as a signed word of {bits} bits")
        return (number if signed else number % (1 << bits)), bits, signed

    def promoted(self, value):
        number, bits, signed = value
        if bits < self.int or (bits == self.int and signed):
            return number, self.int, True
        return number, bits, signed

    def common(self, a, b):
        a, b = self.promoted(a), self.promoted(b)
        bits = max(a[1], b[1])
        signed = all(value[2] or value[1] < bits for value in (a, b))
        if not signed and min(a[0], b[0]) < 0:
            raise Undefined("a negative number becomes unsigned")
        return a[0], b[0], bits, signed

    def checked(self, number, bits, signed):
        if not signed and not 0 <= number < 1 << bits:
            raise Undefined(f"{number} wraps in {bits} bits")  # defined, but never meant
        return self.converted((number,), (bits, signed))

    def value(self, tree):
        what, *parts = tree
        return getattr(self, f"do_{NAMES.get(what, 'operator')}")(what, *parts)

    def do_number(self, _, text):
        number, signed = int(text.rstrip("u")), not text.endswith("u")
        bits = next(bits for bits in (self.int, 32, 64) if bits >= self.int and number < 1 << bits - signed)
        return number, bits, signed

    def do_name(self, _, name):
        return self.memory[name]

    def do_cast(self, _, kind, inner):
        return self.converted(self.value(inner), kind)

    def do_choice(self, _, test, yes, no):
        return self.value(yes if self.value(test)[0] else no)

    def do_minus(self, _, inner):
        number, bits, signed = self.promoted(self.value(inner))
        return self.checked(-number, bits, signed)

    def do_not(self, _, inner):
        return int(not self.value(inner)[0]), self.int, True

    def do_logic(self, what, left, right):
        first = bool(self.value(left)[0])
        result = first and bool(self.value(right)[0]) if what == "&&" else first or bool(self.value(right)[0])
        return int(result), self.int, True

    def do_shift(self, what, left, right):
        number, bits, signed = self.promoted(self.value(left))
        places = self.value(right)[0]
        if number < 0 or not 0 <= places < bits:
            raise Undefined(f"{number} {what} {places} in {bits} bits")
        return self.checked(number << places if what == "<<" else number >> places, bits, signed)

    def do_operator(self, what, left, right):
        a, b, bits, signed = self.common(self.value(left), self.value(right))
        if what in COMPARE:
            return int(COMPARE[what](a, b)), self.int, True
        if what in "&|" and min(a, b) < 0:
            raise Undefined("bits of a negative number")
        return self.checked(ARITHMETIC[what](a, b), bits, signed)


NAMES = {
    "number": "number",
    "name": "name",
    "cast": "cast",
    "?": "choice",
    "unary -": "minus",
    "unary !": "not",
    "&&": "logic",
    "||": "logic",
    "<<": "shift",
    ">>": "shift",
}
