"""The code in the README runs and says what the README says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_there_is_one_example():
    assert len(BLOCKS) == 1
    assert len(BLOCKS[0].splitlines()) <= 10


@pytest.mark.filterwarnings("ignore:stationarity_ is:sklearn.exceptions.ConvergenceWarning")
def test_the_example_prints_score_edges_and_shares(capsys):
    exec(compile(BLOCKS[0], "README.md", "exec"), {})
    first, *features = capsys.readouterr().out.splitlines()
    score, edges, alpha = re.fullmatch(r"R2 (\S+) with (\d+) edges, alpha (\S+)", first).groups()
    assert 0.25 < float(score) < 0.6
    assert 0 < int(edges) < 1000
    assert 0 < float(alpha) < 1
    shares = [float(line.split()[1].rstrip("%")) for line in features]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=1)


def test_every_make_target_that_it_names_exists():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"make ([a-z][a-z-]+)", README))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_fitted_attribute_that_it_names_is_documented():
    from sklearn_htmc import ResNetNormRegressor

    named = set(re.findall(r"`([a-z_]+_)`", README))
    assert "stationarity_" in named
    attributes = set(re.findall(r"^    (\w+_) : ", ResNetNormRegressor.__doc__, flags=re.MULTILINE))
    assert named <= attributes
