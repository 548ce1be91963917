"""How much longer an experiment takes: units that are still needed, and the time in which they come."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

import msgspec

from crossfade.experiments.looking import end_of
from crossfade.experiments.question import Question
from crossfade.experiments.report import Comparison
from crossfade.ledger.evidence import Arrival
from crossfade.methods.stats.power import MOST, Design, Population, power, units_needed
from crossfade.methods.stats.sequential_power import always_valid_power, group_sequential_power
from crossfade.methods.stats.values import Effect, NotEstimable

DAYS = 7
"""The rate of arrival is that of the last full days, so that a week-end counts as much as it should."""
_LOOKS = 20


class Forecast(msgspec.Struct, frozen=True):
    """How many units it takes to see an effect.

    Args:
        units: Of all variants, those there are included; None where it cannot be said.
        effect: That is looked for, relative to the control.
        assumed: Whether somebody named that effect; else it is the present one.
    """

    units: int | None
    effect: float
    assumed: bool


def rate(arrivals: tuple[Arrival, ...], now: datetime) -> float | None:
    """Return how many units come in a second, by the last full days; None before there is a full one."""
    full = sorted({arrival.day for arrival in arrivals if end_of(arrival.day) <= now})[-DAYS:]
    if not full:
        return None
    # days on which nobody came count, too
    span = (end_of(full[-1]) - end_of(full[0])).total_seconds() + 86_400
    return sum(arrival.units for arrival in arrivals if arrival.day in full) / span


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
    effect, relative = wanted
    population, design, reach = _plan(comparison, question, total, family)
    found = units_needed(population, effect, design, question.analysis.power, reach=lambda n: reach(effect, n))
    units = None if isinstance(found, NotEstimable) or found >= MOST else found
    if units is not None and comparison.paired:
        units = math.ceil(units / 2)  # each unit has both
    return Forecast(units, relative, question.analysis.smallest_effect is not None)


def reached(comparison: Comparison, question: Question, total: int, family: int) -> float | None:
    """Return the power that there is by now to see the smallest effect worth seeing; None where none was named."""
    wanted = _wanted(comparison, question)
    if question.analysis.smallest_effect is None or wanted is None:
        return None
    *_, reach = _plan(comparison, question, total, family)
    return reach(wanted[0], 2 * comparison.control.units if comparison.paired else total)


def _wanted(comparison: Comparison, question: Question) -> tuple[float, float] | None:
    """Return the effect that is looked for, absolute and relative to the control."""
    absolute, baseline = comparison.absolute, comparison.control.value
    if not isinstance(absolute, Effect) or not baseline or not absolute.standard_error > 0:
        return None
    smallest = question.analysis.smallest_effect
    effect = abs(absolute.effect) if smallest is None else smallest * abs(baseline)
    return (effect, effect / abs(baseline)) if 0 < effect < math.inf else None


def _plan(
    comparison: Comparison, question: Question, total: int, family: int
) -> tuple[Population, Design, Callable[[float, float], float]]:
    """Return what is known of the metric, of the design, and the power by effect and units.

    The variance of one unit is the one that explains the present standard error, whatever kind the metric is.
    """
    spec, absolute = question.analysis, comparison.absolute
    n_control, n_treatment = comparison.control.units, comparison.treatment.units
    everybody = max(total, n_control + n_treatment)
    if comparison.paired:
        everybody = n_control + n_treatment
    error = absolute.standard_error if isinstance(absolute, Effect) else math.nan
    population = Population(comparison.control.value or 0.0, error**2 / (1 / n_control + 1 / n_treatment))
    design = Design(spec.alpha / family, "two-sided", n_control / everybody, n_treatment / everybody)

    def reach(effect: float, n: float) -> float:
        if spec.method == "fixed":
            return power(population, effect, n, design)
        if spec.method == "group_sequential":
            return group_sequential_power(population, effect, n, design, times=spec.looks, spending=spec.spending)
        return always_valid_power(
            population, effect, n, design, times=_LOOKS, tuning=spec.tuning, smallest=spec.smallest_units
        )

    return population, design, reach
