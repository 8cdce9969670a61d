"""scikit-learn compatible regressors that are small circuits."""

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

__version__ = "0.1.0"
