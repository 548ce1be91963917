"""Quantiles with a standard error, from order statistics; for events inside of units, too."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from crossfade.methods.stats.distributions import normal_quantile
from crossfade.methods.stats.gradient import Ratio, estimate
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.sketch import Sketch
from crossfade.methods.stats.values import Estimate, NotEstimable, require, require_probability

_SPREAD = 0.05
"""The two order statistics enclose the quantile with probability 1 - this."""


class Levels(msgspec.Struct, frozen=True):
    """Which quantiles are needed for one quantile with its standard error; all between 0 and 1."""

    lower: float
    center: float
    upper: float


def levels(level: float, n: int) -> Levels | NotEstimable:
    """Return the levels of the two order statistics around a quantile.

    Raises:
        InvalidAnalysisError: `level` is not between 0 and 1.
    """
    require_probability(level, "the level of the quantile")
    z = float(normal_quantile(1 - _SPREAD / 2))
    needed = z * z * max(level / (1 - level), (1 - level) / level)
    if not n > needed:
        return NotEstimable(f"{n} values do not enclose the {level:g} quantile; more than {math.ceil(needed)} do")
    half = z * math.sqrt(level * (1 - level) / n)
    return Levels(level - half, level, level + half)


def from_order_statistics(
    quantile: float, lower: float, upper: float, *, level: float, n: int, design_effect: float = 1.0
) -> Estimate | NotEstimable:
    """Estimate a quantile from itself and the order statistics at `levels(level, n)`.

    Args:
        quantile: Of the sample.
        lower: The sample's quantile at the lower level.
        upper: The sample's quantile at the upper level.
        level: Which quantile, between 0 and 1.
        n: How many values.
        design_effect: How many times the variance of independent values; see `design_effect`.

    Source:
        Deng, Knoblich, Lu: Applying the delta method in metric analytics (KDD 2018), section 4.
    """
    found = levels(level, n)
    if isinstance(found, NotEstimable):
        return found
    require(math.isfinite(quantile) and lower <= quantile <= upper, "the order statistics are not in order")
    if not upper > lower:
        return NotEstimable("the values around the quantile are all the same")
    z = float(normal_quantile(1 - _SPREAD / 2))
    error = (upper - lower) / (2 * z)
    # about m = 2 z sqrt(n level (1 - level)) values lie between them, so the distance varies by 1 / sqrt(m) of itself
    df = z * math.sqrt(n * level * (1 - level) / max(design_effect, 1.0))
    return Estimate.plain(quantile, error * error * design_effect, n, df)


def of_values(values: ArrayLike, level: float, *, design_effect: float = 1.0) -> Estimate | NotEstimable:
    """Estimate a quantile of values.

    Raises:
        InvalidAnalysisError: A value is missing or infinite, or `level` is not between 0 and 1.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    require(bool(np.isfinite(array).all()), "a value is missing or infinite")
    found = levels(level, len(array))
    if isinstance(found, NotEstimable):
        return found
    lower, center, upper = map(float, np.quantile(array, [found.lower, found.center, found.upper]))
    return from_order_statistics(center, lower, upper, level=level, n=len(array), design_effect=design_effect)


def of_sketch(sketch: Sketch, level: float, *, design_effect: float = 1.0) -> Estimate | NotEstimable:
    """Estimate a quantile from a sketch, which merges over days and processes.

    Raises:
        InvalidAnalysisError: `level` is not between 0 and 1.
    """
    found = levels(level, sketch.n)
    if isinstance(found, NotEstimable):
        return found
    lower, center, upper = (sketch.quantile(each) for each in (found.lower, found.center, found.upper))
    return from_order_statistics(center, lower, upper, level=level, n=sketch.n, design_effect=design_effect)


def design_effect(units: Moments, level: float) -> float | NotEstimable:
    """Return how many times larger the variance is because values of the same unit resemble each other.

    Args:
        units: Moments over units of two columns: how many of the unit's values are at most the quantile, and how many
            values it has.
        level: Which quantile.

    Raises:
        InvalidAnalysisError: `level` is not between 0 and 1.

    Source:
        Deng, Knoblich, Lu (KDD 2018): the share of values below a cut is a ratio metric of its units.
    """
    require_probability(level, "the level of the quantile")
    share = estimate(units, Ratio(0, 1))
    if isinstance(share, NotEstimable):
        return share
    values = float(units.mean[1]) * int(units.n)
    return share.variance / (level * (1 - level) / values)
