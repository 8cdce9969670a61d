"""ONNX models of networks: what `predict` returns, to rounding, in another runtime."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from estimators import QUICK, quick_fit
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from sklearn_htmc import CircuitRegressor, CircuitSizeScorer, DeepSplineRegressor, ResNetNormRegressor
from sklearn_htmc._network import Block, SparseNetwork
from sklearn_htmc.circuit import compile_circuit, simulate
from sklearn_htmc.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def computed(model, X):
    """Return what the runtime makes of a model, which it gets as a file."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"X": X})[0]


def random_block(rng, width_in, n_neurons, width_out, *, density=0.5, skip="matrix"):
    def matrix(rows, columns):
        return csr_array(rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density))

    bias, offset = rng.normal(size=n_neurons), rng.normal(size=width_out)
    linear = None if skip is None else matrix(width_out, width_in)
    return Block(matrix(n_neurons, width_in), bias, matrix(width_out, n_neurons), linear, offset)


def random_network(rng, *, clip, density=0.5):
    blocks = (
        random_block(rng, 5, 0, 6, density=density),
        random_block(rng, 6, 9, 6, density=density, skip=None),
        random_block(rng, 6, 7, 4, density=density),
        random_block(rng, 4, 0, 4, density=density, skip=None),
        random_block(rng, 4, 3, 2, density=density),
    )
    low = rng.uniform(-2.0, -0.5, 5)
    return SparseNetwork(blocks, np.array([low, low + rng.uniform(0.5, 2.0, 5)]), clip=clip)


def assert_equal_to_rounding(found, expected, rtol=1e-12):
    assert found.shape == expected.shape
    assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max(initial=0.0))


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.6, 0.1, 0.0])  # in sparse ones, parts depend on no feature
@pytest.mark.parametrize("clip", [False, True])
def test_a_network_is_itself_to_rounding(rng, clip, density):
    for _ in range(5):
        network = random_network(rng, clip=clip, density=density)
        X = rng.normal(size=(200, 5), scale=2.0)
        assert_equal_to_rounding(computed(to_onnx(network), X), network(X))


def test_streams_without_coordinates_are_constants(rng):
    empty = Block.affine(csr_array((0, 3)), np.zeros(0))
    rest = (random_block(rng, 0, 0, 2), random_block(rng, 2, 4, 2, skip=None))
    network = SparseNetwork((empty, *rest), np.array([[0.0] * 3, [1.0] * 3]), clip=True)
    for n_rows in (0, 1, 7):
        X = rng.random((n_rows, 3))
        assert_equal_to_rounding(computed(to_onnx(network), X), network(X))


def test_one_row_and_no_row(rng):
    network = random_network(rng, clip=True)
    for n_rows in (0, 1):
        X = rng.normal(size=(n_rows, 5))
        assert_equal_to_rounding(computed(to_onnx(network), X), network(X))


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("regressor", QUICK)
def test_a_fitted_regressor_is_its_predict(ramps, rng, regressor, n_outputs):
    X, y = ramps(150)
    model = quick_fit(regressor).fit(X, y if n_outputs == 1 else np.column_stack([y, 1e6 * X[:, 0] - 1e7]))
    far = np.vstack([X, rng.normal(size=(50, 4), scale=50.0)])
    assert_equal_to_rounding(computed(to_onnx(model), far), model.predict(far).reshape(-1, n_outputs))


def test_single_precision_is_equal_to_single_rounding(rng):
    network = random_network(rng, clip=True)
    X = rng.normal(size=(200, 5)).astype(np.float32)
    found = computed(to_onnx(network, dtype=np.float32), X)
    assert found.dtype == np.float32
    assert_equal_to_rounding(found.astype(np.float64), network(X), rtol=1e-5)
    assert np.abs(found - network(X)).max() > 1e-12


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_numbers_beyond_single_precision_are_refused(size):
    block = Block.affine(csr_array([[size]]), np.array([1.0]))
    network = SparseNetwork((block,), np.array([[0.0], [1.0]]), clip=False)
    with pytest.raises(ValueError, match=r"^dtype must be 'float64' for this network, got 'float32', .*other units"):
        to_onnx(network, dtype="float32")
    assert computed(to_onnx(network), np.array([[2.0]])) == 2.0 * size + 1.0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_with_nan_give_nan(rng, dtype):
    X = rng.normal(size=(6, 5)).astype(dtype)
    X[2, 4] = X[5] = np.nan
    found = computed(to_onnx(random_network(rng, clip=True), dtype=dtype), X)
    assert np.isnan(found).all(axis=1).tolist() == np.isnan(found).any(axis=1).tolist()
    assert np.flatnonzero(np.isnan(found[:, 0])).tolist() == [2, 5]


@pytest.mark.parametrize(
    "model",
    [
        Ridge(),
        MLPRegressor(hidden_layer_sizes=(7,), max_iter=5, random_state=0),
        make_pipeline(StandardScaler(), quick_fit(DeepSplineRegressor)),
        GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2),
    ],
    ids=["linear", "perceptron", "pipeline", "search"],
)
def test_models_that_lower_makes_a_network_of(ramps, model):
    X, y = ramps(100)
    model.fit(X, y)
    assert_equal_to_rounding(computed(to_onnx(model), X)[:, 0], model.predict(X), rtol=1e-11)


# --- circuits of models; the operations are tested in circuit/test_onnx.py -------------------------


@pytest.mark.parametrize(
    "model",
    [CircuitRegressor(alpha=0.01, augment=False), CircuitSizeScorer(DecisionTreeRegressor(max_depth=3), epsilon=0.8)],
    ids=["grown", "compiled"],
)
def test_regressors_that_are_circuits_are_their_predict(ramps, rng, model):
    X, y = ramps(120)
    model.fit(X, y)
    far = np.vstack([X, rng.normal(size=(50, 4), scale=50.0)])
    assert_array_equal(computed(to_onnx(model), far)[:, 0], model.predict(far))
    assert_array_equal(computed(to_onnx(model.circuit_), far)[:, 0], simulate(model.circuit_, far))


def test_circuits_of_trees_and_networks_are_what_is_simulated(ramps, rng):
    X, y = ramps(120)
    far = np.vstack([X, rng.normal(size=(50, 4), scale=50.0)])
    perceptron = MLPRegressor(hidden_layer_sizes=(6,), max_iter=50, random_state=0)
    for model in (perceptron, DecisionTreeRegressor(max_depth=6, random_state=0)):
        circuit = compile_circuit(model.fit(X, y), X, epsilon=0.1, y=y, effort=0)
        assert_array_equal(computed(to_onnx(circuit), far)[:, 0], simulate(circuit, far))


# --- the file -------------------------------------------------------------------------------------


def test_the_model_says_ports_versions_and_names(ramps):
    X, y = ramps(100)
    frame = pd.DataFrame(X, columns=["a", "b", "c", "é"])
    model = to_onnx(quick_fit(ResNetNormRegressor).fit(frame, y))
    assert [opset.version for opset in model.opset_import] == [13]
    assert model.ir_version == 7
    (props,) = model.metadata_props
    assert (props.key, json.loads(props.value)) == ("feature_names", list(frame.columns))
    shapes = [[d.dim_param or d.dim_value for d in t.type.tensor_type.shape.dim] for t in model.graph.input]
    assert shapes == [["n_samples", 4]]
    onnx.checker.check_model(onnx.load_from_string(model.SerializeToString()), full_check=True)


def test_names_of_a_circuit_are_those_of_its_fit(ramps):
    X, y = ramps(100)
    frame = pd.DataFrame(X, columns=list("abcd"))
    circuit = compile_circuit(Ridge().fit(frame, y), frame, epsilon=0.3, effort=0)
    for given in (circuit, Ridge().fit(frame, y)):
        assert json.loads(to_onnx(given).metadata_props[0].value) == list("abcd")
    assert not to_onnx(Ridge().fit(X, y)).metadata_props


# --- what is refused ------------------------------------------------------------------------------


def test_trees_must_be_compiled_first(ramps):
    tree = DecisionTreeRegressor(max_depth=2).fit(*ramps(50))
    with pytest.raises(TypeError, match=r"^model must be a network or a circuit, and a DecisionTreeR.*compile_circuit"):
        to_onnx(tree)


def test_other_models_are_refused(ramps):
    X, y = ramps(50)
    with pytest.raises(TypeError, match=r"^model must be a fitted regressor of sklearn_htmc.*got a LogisticRegression"):
        to_onnx(LogisticRegression().fit(X, y > np.median(y)))
    with pytest.raises(NotFittedError):
        to_onnx(ResNetNormRegressor())


@pytest.mark.parametrize("dtype", ["float16", "int64", "double-double", object()])
def test_other_types_are_refused(rng, dtype):
    with pytest.raises(ValueError, match=r"^dtype must be one of float64, float32, got "):
        to_onnx(random_network(rng, clip=True), dtype=dtype)


def test_a_missing_package_is_named_with_its_extra(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-htmc\[onnx\]"'):
        to_onnx(random_network(rng, clip=True))
