"""Which strength to take by held-out errors: one rule for searches and for what "auto" chooses."""

from __future__ import annotations

import math

import numpy as np

from sklearn_htmc._network import Floats


def chosen(losses: Floats, shares: Floats, selection: str) -> int:
    """Return the number of the strength to take.

    Parameters
    ----------
    losses : ndarray of shape (n_strengths, n_folds)
        Held-out errors, for falling strengths.
    shares : ndarray of shape (n_folds,)
        Weights of the folds, sum one; a fold without weight does not count.
    selection : {"min", "one_se"}
        The least mean, or the largest strength whose mean is within one standard error of it.
    """
    judged = shares > 0
    means = losses[:, judged] @ shares[judged]
    best = int(np.argmin(np.where(np.isfinite(means), means, np.inf)))
    if selection == "min" or judged.sum() < 2 or not np.isfinite(means[best]):
        return best
    error = losses[best, judged].std(ddof=1) / math.sqrt(judged.sum())
    return int(np.flatnonzero(means <= means[best] + error)[0])
