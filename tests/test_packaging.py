"""What stands in several files says the same in all of them: version, addresses, oldest versions, documented names."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sklearn.linear_model import Lasso
from sklearn.utils import estimator_html_repr

import sklearn_htmc
from sklearn_htmc import CircuitSizeScorer

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
ESTIMATORS = [name for name in sklearn_htmc.__all__ if name != "__version__"]


def ranges(requirements):
    """Return the lower bound of every requirement by name."""
    return dict(re.fullmatch(r"([a-z-]+)>=([\d.]+)", requirement).groups() for requirement in requirements)


def pins(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z\d-]+)==([\d.a-z]+)$", text, flags=re.MULTILINE))


def release(version):
    """Return a version as numbers, trailing zeros left out."""
    return tuple(map(int, re.sub(r"(\.0)+$", "", version).split(".")))


def cited(key):
    return re.findall(rf"^ *{key}: (.*)$", CITATION, flags=re.MULTILINE)


def test_the_citation_has_the_version_and_the_addresses_of_the_package():
    assert cited("version") == [sklearn_htmc.__version__]
    assert cited("license") == [PROJECT["license"]]
    assert cited("repository-code") == [PROJECT["urls"]["Source"]]
    assert cited("url")[0] == PROJECT["urls"]["Documentation"]


def test_the_citation_has_the_references_of_the_theory():
    theory = (ROOT / "doc" / "theory.md").read_text(encoding="utf-8")
    references = [text.strip('"') for text in cited("title")[1:]]
    assert len(references) == 2
    plain = " ".join(theory.split())
    assert all(reference in plain for reference in references)
    assert all(f"({address})" in theory for address in cited("url")[1:])


def test_the_oldest_versions_that_are_tested_are_those_of_the_ranges():
    oldest = pins("constraints-oldest.txt")
    wanted = ranges(PROJECT["dependencies"])
    del wanted["torch"]  # see the Makefile
    extras = PROJECT["optional-dependencies"]
    wanted |= {name: version for name, version in ranges(extras["onnx"] + extras["test"]).items() if name in oldest}
    assert {name: release(oldest[name]) for name in wanted} == {name: release(v) for name, v in wanted.items()}


def test_the_newest_versions_that_are_tested_are_in_the_ranges():
    tested = pins("constraints.txt")
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in ("onnx", "test"))]
    for group in groups:
        for name, version in ranges(group).items():
            assert release(tested[name]) >= release(version), name


def test_the_readme_says_the_oldest_versions():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    oldest = ranges(PROJECT["dependencies"])
    names = {"NumPy": "numpy", "SciPy": "scipy", "scikit-learn": "scikit-learn", "PyTorch": "torch"}
    (needs,) = re.findall(r"It needs (.*?) or newer", readme)
    assert re.findall(r"Python ([\d.]+)", needs)[0] == PROJECT["requires-python"].removeprefix(">=")
    for name, package in names.items():
        assert f"{name} {oldest[package]}" in needs
    assert f"dist/sklearn_htmc-{sklearn_htmc.__version__}-py3-none-any.whl" in readme


def test_every_extra_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`\.\[(\w+)\]`", readme)) == set(PROJECT["optional-dependencies"])


def test_types_are_announced():
    assert (Path(sklearn_htmc.__file__).parent / "py.typed").read_bytes() == b""


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_diagram_of_an_estimator_links_to_its_documentation(name):
    kind = getattr(sklearn_htmc, name)
    model = kind(Lasso()) if kind is CircuitSizeScorer else kind()
    link = f"{PROJECT['urls']['Documentation']}generated/sklearn_htmc.{name}.html"
    assert link in estimator_html_repr(model)
    reference = (ROOT / "doc" / "api.rst").read_text(encoding="utf-8")
    assert ".. currentmodule:: sklearn_htmc\n" in reference
    assert f"   {name}\n" in reference  # that is where the page comes from


def test_other_estimators_in_the_diagram_keep_their_own_links():
    text = estimator_html_repr(CircuitSizeScorer(Lasso()))
    assert re.search(r"https://scikit-learn.org/[^\"]*sklearn\.linear_model\.Lasso\.html", text)


def test_a_class_of_somebody_else_has_no_link():
    class Own(CircuitSizeScorer):
        pass

    assert "sklearn-htmc.github.io" not in estimator_html_repr(Own(Lasso()))


def test_names_are_loaded_at_their_first_use():
    code = "import sys, sklearn_htmc as h; print('sklearn' in sys.modules, sorted(set(h.__all__) - set(dir(h))))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said == "False []\n"
    for name in ESTIMATORS:
        assert getattr(sklearn_htmc, name).__name__ == name
    assert sklearn_htmc.circuit.to_c.__module__.startswith("sklearn_htmc.circuit.")
    with pytest.raises(AttributeError, match=r"^module 'sklearn_htmc' has no attribute 'Lasso'$"):
        sklearn_htmc.Lasso  # noqa: B018
