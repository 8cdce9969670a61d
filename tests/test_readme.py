"""The code of the README and of the documentation runs as printed, without a warning, and prints what is shown."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from sklearn_htmc import CircuitRegressor, ResNetNormRegressor

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = r"\d+(?:\.\d+)?"


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run(page: str, text: str) -> list[str]:
    """Run the examples one after the other, as a reader would, and return what each prints; warnings are errors."""
    names, texts = {}, []
    for block in blocks(text, "python"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block, page, "exec"), names)
        texts.append(printed.getvalue())
    return texts


@pytest.fixture(scope="module")
def printed():
    return run("README.md", README)


def test_the_first_example_is_short():
    assert len(blocks(README, "python")[0].splitlines()) <= 10


def test_the_first_example_finds_the_function_in_few_gates(printed):
    found = re.fullmatch(rf"R2 ({NUMBER}) with ({NUMBER}) edges, as a circuit ({NUMBER}) gates\n", printed[0])
    score, edges, gates = map(float, found.groups())
    assert score > 0.98
    assert edges <= 40
    assert gates < 1000


def test_the_second_example_prints_rules(printed):
    first, constant, head, *rules = printed[1].splitlines()
    score, gates = map(float, re.fullmatch(rf"R2 ({NUMBER}) with ({NUMBER}) gates", first).groups())
    assert score > 0.7
    assert gates <= 40
    assert constant.startswith("y = ")
    assert head.split() == ["weight", "share", "gates", "condition"]
    assert len(rules) > 3


def test_what_is_shown_is_what_is_printed(printed):
    """Numbers may differ a little with the libraries."""
    shown = blocks(README, "text")
    assert len(shown) == len(printed)
    for there, here in zip(shown, printed, strict=True):
        first, second = there.splitlines()[0], here.splitlines()[0]
        assert re.sub(NUMBER, "#", first) == re.sub(NUMBER, "#", second)
        numbers = [float(number) for number in re.findall(NUMBER, second)]
        assert [float(number) for number in re.findall(NUMBER, first)] == pytest.approx(numbers, rel=0.15)


def test_the_example_of_the_first_page_of_the_documentation_runs():
    page = (ROOT / "doc" / "index.md").read_text(encoding="utf-8")
    (text,) = run("index.md", page)
    assert re.match(r"R2 0\.9\d with 1\d\d gates\ny = ", text)


@pytest.mark.parametrize("page", sorted((ROOT / "doc").glob("*.md")), ids=lambda page: page.name)
def test_every_block_of_the_documentation_is_run_by_a_test(page):
    """Doctests run in the guide, `test_extending` runs its page; what is left needs a cluster."""
    text = re.sub(r"^ +(?=```)", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    left = [] if page.name in ("index.md", "extending.md") else blocks(text, "python")
    assert all("distributed" in block for block in left)
    for block in left:
        compile(re.sub(r"^  ", "", block, flags=re.MULTILINE), page.name, "exec")


@pytest.mark.parametrize("name", re.findall(r"\((doc/[\w./]+)\)", README))
def test_every_file_that_it_links_exists(name):
    assert (ROOT / name).is_file()


def test_every_make_target_that_it_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"make ([a-z][a-z-]+)", README))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_fitted_attribute_that_it_names_is_documented():
    named = set(re.findall(r"`([a-z_]+_)`", README))
    assert {"stationarity_", "rules_"} <= named
    texts = CircuitRegressor.__doc__ + ResNetNormRegressor.__doc__
    attributes = set(re.findall(r"^    (\w+_) : ", texts, flags=re.MULTILINE))
    assert named <= attributes
