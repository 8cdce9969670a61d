"""Formulas as SVG, drawn at build time.

The built pages need no script, no font and no network for their formulas: they look the same offline, in print and in
every browser. Screen readers get the TeX. A command that is not understood is a warning, on which `make doc` fails.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from xml.etree.ElementTree import Element, tostring

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
SIZE = 16.0  # in which formulas are laid out; pages scale them with their text
REPAIRS = (  # what the converter does not read as TeX does
    (re.compile(r"(\\[bB]igg?[lr]?) *\\\|"), r"\1‖"),
    (re.compile(r"\\mathbb ([A-Z])"), r"\\mathbb{\1}"),
)
ziamath.config.svg2 = False  # plain paths, which all readers of SVG know
ziamath.config.precision = 2


@cache
def svg(formula: str, inline: bool) -> str:
    """Return a formula as an SVG element whose lengths are in em.

    Raises
    ------
    ValueError
        If a command is unknown.
    """
    for pattern, replacement in REPAIRS:
        formula = pattern.sub(replacement, formula)
    drawn = ziamath.Latex(formula, size=SIZE, inline=inline, color="currentColor")
    if left := re.search(r"\\[a-zA-Z|]+", drawn.mathmlstr()):
        raise ValueError(f"{left[0]} is not understood")
    return _in_em(drawn.svgxml(), formula)


def _in_em(drawn: Element, formula: str) -> str:
    """Make the lengths of an SVG element relative to the text around it, and put it on the base line."""
    _, top, width, height = (float(part) / SIZE for part in drawn.attrib["viewBox"].split())
    del drawn.attrib["width"], drawn.attrib["height"]
    drawn.set("style", f"width:{width:.3f}em;height:{height:.3f}em;vertical-align:{-(top + height):.3f}em")
    drawn.set("role", "img")
    drawn.set("aria-label", " ".join(formula.split()))
    return tostring(drawn, encoding="unicode")


def _write(translator: HTML5Translator, node: nodes.math | nodes.math_block, *, inline: bool) -> None:
    formula = node.astext().strip()
    try:
        translator.body.append(svg(formula, inline))
    except Exception as error:  # whatever it is, the writer should learn in which formula
        LOGGER.warning("cannot draw %r: %s", formula, error, location=node)


def visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    """Draw a formula in a line."""
    translator.body.append(translator.starttag(node, "span", "", CLASS="math"))
    _write(translator, node, inline=True)
    translator.body.append("</span>")
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Draw a formula between lines, with its number if it has one."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})</span>')
    _write(translator, node, inline=False)
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer that `html_math_renderer` chooses."""
    app.add_html_math_renderer("svg", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
