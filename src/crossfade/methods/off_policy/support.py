"""Whether a log says anything about a policy: effective sample size, and what the log never did."""

from __future__ import annotations

import math

import numpy as np

from crossfade.methods.off_policy.target import Target
from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.values import NotEstimable

LEAST_SIZE = 100.0
"""Effective rows below which nothing is estimated."""
SURPRISE = 4.0
"""Standard errors by which the mean importance may miss 1 before somebody is told."""
HEAVY = 0.05
"""Share of all importance that one row may have before somebody is told."""


def effective_size(importance: Array) -> float:
    """Return how many rows of equal importance would say as much: (sum w)^2 / sum w^2; 0 without any importance.

    Source:
        Kong: A note on importance sampling using standardized weights (1992).

    Example:
        >>> effective_size(np.array([1.0, 1.0, 0.0, 0.0]))
        2.0
    """
    largest = float(importance.max())
    if largest <= 0:
        return 0.0
    scaled = importance / largest  # squares of large ones would be infinite
    return float(scaled.sum() ** 2 / np.square(scaled).sum())


def refusal(importance: Array, target: Target, least: float = LEAST_SIZE) -> NotEstimable | None:
    """Return why a policy cannot be evaluated on a log; None when it can.

    Args:
        importance: Probability of the policy over propensity, `(n,)`.
        target: The policy.
        least: Effective rows that are needed.
    """
    if target.untaken:
        named = ", ".join(f"`{name[:40]}` ({share:.1%})" for name, share in list(target.untaken.items())[:3])
        more = f" and {len(target.untaken) - 3} more" if len(target.untaken) > 3 else ""
        return NotEstimable(f"the policy would take {named}{more}, which the log never did")
    size = effective_size(importance)
    if size == 0:
        return NotEstimable("the policy would never do what the log did")
    if size < least:
        return NotEstimable(f"only {size:.3g} of {len(importance):,} rows count effectively, and {least:g} are needed")
    return None


def warnings(importance: Array) -> tuple[str, ...]:
    """Return what makes one doubt the log or its propensities, in words.

    If propensities are the true ones and every action of the policy can happen in the log, importance is 1 on average.
    """
    found = []
    mean, count = float(importance.mean()), len(importance)
    error = float(importance.std()) / math.sqrt(count)
    if abs(mean - 1) > max(SURPRISE * error, 1e-9):
        found.append(
            f"importance is {mean:.3g} on average, and should be 1 within {SURPRISE * error:.2g}: propensities are not "
            "those that actions were drawn by, or the policy does what the log could not do in some contexts"
        )
    share = float(importance.max()) / max(mean * count, 1e-300)
    if share > max(HEAVY, 2 / count):
        found.append(f"one row has {share:.0%} of all importance: intervals may be too narrow")
    return tuple(found)
