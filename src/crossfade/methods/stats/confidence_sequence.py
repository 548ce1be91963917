"""Always-valid inference: an interval that may be looked at after every unit, as long as one likes."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from crossfade.methods.stats.distributions import X
from crossfade.methods.stats.values import (
    Alternative,
    Contrast,
    Effect,
    NotEstimable,
    require,
    require_probability,
)

TUNING = 5_000
"""Units at which the interval is tightest; a guess within a factor of ten of the real size costs little."""
SMALLEST = 100
"""Units of each variant before the first interval: it is asymptotic, so it needs means that are nearly normal."""


def confidence_sequence(
    contrast: Contrast | NotEstimable,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    *,
    tuning: float = TUNING,
    smallest: int = SMALLEST,
) -> Effect | NotEstimable:
    """Return effect, interval and p-value that stay valid however often one looks and whenever one stops.

    The intervals of all looks contain the true effect together with probability 1 - alpha, so `running` may
    intersect them; the p-value is below alpha at any look with probability alpha at most when there is no effect.

    Args:
        contrast: Of all units so far.
        alpha: Error probability over all looks.
        alternative: What is looked for.
        tuning: Units at which the interval shall be tightest, both variants together.
        smallest: Units that each variant must have.

    Raises:
        InvalidAnalysisError: `alpha` is not between 0 and 1, or `tuning` is not positive.

    Source:
        Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform central limit theory and asymptotic confidence
        sequences (arXiv 2103.06476); the normal mixture of Howard, Ramdas, McAuliffe, Sekhon (arXiv 1810.08240).
    """
    ratio = mixture(alpha, tuning, alternative)
    if isinstance(contrast, NotEstimable):
        return contrast
    fewest = min(contrast.n_control, contrast.n_treatment)
    if fewest < smallest:
        return NotEstimable(f"a variant has {fewest} units; the always-valid interval starts at {smallest}")
    half = width(float(contrast.n), alpha, ratio, alternative) * contrast.standard_error
    z = contrast.value / contrast.standard_error
    return Effect.around(contrast, half, p_value(z, contrast.n, ratio, alternative), alpha, alternative)


def mixture(alpha: float, tuning: float = TUNING, alternative: Alternative = "two-sided") -> float:
    """Return the variance ratio of the mixture for which the interval is tightest at `tuning` units.

    Raises:
        InvalidAnalysisError: `alpha` is not between 0 and 1, or `tuning` is not positive.
    """
    require_probability(alpha)
    require(0 < tuning < math.inf, f"an interval cannot be tightest at {tuning} units")
    # one-sided it is 2 alpha, which for an alpha above a third is bent to stay below 1
    alpha = alpha if alternative == "two-sided" else min(2 * alpha, 0.5 + alpha / 2)
    return tuning / (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha)))


def width(n: X, alpha: float, ratio: float, alternative: Alternative = "two-sided") -> X:
    """Return half the width of the interval in standard errors, for n units; the critical value of z at this look."""
    if alternative == "two-sided":
        return np.sqrt((n + ratio) / n * np.log((n + ratio) / (ratio * alpha**2)))  # type: ignore[no-any-return]
    inside = 1 + np.sqrt((n + ratio) / ratio) / (2 * alpha)
    return np.sqrt(2 * (n + ratio) / n * np.log(inside))  # type: ignore[no-any-return]


def log_evidence(z: X, n: X, ratio: float) -> X:
    """Return the logarithm of the e-value against "no effect": of a bet that wins by exp of this."""
    return 0.5 * np.log(ratio / (n + ratio)) + n * np.square(z) / (2 * (n + ratio))  # type: ignore[no-any-return]


def p_value(z: float, n: float, ratio: float, alternative: Alternative = "two-sided") -> float:
    """Return the always-valid p-value of one look."""
    if alternative == "two-sided":
        return math.exp(min(0.0, -float(log_evidence(z, n, ratio))))
    toward = z if alternative == "greater" else -z
    exponent = n * toward * toward / (2 * (n + ratio))
    if toward <= 0 or exponent == 0:
        return 1.0
    if exponent > 700:
        return 0.0
    return min(1.0, math.sqrt((n + ratio) / ratio) / (2 * math.expm1(exponent)))


def running(before: Effect, now: Effect) -> Effect | NotEstimable:
    """Return what two looks say together: the smaller p-value and the intersection of the intervals.

    Args:
        before: What all looks until now have said together.
        now: The next look, at the same scale and alpha.

    Raises:
        InvalidAnalysisError: They differ in scale, alpha or alternative.
    """
    same = (before.scale, before.alpha, before.alternative) == (now.scale, now.alpha, now.alternative)
    require(same, "looks of different scale, alpha or alternative cannot be put together")
    (low, high), (lower, upper) = before.interval, now.interval
    lower, upper = max(low, lower), min(high, upper)
    if lower > upper:
        return NotEstimable("the intervals of the looks do not meet: the effect changes over time")
    return msgspec.structs.replace(
        now,
        lower=None if now.lower is None else lower,
        upper=None if now.upper is None else upper,
        p_value=min(before.p_value, now.p_value),
    )
