"""What the methods of this family take from each other and give back: frozen values with plain fields."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import msgspec

from crossfade.errors import InvalidParametersError

Alternative = Literal["two-sided", "greater", "less"]
"""What is looked for: any difference, a treatment above, or a treatment below the control."""
Scale = Literal["absolute", "relative", "log"]
"""`relative` is the delta method, `log` the logarithm of the ratio; both end as an effect relative to the control."""

T = TypeVar("T")


class NotEstimable(msgspec.Struct, frozen=True, tag="not_estimable"):
    """There is no number, and why: it is not zero, and it is not significant either."""

    reason: str


class Estimate(msgspec.Struct, frozen=True, tag="estimate"):
    """A statistic of one variant.

    Args:
        value: The estimate, adjusted by covariates where there are any.
        variance: Of `value` (the squared standard error).
        n: How many units.
        baseline: The estimate without adjustment; what relative effects are relative to.
        baseline_variance: Of `baseline`.
        covariance: Of `value` and `baseline`.
        df: Degrees of freedom of `variance`: how well it is known itself.
    """

    value: float
    variance: float
    n: int
    baseline: float
    baseline_variance: float
    covariance: float
    df: float

    @classmethod
    def plain(cls, value: float, variance: float, n: int, df: float | None = None) -> Estimate:
        """Return an estimate without adjustment; the variance of n values has n - 1 degrees of freedom."""
        return cls(value, variance, n, value, variance, variance, n - 1 if df is None else df)

    def grown(self, share: float) -> Estimate:
        """Return the estimate of the statistic and a share of it more; the share is of what it is without adjustment.

        What is adjusted is so by a mean of both variants, which cancels in their difference. In a multiple of one of
        them it would not, and nothing here knows how much it varies.
        """
        by = 1 + share
        return Estimate(
            self.value + share * self.baseline,
            max(self.variance + 2 * share * self.covariance + share * share * self.baseline_variance, 0.0),
            self.n,
            by * self.baseline,
            by * by * self.baseline_variance,
            by * (self.covariance + share * self.baseline_variance),
            self.df,
        )

    def varying(self, variance: float) -> Estimate:
        """Return the estimate with at least this variance."""
        return msgspec.structs.replace(self, variance=max(self.variance, variance))


class Contrast(msgspec.Struct, frozen=True, tag="contrast"):
    """A difference between treatment and control, before anything is inferred from it.

    Args:
        scale: `absolute`: T - C; `relative`: (T - C) / |C|; `log`: ln T/C.
        value: On that scale.
        standard_error: On that scale.
        df: Degrees of freedom of the standard error.
        n_control: Units of the control.
        n_treatment: Units of the treatment.
        baseline: The control, not adjusted.
    """

    scale: Scale
    value: float
    standard_error: float
    df: float
    n_control: int
    n_treatment: int
    baseline: float

    @property
    def n(self) -> int:
        """Units of both variants."""
        return self.n_control + self.n_treatment

    def readable(self, value: float) -> float:
        """Return a value of this scale as people read it: logarithms become relative effects."""
        if self.scale != "log":
            return value
        return math.expm1(min(value, 700.0))


class Effect(msgspec.Struct, frozen=True, tag="effect"):
    """What a method says about a contrast.

    Args:
        scale: `absolute` or `relative`, or `log` when interval and test were made on the logarithm of the ratio;
            `effect`, `lower` and `upper` are relative effects then.
        effect: The point estimate.
        lower: Lower end of the interval; None where it is open, because the alternative is `less`.
        upper: Upper end of the interval; None where it is open, because the alternative is `greater`.
        p_value: Of "there is no effect"; below `alpha` exactly when the interval leaves out zero.
        standard_error: On the scale of the contrast.
        alpha: The error probability of the interval.
        alternative: What was looked for.
        n: Units of both variants.
    """

    scale: Scale
    effect: float
    lower: float | None
    upper: float | None
    p_value: float
    standard_error: float
    alpha: float
    alternative: Alternative
    n: int

    @property
    def significant(self) -> bool:
        """Whether "no effect" is rejected at `alpha`."""
        return self.p_value <= self.alpha

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends as numbers: infinite where it is open, but never below -1 on the logarithmic scale."""
        least = -1.0 if self.scale == "log" else -math.inf
        return least if self.lower is None else self.lower, math.inf if self.upper is None else self.upper

    @classmethod
    def around(
        cls, contrast: Contrast, half_width: float, p_value: float, alpha: float, alternative: Alternative
    ) -> Effect:
        """Return the effect whose interval is the contrast plus and minus `half_width`, open on the side not tested."""
        half_width = float(half_width)
        return cls(
            scale=contrast.scale,
            effect=contrast.readable(contrast.value),
            lower=None if alternative == "less" else contrast.readable(contrast.value - half_width),
            upper=None if alternative == "greater" else contrast.readable(contrast.value + half_width),
            p_value=float(p_value),
            standard_error=contrast.standard_error,
            alpha=alpha,
            alternative=alternative,
            n=contrast.n,
        )


def require(condition: bool, problem: str) -> None:
    """Refuse arguments that nothing can be computed from; false for a comparison with NaN, so NaN is refused too.

    Raises:
        InvalidParametersError: The condition does not hold.
    """
    if not condition:
        raise InvalidParametersError(problem=problem)


def require_probability(value: float, name: str = "alpha") -> None:
    """Refuse what is not strictly between 0 and 1.

    Raises:
        InvalidParametersError: It is not.
    """
    require(0 < value < 1, f"{name} is {value}, which is not between 0 and 1")
