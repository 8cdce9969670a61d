"""The fuzzer of the benchmarks runs, and sees what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import fuzz

sys.path.pop(0)


def test_a_few_seconds_find_nothing(capsys):
    assert fuzz.main(["--seconds", "5", "--seed", "0", "--cases", "12"]) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.splitlines()[-1].endswith("0 findings")


def test_seeds_repeat_cases():
    one, other = fuzz.make(5), fuzz.make(5)
    assert str(one) == str(other)
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.y, other.y)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 2.0**400])
def test_errors_are_measured_at_any_scale(scale):
    values = scale * np.array([[0.0], [2.0], [4.0]])
    off = values + scale * np.array([[1.0], [0.0], [0.0]])
    error, _ = fuzz.measured(off, values, values, np.array([1.0, 1.0, 2.0]))
    deviation = np.sqrt((2.5**2 + 0.5**2 + 2 * 1.5**2) / 4)
    assert error == pytest.approx(0.5 / deviation, rel=1e-12)


def test_wrong_errors_warnings_and_exceptions_are_findings(monkeypatch, capsys):
    compiled = fuzz.compile_circuit
    seed = "0"

    def raising(*_, **__):
        raise IndexError("a defect")

    def warning(*args, **keywords):
        fuzz.warnings.warn("a defect", RuntimeWarning, stacklevel=1)
        return compiled(*args, **keywords)

    def lying(*args, **keywords):
        return fuzz.Circuit.of(compiled(*args, **keywords), epsilon=1.0, error=123.0)

    for wrong, text in ((raising, "raises IndexError"), (warning, "warns"), (lying, "is measured as")):
        monkeypatch.setattr(fuzz, "compile_circuit", wrong)
        assert fuzz.main(["--seed", seed, "--cases", "1"]) == 1
        printed = capsys.readouterr().out
        assert text in printed
        assert printed.startswith(f"seed {seed}:")
