"""The laws of the theory (doc/theory), with random non-uniform parameters and weights."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from numpy.testing import assert_allclose

from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.core.objective import Rows, loss_and_gradient, sensitivities
from sklearn_htmc._training.core.weightings import PATH, SENSITIVITY
from sklearn_htmc._training.residual.derivatives import backward, differentiate, forward, matrices, value
from sklearn_htmc._training.residual.network import ResidualNetwork, as_network, compacted, n_edges

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=[0, 1, 2])
def rng(request):
    return np.random.default_rng(request.param)


def architecture_of(arrays):
    neurons = tuple(arrays[f"b{i}"].size for i in range(sum(name.startswith("b") for name in arrays)))
    return ResidualNetwork(arrays["E"].shape[1], arrays["c"].size, arrays["e"].size, neurons)


def packed(arrays):
    architecture = architecture_of(arrays)
    zeros = Parameters.zeros(architecture.shapes, 1, dtype=torch.float64)
    return architecture, architecture.embed(arrays, zeros)


def random_rows(rng, n=40, n_features=4, n_outputs=1):
    weights = rng.uniform(0.1, 1.0, n)
    X, y = rng.normal(size=(n, n_features)), rng.normal(size=(n, n_outputs))
    return Rows(torch.tensor(X), torch.tensor(y), torch.tensor(weights / weights.sum()))


def as_numpy(rows):
    return rows.X.numpy(), rows.y.numpy(), rows.weights.numpy()


def named(parameters):
    return {name: view[0].numpy() for name, view in parameters.views.items()}


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_sensitivity_is_the_root_mean_square_derivative(rng, n_outputs):
    arrays, rows = oracles.random_arrays(rng, n_outputs=n_outputs), random_rows(rng, n_outputs=n_outputs)
    expected = oracles.sensitivity(arrays, rows.X.numpy(), rows.weights.numpy())
    found = named(sensitivities(*packed(arrays), rows))
    for name in arrays:
        assert_allclose(found[name], expected[name], rtol=1e-10, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_gradient_is_that_of_the_data_term(rng, n_outputs):
    arrays, rows = oracles.random_arrays(rng, n_outputs=n_outputs), random_rows(rng, n_outputs=n_outputs)
    X, y, weights = as_numpy(rows)
    residual = oracles.values(arrays, X) - y
    loss, gradient = loss_and_gradient(*packed(arrays), rows)
    assert loss == pytest.approx(0.5 * weights @ (residual**2).sum(axis=1))
    J = oracles.jacobian(arrays, X)
    for name, view in named(gradient).items():
        assert_allclose(view, np.einsum("i,ij,ij...->...", weights, residual, J[name]), rtol=1e-9, atol=1e-12)


def test_sensitivity_squared_is_the_diagonal_of_the_gauss_newton_matrix(rng):
    arrays, rows = oracles.random_arrays(rng), random_rows(rng)
    X, _, weights = as_numpy(rows)
    J = np.hstack([j.reshape(len(X), -1) for name, j in oracles.jacobian(arrays, X).items() if name != "c"])
    gauss_newton = (J.T * weights) @ J
    found = np.concatenate(
        [v.ravel() for name, v in named(sensitivities(*packed(arrays), rows)).items() if name != "c"]
    )
    assert_allclose(found**2, np.diag(gauss_newton), rtol=1e-10, atol=1e-14)


def rescaled_neuron(arrays, rng):
    out, c = {name: array.copy() for name, array in arrays.items()}, rng.uniform(0.3, 3.0)
    out["V1"][2] *= c
    out["b1"][2] *= c
    out["U1"][:, 2] /= c
    return out


def rescaled_stream_coordinate(arrays, rng):
    out, c = {name: array.copy() for name, array in arrays.items()}, rng.uniform(0.3, 3.0)
    for name in ("E", "e", "U0", "U1"):
        out[name][3] *= c
    for name in ("V0", "V1", "A"):
        out[name][:, 3] /= c
    return out


@pytest.mark.parametrize("rescaled", [rescaled_neuron, rescaled_stream_coordinate])
@pytest.mark.parametrize("weighting", [SENSITIVITY, PATH])
def test_rescaling_leaves_function_and_importances_unchanged(rng, rescaled, weighting):
    arrays, rows = oracles.random_arrays(rng), random_rows(rng)
    other = rescaled(arrays, rng)
    X = rows.X.numpy()
    assert_allclose(oracles.values(other, X), oracles.values(arrays, X), rtol=1e-10)
    omega, omega_other = (named(weighting.over_rows(*packed(a), rows)) for a in (arrays, other))
    for name in arrays:
        assert_allclose(omega_other[name] * np.abs(other[name]), omega[name] * np.abs(arrays[name]), rtol=1e-9)


def test_path_weighting_bounds_sensitivity_edge_by_edge(rng):
    arrays, rows = oracles.random_arrays(rng), random_rows(rng)
    path, sensitivity = (named(w.over_rows(*packed(arrays), rows)) for w in (PATH, SENSITIVITY))
    for name in arrays:
        assert np.all(path[name] >= sensitivity[name] * (1 - 1e-12)), name


def test_path_weight_is_the_derivative_of_the_path_norm(rng):
    arrays, rows = oracles.random_arrays(rng), random_rows(rng)
    reach = rows.X.abs().amax(0)
    sizes = {name: torch.tensor(np.abs(array), requires_grad=True) for name, array in arrays.items()}
    path_norm = oracles.forward(sizes, reach).sum()  # all weights and inputs are positive: every ReLU is open
    derivatives = torch.autograd.grad(path_norm, list(sizes.values()))
    found = named(PATH.over_rows(*packed(arrays), rows))
    for name, derivative in zip(sizes, derivatives, strict=True):
        if name != "c":
            assert_allclose(found[name], derivative.numpy(), rtol=1e-10)


def test_flow_is_conserved_at_every_neuron_and_at_the_readout(rng):
    arrays, X = oracles.random_arrays(rng), rng.normal(size=(10, 4))
    J = {name: j[:, 0] for name, j in oracles.jacobian(arrays, X).items()}
    for block in (0, 1):
        V, b, U = f"V{block}", f"b{block}", f"U{block}"
        incoming = (arrays[V] * J[V]).sum(axis=2) + arrays[b] * J[b]
        assert_allclose(incoming, (arrays[U] * J[U]).sum(axis=1), rtol=1e-9, atol=1e-12)
    f = oracles.values(arrays, X)[:, 0]
    assert_allclose((arrays["A"] * J["A"]).sum(axis=(1, 2)), f - arrays["c"][0], rtol=1e-9)


def pruning(arrays, X, weights, budget, rng, n_draws):
    """Return expected edges, exact first-order error and Monte Carlo error of random pruning, and the bound."""
    omega = oracles.sensitivity(arrays, X, weights)
    importance = {name: omega[name] * np.abs(arrays[name]) for name in arrays if name != "c"}
    norm = sum(i.sum() for i in importance.values())
    keep = {name: np.minimum(1.0, budget * i / norm) for name, i in importance.items()}
    first_order = sum((i**2 * (1 / np.maximum(keep[name], 1e-300) - 1)).sum() for name, i in importance.items())
    f, errors = oracles.values(arrays, X), []
    for _ in range(n_draws):
        drawn = {"c": arrays["c"]}
        for name, k in keep.items():
            drawn[name] = np.where(rng.random(k.shape) < k, arrays[name] / np.maximum(k, 1e-300), 0.0)
        errors.append(weights @ ((oracles.values(drawn, X) - f) ** 2)[:, 0])
    return sum(k.sum() for k in keep.values()), first_order, np.mean(errors), norm**2 / budget


def test_random_pruning_meets_the_bound_of_the_pruning_theorem(rng):
    # Weights of similar size: with a few tiny probabilities the mean of any number of draws would say little.
    arrays = oracles.random_arrays(rng, width=8, neurons=(12, 12))
    arrays = {n: np.sign(a) * rng.uniform(0.5, 1.5, a.shape) / np.sqrt(a.shape[-1]) for n, a in arrays.items()}
    X, weights = rng.normal(size=(50, 4)), rng.dirichlet(np.full(50, 5.0))
    total = n_edges(arrays)
    ratios = []
    for budget in (total / 4, 4 * total, 16 * total):
        n_kept, first_order, error, bound = pruning(arrays, X, weights, budget, rng, 200)
        assert n_kept <= budget * (1 + 1e-12)
        assert first_order <= bound
        ratios.append(error / bound)
    # Asymptotic: products of several kept edges dominate at first, then the bound holds with room to spare.
    assert ratios[0] > ratios[1] > ratios[2]
    assert ratios[1] < 0.5
    assert ratios[2] < 0.1


def imbalance(arrays, omega):
    """Return ``|I - O| / (I + O)`` of every neuron and of every stream coordinate that blocks do not write."""
    importance = {name: omega[name] * np.abs(arrays[name]) for name in arrays}
    pairs = [
        (importance[f"V{i}"].sum(axis=1) + importance[f"b{i}"], importance[f"U{i}"].sum(axis=0))
        for i in range(sum(name.startswith("b") for name in arrays))
    ]
    return np.concatenate([np.abs(i - o) / (i + o) for i, o in pairs])


def test_imbalance_bounds_the_stationarity_of_every_network_from_below(rng):
    arrays, X, y = oracles.random_arrays(rng), rng.normal(size=(40, 4)), rng.normal(size=(40, 1))
    weights = rng.dirichlet(np.full(40, 5.0))
    for alpha in (0.01, 1.0, 100.0):
        _, stationarity = oracles.measure(arrays, X, y, weights, alpha)
        assert stationarity >= alpha * np.nanmax(imbalance(arrays, oracles.sensitivity(arrays, X, weights)))


def test_path_weights_are_balanced_at_every_neuron(rng):
    arrays, rows = oracles.random_arrays(rng), random_rows(rng)
    assert_allclose(imbalance(arrays, named(PATH.over_rows(*packed(arrays), rows))), 0.0, atol=1e-12)


def test_gradient_is_at_most_residual_times_sensitivity(rng):
    arrays, rows = oracles.random_arrays(rng), random_rows(rng)
    X, y, weights = as_numpy(rows)
    size = np.sqrt(weights @ ((oracles.values(arrays, X) - y) ** 2)[:, 0])
    _, gradient = loss_and_gradient(*packed(arrays), rows)
    omega = sensitivities(*packed(arrays), rows)
    for name in arrays:
        if name != "c":
            assert np.all(np.abs(named(gradient)[name]) <= size * named(omega)[name] * (1 + 1e-12) + 1e-15)


def with_dead_and_constant_units(rng):
    """A network with one of everything that compaction must recognise."""
    arrays = oracles.random_arrays(rng, width=8, neurons=(9, 9))
    arrays["E"][[0, 1]] = 0.0  # coordinate 0: constant e until block 1 writes it; coordinate 1: constant for good
    arrays["U0"][0] = 0.0
    arrays["U0"][1] = arrays["U1"][1] = 0.0
    arrays["V0"][3] = 0.0  # a constant neuron that is on
    arrays["b0"][3] = 0.7
    arrays["V0"][4] = 0.0  # one that is off
    arrays["b0"][4] = -0.7
    arrays["V0"][5] = 0.0  # one that reads a constant coordinate only
    arrays["V0"][5, 1] = 1.3
    arrays["U1"][:, 6] = 0.0  # a neuron that nobody reads
    arrays["A"][:, 7] = 0.0  # a coordinate that is read inside only
    arrays["V1"][:, 2] = arrays["A"][:, 2] = 0.0  # one that only the first block reads
    return arrays


def test_compaction_keeps_the_function_exactly_and_drops_units(rng):
    arrays, X = with_dead_and_constant_units(rng), rng.normal(size=(60, 4))
    small = compacted(arrays)
    assert_allclose(oracles.values(small, X), oracles.values(arrays, X), rtol=1e-11, atol=1e-12)
    assert small["b0"].size == 6
    assert small["b1"].size == 8
    assert small["e"].size == 7
    assert n_edges(small) < n_edges(arrays)
    again = compacted(small)
    assert all(np.array_equal(again[name], small[name]) for name in small)


def test_compaction_of_a_network_that_does_not_read_its_input_is_the_constant(rng):
    arrays = oracles.random_arrays(rng)
    arrays["E"][:] = 0.0
    small = compacted(arrays)
    assert n_edges(small) == 0
    assert_allclose(small["c"], oracles.values(arrays, rng.normal(size=(1, 4)))[0], rtol=1e-12)


def test_network_equals_the_oracle_before_and_after_it_is_written_as_blocks(rng):
    arrays, X = oracles.random_arrays(rng, n_outputs=2), rng.normal(size=(30, 4))
    network = as_network(arrays, np.array([X.min(axis=0), X.max(axis=0)]))
    assert_allclose(network(X), oracles.values(arrays, X), rtol=1e-10, atol=1e-12)


def test_problems_of_a_batch_do_not_see_each_other(rng):
    architecture = ResidualNetwork(4, 2, 6, (7, 5))
    batch, X = architecture.initial([3, 8, 5]), torch.tensor(rng.normal(size=(1, 20, 4)), dtype=torch.float32)
    together, _ = architecture.forward(batch.views, X.expand(3, -1, -1))
    for problem, seed in enumerate([3, 8, 5]):
        alone, _ = architecture.forward(architecture.initial([seed]).views, X)
        assert_allclose(together[problem].numpy(), alone[0].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighting", [SENSITIVITY, PATH])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_gradient_of_the_norm_is_its_slope_along_a_line(rng, weighting, n_outputs):
    arrays, rows = oracles.random_arrays(rng, n_outputs=n_outputs), random_rows(rng, n_outputs=n_outputs)
    architecture, parameters = packed(arrays)

    def norm(flat):
        omega = weighting.over_rows(architecture, parameters.with_flat(flat), rows)
        return float((omega.flat * flat.abs()).sum())

    gradient = differentiate(architecture, parameters, rows, weighting).norm_gradient
    direction = parameters.flat * torch.tensor(rng.normal(size=len(parameters.flat)))
    step = 1e-7  # too short to meet a kink
    slope = (norm(parameters.flat + step * direction) - norm(parameters.flat - step * direction)) / (2 * step)
    assert float(gradient @ direction) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("weighting", [SENSITIVITY, PATH])
@pytest.mark.parametrize("chunk", [8192, 7])
def test_what_the_second_order_phase_sees_is_what_the_certificate_sees(rng, monkeypatch, weighting, chunk):
    arrays, rows = oracles.random_arrays(rng, n_outputs=2), random_rows(rng, n_outputs=2)
    architecture, parameters = packed(arrays)
    loss, gradient = loss_and_gradient(architecture, parameters, rows)
    omega = weighting.over_rows(architecture, parameters, rows)
    once = differentiate(architecture, parameters, rows, weighting)
    monkeypatch.setattr(Rows, "chunk_size", chunk)  # the result does not depend on how rows are cut
    for at in (
        value(architecture, parameters, rows, weighting),
        differentiate(architecture, parameters, rows, weighting),
    ):
        assert at.loss == pytest.approx(loss, rel=1e-12)
        assert at.norm == pytest.approx(float((omega.flat * parameters.flat.abs()).sum()), rel=1e-12)
        assert_allclose(at.weights.numpy(), omega.flat.numpy(), rtol=1e-10, atol=1e-14)
    assert_allclose(at.gradient.numpy(), gradient.flat.numpy(), rtol=1e-9, atol=1e-12)
    assert_allclose(at.norm_gradient.numpy(), once.norm_gradient.numpy(), rtol=1e-9, atol=1e-12)


def test_activations_and_derivatives_multiply_to_the_jacobian(rng):
    arrays, X = oracles.random_arrays(rng, n_outputs=2), rng.normal(size=(20, 4))
    _, parameters = packed(arrays)
    J = oracles.jacobian(arrays, X)
    t = matrices(parameters)
    tape = forward(t, torch.tensor(X), 2)
    assert_allclose(tape.outputs.numpy(), oracles.values(arrays, X), rtol=1e-10, atol=1e-12)
    for output in range(2):
        slopes = backward(t, tape, output)
        pairs = {"E": (slopes.stream[0], tape.X)}
        for block in range(2):
            pairs[f"V{block}"] = (slopes.neurons[block], tape.stream[block])
            pairs[f"U{block}"] = (slopes.stream[block + 1], tape.neurons[block])
            assert_allclose(slopes.neurons[block].numpy(), J[f"b{block}"][:, output], rtol=1e-9, atol=1e-12)
        for name, (target, source) in pairs.items():
            found = (target[:, :, None] * source[:, None, :]).numpy()
            assert_allclose(found, J[name][:, output], rtol=1e-9, atol=1e-12, err_msg=name)


def test_rescalings_do_not_change_the_function_and_span_all_units(rng):
    arrays, rows = oracles.random_arrays(rng, n_outputs=2), random_rows(rng, n_outputs=2)
    architecture, parameters = packed(arrays)
    directions = architecture.rescalings(parameters)
    assert directions.shape == (6 + 7 + 5, len(parameters.flat))
    assert torch.linalg.matrix_rank(directions) == len(directions)
    J = oracles.jacobian(arrays, rows.X.numpy())
    flat = np.concatenate([J[name].reshape(len(rows.X), 2, -1) for name in parameters.views], axis=2)
    assert_allclose(flat @ directions.numpy().T, 0.0, atol=1e-10)
