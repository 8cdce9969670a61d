"""Fewer inner coordinates in compositions: what is projected, and what is lost."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose

from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.spline.network import SplineNetwork

WIDTHS = (5, 6, 4, 2)


def network_of_rank(ranks, *, skip, seed=0, n_problems=2):
    """Return a random network, whose inner coordinates span no more than the ranks, and its parameters."""
    network = SplineNetwork(WIDTHS, (7, 8, 9), skip=skip, ranks=ranks)
    generator = torch.Generator().manual_seed(seed)
    parameters = Parameters.zeros(network.shapes, n_problems, dtype=torch.float64)
    parameters.flat.normal_(generator=generator)
    for layer, rank in enumerate(ranks):
        n = WIDTHS[layer + 1]
        thin = torch.randn(n, rank, generator=generator, dtype=torch.float64)
        project = thin @ torch.linalg.pinv(thin)
        for kind in ("V", "C"):
            parameters.views[f"{kind}{layer}"].copy_(project @ parameters.views[f"{kind}{layer}"])
    if not skip:
        for layer in range(3):
            parameters.views[f"C{layer}"].zero_()
    network.retract(parameters.views)
    X = torch.randn(n_problems, 300, WIDTHS[0], generator=generator, dtype=torch.float64)
    weights = torch.rand(n_problems, 300, 1, generator=generator, dtype=torch.float64)
    return network, parameters, X, weights


def condensed(network, ranks, parameters, X, weights):
    changed = parameters.with_flat(parameters.flat.clone())
    network.condense(ranks, changed.views, parameters.zeros_like().views, X, weights)
    return changed


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("ranks", [(2, 3), (1, 1), (6, 4)])
def test_nothing_is_lost_where_coordinates_are_redundant(ranks, skip):
    network, parameters, X, weights = network_of_rank(ranks, skip=skip)
    changed = condensed(network, ranks, parameters, X, weights)
    assert_allclose(network.forward(changed.views, X)[0], network.forward(parameters.views, X)[0], atol=1e-9)
    for layer, rank in enumerate(ranks):
        for kind in ("V", "C"):
            assert not changed.views[f"{kind}{layer}"][:, rank:].any()
        for kind in ("W", "C"):
            assert not changed.views[f"{kind}{layer + 1}"][:, :, rank:].any()
    for one in range(2):
        single = Parameters.zeros(network.shapes, 1, dtype=torch.float64)
        network.embed(network.arrays(changed.views, one), single)
        narrow, smaller = network.narrowed(single, X[one], weights[one, :, 0])
        assert narrow.widths == (WIDTHS[0], *ranks, WIDTHS[-1])
        assert_allclose(narrow.forward(smaller.views, X[one][None])[0][0], network.forward(changed.views, X)[0][one])


def test_the_most_important_coordinates_stay():
    network, parameters, X, weights = network_of_rank((6, 4), skip=True)
    before = network.forward(parameters.views, X)[0]
    errors = []
    for rank in range(1, 7):
        changed = condensed(network, (rank, 4), parameters, X, weights)
        errors.append(float(((network.forward(changed.views, X)[0] - before).square() * weights).sum()))
    assert errors[-1] < 1e-15 * errors[0]
    arbitrary = parameters.with_flat(parameters.flat.clone())
    mean = network.forward(parameters.views, X)[1][5].mean((0, 1))
    for coordinate in range(3, 6):
        for kind in ("V0", "C0"):
            arbitrary.views[kind][:, coordinate] = 0.0
        arbitrary.views["c0"][:, coordinate] = mean[coordinate]
    error = float(((network.forward(arbitrary.views, X)[0] - before).square() * weights).sum())
    assert errors[2] < 0.5 * error


def test_projected_weights_are_normalised_and_the_stages_lead_to_the_ranks():
    network, parameters, X, weights = network_of_rank((2, 2), skip=True)
    changed = condensed(network, (2, 2), parameters, X, weights)
    for layer in range(3):
        assert_allclose(changed.views[f"W{layer}"].norm(dim=2), 1.0)
    assert network.stages[-1] == (2, 2)
    assert all(max(ranks) < 6 for ranks in network.stages)
    assert SplineNetwork(WIDTHS, (7, 8, 9)).stages == ()


def test_a_smaller_network_is_embedded_as_it_is():
    network, parameters, X, weights = network_of_rank((2, 3), skip=True)
    changed = condensed(network, (2, 3), parameters, X, weights)
    one = Parameters.zeros(network.shapes, 1, dtype=torch.float64)
    network.embed(network.arrays(changed.views, 0), one)
    narrow, smaller = network.narrowed(one, X[0], weights[0, :, 0])
    wide = network.initial([3]).to(torch.float64)
    for name in network.outgoing:
        wide.views[name].zero_()
    network.embed(narrow.arrays(smaller.views), wide)
    network.retract(wide.views)
    assert_allclose(network.forward(wide.views, X[:1])[0], narrow.forward(smaller.views, X[:1])[0], atol=1e-12)
