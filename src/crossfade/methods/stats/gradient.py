"""One rule for every smooth statistic of means: its variance is gradient times covariance times gradient."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from crossfade.methods.stats.distributions import Array
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.values import Estimate, NotEstimable

SIGNAL = 3.0
"""How many standard errors a denominator must be away from zero before anything is divided by it."""

CANCELLED = 1e-13
"""Of the parts of a sum: what is left of them by rounding."""


class Mean(msgspec.Struct, frozen=True, tag="mean"):
    """The mean of one column; of a column of zeros and ones it is a proportion."""

    column: int = 0


class Ratio(msgspec.Struct, frozen=True, tag="ratio"):
    """A ratio of two means: clicks per view where units have many views, or any mean over clusters."""

    numerator: int = 0
    denominator: int = 1


Statistic = Mean | Ratio


def linearize(statistic: Statistic, mean: Array) -> tuple[float, Array]:
    """Return the statistic of these means and its gradient with respect to them.

    The gradient of a ratio whose denominator is zero is NaN; `estimate` says in words that there is none.
    """
    gradient = np.zeros(len(mean))
    if isinstance(statistic, Mean):
        gradient[statistic.column] = 1.0
        return float(mean[statistic.column]), gradient
    numerator, denominator = float(mean[statistic.numerator]), float(mean[statistic.denominator])
    if denominator == 0:
        return math.nan, np.full(len(mean), math.nan)
    gradient[statistic.numerator] = 1 / denominator
    gradient[statistic.denominator] = -numerator / denominator / denominator
    return numerator / denominator, gradient


def estimate(moments: Moments, statistic: Statistic) -> Estimate | NotEstimable:
    """Estimate a statistic of one variant.

    Args:
        moments: Of one cell; the unit of analysis is a row, so rows must be independent.
        statistic: A mean or a ratio of columns.

    Source:
        The delta method; for ratios Deng, Knoblich, Lu: Applying the delta method in metric analytics (KDD 2018).
    """
    refusal = unusable(moments, statistic)
    if refusal is not None:
        return refusal
    value, gradient = linearize(statistic, moments.mean)
    return Estimate.plain(value, quadratic(moments, gradient, gradient), int(moments.n))


def unusable(moments: Moments, statistic: Statistic) -> NotEstimable | None:
    """Say why a statistic cannot be estimated, if it cannot."""
    n = int(moments.n)
    if n < 2:
        return NotEstimable(f"{n} units have no variance; two are the least")
    if isinstance(statistic, Ratio):
        column = statistic.denominator
        error = math.sqrt(max(float(moments.covariance[column, column]), 0.0) / n)
        if not abs(float(moments.mean[column])) > SIGNAL * error:
            return NotEstimable("the denominator of the ratio cannot be told from zero")
    return None


def quadratic(moments: Moments, left: Array, right: Array) -> float:
    """Return the covariance of two linear functions of the means, given their gradients.

    Of a ratio that is the same for every unit the parts cancel but for rounding: that is zero.
    """
    found = float(left @ moments.covariance @ right)
    parts = float(np.abs(left) @ np.abs(moments.covariance) @ np.abs(right))
    return found / int(moments.n) if abs(found) > CANCELLED * parts else 0.0
