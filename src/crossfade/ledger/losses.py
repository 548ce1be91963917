"""Losses: how wrong an answer was, once its outcome is known."""

from __future__ import annotations

import numpy as np

from crossfade.ledger.metrics import Loss
from crossfade.methods.stats.distributions import Array

_SMALLEST = 1e-15
"""Of a probability, so that one answer that was sure and wrong does not cost infinitely much."""


def losses(loss: Loss, scores: Array, outcomes: Array) -> Array:
    """Return the loss of each answer; NaN where there is none.

    `log`: of a probability, for outcomes that are 0 or 1. `squared` and `absolute`: of the difference, for any value.
    `zero_one`: 1 where score and outcome are on different sides of one half.

    Args:
        loss: Which.
        scores: Of the answers, `(..., n)`; NaN where an answer had none.
        outcomes: Of the same decisions, `(n,)`.

    Source:
        Gneiting, Raftery: Strictly proper scoring rules, prediction, and estimation (JASA 2007).

    Example:
        >>> losses("squared", np.array([0.9, 0.2]), np.array([1.0, 1.0])).round(2).tolist()
        [0.01, 0.64]
    """
    if loss == "squared":
        return np.asarray((scores - outcomes) ** 2)
    if loss == "absolute":
        return np.abs(scores - outcomes)
    known = np.isfinite(scores) & np.isfinite(outcomes)
    if loss == "zero_one":
        return np.where(known, (scores >= 0.5) != (outcomes >= 0.5), np.nan)
    known &= (scores >= 0) & (scores <= 1) & ((outcomes == 0) | (outcomes == 1))
    happened = np.where(known, np.where(outcomes == 1, scores, 1 - scores), 1.0)  # the probability it was given
    return np.where(known, -np.log(np.maximum(happened, _SMALLEST)), np.nan)
