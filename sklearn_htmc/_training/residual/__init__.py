"""Residual networks: the family of ResNetNormRegressor."""
