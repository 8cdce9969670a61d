"""A circuit as a C function: plain integer arithmetic with no behaviour left to the compiler."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sklearn_htmc._version import __version__
from sklearn_htmc.circuit._c.body import Body, body_of
from sklearn_htmc.circuit._c.words import STYLES, UNSIGNED, Kind, holding
from sklearn_htmc.circuit._fixed_point import Format
from sklearn_htmc.circuit._graph import Graph, require_graph
from sklearn_htmc.circuit._names import check_c_name, comment_text

_PORT = 31  # bits of an int32_t beside its sign

Lines = list[str]


def to_c(
    circuit: Graph,
    name: str = "model",
    *,
    word: str = "least",
    floats: bool = False,
    batch: bool = False,
    header: bool = False,
) -> str:
    """Return a circuit as a function in C99 that is C++ as well, ``void model(const int16_t *x, int16_t *y)``.

    It reads one code per feature and writes one per output; a comment says what they stand for. The element types of
    ``x`` and ``y`` are the narrowest that hold the words of all input ports and of all output ports. Input codes are
    integers of the input formats: real values less the offset, divided by the step, rounded. Codes that do not fit
    into the word of their port are saturated at its ends, so that the function is defined for every argument; for
    codes that fit it computes what `simulate_codes` and the Verilog compute. Every operation is defined by the
    standard wherever ``int`` has 16 bits or more: none overflows, and no negative number is shifted. Only ``stdint.h``
    is included, and ``stddef.h`` for batches.

    Parameters
    ----------
    circuit : Circuit
        What `compile_circuit` returned.
    name : str, default="model"
        Name of the function, and how the names of the others begin.
    word : {"least", "int32"}, default="least"
        Words of ports and variables. With "least", the narrowest types: small and fast on 8-bit and 16-bit
        processors. With "int32", ``int32_t``, and ``int64_t`` where that is too short.
    floats : bool, default=False
        Whether to write ``void model_float(const double *x, double *y)``, too: from raw features to raw targets, as
        `simulate` does. Where a feature is NaN, so are the targets. Offsets and steps of the ports are macros such as
        ``MODEL_X0_STEP``.
    batch : bool, default=False
        Whether to write loops over rows, too, ``void model_batch(const int16_t *x, int16_t *y, size_t rows)`` and, with
        floats, ``model_float_batch``. Rows of ``x`` and ``y`` follow each other in memory.
    header : bool, default=False
        Whether to return the header instead, ``model.h``: what the source of the same call without it defines. Both
        declare the functions ``extern "C"`` to a C++ compiler. The source does not include the header.

    Raises
    ------
    TypeError
        If circuit is none, or floats, batch or header is neither True nor False.
    ValueError
        If the name is not a C identifier, or one that C, C++, their library or the function itself uses, word is none
        of the two, or an input port does not fit into ``int32_t``.

    Examples
    --------
    >>> from sklearn_htmc.circuit import Builder, Format, to_c
    >>> build = Builder([Format(0, 200, 0, scale=0.5)])
    >>> x = build.input(0)
    >>> print(to_c(build.graph([build.add(x, build.at_most(x, 63), 0, 5)], [0]), "late"), end="")  # doctest: +ELLIPSIS
    /* Made by sklearn-htmc ....
       x[0]: 0 .. 200 times 0.5
       y[0]: 0 .. 287 times 2^0 */
    #include <stdint.h>
    <BLANKLINE>
    #ifdef __cplusplus
    extern "C" {
    #endif
    <BLANKLINE>
    void late(const uint8_t *x, int16_t *y)
    {
        const uint8_t n0 = x[0];  /* 0 .. 255 */
        int16_t n2 = n0;  /* 0 .. 287 */
        if (n0 <= 63) n2 = (int16_t)(n2 + 32);
        y[0] = n2;
    }
    <BLANKLINE>
    #ifdef __cplusplus
    }
    #endif
    """
    require_graph(circuit)
    check_c_name(name)
    if not isinstance(word, str) or word not in STYLES:
        raise ValueError(f"word must be one of {', '.join(STYLES)}, got {word!r}.")
    for port, form in enumerate(circuit.input_formats):
        if form.width - form.signed > _PORT:
            raise ValueError(f"x{port} must fit into int32_t, got {form.width} bits; make its format coarser.")
    for what, flag in (("floats", floats), ("batch", batch), ("header", header)):
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{what} must be True or False, got {flag!r}.")
    text = _Text(circuit, name, *port_kinds(circuit, word))
    includes = [*(["#include <stddef.h>"] if batch else []), "#include <stdint.h>", ""]
    lines = [*_comment(circuit), *includes, *(text.macros() if floats else [])]
    lines += ["#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
    asked = ((True, text.codes), (floats, text.reals), (batch, text.batch), (floats and batch, text.real_batch))
    parts = [part for is_asked, part in asked if is_asked]
    if header:
        guard = f"{name.upper()}_H"
        lines = [f"#ifndef {guard}", f"#define {guard}", "", *lines]
        lines += [*(f"{head};" for part in parts for head in part(None)), ""]
    else:
        body = body_of(circuit, STYLES[word], text.element)
        lines += [line for part in parts for line in [*part(body), ""]]
    lines += ["#ifdef __cplusplus", "}", "#endif", *(["", "#endif"] if header else [])]
    return "\n".join([*lines, ""])


def port_kinds(circuit: Graph, word: str) -> tuple[Kind, Kind]:
    """Return the types of the codes at all inputs and at all outputs."""
    kinds = STYLES[word].variables
    codes = [0, *(code for form in circuit.input_formats for code in form.word)]
    # Codes that are never negative need not be compared with zero.
    least = UNSIGNED if word == "least" and min(codes) == 0 else kinds
    return holding(least, *codes), holding(
        kinds, 0, *(code for f in circuit.output_formats for code in (f.low, f.high))
    )


def _comment(circuit: Graph) -> Lines:
    """Return what the circuit is and what its ports mean."""
    lines = [f"Made by sklearn-htmc {__version__}."]
    error, elsewhere = getattr(circuit, "error", math.nan), getattr(circuit, "error_elsewhere", math.nan)
    if not math.isnan(error):
        allowed = getattr(circuit, "epsilon", math.nan)
        beside = "" if math.isnan(elsewhere) else f", {elsewhere:.3g} on other rows"
        lines.append(f"Error {error:.3g} on the rows it was made for{beside}, where epsilon allows {allowed:g};")
        lines.append("root mean square, as a fraction of the standard deviation of the target.")
    names = getattr(circuit, "feature_names", None) or [""] * len(circuit.input_formats)
    for port, (form, feature) in enumerate(zip(circuit.input_formats, names, strict=True)):
        lines.append(f"x[{port}]: {comment_text(feature) + ', ' if feature else ''}{form}")
    lines += [f"y[{port}]: {form}" for port, form in enumerate(circuit.output_formats)]
    return ("/* " + "\n   ".join(lines) + " */").split("\n")


class _Text(NamedTuple):
    """The functions of a circuit; without a body, only how they are called."""

    circuit: Graph
    name: str
    element: Kind
    result: Kind

    def codes(self, body: Body | None) -> Lines:
        """Return the function from codes to codes."""
        head = f"void {self.name}(const {self.element.name} *x, {self.result.name} *y)"
        if body is None:
            return [head]
        unused = ["(void)x;"] * (not body.reads) + ["(void)y;"] * (not body.outputs)
        stores = [f"y[{port}] = {value.stored(self.result)};" for port, value in enumerate(body.outputs)]
        return [head, "{", *(f"    {line}" for line in [*unused, *body.lines, *stores]), "}"]

    def reals(self, body: Body | None) -> Lines:
        """Return the function from features to targets, and how it finds codes."""
        name, head = self.name, f"void {self.name}_float(const double *x, double *y)"
        if body is None:
            return [head]
        inputs, outputs = self.circuit.input_formats, self.circuit.output_formats
        codes = f"codes[{len(inputs)}]" if inputs else "codes[1] = {0}"
        lines = [f"{self.element.name} {codes};", f"{self.result.name} words[{len(outputs) or 1}];"]
        lines += ["double missing = 0.0;", "int port;"]
        lines.append(f"for (port = 0; port < {len(inputs)}; port++) if (x[port] != x[port]) missing = x[port];")
        for port, form in enumerate(inputs):
            macro = f"{name.upper()}_X{port}"
            value = f"(x[{port}] - {macro}_OFFSET)" if form.offset else f"x[{port}]"
            code = f"{name}_code({value} / {macro}_STEP, {form.low}, {form.high})"
            lines.append(
                f"codes[{port}] = {code if self.element.name == 'int32_t' else f'({self.element.name}){code}'};"
            )
        lines.append(f"{name}(codes, words);")
        for port, form in enumerate(outputs):
            macro = f"{name.upper()}_Y{port}"
            value = f"(double)words[{port}] * {macro}_STEP" + (f" + {macro}_OFFSET" if form.offset else "")
            lines.append(f"y[{port}] = missing != missing ? missing : {value};")
        return [*self._rounding(), "", head, "{", *(f"    {line}" for line in lines), "}"]

    def _rounding(self) -> Lines:
        """Return the function to the nearest code; NaN gives the lowest."""
        text = f"""\
/* Nearest integer within bounds, ties to even. */
static int32_t {self.name}_code(double value, int32_t low, int32_t high)
{{
    int32_t code;
    double rest;
    if (!(value > (double)low)) return low;
    if (value >= (double)high) return high;
    code = (int32_t)value;
    rest = value - (double)code;
    if (rest > 0.5 || (rest == 0.5 && code % 2 != 0)) return code + 1;
    if (rest < -0.5 || (rest == -0.5 && code % 2 != 0)) return code - 1;
    return code;
}}"""
        return text.split("\n")

    def batch(self, body: Body | None) -> Lines:
        """Return the loop over rows of codes."""
        return self._loop(self.name, f"{self.name}_batch", self.element.name, self.result.name, body)

    def real_batch(self, body: Body | None) -> Lines:
        """Return the loop over rows of features."""
        return self._loop(f"{self.name}_float", f"{self.name}_float_batch", "double", "double", body)

    def _loop(self, called: str, name: str, element: str, result: str, body: Body | None) -> Lines:
        head = f"void {name}(const {element} *x, {result} *y, size_t rows)"
        steps = f"x += {len(self.circuit.input_formats)}, y += {len(self.circuit.outputs)}"
        loop = [f"    for (; rows > 0; rows--, {steps}) {called}(x, y);"]
        return [head] if body is None else [head, "{", *loop, "}"]

    def macros(self) -> Lines:
        """Return the constants of the formats."""
        lines = Lines()
        for letter, formats in (("X", self.circuit.input_formats), ("Y", self.circuit.output_formats)):
            for port, form in enumerate(formats):
                lines += self._constants(f"{self.name.upper()}_{letter}{port}", form)
        return [*lines, ""]

    def _constants(self, macro: str, form: Format) -> Lines:
        return [f"#define {macro}_STEP {form.step!r}", f"#define {macro}_OFFSET {_bracketed(form.offset)}"]


def _bracketed(number: float) -> str:
    return f"({number!r})" if number < 0 else repr(number)
