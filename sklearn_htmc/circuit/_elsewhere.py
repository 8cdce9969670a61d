"""Rows near those at hand: what a function does between and beside the rows it was compiled on."""

from __future__ import annotations

import numpy as np

from sklearn_htmc.circuit._fixed_point import Floats

_EXCHANGED = 0.1  # of the entries, and at least one in every row


def perturbed(X: Floats, weights: Floats, n_rows: int, seed: int) -> tuple[Floats, Floats]:
    """Return rows some entries of which come from other rows, and their weights.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows in canonical order.
    weights : ndarray of shape (n_samples,)
        Their weights.
    n_rows : int
        How many rows to return; every row is used about equally often.
    seed : int
        Seed of the exchange.
    """
    rng = np.random.default_rng(seed)
    own = np.linspace(0, len(X) - 1, n_rows).astype(np.intp) if n_rows < len(X) else np.arange(n_rows) % len(X)
    donors = rng.integers(len(X), size=(n_rows, X.shape[1]))
    exchanged = rng.random(donors.shape) < _EXCHANGED
    exchanged[np.arange(n_rows), rng.integers(X.shape[1], size=n_rows)] = True
    rows = np.where(exchanged, np.take_along_axis(X, donors, axis=0), X[own])
    return rows, weights[own] / weights[own].sum()
