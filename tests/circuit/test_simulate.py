"""Simulation: exactly the integers of the oracle, for any codes that fit, in any number of rows."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import codes_for, oracle_codes, random_graph

from sklearn_htmc.circuit import Builder, Format, simulate
from sklearn_htmc.circuit._simulate import words_at_outputs


@pytest.mark.parametrize("seed", range(12))
def test_simulation_is_the_oracle(seed, rng):
    graph = random_graph(seed)
    codes = codes_for(graph, rng)
    expected = oracle_codes(graph, codes)
    for word, exact in zip(words_at_outputs(graph, codes), expected, strict=True):
        assert np.array_equal(word, exact)


def test_words_of_62_bits_are_exact():
    form = Format(-(1 << 30), (1 << 30) - 1, 0)
    build = Builder([form, form])
    x, z = build.input(0), build.input(1)
    total = build.add(build.add(x, z, 29, 3), build.constant(-(1 << 59)), 0, 0)
    graph = build.graph([total, build.floor(total, 41), build.relu(total)], [0, 0, 0])
    codes = [np.array([*form.word, *form.word, 5]), np.array([*form.word, *form.word[::-1], -7])]
    assert build.nodes[total].width == 62
    for word, exact in zip(words_at_outputs(graph, codes), oracle_codes(graph, codes), strict=True):
        assert np.array_equal(word, exact)


def test_narrow_integer_types_do_not_overflow():
    build = Builder([Format(-128, 127, 0)])
    graph = build.graph([build.add(build.input(0), build.constant(1), 20, 0)], [0])
    (word,) = words_at_outputs(graph, [np.array([-128, 127], dtype=np.int8)])
    assert word.tolist() == [-(2**27) + 1, 127 * 2**20 + 1]


def test_rows_do_not_depend_on_each_other(rng):
    graph = random_graph(1)
    codes = codes_for(graph, rng, 9_000)  # more than one pass
    together = words_at_outputs(graph, codes)
    for start in (0, 4_090, 8_190):
        part = words_at_outputs(graph, [code[start : start + 10] for code in codes])
        assert all(np.array_equal(word[start : start + 10], own) for word, own in zip(together, part, strict=True))


def test_features_are_rounded_and_saturated_and_targets_scaled():
    build = Builder([Format(-8, 20, -2)])
    graph = build.graph([build.add(build.saturated_input(0), build.constant(1), 1, 0)], [-3])
    X = np.array([[1.1], [0.125], [100.0], [-np.inf]])
    assert simulate(graph, X).tolist() == [[9 / 8], [1 / 8], [41 / 8], [-15 / 8]]


def test_codes_beyond_the_format_are_saturated_by_the_graph():
    build = Builder([Format(-8, 20, 0)])
    graph = build.graph([build.saturated_input(0), build.input(0)], [0, 0])
    saturated, as_they_are = words_at_outputs(graph, [np.array([-32, -8, 20, 31])])
    assert saturated.tolist() == [-8, -8, 20, 20]
    assert as_they_are.tolist() == [-32, -8, 20, 31]


@pytest.mark.parametrize("X", [np.zeros((3, 1)), np.zeros(2), np.zeros((1, 2, 2))])
def test_another_number_of_features_is_refused(X):
    build = Builder([Format(-8, 20, 0)] * 2)
    with pytest.raises(ValueError, match=r"^X must have shape \(n_samples, 2\), got \(.*\); give the features"):
        simulate(build.graph([build.input(0)], [0]), X)


def test_nan_is_refused():
    build = Builder([Format(-8, 20, 0)])
    with pytest.raises(ValueError, match=r"no code for NaN; impute"):
        simulate(build.graph([build.input(0)], [0]), [[np.nan]])
