"""From two estimates to one contrast: absolute, relative by the delta method, or on the logarithm of the ratio."""

from __future__ import annotations

import math

import msgspec

from crossfade.methods.stats.gradient import SIGNAL
from crossfade.methods.stats.values import Contrast, Estimate, NotEstimable, Scale

TINY = 1e-100
"""What is smaller is zero: nothing that is measured needs it, and its square is zero, which cannot be divided by."""
ROUNDING = 1e-12
"""Of a value: what varies less does not vary; adding up a constant many times leaves as much."""
UNSEEN = 4.0
"""Units of each variant that are taken to have differed by the whole value where all units had the same. With four the
one-sided bound of n equal units is at or beyond the exact one of a proportion, 1 - alpha^(1/n), for alpha from 0.01 to
0.2 for one look, and from 0.001 for any number of looks."""


def contrast(
    control: Estimate | NotEstimable,
    treatment: Estimate | NotEstimable,
    scale: Scale = "absolute",
    *,
    equal_variance: bool = False,
) -> Contrast | NotEstimable:
    """Compare two variants.

    `log` suits metrics that are positive: its interval is asymmetric, as the truth is, and never below -100 %.
    `relative` works for negative controls too; it divides by |control|, so that up is up. Neither is given when the
    control is less than three standard errors away from zero: a relative effect means nothing there.

    Where neither variant varies, as when every request of one fails and none of the other, the standard error is not
    zero: n equal units leave room for `UNSEEN` of them that were otherwise. So what is apart completely is told apart
    from a few units on, and what is equal is equal within a bound that shrinks with n. All units having been the same
    until now is an event that implies the same of any time before, so that such a bound holds at all looks together.

    Args:
        control: The variant that is compared against.
        treatment: The variant of interest.
        scale: On which scale.
        equal_variance: Pool the variances of the variants (Student instead of Welch); not for `relative`.

    Source:
        Welch, Biometrika 34 (1947), for the degrees of freedom. Deng, Knoblich, Lu (KDD 2018) for relative effects.
        Hanley, Lippman-Hand: If nothing goes wrong, is everything all right? JAMA 249 (1983), the rule of three;
        Agresti, Coull, The American Statistician 52 (1998), for imagined units instead of a variance of zero.
    """
    if isinstance(control, NotEstimable):
        return control
    if isinstance(treatment, NotEstimable):
        return treatment
    control, treatment = _varying(control, treatment)
    made: tuple[float, float, float] | NotEstimable
    if scale == "absolute":
        error, df = spread(control.variance, control.df, treatment.variance, treatment.df, equal_variance)
        made = treatment.value - control.value, error, df
    elif scale == "relative":
        made = _relative(control, treatment)
    else:
        made = _log(control, treatment, equal_variance)
    if isinstance(made, NotEstimable):
        return made
    value, error, df = made
    if not error > TINY:
        return NotEstimable("the values do not vary: all of them are zero")
    if not (math.isfinite(value) and math.isfinite(error)):
        return NotEstimable("the values are too large to be compared")
    return Contrast(scale, value, error, df, control.n, treatment.n, control.baseline)


def spread(
    variance_a: float, df_a: float, variance_b: float, df_b: float, equal_variance: bool = False
) -> tuple[float, float]:
    """Return standard error and degrees of freedom of a difference of two estimates.

    Args:
        variance_a: Of one estimate.
        df_a: Its degrees of freedom.
        variance_b: Of the other.
        df_b: Its degrees of freedom.
        equal_variance: One unit varies as much in both, so the two are pooled; for means of `df + 1` units.
    """
    if equal_variance:
        n_a, n_b, df = df_a + 1, df_b + 1, df_a + df_b
        pooled = (df_a * variance_a * n_a + df_b * variance_b * n_b) / df
        return math.sqrt(pooled * (1 / n_a + 1 / n_b)), df
    variance = variance_a + variance_b
    if not variance > 0:
        return 0.0, math.inf
    # shares, not squares of variances: those of tiny metrics would underflow
    share_a, share_b = variance_a / variance, variance_b / variance
    return math.sqrt(variance), 1 / (share_a**2 / df_a + share_b**2 / df_b)


def shifted(contrast: Contrast, by: float) -> Contrast:
    """Return the contrast moved by `by` on its scale, to test against a margin instead of against zero."""
    return msgspec.structs.replace(contrast, value=contrast.value + by)


def _varying(control: Estimate, treatment: Estimate) -> tuple[Estimate, Estimate]:
    """Return the variants with the variance that cannot be ruled out, where none of them has any."""
    if any(math.sqrt(max(each.variance, 0.0) * each.n) > ROUNDING * abs(each.value) for each in (control, treatment)):
        return control, treatment
    size = max(abs(control.value), abs(treatment.value))
    return _widened(control, size), _widened(treatment, size)


def _widened(constant: Estimate, size: float) -> Estimate:
    variance = UNSEEN * (size / constant.n) ** 2
    return msgspec.structs.replace(constant, variance=variance, baseline_variance=variance, covariance=variance)


def _relative(control: Estimate, treatment: Estimate) -> tuple[float, float, float] | NotEstimable:
    if not _clear(control.baseline, control.baseline_variance):
        return NotEstimable("the control cannot be told from zero, so nothing is relative to it")
    size = abs(control.baseline)
    value = (treatment.value - control.value) / size
    slope = value * math.copysign(1.0, control.baseline)
    # the control is in the numerator (adjusted) and in the denominator (not adjusted)
    of_control = control.variance + 2 * slope * control.covariance + slope * slope * control.baseline_variance
    _, df = spread(control.variance, control.df, treatment.variance, treatment.df)
    return value, math.sqrt(max(treatment.variance + of_control, 0.0)) / size, df


def _log(control: Estimate, treatment: Estimate, equal_variance: bool) -> tuple[float, float, float] | NotEstimable:
    for name, each in (("control", control), ("treatment", treatment)):
        if not (each.value > 0 and _clear(each.value, each.variance)):
            return NotEstimable(f"the {name} is not clearly above zero, so it has no logarithm")
    error, df = spread(
        control.variance / (control.value * control.value),
        control.df,
        treatment.variance / (treatment.value * treatment.value),
        treatment.df,
        equal_variance,
    )
    return math.log(treatment.value / control.value), error, df


def _clear(value: float, variance: float) -> bool:
    return abs(value) > max(SIGNAL * math.sqrt(max(variance, 0.0)), TINY)
