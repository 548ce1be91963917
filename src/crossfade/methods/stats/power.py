"""Power, the smallest effect that is likely to be seen, and how many units it takes: for one look at a planned end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import msgspec

from crossfade.methods.stats.contrast import spread
from crossfade.methods.stats.distributions import noncentral_t_cdf, normal_quantile, t_quantile
from crossfade.methods.stats.values import Alternative, NotEstimable, require, require_probability

MOST = 10**13
"""Units above which an experiment is called impossible."""


class Population(msgspec.Struct, frozen=True):
    """What is known of a metric before the experiment.

    Args:
        mean: Of the control; for proportions the rate.
        variance: Of one unit, of the control.
        kind: `mean`: the variance stays; `proportion`: it follows the rate, and `variance` is left out.
        unexplained: Share of the variance that covariates leave (CUPED): 1 - correlation squared.

    Raises:
        InvalidAnalysisError: The variance is not positive, or a rate not between 0 and 1.
    """

    mean: float
    variance: float = 0.0
    kind: Literal["mean", "proportion"] = "mean"
    unexplained: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.unexplained <= 1, f"{self.unexplained} of the variance cannot be left")
        if self.kind == "proportion":
            require(0 < self.mean < 1, f"a rate of {self.mean} is not between 0 and 1")
        else:
            require(math.isfinite(self.mean), "the mean is missing or infinite")
            require(0 < self.variance < math.inf, f"a variance of {self.variance} is not above zero")

    def variance_at(self, mean: float) -> float:
        """Return the variance of one unit where the mean is this."""
        return self.unexplained * (mean * (1 - mean) if self.kind == "proportion" else self.variance)


class Design(msgspec.Struct, frozen=True):
    """How an experiment is run and judged.

    Args:
        alpha: Error probability.
        alternative: What is looked for.
        control_share: Share of all units that the control gets.
        treatment_share: Share that the treatment gets; other variants may get the rest.
        scale: `relative`: judged by the relative effect (delta method); `absolute`: by the difference.
        small: Use the noncentral t distribution instead of the normal one, which matters for few units.

    Raises:
        InvalidAnalysisError: `alpha` is not between 0 and 1, or the shares are not positive or more than 1 together.
    """

    alpha: float = 0.05
    alternative: Alternative = "two-sided"
    control_share: float = 0.5
    treatment_share: float = 0.5
    scale: Literal["absolute", "relative"] = "absolute"
    small: bool = False

    def __post_init__(self) -> None:
        require_probability(self.alpha)
        shares = (self.control_share, self.treatment_share)
        require(min(shares) > 0 and sum(shares) <= 1 + 1e-9, "shares of traffic are above 0 and at most 1 together")


def signal(population: Population, effect: float, n: float, design: Design) -> float:
    """Return the expected z at n units of all variants: the effect in standard errors; infinite for certain rates.

    Args:
        population: What is known of the metric.
        effect: Difference of the means, absolute.
        n: Units of all variants.
        design: How the experiment is judged.

    Raises:
        InvalidAnalysisError: The effect leads to a rate that is none, or is relative to a mean of zero.
    """
    after = population.mean + effect
    if population.kind == "proportion":
        require(0 <= after <= 1, f"the rate would be {after:g}")
    of_control = population.variance_at(population.mean) / (design.control_share * n)
    of_treatment = population.variance_at(after) / (design.treatment_share * n)
    if design.scale == "relative":
        require(population.mean != 0, "no effect is relative to a mean of zero")
        of_control *= (after / population.mean) ** 2
    return effect / math.sqrt(of_control + of_treatment)


def power(population: Population, effect: float, n: float, design: Design) -> float:
    """Return the probability that an effect of this size becomes significant with n units of all variants.

    Raises:
        InvalidAnalysisError: `n` leaves a variant fewer than two units, or the effect is impossible.

    Source:
        Cohen: Statistical Power Analysis for the Behavioral Sciences (1988).

    Example:
        >>> round(power(Population(0.1, kind="proportion"), 0.01, 30_000, Design()), 3)
        0.807
    """
    _require_units(n, design)
    shift = signal(population, effect, n, design)
    if design.alternative == "less":
        shift = -shift
    tail = design.alpha / 2 if design.alternative == "two-sided" else design.alpha
    df = _degrees(population, effect, n, design) if design.small else math.inf
    critical = float(t_quantile(1 - tail, df))
    reached = noncentral_t_cdf(-critical, df, -shift)
    if design.alternative == "two-sided":
        reached += noncentral_t_cdf(-critical, df, shift)
    return reached


def units_needed(
    population: Population,
    effect: float,
    design: Design,
    target: float = 0.8,
    *,
    reach: Callable[[float], float] | None = None,
) -> int | NotEstimable:
    """Return how many units of all variants it takes to see an effect with a probability of `target`.

    Args:
        population: What is known of the metric.
        effect: Difference of the means, absolute.
        design: How the experiment is judged.
        target: The power.
        reach: Power of n units, instead of that of one look at the end; must not fall with n.

    Raises:
        InvalidAnalysisError: `target` is not between alpha and 1, or the effect is impossible.
    """
    _require_target(target, design)
    require(effect != 0 and math.isfinite(effect), f"an effect of {effect} cannot be looked for")
    require_side(effect, design.alternative)
    reach = reach or (lambda n: power(population, effect, n, design))
    smallest = math.ceil(2 / min(design.control_share, design.treatment_share))
    low, high = smallest, smallest
    while reach(high) < target:
        low, high = high, high * 4
        if high > MOST:
            return NotEstimable(f"more than {MOST:.0e} units would be needed")
    while high - low > max(1, low // 10**9):
        middle = (low + high) // 2
        low, high = (low, middle) if reach(middle) >= target else (middle, high)
    return high


def detectable(
    population: Population,
    n: float,
    design: Design,
    target: float = 0.8,
    *,
    reach: Callable[[float], float] | None = None,
) -> float | NotEstimable:
    """Return the smallest effect (absolute) that is seen with a probability of `target` with n units of all variants.

    It is looked for above the control, below for the alternative `less`.

    Args:
        population: What is known of the metric.
        n: Units of all variants.
        design: How the experiment is judged.
        target: The power.
        reach: Power of an effect, instead of that of one look at the end.

    Raises:
        InvalidAnalysisError: `target` is not between alpha and 1, or `n` leaves a variant fewer than two units.
    """
    _require_target(target, design)
    _require_units(n, design)
    reach = reach or (lambda effect: power(population, effect, n, design))
    sign = -1.0 if design.alternative == "less" else 1.0
    if population.kind == "proportion":
        most = (1 - population.mean) if sign > 0 else population.mean
    else:
        most = 1e6 * (math.sqrt(population.variance) + abs(population.mean))
    # of a relative effect the power need not rise for ever: the control's noise grows with it
    low, high = 0.0, min(most, _guess(population, n, design, target))
    while reach(sign * high) < target:
        if high >= most:
            return NotEstimable("no effect is large enough to be seen with so few units")
        low, high = high, min(high * 1.5, most)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if reach(sign * middle) >= target else (middle, high)
    return sign * high


def _degrees(population: Population, effect: float, n: float, design: Design) -> float:
    n_control, n_treatment = design.control_share * n, design.treatment_share * n
    of_control = population.variance_at(population.mean) / n_control
    of_treatment = population.variance_at(population.mean + effect) / n_treatment
    return spread(of_control, n_control - 1, of_treatment, n_treatment - 1)[1]


def _guess(population: Population, n: float, design: Design, target: float) -> float:
    variance = population.variance_at(population.mean)
    error = math.sqrt(variance / n * (1 / design.control_share + 1 / design.treatment_share))
    return max(error * (float(normal_quantile(1 - design.alpha / 2)) + float(normal_quantile(target))) / 2, 1e-300)


def require_side(effect: float, alternative: Alternative) -> None:
    """Refuse an effect that is on the side on which nothing is looked for, which no number of units shows.

    Raises:
        InvalidAnalysisError: It is.
    """
    wrong = effect > 0 if alternative == "less" else effect < 0 if alternative == "greater" else False
    side = "below" if alternative == "less" else "above"
    require(not wrong, f"`{alternative}` looks for effects {side} zero, and the effect is {effect:+.4g}: turn its sign")


def _require_target(target: float, design: Design) -> None:
    require_probability(target, "the power")
    require(target > design.alpha, f"a power of {target} is no more than alpha")


def _require_units(n: float, design: Design) -> None:
    units = n * min(design.control_share, design.treatment_share)
    require(2 <= units < math.inf, f"{n:g} units leave a variant fewer than two")
