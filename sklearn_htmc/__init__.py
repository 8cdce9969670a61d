"""scikit-learn compatible regressors that are small circuits."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklearn_htmc._version import __version__

if TYPE_CHECKING:
    from sklearn_htmc._circuit_regressor import CircuitRegressor
    from sklearn_htmc._circuit_size import CircuitSizeScorer
    from sklearn_htmc._deep_spline import DeepSplineRegressor
    from sklearn_htmc._deep_spline_cv import DeepSplineRegressorCV
    from sklearn_htmc._resnet_norm import ResNetNormRegressor
    from sklearn_htmc._resnet_norm_cv import ResNetNormRegressorCV

__all__ = [
    "CircuitRegressor",
    "CircuitSizeScorer",
    "DeepSplineRegressor",
    "DeepSplineRegressorCV",
    "ResNetNormRegressor",
    "ResNetNormRegressorCV",
    "__version__",
]

# What is loaded at its first use, and from where: scikit-learn alone takes a second.
_HOMES = {
    "CircuitRegressor": "_circuit_regressor",
    "CircuitSizeScorer": "_circuit_size",
    "DeepSplineRegressor": "_deep_spline",
    "DeepSplineRegressorCV": "_deep_spline_cv",
    "ResNetNormRegressor": "_resnet_norm",
    "ResNetNormRegressorCV": "_resnet_norm_cv",
}
_PACKAGES = ("circuit", "export", "inspection", "model_selection")


def __getattr__(name: str) -> Any:
    """Load an estimator or a package of this one at its first use."""
    if name in _HOMES:
        value = getattr(import_module(f"sklearn_htmc.{_HOMES[name]}"), name)
    elif name in _PACKAGES:
        value = import_module(f"sklearn_htmc.{name}")
    else:
        raise AttributeError(f"module 'sklearn_htmc' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *_HOMES, *_PACKAGES})
