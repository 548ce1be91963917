"""Two proportions: the estimate, the pooled test, Newcombe's interval, and chi-square tests of the two-by-two table."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np

from crossfade.methods.stats.distributions import chi_square_sf, normal_quantile, normal_sf
from crossfade.methods.stats.values import (
    Alternative,
    Effect,
    Estimate,
    NotEstimable,
    require,
    require_probability,
)


class Count(msgspec.Struct, frozen=True):
    """How many of `n` units did it.

    Raises:
        InvalidAnalysisError: `successes` is not between 0 and `n`.
    """

    successes: int
    n: int

    def __post_init__(self) -> None:
        require(0 <= self.successes <= self.n < 2**53, f"{self.successes} of {self.n} is not a proportion")

    @property
    def rate(self) -> float:
        """The share, 0 when there is nothing."""
        return self.successes / self.n if self.n else 0.0


def proportion(count: Count) -> Estimate | NotEstimable:
    """Estimate a proportion; its variance is p (1 - p) / n."""
    if count.n < 2:
        return NotEstimable(f"{count.n} units have no variance; two are the least")
    return Estimate.plain(count.rate, count.rate * (1 - count.rate) / count.n, count.n)


def newcombe(
    control: Count,
    treatment: Count,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    *,
    correct: bool = False,
) -> Effect | NotEstimable:
    """Compare two proportions: Newcombe's interval of the difference, and the p-value of the pooled z test.

    The interval is built from Wilson's for each proportion: it stays inside of -1 and 1 and works when nobody, or
    everybody, did it. Because interval and test differ slightly, they can disagree close to `alpha`.

    Args:
        control: Of the variant that is compared against.
        treatment: Of the variant of interest.
        alpha: Error probability.
        alternative: What is looked for.
        correct: Continuity correction of the p-value.

    Raises:
        InvalidAnalysisError: `alpha` is not between 0 and 1.

    Source:
        Newcombe: Interval estimation for the difference between independent proportions, Statistics in Medicine 17
        (1998), method 10. Wilson, JASA 22 (1927).
    """
    require_probability(alpha)
    if not (control.n and treatment.n):
        return NotEstimable("one of the variants has no units")
    z = float(normal_quantile(1 - alpha / (2 if alternative == "two-sided" else 1)))
    (low_c, high_c), (low_t, high_t) = wilson(control, z), wilson(treatment, z)
    difference = treatment.rate - control.rate
    lower = difference - math.hypot(treatment.rate - low_t, high_c - control.rate)
    upper = difference + math.hypot(high_t - treatment.rate, control.rate - low_c)
    return Effect(
        scale="absolute",
        effect=difference,
        lower=None if alternative == "less" else lower,
        upper=None if alternative == "greater" else upper,
        p_value=pooled_p_value(control, treatment, alternative, correct=correct),
        standard_error=pooled_error(control, treatment),
        alpha=alpha,
        alternative=alternative,
        n=control.n + treatment.n,
    )


def wilson(count: Count, z: float) -> tuple[float, float]:
    """Return Wilson's interval of one proportion at `z` standard errors."""
    n, p = count.n, count.rate
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(center - half, 0.0), min(center + half, 1.0)


def pooled_error(control: Count, treatment: Count) -> float:
    """Return the standard error of the difference when both proportions are the same."""
    pooled = (control.successes + treatment.successes) / (control.n + treatment.n)
    return math.sqrt(pooled * (1 - pooled) * (1 / control.n + 1 / treatment.n))


def error_at(control: Count, treatment: Count, difference: float) -> float:
    """Return the standard error of the difference of two proportions where in truth it is this one.

    Where nearly nobody did it, the proportions that were seen vary far too little to test against a margin: of 5,000
    with a rate of 0.0006 one or none did it in every fifth sample, and their own error would call 0.0006 excluded.

    Args:
        control: Of the variant that is compared against.
        treatment: Of the variant of interest.
        difference: Treatment minus control, between -1 and 1.

    Raises:
        InvalidAnalysisError: A variant has no units, or the difference is impossible.

    Source:
        Farrington, Manning, Statistics in Medicine 9 (1990): the maximum of the likelihood under this restriction.
    """
    require(control.n > 0 and treatment.n > 0, "one of the variants has no units")
    require(-1 < difference < 1, f"proportions do not differ by {difference}")
    ratio, p, q = control.n / treatment.n, treatment.rate, control.rate
    a, b = 1 + ratio, -(1 + ratio + p + ratio * q + difference * (ratio + 2))
    c = difference**2 + difference * (2 * p + ratio + 1) + p + ratio * q
    d = -p * difference * (1 + difference)
    v = (b / (3 * a)) ** 3 - b * c / (6 * a * a) + d / (2 * a)
    u = math.copysign(math.sqrt(max((b / (3 * a)) ** 2 - c / (3 * a), 0.0)), v)
    angle = (math.pi + math.acos(min(max(v / u**3, -1.0), 1.0))) / 3 if u else 0.0
    of_treatment = min(max(2 * u * math.cos(angle) - b / (3 * a), difference, 0.0), 1.0, 1 + difference)
    of_control = of_treatment - difference
    return math.sqrt(of_treatment * (1 - of_treatment) / treatment.n + of_control * (1 - of_control) / control.n)


def error_at_ratio(control: Count, treatment: Count, ratio: float) -> float:
    """Return the standard error of `treatment - ratio * control` where in truth one is that multiple of the other.

    As `error_at`, for margins that are shares of the control.

    Args:
        control: Of the variant that is compared against.
        treatment: Of the variant of interest.
        ratio: Treatment by control, above 0.

    Raises:
        InvalidAnalysisError: A variant has no units, or the ratio is impossible.

    Source:
        Miettinen, Nurminen, Statistics in Medicine 4 (1985); Farrington, Manning, Statistics in Medicine 9 (1990).
    """
    require(control.n > 0 and treatment.n > 0, "one of the variants has no units")
    require(0 < ratio < math.inf, f"proportions do not have the ratio {ratio}")
    a = (control.n + treatment.n) * ratio
    b = treatment.n * ratio + treatment.successes + control.n + control.successes * ratio
    c = control.successes + treatment.successes
    of_control = 2 * c / (b + math.sqrt(max(b * b - 4 * a * c, 0.0)))  # the smaller root, without cancellation
    of_treatment = min(ratio * of_control, 1.0)
    squared = ratio * ratio * of_control * (1 - of_control) / control.n
    return math.sqrt(of_treatment * (1 - of_treatment) / treatment.n + max(squared, 0.0))


def continuity(control: Count, treatment: Count) -> float:
    """Return by how much counts, being whole numbers, overstate a difference of proportions."""
    difference = abs(treatment.rate - control.rate)
    return min((1 / control.n + 1 / treatment.n) / 2, difference)


def pooled_p_value(control: Count, treatment: Count, alternative: Alternative, *, correct: bool = False) -> float:
    """Return the p-value of the pooled z test; 1 when all units did the same."""
    error = pooled_error(control, treatment)
    if not error:
        return 1.0
    difference = treatment.rate - control.rate
    size = abs(difference) - (continuity(control, treatment) if correct else 0.0)
    if alternative == "two-sided":
        return float(2 * normal_sf(size / error))
    toward = difference if alternative == "greater" else -difference
    return float(normal_sf((size if toward > 0 else -abs(difference)) / error))


def table_p_value(
    control: Count, treatment: Count, test: Literal["pearson", "likelihood"] = "pearson", *, correct: bool = False
) -> float:
    """Return the p-value of a chi-square test of the two-by-two table, two-sided.

    Args:
        control: Of the variant that is compared against.
        treatment: Of the variant of interest.
        test: Pearson's statistic, or twice the log likelihood ratio (G).
        correct: Yates' correction: observed counts move up to half a unit toward the expected ones.
    """
    observed = np.array(
        [[count.successes, count.n - count.successes] for count in (control, treatment)], dtype=np.float64
    )
    expected = observed.sum(1, keepdims=True) * observed.sum(0) / observed.sum()
    if not (expected > 0).all():
        return 1.0
    if correct:
        distance = expected - observed
        observed = observed + np.sign(distance) * np.minimum(0.5, np.abs(distance))
    if test == "pearson":
        return chi_square_sf(float(((observed - expected) ** 2 / expected).sum()), 1)
    terms = np.where(observed > 0, observed * np.log(np.where(observed > 0, observed, 1.0) / expected), 0.0)
    return chi_square_sf(2 * float(terms.sum()), 1)
