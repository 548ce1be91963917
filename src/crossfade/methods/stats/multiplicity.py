"""Many metrics, variants and segments at once: p-values and e-values adjusted for how many were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.values import require, require_probability

Step = Literal["bonferroni", "sidak"]
"""Sidak's step is slightly sharper and needs independent tests."""


def bonferroni(p_values: Sequence[float]) -> Array:
    """Return adjusted p-values: each times their number. Holds for any dependence; Holm's are never larger."""
    values = _checked(p_values)
    return np.minimum(values * len(values), 1.0)


def holm(p_values: Sequence[float], step: Step = "bonferroni") -> Array:
    """Return adjusted p-values; rejecting those up to alpha makes one false rejection with probability alpha at most.

    Raises:
        InvalidAnalysisError: A p-value is not from 0 to 1.

    Source:
        Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).

    Example:
        >>> [round(float(p), 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    values = _checked(p_values)
    order = np.argsort(values, kind="stable")
    remaining = len(values) - np.arange(len(values))
    return _restored(np.maximum.accumulate(_stepped(values[order], remaining, step)), order)


def hochberg(p_values: Sequence[float], step: Step = "bonferroni") -> Array:
    """Return adjusted p-values, sharper than Holm's, for tests that are independent or positively dependent.

    Raises:
        InvalidAnalysisError: A p-value is not from 0 to 1.

    Source:
        Hochberg: A sharper Bonferroni procedure for multiple tests of significance, Biometrika 75 (1988).
    """
    values = _checked(p_values)
    order = np.argsort(values, kind="stable")[::-1]
    remaining = np.arange(1, len(values) + 1)
    return _restored(np.minimum.accumulate(_stepped(values[order], remaining, step)), order)


def benjamini_hochberg(p_values: Sequence[float]) -> Array:
    """Return adjusted p-values; among those up to alpha, a share of alpha at most is false on average.

    Raises:
        InvalidAnalysisError: A p-value is not from 0 to 1.

    Source:
        Benjamini, Hochberg: Controlling the false discovery rate, JRSS B 57 (1995).
    """
    values = _checked(p_values)
    order = np.argsort(values, kind="stable")[::-1]
    rank = np.arange(len(values), 0, -1)
    return _restored(np.minimum.accumulate(values[order] * len(values) / rank), order)


def benjamini_yekutieli(p_values: Sequence[float]) -> Array:
    """Return adjusted p-values like those of Benjamini and Hochberg, for any dependence.

    Raises:
        InvalidAnalysisError: A p-value is not from 0 to 1.

    Source:
        Benjamini, Yekutieli: The control of the false discovery rate under dependency, Annals of Statistics 29 (2001).
    """
    values = _checked(p_values)
    harmonic = float((1 / np.arange(1, len(values) + 1)).sum()) if len(values) else 1.0
    order = np.argsort(values, kind="stable")[::-1]
    rank = np.arange(len(values), 0, -1)
    return _restored(np.minimum.accumulate(values[order] * harmonic * len(values) / rank), order)


def e_benjamini_hochberg(log_evidence: Sequence[float], alpha: float = 0.05) -> NDArray[np.bool_]:
    """Return which hypotheses are rejected: the false discovery rate is alpha at most under any dependence and peeking.

    Args:
        log_evidence: ln of the e-value of each, as `confidence_sequence.log_evidence` gives.
        alpha: The false discovery rate.

    Raises:
        InvalidAnalysisError: An e-value is missing, or `alpha` is not between 0 and 1.

    Source:
        Wang, Ramdas: False discovery rate control with e-values, JRSS B 84 (2022).
    """
    require_probability(alpha)
    values = np.asarray(log_evidence, dtype=np.float64)
    require(values.ndim == 1 and not bool(np.isnan(values).any()), "an e-value is missing")
    order = np.argsort(values, kind="stable")[::-1]
    needed = np.log(len(values) / (alpha * np.arange(1, len(values) + 1)))
    passed = np.flatnonzero(values[order] >= needed)
    rejected = np.zeros(len(values), dtype=np.bool_)
    if passed.size:
        rejected[order[: passed[-1] + 1]] = True
    return rejected


def _checked(p_values: Sequence[float]) -> Array:
    values = np.asarray(p_values, dtype=np.float64)
    require(values.ndim == 1 and bool(((values >= 0) & (values <= 1)).all()), "p-values are from 0 to 1")
    return values


def _stepped(values: Array, remaining: NDArray[np.int64], step: Step) -> Array:
    if step == "bonferroni":
        return values * remaining
    certain = values >= 1
    return np.where(certain, 1.0, -np.expm1(remaining * np.log1p(-np.where(certain, 0.0, values))))


def _restored(sorted_values: Array, order: NDArray[np.int64]) -> Array:
    result = np.empty_like(sorted_values)
    result[order] = np.minimum(sorted_values, 1.0)
    return result
