"""The page on extending runs as printed, and what it adds does what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_htmc.circuit import count_gates, lower

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "doc" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")  # what is registered stays so
def names():
    """Run the blocks one after the other; return the names that are left, and what was printed as `printed`."""
    names, registered = {}, dict(lower.registry)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
            exec(compile(block, "extending.md", "exec"), names)
    yield names | {"printed": printed.getvalue()}
    assert set(lower.registry) - set(registered) == {type(names["model"])}


def test_the_registered_model_is_followed_beyond_its_data(names):
    X = np.linspace(-5.0, 15.0, 1001)[:, None]
    np.testing.assert_allclose(lower(names["model"])(X)[:, 0], names["model"].predict(X), atol=1e-12)


def test_the_count_of_gates_is_that_of_the_graph(names):
    assert names["printed"] == f"{count_gates(names['graph'])} gates\n"


def test_the_proximal_point_of_the_elastic_net_is_least(names):
    penalty, point, step = names["penalty"], names["point"], names["step"]
    near = names["z"] + 0.01 * torch.as_tensor(np.random.default_rng(0).normal(size=(200, 3)), dtype=torch.float32)

    def objective(z):
        return (z - point).square().sum(-1) / 2 + step * penalty.value(z)

    assert (objective(near) > objective(names["z"])).all()


def test_the_linear_family_predicts_a_line(names):
    X = np.random.default_rng(1).uniform(-1.0, 1.0, (50, 5))
    values = names["line"].predict(X) - names["line"].predict(np.zeros((1, 5)))
    np.testing.assert_allclose(values, names["line"].predict(X / 2) * 2 - 2 * names["line"].predict(np.zeros((1, 5))))


def test_every_file_that_it_names_exists():
    for name in re.findall(r"`((?:tests|circuit|_training|core|first_order)/[\w/]+(?:\.py|/))`", PAGE):
        places = (ROOT, ROOT / "sklearn_htmc", ROOT / "sklearn_htmc" / "_training")
        assert any((place / name).exists() for place in places), name
