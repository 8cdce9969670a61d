"""The code in the README runs and says what the README says."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path

import pytest

from sklearn_htmc.model_selection import smallest_circuit

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_first_example_is_short():
    assert len(BLOCKS[0].splitlines()) <= 10


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Run the examples one after the other, as a reader would, without a warning; return what they print, and names."""
    names, texts = {}, []
    folder = tmp_path_factory.mktemp("readme")  # for the files that they write
    for block in BLOCKS:
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(io.StringIO()) as text,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error")
            exec(compile(block, "README.md", "exec"), names)
        texts.append(text.getvalue().splitlines())
    return texts, names


def test_the_first_example_prints_score_gates_and_rules(printed):
    first, constant, head, *rules = printed[0][0]
    score, gates = re.fullmatch(r"R2 (\S+) with (\d+) gates", first).groups()
    assert 0.75 < float(score) < 1.0
    assert 100 < int(gates) <= 200
    assert constant.startswith("y = ")
    assert head.split() == ["weight", "share", "gates", "condition"]
    assert len(rules) > 10


def test_the_second_example_prints_score_edges_and_shares(printed):
    first, *features = printed[0][1]
    score, edges, alpha = re.fullmatch(r"R2 (\S+) with (\d+) edges, alpha (\S+)", first).groups()
    assert 0.25 < float(score) < 0.6
    assert 0 < int(edges) < 1000
    assert 0 < float(alpha) < 1
    shares = [float(line.split()[1].rstrip("%")) for line in features]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=1)


def test_the_third_example_prints_gates_within_epsilon(printed):
    texts, names = printed
    found = [re.fullmatch(r" *(\w+) +([\d,]+) gates, error (\S+)", line).groups() for line in texts[2]]
    assert [name for name, _, _ in found] == ["ResNetNormRegressor", "LassoCV", "GradientBoostingRegressor"]
    assert all(int(gates.replace(",", "")) > 0 and float(error) <= 0.05 for _, gates, error in found)
    assert names["predicted"].shape == (len(names["X_test"]), 1)
    assert names["verilog"].startswith("module model")
    assert "void model(" in names["c"]


def test_the_fourth_example_chooses_by_gates(printed):
    search = printed[1]["search"]
    assert search.best_index_ == smallest_circuit()(search.cv_results_)
    assert (search.cv_results_["mean_test_size"] < 0).all()
    assert 0.25 < float(re.fullmatch(r"R2 (\S+)", printed[0][3][0])[1]) < 0.6


def test_every_make_target_that_it_names_exists():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"make ([a-z][a-z-]+)", README))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_fitted_attribute_that_it_names_is_documented():
    from sklearn_htmc import CircuitRegressor, ResNetNormRegressor

    named = set(re.findall(r"`([a-z_]+_)`", README))
    assert {"stationarity_", "rules_"} <= named
    texts = CircuitRegressor.__doc__ + ResNetNormRegressor.__doc__
    attributes = set(re.findall(r"^    (\w+_) : ", texts, flags=re.MULTILINE))
    assert named <= attributes
