"""How much longer an experiment takes: units that are still needed, and the time in which they come."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from datetime import datetime, timedelta

import msgspec

from crossfade.experiments.looking import end_of
from crossfade.experiments.question import Question
from crossfade.experiments.report import Comparison
from crossfade.experiments.reports import words
from crossfade.ledger.evidence import Arrival
from crossfade.methods.stats.non_inferiority import NonInferiority
from crossfade.methods.stats.power import MOST, Design, Population, units_needed
from crossfade.methods.stats.sequential_power import always_valid_power
from crossfade.methods.stats.values import Alternative, Effect, NotEstimable

DAYS = 7
"""The rate of arrival is that of the last full days, so that a week-end counts as much as it should."""
SOON = timedelta(hours=1)
"""How long units must have come before anything is said of how fast they do."""
_DAY = timedelta(days=1)
_LOOKS = 20

Plan = tuple[Population, Design, Callable[[float, float], float]]
"""What is known of the metric, how the experiment is judged, and the power by effect and units."""


class Forecast(msgspec.Struct, frozen=True):
    """How many units it takes to see an effect.

    Args:
        units: Of all variants, those there are included; None where it cannot be said.
        aim: What they would show, in words.
    """

    units: int | None
    aim: str


class Rate(msgspec.Struct, frozen=True):
    """How fast units come.

    Args:
        per_second: Of all variants.
        rough: It is from less than a day, and hours differ.
    """

    per_second: float
    rough: bool


def rate(arrivals: tuple[Arrival, ...], started_at: datetime | None, now: datetime) -> Rate | None:
    """Return how fast units come, by the last full days, or else since the start; None before there is an hour.

    Args:
        arrivals: By day.
        started_at: When the first unit could come; where that is not known, only full days tell.
        now: The present time.
    """
    full = sorted({arrival.day for arrival in arrivals if end_of(arrival.day) <= now})[-DAYS:]
    if full:
        first, last = end_of(full[0]) - _DAY, end_of(full[-1])
        span = last - (first if started_at is None else max(first, started_at))  # days on which nobody came count, too
        if span >= _DAY:
            return Rate(_units_of(arrivals, full) / span.total_seconds(), rough=False)
    if started_at is None or now - started_at < SOON:
        return None
    span = now - started_at
    return Rate(_units_of(arrivals, {each.day for each in arrivals}) / span.total_seconds(), rough=span < _DAY)


def _units_of(arrivals: tuple[Arrival, ...], days: Container[str]) -> int:
    return sum(arrival.units for arrival in arrivals if arrival.day in days)


def forecast(comparison: Comparison, question: Question, total: int, family: int) -> Forecast | None:
    """Say how many units it takes to see the smallest effect worth seeing, or else the present one.

    Args:
        comparison: Of the primary metric.
        question: What was asked.
        total: Units of all variants now.
        family: How many comparisons share alpha.
    """
    wanted = _wanted(comparison, question)
    if wanted is None:
        return None
    spec, (effect, relative) = question.analysis, wanted
    aim = f"to see an effect of {words.percent(relative)} with a power of {spec.power:.0%}"
    aim += ", if the effect stays what it is now" if spec.smallest_effect is None else ""
    plan = _plan(comparison, question, total, spec.alpha / family, "two-sided", _error(comparison))
    return Forecast(_units(plan, comparison, question, effect), aim)


def forecast_margin(comparison: Comparison, question: Question, total: int) -> Forecast | None:
    """Say how many units it takes to show that a guardrail is within its margin, if it is no different in truth."""
    margin, baseline = comparison.non_inferiority, comparison.control.value
    if not (isinstance(margin, NonInferiority) and isinstance(comparison.absolute, Effect)):
        return None
    allowed, error = margin.margin, margin.standard_error
    if margin.scale == "relative":
        allowed, error = allowed * abs(baseline or 0.0), comparison.absolute.standard_error
    if not (allowed > 0 and error > 0):
        return None
    plan = _plan(comparison, question, total, question.analysis.alpha, "greater", error)
    aim = f"to show that `{comparison.metric}` is within its margin, if nothing changed it"
    return Forecast(_units(plan, comparison, question, allowed), aim)


def _units(plan: Plan, comparison: Comparison, question: Question, effect: float) -> int | None:
    population, design, reach = plan
    found = units_needed(population, effect, design, question.analysis.power, reach=lambda n: reach(effect, n))
    if isinstance(found, NotEstimable) or found >= MOST:
        return None
    return math.ceil(found / 2) if comparison.paired else found  # each unit has both


def reached(comparison: Comparison, question: Question, total: int, family: int) -> float | None:
    """Return the power that there is by now to see the smallest effect worth seeing; None where none was named."""
    wanted = _wanted(comparison, question)
    if question.analysis.smallest_effect is None or wanted is None:
        return None
    *_, reach = _plan(comparison, question, total, question.analysis.alpha / family, "two-sided", _error(comparison))
    return reach(wanted[0], 2 * comparison.control.units if comparison.paired else total)


def _wanted(comparison: Comparison, question: Question) -> tuple[float, float] | None:
    """Return the effect that is looked for, absolute and relative to the control."""
    absolute, baseline = comparison.absolute, comparison.control.value
    if not isinstance(absolute, Effect) or not baseline or not absolute.standard_error > 0:
        return None
    smallest = question.analysis.smallest_effect
    effect = abs(absolute.effect) if smallest is None else smallest * abs(baseline)
    return (effect, effect / abs(baseline)) if 0 < effect < math.inf else None


def _error(comparison: Comparison) -> float:
    return comparison.absolute.standard_error if isinstance(comparison.absolute, Effect) else math.nan


def _plan(
    comparison: Comparison, question: Question, total: int, alpha: float, alternative: Alternative, error: float
) -> Plan:
    """Return what is known; the variance of one unit is what explains the present standard error, of any metric."""
    spec = question.analysis
    n_control, n_treatment = comparison.control.units, comparison.treatment.units
    everybody = max(total, n_control + n_treatment)
    if comparison.paired:
        everybody = n_control + n_treatment
    population = Population(comparison.control.value or 0.0, error**2 / (1 / n_control + 1 / n_treatment))
    design = Design(alpha, alternative, n_control / everybody, n_treatment / everybody)

    def reach(effect: float, n: float) -> float:
        return always_valid_power(
            population, effect, n, design, times=_LOOKS, tuning=spec.tuning, smallest=spec.smallest_units
        )

    return population, design, reach
