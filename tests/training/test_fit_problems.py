"""The core: penalty, step, removal, batches, and what a batch of problems ends with."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar

from sklearn_htmc._training.core.architecture import Parameters
from sklearn_htmc._training.core.objective import Rows, mean_loss, sensitivities
from sklearn_htmc._training.core.penalties import WeightedL1
from sklearn_htmc._training.core.problems import Problems, Settings
from sklearn_htmc._training.core.task import weighted_rows
from sklearn_htmc._training.core.weightings import PATH, SENSITIVITY
from sklearn_htmc._training.first_order.batches import Batches
from sklearn_htmc._training.first_order.loop import train
from sklearn_htmc._training.first_order.proximal_adam import AdamState, StepSizes, proximal_adam_step
from sklearn_htmc._training.fit import fit_problems
from sklearn_htmc._training.residual.derivatives import ResidualCalculus, gauss_newton_matrix
from sklearn_htmc._training.residual.finish import ResidualFamily
from sklearn_htmc._training.residual.linear import linear_candidate
from sklearn_htmc._training.residual.network import ResidualNetwork
from sklearn_htmc._training.second_order.gauss_newton import Problem, descend
from sklearn_htmc._training.second_order.surgery import shrink

pytestmark = pytest.mark.usefixtures("one_thread")


def waves(rng, n=150, d=3):
    X = rng.normal(size=(n, d))
    y = np.sin(2 * X[:, :1]) + 0.5 * np.abs(X[:, 1:2]) + 0.1 * rng.normal(size=(n, 1))
    return X, (y - y.mean()) / y.std()


def small_fit(X, y, strengths, *, seeds=None, weights=None, **settings):
    n = len(strengths)
    weights = np.ones((n, len(X))) if weights is None else weights
    problems = Problems(tuple(strengths), tuple(seeds or [0] * n), weights)
    architecture = ResidualNetwork(X.shape[1], y.shape[1], 8, (12, 12))
    return fit_problems(
        X,
        y,
        problems,
        family=ResidualFamily(architecture),
        settings=Settings(**{"max_iter": 60, "batch_size": 64} | settings),
    )


def test_prox_minimises_its_own_definition(rng):
    weights = torch.tensor(rng.uniform(0.1, 2.0, 20))
    point, step = torch.tensor(rng.normal(size=20)), 0.7
    found = WeightedL1(weights).prox(point, step)
    for w, v, z in zip(weights.tolist(), point.tolist(), found.tolist(), strict=True):
        best = minimize_scalar(lambda t, w=w, v=v: 0.5 * (t - v) ** 2 + step * w * abs(t), bracket=(-3, 3), tol=1e-12)
        assert z == pytest.approx(best.x, abs=1e-6)


def test_prox_solves_its_inclusion_which_the_distance_sees(rng):
    weights = torch.tensor(rng.uniform(0.1, 2.0, 50))
    point = torch.tensor(rng.normal(size=50))
    penalty, step = WeightedL1(weights), torch.tensor(rng.uniform(0.1, 1.0, 50))
    z = penalty.prox(point, step)
    assert 0 < int((z == 0).sum()) < 50
    assert_allclose(penalty.distance(z, (z - point) / step).numpy(), 0.0, atol=1e-12)
    wrong = WeightedL1(weights.mean().expand(50)).prox(point, step)  # equal weights would hide a mix-up
    assert float(penalty.distance(wrong, (wrong - point) / step).max()) > 0.1


def test_proximal_adam_finds_the_weighted_lasso_solution(rng):
    A = torch.tensor(rng.normal(size=(60, 8)))
    b = A @ torch.tensor([2.0, -1.0, 0.5, 0, 0, 0, 0, 0], dtype=torch.float64) + 0.1 * torch.tensor(rng.normal(size=60))
    weights = torch.tensor(rng.uniform(0.05, 0.4, 8))
    state, sizes = AdamState.start(torch.zeros(8, dtype=torch.float64)), StepSizes.on(torch.device("cpu"))
    for step in range(4000):
        sizes.set(step + 1, 0, 0.02 * (1 - step / 4000), 1.0)
        proximal_adam_step(state, A.T @ (A @ state.parameters - b) / 60, weights, sizes)
    gradient = A.T @ (A @ state.parameters - b) / 60
    assert float(WeightedL1(weights).distance(state.parameters, gradient).max()) < 1e-4
    assert int((state.parameters == 0).sum()) >= 3


def test_infinite_penalty_keeps_an_edge_at_zero():
    state, sizes = AdamState.start(torch.tensor([0.0, 1.0])), StepSizes.on(torch.device("cpu"))
    sizes.set(1, 0, 0.1, 1.0)
    proximal_adam_step(state, torch.tensor([5.0, 5.0]), torch.tensor([np.inf, 0.0]), sizes)
    assert state.parameters[0] == 0
    assert state.parameters[1] != 1


def test_every_problem_steps_through_its_own_rows_only(rng):
    weights = np.zeros((2, 100))
    weights[0, :70], weights[1, 30:] = 1.0, rng.uniform(0.5, 1.0, 70)
    X, y = torch.arange(100.0)[:, None], torch.zeros(100, 1)
    batches = Batches.build(X, y, weights, size=10, n_rows=70, min_steps=1)
    order = batches.order([torch.Generator().manual_seed(i) for i in range(2)])
    seen = [batches.take(order[:, i : i + 10]) for i in range(0, 70, 10)]
    rows = torch.cat([x for x, _, _ in seen], dim=1)[:, :, 0].sort(dim=1).values
    assert_allclose(rows[0].numpy(), np.arange(70))
    assert_allclose(rows[1].numpy(), np.arange(30, 100))
    total = torch.cat([w for _, _, w in seen], dim=1).sum(dim=1)
    assert_allclose(total.numpy(), 7.0, rtol=1e-5)  # seven batches with weights that sum to one on average


def test_full_batches_weigh_rows_exactly_and_pad_with_nothing(rng):
    weights = np.zeros((2, 30))
    weights[0], weights[1, :11] = rng.uniform(size=30), 1.0
    batches = Batches.build(torch.zeros(30, 1), torch.zeros(30, 1), weights, size=64, n_rows=30, min_steps=3)
    _, _, w = batches.take(batches.order([torch.Generator(), torch.Generator()])[:, :30])
    assert_allclose(w.sum(dim=(1, 2)).numpy(), 1.0, rtol=1e-6)
    assert int((w[1] > 0).sum()) == 11


def test_select_copies_the_named_problems():
    parameters = ResidualNetwork(3, 1, 4, (5,)).initial([1, 2, 3])
    chosen = parameters.select(torch.tensor([2, 0]))
    assert torch.equal(chosen.rows(), parameters.rows()[[2, 0]])
    values = torch.tensor([1.0, 2.0, 3.0])
    spread = parameters.with_flat(parameters.spread(values)).rows()
    assert torch.equal(spread, values[:, None].expand_as(spread))
    copy = Parameters.zeros(parameters.shapes, 3)
    copy.fill_rows(parameters.rows())
    assert torch.equal(copy.flat, parameters.flat)


def test_a_problem_does_not_depend_on_its_batch(rng):
    X, y = waves(rng)
    # Only the rounding of batched products differs. Training amplifies it, and discrete moves at the end would do so
    # without bound: so the losses of a few passes are compared.
    together = small_fit(X, y, [0.001, 0.01, 0.01], seeds=[1, 2, 3], max_iter=8, polish=False)
    alone = small_fit(X, y, [0.01], seeds=[2], max_iter=8, polish=False)
    assert_allclose(together.loss_curves[1], alone.loss_curves[0], rtol=1e-3)
    assert abs(together.loss_curves[2] - alone.loss_curves[0]).max() > 1e-2


def test_strength_above_every_correlation_gives_the_constant(rng):
    X, y = waves(rng)
    path = small_fit(X, y, [1.0])
    assert path.n_edges[0] == 0
    assert path.norm[0] == 0
    assert path.objective[0] == pytest.approx(0.5)
    assert path.stationarity[0] == pytest.approx(0.0, abs=1e-12)


def test_held_out_rows_do_not_influence_the_fit(rng):
    X, y = waves(rng)
    weights = np.ones((1, len(X)))
    weights[0, 100:] = 0.0
    other = y.copy()
    other[100:] = 1e3
    first, second = (small_fit(X, target, [0.01], weights=weights) for target in (y, other))
    assert np.array_equal(first.networks[0](X), second.networks[0](X))


def test_budget_is_met(rng):
    X, y = waves(rng)
    for budget in (10, 40):
        path = small_fit(X, y, [1e-4], max_edges=budget)
        assert 0 < path.n_edges[0] <= budget


def test_linear_candidate_is_the_best_linear_network(rng):
    X = rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = X @ np.array([1.0, -0.5, 0.0, 0.0, 0.2]) + 0.3 * rng.normal(size=80)
    y = ((y - y.mean()) / y.std())[:, None]
    weights = np.full(80, 1 / 80)
    for alpha in (0.3, 0.1, 0.01):
        candidate = linear_candidate(X, y, weights, alpha, width=4)
        best, _ = oracles.measure(candidate, X, y, weights, alpha)
        for _ in range(25):  # no linear function near it does better, in this form or with one coordinate per feature
            moved = candidate | {"E": candidate["E"] + 0.03 * rng.normal(size=(1, 5)) * (rng.random((1, 5)) < 0.5)}
            assert oracles.measure(moved, X, y, weights, alpha)[0] >= best - 1e-9


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_reaches_what_the_cpu_reaches(rng):
    X, y = waves(rng, n=600)
    problems = Problems((1e-3, 1e-2), (0, 0), np.ones((2, 600)))
    architecture = ResidualNetwork(3, 1, 8, (12, 12))
    cpu, cuda = (
        fit_problems(X, y, problems, family=ResidualFamily(architecture), settings=Settings(60, 64), device=device)
        for device in ("cpu", "cuda")
    )
    assert_allclose(cuda.objective, cpu.objective, rtol=0.1)


def roughly_trained(rng, strength=1e-3):
    """Return rows and a network after a short first-order phase: the descent starts where basins are chosen."""
    X, y = waves(rng)
    weights, architecture = np.ones((1, len(X))), ResidualNetwork(3, 1, 8, (12, 12))
    X32, y32 = (torch.tensor(a, dtype=torch.float32) for a in (X, y))
    one = Problems((strength,), (0,), weights)
    trained = train(architecture, X32, y32, one, Settings(40, 64), n_rows=len(X))
    return weighted_rows(X, y, weights[0]), *architecture.compact(trained.parameters.views, 0)


@pytest.mark.parametrize(("weighting", "strength"), [(SENSITIVITY, 3e-3), (PATH, 1e-5)])
def test_descent_ends_where_no_small_move_improves_much(rng, weighting, strength):
    rows, network, parameters = roughly_trained(rng)
    problem = Problem(rows, strength, ResidualCalculus(weighting))
    before = problem.at(network, parameters)
    point = descend(problem, network, parameters, max_steps=60, tol=1e-7)
    assert point.objective < 0.9 * before.objective
    assert 0 < point.n_edges < before.n_edges  # exact zeros
    for _ in range(100):
        moved = point.parameters.flat * (1 + 1e-2 * torch.tensor(rng.normal(size=len(point.parameters.flat))))
        other = problem.objective(point.network, point.parameters.with_flat(moved))
        # The objective has kinks, and the descent may rest on one.
        assert before.objective - other < 1.01 * (before.objective - point.objective)


def test_every_step_lowers_the_objective(rng):
    rows, network, parameters = roughly_trained(rng)
    problem = Problem(rows, 0.003, ResidualCalculus(SENSITIVITY))
    objectives = [problem.objective(network, parameters)]
    for _ in range(10):
        point = descend(problem, network, parameters, max_steps=1, tol=0.0)
        network, parameters = point.network, point.parameters
        objectives.append(point.objective)
    assert all(np.diff(objectives) <= 0)
    assert objectives[-1] < 0.95 * objectives[0]


def test_gauss_newton_matrix_is_the_weighted_square_of_the_jacobian(rng):
    arrays = oracles.random_arrays(rng, n_outputs=2)
    architecture = ResidualNetwork(4, 2, 6, (7, 5))
    parameters = architecture.embed(arrays, Parameters.zeros(architecture.shapes, 1, dtype=torch.float64))
    X, weights = rng.normal(size=(30, 4)), rng.dirichlet(np.full(30, 3.0))
    J = oracles.jacobian(arrays, X)
    flat = np.concatenate([J[name].reshape(30, 2, -1) for name in architecture.shapes], axis=2)
    expected = np.einsum("i,ijp,ijq->pq", weights, flat, flat)
    rows = Rows(torch.tensor(X), torch.zeros(30, 2), torch.tensor(weights))
    everything = torch.ones_like(parameters.flat, dtype=torch.bool)
    found = gauss_newton_matrix(architecture, parameters, rows, everything).numpy()
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_sizes_on_the_way_to_a_budget_fit_better_the_larger_they_are(rng):
    X, y = waves(rng)
    path = small_fit(X, y, [1e-4], max_edges=12).sizes[0]
    assert path.n_edges[0] <= 12 < path.n_edges[-1]
    assert all(np.diff(path.n_edges) > 0)
    assert all(np.diff(path.loss) < 0)
    for network, loss in zip(path.networks, path.loss, strict=True):
        assert 0.5 * np.mean((network(X) - y) ** 2) == pytest.approx(loss, rel=1e-9)
    assert path.within(int(path.n_edges[1])) is path.networks[1]
    with pytest.raises(ValueError, match=r"max_edges must be at least .* the smallest size"):
        path.within(int(path.n_edges[0]) - 1)


def test_compensated_removal_beats_plain_removal(rng):
    rows, network, parameters = roughly_trained(rng)
    problem = Problem(rows, 1e-4, ResidualCalculus(SENSITIVITY))
    point = descend(problem, network, parameters, max_steps=10, tol=1e-6)
    budget = point.n_edges // 2
    *_, shrunk = shrink(problem, point, budget)
    size = (sensitivities(point.network, point.parameters, rows).flat * point.parameters.flat).abs()
    plain = point.parameters.with_flat(point.parameters.flat.clone())
    plain.flat[size.argsort()[: len(size) - budget - 1]] = 0.0
    assert shrunk.n_edges <= budget
    assert shrunk.loss < 0.5 * mean_loss(point.network, plain, rows)
