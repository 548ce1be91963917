"""Planning an experiment: from baseline, effect and power to units and days, for any way of looking at it."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from crossfade.methods.stats.confidence_sequence import TUNING
from crossfade.methods.stats.power import Design, Population, detectable, power, require_side, units_needed
from crossfade.methods.stats.sequential_power import always_valid_power, group_sequential_power
from crossfade.methods.stats.values import Alternative, NotEstimable, require

Mode = Literal["always_valid", "group_sequential", "fixed"]
"""How the experiment is looked at: whenever one likes, at a few planned looks, or once at the end."""

Solved = Literal["units", "effect", "power"]


class PowerReport(msgspec.Struct, frozen=True, tag="power_report"):
    """A plan: two of units, effect and power were given, and the third was found.

    Args:
        solved: What was found: `units`, `effect` or `power`.
        mode: How the experiment is looked at.
        looks: How many looks `power` counts.
        baseline: Of the control.
        effect: Difference of the means, absolute.
        relative_effect: The same, relative to the baseline; None for a baseline of zero.
        power: Probability of seeing it.
        alpha: Error probability, of all comparisons together.
        comparisons: How many share it: of each treatment by each primary metric.
        alternative: What is looked for.
        units: Of all variants together.
        units_by_variant: Of each, the control first.
        days: How long that takes; None when it is not known how many units come in a day.
    """

    solved: Solved
    mode: Mode
    looks: int
    baseline: float
    effect: float
    relative_effect: float | None
    power: float
    alpha: float
    comparisons: int
    alternative: Alternative
    units: int
    units_by_variant: tuple[int, ...]
    days: float | None


class PowerPlan(msgspec.Struct, frozen=True):
    """What is planned. Give two of `effect`, `units` and `power`.

    Args:
        population: What is known of the metric.
        effect: Difference of the means, absolute.
        units: Of all variants together.
        power: Probability of seeing the effect.
        weights: Of the variants, the control first, in any unit. Each treatment is compared with the control; the plan
            is made for the one with the least units.
        alpha: Error probability, shared by the comparisons of all treatments and primary metrics: an analysis is
            corrected for how many there are.
        metrics: Primary metrics.
        alternative: What is looked for.
        mode: How the experiment is looked at.
        looks: How many looks until the end; one for `fixed`.
        tuning: Units at which the always-valid interval is tightest.
        per_day: Units that come in a day, of all variants together.

    Raises:
        InvalidAnalysisError: Not two of the three are given, the effect is on the side that is not looked for, or a
            value makes no sense.
    """

    population: Population
    effect: float | None = None
    units: int | None = None
    power: float | None = 0.8
    weights: tuple[float, ...] = (0.5, 0.5)
    alpha: float = 0.05
    metrics: int = 1
    alternative: Alternative = "two-sided"
    mode: Mode = "always_valid"
    looks: int = 20
    tuning: float = TUNING
    per_day: float | None = None

    def __post_init__(self) -> None:
        given = sum(each is not None for each in (self.effect, self.units, self.power))
        require(given == 2, "two of effect, units and power are needed, to find the third")
        require_side(self.effect or 0.0, self.alternative)
        good = len(self.weights) > 1 and all(0 < weight < math.inf for weight in self.weights)
        require(good, "weights are two or more numbers above zero")
        require(self.per_day is None or 0 < self.per_day < math.inf, f"{self.per_day} units do not come in a day")
        require(self.units is None or 0 < self.units < 2**53, f"{self.units} is no number of units")
        require(1 <= self.metrics <= 1000, f"{self.metrics} primary metrics are not 1 to 1000")
        require(1 <= self.looks <= 200, f"{self.looks} looks are not 1 to 200")


def plan(wanted: PowerPlan) -> PowerReport | NotEstimable:
    """Find what is missing: how many units, the smallest effect, or the power.

    Raises:
        InvalidAnalysisError: The effect is impossible, or the units leave a variant too few.

    Example:
        >>> report = plan(PowerPlan(Population(0.1, kind="proportion"), effect=0.01, mode="fixed"))
        >>> report.units
        29498
    """
    shares = [weight / math.fsum(wanted.weights) for weight in wanted.weights]
    comparisons = wanted.metrics * (len(shares) - 1)
    # whatever corrects them, alone among them an effect is seen by this
    alpha = wanted.alpha / comparisons
    design = Design(alpha, wanted.alternative, shares[0], min(shares[1:]), small=wanted.mode == "fixed")
    found = _solve(wanted, design)
    if isinstance(found, NotEstimable):
        return found
    solved, effect, needed = found
    # no variant gets a part of a unit
    by_variant = tuple(math.ceil(round(needed * share, 6)) for share in shares)
    baseline, units = wanted.population.mean, sum(by_variant)
    return PowerReport(
        solved=solved,
        mode=wanted.mode,
        looks=1 if wanted.mode == "fixed" else wanted.looks,
        baseline=baseline,
        effect=effect,
        relative_effect=effect / abs(baseline) if baseline else None,
        power=_reach(wanted, design, effect, needed),
        alpha=wanted.alpha,
        comparisons=comparisons,
        alternative=wanted.alternative,
        units=units,
        units_by_variant=by_variant,
        days=units / wanted.per_day if wanted.per_day else None,
    )


def _solve(wanted: PowerPlan, design: Design) -> tuple[Solved, float, int] | NotEstimable:
    effect, units, target = wanted.effect, wanted.units, wanted.power
    if effect is None and units is not None and target is not None:
        smallest = detectable(
            wanted.population, units, design, target, reach=lambda each: _reach(wanted, design, each, units)
        )
        return smallest if isinstance(smallest, NotEstimable) else ("effect", smallest, units)
    if units is None and effect is not None and target is not None:
        needed = units_needed(
            wanted.population, effect, design, target, reach=lambda n: _reach(wanted, design, effect, n)
        )
        return needed if isinstance(needed, NotEstimable) else ("units", effect, needed)
    return "power", effect or 0.0, units or 0


def _reach(wanted: PowerPlan, design: Design, effect: float, n: float) -> float:
    if wanted.mode == "fixed":
        return power(wanted.population, effect, n, design)
    if wanted.mode == "group_sequential":
        return group_sequential_power(wanted.population, effect, n, design, times=wanted.looks)
    return always_valid_power(wanted.population, effect, n, design, times=wanted.looks, tuning=wanted.tuning)
