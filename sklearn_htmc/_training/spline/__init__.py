"""Compositions of shallow networks: the family of DeepSplineRegressor."""
